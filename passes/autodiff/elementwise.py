"""Derivatives of the elementwise primitives."""

from __future__ import annotations

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
    """d(a / b) = da / b - ((a / b) / b) db. The quotient is computed again: who wrote over it may still
    differentiate, as in PyTorch."""
    return build(ops.div, ct, b), build(ops.mul, build(ops.neg, ct), build(ops.div, build(ops.div, a, b), b))


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


@vjp(ops.relu)
def relu(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """ct where the result is not 0, nan included; written with y, so that x need not stay live."""
    zero = like(build, 0, ct)
    return (build(ops.select, build(ops.le, y, like(build, 0, y)), zero, ct),)


def _clamped(build: Builder[V], ct: V, x: V, limit: V, inside: OpDef, beyond: OpDef) -> Pair[V]:
    zero = like(build, 0, ct)
    dx = build(ops.select, build(inside, x, limit), ct, zero)
    return dx, build(ops.select, build(beyond, x, limit), ct, zero)


@vjp(ops.clamp_min)
def clamp_min(build: Builder[V], ct: V, y: V, x: V, low: V) -> Pair[V]:
    """x gets ct from the limit on, and what is below it passes ct to the limit; of nan nobody gets it."""
    return _clamped(build, ct, x, low, ops.ge, ops.lt)


@vjp(ops.clamp_max)
def clamp_max(build: Builder[V], ct: V, y: V, x: V, high: V) -> Pair[V]:
    """x gets ct up to the limit, and what is above it passes ct to the limit; of nan nobody gets it."""
    return _clamped(build, ct, x, high, ops.le, ops.gt)


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


@vjp(ops.fma_)
def fma(build: Builder[V], ct: V, y: V, a: V, b: V, c: V) -> tuple[V, V, V]:
    """d(ab + c) = b da + a db + dc."""
    return build(ops.mul, ct, b), build(ops.mul, ct, a), ct


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
