"""Writes a contraction with what is computed from each element of its result, in registers."""

from __future__ import annotations

from ...ir.expr import Dim, substitute, symbol, symbols_of
from ...ir.graph import Value
from ...ir.kernel import Contract, Guard
from ..packed import MOST_BYTES
from .attributes import spec_of
from .build_pointwise import write_members
from .contraction import layout_of
from .groups import Group
from .index import Index
from .stores import Stores, estimate
from .writer import KernelWriter


def build_contract(writer: KernelWriter, group: Group, stores: Stores) -> None:
    """Write the loops around the tile, the tile, and the rest of the group in its body."""
    op = group.anchor
    spec = spec_of(op)
    lhs, rhs = op.operands
    sizes = spec.label_extents(lhs.type.shape, rhs.type.shape)
    layout = layout_of(spec, (lhs, rhs), sizes, writer.in_memory, op.result.strides, as_they_lie=True)
    if layout.swapped:
        lhs, rhs = rhs, lhs
    maps = (spec.rhs, spec.lhs) if layout.swapped else (spec.lhs, spec.rhs)
    columns: set[str] = set()
    if estimate(rhs.type.numel) * rhs.type.dtype.itemsize > MOST_BYTES:
        # Blocks of columns outermost: what one of them reads of the vector operand stays in the caches. Taps
        # move it by little.
        columns = {str(i) for i in maps[1]} - {name for i in maps[0] for name in symbols_of(i)}
    around = tuple(
        sorted((n for n in spec.out if n not in (layout.m, layout.n)), key=lambda n: n not in columns)
    )
    with writer.loops(tuple(sizes[label] for label in around), "parallel") as outer:
        m, n = (writer.axis(sizes[label] if label else 1) for label in (layout.m, layout.n))
        over = tuple(writer.axis(sizes[label]) for label in spec.over if sizes[label] != 1) or (
            writer.axis(1),
        )
        with writer.body((m, n, *over)) as statements:
            names = iter(over)
            at: dict[str, Dim] = dict(zip(around, outer, strict=True))
            at |= {label: symbol(axis.name) for label, axis in ((layout.m, m), (layout.n, n)) if label}
            at |= {label: 0 if sizes[label] == 1 else symbol(next(names).name) for label in spec.over}
            left, right = (_place(writer, v, index, at) for v, index in zip((lhs, rhs), maps, strict=True))
            result = writer.scalar(op.result.type.dtype)
            index = tuple(at[label] for label in spec.out)
            writer.know(op.result, index, result)
            write_members(writer, group, stores, index)
        buffers = (writer.operand(left[0]), writer.operand(right[0]))
        within = None if spec.within is None else substitute(spec.within, at)
        inside = tuple(Guard(substitute(place, at), 0, size) for place, size in spec.inside)
        writer.add(
            Contract(
                result, m, n, over, buffers[0], left[1], buffers[1], right[1], tuple(statements),
                within=within, inside=inside,
            )
        )  # fmt: skip


def _place(writer: KernelWriter, value: Value, maps: Index, at: dict[str, Dim]) -> tuple[Value, Dim]:
    """(value in memory, place in it) of an operand's element."""
    found = writer.place(value, tuple(substitute(index, at) for index in maps))
    assert found is not None, f"the operand {value!r} of a contraction does not lie in memory"
    return found
