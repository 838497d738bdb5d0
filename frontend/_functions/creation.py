"""New tensors: from data, filled, counted; and on numpy's memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from vitrify.ir import dtypes, ops
from vitrify.ir.dtypes import DType
from vitrify.ir.opdef import bind
from vitrify.ir.strided import strided_type
from vitrify.ir.types import Literal
from vitrify.runtime import storage as memory

from .._composite import composite
from .._dispatch import apply
from .._promotion import Number, as_element, as_operand, get_default_dtype, number_dtype
from .._size import as_shape, check_device
from .._tensor import Tensor
from .casting import cast


def _wrapped(array: np.ndarray, dtype: DType | None = None) -> Tensor:
    """A tensor on the array's memory. dtype: bfloat16 if it holds the bits of such numbers."""
    dtype = dtype or dtypes.from_numpy(array.dtype)
    strides = tuple(s // array.itemsize for s in array.strides)
    return Tensor(memory.from_array(array), strided_type(dtype, array.shape, strides))


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory.

    Raises TypeError for an unsupported dtype, ValueError for negative strides.
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    if not ndarray.flags.writeable:
        warnings.warn(
            "The given NumPy array is not writable. This means writing to this tensor will result in "
            "undefined "
            "behavior. You may want to copy the array to protect its data before converting it to a tensor.",
            stacklevel=2,
        )
    return _wrapped(ndarray)


def _array_of(data: Any, dtype: DType | None) -> np.ndarray:
    """Data as a new array: Python numbers, nested sequences (of tensors too), arrays."""
    if isinstance(data, np.ndarray) or isinstance(data, np.generic):
        array = np.asarray(data)
    else:
        array = _array_of_numbers(data)
        dtype = dtype or _dtype_of_numbers(array, data)
    wanted = array.dtype if dtype is None else dtype.numpy
    if array.dtype.kind == "f" and np.dtype(wanted).kind in "iu" and not np.isfinite(array).all():
        raise RuntimeError("value cannot be converted to type int64_t without overflow")
    if not isinstance(data, np.ndarray) and not _holds(np.dtype(wanted), array):
        raise RuntimeError(f"value cannot be converted to type {np.dtype(wanted)} without overflow")
    return np.array(array, dtype=wanted, order="C")


def _holds(dtype: np.dtype[Any], array: np.ndarray) -> bool:
    """Whether integers lie in a dtype's range; negative ones wrap around in unsigned types, as in PyTorch."""
    if dtype.kind not in "iu" or array.dtype.kind not in "iu" or not array.size:
        return True
    info = np.iinfo(dtype)
    least = info.min if dtype.kind == "i" else -info.max
    return least <= int(array.min()) and int(array.max()) <= info.max


def _array_of_numbers(data: Any) -> np.ndarray:
    try:
        array = np.array(_plain(data))
    except ValueError as error:
        raise ValueError(_ragged(data) or str(error)) from None
    if array.dtype.kind not in "fiubc":
        if array.dtype.kind == "O" and all(isinstance(v, int) for v in array.flat):
            raise ValueError("Overflow when unpacking long long")
        if array.dtype.kind in "US":
            raise TypeError("new(): invalid data type 'str'")
        raise RuntimeError(f"Could not infer dtype of {type(next(iter(array.flat), None)).__name__}")
    return array


def _plain(data: Any) -> Any:
    """Nested sequences with tensors in them as numbers and arrays."""
    if isinstance(data, Tensor):
        return data._array("tensor(data)")
    if isinstance(data, (list, tuple)) and any(isinstance(v, (Tensor, list, tuple)) for v in data):
        return [_plain(v) for v in data]
    return data


def _ragged(data: Any) -> str | None:
    """PyTorch's message for rows of different lengths."""
    rows = [len(row) if isinstance(row, (list, tuple)) else -1 for row in data]
    for row, length in zip(data, rows, strict=True):
        if length != rows[0]:
            return f"expected sequence of length {max(rows[0], 0)} at dim 1 (got {max(length, 0)})"
        if length >= 0 and (inner := _ragged(row)):
            return inner
    return None


def _dtype_of_numbers(array: np.ndarray, data: Any) -> DType:
    if array.size == 0:
        return get_default_dtype()
    leaf = data
    while isinstance(leaf, (list, tuple)):
        leaf = leaf[0]
    if isinstance(leaf, (Tensor, np.ndarray, np.generic)):
        return dtypes.from_numpy(array.dtype)
    kinds = {"f": 1.0, "b": True, "c": 1j}
    return number_dtype(kinds.get(array.dtype.kind, 1))


def tensor(
    data: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """A new tensor with a copy of the data: numbers, nested sequences, arrays.

    >>> vitrify.tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    """
    check_device(device)
    if isinstance(data, Tensor):
        result = cast(data.detach(), dtype or data.dtype, copy=True)
    else:
        stored_as = dtypes.float32 if dtype is dtypes.bfloat16 else dtype
        result = _wrapped(_array_of(data, stored_as))
        if dtype is dtypes.bfloat16:
            result = cast(result, dtype)
    return result.requires_grad_() if requires_grad else result


def as_tensor(data: Any, dtype: DType | None = None, device: Any = None) -> Tensor:
    """The data as a tensor, shared where it is a tensor or an array of this dtype already."""
    check_device(device)
    if isinstance(data, Tensor):
        return cast(data, dtype or data.dtype)
    if isinstance(data, np.ndarray) and all(s >= 0 for s in data.strides):
        return cast(_wrapped(data), dtype or dtypes.from_numpy(data.dtype))
    return tensor(data, dtype=dtype)


asarray = as_tensor


def constructed(*args: Any) -> Tensor:
    """What `Tensor(...)` gives: sizes, or data, in the default dtype."""
    if len(args) == 1 and not isinstance(args[0], int):
        if isinstance(args[0], Tensor):
            return cast(args[0].detach(), get_default_dtype())
        return tensor(args[0], dtype=get_default_dtype())
    return empty(*args)


def _rebuilt(array: np.ndarray, dtype: str, requires_grad: bool) -> Tensor:
    """Unpickles a tensor."""
    made = tensor(array, dtype=dtypes.dtype_of(dtype))
    return made.requires_grad_(requires_grad)


def _finished(x: Tensor, requires_grad: bool) -> Tensor:
    return x.requires_grad_() if requires_grad else x


def filled(value: Any, dtype: DType, shape: tuple[int, ...]) -> Tensor:
    """A new tensor of its own with `value` everywhere."""
    if any(n < 0 for n in shape):
        raise RuntimeError("zeros: Dimension size must be non-negative.")
    return apply(bind(ops.cast, dtype=dtype), as_element(value, dtype, shape))


def full(
    size: Sequence[int], fill_value: Number, *, dtype: DType | None = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor with one value everywhere, of the value's dtype by default."""
    check_device(device)
    if dtype is None:
        dtype = fill_value.dtype if isinstance(fill_value, Tensor) else number_dtype(fill_value)
    return _finished(
        filled(fill_value, dtype, as_shape([size] if isinstance(size, int) else size)), requires_grad
    )


def zeros(
    *size: int | Sequence[int],
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of zeros.

    >>> vitrify.zeros(2, 3).shape
    vitrify.Size([2, 3])
    """
    check_device(device)
    return _finished(filled(0, dtype or get_default_dtype(), as_shape(size)), requires_grad)


def ones(
    *size: int | Sequence[int],
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of ones."""
    check_device(device)
    return _finished(filled(1, dtype or get_default_dtype(), as_shape(size)), requires_grad)


def empty(
    *size: int | Sequence[int], dtype: DType | None = None, device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor to be overwritten. Its elements are zeros, so that a program that reads them runs the same
    each time.
    """
    return zeros(*size, dtype=dtype, device=device, requires_grad=requires_grad)


def full_like(
    input: Tensor, fill_value: Number, *, dtype: DType | None = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor of input's shape and dtype with one value everywhere."""
    check_device(device)
    return _finished(filled(fill_value, dtype or input._type.dtype, input._type.shape), requires_grad)


def zeros_like(
    input: Tensor, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Zeros of input's shape and dtype."""
    return full_like(input, 0, dtype=dtype, device=device, requires_grad=requires_grad)


def ones_like(
    input: Tensor, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Ones of input's shape and dtype."""
    return full_like(input, 1, dtype=dtype, device=device, requires_grad=requires_grad)


def empty_like(
    input: Tensor, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of input's shape and dtype, to be overwritten."""
    return full_like(input, 0, dtype=dtype, device=device, requires_grad=requires_grad)


def new_full(
    input: Tensor, size: Any, fill_value: Any, *, dtype: DType | None = None, **options: Any
) -> Tensor:
    """`full` with input's dtype by default."""
    return full(size, fill_value, dtype=dtype or input._type.dtype, **options)


def new_zeros(input: Tensor, *size: Any, dtype: DType | None = None, **options: Any) -> Tensor:
    """`zeros` with input's dtype by default."""
    return zeros(*size, dtype=dtype or input._type.dtype, **options)


def new_ones(input: Tensor, *size: Any, dtype: DType | None = None, **options: Any) -> Tensor:
    """`ones` with input's dtype by default."""
    return ones(*size, dtype=dtype or input._type.dtype, **options)


def new_empty(input: Tensor, *size: Any, dtype: DType | None = None, **options: Any) -> Tensor:
    """`empty` with input's dtype by default."""
    return empty(*size, dtype=dtype or input._type.dtype, **options)


def new_tensor(input: Tensor, data: Any, *, dtype: DType | None = None, **options: Any) -> Tensor:
    """`tensor` with input's dtype by default."""
    return tensor(data, dtype=dtype or input._type.dtype, **options)


def eye(n: int, m: int | None = None, *, dtype: DType | None = None, device: Any = None,
        requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Ones on the diagonal of an n x m matrix, zeros elsewhere."""
    check_device(device)
    shape = (n, n if m is None else m)
    rows, columns = (iota(shape, axis) for axis in (0, 1))
    return _finished(cast(apply(bind(ops.eq), rows, columns), dtype or get_default_dtype()), requires_grad)


def iota(shape: tuple[int, ...], axis: int, dtype: DType = dtypes.int64) -> Tensor:
    """The place of each element along an axis."""
    return apply(bind(ops.iota, shape=shape, axis=axis, dtype=dtype))


def _array_constant(array: np.ndarray) -> Tensor:
    """A read-only tensor of these values; in a trace a constant of the graph."""
    return apply(bind(ops.constant, value=Literal.of(array, dtypes.from_numpy(array.dtype))))


def arange(
    start: Number, end: Number | None = None, step: Number = 1, *, dtype: DType | None = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """start, start + step, ... below end; `arange(end)` starts at 0.

    >>> vitrify.arange(1, 4)
    tensor([1, 2, 3])
    """
    check_device(device)
    if end is None:
        start, end = 0, start
    start, end, step = (v.item() if isinstance(v, Tensor) else v for v in (start, end, step))
    whole = all(isinstance(v, int) for v in (start, end, step))
    if dtype is None:
        dtype = dtypes.int64 if whole else get_default_dtype()
    if not all(whole or math.isfinite(v) for v in (start, end)) or step != step:
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    count = int(-((start - end) // step) if whole else math.ceil((end - start) / step))
    exact = dtypes.int64 if dtype.kind in "iub" and whole else dtypes.float64
    places = iota((count,), 0, exact)
    spread = apply(bind(ops.mul), places, as_operand(step, exact, (count,)))
    moved = apply(bind(ops.add), spread, as_operand(start, exact, (count,)))
    return _finished(cast(moved, dtype), requires_grad)


def linspace(start: Number, end: Number, steps: int, *, dtype: DType | None = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:  # fmt: skip
    """`steps` values from start to end, both included, equally far apart; counted from the nearer end."""
    check_device(device)
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    dtype = dtype or get_default_dtype()
    wide = dtypes.float64
    start, end = (v.item() if isinstance(v, Tensor) else float(v) for v in (start, end))
    step = (end - start) / (steps - 1) if steps > 1 else 0.0
    place = iota((steps,), 0, wide)
    return _finished(cast(_from_nearer_end(place, start, end, step, steps), dtype), requires_grad)


def _from_nearer_end(place: Tensor, start: float, end: float, step: float, steps: int) -> Tensor:
    first = place * step + start
    last = (place - (steps - 1)) * step + end
    return apply(bind(ops.select), place < steps // 2, first, last) if steps > 1 else first


def logspace(start: float, end: float, steps: int, base: float = 10.0, *, dtype: DType | None = None,
             **options: Any) -> Tensor:  # fmt: skip
    """base to the powers `linspace(start, end, steps)`."""
    powers = linspace(start, end, steps, dtype=dtypes.float64)
    return cast(base**powers, dtype or get_default_dtype())


def tril_mask(rows: int, columns: int, diagonal: int) -> Tensor:
    """True on and below a diagonal of a matrix."""
    shape = (rows, columns)
    return iota(shape, 0) + diagonal >= iota(shape, 1)


@composite(small=False)
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of each matrix, zeros elsewhere."""
    return _triangle(input, tril_mask(*_last_two(input, "tril"), diagonal))


@composite(small=False)
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of each matrix, zeros elsewhere."""
    mask = tril_mask(*_last_two(input, "triu"), diagonal - 1)
    return _triangle(input, apply(bind(ops.bit_not), mask))


def _last_two(x: Tensor, name: str) -> tuple[int, int]:
    if x.ndim < 2:
        raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
    rows, columns = x._type.shape[-2:]
    return rows, columns


def _triangle(x: Tensor, mask: Tensor) -> Tensor:
    shape = x._type.shape
    return apply(bind(ops.select), as_operand(mask, dtypes.bool_, shape), x, as_operand(0, x.dtype, shape))


def tril_indices(
    row: int, col: int, offset: int = 0, *, dtype: DType = dtypes.int64, device: Any = None
) -> Tensor:
    """Rows and columns of the elements on and below a diagonal, as a 2 x n tensor."""
    return cast(_array_constant(np.array(np.tril_indices(row, offset, col), np.int64)), dtype, copy=True)


def triu_indices(
    row: int, col: int, offset: int = 0, *, dtype: DType = dtypes.int64, device: Any = None
) -> Tensor:
    """Rows and columns of the elements on and above a diagonal, as a 2 x n tensor."""
    return cast(_array_constant(np.array(np.triu_indices(row, offset, col), np.int64)), dtype, copy=True)
