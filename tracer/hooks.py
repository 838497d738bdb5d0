"""The hooks that converted code calls: reads, stores, tests, iteration, operators. Calls are in `calls`.

Each does what the Python construct does. On the way a capture that is proving guards what is read from
outside and blocks on effects. Converted code may outlive its capture (a lambda that the user kept): without
one, hooks do just the construct.
"""

from __future__ import annotations

import operator
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import CellType, FunctionType, ModuleType
from typing import Any

from . import calls
from .attributes import read_attribute, store_attribute
from .capture import CONTAINERS, Capture, current
from .guards import ATOMS, Expression, Guard, item_of, value_guard
from .locate import is_ours
from .scalars import TracedScalar

_MISSING = object()
#: Operands on which operators run no user code and read no state.
_INERT = ATOMS | {
    TracedScalar,
    tuple,
    list,
    dict,
    set,
    frozenset,
    type({}.keys()),
    type({}.items()),
    type({}.values()),
}
_GROWING = (list, dict, set, deque)


class Hooks:
    """The hooks of one user function: they know its globals and closure cells."""

    def __init__(self, function: FunctionType) -> None:
        self._globals = function.__globals__
        self._cells: dict[str, CellType] = dict(
            zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        )

    # Reads.

    def load(self, name: str) -> Any:
        """A global or builtin."""
        value = self._globals.get(name, _MISSING)
        if value is _MISSING:
            builtins = self._globals["__builtins__"]
            namespace = builtins if isinstance(builtins, dict) else vars(builtins)
            if name not in namespace:
                raise NameError(f"name {name!r} is not defined")
            self._guard_builtin(name)
            return namespace[name]
        capture = current()
        if capture is None or isinstance(value, ModuleType) and is_ours(value.__name__):
            return value
        return capture.read(item_of(self._globals, name), value, f"the global {name} is unchanged")

    def _guard_builtin(self, name: str) -> None:
        capture = current()
        if capture is not None:
            absent = Expression("'" + name + "' not in {0}", (self._globals,))
            capture.guard(("builtin", id(self._globals), name), Guard(absent, f"{name} is the builtin"))

    def free(self, name: str, value: Any) -> Any:
        """A variable of an enclosing function."""
        capture = current()
        if capture is None:
            return value
        read = Expression("{0}.cell_contents", (self._cells[name],))
        return capture.read(read, value, f"the closure variable {name} is unchanged")

    def attr(self, obj: Any, name: str) -> Any:
        capture = current()
        if capture is None:
            return getattr(obj, name)
        if not capture.proving:
            value = getattr(obj, name)
            return capture.note(value) if capture.is_outside(obj) else value
        if name == "_version" and isinstance(obj, capture.world.tensor):
            capture.block("the version of a tensor is read, which each write to it changes")
        return read_attribute(capture, obj, name)

    def item(self, obj: Any, key: Any) -> Any:
        capture = current()
        if capture is None:
            return obj[key]
        if not capture.proving:
            value = obj[key]
            return capture.note(value) if capture.is_shared(obj) else value
        return _item(capture, obj, key)

    def slice(self, start: Any, stop: Any, step: Any) -> slice:
        return slice(*(x.pin() if type(x) is TracedScalar else x for x in (start, stop, step)))

    def imported(self, module: str, name: str, value: Any) -> None:
        """`from module import name` has bound `value`."""
        capture = current()
        if capture is not None and capture.proving and not is_ours(module):
            read = Expression("{0}." + name, (sys.modules[module],))
            capture.read(read, value, f"{module}.{name} is unchanged", floats=False)

    # Stores and effects.

    def setattr(self, value: Any, obj: Any, name: str) -> None:
        capture = current()
        if capture is not None:
            value = store_attribute(capture, obj, name, value)
        setattr(obj, name, value)

    def setitem(self, value: Any, obj: Any, key: Any) -> None:
        capture = current()
        if capture is not None:
            value = _store_item(capture, obj, value)
        obj[key] = value

    def delattr(self, obj: Any, name: str) -> None:
        self.effect(f"the attribute {name} is deleted")
        delattr(obj, name)

    def delitem(self, obj: Any, key: Any) -> None:
        capture = current()
        if capture is not None and not (type(obj) in (list, dict) and not capture.is_shared(obj)):
            capture.effect("an item is deleted")
        del obj[key]

    def effect(self, why: str) -> None:
        """Something follows that a replay could not do again."""
        capture = current()
        if capture is not None:
            capture.effect(why)

    def settle(self) -> None:
        """Errors that eager would have raised by now are raised."""
        capture = current()
        if capture is not None:
            capture.settle()

    def settled(self, value: Any) -> Any:
        self.settle()
        return value

    # Calls.

    def call(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        capture = current()
        if capture is None:
            return function(*args, **kwargs)
        return calls.call(capture, function, args, kwargs)

    def context(self, manager: Any) -> Any:
        """A context manager, before it is entered."""
        capture = current()
        if capture is None or is_ours(type(manager).__module__) or isinstance(manager, nullcontext):
            return manager
        capture.effect(f"a context manager of class {type(manager).__name__} may have effects")
        return _Settling(capture, manager)

    # Tests.

    def truth(self, x: Any) -> bool:
        if type(x) is bool:
            return x
        capture = current()
        if capture is None or not capture.proving or type(x) in ATOMS or isinstance(x, capture.world.tensor):
            return bool(x)
        if isinstance(x, CONTAINERS):
            if capture.is_outside(x):
                size = Expression("len({0})", (x,))
                capture.guard(("len", id(x)), value_guard(size, len(x), "a container has the same length"))
            return bool(x)
        return bool(calls.special(capture, x, ("__bool__", "__len__"), bool))

    def and_(self, x: Any, later: Callable[[], Any]) -> Any:
        return later() if self.truth(x) else x

    def or_(self, x: Any, later: Callable[[], Any]) -> Any:
        return x if self.truth(x) else later()

    def same(self, x: Any, y: Any, positive: bool) -> bool:
        capture = current()
        if capture is not None and capture.proving:
            tensor: Any = capture.world.tensor
            if isinstance(x, tensor) and isinstance(y, tensor):
                capture.same_object(x, y)
        return (x is y) is positive

    def contains(self, item: Any, container: Any) -> bool:
        capture = current()
        if capture is not None and capture.proving:
            calls.inert(capture, container, "in")
            if isinstance(container, CONTAINERS):
                why = "a container that is searched holds the same"
                calls.read_containers(capture, container, why, deep=True)
            if not isinstance(item, capture.world.tensor):
                calls.inert(capture, item, "in")
        return item in container

    def matched(self, subject: Any) -> Any:
        """The subject of a match statement, whose patterns look into it unseen."""
        capture = current()
        if capture is not None and capture.proving and type(subject) not in ATOMS:
            capture.block(f"a match statement looks into a {type(subject).__name__}")
        return subject.pin() if type(subject) is TracedScalar else subject

    # Iteration.

    def iterate(self, x: Any) -> Any:
        capture = current()
        if capture is None:
            return x
        return _iterable(capture, x)

    def unpack(self, x: Any) -> Any:
        return self.iterate(x)

    def unpacked(self, x: Any) -> Iterator[Any]:
        """Each element of an iterable ready to be unpacked."""
        return (self.iterate(element) for element in x)

    def mapping(self, x: Any) -> Any:
        """A mapping whose items are passed on by `**`."""
        capture = current()
        if capture is not None and capture.proving:
            if type(x) in (dict, OrderedDict):
                capture.read_all(x, "a dict that is unpacked holds the same")
            else:
                capture.block(f"a {type(x).__name__} is unpacked")
        return x

    # Operators.

    def binary(self, name: str, x: Any, y: Any) -> Any:
        return _operate(getattr(operator, name), name, x, y)

    def compare(self, name: str, x: Any, y: Any) -> Any:
        return _operate(getattr(operator, name), name, x, y)

    def unary(self, name: str, x: Any) -> Any:
        return _operate(getattr(operator, name), name, x)

    def inplace(self, name: str, x: Any, y: Any) -> Any:
        capture = current()
        if capture is not None and isinstance(x, _GROWING) and capture.is_shared(x):
            capture.effect("a container from outside is changed in place")
        return _operate(getattr(operator, "i" + name.rstrip("_")), name, x, y)

    def format(self, value: Any, conversion: int, spec: str) -> str:
        """What an f-string puts for one value."""
        capture = current()
        if capture is not None and capture.proving and not isinstance(value, capture.world.tensor):
            calls.inert(capture, value, "a format")
            if isinstance(value, CONTAINERS):
                capture.read_deep(value)
        convert: Any = {115: str, 114: repr, 97: ascii}.get(conversion)
        return format(value if convert is None else convert(value), spec)


def _operate(function: Callable[..., Any], name: str, *operands: Any) -> Any:
    """An operator on operands. One that a user's class defines is followed, or blocks."""
    capture = current()
    if capture is not None and capture.proving:
        for x in operands:
            if isinstance(x, CONTAINERS):
                why = f"a container that is an operand of {name} holds the same"
                calls.read_containers(capture, x, why, deep=True)
        strange = [x for x in operands if type(x) not in _INERT and not calls.is_ours_or_plain(capture, x)]
        if strange:
            return calls.user_operator(capture, function, name, operands, strange[0])
    return function(*operands)


class _Settling:
    """A context manager whose exit lets pending errors be raised first, as they would have been."""

    def __init__(self, capture: Capture, manager: Any) -> None:
        self._capture, self._manager = capture, manager

    def __enter__(self) -> Any:
        return self._manager.__enter__()

    def __exit__(self, *exc: Any) -> Any:
        if exc[0] is not None:
            return self._manager.__exit__(*exc)
        try:
            self._capture.settle()
        except BaseException:
            if not self._manager.__exit__(*sys.exc_info()):
                raise
            return True
        return self._manager.__exit__(None, None, None)


# Items.


def _item(capture: Capture, obj: Any, key: Any) -> Any:
    tensor: Any = capture.world.tensor
    if isinstance(obj, tensor):
        return obj[key]
    if type(key) is TracedScalar:
        key = key.pin()
    kind = type(obj)
    if kind in (list, tuple, dict, OrderedDict, defaultdict, deque, types.MappingProxyType):
        return _container_item(capture, obj, key)
    if kind in ATOMS or is_ours(kind.__module__):
        if capture.world.stateful(obj):
            capture.watch(obj)
        return obj[key]
    if isinstance(obj, tuple):
        return obj[key]
    return calls.special(capture, obj, ("__getitem__",), operator.getitem, key)


def _container_item(capture: Capture, obj: Any, key: Any) -> Any:
    if isinstance(obj, defaultdict) and key not in obj and capture.is_shared(obj):
        capture.effect("a missing key is added to a defaultdict from outside")
    value = obj[key]
    if not capture.is_outside(obj):
        return value
    if type(obj) is tuple:
        capture.note(value)
        return value
    if type(key) not in ATOMS or type(key) is slice:
        capture.read_all(obj, "a container that is indexed holds the same")
        capture.note(value)
        return value
    return capture.read(item_of(obj, key), value, f"item {key!r} of a {type(obj).__name__} is unchanged")


def _store_item(capture: Capture, obj: Any, value: Any) -> Any:
    if isinstance(obj, capture.world.tensor):
        return value
    if type(obj) in (list, dict, OrderedDict, deque) and not capture.is_shared(obj):
        return value
    if is_ours(type(obj).__module__) and not capture.is_shared(obj):
        return value
    capture.effect(f"an item of a {type(obj).__name__} from outside is set")
    return capture.escape(value)


def _iterable(capture: Capture, x: Any) -> Any:
    if type(x) in ATOMS or isinstance(x, capture.world.tensor):
        return x
    if isinstance(x, CONTAINERS):
        capture.read_all(x, "a container that is iterated holds the same")
        return x
    if not capture.proving:
        return x
    if capture.world.stateful(x):
        capture.watch(x)
        return x
    if is_ours(type(x).__module__):
        why = capture.world.refuses(type(x))
        if why is not None:
            capture.effect(why)
        return x
    if type(x).__module__ in ("itertools", "builtins"):  # iterators and views, made by calls that were seen
        if capture.was_read(x):
            capture.block("an iterator from outside is advanced")
        return x
    capture.block(f"a {type(x).__name__} is iterated")
    return x
