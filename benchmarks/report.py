"""Printing results as a table of ratios, and keeping them as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .measure import Timing

#: The contestant that the others are compared with.
OURS = "vitrify"


@dataclass
class Result:
    """One workload: timings by contestant, and what went wrong with those that could not run."""

    name: str
    timings: Mapping[str, Timing]
    missing: Mapping[str, str]
    flops: float = 0.0


def seconds(value: float) -> str:
    """A duration with a unit and three digits: 0.00123 -> '1.23 ms'."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def table(results: Sequence[Result], peak: float = 0.0) -> str:
    """One line a contestant: median, spread, how many times our median it takes, and, where the workload's
    operations are known, their rate and its share of `peak` (operations a second)."""
    lines = []
    for result in results:
        lines.append(result.name)
        ours = result.timings.get(OURS)
        for name, timing in sorted(result.timings.items(), key=lambda item: item[1].median):
            ratio = f"{timing.median / ours.median:6.2f}x" if ours else ""
            done = result.flops / timing.median
            rate = f"{done / 1e9:8.1f} GFLOP/s" if done else ""
            rate += f"{done / peak:5.0%} of the limit" if done and peak else ""
            spread = f"+-{timing.spread / 2:4.0%}"
            lines.append(f"  {name:28s}{seconds(timing.median):>10s} {spread:>7s} {ratio:>8s}{rate}")
        lines += [f"  {name:28s}{why:>10s}" for name, why in result.missing.items()]
    return "\n".join(lines)


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    cpu = "unknown"
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        cpu = models[0] if models else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def save(path: Path, results: Sequence[Result], threads: int, peaks: Mapping[int, float]) -> None:
    """Write all results as JSON. peaks: operations a second of one core by vector length."""
    payload = {
        "machine": machine(),
        "threads": threads,
        "fma_peak_flops": {str(lanes): peak for lanes, peak in peaks.items()},
        "workloads": {
            r.name: {
                "timings": {name: t.as_json() for name, t in r.timings.items()},
                "missing": dict(r.missing),
                "flops": r.flops,
            }
            for r in results
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(payload, indent=1) + "\n")
