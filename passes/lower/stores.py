"""Which values are written to memory; the others are computed where they are read.

A value is stored if another group reads it. It is not stored after all if reading it can be left to
computing it anew, at no loss: its only reader is one other group that reads each element once, or it takes
a few cheap operations on what lies in memory anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ...ir import ops
from ...ir.expr import Dim, evaluate, product, symbols_of
from ...ir.graph import Graph, Operation, Value
from ...ir.opdef import OpDef
from ..simplify.patterns import uniform
from .attributes import literal_of
from .groups import CONTRACT, POINTWISE, ROWS, Group, is_free, leaves_of, moves_of

#: Cycles per element of the elementwise ops that take more than one or two.
COST: dict[OpDef, int] = {
    **dict.fromkeys((ops.div, ops.sqrt, ops.rsqrt), 4),
    **dict.fromkeys((ops.floor_div, ops.rem), 12),
    **dict.fromkeys((ops.exp, ops.exp2, ops.log, ops.sin, ops.cos, ops.tanh, ops.erf), 16),
    **dict.fromkeys((ops.sigmoid, ops.softplus, ops.silu, ops.gelu, ops.gelu_tanh, ops.gelu_slope), 16),
    **dict.fromkeys((ops.pow_, ops.philox, ops.expm1, ops.log2, ops.log10, ops.log1p, ops.tan), 40),
    **dict.fromkeys((ops.asin, ops.acos, ops.atan, ops.atan2, ops.sinh, ops.cosh), 40),
    **dict.fromkeys((ops.asinh, ops.acosh, ops.atanh, ops.erfc, ops.erfinv), 60),
    **dict.fromkeys((ops.lgamma, ops.digamma, ops.polygamma), 200),
}

#: Cycles per element of movement that has to be decided for each element.
MOVE_COST: dict[OpDef, int] = {ops.pad: 4, ops.concat: 4}

#: Computing a value anew for several readers, or several times for one, may cost this many cycles per
#: element...
CHEAP = 6
#: ... and read this many times the value's bytes.
MORE_BYTES = 1.25
#: Bytes of a matrix from which on storing less pays more than computing twice. Measured: attention with
#: gradients, 128 rows 12.8 ms against 13.1, 256 alike, 512 rows 48.5 against 47.5, 2048 rows 413 against 396.
MATRIX = 1 << 20

#: No more operations than this are moved into a reader: kernels stay of a size that compiles fast.
MOST_ANEW = 40

#: What an unknown size is taken to be.
TYPICAL_SIZE = 64


def cost(op: Operation) -> int:
    """Cycles per element, roughly."""
    return COST.get(op.opdef, 1)


def estimate(dim: Dim) -> int:
    """A size, with a typical number for what is known at run time only."""
    return dim if isinstance(dim, int) else evaluate(dim, dict.fromkeys(symbols_of(dim), TYPICAL_SIZE))


@dataclass
class Reader:
    """An operation that reads a homed value through an operand of `numel` elements."""

    op: Operation
    numel: int


@dataclass
class Stores:
    """stored: homed values that are written to memory. constants: those that are not one element repeated,
    which lie in memory too. Mutable while `choose_stored` works."""

    home: dict[Value, Group]
    constants: set[Value]
    stored: set[Value] = field(default_factory=set)
    readers: dict[Value, list[Reader]] = field(default_factory=dict)
    leaves: dict[Operation, tuple[Value, ...]] = field(default_factory=dict)

    def in_memory(self, value: Value) -> bool:
        """Whether the value is to be loaded, outside of the kernel that writes it."""
        return value in self.stored or value.operation is None or value in self.constants

    def of_group(self, group: Group) -> list[Value]:
        """The stored values of a group, in program order."""
        return [v for op in group.members for v in op.results if v in self.stored]


def choose_stored(graph: Graph, groups: Sequence[Group], kept: set[Value]) -> Stores:
    """Decide for every homed value. kept: values that have to be in memory, besides the outputs and new
    contents."""
    fixed = kept.union(graph.roots())
    home = {v: g for g in groups for op in g.members for v in op.results}
    chosen = Stores(home, set(memory_constants(graph)))
    for op in graph.operations:
        if op.results and op.results[0] not in chosen.home:
            continue
        for x in op.operands:
            for leaf in leaves_of(x, chosen.home.keys()):
                chosen.readers.setdefault(leaf, []).append(Reader(op, estimate(x.type.numel)))
        chosen.leaves[op] = tuple(
            dict.fromkeys(v for x in op.operands for v in leaves_of(x, chosen.home.keys()))
        )
    for value, group in chosen.home.items():
        if value in fixed or any(_group_of(r.op, chosen) is not group for r in chosen.readers.get(value, ())):
            chosen.stored.add(value)
    for op in graph.operations:
        for value in op.results:
            if value in chosen.stored and value not in fixed and _better_anew(value, chosen):
                chosen.stored.discard(value)
    for group in groups:
        if group.kind == CONTRACT and _are_many(group.anchor.result):
            _store_sums_instead(group, chosen, fixed)
    return chosen


def _are_many(sums: Value) -> bool:
    """Whether a matrix of a contraction's sums does not stay in the second-level cache."""
    size = product(sums.type.shape[-2:])
    return isinstance(size, int) and size * sums.type.dtype.itemsize >= MATRIX


def _store_sums_instead(group: Group, chosen: Stores, fixed: set[Value]) -> None:
    """Of a contraction that stores several things computed from its sums, for one other group to read, store
    the sums, if what is computed from them is cheap: the gradient of attention's weights."""
    sums, made = group.anchor.result, chosen.of_group(group)
    readers = [r.op for value in made for r in chosen.readers.get(value, ())]
    outside = {id(g): g for op in readers if (g := _group_of(op, chosen)) is not group}
    kinds = [None if g is None else g.kind for g in outside.values()]
    if sums in made or not fixed.isdisjoint(made) or kinds not in ([ROWS], [POINTWISE]):
        return
    plain = all(op.opdef.elementwise or op.opdef.reduction for op in readers)
    if not plain or _bytes(made) <= _bytes([sums]):
        return
    chosen.stored = (chosen.stored - set(made)) | {sums}
    work = [_work(value, chosen) for value in made]
    if any(w is None or w[0] > CHEAP for w in work):
        chosen.stored = chosen.stored.union(made) - {sums}


def memory_constants(graph: Graph) -> Iterator[Value]:
    """The constants that are not one element repeated."""
    for op in graph.operations:
        if op.opdef is ops.constant and uniform(literal_of(op)) is None:
            yield op.result


def _group_of(op: Operation, chosen: Stores) -> Group | None:
    return chosen.home[op.results[0]] if op.results else None


def _better_anew(value: Value, chosen: Stores) -> bool:
    """Whether the readers outside its group had better compute a value themselves."""
    readers = chosen.readers.get(value, [])
    home = chosen.home[value]
    outside = [r for r in readers if _group_of(r.op, chosen) is not home]
    if not outside or any(r.op.opdef is ops.contract for r in outside):
        return False
    work = _work(value, chosen)
    if work is None:
        return False
    cycles, leaves = work
    numel = estimate(value.type.numel)
    groups = {id(_group_of(r.op, chosen)) for r in outside}
    once = (
        len(outside) == len(readers) == 1 and len(groups) == 1 and (outside[0].numel <= numel or numel == 1)
    )
    if once and _reads_once(outside[0].op, chosen):
        return True
    if cycles > CHEAP or any(r.numel > 4 * numel and numel > 1 for r in outside):
        return False
    read = {leaf for leaf in leaves if not all(leaf in _read_by(r.op, chosen) for r in outside)}
    return _bytes(read) <= MORE_BYTES * _bytes([value])


def _reads_once(op: Operation, chosen: Stores) -> bool:
    """Whether the kernel of an operation reads each element of its operands once."""
    group = _group_of(op, chosen)
    return group is None or (
        group.kind != ROWS and op.opdef not in (ops.gather, ops.into_tiles) and not _windowed(op)
    )


def _windowed(op: Operation) -> bool:
    return any(
        x.operation is not None and x.operation.opdef in (ops.window, ops.pad, ops.concat)
        for x in op.operands
    )


def _read_by(op: Operation, chosen: Stores) -> Iterable[Value]:
    group = _group_of(op, chosen)
    return chosen.leaves[op] if group is None else (v for m in group.members for v in chosen.leaves[m])


def _bytes(values: Iterable[Value]) -> int:
    return sum(estimate(v.type.numel) * v.type.dtype.itemsize for v in values)


def _work(value: Value, chosen: Stores) -> tuple[int, set[Value]] | None:
    """(cycles per element, values loaded) to compute a value from what lies in memory; None if that takes
    too many operations, more than elementwise ones, or one that may raise: those are computed once for
    every element."""
    cycles, leaves = 0, set()
    seen = {value}
    pending = [value]
    while pending:
        op = pending.pop().operation
        assert op is not None
        raises = op.opdef.may_raise and op.result.type.dtype.is_integer
        if raises or not (op.opdef.elementwise or is_free(op)):
            return None
        cycles += cost(op) + sum(MOVE_COST.get(m.opdef, 0) for m in moves_of(op, chosen.home.keys()))
        if len(seen) > MOST_ANEW:
            return None
        for leaf in chosen.leaves[op]:
            if chosen.in_memory(leaf):
                leaves.add(leaf)
            elif leaf not in seen:
                seen.add(leaf)
                pending.append(leaf)
    return cycles, leaves
