"""The AST rewriting behind `convert`: every read, store, call, test and iteration of a user function becomes
a hook.

    y = self.scale * x[0]

becomes, with H for `__vitrify__`,

    y = H.binary("mul", H.attr(self, "scale"), H.item(x, 0))

Locals need no hook; closure cells and globals do. Nothing is evaluated twice or in another order, and every
new node has the place of the old one, so tracebacks and recorded locations stay the user's. The hooks are in
`hooks`.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TypeVar

from .scopes import Comprehension, FunctionNode, Scope, comprehension_scope, function_scope

HOOKS = "__vitrify__"
_TEMPORARY = "__vitrify_{}"
#: Builtins that look at the frame of their caller.
_FRAME_BUILTINS = frozenset({"locals", "globals", "vars", "dir", "eval", "exec"})
E = TypeVar("E", bound=ast.expr)

_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv", ast.FloorDiv: "floordiv",
    ast.Mod: "mod", ast.Pow: "pow", ast.MatMult: "matmul", ast.LShift: "lshift",
    ast.RShift: "rshift", ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor", ast.USub: "neg",
    ast.UAdd: "pos", ast.Invert: "invert", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge",
    ast.Eq: "eq", ast.NotEq: "ne",
}  # fmt: skip


class Unconvertible(Exception):
    """A function that can't be rewritten; the message says why."""


class Rewriter(ast.NodeTransformer):
    """Rewrites one function. free: names of its closure cells. class_name: of the class it is a method of, or
    ""."""

    def __init__(self, free: Sequence[str], class_name: str = "") -> None:
        self._free = frozenset(free)
        self._class = class_name.lstrip("_")
        self._scopes: list[Scope] = []
        self._first: list[str | None] = []
        self._temporaries = 0
        self._tries = 0
        self._in_iterable = False

    def root(self, node: FunctionNode) -> FunctionNode:
        """The function itself; its decorators and defaults, which its function object has, are gone."""
        return self._function(node)

    # Functions and scopes.

    def _function(self, node: FunctionNode) -> FunctionNode:
        for arg in ast.walk(node.args):
            if isinstance(arg, ast.arg):
                arg.arg, arg.annotation = self._mangled(arg.arg), None
        self._scopes.append(function_scope(node))
        names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
        self._first.append(names[0] if names else None)
        tries, self._tries = self._tries, 0
        iterable, self._in_iterable = self._in_iterable, False
        if isinstance(node, ast.Lambda):
            node.body = self.visit(node.body)
        else:
            node.returns = None
            node.body = self._body(node.body)
        self._tries, self._in_iterable = tries, iterable
        self._first.pop()
        self._scopes.pop()
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> list[ast.stmt]:
        decorators: list[ast.expr] = []
        made: list[ast.stmt] = []
        for decorator in node.decorator_list:
            kept, statements = self._kept(self.visit(decorator), node)
            decorators.append(kept)
            made += statements
        node.decorator_list = []
        self._defaults(node.args)
        self._function(node)
        name = node.name = self._mangled(node.name)
        made += [*self._effects([name], node), node]
        for decorator in reversed(decorators):
            called = self._hook("call", node, decorator, ast.Name(name, ast.Load()))
            made.append(_at(ast.Assign([ast.Name(name, ast.Store())], called), node))
        return made

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        self._defaults(node.args)
        return self._function(node)

    def _defaults(self, args: ast.arguments) -> None:
        args.defaults = [self.visit(d) for d in args.defaults]
        args.kw_defaults = [d and self.visit(d) for d in args.kw_defaults]

    def visit_ClassDef(self, node: ast.ClassDef) -> list[ast.stmt]:
        return [self._effect(f"the class {node.name} is defined here", node), node]

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        raise Unconvertible("it defines an async function")

    def visit_Await(self, node: ast.Await) -> ast.AST:
        raise Unconvertible("it awaits")

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        raise Unconvertible("it has an async for loop")

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        raise Unconvertible("it has an async with statement")

    def _where(self, name: str) -> str:
        """Where a name is found: `local`, `free` or `global`."""
        for scope in reversed(self._scopes):
            if name in scope.global_:
                return "global"
            if name in scope.bound:
                return "local"
        return "free" if name in self._free else "global"

    def _mangled(self, name: str) -> str:
        """The name with which private names of a class are really stored."""
        if self._class and name.startswith("__") and not name.endswith("__"):
            return f"_{self._class}{name}"
        return name

    # Names, attributes, items.

    def visit_Name(self, node: ast.Name) -> ast.expr:
        node.id = self._mangled(node.id)
        if not isinstance(node.ctx, ast.Load) or node.id == "__class__":
            return node
        where = self._where(node.id)
        if where == "local":
            return node
        if where == "free":
            return self._hook("free", node, ast.Constant(node.id), node)
        return self._hook("load", node, ast.Constant(node.id))

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        return self._hook("attr", node, self.visit(node.value), ast.Constant(self._mangled(node.attr)))

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        return self._hook("item", node, self.visit(node.value), self.visit(node.slice))

    def visit_Slice(self, node: ast.Slice) -> ast.expr:
        parts = (node.lower, node.upper, node.step)
        return self._hook("slice", node, *(ast.Constant(None) if p is None else self.visit(p) for p in parts))

    def visit_Starred(self, node: ast.Starred) -> ast.expr:
        node.value = self._hook("iterate", node, self.visit(node.value))
        return node

    def visit_Dict(self, node: ast.Dict) -> ast.expr:
        values = []
        for key, value in zip(node.keys, node.values, strict=True):
            new = self.visit(value)
            values.append(self._hook("mapping", value, new) if key is None else new)
        node.keys = [None if k is None else self.visit(k) for k in node.keys]
        node.values = values
        return node

    # Calls.

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if isinstance(node.func, ast.Name) and self._where(node.func.id) == "global":
            if node.func.id == "super" and not node.args and self._first[0]:
                first = ast.Name(self._first[0], ast.Load())
                return _at(ast.Call(node.func, [ast.Name("__class__", ast.Load()), first], []), node)
            if node.func.id in _FRAME_BUILTINS:
                effect = self._hook(
                    "effect", node, ast.Constant(f"{node.func.id}() looks at the caller's frame")
                )
                plain = _at(ast.Call(node.func, [self.visit(a) for a in node.args], node.keywords), node)
                return _at(
                    ast.Subscript(
                        _at(ast.Tuple([effect, plain], ast.Load()), node), ast.Constant(1), ast.Load()
                    ),
                    node,
                )
        call = self._hook("call", node, self.visit(node.func), *(self.visit(a) for a in node.args))
        for keyword in node.keywords:
            value = self.visit(keyword.value)
            if keyword.arg is None:
                value = self._hook("mapping", keyword.value, value)
            call.keywords.append(ast.keyword(keyword.arg, value))
        return call

    # Operators.

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        return self._operator("binary", node, node.op, node.left, node.right)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        if isinstance(node.op, ast.Not):
            return _at(ast.UnaryOp(node.op, self._truth(node.operand)), node)
        if isinstance(node.operand, ast.Constant):
            return node
        return self._operator("unary", node, node.op, node.operand)

    def _operator(self, hook: str, node: ast.expr, op: ast.AST, *operands: ast.expr) -> ast.expr:
        return self._hook(hook, node, ast.Constant(_OPERATORS[type(op)]), *(self.visit(x) for x in operands))

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        if len(node.ops) == 1:
            return self._compare(node, node.ops[0], self.visit(node.left), self.visit(node.comparators[0]))
        tests: list[ast.expr] = []
        left = self.visit(node.left)
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            right = self.visit(comparator)
            if len(tests) + 1 < len(node.ops):
                name = self._temporary()
                right = _at(ast.NamedExpr(ast.Name(name, ast.Store()), right), node)
            tests.append(self._compare(node, op, left, right))
            left = ast.Name(name, ast.Load())
        if self._in_iterable:
            raise Unconvertible("a chain of comparisons stands where a comprehension takes its elements from")
        return self._choice(node, ast.And(), tests)

    def _compare(self, node: ast.expr, op: ast.cmpop, left: ast.expr, right: ast.expr) -> ast.expr:
        if isinstance(op, ast.Is | ast.IsNot):
            return self._hook("same", node, left, right, ast.Constant(isinstance(op, ast.Is)))
        if isinstance(op, ast.In):
            return self._hook("contains", node, left, right)
        if isinstance(op, ast.NotIn):
            return _at(ast.UnaryOp(ast.Not(), self._hook("contains", node, left, right)), node)
        return self._hook("compare", node, ast.Constant(_OPERATORS[type(op)]), left, right)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        return self._choice(node, node.op, [self.visit(v) for v in node.values])

    def _choice(self, node: ast.expr, op: ast.boolop, values: list[ast.expr]) -> ast.expr:
        """`a and b and c` (or `or`) with each truth test a hook; gives one of the operands."""
        result = values[-1]
        for value in reversed(values[:-1]):
            name = self._temporary()
            if self._in_iterable:  # No assignment expression is allowed there.
                later = _at(ast.Lambda(_no_arguments(), result), node)
                result = self._hook("and_" if isinstance(op, ast.And) else "or_", node, value, later)
                continue
            test = self._hook("truth", node, _at(ast.NamedExpr(ast.Name(name, ast.Store()), value), node))
            kept: ast.expr = ast.Name(name, ast.Load())
            yes, no = (result, kept) if isinstance(op, ast.And) else (kept, result)
            result = _at(ast.IfExp(test, yes, no), node)
        return result

    def _truth(self, node: ast.expr) -> ast.expr:
        """A test, as a plain bool."""
        if isinstance(node, ast.BoolOp):
            return _at(ast.BoolOp(node.op, [self._truth(v) for v in node.values]), node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return _at(ast.UnaryOp(node.op, self._truth(node.operand)), node)
        return self._hook("truth", node, self.visit(node))

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        return _at(ast.IfExp(self._truth(node.test), self.visit(node.body), self.visit(node.orelse)), node)

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.expr:
        spec = self.visit(node.format_spec) if node.format_spec else ast.Constant("")
        text = self._hook("format", node, self.visit(node.value), ast.Constant(node.conversion), spec)
        return _at(ast.FormattedValue(text, -1, None), node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.expr:
        node.value = self.visit(node.value)
        node.target.id = self._mangled(node.target.id)
        if self._where(node.target.id) != "local":
            raise Unconvertible("an assignment expression assigns a global or nonlocal variable")
        return node

    # Comprehensions.

    def _comprehension(self, node: Comprehension) -> ast.expr:
        first = self._iterable(node.generators[0].iter)
        self._scopes.append(comprehension_scope(node))
        for number, generator in enumerate(node.generators):
            if generator.is_async:
                raise Unconvertible("it has an async comprehension")
            generator.iter = first if number == 0 else self._iterable(generator.iter)
            self._check_plain(generator.target)
            if isinstance(generator.target, ast.Tuple | ast.List):
                generator.iter = self._hook("unpacked", generator.iter, generator.iter)
            generator.ifs = [self._truth(test) for test in generator.ifs]
        if isinstance(node, ast.DictComp):
            node.key, node.value = self.visit(node.key), self.visit(node.value)
        else:
            node.elt = self.visit(node.elt)
        self._scopes.pop()
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _iterable(self, node: ast.expr) -> ast.expr:
        before, self._in_iterable = self._in_iterable, True
        made = self._hook("iterate", node, self.visit(node))
        self._in_iterable = before
        return made

    def _check_plain(self, target: ast.expr) -> None:
        if any(isinstance(n, ast.Attribute | ast.Subscript) for n in ast.walk(target)):
            raise Unconvertible("a comprehension assigns to an attribute or item")

    # Stores.

    def visit_Assign(self, node: ast.Assign) -> list[ast.stmt]:
        value = self.visit(node.value)
        if len(node.targets) == 1:
            return self._store(node.targets[0], value, node)
        name = self._temporary()
        made: list[ast.stmt] = [_at(ast.Assign([ast.Name(name, ast.Store())], value), node)]
        for target in node.targets:
            made += self._store(target, ast.Name(name, ast.Load()), node)
        return made

    def visit_AnnAssign(self, node: ast.AnnAssign) -> list[ast.stmt]:
        return (
            self._store(node.target, self.visit(node.value), node) if node.value else [_at(ast.Pass(), node)]
        )

    def _store(self, target: ast.expr, value: ast.expr, node: ast.stmt) -> list[ast.stmt]:
        """Statements that store an already rewritten value into a target."""
        if isinstance(target, ast.Attribute):
            name = ast.Constant(self._mangled(target.attr))
            return [self._statement("setattr", node, value, self.visit(target.value), name)]
        if isinstance(target, ast.Subscript):
            return [
                self._statement("setitem", node, value, self.visit(target.value), self.visit(target.slice))
            ]
        if isinstance(target, ast.Tuple | ast.List):
            return self._store_each(target, value, node)
        assert isinstance(target, ast.Name)
        target.id = self._mangled(target.id)
        return [*self._effects([target.id], node), _at(ast.Assign([target], value), node)]

    def _store_each(self, target: ast.Tuple | ast.List, value: ast.expr, node: ast.stmt) -> list[ast.stmt]:
        """Unpack into temporaries, then store each where it belongs; a starred part takes a list."""
        names = [self._temporary() for _ in target.elts]
        parts: list[ast.expr] = []
        stores: list[ast.stmt] = []
        for name, part in zip(names, target.elts, strict=True):
            inner = part.value if isinstance(part, ast.Starred) else part
            place: ast.expr = ast.Name(name, ast.Store())
            parts.append(ast.Starred(place, ast.Store()) if isinstance(part, ast.Starred) else place)
            stores += self._store(inner, ast.Name(name, ast.Load()), node)
        unpacked = self._hook("unpack", node, value)
        return [_at(ast.Assign([_at(ast.Tuple(parts, ast.Store()), node)], unpacked), node), *stores]

    def visit_AugAssign(self, node: ast.AugAssign) -> list[ast.stmt]:
        target, op = node.target, ast.Constant(_OPERATORS[type(node.op)])
        if isinstance(target, ast.Name):
            read = self.visit(ast.Name(target.id, ast.Load()))
            return self._store(target, self._hook("inplace", node, op, read, self.visit(node.value)), node)
        first, made = self._kept(self.visit(target.value), node)
        if isinstance(target, ast.Attribute):
            place: ast.expr = ast.Constant(self._mangled(target.attr))
            kind = "attr"
        else:
            place, more = self._kept(self.visit(target.slice), node)
            made, kind = made + more, "item"
        value = self._hook("inplace", node, op, self._hook(kind, node, first, place), self.visit(node.value))
        return [*made, self._statement("set" + kind, node, value, first, place)]

    def _kept(self, value: ast.expr, node: ast.stmt) -> tuple[ast.expr, list[ast.stmt]]:
        """A value in a temporary: how to read it, and the statement that makes it."""
        name = self._temporary()
        return ast.Name(name, ast.Load()), [_at(ast.Assign([ast.Name(name, ast.Store())], value), node)]

    def visit_Delete(self, node: ast.Delete) -> list[ast.stmt]:
        made: list[ast.stmt] = []
        for target in node.targets:
            if isinstance(target, ast.Attribute):
                name = ast.Constant(self._mangled(target.attr))
                made.append(self._statement("delattr", node, self.visit(target.value), name))
            elif isinstance(target, ast.Subscript):
                made.append(
                    self._statement("delitem", node, self.visit(target.value), self.visit(target.slice))
                )
            elif isinstance(target, ast.Name):
                made += [*self._effects([target.id], node), _at(ast.Delete([self.visit(target)]), node)]
            else:
                raise Unconvertible("it deletes a tuple of targets")
        return made

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        if node.level or any(a.name == "*" for a in node.names):
            return [self._effect("a relative import stands inside a function", node), node]
        made: list[ast.stmt] = [node]
        for alias in node.names:
            bound = ast.Name(alias.asname or alias.name, ast.Load())
            made.append(
                self._statement("imported", node, ast.Constant(node.module), ast.Constant(alias.name), bound)
            )
        return made

    # Statements.

    def _body(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        made: list[ast.stmt] = []
        for statement in statements:
            new = self.visit(statement)
            made += new if isinstance(new, list) else [new]
        return made

    def visit_If(self, node: ast.If) -> ast.stmt:
        return _at(ast.If(self._truth(node.test), self._body(node.body), self._body(node.orelse)), node)

    def visit_While(self, node: ast.While) -> ast.stmt:
        return _at(ast.While(self._truth(node.test), self._body(node.body), self._body(node.orelse)), node)

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        return _at(ast.Assert(self._truth(node.test), node.msg and self.visit(node.msg)), node)

    def visit_For(self, node: ast.For) -> ast.stmt:
        iterated = self._hook("iterate", node.iter, self.visit(node.iter))
        name = self._temporary()
        stores = self._store(node.target, ast.Name(name, ast.Load()), node)
        target: ast.expr = ast.Name(name, ast.Store())
        if isinstance(node.target, ast.Name) and len(stores) == 1:
            target, stores = node.target, []
        return _at(ast.For(target, iterated, stores + self._body(node.body), self._body(node.orelse)), node)

    def visit_With(self, node: ast.With) -> ast.stmt:
        stores: list[ast.stmt] = []
        for item in node.items:
            item.context_expr = self._hook("context", node, self.visit(item.context_expr))
            if item.optional_vars is not None and not isinstance(item.optional_vars, ast.Name):
                if len(node.items) > 1:
                    raise Unconvertible(
                        "a with statement of several items unpacks or assigns to an attribute"
                    )
                name = self._temporary()
                stores += self._store(item.optional_vars, ast.Name(name, ast.Load()), node)
                item.optional_vars = ast.Name(name, ast.Store())
            elif item.optional_vars is not None:
                item.optional_vars = self.visit(item.optional_vars)
        return _at(ast.With(node.items, stores + self._body(node.body)), node)

    def visit_Try(self, node: ast.Try) -> ast.stmt:
        self._tries += 1
        node.body = [*self._body(node.body), self._statement("settle", node)]
        self._tries -= 1
        for handler in node.handlers:
            handler.type = handler.type and self.visit(handler.type)
            handler.body = self._body(handler.body)
        node.orelse = self._body(node.orelse)
        node.finalbody = self._body(node.finalbody)
        return node

    def visit_TryStar(self, node: ast.AST) -> ast.AST:
        raise Unconvertible("it has an except* clause")

    def visit_Raise(self, node: ast.Raise) -> list[ast.stmt]:
        node.exc = node.exc and self.visit(node.exc)
        node.cause = node.cause and self.visit(node.cause)
        return [self._statement("settle", node), node]

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        node.value = node.value and self.visit(node.value)
        if self._tries:
            node.value = self._hook("settled", node, node.value or ast.Constant(None))
        return node

    def _leave(self, node: ast.Break | ast.Continue) -> ast.stmt | list[ast.stmt]:
        return [self._statement("settle", node), node] if self._tries else node

    visit_Break = visit_Continue = _leave

    def visit_Match(self, node: ast.Match) -> ast.stmt:
        node.subject = self._hook("matched", node, self.visit(node.subject))
        for case in node.cases:
            case.guard = case.guard and self._truth(case.guard)
            case.body = self._body(case.body)
        return node

    # Making nodes.

    def _hook(self, name: str, place: ast.AST, *args: ast.expr) -> ast.Call:
        function = ast.Attribute(ast.Name(HOOKS, ast.Load()), name, ast.Load())
        return _at(ast.Call(function, list(args), []), place)

    def _statement(self, name: str, place: ast.AST, *args: ast.expr) -> ast.stmt:
        return _at(ast.Expr(self._hook(name, place, *args)), place)

    def _effect(self, what: str, place: ast.AST) -> ast.stmt:
        return self._statement("effect", place, ast.Constant(what))

    def _effects(self, names: Sequence[str], place: ast.AST) -> list[ast.stmt]:
        """What to run before these names are assigned, if they are not locals."""
        kinds = {"free": "nonlocal", "global": "global"}
        found = [(kinds[w], n) for n in names if (w := self._where(n)) != "local"]
        return [self._effect(f"the {kind} variable {name} is assigned here", place) for kind, name in found]

    def _temporary(self) -> str:
        self._temporaries += 1
        name = _TEMPORARY.format(self._temporaries)
        for scope in self._scopes[-1:]:
            scope.bound.add(name)
        return name


N = TypeVar("N", bound=ast.AST)


def _at(node: N, place: ast.AST) -> N:
    """The node, and what it has that is new, at the place of another."""
    ast.copy_location(node, place)
    for child in ast.iter_child_nodes(node):
        if not hasattr(child, "lineno") and "lineno" in getattr(child, "_attributes", ()):
            _at(child, place)
    return node


def _no_arguments() -> ast.arguments:
    return ast.arguments([], [], None, [], [], None, [])
