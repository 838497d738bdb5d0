"""Splitting a joint graph in two: what runs forward and saves values, what runs backward and takes them.

Saved is the set of values with the least bytes from which the backward part can be computed, repeating cheap
forward operations where that saves memory: a minimum cut between what the forward part must compute and what
the backward part reads. Source: Zheng et al. 2022 ("min-cut rematerialisation" of PyTorch's AOTAutograd, He
and Chen).
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...ir import locks, ops
from ...ir.expr import evaluate, symbols_of
from ...ir.graph import Graph, Operation, Value
from ..cse import computation
from ..dce import raising_operations
from .joint import JointGraph

if TYPE_CHECKING:
    import networkx

#: Bytes from which on a result is rather computed twice than kept from forward to backward, and how many
#: times as large as its factors a product has to be.
LARGE, OUTGROWN = 16 << 20, 4
#: What a symbolic size counts as when bytes are compared.
_TYPICAL_SIZE = 64


@dataclass(frozen=True)
class Partition:
    """forward: inputs of the forward graph; outputs of the forward graph, then the saved values; all updates.

    backward: inputs: those of the forward graph at positions `kept_inputs`, then the saved values, then the
      cotangents and partial cotangents of the joint graph; outputs: the defined gradients, in the order of
      the joint graph.
    kept_inputs: positions of inputs that the backward part reads as they are. saved: how many values the
    forward part saves.
    """

    forward: Graph
    backward: Graph
    kept_inputs: tuple[int, ...]
    saved: int


def partition(joint: JointGraph, lasting: Collection[int] | None = None) -> Partition:
    """Split a joint graph, recomputing cheap operations where that saves memory.

    lasting: positions of the inputs that the backward part may read as they are, all if not given; of another
    one, and of one that the forward part updates, it takes a copy.
    """
    order = {v: i for i, v in enumerate(_values(joint.graph))}
    inputs = joint.graph.inputs[: joint.inputs]
    changing = {x for x, _ in joint.graph.updates}
    if lasting is not None:
        changing.update(v for i, v in enumerate(inputs) if i not in lasting)
    cut = sorted(_Cut(joint, changing).saved(), key=order.__getitem__)
    kept = [i for i, v in enumerate(inputs) if v in set(cut) and v not in changing]
    saved = [v for v in cut if v not in {inputs[i] for i in kept}]
    graph = joint.graph
    forward = _forward(joint, saved)
    backward = extract(
        [*(inputs[i] for i in kept), *saved, *graph.inputs[joint.inputs :]],
        graph,
        graph.outputs[joint.outputs :],
    )
    return Partition(forward, backward, tuple(kept), len(saved))


class _Cut:
    """The flow network: each value is a pair of nodes joined by an edge as wide as the value is large.

    changing: inputs that may be other ones when the backward part runs."""

    def __init__(self, joint: JointGraph, changing: set[Value]) -> None:
        self.joint, self.graph = joint, joint.graph
        self.inputs = set(self.graph.inputs[: joint.inputs])
        self.changing = changing
        self.late = _dependents(self.graph, self.graph.inputs[joint.inputs :])
        self.early = _early(joint, self.late)

    def saved(self) -> set[Value]:
        """The values that the backward part takes from the forward part."""
        with locks.imports:
            import networkx  # here: 0.1 s that only a program with a compiled backward part needs

        network: networkx.DiGraph[object] = networkx.DiGraph()
        network.add_nodes_from(("source", "sink"))
        for value in self.inputs:
            network.add_edge("source", (value, "in"))
            network.add_edge(
                (value, "in"), (value, "out"), capacity=_cost(value) if value in self.changing else 1
            )
        for op in self.graph.operations:
            self._add(network, op)
        for value in self._read_late():
            network.add_edge((value, "out"), "sink")
        # The side of the sink is the smallest possible one: among equal cuts the one that recomputes least.
        _, (before, after) = networkx.minimum_cut(network, "source", "sink")
        return {node[0] for node in before if node[-1] == "in" and (node[0], "out") in after}

    def _add(self, network: networkx.DiGraph[object], op: Operation) -> None:
        for value in op.results:
            if value in self.late:
                continue
            network.add_edge((value, "in"), (value, "out"), capacity=_cost(value))
            if op in self.early and not _is_cheap(op) and not _outgrows(op):
                network.add_edge("source", (value, "in"))
                continue
            for operand in op.operands:
                network.add_edge((operand, "out"), (value, "in"))

    def _read_late(self) -> Iterable[Value]:
        """The values not depending on cotangents that the backward part reads or gives out."""
        for op in self.graph.operations:
            if any(v in self.late for v in op.results):
                yield from (v for v in op.operands if v not in self.late)
        yield from (v for v in self.graph.outputs[self.joint.outputs :] if v not in self.late)


def _is_cheap(op: Operation) -> bool:
    """Whether an operation may be repeated: movement and plain arithmetic, not a sum, a product of matrices,
    an elementary function or random bits."""
    arithmetic = op.opdef.elementwise and op.opdef.exact and op.opdef is not ops.philox
    return op.opdef.movement or op.opdef is ops.split or arithmetic or not op.operands


def _outgrows(op: Operation) -> bool:
    """Whether an operation may be repeated because its result is large, where smaller values lead to it: an
    elementary function, or a product of matrices that are much smaller (the scores of attention)."""
    if not op.results or _cost(op.results[0]) < LARGE:
        return False
    if op.opdef is ops.contract:
        return OUTGROWN * sum(map(_cost, op.operands)) <= _cost(op.results[0])
    return op.opdef.elementwise and op.opdef is not ops.philox


def _cost(value: Value) -> int:
    """Size in bytes; at least 1, so that a cut through nothing is not free."""
    numel = value.type.numel
    count = evaluate(numel, dict.fromkeys(symbols_of(numel), _TYPICAL_SIZE))
    return max(1, count * value.type.dtype.itemsize)


def _dependents(graph: Graph, roots: Iterable[Value]) -> set[Value]:
    """The values computed from any of the roots, these included."""
    found = set(roots)
    for op in graph.operations:
        if any(v in found for v in op.operands):
            found.update(op.results)
    return found


def _early(joint: JointGraph, late: set[Value]) -> set[Operation]:
    """The operations that the forward part needs for its own outputs, updates, checks and errors."""
    graph = joint.graph
    raising = raising_operations(graph)
    live = {*graph.outputs[: joint.outputs], *(v for _, v in graph.updates)}
    early: set[Operation] = set()
    for op in reversed(graph.operations):
        effect = (not op.opdef.pure or op in raising) and not any(v in late for v in op.operands)
        if effect or any(v in live for v in op.results):
            early.add(op)
            live.update(op.operands)
    return early


def _values(graph: Graph) -> Iterable[Value]:
    """Inputs, then results in order."""
    yield from graph.inputs
    for op in graph.operations:
        yield from op.results


def _forward(joint: JointGraph, saved: list[Value]) -> Graph:
    graph = joint.graph
    late = _dependents(graph, graph.inputs[joint.inputs :])
    early, live = _early(joint, late), set(saved)
    kept = []
    for op in reversed(graph.operations):
        if op in early or any(v in live for v in op.results):
            live.update(op.operands)
            kept.append(op)
    outputs = (*graph.outputs[: joint.outputs], *saved)
    inputs, operations = graph.inputs[: joint.inputs], tuple(reversed(kept))
    return Graph(inputs, operations, outputs, graph.updates, graph.name, graph.numerics)


def counterparts(values: Iterable[Value], graph: Graph, other: Graph) -> list[Value]:
    """For each value of a graph the value of another graph that is computed in the same way from inputs that
    both have; the value itself where there is none."""
    numbers: dict[Hashable, int] = {}
    here, there = _numbered(graph, numbers), _numbered(other, numbers)
    by_number = {number: v for v, number in reversed(there.items())}
    return [by_number.get(here[v], v) for v in values]


def _numbered(graph: Graph, numbers: dict[Hashable, int]) -> dict[Value, int]:
    """A number for each value, equal for equal computations. Source: Cooper and Torczon, value numbering."""
    found: dict[Value, int] = {v: numbers.setdefault(v, len(numbers)) for v in graph.inputs}
    for op in graph.operations:
        key = (computation(op), tuple(found[v] for v in op.operands))
        for place, v in enumerate(op.results):
            found[v] = numbers.setdefault((key, place), len(numbers))
    return found


def extract(given: list[Value], graph: Graph, outputs: tuple[Value, ...]) -> Graph:
    """The part of a graph that computes `outputs` from `given`, as a graph of its own."""
    mapped = {v: Value(v.type, v.name, v.strides) for v in given}
    live = {v for v in outputs if v not in mapped}
    needed = []
    for op in reversed(graph.operations):
        if any(v in live for v in op.results):
            needed.append(op)
            live.update(v for v in op.operands if v not in mapped)
    inputs = tuple(mapped.values())
    operations = []
    for op in reversed(needed):
        results = tuple(Value(v.type, v.name) for v in op.results)
        operands = tuple(mapped[v] for v in op.operands)
        operations.append(Operation(op.opdef, operands, op.attrs, results, op.regions, op.location))
        mapped.update(zip(op.results, results, strict=True))
    made = tuple(mapped[v] for v in outputs)
    return Graph(inputs, tuple(operations), made, (), f"{graph.name}_backward", graph.numerics)
