"""Eager types: dtype, shape and strides, interned so that identity is equality.

Everything that depends on an operand's type alone (promotion, broadcasting, the kernel to use) is decided
once per object and found again by comparing pointers.
"""

from __future__ import annotations

from .dtypes import DType
from .types import TensorType, row_major_strides


class StridedType:
    """The type of an eager tensor. Get one from `strided_type`; never construct.

    dtype, shape (ints), strides (ints, in elements; may be 0); ir: the TensorType; numel; nbytes of the
    elements (numel * itemsize); is_contiguous: row-major without gaps (strides of axes of size 1 don't
    matter, nor any if empty); extent: one more than the largest element offset, 0 if empty.
    """

    __slots__ = (
        "dtype",
        "shape",
        "strides",
        "ir",
        "numel",
        "nbytes",
        "is_contiguous",
        "extent",
        "__weakref__",
    )
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    ir: TensorType
    numel: int
    nbytes: int
    is_contiguous: bool
    extent: int

    def __repr__(self) -> str:
        strides = "" if self.is_contiguous else f" strides{self.strides}"
        return f"{self.ir}{strides}"


_INTERNED: dict[tuple[DType, tuple[int, ...], tuple[int, ...]], StridedType] = {}


def strided_type(dtype: DType, shape: tuple[int, ...], strides: tuple[int, ...] | None = None) -> StridedType:
    """The one StridedType with these parts; strides default to row-major."""
    if strides is None:
        strides = row_major_strides(shape)  # type: ignore[assignment]
    key = (dtype, shape, strides)
    found = _INTERNED.get(key)  # type: ignore[arg-type]
    return found or _INTERNED.setdefault(key, _make(dtype, shape, strides))  # type: ignore[arg-type]


def _make(dtype: DType, shape: tuple[int, ...], strides: tuple[int, ...]) -> StridedType:
    made = StridedType()
    made.dtype, made.shape, made.strides = dtype, shape, strides
    made.ir = TensorType(dtype, shape)
    made.numel = int(made.ir.numel)  # type: ignore[arg-type]
    made.nbytes = made.numel * dtype.itemsize
    dense = row_major_strides(shape)
    made.is_contiguous = made.numel == 0 or all(
        n == 1 or s == d for n, s, d in zip(shape, strides, dense, strict=True)
    )
    made.extent = 0 if made.numel == 0 else 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    return made
