"""Normalisation: by the mean and variance over some axes, the variance in a second pass over the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .._composite import composite
from .._function import Function
from .._functions.movement import broadcast_tensors
from .._narrow import widened
from .._size import finfo
from .._tape import no_grad
from .._tensor import Tensor


@composite("input weight bias")
def layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Normalise over the trailing axes, of sizes normalized_shape; then times weight plus bias."""
    axes = _trailing(input, normalized_shape, weight, bias)
    return _affine(_normalised(widened(input), axes, eps), weight, bias, input)


@composite("input weight/input")
def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """Divide by the root of the mean square over the trailing axes; eps defaults to that of the dtype
    computed in."""
    axes = _trailing(input, normalized_shape, weight, None)
    x = widened(input)
    small = finfo(x.dtype).eps if eps is None else eps
    return _affine(x * ((x * x).mean(axes, keepdim=True) + small).rsqrt(), weight, None, input)


@composite("input weight")
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise [n, c, ...] over each of num_groups groups of channels; weight and bias are per channel."""
    if input.ndim < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {input.ndim}")
    channels = input.shape[1]
    if num_groups <= 0 or channels % num_groups:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{list(input.shape)} and num_groups={num_groups}"
        )
    grouped = widened(input).reshape(input.shape[0], num_groups, -1)
    normal = _normalised(grouped, (2,), eps).reshape(input.shape)
    return _affine(normal, _per_channel(weight, input), _per_channel(bias, input), input)


def batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Normalise each channel (axis 1) over all other axes.

    training: by the batch's own statistics, which move the running ones in place by `momentum`; otherwise by
    the running ones. Raises ValueError for a single value per channel in training.
    """
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError("Expected running_mean and running_var to be defined when training=False")
        return _by_running_statistics(input, running_mean, running_var, weight, bias, eps)
    count = input.numel() // max(input.shape[1], 1)
    if count == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {input.shape}"
        )
    result, mean, variance = _by_own_statistics(input, weight, bias, eps)
    if running_mean is not None:
        _move(running_mean, mean, momentum)
    if running_var is not None:
        _move(running_var, variance * (count / max(count - 1, 1)), momentum)
    return result


@composite("x mean variance weight")
def _by_running_statistics(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    normal = (widened(x) - _per_channel(mean, x)) * (widened(_per_channel(variance, x)) + eps).rsqrt()
    return _affine(normal, _per_channel(weight, x), _per_channel(bias, x), x)


@composite("x weight")
def _by_own_statistics(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The result, with the mean and the variance of each channel."""
    axes = tuple(a for a in range(x.ndim) if a != 1)
    normal, _, mean, variance = _Normalised.apply(widened(x), axes, eps)
    return _affine(normal, _per_channel(weight, x), _per_channel(bias, x), x), mean, variance


@composite("input weight/input")
def instance_norm(
    input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
    weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Normalise each channel of each sample over the axes from 2 on. Running statistics are not supported."""
    if running_mean is not None or running_var is not None or not use_input_stats:
        raise NotImplementedError("instance_norm: running statistics are not supported")
    normal = _normalised(widened(input), tuple(range(2, input.ndim)), eps)
    return _affine(normal, _per_channel(weight, input), _per_channel(bias, input), input)


@composite("x1 x2")
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The sum over `dim` of the products of two tensors over their norms (at least eps); they broadcast.

    Raises RuntimeError for sizes that do not fit.
    """
    if not (x1.is_floating_point() and x2.is_floating_point()):
        raise RuntimeError("expected common dtype to be floating point, yet common dtype is not")
    x1, x2 = broadcast_tensors(x1, x2)
    lengths = [x.norm(2, dim, keepdim=True).clamp(min=eps) for x in (x1, x2)]
    return (x1 / lengths[0] * (x2 / lengths[1])).sum(dim)


@composite("input")
def normalize(
    input: Tensor, p: float | None = 2.0, dim: int | tuple[int, ...] | None = 1, eps: float = 1e-12
) -> Tensor:
    """input divided by its p-norm along `dim` (at least eps)."""
    return input / input.norm(p, dim, keepdim=True).clamp(min=eps)


def _normalised(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    return _Normalised.apply(x, axes, eps)[0]


class _Normalised(Function):
    """(x - mean) / deviation over some axes, and 1 / deviation; mean and variance, without derivative.

    With a derivative of its own: the sum of the centred elements is 0, so the variance's derivative needs not
    go by way of the mean. Two sums that do not wait for each other are left, and one pass over the elements.
    Kept is x, as PyTorch keeps it: the result may be written to.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, axes: tuple[int, ...], eps: float) -> tuple[Tensor, ...]:
        mean = x.mean(axes, keepdim=True)
        centred = x - mean
        variance = (centred * centred).mean(axes, keepdim=True)
        scale = (variance + eps).rsqrt()
        ctx.axes = axes
        ctx.save_for_backward(x, scale)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(mean, variance)
        return centred * scale, scale, mean, variance

    @staticmethod
    def backward(ctx: Any, *cts: Tensor | None) -> tuple[Tensor | None, None, None]:
        ct, scale_ct, *_ = cts
        x, scale = ctx.saved_tensors
        y = (x - x.mean(ctx.axes, keepdim=True)) * scale
        along = None if ct is None else (ct * y).mean(ctx.axes, keepdim=True)
        if scale_ct is not None:
            part = scale_ct * scale / math.prod(y.shape[a] for a in ctx.axes)
            along = part if along is None else along + part
        if along is None:
            return None, None, None
        moved = -(y * along) if ct is None else ct - ct.mean(ctx.axes, keepdim=True) - y * along
        return moved * scale, None, None


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None, like: Tensor) -> Tensor:
    x = x if weight is None else x * weight
    return (x if bias is None else x + bias).to(like.dtype)


def _per_channel(values: Tensor | None, x: Tensor) -> Tensor:
    """values [c] shaped to broadcast against x [n, c, ...]; None stays None."""
    return None if values is None else values.reshape(-1, *(1,) * (x.ndim - 2))  # type: ignore[return-value]


def _move(running: Tensor, batch: Tensor, momentum: float) -> None:
    with no_grad():
        running.copy_(running * (1 - momentum) + batch.detach().reshape(-1) * momentum)


def _trailing(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, bias: Tensor | None
) -> tuple[int, ...]:
    sizes = list(normalized_shape)
    if not sizes:
        raise RuntimeError(
            "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one "
            "element, but got "
            f"normalized_shape = {sizes}"
        )
    for name, values in (("weight", weight), ("bias", bias)):
        if values is not None and list(values.shape) != sizes:
            raise RuntimeError(
                f"Expected {name} to be of same shape as normalized_shape, but got {name} of shape "
                f"{list(values.shape)} and normalized_shape = {sizes}"
            )
    if list(x.shape[-len(sizes) :]) != sizes or x.ndim < len(sizes):
        wanted = ", ".join(["*", *map(str, sizes)])
        raise RuntimeError(
            f"Given normalized_shape={sizes}, expected input with shape [{wanted}], but got input of size"
            f"{list(x.shape)}"
        )
    return tuple(range(x.ndim - len(sizes), x.ndim))
