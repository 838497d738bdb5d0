"""Large weights in blocks: the label that vectors run along cut in two, `n` = block * n_block + n_inner.

A weight that exceeds the second-level cache would be read anew from further away for every row of pixels.
Copied block by block, with the loop over blocks outermost, a block stays close, and is read in one run.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.contraction import ContractSpec
from ...ir.expr import Dim, symbol, symbols_of
from ...ir.graph import Value
from ..packed import BLOCKS, MOST_BYTES
from .index import Index, Shape


@dataclass(frozen=True)
class Blocked:
    """A contraction with a label cut in two. axis: the axis of the operand that is cut; shape: the operand's
    then; maps: its index maps; inner: the label within a block."""

    spec: ContractSpec
    axis: int
    shape: Shape
    maps: Index
    inner: str


def cut_in_blocks(spec: ContractSpec, x: Value, maps: Index, label: str) -> Blocked | None:
    """The contraction cut along a label of its result that, of both operands, only x has, alone on one axis;
    None if x is small, or no block divides the label. spec: with the extents of all labels."""
    sizes, bytes_ = dict(spec.extents), x.type.numel
    extent = sizes[label]
    if not isinstance(bytes_, int) or bytes_ * x.type.dtype.itemsize <= MOST_BYTES:
        return None
    block = next((b for b in BLOCKS if isinstance(extent, int) and extent > b and extent % b == 0), None)
    home = [a for a, index in enumerate(maps) if label in symbols_of(index)]
    if spec.within is not None or block is None or len(home) != 1 or str(maps[home[0]]) != label:
        return None
    (axis,) = home
    outer, inner = f"{label}_block", f"{label}_inner"
    parts: dict[str, Dim] = {outer: extent // block, inner: block}
    cut = (*maps[:axis], symbol(outer), symbol(inner), *maps[axis + 1 :])
    sides = tuple(cut if side == maps else side for side in (spec.lhs, spec.rhs))
    out = tuple(name for old in spec.out for name in (parts if old == label else (old,)))
    extents = tuple(sorted((parts | {n: d for n, d in sizes.items() if n != label}).items()))
    shape = (*x.type.shape[:axis], *parts.values(), *x.type.shape[axis + 1 :])
    return Blocked(ContractSpec(sides[0], sides[1], out, spec.over, extents), axis, shape, cut, inner)


def cut_strides(strides: Shape | None, out: tuple[str, ...], label: str, block: Dim) -> Shape | None:
    """The strides of a result whose label is cut into blocks of this size."""
    if strides is None:
        return None
    at = out.index(label)
    return (*strides[:at], strides[at] * block, *strides[at:])
