"""The memory plan: places in one arena such that buffers in use at the same time do not overlap.

A result takes the memory of an input of the same kernel that nobody needs any more, where the kernel allows
it (`aliasing`). Buffers whose size is known at run time only lie one after the other.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...ir.expr import Dim, floordiv
from .aliasing import may_share
from .writer import Built, Memory

#: Bytes: one cache line.
ALIGNMENT = 64


@dataclass
class Interval:
    """A block that is in use from the kernel call `first` to the call `last`, both included."""

    nbytes: Dim
    first: int
    last: int


def live_intervals(
    kernels: Sequence[Built], block_of: Mapping[Memory, Memory], in_arena: set[Memory]
) -> dict[Memory, Interval]:
    """The blocks of the arena and when they are in use. block_of: the block that a value lies in."""
    found: dict[Memory, Interval] = {}
    for at, built in enumerate(kernels):
        for memory, buffer in zip(built.memory, built.kernel.buffers, strict=True):
            block = block_of.get(memory, memory)
            if block in found:
                found[block].last = at
            elif block in in_arena:
                found[block] = Interval(buffer.size * buffer.dtype.itemsize, at, at)
    return found


def reuse_inputs(
    kernels: Sequence[Built], block_of: Mapping[Memory, Memory], live: dict[Memory, Interval]
) -> dict[Memory, Memory]:
    """Let results take the blocks of inputs that die at the same call: (block, the block whose place it
    takes). The intervals of the blocks that are taken are extended, those of the others removed."""
    taken: dict[Memory, Memory] = {}

    def holder(memory: Memory) -> Memory:
        block = block_of.get(memory, memory)
        while block in taken:
            block = taken[block]
        return block

    for at, built in enumerate(kernels):
        pairs = list(zip(built.memory, built.kernel.buffers, strict=True))
        new = [
            (holder(m), b)
            for m, b in pairs
            if b.access == "out" and holder(m) in live and live[holder(m)].first == at
        ]
        dying = [
            (holder(m), b)
            for m, b in pairs
            if b.access == "in" and holder(m) in live and live[holder(m)].last == at
        ]
        for block, written in new:
            for place, (old, read) in enumerate(dying):
                if live[old].nbytes == live[block].nbytes and may_share(
                    built.accesses, read.name, written.name
                ):
                    taken[block] = old
                    live[old].last = live.pop(block).last
                    del dying[place]
                    break
    return taken


def place_blocks(intervals: Sequence[Interval]) -> tuple[list[Dim], Dim]:
    """(offset of each block in bytes, size of the arena), blocks in use at the same time not overlapping.

    Source: "greedy by size", Pisarchyk and Lee 2020, arXiv:2001.03288. Cost: quadratic in the number of
    blocks.
    """
    sizes = [_aligned(i.nbytes) for i in intervals]
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) < len(sizes):
        return _one_after_the_other(sizes)
    offsets: list[Dim] = [0] * len(intervals)
    placed: list[tuple[int, int, Interval]] = []
    for k in sorted(range(len(intervals)), key=lambda k: (-known[k], intervals[k].first)):
        mine, at = intervals[k], 0
        for start, stop, other in placed:
            if mine.first <= other.last and other.first <= mine.last:
                if at + known[k] <= start:
                    break
                at = max(at, stop)
        offsets[k] = at
        insort(placed, (at, at + known[k], mine), key=lambda block: block[0])
    return offsets, max((stop for _, stop, _ in placed), default=0)


def _one_after_the_other(sizes: Sequence[Dim]) -> tuple[list[Dim], Dim]:
    offsets: list[Dim] = []
    end: Dim = 0
    for size in sizes:
        offsets.append(end)
        end = end + size
    return offsets, end


def _aligned(nbytes: Dim) -> Dim:
    return floordiv(nbytes + (ALIGNMENT - 1), ALIGNMENT) * ALIGNMENT
