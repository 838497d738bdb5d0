"""Contraction, indexing, creation and checks."""

from __future__ import annotations

from ..contraction import ContractSpec
from ..dtypes import DType, bool_, int64
from ..errors import IRTypeError
from ..expr import Dim
from ..narrow import PAIRED
from ..opdef import define
from ..types import Literal, TensorType
from . import indexed, ordered

#: Errors a `check` can raise, as Python exception classes.
CHECK_ERRORS = {e.__name__: e for e in (IndexError, RuntimeError, ValueError)}


def contracted(lhs: TensorType, rhs: TensorType, *, spec: ContractSpec) -> TensorType:
    """Type of a contraction: f32[64, 784], f32[784, 10] with [m, k] * [k, n] -> [m, n] gives f32[64, 10].

    Sums of bfloat16 and float16 are float32, those of 8- and 16-bit integers int32.
    """
    if lhs.dtype is not rhs.dtype or lhs.dtype is bool_:
        raise IRTypeError(f"contract needs operands of one numeric dtype, got {lhs} and {rhs}")
    if spec.within is not None and lhs.dtype in PAIRED:
        raise IRTypeError(f"contract sums {lhs.dtype} in pairs of steps, all of which take part")
    sizes = spec.label_extents(lhs.shape, rhs.shape)
    return TensorType(ordered.sum_dtype(lhs.dtype), tuple(sizes[name] for name in spec.out))


def _index_shape(x: TensorType, indices: tuple[TensorType, ...], axes: tuple[int, ...]) -> tuple[Dim, ...]:
    if not indices or len(indices) != len(axes) or list(axes) != sorted(set(axes)):
        raise IRTypeError(f"needs one index per axis, axes ascending; got {len(indices)} for axes {axes}")
    if bad := [a for a in axes if not 0 <= a < x.rank]:
        raise IRTypeError(f"axes {bad} are out of range for {x}")
    for i in indices:
        if i.dtype is not int64 or i.shape != indices[0].shape:
            raise IRTypeError(f"indices must be i64 of one shape, got {', '.join(map(str, indices))}")
    return indices[0].shape


def gathered(x: TensorType, *indices: TensorType, axes: tuple[int, ...]) -> TensorType:
    """Type of gather: the indices' shape, then x's other axes.
    f32[10, 4], i64[3] with axes=(0,) -> f32[3, 4]."""
    shape = _index_shape(x, indices, axes)
    return x.with_shape((*shape, *(d for a, d in enumerate(x.shape) if a not in axes)))


def scattered(x: TensorType, values: TensorType, *indices: TensorType, axes: tuple[int, ...]) -> TensorType:
    """Type of scatter: x, with `values` shaped as gather with the same indices would give."""
    want = gathered(x, *indices, axes=axes)
    if values != want:
        raise IRTypeError(f"the values must be {want}, got {values}")
    return x


def counted(*, shape: tuple[Dim, ...], axis: int, dtype: DType) -> TensorType:
    """iota(shape=(2, 3), axis=1) is [[0, 1, 2], [0, 1, 2]]."""
    if not 0 <= axis < len(shape):
        raise IRTypeError(f"iota axis {axis} is out of range for shape {shape}")
    return TensorType(dtype, shape)


def literal_type(*, value: Literal) -> TensorType:
    return value.type


def _checked(ok: TensorType, *shown: TensorType, error: str, message: str) -> tuple[TensorType, ...]:
    if ok != TensorType(bool_):
        raise IRTypeError(f"check needs bool[], got {ok}")
    if shown and (len(shown) != 2 or shown[0] != shown[1].with_dtype(bool_)):
        raise IRTypeError(f"check shows a value out of (bool[...], values of its shape), got {shown}")
    if error not in CHECK_ERRORS:
        raise IRTypeError(f"check can raise {', '.join(CHECK_ERRORS)}, not {error}")
    return ()


# One FMA chain over the summed labels in superblocks of 4096: docs/numerics.md.
contract = define("contract", 2, contracted, ordered.contract)
# Indices -n <= i < n, a negative one counting from the end; any other raises IndexError.
gather = define("gather", None, gathered, indexed.gather, may_raise=True)
# In row-major order of the indices: with equal ones `scatter` keeps the last value, `scatter_add` adds them
# in that order.
scatter = define("scatter", None, scattered, indexed.scatter, may_raise=True)
scatter_add = define("scatter_add", None, scattered, indexed.scatter_add, may_raise=True, wide=True)
iota = define("iota", 0, counted, indexed.iota)
constant = define("constant", 0, literal_type, lambda *, value: value.array())
# Raises `error` with `message` if the first operand is False. Has no result. Two further operands
# (fine, values), of one shape, are there for the message only: its "{}" becomes the first value that is not
# fine.
check = define("check", None, _checked, indexed.check, pure=False, may_raise=True)
