"""Inference with a batch of one: ResNet-18, an MLP, and one token of a GPT with its cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import models
from ..contestants import Variant, adopt, contestants, normal
from . import jax_models
from .workload import Workload

VARIANTS = {
    "torch eager": Variant(inference=True),
    "torch.compile": Variant(compiled=True, inference=True),
    "torch.compile, frozen": Variant(compiled=True, freeze=True),
}
CONVOLUTION_VARIANTS = VARIANTS | {
    "torch eager, channels last": Variant({"channels_last": True}, inference=True),
    "torch.compile, frozen, channels last": Variant({"channels_last": True}, compiled=True, freeze=True),
}


def _resnet(torch: Any, channels_last: bool = False) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    model = adopt(torch, models.resnet18(torch)).eval()
    image = torch.from_numpy(normal(1, 3, 224, 224))
    if channels_last:
        model, image = (x.to(memory_format=torch.channels_last) for x in (model, image))
    return model, (image,)


def _mlp(torch: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    return adopt(torch, models.mlp(torch)).eval(), (torch.from_numpy(normal(1, 784)),)


def _weights(model: Callable[..., Any]) -> list[np.ndarray]:
    import vitrify

    return [p.detach().numpy().copy() for p in adopt(vitrify, model(vitrify)).parameters()]


def _jax_mlp(threads: int) -> Callable[[], object]:
    import jax

    weights, x = [jax.numpy.asarray(w) for w in _weights(models.mlp)], jax.numpy.asarray(normal(1, 784))
    run = jax.jit(jax_models.mlp)
    return lambda: run(weights, x).block_until_ready()


POSITION = models.GPTSizes.context - 1
TOKEN = np.array([[7]])


def _cache_shape() -> tuple[int, ...]:
    sizes = models.GPTSizes
    return (1, sizes.heads, sizes.context, sizes.width // sizes.heads)


def _token(torch: Any, spelled_out: bool = False) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    model = adopt(torch, models.gpt(torch, spelled_out=spelled_out)).eval()
    caches = [
        tuple(torch.from_numpy(normal(*_cache_shape(), seed=2 * i + j)) for j in range(2))
        for i in range(models.GPTSizes.layers)
    ]
    return lambda token: model.step(token, POSITION, caches), (torch.from_numpy(TOKEN),)


def _jax_token(threads: int) -> Callable[[], object]:
    import jax
    import jax.numpy as jnp

    weights = [jnp.asarray(w) for w in _weights(models.gpt)]
    caches = [
        tuple(jnp.asarray(normal(*_cache_shape(), seed=2 * i + j)) for j in range(2))
        for i in range(models.GPTSizes.layers)
    ]
    step = jax.jit(jax_models.gpt_token, donate_argnums=3)
    token, position = jnp.asarray(TOKEN), jnp.int32(POSITION)

    def run() -> object:
        nonlocal caches
        logits, caches = step(weights, token, position, caches)
        return logits.block_until_ready()

    return run


#: Multiply-adds of ResNet-18 at 224 x 224: 1.814e9 (He et al., 2015, table 1).
RESNET_18 = Workload(
    "inference: ResNet-18, one image of 224 x 224",
    contestants(_resnet, CONVOLUTION_VARIANTS, fast=True, inference=True),
    flops=2 * 1.814e9,
    sample_s=0.05,
)
MLP_1 = Workload(
    "inference: MLP 784-512-256-10, batch 1",
    contestants(_mlp, VARIANTS, inference=True, jax_jit=_jax_mlp),
)
GPT_TOKEN = Workload(
    "inference: GPT 4 layers, 128 wide, one token",
    contestants(
        _token,
        VARIANTS | {"torch.compile, spelled out": Variant({"spelled_out": True}, True, inference=True)},
        inference=True,
        jax_jit=_jax_token,
    ),
)
INFERENCE = (RESNET_18, MLP_1, GPT_TOKEN)
