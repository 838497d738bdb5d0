"""Attention in one kernel gives the bits of attention spelled out, op by op, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import vitrify
from vitrify import _composite
from vitrify.nn import functional as F

from tests.support import assert_same_bits

#: (batch, heads, heads of the keys, t, s, d): large enough for panels, with odd tails.
SIZES = {
    "square": (2, 8, 8, 70, 70, 16),
    "across": (3, 2, 2, 130, 90, 33),
    "shared keys": (2, 8, 2, 64, 80, 16),
    "tiny": (2, 1, 1, 3, 5, 1),
}
MASKS = ("none", "causal", "bool", "float", "dead rows")


def tensors(sizes: tuple[int, ...], mask: str) -> tuple[list[Any], Any]:
    """(query, key, value, and the cotangent of the output; the mask)."""
    rng = np.random.default_rng(sum(sizes))
    b, h, g, t, s, d = sizes
    shapes = ((b, h, t, d), (b, g, s, d), (b, g, s, d), (b, h, t, d))
    made = [vitrify.from_numpy(rng.standard_normal(shape).astype(np.float32)) for shape in shapes]
    for x in made[:3]:
        x.requires_grad_()
    allowed = rng.random((b, 1, t, s)) > 0.3
    if mask == "dead rows":
        allowed[0, 0, 1:3] = False
    if mask == "float":
        return made, vitrify.from_numpy(rng.standard_normal((t, s)).astype(np.float32))
    return made, vitrify.from_numpy(allowed) if mask in ("bool", "dead rows") else None


def fused(q: Any, k: Any, v: Any, mask: Any, causal: bool) -> Any:
    shared = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, enable_gqa=shared)


def spelled_out(q: Any, k: Any, v: Any, mask: Any, causal: bool) -> Any:
    if q.shape[1] != k.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if causal:
        mask = vitrify.ones(q.shape[-2], k.shape[-2], dtype=vitrify.bool).tril()
    dead = None
    if mask is not None:
        scores = scores + mask if mask.is_floating_point() else scores.masked_fill(~mask, float("-inf"))
        dead = (scores == float("-inf")).all(-1, keepdim=True)
        scores = scores.masked_fill(dead, 0.0)
    weights = vitrify.softmax(scores, -1)
    return (weights if dead is None else weights.masked_fill(dead, 0.0)) @ v


def with_gradients(attention: Callable[..., Any], causal: bool) -> Callable[..., tuple[Any, ...]]:
    def run(q: Any, k: Any, v: Any, ct: Any, mask: Any) -> tuple[Any, ...]:
        out = attention(q, k, v, mask, causal)
        return (out, *vitrify.autograd.grad(out, (q, k, v), ct))

    return run


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("size", SIZES)
def test_same_bits_as_spelled_out(size: str, mask: str) -> None:
    (q, k, v, ct), given = tensors(SIZES[size], mask)
    causal = mask == "causal"
    want = with_gradients(spelled_out, causal)(q, k, v, ct, given)
    ways = {
        "eager": with_gradients(fused, causal),
        "compiled": vitrify.compile(with_gradients(fused, causal), fullgraph=True),
        "spelled out, compiled": vitrify.compile(with_gradients(spelled_out, causal), fullgraph=True),
    }
    for way, run in ways.items():
        for name, x, y in zip(("output", "dq", "dk", "dv"), run(q, k, v, ct, given), want, strict=True):
            assert_same_bits(x.detach().numpy(), y.detach().numpy(), f"{way}: {name}")


@pytest.mark.parametrize("mask", MASKS)
def test_eager_calls_that_come_often(mask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run as one compiled graph from some call on."""
    monkeypatch.setattr(_composite, "calls_before", 1)
    (q, k, v, ct), given = tensors(SIZES["across"], mask)
    run = with_gradients(fused, mask == "causal")
    want = run(q, k, v, ct, given)
    for _ in range(3):
        got = run(q, k, v, ct, given)
    for name, x, y in zip(("output", "dq", "dk", "dv"), got, want, strict=True):
        assert_same_bits(x.detach().numpy(), y.detach().numpy(), name)


@pytest.mark.parametrize("mask", ["none", "causal"])
def test_backward_outside_of_the_compiled_function(mask: str) -> None:
    (q, k, v, ct), given = tensors(SIZES["square"], mask)
    causal = mask == "causal"
    want = with_gradients(spelled_out, causal)(q, k, v, ct, given)
    out = vitrify.compile(lambda q, k, v: fused(q, k, v, given, causal))(q, k, v)
    got = (out, *vitrify.autograd.grad(out, (q, k, v), ct))
    for name, x, y in zip(("output", "dq", "dk", "dv"), got, want, strict=True):
        assert_same_bits(x.detach().numpy(), y.detach().numpy(), name)


def test_a_head_alone_and_among_others() -> None:
    (q, k, v, _), _ = tensors(SIZES["square"], "none")
    q, k, v = (x.detach() for x in (q, k, v))
    run = vitrify.compile(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True))
    whole = run(q, k, v)
    for head in (0, 5):
        alone = run(*(x[1:, head : head + 1] for x in (q, k, v)))
        assert_same_bits(alone.numpy()[0, 0], whole.numpy()[1, head], f"head {head}")


def test_what_is_not_finite() -> None:
    """NaNs and infinities go where attention spelled out takes them; of causal attention eager and compiled
    agree."""
    (q, k, v, ct), _ = tensors(SIZES["across"], "none")
    for x, value in ((q, float("inf")), (k, float("nan")), (v, float("-inf"))):
        x.data[0, 0, 3, 2] = value
    for causal in (False, True):
        want = with_gradients(fused if causal else spelled_out, causal)(q, k, v, ct, None)
        got = vitrify.compile(with_gradients(fused, causal))(q, k, v, ct, None)
        for name, x, y in zip(("output", "dq", "dk", "dv"), got, want, strict=True):
            assert_same_bits(x.detach().numpy(), y.detach().numpy(), name)


@pytest.mark.parametrize("compiled", [False, True])
def test_what_comes_later_has_no_part(compiled: bool) -> None:
    """Whatever is in later rows of keys and values, causal attention and its gradients do not see it."""
    (q, k, v, ct), _ = tensors(SIZES["square"], "none")
    run = with_gradients(fused, True)
    run = vitrify.compile(run) if compiled else run
    want = run(q, k, v, ct, None)
    t = 37
    for x in (k, v):
        x.data[:, :, t:] = float("nan")
    got = run(q, k, v, ct, None)
    for name, x, y in zip(("output", "dq"), got, want, strict=False):
        assert_same_bits(x.detach().numpy()[:, :, :t], y.detach().numpy()[:, :, :t], name)
    assert np.isnan(got[0].detach().numpy()[:, :, t:]).all()
