"""Lookup by class number, and what goes with it: embedding, one_hot."""

from __future__ import annotations

from vitrify.ir import ops
from vitrify.ir.builder import broadcast
from vitrify.ir.dtypes import int64

from .._composite import composite
from .._dispatch import build
from .._functions.pointwise import TYPE_NAMES
from .._tensor import Tensor
from ._functional_check import check_all


@composite("input", small=False)
def embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
    norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Tensor:  # fmt: skip
    """Rows of weight [n, d] by number: [..., d]. The row padding_idx gets no gradient.

    Raises IndexError for a number out of range, RuntimeError for one that is no int.
    """
    if max_norm is not None or scale_grad_by_freq:
        raise NotImplementedError("embedding: max_norm and scale_grad_by_freq are not supported")
    if input.dtype.name not in ("int32", "int64"):
        raise RuntimeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: "
            "Long, Int; but got "
            f"vitrify.{TYPE_NAMES[input.dtype]}Tensor instead (while checking arguments "
            "for embedding)"
        )
    if weight.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")
    rows = weight.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= rows
    check_all((input >= 0) & (input < rows), "IndexError", "index out of range in self")
    found = build(ops.gather, weight, input.to(int64), axes=(0,))
    if padding_idx is None or not found.requires_grad:
        return found
    is_padding = broadcast(build, input.eq(padding_idx).unsqueeze(-1), found._type.shape)
    return build(ops.select, is_padding, found.detach(), found)


@composite()
def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """int64 [..., num_classes]: 1 at the class, else 0; by default as many classes as the largest needs.

    Raises RuntimeError for a class that is negative or too large.
    """
    if tensor.dtype is not int64:
        raise RuntimeError(
            f"one_hot is only applicable to index tensor of type LongTensor but got {tensor.dtype.name}"
        )
    if num_classes == -1:
        if tensor.numel() == 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        num_classes = int(tensor.max().item()) + 1
    if num_classes <= 0:
        raise RuntimeError("num_classes should be positive")
    check_all(tensor >= 0, "RuntimeError", "Class values must be non-negative.")
    check_all(tensor < num_classes, "RuntimeError", "Class values must be smaller than num_classes.")
    shape = (*tensor._type.shape, num_classes)
    classes = build(ops.iota, shape=shape, axis=tensor.ndim, dtype=int64)
    return build(ops.eq, classes, broadcast(build, tensor.unsqueeze(-1), shape)).to(int64)
