"""Fused multiply-add in numpy: a * b + c with one rounding, to the bit.

Sources: Boldo and Melquiond 2008, "Emulation of a FMA and correctly rounded sums: proved algorithms using
rounding to odd"; Dekker 1971 for the exact product.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

#: Products of float64 beyond these magnitudes take the slow exact path: splitting could overflow, the low
#: part of a product could be subnormal.
_LARGE, _SMALL = 2.0**990, 2.0**-900


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a * b + c elementwise, rounded once for float32 and float64; in the type's own arithmetic for other
    types."""
    with np.errstate(all="ignore"):
        if c.dtype == np.float32:
            return _fma32(a, b, c)
        if c.dtype == np.float64:
            return _fma64(*np.broadcast_arrays(a, b, c))
        return np.asarray(a * b + c)


def _fma32(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The product is exact in float64; the sum is rounded to odd there, which makes the last rounding the
    only one."""
    product = a.astype(np.float64) * b
    return sum_to_odd(product, c.astype(np.float64)).astype(np.float32)


def sum_to_odd(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x + y: if inexact, that neighbour of the exact sum whose last bit is set."""
    total, error = _two_sum(x, y)
    even = (total.view(np.int64) & 1) == 0
    fix = even & (error != 0) & np.isfinite(error)
    return np.where(fix, np.nextafter(total, np.where(error > 0, np.inf, -np.inf)), total)


def _two_sum(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rounded sum and its exact error (Knuth)."""
    total = np.asarray(x + y)
    other = total - x
    return total, (x - (total - other)) + (y - other)


def _two_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rounded product and its exact error (Dekker)."""
    product = np.asarray(a * b)
    (a1, a2), (b1, b2) = _split(a), _split(b)
    return product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2


def _split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x as a sum of two numbers of 26 bits."""
    scaled = x * 134217729.0  # 2 ** 27 + 1
    high = scaled - (scaled - x)
    return high, x - high


def _fma64(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    high, low = _two_product(a, b)
    t_high, t_low = _two_sum(c, low)
    v_high, v_low = _two_sum(high, t_high)
    result = np.asarray(v_high + sum_to_odd(t_low, v_low))
    factors = np.isfinite(a) & np.isfinite(b)
    plain = np.where(factors & np.isinf(c), c, a * b + c)
    finite = factors & np.isfinite(c)
    nonzero = (a != 0) & (b != 0)
    sizes = np.abs(np.stack([a, b, high, c]))
    extreme = (
        finite & nonzero & ((sizes.max(0) > _LARGE) | (sizes[2] < _SMALL) | ((c != 0) & (sizes[3] < _SMALL)))
    )
    result = np.where(finite & nonzero, result, plain)
    for at in np.argwhere(extreme):
        place = tuple(at)
        result[place] = _exact(float(a[place]), float(b[place]), float(c[place]))
    return result


def _exact(a: float, b: float, c: float) -> float:
    total = Fraction(a) * Fraction(b) + Fraction(c)
    if total == 0:
        return a * b + c  # the sign of zero
    try:
        return total.numerator / total.denominator
    except OverflowError:
        return float("inf") if total > 0 else float("-inf")
