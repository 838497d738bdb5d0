"""Writes a pointwise group, or one with reductions of each element: loops over its axes, the last one `vector`."""

from __future__ import annotations

from ...ir.graph import Operation, Value
from .groups import Axes, Group, leaves_of
from .index import Index, Shape, reshaped
from .stores import Stores
from .writer import KernelWriter


def build_pointwise(writer: KernelWriter, group: Group, stores: Stores) -> None:
    """Write the loop nest of the group."""
    with writer.loops(group.axes.shape, "vector") as index:
        write_members(writer, group, stores, index)


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
        found.update(leaf for x in op.operands for leaf in leaves_of(x, stores.home.keys()))
    return result[::-1]


def member_index(axes: Axes, index: Index, shape: Shape, writer: KernelWriter) -> Index:
    """The index of a member of this shape where the group's axes have the given index."""
    have = axes.shape if len(index) == len(axes.shape) else axes.rows
    return reshaped(index, have, shape, writer.extents)
