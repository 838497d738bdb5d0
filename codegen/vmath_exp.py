"""The exponential and its family: exp, exp2, expm1, sinh, cosh.

float32: exp and exp2 work in floats, on sixteenths of powers of two from a table (Tang 1989); the others
compute in double lanes to about 2^-28 and round once. float64: twofold arithmetic up to the last rounding.
exp(x) = 2^n (1 + q), q = r + r^2 p(r), r = x - n ln 2 in [-ln2/2, ln2/2] (ln2/32 with the table); polynomials
are minimax (Remez), or interpolate at Chebyshev nodes.
"""

from __future__ import annotations

import numpy as np

from .lanes import Lanes
from .reals import Real, polynomial, rounded, widened
from .twofold import Twofold, constant, fast_two_sum, single

LOG2E = 1.4426950408889634
LN2 = 0.6931471805599453
#: ln 2 as a float and the rest; as a double and the rest.
_LN2_FLOAT = (0.693147182464599609375, -1.904654299957768e-09)
_LN2_DOUBLE = (LN2, 2.3190468138462996e-17)
#: Adding this rounds to an integer and leaves it in the low bits.
MAGIC = {"float": 1.5 * 2.0**23, "double": 1.5 * 2.0**52}
_MANTISSA = {"float": 23, "double": 52}
_BIAS = {"float": 127, "double": 1023}

#: Adding this rounds a float to sixteenths and leaves their number in the low bits.
_SIXTEENTHS = 1.5 * 2.0**19
#: 2^(j/16) as a float, and the rest.
_ROOTS = (
    1.0, 1.0442737340927124, 1.0905077457427979, 1.1387885808944702, 1.1892070770263672, 1.2418577671051025,
    1.2968395948410034, 1.3542555570602417, 1.4142135381698608, 1.4768261909484863, 1.5422108173370361,
    1.610490322113037, 1.6817928552627563, 1.7562521696090698, 1.8340080976486206, 1.9152065515518188,
)  # fmt: skip
_ROOTS_REST = (
    0.0, 4.8334701574503924e-08, -1.3077539939843064e-08, 5.386222312608879e-08, 3.797635272917432e-08,
    4.496838101886169e-08, -4.018999533172973e-08, -1.0123349269974824e-08, 2.4203234971764687e-08,
    -4.500898853621038e-08, 8.070904833346049e-09, 9.836217174097328e-09, -2.4755326677450284e-08,
    -9.235770370707996e-09, -1.1239277952768134e-08, 9.845328108326612e-09,
)  # fmt: skip
#: The roots with their number taken off the bits at which a shift by _TO_EXPONENT adds it; and what they lack
#: as a part of them.
_TO_EXPONENT = 19
_ROOTS_TO_SHIFT = tuple(
    (np.array(_ROOTS, np.float32).view(np.int32) - (np.arange(16, dtype=np.int32) << _TO_EXPONENT))
    .view(np.float32)
    .tolist()
)
_ROOTS_LACK = tuple(rest / root for root, rest in zip(_ROOTS, _ROOTS_REST, strict=True))
# (e^r - 1 - r) / r^2 for |r| <= ln2/32, and (2^r - 1) / r for |r| <= 1/32: errors of 2^-29 of the power.
_SHORT = (0.5000162511477085, 0.16667059230002124)
_EXP2_SHORT = (0.6931471805599453, 0.24023428529735133, 0.055505411043956475)

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


# (2^r - 1) / r, |r| <= 1/2, to 2^-57 of 2^r.
_EXP2_FULL = (
    0.6931471805599453, 0.24022650695910072, 0.055504108664821625, 0.00961812910762848,
    0.0013333558146406436, 0.00015403530393370715, 1.5252733841601815e-05, 1.3215486808727859e-06,
    1.0178057064573359e-07, 7.054897292691627e-09, 4.455822025014915e-10, 2.5729344553786755e-11,
)  # fmt: skip

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


def _root_scaled(z: Real, n: Real, q: Real) -> Real:
    """2^n (1 + q) for n in sixteenths, z = n + _SIXTEENTHS, rounded once where it is subnormal."""
    lanes, integers = z.lanes, z.lanes.integers
    high, rest = (Real(lanes, lanes.lookup(column, z.bits())) for column in (_ROOTS, _ROOTS_REST))
    power = high + high.fma(q, rest)
    if lanes.scales:
        arguments = [(lanes.type, x) for x in (power.text, n.text, "zeroinitializer")]
        name = "llvm.x86.avx512.mask.scalef.ps.512"
        return Real(lanes, lanes.f.call(lanes.type, name, *arguments, ("i16", "-1"), ("i32", "4")))
    sixteenths = integers("sub", z.bits(), Real(lanes, lanes.const(_SIXTEENTHS)).bits())
    return scaled(power, integers("ashr", sixteenths, integers.const(4)))


def _limited(x: Real, low: float, high: float) -> Real:
    """x where the power is neither 0 nor infinite, else a bound, unless `_short` and scaling see to that."""
    return x if x.lanes.scales else x.at_most(high).at_least(low)


def _short(r: Real) -> Real:
    """The remainder r, of size 1/32 at most; 1/16 where that is lost, since x is too large or infinite: what
    scales by n finds 0, infinity or NaN then, from n alone."""
    lanes = r.lanes
    if not lanes.scales:
        return r
    of_least_size = "6"
    arguments = [(lanes.type, r.text), (lanes.type, lanes.const(1 / 16)), ("i32", of_least_size)]
    arguments += [(lanes.type, "zeroinitializer"), ("i16", "-1"), ("i32", "4")]
    return Real(lanes, lanes.f.call(lanes.type, "llvm.x86.avx512.mask.range.ps.512", *arguments))


# exp.


def exp(lanes: Lanes, x: str) -> str:
    """e^x."""
    return (_exp_float(Real(lanes, x)) if lanes.element == "float" else exp_double(Real(lanes, x))).text


def _exp_float(x: Real) -> Real:
    x = _limited(x, -104.5, 89.0)
    z = x.fma(LOG2E, _SIXTEENTHS)
    n = z - _SIXTEENTHS
    r = _short(n.fma(-_LN2_FLOAT[1], n.fma(-_LN2_FLOAT[0], x)))
    return _root_scaled(z, n, (r * r).fma(polynomial(r, _SHORT), r))


def exp_parts(x: Real) -> tuple[Real, Real]:
    """(s, q): e^x = s (1 + q) to 2^-28, |q| < 1/32, for floats |x| <= 87. s is 1 at least where x >= 0."""
    lanes, integers = x.lanes, x.lanes.integers
    z = x.fma(LOG2E, _SIXTEENTHS)
    n = z - _SIXTEENTHS
    root, lacking = (Real(lanes, lanes.lookup(c, z.bits())) for c in (_ROOTS_TO_SHIFT, _ROOTS_LACK))
    r = n.fma(-_LN2_FLOAT[0], x) + n.fma(-_LN2_FLOAT[1], lacking)
    shifted = integers("shl", z.bits(), integers.const(_TO_EXPONENT))
    s = x.from_bits(integers("add", root.bits(), shifted))
    return s, (r * r).fma(polynomial(r, _SHORT), r)


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


def exp_of(x: Real) -> Real:
    """e^x to 2^-28, for doubles |x| <= 700."""
    s, q = exp_short(x)
    return s.fma(q, s)


def exp_wide(x: Real) -> Real:
    """The same for floats."""
    return exp_of(widened(x.lanes, x.text))


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


def around(s: Real, shift: float, r: Real, tail: Real) -> Twofold:
    """s (1 + r + tail) + shift, keeping the digits of r where s + shift is 0."""
    top = fast_two_sum(s + shift, s * r)
    return fast_two_sum(top.high, s.fma(tail, top.low))


# exp2 and expm1.


def exp2(lanes: Lanes, x: str) -> str:
    """2^x; exact for whole x."""
    return (_exp2_float(Real(lanes, x)) if lanes.element == "float" else _exp2_double(Real(lanes, x))).text


def _exp2_float(x: Real) -> Real:
    x = _limited(x, -151.0, 129.0)
    z = x + _SIXTEENTHS
    n = z - _SIXTEENTHS
    r = _short(x - n)
    return _root_scaled(z, n, r * polynomial(r, _EXP2_SHORT))


def _exp2_double(x: Real) -> Real:
    x = x.at_most(1025.0).at_least(-1076.0)
    z = x + MAGIC["double"]
    r = x - (z - MAGIC["double"])
    return scaled(r.fma(polynomial(r, _EXP2_FULL), 1.0), integer_part(z))


def expm1(lanes: Lanes, x: str) -> str:
    """e^x - 1."""
    real = Real(lanes, x)
    if lanes.element == "double":
        return _expm1_double(real).text
    s, q = exp_short(widened(lanes, real.at_most(120.0).at_least(-60.0).text))
    return Real(lanes, rounded(s.fma(q, s - 1.0))).where(real.compare("une", 0.0), real).text


def _expm1_double(x: Real) -> Real:
    near = x.at_most(710.0).at_least(-60.0)
    r, tail, n = exp_twofold(single(near))
    integers = x.lanes.integers
    s = power_of_two(x, integers("sub", n, integers.const(1)))  # half of 2^n, which may be too large
    value = around(s, -0.5, r, tail).value() * 2.0
    return x.where(abs(x).compare("olt", 2.0**-54), value)


# Hyperbolic functions.


def sinh(lanes: Lanes, x: str) -> str:
    """(E - 1/E) / 2 = (e + e/E) / 2 with E = e^|x|, e = E - 1."""
    real = Real(lanes, x)
    if lanes.element == "double":
        less, more, far = _exponentials(real)
        return _halved(less + less / more, far).with_sign_of(real).text
    s, q = exp_short(widened(lanes, abs(real).at_most(100.0).text))
    near = s.fma(q, s - 1.0)
    return Real(lanes, rounded((near + near / s.fma(q, s)) * 0.5)).with_sign_of(real).text


def cosh(lanes: Lanes, x: str) -> str:
    """(E + 1/E) / 2 with E = e^|x|."""
    real = Real(lanes, x)
    if lanes.element == "double":
        _, more, far = _exponentials(real)
        return _halved(more + constant(real, 1.0) / more, far).text
    e = exp_wide(abs(real).at_most(100.0))
    return rounded((e + 1.0 / e) * 0.5)


def _exponentials(x: Real) -> tuple[Twofold, Twofold, tuple[Twofold, str]]:
    """(E - 1, E, (v, n)) for |x| < 60 with E = e^|x|; 2^n v = E for any x."""
    r, tail, n = exp_twofold(single(abs(x).at_most(712.0)))
    integers = x.lanes.integers
    s = power_of_two(x, integers.intrinsic("smin", n, integers.const(90)))
    return around(s, -1.0, r, tail), around(s, 0.0, r, tail), (exp_sum(r, tail), n)


def _halved(near: Twofold, far: tuple[Twofold, str]) -> Real:
    """near / 2, or 2^n v / 2 where 1 / E does not count any more."""
    value, n = far
    integers = value.high.lanes.integers
    half = scaled(value.value(), integers("sub", n, integers.const(1)))
    return near.scaled(0.5).value().where(integers.compare("slt", n, integers.const(80)), half)
