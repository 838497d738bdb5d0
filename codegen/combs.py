"""Stores that between them fill every gap: `y[2*i]` and `y[2*i + 1]` in one body, to be written as whole
vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..ir.kernel import Contract, Kernel, Load, Loop, Reduce, Statement, Store
from .walk import nested

#: More elements than this per lane are not worth reading all.
WIDEST = 4


@dataclass(frozen=True)
class Comb:
    """Stores to neighbouring elements, by ascending index, of which `last` is written last."""

    stores: tuple[Store, ...]
    last: Store


def combs_of(kernel: Kernel) -> dict[int, Comb]:
    """The combs of all bodies of a kernel, by the id of each of their stores."""
    found: dict[int, Comb] = {}
    bodies = [s.body for s in kernel.statements() if isinstance(s, Loop | Reduce | Contract)]
    for body in bodies:
        for comb in _combs(body):
            found.update({id(store): comb for store in comb.stores})
    return found


def _combs(body: Sequence[Statement]) -> list[Comb]:
    """Two to four stores to one buffer that differ by ascending constants, nothing else touching it in
    between.
    """
    places: dict[tuple[str, str], list[int]] = {}
    for at, s in enumerate(body):
        if isinstance(s, Store) and not s.guards and not isinstance(s.index, int):
            key = s.buffer, str(s.index - s.index.terms.get((), 0))
            places.setdefault(key, []).append(at)
    combs = []
    for (buffer, _), positions in places.items():
        stores = sorted((body[at] for at in positions), key=_offset)
        offsets = [_offset(s) for s in stores]
        neighbours = offsets == list(range(offsets[0], offsets[0] + len(offsets)))
        between = [
            s for at, s in enumerate(body) if positions[0] <= at <= positions[-1] and at not in positions
        ]
        if (
            2 <= len(stores) <= WIDEST
            and neighbours
            and not any(_touches(s, buffer) for s in nested(between))
        ):
            combs.append(Comb(tuple(stores), body[positions[-1]]))  # type: ignore[arg-type]
    return combs


def _offset(store: Statement) -> int:
    assert isinstance(store, Store) and not isinstance(store.index, int)
    return store.index.terms.get((), 0)


def _touches(statement: Statement, buffer: str) -> bool:
    if isinstance(statement, Contract):
        return buffer in (statement.lhs, statement.rhs)
    return isinstance(statement, Load | Store) and statement.buffer == buffer
