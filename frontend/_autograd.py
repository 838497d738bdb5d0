"""The backward: cotangents travel the tape in descending order of recording.

Contributions to one cotangent are added in that order, the first one unchanged, so a backward is one definite
sequence of ops; with `create_graph` it is recorded like any other. An undefined cotangent is None, never a
tensor of zeros.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from vitrify.ir import ops
from vitrify.ir.opdef import BoundOp, bind
from vitrify.ir.strided import StridedType
from vitrify.runtime import storage as memory
from vitrify.tracer.recorder import active

from . import _dispatch
from ._dispatch import apply, assign, build, is_shared
from ._promotion import as_operand
from ._tape import (
    Edge,
    Leaf,
    MultiNode,
    Node,
    OutputOf,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
    set_recording,
)  # fmt: skip
from ._tape import (
    enable_grad as enable_grad,
)
from ._tensor import Tensor, alias, edge_of, version_of

FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have "
    "already "
    "been freed). Saved intermediate values of the graph are freed when you call .backward() or "
    "autograd.grad(). "
    "Specify retain_graph=True if you need to backward through the graph a second time or if you need to "
    "access "
    "saved tensors after calling backward."
)


def backward(
    tensors: Tensor | Sequence[Tensor], grad_tensors: Any = None, retain_graph: bool | None = None,
    create_graph: bool = False, grad_variables: Any = None, inputs: Any = None,
) -> None:  # fmt: skip
    """Add the gradients of `tensors` to the `grad` of the leaves they were computed from (or of `inputs`).

    grad_tensors: cotangents, one per tensor; may be left out for a scalar. Raises RuntimeError for a tensor
    that has no history, or is no scalar and has no cotangent, or whose tape was freed or written over.
    """
    roots = _roots(_listed(tensors), _listed(grad_tensors), create_graph)
    wanted = None
    if inputs is not None:
        inputs = _listed(inputs)
        if not inputs:
            raise RuntimeError("'inputs' argument to backward() cannot be empty.")
        wanted = [_edge_of_input(x) for x in inputs]
    keep = create_graph if retain_graph is None else bool(retain_graph)
    engine = Engine(roots, wanted, keep, plain=wanted is None and not create_graph)
    before = is_grad_enabled()
    try:
        set_recording(create_graph)
        engine.run(accumulate=True)
        for x in inputs or ():
            if not x.is_leaf and (ct := engine.reached.get(edge_of(x))) is not None:  # type: ignore[arg-type]
                x._grad = ct if x._grad is None else apply(_ADD, x._grad, ct)
    finally:
        set_recording(before)


def grad(
    outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor], grad_outputs: Any = None,
    retain_graph: bool | None = None, create_graph: bool = False, only_inputs: bool = True,
    allow_unused: bool | None = None, is_grads_batched: bool = False, materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The gradients of `outputs` with respect to `inputs`, without touching any `grad`.

    >>> x = vitrify.tensor(3.0, requires_grad=True)
    >>> vitrify.autograd.grad(x * x, x)
    (tensor(6.),)
    """
    inputs = _listed(inputs)
    wanted = [_edge_of_input(x) for x in inputs]
    roots = _roots(_listed(outputs), _listed(grad_outputs), create_graph)
    engine = Engine(roots, wanted, keep=create_graph if retain_graph is None else retain_graph)
    with set_grad_enabled(create_graph):
        engine.run(accumulate=False)
    found = tuple(engine.reached.get(edge) for edge in wanted)
    if materialize_grads:
        return tuple(_zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True))
    if not allow_unused and None in [g if g is None else 0 for g in found]:
        raise RuntimeError(
            "One of the differentiated Tensors appears to not have been used in the graph. Set "
            "allow_unused=True if "
            "this is the desired behavior."
        )
    return found


_ADD = _dispatch.bind(ops.add)


def _listed(items: Any) -> list[Any]:
    if items is None:
        return []
    return [items] if isinstance(items, Tensor) else list(items)


def _edge_of_input(x: Tensor) -> Edge:
    edge = edge_of(x)
    if edge is None:
        raise RuntimeError("One of the differentiated Tensors does not require grad")
    return edge


def _roots(
    tensors: list[Tensor], cotangents: list[Tensor | None], create_graph: bool
) -> list[tuple[Edge, Tensor]]:
    given = cotangents or [None] * len(tensors)
    if len(given) != len(tensors):
        raise RuntimeError(f"got {len(tensors)} tensors and {len(given)} gradients")
    roots = []
    for i, (x, ct) in enumerate(zip(tensors, given, strict=True)):
        edge = edge_of(x)
        if edge is None:
            raise RuntimeError(f"element {i} of tensors does not require grad and does not have a grad_fn")
        roots.append((edge, _first_cotangent(i, x, ct, create_graph)))
    return roots


def _first_cotangent(i: int, x: Tensor, ct: Tensor | None, create_graph: bool) -> Tensor:
    if ct is None:
        if x._type.numel != 1:
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
        return _ones(x._type)
    if ct._type.shape != x._type.shape:
        raise RuntimeError(
            f"Mismatch in shape: grad_output[{i}] has a shape of {ct.shape} and output[{i}] has a shape of "
            f"{x.shape}."
        )
    if ct.dtype is not x.dtype:
        with set_grad_enabled(create_graph):
            return build(ops.cast, ct, dtype=x.dtype)
    return ct


#: Constants of ones by type, and the op that copies one.
_ONES: dict[StridedType, tuple[BoundOp, Tensor]] = {}


def _ones(type: StridedType) -> Tensor:
    """A new tensor of ones."""
    found = None if _dispatch.captures else _ONES.get(type)
    if found is None:
        found = bind(ops.cast, dtype=type.dtype), _dispatch.full(1, type.dtype, type.shape)
        if not _dispatch.captures:
            if len(_ONES) >= _dispatch.MOST_ENTRIES:
                _ONES.clear()
            _ONES[type] = found
    return apply(*found)


def _zeros_like(x: Tensor) -> Tensor:
    with no_grad():
        return build(ops.cast, _dispatch.full(0, x.dtype, x._type.shape), dtype=x.dtype)


class Engine:
    """One backward. reached: the complete cotangents of the wanted edges.

    A pending cotangent is *owned* if nobody outside the engine can hold its storage: then a leaf keeps it as
    its grad without a copy. Whether it is follows from the rules that made it, so it is the same when traced.
    """

    def __init__(
        self, roots: list[tuple[Edge, Tensor]], wanted: list[Edge] | None, keep: bool, stop: bool = False,
        plain: bool = False,
    ) -> None:  # fmt: skip
        """stop: do not go on, nor call hooks, at wanted edges. plain: all that is asked for is to add to the
        `grad` of the leaves, without recording: native code may do that."""
        self.keep = keep
        self.reached: dict[Edge, Tensor] = {}
        self._wanted = frozenset(wanted or ())
        self._stop = self._wanted if stop else frozenset()
        self._needed = None if wanted is None else _leading_to(self._wanted, [edge for edge, _ in roots])
        native = plain and _dispatch.native is not None and not _dispatch.captures
        self._queue: Queue | NativeQueue = NativeQueue() if native else Queue()
        #: For nodes with several outputs, the cotangents of these.
        self._by_output: dict[Edge, list[Tensor | None]] = {}
        for edge, ct in roots:
            self.deliver(edge, ct, owned=False)

    def run(self, accumulate: bool) -> None:
        """Walk the tape. accumulate: add to the `grad` of the leaves that are reached."""
        recorder = active()
        plain = not self._wanted
        while (found := self._queue.next(self.keep)) is not None:
            edge, ct, owned = found
            if edge in self._stop:
                self.reached[edge] = ct
                continue
            if recorder is not None and 0 < edge.number <= recorder.first_node:
                recorder.block("backward goes through what was computed before the compiled call")
            kind = edge.__class__
            if kind is not Node and isinstance(edge, MultiNode):
                self._through_multi(edge)
                continue
            if not plain or edge.hooks or edge.retained is not None:
                ct, owned = self._seen(edge, ct, owned)
            if self._needed is not None and kind is not Leaf and self._needed.isdisjoint(_successors(edge)):
                continue  # it was asked for itself, and what leads to it keeps what it saved
            if kind is Node:
                self._through_node(edge, ct, owned)
            elif isinstance(edge, OutputOf):
                self._to_source(edge, ct)
            elif accumulate:
                _accumulate(edge, ct, owned)

    def deliver(self, edge: Edge, ct: Tensor, owned: bool = False) -> None:
        """Add a contribution to an edge's cotangent."""
        if self._needed is None or edge in self._needed:
            self._queue.add(edge, ct, owned and not is_shared(ct))

    def _seen(self, edge: Edge, ct: Tensor, owned: bool) -> tuple[Tensor, bool]:
        """A complete cotangent, after hooks and what is asked for have seen it."""
        ct = _writable(ct)
        for hook in list((edge.hooks or {}).values()):
            owned = False
            result = hook(ct)
            ct = ct if result is None else result
        kept = None if edge.retained is None else edge.retained()
        if kept is not None:
            kept._grad = alias(ct, ct._node) if kept._grad is None else apply(_ADD, kept._grad, ct)
            owned = False
        if edge in self._wanted:
            self.reached[edge] = ct
            owned = False
        return ct, owned

    def _through_node(self, node: Node, ct: Tensor, owned: bool) -> None:
        values = _unpacked(node, ct)
        if node.recorded.native is None and _dispatch.native is not None and not _dispatch.captures:
            node.recorded.native = bool(node.recorded.types) and _dispatch.native_form(node.recorded)
        program = node.recorded.program
        for op, places in program.calls:
            if len(places) == 2:
                values.append(apply(op, values[places[0]], values[places[1]]))
            elif places:
                values.append(apply(op, *[values[i] for i in places]))
            else:
                values.append(_dispatch.given(op))
        if not self.keep:
            node.saved = None
        first = 2 + len(node.edges)
        for at, _ in program.passed:
            if at > 0 and values[at]._view is not None:
                self._pass_views(node, values, owned)
                return
        for edge, (at, alone) in zip(node.edges, program.passed, strict=True):
            if edge is not None and at >= 0:
                self.deliver(edge, values[at], alone and (at >= first or at == 0 and owned))

    def _pass_views(self, node: Node, values: list[Any], owned: bool) -> None:
        """What a node passes on if some of that is a view: owned if nobody else can hold what it shows."""
        first = 2 + len(node.edges)
        held = {id(_root(x)) for x in values[1:first] if x is not None}
        made = [None if at is None else values[at] for at in node.recorded.program.cotangents]
        roots = [None if g is None else _root(g) for g in made]
        ct = _root(values[0])
        for edge, g, root in zip(node.edges, made, roots, strict=True):
            if edge is not None and g is not None:
                shared = id(root) in held or sum(r is root for r in roots) > 1
                self.deliver(edge, g, not shared and (owned or root is not ct))

    def _to_source(self, edge: OutputOf, ct: Tensor) -> None:
        source = edge.source
        if source not in self._by_output:
            self._by_output[source] = [None] * source.outputs
            self._queue.put(source, None)
        self._by_output[source][edge.index] = _writable(ct)

    def _through_multi(self, node: MultiNode) -> None:
        cotangents = self._by_output.pop(node)
        keep = self.keep or node.saved == ()
        _check_versions(node)
        if not keep:
            node.saved, node.versions = None, ()
        if not node.takes_partials:
            for edge, ct in zip(node.edges, node.cotangents(cotangents, keep), strict=True):
                if edge is not None and ct is not None:
                    self.deliver(edge, ct, owned=False)
            return
        partials = [None if e is None else self._queue.at(e) for e in node.edges]
        for edge, ct in zip(node.edges, node.cotangents(cotangents, keep, partials), strict=True):
            if edge is not None and ct is not None and (self._needed is None or edge in self._needed):
                self._queue.put(edge, ct)


class Queue:
    """Cotangents that wait at edges, with whether they are owned, to be taken in descending order of the
    edges' numbers."""

    def __init__(self) -> None:
        self._waiting: dict[Edge, tuple[Any, bool]] = {}
        self._heap: list[tuple[int, Edge]] = []

    def add(self, edge: Edge, ct: Tensor, owned: bool) -> None:
        """Add to what waits at an edge."""
        before = self._waiting.get(edge)
        if before is None:
            self.put(edge, ct, owned)
        else:
            self._waiting[edge] = apply(_ADD, before[0], ct), True

    def put(self, edge: Edge, ct: Tensor | None, owned: bool = False) -> None:
        """Let this wait at an edge, in place of what did. None: the edge's turn is waited for."""
        if edge not in self._waiting:
            heapq.heappush(self._heap, (-edge.number, edge))
        self._waiting[edge] = ct, owned

    def at(self, edge: Edge) -> Tensor | None:
        """What waits at an edge."""
        return self._waiting.get(edge, (None, False))[0]

    def next(self, keep: bool) -> tuple[Any, Any, bool] | None:
        """Take out the edge with the greatest number: (edge, cotangent, whether it is owned)."""
        if not self._heap:
            return None
        edge = heapq.heappop(self._heap)[1]
        return edge, *self._waiting.pop(edge)


class NativeQueue:
    """A `Queue` that passes through plain nodes and leaves by itself: `next` gives only those edges that have
    hooks, or whose node native code can't run."""

    def __init__(self) -> None:
        native = _dispatch.native
        self._queue = native.queue_new()
        self._deliver, self._at, self._run = native.queue_deliver, native.queue_at, native.queue_run

    def add(self, edge: Edge, ct: Tensor, owned: bool) -> None:
        self._deliver(self._queue, edge, ct, owned, True)

    def put(self, edge: Edge, ct: Tensor | None, owned: bool = False) -> None:
        self._deliver(self._queue, edge, ct, owned, False)

    def at(self, edge: Edge) -> Tensor | None:
        found: Tensor | None = self._at(self._queue, edge)
        return found

    def next(self, keep: bool) -> tuple[Any, Any, bool] | None:
        found: tuple[Any, Any, bool] | None = self._run(self._queue, keep)
        return found


def _writable(ct: Tensor) -> Tensor:
    """A cotangent for the user, who may write to it: a derivative may be a constant, that of floor, say."""
    return build(ops.cast, ct, dtype=ct.dtype) if is_shared(ct) else ct


def _root(x: Tensor) -> Tensor:
    return x if x._view is None else x._view[0]


def _leading_to(wanted: frozenset[Edge], roots: list[Edge]) -> set[Edge]:
    """The edges from which a wanted one is reached. An edge's number is above those of all that it
    leads to."""
    seen, stack = set(roots), list(roots)
    while stack:
        for edge in _successors(stack.pop()):
            if edge not in seen:
                seen.add(edge)
                stack.append(edge)
    found: set[Edge] = set()
    for edge in sorted(seen, key=lambda e: e.number):
        if edge in wanted or any(e in found for e in _successors(edge)):
            found.add(edge)
    return found


def _successors(edge: Edge) -> list[Edge]:
    if isinstance(edge, OutputOf):
        return [edge.source]
    return [e for e in getattr(edge, "edges", ()) if e is not None]


def _unpacked(node: Node, ct: Tensor) -> list[Any]:
    """[ct, result, *operands], as far as the derivative reads them."""
    count = len(node.edges)
    values: list[Any] = [ct, *[None] * (count + 1)]
    if node.saved is None:
        if node.recorded.kept:
            raise RuntimeError(FREED)
        return values
    tracing = _dispatch.captures
    for place, item, then in zip(node.recorded.kept, node.saved, node.versions, strict=True):
        edge = node if place == count else node.edges[place]
        x = item if isinstance(item, Tensor) else _as_tensor(item, node.recorded.types[place])
        now = version_of(x) if tracing else memory.version(x._storage)
        if now != then:
            raise RuntimeError(written_over(x, edge, now, then))
        values[1 if place == count else 2 + place] = x if x._node is edge else alias(x, edge)
    return values


def _as_tensor(item: Any, type: StridedType) -> Tensor:
    """What native code let a node keep: a storage or a number, read as a type."""
    if item.__class__ in (int, float):
        return as_operand(item, type.dtype, type.shape)
    return Tensor(item, type)


def hold(node: MultiNode, tensors: tuple[Tensor, ...]) -> None:
    """Have a composite's node keep what its derivative reads, to which nobody may write before that."""
    for x in tensors:
        if x._view is not None:  # it knows its base, whose node may come to be a later one
            tensors = tuple([x if x._view is None else alias(x, x._node) for x in tensors])
            break
    node.saved = tensors
    node.versions = tuple([memory.version(x._storage) for x in tensors])


def _check_versions(node: MultiNode) -> None:
    """Raises RuntimeError if something that the node saved was changed in place since."""
    for x, then in zip(node.saved or (), node.versions, strict=True):
        if (now := version_of(x)) != then:
            raise RuntimeError(written_over(x, x._node, now, then))


def written_over(x: Tensor, edge: Edge | None, now: int, then: int) -> str:
    """PyTorch's message for a saved tensor that was changed in place."""
    maker = "" if edge is None or isinstance(edge, Leaf) else f", which is output 0 of {edge.name()},"
    return (
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"[vitrify.{x.dtype.name} {list(x._type.shape)}]{maker} is at version {now}; expected version {then} "
        "instead. Hint: the backtrace further above shows the operation that failed to compute its "
        "gradient. The "
        "variable in question was changed in there or anywhere later. Good luck!"
    )


def _accumulate(leaf: Leaf, ct: Tensor, owned: bool) -> None:
    tensor = leaf.tensor()
    if tensor is None:
        return
    recorder = active()
    if recorder is not None:
        recorder.observe(tensor, "_grad")
    before = tensor._grad
    if before is None:
        keep = owned and ct._type.is_contiguous and not is_grad_enabled()
        tensor._grad = alias(ct) if keep else build(ops.cast, ct, dtype=ct.dtype)
    elif is_grad_enabled():
        tensor._grad = apply(_ADD, before, ct)
    else:
        assign(before, apply(_ADD, before, ct))
    for hook in list((leaf.accumulated or {}).values()):
        hook(tensor)
