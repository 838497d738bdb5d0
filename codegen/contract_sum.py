"""What is known of one contraction before its loops are written: the axes of its sum, sizes, strides, the
tile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..ir.errors import IRError
from ..ir.expr import Dim, coefficient, divided, substitute
from ..ir.kernel import VECTOR, Axis, Contract
from ..ir.narrow import PAIRED
from ..ir.ops.ordered import CONTRACT_BLOCK
from .context import Context
from .contract_tile import Tile, choose_tile
from .indices import Value
from .lanes import MEMORY, type_text

_FEW_ROWS = 8
#: The most rows for which a right operand of so many bytes or more is streamed; chains that stay in
#: first-level cache, beside the rows that are read.
_STREAMED_ROWS, _STREAMED_BYTES, _STREAMED_SUMS = 4, 16 << 10, 2048
#: How often rows and columns that take part may change along an axis: each time is a function of its own,
#: which takes 15 ms to compile.
_MOST_BOXES = 32


@dataclass(frozen=True)
class SumAxis:
    """An axis of the sum, or several that are walked as one.

    chunk: steps of it in one superblock, None where that depends on run-time sizes. lhs, rhs: the operands'
    strides. within: that of what says which steps take part; inside: those of the conditions for that.
    """

    extent: Dim
    chunk: int | None
    lhs: Dim
    rhs: Dim
    within: Dim = 0
    inside: tuple[int, ...] = ()

    @property
    def whole(self) -> bool:
        """All of it is known to lie in one superblock."""
        return self.chunk is not None and self.chunk == self.extent


def sum_axes(contract: Contract, steps: int = 1) -> tuple[SumAxis, ...]:
    """The axes of the sum with their superblocks; axes of one step left out, neighbours that are one run
    merged.

    The superblocks are those of `ir.ops.ordered.superblocks`: axis j takes 4096 // (steps of all axes
    inside it) steps, at least one. steps: that one turn of the innermost axis takes. Raises IRError if an
    operand's index is not linear in an axis.
    """
    axes: list[SumAxis] = []
    inner: Dim = steps
    for axis in reversed(contract.over):
        chunk = max(1, CONTRACT_BLOCK // max(inner, 1)) if isinstance(inner, int) else None
        if chunk is not None and isinstance(axis.extent, int):
            chunk = min(chunk, axis.extent)
        indices = (contract.lhs_index, contract.rhs_index, contract.within or 0)
        lhs, rhs, within = (stride_along(axis, index, contract) for index in indices)
        inner = inner * axis.extent
        if axis.extent != 1:
            _join(axes, SumAxis(axis.extent, chunk, lhs, rhs, within, _moves(axis, contract)))
    return tuple(axes) or (SumAxis(1, 1, 0, 0, 0, (0,) * len(contract.inside)),)


def _moves(axis: Axis, contract: Contract) -> tuple[int, ...]:
    """How far the expression of each condition goes along an axis."""
    steps = [stride_along(axis, guard.expr, contract) for guard in contract.inside]
    return tuple(step if isinstance(step, int) else 0 for step in steps)


def _join(axes: list[SumAxis], outer: SumAxis) -> None:
    """Put an axis before the others, or make it one with the next."""
    if axes and axes[0].whole and outer.chunk is not None:
        inner = axes[0]
        steps = inner.extent
        here, inside = ((a.lhs, a.rhs, a.within, *a.inside) for a in (outer, inner))
        if isinstance(steps, int) and all(a == b * steps for a, b in zip(here, inside, strict=True)):
            axes[0] = replace(inner, extent=outer.extent * steps, chunk=outer.chunk * steps)
            return
    axes.insert(0, outer)


def stride_along(axis: Axis, index: Dim, contract: Contract) -> Dim:
    """The stride of an operand along an axis. Raises IRError if it has none."""
    stride = coefficient(index, axis.name)
    if stride is None:
        raise IRError(f"contract %{contract.result.name}: the index {index} is not linear in {axis.name}")
    return stride


@dataclass(frozen=True)
class Walk:
    """How the value that says which steps take part changes: by row, by column, and by step of each axis."""

    row: int
    column: int
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Condition:
    """The steps at which an expression is not among 0 .. size - 1 take no part. first: its value at the first
    row, column and step. row, column, steps: how far it goes along each."""

    first: Value
    size: Value
    row: int
    column: int
    steps: tuple[int, ...]

    @property
    def axes(self) -> list[int]:
        """The axes of the sum that it depends on."""
        return [i for i, step in enumerate(self.steps) if step != 0]

    @property
    def is_bound(self) -> bool:
        """Whether it bounds one axis of the sum, the same in all tiles."""
        return (self.row, self.column) == (0, 0) and len(self.axes) <= 1

    @property
    def axis(self) -> int:
        """The axis that it bounds; if it depends on none, any."""
        return self.axes[0] if self.axes else 0


def in_pairs(contract: Contract) -> Contract:
    """A contraction of bfloat16 with its last axis, of the two steps of a pair, left out and indices counted
    in pairs. Raises IRError if the two do not lie beside each other."""
    *over, pair = contract.over
    indices = []
    for index in (contract.lhs_index, contract.rhs_index):
        place = divided(substitute(index, {pair.name: 0}), 2)
        if place is None or pair.extent != 2 or coefficient(index, pair.name) != 1:
            raise IRError(f"contract %{contract.result.name}: {index} does not lead to pairs of bf16")
        indices.append(place)
    axes = tuple(over) or (Axis(pair.name, 1),)
    return replace(contract, over=axes, lhs_index=indices[0], rhs_index=indices[1])


class Contraction:
    """A contraction being written: m x n results, sums over `axes`; sizes and strides as values of the
    function."""

    def __init__(self, ctx: Context, contract: Contract) -> None:
        operand = ctx.buffers[contract.lhs].dtype
        self.paired = operand in PAIRED
        if self.paired:
            contract = in_pairs(contract)
        self.ctx, self.f, self.contract = ctx, ctx.f, contract
        self.dtype = contract.result.dtype
        #: What the operands hold: numbers of the result's dtype, or pairs of these, which are as large.
        self.holds = operand
        self.element = MEMORY[self.dtype]
        self.vector = type_text(self.element, VECTOR)
        self.axes = sum_axes(contract, 2 if self.paired else 1)
        value = ctx.indices.value
        self.m, self.n = value(contract.m.extent), value(contract.n.extent)
        self.row = value(stride_along(contract.m, contract.lhs_index, contract))
        self.column = value(stride_along(contract.n, contract.rhs_index, contract))
        #: From a column of the left operand to the next: 0 if all columns share one, or 1.
        self.lhs_column = value(stride_along(contract.n, contract.lhs_index, contract))
        self.extents = tuple(value(axis.extent) for axis in self.axes)
        self.lhs_strides = tuple(value(axis.lhs) for axis in self.axes)
        self.rhs_strides = tuple(value(axis.rhs) for axis in self.axes)
        self.conditions = tuple(self._condition(i) for i in range(len(contract.inside)))
        self.chunks = tuple(self._chunk(i) for i in range(len(self.axes)))
        self.has_few_rows = isinstance(self.m, int) and self.m <= _FEW_ROWS
        self.streamed = self._streamed()
        self.tile = self._tile()
        self.lhs = self._origin(contract.lhs, contract.lhs_index)
        self.rhs = self._origin(contract.rhs, contract.rhs_index)

    def _streamed(self) -> bool:
        """Whether the right operand is read once, as it lies, for all rows (`contract_few`)."""
        m, n, size = self.m, self.n, self.product((self.n, *self.extents))
        if (self.column, self.lhs_column) != (1, 0) or self.contract.within is not None:
            return False
        if not (isinstance(m, int) and isinstance(n, int) and isinstance(size, int)) or m == 0:
            return False
        if not all(condition.is_bound or self._is_box(condition) for condition in self.conditions):
            return False
        return m <= _STREAMED_ROWS and n >= VECTOR and size * self.dtype.itemsize >= _STREAMED_BYTES

    def _is_box(self, condition: Condition) -> bool:
        """Whether at each step a condition leaves some neighbouring rows, or columns of the only panel, which
        are known and change a few times only."""
        assert isinstance(self.m, int) and isinstance(self.n, int)
        known = isinstance(condition.first, int) and isinstance(condition.size, int)
        alone = condition.row == 0 or condition.column == 0
        bounded = any(set(condition.axes) & set(other.axes) for other in self.conditions if other.is_bound)
        whole = len(condition.axes) == 1 and self.axes[condition.axis].whole and not bounded
        one_panel = condition.column == 0 or self.n <= _STREAMED_SUMS // self.m
        side, steps = self.m if condition.row else self.n, self.axes[condition.axis].chunk or 0
        few = min(2 * side + 1, steps) <= _MOST_BOXES
        return known and alone and whole and one_panel and few

    def _tile(self) -> Tile:
        if not self.streamed:
            return choose_tile(self.ctx.target, self.dtype, known(self.m), known(self.n), known(self.row))
        assert isinstance(self.m, int) and isinstance(self.n, int)
        return Tile(self.m, -(-min(self.n, _STREAMED_SUMS // self.m) // VECTOR))

    @property
    def one_superblock(self) -> bool:
        """The whole sum is known to be one chain."""
        return all(axis.whole for axis in self.axes)

    @property
    def may_be_empty(self) -> bool:
        """The sum may have no steps."""
        return any(not isinstance(e, int) or e == 0 for e in self.extents)

    def _chunk(self, i: int) -> Value:
        """Steps of axis i in one superblock."""
        chunk = self.axes[i].chunk
        if chunk is not None:
            return chunk
        inner: Dim = 2 if self.paired else 1
        for axis in self.axes[i + 1 :]:
            inner = inner * axis.extent
        fitting = self.f(f"udiv i64 {CONTRACT_BLOCK}, {self.most(self.ctx.indices.value(inner), 1)}")
        return self.most(fitting, 1)

    def _condition(self, number: int) -> Condition:
        c, guard, value = self.contract, self.contract.inside[number], self.ctx.indices.value
        first = substitute(guard.expr - guard.low, dict.fromkeys((a.name for a in (c.m, c.n, *c.over)), 0))
        row, column = (_moves(axis, c)[number] for axis in (c.m, c.n))
        steps = tuple(axis.inside[number] for axis in self.axes)
        return Condition(value(first), value(guard.high - guard.low), row, column, steps)

    def _origin(self, buffer: str, index: Dim) -> str:
        """The address of an operand's element where all axes are 0."""
        c = self.contract
        first = substitute(index, dict.fromkeys((a.name for a in (c.m, c.n, *c.over)), 0))
        return self.ctx.address(buffer, first * 2 if self.paired else first)

    # Code.

    def each(self, start: Value, stop: Value, step: Value, body: Callable[[Value], None]) -> None:
        """for (i = start; i < stop; i += step) body(i)."""

        def turn(index: Value, _: list[str]) -> Sequence[str]:
            body(index)
            return []

        if isinstance(step, int):
            self.ctx.loop(None, start, stop, step, [], turn)
        else:
            with self.ctx.scope():
                self.f.loop(start, stop, step, [], turn)

    def scratch(self, elements: int) -> str:
        """Room on the stack."""
        return self.f.alloca(self.element, elements)

    def load(self, pointer: str, at: Value = 0) -> str:
        """The vector that begins `at` elements after a pointer."""
        return self.f(
            f"load {self.vector}, ptr {self.offset(pointer, [at], [1])}, align {self.dtype.itemsize}"
        )

    def store(self, value: str, pointer: str, at: Value = 0) -> None:
        """Write a vector `at` elements after a pointer."""
        place = self.offset(pointer, [at], [1])
        self.f.do(f"store {self.vector} {value}, ptr {place}, align {self.dtype.itemsize}")

    # Arithmetic on sizes.

    def add(self, a: Value, b: Value) -> Value:
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        return b if a == 0 else a if b == 0 else self.f(f"add i64 {a}, {b}")

    def sub(self, a: Value, b: Value) -> Value:
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        return a if b == 0 else self.f(f"sub i64 {a}, {b}")

    def mul(self, a: Value, b: Value) -> Value:
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if a == 0 or b == 0:
            return 0
        return b if a == 1 else a if b == 1 else self.f(f"mul i64 {a}, {b}")

    def product(self, values: Sequence[Value]) -> Value:
        total: Value = 1
        for value in values:
            total = self.mul(total, value)
        return total

    def least(self, a: Value, b: Value) -> Value:
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        return self.f.call("i64", "llvm.smin.i64", ("i64", str(a)), ("i64", str(b)))

    def most(self, a: Value, b: Value) -> Value:
        if isinstance(a, int) and isinstance(b, int):
            return max(a, b)
        return self.f.call("i64", "llvm.smax.i64", ("i64", str(a)), ("i64", str(b)))

    def whole_steps(self, value: Value, step: int) -> tuple[Value, Value]:
        """The largest multiple of a step in a value, and what it leaves."""
        if isinstance(value, int):
            return value - value % step, value % step
        rest = self.f(f"urem i64 {value}, {step}")
        return self.f(f"sub i64 {value}, {rest}"), rest

    def offset(self, pointer: str, starts: Sequence[Value], strides: Sequence[Value]) -> str:
        """pointer + the sum of starts * strides."""
        total: Value = 0
        for start, stride in zip(starts, strides, strict=True):
            total = self.add(total, self.mul(start, stride))
        return pointer if total == 0 else self.f(f"getelementptr {self.element}, ptr {pointer}, i64 {total}")


def known(value: Value) -> int | None:
    """A value if it is a constant."""
    return value if isinstance(value, int) else None
