"""bfloat16 and float16: numbers that are stored in 16 bits and computed with in float32.

An op on them computes in float32 and rounds its result once (`in_float32`); casts from and to them go
through float32. numpy has no bfloat16, so its arrays are uint16 holding the bits; no dtype of ours is uint16,
so an array's type says which it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .dtypes import DType, bfloat16, float16, int16

NARROW: tuple[DType, ...] = (bfloat16, float16)
#: What kernels contract in pairs of steps, a pair in 32 bits; smaller integers are cast to int16 first.
PAIRED: tuple[DType, ...] = (bfloat16, int16)
_BITS = np.dtype(np.uint16)


def is_narrow(array: np.ndarray) -> bool:
    """Whether an array holds bfloat16 or float16."""
    return array.dtype in (_BITS, np.float16)


def widened(array: np.ndarray) -> np.ndarray:
    """The numbers of a narrow array in float32, exactly; any other array as it is."""
    array = np.asarray(array)
    if array.dtype == _BITS:
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def narrowed(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """float32 rounded to nearest, ties to even. dtype: float16, or uint16 for bfloat16. A NaN stays one."""
    if dtype != _BITS:
        with np.errstate(over="ignore"):
            return array.astype(dtype)
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32).reshape(array.shape)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
    return np.asarray(np.where(np.isnan(array), quiet, rounded).astype(np.uint16))


def in_float32(meaning: Callable[..., Any]) -> Callable[..., Any]:
    """The meaning of an op on narrow operands too: computed in float32, a float32 result rounded once."""

    def run(*arrays: Any, **attrs: Any) -> Any:
        dtype = next((x.dtype for x in map(np.asarray, arrays) if is_narrow(x)), None)
        if dtype is None:
            return meaning(*arrays, **attrs)
        result = np.asarray(meaning(*map(widened, arrays), **attrs))
        return narrowed(result, dtype) if result.dtype == np.float32 else result

    return run
