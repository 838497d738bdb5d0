"""Arithmetic, powers, roundings and elementary functions, element by element, with promotion and
broadcasting.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from vitrify.ir import dtypes, ops
from vitrify.ir.dtypes import DType
from vitrify.ir.opdef import BoundOp, OpDef, bind

from .._composite import composite
from .._dispatch import apply, apply1, apply2
from .._narrow import rounded_once, widened
from .._promotion import (
    Number,
    as_operand,
    check_fits,
    get_default_dtype,
    narrow_beside,
    number_beside,
    operands,
    result_type,
    unified,
)
from .._tensor import Tensor

#: PyTorch's names of the dtypes, as its error messages have them.
TYPE_NAMES = {
    dtypes.float32: "Float", dtypes.float64: "Double", dtypes.float16: "Half", dtypes.bfloat16: "BFloat16",
    dtypes.int8: "Char", dtypes.int16: "Short", dtypes.int32: "Int", dtypes.int64: "Long",
    dtypes.uint8: "Byte", dtypes.bool_: "Bool", dtypes.complex64: "ComplexFloat",
    dtypes.complex128: "ComplexDouble",
}  # fmt: skip


def pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Two operands, of which one may be a Python number, promoted and broadcast."""
    if isinstance(x, Tensor):
        if isinstance(y, Tensor):
            return (x, y) if x._type is y._type else unified(x, y)
        if y.__class__ is float or y.__class__ is int:
            number = number_beside(x._type, y)
            if number is not None:
                return x, number
    x, y = (v.item() if isinstance(v, np.generic) else v for v in (x, y))
    check_number(x, y)
    a, b = operands(x, y)
    return a, b


def check_number(*values: Any) -> None:
    """Raises TypeError unless all are tensors or Python numbers, and one is a tensor."""
    for v in values:
        if not isinstance(v, (Tensor, bool, int, float, complex)) and not hasattr(v, "_traced_scalar"):
            raise TypeError(f"expected a Tensor or a number, got {type(v).__name__}")
    if not any(isinstance(v, Tensor) for v in values):
        raise TypeError("expected at least one Tensor, got numbers only")


def floating(x: Tensor, name: str = "") -> Tensor:
    """The tensor itself, or in default dtype if it holds integers or bools."""
    check_tensor(x, name)
    if x._type.dtype.kind in "fc":
        return x
    return apply(bind(ops.cast, dtype=get_default_dtype()), x)


def check_tensor(x: Any, name: str) -> None:
    """Raises TypeError, as PyTorch does, unless x is a tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(x).__name__}")


def not_implemented(name: str, dtype: DType) -> NotImplementedError:
    """What PyTorch raises for a dtype that a function does not take."""
    return NotImplementedError(f"\"{name}\" not implemented for '{TYPE_NAMES[dtype]}'")


def unary(opdef: OpDef, doc: str) -> Callable[[Tensor], Tensor]:
    """A function of floating point tensors; integers and bools are converted to the default dtype."""
    op = bind(opdef)

    def function(input: Tensor) -> Tensor:
        return apply(op, floating(input, function.__name__))

    function.__name__ = function.__qualname__ = opdef.name.rstrip("_")
    function.__doc__ = doc
    return function


def rounding(opdef: OpDef, doc: str) -> Callable[[Tensor], Tensor]:
    """A function that leaves integers as they are."""
    op = bind(opdef)

    def function(input: Tensor) -> Tensor:
        check_tensor(input, function.__name__)
        if input._type.dtype.is_integer:
            return apply(bind(ops.cast, dtype=input.dtype), input)
        if input._type.dtype is dtypes.bool_:
            raise not_implemented(function.__name__ + "_vml_cpu", dtypes.bool_)
        return apply(op, input)

    function.__name__ = function.__qualname__ = opdef.name.rstrip("_")
    function.__doc__ = doc
    return function


exp = unary(ops.exp, "e to the power of each element.")
log = unary(ops.log, "Natural logarithm of each element; nan below zero, -inf at zero.")
sin = unary(ops.sin, "Sine of each element, in radians.")
cos = unary(ops.cos, "Cosine of each element, in radians.")
tanh = unary(ops.tanh, "Hyperbolic tangent of each element.")
erf = unary(ops.erf, "Error function of each element.")
sqrt = unary(ops.sqrt, "Square root of each element; nan below zero.")
rsqrt = unary(ops.rsqrt, "1 / sqrt(x) of each element.")
sigmoid = unary(ops.sigmoid, "1 / (1 + exp(-x)) of each element.")
floor = rounding(ops.floor, "The largest integer not above each element.")
ceil = rounding(ops.ceil, "The smallest integer not below each element.")
trunc = rounding(ops.trunc, "Each element without its fraction.")

_ADD, _SUB, _MUL, _DIV = bind(ops.add), bind(ops.sub), bind(ops.mul), bind(ops.div)
_OR, _AND = bind(ops.bit_or), bind(ops.bit_and)


def _number_in_full(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A product or quotient of 16-bit floats and a number that they can't hold is computed in float32."""

    @functools.wraps(function)
    def called(input: Any, other: Any, **options: Any) -> Tensor:
        dtype = narrow_beside(input, other)
        if dtype is None:
            return function(input, other, **options)
        return apply(bind(ops.cast, dtype=dtype), function(widened(input), widened(other), **options))

    return called


def add(input: Tensor | Number, other: Tensor | Number, *, alpha: Number = 1) -> Tensor:
    """input + alpha * other; on bools the logical or.

    >>> vitrify.add(vitrify.tensor([1, 2]), 0.5)
    tensor([1.5000, 2.5000])
    """
    x, y = pair(input, _scaled(input, other, alpha))
    return apply(_OR if x._type.dtype is dtypes.bool_ else _ADD, x, y)


def sub(input: Tensor | Number, other: Tensor | Number, *, alpha: Number = 1) -> Tensor:
    """input - alpha * other. Raises RuntimeError for bools."""
    if any(_is_bool(v) for v in (input, other)):
        both = _is_bool(input) and _is_bool(other)
        way_out = (
            "Use the `^` or `logical_xor()` operator instead."
            if both
            else "If you are trying to invert a mask, use the `~` or `logical_not()` operator instead."
        )
        raise RuntimeError(
            f"Subtraction, the `-` operator, with {'two bool tensors' if both else 'a bool tensor'} is not "
            f"supported. {way_out}"
        )
    x, y = pair(input, _scaled(input, other, alpha))
    return apply(_SUB, x, y)


def _is_bool(value: Any) -> bool:
    return value is True or value is False or isinstance(value, Tensor) and value.dtype is dtypes.bool_


def _scaled(input: Any, other: Any, alpha: Any) -> Any:
    if alpha.__class__ is int and alpha == 1:
        return other
    if isinstance(alpha, float) and result_type(input, other).kind not in "fc":
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if isinstance(other, Tensor):
        dtype = result_type(input, other)
        x = as_operand(other, dtype, other._type.shape)
        return apply(_MUL, x, as_operand(alpha, dtype, x._type.shape))
    return other * alpha


def rsub(input: Tensor, other: Tensor | Number, *, alpha: Number = 1) -> Tensor:
    """other - alpha * input."""
    return sub(other, input, alpha=alpha)


@_number_in_full
def mul(input: Any, other: Any) -> Tensor:
    """input * other; on bools the logical and."""
    x, y = pair(input, other)
    return apply(_AND if x._type.dtype is dtypes.bool_ else _MUL, x, y)


@_number_in_full
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """input / other, in floating point; with rounding_mode "trunc" or "floor" rounded, in the
    promoted dtype."""
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode == "trunc":
        return _trunc_divide(input, other)
    if rounding_mode is not None:
        raise RuntimeError(
            "div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '"
            + rounding_mode
            + "'"
        )
    if not (isinstance(input, Tensor) and (isinstance(other, Tensor) or input._type.dtype.is_floating_point)):
        check_number(*(v.item() if isinstance(v, np.generic) else v for v in (input, other)))
        dtype = result_type(input, other)
        return apply(
            _DIV, *operands(input, other, dtype=dtype if dtype.kind in "fc" else get_default_dtype())
        )
    x, y = pair(input, other)
    return apply(_DIV, floating(x), floating(y))


@composite()
def _trunc_divide(input: Any, other: Any) -> Tensor:
    x, y = pair(input, other)
    if x._type.dtype.is_floating_point:
        return apply(bind(ops.trunc), apply(_DIV, x, y))
    down = apply(bind(ops.floor_div), x, y)
    inexact = apply(bind(ops.ne), apply(_MUL, down, y), x)
    negative = apply(bind(ops.lt), down, as_operand(0, x.dtype, x._type.shape))
    up = apply(bind(ops.cast, dtype=x.dtype), apply(_AND, inexact, negative))
    return apply(_ADD, down, up)


@composite()
def floor_divide(input: Any, other: Any) -> Tensor:
    """input / other rounded towards minus infinity. Raises RuntimeError for an integer division by zero."""
    x, y = _numeric(*pair(input, other))
    if not x._type.dtype.is_floating_point:
        return apply(bind(ops.floor_div), x, y)
    return _floor_divided(x, y)


def _floor_divided(x: Tensor, y: Tensor) -> Tensor:
    """As Python's // on floats, from the exact remainder: 1 // 0.1 is 9. Source: CPython, float_divmod."""
    zero = as_operand(0, x.dtype, x._type.shape)
    quotient = apply(_DIV, x, y)
    rest = fmod(x, y)
    whole = apply(_DIV, apply(_SUB, x, rest), y)
    signs_differ = apply(bind(ops.bit_xor), apply(bind(ops.lt), y, zero), apply(bind(ops.lt), rest, zero))
    down = apply(_AND, apply(bind(ops.ne), rest, zero), signs_differ)
    whole = apply(bind(ops.round_), sub(whole, apply(bind(ops.cast, dtype=x.dtype), down)))
    is_zero = apply(bind(ops.eq), whole, zero)
    whole = apply(bind(ops.select), is_zero, apply(_MUL, quotient, zero), whole)  # zero with its sign
    return apply(bind(ops.select), apply(bind(ops.eq), y, zero), quotient, whole)


def remainder(input: Any, other: Any) -> Tensor:
    """input - other * floor(input / other): Python's %, with the sign of `other`."""
    x, y = _numeric(*pair(input, other))
    return apply(bind(ops.rem), x, y)


@composite("other")
def fmod(input: Tensor, other: Tensor | Number) -> Tensor:
    """The remainder with the sign of `input`."""
    x, y = _numeric(*pair(input, other))
    rest = apply(bind(ops.rem), apply(bind(ops.abs_), x), apply(bind(ops.abs_), y))
    negative = apply(bind(ops.lt), x, as_operand(0, x.dtype, x._type.shape))
    return apply(bind(ops.select), negative, apply(bind(ops.neg), rest), rest)


def _numeric(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if x._type.dtype is dtypes.bool_:
        raise not_implemented("div_floor_cpu", dtypes.bool_)
    return x, y


def pow(input: Any, exponent: Any) -> Tensor:
    """input ** exponent. An integer tensor can't be raised to a negative Python integer.

    The exponents 2, 0.5, -1 and the like are the products, roots and quotients that they stand for.
    """
    if isinstance(input, Tensor) and exponent.__class__ in (int, float):
        special = _SPECIAL_POWERS.get(exponent)
        if special and (input._type.dtype.is_floating_point or exponent in (1, 2, 3)):
            if result_type(input, exponent) is input._type.dtype:
                return special(input)
    x, y = pair(input, exponent)
    if x._type.dtype.is_integer and exponent.__class__ is int and exponent < 0:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    if x._type.dtype is dtypes.bool_:
        raise not_implemented("pow", dtypes.bool_)
    return apply(bind(ops.pow_), x, y)


def square(input: Tensor) -> Tensor:
    """input * input."""
    check_tensor(input, "square")
    return pow(input, 2) if input._type.dtype is dtypes.bool_ else mul(input, input)


def reciprocal(input: Tensor) -> Tensor:
    """1 / input."""
    x = floating(input, "reciprocal")
    return apply(_DIV, as_operand(1, x.dtype, x._type.shape), x)


_SPECIAL_POWERS: dict[float, Callable[[Tensor], Tensor]] = {
    0.5: sqrt,
    1: lambda x: apply(bind(ops.cast, dtype=x.dtype), x),
    2: square,
    3: lambda x: mul(mul(x, x), x),
    -0.5: rsqrt,
    -1: reciprocal,
    -2: lambda x: reciprocal(square(x)),
}


def float_power(input: Any, exponent: Any) -> Tensor:
    """input ** exponent in float64."""
    double = dtypes.float64
    return pow(
        *(as_operand(v, double, v._type.shape) if isinstance(v, Tensor) else v for v in (input, exponent))
    )


def neg(input: Tensor) -> Tensor:
    """-input. Raises RuntimeError for bools."""
    check_tensor(input, "neg")
    if input._type.dtype is dtypes.bool_:
        raise RuntimeError(
            "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a "
            "mask, use "
            "the `~` or `logical_not()` operator instead."
        )
    return apply(bind(ops.neg), input)


def positive(input: Tensor) -> Tensor:
    """The tensor itself. Raises RuntimeError for bools."""
    if input._type.dtype is dtypes.bool_:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


def abs(input: Tensor) -> Tensor:
    """The absolute value of each element."""
    check_tensor(input, "abs")
    if input._type.dtype is dtypes.bool_:
        raise not_implemented("abs_cpu", dtypes.bool_)
    return apply(bind(ops.abs_), input)


@composite(small=False)
def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1 with the sign of each element; 0 for nan."""
    check_tensor(input, "sign")
    if input._type.dtype is dtypes.bool_:
        return apply(bind(ops.cast, dtype=dtypes.bool_), input)
    result = apply(bind(ops.sign), input)
    return replaced(result, bind(ops.ne), result, 0) if input._type.dtype.is_floating_point else result


@composite(small=False)
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """Each element rounded to `decimals` places, halves to even."""
    check_tensor(input, "round")
    if input._type.dtype is dtypes.bool_:
        raise not_implemented("round_vml_cpu", dtypes.bool_)
    if input._type.dtype.is_integer:
        return apply(bind(ops.cast, dtype=input.dtype), input)
    op = bind(ops.round_)
    if decimals == 0:
        return apply(op, input)
    scale = 10.0 ** math.fabs(decimals)
    if decimals > 0:
        return div(apply(op, mul(input, scale)), scale)
    return mul(apply(op, div(input, scale)), scale)


@composite(small=False)
def frac(input: Tensor) -> Tensor:
    """The fraction of each element, with its sign."""
    check_tensor(input, "frac")
    if not input._type.dtype.is_floating_point:
        raise not_implemented("frac_cpu", input._type.dtype)
    return sub(input, trunc(input))


def maximum(input: Tensor, other: Tensor) -> Tensor:
    """The larger of two elements; nan if either is."""
    return apply(bind(ops.maximum), *pair(input, other))


def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two elements; nan if either is."""
    return apply(bind(ops.minimum), *pair(input, other))


@composite(small=False)
def clamp(input: Tensor, min: Tensor | Number | None = None, max: Tensor | Number | None = None) -> Tensor:
    """Each element limited to the range from min to max (numbers or tensors); nan stays nan.

    >>> vitrify.tensor([-1., 0.5, 2.]).clamp(0, 1)
    tensor([0.0000, 0.5000, 1.0000])
    """
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if not isinstance(min, Tensor) and not isinstance(max, Tensor):
        dtype = result_type(input, *(v for v in (min, max) if v is not None))
        check_fits(min, dtype)
        check_fits(max, dtype)
        input = as_operand(input, dtype, input._type.shape)
    result = input if min is None else apply2(bind(ops.clamp_min), *pair(input, min))
    return result if max is None else apply2(bind(ops.clamp_max), *pair(result, max))


def clamp_min(input: Tensor, min: Tensor | Number) -> Tensor:
    """Each element, or `min` if that is larger."""
    return clamp(input, min=min)


def clamp_max(input: Tensor, max: Tensor | Number) -> Tensor:
    """Each element, or `max` if that is smaller."""
    return clamp(input, max=max)


@composite(small=False)
def relu(input: Tensor) -> Tensor:
    """Each element, or 0 if it is negative; nan stays nan. The derivative at 0 is 0: `maximum` would give
    half.
    """
    check_tensor(input, "relu")
    if input._type.dtype is dtypes.bool_:
        raise RuntimeError("Boolean inputs not supported for relu")
    return apply1(bind(ops.relu), input)


@composite("weight input/weight end/weight")
@rounded_once
def lerp(input: Tensor, end: Tensor, weight: Tensor | Number) -> Tensor:
    """input + weight * (end - input), from the nearer end."""
    difference = sub(end, input)
    if isinstance(weight, Tensor):
        from .compare import where

        near = add(input, mul(difference, weight))
        far = sub(end, mul(difference, rsub(weight, 1)))
        return where(abs(weight) < 0.5, near, far)
    if math.fabs(float(weight)) < 0.5:
        return add(input, mul(difference, weight))
    return sub(end, mul(difference, 1 - weight))


@composite("tensor1/tensor2 tensor2/tensor1")
@rounded_once
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
    """input + value * tensor1 * tensor2."""
    return add(input, mul(_times(value, tensor1), tensor2))


@composite("tensor2 tensor1/tensor2")
@rounded_once
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
    """input + value * tensor1 / tensor2. Raises RuntimeError for integers, which do not divide."""
    if not result_type(tensor1, tensor2).is_floating_point:
        raise RuntimeError(
            "Integer division with addcdiv is no longer supported, and in a future  release addcdiv will "
            "perform a "
            "true division of tensor1 and tensor2."
        )
    return add(input, div(_times(value, tensor1), tensor2))


def _times(value: Any, x: Tensor) -> Tensor:
    return x if value.__class__ in (int, float) and value == 1 else mul(x, value)


def replaced(x: Tensor, compare: BoundOp, with_: Tensor, value: float) -> Tensor:
    """`value` where x compares so with another tensor, x elsewhere."""
    hit = apply(compare, x, with_)
    return apply(bind(ops.select), hit, as_operand(value, x.dtype, x._type.shape), x)


def _bitwise(opdef: OpDef, doc: str, name: str) -> Callable[[Any, Any], Tensor]:
    def function(input: Any, other: Any) -> Tensor:
        x, y = pair(input, other)
        if x._type.dtype.kind not in "iub":
            raise not_implemented(f"{name}_cpu", x.dtype)
        return apply(bind(opdef), x, y)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


bitwise_and = _bitwise(ops.bit_and, "Bits set in both; on bools the logical and.", "bitwise_and")
bitwise_or = _bitwise(ops.bit_or, "Bits set in either; on bools the logical or.", "bitwise_or")
bitwise_xor = _bitwise(ops.bit_xor, "Bits set in one only; on bools the exclusive or.", "bitwise_xor")
bitwise_left_shift = _bitwise(ops.shift_left, "Bits moved up by `other` places.", "lshift")
bitwise_right_shift = _bitwise(
    ops.shift_right, "Bits moved down by `other` places, keeping the sign.", "rshift"
)


def bitwise_not(input: Tensor) -> Tensor:
    """Every bit inverted; on bools the logical not."""
    if input._type.dtype.kind not in "iub":
        raise not_implemented("bitwise_not_cpu", input._type.dtype)
    return apply(bind(ops.bit_not), input)


subtract, multiply, divide, true_divide, negative, absolute, fix, clip, sgn = (
    sub, mul, div, div, neg, abs, trunc, clamp, sign,
)  # fmt: skip
