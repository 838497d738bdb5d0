"""Turned weights are made once for as long as the weights are unchanged, and never lag behind."""

from __future__ import annotations

import ctypes

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
from vitrify.ir.types import TensorType
from vitrify.ir.verifier import verify_graph
from vitrify.passes.packed import pack_weights
from vitrify.runtime import storage
from vitrify.runtime.compiler import compile_graph

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


@pytest.mark.parametrize("channels", [(24, 20), (64, 256), (96, 160), (40, 512)], ids=str)
def test_both_graphs_together_mean_the_same(channels: tuple[int, int]) -> None:
    graph = convolution(*channels)
    packed = pack_weights(graph)
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
