"""Convolutions with kernels of 3 elements, and their gradients, by fewer multiplications.

F(m, 3) gives m results of a convolution along one axis by m + 2 products instead of 3 m: tiles of the image
and the kernel are mapped linearly, multiplied element by element (for all channels: a matrix product for each
place of the tile), and mapped back. Along two axes the savings multiply. The three maps are one trilinear
form, so each of the three gradients has the same products; that of an image is a convolution itself. Rounding
errors grow with the numbers in the maps: some 3 times for m = 2, some 20 times for m = 4. Sources: Winograd
1980, "Arithmetic Complexity of Computations"; Lavin and Gray 2015, arXiv:1509.09308.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from ...ir import ops
from ...ir.contraction import ContractSpec
from ...ir.dtypes import float32, float64
from ...ir.expr import Dim, Expr, coefficient, symbol, symbols_of
from ...ir.graph import Graph, Operation, Value
from ...ir.types import Literal
from ..simplify.contraction import label_sizes, spec_of
from ..simplify.driver import Rewriter, rewrite

#: The size of the kernels.
TAPS = 3
#: What a product of matrices computes in the time that one element is moved to memory or back.
FLOPS_PER_ELEMENT = 20
#: Fewer channels than this on a side make products that are not worth it.
LEAST_CHANNELS = 16
#: A tile has at most so many elements: each is a value of its own in the code that maps it.
MOST_PLACES = 64
#: Kernels are no images.
NO_CHANNELS = -1
#: It has to save this share of the time.
WORTH = 0.85


@dataclass(frozen=True)
class Maps:
    """Of F(m, 3): y = out^T ((taps w) * (image x)), with one column of `out` per result."""

    m: int
    image: np.ndarray
    taps: np.ndarray
    out: np.ndarray


def _literal(matrix: np.ndarray) -> Literal:
    return Literal.of(matrix, float64)


#: Interpolation at 0, 1, -1 and infinity.
F2 = Maps(
    2,
    np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]], float),
    np.array([[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]], float),
    np.array([[1, 0], [1, 1], [1, -1], [0, 1]], float),
)
#: At 0, 1, -1, 2, -2 and infinity.
F4 = Maps(
    4,
    np.array([
        [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
    ], float),
    np.array([
        [1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1],
    ], float),
    np.array([
        [1, 0, 0, 0], [1, 1, 1, 1], [1, -1, 1, -1], [1, 2, 4, 8], [1, -2, 4, -8], [0, 0, 0, 1],
    ], float),
)  # fmt: skip


def use_winograd(graph: Graph) -> Graph:
    """Replace the convolutions for which that pays; the same graph if there is none."""
    return rewrite(graph, {ops.contract: [convolution_of_tiles]})


@dataclass(frozen=True)
class _Along:
    """One axis along which is convolved: the image is read at place + sign * tap + start.

    axis: of the image. tap, place: labels.
    """

    axis: int
    tap: str
    place: str
    sign: int
    start: int


@dataclass(frozen=True)
class _Convolution:
    """A convolution, or the gradient of one with respect to its kernel (`of_taps`).

    image: the number of the operand that is the image. sizes: of the labels.
    """

    spec: ContractSpec
    image: int
    along: tuple[_Along, ...]
    of_taps: bool
    sizes: dict[str, int]

    @property
    def convolved(self) -> set[str]:
        """The labels of taps and places."""
        return {label for a in self.along for label in (a.tap, a.place)}

    @property
    def image_maps(self) -> tuple[Dim, ...]:
        return (self.spec.lhs, self.spec.rhs)[self.image]

    @property
    def other_maps(self) -> tuple[Dim, ...]:
        return (self.spec.lhs, self.spec.rhs)[1 - self.image]


def convolution_of_tiles(op: Operation, build: Rewriter) -> Value | None:
    """contract(image, kernel) -> from_tiles(contract(into_tiles(image), into_tiles(kernel))).  Rounds
    elsewhere."""
    found = _convolution(op)
    maps = None if found is None else _best(found)
    if found is None or maps is None:
        return None
    return (_gradient_of_taps if found.of_taps else _forward)(op, build, found, maps)


def _convolution(op: Operation) -> _Convolution | None:
    """The operation as a convolution by 3 taps along some axes, by steps of one."""
    spec, types = spec_of(op), [x.type for x in op.operands]
    sizes = label_sizes(op)
    if types[0].dtype not in (float32, float64) or spec.within is not None:
        return None
    known = {name: d for name, d in sizes.items() if isinstance(d, int) and d > 0}
    windowed = [n for n, maps in enumerate((spec.lhs, spec.rhs)) if not all(map(_is_label, maps))]
    if len(windowed) != 1 or len(known) < len(sizes):
        return None
    (image,) = windowed
    maps = (spec.lhs, spec.rhs)[image]
    along = [_along(spec, a, i, known) for a, i in enumerate(maps) if not _is_label(i)]
    axes = [a for a in along if a is not None]
    if len(axes) < len(along) or len({a.tap in spec.over for a in axes}) != 1:
        return None
    of_taps = axes[0].tap not in spec.over
    if of_taps and any(a.sign < 0 for a in axes):
        return None
    made = _Convolution(spec, image, tuple(axes), of_taps, known)
    image_labels, other = _labels(made.image_maps), _labels(made.other_maps)
    inside = {a.place if of_taps else a.tap for a in axes}
    fits = made.convolved & other == inside and made.convolved.isdisjoint(image_labels)
    return made if fits and image_labels | other | made.convolved == known.keys() else None


def _is_label(index: Dim) -> bool:
    return isinstance(index, Expr) and symbols_of(index) == {str(index)}


def _along(spec: ContractSpec, axis: int, index: Dim, sizes: dict[str, int]) -> _Along | None:
    """How an index convolves: it is place + tap + start, or place - tap + start."""
    names = symbols_of(index)
    if len(names) != 2 or sum(name in spec.over for name in names) != 1:
        return None
    inner, outer = sorted(names, key=lambda name: name not in spec.over)
    tap, place = (inner, outer) if sizes[inner] == TAPS else (outer, inner)
    sign = coefficient(index, tap)
    start = index - symbol(place) - symbol(tap) * sign if isinstance(sign, int) else None
    if sizes[tap] != TAPS or not isinstance(sign, int) or abs(sign) != 1 or not isinstance(start, int):
        return None
    return _Along(axis, tap, place, sign, start)


def _best(c: _Convolution) -> Maps | None:
    """The maps that save most time; None if none saves enough. Time is counted in operations of a product."""
    image, other = (_labels(maps) - c.convolved for maps in (c.image_maps, c.other_maps))
    of_image = image - other if c.of_taps else image & other & set(c.spec.over)
    if min(prod(c.sizes[n] for n in names) for names in (of_image, other - image)) < LEAST_CHANNELS:
        return None
    direct = 2.0 * prod(c.sizes.values())
    allowed = [maps for maps in (F2, F4) if _places(c, maps) <= MOST_PLACES]
    best = min(allowed, key=lambda maps: _time(c, maps), default=None)
    return best if best is not None and _time(c, best) < WORTH * direct else None


def _places(c: _Convolution, maps: Maps) -> int:
    """The elements of a tile of the image."""
    return int((maps.m + TAPS - 1) ** len(c.along))


def _time(c: _Convolution, maps: Maps) -> float:
    """The products, and the elements that are moved."""
    tiles = prod(-(-c.sizes[a.place] // maps.m) for a in c.along)
    places = _places(c, maps)

    def elements(labels: set[str], per: int) -> int:
        return per * prod(c.sizes[n] for n in labels - c.convolved)

    image = elements(_labels(c.image_maps), places * tiles)
    result = elements(set(c.spec.out), places * (1 if c.of_taps else tiles))
    other = elements(_labels(c.other_maps), places * (tiles if c.of_taps else 1))
    products = 2.0 * places * tiles * prod(d for n, d in c.sizes.items() if n not in c.convolved)
    return float(products + FLOPS_PER_ELEMENT * (2 * image + 2 * result + other))


def _labels(maps: Sequence[Dim]) -> set[str]:
    return {str(i) for i in maps if _is_label(i)}


def _forward(op: Operation, build: Rewriter, c: _Convolution, maps: Maps) -> Value:
    """Of the image's tiles and the kernel."""
    image, kernel = op.operands[c.image], op.operands[1 - c.image]
    summed = [a for a, i in enumerate(c.image_maps) if _labels([i]) & set(c.spec.over)]
    tiles = _tiles_of_image(build, c, maps, image, summed[-1])
    taps = {a.tap for a in c.along}
    kernel, left = _taps_last(build, c, kernel)
    axes = tuple(range(len(left), len(left) + len(c.along)))
    mapped = build(
        ops.into_tiles, kernel, axes=axes, channels=NO_CHANNELS, counts=(1,) * len(axes),
        matrix=_literal(maps.taps), starts=(0,) * len(axes), step=1,
    )  # fmt: skip
    places = [symbol(f"tile{a}") for a in range(len(axes))]
    mapped = build(ops.reshape, mapped, shape=mapped.type.shape[: len(axes) + len(left)])
    out = tuple(str(p) for p in places) + c.spec.out
    over = tuple(name for name in c.spec.over if name not in taps)
    spec = ContractSpec((*places, *_named(c)), (*places, *left), out, over)
    made = build(ops.contract, tiles, mapped, spec=spec)
    back = tuple(c.spec.out.index(a.place) for a in c.along)
    channel = [a for a, n in enumerate(c.spec.out) if n in _labels(c.other_maps)]
    return _from_tiles(build, made, maps.out.T, back, op.result.type.shape, channel[-1])


def _gradient_of_taps(op: Operation, build: Rewriter, c: _Convolution, maps: Maps) -> Value:
    """Of the image's tiles and those of the cotangent."""
    image, ct = op.operands[c.image], op.operands[1 - c.image]
    own = [a for a, i in enumerate(c.image_maps) if _labels([i]) & set(c.spec.out)]
    tiles = _tiles_of_image(build, c, maps, image, own[-1])
    axes = tuple(c.other_maps.index(symbol(a.place)) for a in c.along)
    order = sorted(range(len(axes)), key=axes.__getitem__)
    channel = [a for a, i in enumerate(c.other_maps) if _labels([i]) & set(c.spec.out)]
    mapped = build(
        ops.into_tiles, ct, axes=tuple(axes[n] for n in order), channels=channel[-1],
        counts=tuple(_count(c, c.along[n], maps) for n in order), matrix=_literal(maps.out),
        starts=(0,) * len(axes), step=maps.m,
    )  # fmt: skip
    places = [symbol(f"tile{a}") for a in range(len(axes))]
    taps = {a.tap for a in c.along}
    left = tuple(name for name in c.spec.out if name not in taps)
    of_ct = (*(places[n] for n in order), *c.other_maps)
    spec = ContractSpec((*places, *_named(c)), of_ct, tuple(map(str, places)) + left, c.spec.over)
    made = build(ops.contract, tiles, mapped, spec=spec)
    inner = [1 if name in taps else d for name, d in zip(c.spec.out, op.result.type.shape, strict=True)]
    made = build(ops.reshape, made, shape=(*made.type.shape[: len(axes)], *inner))
    back = tuple(c.spec.out.index(a.tap) for a in c.along)
    return _from_tiles(build, made, maps.taps.T, back, op.result.type.shape, NO_CHANNELS)


def _count(c: _Convolution, along: _Along, maps: Maps) -> int:
    return -(-c.sizes[along.place] // maps.m)


def _named(c: _Convolution) -> tuple[Dim, ...]:
    """The image's labels, tiles being counted by the labels of their places."""
    place = {a.axis: symbol(a.place) for a in c.along}
    return tuple(place.get(axis, i) for axis, i in enumerate(c.image_maps))


def _tiles_of_image(build: Rewriter, c: _Convolution, maps: Maps, image: Value, channel: int) -> Value:
    starts = tuple(a.start if a.sign > 0 else a.start - (TAPS - 1) for a in c.along)
    return build(
        ops.into_tiles, image, axes=tuple(a.axis for a in c.along), channels=channel,
        counts=tuple(_count(c, a, maps) for a in c.along), matrix=_literal(maps.image), starts=starts,
        step=maps.m,
    )  # fmt: skip


def _taps_last(build: Rewriter, c: _Convolution, kernel: Value) -> tuple[Value, tuple[Dim, ...]]:
    """The kernel with its taps last, in the order in which they are read along the image, and the labels of
    its other axes: those that are summed come first."""
    index = c.other_maps
    taps = [index.index(symbol(a.tap)) for a in c.along]
    rest = sorted(
        (a for a in range(len(index)) if a not in taps), key=lambda a: str(index[a]) not in c.spec.over
    )
    kernel = build(ops.permute, kernel, perm=(*rest, *taps))
    turned = tuple(len(rest) + n for n, a in enumerate(c.along) if a.sign < 0)
    if turned:
        kernel = build(ops.flip, kernel, axes=turned)
    return kernel, tuple(index[a] for a in rest)


def _from_tiles(
    build: Rewriter,
    made: Value,
    matrix: np.ndarray,
    axes: tuple[int, ...],
    shape: Sequence[Dim],
    channel: int,
) -> Value:
    """The tiles put together. The labels of the tiles stand in the order of the image's axes."""
    order = sorted(range(len(axes)), key=axes.__getitem__)
    if order != list(range(len(axes))):
        rest = range(len(axes), made.type.rank)
        made = build(ops.permute, made, perm=(*order, *rest))
    axes = tuple(sorted(axes))
    sizes = tuple(shape[a] for a in axes)
    return build(ops.from_tiles, made, axes=axes, channels=channel, matrix=_literal(matrix), sizes=sizes)
