"""Sorting: the order of the elements along the last axis. Values in order are gathered by it."""

from __future__ import annotations

import numpy as np

from ..dtypes import DType, int64
from ..errors import IRTypeError
from ..expr import Dim
from ..opdef import define
from ..types import TensorType

#: More elements than this are not sorted: kernels count them in 32 bits.
MOST_SORTED = 2**32 - 1
#: Elements beyond twice those asked for that are collected before the best of them are chosen.
_SPARE = 256


def sorted_places(x: TensorType, *, count: Dim, descending: bool) -> TensorType:
    """Type of argsort: f32[4, 8] with count=3 -> i64[4, 3]."""
    if not x.rank or x.dtype.is_complex:
        raise IRTypeError(f"argsort needs numbers along an axis, got {x}")
    length = x.shape[-1]
    if isinstance(length, int) and length > MOST_SORTED:
        raise IRTypeError(f"argsort takes up to {MOST_SORTED} elements, got {length}")
    if isinstance(count, int) and (count < 0 or isinstance(length, int) and count > length):
        raise IRTypeError(f"argsort can't give {count} of {length} elements")
    return TensorType(int64, (*x.shape[:-1], count))


def _argsort(x: np.ndarray, *, count: int, descending: bool) -> np.ndarray:
    if descending:  # equal elements keep their order this way round, too
        places = x.shape[-1] - 1 - np.argsort(x[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    else:
        places = np.argsort(x, axis=-1, kind="stable")
    return np.ascontiguousarray(places[..., :count], np.int64)


def collected(length: Dim, count: Dim) -> Dim:
    """How many elements a kernel collects at most before it sorts them to give the first `count`."""
    if count == length:
        return length
    some = 2 * count + _SPARE
    return min(some, length) if isinstance(some, int) and isinstance(length, int) else some


def scratch_words(dtype: DType, length: Dim, count: Dim) -> Dim:
    """The 64-bit words of memory that sorting one line takes: the elements with their places, twice."""
    return 2 * collected(length, count) * (2 if dtype.itemsize == 8 else 1)


# The places of the first `count` elements along the last axis in ascending (descending) order. Equal
# elements, the zeros among them, keep their order; a NaN is greater than anything.
argsort = define("argsort", 1, sorted_places, _argsort, wide=True)
