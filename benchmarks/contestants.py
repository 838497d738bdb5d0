"""Contestants from one program: the same Python for vitrify and for PyTorch in its variants.

A program is `build(torch, **options) -> (function, arguments)`; `torch` is PyTorch or vitrify. A variant says
with which options PyTorch builds it, and whether and how the function is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from .measure import Run
from .report import OURS

Program = Callable[..., tuple[Callable[..., Any], tuple[Any, ...]]]
#: Makes the callable to time; `threads` is what the contestant may use. ImportError means: not installed.
Maker = Callable[[int], Run]


@dataclass(frozen=True)
class Variant:
    """One way of running a program in PyTorch. options: passed to the program. compiled: the function goes
    through torch.compile, in this mode. inference: under inference_mode. freeze: inductor freezes weights."""

    options: Mapping[str, Any] = field(default_factory=dict)
    compiled: bool = False
    mode: str | None = None
    inference: bool = False
    freeze: bool = False


EAGER = Variant()
COMPILED = Variant(compiled=True)
MAX_AUTOTUNE = Variant(compiled=True, mode="max-autotune-no-cudagraphs")
#: For functions without state.
KERNEL_VARIANTS = {"torch eager": EAGER, "torch.compile": COMPILED}


def ours(
    program: Program, *, compiled: bool = True, inference: bool = False, numerics: str = "exact",
    **options: Any,
) -> Maker:  # fmt: skip
    """vitrify, compiled or eager. numerics: as `compile` takes it."""

    def make(threads: int) -> Run:
        import vitrify

        vitrify.set_num_threads(threads)
        vitrify.manual_seed(0)
        function, arguments = program(vitrify, **options)
        if compiled:
            function = vitrify.compile(function, numerics=numerics)
        run = partial(function, *arguments)
        return _within(vitrify.no_grad, run) if inference else run

    return make


def torchs(program: Program, variant: Variant) -> Maker:
    """PyTorch in one variant."""

    def make(threads: int) -> Run:
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        torch._dynamo.reset()
        if variant.compiled:
            import torch._inductor.config as inductor

            inductor.freezing = variant.freeze
        function, arguments = program(torch, **variant.options)
        if variant.compiled:
            function = torch.compile(function, mode=variant.mode)
        run = partial(function, *arguments)
        if not variant.inference and not variant.freeze:
            return run
        # Inductor freezes under no_grad only.
        return _within(torch.no_grad if variant.freeze else torch.inference_mode, run)

    return make


def _within(context: Callable[[], Any], run: Run) -> Run:
    """The run inside a context entered once for many: what a server's loop does."""

    def inside() -> object:
        with context():
            return run()

    return inside


def contestants(
    program: Program,
    variants: Mapping[str, Variant],
    *,
    eager: bool = False,
    fast: bool = False,
    inference: bool = False,
    **others: Maker,
) -> dict[str, Maker]:
    """vitrify compiled (and eager, and with fast numerics), PyTorch's variants, and others by name (`_`
    stands for `.`)."""
    made = {OURS: ours(program, inference=inference)}
    if eager:
        made["vitrify eager"] = ours(program, compiled=False, inference=inference)
    if fast:
        made["vitrify, fast numerics"] = ours(program, inference=inference, numerics="fast")
    made |= {name: torchs(program, variant) for name, variant in variants.items()}
    return made | {name.replace("_", "."): maker for name, maker in others.items()}


def jitted(function: Callable[..., Any], arrays: Callable[[], tuple[Any, ...]]) -> Maker:
    """jax.jit of a function of arrays, waited for."""

    def make(threads: int) -> Run:
        import jax

        compiled = jax.jit(function)
        arguments = tuple(map(jax.numpy.asarray, arrays()))
        return lambda: jax.block_until_ready(compiled(*arguments))

    return make


def plain(function: Callable[..., Any], arrays: Callable[[], tuple[Any, ...]]) -> Maker:
    """A function of numpy arrays as it is."""

    def make(threads: int) -> Run:
        return partial(function, *arrays())

    return make


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """float32 numbers from a normal distribution, the same for every contestant."""
    numbers = np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)
    return numbers if scale == 1.0 else numbers * np.float32(scale)


def adopt(torch: Any, model: Any) -> Any:
    """Give the model's parameters values that are the same for every contestant, by order and shape."""
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            shape = tuple(parameter.shape)
            fan = int(np.prod(shape[1:])) or 1
            scale = fan**-0.5 if len(shape) > 1 else 0.1
            parameter.copy_(torch.from_numpy(normal(*shape, seed=i, scale=scale)))
    return model
