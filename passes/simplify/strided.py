"""`as_strided` and its update as reshapes, slices, permutes and expands, which other rules understand.

A storage is split level by level, coarsest stride first: x[N] as [N/s, s], an axis of stride s slicing the
first part, finer axes the second. Exact. What does not fit (overlapping or negative strides, sizes unknown)
stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...ir import ops
from ...ir.expr import product
from ...ir.graph import Operation, Value
from ...ir.types import row_major_strides
from .driver import Rewriter, rewrites
from .patterns import all_known, dims, operand_of


@dataclass(frozen=True)
class Box:
    """A view as a slice: the storage reshaped to `shape`, then sliced; `order`: the view's axes (those of
    size above 1 and stride above 0) in the order in which the slice has them."""

    shape: tuple[int, ...]
    starts: tuple[int, ...]
    stops: tuple[int, ...]
    steps: tuple[int, ...]
    order: tuple[int, ...]


def box_of(numel: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Box | None:
    """The box that a view shows, if it is one."""
    axes = [a for a, n in enumerate(shape) if n != 1 and strides[a] != 0]
    if 0 in shape or any(strides[a] < 0 for a in axes):
        return None
    axes.sort(key=lambda a: -strides[a])
    split, starts, stops, steps = [], [], [], []
    block, at = numel, offset
    for a in axes:
        unit = math.gcd(block, strides[a])
        first, step = at // unit, strides[a] // unit
        last = first + (shape[a] - 1) * step + 1
        if last > block // unit:
            return None
        split.append(block // unit)
        starts.append(first)
        stops.append(last)
        steps.append(step)
        block, at = unit, at % unit
    if block > 1:
        split.append(block)
        starts.append(at)
        stops.append(at + 1)
        steps.append(1)
    return Box(tuple(split), tuple(starts), tuple(stops), tuple(steps), tuple(axes))


@rewrites(ops.as_strided)
def as_strided_of_reshape(op: Operation, build: Rewriter) -> Value | None:
    """as_strided(reshape(x)) -> as_strided(x): it takes x flat."""
    x = operand_of(op.operands[0], ops.reshape)
    return build(ops.as_strided, x, **op.attrs) if x is not None else None


@rewrites(ops.as_strided)
def as_strided_as_reshape(op: Operation, build: Rewriter) -> Value | None:
    """as_strided(x) -> reshape(x) where it shows all of x in order; sizes may be symbolic."""
    (x,) = op.operands
    shape = op.result.type.shape
    whole = product(shape) == x.type.numel and op.attrs["offset"] == 0
    dense = whole and all(
        n == 1 or s == d
        for n, s, d in zip(shape, dims(op.attrs["strides"]), row_major_strides(shape), strict=True)
    )
    return build(ops.reshape, x, shape=shape) if dense else None


@rewrites(ops.as_strided)
def as_strided_as_slice(op: Operation, build: Rewriter) -> Value | None:
    """as_strided(x) -> expand(reshape(permute(slice(reshape(x))))), as much of it as is needed."""
    (x,) = op.operands
    box = _box(op, op.result.type.shape)
    if box is None:
        return None
    split = build(ops.reshape, x, shape=box.shape)
    piece = build(ops.slice_, split, starts=box.starts, stops=box.stops, steps=box.steps)
    shape = op.result.type.shape
    rows = build(ops.reshape, piece, shape=tuple(shape[a] for a in box.order))
    moved = build(ops.permute, rows, perm=tuple(box.order.index(a) for a in sorted(box.order)))
    single = tuple(n if a in box.order else 1 for a, n in enumerate(shape))
    return build(ops.expand, build(ops.reshape, moved, shape=single), shape=shape)


@rewrites(ops.as_strided_update)
def as_strided_update_as_slice(op: Operation, build: Rewriter) -> Value | None:
    """as_strided_update(x, v) -> reshape(update_slice(reshape(x), permute(v))), as much of it as is
    needed."""
    x, v = op.operands
    box = _box(op, v.type.shape)
    if box is None or any(
        n != 1 and s == 0 for n, s in zip(v.type.shape, dims(op.attrs["strides"]), strict=True)
    ):
        return None
    rows = build(ops.reshape, v, shape=tuple(v.type.shape[a] for a in sorted(box.order)))
    rank = {a: i for i, a in enumerate(sorted(box.order))}
    moved = build(ops.permute, rows, perm=tuple(rank[a] for a in box.order))
    sizes = tuple(v.type.shape[a] for a in box.order)
    sizes += (1,) * (len(box.shape) - len(sizes))
    split = build(ops.reshape, x, shape=box.shape)
    piece = build(ops.reshape, moved, shape=sizes)
    done = build(ops.update_slice, split, piece, starts=box.starts, steps=box.steps)
    return build(ops.reshape, done, shape=x.type.shape)


def _box(op: Operation, shape: tuple[object, ...]) -> Box | None:
    strides, offset = dims(op.attrs["strides"]), op.attrs["offset"]
    numel = op.operands[0].type.numel
    sizes = dims(shape)
    if not (all_known(sizes, strides) and isinstance(offset, int) and isinstance(numel, int)):
        return None
    return box_of(numel, sizes, strides, offset)  # type: ignore[arg-type]


@rewrites(ops.as_strided_update)
def as_strided_update_of_nothing(op: Operation, build: Rewriter) -> Value | None:
    """as_strided_update(x, empty) -> x."""
    x, v = op.operands
    return x if any(n == 0 for n in v.type.shape) else None
