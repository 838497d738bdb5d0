"""The native form of a replay, compiled from its Python source to the instructions of `runtime.replay_ir`.

Guards become sufficient conditions: of alternatives only the first, of containers only that they hold the
very same objects. Where one of them fails, the Python form decides, so nothing is lost but time. Whatever has
no instruction of its own is a call of the same Python function; a source with anything else has no native
form.
"""

from __future__ import annotations

import ast
import builtins
import operator
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any

from vitrify.runtime.replay import Replay
from vitrify.runtime.replay_ir import OPERATIONS, PARTS

from ._dispatch import native
from ._tensor import Tensor


class _Unsupported(Exception):
    """The source has something that there is no instruction for."""


class _Register:
    """A place for an object. kind: constant, argument, borrowed or owned. tensor: known to hold a Tensor."""

    def __init__(self, kind: str, number: int, value: object = None) -> None:
        self.kind, self.number, self.value = kind, number, value
        self.tensor = kind == "constant" and isinstance(value, Tensor)


_OPERATORS: dict[type, Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow, ast.USub: operator.neg,
    ast.UAdd: operator.pos, ast.Not: operator.not_, ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Is: operator.is_, ast.IsNot: operator.is_not,
}  # fmt: skip


def native_form(source: str, environment: Mapping[str, Any]) -> Replay | None:
    """The native form of a replay with this source; None if it has none."""
    if native is None:
        return None
    code = _Code(environment)
    try:
        code.function(ast.parse(source).body[0])  # type: ignore[arg-type]
    except _Unsupported:
        return None
    return code.assembled()


class _Code:
    """Instructions as they are made, on registers that get their places in the end."""

    def __init__(self, environment: Mapping[str, Any]) -> None:
        self._environment = environment
        self._locals: dict[str, _Register] = {}
        self._constants: list[_Register] = []
        self._known: dict[int, _Register] = {}
        self._counts = {"constant": 0, "argument": 0, "borrowed": 0, "owned": 0}
        self._code: list[tuple[str, Sequence[_Register | int]]] = []

    def assembled(self) -> Replay:
        """The finished program."""
        kinds = list(self._counts)
        first = {kind: sum(self._counts[k] for k in kinds[:i]) for i, kind in enumerate(kinds)}
        words: list[int] = []
        for operation, parts in self._code:
            places = [p if isinstance(p, int) else first[p.kind] + p.number for p in parts]
            words += [OPERATIONS.index(operation), *places, *[0] * (5 - len(places))]
        constants = [c.value for c in self._constants]
        return Replay(
            constants, self._counts["argument"], self._counts["borrowed"], self._counts["owned"], words
        )

    # Registers.

    def _new(self, kind: str, count: int = 1, value: object = None) -> _Register:
        """The first of `count` registers in a row."""
        made = _Register(kind, self._counts[kind], value)
        self._counts[kind] += count
        return made

    def _constant(self, value: object) -> _Register:
        found = self._known.get(id(value))
        if found is None:
            found = self._known[id(value)] = self._new("constant", value=value)
            self._constants.append(found)
        return found

    def _emit(self, operation: str, *parts: _Register | int) -> None:
        """Add an instruction: target, a, b, c, d."""
        self._code.append((operation, parts))

    def _made(self, operation: str, *parts: _Register | int, owned: bool = False) -> _Register:
        target = self._new("owned" if owned else "borrowed")
        self._emit(operation, target, *parts)
        return target

    def _row(self, values: Sequence[_Register]) -> _Register:
        """Copies of these in registers in a row; the first of them."""
        first = self._new("borrowed", max(len(values), 1))
        for i, value in enumerate(values):
            self._emit("move", _Register("borrowed", first.number + i), value)
        return first

    def _called(self, function: object, *values: _Register) -> _Register:
        return self._called_value(self._constant(function), values)

    def _called_value(self, function: _Register, values: Sequence[_Register]) -> _Register:
        return self._made("call", function, self._row(values), len(values), owned=True)

    # The function and its statements.

    def function(self, function: ast.FunctionDef) -> None:
        """The whole replay: arguments, guards, the call, results."""
        check, *rest = function.body
        if not isinstance(check, ast.Try):
            raise _Unsupported
        for statement in check.body:
            self._before(statement)
        for statement in rest:
            self._statement(statement)

    def _before(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Tuple):
            for name in statement.targets[0].elts:  # a0, a1, = args
                self._locals[name.id] = self._new("argument")  # type: ignore[attr-defined]
        elif isinstance(statement, ast.If) and isinstance(statement.test, ast.UnaryOp):
            self._guard(statement.test.operand)  # if not (...): return MISS
        elif isinstance(statement, ast.If):
            _, named = statement.test.values  # type: ignore[attr-defined]  # len(args) != n or len(kwargs) != m
            if named.comparators[0].value:
                raise _Unsupported
        else:
            self._statement(statement)

    def _statement(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Return):
            self._emit("done", 0, self._value(statement.value))
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            if self._is_run(statement.value):
                self._run(statement.value, [])
            elif self._is_name_of(statement.value, "attach"):
                self._attach(statement.value)
            else:
                self._value(statement.value)
        elif isinstance(statement, ast.Assign):
            self._assign(statement.targets[0], statement.value)
        else:
            raise _Unsupported

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(value, ast.Call) and self._is_run(value):
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            self._run(value, [name.id for name in names])  # type: ignore[attr-defined]
        elif isinstance(target, ast.Name):
            self._locals[target.id] = self._value(value)
        elif isinstance(target, ast.Attribute):
            owner, new = self._value(target.value), self._value(value)
            if owner.tensor and target.attr in native.slots.tensor:
                self._emit("set_slot", 0, owner, new, native.slots.tensor[target.attr])
            else:
                self._called(setattr, owner, self._constant(target.attr), new)
        else:
            raise _Unsupported

    def _is_run(self, call: ast.Call) -> bool:
        return self._is_name_of(call, "run")

    def _is_name_of(self, call: ast.Call, name: str) -> bool:
        return isinstance(call.func, ast.Name) and call.func.id == name

    def _run(self, call: ast.Call, names: list[str]) -> None:
        given = [self._value(x) for x in call.args]
        plan = getattr(self._environment["run"], "__self__", None)
        if plan is None:
            self._run_python(given, names)
            return
        storages = self._row(given)
        first = self._new("owned", len(names)) if names else 0
        self._emit("run", first, self._constant(plan), storages, len(names), len(given))
        for i, name in enumerate(names):
            self._locals[name] = _Register("owned", first.number + i)  # type: ignore[union-attr]

    def _attach(self, call: ast.Call) -> None:
        """`Region.attach`: copies of its prototypes, with what differs from call to call."""
        names, edges, inputs, saved, held = call.args
        outputs = self._elements(names)
        node_like, places_like = self._environment["attach"].__self__.prototypes(len(outputs))
        storages = self._elements(inputs)
        row = self._row(storages)
        slots = {
            "edges": self._of_tuple(edges),  # type: ignore[arg-type]
            "inputs": self._made("tuple", 0, row, len(storages), owned=True),
            "_input_versions": self._made("versions", 0, row, len(storages), owned=True),
            "_values": self._of_tuple(saved),  # type: ignore[arg-type]
        }
        if isinstance(held, ast.Tuple):
            kept = [self._made("kept", x, owned=True) for x in self._elements(held)]
            row = self._row(kept)
            slots["saved"] = self._made("tuple", 0, row, len(kept), owned=True)
            slots["versions"] = self._made("versions", 0, row, len(kept), owned=True)
        node = self._edge_like(node_like, **slots)
        for x, place in zip(outputs, places_like, strict=True):
            self._emit("set_slot", 0, x, self._edge_like(place, source=node), native.slots.tensor["_node"])

    def _elements(self, node: ast.expr) -> list[_Register]:
        if not isinstance(node, ast.Tuple):
            raise _Unsupported
        return [self._value(x) for x in node.elts]

    def _edge_like(self, prototype: object, **slots: _Register) -> _Register:
        """A new place in the tape, like this one but for its number and these slots."""
        cls = type(prototype)
        words = (cls.__basicsize__ - object.__basicsize__) // 8
        made = self._made("like", self._constant(prototype), 0, words, owned=True)
        slots["number"] = self._made("number", owned=True)
        for name, value in slots.items():
            self._emit("set_slot", 0, made, value, native.slots_of(cls)[name])
        return made

    def _run_python(self, storages: list[_Register], names: list[str]) -> None:
        """A plan whose call is Python: it finds more operands by itself."""
        self._emit("begin")
        result = self._called(self._environment["run"], *storages)
        for i, name in enumerate(names):
            one = len(names) == 1
            part = result if one else self._called(operator.getitem, result, self._constant(i))
            self._locals[name] = part

    # Guards.

    def _guard(self, test: ast.expr) -> None:
        """Go on only where this holds for sure."""
        if isinstance(test, ast.BoolOp):
            for part in test.values if isinstance(test.op, ast.And) else test.values[:1]:
                self._guard(part)
        elif isinstance(test, ast.Compare) and len(test.ops) == 1:
            self._compare(test.left, test.ops[0], test.comparators[0], test)
        elif not (isinstance(test, ast.Call) and self._known_guard(test)):
            self._emit("true", 0, self._value(test))

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr, test: ast.expr) -> None:
        if isinstance(op, ast.Is) and self._is_mode(left):
            self._emit("recording", 0, 0, 0, int(self._value(right).value is True))
            return
        if isinstance(op, ast.NotIn):
            self._apart(left, right)
            return
        if not isinstance(op, ast.Is | ast.IsNot | ast.Eq):
            self._emit("true", 0, self._value(test))
            return
        a, b = self._value(left), self._value(right)
        self._emit({ast.Is: "is", ast.IsNot: "is_not", ast.Eq: "equal"}[type(op)], 0, a, b)
        self._learn(left, op, a, b)

    def _learn(self, left: ast.expr, op: ast.cmpop, a: _Register, b: _Register) -> None:
        """What is known of an object once a guard on it has passed."""
        if isinstance(op, ast.Is) and isinstance(left, ast.Call) and self._is_name(left.func, type):
            (x,) = left.args
            if isinstance(x, ast.Name) and isinstance(b.value, type) and issubclass(b.value, Tensor):
                self._value(x).tensor = True
        if isinstance(op, ast.IsNot) and b.value is None and a.kind == "borrowed":
            a.tensor = a.value is _MAYBE_TENSOR

    def _is_mode(self, node: ast.expr) -> bool:
        return (
            isinstance(node, ast.Attribute)
            and node.attr == "grad"
            and isinstance(node.value, ast.Name)
            and node.value.id == "mode"
        )

    def _is_name(self, node: ast.expr, value: object) -> bool:
        return isinstance(node, ast.Name) and self._global(node.id) is value

    def _apart(self, left: ast.expr, right: ast.expr) -> None:
        """base(x) not in {...}: compared with each of them."""
        blocks = self._value(right).value
        if not isinstance(blocks, frozenset):
            raise _Unsupported
        base = self._value(left)
        for block in blocks:
            self._emit("is_not", 0, base, self._constant(block))

    def _known_guard(self, call: ast.Call) -> bool:
        """Guards that have an instruction of their own."""
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        if name == "unchanged":
            container, then = (self._value(x) for x in call.args)
            kinds: dict[type, str] = {list: "same_list", dict: "same_dict"}
            kind = kinds.get(type(container.value))
            if kind is not None and container.kind == "constant" and isinstance(then.value, tuple):
                self._emit(kind, 0, container, then)
                return True
        if name == "is_current":
            x = self._value(call.args[0])
            if x.tensor:
                self._emit("current", 0, self._slot(x, "_view"))
                return True
        return False

    # Values.

    def _value(self, node: ast.expr | None) -> _Register:
        compile_node = getattr(self, f"_of_{type(node).__name__.lower()}", None)
        if compile_node is None:
            raise _Unsupported
        made: _Register = compile_node(node)
        return made

    def _global(self, name: str) -> Any:
        if name in self._environment:
            return self._environment[name]
        if not hasattr(builtins, name):
            raise _Unsupported
        return getattr(builtins, name)

    def _of_name(self, node: ast.Name) -> _Register:
        return self._locals.get(node.id) or self._constant(self._global(node.id))

    def _of_constant(self, node: ast.Constant) -> _Register:
        return self._constant(node.value)

    def _of_namedexpr(self, node: ast.NamedExpr) -> _Register:
        return self._value(node.value)

    def _slot(self, x: _Register, name: str) -> _Register:
        found = self._made("slot", x, 0, native.slots.tensor[name])
        found.value = _MAYBE_TENSOR if name == "_grad" else None
        return found

    def _of_attribute(self, node: ast.Attribute) -> _Register:
        owner = self._value(node.value)
        if owner.tensor and node.attr in native.slots.tensor:
            return self._slot(owner, node.attr)
        if owner.kind == "constant" and type(owner.value) is FunctionType and node.attr in PARTS:
            return self._made("part", owner, 0, PARTS.index(node.attr))
        return self._made("attribute", owner, self._constant(node.attr), owned=True)

    def _of_subscript(self, node: ast.Subscript) -> _Register:
        owner, key = self._value(node.value), self._value(node.slice)
        if owner.kind == "constant" and type(owner.value) is dict:
            return self._made("item", owner, key)
        return self._called(operator.getitem, owner, key)

    def _of_call(self, node: ast.Call) -> _Register:
        if node.keywords or any(isinstance(x, ast.Starred) for x in node.args):
            raise _Unsupported
        if isinstance(node.func, ast.Attribute) and node.func.attr == "get" and len(node.args) == 1:
            return self._looked_up(node.func, node.args[0])
        values = [self._value(x) for x in node.args]
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if self._is_name(node.func, type):
            return self._made("type", *values)
        if name == "base":
            return self._made("base", *values)
        if name == "scalar":
            return self._made("scalar", *values, owned=True)
        if name == "Tensor":
            made = self._made("tensor", *values, owned=True)
            made.tensor = True
            return made
        return self._called_value(self._value(node.func), values)

    def _looked_up(self, get: ast.Attribute, key: ast.expr) -> _Register:
        """owner.attribute.get(key) of what is a dict now: an absent key is for the Python form."""
        owner = get.value
        if isinstance(owner, ast.Attribute):
            holder = self._value(owner.value)
            if holder.kind == "constant" and isinstance(getattr(holder.value, owner.attr, None), dict):
                container = self._value(owner)
                kind = self._constant(type(getattr(holder.value, owner.attr)))
                self._emit("is", 0, self._made("type", container), kind)
                return self._made("item", container, self._value(key))
        return self._called_value(self._value(get), [self._value(key)])

    def _of_tuple(self, node: ast.Tuple) -> _Register:
        values = [self._value(x) for x in node.elts]
        return self._made("tuple", 0, self._row(values), len(values), owned=True)

    def _of_list(self, node: ast.List) -> _Register:
        return self._called(list, self._of_tuple(ast.Tuple(node.elts)))

    def _of_dict(self, node: ast.Dict) -> _Register:
        named = [key for key in node.keys if key is not None]
        if len(named) != len(node.values):  # {**other}
            raise _Unsupported
        keys, values = (self._of_tuple(ast.Tuple(part)) for part in (named, node.values))
        return self._called(_dict_of, keys, values)

    def _of_binop(self, node: ast.BinOp) -> _Register:
        return self._called(_operator(node.op), self._value(node.left), self._value(node.right))

    def _of_unaryop(self, node: ast.UnaryOp) -> _Register:
        return self._called(_operator(node.op), self._value(node.operand))

    def _of_compare(self, node: ast.Compare) -> _Register:
        if len(node.ops) != 1:
            raise _Unsupported
        sides = self._value(node.left), self._value(node.comparators[0])
        return self._called(_operator(node.ops[0]), *sides)


#: Marks a register that holds a tensor or None.
_MAYBE_TENSOR = object()


def _operator(op: ast.AST) -> Any:
    if type(op) not in _OPERATORS:
        raise _Unsupported
    return _OPERATORS[type(op)]


def _dict_of(keys: tuple[Any, ...], values: tuple[Any, ...]) -> dict[Any, Any]:
    return dict(zip(keys, values, strict=True))
