"""Derivatives of reductions and cumulative sums."""

from __future__ import annotations

from typing import Any

from ...ir import ops
from ...ir.builder import Builder, broadcast
from ...ir.dtypes import int64
from .rules import V, like, no_gradient, vjp

Axes = tuple[int, ...]


def _spread(build: Builder[V], reduced: V, x: V, axes: Axes) -> V:
    """A reduction's result (or its cotangent) repeated along the reduced axes, to the shape of x."""
    shape = build.type_of(x).shape
    column = tuple(1 if a in axes else d for a, d in enumerate(shape))
    return broadcast(build, build(ops.reshape, reduced, shape=column), shape)


@vjp(ops.reduce_sum)
def reduce_sum(build: Builder[V], ct: V, y: V, x: V, *, axes: Axes, order: str) -> tuple[V]:
    """Each summand gets ct."""
    return (_spread(build, ct, x, axes),)


@vjp(ops.reduce_prod)
def reduce_prod(build: Builder[V], ct: V, y: V, x: V, *, axes: Axes, order: str) -> tuple[V]:
    """Each factor gets ct times the product of the others: y / x, or, of the only zero, the product of the
    rest.

    Second derivatives are right too, except between two factors that are both 0.
    """
    zero, one = like(build, 0, x), like(build, 1, x)
    is_zero = build(ops.eq, x, zero)
    count = build(ops.reduce_sum, build(ops.cast, is_zero, dtype=int64), axes=axes, order=order)
    only = _spread(build, build(ops.eq, count, like(build, 1, count)), x, axes)
    rest = build(ops.reduce_prod, build(ops.select, is_zero, one, x), axes=axes, order=order)
    at_zero = build(ops.select, only, _spread(build, rest, x, axes), zero)
    elsewhere = build(ops.div, _spread(build, y, x, axes), build(ops.select, is_zero, one, x))
    others = build(ops.select, is_zero, at_zero, elsewhere)
    return (build(ops.mul, _spread(build, ct, x, axes), others),)


def _extremum(build: Builder[V], ct: V, y: V, x: V, *, axes: Axes, order: str) -> tuple[V]:
    """ct is split evenly among the elements that attain the extremum (the NaNs, if it is one)."""
    mask = build(ops.bit_or, build(ops.eq, x, _spread(build, y, x, axes)), build(ops.ne, x, x))
    dtype = build.type_of(x).dtype
    count = build(ops.reduce_sum, build(ops.cast, mask, dtype=dtype), axes=axes, order=order)
    share = _spread(build, build(ops.div, ct, count), x, axes)
    return (build(ops.select, mask, share, like(build, 0, x)),)


@vjp(ops.reduce_max)
def reduce_max(build: Builder[V], ct: V, y: V, x: V, **attrs: Any) -> tuple[V]:
    """ct is split evenly among the largest elements."""
    return _extremum(build, ct, y, x, **attrs)


@vjp(ops.reduce_min)
def reduce_min(build: Builder[V], ct: V, y: V, x: V, **attrs: Any) -> tuple[V]:
    """ct is split evenly among the smallest elements."""
    return _extremum(build, ct, y, x, **attrs)


@vjp(ops.cumsum)
def cumsum(build: Builder[V], ct: V, y: V, x: V, *, axis: int) -> tuple[V]:
    """x[i] is in every sum from the i-th on: sum ct from the end."""
    return (build(ops.flip, build(ops.cumsum, build(ops.flip, ct, axes=(axis,)), axis=axis), axes=(axis,)),)


no_gradient(ops.argmax, "an index does not vary")
no_gradient(ops.argmin, "an index does not vary")
