"""Packing: the columns of a panel of the right operand copied to scratch memory, one row of the tile's width per step.

Packed, a panel is read in one run whatever the operand's strides are, columns past the end are zeros or repetitions (their sums are never
stored), and neighbouring steps never compete for one cache set. Where the sum's innermost axis is the contiguous one,
squares are transposed in registers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..ir.dtypes import DType
from ..ir.kernel import VECTOR
from .context import Context, tail_mask
from .indices import Value, splat
from .lanes import MEMORY, lane_mask, type_suffix, type_text

#: Rows that packing may write beyond the last step.
SLACK = VECTOR


@dataclass(frozen=True)
class PackedAxis:
    """An axis of the sum: how often it steps, and the right operand's stride, in elements."""

    count: Value
    stride: Value


@dataclass(frozen=True)
class Panel:
    """What to pack. source: the address of its first element. column: stride from column to column. vectors: of 16 columns.
    valid: number of columns that exist, None if all do."""

    source: str
    column: Value
    vectors: int
    valid: Value | None
    axes: tuple[PackedAxis, ...]


def pack_panel(ctx: Context, dtype: DType, panel: Panel, destination: str) -> None:
    """Write the panel: one row of 16 * vectors elements for each step of the sum, in order, at `destination`."""
    _Packer(ctx, dtype, panel).run(destination)


class _Packer:
    def __init__(self, ctx: Context, dtype: DType, panel: Panel) -> None:
        self.ctx, self.f, self.panel = ctx, ctx.f, panel
        self.element, self.align = MEMORY[dtype], dtype.itemsize
        self.width = VECTOR * panel.vectors
        # squares of 16 need 32 vector registers
        self.square = VECTOR if ctx.target.vector_bytes == 64 else VECTOR // 2

    def run(self, destination: str) -> None:
        transposing = self.panel.column != 1 and self.panel.axes[-1].stride == 1
        inner = self._transpose_run if transposing else self._copy_run
        if transposing:
            self._rows = self._row_offsets()
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
            for j in range(self.panel.vectors):
                self._store(read(places[0], j), self._step(places[1], VECTOR * j), VECTOR)
            return [self._step(places[0], axis.stride), self._step(places[1], self.width)]

        return self.ctx.loop(None, 0, axis.count, 1, [("ptr", source), ("ptr", destination)], turn)[1]

    def _read_rows(self, source: str, j: int) -> str:
        at = self._step(source, VECTOR * j)
        kind = type_text(self.element, VECTOR)
        mask = self._column_mask(j)
        return self.f(f"load {kind}, ptr {at}, align {self.align}") if mask is None else self._masked(at, mask, VECTOR)

    def _gather(self, source: str, j: int) -> str:
        kind = type_text(self.element, VECTOR)
        lanes = "<" + ", ".join(f"i64 {VECTOR * j + lane}" for lane in range(VECTOR)) + ">"
        steps = f"splat (i64 {self.panel.column})" if isinstance(self.panel.column, int) else splat(self.f, "i64", self.panel.column)
        offsets = self.f(f"mul <{VECTOR} x i64> {lanes}, {steps}")
        pointers = self.f(f"getelementptr {self.element}, ptr {source}, <{VECTOR} x i64> {offsets}")
        return self.f.call(
            kind, f"llvm.masked.gather.{type_suffix(self.element, VECTOR)}.v{VECTOR}p0", (f"<{VECTOR} x ptr>", pointers),
            ("i32", str(self.align)), (f"<{VECTOR} x i1>", self._column_mask(j) or lane_mask(VECTOR)),
            (kind, "zeroinitializer"),
        )  # fmt: skip

    def _column_mask(self, j: int) -> str | None:
        valid = self.panel.valid
        if valid is None or isinstance(valid, int) and valid >= VECTOR * (j + 1):
            return None
        left = valid - VECTOR * j if isinstance(valid, int) else self.f(f"sub i64 {valid}, {VECTOR * j}")
        return tail_mask(self.ctx, left)

    # Squares transposed in registers.

    def _row_offsets(self) -> list[Value]:
        """Elements from the first column to each; a column past the end repeats the last one that exists."""
        offsets: list[Value] = []
        for c in range(self.width):
            column: Value = c
            valid = self.panel.valid
            if isinstance(valid, int):
                column = min(c, valid - 1)
            elif valid is not None:
                last = self.f(f"add i64 {valid}, -1")
                column = self.f.call("i64", "llvm.smin.i64", ("i64", str(c)), ("i64", last))
            offsets.append(self._product(column, self.panel.column))
        return offsets

    def _product(self, a: Value, b: Value) -> Value:
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        return 0 if a == 0 else self.f(f"mul i64 {a}, {b}")

    def _transpose_run(self, source: str, destination: str) -> str:
        count, square = self.panel.axes[-1].count, self.square
        if isinstance(count, int):
            whole: Value = count // square * square
            rest: Value = count % square
        else:
            whole, rest = self.f(f"and i64 {count}, {-square}"), self.f(f"and i64 {count}, {square - 1}")

        def turn(k: Value, places: list[str]) -> list[str]:
            self._squares(self._step(source, k), places[0], None)
            return [self._step(places[0], square * self.width)]

        (end,) = self.ctx.loop(None, 0, whole, square, [("ptr", destination)], turn)
        if rest != 0:
            at = self._step(source, whole)

            def last() -> list[str]:
                self._squares(at, end, rest)
                return []

            if isinstance(rest, int):
                last()
            else:
                self.ctx.when(self.f(f"icmp sgt i64 {rest}, 0"), last)
            rows = self.width * rest if isinstance(rest, int) else self.f(f"mul i64 {rest}, {self.width}")
            end = self._step(end, rows)
        return end

    def _squares(self, source: str, destination: str, steps: Value | None) -> None:
        """Transpose `square` steps of all columns; steps: how many of them exist."""
        for first in range(0, self.width, self.square):
            rows = [self._load_row(self._step(source, self._rows[first + r]), steps) for r in range(self.square)]
            for k, column in enumerate(transposed(self.ctx, self.element, rows)):
                self._store(column, self._step(destination, k * self.width + first), self.square)

    def _load_row(self, at: str, steps: Value | None) -> str:
        if steps is None:
            return self.f(f"load {type_text(self.element, self.square)}, ptr {at}, align {self.align}")
        mask = tail_mask(self.ctx, steps)
        if self.square < VECTOR:
            first = ", ".join(f"i32 {lane}" for lane in range(self.square))
            kind = f"<{VECTOR} x i1>"
            mask = self.f(f"shufflevector {kind} {mask}, {kind} poison, <{self.square} x i32> <{first}>")
        return self._masked(at, mask, self.square)

    # Memory.

    def _masked(self, at: str, mask: str, width: int) -> str:
        kind = type_text(self.element, width)
        return self.f.call(
            kind, f"llvm.masked.load.{type_suffix(self.element, width)}.p0", ("ptr", at), ("i32", str(self.align)),
            (f"<{width} x i1>", mask), (kind, "zeroinitializer"),
        )  # fmt: skip

    def _store(self, value: str, at: str, width: int) -> None:
        self.f.do(f"store {type_text(self.element, width)} {value}, ptr {at}, align {self.align}")

    def _step(self, pointer: str, by: Value) -> str:
        return pointer if by == 0 else self.f(f"getelementptr {self.element}, ptr {pointer}, i64 {by}")


def transposed(ctx: Context, element: str, rows: list[str]) -> list[str]:
    """The columns of a square of vectors: log2(n) rounds that exchange the off-diagonal blocks of pairs of rows."""
    n = len(rows)
    kind = type_text(element, n)
    half = n // 2
    while half:
        low = ", ".join(f"i32 {lane if lane & half == 0 else lane - half + n}" for lane in range(n))
        high = ", ".join(f"i32 {lane + half if lane & half == 0 else lane + n}" for lane in range(n))
        following = list(rows)
        for r in range(n):
            if r & half == 0:
                a, b = rows[r], rows[r + half]
                following[r] = ctx.f(f"shufflevector {kind} {a}, {kind} {b}, <{n} x i32> <{low}>")
                following[r + half] = ctx.f(f"shufflevector {kind} {a}, {kind} {b}, <{n} x i32> <{high}>")
        rows, half = following, half // 2
    return rows
