"""The promise: compiled and eager agree in every bit (all NaNs counting as equal), forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vitrify

from ..support import assert_same_bits
from .cases import ALONE, COMPOSED, Case


def _forward(case: Case, special: bool) -> None:
    tensors = [vitrify.from_numpy(a) for a in case.arguments(special=special)]
    eager = case.function(*tensors)
    compiled = vitrify.compile(case.function, fullgraph=True)(*tensors)
    assert_same_bits(compiled.numpy(), eager.numpy(), str(case))


def _gradients(case: Case, run: Any, dtype: str) -> list[np.ndarray]:
    """The gradients of sum(function * fixed weights) with respect to all arguments."""
    leaves = [vitrify.from_numpy(a.astype(dtype)).requires_grad_() for a in case.arguments()]
    loss = run(*leaves)
    loss.backward()
    return [loss.detach().numpy(), *(np.zeros(0) if x.grad is None else x.grad.numpy() for x in leaves)]


def _loss(case: Case) -> Any:
    def loss(*tensors: Any) -> Any:
        result = case.function(*tensors)
        weights = vitrify.arange(result.numel(), dtype=result.dtype).reshape(result.shape)
        return (result * (weights % 7 - 3.0)).sum()

    return loss


@pytest.mark.parametrize("case", ALONE, ids=str)
def test_op_alone(case: Case) -> None:
    _forward(case, special=False)


@pytest.mark.parametrize("case", [c for c in ALONE if np.prod(c.shapes[0]) > 16], ids=str)
def test_op_with_special_values(case: Case) -> None:
    _forward(case, special=True)


@pytest.mark.parametrize("case", COMPOSED, ids=str)
def test_composition(case: Case) -> None:
    _forward(case, special=False)
    _forward(case, special=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "case",
    [*(c for c in ALONE if c.shapes[0] in ((3, 17), (4, 17), (5, 7), (2, 3, 9, 10))), *COMPOSED],
    ids=str,
)
def test_backward_of_a_compiled_function(case: Case, dtype: str) -> None:
    """The forward pass is compiled; `backward` is called outside."""
    loss = _loss(case)
    for got, want in zip(
        _gradients(case, vitrify.compile(loss), dtype), _gradients(case, loss, dtype), strict=True
    ):
        assert_same_bits(got, want, str(case))


@pytest.mark.parametrize("case", COMPOSED, ids=str)
def test_backward_inside(case: Case) -> None:
    """Forward and backward are one compiled function."""
    loss = _loss(case)

    def both(*leaves: Any) -> Any:
        value = loss(*leaves)
        return (value, *vitrify.autograd.grad(value, leaves, allow_unused=True))

    def results(run: Any) -> list[np.ndarray]:
        leaves = [vitrify.from_numpy(a).requires_grad_() for a in case.arguments()]
        return [np.zeros(0) if t is None else t.detach().numpy() for t in run(*leaves)]

    for got, want in zip(results(vitrify.compile(both, fullgraph=True)), results(both), strict=True):
        assert_same_bits(got, want, str(case))


def test_a_row_alone_and_in_a_batch() -> None:
    x = np.random.default_rng(0).standard_normal((9, 70)).astype(np.float32)
    w = np.random.default_rng(1).standard_normal((33, 70)).astype(np.float32)

    @vitrify.compile
    def layer(x: Any, w: Any) -> Any:
        return vitrify.nn.functional.softmax(vitrify.tanh(x @ w.t()), -1)

    together = layer(vitrify.from_numpy(x), vitrify.from_numpy(w)).numpy()
    for i in range(len(x)):
        alone = layer(vitrify.from_numpy(x[i : i + 1].copy()), vitrify.from_numpy(w)).numpy()
        assert_same_bits(alone[0], together[i], f"row {i}")


@pytest.mark.parametrize("columns", [1, 17, 33, 65])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8", "int16", "uint8", "float32"])
def test_a_tail_of_one_lane_writes_one_element(dtype: str, columns: int) -> None:
    """Rows are written while they are summed: one written too far would show in the next row."""
    x = (vitrify.from_numpy(np.random.default_rng(0).standard_normal((129, columns))) * 20).to(
        getattr(vitrify, dtype)
    )
    for function in (lambda x: (x * 2, (x * 2).sum(0)), lambda x: ((x * 2).flip(-1), x.sum(0))):
        for got, want in zip(vitrify.compile(function)(x), function(x), strict=True):
            assert_same_bits(got.double().numpy(), want.double().numpy(), dtype)
