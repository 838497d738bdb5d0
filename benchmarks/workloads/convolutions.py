"""3 x 3 convolutions at the sizes of common networks: forward, and each of the two gradients alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..contestants import Variant, contestants, jitted, normal
from .workload import Workload

#: What is computed: the result, or the gradient of one operand.
KINDS = ("forward", "gradient of images", "gradient of weights")

#: PyTorch goes back through a graph that it keeps, so that it computes nothing but the gradient.
VARIANTS = {
    "torch eager": Variant({"channels_last": False, "kept": True}),
    "torch eager, channels last": Variant({"kept": True}),
}


def _convolution(kind: str, batch: int, inputs: int, outputs: int, size: int) -> Workload:
    """batch images of size x size pixels, from `inputs` to `outputs` channels."""
    images, weights = (batch, inputs, size, size), (outputs, inputs, 3, 3)
    result = (batch, outputs, size, size)

    def program(
        torch: Any, channels_last: bool = True, kept: bool = False
    ) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        x, w, cotangent = (torch.from_numpy(normal(*s)) for s in (images, weights, result))
        if channels_last:
            x, w, cotangent = (
                t.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) for t in (x, w, cotangent)
            )
        forward = partial(torch.nn.functional.conv2d, padding=1)
        if kind == "forward":
            return forward, (x, w)
        wanted = x if kind == "gradient of images" else w
        wanted.requires_grad_()
        if kept:
            y = forward(x, w)
            return lambda ct: torch.autograd.grad(y, wanted, ct, retain_graph=True)[0], (cotangent,)

        def gradient(x: Any, w: Any, cotangent: Any) -> Any:
            wanted = x if kind == "gradient of images" else w
            return torch.autograd.grad(forward(x, w), wanted, cotangent)[0]

        return gradient, (x, w, cotangent)

    def jax(x: Any, w: Any, cotangent: Any) -> Any:
        import jax

        def forward(x: Any, w: Any) -> Any:
            return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME")

        if kind == "forward":
            return forward(x, w)
        return jax.vjp(forward, x, w)[1](cotangent)[KINDS.index(kind) - 1]

    return Workload(
        f"convolution: {kind}, {batch} x {inputs} x {size} x {size} to {outputs}",
        contestants(
            program,
            VARIANTS,
            jax_jit=jitted(jax, lambda: tuple(normal(*s) for s in (images, weights, result))),
        ),
        flops=2.0 * batch * size * size * 9 * inputs * outputs,
    )


#: Batch, channels in and out, pixels along each side.
SIZES = ((8, 64, 64, 56), (8, 128, 128, 28), (8, 256, 256, 14), (64, 32, 64, 14))
CONVOLUTIONS = tuple(_convolution(kind, *sizes) for sizes in SIZES for kind in KINDS)
