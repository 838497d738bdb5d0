"""Derivatives as small programs: a rule run once on placeholders, cut down to what is asked for.

A rule gives the cotangents of all operands; a tape node mostly wants some. The program for (op, operand
types, wanted operands) holds only the operations that lead to those, and its inputs tell what a node must
save: an operand whose elements no operation reads (only its shape) need not stay live.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ...ir import locks
from ...ir.builder import GraphBuilder
from ...ir.graph import Graph, Value
from ...ir.opdef import BoundOp, bind
from ...ir.types import TensorType
from ..cse import eliminate_common_subexpressions
from ..dce import eliminate_dead_code
from ..simplify import simplify
from .rules import VJP, V


@dataclass(frozen=True)
class Saves:
    """What a derivative reads: positions of operands, and whether the result."""

    operands: frozenset[int]
    result: bool


@dataclass(frozen=True)
class Step:
    """One operation: its operands and result are places in a list that begins with ct, y, *operands."""

    op: BoundOp
    operands: tuple[int, ...]


@dataclass(frozen=True)
class Derivative:
    """A program on the list [ct, y, *operands], each step appending its result.

    cotangents: for each operand the place of its cotangent in the list, or None. calls: the steps as (op,
    operands). passed: for each operand that place (-1 for none), and whether it is no other operand's.
    """

    graph: Graph
    steps: tuple[Step, ...]
    cotangents: tuple[int | None, ...]
    saves: Saves
    calls: tuple[tuple[BoundOp, tuple[int, ...]], ...] = field(init=False)
    passed: tuple[tuple[int, bool], ...] = field(init=False)

    def __post_init__(self) -> None:
        places = [-1 if at is None else at for at in self.cotangents]
        object.__setattr__(self, "calls", tuple((s.op, s.operands) for s in self.steps))
        object.__setattr__(self, "passed", tuple((at, places.count(at) == 1) for at in places))


def saves(op: BoundOp, types: tuple[TensorType, ...], wanted: tuple[bool, ...] | None = None) -> Saves:
    """What the derivative of op on operands of these types reads; nothing for an op without one.

    wanted: for each operand whether its cotangent is asked for; None means all.
    """
    return derivative(op, types, wanted or (True,) * len(types)).saves


def pull_back(
    apply: Callable[..., V], program: Derivative, ct: V, y: V | None, operands: Sequence[V | None]
) -> tuple[V | None, ...]:
    """The cotangents of the operands that the program was made for, from that of the result; None for the
    others.

    apply: (BoundOp, *operands) -> result. y and the operands may be None where `program.saves` does not list
    them. The same bits as the rule itself gives: it is only simplified.
    """
    values: list[V | None] = [ct, y, *operands]
    for step in program.steps:
        values.append(apply(step.op, *[values[i] for i in step.operands]))
    return tuple([None if at is None else values[at] for at in program.cotangents])


_KNOWN: dict[tuple[BoundOp, tuple[TensorType, ...], tuple[bool, ...]], Derivative] = {}
_LOCK = locks.lock()
#: Programs are dropped together when there are more: a program that meets ever new shapes must not grow for
#: ever.
_MOST_KNOWN = 8192


def derivative(op: BoundOp, types: tuple[TensorType, ...], wanted: tuple[bool, ...]) -> Derivative:
    """The program for these operand types and wanted operands, remembered."""
    key = (op, types, wanted)
    found = _KNOWN.get(key)
    if found is None:
        found = _derive(op, types, wanted)
        with _LOCK:
            if len(_KNOWN) >= _MOST_KNOWN:
                _KNOWN.clear()
            _KNOWN[key] = found
    return found


def derivative_of_moves(moves: Sequence[BoundOp], type: TensorType) -> Derivative:
    """The program for ops one after the other on an operand of this type, all of which only move elements."""
    build = GraphBuilder("vjp_" + "_".join(op.opdef.name for op in moves))
    types = [type]
    for op in moves:
        types += op.result_types(types[-1])
    ct, y, x = build.input(types[-1], "ct"), build.input(types[-1], "y"), build.input(type, "x0")
    passed = [x]
    for op in moves[:-1]:
        passed.append(build(op.opdef, passed[-1], **op.attrs))
    results = [*passed[1:], y]
    for op, before, result in zip(reversed(moves), reversed(passed), reversed(results), strict=True):
        (ct,) = VJP[op.opdef](build, ct, result, before, **op.attrs)
    return _program(build, [ct], (type,))


def _derive(op: BoundOp, types: tuple[TensorType, ...], wanted: tuple[bool, ...]) -> Derivative:
    rule = VJP.get(op.opdef)
    build = GraphBuilder(f"vjp_{op.opdef.name}")
    (result,) = op.result_types(*types)
    ct, y = build.input(result, "ct"), build.input(result, "y")
    operands = [build.input(t, f"x{i}") for i, t in enumerate(types)]
    made = rule(build, ct, y, *operands, **op.attrs) if rule is not None else (None,) * len(types)
    asked = [m if w and _varies(t) else None for m, w, t in zip(made, wanted, types, strict=True)]
    return _program(build, asked, types)


def _program(build: GraphBuilder, asked: Sequence[Value | None], types: tuple[TensorType, ...]) -> Derivative:
    """What leads to the cotangents that are asked for; the graph's inputs are ct, y and the operands."""
    graph = _cleaned(build.finish([v for v in asked if v is not None]))
    left = iter(graph.outputs)
    cotangents = [None if v is None else next(left) for v in asked]
    place = {v: i for i, v in enumerate(graph.inputs)}
    for at, step in enumerate(graph.operations, start=len(place)):
        place[step.result] = at
    steps = tuple(
        Step(bind(s.opdef, **s.attrs), tuple(place[v] for v in s.operands)) for s in graph.operations
    )
    read = {i for s in steps for i in s.operands} | {place[v] for v in graph.outputs}
    reads = Saves(frozenset(i for i in range(len(types)) if i + 2 in read), 1 in read)
    return Derivative(graph, steps, tuple(None if v is None else place[v] for v in cotangents), reads)


def _cleaned(graph: Graph) -> Graph:
    """Without what leads nowhere, and simplified, which is exact. Checks that a rule repeats the op itself
    has made."""
    graph = simplify(eliminate_dead_code(graph, keep_raising=False))
    return eliminate_dead_code(eliminate_common_subexpressions(graph), keep_raising=False)


def _varies(type_: TensorType) -> bool:
    return type_.dtype.kind in "fc"
