"""The places along an axis that is read at step * label + spread * tap + offset, by phase.

Places that leave the same remainder by `step` are a phase: the same taps reach all of them, every so many,
each from an element `label` that moves on by one from place to place. So the cotangent of an image that a
strided convolution reads is a convolution without gaps for each phase, and only taps that exist are summed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd

from ...ir.expr import Dim, symbol


@dataclass(frozen=True)
class Phase:
    """The places first, first + step, ...: so many, reached by so many taps from `tap` on; the label at the
    first place and tap is `start`."""

    first: int
    places: int
    tap: int
    taps: int
    start: int


@dataclass(frozen=True)
class Along:
    """What is read at factor * label + spread * tap + offset: an axis of `size` places, by `taps` taps.
    spread: 0 if there is no such label, and so one tap."""

    factor: int
    offset: int
    spread: int
    size: int
    taps: int

    @property
    def step(self) -> int:
        return abs(self.factor)

    @property
    def tap_step(self) -> int:
        """From one tap that reaches a place to the next."""
        return self.step // gcd(self.step, self.spread)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases that any tap reaches, in order."""
        found = (self._phase(first) for first in range(min(self.step, self.size)))
        return tuple(phase for phase in found if phase is not None)

    def _phase(self, first: int) -> Phase | None:
        reaching = range(min(self.tap_step, self.taps))
        tap = next((t for t in reaching if (first - self.offset - self.spread * t) % self.step == 0), None)
        if tap is None:
            return None
        places, taps = -(-(self.size - first) // self.step), -(-(self.taps - tap) // self.tap_step)
        start = (first - self.offset - self.spread * tap) // self.factor
        return Phase(first, places, tap, taps, start)


@dataclass(frozen=True)
class Stride:
    """An axis of an adjoint's target that is taken in phases.

    place: the label that counts the places of a phase. home, tap_home: (operand, axis) where the eliminated
    label stood, of `length` elements, and where the tap's does, if there is one.
    """

    axis: int
    place: str
    home: tuple[int, int]
    tap: str
    tap_home: tuple[int, int] | None
    along: Along
    length: int

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """Those that any tap reaches; if none is, one without taps: a zero that depends on both operands."""
        places = -(-self.along.size // self.along.step)
        unreached = (Phase(0, places, self.along.taps, 0, 0),) if self.tap else ()
        return self.along.phases or unreached

    @property
    def tap_step(self) -> int:
        return self.along.tap_step

    def index(self, phase: Phase) -> Dim:
        """The eliminated label, from the place and the tap within the phase."""
        sign, by = self._steps
        tap: Dim = symbol(self.tap) if self.tap else 0
        return symbol(self.place) * sign + tap * by + phase.start

    @cached_property
    def margin(self) -> tuple[int, int]:
        """How far any phase reaches below 0, and beyond the last element."""
        sign, by = self._steps
        corners = [
            phase.start + sign * place + by * tap
            for phase in self.phases
            for place in (0, phase.places - 1)
            for tap in (0, phase.taps - 1)
        ]
        return max(0, -min(corners, default=0)), max(0, max(corners, default=0) - (self.length - 1))

    @property
    def _steps(self) -> tuple[int, int]:
        """Steps of the label from place to place, and from tap to tap."""
        along = self.along
        return along.factor // along.step, -along.spread * along.tap_step // along.factor
