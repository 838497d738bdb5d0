"""Compiled code against the interpreter on random graphs: to the bit, or within a known error bound.

Fails with the seed and the text of the graph. What a failure was cut down to is kept in test_found.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from vitrify.ir.graph import Graph
from vitrify.ir.strided import strided_type
from vitrify.runtime import storage
from vitrify.runtime.compiler import compile_graph

from tests.random_graphs import random_graph

GRAPHS = 2000
CHUNK = 50


def run_compiled(graph: Graph, inputs: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Outputs and updates of the compiled graph; the inputs' arrays are left alone."""
    blocks = [storage.from_array(np.array(x, order="C")) for x in inputs]
    made = compile_graph(graph).run(blocks)

    def array(block: object, value: object) -> np.ndarray:
        type_ = strided_type(value.type.dtype, value.type.shape)  # type: ignore[attr-defined]
        return np.array(storage.to_array(block, type_))  # type: ignore[arg-type]

    outputs = [array(block, value) for block, value in zip(made, graph.outputs, strict=True)]
    places = {value: block for value, block in zip(graph.inputs, blocks, strict=True)}
    return outputs, [array(places[target], target) for target, _ in graph.updates]


@pytest.mark.parametrize("first", range(0, GRAPHS, CHUNK))
def test_compiled_code_agrees_with_the_interpreter(first: int) -> None:
    for seed in range(first, first + CHUNK):
        case = random_graph(seed)
        case.assert_agrees(*run_compiled(case.graph, case.inputs))
