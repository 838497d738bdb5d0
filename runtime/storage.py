"""Storages: the memory of tensors. Pooled 64-byte aligned blocks with a version that all views share.

    allocate(nbytes)            a new block; contents arbitrary
    view(storage, byte_offset)  a place inside the same block
    address(storage)            where its data begins
    base(storage)               the storage of the whole block: the same object for all its views
    offset(storage)             bytes from the beginning of the block
    nbytes(storage)             size of the whole block
    version(storage)            how often the block has been written to in place
    bump(storage)               count one more
    attach(storage, object)     have the block hold an object for as long as it is not freed
    from_array, to_array        numpy arrays on the same memory
    known_address(storage)      the address, for somebody outside who may write there
    is_shared(storage)          whether somebody outside may still write there

They are native builtins (`storage_native`) or the same in Python (`storage_python`), as `options.native`
says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import numpy as np

from ..ir.strided import StridedType
from .call import CallSpec
from .options import options

Storage = Any

is_native: bool
allocate: Callable[[int], Storage]
view: Callable[[Storage, int], Storage]
foreign: Callable[[int, int, object], Storage]
address: Callable[[Storage], int]
base: Callable[[Storage], Storage]
offset: Callable[[Storage], int]
nbytes: Callable[[Storage], int]
version: Callable[[Storage], int]
bump: Callable[[Storage], None]
is_storage: Callable[[object], bool]
attach: Callable[[Storage, object], object]
make_call: Callable[[CallSpec], Callable[..., Any]]
pooled_bytes: Callable[[], int]
release_pool: Callable[[], None]
to_array: Callable[[Storage, StridedType], np.ndarray]
from_array: Callable[[np.ndarray], Storage]
known_address: Callable[[Storage], int]
is_shared: Callable[[Storage], bool]
watch: Callable[[Iterable[Storage]], frozenset[int] | None]
unshared: Callable[[frozenset[int]], bool]

_CHOSEN = (
    "allocate", "view", "foreign", "address", "base", "offset", "nbytes", "version", "bump", "is_storage",
    "attach", "make_call", "pooled_bytes", "release_pool",
)  # fmt: skip
_ARRAYS = ("to_array", "from_array", "known_address", "is_shared", "watch", "unshared")


def __getattr__(name: str) -> Any:
    """The implementation is chosen, and llvmlite loaded, when the first of its functions is asked for."""
    if name not in (*_CHOSEN, *_ARRAYS, "is_native"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import storage_arrays

    chosen, native = _implementation()
    globals().update({each: getattr(chosen, each) for each in _CHOSEN})
    globals().update({each: getattr(storage_arrays, each) for each in _ARRAYS}, is_native=native)
    return globals()[name]


def _implementation() -> tuple[ModuleType, bool]:
    """The module that has the functions, and whether it is the native one."""
    if options.native:
        try:
            from . import storage_native
        except ImportError:
            pass
        else:
            return storage_native, True
    from . import storage_python

    return storage_python, False
