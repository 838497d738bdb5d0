"""Elementary functions that are compositions of primitives, and what else needs more than one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from vitrify.ir import dtypes, ops
from vitrify.ir.opdef import bind

from .._dispatch import apply
from .._promotion import as_operand
from .._tensor import Tensor
from .pointwise import (
    abs,
    add,
    cos,
    div,
    exp,
    floating,
    log,
    maximum,
    mul,
    neg,
    not_implemented,
    pair,
    pow,
    replaced,
    sin,
    sqrt,
    sub,
)  # fmt: skip


def log2(input: Tensor) -> Tensor:
    """Logarithm to base 2, in float64, so that powers of 2 come out exactly in float32."""
    return _in_double(input, lambda x: div(log(x), math.log(2.0)), "log2")


def log10(input: Tensor) -> Tensor:
    """Logarithm to base 10, in float64, so that powers of 10 come out exactly in float32."""
    return _in_double(input, lambda x: div(log(x), math.log(10.0)), "log10")


def _in_double(x: Tensor, function: Callable[[Tensor], Tensor], name: str) -> Tensor:
    x = floating(x, name)
    wide = as_operand(x, dtypes.float64, x._type.shape)
    return as_operand(function(wide), x.dtype, x._type.shape)


def exp2(input: Tensor) -> Tensor:
    """2 to the power of each element."""
    return pow(2.0, floating(input, "exp2"))


#: Below this the series of log1p, expm1 and sinh are used; they leave an error of 1e-17.
_SMALL = 0.01


def log1p(input: Tensor) -> Tensor:
    """log(1 + x), accurate also where x is tiny: relative error 1e-14 in float64, one rounding in float32."""

    def function(x: Tensor) -> Tensor:
        series = _horner(x, [(-1.0) ** k / (k + 1) for k in range(8)])
        return _near_zero(x, mul(series, x), log(add(x, 1.0)))

    return _in_double(input, function, "log1p")


def expm1(input: Tensor) -> Tensor:
    """exp(x) - 1, accurate also where x is tiny: relative error 1e-14 in float64, one rounding in float32."""

    def function(x: Tensor) -> Tensor:
        series = _horner(x, [1.0 / math.factorial(k + 1) for k in range(8)])
        return _near_zero(x, mul(series, x), sub(exp(x), 1.0))

    return _in_double(input, function, "expm1")


def _horner(x: Tensor, coefficients: list[float]) -> Tensor:
    total = mul(x, coefficients[-1])
    for c in reversed(coefficients[1:-1]):
        total = mul(add(total, c), x)
    return add(total, coefficients[0])


def _near_zero(x: Tensor, near: Tensor, far: Tensor) -> Tensor:
    small = apply(bind(ops.lt), abs(x), as_operand(_SMALL, x.dtype, x._type.shape))
    return apply(bind(ops.select), small, near, far)


def tan(input: Tensor) -> Tensor:
    """Tangent of each element, in radians."""
    return _in_double(input, lambda x: div(sin(x), cos(x)), "tan")


def sinh(input: Tensor) -> Tensor:
    """Hyperbolic sine of each element."""

    def function(x: Tensor) -> Tensor:
        series = _horner(mul(x, x), [1.0 / math.factorial(2 * k + 1) for k in range(5)])
        return _near_zero(x, mul(series, x), mul(sub(exp(x), exp(neg(x))), 0.5))

    return _in_double(input, function, "sinh")


def cosh(input: Tensor) -> Tensor:
    """Hyperbolic cosine of each element."""
    return _in_double(input, lambda x: mul(add(exp(x), exp(neg(x))), 0.5), "cosh")


def hypot(input: Tensor, other: Tensor) -> Tensor:
    """sqrt(input² + other²), in float64."""
    x, y = pair(input, other)
    dtype, shape = x.dtype, x._type.shape
    if not dtype.is_floating_point:
        raise not_implemented("hypot_cpu", dtype)
    x, y = (as_operand(v, dtypes.float64, shape) for v in (x, y))
    return as_operand(sqrt(add(mul(x, x), mul(y, y))), dtype, shape)


def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """log(exp(input) + exp(other)) without overflow."""
    x, y = pair(input, other)
    if not x.is_floating_point():
        raise not_implemented("logaddexp_cpu", x.dtype)
    larger = maximum(x, y)
    gap = neg(abs(sub(x, y)))
    equal = apply(bind(ops.eq), x, y)  # also two infinities, whose difference is nan
    gap = apply(bind(ops.select), equal, as_operand(0, x.dtype, x._type.shape), gap)
    return add(larger, apply(bind(ops.softplus), gap))


def nan_to_num(
    input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """nan and infinities replaced by numbers; by default 0 and the largest and smallest finite ones."""
    if not input._type.dtype.is_floating_point:
        return apply(bind(ops.cast, dtype=input.dtype), input)
    info = np.finfo(input.dtype.numpy)
    high = float(info.max) if posinf is None else posinf
    low = float(info.min) if neginf is None else neginf
    result = replaced(input, bind(ops.ne), input, nan)
    result = replaced(result, bind(ops.eq), as_operand(math.inf, input.dtype, input._type.shape), high)
    return replaced(result, bind(ops.eq), as_operand(-math.inf, input.dtype, input._type.shape), low)
