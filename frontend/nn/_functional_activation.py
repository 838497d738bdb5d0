"""Activations, and the softmax family in its row form: maximum, exponentials, sum."""

from __future__ import annotations

from collections.abc import Callable

from vitrify.ir import ops
from vitrify.ir.builder import full
from vitrify.ir.dtypes import DType

from .._composite import as_ops, composite
from .._dispatch import build
from .._functions import pointwise, softmaxes
from .._narrow import rounded_once
from .._tensor import Tensor, wrap_dim


def _filled_like(x: Tensor, value: float) -> Tensor:
    return full(build, value, x._type.ir)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0); nan stays nan, and the derivative at 0 is 0."""
    return _perhaps_in_place(pointwise.relu, inplace, input)


def relu_(input: Tensor) -> Tensor:
    """`relu` in place."""
    return relu(input, inplace=True)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)."""
    return hardtanh(input, 0.0, 6.0, inplace)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x limited to min_val..max_val; nan stays nan, and the derivative at both ends is 0."""
    if input.dtype.kind == "b":
        raise RuntimeError("Bool inputs not supported for hardtanh")
    if input.dtype.kind == "u" and min(min_val, max_val) < 0:
        raise RuntimeError("cannot do hardtanh on an unsigned type with negative limits")
    return _perhaps_in_place(_hardtanh, inplace, input, min_val, max_val)


@composite("x")
def _hardtanh(x: Tensor, least: float, most: float) -> Tensor:
    low, high = _filled_like(x, least), _filled_like(x, most)
    above = build(ops.select, build(ops.le, x, low), low, x)
    return build(ops.select, build(ops.ge, x, high), high, above)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope * x."""
    _check_floats(input, "leaky_relu_cpu")
    return _perhaps_in_place(_leaky_relu, inplace, input, negative_slope)


@composite("x")
def _leaky_relu(x: Tensor, slope: float) -> Tensor:
    return build(ops.select, build(ops.gt, x, _filled_like(x, 0)), x, x * slope)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * expm1(x)."""
    _check_floats(input, "elu_cpu")
    return _perhaps_in_place(_elu, inplace, input, alpha)


@composite("x")
@rounded_once
def _elu(x: Tensor, alpha: float) -> Tensor:
    positive = build(ops.gt, x, _filled_like(x, 0))
    # The exponential of 0 where it is not wanted: an overflow there would make its derivative nan.
    small = build(ops.expm1, build(ops.select, positive, _filled_like(x, 0), x))
    return build(ops.select, positive, x, small * alpha)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function of x; approximate="tanh" for the form with tanh."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    _check_floats(input, "GeluKernelImpl")
    return build(ops.gelu if approximate == "none" else ops.gelu_tanh, input)


@composite("input")
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half along `dim` times the sigmoid of the second. Raises RuntimeError for an odd size."""
    if input.ndim == 0:
        raise RuntimeError("glu does not support scalars because halving size must be even")
    _check_floats(input, "glu_cpu")
    at = wrap_dim(dim, input.ndim)
    if (size := input.shape[at]) % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {at} is size {size}")
    first, second = input.split(size // 2, at) if size else (input, input)
    return first * second.sigmoid()


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x * sigmoid(x)."""
    _check_floats(input, "silu_cpu")
    result = build(ops.silu, input)
    return input.copy_(result) if inplace else result


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return input.tanh()


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return input.sigmoid()


@composite("input")
def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x))."""
    _check_floats(input, "log_sigmoid_cpu")
    return -build(ops.softplus, -input)


@composite("input")
def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold."""
    _check_floats(input, "softplus_cpu")
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


def _check_floats(x: Tensor, name: str) -> None:
    if not x.is_floating_point():
        raise pointwise.not_implemented(name, x.dtype)


def _perhaps_in_place(function: Callable[..., Tensor], inplace: bool, x: Tensor, *more: float) -> Tensor:
    return x.copy_(as_ops(function)(x, *more)) if inplace else function(x, *more)
