"""Meanings of log|gamma| and its derivatives, in extended precision, by recurrence up to where their
asymptotic series are exact."""

from __future__ import annotations

import math

import numpy as np

#: B_2k for k = 1, 2, ...
_FRACTIONS = ((1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6), (-3617, 510))
_BERNOULLI = tuple(np.longdouble(a) / b for a, b in _FRACTIONS)
_FAR = 16
_PI = np.longdouble("3.14159265358979323846264338327950288")


def lgamma(x: np.ndarray) -> np.ndarray:
    """gamma(x) = gamma(x + 16) / (x (x + 1) ... (x + 15)), and reflection below 0."""
    x = x.astype(np.longdouble)
    size = np.abs(x)
    infinite = (size == 0) | (size > 2.55e305) | ((x < 0) & (x == np.floor(x)))
    y, factors = np.where(infinite, 1, size), np.ones_like(x)
    for _ in range(_FAR):
        small = y < _FAR
        factors = np.where(small, factors * y, factors)
        y = np.where(small, y + 1, y)
    terms = (b / ((2 * k + 2) * (2 * k + 1)) * y ** -(2 * k + 1.0) for k, b in enumerate(_BERNOULLI))
    series = sum(terms, np.zeros_like(y))
    right = (y - 0.5) * np.log(y) - y + np.log(2 * _PI) / 2 + series - np.log(factors)
    sine = np.abs(np.sin(_PI * (size - np.round(size))))
    reflected = -np.log(size * sine / _PI) - right
    value = np.where(x < 0, reflected, right)
    value = np.where((x == 1) | (x == 2), 0, np.where(infinite, np.inf, value))
    return np.asarray(np.where(np.isnan(x), x, value))


def digamma(x: np.ndarray) -> np.ndarray:
    """digamma(x) = digamma(x + 1) - 1 / x, and reflection below 0. NaN at the negative whole numbers."""
    x = x.astype(np.longdouble)
    left = x < 0
    y = np.where(left, 1 - x, np.where(x == 0, 1, x))
    total = np.zeros_like(y)
    for _ in range(_FAR):
        small = y < _FAR
        total = total - np.where(small, 1 / y, 0)
        y = np.where(small, y + 1, y)
    series = sum((b / (2 * k + 2) * y ** (-2 * k - 2) for k, b in enumerate(_BERNOULLI)), np.zeros_like(y))
    right = total + np.log(y) - 1 / (2 * y) - series
    fraction = x - np.round(x)
    reflected = right - _PI / np.tan(_PI * fraction)
    value = np.where(left, np.where(fraction == 0, np.nan, reflected), right)
    return np.asarray(np.where(x == 0, -np.copysign(np.inf, x), value))


def polygamma(x: np.ndarray, *, order: int) -> np.ndarray:
    """The derivative of digamma of this order: (-1)^(order + 1) order! times the sum of (x + k)^-(order +
    1). Far below 0 by differences of the reflection, so only as exact as that."""
    x = np.asarray(x)
    wide = x.astype(np.float64)
    left = wide < 0
    y = np.where(left, 1 - wide, wide)
    total = np.zeros_like(y)
    for k in range(_FAR + order):
        total = total + (y + k) ** -(order + 1.0)
    y = y + (_FAR + order)
    less = math.factorial(order - 1)
    series = y**-order * less + y ** -(order + 1.0) * (less * order / 2)
    for k, b in enumerate(_BERNOULLI, 1):
        series = series + b * math.factorial(2 * k + order - 1) / math.factorial(2 * k) * y ** -(
            2.0 * k + order
        )
    right = (total * (less * order) + series) * (-1) ** (order + 1)
    reflected = (-1) ** order * right - math.pi * _cotangent(wide, order)
    return np.asarray(np.where(left, reflected, right).astype(x.dtype))


def _cotangent(x: np.ndarray, order: int) -> np.ndarray:
    """The derivative of cot(pi x) of this order."""
    c = np.asarray(1 / np.tan(math.pi * (x - np.round(x))))
    p = np.polynomial.Polynomial([0.0, 1.0])
    for _ in range(order):
        p = -p.deriv() * np.polynomial.Polynomial([1.0, 0.0, 1.0])
    with np.errstate(invalid="ignore"):
        return np.asarray(p(c) * math.pi**order)
