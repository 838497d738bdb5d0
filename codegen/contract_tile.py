"""Register tiles of a contraction: how large they are on a target, and the micro-kernel that computes one.

A tile is `rows` x `vectors` accumulators of 16 lanes. Its micro-kernel is a function of its own, shared by
all contractions of a module that need the same one: for each step of the sum, one vector load per 16
columns of the right operand and one broadcast per row of the left. Accumulators are loop-carried values, so
each stays in a register and its additions happen in the canonical order whatever the shape of the tile. No
unrolling: measured, it gains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..ir.dtypes import DType
from ..ir.kernel import VECTOR
from ..ir.narrow import PAIRED
from ..ir.ops.ordered import sum_dtype
from .contract_pairs import multiply_add_pairs
from .indices import Value, splat
from .lanes import MEMORY, Lanes, type_text
from .target import Target
from .text import Function, Module

_MAX_ROWS = 12  # rows that lie a page apart compete for the ways of one cache set
_MAX_ROWS_PAGES = 6
_MAX_ROWS_DYNAMIC = 8  # a row stride known at run time only takes an address register per row
_PAGE = 4096
_COST_OF_A_SHAPE = 0.02  # each shape is a function to compile, 2-3 ms
_STREAMING = (
    0.6  # each tile reads the panel of the right operand anew, from the second-level cache if it is long
)
_LEAST_CHAINS = 8  # latency 4, two multiply-adds started per cycle


@dataclass(frozen=True)
class Tile:
    """rows x (16 * vectors) elements."""

    rows: int
    vectors: int

    @property
    def columns(self) -> int:
        return VECTOR * self.vectors


def choose_tile(target: Target, dtype: DType, m: int | None, n: int | None, row_stride: int | None) -> Tile:
    """The tile that covers m x n (None: large) at the least cost per step of the sum. row_stride: in
    elements, None if known at run time only."""
    candidates = [
        Tile(rows, vectors)
        for vectors in (2, 3, 4, 1)
        for rows in range(_most_rows(target, dtype, vectors, row_stride), 0, -1)
    ]
    return min(candidates, key=lambda tile: _cost(tile, _width(target, dtype), m or 10_000, n or 10_000))


def _width(target: Target, dtype: DType) -> int:
    """Registers that 16 elements take."""
    return max(1, VECTOR * dtype.itemsize // target.vector_bytes)


def _most_rows(target: Target, dtype: DType, vectors: int, row_stride: int | None) -> int:
    """Rows for which accumulators, a row of the right operand and one broadcast fit into the registers."""
    registers, width = (32 if target.vector_bytes == 64 else 16), _width(target, dtype) * vectors
    fitting = (registers - 1 - width) // width
    if fitting < 1:
        return 1 if vectors == 1 else 0
    pages = row_stride is not None and row_stride * dtype.itemsize % _PAGE == 0
    limit = _MAX_ROWS_DYNAMIC if row_stride is None else _MAX_ROWS_PAGES if pages else _MAX_ROWS
    return min(fitting, limit)


def _cost(tile: Tile, width: int, m: int, n: int) -> float:
    """Half cycles per step over all tiles: multiply-adds, loads, or the latency of a chain, whichever
    binds; and a little for each shape that occurs."""

    def one(rows: int, vectors: int) -> float:
        if rows == 0 or vectors == 0:
            return 0.0
        bound = max(rows * vectors * width, rows + vectors * width, _LEAST_CHAINS)
        return bound + _STREAMING * vectors * width + 0.5

    whole_m, left_m = divmod(m, tile.rows)
    whole_n, left_n = divmod(n, tile.columns)
    tail = -(-left_n // VECTOR)
    total = (
        whole_m * whole_n * one(tile.rows, tile.vectors)
        + whole_n * one(left_m, tile.vectors)
        + whole_m * one(tile.rows, tail)
        + one(left_m, tail)
    )
    shapes = (bool(whole_m) + bool(left_m)) * (bool(whole_n) + bool(left_n))
    return total * (1 + _COST_OF_A_SHAPE * shapes)


@dataclass(frozen=True)
class Layout:
    """How a micro-kernel walks its operands, in elements; ints are written into its code, texts are passed
    to it.

    row: from a row of the left operand to the next. lhs, rhs: for each axis of the sum, outer before inner.
    ahead, lhs_ahead: a place of the right and of the left operand, so far from the step's own, is brought
    into the second-level cache; 0 if none is.
    """

    row: Value
    lhs: tuple[Value, ...]
    rhs: tuple[Value, ...]
    ahead: Value = 0
    lhs_ahead: int = 0


def micro_kernel(module: Module, dtype: DType, tile: Tile, layout: Layout) -> str:
    """The name of the function (written on first use) that computes one tile:

    void(ptr lhs, ptr rhs, ptr out, i1 more, i64 count per axis..., i64 strides of `layout` that are texts...)

    dtype: what the operands hold; for bfloat16 and int16 pairs of steps, which are moved as the sums are.

    out: rows x columns sums, row-major; with `more` the chains go on from what is there, else from zero.
    Counts are at least 1.
    """
    name = kernel_name("tile", dtype, tile, layout)
    if not module.defined(name):
        module.add(TileWriter(module, name, dtype, tile, layout).function())
    return name


def kernel_name(kind: str, dtype: DType, tile: Tile, layout: Layout) -> str:
    """A name that differs wherever the micro-kernel does."""
    strides = (layout.row, *layout.lhs, *layout.rhs, *((layout.ahead,) if layout.ahead != 0 else ()))
    kind = f"{kind}_{layout.lhs_ahead}" if layout.lhs_ahead else kind
    return "_".join([kind, dtype.short, f"{tile.rows}x{tile.columns}", *map(_key, strides)])


def passed_strides(layout: Layout) -> list[str]:
    """The strides that a call of the micro-kernel passes, in order."""
    return [s for s in (layout.row, *layout.lhs, *layout.rhs, layout.ahead) if isinstance(s, str)]


def _key(stride: Value) -> str:
    return str(stride).replace("-", "n") if isinstance(stride, int) else "x"


class TileWriter:
    """Writes one micro-kernel. Other ways to read the operands override `innermost` (and `start`)."""

    def __init__(
        self, module: Module, name: str, dtype: DType, tile: Tile, layout: Layout, width: int = VECTOR,
        more: Sequence[tuple[str, str]] = (),
    ) -> None:  # fmt: skip
        """width: lanes of an accumulator; there are `groups` of them to a row. more: parameters, the last."""
        axes = range(len(layout.lhs))
        given = [
            ("row", layout.row),
            *((f"a{i}", layout.lhs[i]) for i in axes),
            *((f"b{i}", layout.rhs[i]) for i in axes),
            ("ahead", layout.ahead),
        ]
        pointers = [("ptr", "lhs"), ("ptr", "rhs"), ("ptr", "out"), ("i1", "more")]
        counts = [("i64", f"n{i}") for i in axes]
        passed = [("i64", name) for name, value in given if isinstance(value, str)]
        parameters = [*pointers, *counts, *passed, *more]
        self.f = Function(module, name, parameters, result="void", attributes="noinline")
        self.strides = {name: f"%{name}" if isinstance(value, str) else value for name, value in given}
        self.counts = [f"%n{i}" for i in axes]
        self.tile, self.axes, self.width = tile, len(layout.lhs), width
        self.groups = tile.columns // width
        self.element = MEMORY[sum_dtype(dtype)]
        self.align = dtype.itemsize
        self.vector = type_text(self.element, width)
        self.lanes = Lanes(self.f, self.element, width)
        self.multiply_add = multiply_add_pairs if dtype in PAIRED else multiply_add
        self.lhs_ahead = layout.lhs_ahead
        self.rows = self._row_offsets()

    def function(self) -> Function:
        """The whole function."""
        f = self.f
        sums = self._axis(0, "%lhs", "%rhs", self.start())
        for at, value in zip(self._places() if sums else [], sums, strict=True):
            f.do(f"store {self.vector} {value}, ptr {at}, align {self.align}")
        f.do("ret void")
        return f

    def _row_offsets(self) -> list[Value]:
        """Elements from the first row to each row."""
        row = self.strides["row"]
        if isinstance(row, int):
            return [i * row for i in range(self.tile.rows)]
        return [0, *(self.f(f"mul i64 {row}, {i}") for i in range(1, self.tile.rows))]

    def _places(self) -> list[str]:
        return [self.step("%out", self.width * i) for i in range(self.tile.rows * self.groups)]

    def start(self) -> list[str]:
        """The accumulators before the first step."""
        loaded = self._places()
        zeros = [(self.vector, "zeroinitializer")] * len(loaded)
        return self.f.when(
            "%more",
            lambda: [self.f(f"load {self.vector}, ptr {at}, align {self.align}") for at in loaded],
            zeros,
        )

    def _axis(self, axis: int, lhs: str, rhs: str, sums: Sequence[str]) -> list[str]:
        """The sums after all steps of this axis and those inside it."""
        if axis == self.axes - 1:
            return self.innermost(lhs, rhs, sums)
        return self.each(axis, lhs, rhs, sums, lambda a, b, inner: self._axis(axis + 1, a, b, inner))

    def innermost(self, lhs: str, rhs: str, sums: Sequence[str]) -> list[str]:
        """The sums after all steps of the innermost axis."""
        return self.each(self.axes - 1, lhs, rhs, sums, self._multiply_add)

    def each(
        self, axis: int, lhs: str, rhs: str, sums: Sequence[str],
        body: Callable[[str, str, list[str]], list[str]], count: Value | None = None,
    ) -> list[str]:  # fmt: skip
        """body(lhs, rhs, sums), which gives the next sums, for each step of an axis, or so many of them."""

        def turn(values: list[str]) -> tuple[str, Sequence[str]]:
            left, a, b, *inner = values
            following = body(a, b, inner)
            fewer = self.f(f"add i64 {left}, -1")
            places = [self.step(a, self.strides[f"a{axis}"]), self.step(b, self.strides[f"b{axis}"])]
            return self.f(f"icmp sgt i64 {fewer}, 0"), [fewer, *places, *following]

        steps = f"%n{axis}" if count is None else str(count)
        carried = [("i64", steps), ("ptr", lhs), ("ptr", rhs), *((self.vector, s) for s in sums)]
        return self.f.repeat(carried, turn)[3:]

    def _multiply_add(self, lhs: str, rhs: str, sums: list[str]) -> list[str]:
        f, tile = self.f, self.tile
        used = [[self.takes_part(i, j) for j in range(tile.vectors)] for i in range(tile.rows)]
        columns = [
            f(f"load {self.vector}, ptr {self.step(rhs, VECTOR * j)}, align {self.align}") if any(use) else ""
            for j, use in enumerate(zip(*used, strict=True))
        ]
        for operand, ahead in ((rhs, self.strides["ahead"]), (lhs, self.lhs_ahead)):
            if ahead != 0:
                fetched = self.step(operand, ahead)
                f.call("void", "llvm.prefetch.p0", ("ptr", fetched), ("i32", "0"), ("i32", "2"), ("i32", "1"))
        result = list(sums)
        for i, offset in enumerate(self.rows):
            x = self.factors(self.step(lhs, offset)) if any(used[i]) else []
            for j, column in ((j, column) for j, column in enumerate(columns) if used[i][j]):
                at = i * tile.vectors + j
                summed = self.multiply_add(self.lanes, x[j], column, result[at])
                result[at] = self.taken(i, j, summed, result[at])
        return result

    def takes_part(self, row: int, group: int) -> bool:
        """Whether any lane of an accumulator may take a product of the step."""
        return True

    def taken(self, row: int, group: int, new: str, old: str) -> str:
        """The next value of an accumulator, given that with the step's product, and the one before."""
        return new

    def factors(self, place: str) -> list[str]:
        """What the left operand gives each vector of a row."""
        return [self.broadcast(place)] * self.tile.vectors

    def broadcast(self, place: str) -> str:
        """The element at an address in every lane."""
        x = self.f(f"load {self.element}, ptr {place}, align {self.align}")
        return splat(self.f, self.element, x, self.width)

    def step(self, pointer: str, by: Value) -> str:
        """The address so many elements further."""
        return pointer if by == 0 else self.f(f"getelementptr {self.element}, ptr {pointer}, i64 {by}")


def multiply_add(lanes: Lanes, a: str, b: str, c: str) -> str:
    """a * b + c: rounded once for floating point, modulo 2**bits for integers."""
    return lanes.fma(a, b, c) if lanes.is_float else lanes("add", lanes("mul", a, b), c)
