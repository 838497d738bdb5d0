"""The derivative of a contraction, for any index maps.

For y[out] = sum over l[L] r[R] the cotangent of l at a place p sums ct[out] r[R] over all labels with L = p.
Axis by axis the equation L = p is solved for one label: a label alone on its axis *is* the place; of an
affine map such as `oh + kh - 1` the label `oh` is eliminated: `ct` is read at `h - kh + 1`. So both gradients
of a matrix product and of a convolution are contractions again. The summed labels are those of the forward
contraction that are left (kh, kw), then those of its result (n, oh, ow or co). Where the label counts steps
of several places (`contraction_phases`) there is a contraction for each phase.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import product

from ...ir import ops
from ...ir.builder import Builder, broadcast, full, scalar
from ...ir.contraction import ContractSpec
from ...ir.dtypes import DType, bool_, int64
from ...ir.expr import Dim, Expr, coefficient, substitute, symbol, symbols_of
from ...ir.types import TensorType
from .contraction_phases import Along, Phase, Stride
from .rules import V, vjp

Maps = tuple[Dim, ...]


@vjp(ops.contract)
def contract(build: Builder[V], ct: V, y: V, lhs: V, rhs: V, *, spec: ContractSpec) -> tuple[V, V]:
    """Two contractions: of ct with rhs, and of lhs with ct."""
    x, w = build.type_of(lhs), build.type_of(rhs)
    ct = _cast(build, ct, x.dtype)  # exact where the sums of a narrow type were cast to it
    ct_maps, sizes = tuple(map(symbol, spec.out)), spec.label_extents(x.shape, w.shape)
    dr = Adjoint(sizes, spec, spec.rhs, w, [spec.lhs, ct_maps])
    return spread(build, spec, x, ct, rhs), dr.built(build, [lhs, ct])


def spread(build: Builder[V], spec: ContractSpec, target: TensorType, ct: V, rhs: V) -> V:
    """What `ct` gives an lhs of this type by way of a contraction: its cotangent, if ct is the result's; of
    a convolution the transposed one. ct and rhs: of the target's dtype."""
    sizes = spec.label_extents(target.shape, build.type_of(rhs).shape)
    maps = [tuple(map(symbol, spec.out)), spec.rhs]
    return Adjoint(dict(sizes), spec, spec.lhs, target, maps).built(build, [ct, rhs])


def _cast(build: Builder[V], x: V, dtype: DType) -> V:
    return x if build.type_of(x).dtype is dtype else build(ops.cast, x, dtype=dtype)


def is_label(index: Dim) -> bool:
    """Whether an index map is a label alone."""
    return isinstance(index, Expr) and symbols_of(index) == {str(index)}


@dataclass
class Adjoint:
    """The contraction that gives the cotangent of one operand (`target`) from ct and the other operand.

    maps: of the two, in the order in which they are multiplied; rewritten as labels are eliminated.
    axes: for each axis of the target its label in the new result, or None for an axis read at one place only.
    strides: the axes of the target that are taken in phases.
    """

    sizes: dict[str, Dim]
    spec: ContractSpec
    target: Maps
    type: TensorType
    maps: list[Maps]
    axes: list[str | None] = field(default_factory=list)
    strides: list[Stride] = field(default_factory=list)

    def built(self, build: Builder[V], operands: list[V]) -> V:
        """The cotangent."""
        maps, spec = self.maps, self.spec
        if not all(self._solve(axis, index) for axis, index in enumerate(self.target)):
            self.maps, self.spec = maps, spec
            return self._scattered(build, operands)
        operands = [self._padded(build, x, side) for side, x in enumerate(operands)]
        parts = [self._phase(build, operands, found) for found in product(*(s.phases for s in self.strides))]
        if not parts:
            return full(build, 0, self.type)
        return reduce(lambda total, part: build(ops.add, total, part), parts)

    def _padded(self, build: Builder[V], x: V, side: int) -> V:
        """An operand with the zeros that any of the phases reads around it, where there are no taps: its
        index map may be a label alone, which does not reach outside."""
        lo, hi = ([0] * build.type_of(x).rank for _ in range(2))
        for stride in self.strides:
            if stride.home[0] == side and not stride.tap:
                lo[stride.home[1]], hi[stride.home[1]] = stride.margin
        if not any((*lo, *hi)):
            return x
        zero = scalar(build, 0, build.type_of(x).dtype)
        return build(ops.pad, x, zero, lo=tuple(lo), hi=tuple(hi), interior=(0,) * len(lo))

    def _phase(self, build: Builder[V], operands: list[V], phases: tuple[Phase, ...]) -> V:
        """What the places of one phase along each of the strides are given, zeros at all others."""
        maps, sizes, operands = [list(m) for m in self.maps], dict(self.sizes), list(operands)
        for stride, phase in zip(self.strides, phases, strict=True):
            side, axis = stride.home
            maps[side][axis] = stride.index(phase) + (0 if stride.tap else stride.margin[0])
            sizes[stride.place] = phase.places
            if stride.tap_home is not None:
                at, tap_axis = stride.tap_home
                operands[at] = _every(build, operands[at], tap_axis, phase.tap, stride.tap_step)
                sizes[stride.tap] = phase.taps
        part = replace(self, maps=[tuple(m) for m in maps], sizes=sizes)
        out = [label for label in self.axes if label is not None]
        return self._placed(build, part._summed(build, operands, out), phases)

    def _solve(self, axis: int, index: Dim) -> bool:
        """Find the label of one axis of the target; False if there is none."""
        size = self.type.shape[axis]
        if isinstance(index, int):
            self.axes.append(None)
            return not isinstance(size, int) or 0 <= index < size
        if is_label(index):
            self.axes.append(str(index))
            return str(index) not in self.axes[:-1]
        for label in (*self.spec.out, *self.spec.over):
            if self._eliminate(label, axis, index):
                return True
        return False

    def _eliminate(self, label: str, axis: int, index: Dim) -> bool:
        """Take `label` out, which stands in this axis only, in favour of the place along the axis."""
        factor = coefficient(index, label)
        elsewhere = [i for a, i in enumerate(self.target) if a != axis]
        if not isinstance(factor, int) or factor == 0 or any(label in symbols_of(i) for i in elsewhere):
            return False
        homes = [(s, a) for s, m in enumerate(self.maps) for a, i in enumerate(m) if label in symbols_of(i)]
        bare = [(s, a) for s, a in homes if is_label(self.maps[s][a])]
        if not bare:
            return False
        rest = substitute(index, {label: 0})
        if abs(factor) != 1:
            return len(homes) == 1 and self._take_in_phases(bare[0], axis, factor, rest)
        place = self._fresh(f"x{axis}", self.type.shape[axis])
        solution = (place - rest) * factor
        self.maps = [tuple(substitute(i, {label: solution}) for i in m) for m in self.maps]
        if self.spec.within is not None:
            self.spec = replace(self.spec, within=substitute(self.spec.within, {label: solution}))
        self.axes.append(str(place))
        return True

    def _take_in_phases(self, home: tuple[int, int], axis: int, factor: int, rest: Dim) -> bool:
        """Take out a label that stands alone at `home`, for an axis read at factor * label + rest; False if
        rest is more than a constant and a multiple of one label, alone on one axis of the operands."""
        tap = next(iter(symbols_of(rest)), "")
        tap_home, spread = self._home(tap, axis), coefficient(rest, tap) if tap else 0
        offset, size = substitute(rest, {tap: 0}), self.type.shape[axis]
        count, length = self.sizes[tap] if tap else 1, self.sizes[str(self.maps[home[0]][home[1]])]
        if tap and tap_home is None or not isinstance(spread, int) or not isinstance(offset, int):
            return False
        if not (isinstance(size, int) and isinstance(count, int) and isinstance(length, int)):
            return False
        place = str(self._fresh(f"x{axis}", size))
        along = Along(factor, offset, spread, size, count)
        self.strides.append(Stride(axis, place, home, tap, tap_home, along, length))
        self.axes.append(place)
        return True

    def _home(self, label: str, axis: int) -> tuple[int, int] | None:
        """The only place of a label in the operands and the target, but for one axis of that, if it stands
        alone there."""
        homes = [(s, a) for s, m in enumerate(self.maps) for a, i in enumerate(m) if label in symbols_of(i)]
        elsewhere = any(label in symbols_of(i) for a, i in enumerate(self.target) if a != axis)
        (side, at) = homes[0] if len(homes) == 1 and not elsewhere else (0, -1)
        return (side, at) if at >= 0 and is_label(self.maps[side][at]) else None

    def _fresh(self, name: str, size: Dim) -> Expr:
        """A label that occurs nowhere yet."""
        while name in self.sizes:
            name += "_"
        self.sizes[name] = size
        return symbol(name)

    def _summed(self, build: Builder[V], operands: list[V], out: list[str]) -> V:
        """The contraction to these labels; those that no operand varies along are repeated afterwards."""
        dims = (*self.maps[0], *self.maps[1], self.spec.within or 0)
        used = {name for dim in dims for name in symbols_of(dim)}
        over = tuple(n for n in (*self.spec.over, *self.spec.out) if n in used and n not in out)
        varying = [n for n in out if n in used]
        plain = all(len(set(m)) == len(m) and all(map(is_label, m)) for m in self.maps)
        if not over and plain and self.spec.within is None:
            result = self._product(build, operands, varying)
        else:
            alone = {str(i) for m in self.maps for i in m if is_label(i)}
            extents = tuple(sorted((n, self.sizes[n]) for n in used - alone))
            spec = ContractSpec(self.maps[0], self.maps[1], tuple(varying), over, extents, self.spec.within)
            result = _cast(build, build(ops.contract, *operands, spec=spec), self.type.dtype)
        return self._spread(build, result, varying, out)

    def _product(self, build: Builder[V], operands: list[V], out: list[str]) -> V:
        """An outer product: nothing is summed, so that it is elementwise."""
        factors = []
        for operand, maps in zip(operands, self.maps, strict=True):
            labels = [str(i) for i in maps]
            ordered = sorted(labels, key=out.index)
            moved = build(ops.permute, operand, perm=tuple(labels.index(n) for n in ordered))
            factors.append(self._spread(build, moved, ordered, out))
        return build(ops.mul, factors[0], factors[1])

    def _spread(self, build: Builder[V], x: V, have: list[str], out: list[str]) -> V:
        """x over the labels `have` repeated along the others of `out`."""
        column = tuple(self.sizes[n] if n in have else 1 for n in out)
        return broadcast(build, build(ops.reshape, x, shape=column), tuple(self.sizes[n] for n in out))

    def _placed(self, build: Builder[V], x: V, phases: tuple[Phase, ...]) -> V:
        """The cotangent of the whole target, zeros where it was not read: at all but one place of some axes,
        at the other phases of others."""
        shape = self.type.shape
        have = [1 if label is None else n for label, n in zip(self.axes, shape, strict=True)]
        lo = [i if isinstance(i, int) else 0 for i in self.target]
        steps = [1] * len(shape)
        for stride, phase in zip(self.strides, phases, strict=True):
            have[stride.axis], lo[stride.axis] = phase.places, phase.first
            steps[stride.axis] = stride.along.step
        x = build(ops.reshape, x, shape=tuple(have))
        if tuple(have) == shape:
            return x
        ends = [a + (m - 1) * s + 1 for a, m, s in zip(lo, have, steps, strict=True)]
        hi = tuple(n - end for n, end in zip(shape, ends, strict=True))
        zero = scalar(build, 0, self.type.dtype)
        return build(ops.pad, x, zero, lo=tuple(lo), hi=hi, interior=tuple(s - 1 for s in steps))

    def _scattered(self, build: Builder[V], operands: list[V]) -> V:
        """For maps that can't be solved (a label twice, say): the cotangent of every product, added where the
        factor was read, row-major over the target's labels."""
        names = list(dict.fromkeys(str(n) for i in self.target for n in sorted(symbols_of(i))))
        whole = self._summed(build, operands, names)
        grid = tuple(self.sizes[n] for n in names)
        inside = full(build, True, TensorType(bool_, grid))
        places = []
        for index, size in zip(self.target, self.type.shape, strict=True):
            place = _evaluated(build, index, names, grid)
            low, high = full(build, 0, TensorType(int64, grid)), full(build, size, TensorType(int64, grid))
            fits = build(ops.bit_and, build(ops.ge, place, low), build(ops.lt, place, high))
            inside = build(ops.bit_and, inside, fits)
            places.append(build(ops.select, fits, place, low))
        kept = build(ops.select, inside, whole, full(build, 0, build.type_of(whole)))
        return build(
            ops.scatter_add, full(build, 0, self.type), kept, *places, axes=tuple(range(len(places)))
        )


def _evaluated(build: Builder[V], index: Dim, names: list[str], grid: tuple[Dim, ...]) -> V:
    """i64[grid]: the value of an index map at every place of the grid of labels."""
    total = full(build, substitute(index, dict.fromkeys(names, 0)), TensorType(int64, grid))
    for axis, name in enumerate(names):
        factor = coefficient(index, name)
        if factor != 0:
            count = build(ops.iota, shape=grid, axis=axis, dtype=int64)
            total = build(ops.add, total, build(ops.mul, count, full(build, factor, TensorType(int64, grid))))
    return total


def _every(build: Builder[V], x: V, axis: int, first: int, step: int) -> V:
    """Every step-th row of x along an axis, from one on."""
    shape = build.type_of(x).shape
    if (first, step) == (0, 1):
        return x
    starts = tuple(first if a == axis else 0 for a in range(len(shape)))
    steps = tuple(step if a == axis else 1 for a in range(len(shape)))
    return build(ops.slice_, x, starts=starts, stops=shape, steps=steps)
