"""A graph under construction that is interpreted as it grows: the base of `tests.random_graphs`.

What a `Maker` appends stays finite and of moderate size, and carries a bound of its error
(`tests.error_bounds`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from vitrify.ir import ops
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dtypes import DType, bool_, float32, float64, int32, int64, uint8
from vitrify.ir.errors import IRTypeError
from vitrify.ir.graph import Location, Value
from vitrify.ir.interpreter import evaluate
from vitrify.ir.opdef import Attr, OpDef, bind
from vitrify.ir.types import Literal, TensorType

from tests import error_bounds
from tests.support import random_values

T = TypeVar("T")

SIZES = (0, 1, 1, 2, 3, 3, 4, 5, 7, 8, 16, 17)
DTYPES = (*(float32,) * 9, float64, float64, int64, int32, uint8, bool_)
#: Larger values are not worth going on with: squares would lose what a bound can tell.
MODERATE = 1e4
MOST_ELEMENTS = 8192


@dataclass(eq=False)
class Known:
    """A value of the graph, what it holds and how far compiled code may be off."""

    value: Value
    array: np.ndarray
    error: float

    @property
    def type(self) -> TensorType:
        return self.value.type

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> DType:
        return self.value.type.dtype

    @property
    def rank(self) -> int:
        return self.array.ndim


class Maker:
    """A graph under construction."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = GraphBuilder(f"random{seed}")
        self.inputs: list[Known] = []
        self.known: list[Known] = []

    # Choosing.

    def one_of(self, items: Sequence[T]) -> T:
        return items[int(self.rng.integers(len(items)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def between(self, low: int, high: int) -> int:
        """low .. high, both included."""
        return int(self.rng.integers(low, high + 1))

    def size(self) -> int:
        return self.one_of(SIZES)

    def shape(self, most: int = 3) -> tuple[int, ...]:
        """Small sizes; now and then a line long enough for several blocks of a reduction."""
        if self.chance(0.03):
            return (
                (self.between(0, 3), self.between(100, 400))
                if self.chance(0.7)
                else (self.between(4000, 6000),)
            )
        return tuple(self.size() for _ in range(self.between(0, most)))

    # Making.

    def input(self, dtype: DType, shape: Sequence[int], array: np.ndarray | None = None) -> Known:
        """A new input; its contents are random unless given."""
        array = random_values(dtype, shape, self.rng) if array is None else array
        value = self.builder.input(TensorType(dtype, tuple(shape)))
        self.inputs.append(Known(value, array, 0.0))
        self.known.append(self.inputs[-1])
        return self.inputs[-1]

    def pick(self, fits: Callable[[Known], bool] = lambda k: True, dtype: DType | None = None) -> Known:
        """A value that fits, recent ones preferred; else a new input (of this dtype)."""
        found = [k for k in self.known if fits(k) and (dtype is None or k.dtype is dtype)]
        if self.chance(0.6):
            found = [k for k in found if k.dtype.is_floating_point] or found
        if found and self.chance(0.9):
            place = len(found) - 1 - int(len(found) * self.rng.random() ** 2)
            return found[place]
        for _ in range(100):
            made = Known(Value(TensorType(dtype or self.one_of(DTYPES), self.shape())), np.empty(0), 0.0)
            made.array = np.empty(made.type.shape)
            if fits(made):
                return self.input(made.dtype, made.shape)
        raise Unfit

    def like(self, x: Known, dtype: DType | None = None) -> Known:
        """A value of x's shape, of x's or another dtype: one that exists, a broadcast one, or a new input."""
        dtype = dtype or x.dtype
        same = [k for k in self.known if k.shape == x.shape and k.dtype is dtype]
        if same and self.chance(0.6):
            return self.one_of(same)
        smaller = [k for k in self.known if k.dtype is dtype and _broadcasts(k.shape, x.shape)]
        if smaller and self.chance(0.6):
            return self.broadcast(self.one_of(smaller), x.shape)
        if self.chance(0.3):
            return self.broadcast(self.constant(random_values(dtype, (), self.rng), dtype), x.shape)
        return self.input(dtype, x.shape)

    def broadcast(self, x: Known, shape: tuple[int, ...]) -> Known:
        aligned = (1,) * (len(shape) - x.rank) + x.shape
        if aligned != x.shape:
            x = self.make(ops.reshape, x, shape=aligned)
        return x if aligned == shape else self.make(ops.expand, x, shape=shape)

    def constant(self, array: object, dtype: DType) -> Known:
        return self.make(ops.constant, value=Literal.of(array, dtype))

    def make(self, opdef: OpDef, *operands: Known, **attrs: Attr) -> Known:
        """Append the operation if its result is moderate and has a bound. Raises Unfit otherwise."""
        arrays = [k.array for k in operands]
        try:
            opdef.result_types(*(k.type for k in operands), **attrs)
            array = evaluate(bind(opdef, **attrs), arrays)
        except IRTypeError:
            raise Unfit from None
        except RuntimeError:
            raise Unfit from None
        error = error_bounds.error_bound(opdef, arrays, [k.error for k in operands], array, attrs)
        if error is None or array.size > MOST_ELEMENTS or not moderate(array, error):
            raise Unfit
        self.builder.location = Location("random.py", len(self.builder.operations))
        value = self.builder(opdef, *(k.value for k in operands), **attrs)
        self.known.append(Known(value, array, error))
        return self.known[-1]


class Unfit(Exception):
    """What was chosen can't be made; choose something else."""


def moderate(array: np.ndarray, error: float) -> bool:
    if array.dtype.kind != "f" or not array.size:
        return True
    largest = np.abs(array).max()
    return bool(np.isfinite(largest) and largest < MODERATE and error <= 1e-2 * max(1.0, float(largest)))


def _broadcasts(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    pairs = zip(reversed(small), reversed(large), strict=False)
    return len(small) <= len(large) and all(s in (1, n) for s, n in pairs)
