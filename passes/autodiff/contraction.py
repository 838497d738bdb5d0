"""The derivative of a contraction, for any index maps.

For y[out] = sum over l[L] r[R] the cotangent of l at a place p sums ct[out] r[R] over all labels with L = p.
Axis by axis the equation L = p is solved for one label: a label alone on its axis *is* the place; of an
affine map such as `oh*s + kh - 1` the label `oh` is eliminated: `ct` is read at `h - kh + 1`, between whose
rows s - 1 rows of zeros are put if s > 1. So both gradients of a matrix product and of a convolution are
contractions again. The summed labels are those of the forward contraction that are left (kh, kw), then those
of its result (n, oh, ow or co).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...ir import ops
from ...ir.builder import Builder, broadcast, full, scalar
from ...ir.contraction import ContractSpec
from ...ir.dtypes import DType, bool_, int64
from ...ir.expr import Dim, Expr, coefficient, substitute, symbol, symbols_of
from ...ir.types import TensorType
from .rules import V, vjp

Maps = tuple[Dim, ...]


@vjp(ops.contract)
def contract(build: Builder[V], ct: V, y: V, lhs: V, rhs: V, *, spec: ContractSpec) -> tuple[V, V]:
    """Two contractions: of ct with rhs, and of lhs with ct."""
    sizes = spec.label_extents(build.type_of(lhs).shape, build.type_of(rhs).shape)
    dtype, ct_maps = build.type_of(lhs).dtype, tuple(map(symbol, spec.out))
    ct = _cast(build, ct, dtype)  # exact where the sums of a narrow type were cast to it
    dl = Adjoint(sizes, spec, spec.lhs, build.type_of(lhs), [ct_maps, spec.rhs])
    dr = Adjoint(sizes, spec, spec.rhs, build.type_of(rhs), [spec.lhs, ct_maps])
    return dl.built(build, [ct, rhs]), dr.built(build, [lhs, ct])


def _cast(build: Builder[V], x: V, dtype: DType) -> V:
    return x if build.type_of(x).dtype is dtype else build(ops.cast, x, dtype=dtype)


def is_label(index: Dim) -> bool:
    """Whether an index map is a label alone."""
    return isinstance(index, Expr) and symbols_of(index) == {str(index)}


@dataclass
class Adjoint:
    """The contraction that gives the cotangent of one operand (`target`) from ct and the other operand.

    maps: of the two, in the order in which they are multiplied; rewritten as labels are eliminated.
    dilated: (which of the two, axis) -> rows of zeros to put between its rows.
    axes: for each axis of the target its label in the new result, or None for an axis read at one place only.
    """

    sizes: dict[str, Dim]
    spec: ContractSpec
    target: Maps
    type: TensorType
    maps: list[Maps]
    axes: list[str | None] = field(default_factory=list)
    dilated: dict[tuple[int, int], int] = field(default_factory=dict)

    def built(self, build: Builder[V], operands: list[V]) -> V:
        """The cotangent."""
        maps = self.maps
        if not all(self._solve(axis, index) for axis, index in enumerate(self.target)):
            self.maps = maps
            return self._scattered(build, operands)
        for (side, axis), between in self.dilated.items():
            operands[side] = _dilate(build, operands[side], axis, between)
        out = [label for label in self.axes if label is not None]
        return self._placed(build, self._summed(build, operands, out))

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
        if not bare or (abs(factor) != 1 and len(homes) != 1):
            return False
        place = self._fresh(f"x{axis}", self.type.shape[axis])
        # factor * label = place - rest; with rows of zeros put in between, label stands for |factor| * label.
        solution = (place - substitute(index, {label: 0})) * (1 if factor > 0 else -1)
        self.maps = [tuple(substitute(i, {label: solution}) for i in m) for m in self.maps]
        if abs(factor) != 1:
            self.dilated[bare[0]] = abs(factor) - 1
        self.axes.append(str(place))
        return True

    def _fresh(self, name: str, size: Dim) -> Expr:
        """A label that occurs nowhere yet."""
        while name in self.sizes:
            name += "_"
        self.sizes[name] = size
        return symbol(name)

    def _summed(self, build: Builder[V], operands: list[V], out: list[str]) -> V:
        """The contraction to these labels; those that no operand varies along are repeated afterwards."""
        used = {name for m in self.maps for i in m for name in symbols_of(i)}
        over = tuple(n for n in (*self.spec.over, *self.spec.out) if n in used and n not in out)
        varying = [n for n in out if n in used]
        if not over and all(len(set(m)) == len(m) and all(map(is_label, m)) for m in self.maps):
            result = self._product(build, operands, varying)
        else:
            alone = {str(i) for m in self.maps for i in m if is_label(i)}
            extents = tuple(sorted((n, self.sizes[n]) for n in used - alone))
            spec = ContractSpec(self.maps[0], self.maps[1], tuple(varying), over, extents)
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

    def _placed(self, build: Builder[V], x: V) -> V:
        """The cotangent of the whole target: axes read at one place get zeros at all others."""
        shape = self.type.shape
        single = tuple(1 if label is None else n for label, n in zip(self.axes, shape, strict=True))
        x = build(ops.reshape, x, shape=single)
        if single == shape:
            return x
        lo = tuple(i if isinstance(i, int) else 0 for i in self.target)
        hi = tuple(n - m - a for n, m, a in zip(shape, single, lo, strict=True))
        zero = scalar(build, 0, self.type.dtype)
        return build(ops.pad, x, zero, lo=lo, hi=hi, interior=(0,) * len(shape))

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


def _dilate(build: Builder[V], x: V, axis: int, between: int) -> V:
    """x with rows of zeros between neighbours along an axis."""
    type_ = build.type_of(x)
    none = (0,) * type_.rank
    interior = tuple(between if a == axis else 0 for a in range(type_.rank))
    return build(ops.pad, x, scalar(build, 0, type_.dtype), lo=none, hi=none, interior=interior)
