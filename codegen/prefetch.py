"""Which loads fetch memory some way ahead of what they read.

That pays where much is read and little is written: sums, and element by element where results go past the
caches. What is fetched is the next of rows that are not long, so that it arrives while this row is still
being worked on; else 2048 bytes on. Measured on 64 MB: relu(a * x + b) took 4.5 ms without and 2.7 with it;
where results are written into the caches it costs a fifth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..ir.expr import coefficient
from ..ir.kernel import Axis, Contract, Kernel, Load, Loop, Reduce, Statement

Axes = tuple[Axis, ...]

#: Bytes of a buffer that is worth it: more than any second-level cache; and of one that other kernels have
#: driven out of it.
_LARGE, _FAR = 4 << 20, 256 << 10
#: Bytes of results that may be written into the caches, as a part of all.
_SMALL_PART = 1 / 8
#: Bytes to look ahead by themselves, and as the length of a row.
_AHEAD, _LONG_ROW = 2048, 16384


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
    for load, axes in _loads(kernel.body, ()):
        if sizes.get(load.buffer, 0) >= _LARGE and not load.guards and axes:
            found[id(load)] = _distance(load, axes)
            del sizes[load.buffer]
    return found


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


def _distance(load: Load, axes: Axes) -> int:
    steps = [coefficient(load.index, axis.name) for axis in axes[:-1]]
    row = min((s for s in steps if isinstance(s, int) and s > 0), default=0) * load.result.dtype.itemsize
    return row if _AHEAD <= row <= _LONG_ROW else _AHEAD
