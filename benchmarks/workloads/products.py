"""Matrix products, and attention with its gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..contestants import COMPILED, EAGER, MAX_AUTOTUNE, Variant, contestants, jitted, normal, plain
from ..models import attention
from .rows import gradients
from .workload import Workload

PRODUCT_VARIANTS = {"torch eager": EAGER, "torch.compile": COMPILED, "torch.compile max": MAX_AUTOTUNE}


def _product(m: int, n: int, k: int, *, transposed: bool = False, bf16: bool = False) -> Workload:
    """(m, k) @ (k, n); transposed: the second operand is given as (n, k)."""
    shapes = ((m, k), (n, k) if transposed else (k, n))

    def program(torch: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        x, y = (torch.from_numpy(normal(*s)) for s in shapes)
        if bf16:
            x, y = x.to(torch.bfloat16), y.to(torch.bfloat16)
        return (lambda x, y: x @ y.t()) if transposed else (lambda x, y: x @ y), (x, y)

    def arrays() -> tuple[Any, ...]:
        pair = tuple(normal(*s) for s in shapes)
        if not bf16:
            return pair
        import jax.numpy as jnp

        return tuple(jnp.asarray(x, jnp.bfloat16) for x in pair)

    multiply = (lambda x, y: x @ y.T) if transposed else (lambda x, y: x @ y)
    others = {"jax_jit": jitted(multiply, arrays)}
    if not bf16:
        others["numpy"] = plain(multiply, arrays)
    kind = "bf16" if bf16 else "f32"
    return Workload(
        f"product: {kind} {m} x {k} @ {f'({n} x {k}).T' if transposed else f'{k} x {n}'}",
        contestants(program, PRODUCT_VARIANTS, **others),
        flops=2.0 * m * n * k,
        tolerance=2e-2 if bf16 else 1e-3,
    )


def _attention(causal: bool) -> Workload:
    shape = (8, 12, 128, 64)

    def program(
        torch: Any, compile_forward: bool = False, spelled_out: bool = False
    ) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        q, k, v = (torch.from_numpy(normal(*shape, seed=s)).requires_grad_() for s in range(3))
        forward = partial(attention, torch, causal=causal, spelled_out=spelled_out)
        cotangent = torch.from_numpy(normal(*shape, seed=3))
        return gradients(forward, torch, compile_forward), (cotangent, q, k, v)

    def jax(cotangent: Any, q: Any, k: Any, v: Any) -> Any:
        import jax
        import jax.numpy as jnp

        def forward(q: Any, k: Any, v: Any) -> Any:
            scores = jnp.einsum("...td,...sd->...ts", q, k) * q.shape[-1] ** -0.5
            if causal:
                scores = jnp.where(jnp.tri(*scores.shape[-2:], dtype=bool), scores, -jnp.inf)
            return jnp.einsum("...ts,...sd->...td", jax.nn.softmax(scores), v)

        y, pull_back = jax.vjp(forward, q, k, v)
        return (y, *pull_back(cotangent))

    variants = {
        "torch eager": EAGER,
        "torch eager spelled out": Variant({"spelled_out": True}),
        "torch.compile": Variant({"compile_forward": True}),
        "torch.compile spelled out": Variant({"compile_forward": True, "spelled_out": True}),
    }

    def arrays() -> tuple[Any, ...]:
        return tuple(normal(*shape, seed=s) for s in (3, 0, 1, 2))

    batch, heads, length, width = shape
    # Two products forward and four backward; computing P again is the contestant's own affair.
    flops = 2.0 * batch * heads * length * length * width * 6 * (0.5 if causal else 1.0)
    return Workload(
        f"attention: {'causal, ' if causal else ''}forward and backward, 8 x 12 x 128 x 64",
        contestants(program, variants, jax_jit=jitted(jax, arrays)),
        flops=flops,
    )


PRODUCTS = (
    *(_product(n, n, n) for n in (64, 128, 256, 512, 1024, 2048)),
    _product(64, 512, 784),
    _product(512, 512, 784),
    _product(64, 10, 512),
    _product(512, 512, 784, transposed=True),
    _product(64, 512, 784, transposed=True),
    _product(1024, 1024, 1024, bf16=True),
    _attention(False),
    _attention(True),
)
