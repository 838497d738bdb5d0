"""Rules for reshape, permute, expand, flip, concat and splats. All exact: they move elements and compute
nothing.

Canonical forms: a splat is `expand(reshape(constant))`; of a chain of reshapes or of permutes one is left; a
permute that moves only axes of size 1 is a reshape; elementwise operations come before `expand`.
"""

from __future__ import annotations

from ...ir import ops
from ...ir.builder import broadcast
from ...ir.expr import Dim
from ...ir.graph import Operation, Value
from ...ir.opdef import ALL
from ...ir.types import Literal
from .driver import Rewriter, rewrites
from .patterns import ints, operand_of, producer, splat_of, uniform, without_units


@rewrites(ops.constant)
def constant_of_copies(op: Operation, build: Rewriter) -> Value | None:
    """constant([c, c, ...]) -> expand(constant(c))."""
    literal = op.attrs["value"]
    assert isinstance(literal, Literal)
    number = uniform(literal)
    return _splat(build, number, op.result) if number is not None and literal.shape else None


@rewrites(ops.reshape, ops.permute, ops.expand, ops.slice_, ops.flip, ops.window, ops.as_strided)
def movement_of_splat(op: Operation, build: Rewriter) -> Value | None:
    """A splat of any other form -> the canonical one."""
    if _is_canonical(op):
        return None
    number = splat_of(op.operands[0])
    return _splat(build, number, op.result) if number is not None else None


def _is_canonical(op: Operation) -> bool:
    """Whether this is a `reshape` of a rank-0 constant to (1, ..., 1), or an `expand` of one."""
    spread = op
    if op.opdef is ops.expand and op.operands[0].type.shape != op.result.type.shape:
        inner = producer(op.operands[0], ops.reshape)
        if inner is None:
            return False
        spread = inner
    if spread.opdef is not ops.reshape or any(d != 1 for d in spread.result.type.shape):
        return False
    return not spread.operands[0].type.shape and producer(spread.operands[0], ops.constant) is not None


def _splat(build: Rewriter, number: Literal, like: Value) -> Value:
    return broadcast(build, build(ops.constant, value=number), like.type.shape)


@rewrites(ops.reshape)
def reshape_to_same(op: Operation, build: Rewriter) -> Value | None:
    """reshape(x) -> x where the shape stays."""
    (x,) = op.operands
    return x if x.type == op.result.type else None


@rewrites(ops.reshape)
def reshape_of_reshape(op: Operation, build: Rewriter) -> Value | None:
    """reshape(reshape(x)) -> reshape(x)."""
    x = operand_of(op.operands[0], ops.reshape)
    return build(ops.reshape, x, shape=op.result.type.shape) if x is not None else None


@rewrites(ops.permute)
def permute_of_nothing(op: Operation, build: Rewriter) -> Value | None:
    """permute(x) -> x, or reshape(x) where only axes of size 1 move past others."""
    (x,) = op.operands
    perm = ints(op.attrs["perm"])
    if perm == tuple(range(len(perm))):
        return x
    kept = [p for p in perm if x.type.shape[p] != 1]
    return build(ops.reshape, x, shape=op.result.type.shape) if kept == sorted(kept) else None


@rewrites(ops.permute)
def permute_of_permute(op: Operation, build: Rewriter) -> Value | None:
    """permute(permute(x, p), q) -> permute(x, p after q)."""
    inner = producer(op.operands[0], ops.permute)
    if inner is None:
        return None
    first = ints(inner.attrs["perm"])
    return build(ops.permute, inner.operands[0], perm=tuple(first[p] for p in ints(op.attrs["perm"])))


@rewrites(ops.permute)
def permute_of_expand(op: Operation, build: Rewriter) -> Value | None:
    """permute(expand(x)) -> expand(permute(x)).  Fewer elements move, and expands sink towards their uses."""
    inner = producer(op.operands[0], ops.expand)
    if inner is None:
        return None
    moved = build(ops.permute, inner.operands[0], perm=op.attrs["perm"])
    return build(ops.expand, moved, shape=op.result.type.shape)


@rewrites(ops.expand)
def expand_to_same(op: Operation, build: Rewriter) -> Value | None:
    """expand(x) -> x where the shape stays."""
    (x,) = op.operands
    return x if x.type == op.result.type else None


@rewrites(ops.expand)
def expand_of_expand(op: Operation, build: Rewriter) -> Value | None:
    """expand(expand(x)) -> expand(x)."""
    x = operand_of(op.operands[0], ops.expand)
    return build(ops.expand, x, shape=op.result.type.shape) if x is not None else None


@rewrites(ops.reshape)
def reshape_of_expand(op: Operation, build: Rewriter) -> Value | None:
    """reshape(expand(x)) -> expand(reshape(x)) where the reshape only adds or drops axes of size 1."""
    inner = producer(op.operands[0], ops.expand)
    if inner is None or without_units(op.result.type.shape) != without_units(inner.result.type.shape):
        return None
    (x,) = inner.operands
    sources = [a for a, b in zip(x.type.shape, inner.result.type.shape, strict=True) if b != 1]
    left = iter(sources)
    shape = tuple(1 if d == 1 else next(left) for d in op.result.type.shape)
    return build(ops.expand, build(ops.reshape, x, shape=shape), shape=op.result.type.shape)


@rewrites(*(d for d in ALL.values() if d.elementwise and not d.may_raise))
def elementwise_of_expand(op: Operation, build: Rewriter) -> Value | None:
    """f(expand(x), expand(y)) -> expand(f(x, y)): no element is computed twice.

    Where the operands are repeated along different axes, f is computed on those along which any one varies.
    An operation that can raise stays: expanded to size 0 it has nothing to raise about.
    """
    shape = op.result.type.shape
    sources = [_source_shape(v) for v in op.operands]
    varying = tuple(_joined(sizes) for sizes in zip(*sources, strict=True))
    if varying == shape or all(splat_of(v) is not None for v in op.operands):
        return None
    arguments = [_repeated(build, v, varying) for v in op.operands]
    return build(ops.expand, build(op.opdef, *arguments, **op.attrs), shape=shape)


def _source_shape(value: Value) -> tuple[Dim, ...]:
    inner = operand_of(value, ops.expand)
    return value.type.shape if inner is None else inner.type.shape


def _joined(sizes: tuple[Dim, ...]) -> Dim:
    return next((d for d in sizes if d != 1), 1)


def _repeated(build: Rewriter, value: Value, shape: tuple[Dim, ...]) -> Value:
    inner = operand_of(value, ops.expand)
    source = value if inner is None else inner
    return source if source.type.shape == shape else build(ops.expand, source, shape=shape)


@rewrites(ops.flip)
def flip_of_short_axes(op: Operation, build: Rewriter) -> Value | None:
    """flip(x) without the axes of size 1 or 0; of none -> x."""
    (x,) = op.operands
    axes = ints(op.attrs["axes"])
    long = tuple(a for a in axes if x.type.shape[a] not in (0, 1))
    if long == axes and axes:
        return None
    return build(ops.flip, x, axes=long) if long else x


@rewrites(ops.flip)
def flip_of_flip(op: Operation, build: Rewriter) -> Value | None:
    """flip(flip(x, a), b) -> flip(x, axes in one of a and b)."""
    inner = producer(op.operands[0], ops.flip)
    if inner is None:
        return None
    axes = tuple(sorted(set(ints(inner.attrs["axes"])) ^ set(ints(op.attrs["axes"]))))
    return build(ops.flip, inner.operands[0], axes=axes) if axes else inner.operands[0]


@rewrites(ops.concat)
def concat_of_one(op: Operation, build: Rewriter) -> Value | None:
    """concat(x) -> x."""
    return op.operands[0] if len(op.operands) == 1 else None


@rewrites(ops.concat)
def concat_of_empty(op: Operation, build: Rewriter) -> Value | None:
    """concat(x, empty, y) -> concat(x, y)."""
    axis = op.attrs["axis"]
    assert isinstance(axis, int)
    kept = [v for v in op.operands if v.type.shape[axis] != 0]
    if len(kept) == len(op.operands):
        return None
    return build(ops.concat, *kept, axis=axis) if kept else op.operands[0]


@rewrites(ops.concat)
def concat_of_concat(op: Operation, build: Rewriter) -> Value | None:
    """concat(x, concat(y, z)) -> concat(x, y, z) along one axis, if the inner one has no other use."""
    inner = [producer(v, ops.concat) for v in op.operands]
    joins = [
        made is not None and made.attrs["axis"] == op.attrs["axis"] and build.has_one_use(v)
        for v, made in zip(op.operands, inner, strict=True)
    ]
    if not any(joins):
        return None
    parts: list[Value] = []
    for value, made, join in zip(op.operands, inner, joins, strict=True):
        parts.extend(made.operands if join and made is not None else (value,))
    return build(ops.concat, *parts, axis=op.attrs["axis"])


@rewrites(ops.concat)
def concat_of_splats(op: Operation, build: Rewriter) -> Value | None:
    """concat(c, c, ...) -> c, of the same splat."""
    numbers = {splat_of(v) for v in op.operands}
    (number, *others) = numbers
    return _splat(build, number, op.result) if number is not None and not others else None


@rewrites(ops.pad)
def pad_of_splat(op: Operation, build: Rewriter) -> Value | None:
    """pad(c) with c around it -> c."""
    x, value = op.operands
    number = splat_of(x)
    return _splat(build, number, op.result) if number is not None and number == splat_of(value) else None


@rewrites(ops.iota)
def iota_of_many_axes(op: Operation, build: Rewriter) -> Value | None:
    """iota of rank 2 and more -> expand(reshape(iota of rank 1)): the count varies along one axis only."""
    axis, shape = op.attrs["axis"], op.result.type.shape
    assert isinstance(axis, int)
    if all(n == 1 for a, n in enumerate(shape) if a != axis):
        return None
    line = build(ops.iota, shape=(shape[axis],), axis=0, dtype=op.attrs["dtype"])
    column = tuple(n if a == axis else 1 for a, n in enumerate(shape))
    return broadcast(build, build(ops.reshape, line, shape=column), shape)
