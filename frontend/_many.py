"""Dispatch of operations with several results: `scan`, and what its derivative is made of.

As for one result (`_dispatch`), an op is run at once or recorded, and gets one node on the tape. With a node
it runs in its prepared form, which gives more results: those that the derivative reads.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from vitrify.ir.errors import IRTypeError
from vitrify.ir.opdef import BoundOp
from vitrify.passes.autodiff import MANY, ManyDerivative, many_derivative, prepared
from vitrify.runtime import eager_many

from . import _dispatch
from ._autograd import FREED, written_over
from ._tape import Edge, MultiNode, OutputOf, is_grad_enabled
from ._tensor import Tensor, alias, edge_of, track, version_of


def apply_many(op: BoundOp, *operands: Tensor) -> tuple[Tensor, ...]:
    """The results of an op on tensors. Raises RuntimeError for operands that don't fit."""
    edges = tuple([edge_of(x) for x in operands])
    wanted = tuple([edge is not None for edge in edges])
    if op.opdef not in MANY or not is_grad_enabled() or not any(wanted):
        return _run(op, operands)
    more = prepared(op, tuple([x._type.ir for x in operands]), wanted)
    results = _run(more.op, operands)
    _record(more.op, edges, wanted, operands, results)
    return tuple([results[i] for i in more.results])


def _run(op: BoundOp, operands: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    types = tuple([x._type for x in operands])
    try:
        made = eager_many.result_types(op, types)
    except IRTypeError as error:
        raise RuntimeError(f"{op.opdef.name}: {error}") from error
    recorder = _dispatch.recorder_for(op.opdef.name, *made, *types) if _dispatch.captures else None
    if recorder is None:
        storages = eager_many.execute_many(op, types, [x._storage for x in operands])
        return tuple([Tensor(s, t) for s, t in zip(storages, made, strict=True)])
    values = recorder.record_many(op, [recorder.operand(x._storage, x._type, x) for x in operands], made)
    results = tuple([Tensor(v, t) for v, t in zip(values, made, strict=True)])
    for x in results:
        track(x)
    return results


class _Saved:
    """What a node keeps: (tensor, version, edge) of its results and then its operands; None once freed. The
    edges of its own results are left out: they would lead back to the node."""

    def __init__(self, results: Sequence[Tensor], operands: Sequence[Tensor]) -> None:
        self._saved_as: list[tuple[Tensor, int, Edge | None]] | None = [
            *((alias(x), version_of(x), None) for x in results),
            *((x if x._view is None else alias(x, edge_of(x)), version_of(x), edge_of(x)) for x in operands),
        ]

    def tensor(self, place: int) -> Tensor:
        """One of them, unchanged since it was saved."""
        if self._saved_as is None:
            raise RuntimeError(FREED)
        x, version, edge = self._saved_as[place]
        if (now := version_of(x)) != version:
            raise RuntimeError(written_over(x, edge, now, version))
        return x if x._node is edge else alias(x, edge)


def _record(
    op: BoundOp, edges: tuple[Edge | None, ...], wanted: tuple[bool, ...], operands: tuple[Tensor, ...],
    results: tuple[Tensor, ...],
) -> None:  # fmt: skip
    """Give the results their node."""
    types = tuple([x._type.ir for x in operands])
    saved = _Saved(results, operands)
    count = len(results)

    def cotangents(given: list[Tensor | None], keep: bool) -> list[Tensor | None]:
        program = many_derivative(op, types, wanted, tuple([ct is not None for ct in given]))
        values = [ct for ct in given if ct is not None]
        for place in program.saved:
            x = saved.tensor(place)
            values.append(_with_edge(x, node(), place) if place < count and is_grad_enabled() else x)
        found = run_program(program, values)
        if not keep:
            saved._saved_as = None
        return found

    label = "".join(part.capitalize() for part in op.opdef.name.split("_")) + "Backward0"
    made = MultiNode(edges, count, cotangents, label, context=saved)
    node = weakref.ref(made)
    for i, x in enumerate(results):
        if x.is_floating_point():
            x._node = OutputOf(made, i)


def _with_edge(x: Tensor, node: MultiNode | None, index: int) -> Tensor:
    """A saved result as what it was: output `index` of the node."""
    return x if node is None or not x.is_floating_point() else alias(x, OutputOf(node, index))


def run_program(program: ManyDerivative, values: list[Tensor]) -> list[Tensor | None]:
    """The cotangents of the operands. values: those of the program's inputs; extended."""
    for step, places in program.steps:
        operands = [values[i] for i in places]
        if step.opdef.regions or step.opdef in MANY:
            values.extend(apply_many(step, *operands))
        else:
            values.append(_dispatch.apply(step, *operands))
    return [None if at is None else values[program.outputs[at]] for at in program.gradients]
