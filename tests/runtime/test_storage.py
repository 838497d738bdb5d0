"""Storages: pool, views, versions, foreign memory; the native builtins and their Python twin alike."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from types import ModuleType

import numpy as np
import pytest
from vitrify.ir import dtypes
from vitrify.ir.strided import strided_type
from vitrify.runtime import storage, storage_native, storage_python

BOTH = pytest.mark.parametrize("s", [storage_native, storage_python], ids=["native", "python"])


@BOTH
@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 65, 4096, 4097, 1 << 20, (1 << 20) + 1])
def test_blocks_are_aligned_and_have_their_size(s: ModuleType, nbytes: int) -> None:
    block = s.allocate(nbytes)
    assert s.address(block) % 64 == 0
    assert (s.nbytes(block), s.offset(block), s.version(block)) == (nbytes, 0, 0)
    assert s.base(block) is block
    assert s.is_storage(block) and not s.is_storage(nbytes)


@BOTH
def test_large_blocks_begin_with_a_page(s: ModuleType) -> None:
    s.release_pool()
    blocks = [s.allocate(nbytes) for nbytes in (64 << 10, 100_000, 1 << 20, 5 << 20, 64 << 10)]
    assert all(s.address(b) % 4096 == 0 for b in blocks)


@BOTH
def test_blocks_do_not_overlap(s: ModuleType) -> None:
    blocks = [s.allocate(n) for n in range(0, 20_000, 333)]
    spans = sorted((s.address(b), s.nbytes(b)) for b in blocks)
    assert all(a + n <= b for (a, n), (b, _) in zip(spans, spans[1:], strict=False))


@BOTH
@pytest.mark.parametrize("nbytes", [10, 5000, 3 << 20])
def test_a_released_block_is_used_again(s: ModuleType, nbytes: int) -> None:
    first = s.allocate(nbytes)
    s.bump(first)
    address = s.address(first)
    del first
    again = s.allocate(nbytes - 1)
    assert s.address(again) == address
    assert (s.version(again), s.nbytes(again)) == (0, nbytes - 1)


@BOTH
def test_size_classes_waste_little(s: ModuleType) -> None:
    s.release_pool()
    for nbytes in (4097, 5120, 5121, 100_000, 1_000_000, (1 << 24) + 1):
        before = s.pooled_bytes()
        s.allocate(nbytes)
        kept = s.pooled_bytes() - before
        assert nbytes <= kept <= 1.26 * nbytes
        s.release_pool()


@BOTH
def test_released_memory_beyond_the_limit_goes_back(s: ModuleType) -> None:
    s.release_pool()
    assert s.pooled_bytes() == 0
    blocks = [s.allocate(200 << 20) for _ in range(8)]  # never touched, so never resident
    del blocks
    gc.collect()
    assert 0 < s.pooled_bytes() <= s.POOL_LIMIT_BYTES
    s.release_pool()


@BOTH
def test_views_share_the_block_and_its_version(s: ModuleType) -> None:
    block = s.allocate(256)
    part = s.view(block, 64)
    deeper = s.view(part, 32)
    assert s.base(deeper) is s.base(part) is block
    assert (s.offset(part), s.offset(deeper)) == (64, 96)
    assert s.address(deeper) == s.address(block) + 96
    assert s.nbytes(deeper) == 256
    s.bump(deeper)
    s.bump(block)
    assert s.version(part) == 2
    assert s.address(s.view(deeper, -96)) == s.address(block)


@BOTH
def test_a_view_keeps_its_block(s: ModuleType) -> None:
    block = s.allocate(128)
    address = s.address(block)
    part = s.view(s.view(block, 16), 16)
    del block
    other = s.allocate(128)
    assert s.address(other) != address
    assert s.address(part) == address + 32
    del part
    assert s.address(s.allocate(128)) == address


@BOTH
@pytest.mark.parametrize("offset", [-1, 129, 1 << 62])
def test_a_view_begins_inside(s: ModuleType, offset: int) -> None:
    block = s.allocate(128)
    s.view(block, 128)  # an empty view at the end
    with pytest.raises(ValueError, match="outside"):
        s.view(block, offset)


@BOTH
def test_foreign_memory_is_kept_alive_and_has_its_own_version(s: ModuleType) -> None:
    class Owner:
        pass

    owner = Owner()
    alive = weakref.ref(owner)
    memory = np.arange(8.0)
    block = s.foreign(memory.ctypes.data, memory.nbytes, owner)
    part = s.view(block, 8)
    s.bump(part)
    assert (s.version(block), s.nbytes(part), s.base(part)) == (1, 64, block)
    del owner, block
    gc.collect()
    assert alive() is not None
    del part
    gc.collect()
    assert alive() is None


@BOTH
def test_foreign_memory_may_be_empty(s: ModuleType) -> None:
    block = s.foreign(0, 0, None)
    assert s.nbytes(block) == 0


@BOTH
def test_bad_arguments(s: ModuleType) -> None:
    for read in (s.address, s.base, s.offset, s.nbytes, s.version, s.bump):
        with pytest.raises(TypeError, match="storage"):
            read("text")
    with pytest.raises(ValueError, match="negative"):
        s.allocate(-1)
    with pytest.raises(TypeError):
        s.allocate("text")
    with pytest.raises(TypeError):
        s.view(s.allocate(8))
    with pytest.raises(TypeError):
        s.view("text", 0)


@BOTH
def test_too_much_memory_is_refused(s: ModuleType) -> None:
    with pytest.raises(MemoryError):
        s.allocate(1 << 50)


def test_other_capsules_are_not_storages() -> None:
    import datetime  # its C API is a capsule

    assert not storage_native.is_storage(datetime.datetime_CAPI)
    with pytest.raises(TypeError, match="expected a storage"):
        storage_native.address(datetime.datetime_CAPI)


def test_refcounts_do_not_drift() -> None:
    s = storage_native
    block = s.allocate(64)
    part = s.view(block, 8)
    before = [sys.getrefcount(x) for x in (block, part, None)]
    for _ in range(1000):
        s.view(part, 8), s.base(part), s.bump(part), s.version(part), s.allocate(64)
        try:
            s.view(part, 1000)
        except ValueError:
            pass
    after = [sys.getrefcount(x) for x in (block, part, None)]
    assert all(abs(x - y) < 20 for x, y in zip(before, after, strict=True))


def test_memory_is_flat_over_many_allocations() -> None:
    import resource

    storage_native.allocate(1 << 20)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(100_000):
        storage_native.view(storage_native.allocate(1 << 20), 64)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start < 4096  # KB


@BOTH
def test_many_threads_allocate_at_once(s: ModuleType) -> None:
    failures = []

    def work(number: int) -> None:
        for i in range(2000):
            block = s.allocate(100 + i % 7 * 1000)
            array = np.ctypeslib.as_array((np.ctypeslib.ctypes.c_int64 * 8).from_address(s.address(block)))
            array[:] = number
            if not (array == number).all():
                failures.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# Arrays, on the implementation that is in use.


def test_an_array_on_a_storage_shares_memory_and_keeps_it() -> None:
    block = storage.allocate(24 * 4)
    array = storage.to_array(block, strided_type(dtypes.float32, (2, 3)))
    array[:] = 1
    transposed = storage.to_array(storage.view(block, 4), strided_type(dtypes.float32, (2, 2), (1, 3)))
    assert transposed.strides == (4, 12)
    array[0, 1] = 5
    assert transposed[0, 0] == 5
    address = storage.address(block)
    del block
    assert storage.address(storage.allocate(24 * 4)) != address
    assert (array[1] == 1).all()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3)])
@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
def test_arrays_of_all_dtypes_and_shapes(dtype: dtypes.DType, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, dtype.numpy)
    block = storage.from_array(array)
    back = storage.to_array(block, strided_type(dtype, shape))
    assert back.dtype == dtype.numpy and back.shape == shape
    assert np.array_equal(back, array)
    assert storage.nbytes(block) == array.nbytes


def test_a_storage_on_an_array_shares_memory_and_keeps_it() -> None:
    array = np.empty((3, 4), np.int64)
    array.flat[:] = np.arange(12)
    block = storage.from_array(array[1:, ::2])
    alive = weakref.ref(array)
    view = storage.to_array(block, strided_type(dtypes.int64, (2, 2), (4, 2)))
    array[2, 2] = -1
    assert view.tolist() == [[4, 6], [8, -1]]
    assert storage.nbytes(block) == 7 * 8
    del array, view
    gc.collect()
    assert alive() is not None
    del block
    gc.collect()
    assert alive() is None


def test_an_array_from_a_storage_comes_back_as_the_same_block() -> None:
    block = storage.allocate(64)
    array = storage.to_array(block, strided_type(dtypes.float32, (4, 4)))
    part = storage.from_array(array[1:, 2:])
    assert storage.base(part) is block
    assert storage.offset(part) == (4 + 2) * 4


def test_strange_strides_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        storage.from_array(np.arange(4)[::-1])
    record = np.zeros(4, [("a", "<i1"), ("b", "<i4")])
    with pytest.raises(ValueError, match="multiple"):
        storage.from_array(record["b"])
