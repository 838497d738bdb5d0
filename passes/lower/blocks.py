"""Row blocks: a nest whose scratch memory is too large for the cache takes a few rows of it at a time.

    local S[t*s]; S = q k'; softmax(S); o = S v    ->    serial b < t/r { local S[r*s]; the same for r rows }

Scratch memory of rows t apart (scores of a head) is cut along its rows, and with it the one axis of every
statement that runs over these rows. A contraction that sums over them adds a block to what it has: its
chains go on where they were, in the same order, from zeros. So every element is computed as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ...ir.dtypes import float32, float64
from ...ir.expr import Dim, coefficient, product, substitute, symbol, symbols_of
from ...ir.kernel import (
    Axis,
    Compute,
    Const,
    Contract,
    Index,
    Kernel,
    Load,
    Local,
    Loop,
    Reduce,
    Scalar,
    Statement,
    Store,
)  # fmt: skip
from ...ir.ops.ordered import CONTRACT_BLOCK
from ...ir.types import Literal
from .index import bounds
from .nest import Share
from .renew import Names, Renewal, touched

#: Rows of a block: a multiple of this, so that tiles are full.
UNIT = 8
#: Fewer rows than this are not worth a block: each packs the other operands anew.
LEAST = 16


def in_blocks(kernel: Kernel, room: int) -> Kernel | None:
    """The kernel with its scratch memory cut to about `room` bytes per turn of its loops; None if it can't
    be cut."""
    return _Blocks(kernel, room).cut()


class _Blocks:
    """large: the scratch memories that are cut, and how far apart their rows are. along: for each statement
    the axis over these rows."""

    def __init__(self, kernel: Kernel, room: int) -> None:
        self.kernel, self.room = kernel, room
        self.around: list[tuple[tuple[Statement, ...], Axis]] = []
        body = kernel.body
        while body and not any(isinstance(s, Local) for s in body) and isinstance(body[-1], Loop):
            self.around.append((body[:-1], body[-1].axis))
            body = body[-1].body
        self.locals = [s for s in body if isinstance(s, Local)]
        self.first = [s for s in body if isinstance(s, Compute | Const | Index | Load)]
        self.work = [s for s in body if isinstance(s, Loop | Contract)]
        self.whole = len(self.locals) + len(self.first) + len(self.work) == len(body)
        self.large: dict[str, int] = {}
        self.along: list[Axis] = []

    def cut(self) -> Kernel | None:
        rows = self._rows() if self.whole and self._find() else None
        return None if rows is None else self._written(rows)

    # What is cut.

    def _find(self) -> bool:
        """Find the scratch memories to be cut and each statement's axis; False if that can't be done."""
        limit = self.room // 8
        for local in self.locals:
            if local.size * local.dtype.itemsize > limit:
                reaches = [_steps(i, axes) for s in self.work for b, i, axes in _places(s) if b == local.name]
                if not reaches or any(not steps for steps in reaches):
                    return False
                self.large[local.name] = max(max(steps.values()) for steps in reaches)
        found = [self._axis_of(s) for s in self.work]
        self.along = [axis for axis in found if axis is not None]
        one = len(self.along) == len(found) and len({a.extent for a in self.along}) == 1
        return one and bool(self.large) and self._is_apart()

    def _axis_of(self, s: Loop | Contract) -> Axis | None:
        """The axis of a statement that runs over the rows of all large scratch memories in it."""
        own = (s.axis,) if isinstance(s, Loop) else (s.m, s.n, *s.over[:1])
        if isinstance(s, Loop) and s.kind != "parallel":
            return None
        names: set[str | None] = set()
        for buffer, index, axes in _places(s):
            if buffer in self.large:
                steps = _steps(index, axes)
                names.add(next((n for n, step in steps.items() if step == self.large[buffer]), None))
        if len(names) != 1:
            return None
        axis = next((a for a in own if a.name in names), None)
        if axis is None or isinstance(s, Contract) and axis in s.over and not _can_go_on(s):
            return None
        return axis

    def _is_apart(self) -> bool:
        """Whether a block of rows reads of other memory only what it has written itself."""
        shares: dict[str, Share | None] = {}
        written: set[str] = set()
        users: dict[str, set[int]] = {}
        for number, (s, along) in enumerate(zip(self.work, self.along, strict=True)):
            for buffer, index, axes in _places(s):
                if buffer in self.large:
                    continue
                users.setdefault(buffer, set()).add(number)
                new = _share(index, axes, along)
                old = shares.get(buffer, new)
                shares[buffer] = None if old is None or new is None else old.joined(new)
            written.update(_stored([s]))
        extent = self.along[0].extent
        for buffer in written - self.large.keys():
            share = shares.get(buffer)
            alone = len(users.get(buffer, ())) <= 1
            if not alone and (share is None or not isinstance(extent, int) or not share.is_apart([extent])):
                return False
        return True

    def _rows(self) -> int | None:
        """Rows of a block."""
        extent = self.along[0].extent
        sizes = {local.name: local.dtype.itemsize for local in self.locals}
        row = sum(step * sizes[name] for name, step in self.large.items())
        rows = self.room // row // UNIT * UNIT
        if not isinstance(extent, int) or rows < LEAST or rows >= extent:
            return None
        whole = [r for r in range(rows, rows // 2, -UNIT) if extent % r == 0]
        return whole[0] if whole else rows

    # Writing.

    def _written(self, rows: int) -> Kernel:
        names = Names()
        renewal = _Shifted(names, self.large)
        outside: list[tuple[tuple[Statement, ...], Axis]] = []
        for before, axis in self.around:
            outside.append((renewal.body(before), renewal.axis(axis)))
        body = [*self._scratch(rows), *renewal.body(self.first), *self._zeros(renewal)]
        extent = self.along[0].extent
        assert isinstance(extent, int)
        count, rest = divmod(extent, rows)
        block = names.axis(count)
        # Serial: sums go on from block to block, and all blocks use the same scratch memory.
        body.append(Loop(block, "serial", self._block(renewal, rows * symbol(block.name), rows)))
        if rest:
            body += self._block(renewal, rows * count, rest)
        for before, axis in reversed(outside):
            body = [*before, Loop(axis, "parallel", tuple(body))]
        return replace(self.kernel, body=tuple(body))

    def _scratch(self, rows: int) -> Iterable[Local]:
        for local in self.locals:
            step = self.large.get(local.name)
            yield local if step is None else replace(local, size=step * rows)

    @staticmethod
    def _goes_on(s: Loop | Contract, along: Axis) -> bool:
        return isinstance(s, Contract) and along in s.over

    def _zeros(self, renewal: Renewal) -> list[Statement]:
        """Zeros where chains that go on begin."""
        made: list[Statement] = []
        for s, along in zip(self.work, self.along, strict=True):
            if isinstance(s, Contract) and self._goes_on(s, along):
                (store,) = s.body
                assert isinstance(store, Store)
                zero = Scalar("zero", s.result.dtype)
                made += renewal.body([Const(zero, Literal.of(0, zero.dtype))])
                outer, inner = (s.m, s.n) if coefficient(store.index, s.n.name) == 1 else (s.n, s.m)
                clear = Store(store.buffer, store.index, zero)
                made += renewal.body([Loop(outer, "parallel", (Loop(inner, "vector", (clear,)),))])
        return made

    def _block(self, renewal: _Shifted, start: Dim, rows: int) -> tuple[Statement, ...]:
        """All statements for so many rows from `start` on."""
        made = []
        for s, along in zip(self.work, self.along, strict=True):
            renewal.shift(along.name, start)
            new = renewal.statement(_shortened(s, along, rows))
            if isinstance(new, Contract) and self._goes_on(s, along):
                (store,) = new.body
                assert isinstance(store, Store)
                new = replace(new, start=(store.buffer, store.index))
            made.append(new)
        return tuple(made)


class _Shifted(Renewal):
    """Renewal where one axis begins at a row of its own; in the memories `large`, of which only a block is
    there, it begins at zero."""

    def __init__(self, names: Names, large: dict[str, int]) -> None:
        super().__init__(names, self._within)
        self._large = large
        self._shifted: tuple[str, Dim] = ("", 0)

    def shift(self, name: str, start: Dim) -> None:
        """From here on the axis of this name begins at `start`."""
        self._shifted = (name, start)

    def axis(self, axis: Axis) -> Axis:
        new = super().axis(axis)
        if axis.name == self._shifted[0]:
            self.let(axis.name, symbol(new.name) + self._shifted[1])
        return new

    def _within(self, buffer: str, index: Dim) -> tuple[str, Dim]:
        step = self._large.get(buffer)
        return buffer, index if step is None else index - step * self._shifted[1]


def _shortened(s: Loop | Contract, along: Axis, rows: int) -> Statement:
    new = Axis(along.name, rows)
    if isinstance(s, Loop):
        return replace(s, axis=new)
    m, n, *over = (new if a is along else a for a in (s.m, s.n, *s.over))
    return replace(s, m=m, n=n, over=tuple(over))


def _can_go_on(s: Contract) -> bool:
    """Whether a contraction can sum over blocks: its sums are stored as they are, and are one superblock."""
    steps = product(axis.extent for axis in s.over)
    plain = len(s.body) == 1 and isinstance(s.body[0], Store) and not s.body[0].guards
    one = isinstance(steps, int) and steps <= CONTRACT_BLOCK
    return plain and one and s.result.dtype in (float32, float64) and s.start is None


def _places(s: Statement) -> list[tuple[str, Dim, tuple[Axis, ...]]]:
    return [(buffer, index, axes) for buffer, index, _, axes in touched([s])]


def _steps(index: Dim, axes: Sequence[Axis]) -> dict[str, int]:
    """How far a place moves with each of the axes around; nothing if that isn't known."""
    found = {axis.name: coefficient(index, axis.name) for axis in axes}
    return {n: c for n, c in found.items() if isinstance(c, int)} if None not in found.values() else {}


def _share(index: Dim, axes: Sequence[Axis], along: Axis) -> Share | None:
    step = coefficient(index, along.name)
    others = {a.name: a.extent for a in axes}
    names = {name for name in others if name != along.name}
    rest = substitute(index, {along.name: 0})
    outer = dict.fromkeys(symbols_of(rest) - names, 0)
    span = bounds(substitute(rest, outer), others)
    if not isinstance(step, int) or span is None or not all(isinstance(d, int) for d in span):
        return None
    low, high = span
    return Share((step,), low, high - low + 1)  # type: ignore[arg-type]


def _stored(statements: Iterable[Statement]) -> Iterable[str]:
    for s in statements:
        if isinstance(s, Store):
            yield s.buffer
        elif isinstance(s, Loop | Contract | Reduce):
            yield from _stored(s.body)
