"""Derivatives of operations with several results, which are those with regions.

Such an operation is *prepared* before it runs forward: it gives further results, which its derivative reads.
The derivative of a prepared operation is a graph, remembered by which cotangents are defined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ...ir import locks
from ...ir.builder import GraphBuilder
from ...ir.graph import Graph, Value
from ...ir.opdef import BoundOp, OpDef, bind
from ...ir.types import TensorType
from ..cse import eliminate_common_subexpressions
from ..dce import eliminate_dead_code

Types = tuple[TensorType, ...]


@dataclass(frozen=True)
class Prepared:
    """op: what runs in the place of another op. results: which of its results are that one's."""

    op: BoundOp
    results: tuple[int, ...]


#: (op, operand types, wanted operands) -> the op that gives more.
Prepare = Callable[[BoundOp, Types, tuple[bool, ...]], Prepared]
#: (build, op, cotangents or None per result, results, operands, wanted) -> cotangent or None per operand.
ManyRule = Callable[
    [GraphBuilder, BoundOp, Sequence["Value | None"], Sequence[Value], Sequence[Value], tuple[bool, ...]],
    "tuple[Value | None, ...]",
]

#: The derivatives, by kind of operation.
MANY: dict[OpDef, tuple[Prepare, ManyRule]] = {}


@dataclass(frozen=True)
class ManyDerivative:
    """graph: from the defined cotangents, the results and the operands that it reads to the defined
    cotangents of operands.

    saved: which of (*results, *operands) its inputs are that follow the cotangents. gradients: for each
    operand the output that is its cotangent, or None.
    """

    graph: Graph
    saved: tuple[int, ...]
    gradients: tuple[int | None, ...]

    @cached_property
    def steps(self) -> tuple[tuple[BoundOp, tuple[int, ...]], ...]:
        """The operations, with the places of their operands in a list that begins with the inputs and gets
        the results of each."""
        place = {v: i for i, v in enumerate(self.graph.inputs)}
        steps = []
        for op in self.graph.operations:
            steps.append((bind(op.opdef, op.regions, **op.attrs), tuple(place[v] for v in op.operands)))
            for v in op.results:
                place[v] = len(place)
        return tuple(steps)

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """The places of the outputs in that list."""
        place = {v: i for i, v in enumerate(self.graph.inputs)}
        for op in self.graph.operations:
            for v in op.results:
                place[v] = len(place)
        return tuple(place[v] for v in self.graph.outputs)


_LOCK = locks.lock()
_PREPARED: dict[object, Prepared] = {}
_KNOWN: dict[object, ManyDerivative] = {}
#: As in `derivative`: dropped together when there are more.
_MOST_KNOWN = 1024


def prepared(op: BoundOp, types: Types, wanted: tuple[bool, ...]) -> Prepared:
    """The op to run in place of this one if its operands `wanted` are to get cotangents: it gives the same
    results, and others. Remembered."""
    key = (op, types, wanted)
    found = _PREPARED.get(key)
    if found is None:
        found = MANY[op.opdef][0](op, types, wanted)
        with _LOCK:
            if len(_PREPARED) >= _MOST_KNOWN:
                _PREPARED.clear()
            _PREPARED[key] = found
    return found


def many_derivative(
    op: BoundOp, types: Types, wanted: tuple[bool, ...], defined: tuple[bool, ...]
) -> ManyDerivative:
    """The derivative of a prepared op. defined: which of its results have a cotangent. Remembered."""
    key = (op, types, wanted, defined)
    found = _KNOWN.get(key)
    if found is None:
        found = _derive(op, types, wanted, defined)
        with _LOCK:
            if len(_KNOWN) >= _MOST_KNOWN:
                _KNOWN.clear()
            _KNOWN[key] = found
    return found


def _derive(op: BoundOp, types: Types, wanted: tuple[bool, ...], defined: tuple[bool, ...]) -> ManyDerivative:
    build = GraphBuilder(f"vjp_{op.opdef.name}")
    results = op.result_types(*types)
    cts = [
        build.input(t, f"ct{i}") if d else None for i, (t, d) in enumerate(zip(results, defined, strict=True))
    ]
    given = len(build.inputs)
    ys = [build.input(t, f"y{i}") for i, t in enumerate(results)]
    xs = [build.input(t, f"x{i}") for i, t in enumerate(types)]
    made = MANY[op.opdef][1](build, op, cts, ys, xs, wanted)
    places = iter(range(len(made)))
    graph = build.finish([v for v in made if v is not None])
    graph = eliminate_dead_code(eliminate_common_subexpressions(graph), keep_raising=False)
    read = {v for step in graph.operations for v in step.operands}.union(graph.outputs)
    saved = tuple(i for i, v in enumerate((*ys, *xs)) if v in read)
    inputs = (*graph.inputs[:given], *(v for v in (*ys, *xs) if v in read))
    graph = Graph(inputs, graph.operations, graph.outputs, (), graph.name)
    return ManyDerivative(graph, saved, tuple(None if v is None else next(places) for v in made))
