"""Derivatives of the elementary functions, written with the result where that spares the operand."""

from __future__ import annotations

import math

from ...ir import ops
from ...ir.builder import Builder
from ...ir.opdef import OpDef
from .rules import V, like, vjp

Pair = tuple[V | None, V | None]


#: What becomes of a value by a number: an op and its right operand; None leaves it as it is.
Change = tuple[OpDef, float] | None

#: d f(x) = y dx, with y changed so.
_EXPONENTIALS: dict[OpDef, Change] = {
    ops.exp: None,
    ops.exp2: (ops.mul, math.log(2)),
    ops.expm1: (ops.add, 1),
}
#: d f(x) = dx / x, with x changed so.
_LOGARITHMS: dict[OpDef, Change] = {
    ops.log: None,
    ops.log2: (ops.mul, math.log(2)),
    ops.log10: (ops.mul, math.log(10)),
    ops.log1p: (ops.add, 1),
}
#: d f(x) = g(x) dx.
_SLOPES: dict[OpDef, OpDef] = {
    ops.sin: ops.cos,
    ops.sinh: ops.cosh,
    ops.cosh: ops.sinh,
    ops.lgamma: ops.digamma,
}


def _changed(build: Builder[V], x: V, change: Change) -> V:
    return x if change is None else build(change[0], x, like(build, change[1], x))


def _exponential(opdef: OpDef, change: Change) -> None:
    @vjp(opdef)
    def rule(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
        return (build(ops.mul, ct, _changed(build, y, change)),)


def _logarithm(opdef: OpDef, change: Change) -> None:
    @vjp(opdef)
    def rule(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
        return (build(ops.div, ct, _changed(build, x, change)),)


def _with_slope(opdef: OpDef, slope: OpDef) -> None:
    @vjp(opdef)
    def rule(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
        return (build(ops.mul, ct, build(slope, x)),)


for _opdef, _change in _EXPONENTIALS.items():
    _exponential(_opdef, _change)
for _opdef, _change in _LOGARITHMS.items():
    _logarithm(_opdef, _change)
for _opdef, _slope in _SLOPES.items():
    _with_slope(_opdef, _slope)


@vjp(ops.cos)
def cos(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d cos(x) = -sin(x) dx."""
    return (build(ops.mul, ct, build(ops.neg, build(ops.sin, x))),)


@vjp(ops.tan)
def tan(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d tan(x) = (1 + y y) dx."""
    return (build(ops.mul, ct, build(ops.add, like(build, 1, y), build(ops.mul, y, y))),)


def _inverse_root(build: Builder[V], x: V, square: float, one: float) -> V:
    """(square x x + one)**(-1/2)."""
    scaled = build(ops.mul, build(ops.mul, x, x), like(build, square, x))
    return build(ops.rsqrt, build(ops.add, scaled, like(build, one, x)))


@vjp(ops.asin)
def asin(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d asin(x) = dx / sqrt(1 - x x)."""
    return (build(ops.mul, ct, _inverse_root(build, x, -1, 1)),)


@vjp(ops.acos)
def acos(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d acos(x) = -dx / sqrt(1 - x x)."""
    return (build(ops.mul, build(ops.neg, ct), _inverse_root(build, x, -1, 1)),)


@vjp(ops.atan)
def atan(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d atan(x) = dx / (1 + x x)."""
    return (build(ops.div, ct, build(ops.add, build(ops.mul, x, x), like(build, 1, x))),)


@vjp(ops.atan2)
def atan2(build: Builder[V], ct: V, y: V, a: V, b: V) -> Pair[V]:
    """d atan2(a, b) = (b da - a db) / (a a + b b); 0 at the origin."""
    square = build(ops.add, build(ops.mul, a, a), build(ops.mul, b, b))
    zero = like(build, 0, a)
    share = build(ops.select, build(ops.eq, square, zero), zero, build(ops.div, ct, square))
    return build(ops.mul, share, b), build(ops.mul, share, build(ops.neg, a))


@vjp(ops.asinh)
def asinh(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d asinh(x) = dx / sqrt(x x + 1)."""
    return (build(ops.mul, ct, _inverse_root(build, x, 1, 1)),)


@vjp(ops.acosh)
def acosh(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d acosh(x) = dx / sqrt(x x - 1)."""
    return (build(ops.mul, ct, _inverse_root(build, x, 1, -1)),)


@vjp(ops.atanh)
def atanh(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d atanh(x) = dx / (1 - x x)."""
    return (build(ops.div, ct, build(ops.sub, like(build, 1, x), build(ops.mul, x, x))),)


@vjp(ops.tanh)
def tanh(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d tanh(x) = (1 - y y) dx; written with y, so that x need not stay live."""
    return (build(ops.mul, ct, build(ops.sub, like(build, 1, y), build(ops.mul, y, y))),)


def _bell(build: Builder[V], ct: V, x: V, factor: float) -> V:
    bell = build(ops.exp, build(ops.neg, build(ops.mul, x, x)))
    return build(ops.mul, ct, build(ops.mul, bell, like(build, factor, x)))


@vjp(ops.erf)
def erf(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d erf(x) = 2 / sqrt(pi) exp(-x x) dx."""
    return (_bell(build, ct, x, 2 / math.sqrt(math.pi)),)


@vjp(ops.erfc)
def erfc(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d erfc(x) = -2 / sqrt(pi) exp(-x x) dx."""
    return (_bell(build, ct, x, -2 / math.sqrt(math.pi)),)


@vjp(ops.erfinv)
def erfinv(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d erfinv(x) = sqrt(pi) / 2 exp(y y) dx."""
    slope = build(ops.mul, build(ops.exp, build(ops.mul, y, y)), like(build, math.sqrt(math.pi) / 2, y))
    return (build(ops.mul, ct, slope),)


@vjp(ops.digamma)
def digamma(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d digamma(x) = polygamma(1, x) dx."""
    return (build(ops.mul, ct, build(ops.polygamma, x, order=1)),)


@vjp(ops.polygamma)
def polygamma(build: Builder[V], ct: V, y: V, x: V, *, order: int) -> tuple[V]:
    """d polygamma(n, x) = polygamma(n + 1, x) dx."""
    return (build(ops.mul, ct, build(ops.polygamma, x, order=order + 1)),)


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
    return (build(ops.mul, ct, build(ops.gelu_slope, x)),)


@vjp(ops.gelu_slope)
def gelu_slope(build: Builder[V], ct: V, y: V, x: V) -> tuple[V]:
    """d(Phi(x) + x phi(x)) = phi(x) (2 - x x) dx."""
    xx = build(ops.mul, x, x)
    bell = build(ops.exp, build(ops.mul, xx, like(build, -0.5, x)))
    pdf = build(ops.mul, bell, like(build, 1 / math.sqrt(2 * math.pi), x))
    return (build(ops.mul, ct, build(ops.mul, pdf, build(ops.sub, like(build, 2, x), xx))),)


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
