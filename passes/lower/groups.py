"""Fusion groups: the operations of one loop nest, and which group depends on which.

A group has axes of its own; each member has one element per point of these axes ("full"), or, in a group of
kind `rows`, one per point of the leading `split` axes ("of a row"). `Axes.index_of` gives a member's index
over the axes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, KeysView
from dataclasses import dataclass, field
from functools import lru_cache

from ...ir import ops
from ...ir.expr import Dim, product, symbol
from ...ir.graph import Operation, Value
from .attributes import dims
from .index import Index, Shape, refined, reshaped

#: One loop nest over the results; elements are computed independently.
POINTWISE = "pointwise"
#: Loops over rows, with `lanes` reductions of each row and loops over its elements.
ROWS = "rows"
#: As pointwise, with other reductions in each element.
COLUMNS = "columns"
#: One contraction with what is computed from each element of its result.
CONTRACT = "contract"
#: Tiles put side by side, with what is computed from each element.
TILES = "tiles"
#: One operation that writes its result in parts or in order.
PARTS = "parts"
#: A copy that transposes, in tiles.
TURN = "turn"

_PARTS = (
    ops.scatter,
    ops.scatter_add,
    ops.update_slice,
    ops.as_strided_update,
    ops.cumsum,
    ops.concat,
    ops.into_tiles,
    ops.argsort,
    ops.check,
    ops.scan,
)


def kind_of(op: Operation) -> str:
    """The kind of the group that this operation begins."""
    if op.opdef in (ops.contract, ops.from_tiles):
        return CONTRACT if op.opdef is ops.contract else TILES
    if op.opdef.reduction and not is_blocked(op):
        return ROWS if op.attrs["order"] == "lanes" else COLUMNS
    if op.opdef is ops.fold:
        return COLUMNS
    return PARTS if op.opdef in _PARTS else POINTWISE


def is_blocked(op: Operation) -> bool:
    """Whether this is a reduction in order `blocks`: any group that runs through its rows can take it in."""
    return op.opdef.reduction and op.attrs["order"] == "blocks"


def is_free(op: Operation) -> bool:
    """Whether an operation only says where elements are, or what they are without computing: it needs no
    group unless its result has to lie in memory."""
    writes_part = op.opdef in (ops.update_slice, ops.as_strided_update)
    return (op.opdef.movement and not writes_part) or op.opdef in (ops.constant, ops.iota)


@dataclass(frozen=True)
class Axes:
    """The axes of a group. split: the number of those that count rows, None if there are no rows.

    blocked: for reductions in order `blocks`, the size of the axes before those reduced, and with them.
    """

    shape: Shape
    split: int | None = None
    blocked: tuple[Dim, Dim] | None = None

    @property
    def rows(self) -> Shape:
        return self.shape[: self.split]

    @property
    def numel(self) -> Dim:
        return product(self.shape)

    @property
    def counted(self) -> tuple[int, int]:
        """The axes (from, to) that are taken in blocks."""
        assert self.blocked is not None
        start, stop = (split_at(self.shape, (size,)) for size in self.blocked)
        assert start is not None and stop is not None
        return start, stop

    def index_of(self, shape: Shape) -> Index | None:
        """Where the axes point to in a member of this shape; None if such a member does not fit."""
        return _index_over(self, shape)

    @property
    def extents(self) -> dict[str, Dim]:
        """Of the symbols in the indices that `index_of` gives."""
        return {f"axis{a}": d for a, d in enumerate(self.shape)}


@dataclass(eq=False)
class Group:
    """members: operations in program order. number: its place in `Dependences`. interleaved: a member
    `interleaves`, so that the loops are written out for each phase; only a pointwise group can be so."""

    number: int
    kind: str
    axes: Axes
    members: list[Operation] = field(default_factory=list)
    interleaved: bool = False

    @property
    def anchor(self) -> Operation:
        """The operation that makes a group one of kind contract or parts."""
        return next(m for m in self.members if kind_of(m) == self.kind)


_SYMBOLS = [symbol(f"axis{a}") for a in range(64)]


@lru_cache(maxsize=4096)
def _index_over(axes: Axes, shape: Shape) -> Index | None:
    numel = product(shape)
    over = axes.shape
    if numel != axes.numel:
        if axes.split is None or numel != product(axes.rows):
            return None
        over = axes.rows
    at = tuple(0 if d == 1 else _SYMBOLS[a] for a, d in enumerate(over))
    index = reshaped(at, over, shape, axes.extents)
    return None if any(map(divides, index)) else index


def divides(dim: Dim) -> bool:
    """Whether a quotient or remainder is left in an index."""
    text = "" if isinstance(dim, int) else str(dim)
    return "//" in text or " % " in text


def split_at(shape: Shape, rows: Shape) -> int | None:
    """The number of leading axes of `shape` that together are `rows`; None if there is none."""
    want = product(rows)
    have: Dim = 1
    for a, d in enumerate(shape):
        if have == want:
            return a
        have = have * d
    return len(shape) if have == want else None


def joined(one: Axes, other: Axes) -> Axes | None:
    """Axes over which the members of two groups, neither a contraction, can be computed together."""
    shape = refined(one.shape, other.shape) if one.numel == other.numel else None
    if shape is None or 0 in shape:
        return None
    splits = {split_at(shape, a.rows) for a in (one, other) if a.split is not None}
    split = splits.pop() if splits else None
    if splits or (split is None and {one.split, other.split} != {None}):
        return None
    blocked = {a.blocked for a in (one, other) if a.blocked is not None}
    if len(blocked) > 1:
        return None
    axes = Axes(shape, split, next(iter(blocked), None))
    return axes if not blocked or _can_count(axes) else None


def _can_count(axes: Axes) -> bool:
    """Whether the axes are cut where blocks of rows begin and end, and a row is not more than is counted."""
    assert axes.blocked is not None
    start, stop = (split_at(axes.shape, (size,)) for size in axes.blocked)
    return start is not None and stop is not None and (axes.split is None or stop <= axes.split)


class Dependences:
    """Which group needs results of which, as bit sets, kept up to date while groups grow and merge."""

    def __init__(self) -> None:
        self._direct: list[set[int]] = []
        self._before: list[int] = []
        self._into: list[int] = []

    def new(self) -> int:
        """The number of a new group that depends on nothing."""
        self._direct.append(set())
        self._before.append(0)
        self._into.append(len(self._into))
        return len(self._into) - 1

    def depends(self, group: int, other: int) -> bool:
        """Whether `group` needs, directly or not, results of `other`."""
        return bool(self._before[group] >> other & 1)

    def accepts(self, group: int, needed: Iterable[int]) -> bool:
        """Whether no cycle arises if `group` is made to depend on these."""
        return not any(self.depends(g, group) for g in needed if g != group)

    def need(self, group: int, needed: Iterable[int]) -> None:
        """Make `group` depend on these."""
        new = 0
        for g in needed:
            if g != group:
                self._direct[group].add(g)
                new |= self._before[g] | 1 << g
        self._spread(group, new & ~self._before[group])

    def _spread(self, group: int, new: int) -> None:
        if new:
            self._before[group] |= new
            for later in range(len(self._before)):
                if self._before[later] >> group & 1:
                    self._before[later] |= new

    def can_merge(self, one: int, other: int) -> bool:
        """Whether no third group lies on a way from one to the other."""
        return not any(
            self.depends(between, first)
            for first, last in ((one, other), (other, one))
            for between in map(self.find, self._direct[last])
            if between not in (first, last)
        )

    def merge(self, gone: int, into: int) -> None:
        """Make two groups one, called `into`."""
        both = 1 << gone | 1 << into
        self._into[gone] = into
        self._direct[into] = {self.find(g) for g in self._direct[into] | self._direct[gone]} - {into}
        before = (self._before[into] | self._before[gone]) & ~both
        self._before[into] = before
        for later, bits in enumerate(self._before):
            if bits & both:
                self._before[later] = bits | before | both

    def find(self, group: int) -> int:
        """What a group is called after merging."""
        while self._into[group] != group:
            group = self._into[group]
        return group


def leaves_of(value: Value, stands: frozenset[Value] | set[Value] | KeysView[Value]) -> Iterable[Value]:
    """The values that a value is moved from: inputs, and those in `stands`, each once."""
    return [v for v in _sources(value, stands) if v.operation is None or v in stands]


def moves_of(op: Operation, stands: frozenset[Value] | set[Value] | KeysView[Value]) -> Iterator[Operation]:
    """The free operations through which an operation reads its operands, itself if it is one."""
    if is_free(op):
        yield op
    for x in op.operands:
        for v in _sources(x, stands):
            if v.operation is not None and v not in stands:
                yield v.operation


def interleaves(op: Operation, stands: frozenset[Value] | set[Value] | KeysView[Value]) -> bool:
    """Whether an operation reads something with gaps between the elements (the gradient of a strided
    slice): which of its operands counts then changes from element to element."""
    return any(
        m.opdef is ops.pad and any(gap != 0 for gap in dims(m, "interior")) for m in moves_of(op, stands)
    )


def _sources(value: Value, stands: frozenset[Value] | set[Value] | KeysView[Value]) -> Iterable[Value]:
    """The value and all that free operations move to it, down to the leaves."""
    seen: dict[Value, None] = {}
    pending = [value]
    while pending:
        v = pending.pop()
        if v not in seen:
            seen[v] = None
            if v.operation is not None and v not in stands:
                pending.extend(v.operation.operands)
    return seen
