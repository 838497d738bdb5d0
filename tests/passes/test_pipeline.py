"""The default pipeline: same bits on random graphs, a fixed point, and a cost about linear in the graph."""

from __future__ import annotations

import pytest
from vitrify.ir.interpreter import interpret
from vitrify.ir.printer import print_graph
from vitrify.passes.pipeline import optimize

from tests.random_graphs import random_graph
from tests.support import assert_same_bits


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_random_graphs_keep_their_bits(first: int) -> None:
    """The interpreter gives the same before and after, elementary functions too: no operation changes its
    operands."""
    for seed in range(first, first + 50):
        made = random_graph(seed)
        before = print_graph(made.graph)
        optimized = optimize(made.graph, verify=True)
        assert print_graph(made.graph) == before, "optimize changed its argument"
        outputs, updates = interpret(optimized, made.inputs)
        for number, (got, want) in enumerate(
            zip([*outputs, *updates], [*made.outputs, *made.updates], strict=True)
        ):
            what = f"seed {seed}, result {number}\n{before}\n{print_graph(optimized)}"
            assert_same_bits(got, want, what)


def test_a_second_run_finds_nothing() -> None:
    for seed in range(100):
        once = optimize(random_graph(seed).graph)
        assert optimize(once) is once, print_graph(once)
