"""The exponential and its family: exp, tanh, sigmoid, silu, softplus, gelu_tanh.

float32: exp, sigmoid and silu work in floats; the others compute in double lanes to about 2^-28 and round
once. float64: twofold arithmetic up to the last rounding. exp(x) = 2^n (1 + q), q = r + r^2 p(r), r = x - n
ln 2 in [-ln2/2, ln2/2]; polynomials are minimax (Remez).
"""

from __future__ import annotations

from .lanes import Lanes
from .reals import Real, polynomial, rounded, widened
from .twofold import Twofold, constant, fast_two_sum, single, two_product

LOG2E = 1.4426950408889634
LN2 = 0.6931471805599453
#: ln 2 as a float and the rest; as a double and the rest.
_LN2_FLOAT = (0.693147182464599609375, -1.904654299957768e-09)
_LN2_DOUBLE = (LN2, 2.3190468138462996e-17)
#: Adding this rounds to an integer and leaves it in the low bits.
MAGIC = {"float": 1.5 * 2.0**23, "double": 1.5 * 2.0**52}
_MANTISSA = {"float": 23, "double": 52}
_BIAS = {"float": 127, "double": 1023}

# (e^r - 1 - r) / r^2, with errors of 2^-28 and 2^-58 of e^r.
_FLOAT = (
    0.5000000100957024,
    0.16666512893261703,
    0.041666187360100394,
    0.008369598016977198,
    0.0013951712704588363,
)
_FULL = (
    0.5000000000000014, 0.16666666666666702, 0.04166666666650317, 0.008333333333305158, 0.0013888888950523396,
    0.00019841269921763388, 2.4801486052624573e-05, 2.755721241848207e-06, 2.763274689916246e-07,
    2.5119085394700954e-08,
)  # fmt: skip
#: Beyond this e^x and x e^x are 0 in floats.
_FLOAT_FAR = -110.0
# (log(1 + e) - 2 s) / s^3 in s^2, s = e / (2 + e), 0 <= e <= 1; to 2^-37 and 2^-74 of the logarithm.
_LOG1P_SHORT = (
    0.6666666635754908, 0.4000005323642199, 0.2856838472581084, 0.22301735636480352, 0.17145669759107485,
    0.21799807436094912,
)  # fmt: skip
_LOG1P_FULL = (
    0.6666666666666666, 0.3999999999999999, 0.28571428571430646, 0.22222222221964893, 0.181818182006256,
    0.15384614502611865, 0.1333336121395663, 0.11764095518098801, 0.10535664998379096, 0.09424212345699913,
    0.09414209688384767, 0.04698251234097145, 0.15767601912401932,
)  # fmt: skip
# sqrt(2 / pi) and 0.044715, each as a double and the rest, times 2: gelu_tanh(x) = x sigmoid(2 u).
_GELU_C1 = (1.5957691216057308, -9.96930880911092e-17)
_GELU_C3 = (0.044715, 2.1960211427085595e-18)


# Powers of two.


def integer_part(z: Real) -> str:
    """The integer n in z = n + MAGIC, as integers of the same size."""
    integers = z.lanes.integers
    magic = Real(z.lanes, z.lanes.const(MAGIC[z.lanes.element]))
    return integers("sub", z.bits(), magic.bits())


def power_of_two(like: Real, n: str) -> Real:
    """2^n, for n that give a normal number."""
    integers = like.lanes.integers
    biased = integers("add", n, integers.const(_BIAS[like.lanes.element]))
    return like.from_bits(integers("shl", biased, integers.const(_MANTISSA[like.lanes.element])))


def scaled(x: Real, n: str) -> Real:
    """x * 2^n rounded once, also where the result is subnormal or infinite: the first of two steps is
    exact.
    """
    integers = x.lanes.integers
    half = integers("ashr", n, integers.const(1))
    return x * power_of_two(x, half) * power_of_two(x, integers("sub", n, half))


def _scaled_by_whole(x: Real, z: Real, n: Real) -> Real:
    """x * 2^n as `scaled` rounds it, for z = n + MAGIC; with AVX-512 one instruction does that."""
    if not (x.lanes.element == "float" and x.lanes.width == 16 and x.lanes.has_scaling):
        return scaled(x, integer_part(z))
    kind = x.lanes.type
    arguments = [(kind, x.text), (kind, n.text), (kind, "zeroinitializer"), ("i16", "-1"), ("i32", "4")]
    return Real(x.lanes, x.lanes.f.call(kind, "llvm.x86.avx512.mask.scalef.ps.512", *arguments))


# exp.


def exp(lanes: Lanes, x: str) -> str:
    """e^x: 0.6 ULP."""
    return (_exp_float(Real(lanes, x)) if lanes.element == "float" else exp_double(Real(lanes, x))).text


def _exp_float(x: Real) -> Real:
    x = x.at_most(89.0).at_least(-104.5)
    z = x.fma(LOG2E, MAGIC["float"])
    n = z - MAGIC["float"]
    r = n.fma(-_LN2_FLOAT[1], n.fma(-_LN2_FLOAT[0], x))
    high = r + 1.0
    low = (r * r).fma(polynomial(r, _FLOAT), r - (high - 1.0))
    return _scaled_by_whole(high + low, z, n)


def exp_double(x: Real) -> Real:
    """e^x for doubles."""
    x = x.at_most(710.0).at_least(-746.0)
    z = x.fma(LOG2E, MAGIC["double"])
    n = z - MAGIC["double"]
    r = n.fma(-_LN2_DOUBLE[1], n.fma(-_LN2_DOUBLE[0], x))
    q = (r * r).fma(polynomial(r, _FULL), r)
    return scaled(q + 1.0, integer_part(z))


def exp_short(x: Real) -> tuple[Real, Real]:
    """(s, q): e^x = s (1 + q) to 2^-28, s a power of two, in doubles; |x| <= 700. Small x leave q ~ x with
    its digits.
    """
    z = x.fma(LOG2E, MAGIC["double"])
    n = z - MAGIC["double"]
    r = n.fma(-LN2, x)
    integers = x.lanes.integers
    one = integers.const(_BIAS["double"] << _MANTISSA["double"])
    s = x.from_bits(integers("add", integers("shl", z.bits(), integers.const(_MANTISSA["double"])), one))
    return s, (r * r).fma(polynomial(r, _FLOAT), r)


def _exp_wide(x: Real) -> Real:
    """e^x as a double, for a float |x| <= 700."""
    s, q = exp_short(widened(x.lanes, x.text))
    return s.fma(q, s)


def exp_twofold(x: Twofold) -> tuple[Real, Real, str]:
    """(r, t, n): e^x = 2^n (1 + (r + t)) with the sum exact to 2^-57, |r| < 0.35, |t| < 0.07; for |x| <
    2000 in doubles.
    """
    z = x.high.fma(LOG2E, MAGIC["double"])
    n = z - MAGIC["double"]
    near = n.fma(-_LN2_DOUBLE[0], x.high)
    rest = n.fma(-_LN2_DOUBLE[1], x.low)
    r = near + rest
    low = (near - r) + rest
    tail = (r * r).fma(polynomial(r, _FULL), low)
    return r, tail, integer_part(z)


def exp_sum(r: Real, tail: Real) -> Twofold:
    """1 + (r + tail)."""
    one = Real(r.lanes, r.lanes.const(1.0))
    top = fast_two_sum(one, r)
    return fast_two_sum(top.high, top.low + tail)


# tanh.


def tanh(lanes: Lanes, x: str) -> str:
    """(e^2x - 1) / (e^2x + 1)."""
    real = Real(lanes, x)
    if lanes.element == "double":
        return _tanh_double(real).text
    near = real.at_most(30.0).at_least(-30.0)
    s, q = exp_short(widened(lanes, (near + near).text))
    less = s.fma(q, s - 1.0)
    return Real(lanes, rounded(less / (less + 2.0))).with_sign_of(real).text


def _tanh_double(x: Real) -> Real:
    twice = (abs(x) * 2.0).at_most(44.0)
    r, tail, n = exp_twofold(single(twice))
    s = power_of_two(x, n)
    less, more = (_around(s, shift, r, tail) for shift in (-1.0, 1.0))
    return (less / more).value().with_sign_of(x)


def _around(s: Real, shift: float, r: Real, tail: Real) -> Twofold:
    """s (1 + r + tail) + shift, keeping the digits of r where s + shift is 0."""
    top = fast_two_sum(s + shift, s * r)
    return fast_two_sum(top.high, s.fma(tail, top.low))


# The logistic family: x / (1 + e^-x) and the like.


def sigmoid(lanes: Lanes, x: str) -> str:
    """1 / (1 + e^-x)."""
    real = Real(lanes, x)
    if lanes.element == "double":
        value, whole = _sigmoid_parts(single(real))
        return scaled(value.value(), whole).text
    value, z, n = _sigmoid_float(real)
    return _scaled_by_whole(value.value(), z, n).text


def silu(lanes: Lanes, x: str) -> str:
    """x / (1 + e^-x); -0 at minus infinity."""
    real = Real(lanes, x)
    if lanes.element == "double":
        value, whole = _sigmoid_parts(single(real))
        return _product_scaled(real.at_least(-800.0), value, whole).text
    value, z, n = _sigmoid_float(real)
    factor = real.at_least(_FLOAT_FAR)
    product = two_product(factor, value.high)
    result = _scaled_by_whole(product.high + factor.fma(value.low, product.low), z, n)
    return result.where(real.compare("olt", 2.0**30), real).with_sign_of(real).text


def _sigmoid_float(x: Real) -> tuple[Twofold, Real, Real]:
    """(y, z, n): sigmoid(x) = 2^n y, z = n + MAGIC. With e = e^-|x| it is 1 / (1 + e) or e / (1 + e); one
    division, and what it, the sum and e lose is put back. No conversion to doubles, which would cost more."""
    size = (-abs(x)).at_least(_FLOAT_FAR)
    z = size.fma(LOG2E, MAGIC["float"])
    n = z - MAGIC["float"]
    r = n.fma(-_LN2_FLOAT[1], n.fma(-_LN2_FLOAT[0], size))
    top = r + 1.0
    rest = (r * r).fma(polynomial(r, _FLOAT), r - (top - 1.0))
    e = _scaled_by_whole(top + rest, z, n)
    below = e + 1.0
    inverse = 1.0 / below
    positive = x.compare("oge", 0.0)
    top, rest = top.unless(positive, 1.0), rest.unless(positive, 0.0)
    high = top * inverse
    lost = (-high).fma(below, top) + (-high).fma(e - (below - 1.0), rest)
    return Twofold(high, lost * inverse), z.unless(positive, MAGIC["float"]), n.unless(positive, 0.0)


def gelu_tanh(lanes: Lanes, x: str) -> str:
    """x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3); -0 at minus infinity. Source: Hendrycks and
    Gimpel 2016.
    """
    real = Real(lanes, x)
    if lanes.element == "double":
        return _gelu_tanh_double(real).text
    real = real.at_least(-20.0)
    near = widened(lanes, real.at_most(8.0).text)  # sigmoid(2 u(8)) rounds to 1
    s, q = exp_short(near * (near * near).fma(-_GELU_C1[0] * _GELU_C3[0], -_GELU_C1[0]))
    return rounded(widened(lanes, real.text) / s.fma(q, s + 1.0))


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
    e = _exp_wide((-abs(real)).at_least(-120.0))
    s = e / (e + 2.0)
    z = s * s
    return rounded(s.fma(z.fma(polynomial(z, _LOG1P_SHORT), 2.0), widened(lanes, real.at_least(0.0).text)))


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
    less = half_square - s * z.fma(polynomial(z, _LOG1P_FULL), half_square)
    log1p = fast_two_sum(high, low / (high + 1.0) - less)
    total = fast_two_sum(x.at_least(0.0), log1p.high)
    positive = x.compare("ogt", 0.0)
    infinite = x.compare("oeq", float("inf"))
    return (
        (total.high + (total.low + log1p.low))
        .where(positive, log1p.high + log1p.low)
        .unless(infinite, float("inf"))
    )
