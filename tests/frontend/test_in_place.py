"""In-place ops: versions, aliases, histories of views and bases, and what is refused."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import vitrify


def leaf(*values: float) -> vitrify.Tensor:
    return vitrify.tensor(values, dtype=vitrify.float32, requires_grad=True)


def test_every_alias_sees_a_write() -> None:
    x = vitrify.zeros(2, 3)
    row, flat, column = x[1], x.view(-1), x.t()[2]
    row.add_(1)
    assert flat.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0] and column.tolist() == [0.0, 1.0]
    column.fill_(7)
    assert x.tolist() == [[0.0, 0.0, 7.0], [1.0, 1.0, 7.0]]
    x.detach().zero_()
    assert flat.sum().item() == 0.0 and x._version == 3 == row._version


def test_overlapping_copy() -> None:
    x = vitrify.arange(6)
    x[1:] = x[:-1].clone()
    assert x.tolist() == [0, 0, 1, 2, 3, 4]
    y = vitrify.arange(6)
    y[1:].copy_(y[:-1])
    assert y.tolist() == [0, 0, 1, 2, 3, 4]
    m = vitrify.arange(4).reshape(2, 2)
    m.copy_(m.t())
    assert m.tolist() == [[0, 2], [1, 3]]


def test_augmented_assignment_keeps_the_tensor() -> None:
    x = vitrify.tensor([1.0, 2.0])
    same, address = x, x.data_ptr()
    x += 1
    x *= vitrify.tensor([2.0, 3.0])
    x -= 1
    x /= 2
    x **= 2
    assert x is same and x.data_ptr() == address and x.tolist() == [2.25, 16.0]
    k = vitrify.tensor([5, 6])
    k //= 2
    k %= 2
    k |= 4
    k <<= 1
    assert k.tolist() == [8, 10]


def test_result_types_and_shapes_must_fit() -> None:
    with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output type Long"):
        vitrify.ones(2, dtype=vitrify.int64).add_(1.5)
    with pytest.raises(
        RuntimeError, match=r"output with shape \[2\] doesn't match the broadcast shape \[3, 2\]"
    ):
        vitrify.ones(2).add_(vitrify.ones(3, 2))
    with pytest.raises(RuntimeError, match="single memory location"):
        vitrify.ones(1).expand(3).add_(1)
    assert vitrify.ones(2).add_(vitrify.ones(2, dtype=vitrify.float64)).dtype is vitrify.float32


def test_leaves_that_require_grad_are_not_written_to() -> None:
    x = leaf(1.0, 2.0)
    for write in (
        lambda: x.add_(1),
        lambda: x.zero_(),
        lambda: x.__setitem__(0, 1.0),
        lambda: x.copy_(vitrify.ones(2)),
    ):
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            write()
    with pytest.raises(RuntimeError, match="a view of a leaf Variable"):
        x[0].mul_(2)
    assert x.tolist() == [1.0, 2.0] and x._version == 0
    with vitrify.no_grad():
        x.add_(1)
    assert x.tolist() == [2.0, 3.0] and x.is_leaf and x.requires_grad


def test_views_of_a_view_that_was_made_a_leaf_are_not_written_to() -> None:
    base = vitrify.arange(6.0)
    x = base.view(2, 3).requires_grad_()
    for write in (lambda: x[0].mul_(2), lambda: x.__setitem__(0, 5.0), lambda: x.t()[:, :1].add_(x[0])):
        with pytest.raises(RuntimeError, match="a view of a leaf Variable"):
            write()
    assert x.is_leaf and x.tolist() == [[0, 1, 2], [3, 4, 5]]
    base.mul_(2)  # has no history
    (x * x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[0, 4, 8], [12, 16, 20]]


def test_a_saved_tensor_that_was_written_to_is_noticed() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    z = y * y
    y.add_(1)
    with pytest.raises(
        RuntimeError, match=r"modified by an inplace operation.*is at version 1; expected version 0"
    ):
        z.sum().backward()
    e = x.exp()
    e.mul_(2)
    with pytest.raises(RuntimeError, match="which is output 0 of ExpBackward0"):
        e.sum().backward()
    w = x * vitrify.tensor([2.0, 3.0])
    x.data.add_(1)  # x itself is not read by the derivative
    w.sum().backward()
    assert x.grad.tolist() == [2.0, 3.0]


def test_a_write_that_the_derivative_does_not_read_is_fine() -> None:
    x = leaf(1.0, 2.0)
    y = x + 1
    z = y + 3
    y.mul_(5)
    (z + y).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]


WRITES: list[Callable[[Any, Any], Any]] = [
    lambda y, x: y.mul_(x), lambda y, x: y.exp_(), lambda y, x: y.mul_(y), lambda y, x: y.div_(x),
    lambda y, x: y.pow_(3), lambda y, x: y.sigmoid_(), lambda y, x: y.clamp_(0, 1.5), lambda y, x: y.copy_(x),
    lambda y, x: y.zero_(), lambda y, x: y.lerp_(x, 0.3), lambda y, x: y.addcmul_(x, x, value=2),
    lambda y, x: y.masked_fill_(x > 1, 0),
]  # fmt: skip


@pytest.mark.parametrize("i", range(len(WRITES)))
def test_in_place_has_the_gradient_of_out_of_place(i: int) -> None:
    def run(in_place: bool) -> list[float]:
        x = leaf(0.5, 1.5)
        y = x * 2
        y = WRITES[i](y if in_place else y.clone(), x)
        (y * vitrify.tensor([1.0, 2.0])).sum().backward()
        return [y.tolist(), x.grad.tolist()]

    assert run(True) == run(False)


def test_the_tensor_still_requires_grad_after_it_was_zeroed() -> None:
    x = leaf(1.0)
    y = x * 2
    y.zero_()
    assert y.requires_grad
    y.sum().backward()
    assert x.grad.item() == 0.0


def test_writing_through_a_view_rebases_its_base() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * 2
    y[1] *= 10
    assert y.tolist() == [2.0, 40.0, 6.0]
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 20.0, 2.0]


def test_other_views_follow() -> None:
    w = leaf(5.0)
    base = vitrify.zeros(2, 2)
    row, column, flat = base[0], base[:, 0], base.view(-1)
    row.copy_(w.expand(2))
    assert base.requires_grad and column.requires_grad and flat.requires_grad and not base.is_leaf
    (column * vitrify.tensor([1.0, 100.0])).sum().backward()
    assert w.grad.item() == 1.0
    w.grad = None
    (flat * vitrify.tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    assert w.grad.item() == 11.0


def test_writing_to_the_base_reaches_its_views() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    first = y[0]
    y.mul_(3)
    first.backward()
    assert x.grad.tolist() == [3.0, 0.0]


def test_a_view_of_a_view() -> None:
    x = leaf(*range(6))
    y = x * 1
    y.view(2, 3)[1][1:].mul_(2)
    assert y.tolist() == [0.0, 1.0, 2.0, 3.0, 8.0, 10.0]
    (y * y).sum().backward()
    assert x.grad.tolist() == [0.0, 2.0, 4.0, 6.0, 32.0, 40.0]


def test_setitem_records_both_sides() -> None:
    x, v = leaf(1.0, 2.0, 3.0), leaf(7.0)
    y = x * 1
    y[1:2] = v
    (y * y).sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 6.0] and v.grad.tolist() == [14.0]


def test_filling_a_buffer_in_a_loop() -> None:
    x = leaf(2.0)
    out = vitrify.zeros(4)
    for i in range(4):
        out[i] = x[0] ** i
    out.sum().backward()
    assert x.grad.item() == 1 + 4 + 12


def test_detach_shares_and_data_replaces() -> None:
    x = leaf(1.0, 2.0)
    d = x.detach()
    d.mul_(3)
    assert x.tolist() == [3.0, 6.0]
    x.data = vitrify.tensor([9.0, 9.0, 9.0])
    assert x.tolist() == [9.0] * 3 and d.tolist() == [3.0, 6.0]
    y = x * 2
    assert y.detach_() is y and not y.requires_grad


def test_views_know_their_base() -> None:
    x = vitrify.zeros(2, 3)
    assert x[0]._base is x and x.view(-1)[1:]._base is x and x._base is None
    assert (x + 1)._base is None and x.detach()._base is None
    assert x.t().contiguous()._base is None and x[1].storage_offset() == 3


def test_random_fills() -> None:
    vitrify.manual_seed(0)
    x = vitrify.empty(2000)
    assert 0.4 < x.uniform_().mean().item() < 0.6 and -1.1 < x.uniform_(-3, 1).mean().item() < -0.9
    assert abs(x.normal_(2, 0.5).mean().item() - 2) < 0.1 and abs(x.std().item() - 0.5) < 0.05
    assert 0.2 < x.bernoulli_(0.3).mean().item() < 0.4
    assert set(vitrify.empty(200, dtype=vitrify.int64).random_(3).tolist()) == {0, 1, 2}
    assert 0.4 < x.exponential_(2).mean().item() < 0.6


def test_a_tape_through_views_of_a_buffer_is_freed_without_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        w = leaf(2.0)
        out = vitrify.zeros(4)
        out[0] = 1.0
        for i in range(3):
            out[i + 1] = out[i] * w[0]
        gone = weakref.ref(out.grad_fn)
        del out
        assert gone() is None
    finally:
        gc.enable()


def test_a_quotient_may_be_written_over_before_the_backward() -> None:
    a, b = leaf(1.0, 6.0), leaf(2.0, 3.0)
    y = a / b
    y += 1
    y *= vitrify.tensor([3.0, 5.0])
    y.sum().backward()
    assert a.grad is not None and a.grad.tolist() == [1.5, pytest.approx(5 / 3)]
    assert b.grad is not None and b.grad.tolist() == [pytest.approx(-0.75), pytest.approx(-10 / 3)]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.topk(2)[0],
        lambda x: x.sort()[0],
        lambda x: x.kthvalue(2)[0],
        lambda x: x.median(0)[0],
        lambda x: vitrify.nn.functional.normalize(x, dim=0),
    ],
)
def test_results_that_no_derivative_reads_may_be_written_over(
    function: Callable[[vitrify.Tensor], vitrify.Tensor],
) -> None:
    grads = []
    for double in (lambda y: y * 2, lambda y: y.mul_(2)):
        x = leaf(3.0, 1.0, 2.0)
        double(function(x)).sum().backward()
        grads.append(x.grad)
    assert vitrify.equal(*grads)
