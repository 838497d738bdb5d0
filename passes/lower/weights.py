"""Weights of a scan: what every step of the loop multiplies by is laid out for that once, before the loop.

A contraction reads one operand in vectors along a label of the result. Where that label does not run along
memory the emitted code rearranges the operand, panel by panel, whenever it runs: in a loop, in every turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ...ir import ops
from ...ir.builder import GraphBuilder
from ...ir.contraction import ContractSpec
from ...ir.expr import Dim, symbols_of
from ...ir.graph import Graph, Operation, Value
from ..scans import Parts
from .attributes import spec_of
from .contraction import SMALL
from .stores import estimate

#: An operand that all steps share, by its number, and the order of its axes in the loop.
Turned = tuple[int, tuple[int, ...]]


def turned_weights(parts: Parts) -> tuple[Graph, list[Turned]]:
    """The body of a scan reading some shared operands with their axes in another order, as further inputs;
    and which those are."""
    body = parts.body
    shared = {v: i for i, v in enumerate(parts.rest, start=parts.carries + parts.scanned)}
    turned: dict[Turned, Value] = {}
    build = GraphBuilder(body.name)
    now = {v: Value(v.type, v.name) for v in body.inputs}
    for op in body.operations:
        operands, attrs = [now[v] for v in op.operands], op.attrs
        if op.opdef is ops.contract:
            spec = spec_of(op)
            for side, order in _orders(op, spec, shared):
                x = op.operands[side]
                key = (shared[x], order)
                if key not in turned:
                    turned[key] = Value(x.type.with_shape(tuple(x.type.shape[a] for a in order)), x.name)
                operands[side] = turned[key]
                spec = _with_order(spec, side, order)
            attrs = {"spec": spec}
        results = build.emit(op.opdef, operands, attrs, op.regions, op.location)
        now.update(zip(op.results, results, strict=True))
    if not turned:
        return body, []
    build.inputs = [*(now[v] for v in body.inputs), *turned.values()]
    return build.finish([now[v] for v in body.outputs]), list(turned)


def _orders(
    op: Operation, spec: ContractSpec, shared: dict[Value, int]
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """(side, order of axes) for an operand of a contraction that is to be turned."""
    for side, maps in enumerate((spec.lhs, spec.rhs)):
        x, other = op.operands[side], op.operands[1 - side]
        if x in shared and other not in shared and estimate(x.type.numel) >= SMALL:
            order = _order(spec, maps)
            if order is not None:
                yield side, order


def _with_order(spec: ContractSpec, side: int, order: tuple[int, ...]) -> ContractSpec:
    sides = [spec.lhs, spec.rhs]
    sides[side] = tuple(sides[side][a] for a in order)
    return replace(spec, lhs=sides[0], rhs=sides[1])


def _order(spec: ContractSpec, maps: tuple[Dim, ...]) -> tuple[int, ...] | None:
    """The axes, with the last label that only this operand gives the result at the end; None if it is
    there."""
    labels = [str(m) for m in maps]
    if any(symbols_of(m) != {label} for m, label in zip(maps, labels, strict=True)):
        return None
    others = {s for m in (spec.lhs if maps is spec.rhs else spec.rhs) for s in symbols_of(m)}
    own = [a for a, label in enumerate(labels) if label in spec.out and label not in others]
    if not own or labels[-1] in spec.out:
        return None
    last = max(own, key=lambda a: spec.out.index(labels[a]))
    return (*(a for a in range(len(labels)) if a != last), last)
