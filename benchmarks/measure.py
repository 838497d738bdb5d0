"""Timing contestants side by side, in one process and one run.

The contestants of a workload take turns, round after round, so that a slow phase of the machine hits all of
them; what is reported is a ratio within the run. Times are wall clock, in seconds per call.
"""

from __future__ import annotations

import operator
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

Run = Callable[[], object]


@dataclass
class Timing:
    """Samples of one contestant: seconds per call, or bytes."""

    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Interquartile range over the median: how noisy the figure is."""
        quarters = statistics.quantiles(self.samples, n=4)
        return (quarters[2] - quarters[0]) / self.median

    def as_json(self) -> dict[str, float]:
        return {"median": self.median, "min": min(self.samples), "spread": self.spread}


def calls_per_sample(run: Run, sample_s: float) -> int:
    """How many calls make a sample of about this length, judged by a few calls."""
    start, calls = time.perf_counter(), 0
    while calls < 3 or time.perf_counter() - start < sample_s / 4:
        run()
        calls += 1
    return max(1, round(sample_s * calls / (time.perf_counter() - start)))


def overhead() -> float:
    """Seconds that calling a contestant takes which does nothing: some 40 ns, taken off every sample."""
    run, calls = partial(operator.is_, None, None), 20_000
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(calls):
            run()
        times.append((time.perf_counter() - start) / calls)
    return min(times)


def race(
    contestants: Mapping[str, Run], *, rounds: int, sample_s: float = 0.02, warm_up: int = 10
) -> dict[str, Timing]:
    """Time each contestant `rounds` times, in turns. sample_s: seconds of calls behind one sample.

    warm_up: calls before the first sample. Some contestants compile only what is called several times.
    """
    for run in contestants.values():
        for _ in range(warm_up):
            run()
    calls = {name: calls_per_sample(run, sample_s) for name, run in contestants.items()}
    timings = {name: Timing() for name in contestants}
    nothing = overhead()
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                run()
            taken = (time.perf_counter() - start) / calls[name]
            timings[name].samples.append(max(taken - nothing, 1e-9))
    return timings
