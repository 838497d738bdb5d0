"""Methods of `Tensor` that native dispatch serves: where the types of the operands alone decide that a method
is one op (and which), a row is written for it, and from then on the method's Python does not run.

`Resolver`s say when that is so. The Python function stays the meaning of the method: it runs whenever there
is no row, so for every mixture of types, every error, and while a call is captured.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from vitrify.ir import ops
from vitrify.ir.opdef import ALL, BoundOp, OpDef, bind
from vitrify.ir.strided import StridedType

from . import _dispatch, _functions
from ._arguments import parsed
from ._dispatch import native
from ._functions import indexing, movement
from ._learned import due, in_front_of, key_of, python_of
from ._learned import learn as learn_call
from ._promotion import Recipe, broadcast_shapes, number_beside
from ._tape import mode
from ._tensor import Tensor

if native is not None:
    from vitrify.runtime.dispatch_native import AXIS, LENGTH, NUMBERS, Record, packed

#: (called, keys) -> written, or refused for good.
_RowKey = tuple[Hashable, ...]
_known: set[_RowKey] = set()
_dispatch.when_forgotten.append(_known.clear)


def _new(key: _RowKey) -> bool:
    """Whether nothing has been decided about this key yet."""
    if key in _known or _dispatch.captures:
        return False
    if len(_known) >= 4 * _dispatch.MOST_ENTRIES:
        _known.clear()
    _known.add(key)
    return True


def install(name: str, kind: str, function: Callable[..., Any], learn: Callable[..., None]) -> None:
    """Set a method on `Tensor`: native code in front of `function`. learn: (called, operands, result) writes
    a row, if the operands' types allow it."""

    def called(*operands: Any, **options: Any) -> Any:
        if not options and not _dispatch.captures and _may_learn(kind, operands, learn is not no_rows):
            values = (operands[0], *operands[1]) if _is_index(kind, operands) else operands
            key = key_of(called, values)
            if key is not None and due((key, False)):
                return learn_call(key, values, function, operands, options, kind == "binary")
        result = function(*operands, **options)
        if result is not NotImplemented and not options:
            learn(called, operands, result)
        return result

    called.__name__ = name
    python_of[name] = function
    setattr(Tensor, name, native.method(Tensor, kind, name, called, function.__doc__ or ""))


#: Functions of one operand and of two that are one op for many types, and what kinds of dtype these have.
_ONE = "neg abs exp log sin cos tanh erf sqrt rsqrt sigmoid floor ceil trunc"
_TWO = {
    "add": (ops.add, "fiu"), "sub": (ops.sub, "fiu"), "mul": (ops.mul, "fiu"), "div": (ops.div, "f"),
    "eq": (ops.eq, "fiub"), "ne": (ops.ne, "fiub"), "lt": (ops.lt, "fiub"), "le": (ops.le, "fiub"),
    "gt": (ops.gt, "fiub"), "ge": (ops.ge, "fiub"),
}  # fmt: skip
#: Functions whose ops follow from types and plain arguments.
_OTHERS = """
    maximum minimum pow clamp clamp_min clamp_max relu square reciprocal sign round frac lerp addcmul addcdiv
    floor_divide remainder fmod subtract multiply divide negative absolute bitwise_and bitwise_or bitwise_not
    log2 log10 log1p exp2 expm1 tan asin acos atan atan2 sinh cosh asinh acosh atanh erfc
    masked_fill where logical_and logical_or logical_xor logical_not isnan isinf isfinite
    sum mean amax amin max min prod any all argmax argmin cumsum
    reshape permute transpose t squeeze unsqueeze flatten narrow select movedim swapaxes broadcast_to flip
    roll tile diagonal cat concat stack hstack vstack split chunk unbind matmul mm bmm mv dot outer addmm
    baddbmm linear clone gather index_select scatter scatter_add index_add
    softmax log_softmax var std logsumexp norm
    zeros ones full zeros_like ones_like full_like arange linspace eye tril triu einsum
"""
#: Kinds of method whose calls without a row are looked for among the learned ones.
_LEARNED = ("binary", "over_binary", "item", "ints", "sizes", "over_one")


def _may_learn(kind: str, operands: Sequence[Any], rows: bool) -> bool:
    """Whether a call is no matter of rows, if the method writes such: those serve numbers, and indices of
    what needs no node."""
    if kind == "item" and isinstance(operands[0], Tensor) and operands[0]._node is not None and mode.grad:
        return True
    rows &= kind in ("binary", "over_binary", "item")
    return kind in _LEARNED and not (rows and len(operands) == 2 and operands[1].__class__ in (float, int))


def _is_index(kind: str, operands: Sequence[Any]) -> bool:
    return kind == "item" and len(operands) == 2 and operands[1].__class__ is tuple


def no_rows(called: Any, operands: Sequence[Any], result: Any) -> None:
    """For methods whose calls are all learned ones."""


def install_setting(function: Callable[..., Any]) -> None:
    """Set `__setitem__`: native code in front of `function`, for learned calls."""

    def called(*operands: Any) -> Any:
        if len(operands) == 3 and not _dispatch.captures:
            x, index, value = operands
            values = (x, *index, value) if index.__class__ is tuple else operands
            key = key_of(called, values)
            if key is not None and due((key, False)):
                return learn_call(key, values, function, operands, {})
        return function(*operands)

    name = "__setitem__"
    python_of[name] = function
    setattr(Tensor, name, native.method(Tensor, "setting", name, called, function.__doc__ or ""))


def only(kinds: str) -> Callable[..., None]:
    """The method gives the only element, of dtypes of these kinds."""

    def learn(called: Any, operands: Sequence[Any], result: Any) -> None:
        (x,) = operands
        type = x._type
        if type.dtype.kind in kinds and type.dtype.name in NUMBERS and _new((called, type)):
            native.add(called, (type,), Record(type, 1, number=type.dtype.name))

    return learn


# One operand.


def unary(opdef: OpDef, kinds: str) -> Callable[..., None]:
    """The method is this op for dtypes of these kinds."""
    op = bind(opdef)

    def learn(called: Any, operands: Sequence[Any], result: Any) -> None:
        (x,) = operands
        if x._type.dtype.kind in kinds and _new((called, x._type)):
            _dispatch.entry_of(op, (x._type,)).add_row(called, (x._type,))

    return learn


def moving(resolve: Callable[..., BoundOp | None]) -> Callable[..., None]:
    """The method is the op that resolve(type, *ints) gives."""

    def learn(called: Any, operands: Sequence[Any], result: Any) -> None:
        x, *numbers = operands
        if len(numbers) == 1 and type(numbers[0]) is tuple:
            numbers = list(numbers[0])
        words = packed(tuple(numbers)) if all(type(n) is int for n in numbers) else None
        if words is None or not _new((called, x._type, words)):
            return
        op = resolve(x._type, *numbers)
        if op is not None:
            _dispatch.entry_of(op, (x._type,)).add_row(called, (x._type, *(words if numbers else (0, 0))))

    return learn


def reshaped(type: StridedType, *shape: int) -> BoundOp:
    """The op of `x.reshape(*shape)` for a tensor of this type."""
    return movement._reshaping(movement._filled_in(type.numel, shape))


def viewed(type: StridedType, *shape: int) -> BoundOp | None:
    """Only where no copy is needed: elsewhere `view` raises."""
    op = reshaped(type, *shape)
    return op if _dispatch.entry_of(op, (type,)).offset is not None else None


def transposed(type: StridedType) -> BoundOp | None:
    """The op of `x.t()`; None unless there are two dimensions."""
    return movement._transposition(type, 0, 1) if len(type.shape) == 2 else None


def swapped(type: StridedType, *dims: int) -> BoundOp | None:
    """The op of `x.transpose(*dims)`; None unless two are named."""
    return movement._transposition(type, *dims) if len(dims) == 2 else None


def permuted(type: StridedType, *dims: int) -> BoundOp:
    """The op of `x.permute(*dims)`."""
    return movement._permutation(type, dims)


def unsqueezed(type: StridedType, *dims: int) -> BoundOp | None:
    """The op of `x.unsqueeze(dim)`."""
    return movement._unsqueezing(type, *dims) if len(dims) == 1 else None


def squeezed(type: StridedType, *dims: int) -> BoundOp | None:
    """The op of `x.squeeze()` or `x.squeeze(dim)`."""
    return movement._squeezing(type, dims[0] if dims else None) if len(dims) <= 1 else None


def functions() -> dict[str, Callable[..., Any]]:
    """The public functions that have native code in front of them, by name."""
    made = {}
    for name in _ONE.split():
        opdef = ALL[name]
        kinds = "fi" if name in ("neg", "abs") else "f"
        made[name] = in_front_of(parsed(getattr(_functions, name)), "one", unary(opdef, kinds))
    for name, (opdef, kinds) in _TWO.items():
        made[name] = in_front_of(parsed(getattr(_functions, name)), "pair", binary(opdef, kinds))
    for name in _OTHERS.split():
        made[name] = in_front_of(parsed(getattr(_functions, name)))
    return made


# Two operands.


def binary(opdef: OpDef, kinds: str) -> Callable[..., None]:
    """The operator is this op for two tensors of one dtype of these kinds, or one and a number beside it."""
    op = bind(opdef)

    def learn(called: Any, operands: Sequence[Any], result: Any) -> None:
        keys = tuple([x._type if isinstance(x, Tensor) else x.__class__ for x in operands])
        if not _new((called, *keys)):
            return
        if isinstance(operands[0], Tensor) and isinstance(operands[1], Tensor):
            _learn_pair(op, kinds, called, keys)
        else:
            _learn_number(op, kinds, called, keys)

    return learn


def _learn_pair(op: BoundOp, kinds: str, called: Any, keys: tuple[Any, ...]) -> None:
    dtype = keys[0].dtype
    if keys[1].dtype is not dtype or dtype.kind not in kinds:
        return
    shape = broadcast_shapes(*(t.shape for t in keys))
    recipes = [Recipe(t, dtype, shape) for t in keys]
    types = tuple([r.view for r in recipes])
    if None not in types:
        bare = sum(1 << i for i, r in enumerate(recipes) if r.steps)
        meant = tuple([r.view if r.steps else None for r in recipes])
        _dispatch.entry_of(op, types).add_row(called, keys, bare=bare, meant=meant)  # type: ignore[arg-type]


def _learn_number(op: BoundOp, kinds: str, called: Any, keys: tuple[Any, ...]) -> None:
    at = next(i for i, k in enumerate(keys) if isinstance(k, StridedType))
    type, kind = keys[at], keys[1 - at]
    dtype = type.dtype
    if dtype.kind not in kinds or dtype.name not in NUMBERS or kind not in (int, float):
        return
    beside = number_beside(type, kind(1))
    if beside is not None:
        number = beside._type
        types, meant = ((type, number), (None, number)) if at == 0 else ((number, type), (number, None))
        _dispatch.entry_of(op, types).add_row(called, keys, number=dtype.name, meant=meant)


def reflected(opdef: OpDef, kinds: str) -> Callable[..., None]:
    """As `binary`, for the method of the right operand."""
    forward = binary(opdef, kinds)
    return lambda called, operands, result: forward(called, operands[::-1], result)


# Indices.


def learn_index(called: Any, operands: Sequence[Any], result: Any) -> None:
    """Rows for x[int] and for slices of this length, where the result needs no node."""
    x, index = operands
    type = x._type
    if (
        not type.shape
        or not isinstance(result, Tensor)
        or result._view is None
        or (result._node and mode.grad)
    ):
        return
    size, stride = type.shape[0], type.strides[0] * type.dtype.itemsize
    axis = (called, type, 0, AXIS)
    if index.__class__ is int:
        if _new(axis):
            step = stride if result._type.numel else 0
            native.add(called, axis[1:], Record(result._type, size, shift=step))
    elif index.__class__ is slice and _plain(index):
        length = result._type.shape[0]
        if length and _new((called, type, length, LENGTH)):
            if axis not in _known:
                learn_index(called, (x, 0), indexing.getitem(x, 0))
            native.add(called, (type, length, LENGTH), Record(result._type, size))


def _plain(index: slice) -> bool:
    bounds = (index.start, index.stop)
    return all(b is None or b.__class__ is int for b in bounds) and index.step in (None, 1)
