"""Square brackets: ints, slices, None and ... give views; tensors and masks gather and scatter.

As in PyTorch, ints, slices and None act first, as views; then the index tensors, broadcast together, replace
their dimensions: where they stand if those are adjacent, in front if not.
"""

from __future__ import annotations

import types as _types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from vitrify.ir import dtypes, ops
from vitrify.ir.opdef import BoundOp, bind
from vitrify.ir.strided import StridedType

from .._dispatch import Moves, apply, assign, check_writable, moved, remembered, together
from .._promotion import as_element, as_operand, broadcast_shapes
from .._tensor import Tensor
from .casting import cast
from .creation import from_numpy, tensor
from .movement import expand, movedim, reshape

_NUMBERS = (int, np.integer)


@dataclass
class _Plan:
    """What an index does: a slice of every dimension, the shape after that, then index tensors by
    dimension."""

    starts: list[int]
    stops: list[int]
    steps: list[int]
    shape: list[int]
    advanced: dict[int, Tensor]


def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index]."""
    key = _basic_key(index)
    if key is not None:
        return moved(_basic_steps(x._type, key), x)
    plan = _plan(x._type.shape, _items(index))
    shown = _basic(x, plan)
    return _gathered(shown, plan.advanced) if plan.advanced else shown


def _basic_key(index: Any) -> Any:
    """What stands for an index of ints, slices, None and ... in a dictionary; None for any other."""
    if index.__class__ is int:
        return (index,)
    items = index if index.__class__ is tuple else (index,)
    key = []
    for item in items:
        if item.__class__ is slice:
            item = (item.start, item.stop, item.step)
            if not all(v is None or v.__class__ is int for v in item):
                return None
        elif not (item is None or item is Ellipsis or item.__class__ is int):
            return None  # a tuple, too: it is a tensor of indices
        key.append(item)
    return tuple(key)


@remembered
def _basic_steps(have: StridedType, key: tuple[Any, ...]) -> tuple[BoundOp | Moves, ...]:
    """The slice and the reshape that an index of ints, slices, None and ... stands for."""
    items = [slice(*i) if isinstance(i, tuple) else i for i in key]
    plan = _plan(have.shape, items)
    steps = []
    shown = have.shape
    if plan.stops != list(shown) or any(plan.starts) or plan.steps != [1] * len(shown):
        steps.append(
            bind(ops.slice_, starts=tuple(plan.starts), stops=tuple(plan.stops), steps=tuple(plan.steps))
        )
        bounds = zip(plan.starts, plan.stops, plan.steps, strict=True)
        shown = tuple(len(range(*bound)) for bound in bounds)
    if not steps or shown != tuple(plan.shape):
        steps.append(bind(ops.reshape, shape=tuple(plan.shape)))
    return together(tuple(steps), have)


def setitem(x: Tensor, index: Any, value: Any) -> None:
    """x[index] = value."""
    if _is_mask_for(x, index) and _is_scalar(value):
        _fill_masked(x, index, value)
        return
    key = _basic_key(index)
    if key is not None:
        shown = getitem(x, index)
        assign(shown, _value_like(value, shown, shown._type.shape))
        return
    plan = _plan(x._type.shape, _items(index))
    shown = _basic(x, plan)
    if plan.advanced:
        index_put_(shown, plan.advanced, value)
    else:
        assign(shown, _value_like(value, shown, shown._type.shape))


def _is_mask_for(x: Tensor, index: Any) -> bool:
    return isinstance(index, Tensor) and index._type.dtype is dtypes.bool_ and index.ndim == x.ndim > 0


def _is_scalar(value: Any) -> bool:
    return value._type.numel == 1 and value.ndim == 0 if isinstance(value, Tensor) else np.ndim(value) == 0


def _fill_masked(x: Tensor, mask: Tensor, value: Any) -> None:
    """Without looking at the mask, so that it can be traced."""
    _check_mask(mask, x._type.shape, 0)
    check_writable(x)
    filled = as_element(value, x.dtype, x._type.shape)
    assign(x, apply(bind(ops.select), mask, filled, x))


def _value_like(value: Any, target: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The value in the target's dtype, broadcast to a shape; leading dimensions of size 1 may be too many."""
    if not isinstance(value, Tensor):
        number = isinstance(value, (bool, int, float, complex)) or hasattr(value, "_traced_scalar")
        if number:
            return as_element(value, target.dtype, shape)
        value = tensor(value, dtype=target.dtype)
    while value.ndim > len(shape) and value._type.shape[0] == 1:
        value = reshape(value, *value._type.shape[1:])
    return expand(cast(value, target.dtype), *shape)


def _items(index: Any) -> list[Any]:
    return [_item(i) for i in (index if isinstance(index, tuple) else (index,))]


def _plan(shape: tuple[int, ...], items: list[Any]) -> _Plan:
    taken = sum(_dims_taken(i) for i in items)
    if taken > len(shape):
        if not shape and any(isinstance(i, _NUMBERS) and not isinstance(i, bool) for i in items):
            raise IndexError(
                "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in "
                "C++ to "
                "convert a 0-dim tensor to a number"
            )
        raise IndexError(f"too many indices for tensor of dimension {len(shape)}")
    plan = _Plan([], [], [], [], {})
    for item in items:
        if item is Ellipsis:
            for _ in range(min(len(shape) - taken, len(shape) - len(plan.starts))):
                _keep(plan, shape)
        else:
            _add(plan, shape, item)
    while len(plan.starts) < len(shape):
        _keep(plan, shape)
    return plan


def _item(item: Any) -> Any:
    """An index as an int, a bool, a slice, None, Ellipsis or a tensor of int64 or bool."""
    if item is None or item is Ellipsis or isinstance(item, (bool, slice)) or item.__class__ is int:
        return item
    if isinstance(item, np.integer):
        return int(item)
    if isinstance(item, (list, tuple, range, np.ndarray)):
        item = tensor(
            list(item) if isinstance(item, range) else item, dtype=None if len(item) else dtypes.int64
        )
    if isinstance(item, Tensor):
        if item.dtype.is_integer and item.dtype is not dtypes.uint8:
            return int(item.item()) if item.ndim == 0 else cast(item, dtypes.int64)
        if item.dtype in (dtypes.bool_, dtypes.uint8):
            return cast(item, dtypes.bool_)
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    if hasattr(item, "__index__") and not isinstance(item, _types.BuiltinFunctionType):
        return item.__index__()
    if isinstance(item, str):
        raise TypeError("new(): invalid data type 'str'")
    raise IndexError(
        "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices "
        f"(got {type(item).__name__})"
    )


def _dims_taken(item: Any) -> int:
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    if isinstance(item, Tensor) and item._type.dtype is dtypes.bool_:
        return item.ndim
    return 1


def _keep(plan: _Plan, shape: Sequence[int]) -> None:
    n = shape[len(plan.starts)]
    _slice(plan, 0, n, 1, [n])


def _slice(plan: _Plan, start: int, stop: int, step: int, sizes: Sequence[int]) -> None:
    """Take a dimension's slice, which shows as dimensions of these sizes (none for an int)."""
    plan.starts.append(start)
    plan.stops.append(stop)
    plan.steps.append(step)
    plan.shape.extend(sizes)


def _add(plan: _Plan, shape: Sequence[int], item: Any) -> None:
    axis = len(plan.starts)
    if item is None:
        plan.shape.append(1)
    elif isinstance(item, bool):
        plan.shape.append(1)
        plan.advanced[len(plan.shape) - 1] = tensor([0] * item, dtype=dtypes.int64)
    elif isinstance(item, int):
        n = shape[axis]
        if not -n <= item < n:
            raise IndexError(f"index {item} is out of bounds for dimension {axis} with size {n}")
        _slice(plan, item % n, item % n + 1, 1, [])
    elif isinstance(item, slice):
        _add_slice(plan, shape[axis], item)
    elif item._type.dtype is dtypes.bool_:
        _add_mask(plan, shape, item)
    else:
        plan.advanced[len(plan.shape)] = item
        _keep(plan, shape)


def _add_slice(plan: _Plan, n: int, item: slice) -> None:
    start, stop, step = (None if v is None else int(v) for v in (item.start, item.stop, item.step))
    if step is not None and step <= 0:
        raise ValueError("step must be greater than zero")
    lo, hi, step = slice(start, stop, step).indices(n)
    hi = max(lo, hi)
    _slice(plan, lo, hi, step, [(hi - lo + step - 1) // step])


def _check_mask(mask: Tensor, shape: Sequence[int], axis: int) -> None:
    for i, n in enumerate(mask._type.shape):
        if shape[axis + i] != n:
            raise IndexError(
                f"The shape of the mask {list(mask.shape)} at index {i} does not match the shape of the "
                "indexed tensor "
                f"{list(shape)} at index {axis + i}"
            )


def _add_mask(plan: _Plan, shape: Sequence[int], mask: Tensor) -> None:
    _check_mask(mask, shape, len(plan.starts))
    if mask.ndim == 0:
        plan.shape.append(1)
        plan.advanced[len(plan.shape) - 1] = tensor([0] * bool(mask), dtype=dtypes.int64)
        return
    for places in np.nonzero(mask._array("a mask as index")):
        plan.advanced[len(plan.shape)] = from_numpy(places.astype(np.int64))
        _keep(plan, shape)


def _basic(x: Tensor, plan: _Plan) -> Tensor:
    """The view that ints, slices and None give."""
    shape = x._type.shape
    if plan.stops != list(shape) or any(plan.starts) or plan.steps != [1] * len(shape):
        op = bind(ops.slice_, starts=tuple(plan.starts), stops=tuple(plan.stops), steps=tuple(plan.steps))
        x = apply(op, x)
        return (
            x if x._type.shape == tuple(plan.shape) else apply(bind(ops.reshape, shape=tuple(plan.shape)), x)
        )
    return apply(bind(ops.reshape, shape=tuple(plan.shape)), x)


def _indices(advanced: dict[int, Tensor]) -> tuple[tuple[int, ...], list[Tensor], tuple[int, ...]]:
    """The dimensions, the index tensors of one shape, and that shape."""
    axes = tuple(sorted(advanced))
    try:
        shape = broadcast_shapes(*(advanced[a]._type.shape for a in axes))
    except RuntimeError:
        shapes = ", ".join(str(list(advanced[a].shape)) for a in axes)
        raise IndexError(
            f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}"
        ) from None
    return axes, [as_operand(advanced[a], dtypes.int64, shape) for a in axes], shape


def _place(axes: tuple[int, ...]) -> int:
    """Where the index dimensions go: where they stood if adjacent, else in front."""
    return axes[0] if axes[-1] - axes[0] == len(axes) - 1 else 0


def _gathered(x: Tensor, advanced: dict[int, Tensor]) -> Tensor:
    axes, indices, shape = _indices(advanced)
    picked = apply(bind(ops.gather, axes=axes), x, *indices)
    at, count = _place(axes), len(shape)
    return picked if at == 0 else movedim(picked, list(range(count)), list(range(at, at + count)))


def index_put_(x: Tensor, advanced: dict[int, Tensor], value: Any, accumulate: bool = False) -> Tensor:
    """Overwrite (or add to) the elements at the given indices by dimension; gives x."""
    check_writable(x)
    axes, indices, shape = _indices(advanced)
    if x._type.numel == 0 and indices[0]._type.numel and any(x._type.shape[a] == 0 for a in axes):
        raise IndexError("index is out of bounds for dimension with size 0")  # no element is left to check
    rest = tuple(n for a, n in enumerate(x._type.shape) if a not in axes)
    at, count = _place(axes), len(shape)
    values = _value_like(value, x, (*rest[:at], *shape, *rest[at:]))
    if at:
        values = movedim(values, list(range(at, at + count)), list(range(count)))
    op = bind(ops.scatter_add if accumulate else ops.scatter, axes=axes)
    if accumulate and x._type.dtype is dtypes.bool_:  # the sum of bools is whether one of them is true
        counts = apply(op, cast(x, dtypes.int64), cast(values, dtypes.int64), *indices)
        return assign(x, cast(counts, dtypes.bool_))
    return assign(x, apply(op, x, values, *indices))


def index_put(input: Tensor, indices: Sequence[Tensor], values: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of input with the elements at the indices (one tensor per leading dimension) replaced or added
    to.
    """
    plan = _plan(input._type.shape, _items(tuple(indices)))
    copy = cast(input, input.dtype, copy=True)
    return index_put_(copy, plan.advanced, values, accumulate)


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The places of the elements that are not zero: a row each, or one tensor per dimension."""
    array = input._array("nonzero")
    if as_tuple:
        return tuple(from_numpy(p.astype(np.int64)) for p in np.nonzero(np.atleast_1d(array)))
    return from_numpy(np.argwhere(array).astype(np.int64))


def argwhere(input: Tensor) -> Tensor:
    """The places of the elements that are not zero, a row each."""
    return nonzero(input)


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask is True, in one dimension."""
    if mask._type.dtype is not dtypes.bool_:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    shape = broadcast_shapes(input._type.shape, mask._type.shape)
    return getitem(expand(input, *shape), expand(mask, *shape))
