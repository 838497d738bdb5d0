"""The inverse trigonometric functions: asin, acos, atan, atan2.

atan on |t| <= tan(pi/8), to which a / b is brought by turning it by pi/4 or pi/2. asin on [0, 1/2], to which
x near 1 is brought by asin(x) = pi/2 - 2 asin(sqrt((1 - x) / 2)). float32 in double lanes, rounded once;
float64 with twofold numbers where a rounding would count.
"""

from __future__ import annotations

import math

from .lanes import Lanes
from .reals import Real, polynomial, rounded, widened
from .twofold import Twofold, constant, fast_two_sum, single, two_product, two_sum

_PI = (3.141592653589793, 1.2246467991473532e-16)
_HALF_PI = (1.5707963267948966, 6.123233995736766e-17)
_QUARTER_PI = (0.7853981633974483, 3.061616997868383e-17)
_TAN_EIGHTH, _TAN_THREE_EIGHTHS = 0.41421356237309503, 2.414213562373095
# (atan t - t) / t^3 in t^2, |t| <= tan(pi/8), to 2^-58 and 2^-43.
_ATAN_FULL = (
    -0.3333333333333333, 0.19999999999999993, -0.14285714285711515, 0.11111111110754218,
    -0.09090909066979425, 0.07692306734927001, -0.06666641996244853, 0.05881924906427398,
    -0.052580381939937075, 0.047193735719880364, -0.04104349551660424, 0.03063369493153089,
    -0.013916196139529454,
)  # fmt: skip
_ATAN_SHORT = (
    -0.3333333333326612, 0.19999999949803657, -0.14285708105034275, 0.11110819510978213,
    -0.09084098143736444, 0.07604765196669547, -0.060271479563577444, 0.0329539430103286,
)  # fmt: skip
# (asin s - s) / s^3 in s^2, 0 <= s <= 1/2, to 2^-58 and 2^-38.
_ASIN_FULL = (
    0.16666666666666666, 0.07500000000000119, 0.04464285714255019, 0.030381944475693704,
    0.022372157435623815, 0.017352816768546477, 0.013963775787848059, 0.01156651182189177,
    0.00962140274733868, 0.00932210150111452, 0.003035007172615201, 0.019579201619999292,
    -0.019277545928924788, 0.029635026263750575,
)  # fmt: skip
_ASIN_SHORT = (
    0.1666666666549084, 0.07500000600759216, 0.04464235707939131, 0.03039767195351239, 0.022131964555369556,
    0.019309346189809867, 0.005433409887131853, 0.02931732560491229,
)  # fmt: skip


# asin and acos.


def asin(lanes: Lanes, x: str) -> str:
    """NaN beyond 1."""
    real = Real(lanes, x)
    if lanes.element == "float":
        wide = widened(lanes, x)
        size = abs(wide)
        near, above = _asin_short(size)
        value = near.fma(-2.0, _HALF_PI[0]).where(above, near)
        return Real(lanes, rounded(value)).with_sign_of(real).text
    size = abs(real)
    root, rest, above = _asin_full(size)
    base = constant(size, *_HALF_PI)
    far = fast_two_sum(base.high, root * -2.0)
    value = (far.high + (far.low + (base.low - rest * 2.0))).where(above, root + rest)
    return value.with_sign_of(real).text


def acos(lanes: Lanes, x: str) -> str:
    """NaN beyond 1."""
    real = Real(lanes, x)
    if lanes.element == "float":
        wide = widened(lanes, x)
        near, above = _asin_short(abs(wide))
        negative = wide.compare("olt", 0.0)
        beyond = (near + near).unless(negative, _PI[0] - (near + near))
        return rounded(beyond.where(above, _HALF_PI[0] - near.with_sign_of(wide)))
    root, rest, above = _asin_full(abs(real))
    negative = real.compare("olt", 0.0)
    twice, rest_twice = root * 2.0, rest * 2.0
    left = _less(constant(real, *_PI), twice, rest_twice)
    middle = _less(constant(real, *_HALF_PI), root.with_sign_of(real), rest.with_sign_of(real))
    return left.where(negative, twice + rest_twice).where(above, middle).text


def _less(base: Twofold, x: Real, rest: Real) -> Real:
    """base - (x + rest), rounded once."""
    total = fast_two_sum(base.high, -x)
    return total.high + (total.low + (base.low - rest))


def _asin_short(size: Real) -> tuple[Real, str]:
    """(asin s, mask): s = size, or sqrt((1 - size) / 2) where size > 1/2."""
    above = size.compare("ogt", 0.5)
    z = (0.5 - size * 0.5).where(above, size * size)
    s = z.sqrt().where(above, size)
    return (s * z).fma(polynomial(z, _ASIN_SHORT), s), above


def _asin_full(size: Real) -> tuple[Real, Real, str]:
    """(s, rest, mask): the same as s + rest."""
    above = size.compare("ogt", 0.5)
    z = ((1.0 - size) * 0.5).where(above, size * size)
    root = single(z).sqrt()
    s = root.high.where(above, size)
    rest = (s * z).fma(polynomial(z, _ASIN_FULL), root.low.where(above, 0.0))
    return s, rest, above


# atan and atan2.


def atan(lanes: Lanes, x: str) -> str:
    """In [-pi/2, pi/2]."""
    real = Real(lanes, x)
    wide = widened(lanes, x) if lanes.element == "float" else real
    size = abs(wide).at_most(2.0**100)
    far, middle = (size.compare("ogt", limit) for limit in (_TAN_THREE_EIGHTHS, _TAN_EIGHTH))
    one = constant(size, 1.0)
    above, below = single(size) + -one, single(size) + one
    above = (-one).where(far, above.where(middle, single(size)))
    below = single(size).where(far, below.where(middle, one))
    base = constant(size, *_HALF_PI).where(
        far, constant(size, *_QUARTER_PI).where(middle, single(size * 0.0))
    )
    if lanes.element == "float":
        return Real(lanes, rounded(base.high + _atan_short(above.high / below.high))).with_sign_of(real).text
    return _sum(base, *_atan_full(above / below)).with_sign_of(real).text


def _atan_short(t: Real) -> Real:
    z = t * t
    return (t * z).fma(polynomial(z, _ATAN_SHORT), t)


def _atan_full(t: Twofold) -> tuple[Real, Real]:
    """atan(t) as a sum."""
    z = t.high * t.high
    return t.high, (t.high * z).fma(polynomial(z, _ATAN_FULL), t.low)


def _sum(base: Twofold, x: Real, rest: Real) -> Real:
    """base + x + rest; base is 0 or larger than x."""
    total = fast_two_sum(base.high, x)
    return (total.high + (total.low + (base.low + rest))).unless(base.high.compare("oeq", 0.0), x + rest)


def atan2(lanes: Lanes, y: str, x: str) -> str:
    """The angle of (x, y) in [-pi, pi]; zeros and infinities as in C's atan2."""
    real_y, real_x = Real(lanes, y), Real(lanes, x)
    if lanes.element == "float":
        wide_y, wide_x = widened(lanes, y), widened(lanes, x)
        value = Real(lanes, rounded(_angle(wide_y, wide_x, short=True)))
    else:
        value = _angle(real_y, real_x, short=False)
    value = value.with_sign_of(real_y)
    return value.unless(real_x.compare("uno", real_y), math.nan).text


def _angle(y: Real, x: Real, short: bool) -> Real:
    """The angle of (x, |y|)."""
    lanes = x.lanes
    width, height = abs(x), abs(y)
    steep = height.compare("ogt", width)
    least, most = _sized(width.where(steep, height), height.where(steep, width))
    middle = least.compare("ogt", most * _TAN_EIGHTH)
    left = lanes.integers.compare("slt", x.bits(), lanes.integers.const(0))
    turns, along = _octant(lanes, middle, steep, left)
    if short:
        t = (least - most).where(middle, least) / (least + most).where(middle, most)
        return turns.fma(_QUARTER_PI[0], along * _atan_short(t))
    above = two_sum(least, -most).where(middle, single(least))
    quotient = above / two_sum(least, most).where(middle, single(most))
    # below this the remainder of the division is no number any more
    low = quotient.low.unless(least.compare("olt", 2.0**-960), 0.0)
    value, rest = _atan_full(Twofold(quotient.high, low))
    base = two_product(turns, Real(lanes, lanes.const(_QUARTER_PI[0])))
    base = fast_two_sum(base.high, turns.fma(_QUARTER_PI[1], base.low))
    return _sum(base, value * along, rest * along)


def _octant(lanes: Lanes, middle: str, steep: str, left: str) -> tuple[Real, Real]:
    """Multiples of pi/4, and the sign with which the angle within the octant counts."""
    one = Real(lanes, lanes.const(1.0))
    turns = one.where(middle, 0.0)
    turns, along = (2.0 - turns).where(steep, turns), (-one).where(steep, one)
    return (4.0 - turns).where(left, turns), (-along).where(left, along)


def _sized(least: Real, most: Real) -> tuple[Real, Real]:
    """The same quotient of numbers that can be added and divided: no infinities, no 0 / 0, nothing huge."""
    infinite = most.compare("oeq", math.inf)
    least = Real(least.lanes, least.lanes.const(1.0)).where(
        least.compare("oeq", math.inf), least.unless(infinite, 0.0)
    )
    most = most.unless(infinite, 1.0).unless(most.compare("oeq", 0.0), 1.0)
    huge, small = most.compare("ogt", 2.0**500), most.compare("olt", 2.0**-400)
    scale = Real(most.lanes, most.lanes.const(1.0)).unless(huge, 2.0**-600).unless(small, 2.0**600)
    return least * scale, most * scale
