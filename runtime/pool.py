"""The thread pool: how many threads native code may use, and the pool's life through forks and the end of
the process. `pool_ir` has the pool itself.

Nothing is started before the first job that is worth it. A forked child begins without workers and gets its
own when it needs them.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from ..ir import locks
from .cpus import allowed_cpus
from .pool_ir import FUNCTIONS, MOST_THREADS, module

_SPIN_CYCLES = 100_000  # 30 to 50 us: longer than what lies between the kernels of a plan, mostly
_FOREVER = (1 << 63) - 1
_AT_EXIT_CYCLES = 300_000_000  # a tenth of a second
_FUTEX = {"x86_64": 202, "AMD64": 202, "aarch64": 98}

_lock = locks.rlock()
_threads: int | None = None


def threads() -> int:
    """The number of threads that native code may use, the caller's included."""
    global _threads
    if _threads is None:
        _threads = min(allowed_cpus(), MOST_THREADS)
    return _threads


def set_threads(count: int) -> None:
    """Use so many threads from now on; waits for a job that is running. count: at least 1."""
    global _threads
    with _lock:
        if count == _threads:
            return
        _threads = min(count, MOST_THREADS)
        if _code.cache_info().currsize:
            _resize(_FOREVER)


def running_workers() -> int:
    """How many workers there are."""
    return int(_function("started", ctypes.c_int64)()) if _code.cache_info().currsize else 0


def parallel_address() -> int:
    """The address of `vitrify_parallel` (`codegen.threads`)."""
    with _lock:
        return _code()["parallel"]


@cache
def _code() -> dict[str, int]:
    from .jit import load

    linux = sys.platform == "linux"
    found = load(module(_FUTEX.get(platform.machine()) if linux else None), FUNCTIONS)
    _link(found)
    return found


def _link(code: dict[str, int]) -> None:
    """Give the pool its size and tie it to the life of the process."""
    reset = ctypes.CFUNCTYPE(None)(code["reset"])
    reset()
    resize = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(code["resize"])
    resize(threads(), _spin(), _FOREVER)
    atexit.register(lambda: resize(1, 0, _AT_EXIT_CYCLES))


def _in_child() -> None:
    """Begin without workers, whatever the pool was doing."""
    if _code.cache_info().currsize:
        _function("reset", None)()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def _resize(patience: int) -> None:
    words = (ctypes.c_int64,) * 3
    _function("resize", ctypes.c_int64, *words)(threads(), _spin(), patience)


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    return ctypes.CFUNCTYPE(result, *arguments)(_code()[name])


def _spin() -> int:
    """Workers that have no CPU of their own don't spin."""
    return _SPIN_CYCLES if threads() <= allowed_cpus() else 0
