"""Common subexpression elimination: of operations that compute the same value, the first stays."""

from __future__ import annotations

from collections.abc import Hashable

from ..ir import ops
from ..ir.graph import Graph, Operation, Value
from ..ir.opdef import bind


def eliminate_common_subexpressions(graph: Graph) -> Graph:
    """Use the first of several equal operations (kind, attributes, operands) in place of the others.

    Operands of commutative operations count in any order. Operations with an effect or a region stay. One
    sweep, O(operations + uses). Source: Cocke 1970, by hashing as in Cooper and Torczon, local value
    numbering.
    """
    first: dict[Hashable, Operation] = {}
    replaced: dict[Value, Value] = {}
    kept: list[Operation] = []
    for old in graph.operations:
        op = _on(old, replaced)
        if op.opdef.pure and not op.regions:
            earlier = first.setdefault(_key(op), op)
            if earlier is not op:
                replaced.update(zip(old.results, earlier.results, strict=True))
                continue
        if op is not old:
            replaced.update(zip(old.results, op.results, strict=True))
        kept.append(op)
    if not replaced:
        return graph
    outputs = tuple(replaced.get(v, v) for v in graph.outputs)
    updates = tuple((x, replaced.get(v, v)) for x, v in graph.updates)
    return Graph(graph.inputs, tuple(kept), outputs, updates, graph.name, graph.numerics)


def _on(op: Operation, replaced: dict[Value, Value]) -> Operation:
    """The operation on the replacements of its operands; itself if none has one."""
    if not any(v in replaced for v in op.operands):
        return op
    operands = tuple(replaced.get(v, v) for v in op.operands)
    results = tuple(Value(v.type, v.name) for v in op.results)
    return Operation(op.opdef, operands, op.attrs, results, op.regions, op.location)


def _key(op: Operation) -> Hashable:
    """Equal for operations that give the same value."""
    operands = op.operands
    if op.opdef.commutative:
        operands = tuple(sorted(operands, key=id))
    return (computation(op), operands)


def computation(op: Operation) -> Hashable:
    """Equal for operations that do the same to their operands."""
    if op.opdef is ops.constant:
        return op.attrs["value"]  # not interned: a literal may be large
    return bind(op.opdef, op.regions, **op.attrs) if op.attrs or op.regions else op.opdef
