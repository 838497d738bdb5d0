"""Turned weights are made once for as long as the weights are unchanged, and never lag behind."""

from __future__ import annotations

import ctypes
import gc
import threading
import time

import numpy as np
import pytest
import vitrify
from vitrify import nn
from vitrify.ir import ops
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.contraction import contract_spec
from vitrify.ir.dtypes import float32
from vitrify.ir.graph import Graph
from vitrify.ir.interpreter import interpret
from vitrify.ir.plan_text import parse_plan, print_plan
from vitrify.ir.plan_verifier import verify_plan
from vitrify.ir.types import TensorType
from vitrify.ir.verifier import verify_graph
from vitrify.passes.packed import pack_weights
from vitrify.runtime import storage, weights
from vitrify.runtime.compiler import CompiledGraph, compile_graph

from ..support import assert_same_bits


def convolution(co: int, ci: int, updated: bool = False) -> Graph:
    build = GraphBuilder("convolution")
    x = build.input(TensorType(float32, (2, ci, 6, 5)), "x")
    w = build.input(TensorType(float32, (co, ci, 3, 3)), "w")
    spec = contract_spec(
        "n, ci, h + p - 1, w + q - 1", "co, ci, p, q", "n co h w", "p q ci", {"h": 6, "w": 5}
    )
    y = build(ops.contract, x, w, spec=spec)
    updates = [(w, build(ops.neg, w))] if updated else []
    return build.finish([build(ops.neg, y)], updates)


def arrays(graph: Graph) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(v.type.shape).astype(np.float32) for v in graph.inputs]


@pytest.mark.parametrize("columns", [32, 16])
@pytest.mark.parametrize("channels", [(24, 20), (64, 256), (96, 160), (40, 512)], ids=str)
def test_both_graphs_together_mean_the_same(channels: tuple[int, int], columns: int) -> None:
    graph = convolution(*channels)
    packed = pack_weights(graph, columns)
    assert packed is not None
    verify_graph(packed.main)
    verify_graph(packed.packing)
    given = arrays(graph)
    (want,), _ = interpret(graph, given)
    turned, _ = interpret(packed.packing, [given[i] for i in packed.weights])
    (got,), _ = interpret(packed.main, [*given, *turned])
    assert_same_bits(got, want)


def test_weights_that_are_updated_or_small_stay() -> None:
    assert pack_weights(convolution(24, 20, updated=True)) is None
    assert pack_weights(convolution(4, 3)) is None


def test_the_compiled_graph_gives_the_same_bits_with_and_without() -> None:
    graph = convolution(64, 256)
    given = arrays(graph)
    (want,) = compile_graph(graph, optimized=True).run([storage.from_array(a) for a in given])
    blocks = [_copied(a) for a in given]
    made = compile_graph(graph)
    assert made.weights is not None
    for _ in range(2):
        (got,) = made.run(blocks)
        type_ = made.plan.outputs[0][1]
        shape = tuple(int(d) for d in type_.shape)  # type: ignore[call-overload]
        assert_same_bits(_array(got, shape), _array(want, shape))


def _copied(array: np.ndarray) -> storage.Storage:
    block = storage.allocate(array.nbytes)
    _array(block, array.shape)[...] = array
    return block


def _array(block: storage.Storage, shape: tuple[int, ...]) -> np.ndarray:
    from vitrify.ir.strided import strided_type

    return storage.to_array(block, strided_type(float32, shape))


def _layers() -> tuple[nn.Module, object, vitrify.Tensor]:
    vitrify.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Conv2d(32, 24, 3)).eval()
    return model, vitrify.compile(model), vitrify.randn(1, 16, 9, 9)


def _agree(model: nn.Module, compiled: object, x: vitrify.Tensor) -> None:
    with vitrify.no_grad():
        want = model.forward(x).numpy()
        for _ in range(3):
            assert_same_bits(compiled(x).numpy(), want)  # type: ignore[operator]


def test_writing_to_a_weight_is_seen() -> None:
    model, compiled, x = _layers()
    _agree(model, compiled, x)
    with vitrify.no_grad():
        model[0].weight.mul_(2)  # type: ignore[index]
    _agree(model, compiled, x)
    model[2].weight.data = vitrify.randn(24, 32, 3, 3)  # type: ignore[index]
    _agree(model, compiled, x)


def test_writing_through_numpy_is_seen() -> None:
    model, compiled, x = _layers()
    outside = model[0].weight.detach().numpy()  # type: ignore[index]
    for _ in range(3):
        outside += 1
        _agree(model, compiled, x)


def test_memory_that_came_from_numpy_is_looked_at_in_every_call() -> None:
    model, compiled, x = _layers()
    mine = np.ones((32, 16, 3, 3), np.float32)
    model[0].weight.data = vitrify.from_numpy(mine)  # type: ignore[index]
    for _ in range(3):
        mine += 1
        _agree(model, compiled, x)


def test_who_shares_memory_is_known() -> None:
    own = storage.allocate(64)
    assert not storage.is_shared(own)
    one, two = _array(own, (16,)), _array(own, (16,))
    del one
    assert storage.is_shared(storage.view(own, 8))
    del two
    assert not storage.is_shared(own)
    array = np.zeros(4, np.float32)
    foreign = storage.from_array(array[1:])
    assert storage.is_shared(foreign)


def _mlp() -> tuple[nn.Module, object, vitrify.Tensor]:
    vitrify.manual_seed(0)
    model = nn.Sequential(nn.Linear(70, 96), nn.ReLU(), nn.Linear(96, 50)).eval()
    return model, vitrify.compile(model), vitrify.randn(2, 70)


def test_layers_with_few_rows_read_turned_weights_once_these_settle() -> None:
    model, compiled, x = _mlp()
    for _ in range(3):
        _agree(model, compiled, x)
    with vitrify.no_grad():
        model[0].weight.mul_(2)  # type: ignore[index]
    _agree(model, compiled, x)
    model[2].weight.data = vitrify.randn(50, 96)  # type: ignore[index]
    _agree(model, compiled, x)


def test_an_array_that_was_dropped_again_has_been_able_to_write() -> None:
    for model, compiled, x in (_mlp(), _layers()):
        for _ in range(3):
            _agree(model, compiled, x)
        for _ in range(3):
            model[0].weight.detach().numpy()[...] += 1  # type: ignore[index]
            _agree(model, compiled, x)


def test_whoever_knows_the_address_may_write() -> None:
    for model, compiled, x in (_mlp(), _layers()):
        for _ in range(4):
            _agree(model, compiled, x)
        weight = model[0].weight  # type: ignore[index]
        outside = (ctypes.c_float * weight.numel()).from_address(weight.data_ptr())
        for _ in range(3):
            outside[0] += 100
            _agree(model, compiled, x)


def product(rows: int, *, updated: bool = False) -> Graph:
    build = GraphBuilder("product")
    x, w = build.input(TensorType(float32, (rows, 80)), "x"), build.input(TensorType(float32, (96, 80)), "w")
    y = build(ops.contract, x, w, spec=contract_spec("m k", "n k", "m n", "k"))
    return build.finish([y], [(w, build(ops.neg, w))] if updated else [])


def test_which_layers_are_taken_apart() -> None:
    packed = pack_weights(product(2))
    assert packed is not None and not packed.windowed and pack_weights(packed.main) is None
    assert pack_weights(product(64)) is None
    assert pack_weights(product(2, updated=True)) is None


def test_weights_that_keep_changing_are_left() -> None:
    made = compile_graph(product(3))
    assert made.weights is None and made.apart is not None
    call, x = made.bind(), _copied(np.ones((3, 80), np.float32))
    for number in range(9):
        w = np.full((96, 80), number, np.float32)
        assert _array(call(x, _copied(w)), (3, 96))[1, 5] == 80 * number
    w = _copied(np.ones((96, 80), np.float32))
    assert all(_array(call(x, w), (3, 96))[2, 7] == 80 for _ in range(4))


def _products(number: int) -> tuple[CompiledGraph, storage.Storage, storage.Storage]:
    """The call of a graph, its operands."""
    graph = convolution(48 + number, 20)
    x, w = (_copied(a) for a in arrays(graph))
    return compile_graph(graph), x, w


def test_a_copy_is_freed_with_its_weight() -> None:
    made, x, w = _products(0)
    before = weights.kept_bytes()
    made.run([x, w])
    made.run([x, w])
    nbytes = 48 * 20 * 9 * 4
    assert weights.kept_bytes() - before == nbytes == made.memory.kept
    part = storage.view(w, 16)  # a view holds the block
    del w
    assert weights.kept_bytes() - before == nbytes
    del part
    assert weights.kept_bytes() == before and made.memory.kept == 0


def test_another_weight_in_the_same_place_is_another_one() -> None:
    made, x, w = _products(0)
    (first,) = made.run([x, w])
    for number in range(3):
        place = storage.address(w)
        array = np.full((48, 20, 3, 3), number, np.float32)
        del w
        w = _copied(array)
        assert storage.version(w) == 0 and (storage.address(w) == place or not storage.is_native)
        (got,) = made.run([x, w])
        (want,) = compile_graph(convolution(48, 20), optimized=True).run([x, w])
        assert_same_bits(_array(got, (2, 48, 6, 5)), _array(want, (2, 48, 6, 5)))


def test_copies_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    nbytes = 48 * 20 * 9 * 4
    monkeypatch.setattr(weights, "MOST_BYTES", weights.kept_bytes() + nbytes + nbytes // 2)
    calls = [_products(number) for number in (0, 1)]
    results = [made.run([x, w]) for _ in range(2) for made, x, w in calls]
    assert [made.memory.kept for made, _, _ in calls] == [nbytes, 0]
    assert_same_bits(_array(results[1][0], (2, 49, 6, 5)), _array(results[3][0], (2, 49, 6, 5)))


def test_an_executable_that_goes_takes_its_copies_along() -> None:
    packing = pack_weights(convolution(48, 20))
    assert packing is not None
    w = _copied(arrays(convolution(48, 20))[1])
    before = weights.kept_bytes()
    holder = weights.Weights(compile_graph(packing.packing, optimized=True), [0])
    turned = holder.turned([w])
    assert holder.turned([w]) == turned and weights.kept_bytes() > before
    del holder
    assert weights.kept_bytes() == before
    assert storage.attach(w, object()) is not None  # what was attached stays with the block


def test_the_plan_shows_what_is_kept() -> None:
    made = compile_graph(convolution(48, 20))
    text = made.text("plan")
    assert "buffer %w_turned: f32[8640] kept 2" in text
    assert print_plan(parse_plan(text)) == text
    verify_plan(parse_plan(text))
    kept = [b for b in made.plan.external if b.kind == "kept"]
    assert [b.index for b in kept] == [2]
    assert all(b.kind != "kept" for b in compile_graph(convolution(4, 3)).plan.buffers)


def test_threads_that_write_and_call_see_no_old_copy() -> None:
    made, x = compile_graph(convolution(48, 20)), _copied(np.ones((2, 20, 6, 5), np.float32))
    stop = threading.Event()
    faults: list[float] = []

    def call() -> None:
        while not stop.is_set():
            own = _copied(np.full((48, 20, 3, 3), threading.get_ident() % 7, np.float32))
            for number in range(3):
                (y,) = made.run([x, own])
                want = -20.0 * 9 * (threading.get_ident() % 7) * 2**number
                if _array(y, (2, 48, 6, 5))[0, 0, 3, 3] != want:
                    faults.append(want)
                _array(own, (48, 20, 3, 3))[...] *= 2
                storage.bump(own)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.4)
    stop.set()
    for thread in threads:
        thread.join()
    assert not faults
