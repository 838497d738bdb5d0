"""Recording, views and writes through them, and forcing: the traced program does what the eager one does."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
from vitrify.ir import ops
from vitrify.ir.strided import strided_type
from vitrify.tracer.errors import CaptureError
from vitrify.tracer.recorder import activate, active
from vitrify.tracer.traced import TracedValue

from tests.tracer.memory import Memory, Owner, Session


def test_nothing_is_active_by_default_and_activation_is_per_thread() -> None:
    session = Session()
    seen = []
    assert active() is None
    with activate(session.recorder):
        assert active() is session.recorder
        thread = threading.Thread(target=lambda: seen.append(active()))
        thread.start()
        thread.join()
    assert active() is None and seen == [None]


def test_force_runs_one_graph_and_makes_owners_eager_in_place() -> None:
    run = Session()
    x = Owner.of([1.0, 2.0])
    y = run(ops.add, x, x)
    z = run(ops.mul, y, x)
    assert isinstance(y._storage, TracedValue)
    run.recorder.force("test")
    assert isinstance(y._storage, Memory) and isinstance(z._storage, Memory)
    assert len(run.backend.graphs) == 1
    np.testing.assert_array_equal(z.numpy(), [2.0, 8.0])


def test_reading_forces_and_names_the_users_line() -> None:
    run = Session()
    y = run(ops.neg, Owner.of([1.0]))
    assert y.numpy() == [-1.0]
    (reason,) = run.recorder.forced
    assert "numpy needs the value" in str(reason) and "memory.py" in str(reason)


def test_fullgraph_raises_instead_of_forcing() -> None:
    run = Session(fullgraph=True)
    y = run(ops.neg, Owner.of([1.0]))
    with pytest.raises(
        CaptureError, match=r"memory\.py:\d+: numpy needs the value of a tensor \(fullgraph=True\)"
    ):
        y.numpy()


def test_recording_goes_on_after_a_force() -> None:
    run = Session()
    y = run(ops.neg, Owner.of([1.0]))
    run.recorder.force("first")
    z = run(ops.neg, y)
    run.recorder.force("second")
    assert z.numpy() == [1.0] and len(run.backend.graphs) == 2


def test_dead_values_are_not_outputs() -> None:
    run = Session()
    y = run(ops.neg, Owner.of([1.0]))
    z = run(ops.neg, y)
    del y
    gc.collect()
    run.recorder.force("test")
    assert len(run.backend.graphs[0].outputs) == 1 and z.numpy() == [1.0]


def test_nothing_alive_runs_nothing() -> None:
    run = Session()
    run(ops.neg, Owner.of([1.0]))
    gc.collect()
    run.recorder.force("test")
    assert run.backend.graphs == []


def test_a_value_held_without_an_owner_is_made_concrete_too() -> None:
    run = Session()
    saved = run(ops.neg, Owner.of([1.0]))._storage
    run.recorder.force("test")
    assert saved.concrete is not None


def test_inputs_are_deduplicated_by_storage() -> None:
    run = Session()
    x = Owner.of([1.0, 2.0])
    y = run(ops.add, x, Owner(Memory(x._storage.block), x._type))
    run.recorder.force("test")
    assert len(run.backend.graphs[0].inputs) == 1 and list(y.numpy()) == [2.0, 4.0]


def test_writing_an_input_updates_its_memory() -> None:
    run = Session()
    x = Owner.of([1.0, 2.0])
    run.write(x, run(ops.neg, x))
    y = run(ops.neg, x)
    run.recorder.force("test")
    assert list(x.numpy()) == [-1.0, -2.0] and list(y.numpy()) == [1.0, 2.0]
    assert x._storage.block.version == 1


def test_reading_an_input_with_recorded_writes_forces() -> None:
    run = Session()
    x = Owner.of([1.0])
    with activate(run.recorder):
        run.write(x, run(ops.neg, x))
        assert x.numpy() == [-1.0]
    assert len(run.recorder.forced) == 1


def test_versions_count_writes_before_and_after_a_force() -> None:
    run = Session()
    x = Owner.of([1.0])
    y = run(ops.neg, x)
    for _ in range(3):
        run.write(y, x)
    run.write(x, y)
    assert run.recorder.version(y._storage) == 3 and run.recorder.version(x._storage) == 1
    run.recorder.force("test")
    assert run.recorder.version(y._storage) == 3 and run.recorder.version(x._storage) == 1


def test_a_write_through_a_view_is_seen_by_the_base_and_its_other_views() -> None:
    run = Session()
    x = Owner.of(np.arange(6.0).reshape(3, 2))
    y = run(ops.neg, x)
    row, turned = run.slice(y, 1, 2), run.transpose(y)
    run.write(row, Owner.of([[10.0, 20.0]]))
    z = run(ops.neg, turned)
    run.recorder.force("test")
    want = np.array([[0, -1], [10, 20], [-4, -5]], "float32")
    np.testing.assert_array_equal(y.numpy(), want)
    np.testing.assert_array_equal(z.numpy(), -want.T)


def test_a_chain_of_views_is_written_through() -> None:
    run = Session()
    y = run(ops.neg, Owner.of(np.zeros((4, 3))))
    corner = run.slice(run.transpose(run.slice(y, 1, 3)), 2, 3)
    run.write(corner, Owner.of([[7.0, 8.0]]))
    run.recorder.force("test")
    want = np.zeros((4, 3), "float32")
    want[1:3].T[2:3] = [[7, 8]]
    np.testing.assert_array_equal(y.numpy(), want)


def test_aliasing_survives_a_force() -> None:
    run = Session()
    y = run(ops.neg, Owner.of(np.zeros((3, 2))))
    row = run.slice(y, 2, 3)
    run.recorder.force("test")
    row._storage.array(row._type)[...] = 5
    np.testing.assert_array_equal(y.numpy()[2], [5, 5])
    assert len(run.backend.graphs[0].outputs) == 1


def test_a_view_of_an_input_stays_a_view_of_it() -> None:
    run = Session()
    x = Owner.of(np.zeros((3, 2)))
    row = run.slice(x, 1, 2)
    run.recorder.force("test")
    assert row._storage.block is x._storage.block
    assert run.backend.graphs == []


def test_a_strided_input_is_read_and_written() -> None:
    run = Session()
    block = Memory.of(np.arange(12, dtype="float32"))
    turned = Owner(block, strided_type(Owner.of(0.0)._type.dtype, (3, 4), (1, 3)))
    run.write(turned, run(ops.neg, turned))
    run.recorder.force("test")
    np.testing.assert_array_equal(block.block.data.view("float32"), -np.arange(12, dtype="float32"))


def test_a_slice_as_only_input_has_its_own_shape_whatever_its_offset() -> None:
    keys = []
    for start in (0, 2):
        run = Session()
        big = Owner.of(np.arange(8.0))
        part = Owner(Memory(big._storage.block, start * 4), Owner.of(np.zeros(3))._type)
        y = run(ops.neg, part)
        run.recorder.force("test")
        np.testing.assert_array_equal(y.numpy(), -np.arange(start, start + 3))
        keys += run.backend.keys
    assert keys[0] == keys[1]


@pytest.mark.parametrize("starts", [(0, 2), (2, 0), (3, 1), (0, 5), (5, 0)])
def test_overlapping_views_of_one_storage_share_one_input(starts: tuple[int, int]) -> None:
    """Writes through one are seen through the other, whichever came first, before or after it was written."""
    run = Session()
    big = Owner.of(np.arange(8.0))
    three = Owner.of(np.zeros(3))._type
    first, second = (Owner(Memory(big._storage.block, s * 4), three) for s in starts)
    want = np.arange(8, dtype="float32")
    a, b = (want[s : s + 3] for s in starts)
    run.write(first, run(ops.neg, first))
    a[...] = -a
    run.write(second, run(ops.add, second, first))
    b[...] = b + a
    z = run(ops.add, first, second)
    whole = run(ops.neg, big)
    run.recorder.force("test")
    assert len(run.backend.graphs[0].inputs) == 1
    np.testing.assert_array_equal(big.numpy(), want)
    np.testing.assert_array_equal(z.numpy(), a + b)
    np.testing.assert_array_equal(whole.numpy(), -want)


def test_a_result_laid_out_otherwise_keeps_its_strides() -> None:
    run = Session()
    x = Owner.of(np.arange(6.0).reshape(2, 3))
    type = strided_type(x._type.dtype, (2, 3), (1, 2))
    from vitrify.ir.opdef import bind

    y = Owner(run.recorder.record(bind(ops.neg), [run.traced(x)], type), type)
    run.recorder.track(y)
    run.write(y, run(ops.add, y, y))
    run.recorder.force("test")
    np.testing.assert_array_equal(y.numpy(), -2 * np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(y._storage.block.data.view("float32"), [0, -6, -2, -8, -4, -10])


def test_a_failed_check_is_repeated_op_by_op_and_leaves_eagers_state() -> None:
    run = Session()
    x, index = Owner.of([1.0, 2.0]), Owner.of([5], "int64")
    run.write(x, run(ops.neg, x))
    y = run(ops.add, x, x)
    z = run(ops.gather, x, index, axes=(0,))
    run.write(x, run(ops.add, x, y))
    with pytest.raises(IndexError, match="out of bounds"):
        run.recorder.force("test")
    assert list(x.numpy()) == [-1.0, -2.0]
    assert list(y.numpy()) == [-2.0, -4.0]
    with pytest.raises(RuntimeError, match="never computed"):
        z.numpy()
    assert list(run(ops.neg, x).numpy()) == [1.0, 2.0]


def test_a_dead_value_that_raises_still_raises() -> None:
    run = Session()
    run(ops.gather, Owner.of([1.0, 2.0]), Owner.of([5], "int64"), axes=(0,))
    gc.collect()
    with pytest.raises(IndexError):
        run.recorder.force("test")


def test_strict_runs_an_op_that_may_raise_at_once() -> None:
    run = Session()
    run.recorder.strict = True
    with pytest.raises(IndexError):
        run(ops.gather, Owner.of([1.0, 2.0]), Owner.of([5], "int64"), axes=(0,))


def test_scalars_are_inputs_so_the_structure_does_not_depend_on_them() -> None:
    keys = []
    for lr in (0.1, 0.2):
        run = Session()
        x = Owner.of([1.0], "float64")
        s = run.recorder.scalar(lr)
        one = run.recorder.record(
            __import__("vitrify.ir.opdef", fromlist=["bind"]).bind(ops.reshape, shape=(1,)), [s], x._type
        )
        y = run(ops.mul, x, Owner(one, x._type))
        assert y.numpy() == [lr]
        keys += run.backend.keys
    assert keys[0] == keys[1]


def test_operations_carry_the_users_line() -> None:
    run = Session()
    run.y = run(ops.neg, Owner.of([1.0]))
    segment = run.recorder.close()
    assert segment.graph.operations[0].location.file.endswith("memory.py")


def test_observed_attributes_remember_their_first_value() -> None:
    run = Session()
    leaf = Owner.of([1.0])
    leaf._grad = None
    run.recorder.observe(leaf, "_grad")
    leaf._grad = 3
    run.recorder.observe(leaf, "_grad")
    (seen,) = run.recorder.observed.values()
    assert seen.owner is leaf and seen.before is None and seen.read


def test_another_thread_that_reads_a_traced_tensor_forces_it() -> None:
    run = Session()
    y = run(ops.neg, Owner.of([1.0]))
    seen = []
    thread = threading.Thread(target=lambda: seen.append(y.numpy().tolist()))
    thread.start()
    thread.join()
    assert seen == [[-1.0]]
