"""The rewrite driver: one sweep in the order of the operations, each tried against the rules for its kind.

The sweep keeps this invariant: every operation before the current one is in its final form. So a rule sees
operands that are already simplified, and what a rule builds goes through the rules before it is appended;
nothing has to be visited twice, and the cost is linear in operations plus rewrites. Operations that no rule
changes are shared with the old graph, not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ...ir.errors import IRError
from ...ir.graph import Graph, Location, Operation, Value
from ...ir.opdef import Attr, OpDef
from ...ir.types import TensorType

#: A rule: the value that replaces the operation's result, or None where it does not apply. It may look at the
#: operation and the producers of its operands, and builds only once it is sure to apply.
Rule = Callable[[Operation, "Rewriter"], "Value | None"]
Rules = Mapping[OpDef, Sequence[Rule]]

#: The rules of `simplify`, by the kind of operation at their root, in order of registration.
RULES: dict[OpDef, list[Rule]] = {}


def rewrites(*opdefs: OpDef) -> Callable[[Rule], Rule]:
    """Register a rule of `simplify` for operations of these kinds."""

    def register(rule: Rule) -> Rule:
        for opdef in opdefs:
            RULES.setdefault(opdef, []).append(rule)
        return rule

    return register


def rewrite(graph: Graph, rules: Rules) -> Graph:
    """The graph with the rules applied wherever they fit; the same object if none does.

    Operations that lost their last use stay: dead code elimination follows.
    """
    return Rewriter(graph, rules).run()


class Rewriter:
    """A `Builder[Value]` that simplifies each operation as it is built."""

    def __init__(self, graph: Graph, rules: Rules) -> None:
        self._graph = graph
        self._rules = rules
        self._operations: list[Operation] = []
        self._replaced: dict[Value, Value] = {}
        self._location: Location | None = None
        self._uses: dict[Value, int] | None = None

    def __call__(self, opdef: OpDef, *operands: Value, **attrs: Attr) -> Value:
        types = opdef.result_types(*(v.type for v in operands), **attrs)
        results = tuple(map(Value, types))
        return self._place(Operation(opdef, operands, attrs, results, (), self._location)).result

    def type_of(self, value: Value) -> TensorType:
        return value.type

    def has_one_use(self, value: Value) -> bool:
        """Whether the graph uses this value once at most, so that absorbing its operation leaves no second
        copy.

        Values that a rule has built count as used once.
        """
        if self._uses is None:
            self._uses = {}
            for op in self._graph.operations:
                for operand in op.operands:
                    self._uses[operand] = self._uses.get(operand, 0) + 1
            for root in self._graph.roots():
                self._uses[root] = self._uses.get(root, 0) + 1
            for old, new in self._replaced.items():
                self._uses[new] = self._uses.get(new, 0) + self._uses.get(old, 0)
        return self._uses.get(value, 1) <= 1

    def run(self) -> Graph:
        changed = False
        for old in self._graph.operations:
            self._location = old.location
            new = self._place(self._with_new_operands(old))
            if new is not old:
                changed = True
                self._replace(old, new)
        if not changed:
            return self._graph
        new_value = self._replaced
        return Graph(
            self._graph.inputs,
            tuple(self._operations),
            tuple(new_value.get(v, v) for v in self._graph.outputs),
            tuple((x, new_value.get(v, v)) for x, v in self._graph.updates),
            self._graph.name,
            self._graph.numerics,
        )

    def _with_new_operands(self, op: Operation) -> Operation:
        """The operation on the replacements of its operands; itself if none has one."""
        replaced = self._replaced
        regions = tuple(rewrite(r, self._rules) for r in op.regions) if op.regions else ()
        moved = any(v in replaced for v in op.operands)
        if not moved and all(a is b for a, b in zip(regions, op.regions, strict=True)):
            return op
        operands = tuple(replaced.get(v, v) for v in op.operands)
        results = tuple(Value(v.type, v.name) for v in op.results)
        return Operation(op.opdef, operands, op.attrs, results, regions, op.location)

    def _place(self, op: Operation) -> _Placed:
        """Append the operation, or what the first rule that applies makes of it."""
        for rule in self._rules.get(op.opdef, ()):
            value = rule(op, self)
            if value is not None:
                if value.type != op.result.type:
                    raise IRError(
                        f"rule {rule.__name__} made {value.type} of {op.opdef.name} : {op.result.type}"
                    )
                return _Replacement(value)
        self._operations.append(op)
        return op

    def _replace(self, old: Operation, new: _Placed) -> None:
        for before, after in zip(old.results, new.results, strict=True):
            self._replaced[before] = after
            if self._uses is not None:
                self._uses[after] = self._uses.get(after, 0) + self._uses.get(before, 0)


class _Replacement:
    """Stands for an operation whose only result turned out to be an existing value."""

    __slots__ = ("result", "results")

    def __init__(self, value: Value) -> None:
        self.result = value
        self.results = (value,)


_Placed = Operation | _Replacement
