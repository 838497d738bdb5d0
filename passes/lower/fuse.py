"""Fusion: which operations share a loop nest.

Movement, constants and iota belong to no group: whoever reads them computes an index. Every other operation
("homed") is put, in program order, into the group of one of its producers if it reads that group's members
at the very element that it computes, or into a group of its own; then its other producers' groups are
merged into that one where they fit. A step is legal if no cycle between groups arises
(`groups.Dependences`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...ir import ops
from ...ir.expr import product
from ...ir.graph import Graph, Operation, Value
from .attributes import ints
from .groups import (
    COLUMNS,
    CONTRACT,
    PARTS,
    POINTWISE,
    ROWS,
    TILES,
    TURN,
    Axes,
    Dependences,
    Group,
    interleaves,
    is_blocked,
    is_free,
    joined,
    kind_of,
    leaves_of,
)
from .index import Extents, Index, moved

#: Members of one group at most: code of more than this gains nothing and compiles slowly.
MOST_MEMBERS = 160


def fuse(graph: Graph, kept: set[Value], turned: set[Value]) -> list[Group]:
    """The groups, in no particular order. kept: values that have to lie in memory. turned: those of them
    that transpose."""
    fuser = Fuser(graph, kept, turned)
    for op in graph.operations:
        if fuser.is_homed(op):
            fuser.place(op)
    fuser.join_siblings()
    return [g for g in fuser.groups if g.members]


class Fuser:
    """Groups under construction. home: the group of each homed value."""

    def __init__(self, graph: Graph, kept: set[Value], turned: set[Value]) -> None:
        self._turned = turned
        self.groups: list[Group] = []
        self.home: dict[Value, Group] = {}
        self._stands = homed_values(graph, kept)
        self._dependences = Dependences()
        self._leaves: dict[Operation, tuple[Value, ...]] = {}
        self._position = {op: at for at, op in enumerate(graph.operations)}
        self._update_steps = update_steps(graph)

    def is_homed(self, op: Operation) -> bool:
        return not op.results or op.results[0] in self._stands

    def place(self, op: Operation) -> None:
        """Put an operation into a group, all before it having one."""
        self._leaves[op] = tuple(
            dict.fromkeys(leaf for x in op.operands for leaf in leaves_of(x, self._stands))
        )
        producers = self._producers(op)
        group = next((g for g in producers if self._joins(op, g)), None)
        if group is None:
            group = self._begin(op)
        group.members.append(op)
        group.interleaved |= group.kind == POINTWISE and interleaves(op, self._stands)
        for value in op.results:
            self.home[value] = group
        self._dependences.need(group.number, [g.number for g in producers])
        if kind_of(op) in (POINTWISE, ROWS):
            for other in producers:
                if other is not group:
                    self._merge(other, group)

    def _producers(self, op: Operation) -> list[Group]:
        """The groups whose values an operation reads, the latest first."""
        found = {g.number: g for leaf in self._leaves[op] if (g := self.home.get(leaf)) is not None}
        return sorted(found.values(), key=lambda g: -g.number)

    def _begin(self, op: Operation) -> Group:
        kind = kind_of(op) if self._turned.isdisjoint(op.results) else TURN
        if kind == ROWS:
            shape = op.operands[0].type.shape
            axes = Axes(shape, len(shape) - len(ints(op, "axes")))
        elif is_blocked(op):
            axes = _axes_in_blocks(op)
        else:
            axes = Axes(op.results[0].type.shape if op.results else ())
        group = Group(self._dependences.new(), kind, axes)
        self.groups.append(group)
        return group

    def _joins(self, op: Operation, group: Group) -> bool:
        """Make the group ready for an operation that may join it; False if it may not."""
        kind = kind_of(op)
        if kind not in (POINTWISE, ROWS) or len(group.members) >= MOST_MEMBERS:
            return False
        if group.kind in (PARTS, TURN) or not self._turned.isdisjoint(op.results):
            return False
        if op in self._update_steps and group.kind not in (POINTWISE, ROWS):
            return False
        plain = group.kind == POINTWISE and group.axes.blocked is None
        if group.interleaved and (kind == ROWS or is_blocked(op)):
            return False
        if not plain and interleaves(op, self._stands):
            return False
        if not self._dependences.accepts(group.number, [g.number for g in self._producers(op)]):
            return False
        if kind == ROWS or is_blocked(op):
            axes = self._axes_for_rows(op, group)
        else:
            axes = self._axes_for(op, group)
        if axes is None or not self._aligned(op, {group.number}, axes):
            return False
        if len({*_layouts((op,), axes), *_layouts(group.members, axes)}) > 1:
            return False
        group.axes = axes
        if kind == ROWS:
            group.kind = ROWS
        return True

    def _axes_for(self, op: Operation, group: Group) -> Axes | None:
        """The axes that a group needs to take an elementwise operation. A contraction's axes are its
        labels, which are not cut."""
        shape = op.result.type.shape
        if group.kind in (CONTRACT, TILES) or product(shape) != group.axes.numel:
            return group.axes
        return joined(group.axes, Axes(shape))

    def _axes_for_rows(self, op: Operation, group: Group) -> Axes | None:
        """The axes that a group needs to take a reduction of rows, or of blocks of rows."""
        shape = op.operands[0].type.shape
        if group.kind not in (POINTWISE, ROWS):
            return None
        if is_blocked(op):
            return joined(group.axes, _axes_in_blocks(op))
        return joined(group.axes, Axes(shape, len(shape) - len(op.attrs["axes"])))  # type: ignore[arg-type]

    def _aligned(self, op: Operation, numbers: set[int], axes: Axes) -> bool:
        """Whether an operation, over these axes, reads members of the groups `numbers` at its own element
        only."""
        index = axes.index_of(_own(op).type.shape)
        if index is None:
            return False
        for leaf, at in self._reads(op, index, axes.extents):
            home = self.home.get(leaf)
            if home is None or home.number not in numbers:
                continue
            late = leaf.operation is not None and is_blocked(leaf.operation)
            if late or at is None or at != axes.index_of(leaf.type.shape):
                return False
        return True

    def _reads(self, op: Operation, index: Index, extents: Extents) -> Iterator[tuple[Value, Index | None]]:
        """What an operation reads to compute the element at an index (a row reduction: to take in the
        element of its operand): (value, index or None if that isn't one plain element)."""
        if op.opdef is ops.gather:
            x, *indices = op.operands
            rank = indices[0].type.rank
            yield from self._behind(x, None, extents)
            for i in indices:
                yield from self._behind(i, index[:rank], extents)
        elif is_free(op):
            yield from self._through(op, index, extents)
        else:
            for x in op.operands:
                yield from self._behind(x, index, extents)

    def _behind(
        self, value: Value, index: Index | None, extents: Extents
    ) -> Iterator[tuple[Value, Index | None]]:
        while value.operation is not None and value not in self._stands:
            op = value.operation
            if len(op.operands) != 1:
                yield from self._through(op, index, extents)
                return
            index = None if index is None else moved(op, index, extents)
            value = op.operands[0]
        yield value, index

    def _through(
        self, op: Operation, index: Index | None, extents: Extents
    ) -> Iterator[tuple[Value, Index | None]]:
        below = None if index is None or not op.operands else moved(op, index, extents)
        for x in op.operands:
            yield from self._behind(x, below, extents)

    # Merging.

    def _merge(self, gone: Group, into: Group) -> None:
        """Make two groups one, if they fit."""
        axes = self._axes_together(gone, into)
        if axes is None or not self._dependences.can_merge(gone.number, into.number):
            return
        if len({*_layouts(gone.members, axes), *_layouts(into.members, axes)}) > 1:
            return
        numbers = {gone.number, into.number}
        if not all(self._member_fits(m, g, numbers, axes) for g in (gone, into) for m in g.members):
            return
        into.kind = max(gone.kind, into.kind, key=lambda kind: kind != POINTWISE)
        into.axes = axes
        into.interleaved |= gone.interleaved
        into.members = sorted(into.members + gone.members, key=self._position.__getitem__)
        gone.members = []
        for member in into.members:
            self.home.update(dict.fromkeys(member.results, into))
        self._dependences.merge(gone.number, into.number)

    def _axes_together(self, one: Group, other: Group) -> Axes | None:
        """The axes of the group that both would make, None if their kinds or sizes do not fit."""
        kinds = {one.kind, other.kind}
        members = one.members + other.members
        if kinds & {PARTS, TURN} or len(members) > MOST_MEMBERS:
            return None
        in_blocks = one.axes.blocked is not None or other.axes.blocked is not None
        if kinds & {CONTRACT, TILES, COLUMNS} and (
            POINTWISE not in kinds or in_blocks or not self._update_steps.isdisjoint(members)
        ):
            return None
        if (kinds != {POINTWISE} or in_blocks) and (one.interleaved or other.interleaved):
            return None
        fixed = next((g.axes for g in (one, other) if g.kind in (CONTRACT, TILES)), None)
        return joined(one.axes, other.axes) if fixed is None else fixed

    def _member_fits(self, op: Operation, group: Group, numbers: set[int], axes: Axes) -> bool:
        """Whether a member of one of the groups to be merged can be computed over the common axes."""
        leaves = (self.home.get(leaf) for leaf in self._leaves[op])
        if any(home is not None and home is not group and home.number in numbers for home in leaves):
            return kind_of(op) in (POINTWISE, ROWS) and self._aligned(op, numbers, axes)
        return not op.results or axes.index_of(_own(op).type.shape) is not None

    def join_siblings(self) -> None:
        """Merge groups that run through the same memory: where rows are reduced, and where blocks of rows
        are."""
        readers: dict[Value, list[Group]] = {}
        for op, leaves in self._leaves.items():
            group = self.home[op.results[0]] if op.results else None
            if group is None or group.kind not in (POINTWISE, ROWS):
                continue
            for leaf in leaves:
                if leaf.type.numel == group.axes.numel:
                    readers.setdefault(leaf, []).append(group)
        for groups in readers.values():
            self._join_readers(list(dict.fromkeys(groups)))

    def _join_readers(self, groups: list[Group]) -> None:
        for at, into in enumerate(groups):
            for other in groups[at + 1 :]:
                if into.members and other.members and into is not other and _gain_together(into, other):
                    self._merge(other, into)


def _gain_together(one: Group, other: Group) -> bool:
    """Whether two groups that read the same rows had better do so together."""
    blocked = one.axes.blocked is not None or other.axes.blocked is not None
    return blocked or one.kind == other.kind == ROWS


def _own(op: Operation) -> Value:
    """The value of which an operation takes, or makes, an element at each point of its group's axes."""
    return op.operands[0] if kind_of(op) == ROWS or is_blocked(op) else op.result


def _axes_in_blocks(op: Operation) -> Axes:
    """The axes of a group with this reduction."""
    shape, axes = op.operands[0].type.shape, ints(op, "axes")
    before = product(shape[: axes[0]])
    return Axes(shape, None, (before, before * product(shape[a] for a in axes)))


def _layouts(members: Sequence[Operation], axes: Axes) -> set[bool]:
    """Whether members with an element per point of the axes lie in row-major order."""
    whole = (v for op in members for v in op.results if v.type.numel == axes.numel)
    return {value.strides is None for value in whole}


def homed_values(graph: Graph, kept: set[Value]) -> set[Value]:
    """The results that groups compute: of all operations that aren't free, and those in `kept`."""
    return {v for op in graph.operations if not is_free(op) for v in op.results} | {
        v for v in kept if v.operation
    }


def update_steps(graph: Graph) -> set[Operation]:
    """The elementwise operations that serve only to update inputs, element by element: they read the old
    contents, or all their users are such. The updates of all inputs go into one kernel, and not into
    contractions that other kernels would have to wait for. Nor would it pay: an Adam step within the tiles of
    its gradient's product reads three more arrays by short rows. Measured against two kernels, the gradient
    kept (or not): 784 x 512 over 64 rows 20 % slower (as fast), over 512 rows 4.5 (1) % slower, 512 x 128
    over 768 rows 0.7 (2) % faster."""
    updated = {x for x, _ in graph.updates}
    new = {v for _, v in graph.updates}
    steps: set[Operation] = set()
    for op in reversed(graph.operations):
        if not op.opdef.elementwise or op.result.type.numel == 1:
            continue
        users = graph.users(op.result)
        reads_old = any(x in updated for x in op.operands)
        serves = bool(users or op.result in new) and all(u in steps for u in users)
        if reads_old or (serves and op.result not in graph.outputs):
            steps.add(op)
    return steps
