"""The recorder: every op of a capture goes through its one `record`, every in-place write through its
`write`.

A capture never restarts. Whatever needs a concrete value calls `force`: what is recorded so far runs, every
live traced tensor becomes eager in place, and Python goes on from that very point, recording a new segment.
Values that nobody holds any more are not computed for anyone: liveness is Python's own, seen through weak
references.

The recorder knows storages and values, never tensors: `track` takes any object with a `_storage`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..ir import locks, ops
from ..ir.dtypes import float64
from ..ir.errors import IRTypeError
from ..ir.graph import Graph, Location, Operation, Value
from ..ir.opdef import BoundOp, bind
from ..ir.strided import StridedType, strided_type
from ..ir.types import row_major_strides
from .backend import Backend
from .errors import CaptureError
from .locate import user_location
from .segment import (
    InputSlot,
    LogEntry,
    Place,
    PlaceholderSlot,
    Ran,
    ScalarSlot,
    Segment,
    Slot,
    Wrote,
    structure_key,
)
from .traced import Storage, TracedStorage, TracedValue, unpermuting


class _Active(threading.local):
    recorder: Recorder | None = None


_active = _Active()
_count_lock = locks.lock()
#: Number of recorders that are active now, in any thread: while there are none, nobody needs to ask for one.
count = 0
_F64 = strided_type(float64, ())


def active() -> Recorder | None:
    """The recorder of the capture that is running on this thread, if any."""
    return _active.recorder


@contextmanager
def activate(recorder: Recorder | None) -> Iterator[None]:
    """Make this the thread's recorder for a while; None lets ops run eagerly."""
    global count
    before = _active.recorder
    with _count_lock:
        count += recorder is not None
    _active.recorder = recorder
    try:
        yield
    finally:
        _active.recorder = before
        with _count_lock:
            count -= recorder is not None


@dataclass(frozen=True)
class Reason:
    """Why a capture was cut or can't be replayed, and where."""

    what: str
    location: Location | None

    def __str__(self) -> str:
        return f"{self.location}: {self.what}" if self.location else self.what


@dataclass(frozen=True)
class Observed:
    """An attribute of an object from outside, what it was on entry, and whether it was read before it was
    written."""

    owner: Any
    attribute: str
    before: Any
    read: bool


class Recorder:
    """Records one capture. All methods are called on the capturing thread; `force` may come from another.

    fullgraph: raise CaptureError where a value would have to be forced. hoist: plain Python floats become
    inputs too (a graph that is looked up by structure at each call). strict: run at once any op that may
    raise, because Python code that is not seen may run between it and a later force. numerics: of the graphs.
    """

    def __init__(
        self, backend: Backend, *, name: str = "graph", fullgraph: bool = False, hoist: bool = False,
        numerics: str = "exact",
    ) -> None:  # fmt: skip
        self.backend = backend
        self.name = name
        self.numerics = numerics
        self.fullgraph = fullgraph
        self.hoist = hoist
        self.strict = False
        #: The capture that this recorder serves, for the hooks; None if it only records.
        self.capture: Any = None
        #: Numbers up to this one are of tape nodes made before the capture; the frontend sets it.
        self.first_node = 0
        self.forced: list[Reason] = []
        self.blocked: list[Reason] = []
        self.segments: list[Segment] = []
        #: Attributes that were read or written, in order; see `observe`.
        self.observed: dict[tuple[int, str], Observed] = {}
        self._lock = locks.rlock()
        self._owners: list[weakref.ref[Any]] = []
        self._numbers = 0
        self._begin()

    def _begin(self) -> None:
        self._slots: list[Slot] = []
        self._inputs: dict[Hashable, InputSlot] = {}
        self._scalars: dict[int, ScalarSlot] = {}
        self._operations: list[Operation] = []
        self._bound: list[BoundOp] = []
        self._log: list[LogEntry] = []
        self._storages: list[weakref.ref[TracedStorage]] = []
        self._values: list[weakref.ref[TracedValue]] = []
        self.may_raise = False

    # What the dispatcher calls.

    def operand(self, storage: Storage, type: StridedType, owner: Any = None) -> TracedValue:
        """The traced value of a tensor: itself, or an input if the tensor is concrete. owner: the tensor,
        remembered with the input that it becomes."""
        if isinstance(storage, TracedValue):
            if storage.concrete is None and storage.recorder is self:
                return storage
            storage = concrete(storage, "a tensor of another capture was used")
        with self._lock:
            return self._input(storage, type, owner)

    def record(
        self, op: BoundOp, operands: Sequence[TracedValue], result: StridedType | None,
        view_offset: int | None = None,
    ) -> TracedValue:  # fmt: skip
        """Append an op. result: eager's type of the result, None for an op without one (then the first
        operand is returned). view_offset: bytes from the operand's first element if the result is a view of
        it, else None."""
        with self._lock:
            if view_offset is not None and result is not None:
                return self._view(op, operands[0], result, view_offset)
            value = self._run(op, operands)
            made = operands[0] if value is None or result is None else self._store(value, result)
            numbers = () if value is None else (made.storage.number,)
            self._log.append(Ran(op, tuple(map(_place, operands)), numbers))
        if self.strict and self.may_raise:
            self.flush()
        return made

    def record_many(
        self, op: BoundOp, operands: Sequence[TracedValue], results: Sequence[StridedType]
    ) -> list[TracedValue]:
        """Append an op with any number of results, none of which is a view. results: eager's types of
        them."""
        with self._lock:
            values = tuple(Value(t.ir) for t in results)
            given = tuple(v.read(self._emit) for v in operands)
            self.may_raise |= any(map(may_raise, op.regions))
            self._append(op, given, values)
            made = [self._store(v, t) for v, t in zip(values, results, strict=True)]
            numbers = tuple(v.storage.number for v in made)
            self._log.append(Ran(op, tuple(map(_place, operands)), numbers))
        if self.strict and self.may_raise:
            self.flush()
        return made

    def write(self, target: TracedValue, source: TracedValue) -> None:
        """Overwrite the elements of a view by those of `source`, of the same shape and dtype. Counts one
        write."""
        with self._lock:
            self._log.append(Wrote(_place(target), _place(source)))
            target.write(self._emit, source.read(self._emit))

    def scalar(self, number: float, source: object = None) -> TracedValue:
        """A Python float as a float64 input of rank 0. source: a traced scalar, one for each input."""
        slot = self._scalars.get(id(source)) if source is not None else None
        if slot is None:
            value = Value(_F64.ir, f"s{len(self._slots)}")
            traced = self._new_view(TracedStorage(self._next_number(), value), _F64, 0, None, None)
            slot = ScalarSlot(number, value, traced, source)
            self._slots.append(slot)
            self._scalars[id(source) if source is not None else -len(self._slots)] = slot
        return slot.traced

    def placeholder(self, type: StridedType) -> PlaceholderSlot:
        """A row-major input that is no storage from outside; `extended` makes it one of the graph."""
        value = Value(type.ir)
        dense = strided_type(type.dtype, type.shape)
        return PlaceholderSlot(value, TracedValue(self, TracedStorage(self._next_number(), value), dense))

    def disown(self, segment: Segment) -> None:
        """Forget the storages of a segment: it is kept as a pattern, and they can be freed."""
        self._inputs.clear()
        self.observed.clear()
        for slot in segment.slots:
            if isinstance(slot, InputSlot):
                slot.handle = slot.owner = None
                slot.storage.origin = self

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is recorded within is forgotten at the end (a graph may have been made of it in between)."""
        kept = len(self._operations), len(self._bound), len(self._log), len(self._storages), len(self._values)
        slots, inputs, scalars, may_raise = (
            len(self._slots),
            dict(self._inputs),
            dict(self._scalars),
            self.may_raise,
        )
        try:
            yield
        finally:
            dropped = {v for operation in self._operations[kept[0] :] for v in operation.results}
            for view in (v for ref in self._values if (v := ref()) is not None):
                view.forget(dropped)
            for items, length in zip(
                (self._operations, self._bound, self._log, self._storages, self._values), kept, strict=True
            ):
                del items[length:]  # type: ignore[attr-defined]
            del self._slots[slots:]
            self._inputs, self._scalars, self.may_raise = inputs, scalars, may_raise

    def extended(
        self, segment: Segment, placeholders: Sequence[PlaceholderSlot], more: Sequence[TracedValue]
    ) -> Graph:  # fmt: skip
        """The graph of a segment and of what was recorded since: with more inputs and more outputs at the
        end."""
        extra = tuple(v.read(self._emit) for v in more)
        inputs = (*segment.graph.inputs, *(s.value for s in self._slots[len(segment.slots) :]))
        inputs += tuple(p.value for p in placeholders)
        outputs = (*segment.graph.outputs, *extra)
        operations, updates = tuple(self._operations), segment.graph.updates
        return Graph(inputs, operations, outputs, updates, self.name, self.numerics)

    def version(self, storage: Storage) -> int:
        """Writes so far to what `storage` is a view of, those recorded but not yet run included."""
        if isinstance(storage, TracedValue):
            if storage.concrete is None:
                return storage.storage.version + storage.storage.origin_version
            storage = storage.concrete
        slot = self._inputs.get(self.backend.base(storage))
        if slot is None:
            return self.backend.version(storage)
        return slot.storage.version + slot.storage.origin_version

    def track(self, owner: Any) -> None:
        """Remember (weakly) an object whose `_storage` is traced, to put the concrete storage there after a
        force."""
        self._owners.append(weakref.ref(owner))

    def observe(self, owner: Any, attribute: str, *, write: bool = False) -> None:
        """Call before reading (or writing) an attribute of an object from outside that a replay can set
        again: `_grad` of a leaf. What it is on entry becomes a guard if it is read first; what it is at the
        end is set by a replay."""
        key = (id(owner), attribute)
        if key not in self.observed:
            self.observed[key] = Observed(owner, attribute, getattr(owner, attribute), not write)

    # Forcing.

    def force(self, why: str) -> None:
        """Run what is recorded and make every live traced tensor eager, because `why`; then go on recording.

        Raises CaptureError under fullgraph; what the recorded ops raise otherwise.
        """
        reason = Reason(why, user_location())
        self.forced.append(reason)
        self._disprove()
        if self.fullgraph:
            raise CaptureError(f"{reason} (fullgraph=True)")
        self.flush()

    def block(self, why: str, location: Location | None = None) -> None:
        """Note that this capture can't be replayed without running the Python, because `why`."""
        reason = Reason(why, location or user_location())
        self.blocked.append(reason)
        self._disprove()
        if self.fullgraph:
            raise CaptureError(f"{reason} (fullgraph=True)")

    def _disprove(self) -> None:
        if self.capture is not None:
            self.capture.proving = False

    def touches(self, storage: Storage) -> bool:
        """True if the memory of `storage` is not yet what the recorded program says."""
        if isinstance(storage, TracedValue):
            return storage.concrete is None
        slot = self._inputs.get(self.backend.base(storage))
        return slot is not None and slot.storage.version > 0

    def flush(self, *, compiled: bool = True) -> Segment:
        """Run what is recorded, if anything needs it; a new segment begins. Gives the one that ended.
        compiled: else op by op, with no compiling of graphs."""
        with self._lock:
            segment = self.close()
            values = [v for ref in self._values if (v := ref()) is not None]
            owners, self._owners = self._owners, []
            try:
                if segment.results or segment.updated or may_raise(segment.graph):
                    self.segments.append(segment)
                    with activate(None):
                        segment.run(self.backend, compiled=compiled)
            finally:
                self._begin()
                self._materialise(values)
                _settle(owners)
        return segment

    def live(self) -> list[TracedStorage]:
        """The storages made by what is recorded so far that somebody still holds."""
        return [s for ref in self._storages if (s := ref()) is not None]

    def close(self, results: Sequence[TracedStorage] | None = None) -> Segment:
        """The segment recorded so far, by default with what is alive now as its results. Does not run it."""
        live = self.live() if results is None else results
        updated = tuple(slot for slot in self._inputs.values() if slot.storage.version > 0)
        outputs = tuple(s.current for s in live)
        updates = tuple((slot.value, slot.storage.current) for slot in updated)
        inputs, operations = tuple(s.value for s in self._slots), tuple(self._operations)
        graph = Graph(inputs, operations, outputs, updates, self.name, self.numerics)
        key = structure_key(self._slots, self._operations, self._bound, outputs, updates)
        return Segment(graph, tuple(self._slots), tuple(live), updated, tuple(self._log), key)

    def _materialise(self, values: list[TracedValue]) -> None:
        for value in values:
            storage = value.storage
            whole = storage.concrete if storage.origin is None else storage.origin
            if whole is not None:
                shift = value.offset * value.type.dtype.itemsize
                value.concrete = self.backend.view(whole, shift) if shift else whole

    # Inputs.

    def _input(self, storage: Storage, type: StridedType, owner: Any) -> TracedValue:
        base = self.backend.base(storage)
        slot = self._inputs.get(base)
        if slot is None:
            return self._first_view(base, storage, type, owner)
        if slot.root.type.dtype is not type.dtype:
            raise IRTypeError(f"one storage is used as {slot.root.type.dtype} and as {type.dtype}")
        shift = self.backend.offset(storage) - self.backend.offset(slot.handle)
        offset = shift // type.dtype.itemsize
        found = slot.views.get((offset, type))
        if found is None:
            found = slot.views[offset, type] = self._another_view(slot, offset, type)
        return found

    def _first_view(self, base: Hashable, storage: Storage, type: StridedType, owner: Any) -> TracedValue:
        """Contiguous: the input has the tensor's shape. Otherwise it is the stretch of memory that the tensor
        spans."""
        root_type = type if type.is_contiguous else strided_type(type.dtype, (type.extent,))
        value = Value(root_type.ir, f"x{len(self._slots)}")
        root = TracedValue(self, TracedStorage(self._next_number(), value, storage), root_type)
        root.storage.origin_version = self.backend.version(storage)
        slot = InputSlot(storage, value, root, owner)
        self._slots.append(slot)
        self._inputs[base] = slot
        view = root if root_type is type else self._strided_view(slot, 0, type)
        slot.views[0, type] = view
        return view

    def _another_view(self, slot: InputSlot, offset: int, type: StridedType) -> TracedValue:
        start, stop = slot.start, slot.start + slot.root.type.numel
        if offset < start or offset + type.extent > stop:
            self._enclose(slot, min(start, offset), max(stop, offset + type.extent))
        return self._strided_view(slot, offset, type)

    def _strided_view(self, slot: InputSlot, offset: int, type: StridedType) -> TracedValue:
        step = bind(ops.as_strided, shape=type.shape, strides=type.strides, offset=offset - slot.start)
        return self._new_view(slot.storage, type, offset, slot.root, step)

    def _enclose(self, slot: InputSlot, start: int, stop: int) -> None:
        """Widen an input's window: the old input becomes a strided view of the new one."""
        old, old_root, shift = slot.value, slot.root, slot.start - start
        root_type = strided_type(old_root.type.dtype, (stop - start,))
        storage = old_root.storage
        slot.value = Value(root_type.ir, old.name)
        strides = row_major_strides(old.type.shape)
        step = bind(ops.as_strided, shape=old.type.shape, strides=strides, offset=shift)
        self._operations.insert(0, Operation(step.opdef, (slot.value,), step.attrs, (old,)))
        self._bound.insert(0, step)
        slot.root = TracedValue(self, storage, root_type, start)
        slot.start = start
        contents, storage.current = storage.current, slot.value
        old_root.attach(slot.root, step)
        if storage.version:
            back = bind(ops.as_strided_update, strides=strides, offset=shift)
            storage.current = self._emit(back, slot.value, contents)
        old_root.remember(contents)

    # Appending.

    def _run(self, op: BoundOp, operands: Sequence[TracedValue]) -> Value | None:
        opdef = op.opdef
        values = [v.read(self._emit) for v in operands]
        if opdef.may_raise and not (opdef.elementwise and values[0].type.dtype.is_floating_point):
            self.may_raise = True
        if op.opdef is ops.check:
            self._append(op, tuple(values), ())
            return None
        return self._emit(op, *values)

    def _emit(self, op: BoundOp, *operands: Value) -> Value:
        (type,) = op.result_types(*(v.type for v in operands))
        result = Value(type)
        self._append(op, operands, (result,))
        return result

    def _append(self, op: BoundOp, operands: tuple[Value, ...], results: tuple[Value, ...]) -> None:
        self._operations.append(Operation(op.opdef, operands, op.attrs, results, op.regions, user_location()))
        self._bound.append(op)

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _new_storage(self, contents: Value) -> TracedStorage:
        storage = TracedStorage(self._next_number(), contents)
        self._storages.append(weakref.ref(storage))
        return storage

    def _new_view(
        self, storage: TracedStorage, type: StridedType, offset: int, parent: TracedValue | None,
        step: BoundOp | None,
    ) -> TracedValue:  # fmt: skip
        view = TracedValue(self, storage, type, offset, parent, step)
        self._values.append(weakref.ref(view))
        return view

    def _view(self, op: BoundOp, of: TracedValue, type: StridedType, byte_offset: int) -> TracedValue:
        offset = of.offset + byte_offset // type.dtype.itemsize
        return self._new_view(of.storage, type, offset, of, op)

    def _store(self, value: Value, type: StridedType) -> TracedValue:
        """A new storage for a result. Its root is row-major; a result laid out otherwise is a permuted view
        of it."""
        if type.is_contiguous:
            return self._new_view(self._new_storage(value), type, 0, None, None)
        perm = tuple(sorted(range(len(type.shape)), key=lambda a: (-type.strides[a], a)))
        inner = strided_type(type.dtype, tuple(type.shape[p] for p in perm))
        if not strided_type(type.dtype, inner.shape, tuple(type.strides[p] for p in perm)).is_contiguous:
            raise IRTypeError(f"a result must be dense in some order of its axes, got {type}")
        root = TracedValue(self, self._new_storage(self._emit(bind(ops.permute, perm=perm), value)), inner)
        back = unpermuting(perm)
        view = self._new_view(root.storage, type, 0, root, back)
        view.remember(value)
        return view


def concrete(storage: Storage, why: str) -> Storage:
    """The memory of a storage, forced if it is traced or has recorded writes. What `item`, `numpy`, `print`
    call."""
    if isinstance(storage, TracedValue):
        if storage.concrete is None:
            storage.recorder.force(f"{why} needs the value of a tensor")
        if storage.concrete is None:
            raise RuntimeError(
                "this tensor was never computed: an operation recorded before it raised an error"
            )
        return storage.concrete
    recorder = _active.recorder
    if recorder is not None and recorder.touches(storage):
        recorder.force(f"{why} needs the value of a tensor")
    elif recorder is not None and recorder.capture is not None and recorder.capture.proving:
        recorder.capture.effect(f"{why} needs the value of a tensor")
    return storage


def _place(value: TracedValue) -> Place:
    return value.storage.number, value.type, value.offset


def may_raise(graph: Graph) -> bool:
    """Whether an operation of the graph, or of a region in it, may stop with an error."""
    return any(
        not op.opdef.pure or op.opdef.may_raise or any(map(may_raise, op.regions)) for op in graph.operations
    )


def _settle(owners: list[weakref.ref[Any]]) -> None:
    for ref in owners:
        owner = ref()
        if owner is not None and isinstance(owner._storage, TracedValue):
            if owner._storage.concrete is not None:
                owner._storage = owner._storage.concrete
