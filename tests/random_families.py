"""What random graphs are made of: one function per family of operations, each appending a few to a
`Maker`."""

from __future__ import annotations

import math
from collections.abc import Callable

from vitrify.ir import ops
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.contraction import ContractSpec
from vitrify.ir.dtypes import bool_, float32, float64, int32, int64, uint8
from vitrify.ir.expr import symbol
from vitrify.ir.interpreter import interpret
from vitrify.ir.types import row_major_strides

from tests.graph_maker import DTYPES, Known, Maker, Unfit, moderate
from tests.support import random_values

FLOAT_UNARY = (
    ops.neg,
    ops.relu,
    ops.abs_,
    ops.sign,
    ops.floor,
    ops.ceil,
    ops.trunc,
    ops.round_,
    ops.sqrt,
    ops.exp,
    ops.log,
    ops.sin,
    ops.cos,
    ops.tanh,
    ops.atan,
    ops.asinh,
    ops.erf,
    ops.erfc,
    ops.rsqrt,
    ops.sigmoid,
    ops.softplus,
    ops.silu,
    ops.gelu,
    ops.gelu_tanh,
)
FLOAT_BINARY = (
    ops.add,
    ops.sub,
    ops.mul,
    ops.div,
    ops.maximum,
    ops.minimum,
    ops.clamp_min,
    ops.clamp_max,
    ops.pow_,
    ops.floor_div,
    ops.rem,
)
INTEGER_UNARY = (ops.neg, ops.relu, ops.abs_, ops.sign, ops.bit_not)
INTEGER_BINARY = (
    ops.add,
    ops.sub,
    ops.mul,
    ops.maximum,
    ops.minimum,
    ops.clamp_min,
    ops.clamp_max,
    ops.bit_and,
    ops.bit_or,
    ops.bit_xor,
    ops.shift_left,
    ops.shift_right,
    ops.floor_div,
    ops.rem,
    ops.pow_,
)
BOOL_BINARY = (ops.bit_and, ops.bit_or, ops.bit_xor, ops.maximum, ops.minimum)
COMPARE = (ops.eq, ops.ne, ops.lt, ops.le, ops.gt, ops.ge)


def unary(m: Maker) -> None:
    x = m.pick(lambda k: True)
    kinds = {"f": FLOAT_UNARY, "b": (ops.bit_not,)}
    m.make(m.one_of(kinds.get(x.dtype.kind, INTEGER_UNARY)), x)


def binary(m: Maker) -> None:
    x = m.pick()
    kinds = {"f": FLOAT_BINARY, "b": BOOL_BINARY}
    m.make(m.one_of(kinds.get(x.dtype.kind, INTEGER_BINARY)), x, m.like(x))


def positive(m: Maker) -> None:
    """A function with a pole at 0, of something that stays away from it."""
    x = m.pick(lambda k: k.dtype.is_floating_point)
    half = m.broadcast(m.constant(0.5, x.dtype), x.shape)
    far = m.make(ops.add, m.make(ops.mul, x, x), half)
    opdef = m.one_of((ops.log, ops.rsqrt, ops.sqrt, ops.pow_, ops.div))
    match opdef:
        case ops.pow_:
            m.make(opdef, far, m.like(x))
        case ops.div:
            m.make(opdef, x, far)
        case _:
            m.make(opdef, far)


def compare(m: Maker) -> None:
    x = m.pick(lambda k: k.error == 0)
    m.make(m.one_of(COMPARE), x, m.like(x))


def select(m: Maker) -> None:
    x = m.pick()
    m.make(ops.select, m.like(x, bool_), x, m.like(x))


def cast(m: Maker) -> None:
    m.make(ops.cast, m.pick(), dtype=m.one_of(DTYPES))


def philox(m: Maker) -> None:
    index = m.pick(dtype=int64)
    seed, counter = (m.broadcast(m.constant(m.between(0, 2**40), int64), index.shape) for _ in range(2))
    m.make(ops.philox, seed, counter, index)


def reduction(m: Maker) -> None:
    x = m.pick(lambda k: k.rank > 0)
    opdef = m.one_of(
        (
            ops.reduce_sum,
            ops.reduce_sum,
            ops.reduce_prod,
            ops.reduce_max,
            ops.reduce_min,
            ops.argmax,
            ops.argmin,
        )
    )
    count = m.between(1, x.rank)
    if m.chance(0.5):
        axes, order = tuple(range(x.rank - count, x.rank)), "lanes"
    elif x.rank > 1 and m.chance(0.7):
        axes, order = tuple(sorted(m.rng.permutation(x.rank - 1)[:count].tolist())), "rows"
    else:
        axes, order = tuple(sorted(m.rng.permutation(x.rank)[:count].tolist())), "sequential"
    m.make(opdef, x, axes=axes, order=order)


def cumsum(m: Maker) -> None:
    x = m.pick(lambda k: k.rank > 0 and k.dtype is not bool_)
    m.make(ops.cumsum, x, axis=m.between(0, x.rank - 1))


def argsort(m: Maker) -> None:
    x = m.pick(lambda k: k.rank > 0)
    m.make(ops.argsort, x, count=m.between(0, x.shape[-1]), descending=m.chance(0.5))


def reshape(m: Maker) -> None:
    x = m.pick()
    left, shape = x.array.size, []
    while left > 1 and m.chance(0.8):
        size = m.one_of([d for d in range(1, left + 1) if left % d == 0])
        shape.append(size)
        left //= size
    m.make(ops.reshape, x, shape=(*shape, left))


def permute(m: Maker) -> None:
    x = m.pick(lambda k: k.rank > 1)
    m.make(ops.permute, x, perm=tuple(m.rng.permutation(x.rank).tolist()))


def expand(m: Maker) -> None:
    x = m.pick(lambda k: 1 in k.shape)
    m.make(ops.expand, x, shape=tuple(m.size() if d == 1 else d for d in x.shape))


def flip(m: Maker) -> None:
    x = m.pick(lambda k: k.rank > 0)
    m.make(ops.flip, x, axes=tuple(a for a in range(x.rank) if m.chance(0.6)))


def _slice(m: Maker, n: int) -> tuple[int, int, int]:
    lo = m.between(0, n)
    return lo, m.between(lo, n), m.between(1, 3)


def slice_(m: Maker) -> None:
    x = m.pick(lambda k: k.rank > 0)
    starts, stops, steps = zip(*(_slice(m, n) for n in x.shape), strict=True)
    m.make(ops.slice_, x, starts=starts, stops=stops, steps=steps)


def update_slice(m: Maker) -> None:
    x = m.pick(lambda k: k.rank > 0)
    starts, stops, steps = zip(*(_slice(m, n) for n in x.shape), strict=True)
    part = m.make(ops.slice_, x, starts=starts, stops=stops, steps=steps)
    m.make(ops.update_slice, x, m.like(part), starts=starts, steps=steps)


def pad(m: Maker) -> None:
    x = m.pick(lambda k: k.rank > 0)
    lo, hi, interior = (tuple(m.between(0, 2) for _ in x.shape) for _ in range(3))
    if m.chance(0.6):
        interior = (0,) * x.rank
    value = m.pick(lambda k: k.rank == 0, x.dtype)
    m.make(ops.pad, x, value, lo=lo, hi=hi, interior=interior)


def concat(m: Maker) -> None:
    x = m.pick(lambda k: k.rank > 0)
    axis = m.between(0, x.rank - 1)
    rest = [k for k in m.known if k.dtype is x.dtype and _but(k.shape, axis) == _but(x.shape, axis)]
    more = [m.one_of(rest) for _ in range(m.between(0, 3))]
    if m.chance(0.3):
        more.append(m.input(x.dtype, (*x.shape[:axis], m.size(), *x.shape[axis + 1 :])))
    m.make(ops.concat, x, *more, axis=axis)


def _but(shape: tuple[int, ...], axis: int) -> tuple[int, ...] | None:
    return (*shape[:axis], -1, *shape[axis + 1 :]) if axis < len(shape) else None


def window(m: Maker) -> None:
    """Windows, mostly reduced: pooling."""
    x = m.pick(lambda k: 0 < k.rank <= 4 and all(k.shape))
    axes = tuple(sorted(m.rng.permutation(x.rank)[: m.between(1, min(2, x.rank))].tolist()))
    dilations = tuple(m.between(1, 2) for _ in axes)
    sizes = tuple(m.between(1, (x.shape[a] - 1) // d + 1) for a, d in zip(axes, dilations, strict=True))
    strides = tuple(m.between(1, 3) for _ in axes)
    places = m.make(ops.window, x, axes=axes, sizes=sizes, strides=strides, dilations=dilations)
    reduced = tuple(range(x.rank, places.rank))
    if m.chance(0.6):
        pool = m.one_of((ops.reduce_max, ops.reduce_sum))
        m.make(pool, places, axes=reduced, order="sequential")
    if m.chance(0.5) and x.dtype is not bool_:
        shape = tuple(x.shape[a] for a in axes)
        m.make(ops.fold, m.like(places), shape=shape, axes=axes, strides=strides, dilations=dilations)


def _view(m: Maker, x: Known) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Shape, strides and offset of a view of x taken flat in which no two places are one."""
    base = tuple(m.between(1, 4) for _ in range(m.between(0, 3)))
    steps = [m.between(1, 2) for _ in base]
    strides = [s * step for s, step in zip(row_major_strides(tuple(b * 2 for b in base)), steps, strict=True)]
    order = m.rng.permutation(len(base)).tolist()
    reach = sum((n - 1) * int(s) for n, s in zip(base, strides, strict=True))
    if reach >= x.array.size:
        raise Unfit
    offset = m.between(0, x.array.size - 1 - reach)
    return tuple(base[i] for i in order), tuple(int(strides[i]) for i in order), offset


def as_strided(m: Maker) -> None:
    x = m.pick(lambda k: k.array.size > 4)
    shape, strides, offset = _view(m, x)
    if m.chance(0.3):
        strides = tuple(s if m.chance(0.7) else 0 for s in strides)
    m.make(ops.as_strided, x, shape=shape, strides=strides, offset=offset)


def as_strided_update(m: Maker) -> None:
    x = m.pick(lambda k: k.array.size > 4)
    shape, strides, offset = _view(m, x)
    new = m.input(x.dtype, shape)
    m.make(ops.as_strided_update, x, new, strides=strides, offset=offset)


def matmul(m: Maker) -> None:
    """Products of matrices in all transpositions, maybe in a batch, with one or two summed axes."""
    x = m.pick(lambda k: 1 <= k.rank <= 3 and k.dtype is not bool_ and k.dtype is not uint8)
    names = list("abc"[: x.rank])
    over = [n for n in names if m.chance(0.5)]
    batch = [n for n in names if n not in over and m.chance(0.4)]
    free = ["n"] if m.chance(0.85) else []
    other = m.rng.permutation([*over, *batch, *free]).tolist()
    sizes = {**dict(zip(names, x.shape, strict=True)), "n": m.size()}
    shape = tuple(sizes[n] for n in other)
    y = (
        m.input(x.dtype, shape)
        if m.chance(0.7)
        else m.pick(lambda k: k.shape == shape and k.rank <= 3, x.dtype)
    )
    out = m.rng.permutation([n for n in [*names, *free] if n not in over]).tolist()
    maps = (tuple(map(symbol, names)), tuple(map(symbol, other)))
    sides = (x, y)
    if m.chance(0.5):
        maps, sides = (maps[1], maps[0]), (y, x)
    m.make(ops.contract, *sides, spec=ContractSpec(*maps, tuple(out), tuple(over)))


def convolution(m: Maker) -> None:
    """One or two dimensions, with stride, padding and dilation, channels last; sometimes channel by
    channel."""
    dims = m.between(1, 2)
    dtype = m.one_of((float32, float32, float64, int32))
    depthwise, channels = m.chance(0.3), m.between(1, 5)
    lhs, rhs, extents, x_shape, w_shape = [symbol("n")], [], [], [m.between(0, 2)], []
    for d in range(dims):
        size, kernel, pad_ = m.between(3, 9), m.between(1, 3), m.between(0, 2)
        stride, dilation = m.between(1, 2), m.between(1, 2)
        reach = dilation * (kernel - 1) + 1
        places = (size + 2 * pad_ - reach) // stride + 1
        if places < 1:
            raise Unfit
        lhs.append(symbol(f"o{d}") * stride + symbol(f"k{d}") * dilation - pad_)
        rhs.append(symbol(f"k{d}"))
        extents.append((f"o{d}", places))
        x_shape.append(size)
        w_shape.append(kernel)
    channel = [symbol("c")]
    over = [f"k{d}" for d in range(dims)] + ([] if depthwise else ["ci"])
    lhs += channel if depthwise else [symbol("ci")]
    rhs += channel if depthwise else [symbol("ci"), *channel]
    w_shape += [channels] if depthwise else [channels, m.between(1, 5)]
    x, w = m.input(dtype, (*x_shape, channels)), m.input(dtype, w_shape)
    out = ("n", *(f"o{d}" for d in range(dims)), "c")
    m.make(ops.contract, x, w, spec=ContractSpec(tuple(lhs), tuple(rhs), out, tuple(over), tuple(extents)))


def _indices(m: Maker, x: Known) -> tuple[tuple[int, ...], list[Known]]:
    """Axes of x and an index for each, of one shape; negative ones count from the end."""
    axes = tuple(sorted(m.rng.permutation(x.rank)[: m.between(1, min(2, x.rank))].tolist()))
    shape = m.shape(2)
    indices = []
    for a in axes:
        n = x.shape[a]
        if n == 0 and math.prod(shape):
            raise Unfit
        indices.append(m.input(int64, shape, m.rng.integers(-n, max(n, 1), shape)))
    return axes, indices


def gather(m: Maker) -> None:
    x = m.pick(lambda k: k.rank > 0)
    axes, indices = _indices(m, x)
    m.make(ops.gather, x, *indices, axes=axes)


def scatter(m: Maker) -> None:
    x = m.pick(lambda k: k.rank > 0)
    axes, indices = _indices(m, x)
    opdef = ops.scatter if x.dtype is bool_ or m.chance(0.4) else ops.scatter_add
    shape = (*indices[0].shape, *(n for a, n in enumerate(x.shape) if a not in axes))
    m.make(opdef, x, m.input(x.dtype, shape), *indices, axes=axes)


def iota(m: Maker) -> None:
    shape = (*m.shape(2), m.size())
    dtype = m.one_of((int64, int64, int32, float32, float64))
    m.make(ops.iota, shape=shape, axis=m.between(0, len(shape) - 1), dtype=dtype)


def constant(m: Maker) -> None:
    dtype = m.one_of(DTYPES)
    m.constant(random_values(dtype, m.shape(2), m.rng), dtype)


def check(m: Maker) -> None:
    """A check that holds: it must change nothing."""
    x = m.pick(lambda k: k.error == 0 and k.array.size > 0)
    holds = m.make(ops.ge, x, x)
    if holds.rank:
        holds = m.make(ops.reduce_min, holds, axes=tuple(range(holds.rank)), order="lanes")
    m.builder.emit(ops.check, (holds.value,), {"error": "RuntimeError", "message": "does not hold"})


def call(m: Maker) -> None:
    """A composite: the larger of x * x - y and y, and a sum of it."""
    x = m.pick(lambda k: k.rank > 0 and k.dtype.kind == "f" and k.error == 0)
    y = m.like(x)
    if y.error:
        raise Unfit
    body = GraphBuilder("body")
    p, q = body.input(x.type), body.input(y.type)
    larger = body(ops.maximum, body(ops.sub, body(ops.mul, p, p), q), q)
    total = body(ops.reduce_sum, larger, axes=(x.rank - 1,), order="lanes")
    region = body.finish([larger, total])
    arrays, _ = interpret(region, [x.array, y.array])
    if not all(moderate(a, 0) for a in arrays):
        raise Unfit
    values = m.builder.emit(ops.call, (x.value, y.value), {"name": "larger"}, (region,))
    m.known += [Known(v, a, 0.0) for v, a in zip(values, arrays, strict=True)]


#: What a graph is made of, with weights.
FAMILIES: tuple[tuple[Callable[[Maker], None], int], ...] = (
    (unary, 10),
    (binary, 12),
    (positive, 3),
    (compare, 2),
    (select, 3),
    (cast, 3),
    (philox, 1),
    (reduction, 8),
    (cumsum, 2),
    (argsort, 1),
    (reshape, 3),
    (permute, 3),
    (expand, 2),
    (flip, 2),
    (slice_, 3),
    (update_slice, 2),
    (pad, 3),
    (concat, 3),
    (window, 3),
    (as_strided, 2),
    (as_strided_update, 1),
    (matmul, 5),
    (convolution, 2),
    (gather, 3),
    (scatter, 3),
    (iota, 1),
    (constant, 1),
    (check, 1),
    (call, 2),
)
