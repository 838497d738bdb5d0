"""What a call costs when there is next to nothing to compute: 8 elements."""

from __future__ import annotations

from ..measure import Run
from .workload import Workload

SIZE = 8


def _vitrify_compiled(threads: int) -> Run:
    import vitrify

    add_one = vitrify.compile(lambda x: x + 1)
    x = vitrify.ones(SIZE)
    return lambda: add_one(x)


def _vitrify_eager(threads: int) -> Run:
    import vitrify

    x = vitrify.ones(SIZE)
    return lambda: x + x


def _torch_eager(threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    x = torch.ones(SIZE)
    return lambda: x + x


def _torch_eager_one(threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    x = torch.ones(SIZE)
    return lambda: x + 1


def _torch_compiled(threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    add_one = torch.compile(lambda x: x + 1)
    x = torch.ones(SIZE)
    return lambda: add_one(x)


def _jax_jit(threads: int) -> Run:
    import jax

    add_one = jax.jit(lambda x: x + 1)
    x = jax.numpy.ones(SIZE)
    return lambda: add_one(x).block_until_ready()


def _jax_add(threads: int) -> Run:
    import jax

    x = jax.numpy.ones(SIZE)
    return lambda: (x + x).block_until_ready()


def _numpy_add(threads: int) -> Run:
    import numpy as np

    x = np.ones(SIZE, np.float32)
    return lambda: x + x


CALL_OVERHEAD = Workload(
    "call: compiled x + 1, 8 elements",
    {
        "vitrify": _vitrify_compiled,
        "torch eager": _torch_eager_one,
        "torch.compile": _torch_compiled,
        "jax.jit": _jax_jit,
    },
    sample_s=0.01,
)
EAGER_ADD = Workload(
    "call: eager add, 8 elements",
    {"vitrify": _vitrify_eager, "torch eager": _torch_eager, "jax eager": _jax_add, "numpy": _numpy_add},
    sample_s=0.01,
)
