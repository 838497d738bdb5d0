"""Layout classes: one kernel for every size.

Pointwise ops and reductions see their operands through as few axes as strides allow: axes of size 1 are
dropped, neighbours that follow each other in memory are joined. What is left is given at run time, sizes as
s0, s1, ... and strides as t0, t1, ...; only whether the innermost stride is 0, 1 or another belongs to the
class, and so to the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..ir.builder import GraphBuilder
from ..ir.dtypes import DType
from ..ir.expr import Dim, symbol
from ..ir.graph import Value
from ..ir.strided import StridedType
from ..ir.types import TensorType, row_major_strides

Ints = tuple[int, ...]


@dataclass(frozen=True)
class Axis:
    """An axis of the joint iteration space: its size, the stride of each operand, and whether it is
    reduced."""

    size: int
    strides: Ints
    reduced: bool = False


@dataclass(frozen=True)
class Layout:
    """What the kernel is compiled for. A stride is a class: 0, 1, or None for one given at run time; an
    operand whose strides are None is row-major."""

    dtypes: tuple[DType, ...]
    reduced: tuple[bool, ...]
    strides: tuple[tuple[int | None, ...] | None, ...]


@dataclass
class Space:
    """The joint iteration space of some operands: its layout class, and what is given at run time,
    by name."""

    layout: Layout
    sizes: dict[str, int] = field(default_factory=dict)

    def inputs(self, build: GraphBuilder) -> list[Value]:
        """The operands as inputs of a graph."""
        shape = tuple(symbol(f"s{a}") for a in range(len(self.layout.reduced)))
        names = iter(f"t{i}" for i in range(len(self.sizes)))
        values = []
        for dtype, strides in zip(self.layout.dtypes, self.layout.strides, strict=True):
            full: tuple[Dim, ...] | None = None
            if strides is not None:
                full = tuple(symbol(next(names)) if s is None else s for s in strides)
            values.append(build.input(TensorType(dtype, shape), strides=full))
        return values


def space(types: Sequence[StridedType], reduced: Sequence[int] = (), keep_last: bool = False) -> Space:
    """The joint iteration space of operands of one shape. reduced: axes that a reduction takes away (at least
    one axis stays reduced then). keep_last: an axis that stays comes last, whatever its size."""
    axes = _joined(types, frozenset(reduced))
    ones = (1,) * len(types)
    if reduced and not any(a.reduced for a in axes):
        axes = [*axes, Axis(1, ones, True)] if not keep_last else [Axis(1, ones, True), *axes]
    if keep_last and (not axes or axes[-1].reduced):
        axes.append(Axis(1, ones))
    if not axes:
        axes = [Axis(1, ones)]
    return _classified(types, axes)


def _joined(types: Sequence[StridedType], reduced: frozenset[int]) -> list[Axis]:
    axes: list[Axis] = []
    for a, n in enumerate(types[0].shape):
        if n == 1:
            continue
        axis = Axis(n, tuple([t.strides[a] for t in types]), a in reduced)
        last = axes[-1] if axes else None
        if last and last.reduced == axis.reduced and last.strides == tuple([n * s for s in axis.strides]):
            axes[-1] = Axis(last.size * n, axis.strides, axis.reduced)
        else:
            axes.append(axis)
    return axes


def _classified(types: Sequence[StridedType], axes: Sequence[Axis]) -> Space:
    sizes = {f"s{a}": axis.size for a, axis in enumerate(axes)}
    dense = row_major_strides(tuple(axis.size for axis in axes))
    classes: list[tuple[int | None, ...] | None] = []
    count = 0
    for i in range(len(types)):
        strides = tuple(axis.strides[i] for axis in axes)
        if strides == dense:
            classes.append(None)
            continue
        inner = strides[-1] if strides[-1] in (0, 1) else None
        classes.append((*(None for _ in strides[:-1]), inner))
        for s in strides[:-1] if inner is not None else strides:
            sizes[f"t{count}"] = s
            count += 1
    layout = Layout(tuple(t.dtype for t in types), tuple(axis.reduced for axis in axes), tuple(classes))
    return Space(layout, sizes)
