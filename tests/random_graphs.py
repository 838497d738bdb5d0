"""Random valid graphs with inputs, for comparing the interpreter with compiled code.

`random_graph(seed)` builds a graph operation by operation and interprets it as it goes, so that every result
is known with a bound of its error: most are compared to the bit, those below an elementary function within
the bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from vitrify.ir.graph import Graph
from vitrify.ir.printer import print_graph
from vitrify.ir.verifier import verify_graph

from tests.graph_maker import Maker, Unfit
from tests.random_families import FAMILIES
from tests.support import assert_same_bits


@dataclass(frozen=True)
class RandomGraph:
    """A graph, arrays for its inputs, and what the interpreter gives, with bounds of the error."""

    seed: int
    graph: Graph
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    updates: list[np.ndarray]
    output_bounds: list[float]
    update_bounds: list[float]

    def assert_agrees(self, outputs: Sequence[np.ndarray], updates: Sequence[np.ndarray]) -> None:
        """Every result has the interpreter's bits, or lies within its bound. A failure shows the graph."""
        want = [*self.outputs, *self.updates]
        bounds = [*self.output_bounds, *self.update_bounds]
        got = [*outputs, *updates]
        assert len(got) == len(want)
        for number, (g, w, bound) in enumerate(zip(got, want, bounds, strict=True)):
            what = f"seed {self.seed}, result {number} (bound {bound:.3g})"
            try:
                _assert_near(g, w, bound, what)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{print_graph(self.graph)}") from None


def _assert_near(got: np.ndarray, want: np.ndarray, bound: float, what: str) -> None:
    if not bound:
        assert_same_bits(got, want, what)
        return
    assert (got.dtype, got.shape) == (want.dtype, want.shape), what
    distance = np.abs(got.astype(np.float64) - want)
    assert not distance.size or distance.max() <= bound, f"{what}: differs by {distance.max()}"


def random_graph(seed: int, operations: int | None = None) -> RandomGraph:
    """The graph of this seed: about so many operations (4 to 24 if not given), verified, with its inputs'
    arrays and the interpreter's results."""
    m = Maker(seed)
    wanted = m.between(4, 24) if operations is None else operations
    weights = np.array([w for _, w in FAMILIES], np.float64)
    weights /= weights.sum()
    while len(m.builder.operations) < wanted:
        family = FAMILIES[int(m.rng.choice(len(FAMILIES), p=weights))][0]
        try:
            family(m)
        except Unfit:
            continue
    return _finished(m, seed)


def _finished(m: Maker, seed: int) -> RandomGraph:
    used = {v for op in m.builder.operations for v in op.operands}
    ends = [k for k in m.known if k.value not in used and k not in m.inputs]
    outputs = [k for k in ends if m.chance(0.8)] or ends[-1:]
    if m.chance(0.2):
        outputs.append(m.one_of(m.known))
    updates = []
    for target in m.inputs:
        same = [k for k in m.known if k.type == target.type and k is not target]
        if same and m.chance(0.25):
            updates.append((target, m.one_of(same)))
    graph = m.builder.finish([k.value for k in outputs], [(t.value, n.value) for t, n in updates])
    verify_graph(graph)
    return RandomGraph(
        seed, graph, [k.array for k in m.inputs],
        [k.array for k in outputs], [n.array for _, n in updates],
        [k.error for k in outputs], [n.error for _, n in updates],
    )  # fmt: skip
