"""Derivatives of indexing; the ops that create or check values pass nothing on."""

from __future__ import annotations

from ...ir import ops
from ...ir.builder import Builder, full
from ...ir.dtypes import int64
from ...ir.expr import product
from .rules import V, like, no_gradient, vjp

Axes = tuple[int, ...]


@vjp(ops.gather)
def gather(build: Builder[V], ct: V, y: V, x: V, *indices: V, axes: Axes) -> tuple[V | None, ...]:
    """Each element gets the sum of the cotangents of the places that read it."""
    dx = build(ops.scatter_add, like(build, 0, x), ct, *indices, axes=axes)
    return dx, *(None for _ in indices)


@vjp(ops.scatter)
def scatter(build: Builder[V], ct: V, y: V, x: V, values: V, *indices: V, axes: Axes) -> tuple[V | None, ...]:
    """A value that stayed gets the cotangent of its place, one that a later value overwrote gets 0; x the
    rest."""
    dx = build(ops.scatter, ct, like(build, 0, values), *indices, axes=axes)
    taken = build(ops.gather, ct, *indices, axes=axes)
    dv = build(ops.select, _stayed(build, x, values, indices, axes), taken, like(build, 0, taken))
    return dx, dv, *(None for _ in indices)


def _stayed(build: Builder[V], x: V, values: V, indices: tuple[V, ...], axes: Axes) -> V:
    """Whether each value is the last at its place: the number of every value is scattered in the same way."""
    sizes = build.type_of(indices[0]).shape
    line = build(ops.iota, shape=(product(sizes),), axis=0, dtype=int64)
    shape = build.type_of(values).shape
    column = build(ops.reshape, line, shape=(*sizes, *(1 for _ in shape[len(sizes) :])))
    numbers = build(ops.expand, column, shape=shape)
    blank = full(build, 0, build.type_of(x).with_dtype(int64))
    last = build(ops.gather, build(ops.scatter, blank, numbers, *indices, axes=axes), *indices, axes=axes)
    return build(ops.eq, last, numbers)


@vjp(ops.scatter_add)
def scatter_add(
    build: Builder[V], ct: V, y: V, x: V, values: V, *indices: V, axes: Axes
) -> tuple[V | None, ...]:
    """x gets ct, each value the cotangent of the place it was added to."""
    return ct, build(ops.gather, ct, *indices, axes=axes), *(None for _ in indices)


no_gradient(ops.into_tiles, "it is made after differentiation")
no_gradient(ops.from_tiles, "it is made after differentiation")
no_gradient(ops.iota, "has no operands")
no_gradient(ops.constant, "has no operands")
no_gradient(ops.argsort, "places do not move with the elements, but jump")
no_gradient(ops.check, "has no result")
no_gradient(ops.call, "calls are inlined before differentiation")
