"""Packing of columns that lie along the sum: a few columns at a time are transposed on the way.

A cache line of each column at a time, then blocks of 16 bytes, then single steps. A register holds a block of
each of two columns, so it is filled by two loads and what is left of the transposition are shuffles within
blocks. As only eight lines are in use at once, one set of the first-level cache holds them however far
columns lie apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .indices import Value
from .lanes import type_text
from .text import Function, Module

_LINE = 64
#: llvm.prefetch: for reading, into the second-level cache, of data.
FETCH = (("i32", "0"), ("i32", "2"), ("i32", "1"))


def columns_together(itemsize: int) -> int:
    """Columns that `turning_function` takes at a time: as many lanes as 32 bytes have, at most 8."""
    return min(8, 32 // itemsize)


def turning_function(module: Module, element: str, align: int, ahead: int) -> str:
    """The name of the function (written on first use) that packs some columns, each contiguous:

    void(ptr from, ptr to, i64 stride, i64 columns, i64 steps, i64 to_stride)

    from: `columns` columns, `stride` elements apart, of `steps` elements; to: a row per step. A column that
    is missing repeats the last one (the first, if there is none). ahead: bytes to fetch beforehand.
    """
    name = f"turn_{element}_{ahead}"
    if not module.defined(name):
        module.add(_Turning(module, name, element, align, ahead).f)
    return name


class _Turning:
    """Writes a turning function."""

    def __init__(self, module: Module, name: str, element: str, align: int, ahead: int) -> None:
        integers = ("stride", "columns", "steps", "to_stride")
        parameters = [("ptr", "from"), ("ptr", "to"), *(("i64", n) for n in integers)]
        self.f = f = Function(module, name, parameters, result="void", attributes="noinline")
        self.element, self.align, self.ahead = element, align, ahead
        self.width = columns_together(align)
        self.block = self.width // 2
        self.vector = type_text(element, self.width)
        last = f.call("i64", "llvm.smax.i64", ("i64", f("add i64 %columns, -1")), ("i64", "0"))
        numbers = (f.call("i64", "llvm.smin.i64", ("i64", str(c)), ("i64", last)) for c in range(self.width))
        columns = [self._step("%from", f(f"mul i64 {n}, %stride")) for n in numbers]
        done: int | str = 0
        to = "%to"
        for step, body in ((_LINE // align, self._line), (self.block, self._blocks), (1, self._single)):
            until = f(f"and i64 %steps, {-step}") if step > 1 else "%steps"
            to = self._each(done, until, step, columns, to, body)
            done = until
        f.do("ret void")

    def _each(
        self, start: int | str, stop: str, step: int, columns: Sequence[str], to: str,
        body: Callable[[list[str], str, int], str],
    ) -> str:  # fmt: skip
        """body(columns, to, step), which gives the place after the rows written, every `step` steps."""

        def turn(at: str, places: list[str]) -> list[str]:
            return [body([self._step(c, at) for c in columns], places[0], step)]

        return self.f.loop(start, stop, step, [("ptr", to)], turn)[0]

    def _line(self, columns: list[str], to: str, step: int) -> str:
        if self.ahead:
            for column in columns:
                at = self.f(f"getelementptr i8, ptr {column}, i64 {self.ahead}")
                self.f.call("void", "llvm.prefetch.p0", ("ptr", at), *FETCH)
        return self._blocks(columns, to, step)

    def _blocks(self, columns: list[str], to: str, step: int) -> str:
        half, kind = self.block, type_text(self.element, self.block)
        listed = ", ".join(f"i32 {lane}" for lane in range(self.width))
        for first in range(0, step, half):
            rows = []
            for i in range(half):
                low, high = (
                    self.f(f"load {kind}, ptr {self._step(columns[c], first)}, align {self.align}")
                    for c in (i, i + half)
                )
                rows.append(
                    self.f(f"shufflevector {kind} {low}, {kind} {high}, <{self.width} x i32> <{listed}>")
                )
            for row in self._turned(rows):
                to = self._put(row, to)
        return to

    def _turned(self, rows: list[str]) -> list[str]:
        """The squares in the blocks of as many registers, transposed: the first half of the registers is
        interleaved with the second until each has gone through all places."""
        half, size = len(rows) // 2, self.block
        for _ in range(half.bit_length()):
            rows = [
                self._interleaved(a, b, at)
                for a, b in zip(rows[:half], rows[half:], strict=True)
                for at in (0, size // 2)
            ]
        return rows

    def _interleaved(self, a: str, b: str, at: int) -> str:
        """Half of each block of two registers in turns, from lane `at` of the block on."""
        n, size = self.width, self.block
        lanes = (
            start + lane + other
            for start in range(0, n, size)
            for lane in range(at, at + size // 2)
            for other in (0, n)
        )
        listed = ", ".join(f"i32 {lane}" for lane in lanes)
        return self.f(f"shufflevector {self.vector} {a}, {self.vector} {b}, <{n} x i32> <{listed}>")

    def _single(self, columns: list[str], to: str, step: int) -> str:
        row = "poison"
        for lane, column in enumerate(columns):
            x = self.f(f"load {self.element}, ptr {column}, align {self.align}")
            row = self.f(f"insertelement {self.vector} {row}, {self.element} {x}, i32 {lane}")
        return self._put(row, to)

    def _put(self, row: str, to: str) -> str:
        self.f.do(f"store {self.vector} {row}, ptr {to}, align {self.align}")
        return self._step(to, "%to_stride")

    def _step(self, pointer: str, by: Value) -> str:
        return pointer if by == 0 else self.f(f"getelementptr {self.element}, ptr {pointer}, i64 {by}")
