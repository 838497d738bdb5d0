"""The graph: SSA, functional, typed, with nested regions.

A graph has inputs (each the contents of a storage), operations in an order that defines before use, outputs,
and updates: what the storage of an input holds after the graph has run. Operations never change a value;
`updates` is the only way in which a run is seen from outside besides its outputs. A graph is immutable once
built, as far as passes are concerned: they build another (`ir.builder.GraphBuilder`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .expr import Dim, symbols_of
from .opdef import Attr, OpDef
from .types import TensorType, row_major_strides


@dataclass(frozen=True)
class Location:
    """A line of the user's Python that an operation comes from."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Value:
    """A tensor in a graph: an input or the result of one operation. Compares by identity.

    strides: of a graph input whose elements do not lie in row-major order, in elements; None means row-major.
    """

    __slots__ = ("type", "name", "strides", "operation", "__weakref__")

    def __init__(self, type: TensorType, name: str = "", strides: tuple[Dim, ...] | None = None) -> None:
        self.type = type
        self.name = name
        self.strides = strides
        self.operation: Operation | None = None

    @property
    def physical_strides(self) -> tuple[Dim, ...]:
        return row_major_strides(self.type.shape) if self.strides is None else self.strides

    def __repr__(self) -> str:
        return f"%{self.name or '?'}: {self.type}"


@dataclass(eq=False, slots=True)
class Operation:
    """One occurrence of an op kind. Compares by identity."""

    opdef: OpDef
    operands: tuple[Value, ...]
    attrs: Mapping[str, Attr]
    results: tuple[Value, ...]
    regions: tuple[Graph, ...] = ()
    location: Location | None = None

    def __post_init__(self) -> None:
        for value in self.results:
            value.operation = self

    @property
    def result(self) -> Value:
        """The only result. ValueError if there isn't exactly one."""
        (value,) = self.results
        return value


#: What passes and kernels may do with floating point: keep every bit, or what docs/numerics.md allows.
NUMERICS = ("exact", "fast")


@dataclass(eq=False)
class Graph:
    """inputs, then operations in order, then outputs and updates (input, its new contents).

    numerics: one of NUMERICS; that of a region is what the graph around it says.
    """

    inputs: tuple[Value, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[Value, ...]
    updates: tuple[tuple[Value, Value], ...] = ()
    name: str = "graph"
    numerics: str = "exact"
    _users: dict[Value, list[Operation]] | None = field(default=None, repr=False)

    def users(self, value: Value) -> Sequence[Operation]:
        """The operations that take the value as an operand, in order, each once per use."""
        if self._users is None:
            self._users = {}
            for op in self.operations:
                for operand in op.operands:
                    self._users.setdefault(operand, []).append(op)
        return self._users.get(value, ())

    def roots(self) -> Iterator[Value]:
        """The values seen from outside: outputs, then the new contents of updated inputs."""
        yield from self.outputs
        for _, new in self.updates:
            yield new

    def symbols(self) -> tuple[str, ...]:
        """Names of the run-time sizes: the symbols in the types and strides of the inputs, sorted."""
        names: set[str] = set()
        for value in self.inputs:
            for dim in (*value.type.shape, *(value.strides or ())):
                names |= symbols_of(dim)
        return tuple(sorted(names))
