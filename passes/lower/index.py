"""Index arithmetic: which element of its operand a moved element is.

An index is one expression per axis. `extents` gives the extent of every symbol that is a loop axis; such a
symbol runs over 0 .. extent - 1, so a quotient or remainder whose value is known from that is simplified
away. Reshapes match the axes of both shapes in groups of equal size: where they line up, no division
appears.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import cast

from ...ir import ops
from ...ir.expr import Dim, Expr, Factor, Quotient, divide, dot, floordiv, mod
from ...ir.graph import Operation, Value
from ...ir.opdef import OpDef
from ...ir.types import row_major_strides
from .attributes import dims, ints

Index = tuple[Dim, ...]
Shape = tuple[Dim, ...]
Extents = Mapping[str, Dim]
Rule = Callable[[Operation, Index, Extents], Index]

#: How each plain movement finds its elements: (operation, index of the result, extents) -> index of operand
#: 0.
MOVED: dict[OpDef, Rule] = {}


def linear(index: Index, strides: Shape) -> Dim:
    """The place of an index by its strides, quotients and remainders joined where they belong together."""
    return recombined(dot(index, strides))


def recombined(dim: Dim) -> Dim:
    """The expression with c*b*(a // b) + c*(a % b) replaced by c*a."""
    if isinstance(dim, int):
        return dim
    for monomial, c in dim.terms.items():
        for factor in monomial:
            if not isinstance(factor, Quotient) or factor.op == "//":
                continue
            rest = _without(monomial, factor)
            whole = rest * factor.b * Expr({(Quotient("//", factor.a, factor.b),): 1})
            if isinstance(whole, Expr) and len(whole.terms) == 1:
                ((partner, unit),) = whole.terms.items()
                if dim.terms.get(partner) == c * unit:
                    return recombined(dim - Expr({monomial: c}) - whole * c + rest * c * factor.a)
    return dim


def _without(monomial: tuple[Factor, ...], factor: Quotient) -> Dim:
    left = list(monomial)
    left.remove(factor)
    return Expr({tuple(left): 1}) if left else 1


def bounds(dim: Dim, extents: Extents) -> tuple[Dim, Dim] | None:
    """The least and the greatest value of an expression, or None if a symbol in it has no known range.

    Sizes stand for themselves and are taken to be at least 0.
    """
    if isinstance(dim, int):
        return dim, dim
    low: Dim = 0
    high: Dim = 0
    for monomial, c in dim.terms.items():
        most: Dim = c
        constant = True
        for factor in monomial:
            top = _greatest(factor, extents)
            if top is None:
                return None
            most = most * top
            constant = constant and isinstance(factor, str) and factor not in extents
        low, high = (
            low + (most if constant or c < 0 else 0),
            high + (most if constant or c > 0 else 0),
        )
    return low, high


def _greatest(factor: str | Quotient, extents: Extents) -> Dim | None:
    if isinstance(factor, str):
        if factor in extents:
            return extents[factor] - 1
        return None if factor.startswith("%") else Expr({(factor,): 1})
    if factor.op == "%":
        return factor.b - 1
    span = bounds(factor.a, extents)
    return None if span is None or not _natural(span[0]) else floordiv(span[1], factor.b)


def _natural(dim: Dim) -> bool:
    """Whether the value is surely not negative."""
    return dim >= 0 if isinstance(dim, int) else all(c >= 0 for c in dim.terms.values())


def within(dim: Dim, low: Dim, high: Dim, extents: Extents) -> bool:
    """Whether low <= dim < high surely holds."""
    span = bounds(dim, extents)
    return span is not None and _natural(span[0] - low) and _natural(high - 1 - span[1])


def divided(a: Dim, b: Dim, extents: Extents) -> tuple[Dim, Dim]:
    """(a // b, a % b), simplified by the ranges of the axes."""
    if isinstance(a, int) and isinstance(b, int):
        return (a // b, a % b) if b else (0, 0)
    whole, rest = divide(a, b)
    if within(rest, 0, b, extents):
        return whole, rest
    return floordiv(a, b), mod(a, b)


def reshaped(index: Index, have: Shape, want: Shape, extents: Extents) -> Index:
    """The index over `want` of the element at `index` over `have`, shapes of equal size."""
    if have == want:
        return index
    if 0 in have:
        return (0,) * len(want)
    result: list[Dim] = []
    for (a, b), (c, d) in matched(have, want):
        if b - a == 1 and d - c == 1:
            result.append(index[a])
        elif d > c:
            result += _split(linear(index[a:b], row_major_strides(have[a:b])), want[c:d], extents)
    return tuple(result)


def unravelled(place: Dim, shape: Shape, extents: Extents) -> Index:
    """A place in row-major order as an index over a shape."""
    return tuple(_split(place, shape, extents)) if shape else ()


def _split(place: Dim, shape: Shape, extents: Extents) -> list[Dim]:
    """A place in row-major order as an index over the shape."""
    result: list[Dim] = []
    for d in reversed(shape[1:]):
        place, inner = (place, 0) if d == 1 else divided(place, d, extents)
        result.append(inner)
    return [place, *reversed(result)]


@lru_cache(maxsize=4096)
def matched(have: Shape, want: Shape) -> tuple[tuple[tuple[int, int], tuple[int, int]], ...]:
    """Runs of axes (from, to) of two shapes of equal size, as short as can be, that have equal sizes each."""
    runs = []
    i = j = 0
    while i < len(have) or j < len(want):
        from_i, from_j = i, j
        a, i = (have[i], i + 1) if i < len(have) else (1, i)
        b, j = (want[j], j + 1) if j < len(want) else (1, j)
        while a != b:
            if i < len(have) and (j == len(want) or _grows(a, b)):
                a, i = a * have[i], i + 1
            elif j < len(want):
                b, j = b * want[j], j + 1
            else:
                break
        runs.append(((from_i, i), (from_j, j)))
    return tuple(runs)


def _grows(a: Dim, b: Dim) -> bool:
    """Whether a, rather than b, is the one to multiply further to make them equal."""
    if isinstance(a, int) and isinstance(b, int):
        return a < b
    return a != 0 and divide(b, a)[1] == 0


def refined(a: Shape, b: Shape) -> Shape | None:
    """The coarsest shape that both come from by joining neighbouring axes; None if there is none.

    >>> refined((64, 512), (8, 8, 512))
    (8, 8, 512)
    """
    result: list[Dim] = []
    for (i, j), (k, m) in matched(a, b):
        left, right = [d for d in a[i:j] if d != 1], [d for d in b[k:m] if d != 1]
        if len(left) > 1 and len(right) > 1:
            return None
        result += left if len(left) >= len(right) else right
    return tuple(result)


def moved(op: Operation, index: Index, extents: Extents) -> Index | None:
    """Where the element at `index` of a movement's result lies in its operand; None if it isn't a plain
    movement."""
    rule = MOVED.get(op.opdef)
    return None if rule is None else rule(op, index, extents)


def place_of(
    value: Value, index: Index, extents: Extents, in_memory: Callable[[Value], bool]
) -> tuple[Value, Dim] | None:
    """(value in memory, place of the element in it) of an element, if plain movement alone leads there."""
    while not in_memory(value):
        op = value.operation
        below = None if op is None or not op.operands else moved(op, index, extents)
        if op is None or below is None:
            return None
        value, index = op.operands[0], below
    return value, linear(index, value.physical_strides)


def _moves(opdef: OpDef) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        MOVED[opdef] = rule
        return rule

    return register


@_moves(ops.reshape)
def _reshape(op: Operation, index: Index, extents: Extents) -> Index:
    return reshaped(index, op.result.type.shape, op.operands[0].type.shape, extents)


@_moves(ops.permute)
def _permute(op: Operation, index: Index, extents: Extents) -> Index:
    result: list[Dim] = [0] * len(index)
    for axis, i in zip(ints(op, "perm"), index, strict=True):
        result[axis] = i
    return tuple(result)


@_moves(ops.expand)
def _expand(op: Operation, index: Index, extents: Extents) -> Index:
    return tuple(0 if d == 1 else i for d, i in zip(op.operands[0].type.shape, index, strict=True))


@_moves(ops.slice_)
def _slice(op: Operation, index: Index, extents: Extents) -> Index:
    starts, steps = dims(op, "starts"), dims(op, "steps")
    return tuple(lo + i * s for i, lo, s in zip(index, starts, steps, strict=True))


@_moves(ops.flip)
def _flip(op: Operation, index: Index, extents: Extents) -> Index:
    axes = ints(op, "axes")
    return tuple(
        d - 1 - i if a in axes else i
        for a, (d, i) in enumerate(zip(op.result.type.shape, index, strict=True))
    )


@_moves(ops.window)
def _window(op: Operation, index: Index, extents: Extents) -> Index:
    axes, strides, dilations = ints(op, "axes"), dims(op, "strides"), dims(op, "dilations")
    rank = op.operands[0].type.rank
    result = list(index[:rank])
    for axis, stride, dilation, place in zip(axes, strides, dilations, index[rank:], strict=True):
        result[axis] = recombined(result[axis] * stride + place * dilation)
    return tuple(result)


@_moves(ops.as_strided)
def _as_strided(op: Operation, index: Index, extents: Extents) -> Index:
    shape = op.operands[0].type.shape
    if not shape:
        return ()
    return tuple(_split(storage_place(op, index), shape, extents))


def storage_place(op: Operation, index: Index) -> Dim:
    """The place in its flat operand of an element of an as_strided view."""
    return linear((*index, cast("Dim", op.attrs["offset"])), (*dims(op, "strides"), 1))
