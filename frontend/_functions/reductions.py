"""Sums, extremes, means and the like over all or some dimensions."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any

from vitrify.ir import dtypes, ops
from vitrify.ir.builder import GraphBuilder, reduce
from vitrify.ir.dtypes import DType
from vitrify.ir.opdef import BoundOp, OpDef, bind
from vitrify.ir.strided import StridedType

from .._composite import composite
from .._dispatch import apply, apply1, build, remembered
from .._narrow import rounded_once
from .._promotion import as_operand, get_default_dtype
from .._tensor import Tensor, wrap_dim
from .casting import cast
from .compare import eq, isnan, logical_not, ne, where
from .pointwise import TYPE_NAMES, div, exp, log, maximum, minimum, mul, pow, sqrt, sub
from .pointwise import abs as absolute

Dims = int | Sequence[int] | None

#: Results with names, as PyTorch has them: `x.max(1).indices`.
_Pairs: dict[str, Callable[..., Any]] = {
    name: namedtuple(name, ["values", "indices"])
    for name in ("max", "min", "sort", "median", "topk", "kthvalue")
}


def dims_of(dim: Dims, rank: int, none_is_all: bool = True) -> tuple[int, ...]:
    """Dimensions from the front, ascending. Raises IndexError out of range, RuntimeError for a repetition."""
    return _dims_of(tuple(dim) if isinstance(dim, list) else dim, rank, none_is_all)


@remembered
def _dims_of(dim: int | tuple[int, ...] | None, rank: int, none_is_all: bool) -> tuple[int, ...]:
    if dim is None or (none_is_all and isinstance(dim, tuple) and not dim):
        return tuple(range(rank))
    dims = [wrap_dim(d, rank) for d in ([dim] if isinstance(dim, int) else dim)]
    for d in dims:
        if dims.count(d) > 1:
            raise RuntimeError(f"dim {d} appears multiple times in the list of dims")
    return tuple(sorted(dims)) if rank else ()


def _kept(result: Tensor, x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    return apply1(_keeping(x._type, axes), result) if keepdim and axes else result


@remembered
def _keeping(have: StridedType, axes: tuple[int, ...]) -> BoundOp:
    return bind(ops.reshape, shape=tuple(1 if a in axes else n for a, n in enumerate(have.shape)))


def _reduce(opdef: OpDef, x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    result = x
    for step in _reduction(opdef, x._type, axes):
        result = apply1(step, result)
    return _kept(result, x, axes, keepdim)


@remembered
def _reduction(opdef: OpDef, have: StridedType, axes: tuple[int, ...]) -> tuple[BoundOp, ...]:
    """The ops of a reduction: trailing axes first, as `ir.builder.reduce` has it; over none a copy."""
    if not axes:
        return (bind(ops.cast, dtype=have.dtype),)
    build = GraphBuilder()
    reduce(build, opdef, build.input(have.ir), axes)
    return tuple(bind(step.opdef, **step.attrs) for step in build.operations)


def _summable(x: Tensor, dtype: DType | None) -> Tensor:
    if dtype is None:
        dtype = x._type.dtype if x._type.dtype.kind in "fc" else dtypes.int64
    return cast(x, dtype)


def sum(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """The sum over `dim` (all dimensions by default); integers and bools are summed in int64.

    >>> vitrify.ones(2, 3).sum(dim=1)
    tensor([3., 3.])
    """
    x = _summable(input, dtype)
    return _reduce(ops.reduce_sum, x, dims_of(dim, x.ndim), keepdim)


@composite("input")
def nansum(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """The sum over `dim`, a nan counting as zero."""
    return sum(input.masked_fill(isnan(input), 0), dim, keepdim, dtype=dtype)


def prod(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """The product over `dim` (all dimensions by default)."""
    x = _summable(input, dtype)
    return _reduce(ops.reduce_prod, x, dims_of(dim, x.ndim), keepdim)


def _count(x: Tensor, axes: tuple[int, ...]) -> int:
    return math.prod(x._type.shape[a] for a in axes)


@rounded_once
def mean(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """The mean over `dim` (all dimensions by default); nan over nothing. Raises RuntimeError for integers."""
    x = input if dtype is None else cast(input, dtype)
    if x._type.dtype.kind not in "fc":
        name = TYPE_NAMES[x._type.dtype]
        if dtype is None:
            raise RuntimeError(
                "mean(): could not infer output dtype. Input dtype must be either a floating point or "
                "complex dtype. "
                f"Got: {name}"
            )
        raise RuntimeError(
            f"mean(): input dtype should be either floating point or complex dtypes. Got {name} instead."
        )
    axes = dims_of(dim, x.ndim)
    total = _reduce(ops.reduce_sum, x, axes, keepdim)
    return div(total, _count(x, axes))


@composite("input")
@rounded_once
def nanmean(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """The mean over `dim` of the elements that are not nan."""
    return div(nansum(input, dim, keepdim, dtype=dtype), sum(logical_not(isnan(input)), dim, keepdim))


@composite("input")
@rounded_once
def var(
    input: Tensor, dim: Dims | bool = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: float | None = None,
) -> Tensor:  # fmt: skip
    """The variance over `dim`, in two passes; divided by n - correction (1 by default)."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    if not input.is_floating_point():
        raise RuntimeError("std and var only support floating point and complex dtypes")
    axes = dims_of(dim, input.ndim)
    centred = sub(input, mean(input, axes, keepdim=True) if axes else input)
    total = _reduce(ops.reduce_sum, mul(centred, centred), axes, keepdim)
    return div(total, max_of(_count(input, axes) - correction, 0))


def max_of(a: float, b: float) -> float:
    """The larger of two numbers."""
    return a if a > b else b


@composite("input result")
@rounded_once
def std(
    input: Tensor, dim: Dims | bool = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: float | None = None,
) -> Tensor:  # fmt: skip
    """The standard deviation over `dim`: the root of `var`."""
    return _root(var(input, dim, unbiased, keepdim, correction=correction), 2.0)


def _root(x: Tensor, degree: float) -> Tensor:
    """x ** (1 / degree) of what is not negative; its derivative at 0 is 0, as PyTorch has it for norms and
    deviations, and not infinite."""
    zero = eq(x, 0)
    far = where(zero, 1, x)
    return where(zero, x, sqrt(far) if degree == 2 else pow(far, 1.0 / degree))


@composite("input")
@rounded_once
def var_mean(input: Tensor, dim: Dims | bool = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: float | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Variance and mean over `dim`."""
    return var(input, dim, unbiased, keepdim, correction=correction), mean(input, dim, keepdim)


@composite("input result")
@rounded_once
def std_mean(input: Tensor, dim: Dims | bool = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: float | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Standard deviation and mean over `dim`."""
    return std(input, dim, unbiased, keepdim, correction=correction), mean(input, dim, keepdim)


def _nonempty(x: Tensor, axes: tuple[int, ...], name: str, dim_given: bool, error: type[Exception]) -> None:
    for a in axes:
        if x._type.shape[a] == 0:
            if dim_given:
                raise IndexError(f"{name}(): Expected reduction dim {a} to have non-zero size.")
            raise error(
                f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the "
                "reduction dim "
                "with the 'dim' argument."
            )


def _extreme(opdef: OpDef, x: Tensor, dim: Dims, keepdim: bool, name: str) -> Tensor:
    axes = dims_of(dim, x.ndim)
    _nonempty(x, axes, name, dim is not None, RuntimeError)
    return _reduce(opdef, x, axes, keepdim)


def amax(input: Tensor, dim: Dims = (), keepdim: bool = False) -> Tensor:
    """The largest element over `dim`; nan if there is one. The gradient is shared evenly among equal ones."""
    return _extreme(ops.reduce_max, input, dim, keepdim, "amax")


def amin(input: Tensor, dim: Dims = (), keepdim: bool = False) -> Tensor:
    """The smallest element over `dim`; nan if there is one. The gradient is shared evenly among
    equal ones."""
    return _extreme(ops.reduce_min, input, dim, keepdim, "amin")


def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The smallest and the largest element over `dim`."""
    dims: Dims = () if dim is None else dim
    return amin(input, dims, keepdim), amax(input, dims, keepdim)


def _arg(opdef: OpDef, x: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    axes = dims_of(dim, x.ndim)
    if x._type.dtype is dtypes.bool_:
        raise RuntimeError(f"{opdef.name}(): does not support bool input")
    _nonempty(x, axes, opdef.name, dim is not None, IndexError)
    if not axes:
        return cast(x, dtypes.int64, copy=True) * 0
    return _kept(
        build(opdef, x, axes=axes, order="lanes" if axes[-1] == x.ndim - 1 else "rows"), x, axes, keepdim
    )


def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The place of the first largest element along `dim`, or in the flattened tensor."""
    return _arg(ops.argmax, input, dim, keepdim)


def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The place of the first smallest element along `dim`, or in the flattened tensor."""
    return _arg(ops.argmin, input, dim, keepdim)


def _with_indices(arg: Callable[..., Tensor], name: str, x: Tensor, dim: int, keepdim: bool) -> Any:
    from .gathering import gather

    if x.ndim == 0:
        wrap_dim(dim, 0)
        return _Pairs[name](cast(x, x.dtype, copy=True), cast(x, dtypes.int64, copy=True) * 0)
    indices = arg(cast(x, dtypes.uint8) if x._type.dtype is dtypes.bool_ else x, dim, True)
    values = gather(x, dim, indices)
    if not keepdim:
        values, indices = values.squeeze(dim), indices.squeeze(dim)
    return _Pairs[name](values, indices)


def max(input: Tensor, dim: Tensor | int | None = None, keepdim: bool = False) -> Any:
    """The largest element; along a dimension (values, indices); of two tensors the larger elements.

    >>> vitrify.tensor([[1., 3.], [4., 2.]]).max(dim=1).indices
    tensor([1, 0])
    """
    if isinstance(dim, Tensor):
        return maximum(input, dim)
    if dim is None:
        return _extreme(ops.reduce_max, input, None, False, "max")
    return _with_indices(argmax, "max", input, dim, keepdim)


def min(input: Tensor, dim: Tensor | int | None = None, keepdim: bool = False) -> Any:
    """The smallest element; along a dimension (values, indices); of two tensors the smaller elements."""
    if isinstance(dim, Tensor):
        return minimum(input, dim)
    if dim is None:
        return _extreme(ops.reduce_min, input, None, False, "min")
    return _with_indices(argmin, "min", input, dim, keepdim)


def any(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether some element is not zero; False over nothing."""
    return _truths(ops.reduce_max, input, dim, keepdim, nothing=False)


def all(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether no element is zero; True over nothing."""
    return _truths(ops.reduce_min, input, dim, keepdim, nothing=True)


def _truths(opdef: OpDef, x: Tensor, dim: Dims, keepdim: bool, nothing: bool) -> Tensor:
    truth = cast(x, dtypes.bool_)
    axes = dims_of(dim, x.ndim, none_is_all=False)
    if _count(x, axes) == 0:
        shape = tuple(n for a, n in enumerate(x._type.shape) if a not in axes)
        result = _kept(
            cast(as_operand(nothing, dtypes.bool_, shape), dtypes.bool_, copy=True), x, axes, keepdim
        )
    else:
        result = _reduce(opdef, truth, axes, keepdim)
    return cast(result, dtypes.uint8) if x._type.dtype is dtypes.uint8 else result


@composite()
def count_nonzero(input: Tensor, dim: Dims = None) -> Tensor:
    """The number of elements that are not zero."""
    return sum(ne(input, 0), dim)


@composite("input result")
@rounded_once
def logsumexp(input: Tensor, dim: int | Sequence[int], keepdim: bool = False) -> Tensor:
    """log(sum(exp(input))) over `dim`, without overflow."""
    x = input if input.is_floating_point() else cast(input, get_default_dtype())
    axes = dims_of(dim, x.ndim)
    if _count(x, axes) == 0:
        return log(sum(exp(x), axes, keepdim))
    largest = amax(x, axes, keepdim=True).detach()
    largest = largest.masked_fill(absolute(largest) == math.inf, 0)
    total = log(sum(exp(sub(x, largest)), axes, keepdim))
    return total + (largest if keepdim else largest.reshape(total.shape))


@composite("input result")
@rounded_once
def norm(
    input: Tensor,
    p: float | str | None = "fro",
    dim: Dims = None,
    keepdim: bool = False,
    dtype: DType | None = None,
) -> Tensor:
    """The p-norm over `dim`: (sum |x|^p)^(1/p); inf and -inf give the largest and smallest magnitude."""
    x = input if dtype is None else cast(input, dtype)
    if not x.is_floating_point():
        raise RuntimeError(
            f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got "
            f"{TYPE_NAMES[x.dtype]}"
        )
    if isinstance(p, str) and p not in ("fro", "inf", "-inf"):
        raise RuntimeError(f"linalg.norm: Order {p} not supported.")
    p = 2.0 if p in ("fro", None) else float(p)
    if p == math.inf:
        return amax(absolute(x), () if dim is None else dim, keepdim)
    if p == -math.inf:
        return amin(absolute(x), () if dim is None else dim, keepdim)
    if p == 0:
        return cast(sum(ne(x, 0), dim, keepdim), x.dtype)
    if p == 1:
        return sum(absolute(x), dim, keepdim)
    powers = mul(x, x) if p == 2 else pow(absolute(x), p)
    return _root(sum(powers, dim, keepdim), p)


def cumsum(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """The sums of all elements up to each one along `dim`, added one after the other."""
    x = _summable(input, dtype)
    dim = wrap_dim(dim, x.ndim)
    return apply(bind(ops.cumsum, axis=dim), x) if x.ndim else cast(x, x.dtype, copy=True)
