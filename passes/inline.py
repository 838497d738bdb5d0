"""Inlining of calls."""

from __future__ import annotations

from ..ir import ops
from ..ir.graph import Graph, Location, Operation, Value
from .regions import within_regions


def inline_calls(graph: Graph) -> Graph:
    """Replace every `call` by the operations of its body, calls inside it and inside other regions included.

    Operations of the body keep their own location, or else get that of the call. Updates inside a body are
    not possible: the verifier refuses them.
    """
    graph = within_regions(graph, inline_calls)
    if not any(op.opdef is ops.call for op in graph.operations):
        return graph
    mapped: dict[Value, Value] = {}
    operations: list[Operation] = []
    _inline(graph, mapped, operations, False, None)
    outputs = tuple(mapped.get(v, v) for v in graph.outputs)
    updates = tuple((x, mapped.get(v, v)) for x, v in graph.updates)
    return Graph(graph.inputs, tuple(operations), outputs, updates, graph.name)


def _inline(
    graph: Graph, mapped: dict[Value, Value], operations: list[Operation], inside: bool, call: Location | None
) -> None:
    """Append the operations of a graph, its values renamed by `mapped`, which is extended."""
    for op in graph.operations:
        operands = tuple(mapped.get(v, v) for v in op.operands)
        location = op.location or call
        if op.opdef is ops.call:
            (body,) = op.regions
            mapped.update(zip(body.inputs, operands, strict=True))
            _inline(body, mapped, operations, True, location)
            mapped.update(
                (result, mapped.get(v, v)) for result, v in zip(op.results, body.outputs, strict=True)
            )
        elif inside or operands != op.operands:
            results = tuple(Value(v.type, v.name) for v in op.results)
            mapped.update(zip(op.results, results, strict=True))
            operations.append(Operation(op.opdef, operands, op.attrs, results, op.regions, location))
        else:
            operations.append(op)
