"""Contractions of bfloat16: what the instruction `vdpbf16ps` computes, in numpy.

Steps go in pairs along the last summed label, which is taken as padded by a zero to an even count; of each
pair the odd step comes first. Each product is added with one rounding to float32, and subnormal numbers,
operands and sums alike, count as zeros of their sign. Source: Intel's instruction set reference.
"""

from __future__ import annotations

import math

import numpy as np

from ..narrow import widened
from .fma import sum_to_odd

_LEAST = 2.0**-126
#: Below this a sum is subnormal even after rounding: half a unit in the last place under the least normal.
_TINY = _LEAST * (1 - 2.0**-25)


def padded(steps: np.ndarray, extents: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Steps (one axis over all summed labels, then others) with the last label padded to an even count."""
    last = extents[-1] if extents else 1
    if last % 2 == 0:
        return steps, extents
    outer = math.prod(extents[:-1])
    rows = steps.reshape(outer, last, *steps.shape[1:])
    zero = np.zeros_like(rows[:, :1])
    made = np.concatenate([rows, zero], axis=1)
    return made.reshape(outer * (last + 1), *steps.shape[1:]), (*extents[:-1], last + 1)


def numbers(steps: np.ndarray) -> np.ndarray:
    """bfloat16 as float32, subnormal ones as zeros."""
    values = widened(steps)
    return np.where(np.abs(values) < np.float32(_LEAST), np.copysign(np.float32(0), values), values)


def pair(lhs: np.ndarray, rhs: np.ndarray, total: np.ndarray) -> np.ndarray:
    """The sum after the two steps of a pair: lhs, rhs [2, ...] in float32."""
    for step in (1, 0):
        total = _multiply_add(lhs[step], rhs[step], total)
    return total


def _multiply_add(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        exact = sum_to_odd(a.astype(np.float64) * b, c.astype(np.float64))
        return np.where(np.abs(exact) < _TINY, np.copysign(0.0, exact), exact).astype(np.float32)
