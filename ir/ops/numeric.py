"""Meanings of the elementwise primitives that numpy has no single function for."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..dtypes import DType
from ..narrow import NARROW, narrowed, widened

_PI = "3.14159265358979323846264338327950288"
#: In which type an elementary function of each type is computed, before it is rounded once.
WIDER = {"f2": "f8", "f4": "f8", "f8": "g", "c8": "c16", "c16": "G"}


def in_wider(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """The function computed in float64 for float32, in extended precision for float64, and rounded once."""

    def rounded(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        return np.asarray(function(x.astype(WIDER[x.dtype.str[1:]]))).astype(x.dtype)

    return rounded


def sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + e), e / (1 + e)) + 0 * np.where(np.isnan(x), x, 0))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.logaddexp(0, x))


def silu(x: np.ndarray) -> np.ndarray:
    return np.where(np.isneginf(x), -0.0, x * sigmoid(x))


def erf(x: np.ndarray) -> np.ndarray:
    return _by_libm(math.erf, x, 2 / math.sqrt(math.pi))


def erfc(x: np.ndarray) -> np.ndarray:
    return _by_libm(math.erfc, x, -2 / math.sqrt(math.pi))


def erfinv(x: np.ndarray) -> np.ndarray:
    """By Newton's method from a rough start, in logarithms where x is near 1. Source of the start: Winitzki
    2008."""
    size = np.abs(x).astype(np.float64)
    rest = (1 - np.abs(x)).astype(np.float64)
    w = np.log(rest * (1 + size))
    half = 2 / (np.pi * 0.147) + w / 2
    y = np.sqrt(np.sqrt(half * half - w / 0.147) - half)
    for _ in range(4):
        near = (np.vectorize(math.erf, otypes=[np.float64])(y) - size) * np.exp(y * y)
        tail = np.vectorize(math.erfc, otypes=[np.float64])(y)
        far = np.log(rest / tail) * tail * np.exp(y * y)
        y = y - np.where(size < 0.5, near, far) * (math.sqrt(math.pi) / 2)
    y = np.where(size < 1e-8, size * (math.sqrt(math.pi) / 2), np.where(size == 1, np.inf, y))
    return np.asarray(np.copysign(np.where(size <= 1, y, np.nan), x)).astype(x.dtype)


def gelu(x: np.ndarray) -> np.ndarray:
    """x * Phi(x), by erfc so that the far negative tail keeps its digits."""
    tail = _by_libm(math.erfc, -x / np.sqrt(x.dtype.type(2)), -2 / math.sqrt(math.pi))
    return np.where(np.isneginf(x), -0.0, x * tail / 2)


def gelu_slope(x: np.ndarray) -> np.ndarray:
    """The derivative of gelu, Phi(x) + x phi(x); -0 at minus infinity, from where it comes."""
    near = np.clip(x, -1e3, 1e3)  # where the bell is 0, so that infinity times it is not NaN
    tail = _by_libm(math.erfc, -near / np.sqrt(x.dtype.type(2)), -2 / math.sqrt(math.pi))
    bell = np.exp(-near * near / 2) / np.sqrt(2 * x.dtype.type(_PI))
    slope = tail / 2 + near * bell
    return np.where((slope == 0) & (x < 0), -0.0, slope)


def _by_libm(function: Callable[[float], float], x: np.ndarray, slope: float) -> np.ndarray:
    """A function of float64 whose derivative is slope * exp(-x^2), by which is added what float64 can't hold
    of x."""
    near = x.astype(np.float64)
    rest = np.where(np.isfinite(near), x - near, 0)
    value = np.vectorize(function, otypes=[np.float64])(near)
    held = rest == 0  # adding nothing would change the sign of a zero
    return np.asarray(np.where(held, value, value + slope * np.exp(-near * near) * rest))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """Hendrycks and Gimpel 2016: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), as x * sigmoid(2 u)."""
    real = x.dtype.type
    u = np.sqrt(2 / real(_PI)) * (x + real("0.044715") * x * x * x)
    return np.where(np.isneginf(x), -0.0, x * sigmoid(2 * u))


def rsqrt(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / np.sqrt(x))


def maximum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The larger; NaN if either is; +0 is larger than -0, so that the order of operands never matters."""
    larger = np.asarray(np.maximum(x, y))
    if larger.dtype.kind != "f":
        return larger
    return np.asarray(np.where((x == 0) & (y == 0), x + y, larger))


def relu(x: np.ndarray) -> np.ndarray:
    """x, or 0 where it is not above that; nan stays nan."""
    return np.where(x <= 0, np.zeros_like(x), x)


def clamp_min(x: np.ndarray, low: np.ndarray) -> np.ndarray:
    """x, or low where x is less or low is nan."""
    return np.where((x < low) | (low != low), low, x)


def clamp_max(x: np.ndarray, high: np.ndarray) -> np.ndarray:
    """x, or high where x is more or high is nan."""
    return np.where((x > high) | (high != high), high, x)


def minimum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The smaller; NaN if either is; -0 is smaller than +0."""
    if np.asarray(x).dtype.kind != "f":
        return np.asarray(np.minimum(x, y))
    return -maximum(-x, -y)


def floor_div(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rounds towards minus infinity. Integer division by zero raises RuntimeError."""
    _no_zero(y)
    if np.asarray(x).dtype.kind == "f":
        return np.asarray(np.floor(x / y))
    return np.asarray(np.floor_divide(x, y))


def remainder(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The remainder with the sign of the divisor. Integer division by zero raises RuntimeError.

    For floats the exact remainder of truncation (fmod), to which y is added where it is not zero and has the
    other sign: a zero keeps the sign of x, as in PyTorch.
    """
    _no_zero(y)
    if np.asarray(x).dtype.kind != "f":
        return np.asarray(np.remainder(x, y))
    rest = np.fmod(x, y)
    return np.asarray(np.where((rest != 0) & ((y < 0) != (rest < 0)), rest + y, rest))


def _no_zero(y: np.ndarray) -> None:
    if np.asarray(y).dtype.kind in "iu" and not np.all(y):
        raise RuntimeError("ZeroDivisionError: integer division or modulo by zero")


def power(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x ** y; for integers by repeated multiplication with wrap-around, a negative exponent giving 1 / x."""
    x, y = np.asarray(x), np.asarray(y)
    if x.dtype.kind == "f":
        wider = WIDER[x.dtype.str[1:]]
        return np.asarray(np.power(x.astype(wider), y.astype(wider)).astype(x.dtype))
    result, base, left = np.ones_like(x), x.copy(), np.where(y < 0, 0, y)
    while np.any(left):
        result = np.where(left & 1, result * base, result)
        base, left = base * base, left >> 1
    inverse = np.where(x == 1, 1, np.where(x == -1, np.where(y & 1, -1, 1), 0)).astype(x.dtype)
    return np.where(y < 0, inverse, result).astype(x.dtype)


def atan2(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The angle of the point (x, y)."""
    y, x = np.asarray(y), np.asarray(x)
    wider = WIDER[x.dtype.str[1:]]
    return np.asarray(np.arctan2(y.astype(wider), x.astype(wider)).astype(x.dtype))


def cast(x: np.ndarray, *, dtype: DType) -> np.ndarray:
    """Value conversion, from and to bfloat16 and float16 by way of float32. Float to integer truncates; out
    of range or NaN gives the least int32 or int64, and narrower integers take the low bits of that; anything
    non-zero, NaN too, is True."""
    x = widened(x)
    if dtype in NARROW:
        return narrowed(x.astype(np.float32), dtype.numpy)
    if dtype.kind in "iu" and x.dtype.kind == "f":
        wide = np.dtype(np.int64 if dtype.itemsize == 8 else np.int32)
        bound = 2.0 ** (8 * wide.itemsize - 1)
        inside = (x > -bound - 1) & (x < bound) if wide.itemsize == 4 else (x >= -bound) & (x < bound)
        whole = np.where(inside, np.trunc(np.where(inside, x, 0)), -bound).astype(np.float64)
        return whole.astype(wide).astype(dtype.numpy)
    return x.astype(dtype.numpy)


def shift_left(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Zero for a shift of the width or more (numpy leaves it open); a negative shift counts as too large."""
    x, y = np.asarray(x), np.asarray(y)
    inside = (y >= 0) & (y < 8 * x.itemsize)
    return np.where(inside, np.left_shift(x, np.where(inside, y, 0)), 0).astype(x.dtype)


def shift_right(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Arithmetic for signed types; a shift out of range gives the sign (0 or -1)."""
    x, y = np.asarray(x), np.asarray(y)
    most = 8 * x.itemsize - 1
    return np.where(
        (y >= 0) & (y <= most), np.right_shift(x, np.clip(y, 0, most)),
        np.where(x < 0, -1, 0).astype(x.dtype) if x.dtype.kind == "i" else 0,
    ).astype(x.dtype)  # fmt: skip


def philox(seed: np.ndarray, counter: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Philox-4x32-10. Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"."""
    shape = np.shape(index)
    mask = np.uint64(0xFFFFFFFF)
    key = np.asarray(seed, np.int64).astype(np.uint64).reshape(-1)
    place = np.asarray(index, np.int64).reshape(-1)
    at = (np.asarray(counter, np.int64).reshape(-1) + (place >> 2)).astype(np.uint64)
    shift = np.uint64(32)
    c = [at & mask, at >> shift, np.zeros_like(at), np.zeros_like(at)]
    k0, k1 = key & mask, key >> shift
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> shift) ^ c[1] ^ k0, p1 & mask, (p0 >> shift) ^ c[3] ^ k1, p0 & mask]
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
    words = np.stack(c)[place & 3, np.arange(place.size)]
    return np.asarray(words.astype(np.uint32).view(np.int32).reshape(shape))
