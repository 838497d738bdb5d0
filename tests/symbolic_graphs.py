"""Random graphs whose sizes are known only at run time: one compiled form has to serve all sizes.

Only operations that are exact to the bit take part, so results can be compared at any sizes without bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from vitrify.ir import ops
from vitrify.ir.builder import GraphBuilder, broadcast, reduce, scalar
from vitrify.ir.contraction import ContractSpec
from vitrify.ir.dtypes import DType, bool_, float32, float64, int32, int64
from vitrify.ir.expr import Dim, symbol
from vitrify.ir.graph import Graph, Value
from vitrify.ir.opdef import OpDef
from vitrify.ir.types import TensorType
from vitrify.ir.verifier import verify_graph

T = TypeVar("T")

SYMBOLS = (symbol("s0"), symbol("s1"))
DTYPES = (float32, float32, float32, float64, int64, int32, bool_)
SHAPES: tuple[tuple[Dim, ...], ...] = (
    (SYMBOLS[0],),
    (SYMBOLS[1],),
    SYMBOLS,
    SYMBOLS[::-1],
    (SYMBOLS[0], 1),
    (3, SYMBOLS[1]),
    (SYMBOLS[0], 5),
    (2, *SYMBOLS),
)
UNARY = {
    "f": (ops.neg, ops.abs_, ops.sign, ops.floor, ops.round_, ops.sqrt),
    "i": (ops.neg, ops.abs_, ops.sign, ops.bit_not),
    "b": (ops.bit_not,),
}
BINARY = {
    "f": (ops.add, ops.sub, ops.mul, ops.div, ops.maximum, ops.minimum),
    "i": (ops.add, ops.sub, ops.mul, ops.maximum, ops.bit_and, ops.bit_xor, ops.shift_right),
    "b": (ops.bit_and, ops.bit_or, ops.maximum),
}


class Maker:
    """A graph under construction."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.build = GraphBuilder(f"symbolic{seed}")
        self.values: list[Value] = []

    def one_of(self, items: Sequence[T]) -> T:
        return items[int(self.rng.integers(len(items)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def input(self, dtype: DType, shape: tuple[Dim, ...]) -> Value:
        self.values.append(self.build.input(TensorType(dtype, shape)))
        return self.values[-1]

    def pick(self, fits: Callable[[Value], bool] = lambda v: True) -> Value:
        """A value that fits, recent ones preferred; else a new input."""
        found = [v for v in self.values if fits(v)]
        if found and self.chance(0.85):
            return found[len(found) - 1 - int(len(found) * self.rng.random() ** 2)]
        while True:
            value = Value(TensorType(self.one_of(DTYPES), self.one_of(SHAPES)))
            if fits(value):
                return self.input(value.type.dtype, value.type.shape)

    def like(self, x: Value, dtype: DType | None = None) -> Value:
        """A value of x's shape: one that exists, a repeated scalar, or a new input."""
        dtype = dtype or x.type.dtype
        same = [v for v in self.values if v.type == x.type.with_dtype(dtype)]
        if same and self.chance(0.6):
            return self.one_of(same)
        if self.chance(0.3):
            return broadcast(
                self.build, scalar(self.build, int(self.rng.integers(0, 2)), dtype), x.type.shape
            )
        return self.input(dtype, x.type.shape)

    def make(self, opdef: OpDef, *operands: Value, **attrs: object) -> Value:
        self.values.append(self.build(opdef, *operands, **attrs))  # type: ignore[arg-type]
        return self.values[-1]


def unary(m: Maker) -> None:
    x = m.pick()
    m.make(m.one_of(UNARY[x.type.dtype.kind]), x)


def binary(m: Maker) -> None:
    x = m.pick()
    m.make(m.one_of(BINARY[x.type.dtype.kind]), x, m.like(x))


def choice(m: Maker) -> None:
    x = m.pick()
    y = m.like(x)
    m.make(ops.select, m.make(m.one_of((ops.lt, ops.eq, ops.ge)), x, y), y, m.like(x))


def cast(m: Maker) -> None:
    m.make(ops.cast, m.pick(), dtype=m.one_of(DTYPES))


def reduction(m: Maker) -> None:
    """Sums of any axes; maxima of what surely is not empty; sometimes spread again, as in a softmax."""
    x = m.pick(lambda v: v.type.rank > 0 and v.type.dtype is not bool_)
    axes = [a for a in range(x.type.rank) if m.chance(0.6)] or [x.type.rank - 1]
    known = all(isinstance(x.type.shape[a], int) for a in axes)
    opdef = m.one_of((ops.reduce_max, ops.reduce_sum)) if known else ops.reduce_sum
    total = reduce(m.build, opdef, x, axes)
    m.values.append(total)
    if m.chance(0.5):
        kept = tuple(1 if a in axes else d for a, d in enumerate(x.type.shape))
        spread = broadcast(m.build, m.build(ops.reshape, total, shape=kept), x.type.shape)
        m.make(ops.sub, x, spread)


def extremum(m: Maker) -> None:
    """The index of the largest, of sizes that are at least 1 because something was appended."""
    x = m.pick(lambda v: v.type.rank > 0 and v.type.dtype is not bool_)
    last = x.type.rank - 1
    more = m.input(x.type.dtype, (*x.type.shape[:-1], 2))
    m.make(
        m.one_of((ops.argmax, ops.argmin)),
        m.make(ops.concat, x, more, axis=last),
        axes=(last,),
        order="lanes",
    )


def cumsum(m: Maker) -> None:
    x = m.pick(lambda v: v.type.rank > 0 and v.type.dtype is not bool_)
    m.make(ops.cumsum, x, axis=int(m.rng.integers(x.type.rank)))


def argsort(m: Maker) -> None:
    x = m.pick(lambda v: v.type.rank > 0)
    m.make(ops.argsort, x, count=x.type.shape[-1], descending=bool(m.rng.integers(2)))


def moved(m: Maker) -> None:
    x = m.pick(lambda v: v.type.rank > 0)
    rank, shape = x.type.rank, x.type.shape
    match int(m.rng.integers(6)):
        case 0:
            m.make(ops.permute, x, perm=tuple(m.rng.permutation(rank).tolist()))
        case 1:
            m.make(ops.flip, x, axes=tuple(a for a in range(rank) if m.chance(0.6)))
        case 2:
            m.make(ops.reshape, x, shape=(x.type.numel,))
        case 3:
            value = scalar(m.build, 1, x.type.dtype)
            lo, hi = (tuple(m.rng.integers(0, 3, rank).tolist()) for _ in range(2))
            m.make(ops.pad, x, value, lo=lo, hi=hi, interior=(0,) * rank)
        case 4:
            m.make(ops.concat, x, m.like(x), axis=int(m.rng.integers(rank)))
        case 5:
            steps = tuple(m.rng.integers(1, 4, rank).tolist())
            m.make(ops.slice_, x, starts=(0,) * rank, stops=shape, steps=steps)


def expand(m: Maker) -> None:
    x = m.pick(lambda v: 1 in v.type.shape)
    shape = tuple(m.one_of((*SYMBOLS, 4)) if d == 1 else d for d in x.type.shape)
    m.make(ops.expand, x, shape=shape)


def contract(m: Maker) -> None:
    """A matrix product in any transposition, the sum over known or unknown sizes."""
    x = m.pick(lambda v: v.type.rank == 2 and v.type.dtype is not bool_)
    summed = int(m.rng.integers(2))
    free = m.one_of((*SYMBOLS, 4, 7))
    sizes = (x.type.shape[summed], free) if m.chance(0.5) else (free, x.type.shape[summed])
    names = ("k", "n") if sizes[1] is free and sizes[0] is not free else ("n", "k")
    if sizes[names.index("k")] != x.type.shape[summed]:
        return
    y = m.input(x.type.dtype, sizes)
    lhs = ("k", "m") if summed == 0 else ("m", "k")
    out = ("m", "n") if m.chance(0.7) else ("n", "m")
    spec = ContractSpec(tuple(map(symbol, lhs)), tuple(map(symbol, names)), out, ("k",))
    m.make(ops.contract, x, y, spec=spec)


def iota(m: Maker) -> None:
    shape = m.one_of(SHAPES)
    m.make(
        ops.iota, shape=shape, axis=int(m.rng.integers(len(shape))), dtype=m.one_of((int64, float32, int32))
    )


FAMILIES: tuple[tuple[Callable[[Maker], None], int], ...] = (
    (unary, 5),
    (binary, 9),
    (choice, 3),
    (cast, 2),
    (reduction, 6),
    (extremum, 1),
    (cumsum, 1),
    (argsort, 1),
    (moved, 5),
    (expand, 1),
    (contract, 3),
    (iota, 1),
)


def symbolic_graph(seed: int) -> Graph:
    """The verified graph of this seed, of 3 to 14 operations or a few more."""
    m = Maker(seed)
    for s in SYMBOLS:  # so that both sizes are known from the inputs
        m.input(float32, (s,))
    weights = np.array([w for _, w in FAMILIES], np.float64)
    wanted = int(m.rng.integers(3, 15))
    while len(m.build.operations) < wanted:
        FAMILIES[int(m.rng.choice(len(FAMILIES), p=weights / weights.sum()))][0](m)
    used = {v for op in m.build.operations for v in op.operands}
    ends = [v for v in m.values if v not in used and v.operation is not None]
    graph = m.build.finish(ends, _updates(m))
    verify_graph(graph)
    return graph


def _updates(m: Maker) -> list[tuple[Value, Value]]:
    updates = []
    for target in m.build.inputs:
        same = [v for v in m.values if v.type == target.type and v is not target]
        if same and m.chance(0.2):
            updates.append((target, m.one_of(same)))
    return updates
