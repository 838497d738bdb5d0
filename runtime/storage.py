"""Storages: the memory of tensors. Pooled 64-byte aligned blocks with a version that all views share.

    allocate(nbytes)            a new block; contents arbitrary
    view(storage, byte_offset)  a place inside the same block
    address(storage)            where its data begins
    base(storage)               the storage of the whole block: the same object for all its views
    offset(storage)             bytes from the beginning of the block
    nbytes(storage)             size of the whole block
    version(storage)            how often the block has been written to in place
    bump(storage)               count one more
    from_array, to_array        numpy arrays on the same memory

They are native builtins (`storage_native`) or the same in Python (`storage_python`), as `options.native`
says.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..ir.strided import StridedType
from .options import options


def _implementation() -> ModuleType:
    if options.native:
        try:
            from . import storage_native

            return storage_native
        except ImportError:
            pass
    from . import storage_python

    return storage_python


_chosen = _implementation()

Storage = Any
is_native = _chosen.__name__.endswith("native")
allocate, view, foreign = _chosen.allocate, _chosen.view, _chosen.foreign
address, base, offset, nbytes = _chosen.address, _chosen.base, _chosen.offset, _chosen.nbytes
version, bump, is_storage = _chosen.version, _chosen.bump, _chosen.is_storage
make_call, pooled_bytes, release_pool = _chosen.make_call, _chosen.pooled_bytes, _chosen.release_pool


class _Exported:
    """What numpy makes an array on a storage from; the array keeps it, and so the storage, alive."""

    __slots__ = ("__array_interface__", "storage")

    def __init__(self, storage: Storage, type: StridedType) -> None:
        self.storage = storage
        self.__array_interface__ = {
            "version": 3,
            "shape": type.shape,
            "strides": tuple(s * type.dtype.itemsize for s in type.strides),
            "typestr": type.dtype.numpy.str,
            "data": (address(storage), False),
        }


def to_array(storage: Storage, type: StridedType) -> np.ndarray:
    """A numpy array on the storage's memory (bfloat16 as uint16 bits)."""
    return np.asarray(_Exported(storage, type))


def from_array(array: np.ndarray) -> Storage:
    """A storage on the array's memory, which stays shared; an array from `to_array` gives its storage's
    block back.

    Raises ValueError for negative strides or strides that are no multiple of the item size.
    """
    if any(s < 0 or s % array.itemsize for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        raise ValueError(
            "At least one of the strides in the given numpy array is negative, or not a multiple of the "
            "element byte size. You can fix this by making a copy of it with array.copy()"
        )
    start = array.__array_interface__["data"][0]
    root: Any = array
    while isinstance(root, np.ndarray):
        root = root.base
    if isinstance(root, _Exported):
        return view(root.storage, start - address(root.storage))
    return foreign(start, _extent_bytes(array), array)


def _extent_bytes(array: np.ndarray) -> int:
    if array.size == 0:
        return 0
    return int(array.itemsize + sum((n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)))
