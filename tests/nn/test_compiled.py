"""Layers and losses inside `compile`: the bits of eager, forward and backward; and the same errors."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import vitrify
from vitrify import nn

from ..support import assert_same_bits

F = nn.functional
LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(7, 5), (3, 7)),
    "linear rank 3": (lambda: nn.Linear(7, 5), (2, 3, 7)),
    "conv": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 9, 7)),
    "conv grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, dilation=2), (1, 4, 9, 8)),
    "conv 1d": (lambda: nn.Conv1d(3, 4, 3, padding="same"), (2, 3, 11)),
    "max pool": (lambda: nn.MaxPool2d(3, 2, 1), (2, 3, 9, 7)),
    "max pool of halves": (lambda: nn.MaxPool2d(2), (2, 3, 8, 6)),
    "avg pool": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 3, 9, 7)),
    "adaptive": (lambda: nn.AdaptiveAvgPool2d((2, 3)), (2, 3, 9, 7)),
    "layer norm": (lambda: nn.LayerNorm((4, 7)), (3, 4, 7)),
    "rms norm": (lambda: nn.RMSNorm(37), (5, 37)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (3, 4, 5)),
    "batch norm": (lambda: nn.BatchNorm2d(3), (4, 3, 5, 2)),
    "softmax": (lambda: nn.Softmax(1), (4, 19)),
    "log softmax": (lambda: nn.LogSoftmax(0), (4, 19)),
    "activations": (
        lambda: nn.Sequential(nn.GELU(), nn.SiLU(), nn.ELU(), nn.LeakyReLU(), nn.Tanh()), (4, 19),
    ),
    "dropout": (lambda: nn.Dropout(0.3), (4, 19)),
}  # fmt: skip


def data(*shape: int, seed: int = 0) -> Any:
    return vitrify.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("name", LAYERS)
def test_layer_gives_the_bits_of_eager(name: str) -> None:
    make, shape = LAYERS[name]

    def run(compiled: bool) -> list[np.ndarray]:
        vitrify.manual_seed(1)
        module = make()
        x = data(*shape).requires_grad_()

        def step(x: Any) -> Any:
            out = module(x)
            (out * out).sum().backward()
            return out

        call = vitrify.compile(step, fullgraph=True) if compiled else step
        out = call(x)
        grads = [x.grad, *(p.grad for p in module.parameters())]
        return [t.detach().numpy() for t in (out, *grads, *module.buffers())]

    for i, (got, want) in enumerate(zip(run(True), run(False), strict=True)):
        assert_same_bits(got, want, f"{name}: {i}")


LOSSES: dict[str, Any] = {
    "classes": lambda x, y: F.cross_entropy(x, y),
    "classes, some ignored": lambda x, y: F.cross_entropy(x, y, ignore_index=2, label_smoothing=0.1),
    "probabilities": lambda x, y: F.cross_entropy(x, F.softmax(x.detach() * 2, 1)),
    "squares": lambda x, y: F.mse_loss(x, x.detach().flip(0)),
    "logits": lambda x, y: F.binary_cross_entropy_with_logits(x, (x.detach() > 0).float()),
    "huber": lambda x, y: F.huber_loss(x, x.detach().flip(1), delta=0.5),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_gives_the_bits_of_eager(name: str) -> None:
    def run(compiled: bool) -> tuple[np.ndarray, np.ndarray]:
        x, y = data(6, 5).requires_grad_(), vitrify.tensor([0, 4, 2, 2, 1, 3])

        def step(x: Any, y: Any) -> Any:
            loss = LOSSES[name](x, y)
            loss.backward()
            return loss

        call = vitrify.compile(step, fullgraph=True) if compiled else step
        return call(x, y).detach().numpy(), x.grad.numpy()

    for got, want in zip(run(True), run(False), strict=True):
        assert_same_bits(got, want, name)


def classifier() -> tuple[Any, Any, Any]:
    vitrify.manual_seed(0)
    model = nn.Sequential(nn.Embedding(6, 4), nn.Flatten(), nn.Linear(8, 3))
    optimizer = vitrify.optim.SGD(model.parameters(), lr=0.5)

    @vitrify.compile(fullgraph=True)
    def step(words: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(words), labels)
        loss.backward()
        optimizer.step()
        return loss

    return model, optimizer, step


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(
    ("word", "label", "message"),
    [
        (1, 3, "Target 3 is out of bounds."),
        (1, -1, "Target -1 is out of bounds."),
        (6, 0, "index out of range in self"),
    ],
)
def test_a_bad_index_raises_before_anything_is_updated(
    warm: bool, word: int, label: int, message: str
) -> None:
    model, _, step = classifier()
    good = vitrify.tensor([[0, 1], [2, 3]]), vitrify.tensor([0, 2])
    if warm:
        step(*good)
    before = [p.tolist() for p in model.parameters()]
    with pytest.raises(IndexError, match=message):
        step(vitrify.tensor([[0, 1], [2, word]]), vitrify.tensor([0, label]))
    assert [p.tolist() for p in model.parameters()] == before
    step(*good)
    assert [p.tolist() for p in model.parameters()] != before


def test_nan_in_the_data_gives_a_nan_loss() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    loss = vitrify.compile(lambda x, y: F.cross_entropy(model(x), y))
    x = vitrify.ones(2, 4)
    assert np.isfinite(loss(x, vitrify.tensor([0, 1])).item())
    x[0, 0] = float("nan")
    assert np.isnan(loss(x, vitrify.tensor([0, 1])).item())


def test_an_empty_batch() -> None:
    model = nn.Linear(4, 3)
    loss = vitrify.compile(lambda x, y: F.cross_entropy(model(x), y))
    assert np.isnan(loss(vitrify.ones(0, 4), vitrify.zeros(0, dtype=vitrify.int64)).item())


def test_mode_and_replaced_parameters_are_seen() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    call = vitrify.compile(model)
    x = vitrify.ones(64, 3)
    assert (call(x) == 0).any()
    model.eval()
    assert not (call(x) == 0).any()
    with vitrify.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(2)
    assert call(x).tolist() == [[2, 2, 2]] * 64
    model[0].bias = nn.Parameter(vitrify.full((3,), 5.0))
    assert call(x).tolist() == [[5, 5, 5]] * 64
    model[1] = nn.Tanh()
    assert call(x)[0, 0].item() == pytest.approx(np.tanh(5.0), rel=1e-6)


def test_a_module_compiled_in_place_and_its_copy() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    x = vitrify.ones(5, 3)
    want = model(x).tolist()
    model.compile(fullgraph=True)
    assert model(x).tolist() == want
    assert list(model.state_dict()) == ["0.weight", "0.bias"]
    twin = copy.deepcopy(model)
    with vitrify.no_grad():
        twin[0].weight.zero_()
        twin[0].bias.fill_(3)
    assert twin(x).tolist() == [[3] * 4] * 5
    assert model(x).tolist() == want
