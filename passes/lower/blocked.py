"""Channels in blocks: a label that one operand of a convolution has alone cut in two,
`n` = block * n_block + n_inner.

Weights would be read anew from far away for every row of pixels: copied block by block, with the loop over
blocks outermost, a block stays close, and is read in one run. The gradient of weights sums over pixels: each
step reads a few channels of a pixel of both images, rows that compete for a few sets of the caches. In blocks
of channels these lie one behind the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from ...ir.contraction import ContractSpec
from ...ir.expr import Dim, Expr, symbol, symbols_of
from ...ir.graph import Value
from ...ir.kernel import VECTOR
from ..packed import block_of
from .contraction import COPY, PEAK
from .index import Index, Shape
from .stores import estimate

#: Copying both images may take so much of the time that the products take.
DEAREST = 0.1


@dataclass(frozen=True)
class Blocked:
    """A contraction with a label cut in two. axis: the axis of the operand that is cut; shape: the operand's
    then; maps: its index maps; inner: the label within a block."""

    spec: ContractSpec
    axis: int
    shape: Shape
    maps: Index
    inner: str


def cut_in_blocks(spec: ContractSpec, x: Value, maps: Index, label: str, columns: int) -> Blocked | None:
    """The contraction with weights x cut along a label of its result that, of both operands, only x has,
    alone on one axis; None if x is small, or no block divides the label. spec: with the extents of all
    labels. columns: of a tile."""
    bytes_, alone = x.type.numel, [str(index) for index in maps].count(label) == 1
    if spec.within is not None or not alone or not isinstance(bytes_, int):
        return None
    block = block_of(dict(spec.extents)[label], bytes_ * x.type.dtype.itemsize, columns)
    return None if block is None else cut_label(spec, x, maps, label, block)


def blocks_of_images(
    spec: ContractSpec, operands: tuple[Value, ...], columns: int
) -> list[tuple[str, int]] | None:
    """Of each image of which a gradient of weights is made, the label of its channels and how many go into a
    block; None if there are too few. spec: with the extents of all labels. columns: of a tile."""
    sizes = dict(spec.extents)
    numbers = [sizes[name] for name in (*spec.out, *spec.over)]
    copied = sum(estimate(x.type.numel) for x in operands)
    if spec.within is not None or copied * COPY > DEAREST * prod(map(estimate, numbers)) / PEAK:
        return None
    found: list[tuple[str, int]] = []
    for maps, other in ((spec.lhs, spec.rhs), (spec.rhs, spec.lhs)):
        theirs = {name for index in other for name in symbols_of(index)}
        own = [str(index) for index in maps if str(index) in spec.out and str(index) not in theirs]
        extent = sizes[own[0]] if len(own) == 1 else 0
        # Vectors run along the channels of the image of which each step reads another pixel for each tap.
        windowed = any(isinstance(i, Expr) and symbols_of(i) != {str(i)} for i in maps)
        blocks = (columns, VECTOR) if windowed else (VECTOR,)
        fitting = [b for b in blocks if isinstance(extent, int) and extent > b and extent % b == 0]
        if not fitting:
            return None
        found.append((own[0], fitting[0]))
    return found


def cut_label(spec: ContractSpec, x: Value, maps: Index, label: str, block: int) -> Blocked:
    """The contraction with a label, which is alone on an axis of the operand x, cut into blocks."""
    sizes, axis = dict(spec.extents), [str(index) for index in maps].index(label)
    extent = sizes.pop(label)
    assert isinstance(extent, int)
    outer, inner = f"{label}_block", f"{label}_inner"
    parts: dict[str, Dim] = {outer: extent // block, inner: block}
    cut = (*maps[:axis], symbol(outer), symbol(inner), *maps[axis + 1 :])
    sides = tuple(cut if side == maps else side for side in (spec.lhs, spec.rhs))
    out = tuple(name for old in spec.out for name in (parts if old == label else (old,)))
    extents = tuple(sorted((parts | sizes).items()))
    shape = (*x.type.shape[:axis], *parts.values(), *x.type.shape[axis + 1 :])
    made = replace(spec, lhs=sides[0], rhs=sides[1], out=out, extents=extents)
    return Blocked(made, axis, shape, cut, inner)


def cut_strides(strides: Shape | None, out: tuple[str, ...], label: str, block: Dim) -> Shape | None:
    """The strides of a result whose label is cut into blocks of this size."""
    if strides is None:
        return None
    at = out.index(label)
    return (*strides[:at], strides[at] * block, *strides[at:])
