"""Derivatives of movement: where an element was read, its cotangent is added up."""

from __future__ import annotations

from ...ir import ops
from ...ir.builder import Builder, full, reduce, scalar, sum_to
from ...ir.dtypes import int64
from ...ir.expr import Dim
from ...ir.types import TensorType
from .rules import V, like, vjp

Dims = tuple[Dim, ...]


@vjp(ops.reshape)
def reshape(build: Builder[V], ct: V, y: V, x: V, *, shape: Dims) -> tuple[V]:
    """Reshaped back."""
    return (build(ops.reshape, ct, shape=build.type_of(x).shape),)


@vjp(ops.permute)
def permute(build: Builder[V], ct: V, y: V, x: V, *, perm: tuple[int, ...]) -> tuple[V]:
    """The inverse permutation."""
    return (build(ops.permute, ct, perm=tuple(perm.index(a) for a in range(len(perm)))),)


@vjp(ops.expand)
def expand(build: Builder[V], ct: V, y: V, x: V, *, shape: Dims) -> tuple[V]:
    """The copies' cotangents summed."""
    return (sum_to(build, ct, build.type_of(x).shape),)


@vjp(ops.slice_)
def slice_(build: Builder[V], ct: V, y: V, x: V, *, starts: Dims, stops: Dims, steps: Dims) -> tuple[V]:
    """Zeros where nothing was read."""
    have, shape = build.type_of(ct).shape, build.type_of(x).shape
    ends = tuple(_end(lo, n, step) for lo, n, step in zip(starts, have, steps, strict=True))
    zero = scalar(build, 0, build.type_of(x).dtype)
    hi = tuple(n - end for n, end in zip(shape, ends, strict=True))
    return (build(ops.pad, ct, zero, lo=starts, hi=hi, interior=tuple(s - 1 for s in steps)),)


def _end(start: Dim, size: Dim, step: Dim) -> Dim:
    """One past the last element of a slice."""
    return start if size == 0 else start + (size - 1) * step + 1


@vjp(ops.update_slice)
def update_slice(build: Builder[V], ct: V, y: V, x: V, v: V, *, starts: Dims, steps: Dims) -> tuple[V, V]:
    """v gets the cotangent of its place, x the rest."""
    sizes = build.type_of(v).shape
    stops = tuple(_end(lo, n, step) for lo, n, step in zip(starts, sizes, steps, strict=True))
    dx = build(ops.update_slice, ct, like(build, 0, v), starts=starts, steps=steps)
    return dx, build(ops.slice_, ct, starts=starts, stops=stops, steps=steps)


@vjp(ops.pad)
def pad(build: Builder[V], ct: V, y: V, x: V, value: V, *, lo: Dims, hi: Dims, interior: Dims) -> tuple[V, V]:
    """x gets the cotangent of its places, the padding value the sum of all others."""
    shape = build.type_of(x).shape
    steps = tuple(i + 1 for i in interior)
    stops = tuple(_end(a, n, step) for a, n, step in zip(lo, shape, steps, strict=True))
    around = build(ops.update_slice, ct, like(build, 0, x), starts=lo, steps=steps)
    total = reduce(build, ops.reduce_sum, around, range(len(shape)))
    return build(ops.slice_, ct, starts=lo, stops=stops, steps=steps), total


@vjp(ops.flip)
def flip(build: Builder[V], ct: V, y: V, x: V, *, axes: tuple[int, ...]) -> tuple[V]:
    """Flipped back."""
    return (build(ops.flip, ct, axes=axes),)


@vjp(ops.concat)
def concat(build: Builder[V], ct: V, y: V, *xs: V, axis: int) -> tuple[V, ...]:
    """Each operand gets its piece."""
    shape = build.type_of(ct).shape
    steps = (1,) * len(shape)
    pieces: list[V] = []
    at: Dim = 0
    for x in xs:
        end = at + build.type_of(x).shape[axis]
        starts = tuple(at if a == axis else 0 for a in range(len(shape)))
        stops = tuple(end if a == axis else n for a, n in enumerate(shape))
        pieces.append(build(ops.slice_, ct, starts=starts, stops=stops, steps=steps))
        at = end
    return tuple(pieces)


@vjp(ops.window)
def window(
    build: Builder[V],
    ct: V,
    y: V,
    x: V,
    *,
    axes: tuple[int, ...],
    sizes: Dims,
    strides: Dims,
    dilations: Dims,
) -> tuple[V]:
    """Overlapping windows added up."""
    shape = tuple(build.type_of(x).shape[a] for a in axes)
    return (build(ops.fold, ct, shape=shape, axes=axes, strides=strides, dilations=dilations),)


@vjp(ops.fold)
def fold(
    build: Builder[V],
    ct: V,
    y: V,
    x: V,
    *,
    shape: Dims,
    axes: tuple[int, ...],
    strides: Dims,
    dilations: Dims,
) -> tuple[V]:
    """Each window gets the cotangent of the places it was added to."""
    shape_x = build.type_of(x).shape
    sizes = shape_x[len(shape_x) - len(axes) :]
    return (build(ops.window, ct, axes=axes, sizes=sizes, strides=strides, dilations=dilations),)


@vjp(ops.as_strided)
def as_strided(build: Builder[V], ct: V, y: V, x: V, *, shape: Dims, strides: Dims, offset: Dim) -> tuple[V]:
    """Copies (axes of stride 0) are summed first; then every place is written, or, if places coincide, added
    to."""
    have = build.type_of(x)
    once = tuple(1 if s == 0 else n for n, s in zip(shape, strides, strict=True))
    if 0 not in shape:
        ct = sum_to(build, ct, once)
    if 0 in shape or _places_differ(once, strides):
        zero = like(build, 0, x)
        return (build(ops.as_strided_update, zero, ct, strides=strides, offset=offset),)
    flat = full(build, 0, TensorType(have.dtype, (have.numel,)))
    places = _places(build, once, strides, offset)
    added = build(ops.scatter_add, flat, ct, places, axes=(0,))
    return (build(ops.reshape, added, shape=have.shape),)


def _places_differ(shape: Dims, strides: Dims) -> bool:
    """Whether no two elements of such a view share a place, told by each stride exceeding the reach of all
    finer ones."""
    reach: Dim = 0
    axes = [(s, n) for n, s in zip(shape, strides, strict=True) if n != 1]
    if not all(isinstance(v, int) for pair in axes for v in pair):
        return False
    for stride, size in sorted((abs(s), n) for s, n in axes):  # type: ignore[arg-type]
        if stride <= reach:  # type: ignore[operator]
            return False
        reach = reach + (size - 1) * stride
    return True


def _places(build: Builder[V], shape: Dims, strides: Dims, offset: Dim) -> V:
    """i64[shape]: the place in the flat storage of each element of the view."""
    type_ = TensorType(int64, shape)
    total = full(build, offset, type_)
    for axis, stride in enumerate(strides):
        count = build(ops.iota, shape=shape, axis=axis, dtype=int64)
        total = build(ops.add, total, build(ops.mul, count, full(build, stride, type_)))
    return total


@vjp(ops.as_strided_update)
def as_strided_update(
    build: Builder[V], ct: V, y: V, x: V, v: V, *, strides: Dims, offset: Dim
) -> tuple[V, V]:
    """v gets the cotangent of its places, x the rest."""
    dx = build(ops.as_strided_update, ct, like(build, 0, v), strides=strides, offset=offset)
    shape = build.type_of(v).shape
    return dx, build(ops.as_strided, ct, shape=shape, strides=strides, offset=offset)
