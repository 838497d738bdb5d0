"""Dispatch: from an op and its operands to a result, run at once or recorded, with its node on the tape.

One dictionary maps (op, operand types by identity) to an entry with all that follows from them. A hit is a
lookup, the kernel and the new tensor; a miss is where rules and errors live (`runtime.eager.signature`, then
the entry is made). Hits are served by native code where there is any (`native`); the functions here are its
specification, and what runs without it. `build` is the eager implementation of the `Builder` protocol;
`assign` is the only way in which elements change.
"""

from __future__ import annotations

import ctypes
import functools
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from vitrify.ir import locks, ops
from vitrify.ir.builder import broadcast
from vitrify.ir.dtypes import WITH_KERNELS, DType
from vitrify.ir.errors import IRTypeError
from vitrify.ir.opdef import BoundOp, OpDef, bind
from vitrify.ir.strided import StridedType, strided_type
from vitrify.ir.types import Literal, TensorType
from vitrify.passes.autodiff import VJP, Derivative, derivative, derivative_of_moves
from vitrify.runtime import eager
from vitrify.runtime import storage as memory
from vitrify.tracer.recorder import Recorder, activate, active

from ._tape import Edge, Leaf, Node, Recorded, mode, mode_listeners, numbers
from ._tensor import Tensor, alias, edge_of, track, version_of, view_node, when_read


class Moves:
    """Ops that each show the elements of one operand in another way, as if they were one op: one view, and
    one node of the tape. Interned, as ops are. Not for traces, which record the ops."""

    __slots__ = ("ops", "opdef", "__weakref__")
    ops: tuple[BoundOp, ...]
    #: Of the last: what the node is named after.
    opdef: OpDef
    _known: weakref.WeakValueDictionary[tuple[BoundOp, ...], Moves] = weakref.WeakValueDictionary()

    def __new__(cls, ops: tuple[BoundOp, ...]) -> Moves:
        with _LOCK:
            found = cls._known.get(ops)
            if found is None:
                found = cls._known[ops] = super().__new__(cls)
                found.ops, found.opdef = ops, ops[-1].opdef
            return found

    def shown(self, type: StridedType) -> tuple[StridedType, int] | None:
        """The type of the view, and how many bytes further it begins; None if one of the ops has to copy."""
        start = 0
        for op in self.ops:
            type, offset, _ = eager.signature(op, (type,))
            if offset is None:
                return None
            start += offset
        return type, start


class Entry:
    """What follows from an op and the types of its operands.

    offset: bytes, if the result is a view of the first operand, else None. taped: whether the op has a
    derivative at all. programs: for each choice of operands that require grad, what nodes have in common.
    """

    __slots__ = ("op", "types", "result", "offset", "run", "taped", "programs", "records")

    def __init__(self, op: BoundOp | Moves, types: tuple[StridedType, ...]) -> None:
        self.op, self.types = op, types
        self.offset: int | None
        if isinstance(op, Moves):
            self.result, self.offset = op.shown(types[0])  # type: ignore[misc]
        else:
            self.result, self.offset, _ = eager.signature(op, types)
        self.run: Callable[..., Any] | None = None
        self.taped = self.result.dtype.is_floating_point and op.opdef in VJP
        self.programs: dict[tuple[bool, ...], Recorded] = {}
        self.records: list[Any] = []

    def program(self, wanted: tuple[bool, ...]) -> Recorded:
        """What nodes have in common where these operands have edges."""
        types = tuple([t.ir for t in self.types])
        if isinstance(self.op, Moves):
            made = derivative_of_moves(self.op.ops, *types)
        else:
            made = derivative(self.op, types, wanted)
        kept = sorted(made.saves.operands) + [len(self.types)] * made.saves.result
        recorded = Recorded(self.op, made, tuple(kept), (*self.types, self.result))
        self.programs[wanted] = recorded
        for record in self.records:
            record.add_program(_mask(wanted), recorded, recorded.kept)
        return recorded

    def add_row(self, called: object, keys: Sequence[object], **more: Any) -> bool:
        """Let native dispatch serve `called` on operands with these keys as it does this op; False if it
        can't. more: further facts of a `Record`."""
        spec = None
        if self.offset is None:
            assert isinstance(self.op, BoundOp)
            spec = eager.call_spec(self.op, self.types) if self.types else None
            if spec is None or not dispatch_native.fits(spec):
                return False
        kind = self.op.opdef
        record = dispatch_native.Record(
            self.result, len(self.types), spec, self.offset or 0, taped=self.taped,
            over=spec is not None and can_overwrite(self.op), aligned=kind.elementwise, **more,
        )  # fmt: skip
        for wanted, recorded in self.programs.items():
            record.add_program(_mask(wanted), recorded, recorded.kept)
        self.records.append(record)
        _add_row(called, keys, record)
        return True


def _add_row(called: object, keys: Sequence[object], record: Any) -> None:
    with _LOCK:
        if len(native) >= 2 * MOST_ENTRIES:
            _forget()
        native.add(called, keys, record)


def native_form(recorded: Recorded) -> object:
    """The derivative as native code walks it: registers are the cotangent, the result, the operands, and what
    each step gives. False if it can't."""
    count, program = len(recorded.types) - 1, recorded.program
    steps: list[tuple[int, object, tuple[int, ...]]] = []
    for op, places in program.calls:
        if len(places) > dispatch_native.MOST_OPERANDS:
            return False
        steps.append((len(places), op, places) if places else (0, given(op), ()))
    passed = [at for at, _ in program.passed]
    numbers = sum(1 << at for at in range(2, 2 + count) if at not in passed and _beside_others(program, at))
    kept = [1 if place == count else 2 + place for place in recorded.kept]
    types = (None, recorded.types[count], *recorded.types[:count])
    return native.backward(count, kept, types, numbers, steps, passed) or False


def _beside_others(program: Derivative, at: int) -> bool:
    """Whether what is at this place is read beside other operands of elementwise ops only, where dispatch
    takes a Python number."""
    reads = [(op, places) for op, places in program.calls if at in places]
    return all(op.opdef.elementwise and len(p) == 2 and p[0] != p[1] for op, p in reads)


def can_overwrite(op: BoundOp | Moves) -> bool:
    """Whether native dispatch may write this op's result over a tensor."""
    return not op.opdef.may_raise


def _mask(wanted: tuple[bool, ...]) -> int:
    return sum(1 << i for i, w in enumerate(wanted) if w)


_ENTRIES: dict[tuple[Any, ...], Entry] = {}
#: Entries are dropped together when there are more: decoding makes a new shape per step.
MOST_ENTRIES: Final = 8192

#: For what follows from types and plain arguments alone: the op that a function stands for, mostly.
remembered = functools.lru_cache(MOST_ENTRIES)

#: Number of captures that run now, in any thread. While there are none, nobody asks for a recorder.
captures = 0
#: Reentrant: the collector may run what dispatches while it is held.
_LOCK = locks.rlock()


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """While inside, this thread's ops are recorded instead of run."""
    _count(captured=1)
    try:
        with activate(recorder):
            yield
    finally:
        _count(captured=-1)


def _count(captured: int = 0, watched: int = 0) -> None:
    global captures, _watchers
    with _LOCK:
        captures += captured
        _watchers += watched
        if native is not None:
            native.pause(captures + _watchers > 0)


class _Watch(threading.local):
    #: What the ops of this thread are written to, if they are watched; None once something else was done.
    log: list[Applied] | None = None
    #: Whether what was done will be done in another way after some more calls.
    early = False


#: An op that was applied, or a function without effects that was called: itself, its operands, its result.
#: With None: the second tensor was written over the first.
Applied = tuple[Any, tuple[Tensor, ...], Tensor]
_watch = _Watch()
_watchers = 0


def watched(
    function: Callable[..., Any], *args: Any, **options: Any
) -> tuple[Any, list[Applied] | None, bool]:
    """Call a function; its result, and the ops that it applied, None if it did more than that. Last, whether
    it will do so in another way after some more calls."""
    outer, early = _watch.log, _watch.early
    _watch.log, _watch.early = [], False
    _count(watched=1)
    try:
        result = function(*args, **options)
        return result, _watch.log, _watch.early
    finally:
        _count(watched=-1)
        _watch.log = None if outer is None or _watch.log is None else outer + _watch.log
        _watch.early |= early


def watched_call(function: Callable[..., Any], tensors: Sequence[Tensor]) -> Any:
    """What a function without effects gives; its call is written down as one."""
    if not _watchers:
        return function(*tensors)
    before, _watch.log = _watch.log, None  # how it does that is of no interest
    result = function(*tensors)
    known = before is not None and isinstance(result, Tensor)
    _watch.log = [*before, (function, tuple(tensors), result)] if known else None  # type: ignore[misc]
    return result


def watch_later() -> None:
    """What happens now will be one call of a compiled function when it has happened some more times."""
    if _watchers:
        _watch.log, _watch.early = None, True


def _not_watchable() -> None:
    """What happens now can't be had again by applying ops."""
    if _watchers:
        _watch.log = None


when_read.append(_not_watchable)


def _watch_write(target: Tensor, value: Tensor) -> None:
    """Write down that value is written over target, if the tape has nothing to do with it."""
    base = target if target._view is None else target._view[0]
    edges = (target._node, base._node, edge_of(value))
    if _watch.log is not None and not (mode.grad and any(e is not None for e in edges)):
        _watch.log.append((None, (target, value), target))
    else:
        _watch.log = None


def moved(moves: Sequence[BoundOp | Moves], x: Tensor) -> Tensor:
    """The result of these ops, one after the other."""
    for op in moves:
        if isinstance(op, Moves) and captures:
            return moved(op.ops, x)
        x = apply1(op, x)
    return x


def together(moves: tuple[BoundOp, ...], type: StridedType) -> tuple[BoundOp | Moves, ...]:
    """The same ops for `moved`, as one where that is possible on a tensor of this type."""
    as_one = Moves(moves)
    return (as_one,) if len(moves) > 1 and as_one.shown(type) is not None else moves


def apply(op: BoundOp, *operands: Tensor) -> Tensor:
    """The result of an op on tensors. Raises RuntimeError for operands that don't fit."""
    count = len(operands)
    if count == 2:
        return apply2(op, *operands)
    return apply1(op, *operands) if count == 1 else _general(op, operands)


def apply1(op: BoundOp | Moves, x: Tensor) -> Tensor:
    """`apply` for one operand: the path of a hit, spelled out."""
    entry = _ENTRIES.get((op, x._type))
    if entry is None or captures or (run := entry.run) is None:
        return _general(op, (x,))
    result = Tensor(run(x._storage), entry.result)
    if entry.offset is not None:
        result._view = (x, entry.offset, x._node) if x._view is None else _within(x._view, entry.offset)
    if (x._node is not None or x._view is not None) and entry.taped and mode.grad:
        edge = x._node if x._view is None else edge_of(x)
        if edge is not None:
            _attach(entry, (edge,), (True,), (x,), result)
    return result


def apply2(op: BoundOp, x: Tensor, y: Tensor) -> Tensor:
    """`apply` for two operands: the path of a hit, spelled out."""
    entry = _ENTRIES.get((op, x._type, y._type))
    if entry is None or captures or (run := entry.run) is None:
        return _general(op, (x, y))
    result = Tensor(run(x._storage, y._storage), entry.result)
    if (
        (x._node is not None or y._node is not None or x._view is not None or y._view is not None)
        and entry.taped
        and mode.grad
    ):
        edges = (x._node if x._view is None else edge_of(x), y._node if y._view is None else edge_of(y))
        wanted = (edges[0] is not None, edges[1] is not None)
        if True in wanted:
            _attach(entry, edges, wanted, (x, y), result)
    return result


def _general(op: BoundOp | Moves, operands: tuple[Tensor, ...]) -> Tensor:
    """Any number of operands, eager or traced; makes the entry if there is none."""
    entry = _ENTRIES.get((op, *[x._type for x in operands])) or _miss(op, operands)
    if captures and (recorder := recorder_for(op.opdef.name, entry.result, *entry.types)) is not None:
        values = [recorder.operand(x._storage, x._type, x) for x in operands]
        assert isinstance(entry.op, BoundOp)  # `moved`
        storage = recorder.record(entry.op, values, entry.result, entry.offset)
    else:
        if (run := entry.run) is None:
            run = _compiled(entry)
            if native is not None:
                entry.add_row(op, entry.types)
        storage = run(*[x._storage for x in operands])
    result = Tensor(storage, entry.result)
    if captures:
        track(result)
    if entry.offset is not None:
        (x,) = operands
        result._view = (x, entry.offset, x._node) if x._view is None else _within(x._view, entry.offset)
    if entry.taped and mode.grad:
        edges = tuple([edge_of(x) for x in operands])
        wanted = tuple([edge is not None for edge in edges])
        if True in wanted:
            _attach(entry, edges, wanted, operands, result)
    if _watchers and _watch.log is not None:
        _watch.log.append((entry.op, operands, result))
    return result


def recorder_for(what: str, *types: StridedType) -> Recorder | None:
    """The recorder of this thread, if one is active and kernels exist for these types: what has none is
    forced and runs as it does eagerly."""
    recorder = active()
    if recorder is None:
        return None
    for t in types:
        if t.dtype not in WITH_KERNELS:
            recorder.force(f"{what} of {t.dtype.name}, which has no kernels yet")
            return None
    return recorder


def _within(view: tuple[Tensor, int, Edge | None], offset: int) -> tuple[Tensor, int, Edge | None]:
    base, start, node = view
    return base, start + offset, node


def _attach(
    entry: Entry, edges: tuple[Edge | None, ...], wanted: tuple[bool, ...], operands: tuple[Tensor, ...],
    result: Tensor,
) -> None:  # fmt: skip
    """Give the result its node. edges: of the operands; wanted: which of them there are."""
    recorded = entry.programs.get(wanted) or entry.program(wanted)
    if not recorded.kept:
        result._node = Node(recorded, edges)
        return
    count = len(operands)
    saved = tuple([_kept(operands[i]) if i < count else alias(result) for i in recorded.kept])
    version = version_of if captures else eager_version
    result._node = Node(recorded, edges, saved, tuple([version(x) for x in saved]))


def _kept(x: Tensor) -> Tensor:
    """What a node keeps of an operand. As of a result, not a tensor that leads to a later node: a view knows
    its base, and writing to that gives it a new one. The tape would hold a cycle."""
    return x if x._view is None else alias(x, x._node)


def eager_version(x: Tensor) -> int:
    """`version_of` where no trace runs."""
    return memory.version(x._storage)


def _miss(op: BoundOp | Moves, operands: tuple[Tensor, ...]) -> Entry:
    for x in operands:
        if not isinstance(x, Tensor):
            raise TypeError(f"{op.opdef.name}: expected Tensor operands, got {type(x).__name__}")
    types = tuple(x._type for x in operands)
    try:
        entry = Entry(op, types)
    except IRTypeError as error:  # what the functions in front have not put in the user's words
        raise RuntimeError(f"{op.opdef.name}: {error}") from error
    with _LOCK:
        if len(_ENTRIES) >= MOST_ENTRIES:
            _forget()
        return _ENTRIES.setdefault((op, *types), entry)


def entry_of(op: BoundOp | Moves, types: tuple[StridedType, ...]) -> Entry:
    """The entry of an op on operands of these types, which fit."""
    found = _ENTRIES.get((op, *types))
    if found is None:
        with _LOCK:
            found = _ENTRIES.setdefault((op, *types), Entry(op, types))
    return found


def _compiled(entry: Entry) -> Callable[..., Any]:
    op, offset = entry.op, entry.offset
    if offset is not None:
        entry.run = lambda operand: memory.view(operand, offset)
        return entry.run
    assert isinstance(op, BoundOp)
    if op.opdef is ops.constant:
        storage = _storage_of(op.attrs["value"])  # type: ignore[arg-type]
        entry.run = lambda: storage
    else:
        entry.run = eager.kernel(op, entry.types)
    return entry.run


#: The storages of constants by value, and their blocks: read by many, so never to be written to.
_LITERALS: dict[Literal, Any] = {}
_CONSTANTS: set[Any] = set()


def _storage_of(literal: Literal) -> Any:
    """The one storage of a constant; there is nothing to compute, so no kernel."""
    found = _LITERALS.get(literal)
    if found is None:
        with _LOCK:
            if len(_LITERALS) >= MOST_ENTRIES:
                _forget()
            found = _LITERALS[literal] = memory.from_array(literal.array().copy())
            _CONSTANTS.add(memory.base(found))
    return found


def _forget() -> None:
    """Drop all entries, and with them all constants that an entry may hold."""
    _ENTRIES.clear()
    _LITERALS.clear()
    _CONSTANTS.clear()
    if native is not None:
        native.clear()
        for forget in when_forgotten:
            forget()


def forget() -> None:
    """Drop all that follows from types: a setting that functions read has changed."""
    with _LOCK:
        _forget()


#: Called when all rows of native dispatch are gone.
when_forgotten: list[Callable[[], None]] = []


def is_shared(x: Tensor) -> bool:
    """Whether the tensor lies in the memory of a constant."""
    return not captures and memory.base(x._storage) in _CONSTANTS


def _missed(op: Any, *operands: Any) -> Tensor:
    """What native code has no row for: an op, on tensors or a tensor and a number, or a copy."""
    if op is dispatch_native.COPY:
        (x,) = operands
        op = bind(ops.cast, dtype=x._type.dtype)
        entry_of(op, (x._type,)).add_row(dispatch_native.COPY, (x._type,))
    elif float in (kinds := [x.__class__ for x in operands]) or int in kinds:
        return _beside_number(op, operands)
    return _general(op, operands)


def _beside_number(op: BoundOp, operands: tuple[Any, ...]) -> Tensor:
    """An elementwise op on a tensor and a number, read as another such tensor."""
    from ._promotion import as_operand

    (like,) = [x._type for x in operands if isinstance(x, Tensor)]
    tensors = tuple([x if isinstance(x, Tensor) else as_operand(x, like.dtype, like.shape) for x in operands])
    result = _general(op, tensors)
    if like.dtype.name in dispatch_native.NUMBERS and not native.has(op, keys := _keys(operands)):
        meant = tuple(
            [None if isinstance(x, Tensor) else t._type for x, t in zip(operands, tensors, strict=True)]
        )
        entry_of(op, tuple([t._type for t in tensors])).add_row(op, keys, number=like.dtype.name, meant=meant)
    return result


def _keys(operands: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([x._type if isinstance(x, Tensor) else x.__class__ for x in operands])


#: Native dispatch; None where storages are not native either.
native: Any = None
if memory.is_native:
    from vitrify.runtime import dispatch_native

    classes = {"tensor": Tensor, "node": Node, "leaf": Leaf, "recorded": Recorded, "type": StridedType}
    native = dispatch_native.NativeDispatch(classes, _missed, numbers, bind(ops.add), _LOCK)
    mode_listeners.append(native.set_recording)
    apply = apply1 = apply2 = native.apply


class EagerBuilder:
    """The `Builder` that runs ops on tensors as they are built."""

    def __call__(self, opdef: OpDef, *operands: Tensor, **attrs: Any) -> Tensor:
        return apply(bind(opdef, **attrs), *operands)

    def type_of(self, value: Tensor) -> TensorType:
        """The dtype and shape of a tensor."""
        return value._type.ir


build = EagerBuilder()


def constant(value: Any, dtype: DType) -> Tensor:
    """A read-only tensor of rank 0."""
    value = Literal.of(value, dtype)
    if captures and active() is not None:
        return apply(bind(ops.constant, value=value))
    return Tensor(_storage_of(value), strided_type(dtype, ()))


def given(op: BoundOp) -> Tensor:
    """The result of an op without operands, to be read only."""
    if op.opdef is not ops.constant or captures and active() is not None:
        return apply(op)
    value: Literal = op.attrs["value"]  # type: ignore[assignment]
    return Tensor(_storage_of(value), strided_type(value.dtype, value.shape))


def full(value: Any, dtype: DType, shape: tuple[int, ...]) -> Tensor:
    """A read-only tensor with `value` everywhere: one element in memory, repeated."""
    return broadcast(build, constant(value, dtype), shape)


def check(ok: Tensor, *shown: Tensor, error: str, message: str) -> None:
    """Raise `error`, a name in `ops.CHECK_ERRORS`, if the tensor of rank 0 is False. See `ops.check` for
    `shown`.
    """
    op = bind(ops.check, error=error, message=message)
    operands = (ok, *shown)
    if _watchers and _watch.log is not None:
        _watch.log.append((op, operands, ok))
    if captures and (recorder := active()) is not None:
        recorder.record(op, [recorder.operand(x._storage, x._type, x) for x in operands], None)
    else:
        eager.execute(op, tuple([x._type for x in operands]), [x._storage for x in operands])


def assign(target: Tensor, value: Tensor) -> Tensor:
    """Overwrite target's elements with value's (same dtype and shape), in place; gives target.

    Its history becomes value's; a base and other views of the same elements follow. Raises RuntimeError for a
    leaf that requires grad, or a view of one, while recording, and for a target whose elements overlap in
    memory.
    """
    check_writable(target)
    return assign_checked(target, value)


def assign_checked(target: Tensor, value: Tensor) -> Tensor:
    """`assign` for a target that is known to be writable."""
    if _watchers:
        _watch_write(target, value)
    if value._type is not target._type and value._type.ir != target._type.ir:
        raise IRTypeError(f"can't assign {value._type} to {target._type}")
    if captures and (recorder := recorder_for("assignment", target._type)) is not None:
        recorder.write(*(recorder.operand(x._storage, x._type, x) for x in (target, value)))
    else:
        _write(target, value)
    if mode.grad and target.dtype.is_floating_point:
        _rebase(target, edge_of(value))
    return target


def check_writable(target: Tensor) -> None:
    """Raises RuntimeError if the tensor can't be written to in place now."""
    type = target._type
    if not type.is_contiguous and any(
        s == 0 and n > 1 for s, n in zip(type.strides, type.shape, strict=True)
    ):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory "
            "location. Please clone() the tensor before performing the operation."
        )
    if not mode.grad:
        return
    edge = edge_of(target)
    if isinstance(edge, Leaf):
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
    if target._view is None:
        return
    before = target._view[0]._node
    # A base without history shows as something with history only through a view that was made a leaf.
    if isinstance(before, Leaf) or before is None and edge is not None:
        raise RuntimeError(
            "a view of a leaf Variable that requires grad is being used in an in-place operation."
        )


def add_assignment(target: StridedType, value: StridedType) -> bool:
    """Let native dispatch write tensors of one type over those of another; False if it can't."""
    if native.has(dispatch_native.ASSIGN, (target, value)):
        return True
    spec = eager.assignment_spec(target, value)
    if spec is None or not dispatch_native.fits(spec):
        return False
    record = dispatch_native.Record(target, 2, spec, over=True, aligned=True)
    _add_row(dispatch_native.ASSIGN, (target, value), record)
    return True


def _write(target: Tensor, value: Tensor) -> None:
    """Copy the elements and bump the version. A copy is exact, whoever makes it."""
    if target._type.is_contiguous and value._type.is_contiguous:
        ctypes.memmove(memory.address(target._storage), memory.address(value._storage), value._type.nbytes)
    else:
        np.copyto(
            memory.to_array(target._storage, target._type), memory.to_array(value._storage, value._type)
        )
    memory.bump(target._storage)


def _rebase(target: Tensor, edge: Edge | None) -> None:
    """Give the written-to tensor, and the base that it is a view of, their new place in the tape."""
    before = edge_of(target)
    if target._view is None:
        target._node = _overwritten(target, before) if edge is None and before is not None else edge
        return
    base, offset, _ = target._view
    if edge is None and base._node is None:
        return
    op = bind(ops.as_strided_update, strides=target._type.strides, offset=offset // target.itemsize)
    edges = (base._node, edge)
    wanted = (base._node is not None, edge is not None)
    base._node = Node(Recorded(op, derivative(op, (base._type.ir, target._type.ir), wanted)), edges)
    target._view = (base, offset, base._node)
    target._node = view_node(base, offset, target._type)


def _overwritten(target: Tensor, before: Edge) -> Node:
    """The node of a tensor filled with constants: it still requires grad, and passes zeros on."""
    rank = len(target._type.shape)
    op = bind(ops.update_slice, starts=(0,) * rank, steps=(1,) * rank)
    return Node(Recorded(op, derivative(op, (target._type.ir,) * 2, (True, False))), (before, None))
