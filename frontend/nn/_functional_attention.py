"""Dropout and attention."""

from __future__ import annotations

import math

from vitrify.ir import ops
from vitrify.ir.builder import broadcast, full
from vitrify.ir.dtypes import bool_

from .._dispatch import build
from .._functions import ones, rand
from .._tensor import Tensor
from ._functional_activation import softmax


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training each element is 0 with probability p, else divided by 1 - p."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0.0:
        return input
    return _drop(input, tuple(input.shape), p, inplace)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`dropout` of whole channels of [n, c, l]."""
    return _dropout_channels(1, input, p, training, inplace)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`dropout` of whole channels of [n, c, h, w]."""
    return _dropout_channels(2, input, p, training, inplace)


def _dropout_channels(rank: int, x: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if x.ndim not in (rank + 1, rank + 2):
        raise RuntimeError(
            f"dropout{rank}d: Expected {rank + 1}D or {rank + 2}D input, but got {list(x.shape)}"
        )
    if not training or p == 0.0:
        return x
    return _drop(x, (*x.shape[: x.ndim - rank], *(1,) * rank), p, inplace)


def _drop(x: Tensor, shape: tuple[int, ...], p: float, inplace: bool) -> Tensor:
    """x times a random mask of this shape, scaled to keep the mean."""
    keep = (rand(shape) >= p).to(x.dtype)
    result = x * (keep * (0.0 if p == 1.0 else 1 / (1 - p)))
    return x.copy_(result) if inplace else result


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """softmax(query @ key.T * scale + mask) @ value.

    query: [..., t, d], key: [..., s, d], value: [..., s, e] -> [..., t, e]. attn_mask: bool (True takes part)
    or float (added), broadcast to [..., t, s]. scale: 1 / sqrt(d) by default. is_causal: row i sees columns j
    <= i.
    """
    if is_causal and attn_mask is not None:
        raise RuntimeError(
            "_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True"
        )
    if enable_gqa:
        raise NotImplementedError("scaled_dot_product_attention: enable_gqa is not supported")
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1])
    scores = query @ key.transpose(-2, -1) * scale
    if is_causal:
        attn_mask = ones(query.shape[-2], key.shape[-2], dtype=bool_).tril()
    if attn_mask is not None:
        scores = _masked(scores, attn_mask)
    weights = softmax(scores, -1)
    return dropout(weights, dropout_p) @ value


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    if mask.dtype is not bool_:
        return scores + mask
    shape = scores._type.shape
    return build(
        ops.select, broadcast(build, mask, shape), scores, full(build, float("-inf"), scores._type.ir)
    )
