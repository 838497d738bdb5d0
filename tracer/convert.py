"""From a user function to its converted twin: the same code with every effect and read routed through hooks.

The twin has the function's name, globals, defaults and closure cells, and its file and line numbers; the
hooks come in through one more closure cell, so the user's namespaces are left alone. A function is found
again in its source file by line and kind, and must agree with the code object that is there.
"""

from __future__ import annotations

import ast
import copy
import inspect
import linecache
import threading
from collections.abc import Callable, Iterator
from types import CellType, CodeType, FunctionType
from weakref import WeakKeyDictionary

from .rewrite import HOOKS, Rewriter, Unconvertible
from .scopes import FunctionNode

#: In the globals of modules whose assertions pytest has rewritten.
_PYTEST = "@pytest_ar"
_UNSUPPORTED = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE

_trees: dict[str, tuple[list[str], dict[tuple[int, str], list[FunctionNode]]]] = {}
#: By identity: code objects compare equal across files. Each value holds its key's object.
_codes: dict[int, tuple[CodeType, CodeType | Unconvertible]] = {}
_twins: WeakKeyDictionary[FunctionType, FunctionType] = WeakKeyDictionary()
_converted: dict[int, CodeType] = {}
_lock = threading.RLock()


def convert(function: FunctionType, make_hooks: Callable[[FunctionType], object]) -> FunctionType:
    """The converted twin of a function; the same one each time. make_hooks: gives the hooks object of a
    function.

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
    twin.__qualname__, twin.__module__, twin.__doc__ = (
        function.__qualname__,
        function.__module__,
        function.__doc__,
    )
    twin.__annotations__ = function.__annotations__
    twin.__dict__.update(function.__dict__)
    return twin


def _convert_code(code: CodeType, qualname: str, *, verify: bool) -> CodeType:
    """verify: the source must compile to the very code; not so where an import hook rewrites assertions."""
    if code.co_flags & _UNSUPPORTED:
        raise Unconvertible("it is asynchronous")
    found = _find(code)
    if verify and not _same_code(_compile(_bare(copy.deepcopy(found)), code), code):
        raise Unconvertible("its source file has changed since it was loaded")
    node = copy.deepcopy(found)
    outer = qualname.split(".")[:-1]
    class_name = outer[-1] if outer and outer[-1] != "<locals>" else ""
    made = _compile(Rewriter(code.co_freevars, class_name).root(_bare(node)), code)
    _converted.update((id(c), c) for c in _nested(made))
    return made


def _bare(node: FunctionNode) -> FunctionNode:
    """The function without what its function object has: decorators and defaults."""
    node.args.defaults = []
    node.args.kw_defaults = [None] * len(node.args.kwonlyargs)
    if isinstance(node, ast.FunctionDef):
        node.decorator_list = []
    return node


def _same_code(one: CodeType, other: CodeType) -> bool:
    """Whether two functions have the same instructions and constants, those within them included."""
    if one.co_code != other.co_code or len(one.co_consts) != len(other.co_consts):
        return False
    pairs = zip(one.co_consts, other.co_consts, strict=True)
    return all(_same_code(a, b) if isinstance(a, CodeType) else repr(a) == repr(b) for a, b in pairs)


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


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


# Finding the source.


def _find(code: CodeType) -> FunctionNode:
    """The node in the source file that a code object was compiled from."""
    found = _functions_of(code.co_filename).get((code.co_firstlineno, code.co_name), [])
    fitting = [node for node in found if _fits(node, code)]
    if len(fitting) > 1:
        fitting = [node for node in fitting if _covers(node, code)]
    if len(fitting) != 1:
        why = "its source can't be found" if not fitting else "several functions on its line could be it"
        raise Unconvertible(why)
    return fitting[0]


def _functions_of(filename: str) -> dict[tuple[int, str], list[FunctionNode]]:
    """All functions of a file by first line and name."""
    linecache.checkcache(filename)
    lines = linecache.getlines(filename)
    known = _trees.get(filename)
    if known is not None and known[0] == lines:
        return known[1]
    try:
        tree = ast.parse("".join(lines), filename)
    except SyntaxError as error:
        raise Unconvertible("its source file can't be parsed any more") from error
    found: dict[tuple[int, str], list[FunctionNode]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            found.setdefault((first, node.name), []).append(node)
        elif isinstance(node, ast.Lambda):
            found.setdefault((node.lineno, "<lambda>"), []).append(node)
    _trees[filename] = (lines, found)
    return found


def _fits(node: FunctionNode, code: CodeType) -> bool:
    """Whether a node has the code's parameters: one that was edited since it was loaded mostly has not."""
    a = node.args
    extra = [x for x in (a.vararg, a.kwarg) if x is not None]
    names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs, *extra)]
    have = code.co_varnames[: len(names)]
    counts = (code.co_posonlyargcount, code.co_argcount, code.co_kwonlyargcount)
    want = (len(a.posonlyargs), len(a.posonlyargs) + len(a.args), len(a.kwonlyargs))
    return counts == want and all(h == n or h.endswith(n) for h, n in zip(have, names, strict=True))


def _covers(node: FunctionNode, code: CodeType) -> bool:
    """Whether the code's instructions lie within the node's own body, and reach to both of its ends."""
    body = node.body if isinstance(node, ast.Lambda) else node.body[0]
    places = [
        (p[0], p[2])
        for p in code.co_positions()
        if p[0] is not None and p[2] is not None and (p[1], p[3]) != (p[0], 0)
    ]
    inside = [p for p in places if p != (code.co_firstlineno, 0)]
    return bool(inside) and min(inside) == (body.lineno, body.col_offset)
