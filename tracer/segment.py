"""One recorded segment: a graph, and how its inputs and outputs are tied to storages.

Between two forces everything recorded is one segment. It has a structural `key`, so that a function that is
run again finds the graph compiled before; and a `log` of what was done in order, so that it can be repeated
op by op when the compiled run reports a failed check.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..ir.graph import Graph, Operation, Value
from ..ir.opdef import BoundOp
from ..ir.strided import StridedType
from .backend import Backend
from .traced import Storage, TracedStorage, TracedValue


@dataclass(eq=False)
class InputSlot:
    """A storage from outside, seen through a window of it.

    handle: the storage as first seen; offsets of its views are counted from there. start: first element of
    the window, from the handle's. value: the window's contents on entry. root: the view that is the whole
    window. owner: the tensor that was first seen to lie there.
    """

    handle: Storage
    value: Value
    root: TracedValue
    owner: Any = None
    start: int = 0
    views: dict[tuple[int, StridedType], TracedValue] = field(default_factory=dict)

    @property
    def storage(self) -> TracedStorage:
        return self.root.storage

    def window(self, backend: Backend) -> Storage:
        """The storage to hand to the executable."""
        if self.start == 0:
            return self.handle
        return backend.view(self.handle, self.start * self.root.type.dtype.itemsize)


@dataclass(eq=False)
class ScalarSlot:
    """A Python float that is an input (float64, rank 0). source: the traced scalar it is, None for a plain
    float."""

    number: float
    value: Value
    traced: TracedValue
    source: object = None

    def window(self, backend: Backend) -> Storage:
        """The storage to hand to the executable, the same at each call."""
        storage = self.traced.storage
        if storage.concrete is None:
            storage.concrete = backend.scalar(self.number)
        return storage.concrete


@dataclass(eq=False)
class PlaceholderSlot:
    """An input that stands for a tensor known only when the graph runs (a cotangent)."""

    value: Value
    traced: TracedValue


Slot = InputSlot | ScalarSlot

#: A view in the log: number of its storage, type, offset in elements.
Place = tuple[int, StridedType, int]


@dataclass(frozen=True, slots=True)
class Ran:
    """An op that made new storages, by number (none: a check)."""

    op: BoundOp
    operands: tuple[Place, ...]
    results: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wrote:
    """An overwrite of a view by another's elements."""

    target: Place
    source: Place


LogEntry = Ran | Wrote


@dataclass(eq=False)
class Segment:
    """graph: outputs are the contents of `results`, updates those of `updated`, in order."""

    graph: Graph
    slots: tuple[Slot, ...]
    results: tuple[TracedStorage, ...]
    updated: tuple[InputSlot, ...]
    log: tuple[LogEntry, ...]
    key: Hashable

    def inputs(self, backend: Backend) -> list[Storage]:
        return [slot.window(backend) for slot in self.slots]

    def run(self, backend: Backend, *, compiled: bool = True) -> None:
        """Run the graph, or its ops one by one if it is not to be compiled; the storages of `results` become
        concrete. Raises what eager raises. Where the compiler is ended (Ctrl-C), the ops are run before that
        is passed on: the user's Python has gone on from there."""
        try:
            outputs = backend.execute(self.graph, self.key, self.inputs(backend)) if compiled else None
        except KeyboardInterrupt:
            if not backend.is_compiled(self.key):
                self.repeat(backend)
            raise
        if outputs is None:
            self.repeat(backend)
            return
        for storage, output in zip(self.results, outputs, strict=True):
            storage.concrete = output
            backend.bump(output, storage.version)
        for slot in self.updated:
            backend.bump(slot.handle, slot.storage.version - 1)

    def repeat(self, backend: Backend) -> None:
        """Do what the log says, op by op. Results made before an op raises become concrete."""
        made: dict[int, Storage] = {}
        for slot in self.slots:
            if isinstance(slot, InputSlot):
                made[slot.storage.number] = slot.handle
            else:
                made[slot.traced.storage.number] = slot.window(backend)

        def at(place: Place) -> Storage:
            number, type, offset = place
            return backend.view(made[number], offset * type.dtype.itemsize) if offset else made[number]

        try:
            for entry in self.log:
                if isinstance(entry, Wrote):
                    target, source = entry.target, entry.source
                    backend.assign(at(target), target[1], at(source), source[1])
                else:
                    types = tuple(place[1] for place in entry.operands)
                    results = backend.eager(entry.op, types, [at(place) for place in entry.operands])
                    made.update(zip(entry.results, results, strict=False))
        finally:
            for storage in self.results:
                storage.concrete = made.get(storage.number)


def structure_key(
    slots: Sequence[Slot], operations: Sequence[Operation], bound: Sequence[BoundOp],
    outputs: Iterable[Value], updates: Iterable[tuple[Value, Value]],
) -> Hashable:  # fmt: skip
    """Equal for graphs that compute the same in the same way: types of inputs, ops, operands, outputs,
    updates."""
    number: dict[Value, int] = {}
    parts: list[object] = []
    for slot in slots:
        number[slot.value] = len(number)
        parts.append(slot.value.type)
    for op, operation in zip(bound, operations, strict=True):
        parts.append(op)
        parts.extend([number[v] for v in operation.operands])
        for v in operation.results:
            number[v] = len(number)
    parts.append(tuple(number[v] for v in outputs))
    parts.append(tuple((number[x], number[y]) for x, y in updates))
    return tuple(parts)
