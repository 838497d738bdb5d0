"""Compiled code for sizes known only at run time: one executable serves all sizes, with the interpreter's
bits.

The kernels are also run by their interpreter, which sees every access that is out of bounds.
"""

from __future__ import annotations

import numpy as np
import pytest
from vitrify.ir.expr import evaluate
from vitrify.ir.graph import Graph, Value
from vitrify.ir.interpreter import interpret
from vitrify.ir.plan_interpreter import run_plan
from vitrify.ir.plan_text import parse_plan, print_plan
from vitrify.ir.plan_verifier import verify_plan
from vitrify.ir.printer import print_graph
from vitrify.ir.strided import strided_type
from vitrify.runtime import storage
from vitrify.runtime.compiler import compile_graph

from tests.support import assert_same_bits, random_array
from tests.symbolic_graphs import symbolic_graph

GRAPHS = 200
CHUNK = 20
SIZES = ((1, 1), (3, 17), (16, 5), (0, 4), (7, 0), (40, 33), (2, 300))


@pytest.mark.parametrize("first", range(0, GRAPHS, CHUNK))
def test_one_executable_serves_all_sizes(first: int) -> None:
    for seed in range(first, first + CHUNK):
        graph = symbolic_graph(seed)
        compiled = compile_graph(graph)
        plan = compiled.plan
        verify_plan(plan)
        assert print_plan(parse_plan(print_plan(plan))) == print_plan(plan)
        for pair in SIZES:
            sizes = dict(zip(("s0", "s1"), pair, strict=True))
            rng = np.random.default_rng(seed)
            inputs = [random_array(v.type, rng, sizes) for v in graph.inputs]
            outputs, updates = interpret(graph, inputs, sizes)
            blocks = [storage.from_array(x.copy()) for x in inputs]
            made = compiled.run(blocks, [sizes[name] for name in plan.sizes])
            got = [_array(b, v, sizes) for b, v in zip(made, graph.outputs, strict=True)]
            got += [_array(blocks[graph.inputs.index(x)], x, sizes) for x, _ in graph.updates]
            _assert_agrees(graph, got, [*outputs, *updates], f"seed {seed}, sizes {pair}")
            if max(pair) < 20:
                changed = [x.copy() for x in inputs]
                got = run_plan(plan, changed, sizes)
                got += [changed[graph.inputs.index(x)] for x, _ in graph.updates]
                _assert_agrees(graph, got, [*outputs, *updates], f"the plan of seed {seed}, sizes {pair}")


def _array(block: object, value: Value, sizes: dict[str, int]) -> np.ndarray:
    shape = tuple(evaluate(d, sizes) for d in value.type.shape)
    return np.array(storage.to_array(block, strided_type(value.type.dtype, shape)))  # type: ignore[arg-type]


def _assert_agrees(graph: Graph, got: list[np.ndarray], want: list[np.ndarray], what: str) -> None:
    for number, (g, w) in enumerate(zip(got, want, strict=True)):
        try:
            assert_same_bits(g, w, f"{what}, result {number}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{print_graph(graph)}") from None
