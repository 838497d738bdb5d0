"""A compiled forward whose backward is called outside: one node of the tape with a compiled backward of its
own.

The capture's own tape, still traced, is kept as the pattern of it: running that tape backward on placeholders
for the cotangents emits the backward part of the joint graph, in the order in which eager would add up. So
detached values, grad mode and custom functions mean what they meant to the tape. Which cotangents are
defined, and which edges have received contributions already, is part of the graph; each combination is
compiled when it is first seen.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from vitrify.ir import locks
from vitrify.ir.graph import Graph
from vitrify.ir.strided import StridedType, strided_type
from vitrify.passes.autodiff.joint import JointGraph
from vitrify.passes.autodiff.partition import counterparts, extract, partition
from vitrify.passes.cse import eliminate_common_subexpressions
from vitrify.runtime import storage as memory
from vitrify.runtime.compiler import CompiledGraph, compile_graph
from vitrify.runtime.executable import CheckFailed
from vitrify.tracer.recorder import Recorder
from vitrify.tracer.segment import PlaceholderSlot, Segment
from vitrify.tracer.traced import TracedStorage, TracedValue

from . import _dispatch
from ._autograd import FREED, Engine, hold, written_over
from ._tape import (
    Edge,
    MultiNode,
    Node,
    OutputOf,
    RemovableHandle,
    ends_of,
    is_grad_enabled,
    made_since,
    next_number,
    no_grad,
)  # fmt: skip
from ._tensor import Tensor, edge_of, track, version_of

#: Which outputs have a cotangent, and which edges have a partial one.
Pattern = tuple[tuple[bool, ...], tuple[bool, ...]]


class Region:
    """The differentiable part of a replay. outputs: the captured tensors that require grad; edges: where it
    ends."""

    def __init__(
        self, recorder: Recorder, segment: Segment, outputs: Sequence[Tensor], label: str | None = None,
        lasting: set[int] | None = None,
    ) -> None:  # fmt: skip
        """label: the name of its nodes. lasting: the inputs that its backward may read as they are, because
        nobody changes them; if not given, those that the tape of the ops holds."""
        self.label = label or "CompiledBackward"
        self._recorder = recorder
        self._segment = segment
        self._outputs = list(outputs)
        self.roots = [edge for x in outputs if (edge := edge_of(x)) is not None]
        self.nodes = sorted(made_since(self.roots, recorder.first_node), key=lambda edge: edge.number)
        self.edges = ends_of(self.roots, self.nodes)
        #: Of the tensors at the edges.
        self.types: list[StridedType] = []
        self._lock = locks.lock()
        self._backwards: dict[Pattern, Backward] = {}
        self._values: CompiledGraph | None = None
        everything = (True,) * len(outputs), (False,) * len(self.edges)
        joint = self._joint(everything)
        self._whole = joint.graph
        parts = partition(joint, self._lasting() if lasting is None else lasting)
        self.forward = parts.forward
        self.kept = parts.kept_inputs
        self.saved = list(parts.forward.outputs[len(segment.results) :])
        self._backwards[everything] = Backward(parts.backward, joint.gradients)

    def settle(self, types: list[StridedType]) -> None:
        """Once the replay is built: let go of the tensors and the tape outside that the capture was made
        with."""
        self.types = types
        stand_ins = {edge: Edge(edge.number) for edge in self.edges}
        self.edges = [stand_ins[edge] for edge in self.edges]
        self.roots = [stand_ins.get(edge, edge) for edge in self.roots]
        for node in self.nodes:
            if isinstance(node, Node | MultiNode):
                node.edges = tuple(stand_ins.get(e, e) if e is not None else None for e in node.edges)
            _replace_kept(node, self._traced, stand_ins)
        self._outputs = [self._traced(x) for x in self._outputs]
        self._recorder.disown(self._segment)

    def _traced(self, x: Tensor) -> Tensor:
        """A tensor of the capture without its ties to tensors outside."""
        return Tensor(self._recorder.operand(x._storage, x._type), x._type)

    def attach(
        self,
        outputs: tuple[Tensor, ...],
        edges: tuple[Edge, ...],
        inputs: tuple[Any, ...],
        saved: tuple[Any, ...],
        held: tuple[Tensor, ...] | None,
    ) -> None:
        """Give the outputs of a replay their place in the tape: one node whose edges are `edges`. held: see
        `hold`."""
        node = Call(self, len(outputs), edges, inputs, saved)
        if held is not None:
            hold(node, held)
        if len(outputs) == 1:
            outputs[0]._node = OutputOf(node, 0)
            return
        for i, x in enumerate(outputs):
            x._node = OutputOf(node, i)

    def prototypes(self, outputs: int) -> tuple[Call, list[OutputOf]]:
        """A node as `attach` makes it, and the places of its outputs, but for what differs between calls."""
        node = Call(self, outputs, (), (), ())
        return node, [OutputOf(node, i) for i in range(outputs)]

    def backward(self, pattern: Pattern) -> Backward:
        """The backward part for these cotangents and partial cotangents."""
        with self._lock:
            found = self._backwards.get(pattern)
            if found is None:
                joint = self._joint(pattern)
                inputs = [joint.graph.inputs[i] for i in self.kept]
                saved = counterparts(self.saved, self._whole, joint.graph)
                given = [*inputs, *saved, *joint.graph.inputs[joint.inputs :]]
                graph = extract(given, joint.graph, joint.graph.outputs[joint.outputs :])
                found = self._backwards[pattern] = Backward(graph, joint.gradients)
            return found

    def executables(self) -> list[CompiledGraph]:
        """What has been compiled of it so far."""
        return [b.executable for b in self._backwards.values() if b.executable is not None]

    def input_type(self, place: int) -> StridedType:
        """The type of an input of the forward graph."""
        type = self._segment.graph.inputs[place].type
        return strided_type(type.dtype, type.shape)  # type: ignore[arg-type]

    def concrete_tape(self, call: Call) -> dict[Edge, Edge]:
        """The tape of the region for one call, as eager would have recorded it: new nodes for the traced
        ones.

        What the nodes saved is computed again from the inputs. Raises RuntimeError if those were changed
        since.
        """
        assert call.inputs is not None
        if self._segment.updated or any(
            isinstance(node, MultiNode) and node.context is None for node in self.nodes
        ):
            raise RuntimeError(
                "a compiled function that changes tensors in place can't be differentiated twice from "
                "outside: take both derivatives inside of it, or don't compile it"
            )
        call.check_versions(range(len(call.inputs)))
        saved = [x for node in self.nodes for x in _kept_by(node)]
        with self._lock:
            if self._values is None:
                self._values = compile_graph(self._graph_of(saved))
        storages = iter(self._values.run(call.inputs))
        sources = zip(self.edges, call.edges, strict=True)
        tape: dict[Edge, Edge] = {edge: source for edge, source in sources if source is not None}
        for node in self.nodes:
            kept = tuple(Tensor(next(storages), _dense(x._type)) for x in _kept_by(node))
            if isinstance(node, Node):
                edges = tuple(None if e is None else tape[e] for e in node.edges)
                versions = tuple(map(version_of, kept))
                tape[node] = Node(node.recorded, edges, kept, versions)
            elif isinstance(node, MultiNode):
                self._concrete_function(node, kept, tape)
        return tape

    def _concrete_function(self, node: MultiNode, kept: Sequence[Tensor], tape: dict[Edge, Edge]) -> None:
        """A new node, with its outputs, for a traced one of a `Function`. kept: what `_kept_by` gives, as it
        is in this call."""
        context: Any = copy.copy(node.context)
        values = iter(kept)
        saved = [(None if x is None else next(values), edge) for x, _, edge in context._saved_as or ()]
        for name, value in vars(context).items():
            if isinstance(value, Tensor):
                setattr(context, name, next(values))
        made = context._node(context, tuple(None if e is None else tape[e] for e in node.edges))
        tape[node] = made
        outputs = [*self.nodes, *(edge for _, edge in saved)]  # one may be saved that leads to no root
        for output in outputs:
            if isinstance(output, OutputOf) and output.source is node and output not in tape:
                tape[output] = OutputOf(made, output.index)
        context._saved_as = [
            (x, 0 if x is None else version_of(x), None if edge is None else tape[edge]) for x, edge in saved
        ]

    def _graph_of(self, tensors: Sequence[Tensor]) -> Graph:
        """The forward graph with these tensors of its tape as outputs."""
        recorder = self._recorder
        with recorder.aside(), _dispatch.recording(recorder):
            traced = [recorder.operand(x._storage, x._type) for x in tensors]
            graph = recorder.extended(self._segment, (), traced)
        outputs = graph.outputs[len(self._segment.results) :]
        name = f"{graph.name}_values"
        return Graph(graph.inputs, graph.operations, outputs, (), name, graph.numerics)

    def _lasting(self) -> set[int] | None:
        """The inputs that the tape of the ops holds, which so must not be changed before a backward; None if
        all may be read then. Of any other the user may do what he likes with."""
        if any(isinstance(n, MultiNode) and n.context is None for n in self.nodes):
            return None
        graph = self._graph_of([x for node in self.nodes for x in _kept_by(node)])
        held = set(graph.outputs)
        for op in reversed(graph.operations):
            if op.opdef.movement and op.opdef.arity == 1 and op.result in held:
                held.update(op.operands)
        return {i for i, value in enumerate(graph.inputs) if value in held}

    def _joint(self, pattern: Pattern) -> JointGraph:
        """Forward and backward in one graph."""
        recorder = self._recorder
        with recorder.aside(), _dispatch.recording(recorder), no_grad():
            cotangents = [
                self._placeholder(x) for x, given in zip(self._outputs, pattern[0], strict=True) if given
            ]
            partials = [self._partial(e) for e, given in zip(self.edges, pattern[1], strict=True) if given]
            roots = [e for e, given in zip(self.roots, pattern[0], strict=True) if given]
            engine = Engine(
                list(zip(roots, (t for _, t in cotangents), strict=True)), self.edges, keep=True, stop=True
            )
            for (_, x), edge in zip(
                partials, (e for e, g in zip(self.edges, pattern[1], strict=True) if g), strict=True
            ):
                engine.deliver(edge, x)
            engine.run(accumulate=False)
            reached = [engine.reached.get(edge) for edge in self.edges]
            traced = [recorder.operand(x._storage, x._type) for x in reached if x is not None]
            slots = [slot for slot, _ in (*cotangents, *partials)]
            graph = recorder.extended(self._segment, slots, traced)
        # One value for each computation, so that values of two joint graphs correspond one to one.
        graph = eliminate_common_subexpressions(graph)
        return _joint_graph(graph, self._segment, len(slots), [x is not None for x in reached])

    def _placeholder(self, x: Tensor) -> tuple[PlaceholderSlot, Tensor]:
        slot = self._recorder.placeholder(x._type)
        made = Tensor(slot.traced, slot.traced.type)
        track(made)
        return slot, made

    def _partial(self, edge: Edge) -> tuple[PlaceholderSlot, Tensor]:
        return self._placeholder(Tensor(None, self.types[self.edges.index(edge)]))


class Backward:
    """A backward part: compiled at its first run. gradients: per edge, the output that is its cotangent."""

    def __init__(self, graph: Graph, gradients: tuple[int | None, ...]) -> None:
        self.graph = graph
        first = min((g for g in gradients if g is not None), default=0)
        self.gradients = tuple(None if g is None else g - first for g in gradients)
        self.executable: CompiledGraph | None = None
        results: list[Any] = [v.type for v in graph.outputs]
        self._types = [strided_type(t.dtype, t.shape) for t in results]

    def run(self, inputs: Sequence[Any]) -> list[Tensor]:
        """The gradients that are defined, in order."""
        if self.executable is None:
            self.executable = compile_graph(self.graph)
        outputs = self.executable.run(inputs)
        return [Tensor(s, t) for s, t in zip(outputs, self._types, strict=True)]


_NONE: Final[frozenset[int]] = frozenset()


class Call(MultiNode):
    """One run of a region's forward part, waiting for its backward: a node of the tape.

    inputs: of the forward graph, with the versions then. values: what the forward part computed for the
    backward. done: outputs that a backward has started from without keeping the graph.
    """

    __slots__ = ("region", "inputs", "_input_versions", "_values", "_done")

    def __init__(
        self, region: Region, outputs: int, edges: tuple[Edge, ...], inputs: tuple[Any, ...],
        values: tuple[Any, ...],
    ) -> None:  # fmt: skip
        # What `MultiNode` sets, spelled out: this is what a taped call waits for.
        self.number = next_number()
        self.hooks = self.retained = self.context = self.saved = None
        self.edges = edges
        self.outputs = outputs
        self.label = region.label
        self.takes_partials = True
        self.versions = ()
        self.region = region
        self.inputs: tuple[Any, ...] | None = inputs
        self._input_versions = tuple(map(memory.version, inputs))
        self._values = values
        self._done = _NONE

    def cotangents(
        self, cotangents: Sequence[Tensor | None], keep: bool, partials: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        """The cotangents of the region's edges, with what they had received before."""
        started = {i for i, x in enumerate(cotangents) if x is not None}
        if self.inputs is None or started & self._done:
            raise RuntimeError(FREED)
        if is_grad_enabled():
            return differentiable_cotangents(self, cotangents, partials)
        self.check_versions(self.region.kept)
        pattern = tuple(x is not None for x in cotangents), tuple(x is not None for x in partials)
        backward = self.region.backward(pattern)
        given = [_row_major(x) for x in (*cotangents, *partials) if x is not None]
        kept = [self.inputs[i] for i in self.region.kept]
        try:
            found = backward.run([*kept, *self._values, *(x._storage for x in given)])
        except CheckFailed as failed:
            raise RuntimeError(str(failed)) from None
        if not keep:
            self._done |= started
            if len(self._done) == len(cotangents):
                self.inputs, self._values = None, ()
        return [None if g is None else found[g] for g in backward.gradients]

    def check_versions(self, places: Iterable[int]) -> None:
        """Raises RuntimeError, as eager does, if one of these inputs was changed in place since."""
        assert self.inputs is not None
        for place in places:
            storage, then = self.inputs[place], self._input_versions[place]
            if (now := memory.version(storage)) != then:
                type = self.region.input_type(place)
                raise RuntimeError(written_over(Tensor(storage, type), None, now, then))


def differentiable_cotangents(
    call: Call, cotangents: Sequence[Tensor | None], partials: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The cotangents of a region's edges, recorded on the tape (create_graph): the region's own tape is made
    concrete for this call, and run backward eagerly."""
    region = call.region
    tape = region.concrete_tape(call)
    roots = [(tape[e], ct) for e, ct in zip(region.roots, cotangents, strict=True) if ct is not None]
    edges = [tape[e] for e in region.edges]
    engine = Engine(roots, edges, keep=True, stop=True)
    for edge, partial in zip(edges, partials, strict=True):
        if partial is not None:
            engine.deliver(edge, partial)
    engine.run(accumulate=False)
    return [engine.reached.get(edge) for edge in edges]


def _dense(type: StridedType) -> StridedType:
    return strided_type(type.dtype, type.shape)


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


def storages_saved(roots: Sequence[Edge], first: int) -> set[TracedStorage]:
    """The traced storages that the tape made since holds for its backward."""
    saved = [x for edge in made_since(roots, first) for x in _kept_by(edge)]
    return {x._storage.storage for x in saved if isinstance(x._storage, TracedValue)}


def _replace_kept(edge: Edge, new: Callable[[Tensor], Tensor], edges: Mapping[Edge, Edge]) -> None:
    """Let a node keep other tensors for its backward, and refer to other edges."""
    if isinstance(edge, Node) and edge.saved is not None:
        edge.saved = tuple(map(new, edge.saved))
    elif isinstance(edge, MultiNode) and edge.context is not None:
        context: Any = edge.context
        context._saved_as = [
            (None if x is None else new(x), version, None if then is None else edges.get(then, then))
            for x, version, then in context._saved_as or ()
        ]
        for name, value in vars(context).items():
            if isinstance(value, Tensor):
                setattr(context, name, new(value))


def _kept_by(edge: Edge) -> list[Tensor]:
    """The tensors that a node keeps for its backward."""
    if isinstance(edge, Node):
        return list(edge.saved or ())
    if not isinstance(edge, MultiNode) or edge.context is None:
        return []
    context: Any = edge.context
    kept = (*(entry[0] for entry in context._saved_as or ()), *vars(context).values())
    return [x for x in kept if isinstance(x, Tensor)]


def freed(roots: Sequence[Edge], first: int) -> bool:
    """Whether a backward has freed what a backward from these places would need."""
    return any(map(_is_freed, made_since(roots, first)))


def _is_freed(edge: Edge) -> bool:
    if isinstance(edge, Node):
        return edge.saved is None and bool(edge.versions)
    context: Any = edge.context if isinstance(edge, MultiNode) else None
    return context is not None and context._saved_as is None


def _raise_freed(*_: Any) -> Any:
    raise RuntimeError(FREED)


class FreedEdge(OutputOf):
    """The place in the tape of all results whose tape was freed: a backward from there raises."""

    __slots__ = ()

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Nothing: no cotangent will come."""
        return RemovableHandle({}, hook)  # there will be no cotangent


FREED_EDGE = FreedEdge(MultiNode((), 1, _raise_freed, "CompiledBackward"), 0)
