"""Which statements are divided between threads, and into what units.

A unit is a turn of parallel loops, a block of a vector loop, or a block of rows and columns of a contraction;
`parallel` writes the code. Whether cutting pays is decided here where sizes are known, and when the kernel
runs where they are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..ir.expr import Dim, coefficient, floordiv, product, symbol, symbols_of
from ..ir.kernel import (
    VECTOR,
    Axis,
    Buffer,
    Contract,
    Guard,
    Kernel,
    Load,
    Local,
    Loop,
    Reduce,
    Statement,
    Store,
)
from .threads import UNITS_PER_NS, WORTH
from .transpose import is_transposing_copy
from .transpose_runs import runs_of
from .walk import nested
from .work import work

#: So many units are enough, for any number of threads; so many are good for a few.
_ENOUGH, _FEWEST = 64, 8
#: Elements of a vector loop in one unit, and where its body holds a loop.
_BLOCK, _COLUMNS = 4096, 64
#: Rows of a copy that transposes, in one unit.
_SQUARES = 64
#: A unit of a contraction: about so much work, at least so many rows and columns.
_PIECE, _ROWS, _FEWEST_COLUMNS = 30_000 * UNITS_PER_NS, 48, 32
#: Rows that pay for packing the columns anew, unless there are so many units of columns.
_ROWS_PACKED, _COLUMN_UNITS = 128, 8
#: Columns of a unit where contiguous ones are packed: as the widest tile.
_COLUMNS_PACKED = 64
#: Elements of a right operand that does not stay in second-level cache.
_LARGE = 128 << 10
#: Few rows are bound by memory: runs of so many columns.
_FEW_ROWS, _RUN = 8, 512


@dataclass(frozen=True)
class Cut:
    """An axis in steps of so many turns, the last one maybe shorter."""

    axis: Axis
    step: int

    @property
    def count(self) -> Dim:
        return floordiv(self.axis.extent + (self.step - 1), self.step)


@dataclass(frozen=True)
class Division:
    """How a statement is cut. outer: loops of one turn per unit; inner: what stands in them; cuts: of axes of
    `inner`, or of the loop in a serial one."""

    outer: tuple[Axis, ...]
    inner: Loop | Contract
    cuts: tuple[Cut, ...]

    @property
    def counts(self) -> tuple[Dim, ...]:
        return (*(axis.extent for axis in self.outer), *(cut.count for cut in self.cuts))


def divide(statement: Statement, kernel: Kernel) -> Division | None:
    """How to cut a statement of a kernel; None if it can't be or isn't worth it."""
    total = work([statement], kernel.sizes)
    if isinstance(total, int) and total < WORTH:
        return None
    outer, inner = _nest(statement)
    if not isinstance(inner, Loop | Contract):
        return None
    found = Division(outer, inner, _cuts(outer, inner, kernel))
    units = product(found.counts)
    if not found.cuts or isinstance(units, int) and units < 2 or not _is_private(found):
        return None
    return found


def _nest(statement: Statement) -> tuple[tuple[Axis, ...], Statement | None]:
    """(parallel loops directly within each other that have too few turns to be cut alone, what stands in
    them)."""
    outer: list[Axis] = []
    while isinstance(statement, Loop) and statement.kind == "parallel":
        units = product((*(axis.extent for axis in outer), statement.axis.extent))
        ends = len(statement.body) != 1 or not _divisible(statement.body[0]) or _has_squares(statement)
        if ends or not isinstance(units, int) or units >= _ENOUGH:
            return tuple(outer), statement
        outer.append(statement.axis)
        (statement,) = statement.body
    return tuple(outer), statement if _divisible(statement) else None


def _has_squares(loop: Loop) -> bool:
    """Whether turns of the loop run together, in squares that are transposed."""
    return is_transposing_copy(loop) or runs_of(loop) is not None


def _divisible(statement: Statement) -> bool:
    return isinstance(statement, Loop | Contract)


def _cuts(outer: tuple[Axis, ...], inner: Loop | Contract, kernel: Kernel) -> tuple[Cut, ...]:
    if isinstance(inner, Contract):
        return _contract_cuts(outer, inner, kernel.sizes)
    if inner.kind == "serial":
        return () if outer else _owners(inner, kernel)
    if inner.kind == "parallel":
        return (Cut(inner.axis, _SQUARES if _has_squares(inner) else 1),)
    has_loop = any(isinstance(s, Loop | Reduce) for s in inner.body)
    return (Cut(inner.axis, _COLUMNS if has_loop else _block(inner.axis.extent)),)


def _block(extent: Dim) -> int:
    """Elements of a vector loop in one unit: less of one that is short, so that there are a few."""
    return _BLOCK if not isinstance(extent, int) else min(_BLOCK, _step(extent, _FEWEST, _COLUMNS))


def _contract_cuts(outer: tuple[Axis, ...], c: Contract, sizes: Sequence[str]) -> tuple[Cut, ...]:
    """Columns first: a panel of the right operand is then packed once. Rows where there are few columns."""
    m, n = c.m.extent, c.n.extent
    if not isinstance(m, int) or not isinstance(n, int):
        whole = () if isinstance(m, int) else (Cut(c.m, 5 * _ROWS),)
        return whole or (Cut(c.n, 2 * _FEWEST_COLUMNS),)
    total, around = work([c], sizes), product(axis.extent for axis in outer)
    wanted = min(_ENOUGH, max(_FEWEST, total // _PIECE)) if isinstance(total, int) else _ENOUGH
    if isinstance(around, int):
        wanted = -(-wanted // max(around, 1))
    scattered, large = _is_scattered(c), _is_large(c)
    if not scattered and not large and wanted > 2 and m > VECTOR and n >= 2 * _COLUMNS_PACKED:
        # Two threads take half of the rows each, as the kernels before and after do: what they share then
        # does not change cores. Measured: chains of 64 x 128 x 128 gain 1.55 instead of 1.2.
        rows = VECTOR if m < 2 * _ROWS else _ROWS
        return (Cut(c.m, _step(m, 2, rows)), Cut(c.n, _step(n, -(-wanted // 2), _COLUMNS_PACKED)))
    wide = large and not scattered and m >= _ROWS_PACKED
    fewest = _RUN if m <= _FEW_ROWS else _COLUMNS_PACKED if wide else _FEWEST_COLUMNS
    columns = Cut(c.n, _step(n, wanted, fewest))
    if n < 4 * _FEWEST_COLUMNS and m >= 2 * _ROWS and not (scattered and n >= 2 * _FEWEST_COLUMNS):
        columns = Cut(c.n, max(n, 1))
    left = -(-wanted // max(1, -(-n // columns.step)))
    if scattered or large:  # columns are packed once per unit, which many rows pay for
        left = min(left, m // _ROWS_PACKED) if n // columns.step < _COLUMN_UNITS else 1
    return (Cut(c.m, _step(m, left, _ROWS)), columns)


def _is_scattered(c: Contract) -> bool:
    """Whether columns of the right operand (of bfloat16: of pairs) are not contiguous, and so packed."""
    return coefficient(c.rhs_index, c.n.name) != (2 if c.over[-1].extent == 2 else 1)


def _is_large(c: Contract) -> bool:
    """Whether the right operand is so large that columns of it are likely packed."""
    size = product((c.n.extent, *(axis.extent for axis in c.over)))
    return not isinstance(size, int) or size > _LARGE


def _owners(loop: Loop, kernel: Kernel) -> tuple[Cut, ...]:
    """The destinations of a scatter: a serial loop whose stores all go where one integer says, which their
    guards keep within the outermost axis. Each unit goes through all turns, for destinations of its own."""
    inside, buffers = list(nested((loop,))), {b.name: b for b in kernel.buffers}
    written = {s.buffer for s in inside if isinstance(s, Store)}
    touching = [s for s in inside if isinstance(s, Load | Store) and s.buffer in written]
    if not touching or any(isinstance(s, Reduce | Contract | Local) or _carries(s) for s in inside):
        return ()
    if len({(s.buffer, s.index) for s in touching}) > len(written):
        return ()
    for guard in touching[0].guards:
        names, high = symbols_of(guard.expr), guard.high
        if len(names) != 1 or not symbols_of(high) <= set(kernel.sizes):
            continue
        (name,) = names
        outermost = all(_is_outermost(s, name, high, buffers[s.buffer]) for s in touching)
        if guard == Guard(symbol(name), 0, high) and outermost and all(guard in s.guards for s in touching):
            return (Cut(Axis(name, high), -(-high // _ENOUGH) if isinstance(high, int) else 1),)
    return ()


def _carries(s: Statement) -> bool:
    return isinstance(s, Loop) and bool(s.carries)


def _is_outermost(s: Load | Store, name: str, extent: Dim, buffer: Buffer) -> bool:
    """Whether a symbol is the index along the outermost axis of a buffer."""
    stride = coefficient(s.index, name)
    return stride is not None and stride * extent == buffer.size


def _step(extent: int, wanted: int, least: int) -> int:
    """The step, a multiple of `least`, that cuts an extent into at most about `wanted`."""
    return max(least, -(-extent // max(wanted, 1) // least) * least)


def _is_private(division: Division) -> bool:
    """Whether units surely write to different places: each store moves with every axis that is cut."""
    inside = list(nested([division.inner]))
    own = {s.name for s in inside if isinstance(s, Local)}
    axes = {axis.name for axis in division.outer}
    axes |= {cut.axis.name for cut in division.cuts if cut.count != 1}
    return all(axes <= symbols_of(s.index) for s in inside if isinstance(s, Store) and s.buffer not in own)
