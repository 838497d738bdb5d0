"""Functions of several ops on floats of 16 bits: computed in float32, and rounded to 16 bits once.

An op rounds its result to its dtype, so a composition would round at every step, where PyTorch's kernels
round once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from vitrify.ir import ops
from vitrify.ir.dtypes import DType, bfloat16, float16, float32
from vitrify.ir.opdef import bind

from ._dispatch import apply
from ._tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])


def rounded_once(function: F) -> F:
    """Have a function of tensors that are all of one 16-bit dtype compute in float32, if no other dtype is
    asked for."""

    @functools.wraps(function)
    def called(*args: Any, **options: Any) -> Any:
        found = {x._type.dtype for x in (*args, *options.values()) if isinstance(x, Tensor)}
        if len(found) != 1 or not is_narrow(dtype := found.pop()) or options.get("dtype") is not None:
            return function(*args, **options)
        wide = {name: widened(x) for name, x in options.items()}
        return _rounded(function(*map(widened, args), **wide), dtype)

    return called  # type: ignore[return-value]


def is_narrow(dtype: DType) -> bool:
    """Whether it is a floating point dtype of 16 bits."""
    return dtype is bfloat16 or dtype is float16


def widened(x: Any) -> Any:
    """A tensor of 16-bit floats in float32, anything else as it is."""
    if isinstance(x, Tensor) and is_narrow(x._type.dtype):
        return apply(bind(ops.cast, dtype=float32), x)
    return x


def _rounded(result: Any, dtype: DType) -> Any:
    if isinstance(result, tuple):
        return tuple(_rounded(x, dtype) for x in result)
    if isinstance(result, Tensor) and result._type.dtype is float32:
        return apply(bind(ops.cast, dtype=dtype), result)
    return result
