"""Which values lie in memory with their channels last.

A convolution is a matrix product for each pixel: with the channels of a pixel side by side it reads both
operands and writes its result in whole vectors. So a region of values, joined by operations that leave the
axes where they are (pointwise, padding, pooling, normalisation), lies channels-last where converting it at
its border moves fewer elements than its convolutions would have to turn. Logical axes never change: a
layout is the strides of a value, and no bit depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir import ops
from ...ir.contraction import ContractSpec
from ...ir.expr import Dim, Expr, symbol, symbols_of
from ...ir.graph import Graph, Operation, Value
from ...ir.types import row_major_strides
from .attributes import ints, spec_of
from .index import Shape, matched
from .stores import estimate

#: The axes that come last in memory, in order; the others keep theirs.
Trailing = tuple[int, ...]

#: Give every axis of their first operand (of all, if elementwise) its place in the result.
_STRAIGHT = (ops.pad, ops.slice_, ops.flip, ops.expand, ops.concat)


def choose_layouts(graph: Graph) -> dict[Value, Trailing]:
    """The values that do not lie in row-major order. Calls are inlined."""
    found: dict[Value, Trailing] = {}
    seen: set[Value] = set()
    for op in graph.operations:
        for value, trailing in channels_of(op).items():
            if value not in seen and value.operation is not None:
                region = _Region(graph, value, trailing)
                seen.update(region.trailing)
                if region.turned > region.converted:
                    found.update(region.trailing)
    return found


def channels_of(op: Operation) -> dict[Value, Trailing]:
    """The values that hold the images of a convolution, or of one of its gradients, each with the axes of
    its channels; empty for any other operation."""
    if op.opdef is not ops.contract:
        return {}
    spec, (lhs, rhs) = spec_of(op), op.operands
    sides: list[tuple[Value, Shape]] = [
        (lhs, spec.lhs), (rhs, spec.rhs), (op.result, tuple(map(symbol, spec.out)))
    ]  # fmt: skip
    windowed = [side for side in sides if any(map(_is_affine, side[1]))]
    if len(windowed) != 1 or lhs is rhs:
        return {}
    places = {name for index in windowed[0][1] if _is_affine(index) for name in symbols_of(index)}
    sizes = spec.label_extents(lhs.type.shape, rhs.type.shape)

    def pixels(side: tuple[Value, Shape]) -> int:
        total = 1
        for index in side[1]:
            total *= estimate(sizes[str(index)]) if symbols_of(index) & places else 1
        return total

    kernel, image = sorted((s for s in sides if s is not windowed[0]), key=pixels)
    shared = {name for index in kernel[1] for name in symbols_of(index)} - places
    return {
        value: tuple(a for a, index in enumerate(maps) if shared & symbols_of(index))
        for value, maps in (windowed[0], image)
    }


def _is_affine(index: Dim) -> bool:
    """Whether an index map is more than a label or a constant."""
    return isinstance(index, Expr) and symbols_of(index) != {str(index)}


def strides_of(shape: Shape, trailing: Trailing) -> Shape | None:
    """The strides of a value laid out so; None if that is row-major order."""
    order = _memory_order(len(shape), trailing)
    if _is_natural(shape, trailing):
        return None
    strides: list[Dim] = [0] * len(shape)
    for axis, stride in zip(order, row_major_strides(tuple(shape[a] for a in order)), strict=True):
        strides[axis] = stride
    return tuple(strides)


def _memory_order(rank: int, trailing: Trailing) -> tuple[int, ...]:
    return (*(a for a in range(rank) if a not in trailing), *trailing)


def _is_natural(shape: Shape, trailing: Trailing) -> bool:
    """Whether the order in memory is row-major all the same."""
    order = [a for a in _memory_order(len(shape), trailing) if shape[a] != 1]
    return order == sorted(order)


class _Region:
    """The values reached from one, with their layouts. turned: elements of the images that convolutions
    would turn if they were not laid out so; converted: elements of the region that are converted at its
    border if they are."""

    def __init__(self, graph: Graph, seed: Value, trailing: Trailing) -> None:
        self.graph = graph
        self.trailing: dict[Value, Trailing] = {}
        self.turned = self.converted = 0
        self._roots = set(graph.roots())
        pending = [(seed, trailing)]
        while pending:
            value, trailing = pending.pop()
            if value not in self.trailing and _is_movable(value, trailing):
                self.trailing[value] = trailing
                pending += self._neighbours(value, trailing)

    def _neighbours(self, value: Value, trailing: Trailing) -> Iterator[tuple[Value, Trailing]]:
        """The values that an operation joins to this one, laid out alike; counts what is at the border."""
        numel = estimate(value.type.numel)
        self.converted += numel * (value in self._roots)
        producer = value.operation
        assert producer is not None
        for op in dict.fromkeys((producer, *self.graph.users(value))):
            if op.opdef is ops.contract:
                yield from self._around_contraction(op, value, trailing)
                continue
            joined = list(_joined(op, value, trailing))
            self.converted += 0 if joined else numel
            for other, like in joined:
                if other.operation is None and strides_of(other.type.shape, like) != other.strides:
                    self.converted += estimate(other.type.numel)
                yield other, like

    def _around_contraction(
        self, op: Operation, value: Value, trailing: Trailing
    ) -> Iterator[tuple[Value, Trailing]]:
        """The images of a convolution; what a matrix product of each pixel makes of its channels. The
        images that it writes, and those whose pixels it sums over, would have to be turned."""
        images = channels_of(op)
        if value in images:
            if value is op.result or op.result not in images:
                self.turned += estimate(value.type.numel)
            yield from images.items()
        else:
            yield from _pixel_products(op, value, trailing)


def _is_movable(value: Value, trailing: Trailing) -> bool:
    """Whether the value is computed here, its strides are known, and it is not row-major in any case."""
    known = all(isinstance(d, int) for d in value.type.shape[1:])
    return value.operation is not None and known and not _is_natural(value.type.shape, trailing)


def _joined(op: Operation, value: Value, trailing: Trailing) -> Iterator[tuple[Value, Trailing]]:
    """The operands and the result of an operation that lie as `value`, one of them, does; nothing if the
    operation does not leave the axes where they are."""
    if op.opdef is ops.reshape:
        (x,) = op.operands
        other = op.result if value is x else x
        like = _reshaped(value.type.shape, other.type.shape, trailing)
        if like is not None:
            yield other, like
        return
    maps = _axis_maps(op)
    if value not in maps:
        if op.results and value is op.result:
            for x, axes in maps.items():
                if set(trailing) <= set(axes):
                    yield x, tuple(axes.index(a) for a in trailing)
        return
    like = tuple(maps[value][a] for a in trailing)
    if -1 not in like:
        yield op.result, like


def _axis_maps(op: Operation) -> dict[Value, tuple[int, ...]]:
    """For each operand whose axes are axes of the result: which ones, -1 for an axis that is not."""
    x = op.operands[0] if op.operands else None
    if x is None or len(op.results) != 1:
        return {}
    rank = x.type.rank
    straight = tuple(range(rank))
    if op.opdef.elementwise or op.opdef is ops.concat:
        return dict.fromkeys(op.operands, straight)
    if op.opdef in _STRAIGHT or op.opdef is ops.window:
        return {x: straight}
    if op.opdef is ops.fold:
        return {x: tuple(a if a < op.result.type.rank else -1 for a in straight)}
    if op.opdef is ops.permute:
        perm = ints(op, "perm")
        return {x: tuple(perm.index(a) for a in straight)}
    if op.opdef.reduction and op.result.type.rank == rank - len(ints(op, "axes")):
        kept = [a for a in straight if a not in ints(op, "axes")]
        return {x: tuple(kept.index(a) if a in kept else -1 for a in straight)}
    return {}


def _reshaped(have: Shape, want: Shape, trailing: Trailing) -> Trailing | None:
    """The layout of a reshaped value, in memory the same; None if there is none."""
    if trailing != tuple(sorted(trailing)):
        return None
    result: list[int] = []
    for (i, j), (k, m) in matched(have, want):
        inside = [a for a in range(i, j) if a in trailing]
        if inside and any(a not in trailing and have[a] != 1 for a in range(i, j)):
            return None
        result += range(k, m) if inside else ()
    return tuple(result)


def _pixel_products(op: Operation, value: Value, trailing: Trailing) -> Iterator[tuple[Value, Trailing]]:
    """A product that sums over the channels of each pixel (a 1x1 convolution) gives channels again: its
    image and its result lie alike."""
    spec: ContractSpec = spec_of(op)
    for x, maps, other in zip(op.operands, (spec.lhs, spec.rhs), (spec.rhs, spec.lhs), strict=True):
        mine, theirs = ({name for i in m for name in symbols_of(i)} for m in (maps, other))
        channels = tuple(a for a, i in enumerate(maps) if symbols_of(i) & set(spec.over))
        made = tuple(a for a, label in enumerate(spec.out) if label not in mine)
        if not channels or not made or not {spec.out[a] for a in made} <= theirs:
            continue
        if value is x and trailing == channels:
            yield op.result, made
        elif value is op.result and trailing == made:
            yield x, channels
