"""Python floats as run-time scalars of a capture.

A `TracedScalar` stands for a float that was read from outside: an argument, a global, a hyper-parameter. It
is no `float`, so nothing reads it unseen. Arithmetic on it is recorded and done again by each replay, by the
same Python operators, in double. Whatever turns it into something else (a comparison, `int`, a format) adds a
guard on what came out.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

Function = Callable[..., Any]
_MATH = frozenset(f for f in vars(math).values() if callable(f))


class Watcher(Protocol):
    """The capture that a scalar belongs to."""

    @property
    def proving(self) -> bool:
        """Whether what is seen is still to be guarded."""
        ...

    def guard_scalar(
        self, scalar: TracedScalar, function: Function, operands: tuple[object, ...], result: object
    ) -> None:
        """A replay holds only if function(*operands), some of them scalars, gives `result` again."""
        ...

    def derived(self, function: Function, operands: tuple[object, ...], value: float) -> TracedScalar:
        """The scalar function(*operands), the same object for the same operands."""
        ...


class TracedScalar:
    """A float of a capture: `value` now, and how a replay finds it.

    function, operands: what computes it from scalars and numbers; function is None for one that is read by
    `source`, which is a Python expression over constants (a template and what its places stand for).
    """

    __slots__ = ("watcher", "value", "function", "operands", "source")
    #: How code that doesn't import this module knows a number when it sees one.
    _traced_scalar = True

    def __init__(
        self, watcher: Watcher, value: float, function: Function | None = None,
        operands: tuple[object, ...] = (), source: object = None,
    ) -> None:  # fmt: skip
        self.watcher = watcher
        self.value = value
        self.function = function
        self.operands = operands
        self.source = source

    def observe(self, function: Function, *more: object) -> Any:
        """function(self, *more) as a plain value, guarded."""
        result = function(self.value, *map(plain, more))
        if self.watcher.proving:
            self.watcher.guard_scalar(self, function, (self, *more), result)
        return result

    def pin(self) -> float:
        """The plain float; a replay holds only for this very value."""
        return self.observe(float.hex) and self.value

    # Arithmetic.
    def __add__(self, other: object) -> Any:
        return compute(operator.add, self, other)

    def __radd__(self, other: object) -> Any:
        return compute(operator.add, other, self)

    def __sub__(self, other: object) -> Any:
        return compute(operator.sub, self, other)

    def __rsub__(self, other: object) -> Any:
        return compute(operator.sub, other, self)

    def __mul__(self, other: object) -> Any:
        return compute(operator.mul, self, other)

    def __rmul__(self, other: object) -> Any:
        return compute(operator.mul, other, self)

    def __truediv__(self, other: object) -> Any:
        return compute(operator.truediv, self, other)

    def __rtruediv__(self, other: object) -> Any:
        return compute(operator.truediv, other, self)

    def __floordiv__(self, other: object) -> Any:
        return compute(operator.floordiv, self, other)

    def __rfloordiv__(self, other: object) -> Any:
        return compute(operator.floordiv, other, self)

    def __mod__(self, other: object) -> Any:
        return compute(operator.mod, self, other)

    def __rmod__(self, other: object) -> Any:
        return compute(operator.mod, other, self)

    def __pow__(self, other: object) -> Any:
        return compute(operator.pow, self, other)

    def __rpow__(self, other: object) -> Any:
        return compute(operator.pow, other, self)

    def __divmod__(self, other: object) -> Any:
        return (self // other, self % other)

    def __rdivmod__(self, other: object) -> Any:
        return (other // self, other % self)

    def __neg__(self) -> Any:
        return compute(operator.neg, self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return compute(operator.abs, self)

    # What gives something else than a float: guarded.
    def _compare(self, function: Function, other: object) -> Any:
        return self.observe(function, other) if _is_number(other) else NotImplemented

    def __lt__(self, other: object) -> Any:
        return self._compare(operator.lt, other)

    def __le__(self, other: object) -> Any:
        return self._compare(operator.le, other)

    def __gt__(self, other: object) -> Any:
        return self._compare(operator.gt, other)

    def __ge__(self, other: object) -> Any:
        return self._compare(operator.ge, other)

    def __eq__(self, other: object) -> Any:
        return self._compare(operator.eq, other)

    def __ne__(self, other: object) -> Any:
        return self._compare(operator.ne, other)

    def __bool__(self) -> bool:
        return bool(self.observe(operator.truth))

    def __int__(self) -> int:
        return int(self.observe(math.trunc))

    def __trunc__(self) -> int:
        return int(self)

    def __float__(self) -> float:
        return self.pin()

    def __hash__(self) -> int:
        return hash(self.pin())

    def __repr__(self) -> str:
        return repr(self.pin())

    def __str__(self) -> str:
        return str(self.pin())

    def __format__(self, spec: str) -> str:
        return format(self.pin(), spec)

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.pin(), digits)

    def __floor__(self) -> int:
        return int(self.observe(math.floor))

    def __ceil__(self) -> int:
        return int(self.observe(math.ceil))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.pin(), dtype)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.pin(), name)


def _is_number(x: object) -> bool:
    return isinstance(x, (int, float, TracedScalar))


def plain(x: Any) -> Any:
    """The value of a scalar; anything else as it is."""
    return x.value if type(x) is TracedScalar else x


def compute(function: Function, *operands: Any) -> Any:
    """function(*operands) of floats and scalars: a scalar while it is still proved, else the plain number.

    NotImplemented for operands that are no numbers. Raises what the function raises (ZeroDivisionError, ...).
    """
    if not all(map(_is_number, operands)):
        return NotImplemented
    result = function(*map(plain, operands))
    watcher = next(x.watcher for x in operands if type(x) is TracedScalar)
    if not watcher.proving:
        return result
    if type(result) is not float:  # (-1.0) ** 0.5 is complex
        scalar = next(x for x in operands if type(x) is TracedScalar)
        watcher.guard_scalar(scalar, function, operands, result)
        return result
    return watcher.derived(function, operands, result)


def is_arithmetic(function: object) -> bool:
    """True for the functions of `math`."""
    return callable(function) and function in _MATH
