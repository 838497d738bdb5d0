"""Horizontal fusion: independent pointwise groups whose results nobody in the graph reads become one kernel.

These are, above all, the updates of all parameters and optimizer states. The kernel has one loop nest per
group. Many of them are rather left apart: their kernels, alike but for the size, become one (`distinct`),
which compiles in the time of one loop nest.
"""

from __future__ import annotations

from collections.abc import Sequence

from .groups import PARTS, POINTWISE, Group
from .stores import Stores

#: Loop nests in one kernel at most.
MOST_NESTS = 8


def together(groups: Sequence[Group], stores: Stores) -> list[list[Group]]:
    """The groups that have something to do, those that go into one kernel together."""
    busy = [g for g in groups if stores.of_group(g) or _checks(g)]
    last = [g for g in busy if _is_last(g, stores)]
    if not 1 < len(last) <= MOST_NESTS:
        return [[g] for g in busy]
    return [*([g] for g in busy if g not in last), last]


def _checks(group: Group) -> bool:
    return group.kind == PARTS and not group.anchor.results


def _is_last(group: Group, stores: Stores) -> bool:
    """Whether a group is pointwise, can't stop the plan, and no other group reads its results: neither
    those that are stored nor, by computing them anew from what is stored, the others."""
    return (
        group.kind == POINTWISE
        and not any(op.opdef.may_raise for op in group.members)
        and all(
            stores.home.get(r.op.results[0]) is group if r.op.results else False
            for op in group.members
            for v in op.results
            for r in stores.readers.get(v, ())
        )
    )
