"""Optimizers against PyTorch: trajectories of 20 steps, state dicts, schedules."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
import vitrify

from .nn_twins import arrays, assert_close, ours, theirs

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda o, p: o.SGD(p, lr=0.1),
    "sgd decay": lambda o, p: o.SGD(p, lr=0.1, weight_decay=0.1),
    "sgd maximize": lambda o, p: o.SGD(p, lr=0.01, maximize=True),
    "momentum": lambda o, p: o.SGD(p, lr=0.05, momentum=0.9),
    "dampened": lambda o, p: o.SGD(p, lr=0.05, momentum=0.9, dampening=0.3, weight_decay=0.01),
    "nesterov": lambda o, p: o.SGD(p, lr=0.05, momentum=0.8, nesterov=True),
    "adam": lambda o, p: o.Adam(p, lr=0.05),
    "adam decay": lambda o, p: o.Adam(p, lr=0.05, weight_decay=0.1, betas=(0.8, 0.95), eps=1e-6),
    "adam amsgrad": lambda o, p: o.Adam(p, lr=0.05, amsgrad=True, maximize=True),
    "adamw": lambda o, p: o.AdamW(p, lr=0.05, weight_decay=0.1),
    "adamw amsgrad": lambda o, p: o.AdamW(p, lr=0.05, amsgrad=True),
    "rmsprop": lambda o, p: o.RMSprop(p, lr=0.02),
    "rmsprop all": lambda o, p: o.RMSprop(p, lr=0.02, momentum=0.9, centered=True, weight_decay=0.1),
}
START = arrays((4, 3), (3,), (2, 2))
DATA, GOAL = arrays((8, 4), (8, 3), seed=5)
#: 20 steps carry differences of a rounding along; PyTorch's kernels use FMA in places.
LOOSE = {"rtol": 3e-5, "atol": 3e-6}


class Twin:
    """Parameters, a small network's loss on them, and an optimizer, in one of the libraries."""

    def __init__(self, lib: Any, make: Any, name: str) -> None:
        self.parameters = [lib.nn.Parameter(make(a)) for a in START]
        self.optimizer = OPTIMIZERS[name](lib.optim, self.parameters)
        self.x, self.goal = make(DATA), make(GOAL)

    def step(self) -> None:
        w, b, unused = self.parameters
        self.optimizer.zero_grad()
        error = (self.x @ w + b).tanh() - self.goal
        (error * error).mean().backward()
        assert unused.grad is None
        self.optimizer.step()


def twins(name: str) -> tuple[Twin, Twin]:
    return Twin(vitrify, ours, name), Twin(torch, theirs, name)


def assert_same(got: Twin, want: Twin, what: str) -> None:
    for i, (p, q) in enumerate(zip(got.parameters, want.parameters, strict=True)):
        assert_close(p, q, f"{what}: parameter {i}", **LOOSE)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_trajectory_and_state(name: str) -> None:
    got, want = twins(name)
    for number in range(20):
        got.step()
        want.step()
        assert_same(got, want, f"step {number}")
    mine, other = got.optimizer.state_dict(), want.optimizer.state_dict()
    assert mine["param_groups"][0].keys() == other["param_groups"][0].keys()
    for key, value in other["param_groups"][0].items():
        assert mine["param_groups"][0][key] == value, key
    assert mine["state"].keys() == other["state"].keys()
    for number, entries in other["state"].items():
        assert mine["state"][number].keys() == entries.keys()
        for key, value in entries.items():
            assert_close(mine["state"][number][key], value, f"{key} of {number}", **LOOSE)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_in_float64_eager_and_compiled(name: str) -> None:
    """In float64 differences of a rounding stay small; the compiled step has eager's bits."""
    eager, compiled, want = (
        Twin(lib, lambda a, of=of: of(a.astype(np.float64)), name)
        for lib, of in ((vitrify, ours), (vitrify, ours), (torch, theirs))
    )
    step = vitrify.compile(compiled.step)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", vitrify.CaptureWarning)  # dampened momentum starts in Python
        for _ in range(20):
            eager.step()
            step()
            want.step()
    for p, q, r in zip(eager.parameters, compiled.parameters, want.parameters, strict=True):
        assert vitrify.equal(p, q)
        np.testing.assert_allclose(p.detach().numpy(), r.detach().numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["momentum", "dampened", "adam", "adamw amsgrad", "rmsprop all"])
def test_pytorch_state_dict_loads(name: str) -> None:
    """Ten steps in PyTorch, then ten in vitrify from its state, against twenty in PyTorch."""
    got, want = twins(name)
    for _ in range(10):
        want.step()
    for p, q in zip(got.parameters, want.parameters, strict=True):
        with vitrify.no_grad():
            p.copy_(vitrify.from_numpy(q.detach().numpy().copy()))
    got.optimizer.load_state_dict(_translated(want.optimizer.state_dict()))
    for number in range(10):
        got.step()
        want.step()
        assert_same(got, want, f"step {number} after loading")


def _translated(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return vitrify.from_numpy(state.detach().numpy().copy())
    if isinstance(state, dict):
        return {k: _translated(v) for k, v in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_translated(v) for v in state)
    return state


SCHEDULES: dict[str, Any] = {
    "lambda": lambda s, o: s.LambdaLR(o, lambda epoch: 0.9**epoch),
    "lambdas": lambda s, o: s.LambdaLR(o, [lambda epoch: 1 / (1 + epoch), lambda epoch: 2.0]),
    "step": lambda s, o: s.StepLR(o, 3, 0.5),
    "milestones": lambda s, o: s.MultiStepLR(o, [2, 5, 5], 0.3),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.8),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 4, eta_min=0.01),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name: str) -> None:
    rates = []
    for lib in (vitrify, torch):
        groups = [
            {"params": [lib.nn.Parameter(lib.zeros(2))]},
            {"params": [lib.nn.Parameter(lib.zeros(2))], "lr": 0.5},
        ]
        optimizer = lib.optim.SGD(groups, lr=0.1)
        schedule = SCHEDULES[name](lib.optim.lr_scheduler, optimizer)
        seen = []
        for _ in range(10):
            seen.append(schedule.get_last_lr())
            optimizer.step()
            schedule.step()
        rates.append(seen)
    np.testing.assert_allclose(rates[0], rates[1], rtol=1e-12)


def test_schedule_state_goes_on() -> None:
    make = lambda: vitrify.optim.SGD([vitrify.nn.Parameter(vitrify.zeros(2))], lr=0.1)  # noqa: E731
    optimizer, again = make(), make()
    schedule = vitrify.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
    for _ in range(3):
        schedule.step()
    resumed = vitrify.optim.lr_scheduler.CosineAnnealingLR(again, 7)
    resumed.load_state_dict(schedule.state_dict())
    again.load_state_dict(optimizer.state_dict())
    for _ in range(3):
        schedule.step()
        resumed.step()
    assert schedule.get_last_lr() == resumed.get_last_lr() == [again.param_groups[0]["lr"]]


BAD: dict[str, Any] = {
    "no parameters": lambda lib: lib.optim.SGD([], lr=0.1),
    "a tensor": lambda lib: lib.optim.SGD(lib.zeros(3), lr=0.1),
    "a number": lambda lib: lib.optim.SGD([3], lr=0.1),
    "a non-leaf": lambda lib: lib.optim.SGD([lib.zeros(3, requires_grad=True) * 2], lr=0.1),
    "negative lr": lambda lib: lib.optim.Adam([lib.zeros(3)], lr=-1.0),
    "betas": lambda lib: lib.optim.Adam([lib.zeros(3)], betas=(1.0, 0.9)),
    "eps": lambda lib: lib.optim.AdamW([lib.zeros(3)], eps=-1.0),
    "nesterov": lambda lib: lib.optim.SGD([lib.zeros(3)], nesterov=True),
    "momentum": lambda lib: lib.optim.SGD([lib.zeros(3)], momentum=-0.1),
    "a set": lambda lib: lib.optim.SGD([{"params": {1}}], lr=0.1),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_raise_what_pytorch_raises(name: str) -> None:
    with pytest.raises(Exception) as want:
        BAD[name](torch)
    with pytest.raises(want.type) as got:
        BAD[name](vitrify)
    if name not in ("a tensor", "a number"):
        assert str(got.value) == str(want.value)
