"""Weights that lie in blocks (`passes.lower.blocked`): while a tile reads one block, the next is brought into
the second-level cache.

A block is read again by each tile, for each row of pixels, before the next one is. So its first tiles fetch
the block behind it, one line for each step of the sum: the first tile the first line of each of its rows, and
so on. Memory is then read while the multiply-add units work. What is fetched beyond the last block is
never read, and does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass

from .contract_sum import Contraction
from .indices import Value

_LINE = 64
#: Bytes of a block: less is read quickly as it is, more does not stay in cache.
_LEAST, _MOST = 256 << 10, 4 << 20
#: More rows than this in one go read a block often enough.
_MOST_ROWS = 64


@dataclass
class Ahead:
    """c: reads a right operand of `size` elements that is one block. lines: of a row of the panel. slot:
    remembers the block that is being read, and the number of its tiles so far."""

    c: Contraction
    size: int
    lines: int
    slot: str

    @classmethod
    def of(cls, c: Contraction, vectors: int) -> Ahead | None:
        """For a contraction that reads a large block in one run, again and again; else None."""
        size = c.product((c.n, *c.extents))
        if not isinstance(size, int) or not isinstance(c.m, int) or c.m > _MOST_ROWS:
            return None
        runs_on = all(
            stride == c.product((c.n, *c.extents[at + 1 :])) for at, stride in enumerate(c.rhs_strides)
        )
        if c.column != 1 or not runs_on or not _LEAST <= size * c.dtype.itemsize <= _MOST:
            return None
        slot = c.f.alloca("i64", 2)
        c.f.at_entry(f"store i64 0, ptr {slot}, align 8")
        lines = vectors * 16 * c.dtype.itemsize // _LINE
        return cls(c, size, lines, slot)

    def distance(self, block: str) -> Value:
        """How far ahead the tile that comes next is to fetch, in elements, once per step; 0 if the next block
        is all there."""
        f = self.c.f
        count_at = f(f"getelementptr i64, ptr {self.slot}, i64 1")
        address = f(f"ptrtoint ptr {block} to i64")
        same = f(f"icmp eq i64 {address}, {f(f'load i64, ptr {self.slot}, align 8')}")
        more = f(f"add i64 {f(f'load i64, ptr {count_at}, align 8')}, 1")
        count = f(f"select i1 {same}, i64 {more}, i64 0")
        f.do(f"store i64 {address}, ptr {self.slot}, align 8")
        f.do(f"store i64 {count}, ptr {count_at}, align 8")
        line = f(f"mul i64 {count}, {_LINE // self.c.dtype.itemsize}")
        left = f(f"icmp slt i64 {count}, {self.lines}")
        return f(f"select i1 {left}, i64 {f(f'add i64 {line}, {self.size}')}, i64 0")
