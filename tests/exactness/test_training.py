"""Training steps, eager and compiled, from the same start: same losses, same weights, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import vitrify
from vitrify import nn

from ..support import assert_same_bits


def _mlp() -> Any:
    return nn.Sequential(
        nn.Linear(20, 33), nn.ReLU(), nn.Linear(33, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 5)
    )


def _cnn() -> Any:
    return nn.Sequential(
        nn.Unflatten(1, (1, 4, 5)), nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.LayerNorm(24), nn.Linear(24, 5),
    )  # fmt: skip


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: vitrify.optim.SGD(p, lr=0.1),
    "momentum": lambda p: vitrify.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: vitrify.optim.Adam(p, lr=1e-2),
    "adamw": lambda p: vitrify.optim.AdamW(p, lr=1e-2),
}


def train(
    make: Callable[[], Any], optimizer: str, steps: int, compiled: bool
) -> tuple[list[float], list[np.ndarray], Any]:
    """Losses of all steps, the weights at the end, and the step function."""
    vitrify.manual_seed(7)
    model = make()
    optim = OPTIMIZERS[optimizer](model.parameters())
    loss_of = nn.CrossEntropyLoss()
    rng = np.random.default_rng(3)
    data = vitrify.from_numpy(rng.standard_normal((64, 20)).astype(np.float32))
    labels = vitrify.from_numpy(rng.integers(0, 5, 64))

    def step(x: Any, y: Any) -> Any:
        optim.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optim.step()
        return loss

    run = vitrify.compile(step, fullgraph=True) if compiled else step
    losses = []
    for i in range(steps):
        start = i * 16 % 64
        losses.append(run(data[start : start + 16], labels[start : start + 16]).item())
    return losses, [p.detach().numpy().copy() for p in model.parameters()], run


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("make", [_mlp, _cnn])
def test_weights_are_identical_after_training(make: Callable[[], Any], optimizer: str) -> None:
    losses, weights, step = train(make, optimizer, 30, compiled=True)
    want_losses, want_weights, _ = train(make, optimizer, 30, compiled=False)
    assert losses == want_losses
    for got, want in zip(weights, want_weights, strict=True):
        assert_same_bits(got, want)
    assert losses[-1] < losses[0]


def test_three_steps_compile_once() -> None:
    *_, step = train(_mlp, "adam", 3, compiled=True)
    assert step.captures == 1 and step.specializations == 1
