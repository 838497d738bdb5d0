"""Contractions in which not every step takes part: `within` of `ir.kernel.Contract`, which falls or rises by
one with each row, column or step.

A tile whose steps all take part, for every row and column of it, is summed as any other. Of a tile that the
border runs through, the steps on this side of the border are; those that it crosses are summed by a
micro-kernel that leaves an accumulator as it is where the step takes no part; those beyond are skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..ir.dtypes import DType
from ..ir.expr import Dim, substitute
from ..ir.kernel import VECTOR
from .contract_sum import Contraction, Walk, stride_along
from .contract_tile import Layout, Tile, TileWriter, kernel_name
from .indices import Value, splat
from .text import Module


@dataclass(frozen=True)
class Span:
    """Steps `start` .. `stop` - 1 of a part of the sum, whether all of them take part everywhere in the tile,
    and the value of `within` at the first of them for the tile's first row and column."""

    start: Value
    stop: Value
    whole: bool
    first: Value


class Within:
    """Which steps of a contraction take part."""

    def __init__(self, c: Contraction, within: Dim) -> None:
        contract = c.contract
        axes = (contract.m, contract.n, *contract.over)
        self._c = c
        self._origin = c.ctx.indices.value(substitute(within, dict.fromkeys((a.name for a in axes), 0)))
        row, column = (_known(stride_along(a, within, contract)) for a in (contract.m, contract.n))
        self.border = Walk(row, column, tuple(_known(axis.within) for axis in c.axes))

    def walked(self, axes: Sequence[int]) -> Walk:
        """The border as a micro-kernel that walks these axes sees it."""
        return Walk(self.border.row, self.border.column, tuple(self.border.steps[i] for i in axes))

    def spans(
        self, row: Value, height: Value, at: Value, columns: int, starts: Sequence[Value],
        counts: Sequence[Value], axes: Sequence[int],
    ) -> list[Span]:  # fmt: skip
        """The steps that a tile sums, of a part of the sum that begins at `starts`, with so many steps along
        the axes walked: of these, if there is but one; else all or none."""
        c, border = self._c, self.border
        first = self._origin
        for start, step in ((row, border.row), (at, border.column), *zip(starts, border.steps, strict=True)):
            first = c.add(first, c.mul(start, step))
        reach = [(border.row, height), (border.column, columns)]
        alone = len(axes) == 1
        reach += [] if alone else [(border.steps[i], n) for i, n in zip(axes, counts, strict=True)]
        low, high = (self._end(first, reach, sign) for sign in (-1, 1))
        count, step = counts[0], border.steps[axes[0]] if alone else 0
        if step == 0:
            inside, touched = self._or_none(count, low), self._or_none(count, high)
            return [Span(0, inside, True, first), Span(inside, touched, False, first)]
        if step < 0:
            ends = [self._clamped(c.add(end, 1), count) for end in (low, high)]
            return [Span(0, ends[0], True, first), self._crossed(ends[0], ends[1], first, step)]
        begins = [self._clamped(c.mul(end, -1), count) for end in (high, low)]
        return [self._crossed(begins[0], begins[1], first, step), Span(begins[1], count, True, first)]

    def _crossed(self, start: Value, stop: Value, first: Value, step: int) -> Span:
        return Span(start, stop, False, self._c.add(first, self._c.mul(start, step)))

    def _end(self, first: Value, reach: Sequence[tuple[int, Value]], sign: int) -> Value:
        """The least (sign -1) or greatest value, that of the first element being `first`."""
        for step, count in reach:
            if step == sign:
                first = self._c.add(first, self._c.mul(self._c.sub(count, 1), step))
        return first

    def _or_none(self, count: Value, value: Value) -> Value:
        """The count where the value is not negative, else 0."""
        if isinstance(value, int):
            return count if value >= 0 else 0
        return self._c.f(f"select i1 {self._c.f(f'icmp sge i64 {value}, 0')}, i64 {count}, i64 0")

    def _clamped(self, value: Value, count: Value) -> Value:
        return self._c.most(self._c.least(value, count), 0)


def _known(step: Dim) -> int:
    assert isinstance(step, int), "the border moves by 1, -1 or 0"
    return step


def crossed_kernel(module: Module, dtype: DType, tile: Tile, layout: Layout, border: Walk) -> str:
    """The name of the micro-kernel for a tile that the border runs through. It takes one parameter more than
    `micro_kernel`, the last: the value of `within` at the first row, column and step."""
    signs = "".join({-1: "n", 0: "z", 1: "p"}[step] for step in (border.row, border.column, *border.steps))
    name = kernel_name(f"crossed_{signs}", dtype, tile, layout)
    if not module.defined(name):
        module.add(_Crossed(module, name, dtype, tile, layout, border).function())
    return name


class _Crossed(TileWriter):
    def __init__(
        self, module: Module, name: str, dtype: DType, tile: Tile, layout: Layout, border: Walk
    ) -> None:
        super().__init__(module, name, dtype, tile, layout, more=[("i64", "within")])
        self.border = border
        self._value = "%within"
        self._masks: dict[tuple[int, int], str] = {}

    def each(
        self, axis: int, lhs: str, rhs: str, sums: Sequence[str],
        body: Callable[[str, str, list[str]], list[str]], count: Value | None = None,
    ) -> list[str]:  # fmt: skip
        """As of any tile, the value of `within` counting along."""
        outside = self._value

        def turn(values: list[str]) -> tuple[str, Sequence[str]]:
            left, a, b, self._value, *inner = values
            here = self._value
            self._masks = {}
            following = body(a, b, inner)
            fewer = self.f(f"add i64 {left}, -1")
            moved = self.f(f"add i64 {here}, {self.border.steps[axis]}")
            places = [self.step(a, self.strides[f"a{axis}"]), self.step(b, self.strides[f"b{axis}"])]
            return self.f(f"icmp sgt i64 {fewer}, 0"), [fewer, *places, moved, *following]

        places = [("i64", f"%n{axis}"), ("ptr", lhs), ("ptr", rhs), ("i64", outside)]
        result = self.f.repeat([*places, *((self.vector, s) for s in sums)], turn)[4:]
        self._value = outside
        return result

    def taken(self, row: int, group: int, new: str, old: str) -> str:
        """The new value of an accumulator in the lanes in which the step takes part, else the old one."""
        mask = self._mask(row * self.border.row, group if self.border.column else 0)
        return self.f(f"select <{VECTOR} x i1> {mask}, {self.vector} {new}, {self.vector} {old}")

    def _mask(self, row: int, group: int) -> str:
        if (row, group) not in self._masks:
            if (0, -1) not in self._masks:
                value = self.f(f"trunc i64 {self._value} to i32")
                self._masks[0, -1] = splat(self.f, "i32", value, VECTOR)
            least = (-row - self.border.column * (VECTOR * group + lane) for lane in range(VECTOR))
            lanes = ", ".join(f"i32 {n}" for n in least)
            self._masks[row, group] = self.f(f"icmp sge <{VECTOR} x i32> {self._masks[0, -1]}, <{lanes}>")
        return self._masks[row, group]
