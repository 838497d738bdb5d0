"""log|gamma(x)| and its derivatives: lgamma, digamma, polygamma.

x > 0: a polynomial around 2 (around the zero of digamma), to which x is brought by gamma(x + 1) = x gamma(x),
for small x; Stirling's series for the others. x < 0: reflection. float32 in double lanes, rounded once;
float64 with twofold numbers for x > 0. Near their negative zeros the float64 values have a small absolute,
not a small relative error.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .lanes import Lanes
from .reals import Real, polynomial, rounded, widened
from .twofold import Twofold, constant, fast_two_sum, single, two_product, two_sum
from .vmath_log import log_of_sum, log_twofold

_INF = math.inf
# lgamma(2 + e) = e (1 - Euler + e p(e)), |e| <= 1/2, to 2^-57.
_ONE_LESS_EULER = (0.42278433509846713, 4.942915152430645e-18)
_LGAMMA = (
    0.3224670334241132, -0.0673523010531981, 0.02058080842778457, -0.007385551028673995,
    0.002890510330738728, -0.0011927539117019227, 0.0005096695248857253, -0.000223154758521888,
    9.945750908961502e-05, -4.4926234970543704e-05, 2.050726753167361e-05, -9.439514488390425e-06,
    4.374374075177684e-06, -2.038979886563506e-06, 9.578698885829385e-07, -4.5055309246231086e-07,
    2.0304000285413188e-07, -9.610925060605394e-08, 6.379807043609944e-08, -3.041570519442635e-08,
)  # fmt: skip
# x (lgamma(x) - (x - 1/2) (log x - 1) - c) in 1 / x^2, x >= 4.5, to 2^-61; c.
_STIRLING = (
    0.08333333333333333, -0.0027777777777776586, 0.0007936507935532409, -0.0005952380638517277,
    0.0008417456068141207, -0.0019170100307740825, 0.0063777365678238315, -0.028189093643885,
    0.14061155292705463, -0.6034013405586861, 1.4464522842517622,
)  # fmt: skip
#: Beyond this the result is infinite.
_LGAMMA_END = 2.559983327851638e305
_STIRLING_FROM, _STIRLING_CONSTANT = 4.5, (0.4189385332046727, 1.6728209650585413e-17)
# digamma(zero + d) = d (slope + d p(d)), 1 <= zero + d <= 2, to 2^-56.
_ZERO, _SLOPE = (1.4616321449683622, 9.549995429965697e-17), (0.9676722454476212, -3.387874303038943e-17)
_DIGAMMA = (
    -0.4427631689835921, 0.258499760955651, -0.16394270544240644, 0.10782405069125744, -0.07219956125646643,
    0.04880428816471037, -0.03316112647423212, 0.02259764820203904, -0.015424765915762624,
    0.010538792508331719, -0.007204534508364717, 0.004926765340384448, -0.0033697933940571552,
    0.002305310780206119, -0.001577089338601995, 0.0010774547118316026, -0.0007365529159913515,
    0.0005114078581942962, -0.00035444502207632736, 0.00021849770230601787, -0.00013047050284058337,
    0.00013323834986188088, -0.00013294555628385457, 5.581179803403987e-05,
)  # fmt: skip
# x^2 (log x - 1 / (2 x) - digamma(x)) in 1 / x^2, x >= 4, to 2^-62.
_DIGAMMA_STIRLING = (
    0.08333333333333333, -0.00833333333333303, 0.003968253967978097, -0.004166666567471676,
    0.007575738830929722, -0.021090656989071224, 0.0831734620725202, -0.4350126501462303,
    2.7488451490028707, -18.072927577925434, 102.44982501113942, -404.53196294794105, 787.6800077779149,
)  # fmt: skip
_DIGAMMA_STIRLING_FROM = 4.0
# (sin(pi f) / f - pi) / f^2 and (cos(pi f) - 1) / f^2 in f^2, |f| <= 1/2, to 2^-55 and 2^-53.
_PI, _INVERSE_PI = math.pi, 1 / math.pi
_SIN_PI = (
    -5.16771278004997, 2.5501640398773455, -0.599264529320791, 0.08214588661108452, -0.007370430944815148,
    0.0004663027953732641, -2.19152828364736e-05, 7.94925593092511e-07, -2.2349219540133982e-08,
)  # fmt: skip
_COS_PI = (
    -4.934802200544679, 4.0587121264167685, -1.3352627688545895, 0.23533063035889246, -0.025806891389994743,
    0.0019295743091154519, -0.00010463810230140366, 4.303054814519501e-06, -1.3873921317480972e-07,
    3.5096613118221688e-09,
)  # fmt: skip
#: B_2k / (2 k)!, k = 1, 2, ...
_BERNOULLI = (
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600,
    -3617 / 10670622842880000,
)  # fmt: skip
#: Up to where polygamma steps before its series is used, more for higher orders.
_POLYGAMMA_STEPS = 12


def lgamma(lanes: Lanes, x: str) -> str:
    """log|gamma(x)|; infinite at 0, -1, -2, ..."""
    return _in_doubles(lanes, x, _lgamma)


def digamma(lanes: Lanes, x: str) -> str:
    """The derivative of lgamma; infinite at 0, NaN at -1, -2, ..."""
    return _in_doubles(lanes, x, _digamma)


def polygamma(lanes: Lanes, x: str, order: int) -> str:
    """The derivative of digamma of an order >= 1."""
    return _in_doubles(lanes, x, lambda real: _polygamma(real, order))


def _in_doubles(lanes: Lanes, x: str, function: Callable[[Real], Real]) -> str:
    if lanes.element == "double":
        return function(Real(lanes, x)).text
    return rounded(function(widened(lanes, x)))


# lgamma.


def _lgamma(x: Real) -> Real:
    size = abs(x)
    direct = x.compare("oge", -0.5)
    right = _lgamma_right(x.where(direct, size))
    _, sine = _of_pi_times(size)
    left = log_twofold(size * abs(sine) * _INVERSE_PI)
    reflected = ((-left.high - right.high) - (left.low + right.low)).unless(sine.compare("oeq", 0.0), _INF)
    value = right.value().where(direct, reflected)
    infinite = x.lanes.both("or", x.compare("oeq", 0.0), size.compare("ogt", _LGAMMA_END))
    return x.where(x.compare("uno", x), value.unless(infinite, _INF))


def _lgamma_right(x: Real) -> Twofold:
    """lgamma of doubles >= -1/2: that of 2 + e, and the logarithm of the factors between."""
    one, less = constant(x, 1.0), x - 1.0
    e, factors = x, two_sum(one.high, x).times(x)
    choices = (
        (0.5, x - 1.0, single(x)), (1.5, x - 2.0, one), (2.5, x - 3.0, single(less)),
        (3.5, x - 4.0, two_product(less, x - 2.0)), (_STIRLING_FROM, x - x, single(x.at_most(_LGAMMA_END))),
    )  # fmt: skip
    for limit, rest, product in choices:
        above = x.compare("oge", limit)
        e, factors = rest.where(above, e), product.where(above, factors)
    negative = factors.high.compare("olt", 0.0)
    log = log_of_sum((-factors).where(negative, factors))
    near = _lgamma_near(e) + log.where(x.compare("oge", 2.5), -log)
    return _stirling(factors.high, log).where(x.compare("oge", _STIRLING_FROM), near)


def _lgamma_near(e: Real) -> Twofold:
    """lgamma(2 + e)."""
    return (constant(e, *_ONE_LESS_EULER) + two_product(e, polynomial(e, _LGAMMA))).times(e)


def _stirling(x: Real, log: Twofold) -> Twofold:
    """lgamma(x), given log(x)."""
    inverse = 1.0 / x
    half = constant(x, 0.5)
    main = (log + constant(x, -1.0)) * two_sum(x, -half.high) + constant(x, *_STIRLING_CONSTANT)
    return fast_two_sum(main.high, inverse.fma(polynomial(inverse * inverse, _STIRLING), main.low))


# digamma.


def _digamma(x: Real) -> Real:
    size = abs(x)
    negative = x.compare("olt", 0.0)
    above_one = size.compare("oge", 1.0)
    # digamma(1 + size) for negative x
    right = _digamma_right(size, negative)
    cosine, sine = _of_pi_times(size)
    more = (1.0 / size).where(above_one, 0.0)
    reflected = (right.high + (cosine * _PI) / sine) + (right.low + more)
    reflected = reflected.unless(sine.compare("oeq", 0.0), math.nan)
    value = reflected.where(negative, right.value())
    value = (-1.0 / x).where(size.compare("olt", 2.0**-1000), value)
    value = x.where(x.compare("oeq", _INF), value)
    return value.unless(x.compare("oeq", -_INF), math.nan)


def _digamma_right(x: Real, shifted: str) -> Twofold:
    """digamma of doubles > 0; below 1 of x + 1 where the mask says so."""
    one, none = constant(x, 1.0), constant(x, 0.0)
    less = x - 1.0
    d = two_sum(x, constant(x, 1.0 - _ZERO[0]).high)
    above, below = none.where(shifted, -one), single(x)
    choices = (
        (1.0, x, none, one), (2.0, less, one, single(less)),
        (3.0, x - 2.0, two_sum(x + x, constant(x, -3.0).high), two_product(less, x - 2.0)),
    )  # fmt: skip
    for limit, at, over, under in choices:
        beyond = x.compare("oge", limit)
        d = two_sum(at, constant(x, -_ZERO[0]).high).where(beyond, d)
        above, below = over.where(beyond, above), under.where(beyond, below)
    near = _digamma_near(Twofold(d.high, d.low - _ZERO[1])) + above / below
    inverse = 1.0 / x
    square = inverse * inverse
    log = log_twofold(x)
    far = fast_two_sum(log.high, log.low - square.fma(polynomial(square, _DIGAMMA_STIRLING), inverse * 0.5))
    return far.where(x.compare("oge", _DIGAMMA_STIRLING_FROM), near)


def _digamma_near(d: Twofold) -> Twofold:
    """digamma(zero + d)."""
    return (constant(d.high, *_SLOPE) + two_product(d.high, polynomial(d.high, _DIGAMMA))) * d


# polygamma.


def _polygamma(x: Real, order: int) -> Real:
    """Plain doubles: a few units in the last place."""
    negative = x.compare("olt", 0.0)
    right = _polygamma_right((1.0 - x).where(negative, x), order)
    cosine, sine = _of_pi_times(x)
    sign = 1.0 if order % 2 else -1.0
    reflected = -right - _PI ** (order + 1) * _cotangent_derivative(cosine / sine, order)
    return reflected.where(negative, right * sign)


def _polygamma_right(x: Real, order: int) -> Real:
    """|polygamma(x)| for x > 0."""
    steps = _POLYGAMMA_STEPS + order
    total = _inverse_power(x, order + 1)
    for k in range(1, steps):
        total = total + _inverse_power(x + float(k), order + 1)
    end = x + float(steps)
    inverse = 1.0 / end
    less = math.factorial(order - 1)
    terms = [b * math.factorial(2 * k + order + 1) / less for k, b in enumerate(_BERNOULLI)]
    series = (inverse * inverse) * polynomial(inverse * inverse, terms) + inverse.fma(order / 2, 1.0)
    return total * float(less * order) + series * _inverse_power(end, order) * float(less)


def _inverse_power(x: Real, power: int) -> Real:
    result = inverse = 1.0 / x
    for _ in range(power - 1):
        result = result * inverse
    return result


def _cotangent_derivative(c: Real, order: int) -> Real:
    """The derivative of cot(t) of this order, as a polynomial in c = cot(t)."""
    p = [0.0, 1.0]
    for _ in range(order):
        slope = [k * v for k, v in enumerate(p)][1:]
        p = [-(a + b) for a, b in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)]
    return polynomial(c, p)


def _of_pi_times(x: Real) -> tuple[Real, Real]:
    """(cos(pi f), sin(pi f)), f = x - the nearest whole number."""
    f = x - Real(x.lanes, x.lanes.intrinsic("roundeven", x.text))
    z = f * f
    return z.fma(polynomial(z, _COS_PI), 1.0), f * z.fma(polynomial(z, _SIN_PI), _PI)
