"""Learned calls: functions of tensors that are answered by native code once a call of their kind was watched.

What a function here does follows from the types of its tensors, which of them require grad, and its plain
arguments; it has no effects. So when a call of one kind comes the second time, the ops that it applies are
written down, and native dispatch applies just these from then on (`runtime.dispatch_program_ir`). A call that
did more than apply ops, or gave something else than one tensor, is never learned.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final

from vitrify.runtime import dispatch_program_ir as programs
from vitrify.runtime import storage as memory

from . import _dispatch
from ._dispatch import Applied, is_shared, native
from ._tape import mode
from ._tensor import Tensor, is_current

#: Kinds of call that are kept in mind, and calls that are learned.
MOST_SEEN: Final = 16384
MOST_LEARNED: Final = 4096
#: The key of a kind of call -> whether it came before and may be learned yet.
_seen: dict[Any, bool] = {}
_learned = 0
#: The Python behind native functions, and behind native methods by name.
python_of: dict[Any, Callable[..., Any]] = {}


def _forget() -> None:
    global _learned
    _seen.clear()
    _learned = 0


_dispatch.when_forgotten.append(_forget)


def parameters_of(function: Callable[..., Any]) -> tuple[str, ...] | None:
    """The names of all parameters; None where there may be any number of them."""
    code = function.__code__
    if code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        return None
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def learner(
    function: Callable[..., Any], parameters: tuple[str, ...] | None, row: Callable[..., None] | None = None
) -> Callable[..., Any]:
    """What native code calls where it knows no answer: the function, which may be watched. row: (called,
    operands, result) writes a row of dispatch, where the function is one op."""

    def called(*args: Any, **options: Any) -> Any:
        if _dispatch.captures or _learned >= MOST_LEARNED or float in [x.__class__ for x in args]:
            result = function(*args, **options)
        else:
            values = _in_order(args, options, parameters) if options else args
            key = None if values is None else key_of(called, values)
            if key is None or not due(key):
                result = function(*args, **options)
            else:
                result = learn(called, key, values, function, args, options)
        if row is not None and not options:
            row(called, args, result)
        return result

    called.__name__ = function.__name__
    return called


def _in_order(args: tuple[Any, ...], options: dict[str, Any], names: tuple[str, ...] | None) -> Any:
    """All arguments by position; None if that is not possible."""
    if names is None or any(name not in names for name in options):
        return None
    places = {names.index(name): value for name, value in options.items()}
    count = max(len(args), *(place + 1 for place in places))
    return tuple([args[i] if i < len(args) else places.get(i, programs.MISSING) for i in range(count)])


def key_of(called: Any, values: Sequence[Any]) -> Any:
    """(function, types of tensors, words) of a call; None if it has no such key. The first value is a
    tensor."""
    if len(values) > programs.MOST_VALUES:
        return None
    tensors = [v for v in values if isinstance(v, Tensor)]
    if not tensors or tensors[0] is not values[0] or len(tensors) > programs.MOST_TENSORS:
        return None
    codes = programs.codes(values[1:], _is_tensor)
    if codes is None or len({id(x) for x in tensors}) < len(tensors) or not all(map(is_current, tensors)):
        return None
    mask = sum(1 << i for i, x in enumerate(tensors) if x._node is not None) if mode.grad else 0
    return called, tuple([x._type for x in tensors]), programs.words(codes, mask)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def due(key: Any) -> bool:
    """Count a call: whether it is time to learn it."""
    if len(_seen) >= MOST_SEEN:
        _seen.clear()
    before = _seen.get(key)
    if before is None:
        _seen[key] = True
    return before is True


def learn(called: Any, key: Any, values: Any, function: Any, args: Any, options: Any) -> Any:
    """The result of the call, which is learned if it can be."""
    global _learned
    _seen[key] = False
    result, log = _dispatch.watched(function, *args, **options)
    if log is None or not isinstance(result, Tensor) or _dispatch.captures:
        return result
    program = _Program([v for v in values if isinstance(v, Tensor)])
    answer = program.follow(log, result)
    if answer is not None:
        _, types, words = key
        native.learn(called, types, words, program.steps, answer)
        _learned += 1
    return result


class _Program:
    """Steps over registers, from the ops that a call applied to its tensors."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.steps: list[tuple[int, object, tuple[int, ...]]] = []
        self._held = list(tensors)
        self._bases = {memory.base(x._storage) for x in tensors}

    def follow(self, log: list[Applied], result: Tensor) -> int | None:
        """The register of the result; None if native code can't do the same."""
        for op, operands, made in log:
            if all(self._is_constant(x) for x in (*operands, made)):
                continue
            places = [self._register(x) for x in operands]
            types = tuple([x._type for x in operands])
            if None in places or len(places) > programs.MOST_TENSORS or not native.has(op, types):
                return None
            self._add(len(places), op, tuple(places), made)  # type: ignore[arg-type]
        answer = self._register(result)
        return answer if len(self._held) <= programs.MOST_REGISTERS else None

    def _is_constant(self, x: Tensor) -> bool:
        return x._node is None and is_shared(x) and memory.base(x._storage) not in self._bases

    def _register(self, x: Tensor) -> int | None:
        for i, known in enumerate(self._held):
            if known is x:
                return i
        if x._node is not None:
            return None
        if self._is_constant(x):
            return self._add(programs.CONSTANT, x, (), x)
        same = [i for i, known in enumerate(self._held) if known._storage is x._storage]
        if len(same) != 1 or x._view is not None:
            return None
        return self._add(programs.RETYPED, x._type, (same[0],), x)

    def _add(self, kind: int, what: object, places: tuple[int, ...], made: Tensor) -> int:
        self.steps.append((kind, what, places))
        self._held.append(made)
        return len(self._held) - 1


def install_method(name: str, function: Callable[..., Any]) -> None:
    """Set a method of `Tensor` with learned calls."""
    names = parameters_of(function)
    python_of[name] = function
    called = learner(function, names)
    setattr(Tensor, name, native.method(Tensor, "call", name, called, function.__doc__ or "", names))


def install_property(name: str, function: Callable[..., Any], doc: str) -> None:
    """Set a property of `Tensor` with learned calls."""
    called = native.function("function", name, learner(function, ("self",)), None, doc, Tensor.__module__)
    python_of[called] = function
    setattr(Tensor, name, property(called, doc=doc))


def in_front_of(
    function: Callable[..., Any], kind: str = "function", row: Callable[..., None] | None = None
) -> Callable[..., Any]:
    """A builtin function with learned calls, and with rows that `row` writes."""
    names = parameters_of(function)
    called = learner(function, names, row)
    made = native.function(kind, function.__name__, called, names, _doc(function), function.__module__)
    python_of[made] = function
    return made


def _doc(function: Callable[..., Any]) -> str:
    """The docstring, with the signature as `inspect` reads it from builtins."""
    parameters = inspect.signature(function).parameters.values()
    plain = [p.replace(annotation=p.empty) for p in parameters]
    return f"{function.__name__}{inspect.Signature(plain)}\n--\n\n{function.__doc__ or ''}"
