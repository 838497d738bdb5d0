"""Small values of the public face: `Size`, `device`, limits of dtypes, memory formats."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
from vitrify.ir.dtypes import DType, bfloat16, float32


class Size(tuple[int, ...]):
    """A shape: a tuple of ints that prints as PyTorch's does.

    >>> vitrify.zeros(2, 3).shape
    vitrify.Size([2, 3])
    """

    __slots__ = ()

    def numel(self) -> int:
        """Number of elements of a tensor of this shape."""
        return math.prod(self)

    def __repr__(self) -> str:
        return f"vitrify.Size({list(self)})"

    def __add__(self, other: tuple[Any, ...]) -> Size:
        return Size(tuple.__add__(self, other))

    def __getitem__(self, at: Any) -> Any:
        found = tuple.__getitem__(self, at)
        return Size(found) if isinstance(at, slice) else found

    def __reduce__(self) -> tuple[Any, ...]:
        return (Size, (tuple(self),))


class device:
    """Where tensors live. There is one kind, the CPU.

    Raises RuntimeError for any other, as PyTorch without CUDA does when a tensor is to be put there.
    """

    __slots__ = ("type", "index")
    type: str
    index: int | None

    def __init__(self, type: Any = "cpu", index: int | None = None) -> None:
        if isinstance(type, device):
            type, index = type.type, type.index
        name, _, number = str(type).partition(":")
        if name not in _KINDS:
            raise RuntimeError(
                f"Expected one of {', '.join(_KINDS)} device type at start of device string: {type}"
            )
        self.type = name
        self.index = int(number) if number else index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"


_KINDS = ("cpu", "cuda", "mps", "xpu", "meta")


def check_device(where: Any) -> None:
    """Raises, as PyTorch without CUDA does, unless `where` is the CPU or None."""
    if where is None:
        return
    kind = device(where).type
    if kind == "cuda":
        raise AssertionError("Torch not compiled with CUDA enabled")
    if kind != "cpu":
        raise RuntimeError(f"vitrify runs on the CPU only, got device {kind!r}")


class finfo:
    """Limits of a floating point dtype: `max`, `min`, `eps`, `tiny`, `smallest_normal`, `resolution`, `bits`.

    >>> vitrify.finfo(vitrify.float32).eps
    1.1920928955078125e-07
    """

    def __init__(self, dtype: DType | None = None) -> None:
        dtype = dtype or float32
        if dtype.kind != "f":
            raise TypeError(
                "torch.finfo() requires a floating point input type. Use torch.iinfo to handle 'torch.finfo'"
            )
        self.bits, self.dtype = 8 * dtype.itemsize, dtype.name
        if dtype is bfloat16:
            self.max, self.min, self.eps = 3.3895313892515355e38, -3.3895313892515355e38, 2.0**-7
            self.tiny = self.smallest_normal = 2.0**-126
            self.resolution = 0.01
            return
        found = np.finfo(dtype.numpy)
        self.max, self.min, self.eps = float(found.max), float(found.min), float(found.eps)
        self.tiny = self.smallest_normal = float(found.tiny)
        self.resolution = float(f"1e-{found.precision}")


class iinfo:
    """Limits of an integer dtype: `max`, `min`, `bits`.

    >>> vitrify.iinfo(vitrify.uint8).max
    255
    """

    def __init__(self, dtype: DType) -> None:
        if not dtype.is_integer:
            raise TypeError(
                "torch.iinfo() requires an integer input type. Use torch.finfo to handle 'torch.iinfo'"
            )
        found = np.iinfo(dtype.numpy)
        self.bits, self.dtype, self.max, self.min = (
            8 * dtype.itemsize,
            dtype.name,
            int(found.max),
            int(found.min),
        )


class layout:
    """How elements lie in memory: `vitrify.strided` is the only way."""

    def __repr__(self) -> str:
        return "vitrify.strided"


strided = layout()


class memory_format:
    """A name for an order of axes in memory; accepted where PyTorch takes one, row-major is always used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"vitrify.{self._name}"


contiguous_format = memory_format("contiguous_format")
channels_last = memory_format("channels_last")
preserve_format = memory_format("preserve_format")


def as_shape(sizes: Iterable[Any]) -> tuple[int, ...]:
    """A shape from `f(2, 3)` or `f((2, 3))` given as *sizes; entries may be integer tensors of one
    element."""
    items = tuple(sizes)
    if len(items) == 1 and isinstance(items[0], (tuple, list)):
        items = tuple(items[0])
    return tuple(i if i.__class__ is int else operator.index(i) for i in items)
