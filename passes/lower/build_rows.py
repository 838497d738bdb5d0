"""Writes a group of kind rows: loops over rows; in each the reductions one after the other, then its
elements.

A value of the row's elements that several of these phases need, and that is dear to compute, is stored by
the first of them and loaded by the others: into its own memory if it is stored anyway, else into that of a
result that is written last, else into scratch memory. A result that an early phase computes is stored there
and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...ir.expr import product
from ...ir.graph import Operation, Value
from .build_blocks import Running, write_blocks
from .build_pointwise import member_index, needed
from .groups import ROWS, Group, is_blocked, kind_of
from .index import Index, Shape
from .nesting import loop_order
from .stores import CHEAP, Stores, cost
from .writer import KernelWriter, Scratch


def build_rows(writer: KernelWriter, group: Group, stores: Stores) -> None:
    """Write the loop nest of the group."""
    phases = plan_phases(group, stores)
    _place_scratch(writer, phases, stores)
    if group.axes.blocked is not None:

        def write(running: Running, rows: Sequence[Index]) -> None:
            _write_row(writer, group, stores, phases, rows[0], running=running)

        write_blocks(writer, group, 1, write)
        return
    split, shape = len(group.axes.rows), group.axes.shape
    order = loop_order(group, stores)
    across = _runs_across(order, shape, split)
    kinds = ("vector", "serial", "serial") if across else ("parallel", "vector", "parallel")
    with writer.loops(group.axes.rows, kinds[0], order=[a for a in order if a < split]) as row:
        _write_row(writer, group, stores, phases, row, kinds[1:])


def _write_row(
    writer: KernelWriter, group: Group, stores: Stores, phases: list[Phase], row: Index,
    kinds: tuple[str, ...] = ("vector", "parallel"), running: Running | None = None,
) -> None:  # fmt: skip
    """The phases of one row. kinds: of the loops over its elements, the innermost first. running: the results
    of the rows so far, which the last phase takes on."""
    inner_shape = group.axes.shape[len(group.axes.rows) :]
    for phase in phases:
        if phase.reduction is None:
            with writer.loops(inner_shape, kinds[0], outer=kinds[1]) as inner:
                _write_elements(writer, group, phase, (*row, *inner))
                if running is not None:
                    running.take((*row, *inner))
        else:
            _write_reduction(writer, group, phase, row)
        for value in phase.kept:
            writer.reside(value)
    for value in stores.of_group(group):
        if _of_row(group, value):
            at = member_index(group.axes, row, value.type.shape, writer)
            writer.store_element(value, at, writer.read(value, at))
    for phase in phases:
        for value in phase.kept:
            writer.depart(value)


def _runs_across(order: Sequence[int], shape: Shape, split: int) -> bool:
    """Whether neighbours in memory belong to different rows: a vector then has elements of 16 rows."""
    return next((a for a in reversed(order) if shape[a] != 1), split) < split


@dataclass
class Phase:
    """One loop over the elements of a row. reduction: what it computes; None: only results are written.

    kept: the values that it stores; computes: the members that it computes, in program order.
    """

    reduction: Operation | None
    kept: list[Value] = field(default_factory=list)
    computes: list[Operation] = field(default_factory=list)


def _of_row(group: Group, value: Value) -> bool:
    """Whether a member has one element per row."""
    if value.operation is not None and is_blocked(value.operation):
        return False
    return value.type.numel != group.axes.numel or product(group.axes.rows) == group.axes.numel


def _write_reduction(writer: KernelWriter, group: Group, phase: Phase, row: Index) -> None:
    op = phase.reduction
    assert op is not None
    (x,) = op.operands
    with writer.reduction(op.opdef, "lanes", group.axes.shape[len(row) :]) as made:
        index = (*row, *made.index)
        _write_elements(writer, group, phase, index)
        made.value = writer.read(x, member_index(group.axes, index, x.type.shape, writer))
    writer.know(op.result, member_index(group.axes, row, op.result.type.shape, writer), made.result)


def _write_elements(writer: KernelWriter, group: Group, phase: Phase, index: Index) -> None:
    """Compute a phase's members, then store what is kept: memory that a kept value takes over may still be
    read."""
    elements = []
    for op in phase.computes:
        at = member_index(group.axes, index, op.result.type.shape, writer)
        elements.append((op.result, at, writer.read(op.result, at)))
    for value, at, scalar in elements:
        if value in phase.kept:
            writer.store_element(value, at, scalar)


def plan_phases(group: Group, stores: Stores) -> list[Phase]:
    """The phases: one per reduction, in program order, and a last one for results that none of them
    computes."""
    stored = stores.of_group(group)
    members = needed(group, stores, stored)
    reductions = [op for op in members if kind_of(op) == ROWS]
    phases = [*map(Phase, reductions), Phase(None)]
    #: Bit k: phase k reads the value.
    demand: dict[Value, int] = {}
    for number, reduction in enumerate(reductions):
        _require(demand, reduction, 1 << number, stores)
    for op in reversed(members):
        value = op.result
        if is_blocked(op):
            _require(demand, op, 1 << len(phases) - 1, stores)
        if is_blocked(op) or kind_of(op) == ROWS or _of_row(group, value):
            continue
        when = demand.get(value, 0) or 1 << len(phases) - 1
        first = when & -when
        if value in stored and _is_made_again(op, stores, group):
            phases[when.bit_length() - 1].kept.append(value)
        elif value in stored or (when != first and cost(op) > CHEAP):
            phases[first.bit_length() - 1].kept.append(value)
            when = first
        for number, phase in enumerate(phases):
            if when >> number & 1:
                phase.computes.insert(0, op)
        _require(demand, op, when, stores)
    return phases if phases[-1].computes or group.axes.blocked is not None else phases[:-1]


def _is_made_again(op: Operation, stores: Stores, group: Group) -> bool:
    """Whether a result is as well computed by each phase, from one element of the row, as loaded: the last of
    them stores it then, when fewer rows are in the cache (softmax with its gradient)."""
    elements = [leaf for leaf in stores.leaves[op] if not _of_row(group, leaf)]
    return cost(op) <= CHEAP and len(elements) == 1


def _require(demand: dict[Value, int], op: Operation, when: int, stores: Stores) -> None:
    for leaf in stores.leaves[op]:
        demand[leaf] = demand.get(leaf, 0) | when


def _place_scratch(writer: KernelWriter, phases: list[Phase], stores: Stores) -> None:
    """Give memory to the values that are kept for later phases only."""
    free = [v for phase in phases[-1:] if phase.reduction is None for v in phase.kept if v in stores.stored]
    for value in (v for phase in phases for v in phase.kept if v not in stores.stored):
        taken = next((v for v in free if v.type.dtype is value.type.dtype), None)
        if taken is not None:
            free.remove(taken)
        writer.share(taken or Scratch(value.type.dtype, value.type.numel), value)
