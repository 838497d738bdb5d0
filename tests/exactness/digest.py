"""What everything computes here, as one digest per case, to be compared with other targets and settings.

`python -m tests.exactness.digest` prints JSON. Each digest is of eager and of compiled results, which have to
be the same before they are digested; all NaNs count as equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import vitrify

from ..differential.test_random_graphs import run_compiled
from ..random_graphs import random_graph
from ..support import assert_same_bits
from .cases import ALONE, COMPOSED, Case
from .large import LARGE
from .steps import STEPS, after

GRAPHS = 120
FEW_STEPS = 3


def digest(arrays: Iterable[np.ndarray]) -> str:
    """Of dtypes, shapes and bits, with every NaN replaced by the one that numpy makes."""
    whole = hashlib.sha256()
    for array in arrays:
        array = np.array(array)
        if array.dtype.kind in "fc":
            array[np.isnan(array)] = np.nan
        whole.update(f"{array.dtype}{array.shape}".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()[:16]


def results(case: Case, *, special: bool) -> list[np.ndarray]:
    """Forward results of a case, the same eager and compiled."""
    tensors = [vitrify.from_numpy(a) for a in case.arguments(special=special)]
    eager = case.function(*tensors).numpy()
    compiled = vitrify.compile(case.function, fullgraph=True)(*tensors).numpy()
    assert_same_bits(compiled, eager, str(case))
    return [eager]


def gradients(case: Case) -> list[np.ndarray]:
    """Value and gradients of the sum of a case's results, the same eager and compiled."""

    def both(*leaves: Any) -> Any:
        value = case.function(*leaves)
        return (value, *vitrify.autograd.grad(value.sum(), leaves, allow_unused=True))

    def run(function: Any) -> list[np.ndarray]:
        leaves = [vitrify.from_numpy(a).requires_grad_() for a in case.arguments()]
        return [t.detach().numpy() for t in function(*leaves) if t is not None]

    eager = run(both)
    for got, want in zip(run(vitrify.compile(both, fullgraph=True)), eager, strict=True):
        assert_same_bits(got, want, str(case))
    return eager


def everything() -> Iterator[tuple[str, list[np.ndarray]]]:
    """Every case alone and composed, with special values; large ones; random graphs; some steps of each
    training."""
    for i, case in enumerate(ALONE):
        yield f"{i} {case}", results(case, special=True)
    for case in COMPOSED:
        yield f"{case}", results(case, special=True)
        yield f"gradients of {case}", gradients(case)
    for case in LARGE:
        yield f"large {case}", [*results(case, special=False), *gradients(case)]
    for seed in range(GRAPHS):
        found = random_graph(seed)
        outputs, updates = run_compiled(found.graph, found.inputs)
        yield f"random graph {seed}", [*outputs, *updates]
    for name, task in STEPS.items():
        yield f"training {name}", after(task, FEW_STEPS, compiled=True)


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        print(json.dumps({name: digest(arrays) for name, arrays in everything()}))
