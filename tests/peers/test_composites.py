"""What the derivatives of composites read: changed in place before the backward, it is an error in PyTorch
and here, as ops and compiled; changing anything else is not. Nor is a second backward where nothing was
saved.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import vitrify
from vitrify import _composite

#: name -> (function of (library, its functional, tensors), shapes; "i" for class numbers, "+" for positive).
_CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "softmax": (lambda _, F, x: F.softmax(x, -1), ((3, 4),)),
    "log_softmax": (lambda _, F, x: F.log_softmax(x, 0), ((3, 4),)),
    "cross_entropy": (lambda _, F, x, t: F.cross_entropy(x, t), ((3, 4), "i")),
    "cross_entropy smooth": (
        lambda _, F, x, t, w: F.cross_entropy(x, t, w.detach(), label_smoothing=0.1), ((3, 4), "i", "+")
    ),
    "nll_loss": (lambda _, F, x, t: F.nll_loss(x, t), ((3, 4), "i")),
    "mse_loss": (lambda _, F, x, y: F.mse_loss(x, y), ((3, 4), (3, 4))),
    "huber_loss": (lambda _, F, x, y: F.huber_loss(x, y), ((3, 4), (3, 4))),
    "smooth_l1_loss": (lambda _, F, x, y: F.smooth_l1_loss(x, y), ((3, 4), (3, 4))),
    "logits": (
        lambda _, F, x, y: F.binary_cross_entropy_with_logits(x, y, reduction="sum"), ((3, 4), (3, 4))
    ),
    "layer_norm": (lambda _, F, x, w, b: F.layer_norm(x, (4,), w, b), ((3, 4), (4,), (4,))),
    "group_norm": (lambda _, F, x, w, b: F.group_norm(x, 2, w, b), ((3, 4), (4,), (4,))),
    "batch_norm": (lambda _, F, x, w, b: F.batch_norm(x, None, None, w, b, True), ((3, 4), (4,), (4,))),
    "batch_norm plain": (lambda _, F, x: F.batch_norm(x, None, None, training=True), ((3, 4),)),
    "linear": (lambda _, F, x, w, b: F.linear(x, w, b), ((3, 4), (2, 4), (2,))),
    "bilinear": (lambda _, F, x, y, w: F.bilinear(x, y, w), ((3, 4), (3, 2), (5, 4, 2))),
    "addmm": (lambda lib, _, x, y, z: lib.addmm(x, y, z), ((3, 4), (3, 2), (2, 4))),
    "addcdiv": (lambda lib, _, x, y, z: lib.addcdiv(x, y, z), ((3, 4),) * 3),
    "lerp": (lambda lib, _, x, y, z: lib.lerp(x, y, z), ((3, 4),) * 3),
    "hypot": (lambda lib, _, x, y: lib.hypot(x, y), ((3, 4), (3, 4))),
    "norm": (lambda _, F, x: x.norm(3, dim=0), ((3, 4),)),
    "std": (lambda _, F, x: x.std(), ((3, 4),)),
    "var": (lambda _, F, x: x.var(0), ((3, 4),)),
    "logsumexp": (lambda _, F, x: x.logsumexp(1), ((3, 4),)),
    "trace": (lambda lib, _, x: lib.trace(x), ((3, 4),)),
    "elu": (lambda _, F, x: F.elu(x), ((3, 4),)),
    "leaky_relu": (lambda _, F, x: F.leaky_relu(x), ((3, 4),)),
    "hardtanh": (lambda _, F, x: F.hardtanh(x), ((3, 4),)),
    "max_pool2d": (lambda _, F, x: F.max_pool2d(x, 2), ((1, 2, 4, 4),)),
    "embedding": (lambda _, F, i, w: F.embedding(i, w), ("i", (4, 2))),
    "attention": (lambda _, F, q, k, v: F.scaled_dot_product_attention(q, k, v), ((1, 2, 3, 4),) * 3),
}  # fmt: skip


def _draw(lib: Any, seed: int, shape: Any) -> Any:
    if shape == "i":
        return lib.tensor([1, 0, 2])
    drawn = np.random.default_rng(seed).normal(size=(4,) if shape == "+" else shape).astype(np.float32)
    return lib.tensor(abs(drawn) if shape == "+" else drawn)


def _refused(lib: Any, case: str, mask: tuple[bool, ...], changed: int) -> bool:
    """Whether a backward raises. changed: the operand that is written to; -1 the result, -2 none, but there
    was a backward before."""
    function, shapes = _CASES[case]
    drawn = [_draw(lib, seed, shape) for seed, shape in enumerate(shapes)]
    inputs = [x * 1 if m and x.is_floating_point() else x for x, m in zip(_requiring(drawn, mask), mask)]
    result = function(lib, lib.nn.functional, *inputs)
    wanted = [x for x in inputs if x.requires_grad]
    if changed >= -1:
        with lib.no_grad():
            (result if changed == -1 else inputs[changed]).add_(0)
    try:
        for _ in range(2 if changed == -2 else 1):
            lib.autograd.grad(result, wanted, lib.ones_like(result), allow_unused=True)
    except RuntimeError:
        return True
    return False


def _requiring(tensors: list[Any], mask: tuple[bool, ...]) -> list[Any]:
    return [x.requires_grad_(m) if m else x for x, m in zip(tensors, mask, strict=True)]


@pytest.mark.parametrize("case", _CASES)
@pytest.mark.parametrize("calls", [0, 1 << 30], ids=["compiled", "ops"])
def test_in_place_writes_are_refused_as_in_pytorch(
    case: str, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_composite, "calls_before", calls)
    shapes = _CASES[case][1]
    fixed = [s in ("i", "+") or "loss" in case and n or case == "logits" and n for n, s in enumerate(shapes)]
    masks = [m for m in itertools.product(*((False,) if f else (False, True) for f in fixed)) if any(m)]
    for mask in masks:
        for changed in range(-2, len(shapes)):
            expected = _refused(torch, case, mask, changed)
            assert _refused(vitrify, case, mask, changed) is expected, (mask, changed, expected)
