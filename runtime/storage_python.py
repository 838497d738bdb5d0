"""Storages in plain Python: the readable twin of `storage_native`, with the same functions.

Used where native builtins are not available, and by the tests, which run both. Blocks come from a pool here
too; a lock guards it, because no global lock can be relied on.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir import locks
from .call import CallSpec
from .storage_ir import LARGE, PAGE

#: Bytes of free blocks kept for reuse; more go back to the system.
POOL_LIMIT_BYTES = 1 << 30


class Storage:
    """A block of memory, or a view into one. Owned blocks go back to the pool with the last reference."""

    __slots__ = ("_address", "_attached", "_base", "_nbytes", "_version", "_memory")

    def __init__(self, address: int, nbytes: int, base: Storage | None, memory: object) -> None:
        self._address, self._nbytes, self._base, self._memory = address, nbytes, base, memory
        self._version = 0
        self._attached: object = None

    def __del__(self) -> None:
        if _Memory is None or _give is None:  # the interpreter exits and has cleared this module
            return
        if isinstance(self._memory, _Memory):
            _give(self._memory)


class _Memory:
    """Raw memory with room for alignment: 64 bytes, of large blocks a page."""

    __slots__ = ("buffer", "address", "capacity")

    def __init__(self, capacity: int) -> None:
        alignment = PAGE if capacity >= LARGE else 64
        self.buffer = np.empty(capacity + alignment, np.uint8)
        self.address = (self.buffer.ctypes.data + alignment - 1) & -alignment
        self.capacity = capacity


_lock = locks.lock()
_pool: dict[int, list[_Memory]] = {}
_kept = 0
_busy: set[int] = set()
_idle = threading.Condition()


def _capacity(nbytes: int) -> int:
    """The size class: powers of two up to 4 KB, four steps per octave above."""
    m = max(nbytes, 1) - 1
    log = m.bit_length() - 1
    if m < 4096:
        return 64 << max(log - 5, 0)
    return ((m >> (log - 2) & 3) + 5) << (log - 2)


def _take(nbytes: int) -> _Memory:
    global _kept
    capacity = _capacity(nbytes)
    with _lock:
        free = _pool.get(capacity)
        if free:
            _kept -= capacity
            return free.pop()
    if capacity >= 1 << 48:
        raise MemoryError
    return _Memory(capacity)


def _give(memory: _Memory) -> None:
    global _kept
    with _lock:
        if _kept + memory.capacity <= POOL_LIMIT_BYTES:
            _kept += memory.capacity
            _pool.setdefault(memory.capacity, []).append(memory)


def pooled_bytes() -> int:
    """Bytes of free blocks that are kept for reuse."""
    return _kept


def release_pool() -> None:
    """Give all free blocks back to the system."""
    global _kept
    with _lock:
        _pool.clear()
        _kept = 0


def allocate(nbytes: int) -> Storage:
    """A new storage of so many bytes, 64-byte aligned, contents arbitrary. MemoryError, or ValueError if
    negative."""
    if nbytes < 0:
        raise ValueError("the size of a storage can't be negative")
    memory = _take(nbytes)
    return Storage(memory.address, nbytes, None, memory)


def view(storage: Storage, byte_offset: int) -> Storage:
    """A storage that begins `byte_offset` bytes further, in the same block. ValueError if that is outside
    of it."""
    there, block = address(storage) + byte_offset, base(storage)
    if not 0 <= there - block._address <= block._nbytes:
        raise ValueError("a view begins outside its storage")
    return Storage(there, 0, block, None)


def foreign(address: int, nbytes: int, owner: object) -> Storage:
    """A storage on memory that is not ours; `owner` is kept alive with it."""
    return Storage(address, nbytes, None, (owner,))


def address(storage: Storage) -> int:
    """Where the storage's data begins."""
    return _checked(storage)._address


def base(storage: Storage) -> Storage:
    """The storage of the whole block; the same object for every view of it."""
    return _checked(storage)._base or storage


def offset(storage: Storage) -> int:
    """Bytes from the beginning of the block."""
    return address(storage) - base(storage)._address


def nbytes(storage: Storage) -> int:
    """Size of the whole block."""
    return base(storage)._nbytes


def version(storage: Storage) -> int:
    """How often the block has been written to in place."""
    return base(storage)._version


def bump(storage: Storage) -> None:
    """Count one write in place."""
    base(storage)._version += 1


def attach(storage: Storage, thing: object) -> object:
    """Let the block hold an object until it is freed; the object that it holds, an earlier one if there is
    one. None for memory that is not ours."""
    block = base(storage)
    if not isinstance(block._memory, _Memory):
        return None
    if block._attached is None:
        block._attached = thing
    return block._attached


def is_storage(thing: object) -> bool:
    """Is it one of ours?"""
    return isinstance(thing, Storage)


def _checked(storage: Storage) -> Storage:
    if not isinstance(storage, Storage):
        raise TypeError("expected a storage")
    return storage


_RUN = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


def make_call(spec: CallSpec) -> Callable[..., Any]:
    """The call of a plan: storages in; the new storage out, or a tuple of the results if they are not just
    that."""
    run = _RUN(spec.run)
    sizes = (ctypes.c_int64 * max(len(spec.sizes), 1))(*spec.sizes)
    table = ctypes.c_void_p * max(len(spec.template), 1)

    def call(*storages: Storage) -> Any:
        if len(storages) != len(spec.inputs):
            raise TypeError("a compiled call got the wrong number of storages")
        buffers = table(*spec.template)
        for storage, slot in zip(storages, spec.inputs, strict=True):
            at = address(storage)
            if slot >= 0:
                buffers[slot] = at
        new = []
        for slot, size in spec.outputs:
            new.append(allocate(size))
            buffers[slot] = new[-1]._address
        updated = {id(base(storages[i])) for i in spec.updates}
        arena = _take(spec.arena_bytes)
        status = _run_alone(updated, lambda: run(buffers, sizes, arena.address))
        _give(arena)
        if status:
            spec.fail(status)
        for i in spec.updates:
            bump(storages[i])
        if spec.results == (0,) and len(new) == 1:
            return new[0]
        return tuple(new[r] if r >= 0 else storages[~r] for r in spec.results)

    return call


def _run_alone(updated: set[int], run: Callable[[], int]) -> int:
    """Run when nobody else updates any of these blocks."""
    if not updated:
        return run()
    with _idle:
        _idle.wait_for(lambda: not updated & _busy)
        _busy.update(updated)
    try:
        return run()
    finally:
        with _idle:
            _busy.difference_update(updated)
            _idle.notify_all()
