"""Runs kernels in numpy, statement by statement: the oracle for code generation and lowering.

A `vector` loop and the body of a `lanes` reduction are run once with all their elements as one array;
everything else runs element after element. Arithmetic follows the canonical orders to the bit. Each access is
checked against its buffer's size, and a vector loop that stores two values at one place is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, MutableMapping, Sequence

import numpy as np

from .dtypes import DType, from_numpy
from .errors import IRError
from .expr import Dim, evaluate, symbols_of
from .kernel import (
    Axis,
    Check,
    Compute,
    Const,
    Contract,
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
from .kernel_text import print_statement
from .ops.ordered import chain
from .ops.sorting import argsort, scratch_words

#: The values of axes, sizes and integer scalars (`%3`): ints, or one int64 per element of a vector body.
Names = dict[str, int | np.ndarray]


class OutOfBounds(IRError):
    """A kernel reads or writes outside a buffer."""


def run_kernel(
    kernel: Kernel, buffers: MutableMapping[str, np.ndarray], sizes: Mapping[str, int] | None = None
) -> int:
    """Run the kernel on contiguous arrays, writing in place; gives its status, 0 or the code of the first
    check that failed. Temp buffers that are missing are made.

    Raises OutOfBounds for an access outside a buffer, IRError for an array of the wrong dtype or size, or two
    different values stored to one place by one vector loop.
    """
    known = dict(sizes or {})
    flat: dict[str, np.ndarray] = {}
    for buffer in kernel.buffers:
        size = evaluate(buffer.size, known)
        if buffer.access == "temp" and buffer.name not in buffers:
            buffers[buffer.name] = np.zeros(size, buffer.dtype.numpy)
        array = buffers[buffer.name]
        if array.dtype != buffer.dtype.numpy or array.size != size or not array.flags.c_contiguous:
            raise IRError(
                f"%{buffer.name} is {array.dtype}{list(array.shape)}, expected {buffer.dtype}[{size}], dense"
            )
        flat[buffer.name] = array.reshape(-1)
    run = _Run(flat, {name: known[name] for name in kernel.sizes})
    with np.errstate(all="ignore"):
        run.block(kernel.body)
    return run.status


class _Run:
    """The state of one run. lanes: number of elements of the vector body that runs, None outside of one."""

    def __init__(self, buffers: dict[str, np.ndarray], names: Mapping[str, int]) -> None:
        self.buffers = buffers
        self.names: Names = dict(names)
        self.values: dict[Scalar, np.ndarray] = {}
        self.lanes: int | None = None
        self.status = 0

    def block(self, body: Sequence[Statement]) -> None:
        for statement in body:
            self.statement(statement)

    def define(self, scalar: Scalar, value: object) -> None:
        array = np.asarray(value)
        self.values[scalar] = array
        if scalar.dtype.is_integer:
            self.names[f"%{scalar.name}"] = array.astype(np.int64) if array.ndim else int(array)

    def size(self, dim: Dim) -> int:
        return int(self.index(dim))

    def index(self, dim: Dim) -> np.ndarray:
        return np.asarray(evaluate(dim, self.names), np.int64)  # type: ignore[arg-type]

    def statement(self, statement: Statement) -> None:
        match statement:
            case Compute(result, op, operands, attrs):
                assert op.meaning is not None
                arrays = np.broadcast_arrays(*(self.values[s] for s in operands))
                self.define(result, op.meaning(*arrays, **dict(attrs)))
            case Const(result, value):
                self.define(result, value.array())
            case Index(result, expr):
                self.define(result, self.index(expr))
            case Load():
                self.load(statement)
            case Store():
                self.store(statement)
            case Check(ok, code):
                if not self.status and not np.all(self.values[ok]):
                    self.status = code
            case Local(name, dtype, size):
                self.buffers[name] = undefined(dtype, size)
            case Loop():
                self.loop(statement)
            case Reduce():
                self.reduce(statement)
            case Contract():
                self.contract(statement)
            case Sort():
                self.sort(statement)

    def place(self, statement: Load | Store) -> tuple[np.ndarray, np.ndarray]:
        """(index, where the guards hold), broadcast; every index that counts lies within the buffer."""
        index, inside = np.broadcast_arrays(self.index(statement.index), self.inside(statement.guards))
        size = self.buffers[statement.buffer].size
        bad = index[inside & ((index < 0) | (index >= size))]
        if bad.size:
            raise OutOfBounds(f"{print_statement(statement)}: index {bad.flat[0]} of a buffer of {size}")
        return index, inside

    def inside(self, guards: Sequence[Guard]) -> np.ndarray:
        holds = np.asarray(True)
        for guard in guards:
            at = self.index(guard.expr)
            holds = holds & (self.index(guard.low) <= at) & (at < self.index(guard.high))
        return holds

    def load(self, load: Load) -> None:
        buffer = self.buffers[load.buffer]
        index, inside = self.place(load)
        if load.otherwise is None:
            self.define(load.result, buffer[index])
            return
        result = np.full(index.shape, load.otherwise.array(), buffer.dtype)
        result[inside] = buffer[index[inside]]
        self.define(load.result, result)

    def store(self, store: Store) -> None:
        index, inside, value = np.broadcast_arrays(*self.place(store), self.values[store.value])
        if self.lanes is not None and self.lanes == 0:
            return
        places, values = index[inside], value[inside]
        buffer = self.buffers[store.buffer]
        buffer[places] = values
        if not _same(buffer[places], values):
            raise IRError(f"{print_statement(store)}: a vector loop stores two values at one place")

    def loop(self, loop: Loop) -> None:
        extent = self.size(loop.axis.extent)
        if loop.kind == "vector":
            with _Vector(self, extent):
                self.names[loop.axis.name] = np.arange(extent)
                self.block(loop.body)
            return
        carried = [self.values[start] for _, start in loop.carries]
        for i in range(extent):
            self.names[loop.axis.name] = i
            for (parameter, _), value in zip(loop.carries, carried, strict=True):
                self.define(parameter, value)
            self.block(loop.body)
            carried = [self.values[s] for s in loop.yields]
        for final, value in zip(loop.finals, carried, strict=True):
            self.define(final, value)

    def reduce(self, reduce: Reduce) -> None:
        extents = [self.size(a.extent) for a in reduce.axes]
        meaning = reduce.opdef.meaning
        assert meaning is not None
        alone = reduce.order == "lanes" and self.lanes is None
        rows = self.lanes_of(reduce, extents) if alone else self.rows_of(reduce, extents)
        self.define(reduce.result, meaning(rows, axes=(0,), order=reduce.order))

    def lanes_of(self, reduce: Reduce, extents: Sequence[int]) -> np.ndarray:
        """The yielded values for all elements at once."""
        total = math.prod(extents)
        with _Vector(self, total):
            for axis, index in zip(reduce.axes, _unraveled(extents), strict=True):
                self.names[axis.name] = index
            self.block(reduce.body)
            return np.broadcast_to(self.values[reduce.value], (total,))

    def rows_of(self, reduce: Reduce, extents: Sequence[int]) -> np.ndarray:
        """The yielded values one after the other; a second axis has the elements of the vector body
        around."""
        rest = () if self.lanes is None else (self.lanes,)
        rows = np.empty((math.prod(extents), *rest), reduce.value.dtype.numpy)
        for number, _ in enumerate(self.elements(reduce.axes, extents)):
            self.block(reduce.body)
            rows[number] = self.values[reduce.value]
        return rows

    def elements(self, axes: Sequence[Axis], extents: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Give the axes each of their values in turn, row-major."""
        for at in np.ndindex(*extents):
            self.names.update({axis.name: i for axis, i in zip(axes, at, strict=True)})
            yield at

    def contract(self, contract: Contract) -> None:
        m, n = self.size(contract.m.extent), self.size(contract.n.extent)
        extents = tuple(self.size(a.extent) for a in contract.over)
        for axis, index in zip(contract.over, _unraveled(extents), strict=True):
            self.names[axis.name] = index.reshape(-1, 1, 1)
        steps = math.prod(extents)
        if m == 0 or n == 0:
            return
        self.names[contract.m.name], self.names[contract.n.name] = np.arange(m).reshape(-1, 1), np.arange(n)
        columns = n if contract.n.name in symbols_of(contract.lhs_index) else 1
        lhs = self.operand(contract.lhs, contract.lhs_index, (steps, m, columns), contract)
        rhs = self.operand(contract.rhs, contract.rhs_index, (steps, 1, n), contract)
        start = None
        if contract.start is not None:
            start = self.operand(*contract.start, (m, n), contract)
        within = np.broadcast_to(self.inside(contract.inside), (steps, m, n)) if contract.inside else None
        if contract.within is not None:
            within = np.broadcast_to(self.index(contract.within), (steps, m, n)) >= 0
        result = chain(lhs, rhs, extents, start, within)
        for i in range(m):
            with _Vector(self, n):
                self.names[contract.m.name] = i
                self.define(contract.result, result[i])
                self.block(contract.body)

    def sort(self, sort: Sort) -> None:
        at, to, by, length, count = map(self.size, sort.dims)
        line = self.stretch(sort, sort.source, at, length)
        words = int(scratch_words(from_numpy(line.dtype), length, count))  # type: ignore[arg-type]
        self.stretch(sort, sort.scratch, by, words)[:] = 85
        meaning = argsort.meaning
        assert meaning is not None
        self.stretch(sort, sort.target, to, count)[:] = meaning(line, count=count, descending=sort.descending)

    def stretch(self, sort: Sort, buffer: str, start: int, size: int) -> np.ndarray:
        """Elements that lie together, all in the buffer."""
        have = self.buffers[buffer].size
        if not 0 <= start <= start + size <= have:
            raise OutOfBounds(
                f"{print_statement(sort)}: %{buffer} is used from {start} to {start + size - 1}, "
                f"its size is {have}"
            )
        return self.buffers[buffer][start : start + size]

    def operand(self, buffer: str, index: Dim, shape: tuple[int, ...], contract: Contract) -> np.ndarray:
        """The elements read for each step of the sum, each row and each column."""
        places, size = np.broadcast_to(self.index(index), shape), self.buffers[buffer].size
        if places.size and not 0 <= places.min() <= places.max() < size:
            head = print_statement(contract).partition("\n")[0]
            raise OutOfBounds(
                f"{head}: %{buffer} is read from {places.min()} to {places.max()}, its size is {size}"
            )
        return np.asarray(self.buffers[buffer][places])


class _Vector:
    """While it is entered, a vector body of so many elements runs."""

    def __init__(self, run: _Run, lanes: int) -> None:
        self.run, self.lanes = run, lanes

    def __enter__(self) -> None:
        self.run.lanes = self.lanes

    def __exit__(self, *_: object) -> None:
        self.run.lanes = None


def undefined(dtype: DType, size: int) -> np.ndarray:
    """Contents that show if they are used: NaNs, or large numbers."""
    return np.full(size, np.nan if dtype.is_floating_point else 85, dtype.numpy)


def _unraveled(extents: Sequence[int]) -> list[np.ndarray]:
    """For each axis its index at every element, row-major."""
    return [axis.reshape(-1) for axis in np.indices(tuple(extents))]


def _same(x: np.ndarray, y: np.ndarray) -> bool:
    """Equal, a NaN being equal to itself."""
    return bool(np.all((x == y) | ((x != x) & (y != y))))
