"""Reductions and cumulative sums: each canonical order spelled out once more, element by element."""

import numpy as np
import pytest
from vitrify.ir import ops
from vitrify.ir.builder import GraphBuilder, broadcast, reduce, sum_to
from vitrify.ir.dtypes import float32
from vitrify.ir.errors import IRTypeError
from vitrify.ir.interpreter import evaluate, interpret
from vitrify.ir.opdef import OpDef, bind
from vitrify.ir.types import TensorType

from tests.support import assert_same_bits


def run(opdef, *arrays, **attrs):
    return evaluate(bind(opdef, **attrs), [np.asarray(a) for a in arrays])


def by_lanes(x):
    total = np.float32(0)
    for at in range(0, len(x), 4096):
        lanes = [np.float32(0)] * 16
        for i, v in enumerate(x[at : at + 4096]):
            lanes[i % 16] = lanes[i % 16] + v
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [lanes[i] + lanes[i + half] for i in range(half)]
        total = total + lanes[0]
    return total


def by_rows(x):
    blocks = []
    for at in range(0, len(x), 128):
        total = np.float32(0)
        for v in x[at : at + 128]:
            total = total + v
        blocks.append((1, total))
        while len(blocks) > 1 and blocks[-1][0] == blocks[-2][0]:
            (size, right), (_, left) = blocks.pop(), blocks.pop()
            blocks.append((2 * size, left + right))
    while len(blocks) > 1:
        (_, right), (_, left) = blocks.pop(), blocks.pop()
        blocks.append((0, left + right))
    return blocks[0][1] if blocks else np.float32(0)


@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17, 127, 128, 129, 300, 511, 700, 4096, 4097, 8200])
def test_orders_of_a_sum(n):
    x = (np.random.default_rng(n).normal(size=n) * 100).astype(np.float32)
    assert_same_bits(run(ops.reduce_sum, x, axes=(0,), order="lanes"), np.asarray(by_lanes(x)))
    rows = run(ops.reduce_sum, np.stack([x, x * 3], 1).reshape(n, 2), axes=(0,), order="rows")
    assert_same_bits(rows, np.array([by_rows(x), by_rows(x * 3)]))
    total = np.float32(0)
    for v in x:
        total = total + v
    assert_same_bits(run(ops.reduce_sum, x, axes=(0,), order="sequential"), np.asarray(total))


def test_several_axes_are_one_index_row_major():
    x = np.random.default_rng(0).normal(size=(3, 20, 30)).astype(np.float32)
    flat = x.reshape(3, 600)
    assert_same_bits(
        run(ops.reduce_sum, x, axes=(1, 2), order="lanes"),
        run(ops.reduce_sum, flat, axes=(1,), order="lanes"),
    )
    moved = np.ascontiguousarray(x.reshape(60, 30))
    assert_same_bits(
        run(ops.reduce_sum, x, axes=(0, 1), order="rows"), run(ops.reduce_sum, moved, axes=(0,), order="rows")
    )
    assert run(ops.argmax, x, axes=(1, 2), order="lanes").tolist() == flat.argmax(1).tolist()
    assert run(ops.argmin, x, axes=(0, 2), order="sequential").shape == (20,)


def test_sums_start_from_zero_and_empty_ones_are_the_identity():
    assert not np.signbit(run(ops.reduce_sum, np.array([-0.0]), axes=(0,), order="lanes"))
    empty = np.zeros((2, 0), np.float32)
    assert run(ops.reduce_sum, empty, axes=(1,), order="lanes").tolist() == [0, 0]
    assert run(ops.reduce_prod, empty, axes=(1,), order="lanes").tolist() == [1, 1]
    assert run(ops.reduce_sum, np.zeros((0, 3, 0)), axes=(0,), order="rows").shape == (3, 0)
    assert run(ops.reduce_sum, np.array([200, 100], np.uint8), axes=(0,), order="lanes") == 44


def test_maxima_propagate_nan_and_indices_take_the_first():
    x = np.array([[1, np.nan, 3], [2, 5, 5], [-0.0, 0.0, -0.0]])
    assert_same_bits(run(ops.reduce_max, x, axes=(1,), order="lanes"), np.array([np.nan, 5, 0.0]))
    assert_same_bits(run(ops.reduce_min, x, axes=(1,), order="lanes"), np.array([np.nan, 2, -0.0]))
    assert run(ops.argmax, x, axes=(1,), order="lanes").tolist() == [1, 1, 0]
    assert run(ops.argmin, x, axes=(1,), order="lanes").tolist() == [1, 0, 0]
    for dtype in (np.int32, np.uint8, bool):
        y = np.array([[0, 1], [1, 1]]).astype(dtype)
        assert run(ops.reduce_max, y, axes=(1,), order="lanes").tolist() == [1, 1]
        assert run(ops.reduce_min, y, axes=(1,), order="lanes").tolist() == [0, 1]


def test_cumsum_is_sequential():
    x = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    got = run(ops.cumsum, x, axis=1)
    total = np.zeros(3, np.float32)
    for i in range(50):
        total = total + x[:, i]
        assert_same_bits(got[:, i], total)
    assert run(ops.cumsum, np.zeros((0, 2)), axis=0).shape == (0, 2)


def test_reduce_and_sum_to_split_axes():
    build = GraphBuilder()
    x = build.input(TensorType(float32, (2, 3, 4, 5)))
    total = reduce(build, ops.reduce_sum, x, [3, 0, 1])
    assert [op.attrs["order"] for op in build.operations] == ["lanes", "rows"]
    back = sum_to(build, x, (3, 1, 5))
    wide = broadcast(build, back, (2, 3, 4, 5))
    assert (total.type.shape, back.type.shape, wide.type.shape) == ((4,), (3, 1, 5), (2, 3, 4, 5))
    array = np.random.default_rng(0).integers(-5, 5, (2, 3, 4, 5)).astype(np.float32)
    outputs, _ = interpret(build.finish([total, back]), [array])
    assert_same_bits(outputs[0], array.sum((0, 1, 3)))
    assert_same_bits(outputs[1], array.sum((0, 2), keepdims=True)[0])


@pytest.mark.parametrize("n", [0, 1, 127, 128, 129, 300, 1000, 1025])
@pytest.mark.parametrize("op", [ops.reduce_sum, ops.reduce_max], ids=lambda op: op.name)
def test_rows_are_blocks_joined_pairwise(op: OpDef, n: int):
    x = np.random.default_rng(n).standard_normal((2, n, 3)).astype(np.float32)
    if n == 0 and op is ops.reduce_max:
        return
    blocks = run(op, x, axes=(1,), order="blocks")
    assert blocks.shape == (2, -(-n // 128), 3)
    assert_same_bits(run(op, blocks, axes=(1,), order="pairwise"), run(op, x, axes=(1,), order="rows"))


def test_blocks_are_of_adjacent_axes():
    with pytest.raises(IRTypeError, match="blocks are of adjacent axes"):
        ops.reduce_sum.result_types(TensorType(float32, (2, 3, 4, 5)), axes=(0, 2), order="blocks")
