"""Pooling over windows of the trailing axes, and padding.

The maximum of a window is found by comparing its elements in order, one axis after the other; each comparison
keeps the earlier element unless the later one is larger or nan. So ties go to the first element, in the value
and in the gradient, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitrify.ir import ops
from vitrify.ir.builder import full, scalar
from vitrify.ir.types import TensorType

from .._composite import composite
from .._dispatch import build
from .._narrow import rounded_once
from .._promotion import check_fits
from .._tensor import Tensor
from ._functional_linear import Ints, as_tuple


@composite("input")
def max_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Tensor:  # fmt: skip
    """The largest element of each window of the last axis; padding counts as -inf."""
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@composite("input")
def max_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Tensor:  # fmt: skip
    """The largest element of each window of the last two axes; padding counts as -inf."""
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@composite("input")
def max_pool3d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Tensor:  # fmt: skip
    """The largest element of each window of the last three axes; padding counts as -inf."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@composite("input")
def avg_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """The mean of each window of the last axis."""
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


@composite("input")
def avg_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """The mean of each window of the last two axes.

    count_include_pad: padding counts as zeros of the window. divisor_override: divide by this instead.
    """
    return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


@composite("input")
def adaptive_avg_pool1d(input: Tensor, output_size: int | Sequence[int | None]) -> Tensor:
    """The means of output_size nearly equal parts of the last axis."""
    return _adaptive_avg_pool(1, input, output_size)


@composite("input")
def adaptive_avg_pool2d(input: Tensor, output_size: int | None | Sequence[int | None]) -> Tensor:
    """The means of output_size nearly equal parts of each of the last two axes; None keeps a size."""
    return _adaptive_avg_pool(2, input, output_size)


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Pad the last axes: pad = (before, after) of the last axis, then of the one before it, and so on.

    Negative entries cut off. Raises NotImplementedError for a mode other than "constant".
    """
    if mode != "constant":
        raise NotImplementedError(f"pad: mode {mode!r} is not supported, only 'constant'")
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise RuntimeError(
            "Padding length should be less than or equal to two times the input dimension but got "
            "padding length "
            f"{len(pad)} and input of dimension {input.ndim}"
        )
    kept = input.ndim - len(pad) // 2
    low = (0,) * kept + tuple(pad[-2 - 2 * a] for a in range(len(pad) // 2))
    high = (0,) * kept + tuple(pad[-1 - 2 * a] for a in range(len(pad) // 2))
    if any(n + a + b < 0 for n, a, b in zip(input.shape, low, high, strict=True)):
        raise RuntimeError(f"The padding {list(pad)} leaves a negative size of input {list(input.shape)}")
    value = 0.0 if value is None else value
    check_fits(float(value) if isinstance(value, int) else value, input.dtype)
    result = _pad(_cut(input, low, high), low, high, value)
    return result if max(pad, default=0) > 0 else _copy(result)


def _copy(x: Tensor) -> Tensor:
    """Memory of its own for a result that is no more than a view of the input."""
    return build(ops.cast, x, dtype=x.dtype)


def _cut(x: Tensor, low: Ints, high: Ints) -> Tensor:
    """Take off what negative padding takes off."""
    if min((*low, *high), default=0) >= 0:
        return x
    starts = tuple(max(-a, 0) for a in low)
    stops = tuple(n - max(-b, 0) for n, b in zip(x.shape, high, strict=True))
    return build(ops.slice_, x, starts=starts, stops=stops, steps=(1,) * x.ndim)


def _pad(x: Tensor, low: Ints, high: Ints, value: float) -> Tensor:
    """Add what positive padding adds."""
    low, high = tuple(max(a, 0) for a in low), tuple(max(b, 0) for b in high)
    if not any((*low, *high)):
        return x
    filler = scalar(build, value, x.dtype)
    return build(ops.pad, x, filler, lo=low, hi=high, interior=(0,) * x.ndim)


# Maximum.


def _max_pool(
    rank: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
    return_indices: bool,
) -> Tensor:  # fmt: skip
    if return_indices:
        raise NotImplementedError(f"max_pool{rank}d: return_indices=True is not supported")
    windows = _Windows(f"max_pool{rank}d", rank, input, kernel_size, stride, padding, dilation, ceil_mode)
    lead = (0,) * (input.ndim - rank)
    least = float("-inf") if input.is_floating_point() else _least(input)
    result = _pad(input, lead + windows.low, lead + windows.high, least)
    for a in reversed(range(rank)):
        result = _largest_along(result, len(lead) + a, windows, a)
    return result if max(windows.kernel) > 1 else _copy(result)


def _least(x: Tensor) -> int:
    return 0 if x.dtype.kind in "ub" else -(2 ** (8 * x.itemsize - 1))


def _largest_along(x: Tensor, axis: int, windows: _Windows, a: int) -> Tensor:
    """The largest of the window's places along one axis."""
    step, spread, count = windows.steps[a], windows.spread[a], windows.out[a]
    best: Tensor | None = None
    for place in range(windows.kernel[a]):
        first = place * spread
        item = _strided_slice(x, axis, first, first + (count - 1) * step + 1 if count else first, step)
        best = item if best is None else _larger(best, item)
    assert best is not None
    return best


def _larger(x: Tensor, y: Tensor) -> Tensor:
    """y where it is larger than x or nan, else x."""
    takes = build(ops.gt, y, x)
    if y.is_floating_point():
        takes = build(ops.bit_or, takes, build(ops.ne, y, y))
    return build(ops.select, takes, y, x)


def _strided_slice(x: Tensor, axis: int, start: int, stop: int, step: int) -> Tensor:
    starts, stops, steps = [0] * x.ndim, list(x.shape), [1] * x.ndim
    starts[axis], stops[axis], steps[axis] = start, stop, step
    return build(ops.slice_, x, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))


# Mean.


@rounded_once
def _avg_pool(
    rank: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
    count_include_pad: bool, divisor: int | None,
) -> Tensor:  # fmt: skip
    if divisor == 0:
        raise RuntimeError("divisor must be not zero")
    windows = _Windows(f"avg_pool{rank}d", rank, input, kernel_size, stride, padding, 1, ceil_mode)
    lead = (0,) * (input.ndim - rank)
    total = _window_sums(_pad(input, lead + windows.low, lead + windows.high, 0), rank, windows)
    if divisor is not None:
        return total / divisor
    if windows.low == windows.high and (count_include_pad or not any(windows.low)):
        size = 1
        for k in windows.kernel:
            size *= k
        return total / size
    return total / _counts(input, rank, windows, count_include_pad)


def _window_sums(x: Tensor, rank: int, windows: _Windows) -> Tensor:
    axes = tuple(range(x.ndim - rank, x.ndim))
    spread = build(
        ops.window, x, axes=axes, sizes=windows.kernel, strides=windows.steps, dilations=windows.spread
    )
    places = tuple(range(x.ndim, x.ndim + rank))
    return build(ops.reduce_sum, spread, axes=places, order="sequential")


def _counts(x: Tensor, rank: int, windows: _Windows, count_include_pad: bool) -> Tensor:
    """How many elements each window has: those that are not padding, or, counting padding, those that are not
    beyond the padding that was asked for."""
    asked = windows.low if count_include_pad else (0,) * rank
    sizes = tuple(n + 2 * p for n, p in zip(x.shape[-rank:], asked, strict=True))
    ones = full(build, 1, TensorType(x.dtype, sizes))
    low = tuple(a - p for a, p in zip(windows.low, asked, strict=True))
    high = tuple(b - p for b, p in zip(windows.high, asked, strict=True))
    return _window_sums(_pad(_cut(ones, low, high), low, high, 0), rank, windows)


@rounded_once
def _adaptive_avg_pool(rank: int, input: Tensor, output_size: Any) -> Tensor:
    if input.ndim not in (rank + 1, rank + 2):
        raise RuntimeError(
            f"adaptive_avg_pool{rank}d(): Expected {rank + 1}D or {rank + 2}D tensor, but got "
            f"{list(input.shape)}"
        )
    wanted = (
        (output_size,) * rank if output_size is None or isinstance(output_size, int) else tuple(output_size)
    )
    if len(wanted) != rank:
        raise RuntimeError(f"adaptive_avg_pool{rank}d: output_size must be {rank}")
    result = input
    for a, count in enumerate(wanted):
        result = _mean_of_parts(result, input.ndim - rank + a, count)
    return _copy(result) if result is input else result


def _mean_of_parts(x: Tensor, axis: int, count: int | None) -> Tensor:
    """Part i of the axis of size n runs from floor(i * n / count) to ceil((i + 1) * n / count)."""
    n = x.shape[axis]
    if count is None or count == n:
        return x
    if n % count == 0:
        parts = x.reshape(*x.shape[:axis], count, n // count, *x.shape[axis + 1 :])
        return parts.mean(axis + 1)
    pieces = [
        _strided_slice(x, axis, i * n // count, -((i + 1) * n // -count), 1).mean(axis, keepdim=True)
        for i in range(count)
    ]
    return build(ops.concat, *pieces, axis=axis)


class _Windows:
    """The windows of a pooling: per pooled axis kernel, steps, spread, padding before and after, number.

    Raises RuntimeError if they do not fit the input.
    """

    def __init__(
        self, name: str, rank: int, x: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
        ceil_mode: bool,
    ) -> None:  # fmt: skip
        self.kernel = as_tuple(kernel_size, rank, f"{name}: kernel_size")
        empty = stride is None or (not isinstance(stride, int) and len(stride) == 0)
        self.steps = self.kernel if empty else as_tuple(stride, rank, f"{name}: stride")
        self.low = as_tuple(padding, rank, f"{name}: padding")
        self.spread = as_tuple(dilation, rank, f"{name}: dilation")
        self._check(name, rank, x)
        sizes = tuple(x.shape[-rank:])
        self.out = tuple(self._count(a, n, ceil_mode) for a, n in enumerate(sizes))
        if any(n <= 0 for n in self.out):
            raise RuntimeError(
                f"{name}: Given input size {list(x.shape[-rank - 1 :])} the output size is too small: "
                f"{list(self.out)}"
            )
        self.high = tuple(
            max(p, self._needed(a) - n - p) for a, (n, p) in enumerate(zip(sizes, self.low, strict=True))
        )

    def _check(self, name: str, rank: int, x: Tensor) -> None:
        if x.ndim not in (rank + 1, rank + 2):
            raise RuntimeError(f"{name}: Expected {rank + 1}D or {rank + 2}D input, but got {list(x.shape)}")
        if min(self.kernel) <= 0:
            raise RuntimeError("kernel size should be greater than zero")
        if min(self.steps) <= 0:
            raise RuntimeError("stride should be greater than zero")
        if min(self.spread) <= 0:
            raise RuntimeError("dilation should be greater than zero")
        if any(2 * p > d * (k - 1) + 1 for p, k, d in zip(self.low, self.kernel, self.spread, strict=True)):
            raise RuntimeError(
                f"pad should be at most half of effective kernel size, but got pad={max(self.low)}, "
                f"kernel_size={max(self.kernel)} and dilation={max(self.spread)}"
            )
        if min(self.low) < 0:
            raise RuntimeError("pad must be non-negative")

    def _reach(self, a: int) -> int:
        return self.spread[a] * (self.kernel[a] - 1) + 1

    def _needed(self, a: int) -> int:
        return (self.out[a] - 1) * self.steps[a] + self._reach(a)

    def _count(self, a: int, n: int, ceil_mode: bool) -> int:
        room, step = n + 2 * self.low[a] - self._reach(a), self.steps[a]
        if not ceil_mode:
            return room // step + 1
        count = -(room // -step) + 1
        # The last window must begin inside the input or the padding before it.
        return count - 1 if (count - 1) * step >= n + self.low[a] else count
