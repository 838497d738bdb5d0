"""Rules for gather and scatter with indices known in part. All exact; what can raise is replaced only where
the indices are known to be in range."""

from __future__ import annotations

from ...ir import ops
from ...ir.expr import Dim
from ...ir.graph import Operation, Value
from .driver import Rewriter, rewrites
from .patterns import ints, number_of, producer


@rewrites(ops.gather)
def gather_at_constant(op: Operation, build: Rewriter) -> Value | None:
    """gather(x, c) -> expand(x[c:c+1]) for splat indices in range."""
    x, *indices = op.operands
    axes = ints(op.attrs["axes"])
    starts: list[Dim] = [0] * x.type.rank
    stops = list(x.type.shape)
    for axis, index in zip(axes, indices, strict=True):
        at, size = number_of(index), x.type.shape[axis]
        if at is None or not isinstance(size, int) or not -size <= at < size:
            return None
        starts[axis], stops[axis] = at % size, at % size + 1
    piece = build(ops.slice_, x, starts=tuple(starts), stops=tuple(stops), steps=(1,) * x.type.rank)
    shape = indices[0].type.shape
    rest = op.result.type.shape[len(shape) :]
    flat = build(ops.reshape, piece, shape=(*(1 for _ in shape), *rest))
    return build(ops.expand, flat, shape=op.result.type.shape)


@rewrites(ops.permute)
def permute_of_gather(op: Operation, build: Rewriter) -> Value | None:
    """permute(gather(x, i)) -> gather(x, permute(i)) where only axes of the indices change places, and nobody
    else reads the gathered elements."""
    made = op.operands[0].operation
    if made is None or made.opdef is not ops.gather or not build.has_one_use(op.operands[0]):
        return None
    x, *indices = made.operands
    perm, count = ints(op.attrs["perm"]), indices[0].type.rank
    if sorted(perm[:count]) != list(range(count)) or perm[count:] != tuple(range(count, len(perm))):
        return None
    moved = [build(ops.permute, i, perm=perm[:count]) for i in indices]
    return build(ops.gather, x, *moved, **made.attrs)


@rewrites(ops.gather)
def gather_by_iota(op: Operation, build: Rewriter) -> Value | None:
    """gather(x, iota(n)) -> x[:n], the axis moved to the front."""
    x, *indices = op.operands
    if len(indices) != 1 or indices[0].type.rank != 1 or producer(indices[0], ops.iota) is None:
        return None
    (axis,) = ints(op.attrs["axes"])
    count, size = indices[0].type.shape[0], x.type.shape[axis]
    inside = isinstance(count, int) and isinstance(size, int) and count <= size
    if not (inside or count == size):
        return None
    stops = (*x.type.shape[:axis], count, *x.type.shape[axis + 1 :])
    zeros, ones = (0,) * x.type.rank, (1,) * x.type.rank
    piece = build(ops.slice_, x, starts=zeros, stops=stops, steps=ones)
    return build(ops.permute, piece, perm=(axis, *(a for a in range(x.type.rank) if a != axis)))


@rewrites(ops.scatter, ops.scatter_add)
def scatter_of_nothing(op: Operation, build: Rewriter) -> Value | None:
    """scatter(x, empty indices) -> x."""
    x, _, *indices = op.operands
    return x if any(n == 0 for n in indices[0].type.shape) else None
