"""Logarithms, power and reciprocal square root.

log(x) = k ln 2 + log(m), m in [sqrt(1/2), sqrt(2)); log(1 + f) by s = f / (2 + f) for doubles (fdlibm's
arrangement), by a polynomial in f for floats. pow(x, y) = exp(y log|x|): in double lanes for floats, with a
twofold logarithm for doubles.
"""

from __future__ import annotations

import math

from .lanes import Lanes
from .reals import Operand, Real, polynomial, rounded, widened
from .twofold import Twofold, constant, fast_two_sum, single, two_product, two_sum
from .vmath_exp import LN2, MAGIC, exp_short, exp_sum, exp_twofold, scaled

_INF = math.inf
# (log(1 + f) - f + f^2 / 2) / f^3, to 2^-30 of the logarithm.
_FLOAT = (
    0.3333330994479438, -0.2499998481063434, 0.20002266551234438, -0.16669378662167525, 0.1421783465700642,
    -0.12381516952504101, 0.11876917098220681, -0.1180910638916871, 0.06929277844970419,
)  # fmt: skip
# (log((1 + s) / (1 - s)) - 2 s) / s^3 in s^2, |s| < 0.173; to 2^-58 of the logarithm.
_DOUBLE = (
    0.666666666666674, 0.3999999999937789, 0.28571428751324524, 0.22222197584940231, 0.18183619122180575,
    0.1531256624392391, 0.1481157847803868,
)  # fmt: skip
# The same without its first term: (... - 2/3) / s^2, to 2^-73.
_TWOFOLD = (
    0.39999999999999974, 0.2857142857144632, 0.2222222221724373, 0.1818181890610794, 0.15384554437300293,
    0.13336410743371835, 0.11672930161125666, 0.12004690155131315,
)  # fmt: skip
_TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
# (log(1 + e) - 2 s) / s^3 in s^2, s = e / (2 + e), 0 <= e <= 1; to 2^-37 and 2^-74 of the logarithm.
LOG1P_SHORT = (
    0.6666666635754908, 0.4000005323642199, 0.2856838472581084, 0.22301735636480352, 0.17145669759107485,
    0.21799807436094912,
)  # fmt: skip
LOG1P_FULL = (
    0.6666666666666666, 0.3999999999999999, 0.28571428571430646, 0.22222222221964893, 0.181818182006256,
    0.15384614502611865, 0.1333336121395663, 0.11764095518098801, 0.10535664998379096, 0.09424212345699913,
    0.09414209688384767, 0.04698251234097145, 0.15767601912401932,
)  # fmt: skip
#: ln 2 with trailing zeros, so that k ln 2 is exact for an exponent k; and the rest.
_LN2_FLOAT = (0.693359375, -2.12194440054690582e-4)
_LN2_DOUBLE = (0.6931471803691238, 1.9082149292705877e-10)
#: As a double and the rest.
LN2_TWOFOLD = (LN2, 2.3190468138462996e-17)
#: Per base: its logarithms of 2 and of e, each as a double and the rest.
_BASES = {
    "e": (LN2_TWOFOLD, (1.0, 0.0)),
    "2": ((1.0, 0.0), (1.4426950408889634, 2.0355273740931033e-17)),
    "10": ((0.3010299956639812, -2.8037281277851704e-18), (0.4342944819032518, 1.098319650216765e-17)),
}

#: Per type: bits of sqrt(1/2), mantissa bits, least normal number, and the power of two that makes
#: subnormals normal.
_LAYOUT = {
    "float": (0x3F3504F3, 23, 2.0**-126, 23),
    "double": (0x3FE6A09E667F3BCD, 52, 2.0**-1022, 54),
}


def log(lanes: Lanes, x: str) -> str:
    """The natural logarithm: 0.8 ULP. -inf at zeros, NaN below."""
    real = Real(lanes, x)
    k, m = _split(real)
    near = _log_float(k, m - 1.0) if lanes.element == "float" else _log_double(k, m - 1.0)
    return at_the_ends(near, real).text


def _split(x: Real) -> tuple[Real, Real]:
    """(k, m) with x = 2^k m, m in [sqrt(1/2), sqrt(2)), for positive finite x."""
    root, mantissa, least, shift = _LAYOUT[x.lanes.element]
    integers = x.lanes.integers
    subnormal = x.compare("olt", least)
    x = x.unless(subnormal, x * 2.0**shift)
    above = integers("sub", x.bits(), integers.const(root))
    exponent = integers("ashr", above, integers.const(mantissa))
    m = x.from_bits(integers("sub", x.bits(), integers("shl", exponent, integers.const(mantissa))))
    magic = Real(x.lanes, x.lanes.const(MAGIC[x.lanes.element]))
    k = x.from_bits(integers("add", magic.bits(), exponent)) - magic
    return k - Real(x.lanes, x.lanes.const(float(shift))).where(subnormal, 0.0), m


def _log_float(k: Real, f: Real) -> Real:
    cubic = polynomial(f, _FLOAT) * (f * f * f)
    low = k.fma(_LN2_FLOAT[1], cubic) - f * f * 0.5
    return k.fma(_LN2_FLOAT[0], f + low)


def _log_double(k: Real, f: Real) -> Real:
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    rest = s.fma(half_square + z * polynomial(z, _DOUBLE), k * _LN2_DOUBLE[1])
    return k * _LN2_DOUBLE[0] - ((half_square - rest) - f)


def at_the_ends(result: Real, x: Real) -> Real:
    """The logarithm's value at zeros, below zero, at infinity and NaN."""
    result = x.where(x.compare("oeq", _INF), result)
    result = result.where(x.compare("ogt", 0.0), math.nan)
    return result.unless(x.compare("oeq", 0.0), -_INF)


def log_twofold(x: Real, base: str = "e") -> Twofold:
    """The logarithm of positive finite doubles, to about 2^-64 of its size."""
    k, m = _split(x)
    f = m - 1.0
    s = single(f) / fast_two_sum(constant(f, 2.0).high, f)
    z = s * s
    inner = constant(f, *_TWO_THIRDS) + single(z.high * polynomial(z.high, _TWOFOLD))
    near = s.scaled(2.0) + s * (z * inner)
    of_two, of_e = _BASES[base]
    if base != "e":
        near = near * constant(f, *of_e)
    whole = two_product(k, Real(k.lanes, k.lanes.const(of_two[0])))
    far = fast_two_sum(whole.high, k.fma(of_two[1], whole.low))
    total = two_sum(far.high, near.high)
    return fast_two_sum(total.high, total.low + (far.low + near.low))


# Other bases, and near 1.


def log2(lanes: Lanes, x: str) -> str:
    """The logarithm to base 2; exact for powers of 2."""
    return _to_base(lanes, x, "2")


def log10(lanes: Lanes, x: str) -> str:
    """The logarithm to base 10."""
    return _to_base(lanes, x, "10")


def _to_base(lanes: Lanes, x: str, base: str) -> str:
    real = Real(lanes, x)
    if lanes.element == "double":
        return at_the_ends(log_twofold(real, base).value(), real).text
    wide = widened(lanes, x)
    k, m = _split(wide)
    of_two, of_e = _BASES[base]
    near = k.fma(of_two[0], _log_near(m - 1.0) * of_e[0])
    return at_the_ends(Real(lanes, rounded(near)), real).text


def log_short(x: Real) -> Real:
    """The logarithm to 2^-37 of its size, for positive normal doubles."""
    k, m = _split(x)
    return k.fma(LN2, _log_near(m - 1.0))


def _log_near(f: Real) -> Real:
    """log(1 + f), 1 + f in [sqrt(1/2), sqrt(2))."""
    s = f / (f + 2.0)
    z = s * s
    return s * z.fma(polynomial(z, LOG1P_SHORT), 2.0)


def log1p(lanes: Lanes, x: str) -> str:
    """log(1 + x)."""
    real = Real(lanes, x)
    ends = real + 1.0
    if lanes.element == "double":
        value = log1p_twofold(single(real)).value()
    else:
        wide = widened(lanes, x)
        tiny = abs(wide).compare("olt", 2.0**-25)
        value = Real(lanes, rounded((wide * wide).fma(-0.5, wide).where(tiny, log_short(wide + 1.0))))
    value = at_the_ends(value, ends)
    return real.where(abs(real).compare("olt", 2.0**-60), value).text


def log1p_twofold(w: Twofold) -> Twofold:
    """log(1 + w) to about 2^-60 of its size, for doubles w > -1 that are not infinite."""
    one = Real(w.high.lanes, w.high.lanes.const(1.0))
    return log_of_sum(two_sum(one, w.high), w.low)


def log_of_sum(x: Twofold, rest: Operand = 0.0) -> Twofold:
    """log(x.high + x.low + rest)."""
    first = log_twofold(x.high)
    return fast_two_sum(first.high, first.low + (x.low + rest) / x.high)


# pow.


def power(lanes: Lanes, x: str, y: str) -> str:
    """x ** y with the special cases of C's pow."""
    base, exponent = Real(lanes, x), Real(lanes, y)
    if lanes.element == "float":
        size = _power_float(lanes, abs(base), exponent)
    else:
        size = _power_double(abs(base), exponent)
    return _with_special_cases(size, base, exponent).text


def _power_float(lanes: Lanes, x: Real, y: Real) -> Real:
    wide = widened(lanes, x.text)
    k, m = _split(wide)
    log_x = at_the_ends(_log_double(k, m - 1.0), wide)
    s, q = exp_short((widened(lanes, y.text) * log_x).at_most(700.0).at_least(-700.0))
    return Real(lanes, rounded(s.fma(q, s)))


def _power_double(x: Real, y: Real) -> Real:
    log_x = log_twofold(x)
    product = log_x.times(y)
    ends = y * at_the_ends(log_x.high, x)  # infinite, or too large for the twofold product
    plain = abs(ends).compare("olt", 800.0)
    high = product.high.where(plain, ends).at_most(800.0).at_least(-800.0)
    low = product.low.where(plain, 0.0)
    r, tail, n = exp_twofold(Twofold(high, low))
    return scaled(exp_sum(r, tail).value(), n)


def _with_special_cases(size: Real, x: Real, y: Real) -> Real:
    """|x| ** y given, x ** y wanted."""
    lanes = x.lanes
    one = lanes.both("or", abs(x).compare("oeq", 1.0), y.compare("oeq", 0.0))
    size = size.unless(one, 1.0)
    half = y * 0.5
    whole = y.trunc().compare("oeq", y)
    odd = lanes.both("and", whole, half.trunc().compare("une", half))
    size = (size.with_sign_of(x)).where(odd, size)
    finite_negative = lanes.both("and", x.compare("olt", 0.0), x.compare("ogt", -_INF))
    imaginary = lanes.both("and", finite_negative, y.trunc().compare("one", y))
    size = size.unless(imaginary, math.nan)
    nan_exponent = lanes.both("and", y.compare("uno", y), x.compare("une", 1.0))
    nan = lanes.both("or", nan_exponent, lanes.both("and", x.compare("uno", x), y.compare("une", 0.0)))
    return size.unless(nan, math.nan)


# rsqrt.


def rsqrt(lanes: Lanes, x: str) -> str:
    """1 / sqrt(x), the two roundings made up for: 0.51 ULP."""
    real = Real(lanes, x)
    shift, small = (80, 2.0**-70) if lanes.element == "float" else (200, 2.0**-900)
    tiny = real.compare("olt", small)  # where the remainders below would underflow
    sized = (real * 2.0**shift).where(tiny, real)
    root = sized.sqrt()
    inverse = 1.0 / root
    root_rest = (-root).fma(root, sized)
    inverse_rest = (-root).fma(inverse, 1.0)
    better = inverse.fma(inverse_rest - root_rest * (inverse * inverse) * 0.5, inverse)
    usual = lanes.both("and", inverse.compare("ogt", 0.0), inverse.compare("olt", _INF))
    result = better.where(usual, inverse)
    return (result * 2.0 ** (shift // 2)).where(tiny, result).text
