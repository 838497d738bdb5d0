"""Dead code elimination."""

from __future__ import annotations

from ..ir import ops
from ..ir.graph import Graph, Operation, Value
from .simplify.patterns import number_of

#: (index, axis, size): an index that is checked against the size of an axis.
_Bound = tuple[Value, object, object]


def eliminate_dead_code(graph: Graph, *, keep_raising: bool = True) -> Graph:
    """Drop operations that have no effect and whose results reach no output.

    An operation that can raise has an effect: it stays, unless its operands show that it can't, or an earlier
    operation makes the same checks. keep_raising: False says that all checks were made before the graph runs.
    One backward sweep, O(operations + uses). Source: Cooper and Torczon, mark and sweep.
    """
    raising = raising_operations(graph) if keep_raising else set()
    live = set(graph.roots())
    kept = []
    for op in reversed(graph.operations):
        if not op.opdef.pure or op in raising or any(v in live for v in op.results):
            live.update(op.operands)
            kept.append(op)
    if len(kept) == len(graph.operations):
        return graph
    operations = tuple(reversed(kept))
    return Graph(graph.inputs, operations, graph.outputs, graph.updates, graph.name, graph.numerics)


def raising_operations(graph: Graph) -> set[Operation]:
    """The operations that can stop the run, of those that raise together the first."""
    found: set[Operation] = set()
    checked: set[_Bound] = set()
    for op in graph.operations:
        if op.regions:
            if any(raising_operations(region) for region in op.regions):
                found.add(op)
        elif op.opdef in (ops.gather, ops.scatter, ops.scatter_add):
            bounds = _bounds(op)
            if not bounds <= checked:
                found.add(op)
                checked |= bounds
        elif op.opdef.may_raise and _can_divide_by_zero(op):
            found.add(op)
    return found


def _bounds(op: Operation) -> set[_Bound]:
    """The checks that a gather or scatter makes, without those that can't fail."""
    x, indices = op.operands[0], op.operands[1 if op.opdef is ops.gather else 2 :]
    axes = op.attrs["axes"]
    assert isinstance(axes, tuple)
    bounds: set[_Bound] = set()
    for axis, index in zip(axes, indices, strict=True):
        assert isinstance(axis, int)
        at, size = number_of(index), x.type.shape[axis]
        if at is None or not isinstance(size, int) or not -size <= at < size:
            bounds.add((index, axis, size))
    return bounds


def _can_divide_by_zero(op: Operation) -> bool:
    """Whether an operation other than gather and scatter, known as one that may raise, can do so."""
    if op.opdef not in (ops.floor_div, ops.rem):
        return True
    divisor = op.operands[1]
    return divisor.type.dtype.is_integer and number_of(divisor) in (None, 0)
