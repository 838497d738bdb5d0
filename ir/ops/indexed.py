"""Meanings of gather, scatter, iota and check."""

from __future__ import annotations

import builtins

import numpy as np

from ..dtypes import DType
from .numeric import cast


def _places(x: np.ndarray, indices: tuple[np.ndarray, ...], axes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Index tuple for x with the indexed axes moved to the front. Raises IndexError."""
    for index, axis in zip(indices, axes, strict=True):
        size = x.shape[axis]
        bad = index[(index < -size) | (index >= size)]
        if bad.size:
            raise IndexError(f"index {bad.flat[0]} is out of bounds for dimension {axis} with size {size}")
    return indices


def gather(x: np.ndarray, *indices: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return np.asarray(np.moveaxis(x, axes, range(len(axes)))[_places(x, indices, axes)])


def scatter(x: np.ndarray, values: np.ndarray, *indices: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    out = np.moveaxis(x, axes, range(len(axes))).copy()
    places = _places(x, indices, axes)
    for at in np.ndindex(indices[0].shape):
        out[tuple(p[at] for p in places)] = values[at]
    return np.moveaxis(out, range(len(axes)), axes)


def scatter_add(x: np.ndarray, values: np.ndarray, *indices: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    out = np.moveaxis(x, axes, range(len(axes))).copy()
    places = _places(x, indices, axes)
    for at in np.ndindex(indices[0].shape):
        out[tuple(p[at] for p in places)] += values[at]
    return np.moveaxis(out, range(len(axes)), axes)


def iota(*, shape: tuple[int, ...], axis: int, dtype: DType) -> np.ndarray:
    line = cast(np.arange(shape[axis]), dtype=dtype)
    return np.broadcast_to(line.reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape)


def check(ok: np.ndarray, *shown: np.ndarray, error: str, message: str) -> None:
    if not ok:
        if shown:
            fine, values = shown
            message = message.format(*values[~np.asarray(fine)][:1])
        raise getattr(builtins, error)(message)
