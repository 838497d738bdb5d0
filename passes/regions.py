"""Regions: passes applied inside of them, and copies of operations under other names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..ir.graph import Graph, Operation, Value


def renamed(operations: Iterable[Operation], mapped: dict[Value, Value]) -> list[Operation]:
    """Copies of the operations, with new results, on the values that `mapped` gives for their operands (those
    that it lacks stay). `mapped` is extended by the results."""
    made = []
    for op in operations:
        results = tuple(Value(v.type, v.name) for v in op.results)
        operands = tuple(mapped.get(v, v) for v in op.operands)
        mapped.update(zip(op.results, results, strict=True))
        made.append(Operation(op.opdef, operands, op.attrs, results, op.regions, op.location))
    return made


def replaced(
    graph: Graph, change: Callable[[Operation, tuple[Value, ...]], tuple[list[Operation], list[Value]] | None]
) -> Graph:
    """The graph with some operations replaced; the same object if none is.

    change: for an operation, on its new operands, gives the operations that stand for it and the values of
    its results; None to keep it.
    """
    mapped: dict[Value, Value] = {}
    operations: list[Operation] = []
    for op in graph.operations:
        operands = tuple(mapped.get(v, v) for v in op.operands)
        made = change(op, operands)
        if made is not None:
            operations += made[0]
            mapped.update(zip(op.results, made[1], strict=True))
        elif operands != op.operands:
            operations += renamed([op], mapped)
        else:
            operations.append(op)
    if len(operations) == len(graph.operations) and all(map(_is, operations, graph.operations)):
        return graph
    outputs = tuple(mapped.get(v, v) for v in graph.outputs)
    updates = tuple((x, mapped.get(v, v)) for x, v in graph.updates)
    return Graph(graph.inputs, tuple(operations), outputs, updates, graph.name, graph.numerics)


def _is(one: Operation, other: Operation) -> bool:
    return one is other


def within_regions(graph: Graph, change: Callable[[Graph], Graph]) -> Graph:
    """The graph with every region of its operations changed; the same object if none is."""

    def changed(op: Operation, operands: tuple[Value, ...]) -> tuple[list[Operation], list[Value]] | None:
        regions = tuple(map(change, op.regions))
        if all(a is b for a, b in zip(regions, op.regions, strict=True)):
            return None
        results = tuple(Value(v.type, v.name) for v in op.results)
        return [Operation(op.opdef, operands, op.attrs, results, regions, op.location)], list(results)

    return replaced(graph, changed) if any(op.regions for op in graph.operations) else graph
