"""Reductions and cumulative sums.

A reduction carries its `axes` (ascending) and the `order` of its arithmetic, fixed when it is created and
kept by every rewrite; the orders are defined in docs/numerics.md:

  lanes       axes are the trailing ones: 16 interleaved lanes within blocks of 4096, a fixed tree
  rows        axes are not trailing: one after the other in blocks of 128, block results pairwise
  sequential  one after the other (pooling windows)

and the two halves of `rows`, which lowering takes apart to add up many rows in one pass:

  blocks      the results of the blocks, along an axis in the place of the (adjacent) reduced ones
  pairwise    what `rows` does with them: rows(x) = pairwise(blocks(x))
"""

from __future__ import annotations

import numpy as np

from ..dtypes import bool_, int64
from ..errors import IRTypeError
from ..expr import Dim, floordiv, product
from ..opdef import OpDef, define
from ..types import TensorType
from . import ordered

ORDERS = ("lanes", "rows", "sequential", "blocks", "pairwise")


def default_order(rank: int, axes: tuple[int, ...]) -> str:
    """The canonical order of reducing these axes. Raises IRTypeError for a mix of trailing and other axes:
    such a reduction is written as two, the trailing axes first."""
    trailing = tuple(range(rank - len(axes), rank))
    if axes == trailing:
        return "lanes"
    if rank - 1 in axes:
        raise IRTypeError(
            f"axes {axes} of rank {rank} mix trailing and other axes: reduce the trailing ones first"
        )
    return "rows"


def reduced(x: TensorType, *, axes: tuple[int, ...], order: str) -> TensorType:
    """Type of a reduction: f32[4, 8, 2], axes=(1,) -> f32[4, 2]."""
    if bad := [a for a in axes if not 0 <= a < x.rank]:
        raise IRTypeError(f"axes {bad} are out of range for {x}")
    if list(axes) != sorted(set(axes)):
        raise IRTypeError(f"axes must ascend without repetition, got {axes}")
    if order not in ORDERS:
        raise IRTypeError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    if order == "blocks":
        return _block_results(x, axes)
    if order in ("lanes", "rows") and axes and order != default_order(x.rank, axes):
        raise IRTypeError(f"order {order} does not fit axes {axes} of {x}")
    return TensorType(x.dtype, tuple(d for a, d in enumerate(x.shape) if a not in axes))


def _block_results(x: TensorType, axes: tuple[int, ...]) -> TensorType:
    if not axes or axes[-1] - axes[0] != len(axes) - 1:
        raise IRTypeError(f"blocks are of adjacent axes, got {axes}")
    return TensorType(
        x.dtype, (*x.shape[: axes[0]], blocks_of(product(x.shape[a] for a in axes)), *x.shape[axes[-1] + 1 :])
    )


def identity(opdef: OpDef, dtype: np.dtype) -> object:
    """What a reduction (other than argmax and argmin) starts from."""
    return {
        "reduce_sum": 0,
        "reduce_prod": 1,
        "reduce_max": ordered.least(dtype),
        "reduce_min": ordered.greatest(dtype),
    }[opdef.name]


def blocks_of(count: Dim) -> Dim:
    """The number of blocks of so many rows."""
    return floordiv(count + ordered.ROW_BLOCK - 1, ordered.ROW_BLOCK)


def _summed(x: TensorType, *, axes: tuple[int, ...], order: str) -> TensorType:
    if x.dtype is bool_:
        raise IRTypeError("sums and products of bool need a cast to an integer first")
    return reduced(x, axes=axes, order=order)


def _nonempty(x: TensorType, *, axes: tuple[int, ...], order: str) -> TensorType:
    if any(x.shape[a] == 0 for a in axes if 0 <= a < x.rank):
        raise IRTypeError(f"the maximum or minimum over an empty axis of {x} has no value")
    return reduced(x, axes=axes, order=order)


def _indexed(x: TensorType, *, axes: tuple[int, ...], order: str) -> TensorType:
    if order in ("blocks", "pairwise"):
        raise IRTypeError(f"an index can't be found in order {order}")
    return _nonempty(x, axes=axes, order=order).with_dtype(int64)


def _same(x: TensorType, *, axis: int) -> TensorType:
    if not 0 <= axis < x.rank:
        raise IRTypeError(f"axis {axis} is out of range for {x}")
    return x


reduce_sum = define("reduce_sum", 1, _summed, ordered.sum_, reduction=True, wide=True)
reduce_prod = define("reduce_prod", 1, _summed, ordered.prod, reduction=True, wide=True)
reduce_max = define("reduce_max", 1, _nonempty, ordered.max_, reduction=True, wide=True)
reduce_min = define("reduce_min", 1, _nonempty, ordered.min_, reduction=True, wide=True)
# The first of the largest (smallest); a NaN counts as both. Index into the reduced axes taken as one, row-
# major.
argmax = define("argmax", 1, _indexed, ordered.argmax, reduction=True, wide=True)
argmin = define("argmin", 1, _indexed, ordered.argmin, reduction=True, wide=True)
cumsum = define("cumsum", 1, _same, ordered.cumsum, wide=True)
