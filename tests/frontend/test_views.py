"""Which results share memory with their operand and which never do, eagerly and compiled."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import vitrify
from vitrify.nn import functional as F

from tests.support import assert_same_bits

Tensor = vitrify.Tensor


def grid(*shape: int) -> Tensor:
    return vitrify.arange(float(vitrify.Size(shape).numel())).reshape(shape)


COPIES: dict[str, Callable[[Tensor], Tensor]] = {
    "roll by nothing": lambda x: x.roll(0, 0),
    "roll all the way": lambda x: x.roll(x.shape[0], 0),
    "roll flattened": lambda x: x.roll(x.numel()),
    "diff of no order": lambda x: x.diff(n=0),
    "diag": lambda x: x.diag(),
    "pad by nothing": lambda x: F.pad(x, (0, 0)),
    "pad that cuts": lambda x: F.pad(x, (-1, 0)),
    "max_pool of one": lambda x: F.max_pool1d(x, 1),
    "max_pool of every other": lambda x: F.max_pool1d(x, 1, 2),
    "adaptive pool to the same size": lambda x: F.adaptive_avg_pool1d(x, x.shape[-1]),
    "flip of a single row": lambda x: x[:1].flip(0),
    "cat of one": lambda x: vitrify.cat([x]),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_one_even_where_nothing_had_to_be_done(name: str) -> None:
    x = grid(3, 4)
    before, made = x.clone(), COPIES[name](x)
    made.fill_(-1)
    assert_same_bits(x.numpy(), before.numpy(), name)


DIAGONALS: dict[str, Callable[[Tensor], Tensor]] = {
    "row-major": lambda x: x[0].diagonal(),
    "above": lambda x: x[0].diagonal(1),
    "below": lambda x: x[0].diagonal(-2),
    "transposed": lambda x: x[0].t().diagonal(),
    "cut out": lambda x: x[1, 1:, 1:].diagonal(),
    "every other": lambda x: x[0, ::2, ::2].diagonal(),
    "batch": lambda x: x.diagonal(dim1=-2, dim2=-1),
    "first axes": lambda x: x.diagonal(),
    "outer axes": lambda x: x.diagonal(0, 0, 2),
    "none": lambda x: x[0].diagonal(9),
}


@pytest.mark.parametrize("name", DIAGONALS)
def test_a_diagonal_is_a_view_of_any_tensor(name: str) -> None:
    def fill(x: Tensor) -> Tensor:
        DIAGONALS[name](x).add_(100)
        return x

    want = grid(2, 4, 5).numpy()
    seen = DIAGONALS[name](grid(2, 4, 5))
    marked = (want[..., None] == seen.numpy().ravel()).any(-1)
    want[marked] += 100
    assert_same_bits(fill(grid(2, 4, 5)).numpy(), want, "eager")
    x = grid(2, 4, 5)
    vitrify.compile(fill)(x)
    assert_same_bits(x.numpy(), want, "compiled")


def test_gradient_of_a_diagonal_of_a_transposed_cut() -> None:
    x = grid(4, 5).requires_grad_()
    (x.t()[1:, 1:].diagonal() * vitrify.tensor([1.0, 2.0, 3.0])).sum().backward()
    want = vitrify.zeros(4, 5)
    want[1, 1], want[2, 2], want[3, 3] = 1.0, 2.0, 3.0
    assert vitrify.equal(x.grad, want)


def into_expanded(x: Tensor) -> Tensor:
    y = x.expand(4, *x.shape)
    y[2, 1:] += 5
    y[0].t()[0].mul_(3)
    return y.sum(0) + x


def into_windows(x: Tensor) -> Tensor:
    y = x[1:].unfold(0, 2, 1)
    y[0].add_(10)
    y[1, 0].mul_(2)
    return y * 2 + x[0, :1]


def into_same_shape(x: Tensor) -> Tensor:
    y = x.expand(1, *x.shape)
    y += 2
    return y + x


@pytest.mark.parametrize("function", [into_expanded, into_windows, into_same_shape])
def test_writes_through_views_that_repeat_elements(function: Callable[[Tensor], Tensor]) -> None:
    compiled = vitrify.compile(function, fullgraph=True)
    for _ in range(3):
        x, y = grid(4, 3), grid(4, 3)
        assert_same_bits(compiled(x).numpy(), function(y).numpy(), "result")
        assert_same_bits(x.numpy(), y.numpy(), "what was written to")


def test_no_dimensions_count_as_one() -> None:
    x = vitrify.tensor(3.0)
    assert x.flip(0).item() == x.flip(-1).item() == 3.0 and x.flip(0).shape == ()
    assert x.unfold(0, 1, 1).shape == (1,)
    for name in ("split", "chunk", "tensor_split"):
        with pytest.raises(RuntimeError, match="at least a 1-dimensional tensor"):
            getattr(x, name)(1)
    one, two = vitrify.tensor([0, 0]), vitrify.tensor(2.0)
    assert x.gather(0, one).tolist() == [3.0, 3.0] and x.gather(0, one[0]).item() == 3.0
    assert x.scatter_add(0, one[0], two).item() == x.index_add(0, one[:1], two).item() == 5.0
    assert x.index_fill(0, one[:1], 7).item() == 7.0 and x.index_copy(0, one[:1], two).item() == 2.0
    truths = vitrify.tensor([False, True, False])
    added = truths.index_add(0, vitrify.tensor([0, 0, 1]), vitrify.tensor([True, True, False]))
    assert added.tolist() == [True, True, False]


def test_as_strided_of_a_view_is_of_its_storage() -> None:
    x = grid(12)
    rows = x.reshape(3, 4)[1:, 1:]
    assert rows.as_strided((2, 2), (4, 1)).tolist() == [[5.0, 6.0], [9.0, 10.0]]
    assert rows.t().as_strided((2,), (3,), 1).tolist() == [1.0, 4.0]
    rows.as_strided((2,), (4,), 2).fill_(-1)
    assert x[2].item() == x[6].item() == -1.0
    with pytest.raises(RuntimeError, match="out of bounds"):
        rows.as_strided((3,), (4,), 5)
    leaf = grid(6).requires_grad_()
    (leaf * 1).reshape(2, 3)[1].as_strided((2,), (2,), 1).sum().backward()
    assert leaf.grad is not None and leaf.grad.tolist() == [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]
