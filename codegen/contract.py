"""Contractions: the loops around the micro-kernel.

The result is covered by panels of columns (`contract_panel`), a panel by register tiles (`contract_tile`).
The right operand is read in place where its columns are contiguous and whole vectors of them exist;
otherwise a panel is packed first (`contract_pack`). Whatever the tiles, every element is summed in the one
canonical order of docs/numerics.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..ir.dtypes import bool_
from ..ir.errors import IRError
from ..ir.expr import symbols_of
from ..ir.kernel import VECTOR, Contract
from .context import Context
from .contract_panel import emit_panel
from .contract_sum import Contraction
from .indices import Value

_FEW_COLUMNS = VECTOR // 2
_LINE = 64
#: Bytes that a right operand reaches over if it is read in place, by whether a panel is one cache line wide.
_SERVED_WELL = {False: 8 << 20, True: 64 << 10}


def emit_contract(ctx: Context, contract: Contract) -> None:
    """Write a contraction. Raises IRError if an operand's index is not linear in the axes, or for bool."""
    if contract.result.dtype is bool_:
        raise IRError(f"contract %{contract.result.name}: bool has no sums")
    with ctx.scope():
        c = Contraction(ctx, _oriented(contract))
        if c.m == 0 or c.n == 0:
            return
        if isinstance(c.m, int):
            _emit_panels(c)
        else:
            ctx.when(c.f(f"icmp sgt i64 {c.m}, 0"), lambda: _emit_panels(c))


def _emit_panels(c: Contraction) -> Sequence[str]:
    """All panels; returns no values (it serves as the body of a branch)."""
    tile = c.tile
    packed = not c.streamed and (c.column != 1 or _pays_to_pack(c))
    whole, rest = c.whole_steps(c.n, tile.columns)

    def full(at: Value, _: list[str]) -> Sequence[str]:
        emit_panel(c, at, tile.vectors, None, packed)
        return []

    def last() -> Sequence[str]:
        emit_panel(c, whole, tile.vectors, rest, True)
        return []

    c.ctx.loop(None, 0, whole, tile.columns, [], full)
    if isinstance(rest, str):
        c.ctx.when(c.f(f"icmp sgt i64 {rest}, 0"), last)
    elif rest:
        partial = rest % VECTOR != 0
        emit_panel(
            c, whole, -(-rest // VECTOR), rest if partial else None, packed or partial and not c.streamed
        )
    return []


def _oriented(contract: Contract) -> Contract:
    """The operands exchanged where there are few columns and more rows, so that lanes are not left idle."""
    m, n = contract.m.extent, contract.n.extent
    shared = contract.n.name in symbols_of(contract.lhs_index)
    if shared or not isinstance(n, int) or n >= _FEW_COLUMNS or isinstance(m, int) and m <= n:
        return contract
    return replace(
        contract, m=contract.n, n=contract.m, lhs=contract.rhs, rhs=contract.lhs,
        lhs_index=contract.rhs_index, rhs_index=contract.lhs_index,
    )  # fmt: skip


def _pays_to_pack(c: Contraction) -> bool:
    """Whether a right operand with contiguous columns is better packed: it reaches too far to be served well
    from the caches as it lies, and there are enough tiles to share a packed panel. Measured: with two cache
    lines of a row to a step a loss up to 1024 cubed; with one line (AVX2), 512 cubed goes from 0.79 to 0.94
    of the peak."""
    steps = [c.mul(e, s) for e, s in zip(c.extents, c.rhs_strides, strict=True)]
    reach = max((abs(step) for step in steps if isinstance(step, int)), default=0)
    if not isinstance(c.m, int) or _is_one_run(c):
        return False
    one_line = c.tile.columns * c.dtype.itemsize <= _LINE
    return reach * c.dtype.itemsize > _SERVED_WELL[one_line] and c.m >= 4 * c.tile.rows


def _is_one_run(c: Contraction) -> bool:
    """Whether the right operand lies as a packed panel does, all of it."""
    inside = (c.product(c.extents[at + 1 :]) for at in range(len(c.extents)))
    return c.n == c.tile.columns and c.rhs_strides == tuple(c.mul(steps, c.tile.columns) for steps in inside)
