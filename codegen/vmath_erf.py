"""The error function, its complement, gelu(x) = x Phi(x) with the normal distribution's Phi, and its slope.

For a >= 0, Phi(-a) = e^(-a^2 / 2) G(a) with a smooth G, approximated in t = (a - k) / (a + k); so the far
negative tail of gelu keeps its digits. float32 computes in double lanes to 2^-30 and rounds once; float64
keeps twofold numbers to the last rounding.
"""

from __future__ import annotations

from . import vmath_pieces
from .lanes import Lanes
from .reals import Real, polynomial, rounded, widened
from .twofold import Twofold, constant, fast_two_sum, single, two_product, two_sum
from .vmath_exp import exp_of, exp_sum, exp_twofold, power_of_two, scaled

# (erf(x) / x - 2 / sqrt(pi)) / x^2 in x^2, |x| < 1, to 2^-68.
_ERF_SMALL = (
    -0.37612638903183754, 0.1128379167095512, -0.026866170645129778, 0.005223977625422071,
    -0.0008548327021826805,
    0.00012055332897353892, -1.4925647386204655e-05, 1.6462041483122954e-06, -1.6364583825536741e-07,
    1.4791827507986519e-08, -1.2160950122790402e-09, 8.695898355553556e-11, -4.209866183260944e-12,
)  # fmt: skip
_TWO_OVER_ROOT_PI = (1.1283791670955126, 1.533545961316588e-17)
_ROOT_TWO_OVER_PI = (0.7978845608028654, -4.98465440455546e-17)
_ONE_OVER_ROOT_TWO_PI = (0.3989422804014327, -2.49232720227773e-17)
_ROOT_TWO = (1.4142135623730951, -9.667293313452913e-17)
_ROOT_HALF = 0.7071067811865476
# G in t, k = 4.5, 0 <= a <= 15, to 2^-34.
_TAIL_SHORT = (
    0.08480339210382708, -0.15594314317153435, 0.12074558692763131, -0.07773270647891838, 0.04050269642941192,
    -0.016139252581466354, 0.004232930520350096, -0.0002754139742850379, -0.0002972231015194267,
    0.00010369477619590022, 1.4510242457360526e-05, -1.4320246229416863e-05, -3.0347663757307496e-06,
)  # fmt: skip
_SHORT_PIVOT, _SHORT_LIMIT = 4.5, 15.0
#: Beyond these erfc is 0 in floats and doubles.
_ERFC_SHORT_LIMIT, _ERFC_LIMIT = 10.5, 27.5
# (a + 0.8) G in t, k = 5, 0 <= a <= 39, to 2^-62: nearly flat, so that an error of t hardly counts.
_TAIL_FULL = (
    0.44613196885503653, -0.06286077078120653, 0.007816606048762246, 0.026179127838043038,
    -0.03597211342310477,
    0.029219743341588052, -0.016968689513309383, 0.006997769533710937, -0.001719982485926848,
    -1.9063726951930632e-05,
    0.00019441961010414343, -5.380006708865327e-05, -1.1224888432504364e-05, 9.314584124892465e-06,
    6.45267479455123e-08, -1.3577646861735176e-06, 1.1247292999709656e-07, 2.0653815860840125e-07,
    -2.3738510392582765e-08, -3.4386588416810325e-08, 2.62537818901631e-09, 5.783716222558533e-09,
    2.657039594294644e-10, -6.934332302577561e-10, -1.5599227725412096e-10,
)  # fmt: skip
_FULL_PIVOT, _FULL_LIMIT, _FLATTENING = 5.0, 39.0, 0.8


def erf(lanes: Lanes, x: str) -> str:
    """2 / sqrt(pi) times the integral of e^-t^2 from 0 to x."""
    real = Real(lanes, x)
    return (vmath_pieces.erf(real) if lanes.element == "float" else _erf_double(real)).text


def gelu(lanes: Lanes, x: str) -> str:
    """x Phi(x); -0 at minus infinity. Source: Hendrycks and Gimpel 2016."""
    real = Real(lanes, x)
    return (vmath_pieces.gelu(real, _gelu_far) if lanes.element == "float" else _gelu_double(real)).text


def gelu_slope(lanes: Lanes, x: str) -> str:
    """The derivative of gelu, Phi(x) + x phi(x) with the density phi."""
    real = Real(lanes, x)
    if lanes.element == "double":
        return _gelu_slope_double(real).text
    return vmath_pieces.gelu_slope(real, _gelu_slope_far).text


def erfc(lanes: Lanes, x: str) -> str:
    """1 - erf(x), with all digits where that is small."""
    real = Real(lanes, x)
    if lanes.element == "double":
        return _erfc_double(real).text
    wide = widened(lanes, x)
    a = abs(wide).at_most(_ERFC_SHORT_LIMIT)
    tail = exp_of(-(a * a)) * _tail_short(a * _ROOT_TWO[0]) * 2.0
    return rounded(tail.unless(wide.compare("olt", 0.0), 2.0 - tail))


def _tail_short(a: Real) -> Real:
    return polynomial((a - _SHORT_PIVOT) / (a + _SHORT_PIVOT), _TAIL_SHORT)


def _gelu_far(x: Real) -> Real:
    """In doubles, for floats x < -5."""
    a = -widened(x.lanes, x.at_least(-_SHORT_LIMIT).text)
    return Real(x.lanes, rounded(-a * (exp_of(a * a * -0.5) * _tail_short(a))))


def _gelu_slope_far(x: Real) -> Real:
    """In doubles, for floats x < -6."""
    a = -widened(x.lanes, x.at_least(-_SHORT_LIMIT).text)
    return Real(x.lanes, rounded(exp_of(a * a * -0.5) * (_tail_short(a) - a * _ONE_OVER_ROOT_TWO_PI[0])))


def _erf_double(x: Real) -> Real:
    near = erf_near(abs(x))
    value, n = erfc_far(abs(x).at_most(6.0))
    far = constant(x, 1.0) + -value.scaled(power_of_two(x, n))
    return near.where(abs(x).compare("olt", 0.9), far).value().with_sign_of(x)


def _erfc_double(x: Real) -> Real:
    size = abs(x)
    near = erf_near(size)
    negative = x.compare("olt", 0.0)
    near = constant(x, 1.0) + near.where(negative, -near)
    value, n = erfc_far(size.at_most(_ERFC_LIMIT))
    right = scaled(value.value(), n)
    integers = x.lanes.integers
    floor = integers.intrinsic("smax", n, integers.const(-1000))
    left = (constant(x, 2.0) + -value.scaled(power_of_two(x, floor))).value()
    return near.value().where(size.compare("olt", 0.5), left.where(negative, right))


def erf_near(size: Real) -> Twofold:
    """erf of doubles in [0, 1)."""
    return _centre(size * size, size, constant(size, *_TWO_OVER_ROOT_PI).times(size))


def erfc_far(size: Real) -> tuple[Twofold, str]:
    """(v, n): erfc = 2^n v of doubles in [0, 28)."""
    value, n = _tail(constant(size, *_ROOT_TWO).times(size), two_product(size, size))
    return value.scaled(2.0), n


def _gelu_double(x: Real) -> Real:
    size = abs(x).at_most(_FULL_LIMIT)
    half_square = two_product(size, size).scaled(0.5)
    odd = _centre(half_square.high, size * _ROOT_HALF, constant(x, *_ROOT_TWO_OVER_PI).times(size)).scaled(
        0.5
    )
    half = constant(x, 0.5)
    negative = x.compare("olt", 0.0)
    centre = (half + (-odd).where(negative, odd)).times(x)
    value, n = _tail(single(size), half_square)
    left = scaled(value.times(x.at_least(-_FULL_LIMIT)).value(), n)
    right = x * (1.0 - scaled(value.high, n))
    far = left.where(negative, right)
    return centre.value().where(size.compare("olt", 1.2), far).with_sign_of(x)


def _gelu_slope_double(x: Real) -> Real:
    size = abs(x).at_most(_FULL_LIMIT)
    half_square = two_product(size, size).scaled(0.5)
    odd = _centre(half_square.high, size * _ROOT_HALF, constant(x, *_ROOT_TWO_OVER_PI).times(size)).scaled(
        0.5
    )
    r, rest, n = exp_twofold(-half_square)
    bell = exp_sum(r, rest) * constant(x, *_ONE_OVER_ROOT_TWO_PI).times(size)
    value, _ = _tail(single(size), half_square)
    near = x.lanes.integers.intrinsic("smax", n, x.lanes.integers.const(-2))
    odd = odd + bell.scaled(power_of_two(x, near))
    negative = x.compare("olt", 0.0)
    centre = (constant(x, 0.5) + (-odd).where(negative, odd)).value()
    tail = scaled((value + -bell).value(), n)
    return centre.where(size.compare("olt", 1.2), tail.where(negative, 1.0 - tail))


def _centre(z: Real, x: Real, first: Twofold) -> Twofold:
    """erf(x) for small x; z is x^2, first is 2 x / sqrt(pi)."""
    return fast_two_sum(first.high, (x * z).fma(polynomial(z, _ERF_SMALL), first.low))


def _tail(a: Twofold, exponent: Twofold) -> tuple[Twofold, str]:
    """(v, n): e^-exponent G(a) = 2^n v."""
    pivot = constant(a.high, _FULL_PIVOT).high
    t = (a.high - pivot) / (a.high + pivot)
    first, *others = _TAIL_FULL
    flat = fast_two_sum(constant(a.high, first).high, t * polynomial(t, others))
    offset = two_sum(a.high, constant(a.high, _FLATTENING).high)
    r, tail, n = exp_twofold(-exponent)
    rest = Twofold(offset.high, offset.low + a.low)
    return exp_sum(r, tail) * flat / rest, n
