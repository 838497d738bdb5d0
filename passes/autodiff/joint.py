"""Differentiation of a whole graph: forward and backward in one *joint graph*.

Ordered accumulation: operations are taken in descending order, and each contribution to a cotangent is added
to what is there already, which is the order of the eager tape; so both give the same bits. What receives no
contribution has no cotangent at all, rather than a tensor of zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir import ops
from ...ir.builder import GraphBuilder
from ...ir.errors import IRError
from ...ir.graph import Graph, Operation, Value
from ...ir.opdef import BoundOp, bind
from ..inline import inline_calls
from ..regions import renamed, replaced
from .derivative import derivative, pull_back
from .many import MANY, many_derivative, prepared
from .rules import VJP


@dataclass(frozen=True)
class JointGraph:
    """A graph and its derivative.

    graph: its inputs are those of the forward graph, then a cotangent for each output in `cotangents`, then a
    partial
      cotangent for each input in `partials`; its outputs are those of the forward graph, then the gradients.
    inputs, outputs: how many of them are the forward graph's.
    gradients: for each input asked for, the position of its cotangent among graph.outputs, or None if it has
    none.
    """

    graph: Graph
    inputs: int
    outputs: int
    cotangents: tuple[int, ...]
    partials: tuple[int, ...]
    gradients: tuple[int | None, ...]


def joint_graph(
    forward: Graph,
    wrt: Sequence[int],
    *,
    cotangents: Sequence[int] | None = None,
    partials: Sequence[int] = (),
) -> JointGraph:
    """The forward graph followed by the cotangents of the inputs at positions `wrt`.

    cotangents: positions of the outputs whose cotangent is given; by default all of floating point type.
    partials: positions of inputs (among wrt) that have a cotangent already, from operations recorded after
    this
      graph; the graph's own contributions are added to it.
    Raises IRError if a position in wrt or cotangents is that of a tensor that can't have a cotangent.
    """
    forward = _prepared(inline_calls(forward, splits=False), _at(forward.inputs, wrt))
    if cotangents is None:
        cotangents = [i for i, v in enumerate(forward.outputs) if varies(v)]
    if bad := [v for v in _at(forward.inputs, wrt) + _at(forward.outputs, cotangents) if not varies(v)]:
        raise IRError(f"only floating point tensors have a cotangent, not {bad[0]}")
    sweep = _Sweep(forward, set(_at(forward.inputs, wrt)))
    names = [f"ct{i}" for i in cotangents], [f"partial{i}" for i in partials]
    given = [
        sweep.build.input(v.type, n) for v, n in zip(_at(forward.outputs, cotangents), names[0], strict=True)
    ]
    for value, name in zip(_at(forward.inputs, partials), names[1], strict=True):
        sweep.add(value, sweep.build.input(value.type, name))
    for value, ct in zip(_at(forward.outputs, cotangents), given, strict=True):
        sweep.add(value, ct)
    sweep.run()
    found = [sweep.cotangents.get(v) for v in _at(forward.inputs, wrt)]
    defined = [v for v in found if v is not None]
    places = iter(range(len(forward.outputs), len(forward.outputs) + len(defined)))
    graph = sweep.build.finish((*forward.outputs, *defined), forward.updates)
    positions = tuple(None if v is None else next(places) for v in found)
    return JointGraph(
        graph, len(forward.inputs), len(forward.outputs), tuple(cotangents), tuple(partials), positions
    )


class _Sweep:
    """The walk backwards over the operations of a graph; `build` holds the graph and appends to it."""

    def __init__(self, forward: Graph, wrt: set[Value]) -> None:
        self.forward = forward
        self.build = GraphBuilder(forward.name, forward.numerics)
        self.build.inputs = list(forward.inputs)
        self.build.operations = list(forward.operations)
        self.active = active_values(forward, wrt)
        self.cotangents: dict[Value, Value] = {}

    def add(self, value: Value, ct: Value) -> None:
        """Add a contribution to a value's cotangent."""
        before = self.cotangents.get(value)
        self.cotangents[value] = ct if before is None else self.build(ops.add, before, ct)

    def run(self) -> None:
        """Take every operation backwards."""
        for op in reversed(self.forward.operations):
            if op.opdef in MANY:
                self._through_many(op)
            elif len(op.results) == 1 and op.result in self.active and op.result in self.cotangents:
                self._through(op, self.cotangents.pop(op.result))

    def _through(self, op: Operation, ct: Value) -> None:
        self.build.location = op.location
        wanted = tuple(v in self.active for v in op.operands)
        program = derivative(bind(op.opdef, **op.attrs), tuple(v.type for v in op.operands), wanted)
        contributions = pull_back(self._apply, program, ct, op.result, op.operands)
        for operand, contribution in zip(op.operands, contributions, strict=True):
            if contribution is not None:
                self.add(operand, contribution)

    def _through_many(self, op: Operation) -> None:
        cts = [self.cotangents.pop(v, None) if v in self.active else None for v in op.results]
        if all(ct is None for ct in cts):
            return
        wanted = tuple(v in self.active for v in op.operands)
        types = tuple(v.type for v in op.operands)
        bound = bind(op.opdef, op.regions, **op.attrs)
        program = many_derivative(bound, types, wanted, tuple(ct is not None for ct in cts))
        known = (*op.results, *op.operands)
        given = [*(ct for ct in cts if ct is not None), *(known[i] for i in program.saved)]
        mapped = dict(zip(program.graph.inputs, given, strict=True))
        made = renamed(program.graph.operations, mapped)
        for step in made:
            step.location = op.location
        self.build.operations += made
        for operand, at in zip(op.operands, program.gradients, strict=True):
            if at is not None:
                ct = program.graph.outputs[at]
                self.add(operand, mapped.get(ct, ct))

    def _apply(self, op: BoundOp, *operands: Value) -> Value:
        (result,) = self.build.emit(op.opdef, operands, op.attrs)
        return result


def active_values(graph: Graph, wrt: set[Value]) -> set[Value]:
    """The values that vary with the inputs asked for, as far as derivatives tell."""
    active = set(wrt)
    for op in graph.operations:
        if (op.opdef in VJP or op.opdef in MANY) and any(v in active for v in op.operands):
            active.update(filter(varies, op.results))
    return active


def _prepared(graph: Graph, wrt: Sequence[Value]) -> Graph:
    """The graph with what operations with several results have to give out for their derivatives."""
    active = active_values(graph, set(wrt)) if any(op.opdef in MANY for op in graph.operations) else set()

    def changed(op: Operation, operands: tuple[Value, ...]) -> tuple[list[Operation], list[Value]] | None:
        wanted = tuple(v in active for v in op.operands)
        if op.opdef not in MANY or not any(wanted):
            return None
        more = prepared(bind(op.opdef, op.regions, **op.attrs), tuple(v.type for v in operands), wanted)
        build = GraphBuilder()
        results = build.emit(more.op.opdef, operands, more.op.attrs, more.op.regions, op.location)
        return build.operations, [results[i] for i in more.results]

    return replaced(graph, changed)


def varies(value: Value) -> bool:
    """Whether a value can have a cotangent."""
    return value.type.dtype.kind in "fc"


def _at(values: Sequence[Value], positions: Sequence[int]) -> list[Value]:
    return [values[i] for i in positions]
