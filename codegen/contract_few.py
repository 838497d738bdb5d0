"""The micro-kernel for few rows and a right operand with contiguous columns, which is read once as it lies.

A register tile would read a few cache lines of each row, rows often a page apart. Here a panel is up to 2048
columns wide and eight steps are taken at a time, so memory is read in long runs; the chains wait in
first-level cache. (An operand that lies along the sum is packed in small pieces instead, `contract_panel`.)
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.dtypes import DType
from ..ir.kernel import VECTOR
from .contract_tile import Layout, Tile, TileWriter, kernel_name
from .indices import Value
from .lanes import lane_mask, type_suffix
from .text import Module

_STEPS = 8  # steps that a streamed panel takes at a time


def streamed_kernel(module: Module, dtype: DType, tile: Tile, layout: Layout, valid: int) -> str:
    """The kernel for a right operand with contiguous columns. valid: columns that exist; the sums of others
    are left as they are, or 0."""
    name = kernel_name("streamed", dtype, tile, layout) + f"_{valid}"
    if not module.defined(name):
        module.add(_Streamed(module, name, dtype, tile, layout, valid).function())
    return name


class _Streamed(TileWriter):
    def __init__(
        self, module: Module, name: str, dtype: DType, tile: Tile, layout: Layout, valid: int
    ) -> None:
        super().__init__(module, name, dtype, tile, layout)
        self.valid = valid

    def start(self) -> list[str]:
        """The sums stay in memory; zeros unless the chains go on."""

        def clear() -> list[str]:
            self.f.loop(0, self.tile.rows * self.tile.columns, VECTOR, [], zero)
            return []

        def zero(at: str, _: list[str]) -> list[str]:
            self.f.do(f"store {self.vector} zeroinitializer, ptr {self.step('%out', at)}, align {self.align}")
            return []

        self.f.when(self.f("xor i1 %more, true"), clear)
        return []

    def innermost(self, lhs: str, rhs: str, sums: Sequence[str]) -> list[str]:
        f, count, last = self.f, self.counts[-1], self.axes - 1
        whole = f(f"and i64 {count}, {-_STEPS}")

        def steps(number: int, places: list[str]) -> list[str]:
            a, b = places
            scalars: list[list[str]] = []
            starts: list[str] = []
            for _ in range(number):
                scalars.append([self.broadcast(self.step(a, row)) for row in self.rows])
                starts.append(b)
                a, b = self.step(a, self.strides[f"a{last}"]), self.step(b, self.strides[f"b{last}"])
            self._all_columns(scalars, starts)
            return [a, b]

        after = f.loop(
            0, whole, _STEPS, [("ptr", lhs), ("ptr", rhs)], lambda _, places: steps(_STEPS, places)
        )
        f.loop(whole, count, 1, [("ptr", place) for place in after], lambda _, places: steps(1, places))
        return []

    def _all_columns(self, scalars: list[list[str]], starts: list[str]) -> None:
        """Some steps for every column. scalars: the left operand, by step and row. starts: the first column
        of each step."""
        whole = self.valid - self.valid % VECTOR

        def columns(at: str, _: list[str]) -> list[str]:
            self._columns(scalars, starts, at, None)
            return []

        self.f.loop(0, whole, VECTOR, [], columns)
        if self.valid % VECTOR:
            self._columns(scalars, starts, whole, lane_mask(self.valid % VECTOR))

    def _columns(self, scalars: list[list[str]], starts: list[str], at: Value, mask: str | None) -> None:
        out = [self.step(self.step("%out", i * self.tile.columns), at) for i in range(self.tile.rows)]
        sums = [self._read(place, mask) for place in out]
        for row_of, start in zip(scalars, starts, strict=True):
            column = self._read(self.step(start, at), mask)
            sums = [
                self.multiply_add(self.lanes, x, column, total) for x, total in zip(row_of, sums, strict=True)
            ]
        for place, total in zip(out, sums, strict=True):
            self._write(total, place, mask)

    def _write(self, value: str, place: str, mask: str | None) -> None:
        if mask is None:
            self.f.do(f"store {self.vector} {value}, ptr {place}, align {self.align}")
            return
        self.f.call(
            "void", f"llvm.masked.store.{type_suffix(self.element, VECTOR)}.p0", (self.vector, value),
            ("ptr", place), ("i32", str(self.align)), (f"<{VECTOR} x i1>", mask),
        )  # fmt: skip

    def _read(self, place: str, mask: str | None) -> str:
        if mask is None:
            return self.f(f"load {self.vector}, ptr {place}, align {self.align}")
        return self.f.call(
            self.vector, f"llvm.masked.load.{type_suffix(self.element, VECTOR)}.p0", ("ptr", place),
            ("i32", str(self.align)), (f"<{VECTOR} x i1>", mask), (self.vector, "zeroinitializer"),
        )  # fmt: skip
