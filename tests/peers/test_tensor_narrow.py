"""16-bit floats and narrow integers beside PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import vitrify

FLOATS, INTEGERS = ("bfloat16", "float16"), ("int8", "int16", "uint8")


def check(ours: Any, theirs: Any, tolerance: float = 0.0) -> None:
    assert str(ours.dtype).split(".")[1] == str(theirs.dtype).split(".")[1]
    np.testing.assert_allclose(
        np.array(ours.float().tolist()), np.array(theirs.float().tolist()), rtol=tolerance, atol=tolerance
    )


#: What either library does, and the tolerance: 0 where both round the exact value once.
CASES: dict[str, tuple[Callable[[Any], Any], float]] = {
    "add": (lambda x: x + x, 0.0), "scale": (lambda x: x * 2.5, 0.0), "div": (lambda x: x / 3, 0.0),
    "relu": (lambda x: x.relu(), 0.0), "wider": (lambda x: x + x.float(), 0.0),
    "abs": (lambda x: -x.abs(), 0.0),
    "exp": (lambda x: x.exp(), 8e-3), "sum": (lambda x: x.sum(1), 1e-2), "mean": (lambda x: x.mean(), 1e-2),
    "softmax": (lambda x: x.softmax(-1), 1e-2), "max": (lambda x: x.max(1)[0], 0.0),
    "matmul": (lambda x: x @ x.T, 2e-2), "to float": (lambda x: x.double(), 0.0),
}  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES)
def test_floats(case: str, dtype: str) -> None:
    function, tolerance = CASES[case]
    data = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    ours = vitrify.tensor(data.numpy()).to(getattr(vitrify, dtype))
    check(function(ours), function(data.to(getattr(torch, dtype))), tolerance)
    compiled = vitrify.compile(function)(ours)
    assert compiled.tolist() == function(ours).tolist()


@pytest.mark.parametrize("dtype", FLOATS)
def test_creation_printing_and_gradients(dtype: str) -> None:
    ours, theirs = getattr(vitrify, dtype), getattr(torch, dtype)
    check(vitrify.tensor([1.1, 2.2], dtype=ours), torch.tensor([1.1, 2.2], dtype=theirs))
    check(vitrify.arange(5, dtype=ours), torch.arange(5, dtype=theirs))
    check(vitrify.ones(3, dtype=ours) * 0.1, torch.ones(3, dtype=theirs) * 0.1)
    check(vitrify.tensor([1, 300]).to(ours), torch.tensor([1, 300]).to(theirs))
    x, t = vitrify.tensor([[0.5, 1.25]], dtype=ours), torch.tensor([[0.5, 1.25]], dtype=theirs)
    assert repr(x).replace("vitrify", "torch") == repr(t)
    assert x[0, 1].item() == 1.25 and x.tolist() == [[0.5, 1.25]]
    x.requires_grad_()
    t.requires_grad_()
    (x @ x.T).sum().backward()
    (t @ t.T).sum().backward()
    check(x.grad, t.grad)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(dtype: str) -> None:
    data = [[1, 2, 3], [100, 120, 7]]
    x = vitrify.tensor(data, dtype=getattr(vitrify, dtype))
    t = torch.tensor(data, dtype=getattr(torch, dtype))
    for function in (
        lambda v: v + v, lambda v: v * v, lambda v: v @ v.T, lambda v: v.sum(), lambda v: v.max(),
        lambda v: -v, lambda v: v // 2, lambda v: v % 3,
    ):  # fmt: skip
        check(function(x), function(t))


def test_promotion() -> None:
    half, brain = vitrify.float16, vitrify.bfloat16
    assert vitrify.promote_types(half, brain) is vitrify.float32
    assert (vitrify.ones(2, dtype=brain) + 1.5).dtype is brain
    assert (vitrify.ones(2, dtype=half) + vitrify.ones(2)).dtype is vitrify.float32
    assert (vitrify.ones(2, dtype=brain) * vitrify.tensor([1, 2])).dtype is brain


def test_limits() -> None:
    for dtype in FLOATS:
        ours, theirs = vitrify.finfo(getattr(vitrify, dtype)), torch.finfo(getattr(torch, dtype))
        for name in ("max", "min", "eps", "tiny", "bits"):
            assert getattr(ours, name) == getattr(theirs, name), name
