"""Recurrent layers compiled and eager: the same bits, and gradients that are right."""

from __future__ import annotations

import numpy as np
import pytest
import vitrify
from vitrify import nn
from vitrify.autograd import gradcheck, gradgradcheck
from vitrify.nn._functional_recurrent import recurrent_layer

from tests.support import assert_same_bits

KINDS = {
    "rnn": lambda **k: nn.RNN(3, 4, **k),
    "rnn relu": lambda **k: nn.RNN(3, 4, nonlinearity="relu", **k),
    "gru": lambda **k: nn.GRU(3, 4, **k),
    "lstm": lambda **k: nn.LSTM(3, 4, **k),
    "lstm projected": lambda **k: nn.LSTM(3, 4, proj_size=2, **k),
}


def flat(result):
    output, last = result
    return [output, *(last if isinstance(last, tuple) else (last,))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_by_differences(kind, reverse):
    vitrify.manual_seed(0)
    layer = KINDS[kind](dtype=vitrify.float64)
    (weights,) = layer.all_weights
    sizes = [getattr(layer, "proj_size", 0) or 4, 4][: 2 if layer.mode == "LSTM" else 1]
    states = [vitrify.randn(2, n, dtype=vitrify.float64, requires_grad=True) for n in sizes]
    x = vitrify.randn(3, 2, 3, dtype=vitrify.float64, requires_grad=True)

    def f(x, *rest):
        given, own = rest[: len(states)], rest[len(states) :]
        output, last = recurrent_layer(layer.mode, x, given, own, True, reverse)
        return (output, *last)

    assert gradcheck(f, (x, *states, *weights))


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_second_derivatives(kind):
    vitrify.manual_seed(0)
    layer = KINDS[kind](dtype=vitrify.float64)
    x = vitrify.randn(3, 1, 3, dtype=vitrify.float64, requires_grad=True)
    assert gradgradcheck(lambda x: layer(x)[0], (x,))


class Tagger(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embedding = nn.Embedding(11, 3)
        self.rnn = KINDS[kind](num_layers=2, bidirectional=True, batch_first=True)
        width = 2 * (getattr(self.rnn, "proj_size", 0) or 4)
        self.head = nn.Linear(width, 5)

    def forward(self, tokens):
        output, _ = self.rnn(self.embedding(tokens))
        return self.head(output)


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_the_same_compiled(kind):
    """Every weight after 20 steps, to the bit."""
    ends = []
    for compiled in (False, True):
        vitrify.manual_seed(0)
        model = Tagger(kind)
        optimizer = vitrify.optim.Adam(model.parameters(), lr=0.01)

        def step(tokens, tags, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(tokens).reshape(-1, 5), tags.reshape(-1))
            loss.backward()
            optimizer.step()
            return loss.detach()

        run = vitrify.compile(step, fullgraph=True) if compiled else step
        rng = np.random.default_rng(0)
        losses = []
        for _ in range(20):
            tokens = vitrify.from_numpy(rng.integers(0, 11, (4, 6)))
            losses.append(run(tokens, tokens % 5).item())
        ends.append((losses, [p.detach().numpy().copy() for p in model.parameters()]))
        assert losses[-1] < losses[0]
    assert ends[0][0] == ends[1][0]
    for got, want in zip(ends[1][1], ends[0][1], strict=True):
        assert_same_bits(got, want)


def test_compiled_forward_with_backward_outside():
    vitrify.manual_seed(0)
    layer = nn.LSTM(3, 4, num_layers=2)
    x = vitrify.randn(5, 2, 3)
    grads = []
    for call in (layer, vitrify.compile(layer, fullgraph=True)):
        for _ in range(2):
            layer.zero_grad()
            a = x.clone().requires_grad_()
            sum((y * y).sum() for y in flat_pair(call(a))).backward()
            grads.append([a.grad.numpy().copy(), *(p.grad.numpy().copy() for p in layer.parameters())])
    for other in grads[1:]:
        for got, want in zip(other, grads[0], strict=True):
            assert_same_bits(got, want)


def test_compiled_forward_of_which_one_output_counts():
    vitrify.manual_seed(0)
    layer = nn.LSTM(3, 4)
    x = vitrify.randn(5, 2, 3)
    compiled = vitrify.compile(layer, fullgraph=True)
    for part in (lambda y: y[0], lambda y: y[1][1], lambda y: y[0] + y[1][0]):
        grads = []
        for call in (layer, compiled):
            layer.zero_grad()
            part(call(x)).square().sum().backward()
            grads.append([p.grad.numpy().copy() for p in layer.parameters()])
        for got, want in zip(*grads, strict=True):
            assert_same_bits(got, want)


def flat_pair(result):
    output, (h, c) = result
    return [output, h, c]


def test_inference_records_nothing_and_agrees():
    layer = nn.GRU(3, 4)
    x = vitrify.randn(5, 2, 3)
    with vitrify.no_grad():
        plain = layer(x)
        again = vitrify.compile(layer)(x)
    assert not plain[0].requires_grad
    for got, want in zip(flat(again), flat(plain), strict=True):
        assert_same_bits(got.numpy(), want.numpy())


def test_a_saved_weight_changed_in_place_is_noticed():
    layer = nn.LSTM(3, 4)
    loss = layer(vitrify.randn(2, 1, 3))[0].sum()
    with vitrify.no_grad():
        layer.weight_hh_l0.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_second_backward_needs_retain_graph():
    layer = nn.RNN(3, 4)
    loss = layer(vitrify.randn(2, 1, 3))[0].sum()
    loss.backward(retain_graph=True)
    loss.backward()
    with pytest.raises(RuntimeError, match="a second time"):
        loss.backward()


def test_one_node_for_the_whole_layer():
    output, _ = nn.LSTM(3, 4)(vitrify.randn(7, 1, 3))
    assert type(output.grad_fn).__name__ == "MultiNode"
    assert output.grad_fn.name() == "ScanBackward0"


@pytest.mark.parametrize("dtype", [vitrify.bfloat16, vitrify.float16])
def test_half_precision_runs_and_agrees(dtype):
    vitrify.manual_seed(0)
    layer = nn.LSTM(3, 4, dtype=dtype)
    x = vitrify.randn(5, 2, 3).to(dtype)
    grads = []
    for call in (layer, vitrify.compile(layer, fullgraph=True)):
        layer.zero_grad()
        output, _ = call(x)
        assert output.dtype is dtype
        output.float().square().sum().backward()
        grads.append([output.detach().float().numpy(), *(p.grad.float().numpy() for p in layer.parameters())])
    for got, want in zip(*grads, strict=True):
        assert_same_bits(got, want)
    wide = nn.LSTM(3, 4)
    wide.load_state_dict({k: v.float() for k, v in layer.state_dict().items()})
    np.testing.assert_allclose(grads[0][0], wide(x.float())[0].detach().numpy(), atol=2e-2)
