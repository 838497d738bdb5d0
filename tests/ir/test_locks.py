"""Locks in forked children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import vitrify
from vitrify.ir import locks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def _held_by_another_thread(lock: threading.Lock | threading.RLock) -> Callable[[], None]:
    """Take the lock in a thread of its own; gives what lets it go again."""
    taken, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            enough.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(60)

    def let_go() -> None:
        enough.set()
        thread.join()

    return let_go


def _status_of_child(body: Callable[[], bool]) -> int:
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends a child that hangs
        os._exit(0 if body() else 1)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("make", [locks.lock, locks.rlock])
def test_a_lock_of_a_thread_that_the_child_has_not_is_free(make: Callable[[], threading.Lock]) -> None:
    lock = make()
    let_go = _held_by_another_thread(lock)
    try:
        assert _status_of_child(lambda: lock.acquire(timeout=5)) == 0
        assert not lock.acquire(blocking=False)  # in the parent it is what it was
    finally:
        let_go()


def test_a_lock_of_the_forking_thread_stays_its_own() -> None:
    lock = locks.rlock()

    def released() -> bool:
        lock.release()
        return True

    with lock:
        assert _status_of_child(released) == 0


def test_a_child_calls_what_another_thread_was_just_calling() -> None:
    @vitrify.compile
    def double(x: vitrify.Tensor) -> vitrify.Tensor:
        return x * 2

    x = vitrify.arange(8.0)
    expected = double(x)
    let_go = _held_by_another_thread(double.program._lock)
    try:
        # A dtype that is new to it is captured, under the lock.
        assert _status_of_child(lambda: vitrify.equal(double(x.double()), expected.double())) == 0
    finally:
        let_go()


IMPORTING = """
import importlib.abc, os, signal, sys, threading
import vitrify

importing, enough = threading.Event(), threading.Event()


class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == {name!r} and threading.current_thread() is not threading.main_thread():
            importing.set()
            enough.wait(0.3)  # the other thread forks in the meantime, if it may
        return None


sys.meta_path.insert(0, Slow())


def f(x):
    return (x.exp() * x).sum()


def compiled():
    x = vitrify.ones(3, requires_grad=True)
    vitrify.compile(f)(x).backward()
    return x.grad is not None


thread = threading.Thread(target=compiled)
thread.start()
assert importing.wait(60)
child = os.fork()
if child == 0:
    signal.alarm(60)
    os._exit(0 if compiled() else 1)
enough.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize(
    "name",
    ["vitrify.nn", "vitrify.tracer.hooks", "vitrify.passes.lower", "vitrify.codegen.emit", "networkx"],
)
def test_a_fork_while_another_thread_imports(name: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"  # a file, since what is compiled needs its source
    program.write_text(IMPORTING.format(name=name))
    environment = {**os.environ, "VITRIFY_CACHE_DIR": str(tmp_path / "cache")}
    subprocess.run([sys.executable, str(program)], check=True, timeout=180, env=environment)
