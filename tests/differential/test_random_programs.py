"""Random programs of public functions, with views and writes in place: eager, compiled, with more threads."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import vitrify
from vitrify.nn import functional as F

from tests.support import assert_same_bits, random_values

Tensor = vitrify.Tensor

DTYPES = (vitrify.float32, vitrify.float32, vitrify.float64, vitrify.bfloat16, vitrify.int64)


def last(values: list[Tensor], r: random.Random) -> Tensor:
    return values[r.randrange(-3, 0)] if len(values) >= 3 else r.choice(values)


def axis(x: Tensor, r: random.Random) -> int:
    return r.randrange(-x.ndim, x.ndim) if x.ndim else 0


FLOATING: list[Callable[[Tensor], Tensor]] = [
    vitrify.exp, vitrify.tanh, vitrify.sigmoid, vitrify.sin, F.gelu, F.silu, vitrify.erf, vitrify.floor,
    F.relu, vitrify.log1p, vitrify.rsqrt, vitrify.sinc, vitrify.isnan, vitrify.nan_to_num, vitrify.frac,
]  # fmt: skip
BINARY = [vitrify.add, vitrify.sub, vitrify.mul, vitrify.maximum, vitrify.div, vitrify.lt, vitrify.fmod]
REDUCED = ["sum", "mean", "amax", "std", "softmax", "cumsum", "logsumexp", "argmax", "any", "sort", "median"]
WRITES: list[Callable[[Tensor, Tensor], object]] = [
    lambda x, y: x.add_(1), lambda x, y: x.mul_(0.3), lambda x, y: x.clamp_(-1, 1), lambda x, y: x.abs_(),
    lambda x, y: x[..., ::2].neg_(), lambda x, y: x[:1].zero_(), lambda x, y: x.diagonal().fill_(2),
    lambda x, y: x.masked_fill_(x > 0.5, -1), lambda x, y: x.copy_(y), lambda x, y: x.t().add_(1),
    lambda x, y: x.expand(2, *x.shape)[1].sub_(1), lambda x, y: x.unfold(0, 1, 1)[-1].mul_(3),
]  # fmt: skip
MOVED: list[Callable[[Tensor, int, Tensor], Tensor]] = [
    lambda x, d, y: x.transpose(0, d), lambda x, d, y: x.flip(d), lambda x, d, y: x.reshape(-1),
    lambda x, d, y: x[1:], lambda x, d, y: x[..., ::3], lambda x, d, y: x.unsqueeze(d),
    lambda x, d, y: x[None, 0],
    lambda x, d, y: x.roll(2, d), lambda x, d, y: vitrify.cat([x, x], d), lambda x, d, y: x.chunk(2, d)[-1],
    lambda x, d, y: x.expand_as(y), lambda x, d, y: F.pad(x, (1, -1)), lambda x, d, y: x.tril(),
    lambda x, d, y: x.unfold(d, 2, 1), lambda x, d, y: x.diagonal(), lambda x, d, y: x.repeat(2, 1, 1),
    lambda x, d, y: x.to(y.dtype), lambda x, d, y: x @ x.mT, lambda x, d, y: x.mT @ x,
    lambda x, d, y: x.contiguous(),
    lambda x, d, y: x.index_select(d, vitrify.tensor([0, 0])), lambda x, d, y: vitrify.where(x > 0, x, y),
]  # fmt: skip


def step(values: list[Tensor], r: random.Random) -> Tensor | None:
    """One more value, or a write to one that there is."""
    x, y, kind = last(values, r), last(values, r), r.random()
    if kind < 0.25:
        return r.choice(FLOATING)(x)
    if kind < 0.45:
        return r.choice(BINARY)(x, y)
    if kind < 0.6:
        made = getattr(x, r.choice(REDUCED))(axis(x, r))
        return made if isinstance(made, Tensor) else made[0]
    if kind < 0.85:
        return r.choice(MOVED)(x, axis(x, r), y)
    r.choice(WRITES)(x, y)
    return None


def program(seed: int, inputs: list[Tensor]) -> list[Tensor]:
    """What every step gives; a step that eager refuses is left out, by everyone."""
    values, r = list(inputs), random.Random(seed)
    for _ in range(12):
        choice = random.Random(r.random())
        try:
            made = step(values, choice)
        except (RuntimeError, IndexError, TypeError, ValueError):
            continue
        if made is not None and made.numel() < 5000:
            values.append(made)
    return values


def inputs_of(seed: int) -> Iterator[Tensor]:
    r, rng = random.Random(seed), np.random.default_rng(seed)
    shape = [r.choice((1, 2, 3, 5, 8, 17, 33)) for _ in range(r.choice((1, 2, 2, 3)))]
    for trimmed in (shape, shape[r.randrange(len(shape)) :]):
        dtype = r.choice(DTYPES)
        array = random_values(vitrify.float32 if dtype is vitrify.bfloat16 else dtype, trimmed, rng)
        yield vitrify.from_numpy(np.array(array)).to(dtype)


@pytest.mark.parametrize("seed", range(40))
def test_compiled_is_eager(seed: int) -> None:
    def run() -> list[np.ndarray]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", vitrify.CaptureWarning)
            return [x._bits("test") for x in function(seed, list(inputs_of(seed)))]

    function = program
    want = run()
    threads = vitrify.get_num_threads()
    function = vitrify.compile(program)
    try:
        for count in (threads, 3):
            vitrify.set_num_threads(count)
            for _ in range(2):
                for i, (a, b) in enumerate(zip(run(), want, strict=True)):
                    assert_same_bits(a, b, f"value {i}")
    finally:
        vitrify.set_num_threads(threads)
