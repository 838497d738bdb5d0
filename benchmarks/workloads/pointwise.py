"""Chains of elementwise operations on 1K, 64K and 16M elements: in L1, in L2, in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..contestants import KERNEL_VARIANTS, contestants, jitted, normal
from .workload import Workload

SIZES = {"1K": 1 << 10, "64K": 1 << 16, "16M": 1 << 24}


def _relu_affine(torch: Any, x: Any) -> Any:
    return torch.relu(x * 1.5 + 0.5) * 2.0 - 1.0


def _gelu_sigmoid(torch: Any, x: Any) -> Any:
    return torch.nn.functional.gelu(x) * torch.sigmoid(x)


def _tanh_gelu_sigmoid(torch: Any, x: Any) -> Any:
    return torch.nn.functional.gelu(x, approximate="tanh") * torch.sigmoid(x)


def _jax_relu_affine(x: Any) -> Any:
    import jax

    return jax.nn.relu(x * 1.5 + 0.5) * 2.0 - 1.0


def _jax_gelu_sigmoid(x: Any, approximate: bool) -> Any:
    import jax

    return jax.nn.gelu(x, approximate=approximate) * jax.nn.sigmoid(x)


def _chain(name: str, function: Callable[[Any, Any], Any], jax: Callable[..., Any], size: str) -> Workload:
    count = SIZES[size]

    def program(torch: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return partial(function, torch), (torch.from_numpy(normal(count)),)

    made = contestants(
        program, KERNEL_VARIANTS, fast="gelu" in name, jax_jit=jitted(jax, lambda: (normal(count),))
    )
    return Workload(
        f"chain: {name}, {size}",
        made,
        bytes=8.0 * count if count > 1 << 20 else 0.0,
    )


POINTWISE = tuple(
    _chain(name, function, jax, size)
    for name, function, jax in (
        ("relu affine", _relu_affine, _jax_relu_affine),
        ("gelu (erf) * sigmoid", _gelu_sigmoid, partial(_jax_gelu_sigmoid, approximate=False)),
        ("gelu (tanh) * sigmoid", _tanh_gelu_sigmoid, partial(_jax_gelu_sigmoid, approximate=True)),
    )
    for size in SIZES
)
