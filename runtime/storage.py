"""Placeholder until the pooled storage lands (not committed)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir.strided import StridedType


class _Block:
    __slots__ = ("array", "version", "owner")


class _Storage:
    __slots__ = ("block", "offset")


def allocate(nbytes: int) -> Any:
    block = _Block()
    block.array, block.version, block.owner = np.zeros(max(nbytes, 1), np.uint8), 0, None
    made = _Storage()
    made.block, made.offset = block, 0
    return made


def view(storage: Any, byte_offset: int) -> Any:
    made = _Storage()
    made.block, made.offset = storage.block, storage.offset + byte_offset
    return made


def address(storage: Any) -> int:
    return storage.block.array.ctypes.data + storage.offset


def base(storage: Any) -> int:
    return id(storage.block)


def offset(storage: Any) -> int:
    return storage.offset


def nbytes(storage: Any) -> int:
    return storage.block.array.nbytes


def version(storage: Any) -> int:
    return storage.block.version


def bump(storage: Any) -> None:
    storage.block.version += 1


def from_array(array: np.ndarray) -> Any:
    block = _Block()
    low, high = np.lib.array_utils.byte_bounds(array)
    block.owner, block.version = array, 0
    import ctypes
    size = max(high - low, 1)
    block.array = np.frombuffer((ctypes.c_uint8 * size).from_address(low), np.uint8)
    made = _Storage()
    made.block, made.offset = block, 0
    return made


def to_array(storage: Any, type: StridedType) -> np.ndarray:
    item = type.dtype.itemsize
    return np.ndarray(
        type.shape, type.dtype.numpy, storage.block.array.data, storage.offset,
        [s * item for s in type.strides],
    ) if type.numel else np.empty(type.shape, type.dtype.numpy)
