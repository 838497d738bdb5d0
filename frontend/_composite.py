"""Composites: functions of tensors that run, eagerly, as one compiled graph with one node of the tape.

A function is written as a composition of ops, and that is what it means: in a trace its ops are recorded, and
the compiled graph gives their very bits, forward and backward, with contributions to gradients added in the
order in which the ops would have added them. So a call may be answered either way, and is answered by the ops
until its kind (types of tensors, plain arguments) has come often enough to be worth compiling.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, TypeVar

from vitrify.ir.dtypes import WITH_KERNELS
from vitrify.tracer.errors import CaptureError

from . import _dispatch
from ._tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])

#: Calls of one kind that run as ops before it is compiled.
calls_before: int = 8
#: Kinds remembered per function; more are forgotten together.
MOST_KINDS: Final = 512
#: Ways in which tensors of one kind may differ otherwise (who requires grad, who is a view) before it is left
#: to the ops.
MOST_WAYS: Final = 8


def composite(function: F) -> F:
    """Let a function of tensors and plain values be compiled as a whole. It must have no effects but those on
    tensors that it makes, and depend on nothing but its arguments."""
    kinds: dict[Any, Any] = {}

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if _dispatch.captures:
            return function(*args, **kwargs)
        kind: list[Any] = []
        tensors: list[Tensor] = []
        for x in (*args, *kwargs.values()) if kwargs else args:
            if isinstance(x, Tensor):
                kind.append(x._type)
                tensors.append(x)
            elif x.__class__ is list:
                kind += (list, tuple(x))
            else:
                kind += (x.__class__, x)
        key = (*kind, *kwargs) if kwargs else tuple(kind)
        try:
            known = kinds.get(key, 0)
        except TypeError:  # an argument is not hashable
            return function(*args, **kwargs)
        if known.__class__ is int:
            known = _another_call(kinds, key, known, function, args, kwargs)
        if known is None:
            return function(*args, **kwargs)
        try:
            return known(*tensors)
        except CaptureError:
            kinds[key] = None
            return function(*args, **kwargs)

    return called  # type: ignore[return-value]


def _another_call(
    kinds: dict[Any, Any], key: Any, count: int, function: Callable[..., Any], args: Any, kwargs: Any
) -> Any:
    """Count a call of this kind; the compiled form, if it is time for it."""
    if len(kinds) >= MOST_KINDS:
        kinds.clear()
    kinds[key] = count + 1
    if count < calls_before:
        return None
    tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
    fit = all(x._type.dtype in WITH_KERNELS and x._type.numel for x in tensors)
    kinds[key] = _compiled(kinds, key, function, args, kwargs) if fit and tensors else None
    return kinds[key]


class Stepper:
    """Calls a method without arguments or result that changes tensors in place: compiled, once it was called
    often and `_is_settled` of its owner says that it does no more than that."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls = 0
        self._compiled: Callable[[], None] | None = None

    def __call__(self, owner: Any) -> None:
        method = getattr(owner, self._name)
        if _dispatch.captures:
            method()
        elif self._compiled is None:
            method()
            self._calls += 1
            if self._calls == calls_before and owner._is_settled():
                from ._compile import CompiledFunction

                self._compiled = CompiledFunction(method, fullgraph=True)
        else:
            self._run(self._compiled, method)

    def _run(self, compiled: Callable[[], None], method: Callable[[], None]) -> None:
        try:
            compiled()
        except CaptureError:  # nothing has been changed
            self._compiled = None
            method()


def _plain(x: Any) -> Any:
    """A plain argument, kept: nobody else may change it. None in the place of a tensor."""
    if isinstance(x, Tensor):
        return None
    return list(x) if x.__class__ is list else x


def _compiled(
    kinds: dict[Any, Any], key: Any, function: Callable[..., Any], args: Any, kwargs: Any
) -> Callable[..., Any]:
    """The function of the tensors alone, all else being as in these arguments."""
    from ._compile import CompiledFunction

    places = [i for i, x in enumerate(args) if isinstance(x, Tensor)]
    names = [name for name, x in kwargs.items() if isinstance(x, Tensor)]
    plain = [_plain(x) for x in args]
    named = {name: _plain(x) for name, x in kwargs.items()}
    ways = 0

    def body(*tensors: Tensor) -> Any:
        nonlocal ways
        ways += 1
        if ways > MOST_WAYS:
            kinds[key] = None
        values = iter(tensors)
        positional = [next(values) if i in places else x for i, x in enumerate(plain)]
        return function(*positional, **{n: next(values) if n in names else x for n, x in named.items()})

    body.__name__ = function.__name__
    label = "".join(part.capitalize() for part in function.__name__.split("_")) + "Backward0"
    return CompiledFunction(body, fullgraph=True, label=label)
