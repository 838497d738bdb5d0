"""Contractions of bfloat16 and int16 in the form that kernels take: their last summed label counts the two of
a pair.

A label k of K steps that is summed last becomes k, of ceil(K / 2) steps, and a label of two steps after it;
an odd K is padded by zeros, as the canonical order says (docs/numerics.md). Where k does not stand alone on
an axis of an operand (the gradient of a convolution's weight), the operand is laid out by labels first.
"""

from __future__ import annotations

from ...ir import ops
from ...ir.builder import GraphBuilder, full, scalar
from ...ir.contraction import ContractSpec
from ...ir.expr import Dim, divided, floordiv, substitute, symbol, symbols_of
from ...ir.graph import Operation, Value
from ...ir.types import row_major_strides
from .attributes import spec_of
from .index import bounds, linear

Maps = tuple[Dim, ...]
Sizes = dict[str, Dim]


def in_pairs(build: GraphBuilder, op: Operation, operands: tuple[Value, ...]) -> Value:
    """A contraction whose last summed label has two steps that lie beside each other."""
    spec = spec_of(op)
    sizes = spec.label_extents(operands[0].type.shape, operands[1].type.shape)
    if any(sizes[label] == 0 for label in (*spec.over, *spec.out)):
        return full(build, 0, op.result.type)
    last = spec.over[-1] if spec.over else "k"
    sizes.setdefault(last, 1)
    pair = _fresh("pair", sizes)
    sides = [
        _split(build, x, maps, sizes, last, pair)
        for x, maps in zip(operands, (spec.lhs, spec.rhs), strict=True)
    ]
    sizes |= {last: floordiv(sizes[last] + 1, 2), pair: 2}
    over = (*(spec.over or (last,)), pair)
    made = ContractSpec(sides[0][1], sides[1][1], spec.out, over, tuple(sorted(sizes.items())))
    return build(ops.contract, sides[0][0], sides[1][0], spec=made)


def place_in_pairs(place: Dim, pair: str) -> Dim | None:
    """The place of a pair, counted in pairs; None if its two steps do not lie beside each other at an even
    place."""
    within = substitute(place, {pair: 0})
    beside = substitute(place, {pair: 1}) - within == 1
    return divided(within, 2) if beside else None


def _fresh(name: str, sizes: Sizes) -> str:
    while name in sizes:
        name += "_"
    return name


def _split(
    build: GraphBuilder, x: Value, maps: Maps, sizes: Sizes, last: str, pair: str
) -> tuple[Value, Maps]:
    """An operand with the axis of the last summed label cut into pairs, and its index maps."""
    homes = [axis for axis, index in enumerate(maps) if last in symbols_of(index)]
    if not homes:  # it does not vary along the label: it does, times 1
        x = build(
            ops.expand, build(ops.reshape, x, shape=(*x.type.shape, 1)), shape=(*x.type.shape, sizes[last])
        )
        maps, homes = (*maps, symbol(last)), [len(maps)]
    (axis, *more) = homes
    if more or maps[axis] != symbol(last) or x.type.shape[axis] != sizes[last]:
        x, maps = _by_labels(build, x, maps, sizes)
        axis = maps.index(symbol(last))
    shape, count = x.type.shape, floordiv(sizes[last] + 1, 2)
    if count * 2 != sizes[last]:
        hi = tuple(count * 2 - sizes[last] if a == axis else 0 for a in range(len(shape)))
        none = (0,) * len(shape)
        x = build(ops.pad, x, scalar(build, 0, x.type.dtype), lo=none, hi=hi, interior=none)
    x = build(ops.reshape, x, shape=(*shape[:axis], count, 2, *shape[axis + 1 :]))
    return x, (*maps[: axis + 1], symbol(pair), *maps[axis + 1 :])


def _by_labels(build: GraphBuilder, x: Value, maps: Maps, sizes: Sizes) -> tuple[Value, Maps]:
    """An operand with an axis for each label that it is read along, zeros where it is read outside."""
    names = [name for name in sizes if any(name in symbols_of(index) for index in maps)]
    spans = [bounds(index, sizes) for index in maps]
    lo = tuple(_positive(0 - span[0]) for span in spans if span is not None)
    hi = tuple(
        _positive(span[1] - (d - 1)) for span, d in zip(spans, x.type.shape, strict=True) if span is not None
    )
    if any(d != 0 for d in (*lo, *hi)):
        x = build(ops.pad, x, scalar(build, 0, x.type.dtype), lo=lo, hi=hi, interior=(0,) * x.type.rank)
    place = linear(tuple(i + a for i, a in zip(maps, lo, strict=True)), row_major_strides(x.type.shape))
    start = substitute(place, dict.fromkeys(names, 0))
    strides = tuple(substitute(place, {**dict.fromkeys(names, 0), name: 1}) - start for name in names)
    shape = tuple(sizes[name] for name in names)
    return build(ops.as_strided, x, shape=shape, strides=strides, offset=start), tuple(map(symbol, names))


def _positive(dim: Dim) -> Dim:
    return max(dim, 0) if isinstance(dim, int) else 0
