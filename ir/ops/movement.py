"""Movement: the same elements at other places. In compiled code these fold into index expressions."""

from __future__ import annotations

import numpy as np

from ..errors import IRTypeError
from ..expr import Dim, product
from ..opdef import define
from ..types import TensorType
from . import moved

Ints = tuple[Dim, ...]


def _fits(x: TensorType, **lists: Ints) -> None:
    for name, values in lists.items():
        if len(values) != x.rank:
            raise IRTypeError(f"{name} needs one entry per axis of {x}, got {values}")


def reshaped(x: TensorType, *, shape: Ints) -> TensorType:
    """f32[4, 6] with shape=(3, 8) -> f32[3, 8]."""
    if product(shape) != x.numel:
        raise IRTypeError(f"can't reshape {x} to {list(shape)}: {x.numel} and {product(shape)} elements")
    return x.with_shape(shape)


def permuted(x: TensorType, *, perm: tuple[int, ...]) -> TensorType:
    """Axis i of the result is axis perm[i]: f32[2, 3, 5] with perm=(2, 0, 1) -> f32[5, 2, 3]."""
    if sorted(perm) != list(range(x.rank)):
        raise IRTypeError(f"perm must hold each axis of {x} once, got {perm}")
    return x.with_shape(tuple(x.shape[p] for p in perm))


def expanded(x: TensorType, *, shape: Ints) -> TensorType:
    """Axes of size 1 repeated: f32[1, 3] with shape=(4, 3) -> f32[4, 3]. The rank stays."""
    _fits(x, shape=shape)
    for have, want in zip(x.shape, shape, strict=True):
        if have not in (1, want):
            raise IRTypeError(f"can't expand {x} to {list(shape)}: {have} is neither 1 nor {want}")
    return x.with_shape(shape)


def sliced(x: TensorType, *, starts: Ints, stops: Ints, steps: Ints) -> TensorType:
    """Elements starts[a], starts[a] + steps[a], ... below stops[a] of each axis; steps are positive."""
    _fits(x, starts=starts, stops=stops, steps=steps)
    sizes = []
    for n, lo, hi, step in zip(x.shape, starts, stops, steps, strict=True):
        known = all(isinstance(v, int) for v in (n, lo, hi, step))
        if known and not (0 <= lo <= hi <= n and step > 0):  # type: ignore[operator]
            raise IRTypeError(f"slice {lo}:{hi}:{step} does not lie within size {n} of {x}")
        sizes.append((hi - lo + step - 1) // step)
    return x.with_shape(tuple(sizes))


def updated(x: TensorType, v: TensorType, *, starts: Ints, steps: Ints) -> TensorType:
    """x with the slice at starts, steps (of v's size) replaced by v."""
    _fits(x, starts=starts, steps=steps)
    _fits(v, starts=starts)
    if v.dtype is not x.dtype:
        raise IRTypeError(f"the new values are {v}, the tensor is {x}")
    for n, m, lo, step in zip(x.shape, v.shape, starts, steps, strict=True):
        known = all(isinstance(k, int) for k in (n, m, lo, step))
        if known and m != 0 and not (lo >= 0 and step > 0 and lo + (m - 1) * step < n):  # type: ignore[operator]
            raise IRTypeError(f"a slice of {v} at {starts} by {steps} does not lie within {x}")
    return x


def padded(x: TensorType, value: TensorType, *, lo: Ints, hi: Ints, interior: Ints) -> TensorType:
    """lo[a] copies of `value` before, hi[a] after, interior[a] between neighbours of each axis."""
    _fits(x, lo=lo, hi=hi, interior=interior)
    if value != TensorType(x.dtype):
        raise IRTypeError(f"the pad value must be {TensorType(x.dtype)}, got {value}")
    if bad := [v for v in (*lo, *hi, *interior) if isinstance(v, int) and v < 0]:
        raise IRTypeError(f"padding must not be negative, got {bad}")
    sizes = []
    for n, a, b, i in zip(x.shape, lo, hi, interior, strict=True):
        inner = n if i == 0 else (0 if n == 0 else n + (n - 1) * i)
        sizes.append(a + inner + b)
    return x.with_shape(tuple(sizes))


def flipped(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    """Elements of these axes in reverse."""
    if bad := [a for a in axes if not 0 <= a < x.rank]:
        raise IRTypeError(f"axes {bad} are out of range for {x}")
    return x


def concatenated(*types: TensorType, axis: int) -> TensorType:
    """f32[2, 3], f32[4, 3] along axis 0 -> f32[6, 3]."""
    if not types or not 0 <= axis < types[0].rank:
        raise IRTypeError(
            f"concat needs at least one operand with an axis {axis}, got {', '.join(map(str, types))}"
        )
    first = types[0]
    total: Dim = 0
    for t in types:
        rest = [d for a, d in enumerate(t.shape) if a != axis]
        if (
            t.dtype is not first.dtype
            or t.rank != first.rank
            or rest != [d for a, d in enumerate(first.shape) if a != axis]
        ):
            raise IRTypeError(f"concat along axis {axis}: {t} does not fit {first}")
        total = total + t.shape[axis]
    return first.with_shape((*first.shape[:axis], total, *first.shape[axis + 1 :]))


def windowed(
    x: TensorType, *, axes: tuple[int, ...], sizes: Ints, strides: Ints, dilations: Ints
) -> TensorType:
    """Sliding windows: each of `axes` shrinks to the number of windows, the places within a window are new
    trailing axes, in order. f32[1, 8] with axes=(1,), sizes=(3,), strides=(2,), dilations=(1,) -> f32[1, 3,
    3]."""
    if not len(axes) == len(set(axes)) == len(sizes) == len(strides) == len(dilations):
        raise IRTypeError(
            f"window needs distinct axes with a size, stride and dilation each, got axes {axes}"
        )
    if bad := [v for v in (*sizes, *strides, *dilations) if isinstance(v, int) and v < 1]:
        raise IRTypeError(f"window sizes, strides and dilations must be at least 1, got {bad[0]}")
    shape = list(x.shape)
    for a, size, stride, dilation in zip(axes, sizes, strides, dilations, strict=True):
        if not 0 <= a < x.rank:
            raise IRTypeError(f"window axis {a} is out of range for {x}")
        reach, length = dilation * (size - 1) + 1, x.shape[a]
        if isinstance(reach, int) and isinstance(length, int) and reach > length:
            raise IRTypeError(f"a window of {size} (dilation {dilation}) does not fit axis {a} of {x}")
        shape[a] = (length - reach) // stride + 1
    return x.with_shape((*shape, *sizes))


def folded(
    ct: TensorType, *, shape: Ints, axes: tuple[int, ...], strides: Ints, dilations: Ints
) -> TensorType:
    """The adjoint of window: overlapping windows added up (in order of the place within the window) into
    axes of these sizes."""
    rank = ct.rank - len(axes)
    if rank < 0 or len(shape) != len(axes) or not all(0 <= a < rank for a in axes):
        raise IRTypeError(f"fold over axes {axes} does not fit {ct} and sizes {shape}")
    sizes = list(ct.shape[:rank])
    for a, n in zip(axes, shape, strict=True):
        sizes[a] = n
    back = windowed(
        ct.with_shape(tuple(sizes)), axes=axes, sizes=ct.shape[rank:], strides=strides, dilations=dilations
    )
    if back != ct:
        raise IRTypeError(f"fold: windows of sizes {list(sizes)} are {back}, got {ct}")
    return ct.with_shape(tuple(sizes))


def strided(x: TensorType, *, shape: Ints, strides: Ints, offset: Dim) -> TensorType:
    """The elements at offset + sum(index * strides) of x taken flat: the tensor that a view of a storage
    shows."""
    if len(shape) != len(strides):
        raise IRTypeError(f"as_strided needs a stride per axis, got shape {shape} and strides {strides}")
    _within(x, shape, strides, offset)
    return x.with_shape(shape)


def strided_updated(x: TensorType, v: TensorType, *, strides: Ints, offset: Dim) -> TensorType:
    """x with the elements that as_strided(strides, offset) shows replaced by v."""
    if len(v.shape) != len(strides) or v.dtype is not x.dtype:
        raise IRTypeError(f"as_strided_update: {v} with strides {strides} does not fit {x}")
    _within(x, v.shape, strides, offset)
    return x


def _within(x: TensorType, shape: Ints, strides: Ints, offset: Dim) -> None:
    total = x.numel
    reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    steps = [r for r in reach if isinstance(r, int)]
    if not isinstance(total, int) or not isinstance(offset, int) or len(steps) < len(reach) or 0 in shape:
        return
    if offset + sum(min(r, 0) for r in steps) < 0 or offset + sum(max(r, 0) for r in steps) >= total:
        raise IRTypeError(f"strides {strides} from {offset} for {list(shape)} reach outside {x}")


def _reshape(x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
    return np.reshape(x, shape)


reshape = define("reshape", 1, reshaped, _reshape, movement=True)
permute = define("permute", 1, permuted, lambda x, *, perm: np.transpose(x, perm), movement=True)
expand = define("expand", 1, expanded, lambda x, *, shape: np.broadcast_to(x, shape), movement=True)
slice_ = define("slice", 1, sliced, moved.slice_, movement=True)
update_slice = define("update_slice", 2, updated, moved.update_slice, movement=True)
pad = define("pad", 2, padded, moved.pad, movement=True)
flip = define("flip", 1, flipped, lambda x, *, axes: np.flip(x, axes), movement=True)
concat = define("concat", None, concatenated, lambda *xs, axis: np.concatenate(xs, axis), movement=True)
window = define("window", 1, windowed, moved.window, movement=True)
fold = define("fold", 1, folded, moved.fold, wide=True)
as_strided = define("as_strided", 1, strided, moved.as_strided, movement=True)
as_strided_update = define("as_strided_update", 2, strided_updated, moved.as_strided_update, movement=True)
