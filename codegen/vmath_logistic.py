"""The logistic family: tanh, sigmoid, silu, softplus, gelu_tanh.

float32: `vmath_pieces`; the far tails, and softplus, in double lanes to about 2^-28, rounded once. float64:
twofold arithmetic up to the last rounding.
"""

from __future__ import annotations

from . import vmath_pieces
from .lanes import Lanes
from .reals import Real, polynomial, rounded, widened
from .twofold import Twofold, constant, fast_two_sum, single, two_product
from .vmath_exp import around, exp_of, exp_sum, exp_twofold, exp_wide, power_of_two, scaled
from .vmath_log import LOG1P_FULL, LOG1P_SHORT

#: Beyond this e^x and x e^x are 0 in floats.
_FLOAT_FAR = -110.0
# sqrt(2 / pi) and 0.044715, each as a double and the rest, times 2: gelu_tanh(x) = x sigmoid(2 u).
_GELU_C1 = (1.5957691216057308, -9.96930880911092e-17)
_GELU_C3 = (0.044715, 2.1960211427085595e-18)


def tanh(lanes: Lanes, x: str) -> str:
    """(e^2x - 1) / (e^2x + 1)."""
    real = Real(lanes, x)
    return (vmath_pieces.tanh(real) if lanes.element == "float" else _tanh_double(real)).text


def _tanh_double(x: Real) -> Real:
    twice = (abs(x) * 2.0).at_most(44.0)
    r, tail, n = exp_twofold(single(twice))
    s = power_of_two(x, n)
    less, more = (around(s, shift, r, tail) for shift in (-1.0, 1.0))
    return (less / more).value().with_sign_of(x)


# The logistic family: x / (1 + e^-x) and the like.


def sigmoid(lanes: Lanes, x: str) -> str:
    """1 / (1 + e^-x)."""
    real = Real(lanes, x)
    if lanes.element == "double":
        value, whole = _sigmoid_parts(single(real))
        return scaled(value.value(), whole).text
    return vmath_pieces.sigmoid(real, lambda x: Real(x.lanes, rounded(_sigmoid_far(x)))).text


def _sigmoid_far(x: Real) -> Real:
    """In doubles, for floats x < -17."""
    e = exp_wide(x.at_least(_FLOAT_FAR))
    return e - e * e


def silu(lanes: Lanes, x: str) -> str:
    """x / (1 + e^-x); -0 at minus infinity."""
    real = Real(lanes, x)
    if lanes.element == "double":
        value, whole = _sigmoid_parts(single(real))
        return _product_scaled(real.at_least(-800.0), value, whole).text
    return vmath_pieces.silu(real, _silu_far).text


def _silu_far(x: Real) -> Real:
    x = x.at_least(_FLOAT_FAR)
    return Real(x.lanes, rounded(widened(x.lanes, x.text) * _sigmoid_far(x)))


def gelu_tanh(lanes: Lanes, x: str) -> str:
    """x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3); -0 at minus infinity. Source: Hendrycks and
    Gimpel 2016.
    """
    real = Real(lanes, x)
    if lanes.element == "double":
        return _gelu_tanh_double(real).text
    return vmath_pieces.gelu_tanh(real, _gelu_tanh_far).text


def _gelu_tanh_far(x: Real) -> Real:
    """In doubles, for floats x < -5."""
    x = widened(x.lanes, x.at_least(-20.0).text)
    e = exp_of(x * (x * x).fma(_GELU_C1[0] * _GELU_C3[0], _GELU_C1[0]))
    return Real(x.lanes.of("float"), rounded(x * (e - e * e)))


def _gelu_tanh_double(x: Real) -> Real:
    near = x.at_most(40.0).at_least(-40.0)
    square = two_product(near, near)
    inner = constant(x, 1.0) + constant(x, *_GELU_C3) * square
    u = (constant(x, *_GELU_C1) * inner).times(near)
    value, n = _sigmoid_parts(u)
    return _product_scaled(x.at_least(-40.0), value, n)


def _sigmoid_parts(x: Twofold) -> tuple[Twofold, str]:
    """(y, n) with sigmoid(x) = 2^n y, so that tails keep their digits when y is multiplied before it is
    scaled.
    """
    positive = x.high.compare("oge", 0.0)
    sized = Twofold((-abs(x.high)), (-x.low).where(positive, x.low))
    far = sized.high.compare("olt", -1400.0)  # e^-1400 is 0 after scaling, and 2^(n/2) still a number
    sized = Twofold(sized.high.unless(far, -1400.0), sized.low.unless(far, 0.0))
    r, tail, n = exp_twofold(sized)
    e = exp_sum(r, tail)
    integers = x.high.lanes.integers
    floor = integers.intrinsic("smax", n, integers.const(-1000))
    denominator = constant(e.high, 1.0) + e.scaled(power_of_two(e.high, floor))
    value = constant(e.high, 1.0).where(positive, e) / denominator
    return value, integers.select(positive, integers.const(0), n)


def _product_scaled(x: Real, value: Twofold, n: str) -> Real:
    """x * value * 2^n, rounded once unless the product is subnormal; infinite x stay so."""
    product = value.times(x).value()
    finite = abs(x).compare("olt", 2.0**1000)
    return scaled(product.where(finite, x), n).with_sign_of(x)


def softplus(lanes: Lanes, x: str) -> str:
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|)."""
    if lanes.element == "double":
        return _softplus_double(Real(lanes, x)).text
    real = Real(lanes, x)
    e = exp_wide((-abs(real)).at_least(-120.0))
    s = e / (e + 2.0)
    z = s * s
    return rounded(s.fma(z.fma(polynomial(z, LOG1P_SHORT), 2.0), widened(lanes, real.at_least(0.0).text)))


def _softplus_double(x: Real) -> Real:
    r, tail, n = exp_twofold(single((-abs(x)).at_least(-800.0)))
    e = exp_sum(r, tail)
    integers = x.lanes.integers
    tiny = integers.compare("slt", n, integers.const(-1000))
    size = power_of_two(x, integers.intrinsic("smax", n, integers.const(-1000)))
    high, low = scaled(e.high, n), (e.low * size).unless(tiny, 0.0)
    s = high / (high + 2.0)
    z = s * s
    half_square = high * high * 0.5
    less = half_square - s * z.fma(polynomial(z, LOG1P_FULL), half_square)
    log1p = fast_two_sum(high, low / (high + 1.0) - less)
    total = fast_two_sum(x.at_least(0.0), log1p.high)
    positive = x.compare("ogt", 0.0)
    infinite = x.compare("oeq", float("inf"))
    return (
        (total.high + (total.low + log1p.low))
        .where(positive, log1p.high + log1p.low)
        .unless(infinite, float("inf"))
    )
