"""Turned weights, kept for as long as the weights are unchanged.

A compiled graph whose convolutions read turned weights (`passes.packed`) takes them as further operands. They
are made anew when a weight's storage is another one or its version has risen; never are they kept for a
storage whose memory somebody else may write to (`storage.is_shared`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import storage
from .executable import Executable


class Weights:
    """The turned weights of one compiled graph. numbers: its operands that `packing` takes.

    Threads may call at the same time: what is kept is replaced as a whole, and never written to.
    """

    def __init__(self, packing: Executable, numbers: Sequence[int]) -> None:
        self._pack, self._numbers = packing.bind(), tuple(numbers)
        #: Weights, their versions, what was made of them.
        self._kept: (
            tuple[tuple[storage.Storage, ...], tuple[int, ...], tuple[storage.Storage, ...]] | None
        ) = None

    def turned(self, operands: Sequence[storage.Storage]) -> tuple[storage.Storage, ...]:
        """The turned weights for these operands."""
        weights = tuple([operands[number] for number in self._numbers])
        versions = tuple(map(storage.version, weights))
        kept = self._kept
        if kept is not None and kept[0] == weights and kept[1] == versions:
            return kept[2]
        made = self._pack(*weights)
        made = made if isinstance(made, tuple) else (made,)
        self._kept = None if any(map(storage.is_shared, weights)) else (weights, versions, made)
        return made

    def given_to(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call` with the turned weights after its own operands."""
        turned = self.turned
        return lambda *operands: call(*operands, *turned(operands))
