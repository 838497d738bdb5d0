"""Building graphs, and the `Builder` protocol that derivative rules and composites are written against.

A builder turns (op kind, operands, attributes) into a value. `GraphBuilder` appends operations to a graph;
the frontend has another that runs them at once on eager tensors. A rule written against the protocol serves
both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from . import ops
from .dtypes import DType
from .errors import IRTypeError
from .expr import Dim
from .graph import Graph, Location, Operation, Value
from .opdef import Attr, OpDef
from .types import Literal, TensorType

V = TypeVar("V")


class Builder(Protocol[V]):
    """Makes values of type V: `Value`s of a graph, or eager tensors."""

    def __call__(self, opdef: OpDef, *operands: V, **attrs: Attr) -> V:
        """The only result of an operation. Raises IRTypeError."""
        ...

    def type_of(self, value: V) -> TensorType:
        """The value's dtype and shape."""
        ...


def scalar(build: Builder[V], value: object, dtype: DType) -> V:
    """A constant of rank 0."""
    return build(ops.constant, value=Literal.of(value, dtype))


def full(build: Builder[V], value: object, type: TensorType) -> V:
    """A tensor of this type with `value` everywhere."""
    return broadcast(build, scalar(build, value, type.dtype), type.shape)


def broadcast(build: Builder[V], x: V, shape: tuple[Dim, ...]) -> V:
    """x repeated to `shape` by numpy's rule: leading axes added, axes of size 1 expanded."""
    have = build.type_of(x).shape
    if have == shape:
        return x
    aligned = (1,) * (len(shape) - len(have)) + have
    if aligned != have:
        x = build(ops.reshape, x, shape=aligned)
    return x if aligned == shape else build(ops.expand, x, shape=shape)


def reduce(build: Builder[V], opdef: OpDef, x: V, axes: Sequence[int]) -> V:
    """Reduce over any axes in canonical order: the trailing ones in `lanes`, then the others in `rows`."""
    rank = build.type_of(x).rank
    left = sorted(axes)
    trailing: list[int] = []
    while left and left[-1] == rank - 1 - len(trailing):
        trailing.insert(0, left.pop())
    if trailing:
        x = build(opdef, x, axes=tuple(trailing), order="lanes")
    if left:
        x = build(opdef, x, axes=tuple(left), order="rows")
    return x


def sum_to(build: Builder[V], x: V, shape: tuple[Dim, ...]) -> V:
    """The adjoint of `broadcast`: x summed over the axes that broadcasting `shape` to x's shape repeats."""
    have = build.type_of(x).shape
    if have == shape:
        return x
    lead = len(have) - len(shape)
    axes = [a for a, d in enumerate(have) if a < lead or (shape[a - lead] == 1 and d != 1)]
    if axes:
        x = reduce(build, ops.reduce_sum, x, axes)
    return x if build.type_of(x).shape == shape else build(ops.reshape, x, shape=shape)


class GraphBuilder:
    """Appends operations to a graph under construction.

    location: given to each operation appended, until changed. numerics: of the graph.
    """

    def __init__(self, name: str = "graph", numerics: str = "exact") -> None:
        self.name = name
        self.numerics = numerics
        self.inputs: list[Value] = []
        self.operations: list[Operation] = []
        self.location: Location | None = None

    def input(self, type: TensorType, name: str = "", strides: tuple[Dim, ...] | None = None) -> Value:
        """Append an input."""
        self.inputs.append(Value(type, name or f"in{len(self.inputs)}", strides))
        return self.inputs[-1]

    def __call__(self, opdef: OpDef, *operands: Value, **attrs: Attr) -> Value:
        results = self.emit(opdef, operands, attrs)
        if len(results) != 1:
            raise IRTypeError(f"{opdef.name} has {len(results)} results, not one: use emit")
        return results[0]

    def emit(
        self, opdef: OpDef, operands: Sequence[Value], attrs: Any = None, regions: tuple[Graph, ...] = (),
        location: Location | None = None,
    ) -> tuple[Value, ...]:  # fmt: skip
        """Append an operation and give its results. Raises IRTypeError."""
        attrs = dict(attrs or {})
        types = opdef.result_types(*(v.type for v in operands), regions=regions, **attrs)
        results = tuple(Value(t) for t in types)
        self.operations.append(
            Operation(opdef, tuple(operands), attrs, results, regions, location or self.location)
        )
        return results

    def type_of(self, value: Value) -> TensorType:
        return value.type

    def finish(self, outputs: Sequence[Value], updates: Sequence[tuple[Value, Value]] = ()) -> Graph:
        """The graph built so far, with these outputs and updates (input, new contents)."""
        inputs, operations = tuple(self.inputs), tuple(self.operations)
        return Graph(inputs, operations, tuple(outputs), tuple(updates), self.name, self.numerics)
