"""Attention and the Transformer's layers against their PyTorch twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import vitrify

from .nn_twins import arrays, assert_close, compare, copy_state, ours, theirs

NN = (vitrify.nn, torch.nn)


def sdpa(lib: Any, *tensors: Any, **options: Any) -> Any:
    return lib.nn.functional.scaled_dot_product_attention(*tensors, **options)


@pytest.mark.parametrize(
    "shapes",
    [
        ((4, 5), (4, 5), (4, 5)),
        ((2, 1, 4, 5), (1, 3, 6, 5), (3, 6, 2)),
        ((2, 3, 1, 5), (2, 3, 1, 5), (2, 3, 1, 5)),
        ((2, 3, 4, 5), (2, 3, 0, 5), (2, 3, 0, 5)),
        ((2, 3, 0, 5), (2, 3, 4, 5), (2, 3, 4, 5)),
        ((2, 4, 0), (2, 3, 0), (2, 3, 5)),
    ],
    ids=str,
)
@pytest.mark.parametrize("scale", [None, 0.3])
def test_shapes(shapes: tuple[tuple[int, ...], ...], scale: float | None) -> None:
    compare(lambda lib, *t: sdpa(lib, *t, scale=scale), arrays(*shapes))


@pytest.mark.parametrize("t, s", [(5, 5), (7, 3), (3, 7)])
def test_causal(t: int, s: int) -> None:
    compare(lambda lib, *x: sdpa(lib, *x, is_causal=True), arrays((2, t, 4), (2, s, 4), (2, s, 4)), atol=1e-5)


def test_rows_that_nothing_takes_part_in() -> None:
    """They give zeros, and zero gradients, for a bool mask and one of minus infinities."""
    allowed = np.random.default_rng(0).random((2, 1, 5, 6)) > 0.4
    allowed[0, 0, 2] = False
    added = np.where(allowed, 0.5, -np.inf).astype(np.float32)
    for mask in (allowed, added):
        compare(
            lambda lib, q, k, v, m: sdpa(lib, q, k, v, attn_mask=m),
            arrays((2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 4)),
            [mask],
            atol=1e-5,
        )


@pytest.mark.parametrize("kv", [(2, 2), (1, 1), (2, 3), (6, 6)])
@pytest.mark.parametrize("causal", [False, True])
def test_heads_that_share_keys(kv: tuple[int, int], causal: bool) -> None:
    compare(
        lambda lib, *x: sdpa(lib, *x, enable_gqa=True, is_causal=causal),
        arrays((2, 6, 4, 5), (2, kv[0], 4, 5), (2, kv[1], 4, 5)),
        atol=1e-5,
    )


def test_dropout_keeps_the_mean() -> None:
    vitrify.manual_seed(0)
    q, k = (vitrify.zeros(64, 32, 4) for _ in range(2))
    v = vitrify.ones(64, 32, 4)
    out = sdpa(vitrify, q, k, v, dropout_p=0.25)
    assert abs(float(out.mean()) - 1) < 0.05 and float(out.std()) > 0.01
    assert float(sdpa(vitrify, q, k, v, dropout_p=1.0).abs().max()) == 0


ERRORS = {
    "rank": (((5,), (5,), (5,)), {}),
    "heads": (((2, 5, 4, 5), (2, 2, 4, 5), (2, 2, 4, 5)), {"enable_gqa": True}),
    "dropout": (((4, 5), (4, 5), (4, 5)), {"dropout_p": 1.5}),
    "int mask": (((4, 5), (4, 5), (4, 5)), {"attn_mask": "long"}),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case: str) -> None:
    shapes, options = ERRORS[case]
    messages = []
    for lib, make in ((vitrify, ours), (torch, theirs)):
        given = {
            k: make(np.ones((4, 4), np.int64)) if v == "long" else v  # type: ignore[comparison-overlap]
            for k, v in options.items()
        }
        with pytest.raises((RuntimeError, ValueError)) as caught:
            sdpa(lib, *map(make, arrays(*shapes)), **given)
        messages.append(str(caught.value).strip())
    assert messages[0].startswith(messages[1])


def test_dtypes_that_differ() -> None:
    x = vitrify.ones(4, 5)
    with pytest.raises(
        RuntimeError, match="to have the same dtype, but got query.dtype: float key.dtype: double"
    ):
        sdpa(vitrify, x, x.double(), x)


def compare_twins(
    make: Any, inputs: list[np.ndarray], call: Any, train: bool = True, **tolerance: float
) -> None:
    """make(nn), with the same state; call(module, *inputs) gives a tensor: results and gradients."""
    module, twin = map(make, NN)
    copy_state(module, twin)
    assert repr(module) == repr(twin) and list(module.state_dict()) == list(twin.state_dict())
    results = []
    for net, leaf in ((module, ours), (twin, theirs)):
        net.train(train)
        leaves = [leaf(a, True) for a in inputs]
        out = call(net, *leaves)
        weight = leaf(np.cos(np.arange(out.numel(), dtype=np.float32)).reshape(tuple(out.shape)))
        (out * weight).sum().backward()
        results.append((out, [x.grad for x in leaves], [p.grad for p in net.parameters()]))
    for got, want in zip(results[0][1] + results[0][2], results[1][1] + results[1][2], strict=True):
        assert (got is None) == (want is None)
        if got is not None:
            assert_close(got, want, **tolerance)
    assert_close(results[0][0], results[1][0], **tolerance)


CLOSE = {"rtol": 1e-4, "atol": 2e-5}

MHA: dict[str, dict[str, Any]] = {
    "plain": {},
    "without bias": {"bias": False},
    "batch first": {"batch_first": True},
    "more keys": {"add_bias_kv": True, "add_zero_attn": True},
    "own widths": {"kdim": 8, "vdim": 8, "bias": True},
}


@pytest.mark.parametrize("options", MHA.values(), ids=MHA)
@pytest.mark.parametrize("weights", [True, False])
def test_multihead_attention(options: dict[str, Any], weights: bool) -> None:
    shapes = ((2, 5, 8), (2, 6, 8)) if options.get("batch_first") else ((5, 2, 8), (6, 2, 8))
    padding = np.array([[False] * 6, [False] * 4 + [True] * 2])
    mask = np.triu(np.ones((5, 6), bool), 3)

    def call(net: Any, q: Any, k: Any, v: Any) -> Any:
        made = ours if isinstance(q, vitrify.Tensor) else theirs
        out, seen = net(
            q, k, v, key_padding_mask=made(padding), attn_mask=made(mask), need_weights=weights,
            average_attn_weights=False,
        )  # fmt: skip
        assert (seen is None) == (not weights)
        return out if seen is None else out.sum() + (seen * seen).sum()

    compare_twins(
        lambda nn: nn.MultiheadAttention(8, 2, **options),
        arrays(shapes[0], shapes[1], shapes[1]),
        call,
        **CLOSE,
    )


def test_multihead_attention_to_itself_and_without_a_batch() -> None:
    mask = arrays((4, 5, 5))[0]

    def call(net: Any, x: Any) -> Any:
        made = ours if isinstance(x, vitrify.Tensor) else theirs
        out, seen = net(x, x, x, attn_mask=made(mask))
        return out + seen.sum()

    compare_twins(lambda nn: nn.MultiheadAttention(8, 2), arrays((5, 2, 8)), call, **CLOSE)
    compare_twins(
        lambda nn: nn.MultiheadAttention(8, 2), arrays((5, 8)), lambda net, x: net(x, x, x)[0], **CLOSE
    )


MHA_ERRORS: dict[str, Any] = {
    "heads": lambda nn, x: nn.MultiheadAttention(5, 2),
    "width": lambda nn, x: nn.MultiheadAttention(0, 2),
    "rank": lambda nn, x: nn.MultiheadAttention(6, 2)(x(6), x(6), x(6)),
    "ranks": lambda nn, x: nn.MultiheadAttention(6, 2)(x(3, 6), x(3, 2, 6), x(3, 2, 6)),
    "embedding": lambda nn, x: nn.MultiheadAttention(6, 2)(x(3, 2, 5), x(3, 2, 6), x(3, 2, 6)),
    "mask": lambda nn, x: nn.MultiheadAttention(6, 2)(*[x(3, 2, 6)] * 3, attn_mask=x(2, 3)),
    "mask of heads": lambda nn, x: nn.MultiheadAttention(6, 2)(*[x(3, 2, 6)] * 3, attn_mask=x(2, 3, 3)),
    "hint": lambda nn, x: nn.MultiheadAttention(6, 2)(*[x(3, 2, 6)] * 3, is_causal=True),
    "padding": lambda nn, x: nn.MultiheadAttention(6, 2)(*[x(3, 2, 6)] * 3, key_padding_mask=x(3, 3)),
    "activation": lambda nn, x: nn.TransformerEncoderLayer(6, 2, activation="tanh"),
    "batches": lambda nn, x: nn.Transformer(6, 2, 1, 1, 8)(x(3, 2, 6), x(3, 1, 6)),
    "features": lambda nn, x: nn.Transformer(6, 2, 1, 1, 8)(x(3, 2, 5), x(3, 2, 6)),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", MHA_ERRORS)
def test_errors_of_layers(case: str) -> None:
    caught = []
    for nn, make in zip(NN, (vitrify.zeros, torch.zeros), strict=True):
        with pytest.raises((AssertionError, ValueError, RuntimeError)) as error:
            MHA_ERRORS[case](nn, make)
        caught.append((error.type, str(error.value).replace("torch.Size", "vitrify.Size")))
    assert caught[0] == caught[1]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "options",
    [{}, {"norm_first": True}, {"batch_first": True, "activation": "gelu"}, {"bias": False}],
    ids=["plain", "norm first", "batch first", "without bias"],
)
def test_layers(options: dict[str, Any]) -> None:
    def encoder(nn: Any) -> Any:
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0, **options), 2, nn.LayerNorm(8))

    def decoder(nn: Any) -> Any:
        return nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, 0.0, **options), 2)

    x, memory = arrays((5, 2, 8), (6, 2, 8))
    if options.get("batch_first"):
        x, memory = (np.ascontiguousarray(a.swapaxes(0, 1)) for a in (x, memory))

    def causal(like: Any) -> Any:
        lib = vitrify if isinstance(like, vitrify.Tensor) else torch
        return lib.nn.Transformer.generate_square_subsequent_mask(5)

    compare_twins(encoder, [x], lambda net, x: net(x, mask=causal(x), is_causal=True), **CLOSE)
    compare_twins(
        decoder, [x, memory], lambda net, x, m: net(x, m, tgt_mask=causal(x), tgt_is_causal=True), **CLOSE
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_transformer() -> None:
    compare_twins(
        lambda nn: nn.Transformer(8, 2, 1, 2, 16, 0.0),
        arrays((6, 2, 8), (5, 2, 8)),
        lambda net, src, tgt: net(src, tgt),
        **CLOSE,
    )


def test_copies_of_a_layer_share_nothing() -> None:
    encoder = vitrify.nn.TransformerEncoder(vitrify.nn.TransformerEncoderLayer(8, 2, 16), 2)
    first, second = encoder.layers
    assert first.linear1.weight is not second.linear1.weight
    assert (first.linear1.weight == second.linear1.weight).all()


def test_dropout_of_layers_is_off_in_evaluation() -> None:
    layer = vitrify.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5)
    x = ours(arrays((5, 2, 8))[0])
    assert not (layer(x) == layer(x)).all()
    layer.eval()
    assert (layer(x) == layer(x)).all()
