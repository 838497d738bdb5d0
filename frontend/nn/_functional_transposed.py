"""Transposed convolutions: what the gradient of a convolution is.

An input element spreads the kernel over the result: out[n, co, o] is the sum of x[n, ci, i] w[ci, co, k] over
all i and k with stride * i + dilation * k - padding = o, for each remainder of o by the stride a convolution.
"""

from __future__ import annotations

from typing import Any

from vitrify.ir.types import TensorType
from vitrify.passes.autodiff.contraction import spread as pulled_back

from .._composite import composite
from .._dispatch import build
from .._tensor import Tensor
from ._functional_linear import Ints, as_tuple, conv_spec


@composite("weight/input input/weight")
def conv_transpose1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """input: [n, c, l], weight: [c, o / groups, k] -> [n, o, m].

    m = (l - 1) * stride - 2 * padding + dilation * (k - 1) + output_padding + 1. Raises RuntimeError if sizes
    or dtypes do not fit.
    """
    return _spread(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@composite("weight/input input/weight")
def conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """input: [n, c, h, w], weight: [c, o / groups, kh, kw]; sizes as for `conv_transpose1d`."""
    return _spread(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@composite("weight/input input/weight")
def conv_transpose3d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """input: [n, c, d, h, w], weight: [c, o / groups, kd, kh, kw]; sizes as for `conv_transpose1d`."""
    return _spread(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def _spread(
    rank: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any,
    output_padding: Any, groups: int, dilation: Any,
) -> Tensor:  # fmt: skip
    if input.ndim == rank + 1:
        batch = _spread(
            rank, input.unsqueeze(0), weight, bias, stride, padding, output_padding, groups, dilation
        )
        return batch.squeeze(0)
    _check(rank, input, weight, bias, groups)
    steps, low, more, spread = (
        as_tuple(value, rank, name)
        for value, name in (
            (stride, "stride"), (padding, "padding"), (output_padding, "output_padding"),
            (dilation, "dilation"),
        )
    )  # fmt: skip
    _check_steps(steps, low, more, spread)
    sizes = (tuple(input.shape[2:]), tuple(weight.shape[2:]), steps, low, more, spread)
    out = tuple((n - 1) * s - 2 * p + d * (k - 1) + q + 1 for n, k, s, p, q, d in zip(*sizes, strict=True))
    if min(out) <= 0:
        raise RuntimeError(
            f"Given input size per channel: {list(input.shape[2:])}. Calculated output size per channel: "
            f"{list(out)}. Output size is too small"
        )
    x, w = _grouped(input, weight, groups)
    spec = conv_spec(steps, spread, low, tuple(input.shape[2:]), groups > 1)
    image = TensorType(x.dtype, (*x.shape[: -rank - 1], weight.shape[1], *out))
    result = pulled_back(build, spec, image, x, w)
    if groups > 1:
        result = result.reshape(input.shape[0], weight.shape[1] * groups, *out)
    return result if bias is None else result + bias.reshape(-1, *(1,) * rank)


def _grouped(x: Tensor, weight: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Input and weight with an axis of their own for the groups, if there are several."""
    if groups == 1:
        return x, weight
    channels = x.shape[1] // groups
    x = x.reshape(x.shape[0], groups, channels, *x.shape[2:])
    return x, weight.reshape(groups, channels, *weight.shape[1:])


def _check(rank: int, input: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> None:
    name = f"conv_transpose{rank}d"
    if input.ndim != rank + 2:
        raise RuntimeError(
            f"Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input to {name}, but got "
            f"input of size: {list(input.shape)}"
        )
    if weight.ndim != rank + 2:
        raise RuntimeError(f"weight should have at least three dimensions and as many as the input of {name}")
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")
    if input.shape[1] != weight.shape[0] or input.shape[1] % groups:
        raise RuntimeError(
            f"Given transposed=1, weight of size {list(weight.shape)}, expected input{list(input.shape)} to "
            f"have {weight.shape[0]} channels, but got {input.shape[1]} channels instead"
        )
    if input.dtype is not weight.dtype:
        raise RuntimeError(
            f"Input type ({input.dtype.name}) and weight type ({weight.dtype.name}) should be the same"
        )
    outputs = weight.shape[1] * groups
    if bias is not None and (bias.ndim != 1 or bias.shape[0] != outputs):
        raise RuntimeError(
            f"Given transposed=1, weight of size {list(weight.shape)}, expected bias to be 1-dimensional "
            f"with {outputs} elements, but got bias of size {list(bias.shape)} instead"
        )


def _check_steps(steps: Ints, low: Ints, more: Ints, spread: Ints) -> None:
    if any(s <= 0 for s in steps):
        raise RuntimeError("non-positive stride is not supported")
    if any(p < 0 for p in low):
        raise RuntimeError("negative padding is not supported")
    if any(q < 0 for q in more):
        raise RuntimeError("negative output_padding is not supported")
    if any(d <= 0 for d in spread):
        raise RuntimeError("dilation should be greater than zero")
    if any(q >= s and q >= d for q, s, d in zip(more, steps, spread, strict=True)):
        raise RuntimeError(
            f"output padding must be smaller than either stride or dilation, but got output_padding: "
            f"{list(more)}, stride: {list(steps)}, dilation: {list(spread)}"
        )
