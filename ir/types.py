"""The type of a value: element type and shape; and literals, the payload of constants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .dtypes import DType, bfloat16
from .errors import IRTypeError
from .expr import Dim, product
from .narrow import narrowed


@dataclass(frozen=True)
class TensorType:
    """An immutable tensor's dtype and shape, such as `f32[64, 784]` or `f32[s0, 10]`. Compares by content."""

    dtype: DType
    shape: tuple[Dim, ...] = ()

    def __post_init__(self) -> None:
        if any(isinstance(d, int) and d < 0 for d in self.shape):
            raise IRTypeError(f"a size is negative in {self}")

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def numel(self) -> Dim:
        """Number of elements."""
        return product(self.shape)

    @property
    def is_static(self) -> bool:
        return all(isinstance(d, int) for d in self.shape)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)

    def with_shape(self, shape: tuple[Dim, ...]) -> TensorType:
        return TensorType(self.dtype, shape)

    def __str__(self) -> str:
        return f"{self.dtype.short}[{', '.join(map(str, self.shape))}]"


def row_major_strides(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Strides, in elements, of a contiguous tensor of this shape: (2, 3, 4) -> (12, 4, 1)."""
    strides: list[Dim] = []
    step: Dim = 1
    for d in reversed(shape):
        strides.append(step)
        step = step * d
    return tuple(reversed(strides))


@dataclass(frozen=True)
class Literal:
    """The value of a constant: a tensor's bytes in row-major order. Compares by content (NaN bits
    included)."""

    dtype: DType
    shape: tuple[int, ...]
    data: bytes

    @staticmethod
    def of(value: object, dtype: DType) -> Literal:
        """From anything numpy takes; values are converted to `dtype` as numpy's `astype` does (an array of
        uint16 holds the bits of a bfloat16)."""
        array = np.asarray(value)
        if dtype is bfloat16 and array.dtype != dtype.numpy:
            array = narrowed(array.astype(np.float32), dtype.numpy)
        array = array.astype(dtype.numpy)
        return Literal(dtype, array.shape, array.tobytes())

    @property
    def type(self) -> TensorType:
        return TensorType(self.dtype, self.shape)

    def array(self) -> np.ndarray:
        """A read-only numpy array of the value."""
        return np.frombuffer(self.data, self.dtype.numpy).reshape(self.shape)
