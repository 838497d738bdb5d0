"""Which loads fetch memory some way ahead of what they read.

That pays where much is read and little is written, but for results that go past the caches: measured on
64 MB, relu(a * x + b) took 4.5 ms without and 2.7 with it; where results are written into the caches it
costs a fifth. A reduction of one array, or of rows, is left to the hardware: it runs ahead by itself, and
what it fetches stays in the last-level cache. But for sums of an array that no cache holds: there the
hardware, which stops at the end of each page, is helped by fetching two pages ahead (64 MB: 2.1 ms without,
1.6 with it; one page ahead gains nothing).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..ir import ops
from ..ir.kernel import Axis, Contract, Kernel, Load, Loop, Reduce, Statement

Axes = tuple[Axis, ...]

#: Bytes of a buffer that is worth it: more than any second-level cache; and of one that other kernels have
#: driven out of it.
_LARGE, _FAR = 4 << 20, 256 << 10
#: Bytes of results that may be written into the caches, as a part of all.
_SMALL_PART = 1 / 8
#: Bytes of an array that no cache holds: more than a usual last-level cache.
_BEYOND = 32 << 20
#: Bytes to look ahead, and in a sum of one array.
_AHEAD, _TWO_PAGES = 2048, 8192


def distances(kernel: Kernel) -> dict[int, int]:
    """How many bytes ahead loads fetch, by their id: the first load of each large buffer."""
    sizes = {
        b.name: b.size * b.dtype.itemsize if isinstance(b.size, int) else 0
        for b in kernel.buffers
        if b.access != "temp"
    }
    reduces = any(isinstance(s, Reduce) for s in kernel.statements())
    counted = ("out", "inout", "stream") if reduces else ("out", "inout")
    written = sum(sizes[b.name] for b in kernel.buffers if b.access in counted)
    if written > _SMALL_PART * sum(sizes.values()):
        return {}
    found: dict[int, int] = {}
    rows = beyond = False
    for load, axes in _loads(kernel.body, ()):
        if sizes.get(load.buffer, 0) >= _LARGE and not load.guards and axes:
            found[id(load)] = _AHEAD
            rows = rows or len(axes) > 1
            beyond = sizes.pop(load.buffer) >= _BEYOND
    if reduces and len(found) == 1:
        sums = any(isinstance(s, Reduce) and s.opdef is ops.reduce_sum for s in kernel.statements())
        return dict.fromkeys(found, _TWO_PAGES) if sums and beyond else {}
    return {} if reduces and rows else found


def far_buffers(kernel: Kernel) -> set[str]:
    """The buffers that are likely to lie outside of the second-level cache when the kernel starts."""
    return {
        b.name
        for b in kernel.buffers
        if b.access not in ("temp", "stream")
        and isinstance(b.size, int)
        and b.size * b.dtype.itemsize >= _FAR
    }


def _loads(statements: Sequence[Statement], axes: Axes) -> Iterator[tuple[Load, Axes]]:
    """The loads, with the axes around them."""
    for s in statements:
        match s:
            case Load():
                yield s, axes
            case Loop():
                yield from _loads(s.body, (*axes, s.axis))
            case Reduce():
                yield from _loads(s.body, (*axes, *s.axes))
            case Contract():
                pass
