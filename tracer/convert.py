"""From a user function to its converted twin: the same code with every effect and read routed through hooks.

The twin has the function's name, globals, defaults and closure cells, and its file and line numbers; the
hooks come in through one more closure cell, so the user's namespaces are left alone.
"""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Callable
from types import CellType, CodeType, FunctionType
from weakref import WeakKeyDictionary

from ..ir import locks
from .rewrite import HOOKS, Rewriter, Unconvertible
from .scopes import FunctionNode
from .source import find, nested_codes

#: In the globals of modules whose assertions pytest has rewritten.
_PYTEST = "@pytest_ar"
_UNSUPPORTED = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE

#: By identity: code objects compare equal across files. Each value holds its key's object.
_codes: dict[int, tuple[CodeType, CodeType | Unconvertible]] = {}
_twins: WeakKeyDictionary[FunctionType, FunctionType] = WeakKeyDictionary()
_converted: dict[int, CodeType] = {}
_lock = locks.rlock()


def convert(function: FunctionType, make_hooks: Callable[[FunctionType], object]) -> FunctionType:
    """The converted twin of a function; the same one each time. make_hooks: gives a function's hooks.

    Raises Unconvertible, saying why.
    """
    if is_converted(function):
        return function
    with _lock:
        twin = _twins.get(function)
        if twin is None or twin.__code__ is not _codes.get(id(function.__code__), (None, None))[1]:
            twin = _twins[function] = _twin(function, make_hooks)
        return twin


def is_converted(function: FunctionType) -> bool:
    """True for a twin, and for a function defined within one."""
    return id(function.__code__) in _converted


def _twin(function: FunctionType, make_hooks: Callable[[FunctionType], object]) -> FunctionType:
    code = function.__code__
    if id(code) not in _codes:
        try:
            rewritten = _PYTEST in function.__globals__
            made = _convert_code(code, function.__qualname__, verify=not rewritten)
            _codes[id(code)] = code, made
        except Unconvertible as reason:
            _codes[id(code)] = code, reason
    _, converted = _codes[id(code)]
    if isinstance(converted, Unconvertible):
        raise converted
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    cells[HOOKS] = CellType(make_hooks(function))
    closure = tuple(cells[name] for name in converted.co_freevars)
    twin = FunctionType(converted, function.__globals__, function.__name__, function.__defaults__, closure)
    twin.__kwdefaults__ = function.__kwdefaults__
    for name in ("__qualname__", "__module__", "__doc__"):
        setattr(twin, name, getattr(function, name))
    twin.__annotations__ = function.__annotations__
    twin.__dict__.update(function.__dict__)
    return twin


def _convert_code(code: CodeType, qualname: str, *, verify: bool) -> CodeType:
    """verify: the source must compile to the very code; not so where an import hook rewrites assertions."""
    if code.co_flags & _UNSUPPORTED:
        raise Unconvertible("it is asynchronous")
    node = copy.deepcopy(find(code, verify=verify))
    outer = qualname.split(".")[:-1]
    class_name = outer[-1] if outer and outer[-1] != "<locals>" else ""
    made = _compile(Rewriter(code.co_freevars, class_name).root(_bare(node)), code)
    _converted.update((id(c), c) for c in nested_codes(made))
    return made


def _bare(node: FunctionNode) -> FunctionNode:
    """The function without what its function object has: decorators and defaults."""
    node.args.defaults = []
    node.args.kw_defaults = [None] * len(node.args.kwonlyargs)
    if isinstance(node, ast.FunctionDef):
        node.decorator_list = []
    return node


def _compile(node: FunctionNode, code: CodeType) -> CodeType:
    """The code object of a function with these closure cells and the hooks."""
    names = [*code.co_freevars, HOOKS]
    parameters = ast.arguments([], [ast.arg(n) for n in names], None, [], [], None, [])
    body: list[ast.stmt] = [ast.Return(node) if isinstance(node, ast.Lambda) else node]
    factory = ast.FunctionDef("factory", parameters, body, [])
    if hasattr(factory, "type_params"):
        factory.type_params = []
    module = ast.fix_missing_locations(ast.Module([factory], []))
    outer = compile(module, code.co_filename, "exec", dont_inherit=True, flags=_future_flags(code))
    return _only_code(_only_code(outer))


def _future_flags(code: CodeType) -> int:
    import __future__

    features = [getattr(__future__, name).compiler_flag for name in __future__.all_feature_names]
    return sum(flag for flag in features if code.co_flags & flag)


def _only_code(code: CodeType) -> CodeType:
    (found,) = [c for c in code.co_consts if isinstance(c, CodeType)]
    return found
