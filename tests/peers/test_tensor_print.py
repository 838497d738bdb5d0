"""`repr` of tensors, character by character as PyTorch prints them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import vitrify

RNG = np.random.default_rng(0)

ARRAYS: list[Any] = [
    np.float32(1.5), np.float32(0), np.float32(np.nan), np.float32(1e-9), np.float32(123456789),
    np.array([], np.float32), np.zeros((0, 3), np.float32), np.array([1, 2, 3], np.float32),
    np.array([1.5, 2, 3], np.float32), np.array([1e-5, 1], np.float32), np.array([1e5, 1.5], np.float32),
    np.array([1e9, 1], np.float32), np.array([0.1, 1e-3], np.float32), np.array([np.nan, 1, 2], np.float32),
    np.array([np.inf, -np.inf], np.float32), np.array([np.inf, 1.5, -2], np.float32),
    np.array([-1.5, 2.25], np.float64), np.array([1, -20, 300]), np.array(7),
    np.array([[1, 2], [3, 40]], np.int32), np.array([True, False]), np.array(False),
    np.array([[1, 2]], np.uint8), RNG.standard_normal((3, 4)).astype(np.float32),
    RNG.standard_normal((2, 3, 4)), RNG.standard_normal((2, 2, 2, 2)).astype(np.float32),
    RNG.standard_normal(1001).astype(np.float32), RNG.standard_normal((40, 50)).astype(np.float32),
    np.arange(1500).reshape(3, 500), np.arange(30), np.arange(30, dtype=np.float32),
    RNG.standard_normal(30).astype(np.float32) * 1e6, RNG.standard_normal((20, 20, 20)), np.zeros((2, 0, 3)),
    np.array([], np.int64), np.array([1e10, 2e10]), np.array([0.0, 1e-10]), np.array([10000.0, 0.5]),
    np.array([999.5, 0.9]), np.ones((1, 1, 1, 1), np.float32), np.array([-0.0, 0.0], np.float32),
    np.array([1, 1001], np.float32), np.array([3.14159265], np.float16), np.array([1e8, 1.0], np.float32),
    np.array([2e8, 2.0], np.float32), np.array([np.nan] * 3, np.float32), np.array([np.nan, 0.5], np.float32),
]  # fmt: skip


@pytest.mark.parametrize("i", range(len(ARRAYS)))
def test_repr(i: int) -> None:
    array = np.asarray(ARRAYS[i])
    assert repr(vitrify.from_numpy(array.copy())).replace("vitrify", "torch") == repr(
        torch.from_numpy(array.copy())
    )


def test_random_magnitudes() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        values = rng.standard_normal(rng.integers(1, 12)) * 10.0 ** rng.integers(-6, 9)
        if seed % 3 == 0:
            values = np.round(values)
        array = values.astype(np.float32)
        want = repr(torch.from_numpy(array))
        assert repr(vitrify.from_numpy(array)).replace("vitrify", "torch") == want, seed


def test_history() -> None:
    for lib in (vitrify, torch):
        x = lib.tensor([1.0, 2.0], requires_grad=True)
        assert repr(x) == "tensor([1., 2.], requires_grad=True)"
        assert repr(x + 1) == "tensor([2., 3.], grad_fn=<AddBackward0>)"
        assert repr(x.exp()) == "tensor([2.7183, 7.3891], grad_fn=<ExpBackward0>)"
        assert repr(x.sum()) == "tensor(3., grad_fn=<SumBackward0>)"
        assert repr(x.detach()) == "tensor([1., 2.])"
        wide = lib.zeros(24, requires_grad=True)
        assert repr(wide).endswith("       requires_grad=True)")


def test_parameters() -> None:
    for lib in (vitrify, torch):
        p = lib.nn.Parameter(lib.zeros(2))
        assert repr(p) == "Parameter containing:\ntensor([0., 0.], requires_grad=True)"


def test_options() -> None:
    x = np.linspace(0, 1, 9).reshape(3, 3) + 1e-3
    try:
        for options in (
            {"precision": 2},
            {"sci_mode": True},
            {"linewidth": 20},
            {"profile": "short"},
            {"edgeitems": 1, "threshold": 2},
        ):
            for lib in (vitrify, torch):
                lib.set_printoptions(profile="default")
                lib.set_printoptions(**options)
            assert repr(vitrify.from_numpy(x)).replace("vitrify", "torch") == repr(torch.from_numpy(x)), (
                options
            )
    finally:
        for lib in (vitrify, torch):
            lib.set_printoptions(profile="default")
