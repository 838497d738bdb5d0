"""Attributes as the hooks read and store them: what is guarded, what is followed, what blocks.

Python looks an attribute up in the classes (properties and slots first), then in the instance, then in the
classes again. Each of these is guarded by itself, so that a replay sees a change of any.
"""

from __future__ import annotations

import types
from types import FunctionType, ModuleType
from typing import Any

from . import calls
from .capture import CONTAINERS, Capture
from .guards import ATOMS, Expression, Guard, value_guard
from .locate import is_ours
from .scalars import TracedScalar

_MISSING = object()
#: Objects whose attributes are methods of theirs, and nothing that changes.
_FIXED = frozenset((*CONTAINERS, types.BuiltinFunctionType))


def read_attribute(capture: Capture, obj: Any, name: str) -> Any:
    """obj.name, guarded as far as it can change."""
    kind = type(obj)
    if kind is TracedScalar or kind in ATOMS or kind in _FIXED:
        return getattr(obj, name)
    if isinstance(obj, ModuleType):
        return _module_attribute(capture, obj, name)
    if isinstance(obj, type):
        return _class_attribute(capture, obj, name)
    if kind is super:
        return _super_attribute(capture, obj, name)
    if capture.world.stateful(obj):
        return _watched_attribute(capture, obj, kind, name)
    if is_ours(kind.__module__) and capture.world.refuses(kind) is None:
        return getattr(obj, name)
    return _instance_attribute(capture, obj, kind, name)


def _module_attribute(capture: Capture, module: ModuleType, name: str) -> Any:
    value = getattr(module, name)
    if is_ours(module.__name__) or module.__name__ in ("math", "operator"):
        return value
    read = Expression("{0}." + name, (module,))
    return capture.read(read, value, f"{module.__name__}.{name} is unchanged")


def _class_attribute(capture: Capture, cls: type, name: str) -> Any:
    owner, raw = _found_in_class(cls, name)
    if owner is None or _computes(raw):  # of the metaclass, or by a descriptor
        if type(cls) is not type or _computes(raw):
            capture.block(f"the class attribute {cls.__name__}.{name} is computed")
        return getattr(cls, name)
    if type(raw) is float:
        return capture.read(Expression("{0}." + name, (cls,)), raw, f"{cls.__qualname__}.{name} is unchanged")
    _guard_class(capture, owner, name, raw)
    value = getattr(cls, name)
    if raw is value:
        capture.note(value)
    return value


def _super_attribute(capture: Capture, obj: Any, name: str) -> Any:
    """super().name: a property is followed; anything else follows from the classes."""
    order = obj.__self_class__.__mro__
    raw = guard_lookup(capture, order[order.index(obj.__thisclass__) + 1 :], name)
    if isinstance(raw, property) and raw.fget is not None:
        return calls.call(capture, raw.fget, (obj.__self__,), {})
    if _computes(raw):
        capture.block(f"the class {obj.__self_class__.__name__} computes its attribute {name}")
    value = getattr(obj, name)
    if raw is value:
        capture.note(value)
    return value


def _watched_attribute(capture: Capture, obj: Any, kind: type, name: str) -> Any:
    """Of a module or optimizer: its own state is guarded as a whole."""
    capture.watch(obj)
    owner, raw = _found_in_class(kind, name)
    if isinstance(raw, property) and owner is not None and raw.fget is not None:
        _guard_class(capture, owner, name, raw)
        return calls.call(capture, raw.fget, (obj,), {})
    if _computes(raw) or not is_ours(
        getattr(getattr(kind, "__getattr__", None), "__module__", None) or "vitrify"
    ):
        capture.block(f"the class {kind.__name__} computes its attributes")
    elif owner is not None and name not in obj.__dict__:
        _guard_class(capture, owner, name, raw)
    value = getattr(obj, name)
    if capture.is_outside(obj):
        capture.note(value)
    return value


def _instance_attribute(capture: Capture, obj: Any, kind: type, name: str) -> Any:
    owner, raw = _found_in_class(kind, name)
    if isinstance(raw, property) and owner is not None and raw.fget is not None:
        _guard_class(capture, owner, name, raw)
        return calls.call(capture, raw.fget, (obj,), {})
    state = getattr(obj, "__dict__", {})
    if _computes_attributes(kind) or _computes(raw) and (hasattr(raw, "__set__") or name not in state):
        capture.block(f"the class {kind.__name__} computes its attribute {name}")
        return getattr(obj, name)
    value = getattr(obj, name)
    if not capture.is_outside(obj):
        return value
    what = f"the attribute {name} of a {kind.__name__} is unchanged"
    if name in state:
        return capture.read(Expression("{0}.__dict__['" + name + "']", (obj,)), value, what)
    if owner is None or hasattr(raw, "__set__"):  # a slot, or whatever a builtin class computes
        return capture.read(Expression("{0}." + name, (obj,)), value, what)
    _guard_class(capture, owner, name, raw)
    if raw is value:
        capture.note(value)
    if hasattr(obj, "__dict__"):
        absent = Expression("'" + name + "' not in {0}.__dict__", (obj,))
        capture.guard(("absent", id(obj), name), Guard(absent, f"{name} of a {kind.__name__} is its class's"))
    return value


def _found_in_class(kind: type, name: str) -> tuple[type | None, Any]:
    for cls in kind.__mro__:
        if name in cls.__dict__:
            return cls, cls.__dict__[name]
    return None, None


def guard_lookup(capture: Capture, classes: tuple[type, ...], name: str) -> Any:
    """What the first of these classes that has the name holds, None without one; a replay needs the same."""
    for cls in classes:
        if name in cls.__dict__:
            raw = cls.__dict__[name]
            _guard_class(capture, cls, name, raw)
            return raw
        if cls.__module__ != "builtins" and not is_ours(cls.__module__):
            absent = Expression("'" + name + "' not in {0}.__dict__", (cls,))
            capture.guard(("class", id(cls), name), Guard(absent, f"{cls.__qualname__} has no {name}"))
    return None


def _guard_class(capture: Capture, cls: type, name: str, raw: Any) -> None:
    if cls.__module__ != "builtins" and not is_ours(cls.__module__):
        read = Expression("{0}.__dict__['" + name + "']", (cls,))
        guard = value_guard(read, raw, f"{cls.__qualname__}.{name} is unchanged")
        capture.guard(("class", id(cls), name), guard)


def _computes(raw: Any) -> bool:
    """Whether what a class holds is a descriptor that runs code of a class written in Python."""
    return isinstance(getattr(type(raw), "__get__", None), FunctionType)


def _computes_attributes(kind: type) -> bool:
    has = {name for cls in kind.__mro__ for name in cls.__dict__}
    return "__getattr__" in has or isinstance(kind.__getattribute__, FunctionType)


def store_attribute(capture: Capture, obj: Any, name: str, value: Any) -> Any:
    """What to store where obj.name is set: the value, as the capture lets it go. An outside object blocks."""
    if isinstance(obj, capture.world.tensor) and name == "grad":
        return value
    if capture.is_outside(obj) or isinstance(obj, capture.world.tensor):
        if not (capture.world.stateful(obj) and getattr(obj, name, _MISSING) is value):
            capture.effect(f"the attribute {name} of a {type(obj).__name__} from outside is set")
    elif not _sets_plainly(type(obj)) and not capture.world.stateful(obj):
        capture.effect(f"the class {type(obj).__name__} defines how its attributes are set")
    return capture.escape(value)


def _sets_plainly(kind: type) -> bool:
    plain: Any = object.__setattr__
    return kind.__setattr__ is plain
