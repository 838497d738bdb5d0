"""Normalisation has a derivative of its own, which is differentiable in turn."""

from __future__ import annotations

import numpy as np
import pytest
import vitrify
from vitrify import _composite
from vitrify.nn import functional

each = pytest.mark.parametrize(
    "norm",
    [
        lambda x: functional.layer_norm(x, (6,)),
        lambda x: functional.group_norm(x, 2),
        lambda x: functional.instance_norm(x),
    ],
    ids=["layer", "group", "instance"],
)


@each
def test_first_and_second_derivatives(norm) -> None:
    x = np.random.default_rng(0).standard_normal((2, 4, 6))
    t = vitrify.from_numpy(x).requires_grad_()
    assert vitrify.autograd.gradcheck(norm, (t,))
    assert vitrify.autograd.gradgradcheck(norm, (t,))


def test_the_compiled_gradient_has_the_same_bits() -> None:
    x, weight, ct = (np.random.default_rng(i).standard_normal(s, np.float32) for i, s in
                     enumerate([(300, 50), (50,), (300, 50)]))  # fmt: skip

    def gradients(x, weight, ct):
        y = functional.layer_norm(x, (50,), weight, weight)
        return (y.detach(), *vitrify.autograd.grad(y, [x, weight], ct))

    tensors = (
        vitrify.from_numpy(x).requires_grad_(), vitrify.from_numpy(weight).requires_grad_(),
        vitrify.from_numpy(ct),
    )  # fmt: skip
    for got, want in zip(vitrify.compile(gradients)(*tensors), gradients(*tensors), strict=True):
        assert np.array_equal(got.numpy().view(np.int32), want.numpy().view(np.int32))


@each
@pytest.mark.parametrize("calls_before, n", [(0, 2), (1000, 3)], ids=["composite", "ops"])
def test_as_in_pytorch_the_result_may_be_written_to_and_the_input_not(
    norm, calls_before: int, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_composite, "calls_before", calls_before)

    def gradient(change) -> vitrify.Tensor:
        x = vitrify.arange(24.0 * n).reshape(n, 4, 6).sin().requires_grad_()
        h = x * 1
        y = norm(h)
        z = change(h, y)
        (z * x.detach()).sum().backward()
        return x.grad

    for _ in range(2):
        want = gradient(lambda h, y: vitrify.relu(y))
        got = gradient(lambda h, y: functional.relu(y, inplace=True))
        assert np.array_equal(got.numpy(), want.numpy())
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            gradient(lambda h, y: (h.add_(1), y)[1])
