"""What compiled code and the run-time's thread pool have agreed on.

    i64 vitrify_parallel(ptr part, ptr context, i64 units, i64 work, i64 pieces)

runs i64 part(ptr context, i64 begin, i64 end) for chunks that together are the units 0 .. units - 1, each of
about so much work, at most so many pieces per thread, and returns the status of the first chunk that failed,
or 0. The unit of work is a quarter of a nanosecond.

    i64 vitrify_interrupted()

looks for signals now and then, if this is the main thread, and returns -1 if a handler raised (Ctrl-C), else
0. Long plans ask between their kernels.
"""

from __future__ import annotations

PARALLEL = "vitrify_parallel"
INTERRUPTED = "vitrify_interrupted"

UNITS_PER_NS = 4
#: Less work is not divided.
WORTH = 10_000 * UNITS_PER_NS
#: Less work, or less in a row of jobs, is not divided if threads have to be woken: that takes 5 to 20 us.
WORTH_WAKING = 60_000 * UNITS_PER_NS
#: A chunk has no less work, unless it is a single unit.
CHUNK = 4_000 * UNITS_PER_NS
#: Plans with less work do not ask whether they are interrupted.
LONG = 20_000_000 * UNITS_PER_NS
#: So many chunks per thread: one that is late leaves little behind.
PIECES = 16
