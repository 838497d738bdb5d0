"""Softmax and its logarithm."""

from __future__ import annotations

from typing import Any

from vitrify.ir.dtypes import DType, bfloat16, float16, float32

from .._composite import composite
from .._function import Function
from .._tensor import Tensor, wrap_dim
from .casting import cast
from .pointwise import div, exp, log, mul, not_implemented, sub
from .reductions import amax
from .reductions import sum as sum_


@composite("result")
def softmax(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """exp(input) times 1 / sum(exp(input)) along `dim`, without overflow.

    >>> vitrify.softmax(vitrify.zeros(4), dim=0)
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    x, dim, dtype = _prepared(input, dim, dtype, "softmax")
    if x._type.numel == 0:
        return cast(exp(x), dtype)
    return cast(_Softmax.apply(x, dim), dtype)


class _Softmax(Function):
    """With a derivative that reads the result alone; that of the ops would read the powers, too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        powers = exp(sub(x, amax(x, dim, keepdim=True)))
        y = mul(powers, div(1.0, sum_(powers, dim, keepdim=True)))
        ctx.dim = dim
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, ct: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return mul(y, sub(ct, sum_(mul(ct, y), ctx.dim, keepdim=True))), None


@composite("result")
def log_softmax(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """The logarithm of `softmax`, computed directly."""
    x, dim, dtype = _prepared(input, dim, dtype, "log_softmax")
    if x._type.numel == 0:
        return cast(exp(x), dtype)
    shifted = sub(x, amax(x, dim, keepdim=True).detach())
    return cast(sub(shifted, log(sum_(exp(shifted), dim, keepdim=True))), dtype)


def _prepared(x: Tensor, dim: int, dtype: DType | None, name: str) -> tuple[Tensor, int, DType]:
    """What to compute with, along which dimension, and the result's dtype: floats of 16 bits are computed as
    float32, so only the result is rounded to them."""
    dtype = dtype or x.dtype
    if not dtype.is_floating_point:
        raise not_implemented(f"{name}_lastdim_kernel_impl", dtype)
    wide = float32 if dtype in (float16, bfloat16) else dtype
    return cast(cast(x, dtype), wide), wrap_dim(dim, x.ndim), dtype
