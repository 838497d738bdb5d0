"""Derivatives of the elementwise primitives."""

from __future__ import annotations

import math

from ...ir import ops
from ...ir.builder import Builder
from ...ir.dtypes import DType
from ...ir.opdef import OpDef
from .rules import V, like, no_gradient, vjp

Pair = tuple[V | None, V | None]


@vjp(ops.add)
def add(build: Builder[V], ct: V, y: V, a: V, b: V) -> Pair[V]:
    """d(a + b) = da + db."""
    return ct, ct


@vjp(ops.sub)
def sub(build: Builder[V], ct: V, y: V, a: V, b: V) -> Pair[V]:
    """d(a - b) = da - db."""
    return ct, build(ops.neg, ct)


@vjp(ops.mul)
def mul(build: Builder[V], ct: V, y: V, a: V, b: V) -> Pair[V]:
    """d(a b) = b da + a db."""
    return build(ops.mul, ct, b), build(ops.mul, ct, a)


@vjp(ops.div)
def div(build: Builder[V], ct: V, y: V, a: V, b: V) -> Pair[V]:
    """d(a / b) = da / b - ((a / b) / b) db."""
    return build(ops.div, ct, b), build(ops.mul, build(ops.neg, ct), build(ops.div, y, b))


@vjp(ops.floor_div)
def floor_div(build: Builder[V], ct: V, y: V, a: V, b: V) -> Pair[V]:
    """Constant between the jumps."""
    return like(build, 0, a), like(build, 0, b)


@vjp(ops.rem)
def rem(build: Builder[V], ct: V, y: V, a: V, b: V) -> Pair[V]:
    """a % b = a - floor(a / b) b, the floor being constant between the jumps."""
    return ct, build(ops.mul, build(ops.neg, ct), build(ops.floor_div, a, b))


@vjp(ops.pow_)
def pow_(build: Builder[V], ct: V, y: V, a: V, b: V) -> Pair[V]:
    """d(a ** b) = b a ** (b - 1) da + a ** b log(a) db; da is 0 where b is 0, db is 0 where a is 0 and b >=
    0."""
    zero = like(build, 0, a)
    slope = build(ops.mul, b, build(ops.pow_, a, build(ops.sub, b, like(build, 1, b))))
    da = build(ops.select, build(ops.eq, b, zero), zero, build(ops.mul, ct, slope))
    flat = build(ops.bit_and, build(ops.eq, a, zero), build(ops.ge, b, zero))
    db = build(ops.select, flat, zero, build(ops.mul, ct, build(ops.mul, y, build(ops.log, a))))
    return da, db


def _extremum(build: Builder[V], ct: V, a: V, b: V, loses: OpDef) -> Pair[V]:
    """The larger (smaller) gets ct; equal ones half each."""
    zero = like(build, 0, ct)
    shared = build(ops.select, build(ops.eq, a, b), build(ops.mul, ct, like(build, 0.5, ct)), ct)
    da = build(ops.select, build(loses, a, b), zero, shared)
    db = build(ops.select, build(loses, b, a), zero, shared)
    return da, db


@vjp(ops.maximum)
def maximum(build: Builder[V], ct: V, y: V, a: V, b: V) -> Pair[V]:
    """The larger gets ct; equal ones half each."""
    return _extremum(build, ct, a, b, ops.lt)


@vjp(ops.minimum)
def minimum(build: Builder[V], ct: V, y: V, a: V, b: V) -> Pair[V]:
    """The smaller gets ct; equal ones half each."""
    return _extremum(build, ct, a, b, ops.gt)


@vjp(ops.neg)
def neg(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d(-x) = -dx."""
    return (build(ops.neg, ct),)


@vjp(ops.abs_)
def abs_(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d|x| = sign(x) dx; 0 at 0."""
    return (build(ops.mul, ct, build(ops.sign, x)),)


def _constant_between_jumps(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """The derivative is 0 wherever there is one. PyTorch too passes zeros on, rather than nothing."""
    return (like(build, 0, x),)


for _opdef in (ops.sign, ops.floor, ops.ceil, ops.trunc, ops.round_):
    vjp(_opdef)(_constant_between_jumps)


@vjp(ops.exp)
def exp(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d exp(x) = y dx."""
    return (build(ops.mul, ct, y),)


@vjp(ops.log)
def log(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d log(x) = dx / x."""
    return (build(ops.div, ct, x),)


@vjp(ops.sin)
def sin(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d sin(x) = cos(x) dx."""
    return (build(ops.mul, ct, build(ops.cos, x)),)


@vjp(ops.cos)
def cos(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d cos(x) = -sin(x) dx."""
    return (build(ops.mul, ct, build(ops.neg, build(ops.sin, x))),)


@vjp(ops.tanh)
def tanh(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d tanh(x) = (1 - y y) dx; written with y, so that x need not stay live."""
    return (build(ops.mul, ct, build(ops.sub, like(build, 1, y), build(ops.mul, y, y))),)


@vjp(ops.erf)
def erf(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d erf(x) = 2 / sqrt(pi) exp(-x x) dx."""
    bell = build(ops.exp, build(ops.neg, build(ops.mul, x, x)))
    return (build(ops.mul, ct, build(ops.mul, bell, like(build, 2 / math.sqrt(math.pi), x))),)


@vjp(ops.sqrt)
def sqrt(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d sqrt(x) = dx / (2 y); infinite at 0."""
    return (build(ops.div, ct, build(ops.mul, y, like(build, 2, y))),)


@vjp(ops.rsqrt)
def rsqrt(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d x**(-1/2) = -1/2 y**3 dx."""
    cube = build(ops.mul, build(ops.mul, y, y), y)
    return (build(ops.mul, build(ops.mul, ct, like(build, -0.5, y)), cube),)


@vjp(ops.sigmoid)
def sigmoid(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d sigmoid(x) = (1 - y) y dx."""
    rest = build(ops.sub, like(build, 1, y), y)
    return (build(ops.mul, build(ops.mul, ct, rest), y),)


@vjp(ops.softplus)
def softplus(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d log(1 + exp(x)) = sigmoid(x) dx."""
    return (build(ops.mul, ct, build(ops.sigmoid, x)),)


@vjp(ops.silu)
def silu(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d(x s) = s (1 + x (1 - s)) dx with s = sigmoid(x)."""
    s, one = build(ops.sigmoid, x), like(build, 1, x)
    bend = build(ops.add, one, build(ops.mul, x, build(ops.sub, one, s)))
    return (build(ops.mul, build(ops.mul, ct, s), bend),)


@vjp(ops.gelu)
def gelu(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d(x Phi(x)) = (Phi(x) + x phi(x)) dx with Phi and phi of the normal distribution."""
    half = like(build, 0.5, x)
    scaled = build(ops.erf, build(ops.mul, x, like(build, math.sqrt(0.5), x)))
    cdf = build(ops.mul, half, build(ops.add, scaled, like(build, 1, x)))
    bell = build(ops.exp, build(ops.mul, build(ops.mul, x, x), like(build, -0.5, x)))
    pdf = build(ops.mul, bell, like(build, 1 / math.sqrt(2 * math.pi), x))
    return (build(ops.mul, ct, build(ops.add, cdf, build(ops.mul, x, pdf))),)


@vjp(ops.gelu_tanh)
def gelu_tanh(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """With t = tanh(u), u = c (x + a x**3): d(x (1 + t) / 2) = ((1 + t) / 2 + x (1 - t t) u' / 2) dx."""
    c, a = math.sqrt(2 / math.pi), 0.044715
    one, half = like(build, 1, x), like(build, 0.5, x)
    xx = build(ops.mul, x, x)
    inner = build(ops.add, x, build(ops.mul, like(build, a, x), build(ops.mul, xx, x)))
    t = build(ops.tanh, build(ops.mul, like(build, c, x), inner))
    slope = build(ops.mul, like(build, c, x), build(ops.add, one, build(ops.mul, like(build, 3 * a, x), xx)))
    left = build(ops.mul, half, build(ops.add, one, t))
    bend = build(ops.mul, build(ops.sub, one, build(ops.mul, t, t)), slope)
    right = build(ops.mul, build(ops.mul, half, x), bend)
    return (build(ops.mul, ct, build(ops.add, left, right)),)


@vjp(ops.select)
def select(build: Builder[V], ct: V, y: V, condition: V, a: V, b: V) -> tuple[V | None, ...]:
    """Each arm gets ct where it was taken, 0 elsewhere."""
    zero = like(build, 0, ct)
    return None, build(ops.select, condition, ct, zero), build(ops.select, condition, zero, ct)


@vjp(ops.cast)
def cast(build: Builder[V], ct: V, y: V, x: V, *, dtype: DType) -> tuple[V | None]:
    """The cotangent cast back, if x is a tensor of floats."""
    have = build.type_of(x).dtype
    return (build(ops.cast, ct, dtype=have) if have.kind in "fc" else None,)


for _opdef in (ops.eq, ops.ne, ops.lt, ops.le, ops.gt, ops.ge):
    no_gradient(_opdef, "a truth value does not vary")
for _opdef in (ops.bit_and, ops.bit_or, ops.bit_xor, ops.bit_not, ops.shift_left, ops.shift_right):
    no_gradient(_opdef, "takes integers")
no_gradient(ops.philox, "random bits are integers")
