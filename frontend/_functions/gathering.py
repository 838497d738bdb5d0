"""Picking and placing elements along a dimension; sorting, which is picking in an order."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from vitrify.ir import dtypes, ops
from vitrify.ir.opdef import bind

from .._composite import composite
from .._dispatch import apply, assign
from .._function import Function
from .._promotion import Number, as_element, as_operand
from .._tensor import Tensor, wrap_dim
from .casting import cast, contiguous
from .compare import eq, gt, isnan, where
from .creation import filled, from_numpy, iota
from .movement import broadcast_to, flatten, movedim, reshape, slice_dim, squeeze
from .pointwise import TYPE_NAMES, div, not_implemented, sub
from .reductions import _Pairs, sum


def _along(index: Tensor, dim: int) -> list[Tensor]:
    """For every dimension the place of each element: `index` along `dim`, its own place along the others."""
    shape = index._type.shape
    index = cast(index, dtypes.int64)
    return [index if a == dim else iota(shape, a) for a in range(len(shape))]


def _checked(x: Tensor, dim: int, index: Tensor, name: str, smaller: bool = True) -> int:
    dim = wrap_dim(dim, x.ndim)
    if index._type.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")
    if max(index.ndim, 1) != max(x.ndim, 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    for a, (n, m) in enumerate(zip(index._type.shape or (1,), x._type.shape or (1,), strict=True)):
        if a != dim and n > m:
            raise RuntimeError(
                f"Size does not match at dimension {a} expected index {list(index.shape)} to be no larger "
                "than self "
                f"{list(x.shape)} apart from dimension {dim}"
            )
    return dim


def _places_checked(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Here PyTorch raises RuntimeError for a place out of bounds, not the IndexError of an index."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Tensor:
        try:
            return function(*args, **kwargs)
        except IndexError as error:
            if str(error).startswith("index "):
                raise RuntimeError(str(error)) from None
            raise

    return called


@_places_checked
def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """For each element of index the element of input at that place along `dim`.

    >>> vitrify.gather(vitrify.tensor([[1, 2], [3, 4]]), 1, vitrify.tensor([[0, 0], [1, 0]]))
    tensor([[1, 1],
            [4, 3]])
    """
    if index._type.numel == 0 and index.ndim != input.ndim:
        return filled(0, input.dtype, index._type.shape)
    dim = _checked(input, dim, index, "gather")
    if input.ndim == 0 or index.ndim == 0:
        return reshape(take(input, reshape(index, -1)), *index._type.shape)
    return apply(bind(ops.gather, axes=tuple(range(input.ndim))), input, *_along(index, dim))


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """`gather` with the other dimensions broadcast; without `dim` from the flattened tensor."""
    if dim is None:
        return gather(flatten(input), 0, flatten(indices))
    dim = wrap_dim(dim, input.ndim)
    a, b = input._type.shape, indices._type.shape
    sizes = [max(n, m) if n and m else 0 for n, m in zip(a, b, strict=True)]
    wide = broadcast_to(input, [a[i] if i == dim else n for i, n in enumerate(sizes)])
    return gather(wide, dim, broadcast_to(indices, [b[i] if i == dim else n for i, n in enumerate(sizes)]))


def take(input: Tensor, index: Tensor) -> Tensor:
    """The elements of the flattened tensor at these places."""
    return apply(bind(ops.gather, axes=(0,)), flatten(input), index)


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The parts at the places in a vector, along a dimension."""
    if index.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    if not index.dtype.is_integer:
        raise RuntimeError("index_select(): Expected dtype int32 or int64 for index")
    dim = wrap_dim(dim, input.ndim)
    places = reshape(cast(index, dtypes.int64), -1)
    source = input if input.ndim else reshape(input, 1)
    picked = movedim(apply(bind(ops.gather, axes=(dim,)), source, places), 0, dim)
    return picked if input.ndim else reshape(picked, ())


def _scattered(opname: Any, x: Tensor, dim: int, index: Tensor, src: Any, name: str) -> Tensor:
    dim = wrap_dim(dim, x.ndim)
    if index._type.numel == 0:
        return cast(x, x.dtype, copy=True)
    if index._type.dtype is not dtypes.int64:
        raise RuntimeError(f"{name}(): Expected dtype int64 for index")
    if max(index.ndim, 1) != max(x.ndim, 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as self tensor")
    if x.ndim == 0 or index.ndim == 0:
        src = reshape(src, -1) if isinstance(src, Tensor) else src
        return reshape(_scattered(opname, reshape(x, -1), dim, reshape(index, -1), src, name), *x._type.shape)
    if isinstance(src, Tensor) and src.ndim != index.ndim:
        raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
    if isinstance(src, Tensor) and src.ndim:
        if src._type.dtype is not x._type.dtype:
            raise RuntimeError(f"{name}(): Expected self.dtype to be equal to src.dtype")
        for a, n in enumerate(index._type.shape):
            if n > src._type.shape[a]:
                raise RuntimeError(
                    f"Expected index {list(index.shape)} to be no larger than self {list(x.shape)} apart "
                    "from dimension "
                    f"{dim} and to be no larger size than src {list(src.shape)}"
                )
            src = slice_dim(src, a, 0, n)
    _checked(x, dim, index, name)
    values = as_element(src, x._type.dtype, index._type.shape)
    return _placed(opname, tuple(range(x.ndim)), x, values, _along(index, dim))


def _placed(opdef: Any, axes: tuple[int, ...], x: Tensor, values: Tensor, index: list[Tensor]) -> Tensor:
    """A scatter; of bools, which have no sums, adding is counting what is True."""
    if opdef is not ops.scatter_add or x._type.dtype is not dtypes.bool_:
        return apply(bind(opdef, axes=axes), x, values, *index)
    counts = apply(bind(opdef, axes=axes), cast(x, dtypes.int64), cast(values, dtypes.int64), *index)
    return cast(counts, dtypes.bool_)


@_places_checked
def scatter(input: Tensor, dim: int, index: Tensor, src: Tensor | Number | None = None, *,
            value: Number | None = None,
            reduce: str | None = None) -> Tensor:  # fmt: skip
    """A copy of input with the elements of src (or one number) at the places in index along `dim`."""
    src = value if src is None else src
    if src is None:
        raise TypeError("scatter() takes a tensor or a number to store")
    if reduce not in (None, "add"):
        raise RuntimeError("reduce argument must be either add or multiply.")
    return _scattered(ops.scatter_add if reduce else ops.scatter, input, dim, index, src, "scatter")


@_places_checked
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """A copy of input with the elements of src added at the places in index along `dim`, in order."""
    return _scattered(ops.scatter_add, input, dim, index, src, "scatter_add")


def _by_index(opdef: Any, x: Tensor, dim: int, index: Tensor, source: Tensor, name: str) -> Tensor:
    dim = wrap_dim(dim, x.ndim)
    if source._type.dtype is not x._type.dtype:
        raise RuntimeError(
            f"{name}: self ({TYPE_NAMES[x.dtype]}) and source ({TYPE_NAMES[source.dtype]}) must have the "
            "same scalar type"
        )
    if index.ndim > 1 or index._type.numel != (source._type.shape[dim] if source.ndim else 1):
        raise IndexError(
            f"{name}: Number of indices ({index._type.numel}) should be equal to source.size(dim)"
        )
    places = [reshape(cast(index, dtypes.int64), -1)]
    if x.ndim == 0:
        return reshape(_placed(opdef, (0,), reshape(x, 1), reshape(source, 1), places), ())
    return _placed(opdef, (dim,), x, movedim(source, dim, 0), places)


@_places_checked
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """A copy of input with alpha * the parts of source added at the places in a vector, in order."""
    source = source if alpha == 1 else source * alpha
    return _by_index(ops.scatter_add, input, dim, index, source, "index_add_()")


def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """A copy of input with the parts of source at the places in a vector."""
    return _by_index(ops.scatter, input, dim, index, source, "index_copy_()")


def index_fill(input: Tensor, dim: int, index: Tensor, value: Number) -> Tensor:
    """A copy of input with one number at the places in a vector."""
    dim = wrap_dim(dim, input.ndim)
    shape = list(input._type.shape) or [1]
    shape[dim] = index._type.numel
    return index_copy(input, dim, index, as_element(value, input._type.dtype, tuple(shape)))


def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy of input with src as the part at one place along `dim`."""
    from .movement import select

    copy = cast(input, input.dtype, copy=True)
    assign(select(copy, dim, index), src)
    return copy


def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The places of the elements in ascending order along `dim`; equal ones keep their order, nan is
    largest."""
    _sortable(input, "Sort")
    return _places(input, dim, None, descending)


def _sortable(x: Tensor, name: str) -> None:
    if x.dtype.is_complex:
        raise RuntimeError(f"{name} does not support complex dtypes on CPU")


def _places(x: Tensor, dim: int, count: int | None, descending: bool) -> Tensor:
    """The places of the first `count` elements in order along `dim`, None for all."""
    axis = wrap_dim(dim, x.ndim)
    if x.ndim == 0:
        return cast(as_operand(0, dtypes.int64, ()), dtypes.int64, copy=True)
    last = x if axis == x.ndim - 1 else movedim(x, axis, -1)
    count = last._type.shape[-1] if count is None else count
    order = apply(bind(ops.argsort, count=count, descending=bool(descending)), last)
    return order if last is x else contiguous(movedim(order, -1, axis))


@composite()
def _in_order(x: Tensor, dim: int, count: int | None, descending: bool) -> tuple[Tensor, Tensor]:
    """The first `count` elements in order along `dim`, and their places."""
    order = _places(x, dim, count, descending)
    return gather(x, dim, order), order


def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """(values, indices) in ascending order along `dim`."""
    _sortable(input, "Sort")
    return _Pairs["sort"](*_in_order(input, dim, None, descending))


def msort(input: Tensor) -> Tensor:
    """The elements in ascending order along the first dimension."""
    _sortable(input, "Sort")
    return _in_order(input, 0, None, False)[0]


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """(values, indices) of the k largest (smallest) elements along `dim`, in order."""
    dim = wrap_dim(dim, input.ndim)
    if not 0 <= k <= (input._type.shape[dim] if input.ndim else 1):
        raise RuntimeError("selected index k out of range")
    _sortable(input, "topk")
    return _Pairs["topk"](*_in_order(input, dim, k, largest))


def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """(values, indices) of the k-th smallest element along `dim`."""
    dim = wrap_dim(dim, input.ndim)
    n = input._type.shape[dim] if input.ndim else 1
    _not_empty(input, dim, "kthvalue")
    if not 1 <= k <= n:
        raise RuntimeError("kthvalue(): selected number k out of range for dimension " + str(dim))
    return _Pairs["kthvalue"](*_kth(input, k, dim, keepdim))


@composite()
def _kth(x: Tensor, k: int, dim: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    order = _places(x, dim, k, False)
    last = slice_dim(order, dim, k - 1, k) if order.ndim else order
    return _picked(x, dim, last, keepdim)


def _picked(x: Tensor, dim: int, index: Tensor, keepdim: bool) -> tuple[Tensor, Tensor]:
    """One element along `dim`, and its place."""
    values = gather(x, dim, index)
    return (values, index) if keepdim else (squeeze(values, dim), squeeze(index, dim))


def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median of all elements, or (values, indices) along `dim`; nan if there is one."""
    if input.dtype is dtypes.bool_:
        raise not_implemented("median_cpu", dtypes.bool_)
    if dim is None:
        return _median(input) if input.numel() else _of_nothing(input)
    dim = wrap_dim(dim, input.ndim)
    _not_empty(input, dim, "median")
    return _Pairs["median"](*_middle(input, dim, keepdim))


@composite("input result")
def _median(input: Tensor) -> Tensor:
    return _Median.apply(input) if input.is_floating_point() else _middle(flatten(input), 0, False)[0]


class _Median(Function):
    """Of all elements: those equal to the result share its cotangent evenly, as in PyTorch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        value = _middle(flatten(x), 0, False)[0]
        ctx.save_for_backward(x, value)
        return value

    @staticmethod
    def backward(ctx: Any, ct: Tensor) -> Tensor:
        x, value = ctx.saved_tensors
        alike = where(isnan(value), isnan(x), eq(x, value))
        return where(alike, div(ct, sum(alike)), 0.0)


def _not_empty(x: Tensor, dim: int, name: str) -> None:
    if x.ndim and x._type.shape[dim] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {dim} to have non-zero size.")


@composite()
def _middle(x: Tensor, dim: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    """The lower median along `dim`, the first nan if there is one, and its place."""
    order = _places(x, dim, None, False)
    if x.ndim == 0:
        return cast(x, x.dtype, copy=True), order
    n = x._type.shape[dim]
    if not x.is_floating_point():
        return _picked(x, dim, slice_dim(order, dim, (n - 1) // 2, (n - 1) // 2 + 1), keepdim)
    nans = sum(isnan(x), dim, True)  # they come last
    place = where(gt(nans, 0), sub(n, nans), (n - 1) // 2)
    return _picked(x, dim, gather(order, dim, place), keepdim)


def _of_nothing(x: Tensor) -> Tensor:
    """The median of no elements: nan, or the least integer."""
    return filled(math.nan if x.is_floating_point() else np.iinfo(x.dtype.numpy).min, x.dtype, ())


def unique(input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
           dim: int | None = None) -> Any:  # fmt: skip
    """The distinct elements in ascending order; on request each one's place among them, and how often each
    occurs.
    """
    found = np.unique(input._array("unique"), return_inverse=True, return_counts=True, axis=dim)
    values, inverse, counts = found
    shape = input._type.shape if dim is None else inverse.shape
    parts = [values, inverse.astype(np.int64).reshape(shape), counts.astype(np.int64)]
    wanted = [parts[0], *([parts[1]] if return_inverse else []), *([parts[2]] if return_counts else [])]
    results = tuple(from_numpy(np.ascontiguousarray(p)) for p in wanted)
    return results if len(results) > 1 else results[0]


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each integer occurs in a vector, or the sum of the weights of its occurrences, in order."""
    if input.ndim != 1 or input.dtype.kind not in "iu":
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    array = input._array("bincount")
    if array.size and array.min() < 0:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    size = max(int(array.max()) + 1 if array.size else 0, minlength)
    dtype = (
        dtypes.int64 if weights is None else weights.dtype if weights.is_floating_point() else dtypes.float64
    )
    source = as_operand(1 if weights is None else weights, dtype, input._type.shape)
    return index_add(cast(as_operand(0, dtype, (size,)), dtype, copy=True), 0, input, source)
