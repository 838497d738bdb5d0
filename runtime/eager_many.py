"""Eager execution of operations with several results, scans above all: each a graph of one operation,
optimised and compiled once for its operands' types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..ir import locks
from ..ir.builder import GraphBuilder
from ..ir.dtypes import WITH_KERNELS
from ..ir.graph import Graph, Value
from ..ir.interpreter import interpret
from ..ir.opdef import BoundOp
from ..ir.ops.structure import CHECK_ERRORS
from ..ir.strided import StridedType, strided_type
from . import storage
from .executable import CheckFailed

Types = tuple[StridedType, ...]
_MOST = 512
_lock = locks.lock()
_runs: dict[tuple[BoundOp, Types], Callable[..., Any]] = {}


def result_types(op: BoundOp, types: Types) -> tuple[StridedType, ...]:
    """Of the results, which are row-major. Raises IRTypeError if the operands don't fit."""
    made = op.result_types(*[t.ir for t in types])
    return tuple(strided_type(t.dtype, t.shape) for t in made)  # type: ignore[arg-type]


def execute_many(op: BoundOp, types: Types, storages: Sequence[Any]) -> list[Any]:
    """Run an op; the storages of its results. Raises what an operation in it raises."""
    key = (op, types)
    run = _runs.get(key)
    if run is None:
        run = _compiled(op, types)
        with _lock:
            if len(_runs) >= _MOST:
                _runs.clear()
            _runs[key] = run
    return list(run(*storages))


def _compiled(op: BoundOp, types: Types) -> Callable[..., Any]:
    from .compiler import compile_graph  # passes and code generation, not needed while nothing is compiled

    graph = _graph_of(op, types)
    if any(v.type.dtype not in WITH_KERNELS for v in (*graph.inputs, *graph.outputs)):
        return lambda *storages: _interpreted(graph, types, storages)
    executable = compile_graph(graph)

    def run(*storages: Any) -> Any:
        try:
            return executable.run(storages)
        except CheckFailed as failed:
            error = failed.checkpoint
        _interpreted(graph, types, storages)  # which raises, with the values at fault
        raise CHECK_ERRORS[error.error](error.message)

    return run


def _graph_of(op: BoundOp, types: Types) -> Graph:
    build = GraphBuilder(op.opdef.name)
    inputs: list[Value] = [build.input(t.ir, strides=None if t.is_contiguous else t.strides) for t in types]
    return build.finish(build.emit(op.opdef, inputs, op.attrs, op.regions))


def _interpreted(graph: Graph, types: Types, storages: Sequence[Any]) -> list[Any]:
    outputs, _ = interpret(graph, [storage.to_array(s, t) for s, t in zip(storages, types, strict=True)])
    return [storage.from_array(np.array(x, order="C")) for x in outputs]
