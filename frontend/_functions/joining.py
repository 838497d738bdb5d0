"""Tensors put together and taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitrify.ir import ops
from vitrify.ir.opdef import bind

from .._dispatch import apply
from .._promotion import as_operand, result_type
from .._tensor import Tensor, wrap_dim
from .movement import reshape, slice_dim, squeeze, unsqueeze


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors one after the other along a dimension, promoted to one dtype.

    >>> vitrify.cat([vitrify.zeros(1, 2), vitrify.ones(1, 2)]).shape
    vitrify.Size([2, 2])
    """
    items = list(tensors)
    if not items:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    for i, x in enumerate(items):
        if not isinstance(x, Tensor):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got {type(x).__name__}")
    dtype = result_type(*items)
    full = [x for x in items if x._type.shape != (0,)] or items[:1]  # PyTorch skips empty vectors of any rank
    first = full[0]
    if first.ndim == 0:
        raise RuntimeError(
            f"zero-dimensional tensor (at position {items.index(first)}) cannot be concatenated"
        )
    dim = wrap_dim(dim, first.ndim)
    for i, x in enumerate(full):
        _check_fits(first, x, i, dim)
    parts = [as_operand(x, dtype, x._type.shape) for x in full]
    return apply(bind(ops.concat, axis=dim), *parts)


def _check_fits(first: Tensor, x: Tensor, i: int, dim: int) -> None:
    if x.ndim != first.ndim:
        raise RuntimeError(f"Tensors must have same number of dimensions: got {first.ndim} and {x.ndim}")
    for a, (n, m) in enumerate(zip(first._type.shape, x._type.shape, strict=True)):
        if a != dim and n != m:
            raise RuntimeError(
                f"Sizes of tensors must match except in dimension {dim}. Expected size {n} but got size "
                f"{m} for tensor "
                f"number {i} in the list."
            )


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension."""
    items = list(tensors)
    if not items:
        raise RuntimeError("stack expects a non-empty TensorList")
    for i, x in enumerate(items):
        if x._type.shape != items[0]._type.shape:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(items[0].shape)} at entry 0 and "
                f"{list(x.shape)} at entry {i}"
            )
    dim = wrap_dim(dim, items[0].ndim + 1)
    return cat([unsqueeze(x, dim) for x in items], dim)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors side by side: along dimension 1, or 0 for vectors."""
    items = [reshape(x, 1) if x.ndim == 0 else x for x in tensors]
    return cat(items, 0 if items[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors below one another, vectors taken as rows."""
    return cat([reshape(x, 1, -1) if x.ndim < 2 else x for x in tensors], 0)


def split(tensor: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of parts along a dimension: of one size (the last may be smaller), or of the sizes in a list."""
    _check_splits("split", tensor)
    dim = wrap_dim(dim, tensor.ndim)
    n = tensor._type.shape[dim]
    if isinstance(split_size_or_sections, int):
        size = split_size_or_sections
        if size < 0 or size == 0 and n:
            raise RuntimeError(f"split expects split_size be non-negative, but got split_size={size}")
        bounds = [min(i, n) for i in range(0, n + size, size)] if n else [0, 0]
    else:
        bounds = [0]
        for size in split_size_or_sections:
            bounds.append(bounds[-1] + size)
        if bounds[-1] != n:
            raise RuntimeError(
                f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at "
                f"dimension {dim}), "
                f"but got split_sizes={list(split_size_or_sections)}"
            )
    return tuple(slice_dim(tensor, dim, lo, hi) for lo, hi in zip(bounds, bounds[1:], strict=False))


def _check_splits(name: str, x: Tensor) -> None:
    if x.ndim == 0:
        raise RuntimeError(f"{name} expects at least a 1-dimensional tensor")


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` views of equal parts along a dimension; the last may be smaller."""
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    _check_splits("chunk", input)
    n = input._type.shape[wrap_dim(dim, input.ndim)]
    return split(input, max(-(-n // chunks), 1), dim)


def tensor_split(
    input: Tensor, indices_or_sections: Tensor | int | Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """Views of parts along a dimension: a number of nearly equal ones, or cut at the places in a list."""
    if input.ndim == 0:
        raise RuntimeError(
            "tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims"
        )
    n = input._type.shape[wrap_dim(dim, input.ndim)]
    if isinstance(indices_or_sections, Tensor):
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, int):
        small, larger = divmod(n, indices_or_sections)
        return split(input, [small + (i < larger) for i in range(indices_or_sections)], dim)
    places: Any = indices_or_sections
    cuts = [0, *(max(0, min(c + n if c < 0 else c, n)) for c in places), n]
    parts = [(a, max(a, b)) for a, b in zip(cuts, cuts[1:], strict=False)]
    at = wrap_dim(dim, input.ndim)
    return tuple(slice_dim(input, at, lo, hi) for lo, hi in parts)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of the parts at each place along a dimension, which goes away."""
    if input.ndim == 0:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    dim = wrap_dim(dim, input.ndim)
    return tuple(squeeze(slice_dim(input, dim, i, i + 1), dim) for i in range(input._type.shape[dim]))


def meshgrid(*tensors: Tensor | Sequence[Tensor], indexing: str = "ij") -> tuple[Tensor, ...]:
    """Grids of coordinates from vectors of them; indexing "xy" exchanges the first two dimensions."""
    items: Sequence[Any] = tensors
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        items = tensors[0]
    order = list(range(len(items)))
    if indexing == "xy" and len(items) > 1:
        order[:2] = [1, 0]
    shape = tuple(items[i]._type.numel for i in order)
    grids = []
    for i, x in enumerate(items):
        at = order.index(i)
        grids.append(
            as_operand(reshape(x, *(-1 if a == at else 1 for a in range(len(shape)))), x.dtype, shape)
        )
    return tuple(grids)


concat = concatenate = cat
