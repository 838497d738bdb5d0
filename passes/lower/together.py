"""Horizontal fusion: independent pointwise groups whose results nobody in the graph reads become one kernel.

These are, above all, the updates of all parameters and optimizer states. The kernel has one loop nest per
group.
"""

from __future__ import annotations

from collections.abc import Sequence

from .groups import PARTS, POINTWISE, Group
from .stores import Stores

#: Loop nests in one kernel at most.
MOST_NESTS = 24


def together(groups: Sequence[Group], stores: Stores) -> list[list[Group]]:
    """The groups that have something to do, those that go into one kernel together."""
    bundles: list[list[Group]] = []
    open_bundle: list[Group] = []
    for group in groups:
        if not stores.of_group(group) and not _checks(group):
            continue
        if not _is_last(group, stores):
            bundles.append([group])
            continue
        if not open_bundle or len(open_bundle) == MOST_NESTS:
            open_bundle = []
            bundles.append(open_bundle)
        open_bundle.append(group)
    return bundles


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
