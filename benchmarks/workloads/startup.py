"""From nothing to the first result, and the memory it takes, each time in a fresh process.

`first call`: the clock starts when model, optimizer and data exist and stops when the first compiled
training step has returned its loss: capture, all passes, code generation, linking and the step itself.
`cold` has an empty cache directory, `warm` one that a process before it has filled. `memory` is the largest
resident set of a process that makes a few steps, with a filled cache: compilers' own processes don't count.
`import` is the whole life of `python -c "import ..."`.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..measure import Timing
from ..report import OURS, Result

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = """
import sys, time
sys.path.insert(0, {root!r})
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.startup import peak_memory
(workload,) = [w for w in WORKLOADS if w.name == {workload!r}]
make = next(m for name, m in workload.contestants.items() if name.startswith({contestant!r}))
run = make({threads})
start = time.perf_counter()
run()
first = time.perf_counter() - start
for _ in range({steps}):
    run()
print(first, peak_memory())
"""
STEPS = {
    "MLP": "step: MLP 784-512-256-10, Adam, batch 64",
    "CNN": "step: CNN of the example, momentum, batch 64",
    "LSTM": "step: LSTM, 10,000 words, 128 wide, Adam, batch 32 x 32",
    "GPT": "step: GPT 4 layers, 128 wide, AdamW, batch 12 x 64",
}
CONTESTANTS = {
    OURS: "vitrify",
    "torch eager, fused": "torch",
    "torch.compile model, fused": "torch",
    "jax.jit": "jax",
}

#: For first calls: eager PyTorch has nothing to compile.
COMPILERS = tuple(name for name in CONTESTANTS if "eager" not in name)


def peak_memory() -> int:
    """The largest resident set of this process so far, in bytes.

    Linux: VmHWM, as ru_maxrss begins with the size of the process that forked this one (getrusage(2)).
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [x for x in status.read_text().splitlines() if x.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _process(program: str, cache: Path) -> tuple[float, str]:
    """Run a program; give its wall time and what it printed last."""
    directories = {
        n: str(cache) for n in ("VITRIFY_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")
    }
    environment = {**os.environ, **directories, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2])
    return time.perf_counter() - start, done.stdout.strip().rpartition("\n")[2]


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _wanted(name: str, peers: Sequence[str] | None) -> bool:
    return peers is None or name == OURS or any(text in name for text in peers)


@dataclass(frozen=True)
class FreshProcess:
    """A training step by the full name of its workload, run in processes of its own. what: `first call` in
    seconds or `memory` in bytes."""

    name: str
    workload: str
    what: str
    warm: bool
    contestants: tuple[str, ...] = tuple(CONTESTANTS)

    def run(self, *, rounds: int, threads: int, peers: Sequence[str] | None = None) -> Result:
        timings, missing = {}, {}
        for name in self.contestants:
            if not _wanted(name, peers):
                continue
            if not _installed(CONTESTANTS[name]):
                missing[name] = f"not installed ({CONTESTANTS[name]})"
                continue
            print(f"{self.name}: {name} ...", end="\r", file=sys.stderr, flush=True)
            try:
                timings[name] = Timing([self._sample(name, threads) for _ in range(3)])
            except RuntimeError as error:
                missing[name] = f"failed: {error}"
        print(" " * 99, end="\r", file=sys.stderr)
        return Result(self.name, timings, missing, unit="B" if self.what == "memory" else "s")

    def _sample(self, contestant: str, threads: int) -> float:
        program = PROGRAM.format(
            root=str(ROOT), workload=self.workload, contestant=contestant, threads=threads,
            steps=5 if self.what == "memory" else 0,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as cache:
            if self.warm:
                _process(program, Path(cache))
            first, peak = _process(program, Path(cache))[1].split()
        return float(peak if self.what == "memory" else first)


@dataclass(frozen=True)
class Import:
    """Wall time of a process that imports the package and ends."""

    name: str

    def run(self, *, rounds: int, threads: int, peers: Sequence[str] | None = None) -> Result:
        timings, missing = {}, {}
        for package in ("vitrify", "numpy", "torch", "jax"):
            if not _wanted(package, peers):
                continue
            if not _installed(package):
                missing[package] = "not installed"
                continue
            with tempfile.TemporaryDirectory() as cache:
                samples = [_process(f"import {package}", Path(cache))[0] for _ in range(max(5, rounds))]
            timings[package] = Timing(samples)
        return Result(self.name, timings, missing)


STARTUP = (
    *(
        FreshProcess(
            f"first call: {short} step, {state} cache", name, "first call", state == "warm", COMPILERS
        )
        for short, name in STEPS.items()
        for state in ("cold", "warm")
    ),
    *(FreshProcess(f"memory: {short} step", name, "memory", True) for short, name in STEPS.items()),
    Import("import, whole process"),
)
