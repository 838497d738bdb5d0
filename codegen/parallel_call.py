"""A part of a kernel as a function of its own, and calls of it.

    i64 part(ptr context, i64 begin, i64 end)          the units begin .. end - 1; returns the status

The context lies on the caller's stack: addresses of buffers, run-time sizes, and the values that were
computed before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count

from ..ir.expr import symbol, symbols_of
from ..ir.kernel import Check, Compute, Kernel, Loop, Reduce, Scalar, Statement, Store
from .context import Context, Memory, Reg
from .indices import Value
from .lanes import type_text
from .text import Function
from .threads import PARALLEL, PIECES
from .walk import dims_of, nested

_SLOT = 16  # bytes of a value in the context
Emit = Callable[[Context, Sequence[str]], None]


class PartCall:
    """A part, and what its calls hand to it: the addresses of buffers, the kernel's sizes, scalars that the
    statement uses and does not define, and further words."""

    def __init__(
        self, ctx: Context, kernel: Kernel, statement: Statement, emit: Emit, words: Sequence[str] = ()
    ) -> None:
        """emit(context of the part, its words) writes the units %begin .. %end - 1. words: pointers."""
        self.ctx, self.sizes, self.words = ctx, kernel.sizes, words
        self.captured = _captured(ctx, statement)
        self.room = ctx.f.alloca(f"[{_SLOT} x i8]", len(self._values()))
        module = ctx.f.module
        self.name = next(name for n in count() if not module.defined(name := f'"{kernel.name}.part{n}"'))
        f = Function(module, self.name, [("ptr", "context"), ("i64", "begin"), ("i64", "end")])
        part = ctx.beside(f, kernel)
        given = self._open(part)
        checked = any(isinstance(s, Check) for s in nested([statement]))
        if checked:
            part.status = f.alloca("i64", align=8)
            f.do(f"store i64 0, ptr {part.status}, align 8")
        emit(part, given)
        f.prefix = "v"
        part.finish()
        f.do(f"ret i64 {f(f'load i64, ptr {part.status}, align 8') if checked else 0}")
        module.add(f)

    def emit(self, units: Value, work: Value, pieces: int = PIECES) -> None:
        """Have the units run, each being so much work; a failure becomes the kernel's, if that has none."""
        ctx, f = self.ctx, self.ctx.f
        for number, (kind, value) in enumerate(self._values()):
            f.do(f"store {kind} {value}, ptr {_slot(f, self.room, number)}, align {_SLOT}")
        f.module.declare(PARALLEL, "i64", ["ptr", "ptr", "i64", "i64", "i64"])
        sizes = f"i64 {units}, i64 {work}, i64 {pieces}"
        status = f(f"call i64 @{PARALLEL}(ptr @{self.name}, ptr {self.room}, {sizes})")
        if ctx.status is not None:
            before = f(f"load i64, ptr {ctx.status}, align 8")
            chosen = f(f"select i1 {f(f'icmp eq i64 {before}, 0')}, i64 {status}, i64 {before}")
            f.do(f"store i64 {chosen}, ptr {ctx.status}, align 8")

    def _values(self) -> list[tuple[str, str]]:
        """(type, value) of everything in the context; the order is that of `_open`."""
        ctx = self.ctx
        values = [("ptr", memory.pointer) for memory in ctx.buffers.values()]
        values += [("i64", ctx.index(symbol(name))) for name in self.sizes]
        regs = [ctx.get(scalar) for scalar in self.captured]
        values += [(type_text(reg.element, 1), reg.parts[0]) for reg in regs if _in_register(reg)]
        return values + [("ptr", word) for word in self.words]

    def _open(self, part: Context) -> list[str]:
        """Take everything out of the context; gives the words."""
        f, numbers = part.f, count()

        def take(kind: str) -> str:
            return f(f"load {kind}, ptr {_slot(f, '%context', next(numbers))}, align {_SLOT}")

        for name, memory in self.ctx.buffers.items():
            part.buffers[name] = Memory(take("ptr"), memory.dtype)
        for name in self.sizes:
            part.indices.bind(name, take("i64"))
        for scalar in self.captured:
            reg = self.ctx.get(scalar)
            text = take(type_text(reg.element, 1)) if _in_register(reg) else reg.parts[0]
            part.set(scalar, [text], vector=False)
        return [take("ptr") for _ in self.words]


def _slot(f: Function, context: str, number: int) -> str:
    return f(f"getelementptr [{_SLOT} x i8], ptr {context}, i64 {number}")


def _in_register(reg: Reg) -> bool:
    """Constants go by their text instead."""
    return reg.parts[0].startswith("%")


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
