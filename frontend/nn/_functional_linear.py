"""Linear maps and convolutions: each one contraction, with a bias added."""

from __future__ import annotations

from typing import Any

from vitrify.ir import ops
from vitrify.ir.contraction import ContractSpec
from vitrify.ir.expr import Dim, symbol
from vitrify.ir.strided import StridedType

from .._composite import composite
from .._dispatch import build, remembered
from .._functions import linalg
from .._functions.linalg import contract, in_dtype_of
from .._functions.pointwise import TYPE_NAMES
from .._tensor import Tensor

Ints = tuple[int, ...]


@composite("weight/input input/weight", small=False)
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input: [..., k], weight: [n, k] or [k], bias: [n] -> input @ weight.T + bias: [..., n].

    Raises RuntimeError if the sizes or dtypes do not fit.
    """
    _check_linear(input._type, weight._type, None if bias is None else bias._type)
    if input.ndim <= 2:
        return linalg.linear(input, weight, bias)
    rows = linalg.linear(input.reshape(-1, input.shape[-1]), weight, bias)
    return rows.reshape(*input.shape[:-1], *weight.shape[:-1])


@remembered
def _check_linear(input: StridedType, weight: StridedType, bias: StridedType | None) -> None:
    if len(weight.shape) not in (1, 2):
        raise RuntimeError(f"linear(): expected a weight of 1 or 2 dimensions, got {len(weight.shape)}")
    if not input.shape:
        raise RuntimeError("both arguments to linear need to be at least 1D, but they are 0D and 2D")
    for names, x, y in (("mat1 and mat2", input, weight), ("mat2 and bias", weight, bias)):
        if y is not None and x.dtype is not y.dtype:
            raise RuntimeError(
                f"{names} must have the same dtype, but got {TYPE_NAMES[x.dtype]} and {TYPE_NAMES[y.dtype]}"
            )
    if bias is not None and bias.shape not in (weight.shape[:-1], (1,), ()):
        raise RuntimeError(
            f"The expanded size of the tensor ({weight.shape[0]}) must match the existing size "
            f"({bias.shape[-1]}) at non-singleton dimension {len(input.shape) - 1}."
        )


@composite("input1/input2 input1/weight input2/input1 input2/weight weight/input1 weight/input2")
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input1: [..., i], input2: [..., j], weight: [n, i, j] -> input1 @ weight[n] @ input2: [..., n]."""
    n, i, j = weight.shape
    rows1, rows2 = input1.reshape(-1, i), input2.reshape(-1, j)
    left = contract(rows1, weight, "mi", "nij", "mnj", "i")
    product = contract(left, rows2, "mnj", "mj", "mn", "j")
    product = product.reshape(*input1.shape[:-1], n)
    return product if bias is None else product + bias


@composite("input weight", small=False)
def conv1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """input: [n, c, l], weight: [o, c / groups, k] -> [n, o, m].

    m = (l + 2 * padding - dilation * (k - 1) - 1) // stride + 1.
    """
    return _convolve(1, input, weight, bias, stride, padding, dilation, groups)


@composite("input weight", small=False)
def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """input: [n, c, h, w], weight: [o, c / groups, kh, kw] -> [n, o, oh, ow]. padding "same" keeps h and w.

    Raises RuntimeError if sizes or dtypes do not fit.
    """
    return _convolve(2, input, weight, bias, stride, padding, dilation, groups)


@composite("input weight", small=False)
def conv3d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """input: [n, c, d, h, w], weight: [o, c / groups, kd, kh, kw]; sizes as for `conv1d`."""
    return _convolve(3, input, weight, bias, stride, padding, dilation, groups)


def as_tuple(value: Any, rank: int, name: str) -> Ints:
    """An int for every axis, or one int each. Raises RuntimeError for another number of them."""
    values = (value,) if isinstance(value, int) else tuple(int(v) for v in value)
    if len(values) == 1:
        return values * rank
    if len(values) != rank:
        raise RuntimeError(f"{name} must have one entry or {rank}, got {list(values)}")
    return values


def _convolve(
    rank: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any,
    groups: int,
) -> Tensor:  # fmt: skip
    if input.ndim == rank + 1:
        batch = _convolve(rank, input.unsqueeze(0), weight, bias, stride, padding, dilation, groups)
        return batch.squeeze(0)
    _check_conv(rank, input, weight, bias, groups)
    steps, spread = as_tuple(stride, rank, "stride"), as_tuple(dilation, rank, "dilation")
    kernel = tuple(weight.shape[2:])
    low, total = _paddings(rank, padding, kernel, steps, spread)
    reach = tuple(d * (k - 1) + 1 for d, k in zip(spread, kernel, strict=True))
    padded = tuple(n + p for n, p in zip(input.shape[2:], total, strict=True))
    _check_conv_sizes(steps, spread, padded, reach)
    out = tuple((n - r) // s + 1 for n, r, s in zip(padded, reach, steps, strict=True))
    x, w = _grouped(input, weight, groups)
    sums = build(ops.contract, x, w, spec=conv_spec(steps, spread, low, out, groups > 1))
    result = in_dtype_of(input, sums)
    if groups > 1:
        result = result.reshape(input.shape[0], weight.shape[0], *out)
    return result if bias is None else result + bias.reshape(-1, *(1,) * rank)


def conv_spec(steps: Ints, spread: Ints, low: Ints, out: Ints, grouped: bool) -> ContractSpec:
    """The index maps: out[n, (g), co, o...] is the sum of x[n, (g), ci, step * o + spread * k - low] times
    w[(g), co, ci, k...] over k..., then ci (fastest)."""
    rank = len(out)
    places, taps = [f"o{a}" for a in range(rank)], [f"k{a}" for a in range(rank)]
    reads: list[Dim] = [
        symbol(o) * s + symbol(k) * d - p
        for o, k, s, d, p in zip(places, taps, steps, spread, low, strict=True)
    ]
    group: list[str] = ["g"] if grouped else []
    return ContractSpec(
        lhs=(*map(symbol, ["n", *group, "ci"]), *reads),
        rhs=tuple(map(symbol, [*group, "co", "ci", *taps])),
        out=("n", *group, "co", *places),
        over=(*taps, "ci"),
        extents=tuple(zip(places, out, strict=True)),
    )


def _grouped(input: Tensor, weight: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Input and weight with an axis of their own for the groups, if there are several."""
    if groups == 1:
        return input, weight
    n, channels = input.shape[:2]
    outputs, per_group = weight.shape[:2]
    x = input.reshape(n, groups, channels // groups, *input.shape[2:])
    return x, weight.reshape(groups, outputs // groups, per_group, *weight.shape[2:])


def _paddings(rank: int, padding: Any, kernel: Ints, steps: Ints, spread: Ints) -> tuple[Ints, Ints]:
    """Padding before the first element, and on both sides together, of each axis."""
    if padding == "valid":
        return (0,) * rank, (0,) * rank
    if padding == "same":
        if any(s != 1 for s in steps):
            raise RuntimeError("padding='same' is not supported for strided convolutions")
        total = tuple(d * (k - 1) for d, k in zip(spread, kernel, strict=True))
        return tuple(t // 2 for t in total), total
    if isinstance(padding, str):
        raise RuntimeError(f"Invalid padding string: '{padding}'")
    low = as_tuple(padding, rank, "padding")
    if any(p < 0 for p in low):
        raise RuntimeError("negative padding is not supported")
    return low, tuple(2 * p for p in low)


def _check_conv(rank: int, input: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> None:
    name = f"conv{rank}d"
    if input.ndim != rank + 2:
        raise RuntimeError(
            f"Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input to {name}, but got "
            "input of size: "
            f"{list(input.shape)}"
        )
    if weight.ndim != rank + 2:
        raise RuntimeError(f"weight should have at least three dimensions and as many as the input of {name}")
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")
    outputs, per_group = weight.shape[:2]
    if input.shape[1] != per_group * groups:
        raise RuntimeError(
            f"Given groups={groups}, weight of size {list(weight.shape)}, expected "
            f"input{list(input.shape)} to have "
            f"{per_group * groups} channels, but got {input.shape[1]} channels instead"
        )
    if outputs % groups != 0:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but "
            "got weight of "
            f"size {list(weight.shape)} instead"
        )
    if input.dtype is not weight.dtype:
        raise RuntimeError(
            f"Input type ({input.dtype.name}) and weight type ({weight.dtype.name}) should be the same"
        )
    if bias is not None and (bias.ndim != 1 or bias.shape[0] != outputs):
        raise RuntimeError(
            f"Given weight of size {list(weight.shape)}, expected bias to be 1-dimensional with "
            f"{outputs} elements, "
            f"but got bias of size {list(bias.shape)} instead"
        )
    if bias is not None and bias.dtype is not input.dtype:
        raise RuntimeError(
            f"Input type ({input.dtype.name}) and bias type ({bias.dtype.name}) should be the same"
        )


def _check_conv_sizes(steps: Ints, spread: Ints, padded: Ints, reach: Ints) -> None:
    if any(s <= 0 for s in steps):
        raise RuntimeError("non-positive stride is not supported")
    if any(d <= 0 for d in spread):
        raise RuntimeError("dilation should be greater than zero")
    if any(r > n for r, n in zip(reach, padded, strict=True)):
        sizes = " x ".join(map(str, padded))
        kernel = " x ".join(map(str, reach))
        raise RuntimeError(
            f"Calculated padded input size per channel: ({sizes}). Kernel size: ({kernel}). Kernel "
            "size can't be "
            "greater than actual input size"
        )
