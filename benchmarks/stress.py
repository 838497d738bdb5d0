"""Stress for the thread pool: wrong bits, hangs and crashes.

    python benchmarks/stress.py [--seconds 300] [--callers 16] [--seed 0]

Python threads call compiled functions and eager ones all the time and compare every result with the bits of
a single thread. Meanwhile the number of threads changes, the process forks (each child calculates, too), and
processes are started that end while threads are at work or are interrupted by Ctrl-C again and again. The
exit status is 0 if nothing went wrong.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

_HANG_S = 120.0
_CHILD_S = 90

#: A result to be compared: (name, function of nothing that gives a tensor).
Job = tuple[str, Callable[[], Any]]


def jobs(seed: int) -> list[Job]:
    """Functions of each kind that is divided between threads, on fixed data, eager and compiled."""
    import vitrify
    import vitrify.nn.functional as F

    rng = np.random.default_rng(seed)

    def random_tensor(*shape: int) -> Any:
        return vitrify.from_numpy(rng.standard_normal(shape).astype(np.float32))

    x, y, rows = random_tensor(300_007), random_tensor(300_007), random_tensor(1200, 301)
    a, b, image, weight = (random_tensor(*s) for s in ((200, 333), (300, 333), (4, 8, 40, 40), (16, 8, 3, 3)))
    at = vitrify.from_numpy(rng.integers(0, 1200, 3000))
    made: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "chain": (lambda x, y: F.gelu(x * y + 0.5) - vitrify.tanh(x), (x, y)),
        "softmax": (lambda x: F.softmax(x, -1), (rows,)),
        "sum": (lambda x: (x * x).sum(), (x,)),
        "columns": (lambda x: x.sum(0) + x.cumsum(0), (rows,)),
        "product": (lambda a, b: F.relu(a @ b.t()), (a, b)),
        "convolution": (lambda x, w: F.conv2d(x, w, padding=1), (image, weight)),
        "transpose": (lambda x: x.t() * 2, (rows,)),
        "gather": (lambda x, at: x[at], (rows, at)),
    }
    found: list[Job] = []
    for name, (function, arguments) in made.items():
        compiled = vitrify.compile(function, fullgraph=True)
        found.append((name, lambda f=function, x=arguments: f(*x)))
        found.append((f"{name}, compiled", lambda f=compiled, x=arguments: f(*x)))
    return found


def bits(job: Job) -> bytes:
    """The bytes of a job's result."""
    return bytes(job[1]().numpy().tobytes())


class Stress:
    """The state of one run. done: how often each thing was done."""

    def __init__(self, callers: int, seed: int) -> None:
        import vitrify

        self.random, self.seed = random.Random(seed), seed
        self.jobs = jobs(seed)
        vitrify.set_num_threads(1)
        self.expected = {job[0]: bits(job) for job in self.jobs}
        self.done: Counter[str] = Counter()
        self.faults: list[str] = []
        self.stop = threading.Event()
        self.callers = [threading.Thread(target=self._call, args=(k,)) for k in range(callers)]

    def run(self, seconds: float, report: Callable[[str], None] = print) -> list[str]:
        """Everything at once for so long; gives what went wrong."""
        actions = (self._resize, self._resize, self._resize, self._fork, self._exit, self._interrupt)
        for caller in self.callers:
            caller.start()
        sys.setswitchinterval(0.0005)  # else the callers leave little to this thread
        start = told = time.monotonic()
        while time.monotonic() < start + seconds and not self.faults:
            faulthandler.dump_traceback_later(_HANG_S, exit=True)
            self.random.choice(actions)()
            if time.monotonic() > told + 30:
                told = time.monotonic()
                report(f"{told - start:.0f} s: {self.summary()}")
        self.stop.set()
        for caller in self.callers:
            caller.join(_HANG_S)
            if caller.is_alive():
                self.faults.append("a caller hangs")
        faulthandler.cancel_dump_traceback_later()
        return self.faults

    def summary(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in sorted(self.done.items()))

    def _call(self, number: int) -> None:
        choose = random.Random(self.seed + number)
        while not self.stop.is_set():
            self._compare(choose.choice(self.jobs))
            time.sleep(choose.random() * 0.01)  # the processes that are started want to get on, too

    def _compare(self, job: Job) -> None:
        try:
            if bits(job) != self.expected[job[0]]:
                self.faults.append(f"{job[0]}: wrong bits")
        except Exception as error:
            self.faults.append(f"{job[0]}: {error!r}")
        self.done["calls"] += 1

    # What happens meanwhile.

    def _resize(self) -> None:
        import vitrify

        vitrify.set_num_threads(self.random.choice((1, 2, 3, 8)))
        time.sleep(self.random.random() * 0.02)
        self.done["sizes"] += 1

    def _fork(self) -> None:
        child = os.fork()
        if child == 0:
            signal.alarm(_CHILD_S)  # ends a child that hangs
            good = all(bits(job) == self.expected[job[0]] for job in self.jobs)
            os._exit(0 if good and not self.faults else 1)
        if os.waitpid(child, 0)[1] != 0:
            self.faults.append("a forked child failed or hung")
        self.done["forks"] += 1

    def _exit(self) -> None:
        self._expect_success(self._start("exit"), "a process that ended while threads were at work")
        self.done["exits"] += 1

    def _interrupt(self) -> None:
        process = self._start("interrupt")
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        for _ in range(5):
            time.sleep(0.05 + self.random.random() * 0.2)
            process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGUSR1)
        self._expect_success(process, "an interrupted process")
        self.done["interrupted processes"] += 1

    def _start(self, role: str) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, "--role", role, "--seed", str(self.seed)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, **pipes)  # type: ignore[call-overload, no-any-return]

    def _expect_success(self, process: subprocess.Popen[str], what: str) -> None:
        try:
            _, errors = process.communicate(timeout=_CHILD_S)
        except subprocess.TimeoutExpired:
            process.kill()
            self.faults.append(f"{what} hangs")
            return
        if process.returncode != 0:
            self.faults.append(f"{what}: status {process.returncode}: {errors[-2000:]}")


# What the processes do that are started.


def end_while_busy(seed: int) -> None:
    """Leave daemon threads at work behind."""
    import vitrify

    vitrify.set_num_threads(2)
    found = jobs(seed)

    def busy() -> None:
        while True:
            for job in found:
                bits(job)

    for _ in range(3):
        threading.Thread(target=busy, daemon=True).start()
    time.sleep(random.random() * 0.3)


def be_interrupted(seed: int) -> None:
    """Calculate through any number of Ctrl-C until SIGUSR1, then compare all results."""
    import vitrify

    vitrify.set_num_threads(1)
    found = jobs(seed)
    expected = [bits(job) for job in found]
    vitrify.set_num_threads(2)
    over: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _: over.append(number))
    count = 0
    while not over:
        try:
            if not count:
                print("begun", flush=True)
            while not over:
                for job in found:
                    bits(job)
        except KeyboardInterrupt:
            count += 1
    if not count or [bits(job) for job in found] != expected:
        sys.exit("no interrupt was seen, or wrong bits after it")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--role", choices=("exit", "interrupt"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.role is not None:
        (end_while_busy if chosen.role == "exit" else be_interrupted)(chosen.seed)
        return 0
    stress = Stress(chosen.callers, chosen.seed)
    faults = stress.run(chosen.seconds)
    print(stress.summary())
    print("\n".join(faults) if faults else "nothing went wrong")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
