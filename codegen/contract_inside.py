"""Contractions whose steps take part only where conditions hold: `inside` of `ir.kernel.Contract`, the
padding of a convolution.

A condition bounds an expression that goes by a known number along rows, columns and axes of the sum.

* If it leads from loops around the tile to one axis of the sum (rows of pixels), it bounds that axis.
* If it leads from the tile's rows or columns to a short axis (the pixels of a row), and all is known, the
  micro-kernel has that axis written out, each run of like steps with the rows that take part: nothing is
  multiplied that does not. There is one for each way in which conditions run through a tile.
* Else tiles that a condition runs through are summed by a micro-kernel that compares at each step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from math import prod

from ..ir.dtypes import DType
from ..ir.kernel import VECTOR
from .contract_lanes import LaneFactors
from .contract_sum import Condition, Contraction, Walk
from .contract_tile import Layout, Tile, TileWriter, kernel_name
from .indices import Value, splat
from .target import Target
from .text import Module

#: Loops that a micro-kernel is written out to at most.
_MOST_BODIES = 16
_ALL = (1 << VECTOR) - 1


@dataclass(frozen=True)
class Window:
    """Which lanes take part. axis: of those walked, -1 if they are the same at each step. lanes: for each
    step of the axis a mask for each vector of the tile, row by row. runs_on: steps of the axis that are alike
    can be walked as one with those of the next."""

    axis: int
    lanes: tuple[tuple[int, ...], ...]
    runs_on: bool = False

    @cached_property
    def runs(self) -> int:
        """How often the masks change along the axis."""
        return sum(1 for _ in groupby(self.lanes))


@dataclass(frozen=True)
class Box:
    """Rows and columns of a tile."""

    rows: range
    columns: range

    def __and__(self, other: Box) -> Box:
        pairs = ((self.rows, other.rows), (self.columns, other.columns))
        return Box(*(range(max(a.start, b.start), min(a.stop, b.stop)) for a, b in pairs))


#: What takes part in a tile: the lanes that take part by each of the windows.
Windows = tuple[Window, ...]


class Inside:
    """Which steps of a contraction take part."""

    def __init__(self, c: Contraction) -> None:
        self._c = c
        self._bounds = [condition for condition in c.conditions if condition.is_bound]
        self._others = [condition for condition in c.conditions if not condition.is_bound]

    @property
    def in_tiles(self) -> bool:
        """Whether a condition may run through a tile."""
        return bool(self._others)

    def clipped(
        self, starts: Sequence[Value], counts: Sequence[Value]
    ) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        """Where a part of the sum starts, and how many steps it has, along each axis, but for steps outside
        of the bounds. Negative counts are none."""
        c, first, left = self._c, list(starts), list(counts)
        for bound in self._bounds:
            axis = bound.axis
            end = c.add(first[axis], left[axis])
            low, high = self._range(bound, axis, end)
            first[axis] = c.most(first[axis], low)
            left[axis] = c.sub(c.least(end, high), first[axis])
        return tuple(first), tuple(left)

    def _range(self, bound: Condition, axis: int, end: Value) -> tuple[Value, Value]:
        """The first step of an axis that takes part, and the one after the last, as far as they lie before
        `end`."""
        c, step = self._c, bound.steps[axis]
        if step == 0:
            return 0, self._if_inside(bound.first, bound.size, end)
        if step > 0:
            low, high = c.mul(bound.first, -1), c.sub(bound.size, bound.first)
        else:
            high = c.add(bound.first, 1)
            low = c.sub(high, bound.size)
        return self._up(low, abs(step)), self._up(high, abs(step))

    def _up(self, value: Value, by: int) -> Value:
        """value / by, rounded up, at least 0."""
        value = self._c.most(value, 0)
        if isinstance(value, int) or by == 1:
            return -(-value // by) if isinstance(value, int) else value
        return self._c.f(f"udiv i64 {self._c.add(value, by - 1)}, {by}")

    def _if_inside(self, value: Value, size: Value, count: Value) -> Value:
        if isinstance(value, int) and isinstance(size, int):
            return count if 0 <= value < size else 0
        return self._c.f(f"select i1 {self._c.f(f'icmp ult i64 {value}, {size}')}, i64 {count}, i64 0")

    # Windows.

    def are_known(self, starts: Sequence[Value], counts: Sequence[Value], walked: Sequence[int]) -> bool:
        """Whether a part of the sum can be taken by micro-kernels with windows."""
        c = self._c
        bounded = {bound.axis for bound in self._bounds}
        for condition in self._others:
            axes = condition.axes
            known = isinstance(condition.first, int) and isinstance(condition.size, int)
            known &= condition.row == 0 or isinstance(c.m, int)
            known &= condition.column == 0 or isinstance(c.n, int)
            if not known or len(axes) > 1 or bounded & set(axes):
                return False
            if any(i not in walked or (starts[i], counts[i]) != (0, c.axes[i].extent) for i in axes):
                return False
        return all(
            prod(self._window(other, tile, row, at, None, walked).runs for other in self._others)
            <= _MOST_BODIES
            for tile, row, at in _corners(c)
        )

    def windows(
        self, tile: Tile, row: int, column: int, valid: int | None, walked: Sequence[int], layout: Layout
    ) -> Windows:  # fmt: skip
        """What takes part in the tile that begins at a row and column, of which so many columns count."""
        found = []
        for condition in self._others:
            window = self._window(condition, tile, row, column, valid, walked)
            window = replace(window, runs_on=self._runs_on(window.axis, walked, layout))
            if window.runs_on or any(lanes != _ALL for step in window.lanes for lanes in step):
                found.append(window)
        return tuple(found)

    def _runs_on(self, axis: int, walked: Sequence[int], layout: Layout) -> bool:
        """Whether steps of an axis of those walked can be walked as one with those of the next."""
        if not 0 <= axis < len(walked) - 1:
            return False
        following = self._c.axes[walked[axis + 1]]
        steps = following.chunk
        if (
            steps is None
            or not following.whole
            or any(walked[axis + 1] in condition.axes for condition in self._c.conditions)
        ):
            return False
        sides = (layout.lhs, layout.rhs)
        return all(side[axis] == self._c.mul(side[axis + 1], steps) for side in sides)

    def _window(
        self, condition: Condition, tile: Tile, row: int, column: int, valid: int | None,
        walked: Sequence[int],
    ) -> Window:  # fmt: skip
        first, size = condition.first, condition.size
        assert isinstance(first, int) and isinstance(size, int)
        axis, steps, by = -1, 1, 0
        if condition.axes:
            (place,) = condition.axes
            extent = self._c.axes[place].extent
            assert isinstance(extent, int)
            axis, steps, by = walked.index(place), extent, condition.steps[place]
        exist = tile.columns if valid is None else valid

        def mask(value: int, group: int) -> int:
            if condition.column == 0:
                return _ALL if 0 <= value < size else 0
            lanes = range(VECTOR * group, min(VECTOR * group + VECTOR, exist))
            inside = [0 <= value + condition.column * lane < size for lane in lanes]
            if len(set(inside)) == 1:
                return _ALL if inside[0] else 0
            return sum(1 << lane for lane, holds in enumerate(inside) if holds)

        start = first + condition.row * row + condition.column * column
        lanes = tuple(
            tuple(
                mask(start + by * step + condition.row * i, j)
                for i in range(tile.rows)
                for j in range(tile.vectors)
            )
            for step in range(steps)
        )
        return Window(axis, lanes)

    # Boxes.

    def boxes(self, rows: int, columns: int, axis: int) -> list[Box] | None:
        """For each step of an axis of the sum the rows and columns that take part; None if all do, always."""
        along = [condition for condition in self._others if axis in condition.axes]
        if not along:
            return None
        extent = self._c.axes[axis].extent
        assert isinstance(extent, int)
        found = []
        for step in range(extent):
            sides = [range(rows), range(columns)]
            for condition in along:
                assert isinstance(condition.first, int) and isinstance(condition.size, int)
                side, by = (0, condition.row) if condition.row else (1, condition.column)
                value, size = condition.first + condition.steps[axis] * step, condition.size
                inside = [at for at in sides[side] if 0 <= value + by * at < size]
                sides[side] = range(inside[0], inside[-1] + 1) if inside else range(0)
            found.append(Box(*sides))
        return found

    # Masks.

    def walks(self, walked: Sequence[int]) -> tuple[Walk, ...]:
        """The conditions that may run through tiles, as seen along these axes."""
        return tuple(Walk(c.row, c.column, tuple(c.steps[i] for i in walked)) for c in self._others)

    def values(self, row: Value, column: Value, starts: Sequence[Value]) -> list[tuple[Value, Value]]:
        """For each of these: its expression at a tile's first row, column and step, and how far it goes."""
        return [(self._at(condition, row, column, starts), condition.size) for condition in self._others]

    def _at(self, condition: Condition, row: Value, column: Value, starts: Sequence[Value]) -> Value:
        c, total = self._c, condition.first
        moves = [(row, condition.row), (column, condition.column), *zip(starts, condition.steps, strict=True)]
        for start, step in moves:
            total = c.add(total, c.mul(start, step))
        return total

    def crossed(
        self, row: Value, column: Value, starts: Sequence[Value], height: Value, columns: int,
        counts: Sequence[Value],
    ) -> str:  # fmt: skip
        """An i1: whether a condition may run through a tile."""
        c, found = self._c, "false"
        for condition in self._others:
            least = most = self._at(condition, row, column, starts)
            reach = [(height, condition.row), (columns, condition.column)]
            for count, step in (*reach, *zip(counts, condition.steps, strict=True)):
                far = c.mul(c.sub(count, 1), step)
                least, most = (c.add(least, far), most) if step < 0 else (least, c.add(most, far))
            below = c.f(f"icmp slt i64 {least}, 0")
            above = c.f(f"icmp sge i64 {most}, {condition.size}")
            found = c.f(f"or i1 {found}, {c.f(f'or i1 {below}, {above}')}")
        return found


def _corners(c: Contraction) -> Iterator[tuple[Tile, int, int]]:
    """Tiles of the first and last rows and columns, of the numbers known: (tile, row, column)."""
    m, n = (size if isinstance(size, int) else 1 for size in (c.m, c.n))
    rows = min(c.tile.rows, m)
    for row in {0, m - m % rows if m % rows else m - rows}:
        for column in {0, (n - 1) // c.tile.columns * c.tile.columns}:
            yield Tile(rows, c.tile.vectors), row, column


def windowed_kernel(
    module: Module, dtype: DType, tile: Tile, layout: Layout, windows: Windows, target: Target,
    own: int | None = None,
) -> str:  # fmt: skip
    """The name of the micro-kernel, with the parameters of `micro_kernel`, in which windows take part. Of
    their axes it takes all steps. own: columns that exist, if each has a left operand of its own."""
    digest = hashlib.sha256(repr(windows).encode()).hexdigest()[:16]
    name = kernel_name(f"windows_{digest}{_own_key(own)}", dtype, tile, layout)
    if not module.defined(name):
        made = _Windowed if own is None else _WindowedLanes
        writer = made(module, name, dtype, tile, layout)
        writer.windows, writer.valid = windows, own or 0
        writer.mask_registers = target.vector_bytes == 64
        module.add(writer.function())
    return name


def masked_kernel(
    module: Module, dtype: DType, tile: Tile, layout: Layout, walks: Sequence[Walk], own: int | None = None
) -> str:
    """The name of the micro-kernel that compares at each step. It takes two parameters more for each
    condition, the last: its value at the first row, column and step, and how far it goes."""
    steps = ((w.row, w.column, *w.steps) for w in walks)
    key = "_".join("".join(str(n).replace("-", "n") + "." for n in by) for by in steps)
    name = kernel_name(f"masked_{key}{_own_key(own)}", dtype, tile, layout)
    if not module.defined(name):
        made = _Masked if own is None else _MaskedLanes
        writer = made(module, name, dtype, tile, layout, walks)
        writer.valid = own or 0
        module.add(writer.function())
    return name


def _own_key(own: int | None) -> str:
    return "" if own is None else f"_own{own}"


class _Windowed(TileWriter):
    """Set these before `function` is called."""

    windows: Windows
    mask_registers: bool
    valid: int

    def __init__(self, module: Module, name: str, dtype: DType, tile: Tile, layout: Layout) -> None:
        super().__init__(module, name, dtype, tile, layout)
        self._lanes: tuple[int, ...] = (_ALL,) * (tile.rows * tile.vectors)
        #: How many steps of the axis before are walked as one with each.
        self._together: dict[int, int] = {}
        self._masks: set[int] = set()

    def start(self) -> list[str]:
        for window in self.windows:
            if window.axis < 0:
                self._narrow(window.lanes[0])
        return super().start()

    def each(
        self, axis: int, lhs: str, rhs: str, sums: Sequence[str],
        body: Callable[[str, str, list[str]], list[str]], count: Value | None = None,
    ) -> list[str]:  # fmt: skip
        """Of an axis with windows one loop for each run of like steps."""
        along = [window for window in self.windows if window.axis == axis]
        if not along:
            if axis in self._together:
                count = self.f(f"mul i64 %n{axis}, {self._together[axis]}")
            return super().each(axis, lhs, rhs, sums, body, count)
        outside, first, result = self._lanes, 0, list(sums)
        for masks, steps in groupby(zip(*(window.lanes for window in along), strict=True)):
            length = len(list(steps))
            for lanes in masks:
                self._narrow(lanes)
            if any(self._lanes):
                a, b = (self._moved(at, f"{side}{axis}", first) for at, side in ((lhs, "a"), (rhs, "b")))
                if along[0].runs_on:
                    self._together[axis + 1] = length
                one = length == 1 or along[0].runs_on
                result = body(a, b, result) if one else super().each(axis, a, b, result, body, length)
            self._lanes, first = outside, first + length
        return result

    def _narrow(self, lanes: Iterable[int]) -> None:
        self._lanes = tuple(a & b for a, b in zip(self._lanes, lanes, strict=True))

    def _moved(self, pointer: str, stride: str, steps: int) -> str:
        by = self.strides[stride]
        return self.step(pointer, by * steps if isinstance(by, int) else self.f(f"mul i64 {by}, {steps}"))

    def takes_part(self, row: int, group: int) -> bool:
        return self._lanes[row * self.tile.vectors + group] != 0

    def taken(self, row: int, group: int, new: str, old: str) -> str:
        """The new value of an accumulator in the lanes that take part, else the old one."""
        lanes = self._lanes[row * self.tile.vectors + group]
        if lanes == _ALL:
            return new
        return self.f(f"select <{VECTOR} x i1> {self._mask(lanes)}, {self.vector} {new}, {self.vector} {old}")

    def _mask(self, lanes: int) -> str:
        """A mask. Kept in a register it becomes one of the multiply-add, a constant an instruction more."""
        if not self.mask_registers:
            holds = ", ".join(f"i1 {str(bool(lanes >> lane & 1)).lower()}" for lane in range(VECTOR))
            return f"<{holds}>"
        if lanes not in self._masks:
            self._masks.add(lanes)
            self.f.at_entry(f"%lanes{lanes} = bitcast i{VECTOR} {lanes} to <{VECTOR} x i1>")
        return f"%lanes{lanes}"


class _WindowedLanes(LaneFactors, _Windowed):
    pass


class _Masked(TileWriter):
    valid: int

    def __init__(
        self, module: Module, name: str, dtype: DType, tile: Tile, layout: Layout, walks: Sequence[Walk]
    ) -> None:
        more = [("i64", f"{kind}{q}") for q in range(len(walks)) for kind in ("value", "size")]
        super().__init__(module, name, dtype, tile, layout, more=more)
        self.walks = walks
        self._values = [f"%value{q}" for q in range(len(walks))]
        self._masks: dict[tuple[int, int], str] = {}

    def each(
        self, axis: int, lhs: str, rhs: str, sums: Sequence[str],
        body: Callable[[str, str, list[str]], list[str]], count: Value | None = None,
    ) -> list[str]:  # fmt: skip
        """As of any tile, the conditions' values counting along."""
        outside, number = self._values, len(self.walks)
        carried = [("i64", value) for value in outside]

        def turn(values: list[str]) -> tuple[str, Sequence[str]]:
            left, a, b = values[:3]
            self._values, self._masks = here, _ = values[3 : 3 + number], {}
            following = body(a, b, values[3 + number :])
            fewer = self.f(f"add i64 {left}, -1")
            places = [self.step(a, self.strides[f"a{axis}"]), self.step(b, self.strides[f"b{axis}"])]
            moved = [self.f(f"add i64 {v}, {w.steps[axis]}") for v, w in zip(here, self.walks, strict=True)]
            return self.f(f"icmp sgt i64 {fewer}, 0"), [fewer, *places, *moved, *following]

        start = [("i64", f"%n{axis}"), ("ptr", lhs), ("ptr", rhs), *carried]
        result = self.f.repeat([*start, *((self.vector, s) for s in sums)], turn)
        self._values = outside
        return result[3 + number :]

    def taken(self, row: int, group: int, new: str, old: str) -> str:
        """The new value of an accumulator in the lanes in which the step takes part, else the old one."""
        mask = self._mask(row, group)
        return self.f(f"select <{VECTOR} x i1> {mask}, {self.vector} {new}, {self.vector} {old}")

    def _mask(self, row: int, group: int) -> str:
        if (row, group) not in self._masks:
            mask = ""
            for q, walk in enumerate(self.walks):
                one = self._holds(q, walk.row * row, walk.column, VECTOR * group)
                mask = self.f(f"and <{VECTOR} x i1> {mask}, {one}") if mask else one
            self._masks[row, group] = mask
        return self._masks[row, group]

    def _holds(self, number: int, further: int, column: int, first: int) -> str:
        f, kind = self.f, f"<{VECTOR} x i32>"
        value, size = (f(f"trunc i64 {v} to i32") for v in (self._values[number], f"%size{number}"))
        lanes = ", ".join(f"i32 {further + column * (first + lane)}" for lane in range(VECTOR))
        at = f(f"add {kind} {splat(f, 'i32', value, VECTOR)}, <{lanes}>")
        return f(f"icmp ult {kind} {at}, {splat(f, 'i32', size, VECTOR)}")


class _MaskedLanes(LaneFactors, _Masked):
    pass
