"""Loops divided between threads.

A statement at the top of a kernel that is worth it is cut into units of the same work: turns of parallel
loops, blocks of a vector loop, blocks of rows and columns of a contraction. It becomes a function of its own,

    i64 part(ptr context, i64 begin, i64 end)          the units begin .. end - 1; returns the status

which the run-time's `vitrify_parallel` calls for chunks of units, on as many threads as there are: their
number is no part of the code. The context holds the addresses of buffers, run-time sizes, and the values that
were computed before. Cutting changes no order of arithmetic. The status of the first chunk that failed
counts, which is the one that a single thread would have met first.

What emits a loop takes its limits from `Context.bounds`, which gives a part where the loop is cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

from ..ir.expr import Dim, Expr, floordiv, product, symbol, symbols_of
from ..ir.kernel import Axis, Check, Compute, Contract, Kernel, Local, Loop, Reduce, Scalar, Statement, Store
from ..ir.kernel_substitute import substituted
from .context import Context, Memory, Reg
from .indices import Value
from .lanes import type_text
from .text import Function
from .transpose import is_transposing_copy
from .walk import dims_of, nested
from .work import UNITS_PER_NS, work

#: The function of the run-time that runs a part's units.
PARALLEL = "vitrify_parallel"

#: Nanoseconds of work: less is not divided; a chunk has no less.
WORTH, CHUNK = 10_000 * UNITS_PER_NS, 5_000 * UNITS_PER_NS
#: So many units are enough, for any number of threads.
_ENOUGH = 64
#: Elements of a vector loop in one unit, and where its body holds a loop.
_BLOCK, _COLUMNS = 4096, 64
#: Rows of a copy that transposes, in one unit.
_SQUARES = 64
#: A unit of a contraction: about so much work, at least so many rows and columns.
_PIECE, _ROWS, _FEWEST_COLUMNS = 30_000 * UNITS_PER_NS, 48, 32
#: Few rows are bound by memory: runs of so many columns.
_FEW_ROWS, _RUN = 8, 512
_SLOT = 16  # bytes of a value in the context


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
    """How a statement is cut. outer: loops of one turn per unit; inner: what stands in them, cut too."""

    outer: tuple[Axis, ...]
    inner: Loop | Contract
    cuts: tuple[Cut, ...]

    @property
    def counts(self) -> tuple[Dim, ...]:
        return (*(axis.extent for axis in self.outer), *(cut.count for cut in self.cuts))


def emit_in_parallel(ctx: Context, kernel: Kernel, statement: Statement) -> bool:
    """Write a statement at the top of a kernel as a part, if that is worth it; else write nothing."""
    division = divide(statement, kernel.sizes)
    if division is None:
        return False
    captured = _captured(ctx, statement)
    name = _emit_part(ctx, kernel, statement, division, captured)
    context = _context(ctx, kernel.sizes, captured)
    units, grain = ctx.index(product(division.counts)), _grain(ctx, division, kernel.sizes)
    ctx.f.module.declare(PARALLEL, "i64", ["ptr", "ptr", "i64", "i64"])
    status = ctx.f(f"call i64 @{PARALLEL}(ptr @{name}, ptr {context}, i64 {units}, i64 {grain})")
    if ctx.status is not None:
        _note(ctx, status)
    return True


def divide(statement: Statement, sizes: Sequence[str]) -> Division | None:
    """How to cut a statement; None if it can't be or isn't worth it."""
    total = work([statement], sizes)
    if isinstance(total, int) and total < WORTH:
        return None
    outer, inner = _nest(statement)
    if not isinstance(inner, Loop | Contract):
        return None
    cuts = _cuts(outer, inner, sizes)
    found = Division(outer, inner, cuts)
    units = product(found.counts)
    if not cuts or isinstance(units, int) and units < 2 or not _is_private(found):
        return None
    return found


def _nest(statement: Statement) -> tuple[tuple[Axis, ...], Statement | None]:
    """(parallel loops directly within each other that have too few turns to be cut alone, what stands in
    them)."""
    outer: list[Axis] = []
    while isinstance(statement, Loop) and statement.kind == "parallel":
        units = product((*(axis.extent for axis in outer), statement.axis.extent))
        ends = len(statement.body) != 1 or not _divisible(statement.body[0]) or is_transposing_copy(statement)
        if ends or not isinstance(units, int) or units >= _ENOUGH:
            return tuple(outer), statement
        outer.append(statement.axis)
        (statement,) = statement.body
    return tuple(outer), statement if _divisible(statement) else None


def _divisible(statement: Statement) -> bool:
    return isinstance(statement, Contract) or isinstance(statement, Loop) and statement.kind != "serial"


def _cuts(outer: tuple[Axis, ...], inner: Loop | Contract, sizes: Sequence[str]) -> tuple[Cut, ...]:
    if isinstance(inner, Contract):
        return _contract_cuts(outer, inner, sizes)
    if inner.kind == "parallel":
        return (Cut(inner.axis, _SQUARES if is_transposing_copy(inner) else 1),)
    has_loop = any(isinstance(s, Loop | Reduce) for s in inner.body)
    return (Cut(inner.axis, _COLUMNS if has_loop else _BLOCK),)


def _contract_cuts(outer: tuple[Axis, ...], c: Contract, sizes: Sequence[str]) -> tuple[Cut, ...]:
    """Columns first: a panel of the right operand is then packed once. Rows where there are few columns."""
    m, n = c.m.extent, c.n.extent
    if not isinstance(m, int) or not isinstance(n, int):
        whole = () if isinstance(m, int) else (Cut(c.m, 5 * _ROWS),)
        return whole or (Cut(c.n, 2 * _FEWEST_COLUMNS),)
    total, around = work([c], sizes), product(axis.extent for axis in outer)
    wanted = min(_ENOUGH, total // _PIECE) if isinstance(total, int) else _ENOUGH
    if isinstance(around, int):
        wanted = -(-wanted // max(around, 1))
    columns = Cut(c.n, _step(n, wanted, _RUN if m <= _FEW_ROWS else _FEWEST_COLUMNS))
    if n < 4 * _FEWEST_COLUMNS and m >= 2 * _ROWS:
        columns = Cut(c.n, max(n, 1))
    rows = Cut(c.m, _step(m, -(-wanted // max(1, -(-n // columns.step))), _ROWS))
    return (rows, columns)


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


def _grain(ctx: Context, division: Division, sizes: Sequence[str]) -> Value:
    """The least number of units in a chunk."""
    steps = {cut.axis.name: cut.step for cut in division.cuts}
    unit = work([_shortened(division.inner, steps)], sizes)
    if isinstance(unit, int):
        return max(1, CHUNK // max(unit, 1))
    one = ctx.f.call("i64", "llvm.smax.i64", ("i64", ctx.index(unit)), ("i64", "1"))
    units = ctx.f(f"udiv i64 {CHUNK}, {one}")
    return ctx.f.call("i64", "llvm.smax.i64", ("i64", units), ("i64", "1"))


def _shortened(s: Loop | Contract, extents: dict[str, Dim] | dict[str, int]) -> Loop | Contract:
    """The statement with other extents of its axes."""
    if isinstance(s, Loop):
        return replace(s, axis=Axis(s.axis.name, extents.get(s.axis.name, s.axis.extent)))
    m, n = (Axis(axis.name, extents.get(axis.name, axis.extent)) for axis in (s.m, s.n))
    return replace(s, m=m, n=n)


# The call.


def _captured(ctx: Context, statement: Statement) -> list[Scalar]:
    """Scalars that the statement uses and does not define."""
    inside = list(nested([statement]))
    used = {scalar for s in inside for scalar in _operands(s)}
    names = {name for s in inside for dim in dims_of(s) for name in symbols_of(dim)}
    return [s for s in ctx.scalars() if s in used or f"%{s.name}" in names]


def _operands(s: Statement) -> Iterator[Scalar]:
    match s:
        case Compute():
            yield from s.operands
        case Store() | Reduce():
            yield s.value
        case Check():
            yield s.ok
        case Loop():
            yield from (start for _, start in s.carries)
            yield from s.yields


def _context(ctx: Context, sizes: Sequence[str], captured: Sequence[Scalar]) -> str:
    """Everything that a part needs, on the stack; the order is that of `_open`."""
    values = [("ptr", memory.pointer) for memory in ctx.buffers.values()]
    values += [("i64", ctx.index(symbol(name))) for name in sizes]
    regs = [ctx.get(scalar) for scalar in captured]
    values += [(type_text(reg.element, 1), reg.parts[0]) for reg in regs if _in_register(reg)]
    context = ctx.f.alloca(f"[{_SLOT} x i8]", len(values))
    for number, (kind, value) in enumerate(values):
        ctx.f.do(f"store {kind} {value}, ptr {_slot(ctx.f, context, number)}, align {_SLOT}")
    return context


def _slot(f: Function, context: str, number: int) -> str:
    return f(f"getelementptr [{_SLOT} x i8], ptr {context}, i64 {number}")


def _note(ctx: Context, status: str) -> None:
    """A part's status becomes the kernel's, if that has none."""
    before = ctx.f(f"load i64, ptr {ctx.status}, align 8")
    none = ctx.f(f"icmp eq i64 {before}, 0")
    ctx.f.do(f"store i64 {ctx.f(f'select i1 {none}, i64 {status}, i64 {before}')}, ptr {ctx.status}, align 8")


# The part.


def _emit_part(
    ctx: Context, kernel: Kernel, statement: Statement, division: Division, captured: Sequence[Scalar]
) -> str:
    """Write the function; its name."""
    module = ctx.f.module
    name = next(name for n in count() if not module.defined(name := f'"{kernel.name}.part{n}"'))
    f = Function(module, name, [("ptr", "context"), ("i64", "begin"), ("i64", "end")])
    part = ctx.beside(f, kernel)
    _open(ctx, part, kernel.sizes, captured)
    checked = any(isinstance(s, Check) for s in nested([statement]))
    if checked:
        part.status = f.alloca("i64", align=8)
        f.do(f"store i64 0, ptr {part.status}, align 8")
    _emit_units(part, division)
    f.prefix = "v"
    f.do(f"ret i64 {f(f'load i64, ptr {part.status}, align 8') if checked else 0}")
    module.add(f)
    return name


def _open(ctx: Context, part: Context, sizes: Sequence[str], captured: Sequence[Scalar]) -> None:
    """Take everything out of the context, in the order of `_context`."""
    f, number = part.f, 0

    def take(kind: str) -> str:
        nonlocal number
        number += 1
        return f(f"load {kind}, ptr {_slot(f, '%context', number - 1)}, align {_SLOT}")

    for name, memory in ctx.buffers.items():
        part.buffers[name] = Memory(take("ptr"), memory.dtype)
    for name in sizes:
        part.indices.bind(name, take("i64"))
    for scalar in captured:
        reg = ctx.get(scalar)
        text = take(type_text(reg.element, 1)) if _in_register(reg) else reg.parts[0]
        part.set(scalar, [text], vector=False)


def _in_register(reg: Reg) -> bool:
    """Constants go by their text instead."""
    return reg.parts[0].startswith("%")


def _emit_units(ctx: Context, division: Division) -> None:
    """The units begin .. end - 1: as one run of a loop's turns where that is all, else one by one."""
    inner, cuts = division.inner, division.cuts
    if isinstance(inner, Loop) and not division.outer:
        start, stop = (ctx.f(f"mul i64 %{at}, {cuts[0].step}") for at in ("begin", "end"))
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
    extent = ctx.index(loop.axis.extent)
    stop = ctx.f.call("i64", "llvm.smin.i64", ("i64", str(after)), ("i64", extent))
    with ctx.cut(loop.axis, start, stop):
        ctx.body([loop])


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
        shortened = _shortened(moved, {name: length})
        assert isinstance(shortened, Contract)
        _emit_tiles(ctx, shortened, rest)
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
