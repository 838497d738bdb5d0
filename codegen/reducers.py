"""What a reduction does with its values: a state of one to three registers, how it starts, takes a value,
joins another state, and gives the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir import ops
from ..ir.dtypes import DType
from ..ir.opdef import OpDef
from .elementwise import EMIT
from .lanes import Lanes

State = tuple[str, ...]
Join = Callable[[Lanes, State, State], State]
#: (lanes of the value's type, state) -> the result.
Result = Callable[[Lanes, State], str]


def _last(_: Lanes, state: State) -> str:
    return state[-1]


@dataclass(frozen=True)
class Reducer:
    """elements: LLVM element types of the state's registers, the value's first. start: their first values,
    scalar.

    join(lanes, a, b): the state of a's values followed by b's; `lanes` is the value's type. indexed: the
    second register is the position of the value. exact: any order of arithmetic gives the same bits. of_bits:
    the registers are extremes of the values' bits.
    """

    elements: tuple[str, ...]
    start: tuple[object, ...]
    join: Join
    indexed: bool = False
    exact: bool = True
    of_bits: bool = False
    result: Result = _last

    def taken(self, lanes: Lanes, value: str) -> State:
        """The state of one value, without its position."""
        if not self.of_bits:
            return (value,)
        return (lanes.bitcast(value, lanes.integers.element),) * len(self.elements)

    def select(self, lanes: Lanes, mask: str, a: State, b: State) -> State:
        """a where the mask holds, else b."""
        return tuple(_of(lanes, e).select(mask, x, y) for e, x, y in zip(self.elements, a, b, strict=True))

    def added(self, lanes: Lanes, a: State, b: State) -> State:
        """join, without the instructions where a is the state of no values and that makes no difference."""
        return b if self.exact and a[0] == self.first(lanes)[0] else self.join(lanes, a, b)

    def first(self, lanes: Lanes) -> State:
        """The state of no values."""
        return tuple(_of(lanes, e).const(s) for e, s in zip(self.elements, self.start, strict=True))

    def types(self, lanes: Lanes) -> list[str]:
        """The LLVM types of the state."""
        return [_of(lanes, e).type for e in self.elements]

    def total(self, lanes: Lanes, state: State) -> State:
        """The lanes of a vector joined in a fixed tree: halves, quarters, ... Gives scalars."""
        while lanes.width > 1:
            low, high = (_half(lanes, self.elements, state, upper) for upper in (False, True))
            lanes = lanes.narrowed(lanes.width // 2)
            state = self.join(lanes, low, high)
        return state


def reducer(opdef: OpDef, dtype: DType, element: str, of_bits: bool = False) -> Reducer:
    """How `opdef` reduces values of this dtype, held as `element`. of_bits: floats may be compared by their
    bits, which takes less time and more registers."""
    if of_bits and element == "float" and opdef in (ops.reduce_max, ops.reduce_min):
        return _extremum_of_bits(opdef is ops.reduce_max)
    if opdef in (ops.argmax, ops.argmin):
        start = _least(dtype) if opdef is ops.argmax else _greatest(dtype)
        return Reducer((element, "i64"), (start, 0), _first_better(opdef is ops.argmax), indexed=True)
    combine, start = {
        ops.reduce_sum: (ops.add, 0),
        ops.reduce_prod: (ops.mul, 1),
        ops.reduce_max: (ops.maximum, _least(dtype)),
        ops.reduce_min: (ops.minimum, _greatest(dtype)),
    }[opdef]
    rule = EMIT[combine]
    exact = dtype.kind != "f" or opdef in (ops.reduce_max, ops.reduce_min)
    return Reducer((element,), (start,), lambda lanes, a, b: (rule(lanes, a[0], b[0]),), exact=exact)


def _extremum_of_bits(largest: bool) -> Reducer:
    """The largest bits read as a signed integer, and the least and the largest as an unsigned one.

    Of numbers with a sign bit the larger are the smaller as unsigned integers. So these three tell the
    extremum, with the zeros in order, and a NaN shows: beyond infinity in the first or the last. Three
    instructions for a value where comparing as floats takes five.
    """
    infinity = 0x7F800000

    def join(lanes: Lanes, a: State, b: State) -> State:
        integers = lanes.integers
        names = ("smax", "umin", "umax")
        return tuple(integers.intrinsic(n, x, y) for n, x, y in zip(names, a, b, strict=True))

    def result(lanes: Lanes, state: State) -> str:
        signed, least, most = state
        bits = lanes.integers
        if largest:
            found = bits.select(bits.compare("sgt", signed, bits.const(-1)), signed, least)
            nan, at = bits.compare("ugt", most, bits.const(infinity - 2**31)), most
        else:
            found = bits.select(bits.compare("slt", most, bits.const(0)), most, least)
            nan, at = bits.compare("sgt", signed, bits.const(infinity)), signed
        return bits.bitcast(bits.select(nan, at, found), lanes.element)

    start = infinity - 2**31 if largest else infinity
    return Reducer(("i32",) * 3, (start,) * 3, join, of_bits=True, result=result)


def _first_better(largest: bool) -> Join:
    """Keep the better value, of equal ones the one at the smaller position. A NaN is better than any
    number.
    """

    def join(lanes: Lanes, a: State, b: State) -> State:
        better, tie = _ordered(lanes, a[0], b[0], largest)
        index = lanes.of("i64")
        earlier = lanes.both("and", tie, index.compare("slt", b[1], a[1]))
        takes = lanes.both("or", better, earlier)
        return lanes.select(takes, b[0], a[0]), index.select(takes, b[1], a[1])

    return join


def _ordered(lanes: Lanes, a: str, b: str, largest: bool) -> tuple[str, str]:
    """(b is better than a, they tie)."""
    if not lanes.is_float:
        way = ("u" if lanes.unsigned else "s") + ("gt" if largest else "lt")
        return lanes.compare(way, b, a), lanes.compare("eq", a, b)
    beats = lanes.compare("ugt" if largest else "ult", b, a)
    better = lanes.both("and", beats, lanes.compare("ord", a, a))
    nans = lanes.both("and", lanes.compare("uno", a, a), lanes.compare("uno", b, b))
    return better, lanes.both("or", lanes.compare("oeq", a, b), nans)


def _half(lanes: Lanes, elements: Sequence[str], state: State, upper: bool) -> State:
    width = lanes.width
    if width == 2:
        at = int(upper)
        return tuple(
            lanes.f(f"extractelement {_of(lanes, e).type} {x}, i64 {at}")
            for e, x in zip(elements, state, strict=True)
        )
    half = ", ".join(f"i32 {i}" for i in range(width // 2 * upper, width // 2 * (1 + upper)))
    picked = []
    for e, x in zip(elements, state, strict=True):
        kind = _of(lanes, e).type
        picked.append(lanes.f(f"shufflevector {kind} {x}, {kind} poison, <{width // 2} x i32> <{half}>"))
    return tuple(picked)


def _of(lanes: Lanes, element: str) -> Lanes:
    return lanes if element == lanes.element else lanes.of(element)


def _least(dtype: DType) -> object:
    return -np.inf if dtype.kind == "f" else False if dtype.kind == "b" else np.iinfo(dtype.numpy).min


def _greatest(dtype: DType) -> object:
    return np.inf if dtype.kind == "f" else True if dtype.kind == "b" else np.iinfo(dtype.numpy).max
