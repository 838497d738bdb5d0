"""How each primitive's element is computed from elements of its operands: one rule per primitive.

A rule gets (writer, operation, index of the element, guards) and gives the scalar. Guards say where the
element is needed at all: outside them a rule may give anything, and must touch no memory. Elementwise
primitives and plain movement (`index.MOVED`) need no rule of their own. Contractions, scatters, cumulative
sums and updates of parts have none: they are written by the `build_*` modules, and their results are read
from memory or known from the loop around.
"""

from __future__ import annotations

from collections.abc import Callable

from ...ir import ops
from ...ir.dtypes import int64
from ...ir.expr import Dim
from ...ir.graph import Operation, Value
from ...ir.kernel import Guard, Scalar
from ...ir.opdef import OpDef
from ...ir.types import row_major_strides
from ..simplify.patterns import splat_of, uniform
from .attributes import axis_of, dims, ints, literal_of
from .index import Index, divided, linear, moved, storage_place, within
from .writer import Guards, KernelWriter

Rule = Callable[[KernelWriter, Operation, Index, Guards], Scalar]

RULES: dict[OpDef, Rule] = {}


def evaluate(writer: KernelWriter, value: Value, index: Index, guards: Guards) -> Scalar:
    """The element of a value that does not lie in memory."""
    op = value.operation
    assert op is not None, f"{value!r} is an input, yet not in memory"
    rule = RULES.get(op.opdef)
    if rule is not None:
        return rule(writer, op, index, guards)
    if op.opdef.elementwise:
        return writer.compute(op.opdef, *(writer.read(x, index, guards) for x in op.operands), **op.attrs)
    below = moved(op, index, writer.extents)
    assert below is not None, f"no rule computes an element of {op.opdef.name}"
    return writer.read(op.operands[0], below, guards)


def _rule(*opdefs: OpDef) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(opdefs, rule))
        return rule

    return register


# Creation.


@_rule(ops.constant)
def _constant(writer: KernelWriter, op: Operation, index: Index, guards: Guards) -> Scalar:
    value = uniform(literal_of(op))
    assert value is not None, "a constant with different elements lies in memory"
    return writer.const(value)


@_rule(ops.iota)
def _iota(writer: KernelWriter, op: Operation, index: Index, guards: Guards) -> Scalar:
    dtype = op.result.type.dtype
    place = writer.index(index[axis_of(op)])
    return place if dtype is int64 else writer.compute(ops.cast, place, dtype=dtype)


# Integer division, which stops at a zero.


@_rule(ops.floor_div, ops.rem)
def _division(writer: KernelWriter, op: Operation, index: Index, guards: Guards) -> Scalar:
    x, y = (writer.read(v, index, guards) for v in op.operands)
    if y.dtype.is_integer:
        ok = writer.compute(ops.ne, y, writer.constant(0, y.dtype))
        writer.check(ok, "RuntimeError", "ZeroDivisionError: integer division or modulo by zero", op.location)
        y = writer.compute(ops.select, ok, y, writer.constant(1, y.dtype))
    return writer.compute(op.opdef, x, y)


# Movement.


@_rule(ops.reshape, ops.as_strided)
def _relinearised(writer: KernelWriter, op: Operation, index: Index, guards: Guards) -> Scalar:
    """A reshape of what lies in memory in row-major order needs no index over the operand's axes."""
    (x,) = op.operands
    if writer.in_memory(x) and x.strides is None:
        shape = op.result.type.shape
        place = (
            storage_place(op, index)
            if op.opdef is ops.as_strided
            else linear(index, row_major_strides(shape))
        )
        return writer.load(x, place, guards)
    below = moved(op, index, writer.extents)
    assert below is not None
    return writer.read(x, below, guards)


@_rule(ops.pad)
def _pad(writer: KernelWriter, op: Operation, index: Index, guards: Guards) -> Scalar:
    x, value = op.operands
    found = _padding(op, index, writer)
    if found is None:
        return writer.read(value, (), guards)
    inside, below = found
    if not inside:
        return writer.read(x, below, guards)
    place = writer.place(x, below)
    literal = splat_of(value)
    if place is not None and literal is not None:
        return writer.load(*place, (*guards, *inside), literal)
    return writer.compute(
        ops.select,
        writer.holds(inside),
        writer.read(x, below, (*guards, *inside)),
        writer.read(value, (), guards),
    )


def _padding(op: Operation, index: Index, writer: KernelWriter) -> tuple[Guards, Index] | None:
    """(guards that hold inside the padded operand, index into it); None if the element surely lies
    outside."""
    inside: list[Guard] = []
    below: list[Dim] = []
    sides = (op.operands[0].type.shape, dims(op, "lo"), dims(op, "interior"))
    for i, d, lo, interior in zip(index, *sides, strict=True):
        at, rest = divided(i - lo, interior + 1, writer.extents)
        if isinstance(rest, int) and rest != 0:
            return None
        if rest != 0:
            inside.append(Guard(rest, 0, 1))
        if not within(at, 0, d, writer.extents):
            inside.append(Guard(at, 0, d))
        below.append(at)
    return tuple(inside), tuple(below)


@_rule(ops.concat)
def _concat(writer: KernelWriter, op: Operation, index: Index, guards: Guards) -> Scalar:
    axis = axis_of(op)
    result: Scalar | None = None
    start: Dim = 0
    for x in op.operands:
        stop = start + x.type.shape[axis]
        below = (*index[:axis], index[axis] - start, *index[axis + 1 :])
        if within(index[axis], start, stop, writer.extents):
            return writer.read(x, below, guards)
        if start != stop:
            inside = Guard(index[axis], start, stop)
            part = writer.read(x, below, (*guards, inside))
            result = (
                part if result is None else writer.compute(ops.select, writer.holds((inside,)), part, result)
            )
        start = stop
    return result if result is not None else writer.constant(0, op.result.type.dtype)


@_rule(ops.fold)
def _fold(writer: KernelWriter, op: Operation, index: Index, guards: Guards) -> Scalar:
    """The windows that an element takes part in, added up in order of its place within them, starting from
    zero. Places that take no part add +0, which changes no sum: a sum that starts from +0 is never -0."""
    (ct,) = op.operands
    rank = op.result.type.rank
    axes, strides, dilations = ints(op, "axes"), dims(op, "strides"), dims(op, "dilations")
    sizes = ct.type.shape[rank:]
    if strides == sizes and all(d == 1 for d in dilations):
        at, place = list(index), []
        for axis, size in zip(axes, sizes, strict=True):
            at[axis], inner = divided(index[axis], size, writer.extents)
            place.append(inner)
        term = _window_term(writer, ct, tuple(at), tuple(place), axes, guards)
        return writer.compute(ops.add, writer.constant(0, term.dtype), term)
    with writer.reduction(ops.reduce_sum, "sequential", sizes, writer.depth(index, guards)) as sum_:
        at, rests = list(index), []
        for axis, k, stride, dilation in zip(axes, sum_.index, strides, dilations, strict=True):
            at[axis], rest = divided(index[axis] - k * dilation, stride, writer.extents)
            rests += [Guard(rest, 0, 1)] if rest != 0 else []
        sum_.value = _window_term(writer, ct, tuple(at), sum_.index, axes, (*guards, *rests))
    return sum_.result


def _window_term(
    writer: KernelWriter, ct: Value, at: Index, place: Index, axes: tuple[int, ...], guards: Guards
) -> Scalar:
    """ct[at, place], zero where there is no such window or the guards fail."""
    missing = [a for a in axes if not within(at[a], 0, ct.type.shape[a], writer.extents)]
    inside = (*guards, *(Guard(at[a], 0, ct.type.shape[a]) for a in missing))
    term = writer.read(ct, (*at, *place), inside)
    if not inside or writer.in_memory(ct):
        return term
    return writer.compute(ops.select, writer.holds(inside), term, writer.constant(0, term.dtype))


# Reductions.


@_rule(ops.reduce_sum, ops.reduce_prod, ops.reduce_max, ops.reduce_min, ops.argmax, ops.argmin)
def _reduce(writer: KernelWriter, op: Operation, index: Index, guards: Guards) -> Scalar:
    (x,) = op.operands
    axes = ints(op, "axes")
    shape = tuple(x.type.shape[a] for a in axes)
    with writer.reduction(op.opdef, str(op.attrs["order"]), shape, writer.depth(index, guards)) as made:
        kept, reduced = iter(index), iter(made.index)
        below = tuple(next(reduced) if a in axes else next(kept) for a in range(x.type.rank))
        made.value = writer.read(x, below, guards)
    return made.result


# Indexing by data.


@_rule(ops.gather)
def _gather(writer: KernelWriter, op: Operation, index: Index, guards: Guards) -> Scalar:
    x, *indices = op.operands
    axes = ints(op, "axes")
    rank = indices[0].type.rank
    places = [writer.read(i, index[:rank], guards) for i in indices]
    chosen, inside = data_places(writer, op, x, places, guards)
    rest = iter(index[rank:])
    below = tuple(chosen[axes.index(a)] if a in axes else next(rest) for a in range(x.type.rank))
    return writer.read(x, below, (*guards, *inside))


def data_places(
    writer: KernelWriter, op: Operation, x: Value, places: list[Scalar], guards: Guards
) -> tuple[list[Dim], Guards]:
    """Indices into the axes `op.attrs["axes"]` of x from scalars, negative ones counted from the end, and
    the guards under which they lie within x; checks that they do (where `guards` hold)."""
    chosen: list[Dim] = []
    inside: list[Guard] = []
    for axis, place in zip(ints(op, "axes"), places, strict=True):
        size: Dim = x.type.shape[axis]
        limit, zero = writer.index(size), writer.constant(0, int64)
        from_end = writer.compute(ops.add, place, limit)
        wrapped = writer.compute(ops.select, writer.compute(ops.lt, place, zero), from_end, place)
        above = writer.compute(ops.ge, wrapped, zero)
        ok = writer.compute(ops.bit_and, above, writer.compute(ops.lt, wrapped, limit))
        if guards:
            ok = writer.compute(ops.bit_or, ok, writer.compute(ops.bit_not, writer.holds(guards)))
        message = f"index is out of bounds for dimension {axis} with size {size}"
        writer.check(ok, "IndexError", message, op.location)
        chosen.append(writer.symbol(wrapped))
        inside.append(Guard(chosen[-1], 0, size))
    return chosen, tuple(inside)
