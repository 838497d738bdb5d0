"""Losses. Each is a value per element or row, then a reduction: "mean", "sum" or "none".

Cross entropy is written in row form (maximum, exponentials, sum, one element picked by comparing with an
index row), so that the compiler makes one kernel of it, forward and backward.
"""

from __future__ import annotations

import warnings

from vitrify.ir import ops
from vitrify.ir.builder import broadcast, full
from vitrify.ir.dtypes import int64

from .._composite import composite
from .._dispatch import build
from .._functions.pointwise import TYPE_NAMES
from .._tensor import Tensor
from ._functional_activation import log_softmax
from ._functional_check import check_all


def reduced(values: Tensor, reduction: str) -> Tensor:
    """The mean, the sum, or the values themselves. Raises ValueError for another word."""
    if reduction == "mean":
        return values.mean()
    if reduction == "sum":
        return values.sum()
    if reduction == "none":
        return values
    raise ValueError(f"{reduction} is not a valid value for reduction")


def _legacy(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """PyTorch's old pair of switches as a reduction."""
    if size_average is None and reduce is None:
        return reduction
    warnings.warn(
        "size_average and reduce args will be deprecated, please use reduction instead.", stacklevel=3
    )
    return "none" if reduce is False else "sum" if size_average is False else "mean"


# Classes.


@composite("target/input weight")
def cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """input: [n, c, ...] or [c], target: class numbers [n, ...] (int64), or probabilities shaped like input.

    Raises IndexError for a class number out of range, ValueError or RuntimeError if the shapes do not fit.
    """
    reduction = _legacy(size_average, reduce, reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    axis = 0 if input.ndim == 1 else 1
    if target.is_floating_point() and target.ndim >= input.ndim:
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing, axis, ignore_index)
    _check_classes(input, target, weight)
    logs = log_softmax(input, axis)
    loss = nll_loss(logs, target, weight, ignore_index=ignore_index, reduction=reduction)
    if label_smoothing == 0.0:
        return loss
    smooth = _smoothing(logs, target, weight, ignore_index, reduction, axis)
    classes = input.shape[axis]
    return loss * (1 - label_smoothing) + smooth * (label_smoothing / classes)


@composite("input target weight")
def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """Minus the log-probability of the target class, times its weight; ignore_index counts nothing.

    input: log-probabilities [n, c, ...] or [c], target: int64 [n, ...].
    """
    reduction = _legacy(size_average, reduce, reduction)
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    _check_classes(input, target, weight)
    axis = 0 if input.ndim == 1 else 1
    counted = _counted(target, input.shape[axis], ignore_index)
    is_class = _is_class(input, target, axis)
    losses = -_picked(is_class, input, axis)
    if weight is not None:
        weights = _picked(is_class, _along(weight, input, axis), axis)
        losses = losses * weights
    else:
        weights = full(build, 1, losses._type.ir)
    zero = full(build, 0, losses._type.ir)
    losses = build(ops.select, counted, losses, zero)
    if reduction == "none":
        return losses
    total = losses.sum()
    return total if reduction == "sum" else total / build(ops.select, counted, weights, zero).sum()


def _check_classes(input: Tensor, target: Tensor, weight: Tensor | None) -> None:
    if input.ndim == 0:
        raise RuntimeError("Expected 1 or more dimensions (got 0)")
    if input.ndim == 1 and target.ndim == 1 and target.shape[0] not in (1, input.shape[0]):
        raise ValueError(
            f"Expected input batch_size ({input.shape[0]}) to match target batch_size ({target.shape[0]})."
        )
    if input.ndim == 1 and target.ndim == 1 and target.shape[0] == 1:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if input.ndim > 1 and (target.ndim == 0 or input.shape[0] != target.shape[0]):
        got = target.shape[0] if target.ndim else 0
        raise ValueError(f"Expected input batch_size ({input.shape[0]}) to match target batch_size ({got}).")
    if target.dtype is not int64:
        if target.dtype.name == "uint8":
            return
        raise RuntimeError(f"expected scalar type Long but found {TYPE_NAMES[target.dtype]}")
    expected = [*input.shape[:1], *input.shape[2:]] if input.ndim > 1 else []
    if list(target.shape) != expected:
        raise RuntimeError(f"Expected target size {expected}, got {list(target.shape)}")
    classes = input.shape[0 if input.ndim == 1 else 1]
    if weight is not None and tuple(weight.shape) != (classes,):
        raise RuntimeError(
            f"weight tensor should be defined either for all {classes} classes or no classes but got "
            "weight tensor "
            f"of shape: {list(weight.shape)}"
        )


def _counted(target: Tensor, classes: int, ignore_index: int) -> Tensor:
    """Where the target is a class and not to be ignored. Raises IndexError where it is neither."""
    counted = target.ne(ignore_index)
    in_range = (target >= 0) & (target < classes)
    check_all(in_range | ~counted, "IndexError", "Target {} is out of bounds.", target)
    return counted


def _is_class(input: Tensor, target: Tensor, axis: int) -> Tensor:
    """bool, shaped like input: whether the place along the axis is the target."""
    classes = build(ops.iota, shape=input._type.shape, axis=axis, dtype=int64)
    return build(ops.eq, classes, broadcast(build, target.to(int64).unsqueeze(axis), input._type.shape))


def _picked(is_class: Tensor, values: Tensor, axis: int) -> Tensor:
    """The value of the target class; 0 where no class is the target."""
    return build(ops.select, is_class, values, full(build, 0, values._type.ir)).sum(axis)


def _along(weight: Tensor, input: Tensor, axis: int) -> Tensor:
    """A value per class repeated to the shape of input."""
    shape = [1] * input.ndim
    shape[axis] = -1
    return broadcast(build, weight.reshape(shape), input._type.shape)


def _smoothing(
    logs: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, axis: int
) -> Tensor:
    """The part of label smoothing: minus the (weighted) sum over all classes, where the target counts."""
    losses = -(logs if weight is None else logs * _along(weight, logs, axis)).sum(axis)
    counted = target.ne(ignore_index)
    zero = full(build, 0, losses._type.ir)
    losses = build(ops.select, counted, losses, zero)
    if reduction != "mean":
        return reduced(losses, reduction)
    if weight is None:
        weights = full(build, 1, losses._type.ir)
    else:
        weights = _picked(_is_class(logs, target, axis), _along(weight, logs, axis), axis)
    return losses.sum() / build(ops.select, counted, weights, zero).sum()


def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float, axis: int,
    ignore_index: int,
) -> Tensor:  # fmt: skip
    if target.shape != input.shape:
        raise RuntimeError(
            f"Expected floating point type for target with class probabilities of shape {list(input.shape)}, "
            f"got {list(target.shape)}"
        )
    if ignore_index >= 0:
        raise RuntimeError("ignore_index is not supported for floating point target")
    classes = input.shape[axis]
    if smoothing > 0:
        target = target * (1 - smoothing) + smoothing / classes
    logs = log_softmax(input, axis)
    if weight is not None:
        logs = logs * _along(weight, input, axis)
    losses = -(logs * target).sum(axis)
    if reduction == "mean":
        return losses.sum() / max(input.numel() // max(classes, 1), 1) if input.numel() else losses.mean()
    return reduced(losses, reduction)


# Distances.


def _same_size(name: str, input: Tensor, target: Tensor) -> None:
    if target.shape != input.shape:
        warnings.warn(
            f"Using a target size ({target.shape}) that is different to the input size "
            f"({input.shape}). This will "
            "likely lead to incorrect results due to broadcasting. Please ensure they have the same size.",
            stacklevel=3,
        )


@composite("input target weight")
def mse_loss(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean", weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """(input - target) squared."""
    _same_size("mse_loss", input, target)
    difference = input - target
    values = difference * difference
    values = values if weight is None else values * weight
    return reduced(values, _legacy(size_average, reduce, reduction))


@composite("weight")
def l1_loss(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean", weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """|input - target|."""
    _same_size("l1_loss", input, target)
    values = (input - target).abs()
    values = values if weight is None else values * weight
    return reduced(values, _legacy(size_average, reduce, reduction))


@composite("input target")
def smooth_l1_loss(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean", beta: float = 1.0,
) -> Tensor:  # fmt: skip
    """d * d / (2 * beta) where d = |input - target| < beta, else d - beta / 2."""
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    if beta == 0:
        return l1_loss(input, target, size_average, reduce, reduction)
    _same_size("smooth_l1_loss", input, target)
    distance = (input - target).abs()
    near = build(ops.lt, distance, full(build, beta, distance._type.ir))
    values = build(ops.select, near, distance * distance * (0.5 / beta), distance - 0.5 * beta)
    return reduced(values, _legacy(size_average, reduce, reduction))


@composite("input target")
def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """d * d / 2 where d = |input - target| < delta, else delta * (d - delta / 2)."""
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    _same_size("huber_loss", input, target)
    distance = (input - target).abs()
    near = build(ops.lt, distance, full(build, delta, distance._type.ir))
    values = build(ops.select, near, distance * distance * 0.5, (distance - 0.5 * delta) * delta)
    return reduced(values, reduction)


@composite("target/input input/target")
def kl_div(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean", log_target: bool = False,
) -> Tensor:  # fmt: skip
    """target * (log(target) - input), of log-probabilities `input` and probabilities (log_target: their
    logarithms): the Kullback-Leibler divergence. reduction "batchmean": the sum over the first size."""
    reduction = _legacy(size_average, reduce, reduction)
    if log_target:
        values = target.exp() * (target - input)
    else:
        values = target.xlogy(target) - target * input
    if reduction == "batchmean" and input.ndim:
        return values.sum() / input.shape[0]
    return reduced(values, "sum" if reduction == "batchmean" else reduction)


# Yes or no.


@composite("input target weight")
def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """-(t * log(p) + (1 - t) * log(1 - p)), the logarithms not below -100.

    Raises RuntimeError if a probability is outside 0..1, ValueError if the shapes differ.
    """
    if target.shape != input.shape:
        raise ValueError(
            f"Using a target size ({target.shape}) that is different to the input size "
            f"({input.shape}) is deprecated. "
            "Please ensure they have the same size."
        )
    for name, x in (("input", input), ("target", target)):
        check_all((x >= 0) & (x <= 1), "RuntimeError", f"all elements of {name} should be between 0 and 1")
    values = -(target * _log_above(input) + (1 - target) * _log_above(1 - input))
    values = values if weight is None else values * weight
    return reduced(values, _legacy(size_average, reduce, reduction))


def _log_above(p: Tensor) -> Tensor:
    """log(p), at least -100; no gradient where it is cut off."""
    logs = p.log()
    low = full(build, -100, logs._type.ir)
    return build(ops.select, build(ops.lt, logs, low), low, logs)


@composite("input target weight pos_weight")
def binary_cross_entropy_with_logits(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean", pos_weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """`binary_cross_entropy` of sigmoid(input), safe for large inputs. pos_weight: weight of t = 1."""
    if target.shape != input.shape:
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    log_weight = 1 if pos_weight is None else (pos_weight - 1) * target + 1
    values = (1 - target) * input + build(ops.softplus, -input) * log_weight
    values = values if weight is None else values * weight
    return reduced(values, _legacy(size_average, reduce, reduction))
