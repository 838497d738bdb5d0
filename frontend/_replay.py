"""Replays: what a proved capture becomes. One generated Python function checks the guards, makes one native
call and wraps its results; it is short enough to read (`Specialization.source`).

Everything that the function needs is a constant of its namespace or found from the arguments by an
expression.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from types import BuiltinFunctionType, ModuleType
from typing import Any

from vitrify.ir.strided import StridedType, strided_type
from vitrify.runtime import storage as memory
from vitrify.runtime.compiler import CompiledGraph
from vitrify.tracer.capture import Capture, scalar_source
from vitrify.tracer.guards import ATOMS, Expression, Guard, Namespace, condition, value_guard
from vitrify.tracer.locate import is_ours
from vitrify.tracer.recorder import Recorder
from vitrify.tracer.scalars import TracedScalar
from vitrify.tracer.segment import InputSlot, ScalarSlot, Segment
from vitrify.tracer.traced import TracedStorage, TracedValue

from ._capture import copied, scalar_storage, shared_results
from ._region import Region
from ._replay_code import native_form
from ._signature import Signature, tensor_guards
from ._tape import Edge, mode
from ._tensor import Tensor, edge_of, is_current

#: What a replay gives for a call that does not fit its guards.
MISS: Any = type("Miss", (), {"__repr__": lambda self: "MISS"})()


class NotReplayable(Exception):
    """A capture that can't become a replay; the message says why."""


@dataclass
class Specialization:
    """A function for the calls that fit its guards. replay(args, kwargs) gives the result, or MISS. native:
    the same without an interpreter, or None."""

    replay: Callable[[tuple[Any, ...], dict[str, Any]], Any]
    source: str
    guards: list[Guard]
    executable: CompiledGraph | None
    region: Region | None = None
    native: Any = None
    edge_types: list[StridedType] = field(default_factory=list)

    def settle(self) -> None:
        """Once the first call has been made: let go of the tensors that the capture was made with."""
        if self.region is not None:
            self.region.settle(self.edge_types)

    def more(self) -> list[CompiledGraph]:
        """The compiled backward parts."""
        return self.region.executables() if self.region is not None else []


@dataclass(frozen=True)
class Found:
    """A tensor that exists outside of the capture, and the expression that finds it at a replay.

    varies: it is not the same tensor each time (an argument, a `_grad`). guarded: guards see to its place in
    the tape, which is up to date then.
    """

    tensor: Tensor
    read: Expression
    varies: bool
    guarded: bool = True

    def edge(self) -> Expression:
        """The expression of its place in the tape."""
        read = self.read.template
        return Expression(f"{read}._node" if self.guarded else f"edge_of({read})", self.read.constants)


class ReplayBuilder:
    """Collects the parts of a replay from a capture that has just been run and not been forced."""

    def __init__(self, capture: Capture, signature: Signature) -> None:
        self.capture = capture
        self.recorder: Recorder = capture.recorder
        self.signature = signature
        self.names = Namespace()
        self.guards = list(signature.guards)
        if mode.grad is not signature.grad_mode:
            raise NotReplayable("the call switches grad mode for what comes after it")
        self.guards.append(value_guard(Expression("mode.grad"), mode.grad, f"grad mode is {mode.grad}"))
        self.before: list[str] = []  # statements before the guards
        self.after: list[str] = []  # statements after the call
        self.results: list[TracedStorage] = []  # the outputs of the graph
        self.found: dict[int, Found] = {}  # by identity of the tensor
        self._by_block: dict[Any, list[Found]] = {}
        self._find_outside()
        self.late: list[str] = []  # statements after the results have their place in the tape
        self._made: dict[int, str] = {}
        self._copies: dict[Any, str] = {}  # of constants, by their block
        self._made_tensors: list[tuple[str, Tensor]] = []
        self._count = itertools.count()
        self.names.names.update(
            MISS=MISS,
            mode=mode,
            Tensor=Tensor,
            view=memory.view,
            base=memory.base,
            offset=memory.offset,
            scalar=scalar_storage,
            duplicate=_duplicate,
            edge_of=edge_of,
            is_current=is_current,
        )

    # Tensors from outside.

    def _find_outside(self) -> None:
        """Arguments, tensors that were read, what was in observed attributes on entry; with their guards."""
        for x, path in self.signature.tensors:
            self._add(Found(x, Expression(path), True))
        for x, type, requires_grad in self.capture.tensors.values():
            if id(x) not in self.found:
                if x._type is not type or x.requires_grad is not requires_grad:
                    raise NotReplayable("the type of a tensor from outside was changed")
                self._add(Found(x, Expression("{0}", (x,)), False))
                self.guards += _constant_guards(x)
        for seen in self.recorder.observed.values():
            owner = self.found.get(id(seen.owner))
            if owner is None or not seen.read:
                continue
            read = self._bound(Expression(f"{owner.read.template}.{seen.attribute}", owner.read.constants))
            if seen.before is None:
                self.guards.append(value_guard(read, None, f"{seen.attribute} is None"))
            else:
                self.guards.append(_is_a(read, seen.before))
                self._add(Found(seen.before, read, True, guarded=False))

    def _bound(self, read: Expression) -> Expression:
        """What an attribute is on entry, by a name: the replay may set the attribute before it needs it."""
        name = f"on_entry{len(self.before)}"
        self.before.append(f"{name} = {self.names.source(read)}")
        return Expression(name)

    def _add(self, found: Found) -> None:
        self.found[id(found.tensor)] = found
        if not isinstance(found.tensor._storage, TracedValue):
            self._by_block.setdefault(memory.base(found.tensor._storage), []).append(found)

    def at_base(self, storage: Any) -> list[Found]:
        """The tensors from outside that lie in the same block of memory."""
        return self._by_block.get(memory.base(storage), [])

    def place(self, storage: Any, shift: int) -> str:
        """Source for the memory `shift` bytes after a storage from outside."""
        candidates = self.at_base(storage)
        if not candidates:
            return self._shifted(self.names.name(storage), shift)
        first = candidates[0]
        shift += memory.offset(storage) - memory.offset(first.tensor._storage)
        if not first.varies:
            return self._shifted(self.names.name(first.tensor._storage), shift)
        return self._shifted(f"{self.names.source(first.read)}._storage", shift)

    def _shifted(self, source: str, shift: int) -> str:
        return f"view({source}, {shift})" if shift else source

    # Inputs.

    def inputs(self, segment: Segment) -> list[str]:
        """Source for each input of the graph, with the guards on how they share memory."""
        places = []
        for slot in segment.slots:
            if isinstance(slot, ScalarSlot):
                places.append(f"scalar({self.number(slot.source, slot.number)})")
            else:
                places.append(self.place(slot.handle, slot.start * slot.root.type.dtype.itemsize))
        self._guard_aliasing(segment)
        return places

    def inputs_of(self, arguments: Collection[int], segment: Segment) -> set[int]:
        """The inputs of the graph that lie in the memory of these arguments, given by position."""
        paths = {f"a{i}" for i in arguments}
        blocks = {memory.base(x._storage) for x, path in self.signature.tensors if path in paths}
        slots = enumerate(segment.slots)
        return {i for i, s in slots if isinstance(s, InputSlot) and memory.base(s.handle) in blocks}

    def number(self, source: object, value: float) -> str:
        """Source for a float: of a run-time scalar, or the float itself."""
        return self.names.source(scalar_source(source if type(source) is TracedScalar else value))

    def _guard_aliasing(self, segment: Segment) -> None:
        """What shared memory still does, in the same way; if any is written to, the others don't."""
        slots = [s for s in segment.slots if isinstance(s, InputSlot)]
        groups = [self.at_base(slot.handle) for slot in slots]
        updated = {id(slot) for slot in segment.updated}
        for slot, group in zip(slots, groups, strict=True):
            if not group and id(slot) in updated:
                raise NotReplayable("a tensor made from Python data during the call is changed in place")
            for other in group[1:]:
                if group[0].varies or other.varies:
                    self._guard_together(group[0], other)
        if updated:
            self._guard_apart([group for group in groups if group])

    def _guard_together(self, one: Found, other: Found) -> None:
        distance = memory.offset(other.tensor._storage) - memory.offset(one.tensor._storage)
        first, second = f"{one.read.template}._storage", f"{_moved(other.read, one.read)}._storage"
        template = f"base({first}) is base({second}) and offset({second}) - offset({first}) == {distance}"
        constants = (*one.read.constants, *other.read.constants)
        self.guards.append(Guard(Expression(template, constants), "two tensors share their memory"))

    def _guard_apart(self, groups: list[list[Found]]) -> None:
        constants = [g for g in groups if not g[0].varies]
        blocks = frozenset(memory.base(g[0].tensor._storage) for g in constants)
        arguments = [g[0].read for g in groups if g[0].varies]
        for i, read in enumerate(arguments):
            if blocks:
                place = f"{{{len(read.constants)}}}"
                apart = Expression(
                    f"base({read.template}._storage) not in {place}", (*read.constants, blocks)
                )
                self.guards.append(Guard(apart, "an argument shares no memory with what is updated"))
            for other in arguments[:i]:
                apart = Expression(
                    f"base({read.template}._storage) is not base({_moved(other, read)}._storage)",
                    (*read.constants, *other.constants),
                )
                self.guards.append(Guard(apart, "two arguments share no memory"))

    # Results.

    def result(self, value: Any) -> str:
        """Source that makes the result of a call: structures of tensors and plain values."""
        if isinstance(value, Tensor):
            return self.tensor(value)
        if type(value) is TracedScalar:
            return self.number(value, value.value)
        if id(value) in self.signature.containers:
            return self.signature.containers[id(value)]
        if type(value) in (list, tuple, dict) and not (
            type(value) is not tuple and self.capture.was_read(value)
        ):
            return self._structure(value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return f"{self.names.name(type(value))}({', '.join(map(self.result, value))})"
        if type(value) in ATOMS or isinstance(value, type | ModuleType) or self._is_given(value):
            return self.names.name(value)
        raise NotReplayable(f"it gives a {type(value).__name__} made by the call")

    def _is_given(self, value: Any) -> bool:
        """Whether an object was there before the call, or never changes (a dtype, a size, a builtin)."""
        if isinstance(value, tuple):
            return all(type(x) in ATOMS for x in value)
        if isinstance(value, BuiltinFunctionType):
            return isinstance(value.__self__, ModuleType)
        ours = is_ours(type(value).__module__) and self.capture.is_outside(value)
        return ours or self.capture.was_read(value)

    def _structure(self, value: Any) -> str:
        if type(value) is dict:
            return "{" + ", ".join(f"{self.result(k)}: {self.result(v)}" for k, v in value.items()) + "}"
        parts = "".join(f"{self.result(x)}, " for x in value)
        return f"[{parts}]" if type(value) is list else f"({parts})"

    def tensor(self, x: Tensor) -> str:
        """Source for a tensor: one from outside, or one that is made anew by each replay (once per call)."""
        outside = self.found.get(id(x))
        if outside is not None:
            return self.names.source(outside.read)
        if id(x) not in self._made:
            name = self._made[id(x)] = f"t{next(self._count)}"
            self._made_tensors.append((name, x))
            self.after.append(f"{name} = {self.new_tensor(x)}")
            self.late += self._history(name, x)
        return self._made[id(x)]

    def new_tensor(self, x: Tensor) -> str:
        """Source for another tensor with the elements of a result, without history."""
        if type(x) is not Tensor:
            raise NotReplayable(f"it makes a {type(x).__name__}")
        return f"Tensor({self.storage(x._storage, x._type)}, {self.names.name(x._type)})"

    def storage(self, storage: Any, type: StridedType) -> str:
        """Source for the memory of a tensor of the capture, in terms of the graph's outputs and of inputs."""
        if not isinstance(storage, TracedValue):
            return self._own_place(storage, 0)
        shift = storage.offset * type.dtype.itemsize
        if storage.storage.origin is not None:
            return self._own_place(storage.storage.origin, shift)
        if storage.storage not in self.results:
            self.results.append(storage.storage)
        return self._shifted(f"o{self.results.index(storage.storage)}", shift)

    def _own_place(self, storage: Any, shift: int) -> str:
        """As `place`, for a result. A constant made by the capture is copied, once per call: the caller may
        write to what it gets."""
        if self.at_base(storage) or self.capture.in_array(memory.address(storage)):
            return self.place(storage, shift)
        block = memory.base(storage)
        if block not in self._copies:
            self._copies[block] = f"k{len(self._copies)}_copy"
            self.after.append(f"{self._copies[block]} = duplicate({self.names.name(block)})")
        return self._shifted(self._copies[block], memory.offset(storage) + shift)

    def _history(self, name: str, x: Tensor) -> list[str]:
        """Statements that make a new tensor a view of another, where it is one."""
        if x._view is None:
            return []
        base, offset, _ = x._view
        known = id(base) in self.found or id(base) in self._made
        return [f"{name}._view = ({self.tensor(base)}, {offset}, {self.tensor(base)}._node)"] if known else []

    def stores(self) -> None:
        """What the capture left in attributes of outside objects (`_grad`) is set again by each replay."""
        for seen in self.recorder.observed.values():
            now = getattr(seen.owner, seen.attribute)
            if now is seen.before and seen.read:
                continue
            owner = self._made.get(id(seen.owner))
            outside = self.found.get(id(seen.owner))
            if outside is not None:
                owner = self.names.source(outside.read)
            if owner is not None:
                self.after.append(f"{owner}.{seen.attribute} = {'None' if now is None else self.tensor(now)}")

    def requiring_grad(self) -> list[tuple[str, Tensor]]:
        """The tensors made by a replay that require grad, by name."""
        return [(name, x) for name, x in self._made_tensors if x.requires_grad]

    def at_edge(self, edge: Edge) -> Found:
        """The tensor from outside with this place in the tape."""
        found = next((f for f in self.found.values() if edge_of(f.tensor) is edge), None)
        if found is None:
            raise NotReplayable("its result depends on a tensor that requires grad and can't be found again")
        return found

    # The function.

    def build_region(
        self, segment: Segment, executable: CompiledGraph, results: str, region: Region, names: list[str],
        held: Sequence[str] | None,
    ) -> Specialization:  # fmt: skip
        """A replay whose results `names` are the outputs of one node of the tape. held: of a composite, the
        tensors that the node holds."""
        first, count = len(self.results), len(region.saved)
        saved = _tuple(f"o{i}" for i in range(first, first + count))
        ends = [self.at_edge(edge) for edge in region.edges]
        edges = _tuple(self.names.source(end.edge()) for end in ends)
        self.names.names["attach"] = region.attach
        inputs, kept = _tuple(self.inputs(segment)), "None" if held is None else _tuple(held)
        self.after.append(f"attach({_tuple(names)}, {edges}, {inputs}, {saved}, {kept})")
        made = self.build(segment, executable, results, count)
        made.region, made.edge_types = region, [end.tensor._type for end in ends]
        return made

    def build(
        self, segment: Segment, executable: CompiledGraph | None, results: str, extra: int = 0
    ) -> Specialization:
        """Put the parts together. extra: outputs of the executable after those of the segment, named `o...`
        too."""
        call: list[str] = []
        if executable is not None:
            places = ", ".join(self.inputs(segment))
            outputs = len(self.results) + extra
            self.names.names["run"] = executable.bind()
            targets = ", ".join(f"o{i}" for i in range(outputs))
            call.append(f"{targets} = run({places})" if outputs else f"run({places})")
            call += self._unshared(executable)
        lines = ["def replay(args, kwargs):", "    try:"]
        lines += [f"        {line}" for line in (*self.signature.unpacking(), *self.before)]
        guards = [*self.guards, *self.capture.guards.values()]
        lines += [f"        if not ({condition(guards, self.names)}): return MISS"]
        lines += [
            "    except Exception:",
            "        return MISS",
            *_indented([*call, *self.after, *self.late], 4),
        ]
        source = "\n".join([*lines, f"    return {results}", ""])
        environment: dict[str, Any] = dict(self.names.names)
        exec(compile(source, "<vitrify replay>", "exec"), environment)
        return Specialization(
            environment["replay"], source, guards, executable, native=native_form(source, environment)
        )

    def _unshared(self, executable: CompiledGraph) -> list[str]:
        lines = []
        for i in shared_results(executable):
            self.names.names["copied"] = copied
            type = executable.plan.outputs[i][1]
            dense = strided_type(type.dtype, type.shape)  # type: ignore[arg-type]
            lines.append(f"o{i} = copied(o{i}, {self.names.name(dense)})")
        return lines


def _duplicate(block: Any) -> Any:
    made = memory.allocate(memory.nbytes(block))
    ctypes.memmove(memory.address(made), memory.address(block), memory.nbytes(block))
    return made


def _tuple(parts: Iterable[str]) -> str:
    return f"({''.join(part + ', ' for part in parts)})"


def _indented(lines: Iterable[str], by: int) -> list[str]:
    return [" " * by + line for line in lines]


def _moved(read: Expression, after: Expression) -> str:
    """The template of an expression whose constants come after those of another."""
    count = len(after.constants)
    return read.template.format(*(f"{{{count + i}}}" for i in range(len(read.constants))))


def _constant_guards(x: Tensor) -> list[Guard]:
    """That a tensor from outside, which is the same object at each replay, has the same type and standing."""
    if x._view is not None:
        same_memory = Guard(
            Expression("{0}._storage is {1}", (x, x._storage)), "a tensor has the same memory"
        )
        return [same_memory, *tensor_guards(x, Expression("{0}", (x,)), "a tensor from outside")]
    if x._node is not None and not x.is_leaf:
        raise NotReplayable("a tensor from outside that is not a leaf requires grad")
    holds = "{0}._storage is {1} and {0}._node is {2} and {0}._type is {3}"
    facts = Expression(holds, (x, x._storage, x._node, x._type))
    return [
        Guard(
            facts,
            f"a tensor from outside is {x._type} in the same memory, requires_grad is {x.requires_grad}",
        )
    ]


def _is_a(read: Expression, x: Tensor) -> Guard:
    place = f"{{{len(read.constants)}}}"
    test = f"{read.template} is not None and {read.template}._type is {place}"
    return Guard(Expression(test, (*read.constants, x._type)), f"grad is {x._type}")
