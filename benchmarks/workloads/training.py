"""Whole training steps: forward, backward and the optimizer, on one fixed batch of random data.

Weights and data are the same for all contestants. torch.compile is tried around the model, around the whole
step, and with the compiled optimizer; PyTorch's optimizers in their fused form too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from .. import models
from ..contestants import Maker, Variant, adopt, contestants, normal
from . import jax_models
from .workload import Workload

#: An optimizer's name in `torch.optim` and its settings.
Optimizer = tuple[str, Mapping[str, float]]
ADAM: Optimizer = ("Adam", {"lr": 1e-3})
ADAMW: Optimizer = ("AdamW", {"lr": 1e-3, "weight_decay": 0.01})
MOMENTUM: Optimizer = ("SGD", {"lr": 1e-2, "momentum": 0.9})
SGD: Optimizer = ("SGD", {"lr": 1e-2})


@dataclass(frozen=True)
class Task:
    """What is trained. model(torch, **options); data(): inputs, targets; loss(torch, outputs, targets)."""

    model: Callable[..., Any]
    data: Callable[[], tuple[np.ndarray, np.ndarray]]
    loss: Callable[[Any, Any, Any], Any]
    optimizer: Optimizer
    options: Mapping[str, Any] = field(default_factory=dict)

    def start(
        self, torch: Any, *, compile_model: bool = False, fused: bool = False, channels_last: bool = False,
        **options: Any,
    ) -> tuple[Any, Callable[..., Any], tuple[Any, ...]]:  # fmt: skip
        """The model, its training step, which gives the loss, and the step's arguments: the same Python for
        vitrify and PyTorch."""
        model = adopt(torch, self.model(torch, **self.options, **options))
        inputs, targets = map(torch.from_numpy, self.data())
        if channels_last:
            model, inputs = (x.to(memory_format=torch.channels_last) for x in (model, inputs))
        name, settings = self.optimizer
        optimizer = getattr(torch.optim, name)(
            model.parameters(), **settings, **({"fused": True} if fused else {})
        )
        forward = torch.compile(model) if compile_model else model

        def step(inputs: Any, targets: Any) -> Any:
            optimizer.zero_grad()
            loss = self.loss(torch, forward(inputs), targets)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return model, step, (inputs, targets)

    def program(self, torch: Any, **options: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """The training step and its arguments."""
        return self.start(torch, **options)[1:]


def cross_entropy(torch: Any, outputs: Any, targets: Any) -> Any:
    return torch.nn.functional.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1))


def _squared_error(torch: Any, outputs: Any, targets: Any) -> Any:
    return torch.nn.functional.mse_loss(outputs, targets)


def _images(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    return normal(*shape), np.random.default_rng(0).integers(0, 10, shape[0])


def _tokens(batch: int) -> tuple[np.ndarray, np.ndarray]:
    sizes = models.GPTSizes
    text = np.random.default_rng(0).integers(0, sizes.vocabulary, (batch, sizes.context + 1))
    return text[:, :-1].copy(), text[:, 1:].copy()


def _line() -> tuple[np.ndarray, np.ndarray]:
    x = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
    return x, 2 * x + 1


def variants(*extra: str) -> dict[str, Variant]:
    """PyTorch's variants of a training step, and `extra` options besides (channels_last, spelled_out)."""
    made = {
        "torch eager": Variant(),
        "torch eager, fused": Variant({"fused": True}),
        "torch.compile model, fused": Variant({"fused": True, "compile_model": True}),
        "torch.compile step": Variant(compiled=True),
    }
    for option in extra:
        words = option.replace("_", " ")
        made[f"torch eager, fused, {words}"] = Variant({"fused": True, option: True})
        made[f"torch.compile model, fused, {words}"] = Variant(
            {"fused": True, "compile_model": True, option: True}
        )
    return made


def _linear(torch: Any) -> Any:
    return torch.nn.Linear(1, 1)


LINREG_TASK = Task(_linear, _line, _squared_error, SGD)
MLP_TASK = Task(models.mlp, partial(_images, 64, 784), cross_entropy, ADAM)
MLP_512_TASK = Task(models.mlp, partial(_images, 512, 784), cross_entropy, ADAM)
CNN_TASK = Task(models.cnn, partial(_images, 64, 1, 28, 28), cross_entropy, MOMENTUM)
GPT_TASK = Task(models.gpt, partial(_tokens, 12), cross_entropy, ADAMW)


def jax_step(task: Task, forward: Callable[..., Any], loss: Callable[..., Any]) -> Maker:
    """The step in JAX, from the same weights: see `jax_models.training`."""

    def make(threads: int) -> Callable[[], object]:
        import vitrify

        model = adopt(vitrify, task.model(vitrify, **task.options))
        weights = [p.detach().numpy().copy() for p in model.parameters()]
        return jax_models.training(weights, forward, loss, task.optimizer, task.data())

    return make


def _workload(name: str, task: Task, jax: Maker, flops: float, *extra: str, fast: bool = False) -> Workload:
    made = contestants(task.program, variants(*extra), eager=True, fast=fast, jax_jit=jax)
    return Workload(f"step: {name}", made, flops, sample_s=0.05)


def _mlp_flops(batch: int) -> float:
    """Products of the forward pass, of both gradients, less the input's gradient of the first layer."""
    sizes = models.MLP_SIZES
    layers = [m * n for m, n in zip(sizes[:-1], sizes[1:], strict=True)]
    return 2.0 * batch * (3 * sum(layers) - layers[0])


def _cnn_flops(batch: int) -> float:
    first, second = 28 * 28 * 32 * 9, 14 * 14 * 64 * 32 * 9
    return 2.0 * batch * (2 * first + 3 * (second + 64 * 7 * 7 * 128 + 128 * 10))


def _gpt_flops(batch: int) -> float:
    sizes = models.GPTSizes
    layer = 12 * sizes.width**2 + 2 * sizes.context * sizes.width
    return 6.0 * batch * sizes.context * (sizes.layers * layer + sizes.vocabulary * sizes.width)


_jax = jax_models
LINREG = _workload(
    "linear regression, 4 points, SGD", LINREG_TASK, jax_step(LINREG_TASK, _jax.mlp, _jax.squared_error), 0.0
)
MLP_64 = _workload(
    "MLP 784-512-256-10, Adam, batch 64", MLP_TASK, jax_step(MLP_TASK, _jax.mlp, _jax.cross_entropy),
    _mlp_flops(64),
)  # fmt: skip
MLP_512 = _workload(
    "MLP 784-512-256-10, Adam, batch 512", MLP_512_TASK, jax_step(MLP_512_TASK, _jax.mlp, _jax.cross_entropy),
    _mlp_flops(512),
)  # fmt: skip
CNN_64 = _workload(
    "CNN of the example, momentum, batch 64", CNN_TASK, jax_step(CNN_TASK, _jax.cnn, _jax.cross_entropy),
    _cnn_flops(64), "channels_last", fast=True,
)  # fmt: skip
GPT_12 = _workload(
    "GPT 4 layers, 128 wide, AdamW, batch 12 x 64", GPT_TASK,
    jax_step(GPT_TASK, _jax.gpt, _jax.cross_entropy), _gpt_flops(12), "spelled_out",
)  # fmt: skip
TRAINING = (LINREG, MLP_64, MLP_512, CNN_64, GPT_12)
