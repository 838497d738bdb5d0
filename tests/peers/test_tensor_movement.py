"""Shapes, views, joining and indexing against PyTorch: values, strides where they are seen,
gradients, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import vitrify

from .tensor_twins import arrays_of, check, check_grad, check_message

CUBE = arrays_of("float64")["cube"]
MATRIX = arrays_of("float64")["matrix"]

MOVES: list[Callable[[Any], Any]] = [
    lambda x: x.reshape(4, 15), lambda x: x.reshape(-1), lambda x: x.reshape((5, -1, 2)),
    lambda x: x.view(12, 5), lambda x: x.transpose(0, 1).reshape(-1),
    lambda x: x.transpose(1, 2).reshape(3, 20), lambda x: x.permute(2, 0, 1),
    lambda x: x.permute((-1, 0, 1)), lambda x: x.transpose(0, -1), lambda x: x.flatten(),
    lambda x: x.flatten(1), lambda x: x.flatten(0, 1), lambda x: x.unflatten(1, (2, 2)),
    lambda x: x.unflatten(0, (-1, 3)), lambda x: x.T, lambda x: x.mT, lambda x: x.movedim(0, 2),
    lambda x: x.movedim((0, 1), (-1, 0)), lambda x: x.unsqueeze(0), lambda x: x.unsqueeze(-1),
    lambda x: x[:1].squeeze(), lambda x: x[:1].squeeze(0), lambda x: x[:1].squeeze(1),
    lambda x: x[:1, :1].squeeze((0, 1)), lambda x: x[:, :1].expand(3, 4, 5),
    lambda x: x[:, :1].expand(-1, 4, -1), lambda x: x.expand(2, 3, 4, 5), lambda x: x.repeat(2, 1, 3),
    lambda x: x.repeat(2, 1, 1, 1), lambda x: x.tile(2), lambda x: x.repeat_interleave(2, 1),
    lambda x: x.repeat_interleave(3), lambda x: x.flip(0), lambda x: x.flip(0, 2), lambda x: x.roll(1, 0),
    lambda x: x.roll((1, -2), (0, 2)), lambda x: x.roll(7), lambda x: x.rot90(), lambda x: x.rot90(3),
    lambda x: x.rot90(2, (1, 2)), lambda x: x.narrow(1, 1, 2), lambda x: x.narrow(2, -3, 2),
    lambda x: x.select(0, 1), lambda x: x.select(-1, -2), lambda x: x.diagonal(),
    lambda x: x.diagonal(1, 0, 2), lambda x: x.diagonal(-1, 1, 2), lambda x: x.diagonal(9),
    lambda x: x.unfold(1, 2, 1), lambda x: x.unfold(2, 3, 2), lambda x: x.contiguous(),
    lambda x: x.permute(2, 1, 0).contiguous(), lambda x: x.clone(), lambda x: x.tril(), lambda x: x.triu(1),
    lambda x: x.as_strided((2, 3), (5, 2), 4), lambda x: x.chunk(2, 1)[1], lambda x: x.split(2, 2)[-1],
    lambda x: x.split([1, 3], 1)[1], lambda x: x.unbind(1)[2], lambda x: x.tensor_split(3, 2)[0],
    lambda x: x.tensor_split((1, 3), 1)[1], lambda x: x.swapaxes(0, 1), lambda x: x.moveaxis(0, 1),
    lambda x: x.ravel(), lambda x: x.view_as(x), lambda x: x.expand_as(x),
    lambda x: x.reshape_as(x.flatten()), lambda x: x.broadcast_to((2, 3, 4, 5)),
]  # fmt: skip


@pytest.mark.parametrize("i", range(len(MOVES)))
def test_moves(i: int) -> None:
    check_grad(lambda lib, x: MOVES[i](x), CUBE, what=str(i))
    ours, theirs = MOVES[i](vitrify.from_numpy(CUBE)), MOVES[i](torch.from_numpy(CUBE))
    if theirs.is_contiguous() and theirs.numel():
        assert ours.is_contiguous() and ours.stride() == theirs.stride()


INDICES: list[Any] = [
    0, -1, slice(1, None), slice(None, None, 2), (0, 1), (slice(None), 1), (Ellipsis, 2), (0, Ellipsis),
    None, (None, 1, None), (slice(None), None, 2), [0, 2], [True, False, True], (slice(None), [1, 1, 0]),
    ([0, 2], [1, 3]), ([[0], [2]], [1, 3]), ([0, 2], slice(None), [1, 3]), (slice(None), [0, 2], [1, 3]),
    (0, [1, 2]), ([1, 2], 0), (slice(1, 2), [0, 1], 2), (Ellipsis, [0, 4]), (slice(5, 2),),
    (slice(-2, None), slice(0, 100)), (1, 2, 3), True, False, (slice(None), True), (-1, slice(None), -1), [],
    (None, [0, 1], None), np.array([1, 0]), ([-1, 0],), (np.int64(1), slice(None)),
    ((0, 1),), ((1, 0), 2), (0, (1, 2)), ((0, 1), (2, 1)), ((0, 0, 1, 1, 0),), (True, 0), (True, 0, True),
    (True, [1, 0]), (Ellipsis, Ellipsis), (Ellipsis, 0, Ellipsis),
]  # fmt: skip


@pytest.mark.parametrize("offset", [0, 1, -2])
def test_diagonals_and_differences(offset: int) -> None:
    check_grad(lambda lib, x: lib.diag(x[0], offset), MATRIX)
    check_grad(lambda lib, x: lib.diag(x, offset), MATRIX)
    check(lambda lib, x: lib.diag(x[0, :0], offset), MATRIX)
    check_grad(lambda lib, x: lib.diff(x, abs(offset), 0), MATRIX)
    check(lambda lib, x: x.diff(), MATRIX > 0)


BAD_INDICES: list[Any] = [3, (0, 4), (0, 0, 0, 0), (0, Ellipsis, 9), [5], ([0, 1], [0, 1, 2]), 1.5, "a"]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_getitem(index: Any) -> None:
    check_grad(lambda lib, x: x[index], CUBE)
    check(lambda lib, x: x.permute(2, 0, 1)[index], np.ascontiguousarray(CUBE.transpose(1, 2, 0)))


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_setitem(index: Any) -> None:
    def store(lib: Any, x: Any, value: Any) -> Any:
        y = x * 1
        y[index] = value
        return y

    shape = np.shape(np.asarray(torch.from_numpy(CUBE)[index]))
    values = np.random.default_rng(1).standard_normal(shape)
    if index is False:  # PyTorch gives the values no gradient, instead of an empty one
        check(store, CUBE, values)
    elif "1, 1" not in str(index):  # which of two values stays is not defined
        check_grad(store, CUBE, values)
    check_grad(lambda lib, x: store(lib, x, 7), CUBE)
    check(lambda lib, x: store(lib, x, 2.5), arrays_of("int64")["cube"])


@pytest.mark.parametrize("index", BAD_INDICES, ids=str)
def test_bad_indices(index: Any) -> None:
    check(lambda lib, x: x[index], CUBE)


def test_bools_copy() -> None:
    def changed(lib: Any, x: Any) -> Any:
        y = x * 1
        y[True].add_(1)
        y[0, True].add_(1)
        return y

    check_grad(changed, CUBE)


def test_indices_of_an_empty_dimension() -> None:
    def store(lib: Any, x: Any) -> Any:
        x[[0, 1]] = 7
        return x

    check(store, CUBE[:0])
    check(lambda lib, x: x.index_put((lib.tensor([0]),), lib.ones(3)), CUBE[0, :0])
    check(lambda lib, x: x[[]], CUBE[:0])


def test_masks() -> None:
    check_grad(lambda lib, x: x[x > 0], CUBE)
    check_grad(lambda lib, x: x[x[:, 0, 0] > -5], CUBE)
    check_grad(lambda lib, x: x[:, x[0, :, 0] > 0], CUBE)
    check_grad(lambda lib, x: x.masked_select(x > 1), CUBE)
    check(lambda lib, x: x.nonzero(), (CUBE > 1))
    check(lambda lib, x: x.nonzero(as_tuple=True), (CUBE > 1))
    check(lambda lib, x: lib.argwhere(x), (CUBE > 1))
    check(lambda lib, x: x[lib.zeros(2, dtype=lib.bool)], CUBE)

    def store(lib: Any, x: Any, value: Any) -> Any:
        y = x * 1
        y[y > 0] = value
        return y

    check_grad(lambda lib, x: store(lib, x, 0.5), CUBE)
    check_grad(lambda lib, x: store(lib, x, x[0, 0, 0]), CUBE)
    check(lambda lib, x: store(lib, x, lib.arange(int((x > 0).sum())).double()), CUBE)


def test_gathering() -> None:
    index = np.array([[0, 3, 1], [2, 2, 0]])
    x = MATRIX
    for dim in (0, 1):
        check_grad(lambda lib, x, i: lib.gather(x, dim, i), x, index)
        check_grad(
            lambda lib, x, s, i: x.scatter(dim, i, s), x, MATRIX[:2, :3] * 2, np.array([[0, 3, 1], [2, 4, 0]])
        )
        check_grad(lambda lib, x, s, i: x.scatter_add(dim, i, s), x, MATRIX[:2, :3] * 2, index)
        check(lambda lib, x, i: x.scatter(dim, i, 1.5), x, index)
        check_grad(lambda lib, x, i: x.index_select(dim, i), x, index[0])
        check_grad(
            lambda lib, x, i, s: x.index_add(dim, i, s, alpha=2),
            x,
            np.array([1, 0]),
            x[:2] if dim == 0 else x[:, :2],
        )
        check_grad(
            lambda lib, x, i, s: x.index_copy(dim, i, s),
            x,
            np.array([1, 0]),
            x[2:4] if dim == 0 else x[:, 2:4],
        )
        check_grad(lambda lib, x, i: x.index_fill(dim, i, 3.0), x, np.array([1, 0]))
        check(lambda lib, x, i: lib.take_along_dim(x, i, dim), x, np.argsort(x, dim))
    check_grad(lambda lib, x, i: x.take(i), x, index)
    check(lambda lib, x, i: x.index_select(0, i), x, np.array([0, 9]))
    check(lambda lib, x, i: lib.gather(x, 0, i), x, index.astype(np.int32))


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("dtype", ["bool", "int64", "float32"])
def test_index_put(dtype: str, accumulate: bool) -> None:
    """Places that coincide add up; bools are true where one of them is."""
    x = np.array([[1, 0, 0], [0, 1, 0]]).astype(dtype)
    values = np.array([1, 1, 0, 0]).astype(dtype)
    rows, columns = np.array([0, 0, 1, 1]), np.array([1, 1, 1, 2])

    def put(lib: Any, x: Any, values: Any, rows: Any, columns: Any) -> Any:
        return x.index_put((rows, columns), values, accumulate=accumulate)

    arrays = (x, values, rows, columns)
    want = put(torch, *map(torch.tensor, arrays))
    for function in (put, vitrify.compile(put)):
        got = function(vitrify, *map(vitrify.tensor, arrays))
        assert got.numpy().dtype == x.dtype
        np.testing.assert_array_equal(got.numpy(), want.numpy())


def test_joining() -> None:
    a, b = MATRIX[:2], MATRIX[2:]
    check_grad(lambda lib, a, b: lib.cat([a, b]), a, b)
    check_grad(lambda lib, a, b: lib.cat((a, b[:2]), dim=-1), a, b)
    check_grad(lambda lib, a: lib.stack([a, a, a], 1), a)
    check_grad(lambda lib, a, b: lib.vstack([a, b]), a, b)
    check_grad(lambda lib, a: lib.hstack([a, a]), a)
    check(lambda lib, a, b: lib.cat([a, b]), a, b.astype(np.float32))
    check(lambda lib, a, b: lib.cat([a, b, lib.zeros(0)]), a, b)
    check(lambda lib, a: lib.meshgrid(a[0], a[1, :3], indexing="ij"), a)
    check(lambda lib, a: lib.meshgrid(a[0], a[1, :3], indexing="xy"), a)
    check(lambda lib, a: lib.broadcast_tensors(a, a[:1], a[:, :1]), a)


ERRORS: list[Callable[[Any, Any], Any]] = [
    lambda lib, x: x.reshape(7, 7), lambda lib, x: x.reshape(-1, -1), lambda lib,
    x: x.t().contiguous().t().view(-1), lambda lib, x: x.permute(0, 0), lambda lib, x: x.transpose(0, 5),
    lambda lib, x: x.squeeze(9), lambda lib, x: x.unsqueeze(5), lambda lib, x: x.expand(4, 12), lambda lib,
    x: x.expand(-1, 5, 12), lambda lib, x: x.narrow(0, 3, 9), lambda lib, x: x.select(0, 9), lambda lib,
    x: lib.cat([x, x[0]]), lambda lib, x: lib.cat([x, x[:, :3]]), lambda lib, x: lib.stack([x, x[:2]]),
    lambda lib, x: lib.cat([]), lambda lib, x: x.split([1, 2]), lambda lib, x: x + x[:, :5], lambda lib,
    x: x.unflatten(0, (2, 2)), lambda lib, x: x[9], lambda lib, x: x[0, 0, 0], lambda lib, x: x[0, 0][0],
    lambda lib, x: x.item(), lambda lib, x: bool(x), lambda lib, x: x.sum(7), lambda lib, x: x.chunk(0),
    lambda lib, x: x.flip(4), lambda lib, x: len(x[0, 0]), lambda lib, x: iter(x[0, 0]), lambda lib,
    x: x[::-1], lambda lib, x: x @ x, lambda lib, x: x.mm(x[0]), lambda lib, x: x @ x[0, :3], lambda lib,
    x: x[0] @ x[0, :3], lambda lib, x: lib.bmm(x[None], x[None]), lambda lib, x: x @ x[0, 0], lambda lib,
    x: x.t() @ x.float(), lambda lib, x: x.long().mean(), lambda lib, x: -x.bool(), lambda lib,
    x: x.bool() - x.bool(), lambda lib, x: lib.arange(3, 1), lambda lib, x: lib.zeros(-1), lambda lib,
    x: x.long().requires_grad_(), lambda lib, x: lib.tensor([[1, 2], [3]]), lambda lib, x: x.max(5),
    lambda lib, x: x.view(-1, 7), lambda lib, x: ~x, lambda lib, x: x.long().add_(1.5), lambda lib,
    x: x[0].add_(x * 2), lambda lib, x: x.clamp(), lambda lib, x: x.long() ** -1, lambda lib, x: x[:0].max(),
    lambda lib, x: x[:0].argmax(0), lambda lib, x: lib.einsum("ij,jk", x, x), lambda lib,
    x: x.diagonal(0, 1, 1), lambda lib, x: x.expand(2, 5, 12).add_(1), lambda lib, x: x.unfold(0, 9, 1),
    lambda lib, x: x.repeat(2), lambda lib, x: x.cuda(),
]  # fmt: skip


@pytest.mark.parametrize("i", range(len(ERRORS)))
def test_error_messages(i: int) -> None:
    check_message(ERRORS[i], MATRIX)
