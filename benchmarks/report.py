"""Printing results as a table of ratios, and keeping them as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .limits import Limits
from .measure import Timing

#: The contestant that the others are compared with.
OURS = "vitrify"


@dataclass
class Result:
    """One workload: timings by contestant, and what went wrong with those that could not run.

    flops, bytes: what a call has to compute and to move, where that is its limit. unit: of the samples,
    `s` or `B`. exchange: bytes a second that one core read of what another wrote, before and after.
    """

    name: str
    timings: Mapping[str, Timing]
    missing: Mapping[str, str]
    flops: float = 0.0
    bytes: float = 0.0
    unit: str = "s"
    exchange: tuple[float, ...] = ()

    @property
    def advantage(self) -> float | None:
        """How many times our median the best peer takes; None without a peer."""
        peers = [t.median for name, t in self.timings.items() if not name.startswith(OURS)]
        return min(peers) / self.timings[OURS].median if peers and OURS in self.timings else None


def seconds(value: float) -> str:
    """A duration with a unit and three digits: 0.00123 -> '1.23 ms'."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def amount(value: float, unit: str) -> str:
    return f"{value / 1e6:.1f} MB" if unit == "B" else seconds(value)


def table(results: Sequence[Result], limits: Limits | None = None) -> str:
    """One line a contestant: median, spread, how many times our median it takes, and, where the workload's
    operations or bytes are known, their rate and how much of what the machine can do that is."""
    lines = []
    for result in results:
        advantage = result.advantage
        lines.append(f"{result.name}   [{advantage:.2f}x the best peer]" if advantage else result.name)
        ours = result.timings.get(OURS)
        for name, timing in sorted(result.timings.items(), key=lambda item: item[1].median):
            ratio = f"{timing.median / ours.median:6.2f}x" if ours else ""
            spread = f"+-{timing.spread / 2:4.0%}"
            value = amount(timing.median, result.unit)
            lines.append(
                f"  {name:40s}{value:>10s} {spread:>7s} {ratio:>8s}{_rate(result, timing.median, limits)}"
            )
        lines += [f"  {name:40s}{why}" for name, why in result.missing.items()]
        if any(result.exchange):
            lines.append(f"  between cores: {' then '.join(f'{x / 1e9:.0f}' for x in result.exchange)} GB/s")
    return "\n".join(lines)


def _rate(result: Result, seconds: float, limits: Limits | None) -> str:
    rate = f"{result.flops / seconds / 1e9:8.1f} GFLOP/s" if result.flops else ""
    rate += f"{result.bytes / seconds / 1e9:8.1f} GB/s" if result.bytes else ""
    if limits and rate:
        rate += f"{limits.seconds(result.flops, result.bytes) / seconds:5.0%} of the limit"
    return rate


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


def save(path: Path, results: Sequence[Result], threads: int, limits: Limits) -> None:
    """Write all results as JSON."""
    payload = {
        "machine": machine(),
        "threads": threads,
        "limits": limits.as_json(),
        "workloads": {
            r.name: {
                "timings": {name: t.as_json() for name, t in r.timings.items()},
                "missing": dict(r.missing),
                "flops": r.flops,
                "bytes": r.bytes,
                "unit": r.unit,
                "exchange_bytes_per_s": r.exchange,
                "advantage": r.advantage,
            }
            for r in results
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(payload, indent=1) + "\n")
