"""The derivative of `scan`: a scan the other way round, over what the steps have saved.

Forward, a step also gives out the values that the derivative of the body reads (chosen by a minimum cut) and
its carries as they were before. Backward, the carries are the cotangents of the carries. The cotangent of an
operand that all steps share is, where each step contributes a contraction or a sum over leading axes, one
contraction or sum over all steps and then the body's axes (docs/numerics.md); else it is carried along too,
contributions being added from the step that ran last to the one that ran first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...ir import ops
from ...ir.builder import GraphBuilder, full
from ...ir.contraction import ContractSpec
from ...ir.expr import symbol
from ...ir.graph import Graph, Operation, Value
from ...ir.opdef import BoundOp, bind
from ...ir.types import TensorType
from ..scans import Parts
from .joint import active_values, joint_graph, varies
from .many import MANY, Prepared
from .partition import extract, partition


def prepare(op: BoundOp, types: tuple[TensorType, ...], wanted: tuple[bool, ...]) -> Prepared:
    """The scan that gives out, further, what its derivative needs."""
    parts = Parts.of(op)
    wrt = _varying(parts, wanted)
    cotangents = _cotangents(parts, wrt)
    joint = joint_graph(parts.body, wrt, cotangents=cotangents)
    forward = partition(joint).forward
    count = len(parts.body.outputs)
    fixed = _fixed(forward, forward.inputs[parts.carries + parts.scanned :])
    known = {*forward.inputs, *forward.outputs[:count], *fixed}
    saved = [v for v in dict.fromkeys(forward.outputs[count:]) if v not in known]
    body = Graph(forward.inputs, forward.operations, (*forward.outputs[:count], *saved), (), forward.name)
    more = bind(ops.scan, (body,), **{**op.attrs, "previous": tuple(range(parts.carries))})
    last = count + len(saved)
    return Prepared(more, (*range(count), *(last + i for i in parts.previous)))


def pull_back_scan(
    build: GraphBuilder, op: BoundOp, cts: Sequence[Value | None], ys: Sequence[Value],
    operands: Sequence[Value], wanted: tuple[bool, ...],
) -> tuple[Value | None, ...]:  # fmt: skip
    """The cotangents of the operands of a prepared scan."""
    return _Backward(build, op, cts, ys, operands, wanted).run()


MANY[ops.scan] = (prepare, pull_back_scan)


def _varying(parts: Parts, wanted: tuple[bool, ...]) -> list[int]:
    """The inputs of the body that vary with the operands asked for: carries do from the second step on."""
    inputs = parts.body.inputs
    found = {i for i, w in enumerate(wanted) if w and varies(inputs[i])}
    while True:
        active = active_values(parts.body, {inputs[i] for i in found})
        more = {i for i, v in enumerate(parts.next) if v in active and varies(v)} - found
        if not more:
            return sorted(found)
        found |= more


def _cotangents(parts: Parts, wrt: Sequence[int]) -> list[int]:
    """The outputs of the body whose cotangents count."""
    active = active_values(parts.body, {parts.body.inputs[i] for i in wrt})
    return [
        i for i, v in enumerate(parts.body.outputs)
        if varies(v) and (v in active if i >= parts.carries else i in wrt)
    ]  # fmt: skip


def _fixed(graph: Graph, shared: Sequence[Value]) -> set[Value]:
    """The values that are the same in every step."""
    found = set(shared)
    for op in graph.operations:
        if all(v in found for v in op.operands):
            found.update(op.results)
    return found


@dataclass
class _Sum:
    """A sum over all steps: `make` gives it from what `stacked` are, over all steps."""

    stacked: tuple[Value, ...]
    make: Callable[[list[Value]], Value]


class _Backward:
    """One derivative under construction. The values of the body are those of the joint graph of the body."""

    def __init__(
        self, build: GraphBuilder, op: BoundOp, cts: Sequence[Value | None], ys: Sequence[Value],
        operands: Sequence[Value], wanted: tuple[bool, ...],
    ) -> None:  # fmt: skip
        self.build, self.operands, self.wanted = build, operands, wanted
        self.parts = p = Parts.of(op)
        n, given = p.carries, len(p.given)
        self.finals, self.steps = cts[:n], cts[n : n + given]
        self.before = {i: ct for i, ct in zip(p.previous, cts[n + given :], strict=True) if ct is not None}
        self.wrt = _varying(p, wanted)
        defined = [i for i in _cotangents(p, self.wrt) if i < n or self.steps[i - n] is not None]
        self.joint = joint_graph(p.body, self.wrt, cotangents=defined)
        self.inputs = self.joint.graph.inputs[: self.joint.inputs]
        self.ct_inputs = dict(zip(defined, self.joint.graph.inputs[self.joint.inputs :], strict=True))
        self.stacks = self._stacks(ys)
        self.fixed = _fixed(self.joint.graph, self.inputs[n + p.scanned :])

    def _stacks(self, ys: Sequence[Value]) -> dict[Value, Value]:
        """The values of the body that are known over all steps."""
        p, n = self.parts, self.parts.carries
        outputs = self.joint.graph.outputs[n : self.joint.outputs]
        known = dict(zip(outputs, ys[n:], strict=False))
        known |= {self.inputs[i]: y for i, y in zip(p.previous, ys[n + len(outputs) :], strict=True)}
        known |= zip(self.inputs[n : n + p.scanned], self.operands[n:], strict=False)
        for i, v in self.ct_inputs.items():
            if i >= n and (ct := self.steps[i - n]) is not None:
                known[v] = ct
        return known

    def run(self) -> tuple[Value | None, ...]:
        """The cotangents of the operands."""
        p, n = self.parts, self.parts.carries
        gradients = dict(zip(self.wrt, self._gradients(), strict=True))
        carried = [i for i in self.wrt if i < n]
        sliced = [i for i in self.wrt if n <= i < n + p.scanned and gradients[i] is not None]
        shared = {i: g for i in self.wrt if i >= n + p.scanned and (g := gradients[i]) is not None}
        sums = {i: s for i, g in shared.items() if (s := self._sum(g)) is not None}
        added = [i for i in shared if i not in sums]
        stacked = [v for s in sums.values() for v in s.stacked if v not in self.stacks]
        given = list(dict.fromkeys([*(_not_none(gradients[i]) for i in sliced), *stacked]))
        made = self._scan(carried, [gradients[i] for i in carried], [shared[i] for i in added], given)
        self.stacks |= zip(given, made[len(carried) + len(added) :], strict=True)
        found: dict[int, Value] = dict(zip((*carried, *added), made, strict=False))
        found |= {i: self.stacks[_not_none(gradients[i])] for i in sliced}
        found |= {i: s.make([self.stacks.get(v, v) for v in s.stacked]) for i, s in sums.items()}
        return tuple(found.get(i) if w else None for i, w in enumerate(self.wanted))

    def _gradients(self) -> list[Value | None]:
        outputs = self.joint.graph.outputs
        return [None if at is None else outputs[at] for at in self.joint.gradients]

    def _scan(
        self, carried: list[int], gradients: list[Value | None], added: list[Value], given: list[Value]
    ) -> tuple[Value, ...]:
        """The scan backwards: the cotangents of the carries, then the sums, then what is given out."""
        p, first = self.parts, self.parts.carries + self.parts.scanned
        shared = dict(zip(self.inputs[first:], self.operands[first:], strict=True))
        flowing = [self.ct_inputs[i] for i in carried]
        known = list(dict.fromkeys((*flowing, *self.stacks, *shared)))
        defined = [g for g in gradients if g is not None]
        inner = extract(known, self.joint.graph, (*defined, *added, *given))
        place = dict(zip(known, inner.inputs, strict=True))
        read = {v for op in inner.operations for v in op.operands}.union(inner.outputs)
        slices = [v for v in self.stacks if place[v] in read]
        rest = [v for v in shared if place[v] in read]
        before = {i: Value(self.inputs[i].type) for i in carried if i in self.before}
        totals = [Value(g.type) for g in added]
        body = GraphBuilder(f"{p.body.name}_backward")
        body.inputs = [*(place[v] for v in flowing), *totals, *(place[v] for v in slices), *before.values()]
        body.inputs += [place[v] for v in rest]
        body.operations = list(inner.operations)
        outputs = iter(inner.outputs)
        now = [None if g is None else next(outputs) for g in gradients]
        carries = [
            _plus(body, g, before.get(i), self.inputs[i].type) for i, g in zip(carried, now, strict=True)
        ]
        sums = [body(ops.add, total, next(outputs)) for total in totals]
        region = body.finish([*carries, *sums, *outputs])
        starts = [self._start(self.finals[i], self.inputs[i].type) for i in carried]
        starts += [self._start(None, g.type) for g in added]
        xs = [*(self.stacks[v] for v in slices), *(self.before[i] for i in before)]
        attrs = {
            "carries": len(starts), "scanned": len(xs), "length": p.length, "reverse": not p.reverse,
            "previous": (),
        }  # fmt: skip
        return self.build.emit(ops.scan, [*starts, *xs, *(shared[v] for v in rest)], attrs, (region,))

    def _start(self, ct: Value | None, type_: TensorType) -> Value:
        return _nothing(self.build, type_) if ct is None else ct

    def _sum(self, g: Value) -> _Sum | None:
        """The sum over all steps of what each contributes, if it can be taken at once."""
        op = g.operation
        if op is None:
            return None
        if op.opdef is ops.contract:
            return self._contracted(op)
        if op.opdef is ops.reduce_sum and op.attrs["order"] == "rows":
            return self._reduced(op)
        if op.opdef in (ops.reshape, ops.permute, ops.cast):
            inner = self._sum(op.operands[0])
            return inner and _Sum(inner.stacked, lambda vs: self.build(op.opdef, inner.make(vs), **op.attrs))
        return None

    def _contracted(self, op: Operation) -> _Sum | None:
        """sum over t of contract(a[t], b[t]) = contract(a, b) over t and what was summed before."""
        spec = op.attrs["spec"]
        assert isinstance(spec, ContractSpec)
        t = next(name for n in range(100) if (name := f"t{n}") not in {*spec.out, *spec.over})
        varying = [v not in self.fixed for v in op.operands]
        if not any(varying):
            return None
        lhs, rhs = (
            (symbol(t), *maps) if varies_ else maps
            for varies_, maps in zip(varying, (spec.lhs, spec.rhs), strict=True)
        )
        whole = replace(spec, lhs=lhs, rhs=rhs, over=(t, *spec.over))
        fixed = dict(zip(self.inputs, self.operands, strict=True))
        if any(v not in fixed for v, varies_ in zip(op.operands, varying, strict=True) if not varies_):
            return None
        stacked = tuple(v for v, varies_ in zip(op.operands, varying, strict=True) if varies_)

        def make(values: list[Value]) -> Value:
            given = iter(values)
            sides = [
                next(given) if varies_ else fixed[v] for v, varies_ in zip(op.operands, varying, strict=True)
            ]
            return self.build(ops.contract, *sides, spec=whole)

        return _Sum(stacked, make)

    def _reduced(self, op: Operation) -> _Sum | None:
        """sum over t of the sum over the first axes = the sum over t and them."""
        axes = op.attrs["axes"]
        (x,) = op.operands
        if not isinstance(axes, tuple) or axes != tuple(range(len(axes))) or x in self.fixed:
            return None
        every = tuple(range(len(axes) + 1))
        return _Sum((x,), lambda vs: self.build(ops.reduce_sum, vs[0], axes=every, order="rows"))


def _plus(build: GraphBuilder, g: Value | None, more: Value | None, type_: TensorType) -> Value:
    if g is None or more is None:
        return next((v for v in (g, more) if v is not None), None) or _nothing(build, type_)
    return build(ops.add, g, more)


def _nothing(build: GraphBuilder, type_: TensorType) -> Value:
    """What changes nothing when something is added to it: not even the sign of a zero."""
    return full(build, -0.0, type_)


def _not_none(v: Value | None) -> Value:
    assert v is not None
    return v
