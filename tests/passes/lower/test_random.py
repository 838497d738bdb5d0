"""Random graphs: what the kernel interpreter makes of the plan agrees with the graph interpreter."""

from __future__ import annotations

import numpy as np
import pytest
from vitrify.ir.plan_interpreter import run_plan
from vitrify.ir.plan_verifier import verify_plan
from vitrify.passes.lower import lower
from vitrify.passes.pipeline import optimize

from tests.random_graphs import random_graph


@pytest.mark.parametrize("start", range(0, 150, 10))
def test_random_graphs(start: int) -> None:
    for seed in range(start, start + 10):
        case = random_graph(seed)
        for graph in (case.graph, optimize(case.graph)):
            plan = lower(graph)
            verify_plan(plan)
            arrays = [np.array(x) for x in case.inputs]
            outputs = run_plan(plan, arrays)
            case.assert_agrees(outputs, [arrays[graph.inputs.index(x)] for x, _ in graph.updates])
