"""What compiled code and the run-time's thread pool have agreed on.

    i64 vitrify_parallel(ptr part, ptr context, i64 units, i64 work)

runs i64 part(ptr context, i64 begin, i64 end) for chunks that together are the units 0 .. units - 1, each of
about so much work, and returns the status of the first chunk that failed, or 0. The unit of work is a quarter
of a nanosecond.
"""

from __future__ import annotations

PARALLEL = "vitrify_parallel"

UNITS_PER_NS = 4
#: Less work is not divided.
WORTH = 10_000 * UNITS_PER_NS
#: Less work is not divided if threads have to be woken: a system call, which takes 5 to 10 us.
WORTH_WAKING = 40_000 * UNITS_PER_NS
#: A chunk has no less work, unless it is a single unit.
CHUNK = 4_000 * UNITS_PER_NS
