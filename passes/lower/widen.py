"""bfloat16 and float16 as kernels compute with them: loaded and stored in 16 bits, computed with in float32.

Each op that computes gets its operands cast to float32 and its result cast back, so that every op rounds
once; the casts fuse with what is around them. A contraction of float16 has its operands cast to float32; one
of bfloat16 is brought into pairs of steps (`pairs`), and so is one of narrow integers, cast to int16, whose
sums are the same in any order.
"""

from __future__ import annotations

from ...ir import ops
from ...ir.builder import GraphBuilder
from ...ir.dtypes import DType, bfloat16, float32, int16
from ...ir.graph import Graph, Operation, Value
from ...ir.narrow import NARROW
from .pairs import in_pairs


def widen(graph: Graph) -> Graph:
    """The graph with casts around what computes on narrow types; itself if there is nothing to do."""
    if not any(_is_widened(op) for op in graph.operations):
        return graph
    build = GraphBuilder(graph.name, graph.numerics)
    build.inputs = list(graph.inputs)
    now: dict[Value, Value] = {v: v for v in graph.inputs}
    for op in graph.operations:
        build.location = op.location
        operands = tuple(now[v] for v in op.operands)
        results = _widened(build, op, operands) if _is_widened(op) else _kept(build, op, operands)
        now.update(zip(op.results, results, strict=True))
    outputs = tuple(now[v] for v in graph.outputs)
    return build.finish(outputs, tuple((x, now[v]) for x, v in graph.updates))


def _is_widened(op: Operation) -> bool:
    if op.opdef is ops.contract:
        return op.operands[0].type.dtype is not op.result.type.dtype
    return op.opdef.wide and any(v.type.dtype in NARROW for v in op.operands)


def _kept(build: GraphBuilder, op: Operation, operands: tuple[Value, ...]) -> tuple[Value, ...]:
    return build.emit(op.opdef, operands, op.attrs, regions=op.regions)


def _widened(build: GraphBuilder, op: Operation, operands: tuple[Value, ...]) -> tuple[Value, ...]:
    if op.opdef is ops.contract and (op.result.type.dtype.is_integer or operands[0].type.dtype is bfloat16):
        paired = tuple(v if v.type.dtype is bfloat16 else _cast(build, v, int16) for v in operands)
        return (in_pairs(build, op, paired),)
    to = op.result.type.dtype if op.opdef is ops.contract else float32
    wide = tuple(_cast(build, v, to) if _takes_part(op, v) else v for v in operands)
    (result,) = build.emit(op.opdef, wide, op.attrs)
    return (_cast(build, result, op.result.type.dtype),)


def _takes_part(op: Operation, operand: Value) -> bool:
    """Whether an operand is one of those computed with: indices of a scatter are not."""
    return op.opdef is ops.contract or operand.type.dtype in NARROW


def _cast(build: GraphBuilder, value: Value, dtype: DType) -> Value:
    return value if value.type.dtype is dtype else build(ops.cast, value, dtype=dtype)
