"""The inverse of the error function.

erfinv(x) / x is a polynomial in w = -log(1 - x^2) for small w, in sqrt(w) beyond (after Giles 2010); with one
step of Halley's method on twofold values of erf or erfc for doubles.
"""

from __future__ import annotations

import math

from .lanes import Lanes
from .reals import Real, polynomial, rounded, widened
from .vmath_erf import erf_near, erfc_far
from .vmath_exp import exp_double, scaled
from .vmath_log import log_short

# In w - 3.125, 0 <= w <= 6.25, and in sqrt(w) - 4.25, 2.5 <= sqrt(w) <= 6.1, to 2^-33 and 2^-29.
_CENTRE = (
    1.65365456268375, 0.24015818216659202, -0.006033670857310553, -0.0007407015429189596,
    0.000186734138836976, -1.3883624481368918e-05, -1.3653851772292346e-06, 4.2402034470197716e-07,
    -2.9114466320562138e-08, -4.250196415665389e-09, 1.0632113643244863e-09, -3.5250488796333366e-11,
    -1.478620126842136e-11, 1.2838500142347684e-12, 7.025585979197616e-14,
)  # fmt: skip
_TAIL = (
    4.092223423410125, 1.0099782817392013, 0.0007127655176701961, -0.0006079432660343779,
    0.00021204701752866153, -6.42453680039099e-05, 2.2355921081787294e-05, -1.0513637947807503e-05,
    5.309035573483755e-06, -2.8742147379116268e-06, 1.8206346236787295e-06, -7.306439909525351e-07,
    -9.853965525502776e-09, 1.0384263557915164e-07, -2.2657124680240317e-08,
)  # fmt: skip
_HALF_ROOT_PI = (0.886226925452758, -3.8332932499128993e-17)


def erfinv(lanes: Lanes, x: str) -> str:
    """Infinite at 1, NaN beyond."""
    real = Real(lanes, x)
    size = abs(real)
    if lanes.element == "double":
        value = _refined(size, _roughly(size))
    else:
        value = Real(lanes, rounded(_roughly(widened(lanes, size.text))))
    value = value.unless(size.compare("oeq", 1.0), math.inf)
    return value.where(size.compare("ole", 1.0), math.nan).with_sign_of(real).text


def _roughly(x: Real) -> Real:
    """erfinv of doubles in [0, 1) to 2^-29."""
    w = -log_short((1.0 - x) * (1.0 + x))
    root = w.at_least(0.0).sqrt()
    tail = polynomial(root - 4.25, _TAIL)
    return x * polynomial(w - 3.125, _CENTRE).where(w.compare("olt", 6.25), tail)


def _refined(x: Real, y: Real) -> Real:
    """y - e / (1 + y e) with e = (erf(y) - x) / erf'(y), from erfc where x > 1/2: 1 - x is exact there."""
    near = erf_near(y)
    left = (near.high - x) + near.low
    value, n = erfc_far(y)
    right = ((1.0 - x) - scaled(value.high, n)) - scaled(value.low, n)
    off = left.where(x.compare("olt", 0.5), right)
    step = off * _HALF_ROOT_PI[0] * exp_double(y * y)
    near_zero = x.fma(_HALF_ROOT_PI[0], x * _HALF_ROOT_PI[1])
    return near_zero.where(x.compare("olt", 2.0**-30), y - step / y.fma(step, 1.0))
