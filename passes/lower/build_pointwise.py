"""Writes a pointwise group, or one with reductions of each element: loops over its axes, the last one
`vector`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import lcm

from ...ir import ops
from ...ir.expr import coefficient, floordiv
from ...ir.graph import Operation, Value
from .attributes import dims, ints
from .groups import Axes, Group, is_free
from .index import Index, Shape, moved, reshaped
from .nesting import loop_order
from .stores import Stores
from .writer import KernelWriter

#: An axis is not written out for more phases than this.
MOST_PHASES = 4


def build_pointwise(writer: KernelWriter, group: Group, stores: Stores) -> None:
    """Write the loop nest of the group. Where members interleave their operands, each turn of the loops
    does a whole period, so that it is known which operand counts."""
    shape = group.axes.shape
    periods = _periods(group, stores) if group.interleaved else (1,) * len(shape)
    order = loop_order(group, stores)
    if list(order) != sorted(order) or _interleaves(group):
        periods = _few_written_out(shape, order, periods)
    turns = tuple(floordiv(d, p) for d, p in zip(shape, periods, strict=True))
    with writer.loops(turns, "vector", order=order) as turn:
        for phase in product(*map(range, periods)):
            index = tuple(i * p + k for i, p, k in zip(turn, periods, phase, strict=True))
            write_members(writer, group, stores, index)


def _interleaves(group: Group) -> bool:
    """Whether a member is a copy that brings an axis from further out to the end."""
    perms = (ints(op, "perm") for op in group.members if op.opdef is ops.permute)
    return any(perm and perm[-1] != len(perm) - 1 for perm in perms)


def _few_written_out(shape: Shape, order: Sequence[int], periods: tuple[int, ...]) -> tuple[int, ...]:
    """The periods, an innermost axis of a few elements (the channels of an image) written out, which lets the
    vectors run along another one."""
    last = next((a for a in reversed(order) if shape[a] != 1), None)
    if last is None:
        return periods
    few = shape[last]
    if not isinstance(few, int) or not 1 < few <= MOST_PHASES or periods[last] != 1:
        return periods
    return (*periods[:last], few, *periods[last + 1 :])


def _periods(group: Group, stores: Stores) -> tuple[int, ...]:
    """For each axis of the group the period of the gaps that members read along it, if it divides the
    axis."""
    periods = [1] * len(group.axes.shape)
    for op in needed(group, stores, stores.of_group(group)):
        start = group.axes.index_of(op.result.type.shape)
        for move, index in _moves(op, start, group, stores):
            if move.opdef is not ops.pad:
                continue
            for at, gap in zip(index, dims(move, "interior"), strict=True):
                for axis, d in enumerate(group.axes.shape):
                    if isinstance(gap, int) and isinstance(d, int) and coefficient(at, f"axis{axis}") == 1:
                        period = lcm(periods[axis], gap + 1)
                        periods[axis] = period if d % period == 0 and period <= MOST_PHASES else periods[axis]
    return tuple(periods)


def _moves(
    op: Operation, index: Index | None, group: Group, stores: Stores
) -> Iterator[tuple[Operation, Index]]:
    """The free operations that an operation reads through, with the index of their result over the group's
    axes."""
    pending: list[tuple[Operation | None, Index | None]] = [(op, index)]
    if op.opdef.elementwise:
        pending = [(x.operation, index) for x in op.operands if x not in stores.home]
    while pending:
        move, at = pending.pop()
        if move is None or at is None or not is_free(move):
            continue
        yield move, at
        below = moved(move, at, group.axes.extents)
        pending += [(x.operation, below) for x in move.operands if x not in stores.home]


def write_members(writer: KernelWriter, group: Group, stores: Stores, index: Index) -> None:
    """Compute and store the members' elements at an index of the group's axes."""
    stored = stores.of_group(group)
    for op in needed(group, stores, stored):
        writer.read(op.result, member_index(group.axes, index, op.result.type.shape, writer))
    for value in stored:
        at = member_index(group.axes, index, value.type.shape, writer)
        writer.store_element(value, at, writer.read(value, at))


def needed(group: Group, stores: Stores, wanted: list[Value]) -> list[Operation]:
    """The members that the wanted values are computed from, themselves included, in program order."""
    found: set[Value] = set(wanted)
    result: list[Operation] = []
    for op in reversed(group.members):
        if found.isdisjoint(op.results):
            continue
        result.append(op)
        found.update(stores.leaves[op])
    return result[::-1]


def member_index(axes: Axes, index: Index, shape: Shape, writer: KernelWriter) -> Index:
    """The index of a member of this shape where the group's axes have the given index."""
    have = axes.shape if len(index) == len(axes.shape) else axes.rows
    return reshaped(index, have, shape, writer.extents)
