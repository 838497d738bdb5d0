"""Weights apart: a graph that reads its convolutions' and layers' weights as kernels want them, and the graph
that brings them into that form.

A kernel that vectors read along the channels of the result has to be turned first: [co, ci, taps] becomes
[blocks, taps, ci, co in a block]. So has the weight of a layer, [n, k], where few rows are multiplied by it:
from [k, n] it is read at the speed of memory, while transposing in registers takes twice as long. A weight
that the graph only reads need not be turned in every call: the second graph does it, and whoever calls both
may keep its results for as long as the weights are unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..ir import ops
from ..ir.builder import GraphBuilder
from ..ir.contraction import ContractSpec
from ..ir.expr import Dim, Expr, product, symbol, symbols_of
from ..ir.graph import Graph, Operation, Value

#: Weights of fewer elements are turned in every call: to look whether they have changed takes as long.
LEAST = 4096
#: A weight of more bytes does not stay in second-level cache while a row of pixels is computed. Then blocks
#: of channels are the outermost loop, and a block is read in one run.
MOST_BYTES = 512 << 10
#: Channels of a block, the first that divides their number, by the columns of a tile. Small blocks leave room
#: in the cache for the next one: 3x3 taps of 512 channels take 590 KB for 32 (ResNet-18 in 32.4 ms, for 64 in
#: 34.2). Narrow tiles want weights of any size in blocks of their width: as a part of wider rows, what they
#: read again and again has but half of the first-level cache, or less (AVX2, 3x3 taps of 64 channels: 0.90 of
#: the peak in blocks of 32, 0.95 in blocks of 16).
BLOCKS = {32: (32, 48), 16: (16,)}
COLUMNS = 32


#: Rows up to which turning a layer's weight in registers in every call is felt.
MOST_ROWS = 32


@dataclass(frozen=True)
class Packed:
    """main: the graph with more inputs, for the turned weights; as far as its convolutions go it no longer
    reads the weights themselves. packing: gives what these inputs are. weights: numbers of the graph's inputs
    that packing takes. windowed: some are of convolutions, whose kernels turn them in memory in every call if
    nobody else does."""

    main: Graph
    packing: Graph
    weights: tuple[int, ...]
    windowed: bool

    @property
    def given(self) -> int:
        """The number of the first input of main that packing gives."""
        return len(self.main.inputs) - len(self.packing.outputs)


def pack_weights(graph: Graph, columns: int = COLUMNS) -> Packed | None:
    """Take the graph apart; None if it has no weights worth it. The argument is left unchanged. columns: of
    a tile, a key of BLOCKS."""
    updated = {x for x, _ in graph.updates}
    turned = {op: t for op in graph.operations if (t := _turned(op, updated, columns)) is not None}
    mapped = _mapped(graph, updated)
    return _Splitter(graph, turned, mapped).run() if turned or mapped else None


@dataclass(frozen=True)
class _Turned:
    """How a weight is turned. spec: with the weight on the right. windowed: it is a convolution's. block:
    channels in a block, None for all in one."""

    image: Value
    weight: Value
    spec: ContractSpec
    channel: int
    block: int | None
    windowed: bool


def block_of(channels: Dim, bytes_: int, columns: int) -> int | None:
    """Into blocks of how many channels weights of so many bytes are cut; None if they are not."""
    if not isinstance(channels, int) or columns == COLUMNS and bytes_ <= MOST_BYTES:
        return None
    return next((b for b in BLOCKS[columns] if channels > b and channels % b == 0), None)


def _turned(op: Operation, updated: set[Value], columns: int) -> _Turned | None:
    """How to turn an operation's weight; None if it is no contraction with a weight that is only read, or
    one that is better left."""
    if op.opdef is not ops.contract:
        return None
    spec = op.attrs["spec"]
    assert isinstance(spec, ContractSpec)
    if spec.within is not None:
        return None
    image, weight = op.operands
    if not _is_plain(spec.rhs):
        image, weight, spec = weight, image, replace(spec, lhs=spec.rhs, rhs=spec.lhs)
    size = weight.type.numel
    windowed = any(isinstance(i, Expr) and symbols_of(i) != {str(i)} for i in spec.lhs)
    plain = _is_plain(spec.rhs)
    if weight.operation is not None or weight in updated or not isinstance(size, int) or size < LEAST:
        return None
    summed = [a for a, i in enumerate(spec.rhs) if str(i) in spec.over]
    left = [a for a, i in enumerate(spec.rhs) if a not in summed and i != 0]
    if not plain or len(left) != 1:
        return None
    if not windowed:
        return _Turned(image, weight, spec, left[0], None, False) if _is_layer(op, spec) else None
    block = block_of(weight.type.shape[left[0]], size * weight.type.dtype.itemsize, columns)
    return _Turned(image, weight, spec, left[0], block, True)


def _is_plain(maps: tuple[Dim, ...]) -> bool:
    """Whether every axis has a label to itself, or is read at 0 (the taps of a 1x1 convolution)."""
    return all(i == 0 or isinstance(i, Expr) and symbols_of(i) == {str(i)} for i in maps)


def _mapped(graph: Graph, updated: set[Value]) -> dict[Operation, list[Operation]]:
    """The operations that map whole weights for convolutions by tiles, each with all that it is computed by;
    it depends on inputs only that the graph does not update."""
    found: dict[Operation, list[Operation]] = {}
    for op in graph.operations:
        if op.opdef is ops.into_tiles and set(op.attrs["counts"]) == {1}:  # type: ignore[arg-type]
            needed = _needed_for(op)
            read = {x for o in needed for x in o.operands if x.operation is None}
            if read.isdisjoint(updated) and all(o.opdef.pure and not o.opdef.may_raise for o in needed):
                found[op] = needed
    return found


def _needed_for(op: Operation) -> list[Operation]:
    """An operation and all that it depends on, in an order in which they can run."""
    found: dict[Operation, None] = {}
    pending = [op]
    while pending:
        producers = [x.operation for x in pending[-1].operands if x.operation is not None]
        missing = [producer for producer in producers if producer not in found]
        if missing:
            pending += missing
        else:
            found[pending.pop()] = None
    return list(found)


def _is_layer(op: Operation, spec: ContractSpec) -> bool:
    """Whether a product multiplies few rows by a weight in row-major order whose last axis is summed last."""
    x, weight = op.operands
    rows = product(d for d, i in zip(x.type.shape, spec.lhs, strict=True) if str(i) not in spec.over)
    few = isinstance(rows, int) and rows <= MOST_ROWS
    along = bool(spec.over) and str(spec.rhs[-1]) == spec.over[-1] and weight.strides is None
    return few and along and weight.type.dtype.itemsize >= 4


class _Splitter:
    """Both graphs under construction."""

    def __init__(
        self, graph: Graph, turned: dict[Operation, _Turned], mapped: dict[Operation, list[Operation]]
    ) -> None:
        self.graph, self.turned, self.mapped = graph, turned, mapped
        self.main = GraphBuilder(graph.name, graph.numerics)
        self.packing = GraphBuilder(f"{graph.name}_weights", graph.numerics)
        self.now = {x: self.main.input(x.type, x.name, x.strides) for x in graph.inputs}
        read = {t.weight for t in turned.values()}
        read |= {x for needed in mapped.values() for op in needed for x in op.operands if x.operation is None}
        self.weights = {x: self.packing.input(x.type, x.name, x.strides) for x in graph.inputs if x in read}
        self.made: dict[tuple[object, ...], tuple[Value, Value]] = {}
        self.copied: dict[Value, Value] = dict(self.weights)

    def run(self) -> Packed:
        for op in self.graph.operations:
            self.main.location = self.packing.location = op.location
            if op in self.turned:
                self.now[op.result] = self._convolution(op, self.turned[op])
            elif op in self.mapped:
                self.now[op.result] = self._map(op)
            else:
                operands = [self.now[x] for x in op.operands]
                results = self.main.emit(op.opdef, operands, op.attrs, op.regions, op.location)
                self.now.update(zip(op.results, results, strict=True))
        outputs = [self.now[v] for v in self.graph.outputs]
        updates = [(self.now[x], self.now[v]) for x, v in self.graph.updates]
        packing = self.packing.finish([packed for packed, _ in self.made.values()])
        weights = tuple(at for at, x in enumerate(self.graph.inputs) if x in self.weights)
        windowed = bool(self.mapped) or any(t.windowed for t in self.turned.values())
        return Packed(self.main.finish(outputs, updates), packing, weights, windowed)

    def _map(self, op: Operation) -> Value:
        """The input of the main graph that holds a mapped weight."""
        for needed in self.mapped[op]:
            if needed.results[0] not in self.copied:
                operands = [self.copied[x] for x in needed.operands]
                results = self.packing.emit(needed.opdef, operands, needed.attrs, needed.regions)
                self.copied.update(zip(needed.results, results, strict=True))
        made = self.copied[op.result]
        self.made[(op,)] = made, self.main.input(made.type, "mapped")
        return self.made[(op,)][1]

    def _convolution(self, op: Operation, turned: _Turned) -> Value:
        """The convolution, reading the turned weight."""
        spec, x = turned.spec, turned.image
        label = str(spec.rhs[turned.channel])
        order = sorted(
            (a for a in range(len(spec.rhs)) if a != turned.channel),
            key=lambda a: -1 if spec.rhs[a] == 0 else spec.over.index(str(spec.rhs[a])),
        )
        block, inner = (f"{label}_block", f"{label}_inner") if turned.block else ("", label)
        rhs: list[Dim] = [symbol(block)] if block else []
        rhs += [*(spec.rhs[a] for a in order), symbol(inner)]
        out = tuple(n for old in spec.out for n in ((block, inner) if old == label and block else (old,)))
        now = ContractSpec(spec.lhs, tuple(rhs), out, spec.over, spec.extents)
        result = self.main(ops.contract, self.now[x], self._input(turned, order), spec=now)
        return self.main(ops.reshape, result, shape=op.result.type.shape) if block else result

    def _input(self, turned: _Turned, order: list[int]) -> Value:
        """The input of the main graph that holds the turned weight."""
        key = (turned.weight, *order, turned.block)
        if key not in self.made:
            packed = self._turn(self.weights[turned.weight], turned, order)
            self.made[key] = packed, self.main.input(packed.type, f"{turned.weight.name}_turned")
        return self.made[key][1]

    def _turn(self, weight: Value, turned: _Turned, order: list[int]) -> Value:
        if turned.block is None:
            return self.packing(ops.permute, weight, perm=(*order, turned.channel))
        at, shape = turned.channel, weight.type.shape
        cut = (*shape[:at], shape[at] // turned.block, turned.block, *shape[at + 1 :])
        blocks = self.packing(ops.reshape, weight, shape=cut)
        moved = (a if a < at else a + 1 for a in order)
        return self.packing(ops.permute, blocks, perm=(at, *moved, at + 1))
