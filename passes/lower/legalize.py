"""Prepares a graph for fusion: what kernels can't do in one go becomes several operations.

Calls are inlined. A contraction gets operands that lie in memory, in range, and readable in vectors:
padding and copies are inserted. An operation that overwrites a part of its first operand gets a copy of it
to overwrite, unless nobody else needs it. A reshape that only cuts axes of a contraction's result is done
by the contraction, so that what follows can join its group. Each output and each update gets a value of its
own, in row-major order. Values get the strides of their layout (`layout`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from ...ir import ops
from ...ir.builder import GraphBuilder, scalar
from ...ir.contraction import ContractSpec
from ...ir.expr import Dim, coefficient, product, symbol
from ...ir.graph import Graph, Operation, Value
from ...ir.kernel import VECTOR
from ...ir.narrow import PAIRED
from ...ir.opdef import OpDef
from ...ir.types import Literal
from ..inline import inline_calls
from ..packed import COLUMNS
from ..scans import Parts, tidy_scans
from .attributes import dims, ints, spec_of
from .blocked import blocks_of_images, cut_in_blocks, cut_label, cut_strides
from .build_blocks import COMBINE
from .contraction import Layout, cut, fits, layout_of, packed_order
from .groups import divides, is_free
from .index import Index, bounds, place_of
from .layout import Trailing, channels_of, choose_layouts, memory_order, spread_planes, strides_of
from .pairs import place_in_pairs
from .stores import estimate, memory_constants
from .weights import turned_weights
from .widen import widen

#: Fewer rows than this are reduced at one go, for each run of a row's elements: so many streams are read at
#: full speed.
FEW_ROWS = 64

#: A matrix of fewer rows or columns is read across as it is.
WIDE = 64

#: Weights that so many pixels share are copied into blocks of channels though vectors could run along them as
#: they lie, a page from step to step.
OFTEN = 64

#: Overwrite parts of their first operand.
IN_PLACE = (ops.scatter, ops.scatter_add, ops.update_slice, ops.as_strided_update)


@dataclass
class Legal:
    """A legalized graph. kept: values that have to lie in memory. taken_over: (value, base) where an
    operation writes its result over the base. turned: copies that transpose, each best made by itself."""

    graph: Graph
    kept: set[Value]
    taken_over: dict[Value, Value]
    turned: set[Value]


def legalize(graph: Graph, columns: int = COLUMNS) -> Legal:
    """Rewrite a graph for fusion. The argument is left unchanged. columns: of a tile."""
    return _Legalizer(widen(tidy_scans(inline_calls(graph))), columns).run()


class _Legalizer:
    """The graph being rewritten, and the one being built. now: values of the first as values of the
    second."""

    def __init__(self, graph: Graph, columns: int) -> None:
        self.graph, self.columns = graph, columns
        self.build = GraphBuilder(graph.name, graph.numerics)
        self.build.inputs = list(graph.inputs)
        self.now: dict[Value, Value] = {v: v for v in graph.inputs}
        self.kept: set[Value] = set()
        self.turned_copies: set[Value] = set()
        self.taken_over: dict[Value, Value] = {}
        self.constants = set(memory_constants(graph))
        self.layouts = choose_layouts(graph)
        self.padded: dict[object, Value] = {}
        self.rooms = _rooms(graph)
        self.copies: dict[tuple[Value, tuple[int, ...]], Value] = {}
        self.uses: dict[Value, int] = {}
        for value in (*(x for op in graph.operations for x in op.operands), *graph.roots()):
            self.uses[value] = self.uses.get(value, 0) + 1

    def run(self) -> Legal:
        for op in self.graph.operations:
            if op.results and op.results[0] in self.now:
                continue
            self.build.location = op.location
            operands = tuple(self.now[x] for x in op.operands)
            results = RULES.get(op.opdef, _Legalizer.keep)(self, op, operands)
            self.now.update(zip(op.results, results, strict=True))
        roots = self.roots()
        outputs = tuple(roots[: len(self.graph.outputs)])
        updates = tuple(zip((x for x, _ in self.graph.updates), roots[len(outputs) :], strict=True))
        return Legal(self.build.finish(outputs, updates), self.kept, self.taken_over, self.turned_copies)

    def roots(self) -> list[Value]:
        """The outputs and new contents, each a value that nothing else is the storage of."""
        roots: list[Value] = []
        new = [self.now[v] for v in self.graph.roots()]
        for value in new:
            source = unreshaped(value)
            op = source.operation
            own = (
                op is not None
                and (not is_free(op) or source in self.kept or op.opdef is ops.concat)
                and source.strides is None
                and source not in roots
                and source not in self.taken_over.values()
            )
            if own and op is not None and is_free(op):
                self.kept.add(source)
            turned = self.turned(value)
            if not own and turned is value:
                turned = self.copies.get((value, _identity(value)), value)
                turned = self.copy(value) if turned is value or turned in roots else turned
            roots.append(source if own else turned)
        return roots

    def keep(self, op: Operation, operands: tuple[Value, ...]) -> tuple[Value, ...]:
        """The same operation on the new operands."""
        if op.opdef is ops.reshape and op.result not in self.layouts:
            operands = (self.turned(operands[0]),)
        if op.opdef.elementwise and op.result not in self.layouts:
            operands = self.alongside(operands)
        results = self.build.emit(op.opdef, operands, op.attrs, location=op.location)
        self.lay_out(op, results)
        if op.results and op.results[0] in self.constants:
            self.constants.add(results[0])
        return results

    def alongside(self, operands: tuple[Value, ...]) -> tuple[Value, ...]:
        """Operands that are transposed, if others are not, are transposed in memory: that takes less than to
        read them across."""
        if not any(map(runs_along, operands)):
            return operands
        read = tuple(self.read(x) if self.runs_across(x) else x for x in operands)
        self.turned_copies.update(x for x in read if x not in operands)
        return read

    def runs_across(self, x: Value) -> bool:
        """Whether a large value is one in memory, transposed."""
        op = x.operation
        if op is None or op.opdef is not ops.permute or x in self.kept:
            return False
        (base,) = op.operands
        sides = (x.type.shape[-1:], base.type.shape[-1:]) if x.type.rank else ()
        wide = all(isinstance(d, int) and d >= WIDE for side in sides for d in side)
        last = ints(op, "perm")[-1:] == (x.type.rank - 1,)
        return wide and not last and base.strides is None and self.in_memory(base)

    def lay_out(self, op: Operation, results: tuple[Value, ...]) -> None:
        """Give results that will lie in memory the strides of their layout."""
        for old, new in zip(op.results, results, strict=True):
            if old in self.layouts and not is_free(op):
                new.strides = strides_of(new.type.shape, self.layouts[old])

    def turned(self, value: Value) -> Value:
        """The value in row-major order; inputs and what does not lie in memory are left as they are."""
        source = unreshaped(value)
        if source.operation is None or source.strides is None:
            return value
        self.kept.add(source)
        return self.copy(value)

    def copy(self, value: Value, perm: tuple[int, ...] | None = None) -> Value:
        """A copy in memory, axes permuted."""
        made = self.build(ops.permute, value, perm=perm or _identity(value))
        self.kept.add(made)
        return made

    def read(self, value: Value, perm: tuple[int, ...] | None = None) -> Value:
        """A copy that is only read, made once for all that read it; of parts joined the whole itself."""
        key = (value, perm or _identity(value))
        joined = value.operation is not None and value.operation.opdef is ops.concat
        if joined and key[1] == _identity(value):
            self.kept.add(value)
            return value
        if key not in self.copies:
            self.copies[key] = self.copy(value, perm)
        return self.copies[key]

    def in_memory(self, value: Value) -> bool:
        """Whether a value lies in memory if something needs it there."""
        op = value.operation
        return op is None or not is_free(op) or value in self.kept or value in self.constants

    # Rules by op.

    def into_tiles(self, op: Operation, operands: tuple[Value, ...]) -> tuple[Value, ...]:
        """Tiles of an image with zeros around it, as far as they reach out."""
        axes, counts, starts = ints(op, "axes"), dims(op, "counts"), dims(op, "starts")
        matrix, step = cast("Literal", op.attrs["matrix"]), cast("int", op.attrs["step"])
        maps: list[Dim] = [symbol(f"axis{a}") for a in range(operands[0].type.rank)]
        sizes = {f"axis{a}": d for a, d in enumerate(operands[0].type.shape)}
        for axis, count, start in zip(axes, counts, starts, strict=True):
            maps[axis] = maps[axis] * step + symbol(f"in{axis}") + start
            sizes |= {f"axis{axis}": count, f"in{axis}": matrix.shape[1]}
        trailing = (cast("int", op.attrs["channels"]),) if op.result in self.layouts else ()
        x, moved = self.in_range(operands[0], tuple(maps), sizes, trailing)
        starts = tuple(start + (moved[a] - maps[a]) for a, start in zip(axes, starts, strict=True))
        (result,) = self.build.emit(op.opdef, (x,), {**op.attrs, "starts": starts})
        self.lay_out(op, (result,))
        if product(counts) != 1:
            result.strides = spread_planes(result, len(axes))
        return (result,)

    def reduce(self, op: Operation, operands: tuple[Value, ...]) -> tuple[Value, ...]:
        """A reduction over no axes combines each element with the identity: one over a new axis of size 1.
        One over many rows is taken apart, so that other groups can run through the rows with it."""
        (x,) = operands
        if in_blocks(op):
            axes = ints(op, "axes")
            parts = self.build(op.opdef, x, axes=axes, order="blocks")
            if parts.type.shape[axes[0]] == 1:
                return (self.build(ops.reshape, parts, shape=op.result.type.shape),)
            return (self.build(op.opdef, parts, axes=axes[:1], order="pairwise"),)
        if op.attrs["axes"]:
            return self.keep(op, operands)
        wider = self.build(ops.reshape, x, shape=(*x.type.shape, 1))
        return (self.build(op.opdef, wider, axes=(x.type.rank,), order="lanes"),)

    def overwrite(self, op: Operation, operands: tuple[Value, ...]) -> tuple[Value, ...]:
        """An operation on a base that it may overwrite."""
        base, *rest = operands
        free = base.operation is None or is_free(base.operation)
        if free or base.strides is not None or self.uses[op.operands[0]] > 1:
            base = self.copy(base)
        self.kept.add(base)
        (result,) = self.build.emit(op.opdef, (base, *rest), op.attrs)
        self.taken_over[result] = base
        return (result,)

    def scan(self, op: Operation, operands: tuple[Value, ...]) -> tuple[Value, ...]:
        """A scan, its operands in row-major order in memory, weights in the order in which they are read."""
        body, turned = turned_weights(Parts.of(op))
        more = [self.copy(operands[number], order) for number, order in turned]
        placed = [self.placed(x) for x in (*operands, *more)]
        results = self.build.emit(op.opdef, placed, op.attrs, (body,), op.location)
        self.kept.update(results)
        return results

    def sort(self, op: Operation, operands: tuple[Value, ...]) -> tuple[Value, ...]:
        """A sort, its operand in row-major order in memory."""
        return self.build.emit(op.opdef, [self.placed(operands[0])], op.attrs, location=op.location)

    def placed(self, x: Value) -> Value:
        """The value in row-major order in memory, itself if it lies so."""
        source = unreshaped(x)
        x = x if self.in_memory(source) and source.strides is None else self.copy(x)
        if source not in self.constants:
            self.kept.add(unreshaped(x))
        return x

    def contract(self, op: Operation, operands: tuple[Value, ...]) -> tuple[Value, ...]:
        spec = spec_of(op)
        sizes = spec.label_extents(operands[0].type.shape, operands[1].type.shape)
        reshape = self.only_reshape(op.result)
        finer = None if reshape is None else cut(spec, sizes, reshape.result.type.shape)
        if reshape is not None and finer is not None and fits(finer, *(x.type.shape for x in operands)):
            spec, sizes = finer, dict(finer.extents)
        else:
            reshape = None
        spec = replace(spec, extents=tuple(sorted(sizes.items())))
        if operands[0].type.dtype not in PAIRED:
            spec = replace(spec, inside=reaching_out(spec, operands, sizes))
        blocks = self.blocks_of(op, spec, operands) if reshape is None else None
        if blocks is None:
            images = self.images(op)
            sides = [
                self.in_range(x, maps, sizes, images.get(old, ()), self.rooms.get(old, ()))
                for x, maps, old in zip(operands, (spec.lhs, spec.rhs), op.operands, strict=True)
            ]
        else:
            spec, sides = self.in_blocks(spec, operands, blocks)
            sizes = dict(spec.extents)
        sides = [(self.addressable(x, maps, sizes), maps) for x, maps in sides]
        if operands[0].type.dtype in PAIRED:
            sides = [self.beside(x, maps, sizes, spec.over[-1]) for x, maps in sides]
        shifted = replace(spec, lhs=sides[0][1], rhs=sides[1][1])
        made = reshape or op
        strides = None
        if op.result in self.layouts and made.result in self.layouts:
            strides = strides_of(made.result.type.shape, self.layouts[made.result])
        layout = layout_of(shifted, (sides[0][0], sides[1][0]), sizes, self.in_memory, strides)
        if layout.turned and layout.n is not None:
            at = 1 if layout.swapped else 0
            x, maps = sides[at]
            order = packed_order(shifted, maps, layout.n)
            sides[at] = self.read(x, order), tuple(maps[a] for a in order)
        if layout.n is not None:
            at = 0 if layout.swapped else 1
            shifted, sides[at], strides = self.in_vectors(op, shifted, sides[at], layout, strides)
        shifted = replace(shifted, lhs=sides[0][1], rhs=sides[1][1])
        result = self.build(ops.contract, sides[0][0], sides[1][0], spec=shifted)
        result.strides = strides
        users = self.graph.users(op.result)
        if any(user.opdef is ops.from_tiles for user in users):
            result.strides = strides = spread_planes(result, len(ints(users[0], "axes")))
        if result.type.shape != made.result.type.shape:
            result = self.build(ops.reshape, result, shape=made.result.type.shape)
        self.now[made.result] = result
        return (result,)

    def in_vectors(
        self, op: Operation, spec: ContractSpec, side: tuple[Value, Index], layout: Layout,
        strides: tuple[Dim, ...] | None,
    ) -> tuple[ContractSpec, tuple[Value, Index], tuple[Dim, ...] | None]:  # fmt: skip
        """The operand that is read in vectors: copied if they run across memory; weights copied in blocks of
        channels, if there are enough. With the contraction, and the strides of its result."""
        (x, maps), label, sizes = side, layout.n, dict(spec.extents)
        assert label is not None
        images, blocked = channels_of(op), None
        often = op.result in images and estimate(op.result.type.numel) >= OFTEN * estimate(sizes[label])
        if images and not layout.lanes and (layout.packed or often):
            blocked = cut_in_blocks(spec, x, maps, label, self.columns)
        if blocked is not None:
            strides = cut_strides(strides, spec.out, label, dict(blocked.spec.extents)[blocked.inner])
            x, maps = self.build(ops.reshape, x, shape=blocked.shape), blocked.maps
            spec, label = blocked.spec, blocked.inner
        if blocked is not None or layout.packed:
            order = packed_order(spec, maps, label)
            if x.type.dtype in PAIRED:
                order = _last(order, maps.index(symbol(spec.over[-1])))
            x, maps = self.read(x, order), tuple(maps[a] for a in order)
        return spec, (x, maps), strides

    def blocks_of(
        self, op: Operation, spec: ContractSpec, operands: tuple[Value, ...]
    ) -> list[tuple[str, int]] | None:
        """Into which blocks the channels of both images are cut, if it is a gradient of weights that gains by
        that."""
        images = channels_of(op)
        if not images or op.result in images or operands[0].type.dtype in PAIRED:
            return None
        return blocks_of_images(spec, operands, self.columns)

    def in_blocks(
        self, spec: ContractSpec, operands: tuple[Value, ...], blocks: list[tuple[str, int]]
    ) -> tuple[ContractSpec, list[tuple[Value, Index]]]:
        """The contraction with a label of each operand cut into blocks, and copies of the operands in range,
        in which a block's steps lie one behind the other."""
        sides: list[tuple[Value, Index]] = []
        for at, (label, block) in enumerate(blocks):
            maps = (spec.lhs, spec.rhs)[at]
            blocked = cut_label(spec, operands[at], maps, label, block)
            order = packed_order(blocked.spec, blocked.maps, blocked.inner)
            cut = self.build(ops.reshape, operands[at], shape=blocked.shape)
            copy = self.build(ops.permute, cut, perm=order)
            turned = tuple(blocked.maps[a] for a in order)
            side = self.in_range(copy, turned, dict(blocked.spec.extents), ())
            if side[0] is copy:
                self.kept.add(copy)
            sides.append(side)
            spec = blocked.spec
            spec = replace(spec, lhs=side[1]) if at == 0 else replace(spec, rhs=side[1])
        return spec, sides

    def images(self, op: Operation) -> dict[Value, Trailing]:
        """The layouts in which a convolution's images are padded: channels-last if others of them are."""
        images = channels_of(op)
        return images if any(value in self.layouts for value in images) else {}

    def only_reshape(self, value: Value) -> Operation | None:
        """The reshape that is the only user of a value."""
        users = self.graph.users(value)
        return users[0] if self.uses.get(value) == 1 and users and users[0].opdef is ops.reshape else None

    def in_range(
        self, x: Value, maps: tuple[Dim, ...], sizes: dict[str, Dim], trailing: Trailing,
        room: Sequence[tuple[int, int]] = (),
    ) -> tuple[Value, tuple[Dim, ...]]:  # fmt: skip
        """The operand with zeros around it where the index maps reach outside, laid out with these axes last,
        and the maps into that. room: zeros along each axis that other readers want besides."""
        margins = [margin(index, d, sizes) for index, d in zip(maps, x.type.shape, strict=True)]
        if not any(any(m) for m in margins):
            return x, maps
        lo, hi = ([m[end] for m in room or margins] for end in (0, 1))
        shifted = tuple(index + a for index, a in zip(maps, lo, strict=True))
        key = (x, *lo, *hi, *trailing)
        if key not in self.padded:
            zero = scalar(self.build, 0, x.type.dtype)
            source = self.facing(x, trailing)
            padded = self.build(
                ops.pad, source, zero, lo=tuple(lo), hi=tuple(hi), interior=(0,) * x.type.rank
            )
            padded.strides = strides_of(padded.type.shape, trailing)
            self.kept.add(padded)
            self.padded[key] = padded
        return self.trimmed(self.padded[key], shifted, sizes), shifted

    def trimmed(self, x: Value, maps: tuple[Dim, ...], sizes: dict[str, Dim]) -> Value:
        """The part of a padded operand that is read: where the map of an axis has become a label alone, the
        axis is as long as that, as a spec demands."""
        stops = tuple(sizes.get(str(index), d) for index, d in zip(maps, x.type.shape, strict=True))
        if stops == x.type.shape:
            return x
        return self.build(ops.slice_, x, starts=(0,) * len(stops), stops=stops, steps=(1,) * len(stops))

    def facing(self, x: Value, trailing: Trailing) -> Value:
        """The value, or a copy of it laid out with these axes last if it lies in memory across that."""
        shape, labels = x.type.shape, tuple(f"axis{a}" for a in range(x.type.rank))
        last = next((a for a in reversed(memory_order(len(shape), trailing)) if shape[a] != 1), None)
        found = place_of(x, tuple(map(symbol, labels)), dict(zip(labels, shape, strict=True)), self.in_memory)
        if last is None or found is None or not all(isinstance(d, int) for d in shape):
            return x
        stride = coefficient(found[1], labels[last])
        if not isinstance(stride, int) or min(abs(stride), estimate(shape[last])) < VECTOR:
            return x
        made = self.copy(x)
        made.strides = strides_of(shape, trailing)
        return made

    def beside(
        self, x: Value, maps: tuple[Dim, ...], sizes: dict[str, Dim], pair: str
    ) -> tuple[Value, tuple[Dim, ...]]:
        """An operand of bfloat16 whose pairs of steps lie beside each other, and the maps into it."""
        found = place_of(x, maps, sizes, self.in_memory)
        if found is not None and place_in_pairs(found[1], pair) is not None:
            return x, maps
        order = _last(tuple(range(len(maps))), maps.index(symbol(pair)))
        return self.copy(x, order), tuple(maps[axis] for axis in order)

    def addressable(self, x: Value, maps: tuple[Dim, ...], sizes: dict[str, Dim]) -> Value:
        """The operand, or a copy of it if its elements do not lie in memory at an affine place."""
        found = place_of(x, maps, sizes, self.in_memory)
        return x if found is not None and not divides(found[1]) else self.read(x)


def _rooms(graph: Graph) -> dict[Value, list[tuple[int, int]]]:
    """How far contractions reach out of each value, all of them together: those of a strided convolution's
    gradient, one for each phase, share a copy with zeros around it."""
    rooms: dict[Value, list[tuple[int, int]]] = {}
    for op in graph.operations:
        if op.opdef is not ops.contract:
            continue
        spec = spec_of(op)
        sizes = spec.label_extents(op.operands[0].type.shape, op.operands[1].type.shape)
        for x, maps in zip(op.operands, (spec.lhs, spec.rhs), strict=True):
            margins = [margin(index, d, sizes) for index, d in zip(maps, x.type.shape, strict=True)]
            known = rooms.get(x, margins)
            rooms[x] = [(max(a, c), max(b, d)) for (a, b), (c, d) in zip(known, margins, strict=True)]
    return rooms


def margin(index: Dim, extent: Dim, sizes: dict[str, Dim]) -> tuple[int, int]:
    """How far an index map reaches out of an axis, at its start and at its end."""
    span = bounds(index, sizes)
    assert span is not None
    return _positive(0 - span[0]), _positive(span[1] - (extent - 1))


def reaching_out(
    spec: ContractSpec, operands: Sequence[Value], sizes: dict[str, Dim]
) -> tuple[tuple[Dim, Dim], ...]:
    """What holds for the steps of a contraction that take part, where not all do: `ContractSpec.inside`."""
    read = zip((*spec.lhs, *spec.rhs), (d for x in operands for d in x.type.shape), strict=True)
    return tuple(dict.fromkeys((index, d) for index, d in read if margin(index, d, sizes) != (0, 0)))


def in_blocks(op: Operation) -> bool:
    """Whether a reduction is one over many rows, of more than one element each."""
    axes, shape = ints(op, "axes"), op.operands[0].type.shape
    if op.attrs["order"] != "rows" or op.opdef not in COMBINE or axes[-1] - axes[0] != len(axes) - 1:
        return False
    count, row = product(shape[a] for a in axes), product(shape[axes[-1] + 1 :])
    return row != 1 and 0 not in shape and not (isinstance(count, int) and count < FEW_ROWS)


def _identity(value: Value) -> tuple[int, ...]:
    """The order of a value's axes as it is."""
    return tuple(range(value.type.rank))


def runs_along(x: Value) -> bool:
    """Whether a value is read, or computed, along its last axis."""
    return x.type.rank > 0 and (x.operation is None or not is_free(x.operation))


def unreshaped(value: Value) -> Value:
    """The value that this one is a reshape of, itself if none: in memory they are the same."""
    while value.operation is not None and value.operation.opdef is ops.reshape:
        value = value.operation.operands[0]
    return value


def _last(order: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """The order of axes with one of them moved to the end."""
    return (*(a for a in order if a != axis), axis)


def _positive(dim: Dim) -> int:
    """max(dim, 0) where that is known; a size of unknown sign is taken to be in range."""
    return max(dim, 0) if isinstance(dim, int) else 0


RULES: dict[OpDef, Callable[[_Legalizer, Operation, tuple[Value, ...]], tuple[Value, ...]]] = {
    ops.contract: _Legalizer.contract,
    ops.scan: _Legalizer.scan,
    ops.into_tiles: _Legalizer.into_tiles,
    ops.argsort: _Legalizer.sort,
    **dict.fromkeys(IN_PLACE, _Legalizer.overwrite),
    **dict.fromkeys((op for op in ops.ALL.values() if op.reduction), _Legalizer.reduce),
}
