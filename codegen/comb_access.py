"""Runs with gaps: every second, third or fourth element (pooling windows, pixels of interleaved channels).

Read as whole vectors and a shuffle, where a gather would take an access for each element; and written
together with the stores that fill the gaps (`combs`).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.expr import Dim
from ..ir.kernel import VECTOR
from .combs import WIDEST
from .context import Context
from .lanes import type_text


def is_comb(stride: Dim | None) -> bool:
    """Whether lanes are this far apart: 2, 3 or 4."""
    return isinstance(stride, int) and 2 <= stride <= WIDEST


def read_comb(ctx: Context, buffer: str, index: Dim, stride: int, part: int) -> str:
    """The elements index + stride * lane of a part; nothing before the first or after the last is read."""
    memory = ctx.buffers[buffer]
    kind = type_text(memory.element, VECTOR)
    starts = [*range(0, VECTOR * (stride - 1), VECTOR), (VECTOR - 1) * (stride - 1)]
    wanted = [stride * lane for lane in range(VECTOR)]
    result = ""
    for start in starts:
        pointer = ctx.address(buffer, index, stride * VECTOR * part + start)
        vector = ctx.f(f"load {kind}, ptr {pointer}, align {memory.align}")
        stop = start + VECTOR
        inside = {lane: at - start for lane, at in enumerate(wanted) if start <= at < stop}
        result = _merged(ctx, kind, result, vector, inside)
    return result


def _merged(ctx: Context, kind: str, old: str, new: str, chosen: dict[int, int]) -> str:
    """`old` with some lanes taken from `new`: lane -> lane of new."""
    lanes = [VECTOR + chosen[lane] if lane in chosen else lane for lane in range(VECTOR)]
    listed = ", ".join(f"i32 {lane}" for lane in lanes)
    return ctx.f(f"shufflevector {kind} {old or 'poison'}, {kind} {new}, <{VECTOR} x i32> <{listed}>")


def write_comb(ctx: Context, buffer: str, index: Dim, columns: Sequence[Sequence[str]]) -> None:
    """Write element k of every lane at index + len(columns) * lane + k; columns[k]: a vector per part."""
    memory, count = ctx.buffers[buffer], len(columns)
    kind = type_text(memory.element, VECTOR)
    for part, values in enumerate(zip(*columns, strict=True)):
        for run in range(count):
            positions = [VECTOR * run + lane for lane in range(VECTOR)]
            result = ""
            for k, value in enumerate(values):
                chosen = {lane: at // count for lane, at in enumerate(positions) if at % count == k}
                result = _merged(ctx, kind, result, value, chosen)
            pointer = ctx.address(buffer, index, VECTOR * (count * part + run))
            ctx.f.do(f"store {kind} {result}, ptr {pointer}, align {memory.align}")
