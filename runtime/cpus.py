"""How many CPUs this process may use: its affinity, cut down by the limits of its control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_MEMBERSHIP, _ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def allowed_cpus(membership: Path = _MEMBERSHIP, root: Path = _ROOT) -> int:
    """CPUs of the affinity mask, and no more than the CPU time that control groups grant, rounded up; at
    least 1. The arguments are for tests.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, *(-(-quota // period) for quota, period in _limits(membership, root))]))


def _limits(membership: Path, root: Path) -> Iterator[tuple[int, int]]:
    """(quota, period) of each group around this process that limits CPU time."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        group = Path(name.lstrip("/"))
        if not controllers:  # version 2
            for place in (group, *group.parents):
                yield from _parsed(_words(root / place / "cpu.max"))
        elif "cpu" in controllers.split(","):
            for place in (group, *group.parents):
                files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                yield from _parsed([word for file in files for word in _words(root / "cpu" / place / file)])


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _parsed(words: list[str]) -> Iterator[tuple[int, int]]:
    """A quota that is not "max" or -1, with its period."""
    if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
        yield int(words[0]), int(words[1])
