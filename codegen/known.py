"""What is known to stand in memory: vectors that were just stored or loaded are not loaded again.

Short rows are written out without loops; the passes over such a row (the maximum, the sum, the division of
a softmax) then hand its vectors on in registers. Only straight code counts: nothing is known at the start
of a loop or branch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..ir.expr import Dim, Expr
from ..ir.kernel import VECTOR


@dataclass(frozen=True)
class Place:
    """16 neighbouring elements: buffer[base + offset + lane], in the lanes of `mask` (None for all)."""

    buffer: str
    base: str
    offset: int
    mask: str | None

    def is_apart_from(self, other: Place) -> bool:
        """Whether the two certainly share no element."""
        if self.buffer != other.buffer:
            return True
        return self.base == other.base and abs(self.offset - other.offset) >= VECTOR


def place_of(buffer: str, index: Dim, part: int, mask: str | None) -> Place:
    """The place of a part of a run at this index, whose lane axes have been replaced by numbers."""
    offset = index if isinstance(index, int) else index.terms.get((), 0)
    base = index - offset
    return Place(buffer, str(base) if isinstance(base, Expr) else "", offset + VECTOR * part, mask)


@dataclass
class Known:
    """The value in registers of each place that is known, for the current stretch of straight code."""

    _stretches: list[dict[Place, str]] = field(default_factory=lambda: [{}])

    @contextmanager
    def stretch(self) -> Iterator[None]:
        """The inside of a loop or branch."""
        self._stretches.append({})
        yield
        self._stretches.pop()

    def get(self, place: Place) -> str | None:
        return self._stretches[-1].get(place)

    def put(self, place: Place, value: str) -> None:
        self._stretches[-1][place] = value

    def forget(self, buffer: str, place: Place | None) -> None:
        """Something is stored to the buffer: at a place, or anywhere."""
        for known in self._stretches:
            for other in [p for p in known if p.buffer == buffer]:
                if place is None or not place.is_apart_from(other):
                    del known[other]
