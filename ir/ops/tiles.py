"""Linear maps of the tiles of images: what convolutions by Winograd's algorithm are made of.

A tile is a run of elements along each of some axes. `into_tiles` cuts tiles out, which may overlap, and maps
each by a small matrix along each of these axes; `from_tiles` maps tiles and puts them side by side. Made by
passes under `numerics="fast"` only: the order in which a map adds up is left open.
"""

from __future__ import annotations

import numpy as np

from ..errors import IRTypeError
from ..expr import Dim, evaluate
from ..opdef import define
from ..types import Literal, TensorType

Shape = tuple[Dim, ...]


def _checked(x: TensorType, matrix: Literal, axes: tuple[int, ...], *lists: Shape) -> None:
    if x.dtype.kind != "f" or len(matrix.shape) != 2:
        raise IRTypeError(f"tiles are mapped from floats by a matrix, got {x} and {matrix.type}")
    if list(axes) != sorted(set(axes)) or any(not 0 <= a < x.rank for a in axes):
        raise IRTypeError(f"axes {axes} must be ascending axes of {x}")
    if any(len(values) != len(axes) for values in lists):
        raise IRTypeError(f"one number per axis of {axes} is needed")


def tiled(
    x: TensorType, *, axes: tuple[int, ...], channels: int, counts: Shape, matrix: Literal, starts: Shape,
    step: int,
) -> TensorType:  # fmt: skip
    """Type of into_tiles: f32[8, 30] with axes=(1,), counts=(7,), matrix=f64[6, 6] -> f32[6, 8, 7]."""
    _checked(x, matrix, axes, counts, starts)
    inner = list(x.shape)
    for axis, count in zip(axes, counts, strict=True):
        inner[axis] = count
    return x.with_shape((*(matrix.shape[0] for _ in axes), *inner))


def untiled(
    x: TensorType, *, axes: tuple[int, ...], channels: int, matrix: Literal, sizes: Shape
) -> TensorType:
    """Type of from_tiles: f32[6, 8, 7] with axes=(1,), matrix=f64[4, 6], sizes=(28,) -> f32[8, 28]."""
    inner = x.with_shape(x.shape[len(axes) :])
    _checked(inner, matrix, axes, sizes)
    if x.shape[: len(axes)] != (matrix.shape[1],) * len(axes):
        raise IRTypeError(f"a tile of {matrix.shape[1]} elements along each axis is needed, got {x}")
    result = list(inner.shape)
    for axis, size in zip(axes, sizes, strict=True):
        count = result[axis]
        if isinstance(size, int) and isinstance(count, int) and size > count * matrix.shape[0]:
            raise IRTypeError(f"{count} tiles of {matrix.shape[0]} elements do not make {size}")
        result[axis] = size
    return x.with_shape(tuple(result))


def into_tiles_meaning(
    x: np.ndarray, *, axes: tuple[int, ...], channels: int, counts: Shape, matrix: Literal, starts: Shape,
    step: int,
) -> np.ndarray:  # fmt: skip
    """In float64, rounded once."""
    maps = matrix.array().astype(np.float64)
    result = x.astype(np.float64)
    for number, (axis, count, start) in enumerate(zip(axes, counts, starts, strict=True)):
        count, first, at = evaluate(count, {}), evaluate(start, {}), axis + number
        places = first + step * np.arange(count)[:, None] + np.arange(maps.shape[1])
        inside = (places >= 0) & (places < result.shape[at])
        taken = np.take(result, np.where(inside, places, 0), axis=at)
        taken = np.where(inside.reshape(*inside.shape, *(1,) * (result.ndim - at - 1)), taken, 0.0)
        result = np.moveaxis(np.tensordot(taken, maps, ([at + 1], [1])), -1, number)
    return result.astype(x.dtype)


def from_tiles_meaning(
    x: np.ndarray, *, axes: tuple[int, ...], channels: int, matrix: Literal, sizes: Shape
) -> np.ndarray:
    """In float64, rounded once."""
    maps = matrix.array().astype(np.float64)
    result = x.astype(np.float64)
    for number, (axis, size) in enumerate(zip(axes, sizes, strict=True)):
        at = axis + len(axes) - number - 1  # without the first axis
        mapped = np.moveaxis(np.tensordot(result, maps, ([0], [1])), -1, at + 1)
        shape = (*mapped.shape[:at], mapped.shape[at] * mapped.shape[at + 1], *mapped.shape[at + 2 :])
        result = np.take(mapped.reshape(shape), np.arange(evaluate(size, {})), axis=at)
    return result.astype(x.dtype)


#: result[p, q, ..., t, u, ...] = the sum of matrix[p, i] matrix[q, j] x[..., start + step t + i, start +
#: step u + j, ...], where t counts the tiles along the first of `axes`; zeros lie around x. channels: the
#: axis that had better lie last in memory, -1 if x is no image.
into_tiles = define("into_tiles", 1, tiled, into_tiles_meaning, exact=False)
#: result[..., m t + a, m u + b, ...] = the sum of matrix[a, p] matrix[b, q] x[p, q, ..., t, u, ...], for a
#: matrix with m rows, as far as `sizes` go.
from_tiles = define("from_tiles", 1, untiled, from_tiles_meaning, exact=False)
