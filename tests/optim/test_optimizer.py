"""Groups, state, closures and dict forms of optimizers; edge cases that need no other library."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import vitrify
from vitrify import nn, optim

OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: optim.Adam(p, lr=0.1),
    "adamw": lambda p: optim.AdamW(p, lr=0.1),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.1),
}


def parameter(*values: float) -> Any:
    return nn.Parameter(vitrify.tensor(list(values)))


def descend(p: Any, optimizer: Any) -> None:
    optimizer.zero_grad()
    (p * p).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_bowl_is_descended(name: str) -> None:
    p = parameter(3.0, -2.0)
    optimizer = OPTIMIZERS[name]([p])
    before = float((p * p).sum())
    for _ in range(60):
        descend(p, optimizer)
    assert float((p * p).sum()) < before / 20
    assert p.requires_grad
    assert p.is_leaf


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_materialized_state_changes_nothing(name: str) -> None:
    """State made ahead of the first step gives the bits of state made by it."""
    p, q = parameter(3.0, -2.0), parameter(3.0, -2.0)
    ahead, lazy = OPTIMIZERS[name]([p]), OPTIMIZERS[name]([q])
    ahead._materialize()
    state = dict(ahead.state.get(p, {}))
    for _ in range(3):
        descend(p, ahead)
        descend(q, lazy)
    assert p.tolist() == q.tolist()
    assert all(ahead.state[p][k] is v for k, v in state.items())  # updated in place


def test_materializing_leaves_frozen_parameters_alone() -> None:
    p, frozen = parameter(1.0), parameter(1.0).requires_grad_(False)
    optimizer = optim.Adam([p, frozen])
    optimizer._materialize()
    assert list(optimizer.state) == [p]


def test_parameters_without_a_gradient_are_skipped() -> None:
    p, unused = parameter(1.0), parameter(5.0)
    optimizer = optim.Adam([p, unused], lr=0.1)
    descend(p, optimizer)
    assert unused.tolist() == [5.0]
    assert unused not in optimizer.state
    assert optimizer.state_dict()["state"].keys() == {0}


def test_groups_have_options_of_their_own() -> None:
    p, q = parameter(1.0), parameter(1.0)
    optimizer = optim.SGD([{"params": [p]}, {"params": q, "lr": 0.5}], lr=0.1)
    ((p + q) * 1.0).sum().backward()
    optimizer.step()
    np.testing.assert_allclose([p.item(), q.item()], [0.9, 0.5], rtol=1e-6)
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.step()
    np.testing.assert_allclose([p.item(), q.item()], [-0.1, 0.0], atol=1e-6)
    r = parameter(2.0)
    optimizer.add_param_group({"params": [r], "momentum": 0.9})
    assert optimizer.param_groups[2]["lr"] == 0.1
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": [r]})
    with pytest.raises(TypeError, match="must be a dict"):
        optimizer.add_param_group([r])  # type: ignore[arg-type]
    assert repr(optimizer).startswith("SGD (\nParameter Group 0\n    dampening: 0\n")


def test_named_parameters_and_duplicates() -> None:
    linear = nn.Linear(2, 1)
    optimizer = optim.SGD(linear.named_parameters(), lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert optimizer.param_groups[0]["params"][1] is linear.bias
    with pytest.warns(UserWarning, match="duplicate"):
        optim.SGD([linear.bias, linear.bias])
    with pytest.raises(ValueError, match="Some param names are missing"):
        optim.SGD([("w", linear.weight), linear.bias])


def test_closure() -> None:
    p = parameter(2.0)
    optimizer = optim.SGD([p], lr=0.1)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with vitrify.no_grad():
        assert optimizer.step(closure).item() == 4.0
    assert p.item() == pytest.approx(1.6)


def test_zero_grad() -> None:
    p = parameter(2.0)
    optimizer = optim.SGD([p], lr=0.1)
    (p * p).sum().backward()
    grad = p.grad
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is grad
    assert grad.tolist() == [0.0]
    optimizer.zero_grad()
    assert p.grad is None


def test_state_dict_is_a_copy_of_structure_and_shares_tensors() -> None:
    p = parameter(2.0)
    optimizer = optim.Adam([p], lr=0.1)
    descend(p, optimizer)
    state = optimizer.state_dict()
    assert state["param_groups"][0]["params"] == [0]
    assert state["state"][0]["step"].dtype is vitrify.float32
    assert state["state"][0]["exp_avg"] is optimizer.state[p]["exp_avg"]
    saved = copy.deepcopy(state)
    descend(p, optimizer)
    q = parameter(*p.tolist())
    other = optim.Adam([q], lr=0.7)
    other.load_state_dict(saved)
    assert other.param_groups[0]["lr"] == 0.1
    assert other.state[q]["step"].item() == 1
    other.state[q]["exp_avg"].fill_(9)
    assert saved["state"][0]["exp_avg"].tolist() != [9]
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optim.Adam([{"params": [q]}, {"params": [parameter(1.0)]}]).load_state_dict(saved)
    with pytest.raises(ValueError, match="doesn't match the size"):
        optim.Adam([q, parameter(1.0)]).load_state_dict(saved)


def test_state_takes_the_parameters_dtype() -> None:
    p = parameter(2.0)
    optimizer = optim.Adam([p])
    descend(p, optimizer)
    q = nn.Parameter(vitrify.ones(1, dtype=vitrify.float64))
    other = optim.Adam([q])
    other.load_state_dict(optimizer.state_dict())
    assert other.state[q]["exp_avg"].dtype is vitrify.float64
    assert other.state[q]["step"].dtype is vitrify.float32
    descend(q, other)
    assert q.dtype is vitrify.float64


def test_empty_and_scalar_parameters() -> None:
    scalar, empty = nn.Parameter(vitrify.tensor(2.0)), nn.Parameter(vitrify.zeros(0, 3))
    optimizer = optim.Adam([scalar, empty], lr=0.1)
    (scalar * scalar + empty.sum()).backward()
    optimizer.step()
    assert scalar.item() == pytest.approx(1.9, abs=1e-6)
    assert empty.shape == (0, 3)


def test_nan_gradients_reach_the_parameters() -> None:
    p = parameter(1.0, 1.0)
    optimizer = optim.Adam([p])
    p.grad = vitrify.tensor([float("nan"), 1.0])
    optimizer.step()
    assert np.isnan(p.tolist()[0])
    assert np.isfinite(p.tolist()[1])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_compiled_step_compiles_once_and_takes_a_new_learning_rate(name: str) -> None:
    """Ten steps with a schedule, compiled and eager: the same bits, one compilation."""

    def run(compiled: bool) -> tuple[list[float], Any]:
        vitrify.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = OPTIMIZERS[name](model.parameters())
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
        x = vitrify.arange(12.0).reshape(4, 3) / 10

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        call = vitrify.compile(step, fullgraph=True) if compiled else step
        losses = []
        for _ in range(10):
            losses.append(call(x).item())
            schedule.step()
        return losses + model.weight.reshape(-1).tolist(), call

    eager, _ = run(False)
    compiled, call = run(True)
    assert compiled == eager
    assert call.captures == call.specializations == 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_three_steps_from_a_loaded_state_compile_once(name: str) -> None:
    x = vitrify.ones(4, 3)

    def make() -> tuple[Any, Any]:
        vitrify.manual_seed(0)
        model = nn.Linear(3, 2)
        return model, OPTIMIZERS[name](model.parameters())

    def stepper(model: Any, optimizer: Any) -> Any:
        def step() -> Any:
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        return step

    model, optimizer = make()
    before = stepper(model, optimizer)
    before()
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    expected = [before().item() for _ in range(3)]
    other, loaded = make()
    other.load_state_dict(weights)
    loaded.load_state_dict(state)
    step = vitrify.compile(stepper(other, loaded), fullgraph=True)
    assert [step().item() for _ in range(3)] == expected
    assert step.captures == 1
