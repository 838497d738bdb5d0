"""Writes the statements of one kernel: values are read at an index, whatever they need is computed on the
way.

`KernelWriter.read(value, index)` gives the scalar that holds an element. A stored value is loaded; any
other is computed from its operands, through movement ops by index arithmetic (`values.RULES`), once per
index. A statement stands as far out as what it depends on allows, so what is the same for all elements of a
loop is computed before the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ...ir import ops
from ...ir.dtypes import DType, int64
from ...ir.expr import Dim, symbol, symbols_of
from ...ir.graph import Location, Value
from ...ir.kernel import (
    Axis,
    Buffer,
    Check,
    Compute,
    Const,
    Guard,
    Index,
    Kernel,
    Load,
    Local,
    Loop,
    Reduce,
    Scalar,
    Sort,
    Statement,
    Store,
)  # fmt: skip
from ...ir.opdef import Attr, OpDef
from ...ir.plan import CheckPoint, Step
from ...ir.types import Literal, TensorType
from .aliasing import Access, accesses
from .index import Index as Place
from .index import Shape, linear, place_of

Guards = tuple[Guard, ...]

#: The order of a kernel's buffers.
_ACCESS = ("in", "inout", "out", "temp")


class Checks:
    """The check points of a plan under construction, numbered from 1."""

    def __init__(self) -> None:
        self.points: list[CheckPoint] = []

    def code(self, error: str, message: str, location: Location | None) -> int:
        """A new status code."""
        self.points.append(CheckPoint(len(self.points) + 1, error, message, location))
        return len(self.points)


@dataclass(eq=False)
class Scratch:
    """Memory that a kernel needs for itself."""

    dtype: DType
    size: Dim


#: What a kernel's buffer stands for.
Memory = Value | Scratch


@dataclass
class Built:
    """A kernel and what its buffers stand for, in order. checks: whether it has checks.

    steps: what is done in its place, on its buffers, if it is no kernel (then it has no statements).
    """

    kernel: Kernel
    memory: tuple[Memory, ...]
    checks: bool
    location: Location | None = None
    steps: tuple[Step, ...] = ()

    @cached_property
    def accesses(self) -> list[Access]:
        """All accesses to its buffers."""
        return accesses(self.kernel)

    def values(self, *access: str) -> Iterator[Value]:
        """The values in the kernel's buffers with one of these kinds of access."""
        for memory, buffer in zip(self.memory, self.kernel.buffers, strict=True):
            if buffer.access in access and isinstance(memory, Value):
                yield memory


@dataclass(eq=False)
class _Scope:
    """The statements of one body so far. known: scalars by what they hold."""

    statements: list[Statement] = field(default_factory=list)
    known: dict[object, Scalar] = field(default_factory=dict)


def storage_size(value: Value) -> Dim:
    """Elements from the first to the last of a value in memory."""
    if value.strides is None:
        return value.type.numel
    shape = value.type.shape
    return 0 if 0 in shape else 1 + sum(((d - 1) * s for d, s in zip(shape, value.strides, strict=True)), 0)


class KernelWriter:
    """One kernel under construction.

    loads: whether a value lies in memory by the time the kernel runs (else it is computed here).
    extents: of the loop axes around the current place. checks: those of the plan.
    """

    def __init__(self, loads: Callable[[Value], bool], checks: Checks) -> None:
        self.loads = loads
        self.checks = checks
        self.extents: dict[str, Dim] = {}
        self._scopes = [_Scope()]
        self._symbol_depth: dict[str, int] = {}
        self._depths: dict[Dim, int] = {}
        self._scalar_depth: dict[Scalar, int] = {}
        self._buffers: dict[Memory, tuple[str, str]] = {}
        self._resident: set[Value] = set()
        self._sizes: set[str] = set()
        self._axes = 0
        self._checked = False

    # Reading and writing elements.

    def read(self, value: Value, index: Place, guards: Guards = ()) -> Scalar:
        """The element of a value at an index. Where the guards fail the scalar is arbitrary, and no memory
        is touched."""
        from .values import evaluate

        if value.type.numel == 0:
            # Never needed, but what depends on no loop axis would be computed all the same.
            return self.constant(0, value.type.dtype)
        known = self._scopes[self.depth(index, guards)].known
        key = (value, index, guards)
        found = known.get(key)
        if found is None:
            if self.in_memory(value):
                found = self.load(value, linear(index, value.physical_strides), guards)
            else:
                found = evaluate(self, value, index, guards)
            known[key] = found
        return found

    def in_memory(self, value: Value) -> bool:
        """Whether reading the value is a load."""
        return value in self._resident or self.loads(value)

    def place(self, value: Value, index: Place) -> tuple[Value, Dim] | None:
        """(value in memory, place of the element in it), if plain movement alone leads there."""
        return place_of(value, index, self.extents, self.in_memory)

    def know(self, value: Value, index: Place, scalar: Scalar, guards: Guards = ()) -> None:
        """From here on this scalar holds the element (where the guards hold)."""
        self._scopes[self.depth(index, guards)].known[value, index, guards] = scalar

    def load(
        self, memory: Memory, place: Dim, guards: Guards = (), otherwise: Literal | None = None
    ) -> Scalar:
        """Load from memory; where the guards fail, `otherwise` (zero if not given)."""
        dtype = dtype_of(memory)
        if guards and otherwise is None:
            otherwise = Literal.of(0, dtype)
        name = self._buffer(memory, "in")
        return self._once(
            self.depth((place,), guards), (Load, name, place, guards, otherwise and otherwise.data), dtype,
            lambda result: Load(result, name, place, guards, otherwise if guards else None),
        )  # fmt: skip

    def load_again(self, memory: Memory, place: Dim, guards: Guards = ()) -> Scalar:
        """Load at the current place, what was loaded before not counting: memory that the kernel changes."""
        dtype = dtype_of(memory)
        result = self._fresh(dtype, len(self._scopes) - 1)
        otherwise = Literal.of(0, dtype) if guards else None
        self.add(Load(result, self._buffer(memory, "in"), place, guards, otherwise))
        return result

    def store(self, memory: Memory, place: Dim, scalar: Scalar, guards: Guards = ()) -> None:
        """Store at the current place."""
        self._sizes |= {s for s in symbols_of(place) if s not in self._symbol_depth}
        self.add(Store(self._buffer(memory, "out"), place, scalar, guards))

    def store_element(self, value: Value, index: Place, scalar: Scalar) -> None:
        """Store an element of a value."""
        self.store(value, linear(index, value.physical_strides), scalar)

    def reside(self, value: Value) -> None:
        """The value has been stored for all elements that are read from here on: read it from memory."""
        self._resident.add(value)

    def depart(self, value: Value) -> None:
        """What was stored is not what is read from here on."""
        self._resident.discard(value)

    def share(self, memory: Memory, value: Value) -> None:
        """Keep a value in this memory, of its dtype and size, within the kernel."""
        self._buffer(memory, "out")
        self._buffers[value] = self._buffers[memory]

    def updates(self, memory: Memory) -> None:
        """The memory holds contents before the kernel runs, and the kernel changes them."""
        self._buffer(memory, "inout")

    def operand(self, value: Value) -> str:
        """The name of the buffer of a value that is read by a contraction or a sort."""
        return self._buffer(value, "in")

    def sort(
        self, source: Value, at: Dim, target: Value, to: Dim, scratch: Scratch | Local, by: Dim,
        length: Dim, count: Dim, descending: bool,
    ) -> None:  # fmt: skip
        """Sort a line of `source`, from `at` on, into the `target` from `to` on. scratch: as `Sort` has it, a
        local that stands around or further memory of the kernel."""
        room = scratch.name if isinstance(scratch, Local) else self._buffer(scratch, "temp")
        made = Sort(
            self.operand(source), at, self._buffer(target, "out"), to, room, by, length, count, descending
        )
        self._sizes |= set().union(*map(symbols_of, made.dims)) - self._symbol_depth.keys()
        self.add(made)

    def _buffer(self, memory: Memory, access: str) -> str:
        found = self._buffers.get(memory)
        if found is None:
            kind = "temp" if isinstance(memory, Scratch) else access
            letter = {"in": "x", "temp": "t"}.get(kind, "y")
            count = sum(name.startswith(letter) for name, _ in self._buffers.values())
            found = self._buffers[memory] = (f"{letter}{count}", kind)
        return found[0]

    # Computing.

    def compute(self, opdef: OpDef, *operands: Scalar, **attrs: Attr) -> Scalar:
        """An elementwise op on scalars."""
        depth = max((self._scalar_depth[o] for o in operands), default=0)
        dtype = _result_dtype(opdef, operands, attrs)
        fixed = tuple(attrs.items())
        return self._once(
            depth, (opdef, operands, fixed), dtype, lambda result: Compute(result, opdef, operands, fixed)
        )

    def const(self, value: Literal) -> Scalar:
        """A literal of rank 0."""
        return self._once(0, (value.dtype, value.data), value.dtype, lambda result: Const(result, value))

    def constant(self, value: object, dtype: DType) -> Scalar:
        """A number as a literal."""
        return self.const(Literal.of(value, dtype))

    def index(self, dim: Dim) -> Scalar:
        """An index expression as an i64."""
        if isinstance(dim, int):
            return self.constant(dim, int64)
        return self._once(self._depth(dim), (Index, dim), int64, lambda result: Index(result, dim))

    def symbol(self, scalar: Scalar) -> Dim:
        """An integer scalar as a symbol of index expressions."""
        name = f"%{scalar.name}"
        self._symbol_depth[name] = self._scalar_depth[scalar]
        return symbol(name)

    def holds(self, guards: Guards) -> Scalar:
        """Whether all guards hold, as a bool. guards: at least one."""
        found: Scalar | None = None
        for guard in guards:
            at = self.index(guard.expr)
            above = self.compute(ops.ge, at, self.index(guard.low))
            inside = self.compute(ops.bit_and, above, self.compute(ops.lt, at, self.index(guard.high)))
            found = inside if found is None else self.compute(ops.bit_and, found, inside)
        assert found is not None
        return found

    def check(self, ok: Scalar, error: str, message: str, location: Location | None) -> None:
        """Stop the plan with this error unless `ok`. One check per scalar."""
        depth = self._scalar_depth[ok]
        known = self._scopes[depth].known
        if (Check, ok) not in known:
            known[Check, ok] = ok
            self._scopes[depth].statements.append(Check(ok, self.checks.code(error, message, location)))
            self._checked = True

    # Loops.

    @contextmanager
    def loop(self, kind: str, extent: Dim) -> Iterator[Dim]:
        """A loop around what is written in the block; gives its index. None is made for an extent of 1."""
        if extent == 1:
            yield 0
            return
        axis = self.axis(extent)
        with self.body([axis]) as statements:
            yield symbol(axis.name)
        self.add(Loop(axis, kind, tuple(statements)))

    @contextmanager
    def loops(
        self, shape: Shape, innermost: str, outer: str = "parallel", order: Sequence[int] | None = None
    ) -> Iterator[Place]:
        """Nested loops, the innermost of the one kind, the others of the other; gives the index. order: of
        the axes, from the outermost loop in."""
        order = range(len(shape)) if order is None else order
        last = next((a for a in reversed(order) if shape[a] != 1), -1)
        index: list[Dim] = [0] * len(shape)
        with ExitStack() as stack:
            for a in order:
                index[a] = stack.enter_context(self.loop(innermost if a == last else outer, shape[a]))
            yield tuple(index)

    @contextmanager
    def reduction(
        self, opdef: OpDef, order: str, shape: Shape, depth: int | None = None
    ) -> Iterator[_Reduction]:
        """A reduction over axes of this shape, standing at `depth` (the current place if not given). The
        block sets `value`; afterwards `result` is the scalar."""
        axes = tuple(self.axis(d) for d in shape if d != 1) or (self.axis(1),)
        names = iter(axes)
        index = tuple(0 if d == 1 else symbol(next(names).name) for d in shape)
        outer = self._scopes
        self._scopes = outer if depth is None else outer[: depth + 1]
        made = _Reduction(index)
        with self.body(axes) as statements:
            yield made
        made.result = self._fresh(
            int64 if opdef in (ops.argmax, ops.argmin) else made.value.dtype, len(self._scopes) - 1
        )
        self.add(Reduce(made.result, opdef, order, axes, tuple(statements), made.value))
        self._scopes = outer

    @contextmanager
    def body(self, axes: Sequence[Axis]) -> Iterator[list[Statement]]:
        """A scope in which these axes run; gives its statements."""
        scope = _Scope()
        self._scopes.append(scope)
        for axis in axes:
            self.extents[axis.name] = axis.extent
            self._symbol_depth[axis.name] = len(self._scopes) - 1
        yield scope.statements
        self._scopes.pop()

    def axis(self, extent: Dim) -> Axis:
        """A new axis."""
        self._axes += 1
        self._sizes |= symbols_of(extent)
        return Axis(f"i{self._axes - 1}", extent)

    def scalar(self, dtype: DType) -> Scalar:
        """A new scalar, defined in the current scope by a statement that the caller writes."""
        return self._fresh(dtype, len(self._scopes) - 1)

    def add(self, statement: Statement) -> None:
        """Append a statement at the current place."""
        self._scopes[-1].statements.append(statement)

    def depth(self, index: Place, guards: Guards = ()) -> int:
        """The number of the innermost scope that an index and guards depend on."""
        most = max(map(self._depth, index), default=0)
        return (
            max(most, *(self._depth(d) for g in guards for d in (g.expr, g.low, g.high))) if guards else most
        )

    def finish(self, name: str) -> Built:
        """The kernel."""
        (scope,) = self._scopes
        unique: dict[str, tuple[str, Memory]] = {}
        for memory, (buffer, access) in self._buffers.items():
            unique.setdefault(buffer, (access, memory))
        ordered = sorted(unique.items(), key=lambda item: _ACCESS.index(item[1][0]))
        buffers = tuple(Buffer(buffer, dtype_of(m), size_of(m), access) for buffer, (access, m) in ordered)
        sizes = self._sizes.union(*(symbols_of(b.size) for b in buffers))
        kernel = Kernel(name, buffers, tuple(sorted(sizes)), tuple(scope.statements))
        return Built(kernel, tuple(m for _, (_, m) in ordered), self._checked)

    def _depth(self, dim: Dim) -> int:
        if isinstance(dim, int):
            return 0
        found = self._depths.get(dim)
        if found is None:
            names = symbols_of(dim)
            self._sizes |= names - self._symbol_depth.keys()
            found = self._depths[dim] = max((self._symbol_depth.get(s, 0) for s in names), default=0)
        return found

    def _fresh(self, dtype: DType, depth: int) -> Scalar:
        scalar = Scalar(str(len(self._scalar_depth)), dtype)
        self._scalar_depth[scalar] = depth
        return scalar

    def _once(self, depth: int, key: object, dtype: DType, make: Callable[[Scalar], Statement]) -> Scalar:
        scope = self._scopes[depth]
        found = scope.known.get(key)
        if found is None:
            found = scope.known[key] = self._fresh(dtype, depth)
            scope.statements.append(make(found))
        return found


@dataclass(eq=False)
class _Reduction:
    """A reduction being written: the index of its axes, the value to reduce, and then the result."""

    index: Place
    value: Scalar = None  # type: ignore[assignment]
    result: Scalar = None  # type: ignore[assignment]


def dtype_of(memory: Memory) -> DType:
    """Of the elements."""
    return memory.dtype if isinstance(memory, Scratch) else memory.type.dtype


def size_of(memory: Memory) -> Dim:
    """In elements."""
    return memory.size if isinstance(memory, Scratch) else storage_size(memory)


def _result_dtype(opdef: OpDef, operands: tuple[Scalar, ...], attrs: dict[str, Any]) -> DType:
    """The dtype of an elementwise op on scalars."""
    key = (opdef, *(o.dtype for o in operands), *attrs.values())
    found = _RESULT_DTYPES.get(key)
    if found is None:
        types = (TensorType(o.dtype) for o in operands)
        found = _RESULT_DTYPES[key] = opdef.result_types(*types, **attrs)[0].dtype
    return found


#: Result dtypes of elementwise ops, by op, operand dtypes and attributes.
_RESULT_DTYPES: dict[tuple[object, ...], DType] = {}
