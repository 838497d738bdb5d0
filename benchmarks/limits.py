"""What the machine can do at most: multiply-add throughput of one core, measured beside the workloads."""

from __future__ import annotations

import ctypes
import time

#: Independent chains of multiply-adds: enough to hide their latency on any current core.
CHAINS = 20
STEPS = 200_000


def _program(lanes: int) -> str:
    """LLVM IR of `void peak(i64 n)`: n rounds of CHAINS multiply-adds of so many float32 lanes."""
    vector = f"<{lanes} x float>"
    start = [f"  %c{i} = phi {vector} [ zeroinitializer, %entry ], [ %d{i}, %loop ]" for i in range(CHAINS)]
    step = [
        f"  %d{i} = call {vector} @llvm.fma.v{lanes}f32({vector} %v, {vector} %c{i}, {vector} %v)"
        for i in range(CHAINS)
    ]
    total = [f"  %s0 = fadd {vector} %d0, %d1"]
    total += [f"  %s{i - 1} = fadd {vector} %s{i - 2}, %d{i}" for i in range(2, CHAINS)]
    return "\n".join(
        [
            f"declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})",
            "define void @peak(i64 %n, ptr %out) {",
            "entry:",
            f"  %v = load {vector}, ptr %out, align 4",
            "  br label %loop",
            "loop:",
            "  %i = phi i64 [ 0, %entry ], [ %j, %loop ]",
            *start,
            *step,
            "  %j = add i64 %i, 1",
            "  %more = icmp slt i64 %j, %n",
            "  br i1 %more, label %loop, label %done",
            "done:",
            *total,
            f"  store {vector} %s{CHAINS - 2}, ptr %out, align 4",
            "  ret void",
            "}",
        ]
    )


def fma_peak(lanes: int) -> float:
    """Operations a second of one core, with vectors of so many float32 lanes (8: AVX2, 16: AVX-512)."""
    from vitrify.runtime.jit import load

    peak = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(load(_program(lanes), ["peak"])["peak"])
    room = (ctypes.c_float * 64)()
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        peak(STEPS, ctypes.addressof(room))
        best = min(best, time.perf_counter() - start)
    return 2.0 * lanes * CHAINS * STEPS / best
