"""Storages and numpy arrays on the same memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from ..ir.strided import StridedType
from . import storage as memory

Storage = Any


class _Outside:
    """Stands for all arrays that share a block of memory with storages; each sharing holds it."""

    __slots__ = ("__weakref__",)


#: By the address of a block: alive as long as somebody may write to it without a storage's knowing.
_outside: WeakValueDictionary[int, Any] = WeakValueDictionary()


#: Addresses of blocks of which a copy is kept elsewhere; one that is shared with an array leaves the set for
#: good, for whoever has the array may write and drop it again.
_watched: set[int] = set()

#: Blocks whose address is known outside: nobody can tell for how long, so they count as shared for good.
_known: dict[int, _Outside] = {}


def watch(storages: Iterable[Storage]) -> frozenset[int] | None:
    """Watch the blocks of these storages, none of which may be shared (else None); they are what `unshared`
    is asked about."""
    blocks = frozenset(memory.address(memory.base(s)) for s in storages)
    if any(block in _outside for block in blocks):
        return None
    _watched.update(blocks)
    return blocks


def unshared(blocks: frozenset[int]) -> bool:
    """Whether none of the blocks has been shared with an array since they are watched."""
    return blocks <= _watched


def known_address(storage: Storage) -> int:
    """Where the storage's data begins, for somebody who may write there at any time from now on."""
    _known[memory.address(memory.base(storage))] = _share(storage)
    return memory.address(storage)


def _share(storage: Storage) -> _Outside:
    """The mark that the storage's block is shared, to be held for as long as it is."""
    block = memory.address(memory.base(storage))
    _watched.discard(block)
    mark: _Outside = _outside.setdefault(block, _Outside())
    return mark


class _Exported:
    """What numpy makes an array on a storage from; the array keeps it, and so the storage, alive."""

    __slots__ = ("__array_interface__", "outside", "storage")

    def __init__(self, storage: Storage, type: StridedType) -> None:
        self.storage = storage
        self.outside = _share(storage)
        self.__array_interface__ = {
            "version": 3,
            "shape": type.shape,
            "strides": tuple(s * type.dtype.itemsize for s in type.strides),
            "typestr": type.dtype.numpy.str,
            "data": (memory.address(storage), False),
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
        return memory.view(root.storage, start - memory.address(root.storage))
    outside = _outside.setdefault(start, _Outside())
    return memory.foreign(start, _extent_bytes(array), (array, outside))


def is_shared(storage: Storage) -> bool:
    """Whether arrays outside share the storage's memory, which they may write to."""
    return bool(_outside) and memory.address(memory.base(storage)) in _outside


def _extent_bytes(array: np.ndarray) -> int:
    if array.size == 0:
        return 0
    return int(array.itemsize + sum((n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)))
