"""A compiled forward whose backward is called outside: one node of the tape with a compiled backward of its own.

The capture's own tape, still traced, is kept as the pattern of it: running that tape backward on placeholders for the
cotangents emits the backward part of the joint graph, in the order in which eager would add up. So detached values, grad
mode and custom functions mean what they meant to the tape. Which cotangents are defined, and which edges have received
contributions already, is part of the graph; each combination is compiled when it is first seen.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from vitrify.ir.graph import Graph, Value
from vitrify.ir.strided import StridedType, strided_type
from vitrify.passes.autodiff.joint import JointGraph
from vitrify.passes.autodiff.partition import extract, partition
from vitrify.runtime import storage as memory
from vitrify.runtime.compiler import CompiledGraph, compile_graph
from vitrify.runtime.executable import CheckFailed
from vitrify.tracer.recorder import Recorder
from vitrify.tracer.segment import PlaceholderSlot, Segment
from vitrify.tracer.traced import TracedStorage, TracedValue

from . import _dispatch
from ._autograd import FREED, Engine, written_over
from ._tape import Edge, MultiNode, Node, OutputOf, is_grad_enabled, no_grad
from ._tensor import Tensor, edge_of, track

#: Which outputs have a cotangent, and which edges have a partial one.
Pattern = tuple[tuple[bool, ...], tuple[bool, ...]]


class Region:
    """The differentiable part of a replay. outputs: the captured tensors that require grad; edges: where it ends."""

    def __init__(self, recorder: Recorder, segment: Segment, outputs: Sequence[Tensor]) -> None:
        self._recorder = recorder
        self._segment = segment
        self._outputs = list(outputs)
        self._roots = [edge for x in outputs if (edge := edge_of(x)) is not None]
        self.nodes = list(_inside(self._roots, recorder.first_node))
        self.edges = _border(self._roots, self.nodes)
        #: Of the tensors at the edges.
        self.types: dict[Edge, StridedType] = {}
        self._lock = threading.Lock()
        self._backwards: dict[Pattern, Backward] = {}
        everything = (True,) * len(outputs), (False,) * len(self.edges)
        joint = self._joint(everything)
        parts = partition(joint)
        self.forward = parts.forward
        self.kept = parts.kept_inputs
        self.saved = list(parts.forward.outputs[len(segment.results) :])
        self._backwards[everything] = Backward(parts.backward, joint.gradients)

    def attach(
        self, outputs: Sequence[Tensor], edges: tuple[Edge, ...], kept: tuple[Any, ...], saved: tuple[Any, ...]
    ) -> None:
        """Give the outputs of a replay their place in the tape: one node whose edges are `edges`."""
        call = _Call(self, kept, saved)
        node = MultiNode(edges, len(outputs), call.cotangents, "CompiledBackward", takes_partials=True)
        for i, x in enumerate(outputs):
            x._node = OutputOf(node, i)

    def backward(self, pattern: Pattern) -> Backward:
        """The backward part for these cotangents and partial cotangents."""
        with self._lock:
            found = self._backwards.get(pattern)
            if found is None:
                joint = self._joint(pattern)
                inputs = [joint.graph.inputs[i] for i in self.kept]
                given = [*inputs, *self.saved, *joint.graph.inputs[joint.inputs :]]
                graph = extract(given, joint.graph, joint.graph.outputs[joint.outputs :])
                found = self._backwards[pattern] = Backward(graph, joint.gradients)
            return found

    def executables(self) -> list[CompiledGraph]:
        """What has been compiled of it so far."""
        return [b.executable for b in self._backwards.values() if b.executable is not None]

    def kept_value(self, place: int) -> Value:
        """The graph input of a storage that the backward part reads."""
        return self._segment.graph.inputs[self.kept[place]]

    def _joint(self, pattern: Pattern) -> JointGraph:
        """Forward and backward in one graph."""
        recorder = self._recorder
        with recorder.aside(), _dispatch.recording(recorder), no_grad():
            cotangents = [self._placeholder(x) for x, given in zip(self._outputs, pattern[0], strict=True) if given]
            partials = [self._partial(e) for e, given in zip(self.edges, pattern[1], strict=True) if given]
            roots = [e for e, given in zip(self._roots, pattern[0], strict=True) if given]
            engine = Engine(list(zip(roots, (t for _, t in cotangents), strict=True)), self.edges, keep=True, stop=True)
            for (_, x), edge in zip(partials, (e for e, g in zip(self.edges, pattern[1], strict=True) if g), strict=True):
                engine.deliver(edge, x)
            engine.run(accumulate=False)
            reached = [engine.reached.get(edge) for edge in self.edges]
            traced = [recorder.operand(x._storage, x._type) for x in reached if x is not None]
            slots = [slot for slot, _ in (*cotangents, *partials)]
            graph = recorder.extended(self._segment, slots, traced)
        return _joint_graph(graph, self._segment, len(slots), [x is not None for x in reached])

    def _placeholder(self, x: Tensor) -> tuple[PlaceholderSlot, Tensor]:
        slot = self._recorder.placeholder(x._type)
        made = Tensor(slot.traced, slot.traced.type)
        track(made)
        return slot, made

    def _partial(self, edge: Edge) -> tuple[PlaceholderSlot, Tensor]:
        return self._placeholder(Tensor(None, self.types[edge]))


class Backward:
    """A backward part: compiled at its first run. gradients: per edge, the output that is its cotangent."""

    def __init__(self, graph: Graph, gradients: tuple[int | None, ...]) -> None:
        self.graph = graph
        first = min((g for g in gradients if g is not None), default=0)
        self.gradients = tuple(None if g is None else g - first for g in gradients)
        self.executable: CompiledGraph | None = None

    def run(self, inputs: Sequence[Any]) -> list[Tensor]:
        """The gradients that are defined, in order."""
        if self.executable is None:
            self.executable = compile_graph(self.graph)
        outputs = self.executable.run(inputs)
        types = [strided_type(v.type.dtype, v.type.shape) for v in self.graph.outputs]  # type: ignore[arg-type]
        return [Tensor(s, t) for s, t in zip(outputs, types, strict=True)]


class _Call:
    """One run of a region's forward part, waiting for its backward."""

    def __init__(self, region: Region, kept: tuple[Any, ...], saved: tuple[Any, ...]) -> None:
        self._region = region
        self._kept: tuple[Any, ...] | None = kept
        self._versions = tuple(map(memory.version, kept))
        self._saved = saved

    def cotangents(
        self, cotangents: Sequence[Tensor | None], keep: bool, partials: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        """The cotangents of the region's edges, with what they had received before."""
        if self._kept is None:
            raise RuntimeError(FREED)
        self._check_versions(self._kept)
        if is_grad_enabled():
            raise RuntimeError(
                "a compiled region can't be differentiated twice: call the function without vitrify.compile, or take both "
                "derivatives inside of the compiled function"
            )
        pattern = tuple(x is not None for x in cotangents), tuple(x is not None for x in partials)
        backward = self._region.backward(pattern)
        given = [_row_major(x) for x in (*cotangents, *partials) if x is not None]
        try:
            found = backward.run([*self._kept, *self._saved, *(x._storage for x in given)])
        except CheckFailed as failed:
            raise RuntimeError(str(failed)) from None
        if not keep:
            self._kept, self._saved = None, ()
        return [None if g is None else found[g] for g in backward.gradients]

    def _check_versions(self, kept: tuple[Any, ...]) -> None:
        for place, (storage, then) in enumerate(zip(kept, self._versions, strict=True)):
            if (now := memory.version(storage)) != then:
                type = self._region.kept_value(place).type
                seen = Tensor(storage, strided_type(type.dtype, type.shape))  # type: ignore[arg-type]
                raise RuntimeError(written_over(seen, None, now, then))


def _row_major(x: Tensor) -> Tensor:
    if x._type.is_contiguous:
        return x
    from vitrify.ir import ops

    return _dispatch.build(ops.cast, x, dtype=x.dtype)


def _joint_graph(graph: Graph, segment: Segment, placeholders: int, reached: list[bool]) -> JointGraph:
    outputs = len(segment.results)
    places = iter(range(outputs, outputs + sum(reached)))
    gradients = tuple(next(places) if r else None for r in reached)
    inputs = len(graph.inputs) - placeholders
    return JointGraph(graph, inputs, outputs, tuple(range(placeholders)), (), gradients)


def _successors(edge: Edge) -> list[Edge | None]:
    return [edge.source] if isinstance(edge, OutputOf) else list(getattr(edge, "edges", ()))


def _inside(roots: Sequence[Edge], first: int) -> Iterator[Edge]:
    """The places in the tape that were made during the capture, and lead to the roots."""
    seen: set[Edge] = set()
    stack = list(roots)
    while stack:
        edge = stack.pop()
        if edge in seen or edge.number <= first:
            continue
        seen.add(edge)
        yield edge
        stack += [e for e in _successors(edge) if e is not None]


def _border(roots: Sequence[Edge], nodes: Sequence[Edge]) -> list[Edge]:
    """The places in the tape before the capture that its nodes pass cotangents to."""
    inside = set(nodes)
    ends = [e for e in roots if e not in inside]
    ends += [e for node in nodes for e in _successors(node) if e is not None and e not in inside]
    return list(dict.fromkeys(ends))


def storages_saved(roots: Sequence[Edge], first: int) -> set[TracedStorage]:
    """The traced storages that the tape made since holds for its backward."""
    saved: list[Any] = []
    for edge in _inside(roots, first):
        if isinstance(edge, Node):
            saved += edge.saved or ()
        elif isinstance(edge, MultiNode) and edge.context is not None:
            saved += _tensors_of(edge.context)
    return {x._storage.storage for x in saved if isinstance(x._storage, TracedValue)}


def _tensors_of(context: Any) -> list[Tensor]:
    """What a `Function` has kept for its backward."""
    kept = (*(entry[0] for entry in context._saved_as or ()), *vars(context).values())
    return [x for x in kept if isinstance(x, Tensor)]


def freed(roots: Sequence[Edge], first: int) -> bool:
    """Whether a backward has freed what a backward from these places would need."""
    return any(isinstance(e, Node) and e.saved is None and e.versions for e in _inside(roots, first))


def attach_freed(x: Tensor) -> None:
    """Make a tensor require grad as one whose tape was freed does."""

    def raise_freed(*_: Any) -> Any:
        raise RuntimeError(FREED)

    x._node = OutputOf(MultiNode((), 1, raise_freed, "CompiledBackward"), 0)
