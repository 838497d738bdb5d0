"""Weights kept in the form that kernels want, for as long as they are unchanged.

A graph that reads turned weights (`passes.packed`) takes them as further operands, buffers of the kind `kept`
in its plan. They are made anew when a weight lies elsewhere or its version has risen. The weights themselves
are not held: a copy is dropped with the first of them that is freed. Never is a copy kept of memory that
somebody else may write to, or could since it was made (`storage.watch`), nor beyond `MOST_BYTES` of all.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from . import storage
from .executable import Executable

#: Bytes of all copies that are kept; beyond it they are made in each call.
MOST_BYTES = 2 << 30
#: Calls in which weights must have been the same before a graph is compiled that reads them turned; changes
#: after which that is given up.
_CALLS, _CHANGES = 2, 4


class _Life:
    """Attached to a block of memory, and freed with it."""

    __slots__ = ("__weakref__",)


class _Seen:
    """Where weights lay at some call, at which versions, while they are alive. Holds none of them."""

    __slots__ = ("__weakref__", "_lives", "_state", "is_alive")

    def __init__(self, weights: Sequence[storage.Storage]) -> None:
        self._state = _state(weights)
        self.is_alive = True
        me = weakref.ref(self)

        def end(_: object) -> None:
            if (seen := me()) is not None:
                seen.end()

        lives = [storage.attach(w, _Life()) for w in weights]
        self._lives = [weakref.ref(life, end) for life in lives if isinstance(life, _Life)]
        self.is_alive = len(self._lives) == len(lives)

    def end(self) -> None:
        """A weight was freed; another one may come to lie in its place."""
        self.is_alive = False

    def is_now(self, weights: Sequence[storage.Storage]) -> bool:
        """Whether these are the same weights, unchanged."""
        return self.is_alive and self._state == _state(weights)


def _state(weights: Sequence[storage.Storage]) -> list[int]:
    return [*map(storage.address, weights), *map(storage.version, weights)]


class _Kept(_Seen):
    """What was made of these weights. blocks: where they lie, watched."""

    __slots__ = ("blocks", "turned")

    def __init__(
        self, weights: Sequence[storage.Storage], turned: tuple[storage.Storage, ...], blocks: frozenset[int]
    ) -> None:
        self.turned, self.blocks = turned, blocks
        super().__init__(weights)

    def end(self) -> None:
        super().end()
        self.turned = ()

    @property
    def nbytes(self) -> int:
        return sum(map(storage.nbytes, self.turned))


#: All that keep copies.
_keepers: weakref.WeakSet[Weights] = weakref.WeakSet()


def kept_bytes() -> int:
    """Bytes of all copies that are kept."""
    return sum(weights.kept_bytes for weights in list(_keepers))


class Weights:
    """The turned weights of one compiled graph. numbers: its operands that `packing` takes.

    Threads may call at the same time: what is kept is replaced as a whole, and never written to.
    """

    def __init__(self, packing: Executable, numbers: Sequence[int]) -> None:
        self._pack, self._numbers = packing.bind(), tuple(numbers)
        self._kept: _Kept | None = None
        _keepers.add(self)

    @property
    def kept_bytes(self) -> int:
        """Bytes of what is kept at present."""
        kept = self._kept
        return kept.nbytes if kept is not None else 0

    def turned(self, operands: Sequence[storage.Storage]) -> tuple[storage.Storage, ...]:
        """The turned weights for these operands."""
        weights = [operands[number] for number in self._numbers]
        kept = self._kept
        if kept is not None:
            turned = kept.turned  # before it is asked whether they are still right
            if kept.is_now(weights) and storage.unshared(kept.blocks):
                return turned
        kept = self._kept = None  # before the copy is made: nobody needs the old one
        blocks = storage.watch(weights)
        made = self._pack(*weights)
        made = made if isinstance(made, tuple) else (made,)
        if blocks is not None and kept_bytes() + sum(map(storage.nbytes, made)) <= MOST_BYTES:
            self._kept = _Kept(weights, made, blocks)
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
        self._seen: _Seen | None = None
        self._same, self._changes = 0, 0
        self._made: Callable[..., Any] | None = None

    def given_to(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, or the call of the other graph."""
        numbers = self._numbers

        def run(*operands: storage.Storage) -> Any:
            if self._changes > _CHANGES:
                return call(*operands)
            weights = [operands[number] for number in numbers]
            seen = self._seen
            if seen is None or not seen.is_now(weights):
                self._change(weights)
            elif self._made is not None:
                return self._made(*operands)
            else:
                self._stay(weights)
            return call(*operands)

        return run

    def _change(self, weights: Sequence[storage.Storage]) -> None:
        self._changes += self._seen is not None
        self._seen, self._same = _Seen(weights), 0
        if self._changes > _CHANGES:
            self._seen, self._made = None, None  # nothing is kept any longer

    def _stay(self, weights: Sequence[storage.Storage]) -> None:
        """The weights are those of the call before."""
        self._same += 1
        if self._same < _CALLS:
            return
        if any(map(storage.is_shared, weights)):
            self._changes, self._seen = _CHANGES + 1, None
            return
        turned, call = self._make()
        self._made = turned.given_to(call)
