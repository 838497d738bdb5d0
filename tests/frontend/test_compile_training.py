"""Training steps: forward, backward and the optimizer's updates in one graph, with the state that eager would
leave."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import vitrify as torch
from vitrify import nn, optim

X = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
Y = torch.tensor([0, 1, 2, 2, 1, 0])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.norm = nn.LayerNorm(7)
        self.layers = nn.ModuleList([nn.Linear(7, 7) for _ in range(2)])
        self.last = nn.Linear(7, 3)
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        return self.last(self.drop(x))


def equal(a: Any, b: Any) -> bool:
    """Bitwise, all NaNs equal, None only like None."""
    if a is None or b is None:
        return a is b
    return np.array_equal(a.detach().numpy(), b.detach().numpy(), equal_nan=True)


def pair(make_optimizer: Callable[[Any], Any], make_model: Callable[[], Any] = Net) -> list[Any]:
    """Two equal models with optimizers."""
    torch.manual_seed(3)
    model = make_model()
    twin = copy.deepcopy(model)
    return [(m, make_optimizer(m.parameters())) for m in (model, twin)]


def train(
    model: Any, optimizer: Any, order: str = "zero first", compiled: bool = False, **options: Any
) -> Any:
    loss_fn = nn.CrossEntropyLoss()

    def step(x, y):
        if order == "zero first":
            optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        if order == "zero last":
            optimizer.zero_grad()
        return loss

    return torch.compile(step, fullgraph=True, **options) if compiled else step


def same_state(one: Any, other: Any) -> None:
    for (name, p), q in zip(one[0].named_parameters(), other[0].parameters(), strict=True):
        assert equal(p, q), name
        assert equal(p.grad, q.grad), name
    for b, c in zip(one[0].buffers(), other[0].buffers(), strict=True):
        assert equal(b, c)
    for p, q in zip(one[0].parameters(), other[0].parameters(), strict=True):
        mine, theirs = one[1].state[p], other[1].state[q]
        assert mine.keys() == theirs.keys()
        for key in mine:
            assert (
                equal(mine[key], theirs[key])
                if isinstance(mine[key], torch.Tensor)
                else mine[key] == theirs[key]
            )


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda p: optim.Adam(p, lr=1e-2),
    "amsgrad": lambda p: optim.Adam(p, lr=1e-2, amsgrad=True, weight_decay=0.1),
    "adamw": lambda p: optim.AdamW(p, lr=1e-2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("order", ["zero first", "zero last", "never"])
def test_steps_compile_once_and_equal_eager(name: str, order: str) -> None:
    one, other = pair(OPTIMIZERS[name])
    eager, compiled = train(*one, order=order), train(*other, order=order, compiled=True)
    generator = torch.get_rng_state()
    want = [eager(X, Y) for _ in range(4)]
    after = torch.get_rng_state()
    torch.set_rng_state(generator)
    got = [compiled(X, Y) for _ in range(4)]
    assert all(map(equal, want, got)) and equal(after, torch.get_rng_state())
    same_state(one, other)
    assert compiled.captures == (2 if order == "never" else 1)


def test_three_steps_from_loaded_state_compile_once() -> None:
    one, other = pair(OPTIMIZERS["adam"])
    step = train(*one)
    for _ in range(3):
        step(X, Y)
    other[0].load_state_dict(one[0].state_dict())
    other[1].load_state_dict(one[1].state_dict())
    compiled = train(*other, compiled=True)
    torch.manual_seed(5)
    want = [step(X, Y) for _ in range(3)]
    torch.manual_seed(5)
    assert all(map(equal, want, [compiled(X, Y) for _ in range(3)]))
    same_state(one, other)
    assert compiled.captures == 1


def test_schedules_do_not_recompile() -> None:
    one, other = pair(OPTIMIZERS["adamw"])
    eager, compiled = train(*one), train(*other, compiled=True)
    schedules = [optim.lr_scheduler.StepLR(o, 1, gamma=0.7) for _, o in (one, other)]
    losses = []
    for step, schedule in zip((eager, compiled), schedules, strict=True):
        torch.manual_seed(0)
        losses.append([])
        for i in range(5):
            losses[-1].append(step(X, Y))
            schedule.step()
            (one if step is eager else other)[1].param_groups[0]["betas"] = (0.9 - i / 100, 0.99)
    assert all(map(equal, *losses))
    same_state(one, other)
    assert compiled.captures == 1


def test_options_that_change_the_program_recompile() -> None:
    one, other = pair(OPTIMIZERS["momentum"])
    eager, compiled = train(*one), train(*other, compiled=True)
    for change in ({}, {"nesterov": False}, {"weight_decay": 0}, {"momentum": 0.5}):
        for _, optimizer in (one, other):
            optimizer.param_groups[0].update(change)
        for step in (eager, compiled):
            torch.manual_seed(1)
            step(X, Y)
            step(X, Y)
        same_state(one, other)
    assert compiled.captures == 3


def test_train_and_eval_switch_without_recompiling_again() -> None:
    torch.manual_seed(0)
    model = Net()
    twin = copy.deepcopy(model)
    torch.compile(model, fullgraph=True)
    for training in (True, False, True, False, True):
        model.train(training)
        twin.train(training)
        results = []
        for m in (model, twin):
            torch.manual_seed(2)
            results.append(m(X))
        assert equal(*results)
    assert model._compiled_call_impl.captures == 2


def test_accumulated_gradients_and_no_grad_updates() -> None:
    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        weight = torch.randn(5, 3, requires_grad=True)

        def accumulate(x, y):
            loss = nn.functional.cross_entropy(x @ weight, y)
            (loss / 2).backward()
            return loss.detach()

        def update(lr):
            with torch.no_grad():
                weight.sub_(weight.grad * lr)
            weight.grad = None

        if compiled:
            accumulate, update = (torch.compile(f, fullgraph=True) for f in (accumulate, update))
        record = []
        for i in range(3):
            record += [accumulate(X, Y), accumulate(X * 2, Y), accumulate(X * 3, Y), weight.grad.clone()]
            update(0.1 / (i + 1))
            record += [weight.detach().clone()]
        assert weight.grad is None
        results.append(record)
        if compiled:
            assert accumulate.captures == 2 and update.captures == 1
    assert all(map(equal, *results))


def test_grad_is_the_same_object_where_eager_keeps_it() -> None:
    weight = torch.ones(3, requires_grad=True)

    @torch.compile(fullgraph=True)
    def accumulate():
        (weight * 2).sum().backward()

    accumulate()
    first = weight.grad
    accumulate()
    assert weight.grad is first and first.tolist() == [4, 4, 4]
    accumulate()
    assert first.tolist() == [6, 6, 6]


def test_batch_norm_updates_its_statistics() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))

    if not hasattr(nn, "BatchNorm1d"):
        pytest.skip("no batch norm")
    one, other = pair(OPTIMIZERS["sgd"], make)
    eager, compiled = train(*one), train(*other, compiled=True)
    for _ in range(3):
        assert equal(eager(X, Y), compiled(X, Y))
    same_state(one, other)
    assert compiled.captures == 1


def test_a_second_backward_through_a_returned_loss_raises_as_eager() -> None:
    one, other = pair(OPTIMIZERS["sgd"])
    for loss in (train(*one)(X, Y), train(*other, compiled=True)(X, Y)):
        assert loss.requires_grad
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()


def test_closures_of_optimizers() -> None:
    one, other = pair(OPTIMIZERS["sgd"])

    def make(model, optimizer):
        def step(x, y):
            def closure():
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                return loss

            return optimizer.step(closure)

        return step

    eager, compiled = make(*one), torch.compile(make(*other), fullgraph=True)
    for _ in range(2):
        torch.manual_seed(0)
        want = eager(X, Y)
        torch.manual_seed(0)
        assert equal(want, compiled(X, Y))
    same_state(one, other)


def test_frozen_and_unused_parameters() -> None:
    one, other = pair(OPTIMIZERS["adam"])
    for model, _ in (one, other):
        model.first.weight.requires_grad_(False)
        model.extra = nn.Parameter(torch.ones(2))
    eager, compiled = train(*one), train(*other, compiled=True)
    for step in (eager, compiled):
        torch.manual_seed(0)
        step(X, Y), step(X, Y)
    same_state(one, other)
    for model, _ in (one, other):
        model.first.weight.requires_grad_(True)
    for step in (eager, compiled):
        torch.manual_seed(0)
        step(X, Y)
    same_state(one, other)
    assert compiled.captures == 2


def test_an_empty_batch_and_nan() -> None:
    one, other = pair(OPTIMIZERS["sgd"])
    eager, compiled = train(*one), train(*other, compiled=True)
    bad = X.clone()
    bad[0, 0] = float("nan")
    for x, y in ((X[:0], Y[:0]), (bad, Y), (X, Y)):
        torch.manual_seed(0)
        want = eager(x, y)
        torch.manual_seed(0)
        assert equal(want, compiled(x, y))
    same_state(one, other)


def test_gradient_clipping_and_item_free_metrics() -> None:
    one, other = pair(OPTIMIZERS["adam"])

    def make(model, optimizer):
        def step(x, y):
            logits = model(x)
            loss = nn.functional.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            return {"loss": loss.detach(), "correct": (logits.argmax(1) == y).sum(), "norm": norm}

        return step

    eager, compiled = make(*one), torch.compile(make(*other), fullgraph=True)
    for _ in range(3):
        torch.manual_seed(0)
        want = eager(X, Y)
        torch.manual_seed(0)
        got = compiled(X, Y)
        assert all(equal(want[k], got[k]) for k in want)
    same_state(one, other)
    assert compiled.captures == 1
