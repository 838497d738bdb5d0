"""Writes maps of tiles: a tile is read whole, mapped along one axis after the other, and written.

The small matrices are written out: zeros cost nothing, ones no multiplication, and two rows that differ in
signs only share the sums of what they have in common and of what they have not.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import cast

from ...ir import ops
from ...ir.expr import Dim
from ...ir.graph import Operation, Value
from ...ir.kernel import Guard, Scalar
from ...ir.types import Literal, row_major_strides
from .attributes import dims, ints
from .build_pointwise import member_index, needed
from .groups import Group
from .index import Index, linear, within
from .stores import Stores
from .writer import Guards, KernelWriter

Row = Sequence[float]
#: The elements of a tile by their places.
Tile = dict[tuple[int, ...], Scalar]


def write_into_tiles(writer: KernelWriter, op: Operation) -> None:
    """All tiles of an image that is read in range."""
    (x,) = op.operands
    axes, starts, step = ints(op, "axes"), dims(op, "starts"), cast("int", op.attrs["step"])
    matrix = _rows(op)
    shape = op.result.type.shape[len(axes) :]
    with writer.loops(shape, "vector", order=_order(op.result, len(axes))) as index:
        tile: Tile = {}
        for place in product(range(len(matrix[0])), repeat=len(axes)):
            at = list(index)
            for axis, start, i in zip(axes, starts, place, strict=True):
                at[axis] = index[axis] * step + start + i
            tile[place] = writer.read(x, tuple(at))
        for place, scalar in _mapped(writer, matrix, tile, len(axes)).items():
            writer.store_element(op.result, (*place, *index), scalar)


def build_from_tiles(writer: KernelWriter, group: Group, stores: Stores) -> None:
    """The loops over tiles, and in them, for each element of a tile, the rest of the group."""
    op = group.anchor
    (x,) = op.operands
    axes, matrix = ints(op, "axes"), _rows(op)
    shape = x.type.shape[len(axes) :]
    with writer.loops(shape, "vector", order=_order(op.result, 0)) as index:
        places = product(range(len(matrix[0])), repeat=len(axes))
        tile = {place: writer.read(x, (*place, *index)) for place in places}
        for place, scalar in _mapped(writer, matrix, tile, len(axes)).items():
            at = list(index)
            for axis, i in zip(axes, place, strict=True):
                at[axis] = index[axis] * len(matrix) + i
            inside = _inside(writer, op, axes, at)
            if inside is not None:
                _write_element(writer, group, stores, tuple(at), scalar, inside)


def _inside(writer: KernelWriter, op: Operation, axes: Sequence[int], at: Sequence[Dim]) -> Guards | None:
    """What has to hold for an element of a tile to be one of the result; None if it surely is not."""
    guards: list[Guard] = []
    for axis in axes:
        index, size = at[axis], op.result.type.shape[axis]
        if isinstance(index, int) and isinstance(size, int) and index >= size:
            return None
        if not within(index, 0, size, writer.extents):
            guards.append(Guard(index, 0, size))
    return tuple(guards)


def _write_element(
    writer: KernelWriter, group: Group, stores: Stores, at: Index, scalar: Scalar, guards: Guards
) -> None:
    """Compute and store what the group makes of an element of its tiles."""
    stored = stores.of_group(group)
    writer.know(group.anchor.result, at, scalar, guards)
    for op in needed(group, stores, stored):
        index = member_index(group.axes, at, op.result.type.shape, writer)
        writer.read(op.result, index, guards)
    for value in stored:
        index = member_index(group.axes, at, value.type.shape, writer)
        place = linear(index, value.physical_strides)
        writer.store(value, place, writer.read(value, index, guards), guards)


def _rows(op: Operation) -> list[Row]:
    return [row.tolist() for row in cast("Literal", op.attrs["matrix"]).array()]


def _order(value: Value, leading: int) -> list[int]:
    """The axes after the leading ones from the outermost in, as the value lies in memory."""
    strides = (value.strides or row_major_strides(value.type.shape))[leading:]
    known = [s if isinstance(s, int) else 0 for s in strides]
    return sorted(range(len(known)), key=lambda axis: -known[axis])


def _mapped(writer: KernelWriter, matrix: Sequence[Row], tile: Tile, rank: int) -> Tile:
    """The tile mapped along each of its axes."""
    for axis in range(rank):
        lines: dict[tuple[int, ...], list[Scalar]] = {}
        for place, scalar in sorted(tile.items(), key=lambda item: item[0][axis]):
            lines.setdefault((*place[:axis], *place[axis + 1 :]), []).append(scalar)
        tile = {
            (*rest[:axis], p, *rest[axis:]): scalar
            for rest, line in lines.items()
            for p, scalar in enumerate(_products(writer, matrix, line))
        }
    return dict(sorted(tile.items()))


def _products(writer: KernelWriter, matrix: Sequence[Row], line: Sequence[Scalar]) -> list[Scalar]:
    """The matrix times a line of elements."""
    found: dict[int, Scalar] = {}
    for p, row in enumerate(matrix):
        twin = next((q for q in range(p + 1, len(matrix)) if _are_twins(row, matrix[q])), None)
        if p not in found and twin is not None and twin not in found:
            same = [a if a == b else 0.0 for a, b in zip(row, matrix[twin], strict=True)]
            rest = [a - b for a, b in zip(row, same, strict=True)]
            even, odd = _sum(writer, same, line), _sum(writer, rest, line)
            found[p] = writer.compute(ops.add, even, odd)
            found[twin] = writer.compute(ops.sub, even, odd)
        elif p not in found:
            found[p] = _sum(writer, row, line)
    return [found[p] for p in range(len(matrix))]


def _are_twins(row: Row, other: Row) -> bool:
    """Whether rows differ in some signs, not in all."""
    pairs = [(a, b) for a, b in zip(row, other, strict=True) if a or b]
    return (
        all(abs(a) == abs(b) for a, b in pairs)
        and any(a == b for a, b in pairs)
        and any(a != b for a, b in pairs)
    )


def _sum(writer: KernelWriter, row: Row, line: Sequence[Scalar]) -> Scalar:
    """The sum of a row's multiples of a line's elements: first those of 1, others by multiply-adds."""
    terms = sorted(((c, x) for c, x in zip(row, line, strict=True) if c), key=lambda term: term[0] != 1.0)
    total: Scalar | None = None
    for c, x in terms:
        if total is None:
            total = x if c == 1.0 else writer.compute(ops.mul, x, writer.constant(c, x.dtype))
        elif abs(c) == 1.0:
            total = writer.compute(ops.add if c > 0 else ops.sub, total, x)
        else:
            total = writer.compute(ops.fma_, x, writer.constant(c, x.dtype), total)
    return total if total is not None else writer.constant(0, line[0].dtype)
