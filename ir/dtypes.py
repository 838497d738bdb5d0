"""Element types.

One `DType` object per element type; identity is equality. Names are PyTorch's (`float32`), short names are
the IR's (`f32`). bfloat16 has no numpy type: its arrays are uint16 holding the bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False, repr=False)
class DType:
    """An element type. `kind`: f float, i signed int, u unsigned int, b bool, c complex."""

    name: str
    short: str
    itemsize: int
    kind: str
    numpy: np.dtype

    @property
    def is_floating_point(self) -> bool:
        return self.kind == "f"

    @property
    def is_complex(self) -> bool:
        return self.kind == "c"

    @property
    def is_signed(self) -> bool:
        return self.kind in "fic"

    @property
    def is_integer(self) -> bool:
        """True for the integers proper; bool is not one."""
        return self.kind in "iu"

    def __repr__(self) -> str:
        return f"vitrify.{self.name}"

    def __format__(self, spec: str) -> str:
        """In a formatted string, as in IR text, the short name: f32."""
        return format(self.short, spec)

    def __reduce__(self) -> tuple[object, ...]:
        return (dtype_of, (self.name,))


def _dtype(name: str, short: str, itemsize: int, kind: str, numpy: str) -> DType:
    return DType(name, short, itemsize, kind, np.dtype(numpy))


float32 = _dtype("float32", "f32", 4, "f", "float32")
float64 = _dtype("float64", "f64", 8, "f", "float64")
bfloat16 = _dtype("bfloat16", "bf16", 2, "f", "uint16")
float16 = _dtype("float16", "f16", 2, "f", "float16")
int8 = _dtype("int8", "i8", 1, "i", "int8")
int16 = _dtype("int16", "i16", 2, "i", "int16")
int32 = _dtype("int32", "i32", 4, "i", "int32")
int64 = _dtype("int64", "i64", 8, "i", "int64")
uint8 = _dtype("uint8", "u8", 1, "u", "uint8")
bool_ = _dtype("bool", "bool", 1, "b", "bool")
complex64 = _dtype("complex64", "c64", 8, "c", "complex64")
complex128 = _dtype("complex128", "c128", 16, "c", "complex128")

ALL: tuple[DType, ...] = (
    float32, float64, bfloat16, float16, int8, int16, int32, int64, uint8, bool_, complex64, complex128,
)  # fmt: skip
#: The dtypes that kernels exist for.
WITH_KERNELS: tuple[DType, ...] = (
    float32, float64, int64, int32, uint8, bool_, bfloat16, float16, int8, int16,
)  # fmt: skip

_BY_NAME = {name: d for d in ALL for name in (d.name, d.short)}
_BY_NUMPY = {d.numpy: d for d in ALL if d is not bfloat16}


def dtype_of(name: str) -> DType:
    """The dtype with this name, long (`float32`) or short (`f32`). Raises KeyError."""
    return _BY_NAME[name]


def from_numpy(dtype: np.dtype) -> DType:
    """The dtype of a numpy array. Raises TypeError, naming the supported ones, if vitrify has none for it."""
    found = _BY_NUMPY.get(np.dtype(dtype))
    if found is None:
        known = ", ".join(str(d) for d in _BY_NUMPY)
        raise TypeError(f"can't convert numpy dtype {dtype}; the supported ones are {known}")
    return found
