"""Comparisons, logic and choice."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from vitrify.ir import dtypes, ops
from vitrify.ir.opdef import OpDef, bind

from .._composite import composite
from .._dispatch import apply
from .._promotion import Number, as_element, as_operand, broadcast_shapes, number_dtype, result_type
from .._tensor import Tensor
from .pointwise import TYPE_NAMES, abs, floating, pair


def _comparison(opdef: OpDef, doc: str) -> Callable[[Any, Any], Tensor]:
    op = bind(opdef)

    def function(input: Tensor, other: Tensor | Number) -> Tensor:
        return apply(op, *pair(input, other))

    function.__name__ = function.__qualname__ = opdef.name
    function.__doc__ = doc
    return function


eq = _comparison(ops.eq, "Whether elements are equal; False where either is nan.")
ne = _comparison(ops.ne, "Whether elements differ; True where either is nan.")
lt = _comparison(ops.lt, "input < other, element by element.")
le = _comparison(ops.le, "input <= other, element by element.")
gt = _comparison(ops.gt, "input > other, element by element.")
ge = _comparison(ops.ge, "input >= other, element by element.")


def _truth(x: Any) -> Tensor:
    """Whether each element is not zero."""
    if isinstance(x, Tensor):
        return as_operand(x, dtypes.bool_, x._type.shape)
    return as_operand(bool(x), dtypes.bool_)


def _logical(opdef: OpDef, doc: str, name: str) -> Callable[[Any, Any], Tensor]:
    def function(input: Tensor, other: Tensor) -> Tensor:
        return apply(bind(opdef), *pair(_truth(input), _truth(other)))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


logical_and = _logical(ops.bit_and, "Whether both elements are non-zero.", "logical_and")
logical_or = _logical(ops.bit_or, "Whether either element is non-zero.", "logical_or")
logical_xor = _logical(ops.bit_xor, "Whether exactly one of the elements is non-zero.", "logical_xor")


def logical_not(input: Tensor) -> Tensor:
    """Whether each element is zero."""
    return apply(bind(ops.bit_not), _truth(input))


def isnan(input: Tensor) -> Tensor:
    """Whether each element is nan."""
    return ne(input, input)


@composite(small=False)
def isinf(input: Tensor) -> Tensor:
    """Whether each element is infinite."""
    return eq(abs(input), math.inf) if input.is_floating_point() else _never(input)


def isposinf(input: Tensor) -> Tensor:
    """Whether each element is plus infinity."""
    return eq(input, math.inf) if input.is_floating_point() else _never(input)


def isneginf(input: Tensor) -> Tensor:
    """Whether each element is minus infinity."""
    return eq(input, -math.inf) if input.is_floating_point() else _never(input)


@composite(small=False)
def isfinite(input: Tensor) -> Tensor:
    """Whether each element is neither infinite nor nan."""
    return lt(abs(input), math.inf) if input.is_floating_point() else logical_not(_never(input))


def _never(x: Tensor) -> Tensor:
    return ne(x, x)


@composite(small=False)
def signbit(input: Tensor) -> Tensor:
    """Whether each element is negative; -0.0 counts as such."""
    if not input.is_floating_point():
        return lt(input, 0)
    one_over = apply(bind(ops.div), as_operand(1, input.dtype, input._type.shape), input)
    return logical_or(lt(input, 0), logical_and(eq(input, 0), lt(one_over, 0)))


def where(
    condition: Tensor, input: Tensor | Number | None = None, other: Tensor | Number | None = None
) -> Any:
    """input where the condition holds, other elsewhere; with the condition alone, the places where it holds.

    >>> x = vitrify.tensor([-1., 2.])
    >>> vitrify.where(x > 0, x, 0.)
    tensor([0., 2.])
    """
    if (input is None) is not (other is None):
        raise TypeError("where() takes a condition alone, or two more operands")
    if input is None and other is None:
        from .indexing import nonzero

        return nonzero(condition, as_tuple=True)
    if condition._type.dtype is not dtypes.bool_:
        if condition._type.dtype is not dtypes.uint8:
            raise RuntimeError(
                "where expected condition to be a boolean tensor, but got a tensor with dtype "
                + TYPE_NAMES.get(condition.dtype, condition.dtype.name.capitalize())
            )
        condition = _truth(condition)
    if isinstance(input, Tensor) or isinstance(other, Tensor):
        dtype = result_type(input, other)
    else:
        dtype = max((number_dtype(v) for v in (input, other)), key=lambda d: "biufc".index(d.kind))
    shape = broadcast_shapes(*(v._type.shape for v in (condition, input, other) if isinstance(v, Tensor)))
    condition = as_operand(condition, dtypes.bool_, shape)
    return apply(
        bind(ops.select), condition, as_element(input, dtype, shape), as_element(other, dtype, shape)
    )


def masked_fill(input: Tensor, mask: Tensor, value: Tensor | Number) -> Tensor:
    """input with `value` (a number or a tensor of rank 0) wherever the mask is True."""
    if mask._type.dtype is not dtypes.bool_:
        raise RuntimeError(
            f"masked_fill_ only supports boolean masks, but got mask with dtype {mask.dtype.name}"
        )
    if isinstance(value, Tensor) and value.ndim:
        raise RuntimeError(
            "masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
            f"{value.ndim} dimension(s)."
        )
    if isinstance(value, float) and input.dtype.kind not in "fc":
        raise RuntimeError(f"value cannot be converted to type {input.dtype.name} without overflow")
    shape = broadcast_shapes(input._type.shape, mask._type.shape)
    filled = as_element(value, input.dtype, shape)
    return apply(
        bind(ops.select), as_operand(mask, dtypes.bool_, shape), filled, as_operand(input, input.dtype, shape)
    )


@composite()
def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Whether |input - other| <= atol + rtol * |other|, or both are the same infinity."""
    if input.dtype is not other.dtype:
        raise RuntimeError(f"{input.dtype.name} did not match {other.dtype.name}")
    close = eq(input, other)
    if equal_nan and input.is_floating_point():
        close = logical_or(close, logical_and(isnan(input), isnan(other)))
    x, y = floating(input), floating(other)
    allowed = apply(bind(ops.add), *pair(abs(y) * rtol, atol))
    near = logical_and(le(abs(x - y), allowed), isfinite(y))
    return logical_or(close, near)


def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether all elements are close; see `isclose`."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and elements."""
    if input._type.shape != other._type.shape:
        return False
    return bool(eq(input, other).all())


greater, greater_equal, less, less_equal, not_equal = gt, ge, lt, le, ne
