"""Which values lie in memory with their channels last.

A convolution is a matrix product for each pixel: with the channels of a pixel side by side it reads both
operands and writes its result in whole vectors. So a region of values, joined by operations that leave the
axes where they are (pointwise, padding, pooling, normalisation), lies channels-last where converting it at
its border moves fewer elements than its convolutions would have to turn. Logical axes never change: a
layout is the strides of a value, and no bit depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from ...ir import ops
from ...ir.contraction import ContractSpec
from ...ir.expr import Dim, Expr, product, symbol, symbols_of
from ...ir.graph import Graph, Operation, Value
from ...ir.kernel import VECTOR
from ...ir.types import row_major_strides
from .attributes import ints, spec_of
from .index import Shape, matched
from .stores import estimate

#: Tiles whose channels do not lie side by side are mapped with few elements of a vector: each costs so many
#: times what turning it would.
ACROSS = 4
#: Of a cache.
LINE_BYTES = 64

#: A row of pixels of one channel takes as long as converting so many elements to channels-last; a pixel of a
#: channel there as so many. Measured on depthwise 3x3 convolutions: 40 ns and 0.3 ns.
ROW, PIXEL = 400, 3

#: The axes that come last in memory, in order; the others keep theirs.
Trailing = tuple[int, ...]

#: Give every axis of their first operand (of all, if elementwise) its place in the result.
_STRAIGHT = (ops.pad, ops.slice_, ops.flip, ops.expand, ops.concat)


def choose_layouts(graph: Graph) -> dict[Value, Trailing]:
    """The values that do not lie in row-major order. Calls are inlined."""
    found: dict[Value, Trailing] = {}
    seen: set[Value] = set()
    for op in graph.operations:
        for value, trailing in (*channels_of(op).items(), *_channels_of_tiles(op)):
            if value not in seen and value.operation is not None:
                region = _Region(graph, value, trailing)
                seen.update(region.trailing)
                if region.turned > region.converted:
                    found.update(region.trailing)
    return found


def channels_of(op: Operation) -> dict[Value, Trailing]:
    """The values that hold the images of a convolution, or of one of its gradients, each with the axes of
    its channels; empty for any other operation, and where a group's channels do not fill a vector, so that
    vectors had better run along the pixels."""
    return _images(op)[0]


def _images(op: Operation) -> tuple[dict[Value, Trailing], bool]:
    """What `channels_of` gives, and whether each channel is a group of its own."""
    if op.opdef is not ops.contract:
        return {}, False
    spec, (lhs, rhs) = spec_of(op), op.operands
    sides: list[tuple[Value, Shape]] = [
        (lhs, spec.lhs), (rhs, spec.rhs), (op.result, tuple(map(symbol, spec.out)))
    ]  # fmt: skip
    windowed = [side for side in sides if any(map(_is_affine, side[1]))]
    if len(windowed) != 1 or lhs is rhs:
        return {}, False
    places = {name for index in windowed[0][1] if _is_affine(index) for name in symbols_of(index)}
    sizes = spec.label_extents(lhs.type.shape, rhs.type.shape)

    def pixels(side: tuple[Value, Shape]) -> int:
        total = 1
        for index in side[1]:
            total *= estimate(sizes[str(index)]) if symbols_of(index) & places else 1
        return total

    kernel, image = sorted((s for s in sides if s is not windowed[0]), key=pixels)
    shared = _labels(kernel[1]) - places
    groups = shared & _labels(image[1]) & _labels(windowed[0][1])
    each = max((estimate(sizes[name]) for name in shared - groups), default=1)
    if groups and 1 < each < VECTOR:
        return {}, False
    found = {
        value: tuple(a for a, index in enumerate(maps) if shared & symbols_of(index))
        for value, maps in (windowed[0], image)
    }
    return found, bool(groups) and each == 1


def _labels(maps: Shape) -> set[str]:
    return {name for index in maps for name in symbols_of(index)}


def _channels_of_tiles(op: Operation) -> Iterator[tuple[Value, Trailing]]:
    """The image that is cut into tiles, or made of them, and its channels."""
    if op.opdef in (ops.into_tiles, ops.from_tiles):
        axis = cast("int", op.attrs["channels"])
        if axis >= 0:
            yield (op.operands[0] if op.opdef is ops.into_tiles else op.result), (axis,)


def _is_affine(index: Dim) -> bool:
    """Whether an index map is more than a label or a constant."""
    return isinstance(index, Expr) and symbols_of(index) != {str(index)}


def strides_of(shape: Shape, trailing: Trailing) -> Shape | None:
    """The strides of a value laid out so; None if that is row-major order."""
    order = memory_order(len(shape), trailing)
    if _is_natural(shape, trailing):
        return None
    strides: list[Dim] = [0] * len(shape)
    for axis, stride in zip(order, row_major_strides(tuple(shape[a] for a in order)), strict=True):
        strides[axis] = stride
    return tuple(strides)


def spread_planes(value: Value, leading: int) -> Shape | None:
    """The strides of a value that is written a bit at a time in each of its planes, one per index of the
    leading axes: planes an odd number of cache lines apart lie in different sets of a cache."""
    inner = value.physical_strides[leading:]
    size = product(value.type.shape[leading:])
    if not isinstance(size, int):
        return value.strides
    line = LINE_BYTES // value.type.dtype.itemsize
    plane = (-(-size // line) | 1) * line
    outer = row_major_strides(value.type.shape[:leading])
    return (*(s * plane for s in outer), *inner)


def memory_order(rank: int, trailing: Trailing) -> tuple[int, ...]:
    """The axes from the outermost in memory to the innermost."""
    return (*(a for a in range(rank) if a not in trailing), *trailing)


def _is_natural(shape: Shape, trailing: Trailing) -> bool:
    """Whether the order in memory is row-major all the same."""
    order = [a for a in memory_order(len(shape), trailing) if shape[a] != 1]
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
            if any(image is value for image, _ in _channels_of_tiles(op)):
                self.turned += ACROSS * numel
            self.converted += 0 if joined else numel
            for other, like in joined:
                if other.operation is None and strides_of(other.type.shape, like) != other.strides:
                    self.converted += estimate(other.type.numel)
                yield other, like

    def _around_contraction(
        self, op: Operation, value: Value, trailing: Trailing
    ) -> Iterator[tuple[Value, Trailing]]:
        """The images of a convolution; what a matrix product of each pixel makes of its channels. The
        images that they write, and those whose pixels are summed over, would have to be turned."""
        images, by_channel = _images(op)
        if value in images:
            if value is op.result or op.result not in images:
                by_row = by_channel and value is op.result
                self.turned += _cost_of_rows(value) if by_row else estimate(value.type.numel)
            yield from images.items()
            return
        products = list(_pixel_products(op, value, trailing))
        windowed = any(map(_is_affine, (*spec_of(op).lhs, *spec_of(op).rhs)))
        numel = estimate(value.type.numel)
        self.converted += numel if windowed and not products else 0
        self.turned += numel if products and value is op.result else 0
        yield from products


def _cost_of_rows(image: Value) -> int:
    """What it costs more to compute an image channel by channel, row by row, than all channels of a pixel at
    once, in elements converted."""
    numel, width = estimate(image.type.numel), max(1, estimate(image.type.shape[-1]))
    return max(0, numel // width * ROW - numel * PIXEL)


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
    if op.opdef is ops.into_tiles:
        return {x: tuple(a + len(ints(op, "axes")) for a in straight)}
    if op.opdef is ops.from_tiles:
        leading = len(ints(op, "axes"))
        return {x: tuple(a - leading if a >= leading else -1 for a in straight)}
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
        inside = [a for a in range(i, j) if a in trailing and have[a] != 1]
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
