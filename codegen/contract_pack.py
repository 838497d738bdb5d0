"""Packing: the columns of a panel of the right operand copied to scratch memory, one row of the tile's
width per step.

Packed, a panel is read in one run whatever the operand's strides are, columns past the end are zeros or
repetitions (their sums are never stored), and neighbouring steps never compete for one cache set. Where the
sum's innermost axis is the contiguous one, squares are transposed in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..ir.dtypes import DType
from ..ir.kernel import VECTOR
from .context import Context, tail_mask
from .contract_turn import FETCH, columns_together, turning_function
from .indices import Value, splat
from .lanes import MEMORY, lane_mask, type_suffix, type_text
from .target import Target
from .text import Function, Module

#: Rows of a panel that are fetched beforehand: they may lie a page apart, which no prefetcher foresees.
_ROWS_AHEAD = 16


@dataclass(frozen=True)
class PackedAxis:
    """An axis of the sum: how often it steps, and the right operand's stride, in elements."""

    count: Value
    stride: Value


@dataclass(frozen=True)
class Panel:
    """What to pack. source: the address of its first element. column: stride from column to column.
    vectors: of 16 columns. valid: number of columns that exist, None if all do. ahead: bytes that are
    fetched beforehand where the sum's innermost axis is the contiguous one, 0 for none."""

    source: str
    column: Value
    vectors: int
    valid: Value | None
    axes: tuple[PackedAxis, ...]
    ahead: int = 0


def pack_panel(ctx: Context, dtype: DType, panel: Panel, destination: str) -> None:
    """Write the panel: one row of 16 * vectors elements for each step of the sum, in order, at
    `destination`. Up to SLACK rows more may be written."""
    _Packer(ctx, dtype, panel).run(destination)


class _Packer:
    def __init__(self, ctx: Context, dtype: DType, panel: Panel) -> None:
        self.ctx, self.f, self.panel = ctx, ctx.f, panel
        self.element, self.align = MEMORY[dtype], dtype.itemsize
        self.width = VECTOR * panel.vectors

    def run(self, destination: str) -> None:
        transposing = self.panel.column != 1 and self.panel.axes[-1].stride == 1
        inner = self._transpose_run if transposing else self._copy_run
        self._axis(0, self.panel.source, destination, inner)

    def _axis(self, axis: int, source: str, destination: str, inner: Callable[[str, str], str]) -> str:
        """Pack all steps of this axis and those inside it; the address after the last row written."""
        if axis == len(self.panel.axes) - 1:
            return inner(source, destination)
        this = self.panel.axes[axis]

        def turn(_: Value, places: list[str]) -> list[str]:
            after = self._axis(axis + 1, places[0], places[1], inner)
            return [self._step(places[0], this.stride), after]

        return self.ctx.loop(None, 0, this.count, 1, [("ptr", source), ("ptr", destination)], turn)[1]

    # Row by row.

    def _copy_run(self, source: str, destination: str) -> str:
        axis = self.panel.axes[-1]
        read = self._read_rows if self.panel.column == 1 else self._gather

        def turn(_: Value, places: list[str]) -> list[str]:
            if self.panel.column == 1:
                ahead = self._step(places[0], self._product(_ROWS_AHEAD, axis.stride))
                self.f.call("void", "llvm.prefetch.p0", ("ptr", ahead), *FETCH)
            for j in range(self.panel.vectors):
                self._store(read(places[0], j), self._step(places[1], VECTOR * j), VECTOR)
            return [self._step(places[0], axis.stride), self._step(places[1], self.width)]

        return self.ctx.loop(None, 0, axis.count, 1, [("ptr", source), ("ptr", destination)], turn)[1]

    def _read_rows(self, source: str, j: int) -> str:
        at = self._step(source, VECTOR * j)
        kind = type_text(self.element, VECTOR)
        mask = self._column_mask(j)
        return (
            self.f(f"load {kind}, ptr {at}, align {self.align}")
            if mask is None
            else self._masked(at, mask, VECTOR)
        )

    def _gather(self, source: str, j: int) -> str:
        kind = type_text(self.element, VECTOR)
        lanes = "<" + ", ".join(f"i64 {VECTOR * j + lane}" for lane in range(VECTOR)) + ">"
        steps = (
            f"splat (i64 {self.panel.column})"
            if isinstance(self.panel.column, int)
            else splat(self.f, "i64", self.panel.column)
        )
        offsets = self.f(f"mul <{VECTOR} x i64> {lanes}, {steps}")
        pointers = self.f(f"getelementptr {self.element}, ptr {source}, <{VECTOR} x i64> {offsets}")
        return self.f.call(
            kind, f"llvm.masked.gather.{type_suffix(self.element, VECTOR)}.v{VECTOR}p0",
            (f"<{VECTOR} x ptr>", pointers), ("i32", str(self.align)),
            (f"<{VECTOR} x i1>", self._column_mask(j) or lane_mask(VECTOR)), (kind, "zeroinitializer"),
        )  # fmt: skip

    def _column_mask(self, j: int) -> str | None:
        valid = self.panel.valid
        if valid is None or isinstance(valid, int) and valid >= VECTOR * (j + 1):
            return None
        left = valid - VECTOR * j if isinstance(valid, int) else self.f(f"sub i64 {valid}, {VECTOR * j}")
        return tail_mask(self.ctx, left)

    # Squares transposed in registers.

    def _transpose_run(self, source: str, destination: str) -> str:
        f, count, columns = self.f, self.panel.axes[-1].count, self.panel.valid
        together = columns_together(self.align)
        name = turning_function(f.module, self.element, self.align, self.panel.ahead)
        for first in range(0, self.width, together):
            exist = together if columns is None else self._left(columns, first)
            offset = self._product(first if columns is None else self._within(first), self.panel.column)
            f.do(
                f"call void @{name}(ptr {self._step(source, offset)}, ptr {self._step(destination, first)}, "
                f"i64 {self.panel.column}, i64 {exist}, i64 {count}, i64 {self.width})"
            )
        return self._step(destination, self._product(count, self.width))

    def _within(self, first: int) -> Value:
        """The column `first`, or the last one if it does not exist."""
        columns = self.panel.valid
        assert columns is not None
        if isinstance(columns, int):
            return min(first, columns - 1)
        return self._least(first, self.f(f"add i64 {columns}, -1"))

    def _left(self, count: Value, done: Value) -> Value:
        if isinstance(count, int) and isinstance(done, int):
            return count - done
        return count if done == 0 else self.f(f"sub i64 {count}, {done}")

    def _least(self, a: Value, b: Value) -> Value:
        return self.f.call("i64", "llvm.smin.i64", ("i64", str(a)), ("i64", str(b)))

    def _product(self, a: Value, b: Value) -> Value:
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        return 0 if a == 0 else self.f(f"mul i64 {a}, {b}")

    # Memory.

    def _masked(self, at: str, mask: str, width: int) -> str:
        kind = type_text(self.element, width)
        return self.f.call(
            kind, f"llvm.masked.load.{type_suffix(self.element, width)}.p0", ("ptr", at),
            ("i32", str(self.align)), (f"<{width} x i1>", mask), (kind, "zeroinitializer"),
        )  # fmt: skip

    def _store(self, value: str, at: str, width: int) -> None:
        self.f.do(f"store {type_text(self.element, width)} {value}, ptr {at}, align {self.align}")

    def _step(self, pointer: str, by: Value) -> str:
        return pointer if by == 0 else self.f(f"getelementptr {self.element}, ptr {pointer}, i64 {by}")


def square_of(target: Target) -> int:
    """Side of the squares transposed in registers: one of 16 takes 32 vector registers."""
    return VECTOR if target.vector_bytes == 64 else VECTOR // 2


def transposing_function(module: Module, element: str, align: int, square: int) -> str:
    """The name of the function (written on first use) that transposes one square:

    void(ptr from, ptr to, i64 stride, i64 rows, i64 steps, i64 to_stride)

    from: `rows` rows, `stride` elements apart, of `steps` elements; to: `square` rows. What is missing of a
    row reads as zero, a row that is missing repeats the last one (the first, if there is none). All of the
    square is written.
    """
    name = f"transpose_{element}_{square}"
    if not module.defined(name):
        integers = ("stride", "rows", "steps", "to_stride")
        parameters = [("ptr", "from"), ("ptr", "to"), *(("i64", n) for n in integers)]
        f = Function(module, name, parameters, result="void", attributes="noinline")
        kind = type_text(element, square)
        rows = _rows_of_square(f, element, align, square)
        for k, column in enumerate(transposed(f, element, rows)):
            to = f(f"getelementptr {element}, ptr %to, i64 {f(f'mul i64 %to_stride, {k}')}")
            f.do(f"store {kind} {column}, ptr {to}, align {align}")
        f.do("ret void")
        module.add(f)
    return name


def _rows_of_square(f: Function, element: str, align: int, square: int) -> list[str]:
    """The rows that the parameters of a transposing function describe."""
    kind, lanes = type_text(element, square), ", ".join(f"i64 {lane}" for lane in range(square))
    indices = type_text("i64", square)
    first = f(f"insertelement {indices} poison, i64 %steps, i64 0")
    steps = f(f"shufflevector {indices} {first}, {indices} poison, <{square} x i32> zeroinitializer")
    exist = f(f"icmp sgt {indices} {steps}, <{lanes}>")
    last = f.call("i64", "llvm.smax.i64", ("i64", f("add i64 %rows, -1")), ("i64", "0"))
    rows = []
    for r in range(square):
        row = f.call("i64", "llvm.smin.i64", ("i64", str(r)), ("i64", last))
        at = f(f"getelementptr {element}, ptr %from, i64 {f(f'mul i64 {row}, %stride')}")
        rows.append(
            f.call(
                kind, f"llvm.masked.load.{type_suffix(element, square)}.p0", ("ptr", at), ("i32", str(align)),
                (f"<{square} x i1>", exist), (kind, "zeroinitializer"),
            )
        )  # fmt: skip
    return rows


def transposed(f: Function, element: str, rows: Sequence[str]) -> list[str]:
    """The columns of a square of 8 or 16 vectors: blocks of 4 lanes are exchanged between every fourth row,
    then 4 x 4 squares are transposed within the blocks. Each shuffle is one cheap instruction for 32-bit
    elements."""
    n = len(rows)

    def pick(a: str, b: str, lanes: Sequence[int]) -> str:
        kind, listed = type_text(element, n), ", ".join(f"i32 {lane}" for lane in lanes)
        return f(f"shufflevector {kind} {a}, {kind} {b}, <{n} x i32> <{listed}>")

    def blocks(a: str, b: str, *chosen: int) -> str:
        return pick(a, b, [4 * block + lane for block in chosen for lane in range(4)])

    def within(a: str, b: str, *chosen: int) -> str:
        return pick(
            a,
            b,
            [block + (lane if lane < 4 else n + lane - 4) for block in range(0, n, 4) for lane in chosen],
        )

    by_block: list[list[str]] = [[] for _ in range(n // 4)]
    for i in range(4):
        for block, vector in enumerate(_exchanged(rows[i::4], blocks)):
            by_block[block].append(vector)
    columns = []
    for r0, r1, r2, r3 in by_block:
        low01, low23 = within(r0, r1, 0, 4, 1, 5), within(r2, r3, 0, 4, 1, 5)
        high01, high23 = within(r0, r1, 2, 6, 3, 7), within(r2, r3, 2, 6, 3, 7)
        for a, b in ((low01, low23), (high01, high23)):
            columns += [within(a, b, 0, 1, 4, 5), within(a, b, 2, 3, 6, 7)]
    return columns


def _exchanged(rows: Sequence[str], blocks: Callable[..., str]) -> list[str]:
    """For 2 or 4 vectors of as many blocks: vector i has block i of each."""
    if len(rows) == 2:
        return [blocks(*rows, 0, 2), blocks(*rows, 1, 3)]
    a, b, c, d = rows
    halves = [
        (blocks(a, b, 0, 1, 4, 5), blocks(c, d, 0, 1, 4, 5)),
        (blocks(a, b, 2, 3, 6, 7), blocks(c, d, 2, 3, 6, 7)),
    ]
    return [blocks(x, y, *chosen) for x, y in halves for chosen in ((0, 2, 4, 6), (1, 3, 5, 7))]
