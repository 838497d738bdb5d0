"""Which names a function binds: what decides whether a name that is read is a local, a closure cell or a
global."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

FunctionNode = ast.FunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class Scope:
    """Names bound in one function (or comprehension), and those it declares global or nonlocal."""

    bound: set[str] = field(default_factory=set)
    global_: set[str] = field(default_factory=set)
    nonlocal_: set[str] = field(default_factory=set)


def function_scope(node: FunctionNode) -> Scope:
    """The scope of a function or lambda, parameters included."""
    scope = Scope()
    args = node.args
    for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg):
        if arg is not None:
            scope.bound.add(arg.arg)
    for statement in node.body if isinstance(node.body, list) else [node.body]:
        _collect(statement, scope)
    scope.bound -= scope.global_ | scope.nonlocal_
    return scope


def comprehension_scope(node: Comprehension) -> Scope:
    """The scope of a comprehension: the targets of its loops."""
    scope = Scope()
    for generator in node.generators:
        scope.bound.update(_names(generator.target))
    return scope


def _collect(node: ast.AST, scope: Scope) -> None:
    if isinstance(node, ast.Global):
        scope.global_.update(node.names)
    elif isinstance(node, ast.Nonlocal):
        scope.nonlocal_.update(node.names)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        scope.bound.add(node.name)
    scope.bound.update(_bound_here(node))
    for child in _children(node):
        _collect(child, scope)


def _bound_here(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
        yield node.id
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            yield (alias.asname or alias.name).split(".")[0]


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes whose bindings belong to the same scope as `node`'s."""
    if isinstance(node, _NESTED):
        yield from getattr(node, "decorator_list", ())
        return
    if isinstance(node, _COMPREHENSIONS):
        # Its targets are its own; an assignment expression within binds outside.
        yield from (n for n in ast.walk(node) if isinstance(n, ast.NamedExpr))
        return
    yield from ast.iter_child_nodes(node)


def _names(target: ast.expr) -> set[str]:
    return {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
