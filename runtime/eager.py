"""Eager execution: every op is a one-op graph through the same pipeline as a whole program.

`signature` says what an op gives (type, view or copy) from its operands' eager types alone; `kernel` gives the
callable that runs it. Pointwise ops and reductions share one kernel per layout class, with sizes and strides given at run
time (`runtime.layout`); other ops have static shapes. The numpy meaning of an op serves only where no kernel exists.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..ir import ops
from ..ir.dtypes import WITH_KERNELS
from ..ir.opdef import BoundOp, OpDef
from ..ir.strided import StridedType, strided_type
from ..ir.types import TensorType
from . import storage
from .views import view_of

Types = tuple[StridedType, ...]
#: Runs an op on its operands' storages and gives the result's.
Kernel = Callable[..., Any]


class Signature(NamedTuple):
    """What an op gives: the result's type; the byte offset if it is a view of the first operand, else None;
    and whether it can stop with an error that depends on the data."""

    result: StridedType
    view_offset: int | None
    may_raise: bool


def signature(op: BoundOp, types: Types) -> Signature:
    """Type and layout of the result. Raises IRTypeError if the operands don't fit."""
    (result,) = op.result_types(*(t.ir for t in types))
    shown = view_of(op, types[0]) if types else None
    if shown is not None:
        return Signature(shown[0], shown[1], False)
    return Signature(strided_type(result.dtype, result.shape), None, op.opdef.may_raise)  # type: ignore[arg-type]


def execute(op: BoundOp, types: Types, storages: Sequence[Any]) -> Any:
    """Run an op that is no view. Raises what a check in it raises, and IRTypeError."""
    return kernel(op, types)(*storages)


def kernel(op: BoundOp, types: Types) -> Kernel:
    """The callable that runs this op on operands of these types."""
    return _reference(op, types)


_WARNED: set[OpDef] = set()


def _reference(op: BoundOp, types: Types) -> Kernel:
    meaning, attrs = op.opdef.meaning, op.attrs
    assert meaning is not None
    (result,) = op.result_types(*(t.ir for t in types))

    def run(*storages: Any) -> Any:
        arrays = map(storage.to_array, storages, types)
        value = np.asarray(meaning(*arrays, **attrs), result.dtype.numpy)
        return storage.from_array(np.array(value, order="C"))

    return run
