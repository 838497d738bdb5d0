"""Writes reductions in order `blocks`: over many rows, beside whatever else a group computes of each row.

The rows are taken in blocks of 128, which are independent of each other. A block's running results, one for
each element of a row, lie in the memory of the result and stay in the cache while the block's rows are read
one after the other, as they lie in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...ir import ops
from ...ir.expr import Dim, floordiv, mod, product
from ...ir.graph import Operation
from ...ir.kernel import Scalar
from ...ir.opdef import OpDef
from ...ir.ops.ordered import ROW_BLOCK
from ...ir.ops.reduction import blocks_of, identity
from ...ir.types import row_major_strides
from .build_pointwise import member_index, needed
from .groups import Group, is_blocked
from .index import Index, linear, reshaped, unravelled
from .stores import Stores
from .writer import KernelWriter

#: How a running result takes in an element.
COMBINE: dict[OpDef, OpDef] = {
    ops.reduce_sum: ops.add,
    ops.reduce_prod: ops.mul,
    ops.reduce_max: ops.maximum,
    ops.reduce_min: ops.minimum,
}

#: So many rows run together in a pointwise group: the running results are loaded and stored once for all.
MOST_TOGETHER = 8
#: Operations written out for the rows that run together, at most.
MOST_WRITTEN = 64

#: Writes the bodies of rows that run together, given their indices.
WriteRows = Callable[["Running", Sequence[Index]], None]


class Running:
    """The running results of the current block. lead: the index of the axes before the rows."""

    def __init__(self, writer: KernelWriter, group: Group, lead: Index, block: Dim) -> None:
        self._writer = writer
        self._group = group
        self._at = (*lead, block)
        self.ops = [op for op in group.members if is_blocked(op)]

    def begin(self) -> None:
        """Start from no rows."""
        start, stop = self._group.axes.counted
        with self._writer.loops(self._group.axes.shape[stop:], "vector") as inner:
            for op in self.ops:
                dtype = op.result.type.dtype
                self.store(op, inner, self._writer.constant(identity(op.opdef, dtype.numpy), dtype))

    def load(self, op: Operation, inner: Index) -> Scalar:
        """The running result for an element of the rows."""
        return self._writer.load_again(op.result, self._place(op, inner))

    def store(self, op: Operation, inner: Index, scalar: Scalar) -> None:
        """Change it."""
        self._writer.store(op.result, self._place(op, inner), scalar)

    def take(self, index: Index) -> None:
        """Take in an element of all values that are reduced."""
        _, stop = self._group.axes.counted
        for op in self.ops:
            self.store(op, index[stop:], self.joined(op, self.load(op, index[stop:]), index))

    def joined(self, op: Operation, before: Scalar, index: Index) -> Scalar:
        """A running result with the element at an index of the group's axes taken in."""
        (x,) = op.operands
        at = member_index(self._group.axes, index, x.type.shape, self._writer)
        return self._writer.compute(COMBINE[op.opdef], before, self._writer.read(x, at))

    def _place(self, op: Operation, inner: Index) -> Dim:
        axes, shape = self._group.axes, op.result.type.shape
        start, stop = axes.counted
        have = (*axes.shape[:start], blocks_of(product(axes.shape[start:stop])), *axes.shape[stop:])
        index = reshaped((*self._at, *inner), have, shape, self._writer.extents)
        return linear(index, row_major_strides(shape))


def write_blocks(writer: KernelWriter, group: Group, together: int, write: WriteRows) -> None:
    """The loops over blocks, and over the rows in them, `together` at a time; the last block may be
    shorter."""
    shape = group.axes.shape
    start, stop = group.axes.counted
    count = product(shape[start:stop])
    whole, rest = floordiv(count, ROW_BLOCK), mod(count, ROW_BLOCK)

    def block(lead: Index, number: Dim, length: Dim) -> None:
        running = Running(writer, group, lead, number)
        running.begin()
        full = floordiv(length, together)
        for turns, size, first in ((full, together, 0), (length - full * together, 1, full * together)):
            if turns != 0:
                with writer.loop("serial", turns) as turn:
                    rows = [number * ROW_BLOCK + first + turn * size + k for k in range(size)]
                    write(running, [(*lead, *unravelled(r, shape[start:stop], writer.extents)) for r in rows])

    with writer.loops(shape[:start], "parallel") as lead:
        if whole != 0:
            with writer.loop("parallel", whole) as number:
                block(lead, number, ROW_BLOCK)
        if rest != 0:
            with writer.loop("parallel", blocks_of(count) - whole) as more:
                block(lead, whole + more, rest)


def build_blocks(writer: KernelWriter, group: Group, stores: Stores) -> None:
    """Write a pointwise group with such reductions."""
    stored = [v for v in stores.of_group(group) if v.operation is None or not is_blocked(v.operation)]
    members = [op for op in needed(group, stores, stores.of_group(group)) if not is_blocked(op)]
    _, stop = group.axes.counted

    def write(running: Running, rows: Sequence[Index]) -> None:
        with writer.loops(group.axes.shape[stop:], "vector") as inner:
            totals = [running.load(op, inner) for op in running.ops]
            for row in rows:
                index = (*row, *inner)
                for op in members:
                    writer.read(op.result, member_index(group.axes, index, op.result.type.shape, writer))
                totals = [running.joined(op, t, index) for op, t in zip(running.ops, totals, strict=True)]
                for value in stored:
                    at = member_index(group.axes, index, value.type.shape, writer)
                    writer.store_element(value, at, writer.read(value, at))
            for op, total in zip(running.ops, totals, strict=True):
                running.store(op, inner, total)

    together = MOST_TOGETHER
    while together > 1 and together * len(group.members) > MOST_WRITTEN:
        together //= 2
    write_blocks(writer, group, together, write)
