"""How fast one core reads what another has just written: what threads that share data live on.

Two cores of one last-level cache exchange some three times as many bytes a second as two cores of which each
has its own. On a virtual machine this may change from one second to the next, as the host moves its
processors; it is therefore measured before and after each workload that runs on several threads.
"""

from __future__ import annotations

import ctypes
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from .limits import Loop, compiled, read_loop

#: Bytes that change hands: half of a usual second-level cache.
BYTES = 512 << 10
TAKES = 20

_FILL = """
define void @fill(ptr %x, ptr %unused, i64 %n) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
  %p = getelementptr i8, ptr %x, i64 %i
  store <16 x i32> splat (i32 1), ptr %p, align 64
  %j = add i64 %i, 64
  %more = icmp slt i64 %j, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""


@cache
def _loops() -> tuple[Loop, Loop]:
    (fill,) = compiled(_FILL, ["fill"])
    return fill, read_loop()


def measure() -> float:
    """Bytes a second, at the best of several takes; 0 where there is one core only, or none can be chosen."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        return 0.0
    fill, read = _loops()
    room = (ctypes.c_char * (BYTES + 128))()
    start = -(-ctypes.addressof(room) // 64) * 64

    def timed_read() -> float:
        began = time.perf_counter()
        read(start, start + BYTES, BYTES)
        return time.perf_counter() - began

    with _on(cores[0]) as writer, _on(cores[1]) as reader:
        best = float("inf")
        for _ in range(TAKES):
            writer.submit(fill, start, 0, BYTES).result()
            best = min(best, reader.submit(timed_read).result())
    return BYTES / best


def _on(core: int) -> ThreadPoolExecutor:
    """One thread that stays on a core."""
    return ThreadPoolExecutor(1, initializer=lambda: os.sched_setaffinity(0, {core}))
