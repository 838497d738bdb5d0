"""Weights apart: a graph that reads its convolutions' and layers' weights as kernels want them, and the graph
that brings them into that form.

A kernel that vectors read along the channels of the result has to be turned first: [co, ci, taps] becomes
[blocks, taps, ci, co in a block]. So has the weight of a layer, [n, k], where few rows are multiplied by it:
from [k, n] it is read at the speed of memory, while transposing in registers takes twice as long. A weight
that the graph only reads need not be turned in every call: the second graph does it, and whoever calls both
may keep its results for as long as the weights are unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

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
#: Channels of a block, the first that divides their number.
BLOCKS = (64, 48, 32)


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


def pack_weights(graph: Graph) -> Packed | None:
    """Take the graph apart; None if it has no weights worth it. The argument is left unchanged."""
    updated = {x for x, _ in graph.updates}
    turned = {op: t for op in graph.operations if (t := _turned(op, updated)) is not None}
    return _Splitter(graph, turned).run() if turned else None


@dataclass(frozen=True)
class _Turned:
    """How a weight is turned. windowed: it is a convolution's. block: channels in a block, None for all in
    one."""

    weight: Value
    spec: ContractSpec
    channel: int
    block: int | None
    windowed: bool


def _turned(op: Operation, updated: set[Value]) -> _Turned | None:
    """How to turn an operation's weight; None if it is no contraction with a weight that is only read, or
    one that is better left."""
    if op.opdef is not ops.contract:
        return None
    spec = op.attrs["spec"]
    assert isinstance(spec, ContractSpec)
    weight = op.operands[1]
    size = weight.type.numel
    windowed = any(isinstance(i, Expr) and symbols_of(i) != {str(i)} for i in spec.lhs)
    plain = all(isinstance(i, Expr) and symbols_of(i) == {str(i)} for i in spec.rhs)
    if weight.operation is not None or weight in updated or not isinstance(size, int) or size < LEAST:
        return None
    summed = [a for a, i in enumerate(spec.rhs) if str(i) in spec.over]
    left = [a for a in range(len(spec.rhs)) if a not in summed]
    if not plain or len(left) != 1:
        return None
    if not windowed:
        return _Turned(weight, spec, left[0], None, False) if _is_layer(op, spec) else None
    channels = weight.type.shape[left[0]]
    large = size * weight.type.dtype.itemsize > MOST_BYTES and isinstance(channels, int)
    block = next((b for b in BLOCKS if channels % b == 0), None) if large else None
    return _Turned(weight, spec, left[0], block, True)


def _is_layer(op: Operation, spec: ContractSpec) -> bool:
    """Whether a product multiplies few rows by a weight in row-major order whose last axis is summed last."""
    x, weight = op.operands
    rows = product(d for d, i in zip(x.type.shape, spec.lhs, strict=True) if str(i) not in spec.over)
    few = isinstance(rows, int) and rows <= MOST_ROWS
    along = bool(spec.over) and str(spec.rhs[-1]) == spec.over[-1] and weight.strides is None
    return few and along and weight.type.dtype.itemsize >= 4


class _Splitter:
    """Both graphs under construction."""

    def __init__(self, graph: Graph, turned: dict[Operation, _Turned]) -> None:
        self.graph, self.turned = graph, turned
        self.main, self.packing = GraphBuilder(graph.name), GraphBuilder(f"{graph.name}_weights")
        self.now = {x: self.main.input(x.type, x.name, x.strides) for x in graph.inputs}
        read = {t.weight for t in turned.values()}
        self.weights = {x: self.packing.input(x.type, x.name, x.strides) for x in graph.inputs if x in read}
        self.made: dict[tuple[object, ...], tuple[Value, Value]] = {}

    def run(self) -> Packed:
        for op in self.graph.operations:
            self.main.location = self.packing.location = op.location
            if op in self.turned:
                self.now[op.result] = self._convolution(op, self.turned[op])
            else:
                operands = [self.now[x] for x in op.operands]
                results = self.main.emit(op.opdef, operands, op.attrs, op.regions, op.location)
                self.now.update(zip(op.results, results, strict=True))
        outputs = [self.now[v] for v in self.graph.outputs]
        updates = [(self.now[x], self.now[v]) for x, v in self.graph.updates]
        packing = self.packing.finish([packed for packed, _ in self.made.values()])
        weights = tuple(at for at, x in enumerate(self.graph.inputs) if x in self.weights)
        windowed = any(t.windowed for t in self.turned.values())
        return Packed(self.main.finish(outputs, updates), packing, weights, windowed)

    def _convolution(self, op: Operation, turned: _Turned) -> Value:
        """The convolution, reading the turned weight."""
        spec, (x, _) = turned.spec, op.operands
        label = str(spec.rhs[turned.channel])
        order = sorted(
            (a for a in range(len(spec.rhs)) if a != turned.channel),
            key=lambda a: spec.over.index(str(spec.rhs[a])),
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
