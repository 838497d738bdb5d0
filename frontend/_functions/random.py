"""Random numbers: counter-based (Philox-4x32-10), so that eager and compiled code draw the same ones.

A generator's state is a tensor (seed, counter). A draw of n words reads words 0 .. n - 1 from the counter on
and moves the counter on by ceil(n / 4), in place: in a trace the state is an input of the graph that is
updated.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from vitrify.ir import dtypes, ops
from vitrify.ir.dtypes import DType
from vitrify.ir.opdef import bind
from vitrify.runtime import storage as memory
from vitrify.tracer import recorder
from vitrify.tracer.capture import current

from .._dispatch import apply, assign, native
from .._promotion import Number, as_operand, get_default_dtype
from .._size import as_shape, check_device
from .._tape import no_grad
from .._tensor import Tensor, alias, concrete
from .casting import cast
from .creation import _finished, iota, tensor
from .movement import select
from .pointwise import not_implemented

_NOT_GIVEN: Any = object()


class Generator:
    """A stream of random numbers.

    >>> g = vitrify.Generator().manual_seed(0)
    >>> vitrify.rand(2, generator=g).shape
    vitrify.Size([2])
    """

    def __init__(self, device: Any = "cpu") -> None:
        check_device(device)
        self._state = tensor([0, 0], dtype=dtypes.int64)

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of this seed; gives itself."""
        if not -(2**63) <= seed < 2**64:
            raise RuntimeError(f"Overflow when unpacking long long: seed {seed} does not fit 64 bits")
        signed = seed - 2**64 if seed >= 2**63 else seed
        with no_grad():
            assign(self._state, tensor([signed, 0], dtype=dtypes.int64))
        return self

    def seed(self) -> int:
        """Start the stream of a seed from the operating system; gives the seed."""
        chosen = int.from_bytes(os.urandom(8), "little")
        self.manual_seed(chosen)
        return chosen

    def initial_seed(self) -> int:
        """The seed of the stream."""
        return int(self._array()[0]) % 2**64

    def get_state(self) -> Tensor:
        """A copy of the state."""
        return tensor(self._array())

    def set_state(self, new_state: Tensor) -> Generator:
        """Go on from a state that `get_state` gave."""
        with no_grad():
            assign(self._state, new_state)
        return self

    def _array(self) -> np.ndarray:
        return memory.to_array(concrete(self._state, "the state of a generator"), self._state._type)


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the default generator."""
    return default_generator.manual_seed(int(seed))


def seed() -> int:
    """Seed the default generator from the operating system."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """A copy of the default generator's state."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Let the default generator go on from a state."""
    default_generator.set_state(new_state)


def _drawn(words: int, function: Callable[..., Tensor], generator: Generator | None, *args: Any) -> Tensor:
    """What a function of a generator's state makes of the next so many random words."""
    state = (generator or default_generator)._state
    if recorder.count and (capture := current()) is not None:
        capture.note(state)
    result = function(state, *args)
    _advance(state, -(-words // 4))
    return result


def _advance(state: Tensor, blocks: int) -> None:
    """Move the counter on by so many blocks of four words."""
    assign(state, apply(bind(ops.add), state, tensor_pair(0, blocks)))


def _words(state: Tensor, count: int) -> Tensor:
    """The `count` random words from a state on, as int32, in one dimension."""
    key, counter = (as_operand(select(state, 0, i), dtypes.int64, (count,)) for i in (0, 1))
    return apply(bind(ops.philox), key, counter, iota((count,), 0))


def tensor_pair(a: int, b: int) -> Tensor:
    """(a, b) as a constant."""
    from .creation import _array_constant

    return _array_constant(np.array([a, b], np.int64))


def _uniform_words(shape: tuple[int, ...], dtype: DType) -> int:
    return math.prod(shape) * (2 if dtype is dtypes.float64 else 1)


def _uniform(shape: tuple[int, ...], dtype: DType, generator: Generator | None) -> Tensor:
    return _drawn(_uniform_words(shape, dtype), uniform_of, generator, shape, dtype)


def uniform_of(state: Tensor, shape: tuple[int, ...], dtype: DType) -> Tensor:
    """Uniform in [0, 1): 24 random bits for float32, 53 for float64, each value a multiple of 2**-24 or
    2**-53.
    """
    count = math.prod(shape)
    if dtype is not dtypes.float64:
        words = cast(_words(state, count), dtypes.int64)
        bits = (words & 0xFFFFFFFF) >> 8
        result = cast(cast(bits, dtypes.float32) * 2.0**-24, dtype)
    else:
        words = cast(_words(state, 2 * count), dtypes.int64) & 0xFFFFFFFF
        pairs = words.reshape(count, 2)
        bits = ((select(pairs, 1, 0) >> 5) << 26) | (select(pairs, 1, 1) >> 6)
        result = cast(bits, dtypes.float64) * 2.0**-53
    return alias(result.reshape(shape))


def _normal(shape: tuple[int, ...], dtype: DType, generator: Generator | None) -> Tensor:
    return _drawn(2 * _uniform_words(shape, dtype), normal_of, generator, shape, dtype)


def normal_of(state: Tensor, shape: tuple[int, ...], dtype: DType) -> Tensor:
    """Standard normal numbers. Source: Box and Muller 1958, two independent uniforms for each."""
    count = math.prod(shape)
    u = uniform_of(state, (2, count), dtypes.float64 if dtype is dtypes.float64 else dtypes.float32)
    radius = (-2.0 * (1.0 - select(u, 0, 0)).log()).sqrt()
    normal = cast(radius * (select(u, 0, 1) * (2.0 * math.pi)).cos(), dtype)
    return alias(normal.reshape(shape))  # no view: there is nothing else that it would be of


def _float_dtype(dtype: DType | None, name: str) -> DType:
    dtype = dtype or get_default_dtype()
    if not dtype.is_floating_point:
        raise not_implemented(name, dtype)
    return dtype


def rand(
    *size: int | Sequence[int], generator: Generator | None = None, dtype: DType | None = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Uniform random numbers in [0, 1)."""
    check_device(device)
    return _finished(
        _uniform(as_shape(size), _float_dtype(dtype, "check_uniform_bounds"), generator), requires_grad
    )


def randn(
    *size: int | Sequence[int], generator: Generator | None = None, dtype: DType | None = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Normal random numbers with mean 0 and variance 1."""
    check_device(device)
    return _finished(
        _normal(as_shape(size), _float_dtype(dtype, "normal_kernel_cpu"), generator), requires_grad
    )


def rand_like(input: Tensor, *, dtype: DType | None = None, generator: Generator | None = None,
              device: Any = None, requires_grad: bool = False) -> Tensor:  # fmt: skip
    """`rand` of input's shape and dtype."""
    check_device(device)
    return rand(
        *input._type.shape, dtype=dtype or input.dtype, generator=generator, requires_grad=requires_grad
    )


def randn_like(input: Tensor, *, dtype: DType | None = None, generator: Generator | None = None,
               device: Any = None, requires_grad: bool = False) -> Tensor:  # fmt: skip
    """`randn` of input's shape and dtype."""
    check_device(device)
    return randn(
        *input._type.shape, dtype=dtype or input.dtype, generator=generator, requires_grad=requires_grad
    )


def randint(low: int, high: int | Sequence[int] = _NOT_GIVEN, size: Sequence[int] | None = None, *,
            generator: Generator | None = None,
            dtype: DType = dtypes.int64, device: Any = None,
            requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Random integers from low to high - 1; `randint(high, size)` starts at 0."""
    check_device(device)
    sizes = high if size is None else size
    first, last = (0, low) if size is None or high is _NOT_GIVEN else (low, high)
    if not isinstance(sizes, (tuple, list)) or not isinstance(last, int):
        raise TypeError("randint() takes (high, size) or (low, high, size)")
    if first >= last:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={first} >= to={last}")
    shape = as_shape(sizes)
    drawn = _drawn(2 * math.prod(shape), _integers_of, generator, first, last, shape, dtype)
    return _finished(drawn, requires_grad)


def _integers_of(state: Tensor, low: int, high: int, shape: tuple[int, ...], dtype: DType) -> Tensor:
    count = math.prod(shape)
    words = cast(_words(state, 2 * count), dtypes.int64) & 0xFFFFFFFF
    pairs = words.reshape(count, 2)
    bits = (select(pairs, 1, 0) << 31) | (select(pairs, 1, 1) >> 1)  # 63 bits: bias below span / 2**63
    return alias(cast(bits % (high - low) + low, dtype).reshape(shape))


def randint_like(input: Tensor, low: int, high: int | None = None, *, dtype: DType | None = None,
                 **options: Any) -> Tensor:  # fmt: skip
    """`randint` of input's shape and dtype."""
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, input._type.shape, dtype=dtype or input.dtype, **options)


def randperm(
    n: int, *, generator: Generator | None = None, dtype: DType = dtypes.int64, device: Any = None
) -> Tensor:
    """The integers below n in random order: the order of n random 64-bit keys."""
    check_device(device)
    if n < 0:
        raise RuntimeError(f"n must be non-negative, got {n}")
    words = _drawn(2 * n, _words, generator, 2 * n)._array("randperm").view(np.uint32).astype(np.uint64)
    keys = (words[0::2] << np.uint64(32)) | words[1::2]
    return cast(tensor(np.argsort(keys, kind="stable")), dtype)


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that each element gives (or `p`), else 0."""
    if not input.is_floating_point():
        raise not_implemented("bernoulli_tensor_cpu_self_", input.dtype)
    drawn = _uniform(input._type.shape, dtypes.float32, generator)
    limit = input.detach() if p is None else p
    return cast(drawn < limit, input.dtype)


def normal(mean: Tensor | Number = 0.0, std: Tensor | Number = 1.0, size: Sequence[int] | None = None, *,
            generator: Generator | None = None,
           dtype: DType | None = None, device: Any = None,
           requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Normal random numbers with this mean and standard deviation: numbers, or tensors of them."""
    given = [v for v in (mean, std) if isinstance(v, Tensor)]
    if size is None and not given:
        raise TypeError("normal() needs a size where mean and std are numbers")
    if not isinstance(std, Tensor) and std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    from .._promotion import broadcast_shapes

    shape = as_shape(size) if size is not None else broadcast_shapes(*(v._type.shape for v in given))
    dtype = dtype or (given[0].dtype if given else get_default_dtype())
    return _finished(_normal(shape, dtype, generator) * std + mean, requires_grad)


def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *,
                generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Places drawn with the probabilities in each row (which need not sum to one).

    Without replacement by the largest of log(u) / p. Source: Efraimidis and Spirakis 2006.
    """
    if input.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if not input.is_floating_point():
        raise RuntimeError(
            "multinomial only supports floating-point dtypes for input, got: " + input.dtype.name
        )
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    weights = input._array("multinomial").astype(np.float64).reshape(-1, input.shape[-1])
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    if (weights.sum(1) <= 0).any():
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    if not replacement and ((weights > 0).sum(1) < num_samples).any():
        raise RuntimeError(
            "invalid multinomial distribution (with replacement=False, not enough non-negative category to "
            "sample)"
        )
    draws = num_samples if replacement else weights.shape[1]
    u = _uniform((len(weights), draws), dtypes.float64, generator)._array("multinomial")
    if replacement:
        bounds = np.cumsum(weights, 1)
        picked = np.stack(
            [np.searchsorted(b, v * b[-1], side="right") for b, v in zip(bounds, u, strict=True)]
        )
    else:
        with np.errstate(divide="ignore"):
            keys = np.where(weights > 0, np.log1p(-u) / weights, -np.inf)
        picked = np.argsort(-keys, axis=1, kind="stable")[:, :num_samples]
    return tensor(picked.astype(np.int64)).reshape(*input.shape[:-1], num_samples)


if native is not None:
    from .._learned import in_front_of as _in_front_of

    uniform_of, normal_of = _in_front_of(uniform_of), _in_front_of(normal_of)
    _integers_of, _advance = _in_front_of(_integers_of), _in_front_of(_advance)
