"""What happens to the sums of a contraction: its body, run on vectors of them.

The sums of a panel lie in scratch memory, row by row. The vectors run along a row; or, where the body's
loads and stores are contiguous down the columns (a result stored transposed, channels first), the sums are
first transposed, in scratch memory too, and the vectors run along the rows' axis: no scattered stores.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.expr import coefficient
from ..ir.kernel import VECTOR, Load, Scalar, Store
from .context import Group, tail_mask
from .contract_pack import square_of, transposing_function
from .contract_sum import Contraction
from .indices import Value
from .walk import nested

_FEW_ROWS = VECTOR // 2
_TOGETHER = 8  # vectors of a row whose bodies are written out


class Epilogue:
    """Writes the body of a contraction for the columns `at` ... of a panel."""

    def __init__(self, c: Contraction, at: Value, vectors: int, valid: Value | None) -> None:
        """vectors: the panel's width, of 16. valid: how many columns exist, None if all do."""
        self.c, self.ctx, self.f = c, c.ctx, c.f
        self.at, self.vectors, self.valid = at, vectors, valid
        self.columns = VECTOR * vectors

    def is_turned(self) -> bool:
        """Whether vectors should run along the rows: more of the body's accesses are contiguous there."""
        c, contract = self.c, self.c.contract
        accesses = [s for s in nested(contract.body) if isinstance(s, Load | Store)]
        along_rows, along_columns = (
            sum(coefficient(s.index, axis.name) == 1 for s in accesses) for axis in (contract.m, contract.n)
        )
        return along_rows > along_columns and not (isinstance(c.m, int) and c.m < _FEW_ROWS)

    # Sums that go on.

    def begin(self, first_row: Value, count: Value, sums: str) -> None:
        """If the contraction goes on from other sums, those of so many rows, put at `sums`."""
        c, contract = self.c, self.c.contract
        if contract.start is None:
            return
        buffer, index = contract.start
        load = Load(Scalar("start", contract.result.dtype), buffer, index)

        def row(at: Value, places: list[str]) -> Sequence[str]:
            for j in range(self.vectors):
                mask, column = self._mask(j), c.add(self.at, VECTOR * j)
                with self.ctx.scope(), self.ctx.vectors(Group(1, (mask,) if mask else None)):
                    self.ctx.bind(contract.m.name, at, contract.m.extent)
                    self.ctx.bind(contract.n.name, column, contract.n.extent, lanes=True)
                    self.ctx.body([load])
                    (part,) = self.ctx.spread(self.ctx.get(load.result))
                    c.store(part, places[0], VECTOR * j)
            return [c.offset(places[0], [self.columns], [1])]

        self.ctx.loop(None, first_row, c.add(first_row, count), 1, [("ptr", sums)], row)

    # Along a row.

    def rows(self, first_row: Value, count: Value, sums: str) -> None:
        """The body for so many rows, whose sums lie at `sums`."""
        c = self.c

        def row(at: Value, places: list[str]) -> Sequence[str]:
            if self.vectors > _TOGETHER:
                self._long_row(at, places[0])
            else:
                self._row(at, [c.load(places[0], VECTOR * j) for j in range(self.vectors)])
            return [c.offset(places[0], [self.columns], [1])]

        self.ctx.loop(None, first_row, c.add(first_row, count), 1, [("ptr", sums)], row)

    def _row(self, row: Value, parts: Sequence[str]) -> None:
        contract = self.c.contract
        if self.vectors == self.c.tile.vectors and self.valid is None:
            self.ctx.epilogue(contract.body, contract.m, row, contract.n, self.at, contract.result, parts)
            return
        for j, part in enumerate(parts):  # the last panel may begin at any multiple of 16
            column, mask = self.c.add(self.at, VECTOR * j), self._mask(j)
            self.ctx.epilogue(
                contract.body, contract.m, row, contract.n, column, contract.result, [part],
                [mask] if mask else None,
            )  # fmt: skip

    def _long_row(self, row: Value, place: str) -> None:
        """A row of many vectors, one after the other."""
        c, contract = self.c, self.c.contract
        whole, rest = c.whole_steps(self.columns if self.valid is None else self.valid, VECTOR)

        def vector(at: Value, mask: str | None) -> None:
            self.ctx.epilogue(
                contract.body, contract.m, row, contract.n, c.add(self.at, at), contract.result,
                [c.load(place, at)], [mask] if mask else None,
            )  # fmt: skip

        c.each(0, whole, VECTOR, lambda at: vector(at, None))
        if rest:
            vector(whole, tail_mask(self.ctx, rest))

    def _mask(self, j: int) -> str | None:
        """The columns of vector j that exist; None for all."""
        if self.valid is None or isinstance(self.valid, int) and self.valid >= VECTOR * (j + 1):
            return None
        return tail_mask(self.ctx, self.c.sub(self.valid, VECTOR * j))

    # Down a column.

    def turned(self, first_row: Value, count: Value, sums: str, block: int) -> None:
        """The body for so many rows, column by column. first_row: a multiple of 16. block: a bound for
        count."""
        c = self.c
        turned = self._transpose(count, sums, block)
        whole, rest = c.whole_steps(count, VECTOR)

        def column(j: Value) -> None:
            line = c.offset(turned, [j], [block])

            def last() -> Sequence[str]:
                self._column(first_row, whole, j, line, tail_mask(self.ctx, rest))
                return []

            c.each(0, whole, VECTOR, lambda row: self._column(first_row, row, j, line, None))
            if isinstance(rest, str):
                self.ctx.when(self.f(f"icmp sgt i64 {rest}, 0"), last)
            elif rest:
                last()

        c.each(0, self.columns if self.valid is None else self.valid, 1, column)

    def _transpose(self, count: Value, sums: str, block: int) -> str:
        """The sums with a line of `block` elements per column."""
        c, side = self.c, square_of(self.ctx.target)
        turned = c.scratch((block + side) * self.columns)
        function = transposing_function(self.f.module, c.element, c.dtype.itemsize, side)

        def squares(row: Value) -> None:
            for column in range(0, self.columns, side):
                of = c.offset(sums, [row, column], [self.columns, 1])
                to = c.offset(turned, [column, row], [block, 1])
                self.f.do(
                    f"call void @{function}(ptr {of}, ptr {to}, i64 {self.columns}, i64 {c.sub(count, row)}, "
                    f"i64 {side}, i64 {block})"
                )

        c.each(0, count, side, squares)
        return turned

    def _column(self, first_row: Value, row: Value, j: Value, line: str, mask: str | None) -> None:
        """The body for 16 rows of column j of the panel, whose sums lie at `line`."""
        c, contract = self.c, self.c.contract
        self.ctx.epilogue(
            contract.body, contract.n, c.add(self.at, j), contract.m, c.add(first_row, row), contract.result,
            [c.load(line, row)], [mask] if mask else None,
        )  # fmt: skip
