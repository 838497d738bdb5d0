"""The source of a function: its node in the syntax tree of its file.

The file is parsed and compiled once. A function is found again by line and name, and the file must still
compile to the very code that is running: one that was edited since it was loaded is not trusted.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType

from .rewrite import Unconvertible
from .scopes import FunctionNode

Key = tuple[int, str]


@dataclass
class SourceFile:
    """A parsed file. functions, codes: by first line and name."""

    lines: list[str]
    functions: dict[Key, list[FunctionNode]] = field(default_factory=dict)
    codes: dict[Key, list[CodeType]] = field(default_factory=dict)


_files: dict[str, SourceFile] = {}


def find(code: CodeType, *, verify: bool = True) -> FunctionNode:
    """The node that a code object was compiled from.

    verify: the file must compile to this very code (not so where an import hook rewrites it). Raises
    Unconvertible.
    """
    file = _source_file(code.co_filename)
    key = code.co_firstlineno, code.co_name
    fitting = [node for node in file.functions.get(key, ()) if _fits(node, code)]
    if len(fitting) > 1:
        fitting = [node for node in fitting if _begins(node, code)]
    if len(fitting) != 1:
        why = "its source can't be found" if not fitting else "several functions on its line could be it"
        raise Unconvertible(why)
    if verify and code not in file.codes.get(key, ()):
        raise Unconvertible("its source file has changed since it was loaded")
    return fitting[0]


def _source_file(filename: str) -> SourceFile:
    linecache.checkcache(filename)
    lines = linecache.getlines(filename)
    known = _files.get(filename)
    if known is None or known.lines != lines:
        known = _files[filename] = _parsed(filename, lines)
    return known


def _parsed(filename: str, lines: list[str]) -> SourceFile:
    text = "".join(lines)
    try:
        tree = ast.parse(text, filename)
        code = compile(text, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise Unconvertible("its source file can't be parsed any more") from error
    file = SourceFile(lines)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            file.functions.setdefault((first, node.name), []).append(node)
        elif isinstance(node, ast.Lambda):
            file.functions.setdefault((node.lineno, "<lambda>"), []).append(node)
    for inner in nested_codes(code):
        file.codes.setdefault((inner.co_firstlineno, inner.co_name), []).append(inner)
    return file


def nested_codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and all those within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested_codes(constant)


def _fits(node: FunctionNode, code: CodeType) -> bool:
    """Whether a node has the code's parameters (those of a class's private names are stored otherwise)."""
    a = node.args
    extra = [x for x in (a.vararg, a.kwarg) if x is not None]
    names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs, *extra)]
    have = code.co_varnames[: len(names)]
    counts = (code.co_posonlyargcount, code.co_argcount, code.co_kwonlyargcount)
    want = (len(a.posonlyargs), len(a.posonlyargs) + len(a.args), len(a.kwonlyargs))
    return counts == want and all(h == n or h.endswith(n) for h, n in zip(have, names, strict=True))


def _begins(node: FunctionNode, code: CodeType) -> bool:
    """Whether the code's instructions begin where the node's body does: tells lambdas on one line apart."""
    body = node.body if isinstance(node, ast.Lambda) else node.body[0]
    places = {
        (line, column)
        for line, end_line, column, end_column in code.co_positions()
        if line is not None and column is not None and (end_line, end_column) != (line, 0)
    }
    places.discard((code.co_firstlineno, 0))
    return bool(places) and min(places) == (body.lineno, body.col_offset)
