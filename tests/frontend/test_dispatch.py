"""The dispatcher: entries, numbers as operands, the builder, and errors."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pytest
import vitrify
from vitrify import _dispatch, _promotion
from vitrify.ir import ops
from vitrify.ir.builder import full, sum_to
from vitrify.ir.opdef import bind


def test_one_entry_per_op_and_types() -> None:
    x = vitrify.ones(3, 7)
    x - x
    before = len(_dispatch._ENTRIES)
    for _ in range(3):
        x - vitrify.zeros(3, 7)
    assert len(_dispatch._ENTRIES) == before
    x.t() - x.t()
    assert len(_dispatch._ENTRIES) > before


def test_entries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dispatch, "MOST_ENTRIES", 20)
    for n in range(50):
        assert (vitrify.ones(n) * 2).sum().item() == 2 * n
    assert len(_dispatch._ENTRIES) <= 20


def test_numbers_as_operands_are_exact() -> None:
    x = vitrify.tensor([1.0])
    for number in (0.0, -0.0, 2, 2.0, True, 0.1, float("inf"), 2**40, -3):
        got = (x * number).numpy()
        assert got.tobytes() == (np.float32([1]) * np.float32(number)).tobytes(), number
    k = vitrify.tensor([3])
    assert (k + 2).dtype is vitrify.int64 and (k + 2.0).dtype is vitrify.float32 and (k + 2).item() == 5
    assert (k + 2.0).item() == 5.0 and (k == 3.0).item() and (k * True).dtype is vitrify.int64


def test_numbers_are_not_written_to() -> None:
    x = vitrify.zeros(2)
    y = x + 1
    z = vitrify.full((2,), 1.0)
    y.add_(5)
    z.add_(5)
    assert (x + 1).tolist() == [1.0, 1.0] and vitrify.full((2,), 1.0).tolist() == [1.0, 1.0]


def test_gradients_that_are_constants_may_be_written_to() -> None:
    x = vitrify.tensor(2.0, requires_grad=True)
    for _ in range(2):
        (x + 1).backward()
        x.grad.zero_()
        x.grad.add_(7)
        x.grad = None
    (x + 1).backward()
    assert x.grad.item() == 1.0
    (g,) = vitrify.autograd.grad(x, x)
    g.zero_()
    (g,) = vitrify.autograd.grad(x, x)
    assert g.item() == 1.0


def test_the_eager_builder_serves_rules_written_for_any_builder() -> None:
    build = _dispatch.build
    x = vitrify.ones(2, 3)
    assert build.type_of(x) == x._type.ir
    assert build(ops.reduce_sum, x, axes=(1,), order="lanes").tolist() == [3.0, 3.0]
    assert sum_to(build, x, (1, 3)).tolist() == [[2.0, 2.0, 2.0]]
    assert full(build, 5, x._type.ir).tolist() == [[5.0] * 3] * 2


def test_what_does_not_fit_is_a_runtime_error() -> None:
    with pytest.raises(RuntimeError, match="operands must have one type"):
        _dispatch.apply(bind(ops.add), vitrify.ones(2), vitrify.ones(3))
    with pytest.raises(TypeError, match="expected Tensor operands, got float"):
        _dispatch._miss(bind(ops.add), (vitrify.ones(2), 1.0))  # type: ignore[arg-type]


def test_operators_leave_foreign_operands_to_the_other_side() -> None:
    class Other:
        def __radd__(self, other: Any) -> str:
            return "radd"

        def __rmatmul__(self, other: Any) -> str:
            return "rmatmul"

    x = vitrify.ones(2)
    assert x + Other() == "radd" and x @ Other() == "rmatmul"
    with pytest.raises(TypeError, match="unsupported operand"):
        x + "a"
    assert (x == "a") is False and x != "a"
    assert (np.ones(2, np.float32) + x).tolist() == [2.0, 2.0] and isinstance(
        np.float32(1) * x, vitrify.Tensor
    )


def test_functions_want_tensors() -> None:
    for function in (vitrify.exp, vitrify.abs, vitrify.relu, vitrify.sign, vitrify.round, vitrify.neg):
        with pytest.raises(TypeError, match="must be Tensor, not float"):
            function(1.0)
    with pytest.raises(TypeError, match="numbers only"):
        vitrify.add(1, 2)


def test_threads_share_entries() -> None:
    failures: list[Exception] = []

    def work(seed: int) -> None:
        try:
            for n in range(1, 40):
                x = vitrify.full((n, seed), float(seed))
                assert (x + x).sum().item() == 2.0 * seed * n * seed
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_memory_of_results_is_given_back() -> None:
    x = vitrify.ones(1000)
    before = sys.getrefcount(x._storage)
    for _ in range(100):
        y = x[1:].view(-1) + 1
    del y
    after = sys.getrefcount(x._storage)
    assert after == before


def test_default_dtype() -> None:
    try:
        vitrify.set_default_dtype(vitrify.float64)
        assert (
            vitrify.zeros(1).dtype is vitrify.float64 and (vitrify.tensor([1]) / 2).dtype is vitrify.float64
        )
        assert vitrify.tensor([1.5]).dtype is vitrify.float64
    finally:
        vitrify.set_default_dtype(vitrify.float32)
    assert (
        vitrify.get_default_dtype() is vitrify.float32 and (vitrify.tensor([1]) / 2).dtype is vitrify.float32
    )
    with pytest.raises(TypeError, match="floating-point"):
        vitrify.set_default_dtype(vitrify.int64)


def test_recipes_look_at_views_without_copies() -> None:
    x, row = vitrify.ones(4, 3), vitrify.arange(3.0)
    _, wide = _promotion.unified(x, row)
    assert wide.data_ptr() == row.data_ptr() and wide.stride() == (0, 1)
    turned = vitrify.arange(6.0).reshape(2, 3).t()
    assert (turned.reshape(6) + vitrify.zeros(6)).tolist() == [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
