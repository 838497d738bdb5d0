"""A workload: named contestants that do the same work, made only when it runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contestants import Maker
from ..measure import Run, race
from ..report import OURS, Result


@dataclass(frozen=True)
class Workload:
    """contestants: by name, `vitrify` being ours. flops, bytes: what one call has to compute and to move
    through memory, if that limits it. tolerance: how far results may differ, relative to the largest."""

    name: str
    contestants: Mapping[str, Maker]
    flops: float = 0.0
    bytes: float = 0.0
    sample_s: float = 0.03
    tolerance: float = 1e-3

    def run(self, *, rounds: int, threads: int, peers: Sequence[str] | None = None) -> Result:
        ready: dict[str, Run] = {}
        missing: dict[str, str] = {}
        first: list[np.ndarray] = []
        for name, make in self.contestants.items():
            if peers is not None and name != OURS and not any(text in name for text in peers):
                continue
            print(f"{self.name}: preparing {name} ...", end="\r", file=sys.stderr, flush=True)
            try:
                run = make(threads)
                result = list(numbers(run()))
            except ImportError as error:
                missing[name] = f"not installed ({error.name})"
                continue
            except Exception as error:  # whatever ails one contestant, the others go on
                missing[name] = f"failed: {type(error).__name__}: {str(error).splitlines()[0][:80]}"
                continue
            first = first or result
            if (off := disagreement(first, result)) > self.tolerance:
                missing[name] = f"another result: off by {off:.1e}"
                continue
            ready[name] = run
        print(" " * 99, end="\r", file=sys.stderr)
        timings = race(ready, rounds=rounds, sample_s=self.sample_s)
        return Result(self.name, timings, missing, self.flops, self.bytes)


def numbers(result: Any) -> Iterator[np.ndarray]:
    """The arrays in what a contestant gave: tensors of any library, in tuples or alone."""
    if isinstance(result, tuple | list):
        for item in result:
            yield from numbers(item)
    elif result is not None:
        tensor = result.detach() if hasattr(result, "detach") else result
        if hasattr(tensor, "float") and hasattr(tensor, "numpy"):
            tensor = tensor.float().numpy()
        yield np.array(tensor, dtype=np.float64)


def disagreement(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """The largest difference, relative to the largest number of its array; infinite for other shapes."""
    if [x.shape for x in ours] != [x.shape for x in theirs]:
        return float("inf")
    worst = 0.0
    for x, y in zip(ours, theirs, strict=True):
        if x.size:
            worst = max(worst, float(np.abs(x - y).max() / max(np.abs(x).max(), 1e-30)))
    return worst
