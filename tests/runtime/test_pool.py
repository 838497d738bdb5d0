"""The thread pool itself, with jobs written in LLVM IR: every unit once, statuses, forks, idleness."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from vitrify.runtime import pool
from vitrify.runtime.cpus import allowed_cpus
from vitrify.runtime.jit import load

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")

#: Units with a value below 0 fail with that status; others are counted, after some time at work.
JOB = """
declare i64 @vitrify_parallel(ptr, ptr, i64, i64, i64)
define i64 @part(ptr %context, i64 %begin, i64 %end) {
entry:
  br label %loop
loop:
  %i = phi i64 [%begin, %entry], [%next, %after]
  %first = phi i64 [0, %entry], [%failed, %after]
  %at = getelementptr i64, ptr %context, i64 %i
  %old = load i64, ptr %at
  %bad = icmp slt i64 %old, 0
  %code = sub i64 0, %old
  %none = icmp eq i64 %first, 0
  %note = and i1 %bad, %none
  %failed = select i1 %note, i64 %code, i64 %first
  %new = add i64 %old, 1
  %kept = select i1 %bad, i64 %old, i64 %new
  store i64 %kept, ptr %at
  br label %work
work:
  %k = phi i64 [0, %loop], [%k.next, %work]
  %k.next = add i64 %k, 1
  store volatile i64 %kept, ptr %at
  %more = icmp slt i64 %k.next, 100
  br i1 %more, label %work, label %after
after:
  %next = add i64 %i, 1
  %again = icmp slt i64 %next, %end
  br i1 %again, label %loop, label %done
done:
  ret i64 %failed
}
define i64 @nested(ptr %context, i64 %begin, i64 %end) {
entry:
  br label %loop
loop:
  %i = phi i64 [%begin, %entry], [%next, %loop]
  %far = mul i64 %i, 100
  %at = getelementptr i64, ptr %context, i64 %far
  %status = call i64 @vitrify_parallel(ptr @part, ptr %at, i64 100, i64 1000000, i64 4)
  %next = add i64 %i, 1
  %again = icmp slt i64 %next, %end
  br i1 %again, label %loop, label %done
done:
  ret i64 0
}
define i64 @run(ptr %context, i64 %units, i64 %work) {
  %status = call i64 @vitrify_parallel(ptr @part, ptr %context, i64 %units, i64 %work, i64 4)
  ret i64 %status
}
define i64 @run_nested(ptr %context, i64 %units) {
  %status = call i64 @vitrify_parallel(ptr @nested, ptr %context, i64 %units, i64 1000000, i64 4)
  ret i64 %status
}
"""
HEAVY = 1_000_000
I64 = ctypes.c_int64


def run(values: ctypes.Array[I64], work: int = HEAVY) -> int:
    """The status of a job on all values, each a unit."""
    code = load(JOB, ["run", "run_nested"])
    return ctypes.CFUNCTYPE(I64, ctypes.c_void_p, I64, I64)(code["run"])(values, len(values), work)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = pool.threads()
    yield
    pool.set_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("units", [0, 1, 2, 5, 1000])
def test_every_unit_runs_once(threads: int, units: int) -> None:
    pool.set_threads(threads)
    values = (I64 * units)()
    for turn in range(20):
        assert run(values) == 0 if units else True
        assert list(values) == [turn + 1] * units if units else True
    assert pool.running_workers() == (threads - 1 if units > 1 else 0)


def test_small_jobs_start_no_threads() -> None:
    pool.set_threads(2)
    values = (I64 * 100)()
    run(values, work=1)
    assert list(values) == [1] * 100 and pool.running_workers() == 0


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_the_status_is_that_of_the_first_unit_that_failed(threads: int) -> None:
    pool.set_threads(threads)
    for places in ([3], [999], [17, 18, 500], [0, 999], [998, 999]):
        values = (I64 * 1000)()
        for place in places:
            values[place] = -7 - place
        for _ in range(10):
            assert run(values) == 7 + places[0]
    assert run((I64 * 10)()) == 0


def test_a_job_within_a_job() -> None:
    pool.set_threads(3)
    values = (I64 * 2000)()
    code = load(JOB, ["run", "run_nested"])
    for _ in range(5):
        assert ctypes.CFUNCTYPE(I64, ctypes.c_void_p, I64)(code["run_nested"])(values, 20) == 0
    assert list(values) == [5] * 2000


def test_sixteen_threads_at_once_while_the_size_changes() -> None:
    pool.set_threads(2)
    counts: list[set[int]] = []

    def caller() -> None:
        values = (I64 * 300)()
        for _ in range(100):
            run(values)
        counts.append(set(values))

    callers = [threading.Thread(target=caller) for _ in range(16)]
    for thread in callers:
        thread.start()
    for threads in (3, 1, 8, 2):
        pool.set_threads(threads)
        time.sleep(0.01)
    for thread in callers:
        thread.join()
    assert counts == [{100}] * 16


def in_child(check: Callable[[], bool]) -> bool:
    """Whether the check holds in a forked child."""
    child = os.fork()
    if child == 0:
        os._exit(0 if check() else 1)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_gets_workers_of_its_own() -> None:
    pool.set_threads(3)
    run((I64 * 1000)())
    assert pool.running_workers() == 2

    def check() -> bool:
        values = (I64 * 1000)()
        none = pool.running_workers() == 0
        return none and run(values) == 0 and set(values) == {1} and pool.running_workers() == 2

    assert in_child(check)
    assert in_child(lambda: in_child(check))
    assert pool.running_workers() == 2 and run((I64 * 1000)()) == 0


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_fork_in_the_middle_of_jobs() -> None:
    pool.set_threads(2)
    stop = threading.Event()

    def busy() -> None:
        values = (I64 * 3000)()
        while not stop.is_set():
            run(values)

    callers = [threading.Thread(target=busy) for _ in range(2)]
    for thread in callers:
        thread.start()

    def check() -> bool:
        values = (I64 * 1000)()
        return run(values) == 0 and set(values) == {1}

    assert all(in_child(check) for _ in range(20))
    stop.set()
    for thread in callers:
        thread.join()


def test_an_idle_pool_takes_no_time() -> None:
    pool.set_threads(2)
    run((I64 * 1000)())
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.02


EXITING = """
import ctypes, sys, threading
from tests.runtime.test_pool import I64, run
from vitrify.runtime import pool
pool.set_threads(2)
values = (I64 * 100_000)()
def busy():
    while True:
        run(values)
if sys.argv[1] == "busy":
    for _ in range(3):
        threading.Thread(target=busy, daemon=True).start()
run((I64 * 1000)())
"""


@pytest.mark.parametrize("how", ["idle", "busy"])
def test_the_process_ends(how: str) -> None:
    root = Path(__file__).parents[2]
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", EXITING, how], cwd=root, timeout=60, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")


CONDITION = """
from vitrify.runtime import pool, pool_ir
pool._FUTEX.clear()
from tests.runtime import test_pool
assert "pthread_cond_wait" in pool_ir.module(None)
for threads in (2, 3):
    test_pool.test_every_unit_runs_once(threads, 1000)
test_pool.test_a_forked_child_gets_workers_of_its_own()
test_pool.test_an_idle_pool_takes_no_time()
"""


def test_sleeping_by_a_condition_variable() -> None:
    """What is used where there is no futex."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CONDITION],
        cwd=root,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


# CPUs.


def test_control_groups_limit_the_default(tmp_path: Path) -> None:
    here = allowed_cpus(tmp_path / "none", tmp_path)
    assert 1 <= here <= (os.cpu_count() or 1)
    membership = tmp_path / "cgroup"
    membership.write_text("0::/outer/inner\n")
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    assert allowed_cpus(membership, tmp_path) == here
    (tmp_path / "outer" / "cpu.max").write_text("50000 100000\n")
    assert allowed_cpus(membership, tmp_path) == 1


def test_control_groups_of_version_1(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("5:cpuacct,cpu:/job\n4:memory:/job\n")
    job = tmp_path / "cpu" / "job"
    job.mkdir(parents=True)
    (job / "cpu.cfs_period_us").write_text("100000\n")
    (job / "cpu.cfs_quota_us").write_text("-1\n")
    assert allowed_cpus(membership, tmp_path) == allowed_cpus(tmp_path / "none", tmp_path)
    (job / "cpu.cfs_quota_us").write_text("90000\n")
    assert allowed_cpus(membership, tmp_path) == 1
