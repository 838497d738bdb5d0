"""Activations, and the softmax family in its row form: maximum, exponentials, sum."""

from __future__ import annotations

from vitrify.ir import ops
from vitrify.ir.builder import full
from vitrify.ir.dtypes import DType

from .._dispatch import build
from .._functions import pointwise, softmaxes
from .._tensor import Tensor


def _filled_like(x: Tensor, value: float) -> Tensor:
    return full(build, value, x._type.ir)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0); nan stays nan, and the derivative at 0 is 0."""
    return _placed(input, pointwise.relu(input), inplace)


def relu_(input: Tensor) -> Tensor:
    """`relu` in place."""
    return relu(input, inplace=True)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)."""
    return hardtanh(input, 0.0, 6.0, inplace)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x limited to min_val..max_val; nan stays nan, and the derivative at both ends is 0."""
    low, high = _filled_like(input, min_val), _filled_like(input, max_val)
    above = build(ops.select, build(ops.le, input, low), low, input)
    return _placed(input, build(ops.select, build(ops.ge, input, high), high, above), inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope * x."""
    positive = build(ops.gt, input, _filled_like(input, 0))
    return _placed(input, build(ops.select, positive, input, input * negative_slope), inplace)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * (exp(x) - 1)."""
    positive = build(ops.gt, input, _filled_like(input, 0))
    # The exponential of 0 where it is not wanted: an overflow there would make its derivative nan.
    small = build(ops.exp, build(ops.select, positive, _filled_like(input, 0), input))
    return _placed(input, build(ops.select, positive, input, (small - 1) * alpha), inplace)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function of x; approximate="tanh" for the form with tanh."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    return build(ops.gelu if approximate == "none" else ops.gelu_tanh, input)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x * sigmoid(x)."""
    return _placed(input, build(ops.silu, input), inplace)


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return input.tanh()


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return input.sigmoid()


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x))."""
    return -build(ops.softplus, -input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold."""
    scaled = input if beta == 1 else input * beta
    smooth = build(ops.softplus, scaled)
    smooth = smooth if beta == 1 else smooth / beta
    return build(ops.select, build(ops.gt, scaled, _filled_like(scaled, threshold)), input, smooth)


def softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    """exp(x) along `dim`, scaled to the sum 1."""
    return softmaxes.softmax(input, _softmax_dim(dim, input), dtype)


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    """log(softmax(x)), without the loss of digits that this formula has."""
    return softmaxes.log_softmax(input, _softmax_dim(dim, input), dtype)


def softmin(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    """softmax(-x)."""
    return softmax(-input, dim, dtype=dtype)


def _softmax_dim(dim: int | None, x: Tensor) -> int:
    """PyTorch's rule for the implicit dimension, kept for old programs."""
    if dim is not None:
        return dim
    return 0 if x.ndim in (0, 1, 3) else 1


def _placed(input: Tensor, result: Tensor, inplace: bool) -> Tensor:
    return input.copy_(result) if inplace else result
