"""What the elementary functions are measured against: float64 by numpy and scipy for whole chunks of float32
values, and mpmath for single values where that is in doubt, and for float64.
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
from scipy import special

Wide = Callable[..., np.ndarray]
Exact = Callable[..., mpmath.mpf]
_TWO_U = 2 * np.sqrt(2 / np.pi)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1 + e)


def _times(x: np.ndarray, share: np.ndarray) -> np.ndarray:
    """x * share; -0 where x is minus infinity."""
    return np.where(np.isneginf(x), -0.0, x * share)


def _normal(x: np.ndarray) -> np.ndarray:
    a = np.abs(x)
    tail = 0.5 * special.erfcx(a * np.sqrt(0.5)) * np.exp(-0.5 * a * a)
    return np.where(x < 0, tail, 1 - tail)


def _gelu_slope(x: np.ndarray) -> np.ndarray:
    a = np.minimum(np.abs(x), 1e3)
    share = 0.5 * special.erfcx(a * np.sqrt(0.5)) - a / np.sqrt(2 * np.pi)
    tail = share * np.exp(-0.5 * a * a)
    return np.where(x < 0, tail, 1 - tail)


def _lgamma(x: np.ndarray) -> np.ndarray:
    return np.where(np.isneginf(x), np.inf, special.gammaln(x))


def _digamma(x: np.ndarray) -> np.ndarray:
    """By recurrence and reflection; scipy's takes 750 ns a value."""
    left = x < 0
    y = np.where(left, 1 - x, x)
    total = sum((1 / (y + k) for k in range(9)), np.zeros_like(y))
    y = 1 / (y + 9)
    z = y * y
    series = z * (1 / 12 - z * (1 / 120 - z * (1 / 252 - z * (1 / 240 - z * (1 / 132 - z * 691 / 32760)))))
    right = -np.log(y) - y / 2 - series - total
    fraction = x - np.round(x)
    reflected = np.where(fraction == 0, np.nan, right - np.pi / np.tan(np.pi * fraction))
    return np.where(x == 0, np.copysign(np.inf, -x), np.where(left, reflected, right))


#: Of float64 arrays.
WIDE: dict[str, Wide] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10,
    "log1p": np.log1p, "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos,
    "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh, "erf": special.erf, "erfc": special.erfc,
    # beyond 1 scipy takes 30 us a value to give NaN
    "erfinv": lambda x: special.erfinv(np.where(np.abs(x) <= 1, x, np.nan)), "lgamma": _lgamma,
    "digamma": _digamma, "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x), "sigmoid": _sigmoid,
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "silu": lambda x: _times(x, _sigmoid(x)), "gelu": lambda x: _times(x, _normal(x)),
    "gelu_slope": _gelu_slope,
    "gelu_tanh": lambda x: _times(x, _sigmoid(_TWO_U * (x + 0.044715 * x * x * x))),
    "pow": np.power, "atan2": np.arctan2,
}  # fmt: skip

#: f(-x) = f(x), f(-x) = -f(x), and functions that are NaN for x < 0 (-0 is like +0, but for the sign).
EVEN, ODD = {"cos", "cosh"}, set("sin tan asin atan sinh tanh asinh atanh erf erfinv".split())
POSITIVE = set("log log2 log10 sqrt rsqrt acosh".split())


def _logistic(x: mpmath.mpf) -> mpmath.mpf:
    return 1 / (1 + mpmath.exp(-x))


def _inner(x: mpmath.mpf) -> mpmath.mpf:
    return 2 * mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)


#: Of mpmath numbers, at the precision that `mpmath.mp` is set to.
EXACT: dict[str, Exact] = {
    **{n: getattr(mpmath, n) for n in "exp expm1 log log10 log1p sin cos tan asin acos atan sinh".split()},
    **{n: getattr(mpmath, n) for n in "cosh tanh asinh acosh atanh erf erfc erfinv digamma".split()},
    "sqrt": mpmath.sqrt, "atan2": mpmath.atan2,
    "exp2": lambda x: mpmath.power(2, x), "log2": lambda x: mpmath.log(x) / mpmath.log(2),
    "lgamma": lambda x: mpmath.loggamma(x).real, "rsqrt": lambda x: 1 / mpmath.sqrt(x),
    "sigmoid": _logistic, "softplus": lambda x: mpmath.log1p(mpmath.exp(-abs(x))) + max(x, 0),
    "silu": lambda x: x * _logistic(x), "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "gelu_slope": lambda x: mpmath.erfc(-x / mpmath.sqrt(2)) / 2 + x * mpmath.npdf(x),
    "gelu_tanh": lambda x: x * _logistic(_inner(x)), "pow": mpmath.power,
}  # fmt: skip

#: Where the values for float64 are taken from, besides all exponents: intervals.
SPREADS: dict[str, list[tuple[float, float]]] = {
    **{n: [(-1, 1), (0.999, 1)] for n in ("asin", "acos", "atanh", "erfinv")},
    **{n: [(0, 2), (0.999, 1.001), (0, 1e6)] for n in ("log", "log2", "log10", "sqrt", "rsqrt")},
    **{n: [(0, 2), (0, 10), (1.45, 1.47), (1.99, 2.01), (0, 200)] for n in ("lgamma", "digamma")},
    "log1p": [(-1, 1), (-1e-3, 1e-3), (0, 1e3)], "acosh": [(1, 2), (1, 100)],
}  # fmt: skip
USUAL = [(-1.0, 1.0), (-10.0, 10.0), (-50.0, 50.0), (-750.0, 750.0)]
