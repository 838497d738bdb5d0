"""A kernel as an LLVM function, statement by statement.

    define internal i64 @kernel(ptr %b.x, ptr %b.y, i64 %s.s0)      returns the status: 0, or the code of a
    failed Check

Buffers may alias where the plan reuses one in place, so pointers promise nothing about that.
"""

from __future__ import annotations

from ..ir import ops
from ..ir.dtypes import bool_
from ..ir.kernel import (
    VECTOR,
    Check,
    Compute,
    Const,
    Contract,
    Index,
    Kernel,
    Load,
    Local,
    Loop,
    Reduce,
    Sort,
    Statement,
    Store,
)
from .chains import are_chains, emit_chains
from .context import Context, Group, tail_mask
from .contract import emit_contract
from .elementwise import EMIT
from .indices import Value
from .lanes import literal_text
from .memory import emit_check, emit_load, emit_store
from .parallel import emit_in_parallel
from .reduce import STRAIGHT, emit_reduce
from .sorting import emit_sort
from .target import Target
from .text import Function, Module
from .transpose import emit_transposing_copy, is_transposing_copy
from .transpose_runs import emit_runs, runs_of
from .walk import is_light, nested

#: Vectors that run together where a vector loop holds a loop of its own: memory is then read in longer runs.
_JOINT = 4
#: A body of more statements than this is never written out for several vectors: registers do not hold them.
MOST_STRAIGHT = 128


def emit_kernel(module: Module, kernel: Kernel, target: Target, name: str) -> None:
    """Add the kernel to the module as the function `name`."""
    parameters = [("ptr", f"b.{b.name}") for b in kernel.buffers] + [("i64", f"s.{s}") for s in kernel.sizes]
    f = Function(module, name, parameters)
    ctx = Context(f, kernel, target, emit_statement)
    checked = any(isinstance(s, Check) for s in kernel.statements())
    if checked:
        ctx.status = f.alloca("i64", align=8)
        f.do(f"store i64 0, ptr {ctx.status}, align 8")
    for statement in kernel.body:
        if not emit_in_parallel(ctx, kernel, statement):
            emit_statement(ctx, statement)
    f.prefix = "v"
    ctx.finish()
    f.do(f"ret i64 {f(f'load i64, ptr {ctx.status}, align 8') if checked else 0}")
    module.add(f)


def emit_statement(ctx: Context, statement: Statement) -> None:
    """Write one statement."""
    match statement:
        case Load():
            ctx.f.prefix = f"v{statement.result.name}."
            emit_load(ctx, statement)
        case Compute():
            ctx.f.prefix = f"v{statement.result.name}."
            _compute(ctx, statement)
        case Store():
            ctx.f.prefix = "v"
            emit_store(ctx, statement)
        case Const():
            _const(ctx, statement)
        case Index():
            _index(ctx, statement)
        case Check():
            emit_check(ctx, statement)
        case Local():
            ctx.scratch(statement)
        case Loop(kind="vector"):
            _vector_loop(ctx, statement)
        case Loop():
            _loop(ctx, statement)
        case Reduce():
            ctx.f.prefix = f"v{statement.result.name}."
            emit_reduce(ctx, statement)
        case Contract():
            emit_contract(ctx, statement)
        case Sort():
            emit_sort(ctx, statement)


def _compute(ctx: Context, s: Compute) -> None:
    """An elementwise primitive, on scalars if all operands are."""
    if (test := _range_test(ctx, s)) is not None:
        ctx.set(s.result, *test)
        return
    operands = [ctx.get(o) for o in s.operands]
    vector = any(o.vector for o in operands)
    lanes = ctx.lanes(s.operands[-1].dtype, vector)
    rule, attrs = EMIT[s.opdef], dict(s.attrs)
    if s.opdef is ops.cast:
        attrs["source"] = s.operands[0].dtype
    columns = [ctx.spread(o) if vector else o.parts for o in operands]
    ctx.set(s.result, [rule(lanes, *parts, **attrs) for parts in zip(*columns, strict=True)], vector)


def _range_test(ctx: Context, s: Compute) -> tuple[list[str], bool] | None:
    """0 <= x < n in one comparison, for a signed integer x and a number n: nothing negative is below n if
    both are taken as unsigned. Gives the parts, and whether they are vectors; None for other statements.
    """
    if s.result.dtype is not bool_:
        return None
    ctx.tests[s.result] = s
    first, last = (ctx.tests.get(o) for o in (s.operands[0], s.operands[-1]))
    if s.opdef is not ops.bit_and or first is None or last is None:
        return None
    if first.opdef is not ops.ge or last.opdef is not ops.lt:
        return None
    (x, low), (y, high) = first.operands, last.operands
    zero, bound = ctx.get(low).parts[0], ctx.get(high).parts[0]
    if x is not y or x.dtype.kind != "i" or zero != "0" or not bound.isdigit():
        return None
    value = ctx.get(x)
    lanes = ctx.lanes(x.dtype, value.vector)
    return [lanes.compare("ult", part, lanes.const(int(bound))) for part in value.parts], value.vector


def _const(ctx: Context, s: Const) -> None:
    ctx.set(s.result, [literal_text(s.value, ctx.lanes(s.result.dtype, False).element)], vector=False)


def _index(ctx: Context, s: Index) -> None:
    if ctx.group is not None and ctx.indices.varies(s.expr):
        ctx.set(s.result, [ctx.indices.lanes(s.expr, part) for part in range(ctx.group.parts)], vector=True)
    else:
        ctx.set(s.result, [ctx.index(s.expr)], vector=False)


# Loops.


def _loop(ctx: Context, loop: Loop) -> None:
    """A parallel or serial loop, one turn after the other. In a vector loop what it carries has a value per
    lane.
    """
    if is_transposing_copy(loop) and ctx.group is None:
        emit_transposing_copy(ctx, loop, ctx.body)
        return
    runs = runs_of(loop)
    if runs is not None and ctx.group is None:
        emit_runs(ctx, runs)
        return
    if ctx.group is None and are_chains(loop):
        emit_chains(ctx, loop)
        return
    vector = ctx.group is not None
    starts = [ctx.get(start) for _, start in loop.carries]
    columns = [ctx.spread(s) if vector else s.parts for s in starts]
    carried = [(ctx.lanes(s.dtype, vector).type, p) for s, c in zip(starts, columns, strict=True) for p in c]
    width = ctx.group.parts if ctx.group else 1

    def body(_: object, values: list[str]) -> list[str]:
        for number, (parameter, _start) in enumerate(loop.carries):
            ctx.set(parameter, values[number * width : (number + 1) * width], vector)
        ctx.body(loop.body)
        regs = [ctx.get(y) for y in loop.yields]
        return [p for r in regs for p in (ctx.spread(r) if vector else r.parts)]

    last = ctx.loop(loop.axis.name, *ctx.bounds(loop.axis), 1, carried, body, extent=loop.axis.extent)
    for number, final in enumerate(loop.finals):
        ctx.set(final, last[number * width : (number + 1) * width], vector)


def _vector_loop(ctx: Context, loop: Loop) -> None:
    """Whole groups of vectors, then whole vectors, then a masked rest."""
    extent = loop.axis.extent
    done, stop = ctx.bounds(loop.axis)
    whole = stop // VECTOR if isinstance(stop, int) else STRAIGHT + 1
    if whole <= STRAIGHT and (whole <= 1 or len(loop.body) <= MOST_STRAIGHT):
        done = _whole_vectors(ctx, loop, done, stop, max(whole, 1))
    else:
        has_loops = any(isinstance(s, Loop | Reduce) for s in nested(loop.body))
        if has_loops or (ctx.streams and is_light(loop.body)):
            done = _whole_vectors(ctx, loop, done, stop, _JOINT)
        done = _whole_vectors(ctx, loop, done, stop, 1)
    if isinstance(stop, int):
        if stop % VECTOR:
            _masked(ctx, loop, done, stop % VECTOR)
        return
    if isinstance(extent, int) and extent % VECTOR == 0:
        return
    left = ctx.f(f"sub i64 {stop}, {done}")
    some = ctx.f(f"icmp sgt i64 {left}, 0")
    ctx.when(some, lambda: _masked(ctx, loop, done, left))


def _whole_vectors(ctx: Context, loop: Loop, start: Value, stop: Value, parts: int) -> Value:
    """The groups of `parts` vectors that fit between `start` and `stop`; returns where they end."""
    step = parts * VECTOR
    end = stop // step * step if isinstance(stop, int) else ctx.f(f"and i64 {stop}, {-step}")

    def body(_: object, __: list[str]) -> list[str]:
        with ctx.vectors(Group(parts)):
            ctx.body(loop.body)
        return []

    ctx.loop(loop.axis.name, start, end, step, [], body, extent=loop.axis.extent, lanes=True)
    return end


def _masked(ctx: Context, loop: Loop, start: Value, count: Value) -> list[str]:
    with ctx.scope(), ctx.vectors(Group(1, (tail_mask(ctx, count),))):
        ctx.bind(loop.axis.name, start, loop.axis.extent, lanes=True)
        ctx.body(loop.body)
    return []
