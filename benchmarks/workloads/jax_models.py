"""The models of `benchmarks.models` in JAX: functions of a list of weights, in the order of PyTorch's
`parameters()` and in its layouts, and a training step with donated state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..models import GPTSizes


def mlp(weights: Sequence[Any], x: Any) -> Any:
    import jax

    *hidden, last = zip(weights[::2], weights[1::2], strict=True)
    for w, b in hidden:
        x = jax.nn.relu(x @ w.T + b)
    return x @ last[0].T + last[1]


def cnn(weights: Sequence[Any], x: Any) -> Any:
    import jax

    def block(x: Any, w: Any, b: Any) -> Any:
        x = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME") + b[:, None, None]
        return jax.lax.reduce_window(
            jax.nn.relu(x), -jax.numpy.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"
        )

    w1, b1, w2, b2, *rest = weights
    return mlp(rest, block(block(x, w1, b1), w2, b2).reshape(x.shape[0], -1))


def _norm(x: Any, w: Any, b: Any) -> Any:
    import jax

    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * w + b


def _block(weights: Sequence[Any], x: Any, attend: Callable[[Any, Any, Any], Any]) -> Any:
    """A pre-norm transformer block."""
    import jax

    norm1, bias1, norm2, bias2, qkv, qkv_bias, out, out_bias, wide, wide_bias, narrow, narrow_bias = weights
    batch, length, width = x.shape
    parts = jax.numpy.split(_norm(x, norm1, bias1) @ qkv.T + qkv_bias, 3, -1)
    heads = [p.reshape(batch, length, GPTSizes.heads, -1).swapaxes(1, 2) for p in parts]
    y = attend(*heads).swapaxes(1, 2).reshape(batch, length, width)
    x = x + y @ out.T + out_bias
    inner = jax.nn.gelu(_norm(x, norm2, bias2) @ wide.T + wide_bias, approximate=False)
    return x + inner @ narrow.T + narrow_bias


def _causal(q: Any, k: Any, v: Any) -> Any:
    import jax
    import jax.numpy as jnp

    scores = jnp.einsum("bhtd,bhsd->bhts", q, k) * q.shape[-1] ** -0.5
    scores = jnp.where(jnp.tri(*scores.shape[-2:], dtype=bool), scores, -jnp.inf)
    return jnp.einsum("bhts,bhsd->bhtd", jax.nn.softmax(scores), v)


def gpt(weights: Sequence[Any], tokens: Any) -> Any:
    words, places, *blocks, norm, bias, head = weights
    x = words[tokens] + places[: tokens.shape[1]]
    for i in range(0, len(blocks), 12):
        x = _block(blocks[i : i + 12], x, _causal)
    return _norm(x, norm, bias) @ head.T


def gpt_token(weights: Sequence[Any], token: Any, position: Any, caches: Sequence[Any]) -> Any:
    """The next token's logits, and the caches with its keys and values."""
    import jax
    import jax.numpy as jnp

    words, places, *blocks, norm, bias, head = weights
    x = words[token] + places[position]
    written = []
    for i, (keys, values) in zip(range(0, len(blocks), 12), caches, strict=True):

        def attend(q: Any, k: Any, v: Any, keys: Any = keys, values: Any = values) -> Any:
            keys = jax.lax.dynamic_update_slice(keys, k, (0, 0, position, 0))
            values = jax.lax.dynamic_update_slice(values, v, (0, 0, position, 0))
            written.append((keys, values))
            scores = jnp.einsum("bhtd,bhsd->bhts", q, keys) * q.shape[-1] ** -0.5
            return jnp.einsum("bhts,bhsd->bhtd", jax.nn.softmax(scores), values)

        x = _block(blocks[i : i + 12], x, attend)
    return _norm(x, norm, bias) @ head.T, written


def cross_entropy(outputs: Any, targets: Any) -> Any:
    import jax

    chances = jax.nn.log_softmax(outputs.reshape(-1, outputs.shape[-1]))
    return -jax.numpy.take_along_axis(chances, targets.reshape(-1, 1), 1).mean()


def squared_error(outputs: Any, targets: Any) -> Any:
    return ((outputs - targets) ** 2).mean()


def _adam(settings: Mapping[str, float]) -> Callable[..., Any]:
    def update(p: Any, g: Any, state: Any, t: Any) -> Any:
        import jax.numpy as jnp

        lr, decay = settings["lr"], settings.get("weight_decay", 0.0)
        m, v = 0.9 * state[0] + 0.1 * g, 0.999 * state[1] + 0.001 * g * g
        root = jnp.sqrt(v) / jnp.sqrt(1 - 0.999**t) + 1e-8
        return p * (1 - lr * decay) - lr / (1 - 0.9**t) * m / root, (m, v)

    return update


def _momentum(settings: Mapping[str, float]) -> Callable[..., Any]:
    def update(p: Any, g: Any, state: Any, t: Any) -> Any:
        m = settings.get("momentum", 0.0) * state[0] + g
        return p - settings["lr"] * m, (m,)

    return update


def _sgd(settings: Mapping[str, float]) -> Callable[..., Any]:
    return lambda p, g, state, t: (p - settings["lr"] * g, ())


def _rule(optimizer: tuple[str, Mapping[str, float]]) -> tuple[Callable[..., Any], int]:
    """An optimizer's update (p, g, state, t) -> (p, state), and how many tensors of state it keeps."""
    name, settings = optimizer
    if name == "SGD":
        return (_momentum(settings), 1) if "momentum" in settings else (_sgd(settings), 0)
    return _adam(settings), 2


def training(
    weights: Sequence[np.ndarray],
    forward: Callable[..., Any],
    loss: Callable[..., Any],
    optimizer: tuple[str, Mapping[str, float]],
    data: tuple[np.ndarray, np.ndarray],
) -> Callable[[], object]:
    """A jitted training step with donated state; each call makes one step and gives the loss."""  # fmt: skip
    import jax
    import jax.numpy as jnp

    update, kept = _rule(optimizer)

    @partial(jax.jit, donate_argnums=0)
    def step(state: Any, inputs: Any, targets: Any) -> Any:
        params, states, t = state
        value, grads = jax.value_and_grad(lambda p: loss(forward(p, inputs), targets))(params)
        t = t + 1
        moved = [update(p, g, s, t) for p, g, s in zip(params, grads, states, strict=True)]
        return ([p for p, _ in moved], [s for _, s in moved], t), value

    params = [jnp.array(w) for w in weights]
    state = (params, [tuple(jnp.zeros_like(p) for _ in range(kept)) for p in params], jnp.float32(0))
    inputs, targets = map(jnp.asarray, data)

    def run() -> object:
        nonlocal state
        state, value = step(state, inputs, targets)
        return value.block_until_ready()

    return run


def lstm(weights: Sequence[Any], tokens: Any, *, unrolled: bool) -> Any:
    """The classifier of `models.lstm`, as a scan over the steps or written out."""
    import jax
    import jax.numpy as jnp

    table, w_ih, w_hh, b_ih, b_hh, head, bias = weights
    gates = table[tokens.T] @ w_ih.T + (b_ih + b_hh)
    zero = jnp.zeros((tokens.shape[0], w_hh.shape[1]))

    def step(state: Any, x: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(x + h @ w_hh.T, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), None

    state, _ = jax.lax.scan(step, (zero, zero), gates, unroll=gates.shape[0] if unrolled else 1)
    return state[0] @ head.T + bias
