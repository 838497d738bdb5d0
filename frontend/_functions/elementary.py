"""The elementary functions that are primitives, compositions of them, and what else needs more than one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from vitrify.ir import dtypes, ops
from vitrify.ir.opdef import bind

from .._composite import composite
from .._dispatch import apply
from .._narrow import rounded_once
from .._promotion import as_operand
from .._size import finfo
from .._tensor import Tensor
from .pointwise import (
    abs,
    add,
    clamp,
    div,
    floating,
    log,
    maximum,
    mul,
    neg,
    not_implemented,
    pair,
    replaced,
    sin,
    sqrt,
    sub,
    unary,
)  # fmt: skip

exp2 = unary(ops.exp2, "2 to the power of each element.")
expm1 = unary(ops.expm1, "exp(x) - 1, accurate also where x is tiny.")
log2 = unary(ops.log2, "Logarithm to base 2; exact for powers of 2.")
log10 = unary(ops.log10, "Logarithm to base 10.")
log1p = unary(ops.log1p, "log(1 + x), accurate also where x is tiny.")
tan = unary(ops.tan, "Tangent of each element, in radians.")
asin = unary(ops.asin, "Angle in radians whose sine is each element; nan beyond 1.")
acos = unary(ops.acos, "Angle in radians whose cosine is each element; nan beyond 1.")
atan = unary(ops.atan, "Angle in radians whose tangent is each element.")
sinh = unary(ops.sinh, "Hyperbolic sine of each element.")
cosh = unary(ops.cosh, "Hyperbolic cosine of each element.")
asinh = unary(ops.asinh, "Inverse of the hyperbolic sine.")
acosh = unary(ops.acosh, "Inverse of the hyperbolic cosine; nan below 1.")
atanh = unary(ops.atanh, "Inverse of the hyperbolic tangent; nan beyond 1.")
erfc = unary(ops.erfc, "1 - erf(x), accurate also where that is small.")
erfinv = unary(ops.erfinv, "Inverse of the error function; nan beyond 1.")
lgamma = unary(ops.lgamma, "Logarithm of the absolute value of the gamma function.")
digamma = unary(ops.digamma, "Derivative of lgamma.")


def polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of digamma; digamma itself for n = 0.

    >>> vitrify.polygamma(1, vitrify.tensor([1.0]))
    tensor([1.6449])
    """
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    return digamma(input) if n == 0 else apply(bind(ops.polygamma, order=n), floating(input, "polygamma"))


@composite("input")
@rounded_once
def mvlgamma(input: Tensor, p: int) -> Tensor:
    """The logarithm of the multivariate gamma function of dimension p."""
    x = floating(input, "mvlgamma")
    if p < 1:
        raise RuntimeError("p has to be greater than or equal to 1")
    total = lgamma(x)
    for j in range(1, p):
        total = add(total, lgamma(sub(x, j / 2)))
    return add(total, math.log(math.pi) * p * (p - 1) / 4) if p > 1 else total


def atan2(input: Tensor, other: Tensor) -> Tensor:
    """The angle of the point (other, input), in radians, from -pi to pi.

    >>> vitrify.atan2(vitrify.tensor([1.0]), vitrify.tensor([-1.0]))
    tensor([2.3562])
    """
    x, y = pair(input, other)
    return apply(bind(ops.atan2), floating(x), floating(y))


@composite("input")
@rounded_once
def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), x first limited to eps..1 - eps."""
    x = floating(input, "logit")
    x = x if eps is None else clamp(x, eps, 1 - eps)
    return log(div(x, sub(1, x)))


@composite("input other")
@rounded_once
def xlogy(input: Any, other: Any) -> Tensor:
    """input * log(other); 0 where input is 0, unless other is nan."""
    return _product_with(input, other, log)


@composite("input other")
def xlog1py(input: Any, other: Any) -> Tensor:
    """input * log1p(other); 0 where input is 0, unless other is nan."""
    return _product_with(input, other, log1p)


def _product_with(input: Any, other: Any, function: Callable[[Tensor], Tensor]) -> Tensor:
    x, y = (floating(v) for v in pair(input, other))
    zero = as_operand(0, x.dtype, x._type.shape)
    logarithm = function(y)
    endless = apply(bind(ops.ge), abs(logarithm), as_operand(math.inf, x.dtype, x._type.shape))
    beyond = apply(bind(ops.lt), y, as_operand(0 if function is log else -1, x.dtype, x._type.shape))
    absent = apply(bind(ops.bit_and), apply(bind(ops.eq), x, zero), apply(bind(ops.bit_or), endless, beyond))
    # at some other place, or the derivative would be nan
    place = apply(bind(ops.select), absent, as_operand(1, x.dtype, x._type.shape), y)
    return apply(bind(ops.select), absent, zero, mul(x, function(place)))


@composite("input")
def entr(input: Tensor) -> Tensor:
    """-x log(x): 0 at 0, minus infinity below."""
    x = floating(input, "entr")
    result = neg(xlogy(x, x))
    zero = as_operand(0, x.dtype, x._type.shape)
    return apply(
        bind(ops.select), apply(bind(ops.lt), x, zero), as_operand(-math.inf, x.dtype, x._type.shape), result
    )


@composite("input")
@rounded_once
def sinc(input: Tensor) -> Tensor:
    """sin(pi x) / (pi x), and 1 at 0."""
    x = floating(input, "sinc")
    zero, one = (as_operand(v, x.dtype, x._type.shape) for v in (0, 1))
    at_zero = apply(bind(ops.eq), x, zero)
    angle = mul(apply(bind(ops.select), at_zero, one, x), math.pi)
    return apply(bind(ops.select), at_zero, one, div(sin(angle), angle))


@composite("input")
def ndtr(input: Tensor) -> Tensor:
    """The normal distribution function, accurate in both tails."""
    return mul(erfc(mul(floating(input, "ndtr"), -math.sqrt(0.5))), 0.5)


def deg2rad(input: Tensor) -> Tensor:
    """Degrees as radians."""
    return mul(floating(input, "deg2rad"), math.pi / 180)


def rad2deg(input: Tensor) -> Tensor:
    """Radians as degrees."""
    return mul(floating(input, "rad2deg"), 180 / math.pi)


@composite("input/input other/other result")
@rounded_once
def hypot(input: Tensor, other: Tensor) -> Tensor:
    """sqrt(input² + other²), in float64."""
    x, y = pair(input, other)
    dtype, shape = x.dtype, x._type.shape
    if not dtype.is_floating_point:
        raise not_implemented("hypot_cpu", dtype)
    x, y = (as_operand(v, dtypes.float64, shape) for v in (x, y))
    return as_operand(sqrt(add(mul(x, x), mul(y, y))), dtype, shape)


@composite("input other")
@rounded_once
def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """log(exp(input) + exp(other)) without overflow."""
    larger, gap = _larger_and_gap(input, other, "logaddexp_cpu")
    return add(larger, apply(bind(ops.softplus), gap))


@composite("input other")
@rounded_once
def logaddexp2(input: Tensor, other: Tensor) -> Tensor:
    """log2(2^input + 2^other) without overflow."""
    larger, gap = _larger_and_gap(input, other, "logaddexp2_cpu")
    return add(larger, mul(log1p(exp2(gap)), 1 / math.log(2)))


def _larger_and_gap(input: Tensor, other: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """The larger of two elements, and how far the other lies below."""
    x, y = pair(input, other)
    if not x.is_floating_point():
        raise not_implemented(name, x.dtype)
    gap = neg(abs(sub(x, y)))
    equal = apply(bind(ops.eq), x, y)  # also two infinities, whose difference is nan
    return maximum(x, y), apply(bind(ops.select), equal, as_operand(0, x.dtype, x._type.shape), gap)


@composite("input")
def nan_to_num(
    input: Tensor, nan: float | None = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """nan and infinities replaced by numbers; by default 0 and the largest and smallest finite ones."""
    if not input._type.dtype.is_floating_point:
        return apply(bind(ops.cast, dtype=input.dtype), input)
    info = finfo(input.dtype)
    high = info.max if posinf is None else posinf
    low = info.min if neginf is None else neginf
    result = replaced(input, bind(ops.ne), input, 0.0 if nan is None else nan)
    result = replaced(result, bind(ops.eq), as_operand(math.inf, input.dtype, input._type.shape), high)
    return replaced(result, bind(ops.eq), as_operand(-math.inf, input.dtype, input._type.shape), low)


arcsin, arccos, arctan, arctan2, arcsinh, arccosh, arctanh = asin, acos, atan, atan2, asinh, acosh, atanh
