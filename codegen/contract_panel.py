"""One panel of a contraction: all rows of 16 to 64 columns.

A tile's sums land in scratch memory (a kilobyte or two, never out of the first-level cache) and the
epilogue (`contract_epilogue`) reads them from there. Two nests:

    tile by tile    [pack]; for tile: for superblock: its sums; epilogue of the tile
    piece by piece  for block of rows: for superblock: for piece of it: pack; for tile: its chains go on;
                    epilogue of the block

The second is for packed panels whose sum is too long for one piece. In both, a superblock's sums are one
chain, from zero, and are added to the total when they are complete; a chain that is cut between pieces goes
on from memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, product

from ..ir.kernel import VECTOR
from ..ir.ops.ordered import CONTRACT_BLOCK
from .contract_ahead import Ahead, next_rows
from .contract_epilogue import Epilogue
from .contract_fetch import fetch_rows
from .contract_few import streamed_kernel
from .contract_inside import Box, Inside, masked_kernel, windowed_kernel
from .contract_lanes import lanes_kernel
from .contract_pack import PackedAxis, Panel, pack_panel
from .contract_sum import Contraction, Walk
from .contract_tile import Layout, Tile, micro_kernel, passed_strides
from .contract_within import Span, Within, crossed_kernel
from .indices import Value

_PIECE_BYTES = 128 << 10  # a packed panel: well inside the second-level cache, and it lies on the stack
_PIECE_BYTES_FEW = 16 << 10  # the same for few rows: in the first-level cache
_BLOCK_ROWS = 240  # about so many rows' sums lie on the stack while a panel is packed piece by piece
_TURNED_ROWS = 96  # the same where they are turned before the epilogue
_LOW_TILES = (4, 1)  # heights of the tiles for the last rows, where their number is known at run time only


def emit_panel(c: Contraction, at: Value, vectors: int, valid: Value | None, packed: bool) -> None:
    """Write the panel of 16 * vectors columns that begins at column `at`. valid: how many of them exist,
    None if all do; if not None, `packed` must be true, or the rows so few that tiles are not used."""
    emitter = _PanelEmitter(c, at, vectors, valid, packed)
    if 0 in c.extents:
        emitter.empty()
    elif packed and not (c.one_superblock and emitter.one_piece):
        emitter.piece_by_piece()
    else:
        emitter.tile_by_tile()


@dataclass(frozen=True)
class _Part:
    """A part of the sum: where it starts and how many steps it has, along each axis."""

    starts: tuple[Value, ...]
    counts: tuple[Value, ...]


#: Writes one tile, given its first row, its height, and what names the micro-kernel of that height for a
#: layout.
_TileBody = Callable[[Value, Value, "_Kernel"], None]
_Kernel = Callable[[Layout, "_Through | None"], str]


@dataclass(frozen=True)
class _KnownWays:
    """Conditions run through the tiles of these rows, in ways that are known."""

    row: Value


#: What may run through a tile: a border, conditions that are compared, or conditions in ways known.
_Through = Walk | tuple[Walk, ...] | _KnownWays


class _PanelEmitter:
    def __init__(self, c: Contraction, at: Value, vectors: int, valid: Value | None, packed: bool) -> None:
        self.c, self.ctx, self.f = c, c.ctx, c.f
        self.at, self.vectors, self.valid, self.packed = at, vectors, valid, packed
        self.columns = VECTOR * vectors
        self.source = c.offset(c.rhs, [at], [c.column])
        self.heights = self._heights()
        self.epilogue = Epilogue(c, at, vectors, valid)
        self.turned = self.epilogue.is_turned()
        self.ahead = None if packed or c.streamed else Ahead.of(c, vectors)
        #: Axes that a micro-kernel walks; along the others a superblock has one step.
        self.walked = [i for i, chunk in enumerate(c.chunks) if chunk != 1] or [len(c.chunks) - 1]
        self.piece = self._piece()
        self.distance: Value = 0
        #: The sums go on from others (an i1).
        self.goes_on = "false" if c.contract.start is None else "true"
        self.within = None if c.contract.within is None else Within(c, c.contract.within)
        self.inside = Inside(c) if c.conditions else None

    def _heights(self) -> list[int]:
        """The heights of tiles, falling; together they cover any number of rows."""
        rows, m = self.c.tile.rows, self.c.m
        if isinstance(m, int):
            rows = min(rows, m)
            return [rows, m % rows] if m % rows else [rows]
        return [rows, *(h for h in _LOW_TILES if h < rows)]

    def _piece(self) -> int | None:
        """Steps of the outermost walked axis that are packed at a time; None for a superblock as it is."""
        inner = self.c.product([self.c.chunks[i] for i in self.walked[1:]])
        room = _PIECE_BYTES_FEW if self.c.has_few_rows else _PIECE_BYTES
        rows = room // (self.columns * self.c.dtype.itemsize)
        return max(1, rows // max(1, inner)) if isinstance(inner, int) else None

    @property
    def one_piece(self) -> bool:
        """A superblock is known to be packed as a whole."""
        chunk = self.c.chunks[self.walked[0]]
        return isinstance(chunk, int) and self.piece is not None and chunk <= self.piece

    # The two nests.

    def tile_by_tile(self) -> None:
        """Each tile's epilogue follows at once; if sums are turned, that of a block of rows after its
        tiles."""
        c = self.c
        rhs = self._packed(_Part((0,) * len(c.axes), c.chunks)) if self.packed else self.source
        tile_elements = self.heights[0] * self.columns
        if not self.turned:
            total = c.scratch(tile_elements)
            chain = total if c.one_superblock else c.scratch(tile_elements)

            def tile(row: Value, height: Value, kernel: _Kernel) -> None:
                fetch_rows(c, row, self.heights[0], self.at, self.columns)
                self._sums_of_tile(row, height, kernel, rhs, total, chain)
                self.epilogue.rows(row, height, total)

            self._tiles(0, c.m, tile)
            return
        block = self._block(_TURNED_ROWS)
        sums = c.scratch(block * self.columns)
        chain = sums if c.one_superblock else c.scratch(tile_elements)

        def rows(first_row: Value) -> None:
            count = c.least(block, c.sub(c.m, first_row))

            def tile(row: Value, height: Value, kernel: _Kernel) -> None:
                place = c.offset(sums, [c.sub(row, first_row)], [self.columns])
                self._sums_of_tile(row, height, kernel, rhs, place, place if c.one_superblock else chain)

            self._tiles(first_row, c.add(first_row, count), tile)
            self.epilogue.turned(first_row, count, sums, block)

        c.each(0, c.m, block, rows)

    def _sums_of_tile(
        self, row: Value, height: Value, kernel: _Kernel, rhs: str, total: str, chain: str
    ) -> None:
        """All superblocks of a tile. rhs: the packed panel, or the operand; chain: room for one
        superblock's sums."""
        c = self.c
        if c.may_be_empty:
            self._clear(total, c.mul(height, self.columns))
        self.epilogue.begin(row, height, total)
        self.distance = 0 if self.ahead is None else self.ahead.distance(self.source)

        def superblock(part: _Part) -> None:
            first = self._is_first(part)
            out = self._choose(first, total, chain)
            b = rhs if self.packed else c.offset(rhs, part.starts, c.rhs_strides)
            self._sum(kernel, part, row, height, b, out, self.goes_on)
            self._add_unless(first, total, chain, c.mul(height, self.columns))

        self._superblocks(superblock)

    def _block(self, rows: int) -> int:
        """About so many rows, in whole tiles, and in whole vectors if sums are turned; all if there are
        fewer."""
        tile = self.heights[0]
        unit = math.lcm(tile, VECTOR) if self.turned else tile
        block = max(unit, rows // unit * unit)
        whole = -(-self.c.m // VECTOR) * VECTOR if isinstance(self.c.m, int) else block
        return min(block, whole)

    def piece_by_piece(self) -> None:
        c = self.c
        block = self._block(_BLOCK_ROWS)
        total = c.scratch(block * self.columns)
        chain = total if c.one_superblock else c.scratch(block * self.columns)

        def rows(first_row: Value) -> None:
            count = c.least(block, c.sub(c.m, first_row))
            if c.may_be_empty:
                self._clear(total, c.mul(count, self.columns))
            self.epilogue.begin(first_row, count, total)
            self._superblocks(lambda part: superblock(first_row, count, part))
            if self.turned:
                self.epilogue.turned(first_row, count, total, block)
            else:
                self.epilogue.rows(first_row, count, total)

        def superblock(first_row: Value, count: Value, part: _Part) -> None:
            first = self._is_first(part)
            out = self._choose(first, total, chain)
            self._pieces(part, lambda piece, more: sums(first_row, count, piece, out, more))
            self._add_unless(first, total, chain, c.mul(count, self.columns))

        def sums(first_row: Value, count: Value, piece: _Part, out: str, more: str) -> None:
            packed = self._packed(piece)

            def tile(row: Value, height: Value, kernel: _Kernel) -> None:
                place = c.offset(out, [c.sub(row, first_row)], [self.columns])
                self._sum(kernel, piece, row, height, packed, place, more)

            self._tiles(first_row, c.add(first_row, count), tile)

        c.each(0, c.m, block, rows)

    def empty(self) -> None:
        """A sum of no steps: zeros."""
        total = self.c.scratch(self.columns)
        self._clear(total, self.columns)
        self.c.each(0, self.c.m, 1, lambda row: self.epilogue.rows(row, 1, total))

    # Rows.

    def _tiles(self, start: Value, stop: Value, body: _TileBody) -> None:
        """body for each tile of the rows start .. stop - 1, of which there is at least one."""
        if len(self.heights) == 1:
            only = self.heights[0]
            self.c.each(start, stop, only, lambda row: body(row, only, lambda *how: self._kernel(only, *how)))
            return

        def turn(rows: list[str]) -> tuple[str, Sequence[str]]:
            left = self.f(f"sub i64 {stop}, {rows[0]}")
            fits = [self.f(f"icmp sge i64 {left}, {h}") for h in self.heights[:-1]]
            height = self._first_that(fits, "i64", [str(h) for h in self.heights])
            body(
                rows[0],
                height,
                lambda *how: self._first_that(fits, "ptr", [self._kernel(h, *how) for h in self.heights]),
            )
            following = self.f(f"add i64 {rows[0]}, {height}")
            return self.f(f"icmp slt i64 {following}, {stop}"), [following]

        with self.ctx.scope():
            self.f.repeat([("i64", str(start))], turn)

    def _first_that(self, conditions: Sequence[str], kind: str, values: Sequence[str]) -> str:
        """The first value whose condition holds, else the last one, which has no condition."""
        result = values[-1]
        for condition, value in reversed(list(zip(conditions, values[:-1], strict=True))):
            result = self.f(f"select i1 {condition}, {kind} {value}, {kind} {result}")
        return result

    # Sums.

    def _superblocks(self, body: Callable[[_Part], None]) -> None:
        """body for each superblock, in order."""
        c = self.c

        def along(axis: int, starts: tuple[Value, ...], counts: tuple[Value, ...]) -> None:
            if axis == len(c.axes):
                body(_Part(starts, counts))
                return
            extent, chunk = c.extents[axis], c.chunks[axis]
            if c.axes[axis].whole:
                along(axis + 1, (*starts, 0), (*counts, chunk))
                return

            def turn(start: Value) -> None:
                count = 1 if chunk == 1 else c.least(chunk, c.sub(extent, start))
                along(axis + 1, (*starts, start), (*counts, count))

            c.each(0, extent, chunk, turn)

        along(0, (), ())

    def _pieces(self, part: _Part, body: Callable[[_Part, str], None]) -> None:
        """body(piece, an i1: not the first one) for each piece of a superblock that is packed at a time, in
        order."""
        c, axis = self.c, self.walked[0]
        count, size = part.counts[axis], self.piece
        if size is None or isinstance(count, int) and count <= size:
            body(part, self.goes_on)
            return

        def turn(at: Value) -> None:
            starts, counts = list(part.starts), list(part.counts)
            starts[axis] = c.add(starts[axis], at)
            counts[axis] = c.least(size, c.sub(count, at))
            more = self.goes_on if self.goes_on == "true" else self.f(f"icmp sgt i64 {at}, 0")
            body(_Part(tuple(starts), tuple(counts)), more)

        c.each(0, count, size, turn)

    def _is_first(self, part: _Part) -> str:
        """An i1: whether it is the first superblock."""
        moving = [start for start in part.starts if start != 0]
        if not moving:
            return "true"
        total = moving[0]
        for start in moving[1:]:
            total = self.f(f"or i64 {total}, {start}")
        return self.f(f"icmp eq i64 {total}, 0")

    def _choose(self, first: str, total: str, chain: str) -> str:
        return total if first == "true" else self.f(f"select i1 {first}, ptr {total}, ptr {chain}")

    def _packed(self, part: _Part) -> str:
        """Pack a part of the sum; the address of the panel."""
        c = self.c
        panel = c.scratch(self._rows_at_most() * self.columns)
        axes = tuple(PackedAxis(part.counts[i], c.rhs_strides[i]) for i in self.walked)
        source = c.offset(self.source, part.starts, c.rhs_strides)
        ahead = self._ahead()
        pack_panel(self.ctx, c.dtype, Panel(source, c.column, self.vectors, self.valid, axes, ahead), panel)
        return panel

    def _ahead(self) -> int:
        """Bytes to fetch beforehand while packing: few rows leave no time to wait for memory."""
        return self.piece * self.c.dtype.itemsize if self.c.has_few_rows and self.piece is not None else 0

    def _rows_at_most(self) -> int:
        """A bound for the steps that are packed at a time."""
        first, *inside = (self.c.chunks[i] for i in self.walked)
        if self.piece is not None and (isinstance(first, str) or first > self.piece):
            first = self.piece
        rows = self.c.product([first, *inside])
        return min(rows, CONTRACT_BLOCK) if isinstance(rows, int) else CONTRACT_BLOCK

    def _layout(self, part: _Part) -> Layout:
        """How the micro-kernel walks its operands in a part of the sum."""
        c, walked = self.c, self.walked
        lhs = tuple(c.lhs_strides[i] for i in walked)
        if not self.packed:
            rhs = tuple(c.rhs_strides[i] for i in walked)
            return Layout(c.row, lhs, rhs, self.distance, next_rows(c, self.heights[0]))
        inside = [c.product([part.counts[j] for j in walked[at + 1 :]]) for at in range(len(walked))]
        rhs = tuple(c.mul(steps, self.columns) for steps in inside)
        return Layout(c.row, lhs, rhs, lhs_ahead=next_rows(c, self.heights[0]))

    def _kernel(self, height: int, layout: Layout, through: _Through | None) -> str:
        """The micro-kernel of a tile, and of what runs through it."""
        c, module, tile = self.c, self.f.module, Tile(height, self.vectors)
        if isinstance(through, Walk):
            return "@" + crossed_kernel(module, c.holds, tile, layout, through)
        if isinstance(through, _KnownWays):
            return self._by_place(tile, layout, through.row)
        if through is not None:
            return "@" + masked_kernel(module, c.holds, tile, layout, through, self._own())
        if c.lhs_column != 0:
            return "@" + lanes_kernel(module, c.holds, tile, layout, self.valid)
        if not c.streamed:
            return "@" + micro_kernel(module, c.holds, tile, layout)
        valid = self.valid if isinstance(self.valid, int) else self.columns
        return "@" + streamed_kernel(module, c.holds, tile, layout, valid)

    def _own(self) -> int | None:
        """How many columns exist, if each has a left operand of its own."""
        if self.c.lhs_column == 0:
            return None
        return self.valid if isinstance(self.valid, int) else self.columns

    def _by_place(self, tile: Tile, layout: Layout, row: Value) -> str:
        """The micro-kernel of tiles of a height, by the tile's row and column."""
        assert self.inside is not None
        c, valid = self.c, self.valid if isinstance(self.valid, int) else None
        names: dict[str, list[tuple[int, int]]] = {}
        rows, columns = self._rows_of(tile.rows), self._columns_of()
        for place in product(rows, columns):
            windows = self.inside.windows(tile, *place, valid, self.walked, layout)
            if windows:
                made = windowed_kernel(
                    self.f.module, c.holds, tile, layout, windows, self.ctx.target, self._own()
                )
                name = "@" + made
            else:
                name = self._kernel(tile.rows, layout, None)
            names.setdefault(name, []).append(place)
        others = sorted(names, key=lambda name: len(names[name]))
        result = others.pop()
        for name in others:
            for first, at in names[name]:
                there = "true"
                for value, have, among in ((row, first, rows), (self.at, at, columns)):
                    if len(among) > 1:
                        there = self.f(f"and i1 {there}, {self.f(f'icmp eq i64 {value}, {have}')}")
                result = self.f(f"select i1 {there}, ptr {name}, ptr {result}")
        return result

    def _rows_of(self, height: int) -> Sequence[int]:
        """The first rows of the tiles of a height; any, if their number is not known."""
        m, tallest = self.c.m, self.heights[0]
        if not isinstance(m, int):
            return [0]
        return range(0, m - m % tallest, tallest) if height == tallest else [m - m % tallest]

    def _columns_of(self) -> Sequence[int]:
        """The columns at which the panel may begin; any, if their number is not known."""
        if isinstance(self.at, int):
            return [self.at]
        n, width = self.c.n, self.c.tile.columns
        return range(0, n - n % width, width) if isinstance(n, int) else [0]

    def _sum(
        self, kernel: _Kernel, part: _Part, row: Value, height: Value, rhs: str, out: str, more: str
    ) -> None:
        """Sum a part for the tile that begins at `row`; more: the chains in `out` go on."""
        if self.inside is not None:
            self._sum_inside(self.inside, kernel, part, row, height, rhs, out, more)
            return
        if self.within is None:
            self._call(kernel, part, self._layout(part), row, rhs, out, more)
            return
        c, layout, outermost = self.c, self._layout(part), self.walked[0]
        if more != "true":
            self._clear_unless(more, out, c.mul(height, self.columns))
        counts = [part.counts[i] for i in self.walked]
        border = self.within.walked(self.walked)
        for span in self.within.spans(row, height, self.at, self.columns, part.starts, counts, self.walked):
            starts, steps = list(part.starts), list(part.counts)
            starts[outermost] = c.add(starts[outermost], span.start)
            steps[outermost] = c.sub(span.stop, span.start)

            def sums(new: _Part, span: Span) -> Sequence[str]:
                b = c.offset(rhs, [span.start], [layout.rhs[0]])
                through, last = (None, ()) if span.whole else (border, (span.first,))
                self._call(kernel, new, layout, row, b, out, "true", through, last)
                return []

            new = _Part(tuple(starts), tuple(steps))
            self.ctx.when(self.f(f"icmp sgt i64 {steps[outermost]}, 0"), partial(sums, new, span))

    def _sum_inside(
        self, inside: Inside, kernel: _Kernel, part: _Part, row: Value, height: Value, rhs: str, out: str,
        more: str,
    ) -> None:  # fmt: skip
        """`_sum` of the steps that take part."""
        c, layout, walked = self.c, self._layout(part), self.walked
        new = _Part(*inside.clipped(part.starts, part.counts))
        moved = [c.sub(new.starts[i], part.starts[i]) for i in walked]
        rhs = c.offset(rhs, moved, layout.rhs)
        bounded = [a for a, b in zip(new.counts, part.counts, strict=True) if a != b]
        some = [self.f(f"icmp sgt i64 {count}, 0") for count in bounded]

        def sums() -> Sequence[str]:
            if not inside.in_tiles:
                self._call(kernel, new, layout, row, rhs, out, more)
            elif c.streamed:
                self._clear_unless(more, out, c.mul(height, self.columns))
                self._sum_boxes(inside, new, layout, rhs, out)
            elif inside.are_known(part.starts, part.counts, walked):
                self._call(kernel, new, layout, row, rhs, out, more, _KnownWays(row))
            else:
                self._sum_compared(inside, kernel, new, layout, row, height, rhs, out, more)
            return []

        if not some:
            sums()
            return
        any_ = some[0]
        for one in some[1:]:
            any_ = self.f(f"and i1 {any_}, {one}")
        self.ctx.when(any_, sums)
        self._clear_unless(self.f(f"or i1 {any_}, {more}"), out, c.mul(height, self.columns))

    def _sum_boxes(self, inside: Inside, part: _Part, layout: Layout, rhs: str, out: str) -> None:
        """Sum a part for few rows: the sums lie in memory, so what takes part in steps alike is a tile of its
        own."""
        c, walked = self.c, self.walked
        assert isinstance(c.m, int)
        valid = self.valid if isinstance(self.valid, int) else self.columns
        boxes = [inside.boxes(c.m, valid, axis) for axis in walked]
        last = max(i for i, box in enumerate(boxes) if box is not None)

        def along(depth: int, at: list[Value], counts: list[Value], box: Box) -> None:
            here = boxes[depth]
            if here is None:
                c.each(
                    0, part.counts[walked[depth]], 1, lambda i: along(depth + 1, [*at, i], [*counts, 1], box)
                )
                return
            first = 0
            for taking_part, steps in groupby(here):
                length, now = len(list(steps)), box & taking_part
                if depth == last:
                    sums([*at, first], [*counts, length], now)
                else:
                    for step in range(first, first + length):
                        along(depth + 1, [*at, step], [*counts, 1], now)
                first += length

        def sums(at: list[Value], counts: list[Value], box: Box) -> None:
            if not box.rows or not box.columns:
                return
            tile, starts, left = Tile(len(box.rows), self.vectors), list(part.starts), list(part.counts)
            for axis, start, count in zip(walked, at, counts, strict=False):
                starts[axis], left[axis] = c.add(starts[axis], start), count
            name = "@" + streamed_kernel(self.f.module, c.holds, tile, layout, len(box.columns))
            b = c.offset(rhs, [box.columns.start, *at], [c.column, *layout.rhs[: len(at)]])
            to = c.offset(out, [box.rows.start, box.columns.start], [self.columns, 1])
            new = _Part(tuple(starts), tuple(left))
            self._call(lambda *_: name, new, layout, box.rows.start, b, to, "true")

        along(0, [], [], Box(range(c.m), range(valid)))

    def _sum_compared(
        self, inside: Inside, kernel: _Kernel, part: _Part, layout: Layout, row: Value, height: Value,
        rhs: str, out: str, more: str,
    ) -> None:  # fmt: skip
        """Sum a part step by step where conditions run through the tile."""
        starts, counts = part.starts, part.counts
        crossed = inside.crossed(row, self.at, starts, height, self.columns, counts)

        def compared() -> Sequence[str]:
            last = [v for pair in inside.values(row, self.at, starts) for v in pair]
            walks = inside.walks(self.walked)
            self._call(kernel, part, layout, row, rhs, out, more, walks, last)
            return []

        def plain() -> Sequence[str]:
            self._call(kernel, part, layout, row, rhs, out, more)
            return []

        self.ctx.when(crossed, compared)
        self.ctx.when(self.f(f"xor i1 {crossed}, true"), plain)

    def _call(
        self, kernel: _Kernel, part: _Part, layout: Layout, row: Value, rhs: str, out: str, more: str,
        through: _Through | None = None, last: Sequence[Value] = (),
    ) -> None:  # fmt: skip
        """Let a micro-kernel sum a part. through: what runs through the tile; last: that is passed for it."""
        c = self.c
        lhs = c.offset(c.lhs, [row, self.at, *part.starts], [c.row, c.lhs_column, *c.lhs_strides])
        counts = [part.counts[i] for i in self.walked]
        name = kernel(layout, through)
        numbers = ", ".join(f"i64 {v}" for v in (*counts, *passed_strides(layout), *last))
        self.f.do(f"call void {name}(ptr {lhs}, ptr {rhs}, ptr {out}, i1 {more}, {numbers})")

    # Scratch memory.

    def _clear(self, place: str, elements: Value) -> None:
        """Zero so many elements, a multiple of 16."""
        self.c.each(0, elements, VECTOR, lambda at: self.c.store("zeroinitializer", place, at))

    def _clear_unless(self, more: str, place: str, elements: Value) -> None:
        """Zero so many elements, a multiple of 16, unless the chains in them go on."""

        def clear() -> Sequence[str]:
            self._clear(place, elements)
            return []

        self.ctx.when(self.f(f"xor i1 {more}, true"), clear)

    def _add_unless(self, first: str, total: str, chain: str, elements: Value) -> None:
        """total += chain, unless the chain is the first and went into the total itself."""
        if first == "true":
            return
        c = self.c
        add = "fadd" if c.dtype.is_floating_point else "add"

        def one(at: Value) -> None:
            x, y = c.load(total, at), c.load(chain, at)
            c.store(self.f(f"{add} {c.vector} {x}, {y}"), total, at)

        def all_of_them() -> Sequence[str]:
            c.each(0, elements, VECTOR, one)
            return []

        self.ctx.when(self.f(f"xor i1 {first}, true"), all_of_them)
