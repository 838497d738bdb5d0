"""What the machine can do at most, measured beside the workloads: multiply-adds, bytes to and from memory."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

#: Independent chains of multiply-adds: enough to hide their latency on any current core, and few enough for
#: the 16 registers of AVX2.
CHAINS = 12
STEPS = 200_000
#: Bytes of each array that is streamed: as many as the largest workloads read, so what a last-level cache
#: keeps of them from call to call counts for both.
STREAMED = 64 << 20
TAKES = 8


@dataclass(frozen=True)
class Limits:
    """Per second, by as many threads as were asked for: float32 operations in multiply-adds; bytes read;
    bytes read and written by a copy with streaming stores."""

    flops: float
    read: float
    copy: float

    def seconds(self, flops: float, bytes: float) -> float:
        """The least time in which so much can be computed and moved; 0 if neither is known."""
        return max(flops / self.flops, bytes / max(self.read, self.copy))

    def as_json(self) -> dict[str, float]:
        return {"flops_per_s": self.flops, "read_bytes_per_s": self.read, "copy_bytes_per_s": self.copy}


def _multiply_adds(lanes: int) -> str:
    """LLVM IR of `void peak(ptr, i64 n)`: n rounds of CHAINS multiply-adds of so many float32 lanes."""
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
            "define void @peak(ptr %out, ptr %unused, i64 %n) {",
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


#: Four cache lines a round: `read` adds them up, from both halves at once, as two streams
#: bring more than one; `copy` stores them past the caches.
_STREAMS = """
define void @read(ptr %x, ptr %y, i64 %n) {
entry:
  %half = lshr i64 %n, 1
  %z = getelementptr i8, ptr %x, i64 %half
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
  %s0 = phi <16 x i32> [ zeroinitializer, %entry ], [ %t0, %loop ]
  %s1 = phi <16 x i32> [ zeroinitializer, %entry ], [ %t1, %loop ]
  %s2 = phi <16 x i32> [ zeroinitializer, %entry ], [ %t2, %loop ]
  %s3 = phi <16 x i32> [ zeroinitializer, %entry ], [ %t3, %loop ]
{halves}
  %t0 = add <16 x i32> %s0, %v0
  %t1 = add <16 x i32> %s1, %v1
  %t2 = add <16 x i32> %s2, %v2
  %t3 = add <16 x i32> %s3, %v3
  %j = add i64 %i, 128
  %more = icmp slt i64 %j, %half
  br i1 %more, label %loop, label %done
done:
  %u0 = add <16 x i32> %t0, %t1
  %u1 = add <16 x i32> %t2, %t3
  %u2 = add <16 x i32> %u0, %u1
  store <16 x i32> %u2, ptr %y, align 64
  ret void
}
define void @copy(ptr %x, ptr %y, i64 %n) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
{loads}
{stores}
  %j = add i64 %i, 256
  %more = icmp slt i64 %j, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}
!0 = !{i32 1}
"""


def _streams() -> str:
    halves = [line for k in range(4) for line in _load(k, "xz"[k // 2], k % 2)]
    loads = [line for k in range(4) for line in _load(k, "x", k)]
    stores = []
    for k in range(4):
        stores += [f"  %q{k} = getelementptr i8, ptr %y, i64 %o{k}"]
        stores += [f"  store <16 x i32> %v{k}, ptr %q{k}, align 64, !nontemporal !0"]
    lines = {"{halves}": halves, "{loads}": loads, "{stores}": stores}
    text = _STREAMS
    for place, filling in lines.items():
        text = text.replace(place, "\n".join(filling))
    return text


def _load(k: int, base: str, line: int) -> list[str]:
    """%v<k>: a line of the current round."""
    return [
        f"  %o{k} = add i64 %i, {64 * line}",
        f"  %p{k} = getelementptr i8, ptr %{base}, i64 %o{k}",
        f"  %v{k} = load <16 x i32>, ptr %p{k}, align 64",
    ]


Loop = Callable[[int, int, int], None]


def compiled(text: str, names: list[str]) -> list[Loop]:
    """The functions (x, y, n) of these names in the LLVM IR."""
    from vitrify.runtime.jit import load

    addresses = load(text, names)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    return [kind(addresses[name]) for name in names]


def read_loop() -> Loop:
    """Adds up n bytes of x and leaves the sum, of one cache line, at y."""
    return compiled(_streams(), ["read"])[0]


def _best(loop: Loop, arguments: list[tuple[int, int, int]]) -> float:
    """The shortest time in which as many threads as there are argument tuples run the loop."""
    times = []
    with ThreadPoolExecutor(len(arguments)) as pool:
        for _ in range(TAKES):
            start = time.perf_counter()
            list(pool.map(lambda a: loop(*a), arguments))
            times.append(time.perf_counter() - start)
    return min(times)


def fma_peak(lanes: int, threads: int = 1) -> float:
    """Operations a second with vectors of so many float32 lanes (8: AVX2, 16: AVX-512)."""
    (peak,) = compiled(_multiply_adds(lanes), ["peak"])
    rooms = [(ctypes.c_float * 64)() for _ in range(threads)]
    best = _best(peak, [(ctypes.addressof(room), 0, STEPS) for room in rooms])
    return 2.0 * lanes * CHAINS * STEPS * threads / best


def measure(threads: int) -> Limits:
    """The limits of this machine for so many threads, each on memory of its own."""
    import numpy as np

    read, copy = compiled(_streams(), ["read", "copy"])
    share = STREAMED // threads // 4096 * 4096
    arrays = [np.ones(2 * share + 64, np.uint8) for _ in range(threads)]
    starts = [-(-a.ctypes.data // 64) * 64 for a in arrays]
    places = [(x, x + share, share) for x in starts]
    return Limits(
        flops=max(fma_peak(lanes, threads) for lanes in (8, 16)),
        read=share * threads / _best(read, places),
        copy=2 * share * threads / _best(copy, places),
    )
