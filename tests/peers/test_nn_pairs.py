"""Divergence, cosine and gated units against PyTorch."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
import vitrify
from vitrify import _composite

from .nn_twins import arrays, compare, compare_modules


@pytest.fixture(autouse=True, params=[0, 1 << 30], ids=["compiled", "ops"])
def _calls_before(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_composite, "calls_before", request.param)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
def test_divergence(reduction: str, log_target: bool) -> None:
    x, y = arrays((6, 5), (6, 5))
    y = np.log(np.abs(y)) if log_target else np.where(y > 1, 0, np.abs(y)).astype(np.float32)

    def loss(library: Any, x: Any, y: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return library.nn.functional.kl_div(x, y, reduction=reduction, log_target=log_target)

    compare(loss, [x], [y])
    compare(loss, [x, np.abs(y) + 0.5])


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_cosine(dim: int) -> None:
    compare(lambda lib, x, y: lib.nn.functional.cosine_similarity(x, y, dim), arrays((3, 4, 5), (3, 4, 5)))
    compare(lambda lib, x, y: lib.nn.functional.cosine_similarity(x, y, dim), arrays((3, 4, 5), (1, 1, 5)))


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_gated(dim: int) -> None:
    compare(lambda lib, x: lib.nn.functional.glu(x, dim), arrays((4, 6, 8)))


def test_modules() -> None:
    x, y = arrays((4, 6), (4, 6))
    compare_modules(lambda nn: nn.GLU(dim=1), x)
    compare_modules(lambda nn: nn.CosineSimilarity(dim=0), x, y)
    compare_modules(lambda nn: nn.KLDivLoss(reduction="sum", log_target=True), x, y)


@pytest.mark.parametrize("lib", [torch, vitrify], ids=["torch", "vitrify"])
def test_errors(lib: Any) -> None:
    functional = lib.nn.functional
    for x, dim in ((lib.zeros(3, 3), 1), (lib.tensor(1.0), 0)):
        with pytest.raises(RuntimeError, match="Halving dimension|scalars"):
            functional.glu(x, dim)
    with pytest.raises(IndexError):
        functional.glu(lib.zeros(2, 2), 5)
    with pytest.raises(RuntimeError):
        functional.cosine_similarity(lib.zeros(2, 3), lib.zeros(2, 4))
    with pytest.raises(ValueError, match="not a valid value for reduction"):
        functional.kl_div(lib.zeros(2), lib.ones(2), reduction="a")
