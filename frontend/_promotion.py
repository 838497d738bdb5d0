"""PyTorch's type promotion, and operands brought to one type.

Operands fall into tensors with dimensions, tensors of rank 0 and Python numbers; a lower class decides the
dtype only where its category (bool < integer < floating < complex) is higher. Source: PyTorch's documentation
of tensor attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from vitrify.ir import dtypes, ops
from vitrify.ir.dtypes import DType
from vitrify.ir.narrow import narrowed, widened
from vitrify.ir.opdef import BoundOp, bind
from vitrify.ir.strided import StridedType
from vitrify.runtime import eager

from . import _dispatch
from ._dispatch import apply1, constant
from ._narrow import is_narrow
from ._tensor import Tensor

#: A Python number, as an argument.
Number = bool | int | float

_CATEGORY = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}
_default = dtypes.float32


def get_default_dtype() -> DType:
    """The dtype of tensors made from Python floats."""
    return _default


def set_default_dtype(dtype: DType) -> None:
    """Set the dtype of tensors made from Python floats. Raises TypeError unless it is a floating
    point one."""
    global _default
    if not dtype.is_floating_point:
        raise TypeError(f"only floating-point types are supported as the default type, got {dtype}")
    _default = dtype
    _RECIPES.clear()
    _dispatch.forget()


def promote_types(a: DType, b: DType) -> DType:
    """The smallest dtype that both convert to.

    >>> vitrify.promote_types(vitrify.int32, vitrify.float32)
    vitrify.float32
    """
    if a is b:
        return a
    low, high = sorted((a, b), key=lambda d: (_CATEGORY[d.kind], d.itemsize, d.kind == "i"))
    if low.kind == "f" and high.kind == "f" and low.itemsize == high.itemsize:
        return dtypes.float32
    if low.kind == "u" and high is dtypes.int8 or high.kind == "u" and low is dtypes.int8:
        return dtypes.int16
    if high is dtypes.complex64 and low is dtypes.float64:
        return dtypes.complex128
    return high


def number_dtype(value: Any) -> DType:
    """The dtype that a Python number stands for."""
    if isinstance(value, bool):
        return dtypes.bool_
    if isinstance(value, int):
        return dtypes.int64
    if isinstance(value, complex):
        return dtypes.complex128 if _default is dtypes.float64 else dtypes.complex64
    return _default


def result_type(*operands: Any) -> DType:
    """The dtype of arithmetic on these tensors and Python numbers.

    >>> vitrify.result_type(vitrify.tensor([1, 2]), 1.5)
    vitrify.float32
    """
    classes: list[DType | None] = [None, None, None]
    for x in operands:
        if isinstance(x, Tensor):
            at, dtype = (0 if x._type.shape else 1), x._type.dtype
        else:
            at, dtype = 2, number_dtype(x)
        before = classes[at]
        classes[at] = dtype if before is None else promote_types(before, dtype)
    return _combined(_combined(classes[0], classes[1]), classes[2])  # type: ignore[return-value]


def _combined(higher: DType | None, lower: DType | None) -> DType | None:
    if higher is None or lower is None:
        return higher or lower
    if _CATEGORY[higher.kind] >= _CATEGORY[lower.kind]:
        return higher
    return promote_types(higher, lower)


def can_cast(source: DType, target: DType) -> bool:
    """Whether PyTorch lets an in-place op store `source` in `target`: never to a lower category."""
    if source.is_complex and not target.is_complex:
        return False
    if source.is_floating_point and target.kind not in "fc":
        return False
    return target is not dtypes.bool_ or source is dtypes.bool_


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that all broadcast to. Raises RuntimeError, naming sizes and dimension, if there is none."""
    rank = max(map(len, shapes), default=0)
    result = [1] * rank
    for shape in shapes:
        for i, n in enumerate(shape, start=rank - len(shape)):
            if n != 1 and result[i] not in (1, n):
                raise RuntimeError(
                    f"The size of tensor a ({result[i]}) must match the size of tensor b ({n}) at "
                    "non-singleton "
                    f"dimension {i}"
                )
            result[i] = n if n != 1 else result[i]
    return tuple(result)


class Recipe:
    """How an operand of one type is brought to another dtype and shape.

    steps: the ops. view: the type in the end, if all of them only look at the same elements in another way.
    """

    __slots__ = ("steps", "view")

    def __init__(self, have: StridedType, dtype: DType, shape: tuple[int, ...]) -> None:
        self.steps = steps_to(have, dtype, shape)
        self.view: StridedType | None = have
        for step in self.steps:
            if self.view is not None:
                result, offset, _ = eager.signature(step, (self.view,))
                self.view = result if offset == 0 else None

    def __call__(self, x: Tensor) -> Tensor:
        if self.view is not None and x._node is None and x._view is None and not _dispatch.captures:
            return Tensor(x._storage, self.view) if self.steps else x
        for step in self.steps:
            x = apply1(step, x)
        return x


#: Ops that bring an operand of one type to another dtype and shape.
Steps = tuple[BoundOp, ...]
_RECIPES: dict[tuple[StridedType, StridedType], tuple[Recipe, Recipe]] = {}


def steps_to(have: StridedType, dtype: DType, shape: tuple[int, ...]) -> Steps:
    """The cast, reshape and expand that bring a tensor to this dtype and, by broadcasting, to this shape."""
    steps = []
    if have.dtype is not dtype:
        steps.append(bind(ops.cast, dtype=dtype))
    if have.shape != shape:
        aligned = (1,) * (len(shape) - len(have.shape)) + have.shape
        if aligned != have.shape:
            steps.append(bind(ops.reshape, shape=aligned))
        if aligned != shape:
            steps.append(bind(ops.expand, shape=shape))
    return tuple(steps)


def unified(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two tensors promoted to one dtype and broadcast to one shape."""
    of_x, of_y = _RECIPES.get((x._type, y._type)) or _recipes(x, y)
    return of_x(x), of_y(y)


def _recipes(x: Tensor, y: Tensor) -> tuple[Recipe, Recipe]:
    dtype = result_type(x, y)
    shape = broadcast_shapes(x._type.shape, y._type.shape)
    if len(_RECIPES) >= _dispatch.MOST_ENTRIES:
        _RECIPES.clear()
    _RECIPES[x._type, y._type] = Recipe(x._type, dtype, shape), Recipe(y._type, dtype, shape)
    return _RECIPES[x._type, y._type]


def brought(x: Tensor, dtype: DType, shape: tuple[int, ...]) -> Tensor:
    """A tensor cast to a dtype and broadcast to a shape."""
    if x._type.dtype is dtype and x._type.shape == shape:
        return x
    key = (x._type, dtype, shape)
    recipe = _BROUGHT.get(key)
    if recipe is None:
        if len(_BROUGHT) >= _dispatch.MOST_ENTRIES:
            _BROUGHT.clear()
        recipe = _BROUGHT[key] = Recipe(*key)
    for step in recipe.steps:
        x = apply1(step, x)
    return x


_BROUGHT: dict[tuple[StridedType, DType, tuple[int, ...]], Recipe] = {}


#: Gives a tensor of rank 0 for a number that is an input of the running trace, None for any other. `_capture`
#: sets it.
traced_number: Callable[[Any], Tensor | None] | None = None
_NUMBERS: dict[tuple[Any, ...], Tensor] = {}


def check_fits(value: Any, dtype: DType) -> None:
    """Raises RuntimeError for a Python number that a dtype can't hold. Negative integers wrap around in
    unsigned types, as in PyTorch."""
    if not _fits(value, dtype):
        raise RuntimeError(f"value cannot be converted to type {dtype.name} without overflow")


def _fits(value: Any, dtype: DType) -> bool:
    if value.__class__ is complex and value.imag:
        return dtype.kind not in "fiu"
    if not dtype.is_integer or value.__class__ not in (int, float):
        return True
    info = np.iinfo(dtype.numpy)
    least = info.min if info.min or value.__class__ is float else -info.max
    return bool(least <= value <= info.max)  # nan is nowhere


def as_operand(value: Any, dtype: DType, shape: tuple[int, ...] = ()) -> Tensor:
    """A tensor or a Python number as a tensor of this dtype and shape, to be read only."""
    if isinstance(value, Tensor):
        return brought(value, dtype, shape)
    if _dispatch.captures:
        traced = traced_number(value) if traced_number is not None else None
        return brought(constant(value, dtype) if traced is None else traced, dtype, shape)
    key = (value if value else str(value), dtype, shape)  # 0.0 and -0.0 are equal
    found = _NUMBERS.get(key)
    if found is None:
        if len(_NUMBERS) >= _dispatch.MOST_ENTRIES:
            _NUMBERS.clear()
        found = _NUMBERS[key] = brought(constant(value, dtype), dtype, shape)
        found._view = None  # it is never written to
    return found


def as_element(value: Any, dtype: DType, shape: tuple[int, ...] = ()) -> Tensor:
    """The operand whose elements are stored as they are: a number has to be one that the dtype holds."""
    check_fits(value, dtype)
    return as_operand(value, dtype, shape)


def narrow_beside(x: Any, y: Any) -> DType | None:
    """The dtype of a tensor of 16-bit floats beside a real number that this dtype does not hold exactly, None
    for any other operands. PyTorch does not round such a factor to 16 bits first: it computes in float32."""
    tensor, number = (x, y) if isinstance(x, Tensor) else (y, x)
    if not isinstance(tensor, Tensor) or isinstance(number, (Tensor, complex)):
        return None
    dtype = tensor._type.dtype
    if not is_narrow(dtype) or isinstance(number, (int, float)) and _holds(dtype, number):
        return None
    return dtype


def _holds(dtype: DType, number: float) -> bool:
    """Whether the dtype has just this number. Under capture a float is a run-time input, of which no value is
    known."""
    if isinstance(number, float) and _dispatch.captures and traced_number is not None:
        return False
    with np.errstate(over="ignore"):
        wide = np.array(number, np.float32)
        return number != number or bool(widened(narrowed(wide, np.dtype(dtype.numpy))) == number)


_BESIDE: dict[tuple[StridedType, float], Tensor] = {}
# Numbers lie in the memory of constants, and are told by that. It must not be that of forgotten ones: no call
# that reads such a number would be learned.
_dispatch.when_forgotten += [_NUMBERS.clear, _BESIDE.clear]


def number_beside(type: StridedType, value: float) -> Tensor | None:
    """A number as operand beside a tensor of this type, which keeps its dtype; None where the general rules
    apply.

    value: an int or a float, not zero, of which there are two; a tensor of integers keeps its dtype only
    beside an int.
    """
    kind = type.dtype.kind
    if is_narrow(type.dtype) and not _holds(type.dtype, value):
        return None
    if not value or kind != "f" and (value.__class__ is float or kind not in "iu") or _dispatch.captures:
        return None
    found = _BESIDE.get((type, value))
    if found is not None:
        return found
    if len(_BESIDE) >= _dispatch.MOST_ENTRIES:
        _BESIDE.clear()
    found = _BESIDE[type, value] = as_operand(value, type.dtype, type.shape)
    return found


def operands(*values: Any, dtype: DType | None = None) -> list[Tensor]:
    """Tensors and Python numbers promoted to one dtype (or to `dtype`) and broadcast to one shape."""
    if dtype is None:
        dtype = result_type(*values)
    shape = broadcast_shapes(*(x._type.shape for x in values if isinstance(x, Tensor)))
    return [as_operand(x, dtype, shape) for x in values]
