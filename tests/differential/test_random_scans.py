"""Scans of random bodies, compiled, against the loop written out and compiled: the same bits, whatever the
body computes. Fails with the seed and the text of the graph."""

from __future__ import annotations

import random

import numpy as np
import pytest
from vitrify.ir import ops
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.graph import Graph, Value
from vitrify.ir.printer import print_graph
from vitrify.ir.verifier import verify_graph
from vitrify.passes.regions import renamed
from vitrify.runtime.executable import CheckFailed

from tests.differential.test_random_graphs import run_compiled
from tests.random_graphs import random_graph
from tests.support import assert_same_bits

SCANS = 20
CHUNK = 10
STEPS = 3


def random_scan(seed: int) -> tuple[Graph, Graph, list[np.ndarray]]:
    """A graph of one scan with a random body, the same written out, and arrays for their inputs."""
    rng = random.Random(seed)
    found = random_graph(seed)
    outputs = [v for v in found.graph.roots() if v.operation is not None]
    inputs = list(zip(found.graph.inputs, found.inputs, strict=True))
    carried: list[tuple[Value, Value]] = []
    for v, _ in inputs:
        fitting = [o for o in outputs if o.type == v.type and all(o is not c for _, c in carried)]
        if fitting and rng.random() < 0.6:
            carried.append((v, rng.choice(fitting)))
    arrays = dict(inputs)
    loose = [v for v, _ in inputs if all(v is not c for c, _ in carried)]
    sliced = [v for v in loose if rng.random() < 0.5]
    order = [*(v for v, _ in carried), *sliced, *(v for v in loose if v not in sliced)]
    mapped: dict[Value, Value] = {v: Value(v.type, f"p{i}") for i, v in enumerate(order)}
    parameters = tuple(mapped.values())
    operations = renamed(found.graph.operations, mapped)
    given = [v for v in outputs if rng.random() < 0.8]
    results = tuple(mapped[v] for v in (*(c for _, c in carried), *given))
    body = Graph(parameters, tuple(operations), results, (), "step")
    count, reverse = len(carried), rng.random() < 0.5
    attrs = {
        "carries": count, "scanned": len(sliced), "length": STEPS, "reverse": reverse,
        "previous": tuple(i for i in range(count) if rng.random() < 0.4),
    }  # fmt: skip
    given_arrays = [
        np.stack([np.roll(arrays[v], t) for t in range(STEPS)]) if v in sliced else arrays[v] for v in order
    ]
    return _scanned(body, attrs, sliced, order), _written_out(body, attrs, sliced, order), given_arrays


def _inputs(build: GraphBuilder, order: list[Value], sliced: list[Value]) -> list[Value]:
    types = [v.type.with_shape((STEPS, *v.type.shape)) if v in sliced else v.type for v in order]
    return [build.input(t, f"x{i}") for i, t in enumerate(types)]


def _scanned(body: Graph, attrs: dict, sliced: list[Value], order: list[Value]) -> Graph:
    build = GraphBuilder("scanned")
    return build.finish(build.emit(ops.scan, _inputs(build, order, sliced), attrs, (body,)))


def _written_out(body: Graph, attrs: dict, sliced: list[Value], order: list[Value]) -> Graph:
    build = GraphBuilder("written_out")
    inputs = _inputs(build, order, sliced)
    carries = inputs[: attrs["carries"]]
    stacks: dict[int, list[Value]] = {}
    for t in range(STEPS)[:: -1 if attrs["reverse"] else 1]:
        values = list(carries)
        for x, v in zip(inputs[len(carries) :], order[len(carries) :], strict=True):
            values.append(_at(build, x, t) if v in sliced else x)
        mapped = dict(zip(body.inputs, values, strict=True))
        build.operations += renamed(body.operations, mapped)
        made = [mapped[v] for v in body.outputs]
        stacks[t] = [*made[len(carries) :], *(carries[i] for i in attrs["previous"])]
        carries = made[: len(carries)]
    columns = zip(*(stacks[t] for t in range(STEPS)), strict=True)
    return build.finish([*carries, *(_stacked(build, list(column)) for column in columns)])


def _at(build: GraphBuilder, x: Value, t: int) -> Value:
    rest = x.type.shape[1:]
    zeros, ones = (0,) * len(rest), (1,) * len(rest)
    cut = build(ops.slice_, x, starts=(t, *zeros), stops=(t + 1, *rest), steps=(1, *ones))
    return build(ops.reshape, cut, shape=rest)


def _stacked(build: GraphBuilder, values: list[Value]) -> Value:
    return build(ops.concat, *(build(ops.reshape, v, shape=(1, *v.type.shape)) for v in values), axis=0)


@pytest.mark.parametrize("first", range(0, SCANS, CHUNK))
def test_a_compiled_scan_is_the_loop_written_out(first: int) -> None:
    for seed in range(first, first + CHUNK):
        scan, loop, arrays = random_scan(seed)
        verify_graph(scan)
        verify_graph(loop)
        try:
            want, _ = run_compiled(loop, arrays)
        except CheckFailed:
            with pytest.raises(CheckFailed):
                run_compiled(scan, arrays)
            continue
        got, _ = run_compiled(scan, arrays)
        for number, (g, w) in enumerate(zip(got, want, strict=True)):
            assert_same_bits(g, w, f"seed {seed}, output {number} of\n{print_graph(scan)}")
