"""Dropout and attention."""

from __future__ import annotations

import math

from vitrify.ir.dtypes import bfloat16, bool_
from vitrify.ir.expr import symbol

from .._composite import composite
from .._functions import amax, eq, ones, rand, where
from .._functions.linalg import matmul_within
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

    query: [..., t, d], key: [..., s, d], value: [..., s, e] -> [..., t, e], leading axes broadcast.
    attn_mask: bool (True takes part) or float (added), broadcast to [..., t, s]; a row that nothing takes
    part in gives zeros. scale: 1 / sqrt(d) by default. is_causal: row i sums over columns j <= i alone, and
    others are not computed (of bfloat16 they are, with weights of zero). enable_gqa: a head of key and value
    serves several heads, the third axis from the end, of the query. Compiled, the t x s weights stay in the
    cache.
    """
    if dropout_p == 0.0:
        return _attention(query, key, value, attn_mask, is_causal, scale, enable_gqa)
    weights, value = _weights_and_value(query, key, value, attn_mask, is_causal, scale, enable_gqa)
    return _product(dropout(weights, dropout_p), value, is_causal, "k")


@composite("query key value mask result")
def _attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool, scale: float | None,
    enable_gqa: bool,
) -> Tensor:  # fmt: skip
    weights, value = _weights_and_value(query, key, value, mask, is_causal, scale, enable_gqa)
    return _product(weights, value, is_causal, "k")


def _product(x: Tensor, y: Tensor, is_causal: bool, column: str) -> Tensor:
    """x @ y; causal: the columns of the weights, which the product has as `column`, up to the row alone."""
    if is_causal and x.dtype is not bfloat16:
        return matmul_within(x, y, symbol("m") - symbol(column))
    return x @ y


def _weights_and_value(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool, scale: float | None,
    enable_gqa: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(softmax of the masked scores, the value with as many heads)."""
    _check_attention(query, key, value, mask)
    if enable_gqa:
        key, value = (_repeat_heads(x, query.shape[-3]) for x in (key, value))
    whole_rows = is_causal and mask is None
    if is_causal:
        below = ones(query.shape[-2], key.shape[-2], dtype=bool_).tril()
        mask = below if mask is None else _masked(mask, below)
    scores = _product(query, key.transpose(-2, -1), is_causal, "n") * _scale(query, scale)
    return _softmax(scores, mask, whole_rows), value


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None, whole_rows: bool) -> Tensor:
    """softmax(query @ key.T / sqrt(d) + mask): [..., t, s]. whole_rows: something takes part in each row."""
    return _softmax(query @ key.transpose(-2, -1) * _scale(query, None), mask, whole_rows)


def _scale(query: Tensor, scale: float | None) -> float:
    if scale is not None:
        return scale
    return 1 / math.sqrt(query.shape[-1]) if query.shape[-1] else 1.0


def _softmax(scores: Tensor, mask: Tensor | None, whole_rows: bool) -> Tensor:
    """The weights of scores [..., t, s]. whole_rows: something takes part in each row."""
    if mask is None or scores.shape[-1] == 0:
        return softmax(scores, -1)
    scores = _masked(scores, mask)
    if whole_rows:
        return softmax(scores, -1)
    nothing = eq(amax(scores, -1, keepdim=True).detach(), float("-inf"))
    # The gradient of such a row is zero, too, as softmax never sees it.
    return where(nothing, 0.0, softmax(where(nothing, 0.0, scores), -1))


def _check_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> None:
    named = {"query": query, "key": key, "value": value}
    if any(x.ndim < 2 for x in named.values()):
        found = " ".join(f"{'and ' * (n == 'value')}{n}.dim: {x.ndim}" for n, x in named.items())
        raise RuntimeError(
            f"Expected query, key, and value to all be  at least 2 dimensional, but got {found} instead."
        )
    if not query.dtype is key.dtype is value.dtype:
        found = " ".join(f"{'and ' * (n == 'value')}{n}.dtype: {_name(x)}" for n, x in named.items())
        raise RuntimeError(f"Expected query, key, and value to have the same dtype, but got {found} instead.")
    if not query.is_floating_point():
        raise RuntimeError(f"expected scalar type Float but found {_name(query).split()[0].title()}")
    if mask is not None and mask.dtype is not bool_ and not mask.is_floating_point():
        raise RuntimeError(
            "Expected attn_mask dtype to be bool or float or to match query dtype, but got "
            f"attn_mask.dtype: {_name(mask)} and  query.dtype: {_name(query)} instead."
        )


def _name(x: Tensor) -> str:
    """A dtype as messages of PyTorch call it."""
    names = {"float32": "float", "float64": "double", "int64": "long int", "int32": "int"}
    return names.get(x.dtype.name, x.dtype.name)


def _repeat_heads(x: Tensor, heads: int) -> Tensor:
    """Each head of [..., h, s, d] repeated, so that there are `heads`."""
    *batch, h, s, d = x.shape
    if h == 0 or heads % h:
        raise RuntimeError("Number of heads in key and value must divide the number of heads in query")
    return x.unsqueeze(-3).expand(*batch, h, heads // h, s, d).reshape(*batch, heads, s, d)


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores where the mask is True, else minus infinity; of a float mask, the sum."""
    if mask.dtype is bool_:
        return where(mask, scores, float("-inf")) if scores.dtype is not bool_ else scores & mask
    return scores + mask
