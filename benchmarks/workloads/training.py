"""Whole training steps: forward, backward and Adam, on one fixed batch of random data.

The models are those of examples/mnist.py. torch.compile is tried in two ways, on the model and on the whole
step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..measure import Run
from .workload import Workload

MLP_SIZES = (784, 512, 256, 10)
LEARNING_RATE = 1e-3


def _batch(shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape).astype(np.float32), rng.integers(0, 10, shape[0])


def _mlp(nn: Any) -> Any:
    a, b, c, d = MLP_SIZES
    return nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c), nn.ReLU(), nn.Linear(c, d))


def _cnn(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def _step(torch: Any, model: Any, **adam: bool) -> Callable[[Any, Any], Any]:
    """The training step, the same Python for vitrify and torch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, **adam)
    loss_of = torch.nn.CrossEntropyLoss()

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def _vitrify(build: Callable[[Any], Any], shape: Sequence[int], eager: bool, threads: int) -> Run:
    import vitrify

    vitrify.manual_seed(0)
    step = _step(vitrify, build(vitrify.nn))
    if not eager:
        step = vitrify.compile(step)
    images, labels = map(vitrify.from_numpy, _batch(shape))
    return lambda: step(images, labels)


def _torch(build: Callable[[Any], Any], shape: Sequence[int], mode: str, fused: bool, threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = build(torch.nn)
    step = _step(
        torch, torch.compile(model) if mode == "model" else model, **({"fused": True} if fused else {})
    )
    if mode == "step":
        step = torch.compile(step)
    images, labels = map(torch.from_numpy, _batch(shape))
    return lambda: step(images, labels)


def _jax_mlp(shape: Sequence[int], threads: int) -> Run:
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.PRNGKey(0), len(MLP_SIZES) - 1)
    params = [
        (jax.random.normal(k, (m, n)) * m**-0.5, jnp.zeros(n))
        for k, m, n in zip(keys, MLP_SIZES[:-1], MLP_SIZES[1:], strict=True)
    ]

    def logits(params: Any, x: Any) -> Any:
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = params[-1]
        return x @ w + b

    return _jax_adam(params, logits, shape)


def _jax_cnn(shape: Sequence[int], threads: int) -> Run:
    import jax
    import jax.numpy as jnp

    sizes = {"c1": (32, 1, 3, 3), "c2": (64, 32, 3, 3), "f1": (64 * 7 * 7, 128), "f2": (128, 10)}
    keys = jax.random.split(jax.random.PRNGKey(0), len(sizes))
    params = {n: jax.random.normal(k, s) * 0.05 for k, (n, s) in zip(keys, sizes.items(), strict=True)}
    params |= {
        "b1": jnp.zeros((32, 1, 1)),
        "b2": jnp.zeros((64, 1, 1)),
        "b3": jnp.zeros(128),
        "b4": jnp.zeros(10),
    }

    def block(x: Any, w: Any, b: Any) -> Any:
        x = jax.nn.relu(jax.lax.conv_general_dilated(x, w, (1, 1), "SAME") + b)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    def logits(p: Any, x: Any) -> Any:
        x = block(block(x, p["c1"], p["b1"]), p["c2"], p["b2"]).reshape(x.shape[0], -1)
        return jax.nn.relu(x @ p["f1"] + p["b3"]) @ p["f2"] + p["b4"]

    return _jax_adam(params, logits, shape)


def _jax_adam(params: Any, logits: Callable[[Any, Any], Any], shape: Sequence[int]) -> Run:
    """A jitted Adam step with donated state, written out so that no optimizer library is needed."""
    import jax
    import jax.numpy as jnp

    images, labels = map(jnp.asarray, _batch(shape))

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(logits(params, x)), y[:, None], 1).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(state: Any, x: Any, y: Any) -> Any:
        params, m, v, t = state
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
        scale = LEARNING_RATE / (1 - 0.9**t)
        params = jax.tree.map(
            lambda p, m, v: p - scale * m / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8), params, m, v
        )
        return (params, m, v, t), loss

    state = (
        params,
        jax.tree.map(jnp.zeros_like, params),
        jax.tree.map(jnp.zeros_like, params),
        jnp.float32(0),
    )

    def run() -> object:
        nonlocal state
        state, loss = step(state, images, labels)
        return loss.block_until_ready()

    return run


def _workload(
    name: str, build: Callable[[Any], Any], jax_maker: Any, shape: Sequence[int], flops: float
) -> Workload:
    torch = partial(partial, _torch, build, shape)
    return Workload(
        name,
        {
            "vitrify": partial(_vitrify, build, shape, False),
            "vitrify eager": partial(_vitrify, build, shape, True),
            "torch eager": torch("eager", False),
            "torch eager, fused Adam": torch("eager", True),
            "torch.compile model": torch("model", True),
            "torch.compile step": torch("step", False),
            "jax.jit": partial(jax_maker, shape),
        },
        flops,
        sample_s=0.05,
    )


def _mlp_flops(batch: int) -> float:
    """Products of the forward pass, of both gradients, less the input's gradient of the first layer."""
    layers = [m * n for m, n in zip(MLP_SIZES[:-1], MLP_SIZES[1:], strict=True)]
    return 2.0 * batch * (3 * sum(layers) - layers[0])


def _cnn_flops(batch: int) -> float:
    first, second = 28 * 28 * 32 * 9, 14 * 14 * 64 * 32 * 9
    return 2.0 * batch * (2 * first + 3 * (second + 64 * 7 * 7 * 128 + 128 * 10))


MLP_64 = _workload("step: MLP 784-512-256-10, Adam, batch 64", _mlp, _jax_mlp, (64, 784), _mlp_flops(64))
MLP_512 = _workload("step: MLP 784-512-256-10, Adam, batch 512", _mlp, _jax_mlp, (512, 784), _mlp_flops(512))
CNN_64 = _workload(
    "step: CNN of the example, Adam, batch 64", _cnn, _jax_cnn, (64, 1, 28, 28), _cnn_flops(64)
)
