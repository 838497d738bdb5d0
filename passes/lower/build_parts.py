"""Writes the operations that make their result in parts or in order, one rule each: cumulative sums,
concatenation, scatter, overwriting of slices, checks.

An operation that overwrites its first operand finds that operand's elements in the memory of its result
(`legalize` has seen to it).
"""

from __future__ import annotations

from collections.abc import Callable

from ...ir import ops
from ...ir.dtypes import int64
from ...ir.expr import Dim, floordiv, product, symbol
from ...ir.graph import Operation, Value
from ...ir.kernel import Local, Loop
from ...ir.opdef import OpDef
from ...ir.ops.sorting import scratch_words
from ...ir.types import row_major_strides
from .attributes import axis_of, dims, ints
from .build_tiles import write_into_tiles
from .groups import Group
from .index import Index, Shape, linear, storage_place
from .legalize import unreshaped
from .values import data_places
from .writer import KernelWriter, Scratch

Rule = Callable[[KernelWriter, Operation], None]

RULES: dict[OpDef, Rule] = {}

#: So many parts of one shape are written in one loop: more would be too many streams of memory at once.
MOST_TOGETHER = 6
#: Elements of an operand that lie together in a concatenation, from which on they are a long run.
LONG_RUN = 64
#: Scratch memory of one sort that may lie on the stack, in words; long lines that are sorted at a time.
MOST_LOCAL_WORDS, LINES_AT_A_TIME = 32 << 10, 8


def build_parts(writer: KernelWriter, group: Group) -> None:
    """Write the one operation of the group."""
    RULES[group.anchor.opdef](writer, group.anchor)


def _rule(*opdefs: OpDef) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(opdefs, rule))
        return rule

    return register


@_rule(ops.check)
def _check(writer: KernelWriter, op: Operation) -> None:
    ok = op.operands[0]
    error, message = op.attrs["error"], op.attrs["message"]
    writer.check(writer.read(ok, ()), str(error), str(message), op.location)


@_rule(ops.concat)
def _concat(writer: KernelWriter, op: Operation) -> None:
    """One loop nest per operand; one for all, what they share being computed once, if they are computed, few
    and of one shape. Long runs from memory are written in the order in which they lie."""
    axis = axis_of(op)
    sizes = [x.type.shape[axis] for x in op.operands]
    starts = [sum(sizes[:at], 0 * sizes[0]) for at in range(len(sizes))]

    def store(x: Value, index: Index, start: Dim) -> None:
        at = (*index[:axis], index[axis] + start, *index[axis + 1 :])
        writer.store_element(op.result, at, writer.read(x, index))

    from_memory = all(map(writer.in_memory, op.operands))
    if from_memory and all(_is_long(product(x.type.shape[axis:])) for x in op.operands):
        with writer.loops(op.result.type.shape[:axis], "parallel") as outer:
            for x, start in zip(op.operands, starts, strict=True):
                with writer.loops(x.type.shape[axis:], "vector") as inner:
                    store(x, (*outer, *inner), start)
        return
    if len({x.type for x in op.operands}) == 1 and len(op.operands) <= MOST_TOGETHER:
        with writer.loops(op.operands[0].type.shape, "vector") as index:
            for x, start in zip(op.operands, starts, strict=True):
                store(x, index, start)
        return
    for x, start in zip(op.operands, starts, strict=True):
        with writer.loops(x.type.shape, "vector") as index:
            store(x, index, start)


def _is_long(run: Dim) -> bool:
    return isinstance(run, int) and run >= LONG_RUN


@_rule(ops.into_tiles)
def _into_tiles(writer: KernelWriter, op: Operation) -> None:
    write_into_tiles(writer, op)


@_rule(ops.update_slice)
def _update_slice(writer: KernelWriter, op: Operation) -> None:
    _, v = op.operands
    starts, steps = dims(op, "starts"), dims(op, "steps")
    writer.updates(op.result)
    with writer.loops(v.type.shape, "vector") as index:
        at = tuple(lo + i * s for lo, i, s in zip(starts, index, steps, strict=True))
        writer.store_element(op.result, at, writer.read(v, index))


@_rule(ops.as_strided_update)
def _as_strided_update(writer: KernelWriter, op: Operation) -> None:
    """Where places of the view coincide the last value stays: then the loops run in order."""
    _, v = op.operands
    strides = dims(op, "strides")
    writer.updates(op.result)
    shape = v.type.shape
    kinds = ("parallel", "vector") if _distinct(shape, strides) else ("serial", "serial")
    with writer.loops(shape, kinds[1], outer=kinds[0]) as index:
        place = storage_place(op, index)
        writer.store(op.result, place, writer.read(v, index))


def _distinct(shape: Shape, strides: Shape) -> bool:
    """Whether no two indices surely have one place: each stride steps over all that smaller ones reach."""
    axes: list[tuple[int, int]] = []
    for s, d in zip(strides, shape, strict=True):
        if not isinstance(s, int) or not isinstance(d, int):
            return False
        if d != 1:
            axes.append((abs(s), d))
    reach = 0
    for step, count in sorted(axes):
        if step <= reach:
            return False
        reach += step * (count - 1)
    return True


@_rule(ops.scatter, ops.scatter_add)
def _scatter(writer: KernelWriter, op: Operation) -> None:
    """In row-major order of the indices; each writes a slice."""
    base, values, *indices = op.operands
    axes = ints(op, "axes")
    writer.updates(op.result)
    if indices[0].type.numel == 0:
        return
    rest = tuple(d for a, d in enumerate(base.type.shape) if a not in axes)
    with writer.loops(indices[0].type.shape, "serial", outer="serial") as at:
        places = [writer.read(i, at) for i in indices]
        chosen, inside = data_places(writer, op, base, places, ())
        with writer.loops(rest, "vector") as index:
            left = iter(index)
            place = _place(
                base, tuple(chosen[axes.index(a)] if a in axes else next(left) for a in range(base.type.rank))
            )
            scalar = writer.read(values, (*at, *index))
            if op.opdef is ops.scatter_add:
                scalar = writer.compute(ops.add, writer.load_again(op.result, place, inside), scalar)
            writer.store(op.result, place, scalar, inside)


def _place(value: Value, index: Index) -> Dim:
    return linear(index, row_major_strides(value.type.shape))


@_rule(ops.cumsum)
def _cumsum(writer: KernelWriter, op: Operation) -> None:
    """A serial loop along the axis that carries the sum, in loops over the other axes."""
    (x,) = op.operands
    axis = axis_of(op)
    shape = x.type.shape
    last = all(d == 1 for d in shape[axis + 1 :])
    outer = (*shape[:axis], 1, *shape[axis + 1 :])
    with writer.loops(outer, "parallel" if last else "vector") as index:
        start = writer.constant(0, x.type.dtype)
        line = writer.axis(shape[axis])
        with writer.body([line]) as statements:
            before = writer.scalar(x.type.dtype)
            at = (*index[:axis], symbol(line.name), *index[axis + 1 :])
            total = writer.compute(ops.add, before, writer.read(x, at))
            writer.store_element(op.result, at, total)
        final = writer.scalar(x.type.dtype)
        writer.add(Loop(line, "serial", tuple(statements), ((before, start),), (total,), (final,)))


@_rule(ops.argsort)
def _argsort(writer: KernelWriter, op: Operation) -> None:
    """Line by line. Scratch memory of lines that are not long is the loop's own; of long ones there is as
    much as for a few lines at a time, which then run one after the other."""
    (x,) = op.operands
    lines, length, count = product(x.type.shape[:-1]), x.type.shape[-1], op.result.type.shape[-1]
    words, descending = scratch_words(x.type.dtype, length, count), bool(op.attrs["descending"])

    def sort(line: Dim, scratch: Scratch | Local, by: Dim) -> None:
        at, to = line * length, line * count
        writer.sort(unreshaped(x), at, op.result, to, scratch, by, length, count, descending)

    if isinstance(words, int) and words <= MOST_LOCAL_WORDS:
        with writer.loop("parallel", lines) as line:
            local = Local("scratch", int64, words)
            writer.add(local)
            sort(line, local, 0)
        return
    at_a_time = min(lines, LINES_AT_A_TIME) if isinstance(lines, int) else LINES_AT_A_TIME
    scratch = Scratch(int64, at_a_time * words)
    turns = floordiv(lines, at_a_time)
    with writer.loop("parallel", at_a_time) as part, writer.loop("serial", turns) as turn:
        sort(part * turns + turn, scratch, part * words)
    if (left := lines - turns * at_a_time) != 0:
        with writer.loop("parallel", left) as rest:
            sort(turns * at_a_time + rest, scratch, rest * words)
