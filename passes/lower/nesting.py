"""In which order a group's loops stand: as its elements lie in memory, so that the innermost runs along
neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...ir.expr import coefficient
from ...ir.graph import Value
from .groups import Group
from .index import linear
from .stores import Stores


def loop_order(group: Group, stores: Stores) -> Sequence[int]:
    """The group's axes from the outermost loop in, as they follow each other in the memory of the first
    result that has all of them, or, if there is none, of the first value that is read."""
    natural = range(len(group.axes.shape))
    value = next(_whole_values(group, stores), None)
    index = None if value is None else group.axes.index_of(value.type.shape)
    if value is None or value.strides is None or index is None:
        return natural
    place = linear(index, value.strides)
    steps = {a: coefficient(place, f"axis{a}") for a in natural if group.axes.shape[a] != 1}
    known = {a: step for a, step in steps.items() if isinstance(step, int)}
    if len(known) < len(steps):
        return natural
    return sorted(natural, key=lambda a: -known.get(a, 1 << 62))


def _whole_values(group: Group, stores: Stores) -> Iterator[Value]:
    """The values in memory with an element per point of the group's axes."""
    read = (leaf for op in group.members for leaf in stores.leaves[op] if stores.in_memory(leaf))
    for value in (*stores.of_group(group), *read):
        if value.type.numel == group.axes.numel:
            yield value
