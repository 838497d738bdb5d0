"""Floats of 16 bits: functions of several ops round once, and numbers beside them are not rounded first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import vitrify
from vitrify.nn import functional as F

from tests.support import assert_same_bits

Tensor = vitrify.Tensor
NARROW = (vitrify.float16, vitrify.bfloat16)

ONCE: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(0),
    "layer_norm": lambda x: F.layer_norm(x, (24,), x[0], x[1]),
    "rms_norm": lambda x: F.rms_norm(x, (24,)),
    "group_norm": lambda x: F.group_norm(x, 4, x[0], x[1]),
    "batch_norm": lambda x: F.batch_norm(x, None, None, x[0], x[1], training=True),
    "batch_norm of running statistics": lambda x: F.batch_norm(x, x[0], x[1].abs()),
    "var": lambda x: x.var(0),
    "std": lambda x: x.std(),
    "mean": lambda x: x.mean(1),
    "norm": lambda x: x.norm(dim=0),
    "logsumexp": lambda x: x.logsumexp(1),
    "logaddexp": lambda x: vitrify.logaddexp(x, x.flip(0)),
    "sinc": lambda x: x.sinc(),
    "lerp": lambda x: x.lerp(x.flip(0), 0.3),
    "addcmul": lambda x: vitrify.addcmul(x, x, x.flip(1), value=0.1),
    "elu": lambda x: F.elu(x, 0.7),
    "avg_pool": lambda x: F.avg_pool1d(x, 3),
    "times a number": lambda x: x * 0.1,
    "by a number": lambda x: x / 3.3,
    "a number by it": lambda x: 0.3 / x,
    "out of range": lambda x: x * 70000,
}


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("name", ONCE)
def test_one_rounding(name: str, dtype: vitrify.dtype) -> None:
    function = ONCE[name]
    x = vitrify.from_numpy(np.random.default_rng(3).normal(size=(16, 24)).astype(np.float32)).to(dtype)
    got = function(x)
    assert got.dtype is dtype
    want = function(x.float()).to(dtype).float().numpy()
    assert_same_bits(got.float().numpy(), want, name)
    compiled = vitrify.compile(function)
    for _ in range(2):
        assert_same_bits(compiled(x).float().numpy(), want, f"{name} compiled")


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_other_dtypes_beside_them(dtype: vitrify.dtype) -> None:
    x, y = vitrify.ones(2, 4, dtype=dtype), vitrify.ones(2, 4)
    assert vitrify.logaddexp(x, y).dtype is vitrify.float32
    assert x.mean(dtype=vitrify.float32).dtype is x.softmax(0, dtype=vitrify.float32).dtype is vitrify.float32
    assert F.layer_norm(x, (4,), y[0], y[0]).dtype is dtype
    assert (x * vitrify.tensor(0.1)).dtype is dtype and (x * 2).dtype is dtype and (True * x).dtype is dtype
    assert (x * 1j).dtype.is_complex


def test_loss_scale_of_65536() -> None:
    loss = vitrify.tensor([0.25, 0.5], dtype=vitrify.float16, requires_grad=True)
    scaled = loss * 65536.0
    assert scaled.tolist() == [16384.0, 32768.0]
    scaled.backward(vitrify.full((2,), 2.0**-12, dtype=vitrify.float16))
    assert loss.grad is not None and loss.grad.tolist() == [16.0, 16.0]
    assert (scaled / 65536.0).tolist() == [0.25, 0.5]


def test_a_number_that_varies_from_call_to_call() -> None:
    @vitrify.compile
    def scale(x: Tensor, s: float) -> Tensor:
        return x * s

    x = vitrify.tensor([1.0, 3.0, 0.4], dtype=vitrify.bfloat16)
    for s in (0.5, 0.1, 3.3, 2.0, 1e-3):
        assert vitrify.equal(scale(x, s), x * s), s
