"""`Context`: everything that emitting a kernel's statements needs: the function's text, buffers, symbols
and values.

Values of kernel IR are `Reg`s. Inside a vector loop the context has a `Group`: the lane axis runs over
`parts` vectors of 16 at a time. A value defined outside, or from such values only, stays a scalar until a
vector needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ..ir.dtypes import DType
from ..ir.expr import Dim, Expr
from ..ir.kernel import VECTOR, Axis, Compute, Kernel, Local, Scalar, Statement
from .combs import combs_of
from .indices import Indices, Value, splat
from .known import Known
from .lanes import MEMORY, REGISTER, Lanes, constant_text, lane_mask, type_text
from .prefetch import distances, far_buffers
from .target import Target
from .text import Function
from .walk import index_symbols


@dataclass(frozen=True)
class Reg:
    """A value in registers. parts: one scalar, or for a vector a <16 x T> per part of the group. depth: the
    scope that defines it.
    """

    parts: tuple[str, ...]
    dtype: DType
    vector: bool
    depth: int

    @property
    def element(self) -> str:
        return REGISTER[self.dtype]

    @property
    def types(self) -> tuple[str, ...]:
        """The LLVM type of each part."""
        return (type_text(self.element, VECTOR if self.vector else 1),) * len(self.parts)


@dataclass(frozen=True)
class Group:
    """What runs together in a vector loop: `parts` vectors of 16 lanes. masks: per part, the lanes that
    count; None if all do.
    """

    parts: int
    masks: tuple[str, ...] | None = None

    @property
    def align(self) -> int:
        """The lane axis starts at multiples of this, which is also the number of lanes."""
        return VECTOR * self.parts


@dataclass(frozen=True)
class Memory:
    """A buffer as the function sees it."""

    pointer: str
    dtype: DType

    @property
    def element(self) -> str:
        return MEMORY[self.dtype]

    @property
    def align(self) -> int:
        return self.dtype.itemsize


class Context:
    """The state of emitting one kernel. `emit` writes one statement; it is passed in, as statements nest."""

    def __init__(
        self, f: Function, kernel: Kernel, target: Target, emit: Callable[[Context, Statement], None]
    ) -> None:
        """Buffers and sizes are the parameters %b.<name> and %s.<name> of `f`."""
        self.f = f
        self.target = target
        #: Whether the order of arithmetic is free.
        self.fast = kernel.numerics == "fast"
        self.indices = Indices(f)
        self.known = Known()
        self.combs = combs_of(kernel)
        self.buffers = {b.name: Memory(f"%b.{b.name}", b.dtype) for b in kernel.buffers}
        self.large = far_buffers(kernel)
        self.streams = {b.name for b in kernel.buffers if b.access == "stream"}
        self.ahead = distances(kernel)
        self.group: Group | None = None
        self.status: str | None = None
        #: The comparisons so far, and what joins them, by their results.
        self.tests: dict[Scalar, Compute] = {}
        self._emit = emit
        self._values: dict[Scalar, Reg] = {}
        self._bounds: dict[str, tuple[Value, Value]] = {}
        self._indexing = {name for name in index_symbols(kernel) if name.startswith("%")}
        for name in kernel.sizes:
            self.indices.bind(name, f"%s.{name}")

    def beside(self, f: Function, kernel: Kernel) -> Context:
        """For a part of the kernel in a function of its own, to which everything has yet to be made known."""
        return Context(f, kernel, self.target, self._emit)

    def finish(self) -> None:
        """Before the function returns: what was written past the caches is there for other threads."""
        if self.streams:
            self.f.call("void", "llvm.x86.sse.sfence")

    # Values.

    def get(self, scalar: Scalar) -> Reg:
        """The registers of a value."""
        return self._values[scalar]

    def set(self, scalar: Scalar, parts: Sequence[str], vector: bool) -> None:
        """Give a value its registers. An integer that indices name becomes a symbol of them."""
        reg = Reg(tuple(parts), scalar.dtype, vector, self.indices.level)
        self._values[scalar] = reg
        if f"%{scalar.name}" in self._indexing:
            self._bind_integer(f"%{scalar.name}", reg)

    def scalars(self) -> list[Scalar]:
        """All that have been given registers or are constants so far."""
        return list(self._values)

    def _bind_integer(self, name: str, reg: Reg) -> None:
        if not reg.parts[0].startswith(("%", "splat", "zero", "<")):
            self.indices.bind(name, int(reg.parts[0]))
            return
        if reg.element == "i64":
            wide = reg.parts
        else:
            how = "sext" if reg.dtype.is_signed else "zext"
            to = type_text("i64", VECTOR if reg.vector else 1)
            wide = tuple(
                self.f(f"{how} {kind} {p} to {to}") for kind, p in zip(reg.types, reg.parts, strict=True)
            )
        parts = wide if reg.vector else ()
        self.indices.bind(name, "" if reg.vector else wide[0], parts=parts, natural=False)

    def spread(self, reg: Reg) -> tuple[str, ...]:
        """The value as vectors, one per part of the group."""
        assert self.group is not None
        if reg.vector:
            return reg.parts
        text = reg.parts[0]
        if not text.startswith("%"):
            vector = constant_text(text, reg.element, VECTOR)
        else:
            make = lambda: splat(self.f, reg.element, text)  # noqa: E731
            vector = self.indices.once(("splat", text), reg.depth, make)
        return (vector,) * self.group.parts

    def lanes(self, dtype: DType, vector: bool) -> Lanes:
        """Arithmetic on registers of this dtype."""
        return Lanes(self.f, REGISTER[dtype], VECTOR if vector else 1, not dtype.is_signed)

    def scratch(self, local: Local) -> None:
        """Room on the stack for scratch memory; each turn of the loops around uses it anew."""
        pointer = self.f.alloca(MEMORY[local.dtype], max(local.size, 1))
        self.buffers[local.name] = Memory(pointer, local.dtype)

    # Structure.

    def body(self, statements: Sequence[Statement]) -> None:
        """Emit statements in order."""
        for statement in statements:
            self._emit(self, statement)

    def loop(
        self,
        axis: str | None,
        start: Value,
        stop: Value,
        step: int,
        carried: Sequence[tuple[str, str]],
        body: Callable[[Value, list[str]], Sequence[str]],
        *,
        extent: Dim | None = None,
        lanes: bool = False,
    ) -> list[str]:
        """A loop whose index is known to index expressions as `axis`; see Function.loop. A loop of one turn
        is written out, one of none vanishes. lanes: the index is a lane axis, of which `step` lanes run
        together.
        """

        def inner(index: Value, values: list[str]) -> Sequence[str]:
            if axis is not None:
                self.bind(axis, index, extent, lanes=lanes)
            return body(index, values)

        firsts = [first for _, first in carried]
        if isinstance(start, int) and isinstance(stop, int) and start + step >= stop:
            if start >= stop:
                return firsts
            with self.indices.scope(self.f.place()):
                return list(inner(start, firsts))
        with self.indices.scope(self.f.place()), self.known.stretch():
            return self.f.loop(start, stop, step, carried, inner)

    def bind(self, axis: str, value: Value, extent: Dim | None = None, *, lanes: bool = False) -> None:
        """Let an axis stand for a value; with lanes, for value + lane."""
        if lanes:
            self.indices.bind(axis, value, extent, steps=1)
        else:
            self.indices.bind(axis, value, extent)

    def when(
        self, condition: str, then: Callable[[], Sequence[str]], otherwise: Sequence[tuple[str, str]] = (),
        rarely: bool = False,
    ) -> list[str]:  # fmt: skip
        """A branch; see Function.when."""
        with self.indices.scope(self.f.place()), self.known.stretch():
            return self.f.when(condition, then, otherwise, rarely)

    @contextmanager
    def cut(self, axis: Axis, start: Value, stop: Value) -> Iterator[None]:
        """The loop over this axis runs from `start` to `stop` only. start: a multiple of a vector loop's
        vectors; stop: one too, or the axis's end.
        """
        self._bounds[axis.name] = (start, stop)
        yield
        del self._bounds[axis.name]

    def bounds(self, axis: Axis) -> tuple[Value, Value]:
        """Where the loop over an axis starts and stops."""
        found = self._bounds.get(axis.name)
        return found if found is not None else (0, self.indices.value(axis.extent))

    @contextmanager
    def vectors(self, group: Group) -> Iterator[None]:
        """Emit for a group of vectors."""
        before, self.group = self.group, group
        yield
        self.group = before

    @contextmanager
    def scope(self) -> Iterator[None]:
        """A stretch of straight code with bindings of its own."""
        with self.indices.scope(self.f.place()):
            yield

    def epilogue(
        self, body: Sequence[Statement], m: Axis, row: Value, n: Axis, column: Value, result: Scalar,
        parts: Sequence[str], masks: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        """Emit the body of a contraction for row `m` = row and columns `n` = column ..., 16 per part, with
        `result` known.

        column: a multiple of 16 * len(parts), an int or i64. masks: <16 x i1> per part where not all lanes
        count.
        """
        with self.scope(), self.vectors(Group(len(parts), tuple(masks) if masks is not None else None)):
            self.bind(m.name, row, m.extent)
            self.bind(n.name, column, n.extent, lanes=True)
            self.set(result, parts, vector=True)
            self.body(body)

    # Addresses.

    def index(self, dim: Dim) -> str:
        """An index expression as text of an i64 operand; lane axes count with their value in lane 0."""
        return self.indices.text(dim)

    def address(self, buffer: str, dim: Dim, more: int = 0) -> str:
        """The address of buffer[dim + more]: what the loop leaves unchanged is added outside of it,
        constants last.
        """
        memory = self.buffers[buffer]
        outer: Dim = 0
        inner: Dim = 0
        for monomial, c in (dim.terms if isinstance(dim, Expr) else {(): dim}).items():
            if not monomial:
                more += c
                continue
            term = Expr({monomial: c})
            if self.indices.depth(term) < self.indices.level:
                outer = outer + term
            else:
                inner = inner + term
        pointer = memory.pointer
        if outer != 0:
            base = pointer
            make = lambda: self._offset(memory, base, self.indices.value(outer))  # noqa: E731
            pointer = self.indices.once((buffer, str(outer)), self.indices.depth(outer), make)
        pointer = self._offset(memory, pointer, self.indices.value(inner))
        return self._offset(memory, pointer, more)

    def _offset(self, memory: Memory, pointer: str, by: Value) -> str:
        return pointer if by == 0 else self.f(f"getelementptr {memory.element}, ptr {pointer}, i64 {by}")


def tail_mask(ctx: Context, count: Value) -> str:
    """The first `count` lanes of a vector."""
    if isinstance(count, int):
        return lane_mask(count)
    wide = splat(ctx.f, "i32", ctx.f(f"trunc i64 {count} to i32"))
    steps = ", ".join(f"i32 {lane}" for lane in range(VECTOR))
    return ctx.f(f"icmp slt <{VECTOR} x i32> <{steps}>, {wide}")
