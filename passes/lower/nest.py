"""Several kernels as one loop nest: the loops that all of them have around their work run once, and what one
kernel leaves to the next for the same turn of these loops is kept in scratch memory of one turn's size.

    parallel h < 96 { S }   parallel h < 96 { softmax }   ->   parallel h < 96 { local S; S; softmax }

Nothing else changes, so every element is computed by the same arithmetic as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ...ir.expr import Dim, coefficient, substitute, symbol
from ...ir.kernel import Axis, Buffer, Compute, Const, Index, Kernel, Load, Local, Loop, Statement
from .aliasing import may_share
from .index import bounds
from .renew import Names, Renewal, touched
from .writer import Built, Memory, dtype_of, size_of

#: The order of a kernel's buffers.
_ACCESS = ("in", "inout", "out", "temp")


@dataclass(frozen=True)
class Peeled:
    """A kernel taken apart. axes: of the parallel loops around all its work. before: the statements that
    stand before the first loop, within it, and so on; body: what the innermost of these loops holds."""

    axes: tuple[Axis, ...]
    before: tuple[tuple[Statement, ...], ...]
    body: tuple[Statement, ...]

    @property
    def extents(self) -> tuple[Dim, ...]:
        return tuple(axis.extent for axis in self.axes)


def peel(kernel: Kernel, depth: int | None = None) -> Peeled:
    """Take the loops off a kernel that hold all of its work: `depth` of them, or all."""
    axes: list[Axis] = []
    before: list[tuple[Statement, ...]] = []
    body = kernel.body
    while body and (depth is None or len(axes) < depth):
        *first, last = body
        plain = all(isinstance(s, Compute | Const | Index | Load) for s in first)
        if not plain or not isinstance(last, Loop) or last.kind != "parallel":
            break
        axes.append(last.axis)
        before.append(tuple(first))
        body = last.body
    return Peeled(tuple(axes), tuple(before), body)


@dataclass(frozen=True)
class Share:
    """How kernels of one nest access memory that they share: each turn of the loops its own stretch.

    strides: from turn to turn, one per loop. low: the least place in the stretch of the first turn. size: of
    a stretch.
    """

    strides: tuple[int, ...]
    low: int
    size: int

    def joined(self, other: Share) -> Share | None:
        """The accesses of both, if they go by the same strides."""
        if self.strides != other.strides:
            return None
        low = min(self.low, other.low)
        return Share(self.strides, low, max(self.low + self.size, other.low + other.size) - low)

    def is_apart(self, extents: Sequence[int]) -> bool:
        """Whether no two turns of loops of these extents touch the same place."""
        reach = self.size
        for stride, extent in sorted(zip(self.strides, extents, strict=True)):
            if extent > 1 and stride < reach:
                return False
            reach += max(stride, 0) * (extent - 1)
        return True


class Member:
    """A kernel as a part of a nest of `depth` loops, or of all that are around its work. shares: how it
    accesses each of its memories, None where that is not by whole turns."""

    def __init__(self, built: Built, depth: int | None) -> None:
        self.built = built
        self.peeled = peel(built.kernel, depth)
        self.memory: dict[str, Memory] = {
            b.name: m for b, m in zip(built.kernel.buffers, built.memory, strict=True)
        }

    @cached_property
    def shares(self) -> dict[Memory, Share | None]:
        """Of every memory that the kernel touches."""
        found: dict[Memory, Share | None] = {}
        outside = {self.memory[b] for part in self.peeled.before for b, *_ in touched(part)}
        for buffer, index, _, axes in touched(self.peeled.body):
            memory = self.memory[buffer]
            new = None if memory in outside else self._share(index, axes)
            old = found.get(memory, new)
            found[memory] = None if old is None or new is None else old.joined(new)
        return found | dict.fromkeys(outside)

    def _share(self, index: Dim, axes: Iterable[Axis]) -> Share | None:
        own = [axis.name for axis in self.peeled.axes]
        strides = [coefficient(index, name) for name in own]
        span = bounds(substitute(index, dict.fromkeys(own, 0)), {a.name: a.extent for a in axes})
        if span is None or not all(isinstance(s, int) for s in (*strides, *span)):
            return None
        low, high = span
        return Share(tuple(strides), low, high - low + 1)  # type: ignore[arg-type]


def shared_stretch(members: Iterable[Member], memory: Memory) -> Share | None:
    """How all of these kernels access a memory; None if not by whole turns of the loops."""
    total: Share | None = None
    extents: tuple[Dim, ...] = ()
    for member in members:
        if memory in member.shares:
            share = member.shares[memory]
            total = share if total is None or share is None else total.joined(share)
            if total is None:
                return None
            extents = member.peeled.extents
    if total is None or not total.is_apart([e for e in extents if isinstance(e, int)]):
        return None
    return total


def as_one(members: Sequence[Member], kept: Mapping[Memory, Share], name: str) -> Built:
    """The kernels, in this order, as one. kept: memory that only they use, held for one turn at a time."""
    return _Fusion(members, kept).built(name)


class _Fusion:
    def __init__(self, members: Sequence[Member], kept: Mapping[Memory, Share]) -> None:
        self.members, self.kept = members, kept
        self.names = Names()
        self.axes = [self.names.axis(extent) for extent in members[0].peeled.extents]
        self.buffers: dict[Memory, str] = {}
        self.locals: list[Local] = []
        self._place_locals()
        self._name_buffers()

    def built(self, name: str) -> Built:
        levels: list[list[Statement]] = [[] for _ in range(len(self.axes) + 1)]
        for member in self.members:
            dims = {a.name: symbol(b.name) for a, b in zip(member.peeled.axes, self.axes, strict=True)}
            renewal = Renewal(self.names, lambda b, i, m=member: self._place(m, b, i), dims)  # type: ignore[misc]
            for level, part in zip(levels, (*member.peeled.before, member.peeled.body), strict=True):
                level += renewal.body(part)
        body: list[Statement] = [*self.locals, *levels.pop()]
        for axis in reversed(self.axes):
            body = [*levels.pop(), Loop(axis, "parallel", tuple(body))]
        kernel = Kernel(name, self._parameters(), (), tuple(body))
        memory = tuple(m for m, b in self._ordered())
        location = next((m.built.location for m in self.members if m.built.location), None)
        return Built(kernel, memory, any(m.built.checks for m in self.members), location)

    def _place(self, member: Member, buffer: str, index: Dim) -> tuple[str, Dim]:
        memory = member.memory[buffer]
        share = self.kept.get(memory)
        if share is not None:
            index = substitute(index, dict.fromkeys((a.name for a in self.axes), 0)) - share.low
        return self.buffers[memory], index

    def _place_locals(self) -> None:
        """Give scratch memory to what is kept; memory that is not needed any more is used again."""
        last = {m: at for at, member in enumerate(self.members) for m in member.memory.values()}
        done: set[Memory] = set()
        for at, member in enumerate(self.members):
            for memory in member.memory.values():
                if memory not in self.kept or memory in self.buffers:
                    continue
                old = next((o for o in self.buffers if self._may_take(o, memory, last, at, done)), None)
                if old is None:
                    local = Local(f"t{len(self.locals)}", dtype_of(memory), self.kept[memory].size)
                    self.locals.append(local)
                    self.buffers[memory] = local.name
                else:
                    done.add(old)
                    self.buffers[memory] = self.buffers[old]

    def _may_take(
        self, old: Memory, new: Memory, last: dict[Memory, int], at: int, done: set[Memory]
    ) -> bool:
        """Whether `new`, first used by the kernel number `at`, may lie where `old` lay."""
        alike = dtype_of(old) is dtype_of(new) and self.kept[old].size == self.kept[new].size
        if old in done or not alike or last[old] > at:
            return False
        member = self.members[at]
        names = {m: b for b, m in member.memory.items()}
        return last[old] < at or may_share(member.built.accesses, names[old], names[new])

    def _name_buffers(self) -> None:
        self._access: dict[Memory, str] = {}
        for member in self.members:
            for buffer, memory in zip(member.built.kernel.buffers, member.built.memory, strict=True):
                if memory not in self.kept:
                    before = self._access.get(memory, buffer.access)
                    self._access[memory] = buffer.access if before == "in" else before
        counts = {"x": 0, "y": 0, "t": len(self.locals)}
        for memory, access in self._access.items():
            letter = {"in": "x", "temp": "t"}.get(access, "y")
            self.buffers[memory] = f"{letter}{counts[letter]}"
            counts[letter] += 1

    def _ordered(self) -> list[tuple[Memory, str]]:
        return sorted(self._access.items(), key=lambda item: _ACCESS.index(item[1]))

    def _parameters(self) -> tuple[Buffer, ...]:
        return tuple(Buffer(self.buffers[m], dtype_of(m), size_of(m), a) for m, a in self._ordered())
