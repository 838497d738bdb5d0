"""From nothing to the first result, each time in a fresh process.

`first call`: the clock starts when model, optimizer and data exist and stops when the first compiled
training step has returned its loss: capture, all passes, code generation, linking and the step itself.
`cold` has an empty cache directory, `warm` one that a process before it has filled. `import` is the whole
life of `python -c "import ..."`.
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
from benchmarks.workloads import training
run = {make}
start = time.perf_counter()
run()
print(time.perf_counter() - start)
"""
MLP = "(64, 784)"
CONTESTANTS = {
    "vitrify": ("vitrify", f"training._vitrify(training._mlp, {MLP}, False, 1)"),
    "torch eager": ("torch", f"training._torch(training._mlp, {MLP}, 'eager', False, 1)"),
    "torch.compile model": ("torch", f"training._torch(training._mlp, {MLP}, 'model', True, 1)"),
    "jax.jit": ("jax", f"training._jax_mlp({MLP}, 1)"),
}


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
        check=True,
    )
    return time.perf_counter() - start, done.stdout.strip().rpartition("\n")[2]


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@dataclass(frozen=True)
class FirstCall:
    """Time to the end of the first step, with an empty (cold) or a filled (warm) cache directory."""

    name: str
    warm: bool

    def run(self, *, rounds: int, threads: int, peers: Sequence[str] | None = None) -> Result:
        timings, missing = {}, {}
        for name, (package, make) in CONTESTANTS.items():
            if peers is not None and name != OURS and not any(text in name for text in peers):
                continue
            if not _installed(package):
                missing[name] = f"not installed ({package})"
                continue
            timings[name] = Timing([self._sample(make) for _ in range(max(3, min(rounds, 5)))])
        return Result(self.name, timings, missing)

    def _sample(self, make: str) -> float:
        program = PROGRAM.format(root=str(ROOT), make=make)
        with tempfile.TemporaryDirectory() as cache:
            if self.warm:
                _process(program, Path(cache))
            return float(_process(program, Path(cache))[1])


@dataclass(frozen=True)
class Import:
    """Wall time of a process that imports the package and ends."""

    name: str

    def run(self, *, rounds: int, threads: int, peers: Sequence[str] | None = None) -> Result:
        timings, missing = {}, {}
        for package in ("vitrify", "numpy", "torch", "jax"):
            if peers is not None and package != OURS and package not in peers:
                continue
            if not _installed(package):
                missing[package] = "not installed"
                continue
            with tempfile.TemporaryDirectory() as cache:
                samples = [_process(f"import {package}", Path(cache))[0] for _ in range(max(5, rounds))]
            timings[package] = Timing(samples)
        return Result(self.name, timings, missing)


STARTUP = (
    FirstCall("first call: MLP step, batch 64, cold cache", warm=False),
    FirstCall("first call: MLP step, batch 64, warm cache", warm=True),
)
IMPORT = Import("import, whole process")
