"""Copies and conversions: dtype, device, memory order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vitrify.ir import dtypes, ops
from vitrify.ir.dtypes import DType
from vitrify.ir.opdef import bind

from .._dispatch import apply
from .._size import check_device, device
from .._tensor import Tensor
from .pointwise import TYPE_NAMES

#: What Python's types stand for as dtypes.
PYTHON_TYPES: dict[object, DType] = {
    float: dtypes.float64, int: dtypes.int64, bool: dtypes.bool_, complex: dtypes.complex128,
}  # fmt: skip


def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy in a storage of its own, row-major, that gradients flow through."""
    return apply(bind(ops.cast, dtype=input._type.dtype), input)


def contiguous(input: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself if it lies in row-major order, else a copy that does."""
    return input if input._type.is_contiguous else clone(input)


def type_as(input: Tensor, other: Tensor) -> Tensor:
    """The tensor in other's dtype."""
    return cast(input, other._type.dtype)


def cast(input: Tensor, dtype: DType, copy: bool = False) -> Tensor:
    """The tensor itself if it has this dtype (and no copy is asked for), else a converted copy."""
    if input._type.dtype is dtype and not copy:
        return input
    return apply(bind(ops.cast, dtype=dtype), input)


def to(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Convert: `to(dtype)`, `to(device)`, `to(device, dtype)`, `to(other)`, with `copy=True` always a copy.

    Raises AssertionError for a GPU, as PyTorch without CUDA does.
    """
    dtype, where, copy = kwargs.get("dtype"), kwargs.get("device"), kwargs.get("copy", False)
    positional = list(args)
    for i, value in enumerate(positional):
        if isinstance(value, Tensor):
            dtype = value._type.dtype
        elif isinstance(value, DType) or value in (float, int, bool, complex):
            dtype = value
        elif isinstance(value, bool):
            copy = value if i == len(positional) - 1 and i > 1 else copy
        elif isinstance(value, (str, device, int)):
            where = value
        elif value is not None:
            raise TypeError(f"to() received an invalid argument of type {type(value).__name__}")
    check_device(where)
    return cast(input, PYTHON_TYPES.get(dtype, dtype) or input._type.dtype, copy)


def cpu(input: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself."""
    return input


def cuda(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Raises AssertionError: there is no GPU."""
    raise AssertionError("Torch not compiled with CUDA enabled")


def type(input: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The name of the tensor's type, or the tensor converted to a dtype."""
    if dtype is None:
        return f"vitrify.{TYPE_NAMES[input._type.dtype]}Tensor"
    if isinstance(dtype, str):
        dtype = next(d for d, name in TYPE_NAMES.items() if dtype.rpartition(".")[2] == name + "Tensor")
    return cast(input, dtype)


def _conversion(dtype: DType) -> Callable[[Tensor], Tensor]:
    def function(input: Tensor, memory_format: Any = None) -> Tensor:
        return cast(input, dtype)

    function.__doc__ = f"The tensor in {dtype.name}."
    return function


#: Methods such as `x.float()`.
CONVERSIONS = {
    name: _conversion(dtype)
    for name, dtype in {
        "float": dtypes.float32, "double": dtypes.float64, "half": dtypes.float16,
        "bfloat16": dtypes.bfloat16, "char": dtypes.int8, "short": dtypes.int16, "int": dtypes.int32,
        "long": dtypes.int64, "byte": dtypes.uint8, "bool": dtypes.bool_,
    }.items()
}  # fmt: skip
