"""Runs graphs in numpy, operation by operation: the oracle of the tests.

Arrays arrive in logical shape (an input's strides say how its storage lies, not what it means). Reductions
and contractions follow their canonical orders of arithmetic, so all but the elementary functions are exact to
the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .contraction import ContractSpec
from .errors import IRError
from .expr import Dim, Expr, substitute, symbols_of
from .expr import evaluate as evaluate_dim
from .graph import Graph, Operation, Value
from .opdef import Attr, BoundOp, OpDef
from .types import TensorType


def interpret(
    graph: Graph, inputs: Sequence[np.ndarray], sizes: Mapping[str, int] | None = None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Outputs, and the new contents of the updated inputs in the order of `graph.updates`.

    sizes: values of symbolic sizes that no input's shape gives. Raises IRError if an input does not have its
    type, and what the operations raise (IndexError, a failed check's error, ...). The inputs are left
    unchanged.
    """
    if len(inputs) != len(graph.inputs):
        raise IRError(f"{graph.name} takes {len(graph.inputs)} inputs, got {len(inputs)}")
    known = bind_sizes([v.type for v in graph.inputs], inputs, sizes or {})
    for value, array in zip(graph.inputs, inputs, strict=True):
        _expect(array, value.type, known, f"input %{value.name} of {graph.name}")
    values = _run(graph, inputs, known)
    return [values[v] for v in graph.outputs], [values[new] for _, new in graph.updates]


def evaluate(op: BoundOp, arrays: Sequence[np.ndarray], sizes: Mapping[str, int] | None = None) -> np.ndarray:
    """The result of one operation on arrays. Raises IRError for an op that has a region or no result."""
    result = _meaning(op.opdef, op.attrs, arrays, sizes or {})
    if result is None:
        raise IRError(f"{op.opdef.name} has no result")
    return np.asarray(result)


def bind_sizes(
    types: Sequence[TensorType], arrays: Sequence[np.ndarray], sizes: Mapping[str, int]
) -> dict[str, int]:
    """The symbols that stand alone as a size of a type, bound by the arrays' shapes, beside those in `sizes`.

    Raises IRError if an array has not its type's rank or a symbol has two values.
    """
    known = dict(sizes)
    for type_, array in zip(types, arrays, strict=True):
        if array.ndim != type_.rank:
            raise IRError(f"expected {type_}, got an array of shape {array.shape}")
        for dim, have in zip(type_.shape, array.shape, strict=True):
            if (
                isinstance(dim, Expr)
                and symbols_of(dim) == {str(dim)}
                and known.setdefault(str(dim), have) != have
            ):
                raise IRError(f"the size {dim} is {known[str(dim)]} and, in {type_}, {have}")
    return known


def static_attr(value: Attr, sizes: Mapping[str, int]) -> Attr:
    """The attribute with every symbolic size replaced by its value. Raises IRError for an unknown size."""
    if isinstance(value, Expr):
        return size_of(value, sizes)
    if isinstance(value, tuple):
        return tuple(static_attr(v, sizes) for v in value)
    if isinstance(value, ContractSpec):
        return _static_spec(value, sizes)
    return value


def size_of(dim: Dim, sizes: Mapping[str, int]) -> int:
    """The value of a size. Raises IRError if a symbol has none."""
    try:
        return evaluate_dim(dim, sizes)
    except KeyError as error:
        raise IRError(f"the size {error.args[0]} in {dim} has no value") from None


def _static_spec(spec: ContractSpec, sizes: Mapping[str, int]) -> ContractSpec:
    labels = {*spec.out, *spec.over}
    known = {name: size for name, size in sizes.items() if name not in labels}
    return ContractSpec(
        tuple(substitute(d, known) for d in spec.lhs),
        tuple(substitute(d, known) for d in spec.rhs),
        spec.out,
        spec.over,
        tuple((name, size_of(d, known)) for name, d in spec.extents),
        None if spec.within is None else substitute(spec.within, known),
        tuple((substitute(index, known), size_of(size, known)) for index, size in spec.inside),
    )


def _run(graph: Graph, inputs: Sequence[np.ndarray], sizes: Mapping[str, int]) -> dict[Value, np.ndarray]:
    values = dict(zip(graph.inputs, map(np.asarray, inputs), strict=True))
    for op in graph.operations:
        arrays = [values[v] for v in op.operands]
        for value, array in zip(op.results, _results(op, arrays, sizes), strict=True):
            _expect(array, value.type, sizes, f"the result of {op.opdef.name}")
            values[value] = array
    return values


def _results(op: Operation, arrays: Sequence[np.ndarray], sizes: Mapping[str, int]) -> list[np.ndarray]:
    if op.regions:
        runs = tuple(partial(_outputs, region, sizes) for region in op.regions)
        if op.opdef.meaning is None:
            return runs[0](arrays)
        return list(op.opdef.meaning(*arrays, regions=runs, **_known(op.attrs, sizes)))
    result = _meaning(op.opdef, op.attrs, arrays, sizes)
    return [] if result is None else result if isinstance(result, list) else [np.asarray(result)]


def _outputs(region: Graph, sizes: Mapping[str, int], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    values = _run(region, arrays, sizes)
    return [values[v] for v in region.outputs]


def _known(attrs: Mapping[str, Attr], sizes: Mapping[str, int]) -> dict[str, Attr]:
    return {name: static_attr(value, sizes) for name, value in attrs.items()}


def _meaning(
    opdef: OpDef, attrs: Mapping[str, Attr], arrays: Sequence[np.ndarray], sizes: Mapping[str, int]
) -> Any:
    if opdef.meaning is None or opdef.regions:
        raise IRError(f"{opdef.name} has no meaning apart from its region")
    with np.errstate(all="ignore"):
        return opdef.meaning(*arrays, **_known(attrs, sizes))


def _expect(array: np.ndarray, type_: TensorType, sizes: Mapping[str, int], what: str) -> None:
    shape = tuple(size_of(d, sizes) for d in type_.shape)
    if array.shape != shape or array.dtype != type_.dtype.numpy:
        raise IRError(f"{what} is {array.dtype}{list(array.shape)}, expected {type_}")
