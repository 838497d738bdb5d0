"""Lowers graphs given as text and compares what the kernel interpreter makes of the plan with the graph
interpreter."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from vitrify.ir.expr import evaluate
from vitrify.ir.graph import Graph, Value
from vitrify.ir.interpreter import interpret
from vitrify.ir.parser import parse_graph
from vitrify.ir.plan import Plan
from vitrify.ir.plan_interpreter import run_plan
from vitrify.ir.plan_verifier import verify_plan
from vitrify.ir.verifier import verify_graph
from vitrify.passes.lower import lower
from vitrify.passes.packed import COLUMNS

from tests.support import assert_same_bits, random_array


def check_lowered(
    graph: str | Graph, *, calls: int | None = None, sizes: Mapping[str, int] | None = None,
    inputs: Sequence[np.ndarray] | None = None, columns: int = COLUMNS,
) -> Plan:  # fmt: skip
    """Lower a graph, verify the plan, and run both on random inputs: the same bits. calls: how many there
    should be.

    inputs: the logical arrays, where random ones won't do. sizes: values of symbolic sizes. columns: of a
    tile.
    """
    if isinstance(graph, str):
        graph = parse_graph(textwrap.dedent(graph))
    verify_graph(graph)
    plan = lower(graph, columns=columns)
    verify_plan(plan)
    rng = np.random.default_rng(0)
    arrays = list(inputs) if inputs is not None else [random_array(v.type, rng, sizes) for v in graph.inputs]
    compare(graph, plan, arrays, sizes or {})
    if calls is not None:
        assert len(plan.calls) == calls, f"{len(plan.calls)} calls: {[c.kernel for c in plan.calls]}"
    return plan


def compare(graph: Graph, plan: Plan, arrays: Sequence[np.ndarray], sizes: Mapping[str, int]) -> None:
    """Fail if a result of the plan differs in a bit from the interpreter's."""
    outputs, updates = interpret(graph, arrays, sizes)
    storages = [storage_of(v, a, sizes) for v, a in zip(graph.inputs, arrays, strict=True)]
    before = [s.copy() for s in storages]
    results = run_plan(plan, storages, sizes)
    for number, (got, want) in enumerate(zip(results, outputs, strict=True)):
        assert_same_bits(got, np.asarray(want), f"output {number}")
    new = {x: want for (x, _), want in zip(graph.updates, updates, strict=True)}
    for value, storage, old in zip(graph.inputs, storages, before, strict=True):
        want_storage = storage_of(value, np.asarray(new[value]), sizes, old) if value in new else old
        assert_same_bits(storage, want_storage, f"contents of %{value.name}")


def storage_of(
    value: Value, array: np.ndarray, sizes: Mapping[str, int], under: np.ndarray | None = None
) -> np.ndarray:
    """The flat storage of an input with these elements; elsewhere it holds what `under` holds."""
    if value.strides is None:
        return np.ascontiguousarray(array).reshape(-1).copy()
    strides = [evaluate(s, sizes) for s in value.strides]
    extent = (
        0 if 0 in array.shape else 1 + sum((n - 1) * s for n, s in zip(array.shape, strides, strict=True))
    )
    flat = np.full(extent, 77).astype(array.dtype) if under is None else under.copy()
    for at in np.ndindex(array.shape):
        flat[sum(i * s for i, s in zip(at, strides, strict=True))] = array[at]
    return flat


def kernel_names(plan: Plan) -> list[str]:
    """The kernels called, in order."""
    return [call.kernel for call in plan.calls]
