"""Turned weights, kept for as long as the weights are unchanged.

A graph that reads turned weights (`passes.packed`) takes them as further operands. They are made anew when a
weight's storage is another one or its version has risen; never are they kept for a storage whose memory
somebody else may write to, or could since they were made (`storage.watch`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import storage
from .executable import Executable

#: Calls in which weights must have been the same before a graph is compiled that reads them turned; changes
#: after which that is given up.
_CALLS, _CHANGES = 2, 4


@dataclass(frozen=True)
class _Kept:
    """What was made of these weights at these versions. blocks: where they lie, watched."""

    weights: tuple[storage.Storage, ...]
    versions: tuple[int, ...]
    turned: tuple[storage.Storage, ...]
    blocks: frozenset[int]


class Weights:
    """The turned weights of one compiled graph. numbers: its operands that `packing` takes.

    Threads may call at the same time: what is kept is replaced as a whole, and never written to.
    """

    def __init__(self, packing: Executable, numbers: Sequence[int]) -> None:
        self._pack, self._numbers = packing.bind(), tuple(numbers)
        self._kept: _Kept | None = None

    def turned(self, operands: Sequence[storage.Storage]) -> tuple[storage.Storage, ...]:
        """The turned weights for these operands."""
        weights = tuple([operands[number] for number in self._numbers])
        versions = tuple(map(storage.version, weights))
        kept = self._kept
        if kept is not None and kept.weights == weights and kept.versions == versions:
            if storage.unshared(kept.blocks):
                return kept.turned
        self._kept = None  # before the copy is made: nobody needs the old one
        blocks = storage.watch(weights)
        made = self._pack(*weights)
        made = made if isinstance(made, tuple) else (made,)
        self._kept = None if blocks is None else _Kept(weights, versions, made, blocks)
        return made

    def given_to(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call` with the turned weights after its own operands."""
        turned = self.turned
        return lambda *operands: call(*operands, *turned(operands))


class Settling:
    """Runs a graph as it is until its weights have stayed the same for some calls; from then on, as long as
    they do, the graph that reads them turned. So a training loop neither compiles nor turns anything more.

    make: compiles that graph: what gives the turned weights, and the call of the graph for some sizes.
    """

    def __init__(
        self, numbers: Sequence[int], make: Callable[[], tuple[Weights, Callable[..., Any]]]
    ) -> None:
        self._numbers, self._make = tuple(numbers), make
        self._seen: tuple[object, ...] = ()
        self._same, self._changes = 0, 0
        self._made: Callable[..., Any] | None = None

    def given_to(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, or the call of the other graph."""
        numbers, version = self._numbers, storage.version

        def run(*operands: storage.Storage) -> Any:
            if self._changes > _CHANGES:
                return call(*operands)
            weights = [operands[number] for number in numbers]
            seen = (*weights, *map(version, weights))
            if seen != self._seen:
                self._change(seen)
            elif self._made is not None:
                return self._made(*operands)
            else:
                self._stay(weights)
            return call(*operands)

        return run

    def _change(self, seen: tuple[object, ...]) -> None:
        self._changes += bool(self._seen)
        self._seen, self._same = seen, 0
        if self._changes > _CHANGES:
            self._seen, self._made = (), None  # nothing is held any longer

    def _stay(self, weights: Sequence[storage.Storage]) -> None:
        """The weights are those of the call before."""
        self._same += 1
        if self._same < _CALLS:
            return
        if any(map(storage.is_shared, weights)):
            self._changes, self._seen = _CHANGES + 1, ()
            return
        turned, call = self._make()
        self._made = turned.given_to(call)
