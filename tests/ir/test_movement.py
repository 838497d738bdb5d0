"""Meanings of movement, windows, views, gather and scatter."""

import numpy as np
import pytest
from vitrify.ir import ops
from vitrify.ir.interpreter import evaluate
from vitrify.ir.opdef import bind


def run(opdef, *arrays, **attrs):
    return evaluate(bind(opdef, **attrs), [np.asarray(a) for a in arrays])


def test_window_and_fold_are_adjoint():
    rng = np.random.default_rng(0)
    for dims, sizes, strides, dilations in [((7,), (3,), (2,), (1,)), ((6, 8), (2, 3), (1, 2), (2, 1))]:
        axes = tuple(range(1, 1 + len(dims)))
        x = rng.integers(-9, 9, (2, *dims))
        attrs = {"axes": axes, "strides": strides, "dilations": dilations}
        y = run(ops.window, x, sizes=sizes, **attrs)
        ct = rng.integers(-9, 9, y.shape)
        back = run(ops.fold, ct, shape=dims, **attrs)
        assert back.shape == x.shape
        assert (y * ct).sum() == (x * back).sum()


def test_windows():
    y = run(ops.window, np.arange(8), axes=(0,), sizes=(3,), strides=(2,), dilations=(2,))
    assert y.tolist() == [[0, 2, 4], [2, 4, 6]]


def test_pad_flip_concat_slice():
    x = np.array([[1, 2], [3, 4]])
    padded = run(ops.pad, x, np.int64(0), lo=(1, 0), hi=(0, 2), interior=(1, 0))
    assert padded.tolist() == [[0, 0, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0], [3, 4, 0, 0]]
    assert run(ops.pad, np.zeros(0), np.float64(7), lo=(1,), hi=(2,), interior=(3,)).tolist() == [7, 7, 7]
    assert run(ops.flip, x, axes=(0, 1)).tolist() == [[4, 3], [2, 1]]
    assert run(ops.concat, x, x[:1], axis=0).tolist() == [[1, 2], [3, 4], [1, 2]]
    assert run(ops.slice_, np.arange(10), starts=(1,), stops=(8,), steps=(3,)).tolist() == [1, 4, 7]
    assert run(ops.update_slice, np.arange(6), np.array([-1, -2]), starts=(1,), steps=(3,)).tolist() == [
        0,
        -1,
        2,
        3,
        -2,
        5,
    ]
    assert run(ops.update_slice, np.arange(3), np.zeros(0, np.int64), starts=(3,), steps=(1,)).tolist() == [
        0,
        1,
        2,
    ]
    assert run(ops.expand, np.array([[1], [2]]), shape=(2, 3)).tolist() == [[1, 1, 1], [2, 2, 2]]
    assert run(ops.permute, np.zeros((2, 3, 5)), perm=(2, 0, 1)).shape == (5, 2, 3)


def test_strided_views():
    x = np.arange(12).reshape(3, 4)
    assert run(ops.as_strided, x, shape=(2, 2), strides=(4, 2), offset=1).tolist() == [[1, 3], [5, 7]]
    assert run(ops.as_strided, x, shape=(3,), strides=(-2,), offset=10).tolist() == [10, 8, 6]
    assert run(ops.as_strided, x, shape=(2, 3), strides=(0, 0), offset=11).tolist() == [[11] * 3] * 2
    assert run(ops.as_strided, x, shape=(0, 3), strides=(1, 1), offset=99).shape == (0, 3)
    assert run(ops.as_strided, x, shape=(), strides=(), offset=5) == 5
    new = run(ops.as_strided_update, x, np.array([-1, -2]), strides=(5,), offset=1)
    assert new.tolist() == [[0, -1, 2, 3], [4, 5, -2, 7], [8, 9, 10, 11]]
    back = run(ops.as_strided_update, x, np.array([-1, -2]), strides=(-5,), offset=6)
    assert back.tolist() == [[0, -2, 2, 3], [4, 5, -1, 7], [8, 9, 10, 11]]
    assert x.reshape(-1).tolist() == list(range(12))


def test_gather_and_scatter():
    x = np.arange(12).reshape(3, 4)
    assert run(ops.gather, x, np.array([[0, -1]]), axes=(1,)).shape == (1, 2, 3)
    assert run(ops.gather, x, np.array([0, -1]), axes=(1,)).tolist() == x[:, [0, 3]].T.tolist()
    assert run(ops.gather, x, np.array([2, 0]), np.array([1, 1]), axes=(0, 1)).tolist() == [9, 1]
    i = np.array([1, -1, 1])
    values = np.array([[1, 1, 1], [5, 5, 5], [2, 3, 4]])
    assert run(ops.scatter, x, values, i, axes=(1,)).tolist() == [[0, 2, 2, 5], [4, 3, 6, 5], [8, 4, 10, 5]]
    added = run(ops.scatter_add, x, values, i, axes=(1,))
    assert added.tolist() == [[0, 4, 2, 8], [4, 9, 6, 12], [8, 14, 10, 16]]
    with pytest.raises(IndexError, match="index -4 is out of bounds for dimension 0 with size 3"):
        run(ops.scatter_add, x, x[:1], np.array([-4]), axes=(0,))
    assert run(ops.gather, np.zeros((0, 2)), np.zeros(0, np.int64), axes=(0,)).shape == (0, 2)


def test_scatter_add_adds_in_row_major_order():
    values = np.array([1e8, 1, -1e8, 1], np.float32)
    got = run(ops.scatter_add, np.zeros(1, np.float32), values, np.zeros(4, np.int64), axes=(0,))
    assert got[0] == ((np.float32(1e8) + np.float32(1)) - np.float32(1e8)) + np.float32(1)
