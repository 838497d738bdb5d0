"""Calls: what is followed, what is run as it is, and what blocks a replay.

User functions are followed into their converted twins; our own functions are trusted; of Python's builtins a
list of pure ones is allowed. Anything else runs normally, so that its effects happen, and blocks the replay
with a reason.
"""

from __future__ import annotations

import builtins
import collections
import dataclasses
import functools
import itertools
import math
import operator
import sys
import types
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from ..ir import locks
from .capture import CONTAINERS, Capture, current
from .convert import convert, is_converted
from .guards import ATOMS, Expression, Guard, contents, contents_guard
from .locate import is_ours
from .rewrite import Unconvertible
from .scalars import TracedScalar, compute, is_arithmetic

Args = tuple[Any, ...]
Kwargs = dict[str, Any]

#: Builtin functions without effects, whose result follows from their arguments (and what those contain).
PURE_FUNCTIONS: frozenset[Any] = frozenset((
    len, abs, min, max, sum, any, all, sorted, divmod, pow, round, callable, chr, ord, bin, hex, oct, repr,
    ascii, format, isinstance, issubclass, iter, next, functools.reduce,
    *(f for f in vars(math).values() if callable(f)),
    *(f for name, f in vars(operator).items() if isinstance(f, BuiltinFunctionType) and name[0] != "i"),
    operator.index, operator.inv, operator.invert, operator.is_, operator.is_not, operator.indexOf,
))  # fmt: skip
#: Classes whose construction has no effect.
PURE_CLASSES: frozenset[type] = frozenset((
    object, list, tuple, dict, set, frozenset, int, float, bool, str, bytes, complex, range, slice,
    enumerate, zip, map, filter, reversed, super, property, functools.partial, collections.OrderedDict,
    collections.deque, collections.defaultdict, types.SimpleNamespace, operator.itemgetter,
    operator.attrgetter,
    *(c for c in vars(itertools).values() if isinstance(c, type)),
))  # fmt: skip
#: Methods of builtin containers that change them.
_CHANGING = frozenset((
    "append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "update", "add", "discard",
    "setdefault", "popitem", "difference_update", "intersection_update", "symmetric_difference_update",
    "appendleft", "popleft", "extendleft", "rotate", "move_to_end", "__setitem__", "__delitem__", "__iadd__",
))  # fmt: skip
#: Methods of builtin containers that look into their elements.
_COMPARING = frozenset(("index", "count", "remove", "sort", *dir(object)))
#: Builtins that look at the elements of a container, and not into them.
_SHALLOW: frozenset[Any] = frozenset((
    len, list, tuple, iter, next, enumerate, zip, reversed, callable, isinstance, any, all,
    operator.getitem, operator.is_, operator.is_not,
))  # fmt: skip
_GROWING = (list, dict, set, collections.deque)
_BUILTIN_SELVES = frozenset((*ATOMS, *CONTAINERS, *_GROWING, types.MappingProxyType, collections.OrderedDict))
_CALLABLES = (FunctionType, MethodType, functools.partial)


def call(capture: Capture, function: Any, args: Args, kwargs: Kwargs) -> Any:
    """function(*args, **kwargs), followed, trusted, allowed or blocking."""
    if isinstance(function, FunctionType):
        return _call_function(capture, function, args, kwargs)
    if isinstance(function, MethodType):
        owner = function.__self__
        if capture.world.stateful(owner):
            capture.watch(owner)
        return call(capture, function.__func__, (owner, *args), kwargs)
    if isinstance(function, functools.partial):
        _guard_partial(capture, function)
        return call(capture, function.func, (*function.args, *args), {**function.keywords, **kwargs})
    if isinstance(function, type):
        return _construct(capture, function, args, kwargs)
    if isinstance(function, BuiltinFunctionType | types.MethodWrapperType | types.MethodDescriptorType):
        written = capture.world.python_of(function)
        if written is not None:
            owner = getattr(function, "__self__", None)
            return _trusted(capture, written, args if owner is None else (owner, *args), kwargs)
        return _call_builtin(capture, function, args, kwargs)
    if capture.world.stateful(function):
        capture.watch(function)
    kind = type(function)
    if is_ours(getattr(kind.__call__, "__module__", None) or kind.__module__):
        return _trusted(capture, function, args, kwargs)
    if isinstance(kind.__call__, FunctionType):
        _guard_method(capture, kind, "__call__")
        return _call_function(capture, kind.__call__, (function, *args), kwargs)
    return _unknown(capture, function, args, kwargs)


def _call_function(capture: Capture, function: FunctionType, args: Args, kwargs: Kwargs) -> Any:
    if is_converted(function):
        if capture.was_read(function):
            _guard_function(capture, function)
        return function(*args, **kwargs)
    module = _module_of(function)
    if is_ours(module):
        return _trusted(capture, function, args, kwargs)
    if module.partition(".")[0] in sys.stdlib_module_names | {"numpy", "builtins"}:
        return _unknown(capture, function, args, kwargs)
    twin = _twin(capture, function)
    if twin is None:
        strict, capture.recorder.strict = capture.recorder.strict, True
        try:
            return function(*args, **kwargs)
        finally:
            capture.recorder.strict = strict
    return twin(*args, **kwargs)


def _module_of(function: FunctionType) -> str:
    """The module whose code a function runs; `__module__` may have been taken over from what it wraps."""
    return function.__globals__.get("__name__") or ""


def _twin(capture: Capture, function: FunctionType) -> FunctionType | None:
    with locks.imports:
        from .hooks import Hooks

    _guard_function(capture, function)
    try:
        twin = convert(function, Hooks)
    except Unconvertible as reason:
        capture.effect(f"the function {function.__qualname__} can't be followed: {reason}")
        return None
    # A twin is kept for the next capture, and the defaults may have been replaced since it was made.
    twin.__defaults__, twin.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    return twin


def _guard_function(capture: Capture, function: FunctionType) -> None:
    """Guard what a call of a function takes from the function object: its code and its defaults."""
    positional, named = function.__defaults__, function.__kwdefaults__
    for default in (*(positional or ()), *(named or {}).values()):
        capture.note(default)
    same = "{0}.__code__ is {1} and {0}.__defaults__ is {2} and {0}.__kwdefaults__ is {3}"
    parts = (function, function.__code__, positional, named)
    what = f"the code and the defaults of {function.__qualname__} are unchanged"
    capture.guard(("function", id(function)), Guard(Expression(same, parts), what))
    if named is not None:
        capture.guard(("defaults", id(function)), contents_guard(named, what))


def _guard_partial(capture: Capture, function: functools.partial[Any]) -> None:
    if not capture.is_outside(function):
        return
    for value in (function.func, *function.args, *function.keywords.values()):
        capture.note(value)
    what = "the arguments of a functools.partial are unchanged"
    same = "{0}.func is {1} and {0}.args is {2} and {0}.keywords is {3}"
    parts = (function, function.func, function.args, function.keywords)
    capture.guard(("partial", id(function)), Guard(Expression(same, parts), what))
    capture.guard(("keywords", id(function)), contents_guard(function.keywords, what))


def _guard_method(capture: Capture, kind: type, name: str) -> None:
    """Guard which method of a class Python calls by itself."""
    from .attributes import guard_lookup

    guard_lookup(capture, kind.__mro__, name)


def follow(function: Any) -> Any:
    """A user function that our own code is about to call, as the running capture sees it: its converted twin.

    Anything else, and everything when no capture runs, is given back as it is.
    """
    capture = current()
    if capture is None:
        return function
    if isinstance(function, MethodType):
        inner = follow(function.__func__)
        return function if inner is function.__func__ else MethodType(inner, function.__self__)
    if not isinstance(function, FunctionType) or is_converted(function) or is_ours(_module_of(function)):
        return function
    twin = _twin(capture, function)
    if twin is None:
        capture.recorder.strict = True
        return function
    return twin


def _trusted(capture: Capture, function: Any, args: Args, kwargs: Kwargs) -> Any:
    why = capture.world.refuses(function)
    if why is not None:
        capture.effect(why)
        args, kwargs = tuple(map(capture.escape, args)), {k: capture.escape(v) for k, v in kwargs.items()}
        return function(*args, **kwargs)
    if capture.proving:
        for x in (*args, *kwargs.values()):
            _check_passed(capture, x, function)
    args = tuple(_passed(capture, x) for x in args)
    return function(*args, **{k: _passed(capture, v) for k, v in kwargs.items()})


def _check_passed(capture: Capture, x: Any, function: Any) -> None:
    """Guard what our own code can see in an argument; block if that can't be guarded."""
    if isinstance(x, CONTAINERS):
        capture.read_deep(x)
    elif capture.world.stateful(x):
        capture.watch(x)
    elif type(x) not in ATOMS and not callable(x) and not is_ours_or_plain(capture, x):
        if not capture.world.shares(function, x):
            capture.block(f"a {type(x).__name__} is passed to {_described(function)}")


def _passed(capture: Capture, x: Any) -> Any:
    """An argument for our own code: user functions as their twins, no scalars inside of containers."""
    if isinstance(x, FunctionType | MethodType):
        return follow(x)
    return capture.escape(x) if type(x) in (list, tuple, dict) else x


# Builtins.


def _call_builtin(capture: Capture, function: Any, args: Args, kwargs: Kwargs) -> Any:
    owner = getattr(function, "__self__", None)
    if function in _SPECIAL:
        return _SPECIAL[function](capture, *args, **kwargs)
    if function in PURE_FUNCTIONS:
        return _pure(capture, function, args, kwargs)
    if isinstance(function, types.MethodDescriptorType) and args:
        return call(capture, getattr(args[0], function.__name__), args[1:], kwargs)
    if type(owner) in _BUILTIN_SELVES:
        return _container_method(capture, function, owner, args, kwargs)
    if owner is not None and is_ours(type(owner).__module__) and not capture.is_outside(owner):
        return _trusted(capture, function, args, kwargs)
    if isinstance(owner, type) and owner in PURE_CLASSES:  # dict.fromkeys
        return _pure(capture, function, args, kwargs)
    if function.__name__ == "__init__" and owner is not None and type(owner).__init__ is object.__init__:
        return function(*args, **kwargs)
    return _unknown(capture, function, args, kwargs)


def _container_method(capture: Capture, function: Any, owner: Any, args: Args, kwargs: Kwargs) -> Any:
    if isinstance(owner, _GROWING) and function.__name__ in _CHANGING and capture.is_shared(owner):
        capture.effect(f"{function.__name__} changes a {type(owner).__name__} from outside")
        args, kwargs = tuple(map(capture.escape, args)), {k: capture.escape(v) for k, v in kwargs.items()}
        return function(*args, **kwargs)
    if isinstance(owner, CONTAINERS):
        deep = function.__name__ in _COMPARING
        read_containers(capture, owner, f"a {type(owner).__name__} holds the same", deep=deep)
    return _pure(capture, function, args, kwargs)


def _pure(capture: Capture, function: Any, args: Args, kwargs: Kwargs) -> Any:
    """A function whose result follows from its arguments: guard what it can see in them."""
    if not capture.proving:
        for x in (*args, *kwargs.values()):
            if isinstance(x, CONTAINERS):
                capture.read_all(x, "")
        return function(*args, **kwargs)
    if is_arithmetic(function) and any(type(x) is TracedScalar for x in args):
        return compute(function, *args)
    for x in (*args, *kwargs.values()):
        if isinstance(x, CONTAINERS):
            what = f"a container that is passed to {function.__name__} holds the same"
            read_containers(capture, x, what, deep=function not in _SHALLOW)
        elif not isinstance(x, _CALLABLES):
            inert(capture, x, function.__name__)
    return function(
        *(_routed(capture, x) for x in args), **{k: _routed(capture, v) for k, v in kwargs.items()}
    )


def read_containers(capture: Capture, container: Any, what: str, *, deep: bool) -> None:
    """Guard the elements of a container. deep: those of the containers in it too."""
    known: set[int] = set()
    pending = [container]
    while pending:
        container = pending.pop()
        if id(container) not in known:
            known.add(id(container))
            capture.read_all(container, what)
            if deep:
                pending += [x for x in contents(container) if isinstance(x, CONTAINERS)]


def _routed(capture: Capture, x: Any) -> Any:
    """A function that a builtin will call, so that the call is seen."""
    if not isinstance(x, _CALLABLES):
        return x
    return lambda *args, **kwargs: call(capture, x, args, kwargs)


def inert(capture: Capture, x: Any, what: str) -> None:
    """Block if `what` may run code of a user's class on x, or reads state of x."""
    if not is_ours_or_plain(capture, x):
        capture.block(f"{what} is applied to a {type(x).__name__}")


def is_ours_or_plain(capture: Capture, x: Any) -> bool:
    """Whether builtin operations on x run no user code and read nothing that is not guarded."""
    kind = type(x)
    if kind in ATOMS or kind is TracedScalar or isinstance(x, (capture.world.tensor, type, FunctionType)):
        return True
    if isinstance(x, CONTAINERS):
        return kind in CONTAINERS or kind.__module__ == "collections" or hasattr(kind, "_fields")
    if capture.world.stateful(x):
        capture.watch(x)
        return True
    if is_ours(kind.__module__):
        return True
    return kind.__module__ in ("builtins", "itertools", "collections") and not capture.was_read(x)


def _isinstance(capture: Capture, x: Any, classes: Any) -> bool:
    return isinstance(x.value if type(x) is TracedScalar else x, classes)


def _len(capture: Capture, x: Any) -> int:
    if not capture.proving or isinstance(x, CONTAINERS) or is_ours_or_plain(capture, x):
        return int(_pure(capture, len, (x,), {}))
    return int(special(capture, x, ("__len__",), len))


def _getattr(capture: Capture, obj: Any, name: str, *default: Any) -> Any:
    from .attributes import read_attribute

    if not capture.proving:
        return getattr(obj, name, *default)
    try:
        return read_attribute(capture, obj, name)
    except AttributeError:
        if not default:
            raise
        _guard_absence(capture, obj, name)
        return default[0]


def _hasattr(capture: Capture, obj: Any, name: str) -> bool:
    marker = object()
    return _getattr(capture, obj, name, marker) is not marker


def _guard_absence(capture: Capture, obj: Any, name: str) -> None:
    if not capture.world.stateful(obj) and capture.is_outside(obj):
        absent = Expression("not hasattr({0}, {1})", (obj, name))
        capture.guard(("no attribute", id(obj), name), Guard(absent, f"a {type(obj).__name__} has no {name}"))


def _setattr(capture: Capture, obj: Any, name: str, value: Any) -> None:
    from .attributes import store_attribute

    setattr(obj, name, store_attribute(capture, obj, name, value))


_SPECIAL: dict[Any, Callable[..., Any]] = {
    isinstance: _isinstance, getattr: _getattr, hasattr: _hasattr, setattr: _setattr, len: _len,
}  # fmt: skip


# Classes.


def _construct(capture: Capture, cls: type, args: Args, kwargs: Kwargs) -> Any:
    if not capture.proving:
        if not is_ours(cls.__module__) and cls not in PURE_CLASSES:
            capture.settle()
        return _constructed(capture, cls, args, kwargs)
    if cls is type and len(args) == 1:
        return float if type(args[0]) is TracedScalar else type(args[0])
    if cls is float and len(args) == 1 and type(args[0]) is TracedScalar:
        return args[0]
    if cls in PURE_CLASSES:
        made = _pure(capture, cls, args, kwargs)
        if not isinstance(made, CONTAINERS):
            capture.made(made)
        return made
    if issubclass(cls, BaseException):
        return cls(*map(capture.escape, args), **kwargs)
    if is_ours(cls.__module__):
        made = _trusted(capture, cls, args, kwargs)
        capture.made(made)
        return made
    if _is_record(cls):
        made = cls(*args, **kwargs)
        capture.made(made)
        return made
    return _constructed(capture, cls, args, kwargs)


def _constructed(capture: Capture, cls: type, args: Args, kwargs: Kwargs) -> Any:
    """An instance of a user's class, its __init__ followed."""
    new: Any = cls.__new__
    init: Any = cls.__init__  # type: ignore[misc]
    plain_new = new is object.__new__
    known = is_ours(cls.__module__) or cls in PURE_CLASSES
    followed = type(cls) is type and (plain_new or is_ours(getattr(new, "__module__", None) or ""))
    if known or followed and init is object.__init__:
        made = cls(*args, **kwargs)
    elif followed and isinstance(init, FunctionType):
        made = object.__new__(cls) if plain_new else new(cls)
    else:
        return _unknown(capture, cls, args, kwargs)
    capture.made(made)
    if not known:
        _guard_method(capture, cls, "__new__")
        _guard_method(capture, cls, "__init__")
    if not known and init is not object.__init__:
        _call_function(capture, init, (made, *args), kwargs)
    return made


def _is_record(cls: type) -> bool:
    """Dataclasses and named tuples whose construction just stores the fields."""
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return True
    if not dataclasses.is_dataclass(cls) or hasattr(cls, "__post_init__"):
        return False
    factories = [
        f.default_factory for f in dataclasses.fields(cls) if f.default_factory is not dataclasses.MISSING
    ]
    generated = getattr(cls.__init__, "__code__", None)
    return (
        generated is not None and generated.co_filename == "<string>" and set(factories) <= {list, dict, set}
    )


def special(capture: Capture, x: Any, names: tuple[str, ...], plain: Callable[..., Any], *args: Any) -> Any:
    """plain(x, *args), which calls the first of these methods that x's class has: ours is trusted, a user's
    followed."""
    if capture.world.stateful(x):
        capture.watch(x)
    for name in names:
        _guard_method(capture, type(x), name)
        method = getattr(type(x), name, None)
        if isinstance(method, FunctionType):
            return _call_function(capture, method, (x, *args), {})
        if method is not None:
            inert(capture, x, name)
            break
    return plain(x, *args)


def user_operator(
    capture: Capture, function: Callable[..., Any], name: str, operands: Args, strange: Any
) -> Any:
    """An operator on an instance of a user's class: its method is followed if it is the left operand's."""
    method_name = f"__{name.rstrip('_')}__"
    for kind in map(type, operands):
        _guard_method(capture, kind, method_name)
    method = getattr(type(operands[0]), method_name, None)
    if strange is operands[0] and isinstance(method, FunctionType):
        result = _call_function(capture, method, operands, {})
        if result is not NotImplemented:
            return result
    if not (name in ("eq", "ne") and _compares_by_identity(operands)):
        capture.block(f"the operator {name} is applied to a {type(strange).__name__}")
    return function(*operands)


def _compares_by_identity(operands: Args) -> bool:
    plain: Any = object.__eq__
    return all(type(x).__eq__ is plain for x in operands if type(x) not in ATOMS)


# The rest.


def _unknown(capture: Capture, function: Any, args: Args, kwargs: Kwargs) -> Any:
    """Run it as it is, after what eager would have raised by then; whatever it does, a replay can't."""
    capture.effect(
        f"{_described(function)} is called, which may have effects or read state that is not tracked"
    )
    args, kwargs = tuple(map(capture.escape, args)), {k: capture.escape(v) for k, v in kwargs.items()}
    strict, capture.recorder.strict = capture.recorder.strict, True
    try:
        return function(*args, **kwargs)
    finally:
        capture.recorder.strict = strict


def _described(function: Any) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None)
    return f"{name}()" if module in (None, builtins.__name__) else f"{module}.{name}()"
