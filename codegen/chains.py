"""Rows of a loop that waits for itself (a cumulative sum along rows), several at a time.

A serial loop that carries a value through an addition takes the addition's latency for each turn, three or
four cycles, in which the CPU could do as much for other rows. They are independent: each is the same chain.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.expr import symbol, symbols_of
from ..ir.kernel import Load, Loop, Statement, Store
from ..ir.kernel_substitute import substituted
from .context import Context
from .indices import Value
from .walk import is_light

Body = tuple[Statement, ...]

#: Rows that run together, as long as there are so many. Of eight, read and written, the lines of one place in
#: each page would not fit into the 8 ways of a first-level cache.
TOGETHER = (4, 2, 1)


def are_chains(loop: Loop) -> bool:
    """Whether each turn of a parallel loop is a serial one that carries values through few instructions."""
    if loop.kind != "parallel" or len(loop.body) != 1:
        return False
    (inner,) = loop.body
    if not isinstance(inner, Loop) or not inner.carries or not is_light(inner.body):
        return False
    names = {n for s in inner.body if isinstance(s, Load | Store) for n in symbols_of(s.index)}
    return not any(n.startswith("%") for n in names)


def emit_chains(ctx: Context, loop: Loop) -> None:
    """The turns of the loop, as many together as there are."""
    done, stop = ctx.bounds(loop.axis)
    for count in TOGETHER:
        before, done = done, _end(ctx, done, stop, count)
        _emit_groups(ctx, loop, before, done, count)


def _end(ctx: Context, start: Value, stop: Value, count: int) -> Value:
    """Where groups of `count` turns end, a power of two."""
    if count == 1:
        return stop
    if isinstance(start, int) and isinstance(stop, int):
        return start + (stop - start) // count * count
    left = ctx.f(f"sub i64 {stop}, {start}")
    return ctx.f(f"add i64 {start}, {ctx.f(f'and i64 {left}, {-count}')}")


def _emit_groups(ctx: Context, loop: Loop, start: Value, stop: Value, count: int) -> None:
    """The turns from `start` to `stop`, in groups of `count`."""
    (inner,) = loop.body
    assert isinstance(inner, Loop)
    name = loop.axis.name
    bodies = [substituted(inner.body, {name: symbol(name) + row}) for row in range(count)]

    def group(_: Value, __: list[str]) -> Sequence[str]:
        _emit_rows(ctx, inner, bodies)
        return []

    ctx.loop(name, start, stop, count, [], group, extent=loop.axis.extent)


def _emit_rows(ctx: Context, inner: Loop, bodies: Sequence[Body]) -> None:
    """One loop with a body for each row, which carries what each of them does."""
    starts = [ctx.get(start) for _, start in inner.carries]
    carried = [(s.types[0], s.parts[0]) for s in starts] * len(bodies)
    width = len(starts)

    def turn(_: Value, values: list[str]) -> Sequence[str]:
        following: list[str] = []
        for row, body in enumerate(bodies):
            for (parameter, _start), value in zip(inner.carries, values[row * width :], strict=False):
                ctx.set(parameter, [value], vector=False)
            ctx.body(body)
            following += [ctx.get(y).parts[0] for y in inner.yields]
        return following

    ctx.loop(inner.axis.name, *ctx.bounds(inner.axis), 1, carried, turn, extent=inner.axis.extent)
