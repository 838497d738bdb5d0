"""Multi-head attention."""

from __future__ import annotations

from typing import Any

from vitrify.ir.dtypes import bool_

from .._functions import cat, empty, zeros
from .._size import check_device
from .._tensor import Tensor
from . import functional as F
from . import init
from ._functional_attention import attention_weights
from ._layers_linear import Linear
from ._module import Module
from ._parameter import Parameter


class NonDynamicallyQuantizableLinear(Linear):
    """A linear layer; PyTorch's name for the last one of an attention."""


class MultiheadAttention(Module):
    """Attention of queries [t, n, e] over keys and values [s, n, e], in num_heads parts of the width e.

    Source: Vaswani et al. 2017, arXiv:1706.03762. Initial values are PyTorch's (xavier).
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True,
        add_bias_kv: bool = False, add_zero_attn: bool = False, kdim: int | None = None,
        vdim: int | None = None, batch_first: bool = False, device: object = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(
                f"embed_dim and num_heads must be greater than 0, got embed_dim={embed_dim} and "
                f"num_heads={num_heads} instead"
            )
        super().__init__()
        check_device(device)
        self.embed_dim = embed_dim
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == embed_dim == self.vdim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.head_dim = embed_dim // num_heads
        if self.head_dim * num_heads != embed_dim:
            raise AssertionError("embed_dim must be divisible by num_heads")
        self.add_zero_attn = add_zero_attn
        joint = (3 * embed_dim, embed_dim) if self._qkv_same_embed_dim else None
        shapes: dict[str, tuple[int, ...] | None] = {
            "q_proj_weight": None if joint else (embed_dim, embed_dim),
            "k_proj_weight": None if joint else (embed_dim, self.kdim),
            "v_proj_weight": None if joint else (embed_dim, self.vdim),
            "in_proj_weight": joint,
            "in_proj_bias": (3 * embed_dim,) if bias else None,
            "bias_k": (1, 1, embed_dim) if add_bias_kv else None,
            "bias_v": (1, 1, embed_dim) if add_bias_kv else None,
        }
        # Registered in PyTorch's order, which is that of the state.
        order = ["in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"]
        for name in (order if joint else [*order[1:], order[0]]) + ["in_proj_bias"]:
            self._register(name, shapes[name], dtype)
        self.out_proj = NonDynamicallyQuantizableLinear(embed_dim, embed_dim, bias=bias, dtype=dtype)
        self._register("bias_k", shapes["bias_k"], dtype)
        self._register("bias_v", shapes["bias_v"], dtype)
        self._reset_parameters()

    def _register(self, name: str, shape: tuple[int, ...] | None, dtype: Any) -> None:
        self.register_parameter(name, None if shape is None else Parameter(empty(shape, dtype=dtype)))

    def _reset_parameters(self) -> None:
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)
        for bias in (self.bias_k, self.bias_v):
            if bias is not None:
                init.xavier_normal_(bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None, average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """(output, weights averaged over the heads, or None). key_padding_mask: [n, s], True leaves a key
        out. attn_mask: [t, s] or [n * num_heads, t, s], True leaves out, a float is added. is_causal: a hint
        that attn_mask is the causal one."""
        batched = self._check(query, key, value)
        if is_causal and attn_mask is None:
            raise RuntimeError(
                "Need attn_mask if specifying the is_causal hint. You may use the Transformer module method "
                "`generate_square_subsequent_mask` to create this mask."
            )
        if not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        joined = self._mask(query, key, key_padding_mask, attn_mask)
        q, k, v, joined = self._with_extra(*self._projected(query, key, value), joined)
        output, weights = self._attend(q, k, v, joined, need_weights)
        if not batched:
            output, weights = output[0], None if weights is None else weights[0]
        elif not self.batch_first:
            output = output.transpose(0, 1)
        if weights is not None and average_attn_weights:
            weights = weights.mean(-3)
        return output, weights

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> bool:
        """Whether there is a batch axis. Raises AssertionError for shapes that do not fit."""
        if query.ndim not in (2, 3):
            raise AssertionError(
                f"query should be unbatched 2D or batched 3D tensor but received {query.ndim}-D query tensor"
            )
        if not key.ndim == value.ndim == query.ndim:
            kind = "unbatched (2-D)" if query.ndim == 2 else "batched (3-D)"
            raise AssertionError(
                f"For {kind} `query`, expected `key` and `value` to be {query.ndim}-D but found {key.ndim}-D "
                f"and {value.ndim}-D tensors respectively"
            )
        if query.shape[-1] != self.embed_dim:
            raise AssertionError(
                f"was expecting embedding dimension of {self.embed_dim}, but got {query.shape[-1]}"
            )
        if self._qkv_same_embed_dim and key.shape != value.shape:
            raise AssertionError(f"key shape {key.shape} does not match value shape {value.shape}")
        if key.shape[:-1] != value.shape[:-1]:
            raise AssertionError(
                f"key's sequence and batch dims {key.shape[:2]} do not match value's {value.shape[:2]}"
            )
        return query.ndim == 3

    def _mask(self, query: Tensor, key: Tensor, padding: Tensor | None, mask: Tensor | None) -> Tensor | None:
        """Both masks as one of [n or 1, heads or 1, t or 1, s], added to the scores."""
        n, t, s = query.shape[0], query.shape[1], key.shape[1]
        if mask is not None:
            wanted = {2: (t, s), 3: (n * self.num_heads, t, s)}.get(mask.ndim)
            if wanted is None:
                raise RuntimeError(f"attn_mask's dimension {mask.ndim} is not supported")
            if tuple(mask.shape) != wanted:
                raise RuntimeError(
                    f"The shape of the {mask.ndim}D attn_mask is {mask.shape}, but should be {wanted}."
                )
            mask = _as_float(mask, query, "attn_mask")
            mask = mask if mask.ndim == 2 else mask.reshape(n, self.num_heads, t, s)
        if padding is None:
            return mask
        for axis, size in ((0, n), (1, s)):
            if padding.shape[axis] != size:
                raise AssertionError(
                    f"Expected key_padded_mask.shape[{axis}] to be {size}, but got {padding.shape[axis]}"
                )
        padding = _as_float(padding, query, "key_padding_mask").reshape(n, 1, 1, s)
        return padding if mask is None else mask + padding

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values in the width of the heads; of one tensor by one product."""
        bias = self.in_proj_bias
        if self._qkv_same_embed_dim and query is key is value:
            q, k, v = F.linear(query, self.in_proj_weight, bias).chunk(3, -1)
            return q, k, v
        if self._qkv_same_embed_dim:
            weights = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None, None, None) if bias is None else bias.chunk(3)
        q, k, v = (F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))
        return q, k, v

    def _with_extra(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """With the learned key and value, and the one of zeros, that every query sees."""
        n, _, e = k.shape
        extra: list[tuple[Tensor, Tensor]] = []
        if self.bias_k is not None and self.bias_v is not None:
            extra.append((self.bias_k.expand(n, 1, e), self.bias_v.expand(n, 1, e)))
        if self.add_zero_attn:
            nothing = zeros((n, 1, e), dtype=k.dtype)
            extra.append((nothing, nothing))
        for more_k, more_v in extra:
            k, v = cat([k, more_k], 1), cat([v, more_v], 1)
            mask = None if mask is None else F.pad(mask, (0, 1))
        return q, k, v, mask

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(output, weights of each head if needed)."""
        n, t, e = q.shape
        q, k, v = (x.reshape(n, x.shape[1], self.num_heads, self.head_dim).transpose(1, 2) for x in (q, k, v))
        dropout = self.dropout if self.training else 0.0
        weights: Tensor | None = None
        if need_weights:
            weights = F.dropout(attention_weights(q, k, mask, whole_rows=True), dropout)
            output = weights @ v
        else:
            output = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        return self.out_proj(output.transpose(1, 2).reshape(n, t, e)), weights


def _as_float(mask: Tensor, like: Tensor, name: str) -> Tensor:
    """A mask to be added: minus infinity where a bool one is True."""
    if mask.dtype is bool_:
        return zeros(mask.shape, dtype=like.dtype).masked_fill(mask, float("-inf"))
    if not mask.is_floating_point():
        raise AssertionError(f"only bool and floating types of {name} are supported")
    return mask
