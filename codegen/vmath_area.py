"""The inverse hyperbolic functions, as logarithms of 1 + w with a w that keeps its digits near 0.

float32 in double lanes, rounded once; float64 with twofold numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .lanes import Lanes
from .reals import Real, rounded, widened
from .twofold import constant, single, two_product, two_sum
from .vmath_log import LN2_TWOFOLD, log1p_twofold, log_short, log_twofold

#: From here on asinh(x) = acosh(x) = log(2 x).
_LARGE = 2.0**28
#: Below this asinh(x) = atanh(x) = x in float32, and log(1 + w) loses the digits of w in doubles.
_SMALL = 2.0**-13


def asinh(lanes: Lanes, x: str) -> str:
    """log(1 + w), w = |x| + x^2 / (1 + sqrt(x^2 + 1))."""
    real = Real(lanes, x)
    if lanes.element == "double":
        return _large_or(abs(real), _asinh_twofold).with_sign_of(real).text
    wide = abs(widened(lanes, x))
    square = wide * wide
    near = log_short(wide + square / ((square + 1.0).sqrt() + 1.0) + 1.0)
    series = (wide * square).fma(-1.0 / 6.0, wide)
    value = series.where(wide.compare("olt", _SMALL), near)
    finite = abs(real).compare("olt", math.inf)
    return Real(lanes, rounded(value)).with_sign_of(real).where(finite, real).text


def _asinh_twofold(a: Real) -> Real:
    square = two_product(a, a)
    one = constant(a, 1.0)
    w = single(a) + square / (one + (one + square).sqrt())
    return a.where(a.compare("olt", 2.0**-30), log1p_twofold(w).value())


def acosh(lanes: Lanes, x: str) -> str:
    """log(1 + w), w = t + sqrt(t (t + 2)), t = x - 1."""
    real = Real(lanes, x)
    if lanes.element == "double":
        value = _large_or(real, _acosh_twofold)
    else:
        t = widened(lanes, x) - 1.0
        near = log_short(t + (t * (t + 2.0)).sqrt() + 1.0)
        tiny = t.compare("olt", _SMALL**2)
        root = (t + t).sqrt()
        value = Real(lanes, rounded((root * t).fma(-1.0 / 12.0, root).where(tiny, near)))
    value = value.where(real.compare("oge", 1.0), math.nan)
    return real.where(real.compare("oeq", math.inf), value).text


def _acosh_twofold(x: Real) -> Real:
    t = two_sum(x, constant(x, -1.0).high)
    return log1p_twofold(t + (t * (t + constant(x, 2.0))).sqrt()).value()


def atanh(lanes: Lanes, x: str) -> str:
    """log(1 + w) / 2, w = 2 |x| / (1 - |x|)."""
    real = Real(lanes, x)
    if lanes.element == "double":
        value = _atanh_twofold(abs(real))
    else:
        wide = abs(widened(lanes, x))
        near = log_short((wide + wide) / (1.0 - wide) + 1.0) * 0.5
        series = (wide * wide * wide).fma(1.0 / 3.0, wide)
        value = Real(lanes, rounded(series.where(wide.compare("olt", _SMALL), near)))
    size = abs(real)
    value = value.unless(size.compare("oeq", 1.0), math.inf)
    return value.where(size.compare("ole", 1.0), math.nan).with_sign_of(real).text


def _atanh_twofold(a: Real) -> Real:
    w = single(a + a) / two_sum(constant(a, 1.0).high, -a)
    return a.where(a.compare("olt", 2.0**-30), log1p_twofold(w).value() * 0.5)


def _large_or(a: Real, near: Callable[[Real], Real]) -> Real:
    """log(2 a) where a is large, near(a) elsewhere."""
    large = a.compare("ogt", _LARGE)
    doubled = (log_twofold(a) + constant(a, *LN2_TWOFOLD)).value()
    result = doubled.where(large, near(a.unless(large, 1.0)))
    return result.where(a.compare("olt", math.inf), a)
