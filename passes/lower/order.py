"""The order of the kernels, and which updates are made in place.

The new contents of an input are computed straight into its memory if every other kernel that reads the old
contents, and every kernel that has a check, can run before. Else they are computed elsewhere and copied at
the very end.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from ...ir.graph import Value
from .aliasing import is_copy, may_share
from .writer import Built


@dataclass
class Schedule:
    """kernels: in the order in which they run. in_place: (input, the value that takes its memory)."""

    kernels: list[Built]
    in_place: dict[Value, Value] = field(default_factory=dict)


def schedule(
    kernels: Sequence[Built], updates: Sequence[tuple[Value, Value]], taken_over: Mapping[Value, Value],
    positions: Sequence[int],
) -> Schedule:  # fmt: skip
    """Order kernels by their places in the program, as far as dependences allow.

    updates: (input, new contents). taken_over: (value, base) where a kernel writes a value over its base.
    """
    return _Scheduler(kernels, taken_over, positions).run(updates)


class _Scheduler:
    """before: for each kernel those that have to run before it."""

    def __init__(
        self, kernels: Sequence[Built], taken_over: Mapping[Value, Value], positions: Sequence[int]
    ) -> None:
        self.kernels, self.taken_over, self.positions = kernels, taken_over, positions
        self.readers: dict[Value, list[int]] = {}
        self.writer: dict[Value, int] = {}
        for k, built in enumerate(kernels):
            for value in built.values("in"):
                self.readers.setdefault(value, []).append(k)
            for value in built.values("out", "inout"):
                self.writer[value] = k
        self.before: list[set[int]] = [set() for _ in kernels]
        self.after: list[set[int]] = [set() for _ in kernels]
        for value, k in self.writer.items():
            for reader in self.readers.get(value, ()):
                self._order(k, reader)
            if value in taken_over:
                self._order(self.writer[taken_over[value]], k)

    def run(self, updates: Sequence[tuple[Value, Value]]) -> Schedule:
        in_place = {x: new for x, new in updates if self._make_in_place(x, new)}
        return Schedule([self.kernels[k] for k in self._sorted()], in_place)

    def _order(self, first: int, then: int) -> None:
        if first != then:
            self.before[then].add(first)
            self.after[first].add(then)

    def _make_in_place(self, x: Value, new: Value) -> bool:
        """Order the kernels so that the new contents of x can be written in its memory, if possible."""
        written = [new]
        while written[0] in self.taken_over:
            written.insert(0, self.taken_over[written[0]])
        first = self.writer.get(written[0])
        if x.strides is not None or first is None:
            return False
        checking = {k for k, built in enumerate(self.kernels) if built.checks}
        earlier = checking | (set(self.readers.get(x, ())) - self._in_step(x, written))
        if first in earlier or earlier & self._all_after(first):
            return False
        for k in earlier:
            self._order(k, first)
        return True

    def _in_step(self, x: Value, written: Sequence[Value]) -> set[int]:
        """The kernels among those that write these values, one over the other, that may read x although its
        memory is what they write to: the first one, and the second if the first only copies x."""
        found: set[int] = set()
        for value in written[:2]:
            k = self.writer[value]
            built = self.kernels[k]
            names = {m: b.name for m, b in zip(built.memory, built.kernel.buffers, strict=True)}
            if x in names and may_share(built.accesses, names[x], names[value]):
                found.add(k)
            if x not in names or not is_copy(built.kernel):
                break
        return found

    def _all_after(self, k: int) -> set[int]:
        found: set[int] = set()
        pending = [k]
        while pending:
            new = self.after[pending.pop()] - found
            found |= new
            pending += new
        return found

    def _sorted(self) -> list[int]:
        sorter = TopologicalSorter({k: sorted(before) for k, before in enumerate(self.before)})
        sorter.prepare()
        ready: list[tuple[int, int]] = []
        result: list[int] = []
        while sorter.is_active():
            for k in sorter.get_ready():
                heapq.heappush(ready, (self.positions[k], k))
            _, k = heapq.heappop(ready)
            result.append(k)
            sorter.done(k)
        return result
