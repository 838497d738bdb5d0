"""While a tile reads one panel of the right operand, the next is brought into the second-level cache.

A panel is read again by each tile before the next one is. So its first tiles fetch the next panel, one line
for each step of the sum: the first tile the first line of each of its rows, and so on. Memory is then read
while the multiply-add units work. The next panel is the one beside this in a matrix that is read as it lies,
or, of weights that lie in blocks (`passes.lower.blocked`), the block behind it, which is read after some rows
of pixels. What is fetched beyond the last panel is never read, and does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass

from .contract_sum import Contraction
from .indices import Value

_LINE = 64
#: Bytes of a block: less is read quickly as it is, more does not stay in cache. And of a panel in a matrix.
_LEAST, _MOST = 256 << 10, 4 << 20
_MOST_PANEL = 256 << 10
#: More rows than this in one go read a block often enough.
_MOST_ROWS = 64


@dataclass
class Ahead:
    """c: reads panels that begin `size` elements apart. lines: of a row of the panel. slot: remembers the
    panel that is being read, and the number of its tiles so far."""

    c: Contraction
    size: int
    lines: int
    slot: str

    @classmethod
    def of(cls, c: Contraction, vectors: int) -> Ahead | None:
        """For a contraction that reads a large block in one run, again and again, or panels of a large matrix
        side by side; else None."""
        apart = cls._apart(c, vectors)
        if apart is None:
            return None
        slot = c.f.alloca("i64", 2)
        c.f.at_entry(f"store i64 0, ptr {slot}, align 8")
        return cls(c, apart, vectors * 16 * c.dtype.itemsize // _LINE, slot)

    @staticmethod
    def _apart(c: Contraction, vectors: int) -> int | None:
        size = c.product((c.n, *c.extents))
        if c.column != 1 or not isinstance(size, int) or not isinstance(c.m, int):
            return None
        bytes_, width = size * c.dtype.itemsize, 16 * vectors
        runs_on = all(
            stride == c.product((c.n, *c.extents[at + 1 :])) for at, stride in enumerate(c.rhs_strides)
        )
        if runs_on and c.m <= _MOST_ROWS:
            return size if _LEAST <= bytes_ <= _MOST else None
        beside = c.contract.rhs in c.ctx.large and all(
            isinstance(s, int) and s > width for s in c.rhs_strides
        )
        steps = c.product(c.extents)
        fits = isinstance(steps, int) and steps * width * c.dtype.itemsize <= _MOST_PANEL
        return width if beside and fits and c.m >= vectors * c.tile.rows else None

    def distance(self, block: str) -> Value:
        """How far ahead the tile that comes next is to fetch, in elements, once per step; 0 if the next panel
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


def next_rows(c: Contraction, height: int) -> int:
    """How far ahead a tile fetches the next tile's rows from a large left operand whose rows lie side by
    side: a step reads no more than a line, and the next step's line may lie a page away."""
    far = c.contract.lhs in c.ctx.large and c.row == 1
    apart = all(isinstance(s, int) and s * c.dtype.itemsize > _LINE for s in c.lhs_strides)
    return 2 * height - 1 if far and apart and isinstance(c.m, int) and c.m > height else 0
