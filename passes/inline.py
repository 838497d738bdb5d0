"""Inlining of calls, and splits as slices."""

from __future__ import annotations

from functools import partial

from ..ir import ops
from ..ir.builder import GraphBuilder
from ..ir.expr import Dim
from ..ir.graph import Graph, Location, Operation, Value
from .regions import within_regions


def inline_calls(graph: Graph, *, splits: bool = True) -> Graph:
    """Replace every `call` by the operations of its body, and every `split` by slices, in regions too.

    Operations of the body keep their own location, or else get that of the call. Updates inside a body are
    not possible: the verifier refuses them. splits: False leaves these as they are, for differentiation.
    """
    graph = within_regions(graph, partial(inline_calls, splits=splits))
    gone = {ops.call, ops.split} if splits else {ops.call}
    if not any(op.opdef in gone for op in graph.operations):
        return graph
    mapped: dict[Value, Value] = {}
    operations: list[Operation] = []
    _inline(graph, mapped, operations, False, None, splits)
    outputs = tuple(mapped.get(v, v) for v in graph.outputs)
    updates = tuple((x, mapped.get(v, v)) for x, v in graph.updates)
    return Graph(graph.inputs, tuple(operations), outputs, updates, graph.name, graph.numerics)


def _inline(
    graph: Graph,
    mapped: dict[Value, Value],
    operations: list[Operation],
    inside: bool,
    call: Location | None,
    splits: bool,
) -> None:
    """Append the operations of a graph, its values renamed by `mapped`, which is extended."""
    for op in graph.operations:
        operands = tuple(mapped.get(v, v) for v in op.operands)
        location = op.location or call
        if op.opdef is ops.call:
            (body,) = op.regions
            mapped.update(zip(body.inputs, operands, strict=True))
            _inline(body, mapped, operations, True, location, splits)
            mapped.update(
                (result, mapped.get(v, v)) for result, v in zip(op.results, body.outputs, strict=True)
            )
        elif op.opdef is ops.split and splits:
            operations += _slices(op, operands[0], location, mapped)
        elif inside or operands != op.operands:
            results = tuple(Value(v.type, v.name) for v in op.results)
            mapped.update(zip(op.results, results, strict=True))
            operations.append(Operation(op.opdef, operands, op.attrs, results, op.regions, location))
        else:
            operations.append(op)


def _slices(
    split: Operation, x: Value, location: Location | None, mapped: dict[Value, Value]
) -> list[Operation]:
    """The parts of a split, each a slice; `mapped` is extended by its results."""
    build = GraphBuilder()
    build.location = location
    axis, shape = split.attrs["axis"], x.type.shape
    assert isinstance(axis, int)
    start: Dim = 0
    for result in split.results:
        stop = start + result.type.shape[axis]
        starts = tuple(start if a == axis else 0 for a in range(len(shape)))
        stops = tuple(stop if a == axis else d for a, d in enumerate(shape))
        mapped[result] = build(ops.slice_, x, starts=starts, stops=stops, steps=(1,) * len(shape))
        start = stop
    return build.operations
