"""Recurrent layers against their PyTorch twins: results, gradients, names, initial values, errors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
import vitrify

from .nn_twins import arrays, assert_close, copy_state, ours, theirs

LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("RNN", {}),
    "rnn relu": ("RNN", {"nonlinearity": "relu", "bias": False}),
    "gru": ("GRU", {}),
    "gru deep": ("GRU", {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    "gru without bias": ("GRU", {"bias": False}),
    "lstm": ("LSTM", {}),
    "lstm deep": ("LSTM", {"num_layers": 2, "bidirectional": True}),
    "lstm projected": ("LSTM", {"proj_size": 3, "num_layers": 2, "batch_first": True}),
    "lstm without bias": ("LSTM", {"bias": False, "bidirectional": True}),
}


def twins(name: str, **options: Any) -> tuple[Any, Any]:
    kind, more = LAYERS[name]
    theirs_ = getattr(torch.nn, kind)(5, 7, **more, **options)
    ours_ = getattr(vitrify.nn, kind)(5, 7, **more, **options)
    copy_state(ours_, theirs_)
    return ours_, theirs_


def states(layer: Any, batch: int | None) -> list[np.ndarray]:
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    sizes = [layer.proj_size or layer.hidden_size, layer.hidden_size][: 2 if layer.mode == "LSTM" else 1]
    return arrays(*((count, *(() if batch is None else (batch,)), s) for s in sizes), seed=1)


def listed(hx: Any) -> list[Any]:
    return list(hx) if isinstance(hx, tuple) else [hx]


def compare(ours_: Any, theirs_: Any, x: np.ndarray, given: list[np.ndarray]) -> None:
    results = []
    for layer, make in ((ours_, ours), (theirs_, theirs)):
        leaves = [make(a, True) for a in (x, *given)]
        hx = tuple(leaves[1:]) if len(given) == 2 else (leaves[1] if given else None)
        output, last = layer(leaves[0], hx) if given else layer(leaves[0])
        parts = [output, *listed(last)]
        total = sum((p * make(np.cos(np.arange(p.numel(), dtype=np.float32)).reshape(tuple(p.shape)))).sum()
                    for p in parts)  # fmt: skip
        total.backward()
        results.append((parts, leaves))
    for got, want in zip(results[0][0], results[1][0], strict=True):
        assert_close(got, want)
    for got, want in zip(results[0][1], results[1][1], strict=True):
        assert_close(got.grad, want.grad, "gradient of an input")
    for (name, p), q in zip(ours_.named_parameters(), theirs_.parameters(), strict=True):
        assert_close(p.grad, q.grad, f"gradient of {name}", atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_results_and_gradients(name: str) -> None:
    mine, twin = twins(name)
    assert repr(mine) == repr(twin)
    assert list(mine.state_dict()) == list(twin.state_dict())
    assert [len(w) for w in mine.all_weights] == [len(w) for w in twin.all_weights]
    (x,) = arrays((3, 4, 5))
    batch = 3 if mine.batch_first else 4
    compare(mine, twin, x, states(mine, batch))


@pytest.mark.parametrize("name", ["rnn", "lstm deep"])
def test_without_a_batch_and_without_states(name: str) -> None:
    mine, twin = twins(name)
    (x,) = arrays((6, 5))
    compare(mine, twin, x, states(mine, None))
    compare(*twins(name), x, [])
    compare(*twins(name), arrays((1, 1, 5))[0], [])


@pytest.mark.parametrize("name", ["gru deep", "lstm"])
@pytest.mark.parametrize("lengths", [[5, 3, 1], [2, 5, 4]])
def test_packed_sequences(name: str, lengths: list[int]) -> None:
    mine, twin = twins(name)
    in_order = lengths == sorted(lengths, reverse=True)
    first = mine.batch_first
    (x,) = arrays((3, 5, 5) if first else (5, 3, 5))
    results = []
    for library, layer, make in ((vitrify, mine, ours), (torch, twin, theirs)):
        rnn = library.nn.utils.rnn
        leaf = make(x, True)
        packed = rnn.pack_padded_sequence(leaf, library.tensor(lengths), first, enforce_sorted=in_order)
        output, last = layer(packed)
        out, sizes = rnn.pad_packed_sequence(output, first, padding_value=0.5)
        parts = [out, *listed(last)]
        sum((p * p).sum() for p in parts).backward()
        results.append((parts, packed.batch_sizes.tolist(), sizes.tolist(), leaf.grad))
    (got, *sizes, grad), (want, *their_sizes, their_grad) = results
    assert sizes == their_sizes
    for g, w in zip(got, want, strict=True):
        assert_close(g, w)
    assert_close(grad, their_grad)
    for p, q in zip(mine.parameters(), twin.parameters(), strict=True):
        assert_close(p.grad, q.grad, atol=1e-5)


def test_packing_and_padding() -> None:
    parts = arrays((3, 2), (4, 2), (1, 2))
    for library, make in ((vitrify, ours), (torch, theirs)):
        rnn = library.nn.utils.rnn
        both = rnn.pad_sequence([make(p) for p in parts], batch_first=True, padding_value=-1.0)
        assert tuple(both.shape) == (3, 4, 2)
        assert both[2, 3, 1].item() == -1
        packed = rnn.pack_sequence([make(p) for p in parts], enforce_sorted=False)
        assert packed.batch_sizes.tolist() == [3, 2, 2, 1]
        assert packed.sorted_indices.tolist() == [1, 0, 2]
        again, sizes = rnn.pad_packed_sequence(packed, total_length=6)
        assert tuple(again.shape) == (6, 3, 2)
        assert sizes.tolist() == [3, 4, 1]
    with pytest.raises(RuntimeError, match="must be sorted in decreasing order"):
        vitrify.nn.utils.rnn.pack_sequence([ours(p) for p in parts])
    with pytest.raises(RuntimeError, match="greater than 0"):
        vitrify.nn.utils.rnn.pack_padded_sequence(ours(parts[0]), [3, 0])


@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batched", [True, False])
def test_cells(kind: str, bias: bool, batched: bool) -> None:
    twin, mine = (getattr(lib.nn, kind)(5, 7, bias) for lib in (torch, vitrify))
    assert repr(mine) == repr(twin)
    copy_state(mine, twin)
    lead = (3,) if batched else ()
    x, h, c = arrays((*lead, 5), (*lead, 7), (*lead, 7))
    results = []
    for cell, make in ((mine, ours), (twin, theirs)):
        leaves = [make(a, True) for a in (x, h, c)]
        given = (leaves[1], leaves[2]) if kind == "LSTMCell" else leaves[1]
        new = cell(leaves[0], given)
        new = cell(leaves[0], new)
        sum((p * p).sum() for p in listed(new)).backward()
        results.append((listed(new), leaves[0].grad, [p.grad for p in cell.parameters()], cell(leaves[0])))
    (got, grad, grads, zero), (want, their_grad, their_grads, their_zero) = results
    mine_, theirs_ = (
        [*got, grad, *grads, *listed(zero)],
        [*want, their_grad, *their_grads, *listed(their_zero)],
    )
    for g, w in zip(mine_, theirs_, strict=True):
        assert_close(g, w, atol=1e-5)


def test_initial_values_are_within_the_bound() -> None:
    layer = vitrify.nn.LSTM(4, 25, num_layers=2)
    for p in layer.parameters():
        assert 0.19 < p.detach().abs().max().item() <= 0.2


ERRORS = {
    "rank": lambda lib, nn: nn.LSTM(5, 7)(lib.zeros(5)),
    "rank of the state": lambda lib, nn: nn.GRU(5, 7)(lib.zeros(3, 2, 5), lib.zeros(1, 7)),
    "rank of the states": lambda lib, nn: nn.LSTM(5, 7)(lib.zeros(3, 5), (lib.zeros(1, 1, 7),) * 2),
    "input size": lambda lib, nn: nn.RNN(5, 7)(lib.zeros(3, 2, 6)),
    "size of the state": lambda lib, nn: nn.RNN(5, 7)(lib.zeros(3, 2, 5), lib.zeros(1, 3, 7)),
    "sizes of the states": lambda lib, nn: nn.LSTM(5, 7)(
        lib.zeros(3, 2, 5), (lib.zeros(1, 2, 7), lib.zeros(1, 2, 6))
    ),
    "no step": lambda lib, nn: nn.LSTM(5, 7)(lib.zeros(0, 2, 5)),
    "hidden size": lambda lib, nn: nn.LSTM(5, 0),
    "type of the size": lambda lib, nn: nn.LSTM(5, 1.5),
    "layers": lambda lib, nn: nn.GRU(5, 3, 0),
    "dropout": lambda lib, nn: nn.GRU(5, 3, 2, dropout=1.5),
    "projection": lambda lib, nn: nn.LSTM(5, 3, proj_size=3),
    "no projection": lambda lib, nn: nn.GRU(5, 3, proj_size=2),
    "nonlinearity": lambda lib, nn: nn.RNN(5, 3, nonlinearity="sin"),
    "bias": lambda lib, nn: nn.LSTM(5, 3, 1, 1),
    "cell rank": lambda lib, nn: nn.LSTMCell(5, 3)(lib.zeros(2, 2, 5)),
    "cell input": lambda lib, nn: nn.GRUCell(5, 3)(lib.zeros(2, 4)),
    "cell state": lambda lib, nn: nn.RNNCell(5, 3)(lib.zeros(2, 5), lib.zeros(2, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_pytorchs(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception) as want:
            ERRORS[name](torch, torch.nn)
        with pytest.raises(type(want.value)) as got:
            ERRORS[name](vitrify, vitrify.nn)
    assert str(got.value) == str(want.value).replace("torch.", "vitrify.")


def test_dropout_between_layers_warns_where_there_is_one_layer() -> None:
    with pytest.warns(UserWarning, match="non-zero dropout expects num_layers greater than 1"):
        vitrify.nn.LSTM(3, 4, dropout=0.5)
    layer = vitrify.nn.LSTM(3, 4, num_layers=2, dropout=1.0)
    x = vitrify.ones(2, 1, 3)
    assert not np.array_equal(layer(x)[0].detach().numpy(), layer.eval()(x)[0].detach().numpy())
