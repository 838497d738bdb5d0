"""Movement that moves nothing: which results are views of their operand, and with which strides.

A view has a byte offset into its operand's storage and strides of its own; everything else is copied into a
new row-major block. The rules depend on the operand's eager type alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..ir import ops
from ..ir.opdef import BoundOp, OpDef
from ..ir.strided import StridedType, strided_type
from ..ir.types import row_major_strides

Ints = tuple[int, ...]
#: (operand type, attributes) -> (shape, strides, offset in elements), or None where a copy is needed.
ViewRule = Callable[[StridedType, Mapping[str, Any]], "tuple[Ints, Ints, int] | None"]


def view_of(op: BoundOp, operand: StridedType) -> tuple[StridedType, int] | None:
    """The result as a view of its operand: its type and its byte offset. None if the elements must
    be copied."""
    rule = _RULES.get(op.opdef)
    found = rule(operand, op.attrs) if rule else None
    if found is None:
        return None
    shape, strides, offset = found
    result = strided_type(operand.dtype, shape, strides)
    return result, offset * operand.dtype.itemsize if result.numel else 0


def reshaped_strides(shape: Ints, strides: Ints, new_shape: Ints) -> Ints | None:
    """Strides that show a tensor under another shape with as many elements; None if there are none.

    Axes that follow each other in memory are taken as one run and split again; an axis of size 1 fits
    anywhere.
    """
    if 0 in new_shape:
        return row_major_strides(new_shape)  # type: ignore[return-value]
    runs = _runs(shape, strides)
    result: list[int] = []
    left, step = 1, 1
    for n in reversed(new_shape):
        if n != 1 and left == 1:
            left, step = runs.pop()
        if left % n:
            return None
        result.append(step)
        left, step = left // n, step * n
    return tuple(reversed(result))


def _runs(shape: Ints, strides: Ints) -> list[tuple[int, int]]:
    """(size, stride) of the runs of axes that follow each other in memory, without axes of size 1."""
    runs: list[tuple[int, int]] = []
    for n, stride in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if runs and runs[-1][1] == n * stride:
            runs[-1] = (runs[-1][0] * n, stride)
        else:
            runs.append((n, stride))
    return runs


def _reshape(x: StridedType, attrs: Mapping[str, Any]) -> tuple[Ints, Ints, int] | None:
    shape = attrs["shape"]
    strides = reshaped_strides(x.shape, x.strides, shape)
    return None if strides is None else (shape, strides, 0)


def _permute(x: StridedType, attrs: Mapping[str, Any]) -> tuple[Ints, Ints, int]:
    perm = attrs["perm"]
    return tuple(x.shape[p] for p in perm), tuple(x.strides[p] for p in perm), 0


def _expand(x: StridedType, attrs: Mapping[str, Any]) -> tuple[Ints, Ints, int]:
    shape = attrs["shape"]
    return shape, tuple(
        s if n == m else 0 for n, m, s in zip(x.shape, shape, x.strides, strict=True)
    ), 0  # fmt: skip


def _slice(x: StridedType, attrs: Mapping[str, Any]) -> tuple[Ints, Ints, int]:
    starts, stops, steps = attrs["starts"], attrs["stops"], attrs["steps"]
    shape = tuple((hi - lo + step - 1) // step for lo, hi, step in zip(starts, stops, steps, strict=True))
    offset = sum(lo * s for lo, s in zip(starts, x.strides, strict=True))
    return shape, tuple(s * step for s, step in zip(x.strides, steps, strict=True)), offset


def _window(x: StridedType, attrs: Mapping[str, Any]) -> tuple[Ints, Ints, int]:
    axes, sizes, steps, dilations = attrs["axes"], attrs["sizes"], attrs["strides"], attrs["dilations"]
    shape, strides = list(x.shape), list(x.strides)
    for axis, size, step, dilation in zip(axes, sizes, steps, dilations, strict=True):
        shape[axis] = (x.shape[axis] - dilation * (size - 1) - 1) // step + 1
        strides[axis] = x.strides[axis] * step
        strides.append(x.strides[axis] * dilation)
    return (*shape, *sizes), tuple(strides), 0


def _as_strided(x: StridedType, attrs: Mapping[str, Any]) -> tuple[Ints, Ints, int] | None:
    """A walk through the row-major order of x is a view of any x if no step carries from axis to axis: a
    diagonal, for one, is a step along two axes at once."""
    shape, steps, start = attrs["shape"], attrs["strides"], attrs["offset"]
    if min(steps, default=0) < 0 or 0 in x.shape:
        return None
    if x.is_contiguous:
        return shape, steps, start
    first, along = _places(start, x.shape), [_places(step, x.shape) for step in steps]
    for axis, size in enumerate(x.shape):
        if first[axis] + sum((n - 1) * step[axis] for n, step in zip(shape, along, strict=True)) >= size:
            return None
    strides = tuple(_dot(step, x.strides) for step in along)
    return shape, strides, _dot(first, x.strides)


def _places(position: int, shape: Ints) -> Ints:
    """A position in row-major order as one place per axis."""
    places = []
    for size in reversed(shape):
        position, place = divmod(position, size)
        places.append(place)
    return tuple(reversed(places))


def _dot(a: Ints, b: Ints) -> int:
    return sum(i * j for i, j in zip(a, b, strict=True))


_RULES: dict[OpDef, ViewRule] = {
    ops.reshape: _reshape,
    ops.permute: _permute,
    ops.expand: _expand,
    ops.slice_: _slice,
    ops.window: _window,
    ops.as_strided: _as_strided,
}
