"""Simplification of scans: what a step need not do, or not carry on, or not give out.

Afterwards a scan carries what its results depend on and no more; what does not change from step to step is
computed before the loop; and a step gives out only what it alone knows: not what it was given, not its
carries as they were, and nothing twice. Every rewrite keeps every bit.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..ir import ops
from ..ir.builder import GraphBuilder
from ..ir.expr import Dim
from ..ir.graph import Graph, Operation, Value
from ..ir.opdef import BoundOp
from ..ir.types import Literal
from .dce import raising_operations
from .regions import renamed, replaced
from .simplify.patterns import uniform


def tidy_scans(graph: Graph) -> Graph:
    """Simplify every scan of the graph (not those inside of regions); the same object if nothing changes."""
    if not any(op.opdef is ops.scan for op in graph.operations):
        return graph
    used = {v for op in graph.operations for v in op.operands}.union(graph.roots())
    return replaced(graph, lambda op, operands: _tidied(op, operands, used) if op.opdef is ops.scan else None)


@dataclass(frozen=True)
class Parts:
    """The operands, the inputs and outputs of the body, and the results of a scan, by what they are."""

    carries: int
    scanned: int
    length: Dim
    reverse: bool
    previous: tuple[int, ...]
    body: Graph

    @staticmethod
    def of(op: Operation | BoundOp) -> Parts:
        a = op.attrs
        return Parts(
            a["carries"], a["scanned"], a["length"], a["reverse"], a["previous"], op.regions[0]  # type: ignore[arg-type]
        )  # fmt: skip

    @property
    def carried(self) -> tuple[Value, ...]:
        """Inputs of the body."""
        return self.body.inputs[: self.carries]

    @property
    def slices(self) -> tuple[Value, ...]:
        """Inputs of the body that differ from step to step."""
        return self.body.inputs[self.carries : self.carries + self.scanned]

    @property
    def rest(self) -> tuple[Value, ...]:
        """Inputs of the body that are the same in every step."""
        return self.body.inputs[self.carries + self.scanned :]

    @property
    def next(self) -> tuple[Value, ...]:
        """The new carries: outputs of the body."""
        return self.body.outputs[: self.carries]

    @property
    def given(self) -> tuple[Value, ...]:
        """What a step gives out: outputs of the body."""
        return self.body.outputs[self.carries :]


def _tidied(
    op: Operation, operands: tuple[Value, ...], used: set[Value]
) -> tuple[list[Operation], list[Value]] | None:
    tidier = _Tidier(op, operands, used)
    return tidier.result() if tidier.changes() else None


class _Tidier:
    """One scan. outside: the operand that a value of the body is, if it is the same in every step."""

    def __init__(self, op: Operation, operands: tuple[Value, ...], used: set[Value]) -> None:
        self.op, self.operands, self.used = op, operands, used
        self.parts = parts = Parts.of(op)
        self.build = GraphBuilder()
        self.build.location = op.location
        self.init = dict(zip(parts.carried, operands, strict=False))
        fixed = [c for c, n in zip(parts.carried, parts.next, strict=True) if c is n]
        self.outside = {c: self.init[c] for c in fixed}
        self.outside |= zip(parts.rest, operands[parts.carries + parts.scanned :], strict=True)
        self.stacked = dict(zip(parts.slices, operands[parts.carries :], strict=False))
        self.raising = raising_operations(parts.body)
        self.hoisted = self._hoisted()
        self.live = self._live()

    def _hoisted(self) -> list[Operation]:
        """The operations of the body that can be done before the loop."""
        still = {*self.outside}
        found = []
        for op in self.parts.body.operations:
            movable = op.opdef.pure and op not in self.raising and op.opdef is not ops.expand
            if movable and (_is_table(op) or (op.operands and all(v in still for v in op.operands))):
                found.append(op)
                still.update(op.results)
        return found

    def _results(self) -> tuple[list[Value], list[Value], dict[int, Value]]:
        """The results of the operation: carries, given, and by its number each previous carry."""
        p, results = self.parts, list(self.op.results)
        given = len(p.given)
        last = results[p.carries + given :]
        return (
            results[: p.carries],
            results[p.carries : p.carries + given],
            dict(zip(p.previous, last, strict=True)),
        )

    def _live(self) -> set[Value]:
        """Values of the body that a result, or the next step, needs of the loop itself."""
        finals, stacks, before = self._results()
        body, hoisted = self.parts.body, set(self.hoisted)
        wanted = [v for v, r in zip(self.parts.given, stacks, strict=True) if r in self.used]
        wanted += [self.parts.carried[i] for i, r in before.items() if r in self.used]
        wanted += [v for v, r in zip(self.parts.carried, finals, strict=True) if r in self.used]
        for op in body.operations:
            if op in self.raising or not op.opdef.pure:
                wanted += op.operands
        following = dict(zip(self.parts.carried, self.parts.next, strict=True))
        live: set[Value] = set()
        while wanted:
            v = wanted.pop()
            if v in live:
                continue
            live.add(v)
            if v in following:
                wanted.append(following[v])
            elif v.operation is not None and v.operation not in hoisted:
                wanted += v.operation.operands
        return live

    def changes(self) -> bool:
        """Whether there is anything to do."""
        p = self.parts
        _, stacks, before = self._results()
        rest = [self.outside[v] for v in p.rest]
        return (
            bool(self.hoisted)
            or any(v not in self.live for v in p.body.inputs)
            or any(v in self.outside for v in p.carried)
            or any(r not in self.used for r in (*stacks, *before.values()))
            or any(v in {*p.body.inputs, *self.outside} for v in p.given)
            or len(set(p.given)) < len(p.given)
            or len(set(rest)) < len(rest)
        )

    def result(self) -> tuple[list[Operation], list[Value]]:
        """The operations in the place of this one, and the values of its results."""
        p = self.parts
        self._hoist()
        finals, stacks, before = self._results()
        carried = [c for c in p.carried if c in self.live and c not in self.outside]
        keep = {c: at for at, c in enumerate(carried)}
        seen = [v for v, r in zip(p.given, stacks, strict=True) if r in self.used]
        given = list(dict.fromkeys(v for v in seen if not self._known(v)))
        want = {p.carried[i] for i, r in before.items() if r in self.used} | {*seen}
        previous = tuple(at for c, at in keep.items() if c in want)
        made = self._scan(carried, given, previous)
        now = dict(zip(carried, made, strict=False))
        stack_of = dict(zip((*given, *(carried[i] for i in previous)), made[len(carried) :], strict=True))
        final = [now.get(c, self.outside.get(c, self.init[c])) for c in p.carried]
        stacked = [
            self._stack(v, stack_of) if r in self.used else None for v, r in zip(p.given, stacks, strict=True)
        ]
        last = [self._stack(p.carried[i], stack_of) if r in self.used else None for i, r in before.items()]
        values = [*final, *stacked, *last]
        return self.build.operations, [
            old if new is None else new for new, old in zip(values, self.op.results, strict=True)
        ]  # fmt: skip

    def _hoist(self) -> None:
        mapped = dict(self.outside)
        self.build.operations += renamed(self.hoisted, mapped)
        self.outside = mapped

    def _known(self, v: Value) -> bool:
        """Whether what a step gives out is known without it."""
        return v in self.outside or v in self.stacked or v in self.parts.carried

    def _stack(self, v: Value, made: dict[Value, Value]) -> Value:
        """The values over all steps."""
        if v in made:
            return made[v]
        if v in self.stacked:
            return self.stacked[v]
        one = self.outside[v]
        shape = one.type.shape
        return self.build(
            ops.expand, self.build(ops.reshape, one, shape=(1, *shape)), shape=(self.parts.length, *shape)
        )

    def _scan(self, carried: list[Value], given: list[Value], previous: tuple[int, ...]) -> tuple[Value, ...]:
        p = self.parts
        hoisted = set(self.hoisted)
        effects = {op for op in p.body.operations if op in self.raising or not op.opdef.pure}
        body_ops = [
            op
            for op in p.body.operations
            if op not in hoisted and (op in effects or any(v in self.live for v in op.results))
        ]
        needed = {v for op in body_ops for v in op.operands} | {*given}
        following = dict(zip(p.carried, p.next, strict=True))
        needed.update(following[c] for c in carried)
        slices = [v for v in p.slices if v in needed]
        rest = list(dict.fromkeys(self.outside[v] for v in self.outside if v in needed))
        inputs = {v: Value(v.type, v.name) for v in (*carried, *slices)}
        shared = {v: Value(v.type, name_in(v, self.outside)) for v in rest}
        mapped = inputs | {v: shared[o] for v, o in self.outside.items() if o in shared}
        operations = renamed(body_ops, mapped)
        outputs = tuple(mapped[v] for v in (*(following[c] for c in carried), *given))
        body = Graph((*inputs.values(), *shared.values()), tuple(operations), outputs, (), p.body.name)
        operands = (*(self.init[c] for c in carried), *(self.stacked[v] for v in slices), *rest)
        attrs = {
            "carries": len(carried), "scanned": len(slices), "length": p.length, "reverse": p.reverse,
            "previous": previous,
        }  # fmt: skip
        if not outputs and not effects:
            return ()
        return self.build.emit(ops.scan, operands, attrs, (body,))


def name_in(value: Value, outside: dict[Value, Value]) -> str:
    """The name that the body has for a value from outside, if any."""
    return next((v.name for v, o in outside.items() if o is value and v.operation is None), "")


def _is_table(op: Operation) -> bool:
    """Whether an operation is a constant that has to lie in memory: not one number throughout."""
    value = op.attrs.get("value")
    return op.opdef is ops.constant and isinstance(value, Literal) and uniform(value) is None
