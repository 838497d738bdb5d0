"""Normalisation has a derivative of its own, which is differentiable in turn."""

from __future__ import annotations

import numpy as np
import pytest
import vitrify
from vitrify.nn import functional


@pytest.mark.parametrize(
    "norm",
    [
        lambda x: functional.layer_norm(x, (6,)),
        lambda x: functional.group_norm(x, 2),
        lambda x: functional.instance_norm(x),
    ],
    ids=["layer", "group", "instance"],
)
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
