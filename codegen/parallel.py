"""Loops divided between threads.

A statement at the top of a kernel that is worth it is cut into units (`division`) and becomes a function of
its own (`parallel_call`), which the run-time's `vitrify_parallel` calls for chunks of units, on as many
threads as there are: their number is no part of the code. Cutting changes no order of arithmetic. The status
of the first chunk that failed counts, which is the one that a single thread would have met first.

What emits a loop takes its limits from `Context.bounds`, which gives a part where the loop is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TypeGuard

from ..ir.expr import Dim, Expr, product, symbol
from ..ir.kernel import Axis, Contract, Guard, Kernel, Load, Loop, Reduce, Statement, Store
from ..ir.kernel_substitute import shortened, substituted
from ..ir.ops.ordered import LANE_BLOCK
from .context import Context
from .division import Cut, Division, divide
from .indices import Value
from .parallel_call import PartCall
from .reduce import blocks_of, emit_blocks, emit_join, emit_result, start_of, state_words
from .threads import WORTH
from .walk import nested
from .work import work

#: Blocks of a long reduction that are joined at a time.
_TABLE = 8192


def emit_in_parallel(ctx: Context, kernel: Kernel, statement: Statement) -> bool:
    """Write a statement at the top of a kernel as a part, if that is worth it; else write nothing."""
    if _is_long_reduction(statement, kernel.sizes):
        _emit_reduction(ctx, kernel, statement)
        return True
    division = divide(statement, kernel)
    if division is None:
        return False
    call = PartCall(ctx, kernel, statement, lambda part, _: _emit_units(part, division))
    if _is_serial(division.inner):
        units, total = ctx.index(division.cuts[0].count), ctx.index(work([statement], kernel.sizes))
        call.emit(units, ctx.f(f"udiv i64 {total}, {units}"), pieces=1)  # each piece goes through all turns
        return True
    (unit,) = shortened((division.inner,), {cut.axis.name: cut.step for cut in division.cuts})
    call.emit(ctx.index(product(division.counts)), ctx.index(work([unit], kernel.sizes)))
    return True


# Reductions of everything: the blocks of the order `lanes` are the units, and joined in order afterwards.


def _is_long_reduction(statement: Statement, sizes: Sequence[str]) -> TypeGuard[Reduce]:
    if not isinstance(statement, Reduce) or statement.order != "lanes":
        return False
    total, blocks = work([statement], sizes), blocks_of(statement)
    return not isinstance(total, int) or not isinstance(blocks, int) or total >= WORTH and blocks > 1


def _emit_reduction(ctx: Context, kernel: Kernel, s: Reduce) -> None:
    """In rounds of as many blocks as the table has room for."""
    f, blocks = ctx.f, ctx.indices.value(blocks_of(s))
    table, base = f.alloca("i64", _TABLE * state_words(s)), f.alloca("i64", align=8)

    def units(part: Context, words: Sequence[str]) -> None:
        first = part.f(f"load i64, ptr {words[1]}, align 8")
        start, stop = (part.f(f"add i64 {first}, %{at}") for at in ("begin", "end"))
        emit_blocks(part, s, start, stop, words[0], first)

    call = PartCall(ctx, kernel, s, units, [table, base])
    block = ctx.index(work([replace(s, axes=(Axis("", LANE_BLOCK),))], kernel.sizes))

    def round_(first: Value, values: list[str]) -> Sequence[str]:
        left = f(f"sub i64 {blocks}, {first}")
        number = f.call("i64", "llvm.smin.i64", ("i64", left), ("i64", str(_TABLE)))
        f.do(f"store i64 {first}, ptr {base}, align 8")
        call.emit(number, block)
        return emit_join(ctx, s, values, table, number)

    emit_result(ctx, s, ctx.loop(None, 0, blocks, _TABLE, start_of(ctx, s), round_))


# The inside of a part.


def _emit_units(ctx: Context, division: Division) -> None:
    """The units begin .. end - 1: as one run of a loop's turns where that is all, else one by one."""
    inner, cuts = division.inner, division.cuts
    if isinstance(inner, Loop) and not division.outer:
        start, stop = (ctx.f(f"mul i64 %{at}, {cuts[0].step}") for at in ("begin", "end"))
        if _is_serial(inner):
            owned = cuts[0].axis
            stop = ctx.f.call("i64", "llvm.smin.i64", ("i64", stop), ("i64", ctx.index(owned.extent)))
            _emit_owned(ctx, inner, owned, start, ctx.f(f"sub i64 {stop}, {start}"))
        else:
            _emit_turns(ctx, inner, start, stop)
        return

    def unit(number: Value, _: list[str]) -> Sequence[str]:
        digits = _digits(ctx, number, division.counts)
        for axis, digit in zip(division.outer, digits, strict=False):
            ctx.bind(axis.name, digit, axis.extent)
        at = digits[len(division.outer) :]
        if isinstance(inner, Contract):
            _emit_tiles(ctx, inner, list(zip(cuts, at, strict=True)))
        else:
            start = _times(ctx, at[0], cuts[0].step)
            _emit_turns(ctx, inner, start, ctx.f(f"add i64 {start}, {cuts[0].step}"))
        return []

    ctx.loop(None, "%begin", "%end", 1, [], unit)


def _digits(ctx: Context, number: Value, counts: Sequence[Dim]) -> list[Value]:
    """The number in the mixed radix of these counts."""
    digits: list[Value] = []
    for radix in map(ctx.index, reversed(counts[1:])):
        if radix == "1":
            digits.append(0)
            continue
        digits.append(ctx.f(f"urem i64 {number}, {radix}"))
        number = ctx.f(f"udiv i64 {number}, {radix}")
    return [number, *reversed(digits)]


def _times(ctx: Context, value: Value, step: int) -> Value:
    return value * step if isinstance(value, int) else ctx.f(f"mul i64 {value}, {step}")


def _emit_turns(ctx: Context, loop: Loop, start: Value, after: Value) -> None:
    """The turns of a loop from `start` to `after`, or its end."""
    stop = ctx.f.call("i64", "llvm.smin.i64", ("i64", str(after)), ("i64", ctx.index(loop.axis.extent)))
    with ctx.cut(loop.axis, start, stop):
        ctx.body([loop])


def _is_serial(statement: Statement) -> bool:
    return isinstance(statement, Loop) and statement.kind == "serial"


def _emit_owned(ctx: Context, loop: Loop, owned: Axis, start: str, count: str) -> None:
    """All turns of a serial loop; what they do from the first access to memory that is written on, only where
    the integer that `owned` names is one of `count` from `start` on."""
    written = {s.buffer for s in nested((loop,)) if isinstance(s, Store)}

    def comes_first(s: Statement) -> bool:
        return not isinstance(s, Loop | Store) and not (isinstance(s, Load) and s.buffer in written)

    def turn(_: Value, __: list[str]) -> Sequence[str]:
        head = tuple(takewhile(comes_first, loop.body))
        rest = loop.body[len(head) :]
        ctx.body(head)
        match rest:
            case (Loop(kind="serial") as inner,):
                _emit_owned(ctx, inner, owned, start, count)
            case _:
                from_start = ctx.f(f"sub i64 {ctx.index(symbol(owned.name))}, {start}")
                holds = Guard(symbol(owned.name), 0, owned.extent)
                _emit_where(ctx, ctx.f(f"icmp ult i64 {from_start}, {count}"), _without(rest, holds))
        return []

    ctx.loop(loop.axis.name, 0, ctx.indices.value(loop.axis.extent), 1, [], turn, extent=loop.axis.extent)


def _emit_where(ctx: Context, condition: str, body: Sequence[Statement]) -> None:
    def then() -> Sequence[str]:
        ctx.body(body)
        return []

    ctx.when(condition, then)


def _without(statements: Sequence[Statement], guard: Guard) -> list[Statement]:
    """The statements where this guard is known to hold."""

    def one(s: Statement) -> Statement:
        match s:
            case Load() | Store():
                return replace(s, guards=tuple(g for g in s.guards if g != guard))
            case Loop() | Reduce():
                return replace(s, body=tuple(map(one, s.body)))
        return s

    return list(map(one, statements))


def _emit_tiles(ctx: Context, contract: Contract, at: Sequence[tuple[Cut, Value]]) -> None:
    """A block of rows and columns. Its size is a number wherever the whole's is: what is left at the end of
    an axis has code of its own."""
    if not at:
        ctx.body([contract])
        return
    (cut, digit), *rest = at
    name, extent = cut.axis.name, cut.axis.extent
    if extent == cut.step or cut.count == 1:
        _emit_tiles(ctx, contract, rest)
        return
    start = symbol(f"#{name}")
    ctx.bind(f"#{name}", _times(ctx, digit, cut.step), extent)
    (moved,) = substituted((contract,), {name: symbol(name) + start})
    assert isinstance(moved, Contract)

    def block(length: Dim) -> Sequence[str]:
        (tile,) = shortened((moved,), {name: length})
        assert isinstance(tile, Contract)
        _emit_tiles(ctx, tile, rest)
        return []

    if isinstance(extent, Expr):
        left = ctx.f(f"sub i64 {ctx.index(extent)}, {ctx.index(start)}")
        length = ctx.f.call("i64", "llvm.smin.i64", ("i64", str(cut.step)), ("i64", left))
        ctx.indices.bind(f"#{name}.length", length)
        block(symbol(f"#{name}.length"))
        return
    whole = extent // cut.step
    if extent % cut.step == 0:
        block(cut.step)
        return
    ctx.when(ctx.f(f"icmp ult i64 {digit}, {whole}"), lambda: block(cut.step))
    ctx.when(ctx.f(f"icmp eq i64 {digit}, {whole}"), lambda: block(extent % cut.step))
