"""One capture from start to end: what was read, why it can't be replayed, and which objects it made itself.

While a capture is *proving*, every read of state from outside adds a guard, and every effect that a replay
could not do again blocks it, with a reason. Once blocked it only records: the segments run, the effects
happen, in order. Objects from outside are told from those made during the capture by identity: containers
count as local unless they were read from outside, all other objects count as from outside unless the capture
made them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from .guards import ATOMS, Expression, Guard, contents, contents_guard, value_guard
from .recorder import Reason, Recorder, active
from .scalars import TracedScalar

#: Containers whose elements are read one by one.
CONTAINERS = (list, dict, set, frozenset, tuple)


class World(Protocol):
    """What the frontend tells the tracer of its own objects."""

    tensor: type

    def stateful(self, obj: object) -> bool:
        """True for modules and optimizers: objects whose code is ours and whose state is `watch`ed."""
        ...

    def python_of(self, function: Any) -> Callable[..., Any] | None:
        """The function of ours that a bound builtin stands for, to be called with its owner first; None if it
        stands for none."""
        ...

    def shares(self, function: Callable[..., Any], argument: object) -> bool:
        """Whether a function of ours gives a tensor on the memory of an argument, instead of reading it."""
        ...

    def start(self, capture: Capture) -> None:
        """Guard the settings that all our code reads."""
        ...

    def watch(self, capture: Capture, obj: Any) -> None:
        """Guard the state of a stateful object, before it is used for the first time."""
        ...

    def refuses(self, function: Callable[..., Any]) -> str | None:
        """Why a function of ours can't be replayed (it has effects not on tensors); None if it can."""
        ...


class Capture:
    """The state of one capture. proving: nothing seen so far stands against replaying it."""

    def __init__(self, world: World, recorder: Recorder, *, proving: bool = True) -> None:
        self.world = world
        self.recorder = recorder
        self.proving = proving
        recorder.capture = self
        self.guards: dict[object, Guard] = {}
        #: Tensors from outside that were read, with their type and whether they required grad, when first
        #: seen.
        self.tensors: dict[int, tuple[Any, Any, bool]] = {}
        self._scalars: dict[object, TracedScalar] = {}
        self._outside: dict[int, object] = {}
        self._arguments: dict[int, object] = {}
        self._argument_tensors: dict[int, tuple[object, Expression]] = {}
        self._local: dict[int, object] = {}
        self._watched: dict[int, object] = {}
        if proving:
            world.start(self)

    @property
    def reasons(self) -> list[Reason]:
        """Why this capture can't be replayed, in order."""
        return self.recorder.blocked + self.recorder.forced

    # Reading.

    def read(self, read: Expression, value: Any, what: str, *, floats: bool = True) -> Any:
        """A value read from outside: guarded, or, if it is a float, a run-time scalar."""
        if not self.proving:
            return self.note(value)
        if floats and type(value) is float:
            key = ("float", read.template, *map(id, read.constants))
            what = f"{what.removesuffix(' is unchanged')} is a float, of any value"
            self.guard(key, Guard(Expression(f"type({read.template}) is float", read.constants), what))
            return self.scalar(read, value)
        key = (read.template, *map(id, read.constants))
        if key not in self.guards:
            self.guards[key] = value_guard(read, value, what)
        self.note(value)
        return value

    def scalar(self, read: Expression, value: float) -> TracedScalar:
        """The run-time scalar that an expression gives."""
        key = (read.template, *map(id, read.constants))
        found = self._scalars.get(key)
        if found is None:
            found = self._scalars[key] = TracedScalar(self, value, source=read)
        return found

    def derived(
        self, function: Callable[..., Any], operands: tuple[object, ...], value: float
    ) -> TracedScalar:
        """The scalar function(*operands), the same object for the same operands."""
        key = (function, *(id(x) if type(x) is TracedScalar else (type(x), x) for x in operands))
        found = self._scalars.get(key)
        if found is None:
            found = self._scalars[key] = TracedScalar(self, value, function, operands)
        return found

    def guard_scalar(
        self, scalar: TracedScalar, function: Callable[..., Any], operands: tuple[object, ...], result: object
    ) -> None:
        """A replay holds only if function(*operands) gives `result` again."""
        source = scalar_source(TracedScalar(self, 0.0, function, operands))
        self.guards[("scalar", source.template, *map(id, source.constants))] = value_guard(
            source, result, f"{getattr(function, '__name__', function)} of a number is {result!r}"
        )

    def guard(self, key: object, guard: Guard) -> None:
        """Add a guard, once per key, while proving."""
        if self.proving and key not in self.guards:
            self.guards[key] = guard

    def read_all(self, container: Any, what: str) -> None:
        """Guard the elements of a container from outside, before it is iterated, searched or measured."""
        if not self.is_outside(container):
            return
        for element in contents(container):
            self.note(element)
        if self.proving and not isinstance(container, (tuple, frozenset)):
            self.guard(("contents", id(container)), contents_guard(container, what))

    def read_deep(self, value: Any) -> None:
        """Guard a container from outside and the containers in it."""
        if isinstance(value, CONTAINERS):
            self.read_all(value, "a container that is passed on holds the same")
            for element in contents(value):
                self.read_deep(element)

    def note(self, value: Any) -> Any:
        """Remember that a value comes from outside: a container even when nothing is proved any more, because
        changing it is still an effect. Gives the value."""
        if isinstance(value, CONTAINERS):
            self._outside[id(value)] = value
        elif self.proving and type(value) not in ATOMS:
            self._outside[id(value)] = value
            if isinstance(value, self.world.tensor):
                tensor: Any = value
                self.tensors.setdefault(id(value), (tensor, tensor._type, tensor.requires_grad))
                if id(value) in self._argument_tensors:
                    self.same_object(value, value, constant=True)
            elif self.world.stateful(value):
                self.watch(value)
        return value

    def note_argument(self, container: Any) -> None:
        """Remember a container that is (part of) an argument: its structure is guarded with the arguments."""
        self._arguments[id(container)] = container

    def note_arguments(self, values: Iterable[Any]) -> None:
        """Remember all containers among arguments, and in them."""
        for value in values:
            if isinstance(value, CONTAINERS):
                self.note_argument(value)
                self.note_arguments(value.values() if isinstance(value, dict) else value)

    def note_argument_tensors(self, tensors: Iterable[tuple[Any, str]]) -> None:
        """Remember the tensors among the arguments, with the expressions that find them."""
        for tensor, path in tensors:
            self._argument_tensors[id(tensor)] = (tensor, Expression(path))
            if id(tensor) in self.tensors:  # of a module that is an argument too
                self.same_object(tensor, tensor, constant=True)

    def same_object(self, x: Any, y: Any, *, constant: bool = False) -> None:
        """Guard that two tensors still are one object, or two, as far as the arguments decide on that.
        constant: y is not read as an argument."""
        for seen in self.recorder.observed.values():
            if seen.before is not None and (seen.before is x or seen.before is y):
                self.block(f"it is asked whether a tensor is the {seen.attribute} of another")
                return
        known = self._argument_tensors
        if id(x) not in known:
            x, y = y, x
        if id(x) not in known:
            return
        read = known[id(x)][1].template
        what = f"{read} is {'the same' if x is y else 'another'} tensor"
        sign = "is" if x is y else "is not"
        if id(y) in known and not constant:
            other = known[id(y)][1].template
            if other != read:
                self.guard(("same", read, other), Guard(Expression(f"{read} {sign} {other}"), what))
        elif id(y) in self.tensors:
            self.guard(("same", read, id(y)), Guard(Expression(f"{read} {sign} {{0}}", (y,)), what))

    def watch(self, obj: Any) -> None:
        """Guard the state of a stateful object of ours."""
        if self.proving and id(obj) not in self._watched and id(obj) not in self._local:
            self._watched[id(obj)] = obj
            self.world.watch(self, obj)

    def covers(self, obj: Any) -> None:
        """The state of an object is guarded as part of another's."""
        self._watched[id(obj)] = obj

    # Whose object it is.

    def made(self, obj: Any) -> None:
        """Remember that an object was made by this capture."""
        self._local[id(obj)] = obj

    def is_outside(self, obj: object) -> bool:
        """Whether a read of the object's state must be guarded, or a change of it is seen from outside."""
        key = id(obj)
        if key in self._arguments or isinstance(obj, BaseException):
            return False
        if isinstance(obj, CONTAINERS):
            return key in self._outside
        return key not in self._local

    def release(self) -> None:
        """Let go of the objects that were only kept to be told apart."""
        for known in (self._local, self._outside, self._arguments, self._argument_tensors):
            known.clear()

    def was_read(self, obj: object) -> bool:
        """Whether the object itself came out of a read of outside state."""
        return id(obj) in self._outside

    def in_array(self, address: int) -> bool:
        """Whether memory is that of an array from outside, which a tensor can share."""
        return any(_covers(obj, address) for obj in self._outside.values())

    def is_shared(self, obj: object) -> bool:
        """Whether a change of the object is seen from outside."""
        return id(obj) in self._arguments or self.is_outside(obj)

    # Effects.

    def block(self, why: str) -> None:
        """This capture can't be replayed, because `why`."""
        if self.proving:
            self.recorder.block(why)

    def effect(self, why: str) -> None:
        """Something happens that a replay could not do again: first let pending checks raise, then block."""
        self.settle()
        self.block(why)

    def settle(self) -> None:
        """Run the recorded ops that may raise, where eager would have raised before going on."""
        if self.recorder.may_raise:
            self.recorder.force("an operation that may raise an error must run before what follows it")

    def escape(self, value: Any) -> Any:
        """A value that leaves the capture's sight: plain floats instead of scalars, containers shared from
        now on."""
        if type(value) is TracedScalar:
            return value.pin()
        if type(value) is list:
            value[:] = map(self.escape, value)
        elif type(value) is dict:
            for key in value:
                value[key] = self.escape(value[key])
        elif type(value) is tuple and any(type(x) in (TracedScalar, list, dict, tuple) for x in value):
            return tuple(map(self.escape, value))
        if isinstance(value, CONTAINERS):
            self._outside[id(value)] = value
        return value


def _covers(obj: object, address: int) -> bool:
    if not isinstance(obj, np.ndarray):
        return False
    low, high = np.lib.array_utils.byte_bounds(obj)
    return low <= address < high


def current() -> Capture | None:
    """The capture that runs on this thread, if any."""
    recorder = active()
    return None if recorder is None else recorder.capture


def scalar_source(value: object) -> Expression:
    """The Python expression that computes a scalar (or gives a plain number) at a replay."""
    if type(value) is not TracedScalar:
        return Expression("{0}", (value,))
    if value.function is None:
        assert isinstance(value.source, Expression)
        return value.source
    parts = [Expression("{0}", (value.function,)), *map(scalar_source, value.operands)]
    texts: list[str] = []
    constants: list[object] = []
    for part in parts:
        places = range(len(constants), len(constants) + len(part.constants))
        texts.append(part.template.format(*(f"{{{i}}}" for i in places)))
        constants += part.constants
    return Expression(f"{texts[0]}({', '.join(texts[1:])})", tuple(constants))
