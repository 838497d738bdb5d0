"""Softmax and its logarithm."""

from __future__ import annotations

from vitrify.ir.dtypes import DType

from .._composite import composite
from .._tensor import Tensor, wrap_dim
from .casting import cast
from .pointwise import div, exp, log, mul, not_implemented, sub
from .reductions import amax
from .reductions import sum as sum_


@composite
def softmax(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """exp(input) times 1 / sum(exp(input)) along `dim`, without overflow.

    >>> vitrify.softmax(vitrify.zeros(4), dim=0)
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    x, dim = _prepared(input, dim, dtype, "softmax")
    if x._type.numel == 0:
        return exp(x)
    powers = exp(sub(x, amax(x, dim, keepdim=True).detach()))
    return mul(powers, div(1.0, sum_(powers, dim, keepdim=True)))


@composite
def log_softmax(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """The logarithm of `softmax`, computed directly."""
    x, dim = _prepared(input, dim, dtype, "log_softmax")
    if x._type.numel == 0:
        return exp(x)
    shifted = sub(x, amax(x, dim, keepdim=True).detach())
    return sub(shifted, log(sum_(exp(shifted), dim, keepdim=True)))


def _prepared(x: Tensor, dim: int, dtype: DType | None, name: str) -> tuple[Tensor, int]:
    if dtype is not None:
        x = cast(x, dtype)
    if not x.is_floating_point():
        raise not_implemented(f"{name}_lastdim_kernel_impl", x.dtype)
    return x, wrap_dim(dim, x.ndim)
