"""The arguments of a compiled call: their structure, what is guarded about them, and where the tensors in
them are.

Every leaf has a Python expression (`a0`, `a1[2]`, `k0['mask']`) by which generated code finds it again.
"""

from __future__ import annotations

from typing import Any

from vitrify.tracer.capture import Capture
from vitrify.tracer.guards import ATOMS, Expression, Guard
from vitrify.tracer.scalars import TracedScalar

from ._tape import Leaf, mode
from ._tensor import Tensor

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class Signature:
    """What a call was captured with. tensors: (tensor, expression). guards: hold for calls that fit."""

    def __init__(self, capture: Capture, args: Args, kwargs: Kwargs) -> None:
        self._capture = capture
        self.guards: list[Guard] = []
        self.grad_mode = mode.grad
        self.tensors: list[tuple[Tensor, str]] = []
        self.containers: dict[int, str] = {}
        self.names = list(kwargs)
        self.count = len(args)
        #: What the names in expressions stand for in this call.
        self.values = {f"a{i}": x for i, x in enumerate(args)} | {
            f"k{i}": x for i, x in enumerate(kwargs.values())
        }
        self.args = tuple(self._argument(x, f"a{i}") for i, x in enumerate(args))
        self.kwargs = {name: self._argument(x, f"k{i}") for i, (name, x) in enumerate(kwargs.items())}

    def unpacking(self) -> list[str]:
        """Statements that bind the arguments' names from `args` and `kwargs`, or leave by `return MISS`."""
        lines = [f"if len(args) != {self.count} or len(kwargs) != {len(self.names)}: return MISS"]
        if self.count:
            lines.append(f"{''.join(f'a{i}, ' for i in range(self.count))} = args")
        return [*lines, *(f"k{i} = kwargs[{name!r}]" for i, name in enumerate(self.names))]

    def _argument(self, value: Any, path: str) -> Any:
        """What the function is called with: floats are run-time scalars, everything else is itself."""
        if type(value) is float:
            self._guard(f"type({path}) is float", f"{path} is a float")
            return TracedScalar(self._capture, value, source=Expression(path))
        self._leaf(value, path)
        return value

    def _leaf(self, value: Any, path: str) -> None:
        if isinstance(value, Tensor):
            self._tensor(value, path)
        elif type(value) in (list, tuple, dict) or isinstance(value, tuple) and hasattr(value, "_fields"):
            self._container(value, path)
        elif type(value) in ATOMS:
            test = (
                f"{path} is {{0}}"
                if value is None or type(value) is bool
                else f"({path} is {{0}} or same({path}, {{0}}))"
            )
            self._guard(test, f"{path} is {value!r}", value)
        else:
            self._guard(f"{path} is {{0}}", f"{path} is this {type(value).__name__}", value)
            self._capture.note(value)

    def _tensor(self, value: Tensor, path: str) -> None:
        first = next((p for x, p in self.tensors if x is value), None)
        if first is not None:
            self._guard(f"{path} is {first}", f"{path} is {first}")
            return
        for guard in tensor_guards(value, Expression(path), path):
            self.guards.append(guard)
        self.tensors.append((value, path))

    def _container(self, value: Any, path: str) -> None:
        self._capture.note_argument(value)
        self.containers[id(value)] = path
        self._guard(f"type({path}) is {{0}}", f"{path} is a {type(value).__name__}", type(value))
        if isinstance(value, dict):
            keys = tuple(value)
            self._guard(f"tuple({path}) == {{0}}", f"{path} has the same keys", keys)
            for number, key in enumerate(keys):
                plain = type(key) in (str, int)
                self._leaf(value[key], f"{path}[{key!r}]" if plain else f"tuple({path}.values())[{number}]")
            return
        self._guard(f"len({path}) == {len(value)}", f"{path} has {len(value)} elements")
        for i, element in enumerate(value):
            self._leaf(element, f"{path}[{i}]")

    def _guard(self, template: str, what: str, *constants: object) -> None:
        self.guards.append(Guard(Expression(template, constants), what))


def tensor_guards(x: Tensor, read: Expression, what: str) -> list[Guard]:
    """That a tensor has the same class, type and standing in the tape."""
    return [
        _tensor_guard("type({x}) is {c}", x, read, f"{what} is a {type(x).__name__}", type(x)),
        _tensor_guard("{x}._type is {c}", x, read, f"{what} is {x._type}", x._type),
        _grad_guard(x, read, what),
    ]


def _grad_guard(x: Tensor, read: Expression, what: str) -> Guard:
    if not x.requires_grad:
        text = "({x}._node is None and (is_current({x}) or not {x}.requires_grad))"
        return _tensor_guard(text, x, read, f"{what} does not require grad")
    if x.is_leaf:
        text = "({x}._view is None and type({x}._node) is {c} or {x}.requires_grad and {x}.is_leaf)"
        return _tensor_guard(text, x, read, f"{what} is a leaf that requires grad", Leaf)
    text = "({x}._node is not None and type({x}._node) is not {c} and is_current({x})"
    text += " or {x}.requires_grad and not {x}.is_leaf)"
    return _tensor_guard(text, x, read, f"{what} is computed and requires grad", Leaf)


def _tensor_guard(text: str, x: Tensor, read: Expression, what: str, *constant: object) -> Guard:
    place = f"{{{len(read.constants)}}}"
    return Guard(
        Expression(text.replace("{x}", read.template).replace("{c}", place), (*read.constants, *constant)),
        what,
    )


def call_key(args: Args, kwargs: Kwargs) -> object:
    """A hashable summary of a call's arguments: types and structure, not values of floats and tensors."""
    return tuple(map(_key, args)), tuple((name, _key(x)) for name, x in kwargs.items())


def _key(x: Any) -> object:
    if isinstance(x, Tensor):
        return x._type, x.requires_grad
    if type(x) in (list, tuple):
        return type(x), tuple(map(_key, x))
    if type(x) is dict:
        return dict, tuple((k, _key(v)) for k, v in x.items())
    if type(x) is float or type(x) not in ATOMS or type(x) is slice:
        return type(x)
    return type(x), x
