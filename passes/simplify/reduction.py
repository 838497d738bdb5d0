"""Rules for reductions. Exact: an `order` is kept, and what has one element to combine combines it as
before."""

from __future__ import annotations

from ...ir import ops
from ...ir.builder import full
from ...ir.graph import Operation, Value
from .driver import Rewriter, rewrites
from .patterns import ints, is_splat, operand_of, splat_of


@rewrites(ops.reduce_sum, ops.reduce_prod, ops.reduce_max, ops.reduce_min)
def reduce_of_single_elements(op: Operation, build: Rewriter) -> Value | None:
    """A reduction over axes of size 1 (or over none) -> reshape(x); of a floating point sum reshape(x) + 0,
    for a sum starts from 0 and so turns -0 into 0."""
    (x,) = op.operands
    if any(x.type.shape[a] != 1 for a in ints(op.attrs["axes"])):
        return None
    flat = build(ops.reshape, x, shape=op.result.type.shape)
    if op.opdef is ops.reduce_sum and not x.type.dtype.is_integer:
        return build(ops.add, flat, full(build, 0, flat.type))
    return flat


@rewrites(ops.argmax, ops.argmin)
def argmax_of_single_elements(op: Operation, build: Rewriter) -> Value | None:
    """argmax over axes of size 1 -> 0."""
    (x,) = op.operands
    if any(x.type.shape[a] != 1 for a in ints(op.attrs["axes"])):
        return None
    return full(build, 0, op.result.type)


@rewrites(ops.reduce_sum, ops.reduce_prod)
def reduce_of_nothing(op: Operation, build: Rewriter) -> Value | None:
    """A sum over an empty axis -> 0, a product -> 1."""
    (x,) = op.operands
    if all(x.type.shape[a] != 0 for a in ints(op.attrs["axes"])):
        return None
    return full(build, 0 if op.opdef is ops.reduce_sum else 1, op.result.type)


@rewrites(ops.reduce_sum, ops.reduce_prod, ops.cumsum)
def sum_of_zeros(op: Operation, build: Rewriter) -> Value | None:
    """A sum of zeros -> 0 (of -0 too), a product of ones -> 1."""
    (x,) = op.operands
    if op.opdef is ops.reduce_prod:
        return full(build, 1, op.result.type) if is_splat(x, 1) else None
    return full(build, 0, op.result.type) if is_splat(x, 0) or is_splat(x, -0.0) else None


@rewrites(ops.reduce_max, ops.reduce_min)
def extremum_of_splat(op: Operation, build: Rewriter) -> Value | None:
    """The largest of equal numbers -> that number."""
    number = splat_of(op.operands[0])
    return full(build, number.array(), op.result.type) if number is not None else None


@rewrites(ops.reduce_max, ops.reduce_min)
def extremum_of_expand(op: Operation, build: Rewriter) -> Value | None:
    """reduce_max(expand(x)) over repeated axes -> x without them, as far as these are all the axes
    reduced."""
    (x,) = op.operands
    source = operand_of(x, ops.expand)
    if source is None or any(source.type.shape[a] != 1 for a in ints(op.attrs["axes"])):
        return None
    kept = [a for a in range(x.type.rank) if a not in ints(op.attrs["axes"])]
    flat = build(ops.reshape, source, shape=tuple(source.type.shape[a] for a in kept))
    return build(ops.expand, flat, shape=op.result.type.shape)


@rewrites(ops.cumsum)
def cumsum_of_empty(op: Operation, build: Rewriter) -> Value | None:
    """cumsum(empty) -> empty."""
    (x,) = op.operands
    return x if any(n == 0 for n in x.type.shape) else None
