"""Work along rows: softmax, layer norm and cross entropy with their gradients, sums over an axis."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..contestants import KERNEL_VARIANTS, Variant, contestants, jitted, normal, plain
from .workload import Workload

#: The forward pass is compiled, its gradient asked for outside: the only way that torch.compile has.
GRADIENT_VARIANTS = {"torch eager": Variant(), "torch.compile": Variant({"compile_forward": True})}


def gradients(forward: Callable[..., Any], torch: Any, compile_forward: bool) -> Callable[..., Any]:
    """The function (cotangent, *inputs) -> forward's result and its gradients."""
    compiled = torch.compile(forward) if compile_forward else forward

    def both(cotangent: Any, *inputs: Any) -> Any:
        y = compiled(*inputs)
        wanted = [x for x in inputs if x.requires_grad]
        return (y.detach(), *torch.autograd.grad(y, wanted, cotangent))

    return both


def _softmax() -> Workload:
    shape = (4096, 1024)

    def program(torch: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return partial(torch.softmax, dim=-1), (torch.from_numpy(normal(*shape)),)

    def jax(x: Any) -> Any:
        import jax

        return jax.nn.softmax(x)

    def numpy(x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def arrays() -> tuple[Any, ...]:
        return (normal(*shape),)

    return Workload(
        "row: softmax, 4096 x 1024",
        contestants(program, KERNEL_VARIANTS, jax_jit=jitted(jax, arrays), numpy=plain(numpy, arrays)),
        bytes=8.0 * 4096 * 1024,
    )


def _layer_norm() -> Workload:
    rows, width = 4096, 768

    def program(torch: Any, compile_forward: bool = False) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        x, w, b = (torch.from_numpy(normal(*s)).requires_grad_() for s in ((rows, width), (width,), (width,)))

        def forward(x: Any, w: Any, b: Any) -> Any:
            return torch.nn.functional.layer_norm(x, (width,), w, b)

        cotangent = torch.from_numpy(normal(rows, width, seed=1))
        return gradients(forward, torch, compile_forward), (cotangent, x, w, b)

    def jax(cotangent: Any, x: Any, w: Any, b: Any) -> Any:
        import jax

        def forward(x: Any, w: Any, b: Any) -> Any:
            mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
            return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * w + b

        y, pull_back = jax.vjp(forward, x, w, b)
        return (y, *pull_back(cotangent))

    def arrays() -> tuple[Any, ...]:
        return (normal(rows, width, seed=1), normal(rows, width), normal(width), normal(width))

    return Workload(
        "row: layer norm, forward and backward, 4096 x 768",
        contestants(program, GRADIENT_VARIANTS, jax_jit=jitted(jax, arrays)),
        bytes=4.0 * 4 * rows * width,
    )


def _cross_entropy() -> Workload:
    rows, classes = 4096, 1000

    def program(torch: Any, compile_forward: bool = False) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        x = torch.from_numpy(normal(rows, classes)).requires_grad_()
        target = torch.from_numpy(_classes(rows, classes))

        def forward(x: Any, target: Any) -> Any:
            return torch.nn.functional.cross_entropy(x, target)

        return gradients(forward, torch, compile_forward), (torch.ones(()), x, target)

    def jax(cotangent: Any, x: Any, target: Any) -> Any:
        import jax

        def forward(x: Any) -> Any:
            return -jax.numpy.take_along_axis(jax.nn.log_softmax(x), target[:, None], 1).mean()

        y, pull_back = jax.vjp(forward, x)
        return (y, *pull_back(cotangent))

    def arrays() -> tuple[Any, ...]:
        return (np.float32(1), normal(rows, classes), _classes(rows, classes))

    return Workload(
        "row: cross entropy, forward and backward, 4096 x 1000",
        contestants(program, GRADIENT_VARIANTS, jax_jit=jitted(jax, arrays)),
        bytes=8.0 * rows * classes,
    )


def _classes(rows: int, classes: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, classes, rows)


def _sum(axis: int) -> Workload:
    shape = (4096, 4096)

    def program(torch: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return partial(torch.sum, dim=axis), (torch.from_numpy(normal(*shape)),)

    def arrays() -> tuple[Any, ...]:
        return (normal(*shape),)

    def total(x: Any) -> Any:
        return x.sum(axis)

    return Workload(
        f"row: sum over axis {axis}, 4096 x 4096",
        contestants(program, KERNEL_VARIANTS, jax_jit=jitted(total, arrays), numpy=plain(total, arrays)),
        bytes=4.0 * 4096 * 4096,
    )


ROWS = (_softmax(), _layer_norm(), _cross_entropy(), _sum(0), _sum(1))
