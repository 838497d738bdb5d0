"""A workload: named contestants, made only when it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..measure import Run, race
from ..report import OURS, Result

#: Makes the callable to time; `threads` is what the contestant may use. ImportError means: not installed.
Maker = Callable[[int], Run]


@dataclass(frozen=True)
class Workload:
    """contestants: by name, `vitrify` being ours. flops: operations of one call, if they tell."""

    name: str
    contestants: Mapping[str, Maker]
    flops: float = 0.0
    sample_s: float = 0.03

    def run(self, *, rounds: int, threads: int, peers: Sequence[str] | None = None) -> Result:
        ready: dict[str, Run] = {}
        missing: dict[str, str] = {}
        for name, make in self.contestants.items():
            if peers is not None and name != OURS and not any(text in name for text in peers):
                continue
            print(f"{self.name}: preparing {name} ...", end="\r", file=sys.stderr, flush=True)
            try:
                ready[name] = make(threads)
                ready[name]()
            except ImportError as error:
                missing[name] = f"not installed ({error.name})"
        print(" " * 79, end="\r", file=sys.stderr)
        timings = race(ready, rounds=rounds, sample_s=self.sample_s)
        return Result(self.name, timings, missing, self.flops)
