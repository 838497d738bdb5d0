"""Panel fusion: kernels that hand large intermediate results to each other for the same turn of the same
outer loops become one kernel, in which these results never leave the cache.

Attention above all: scores, softmax and the product with the values, for one head after the other. Kernels
join in running order. A kernel joins those from which it reads something, or that read the same, if all run
in the same loops around their work, if each turn of these loops reads only what the same turn has written,
and if no kernel elsewhere has to run in between. Source: loop fusion with array contraction, Darte and Huard
2005, restricted to outer parallel loops.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from heapq import heapify, heappop, heappush
from math import prod

from ...ir.expr import Dim, product
from ...ir.graph import Value
from ...ir.kernel import Contract, Kernel, Local, Sort
from .blocks import in_blocks
from .collapse import collapse_loops
from .groups import Dependences
from .nest import Member, Share, as_one, peel, shared_stretch
from .writer import Built, Memory, Scratch, dtype_of, size_of

#: Bytes of intermediate results below which nothing is gained: they stay in the second-level cache anyway.
WORTH = 256 << 10
#: Bytes of scratch memory of one turn at most: they lie on the stack. More than a second-level cache holds,
#: since each block of rows reads the other operands anew. Measured with 1 MB of cache: attention with its
#: gradients, 1024 rows of 64, takes 110 ms in 640 KB and 102 in 1.5 MB; 2048 rows 492 and 413.
MOST_LOCAL = 1536 << 10
#: Added to running numbers, less this is before all kernels.
BEFORE = 1 << 30
#: Bytes of an intermediate result that a later panel computes anew rather than read it from memory: it would
#: not stay in the third-level cache, and memory is dear.
RECOMPUTED = 16 << 20


@dataclass(eq=False)
class Task:
    """A kernel and its place in the program."""

    built: Built
    position: int

    @cached_property
    def reads(self) -> set[Memory]:
        return set(self._memory("in", "inout", "temp"))

    @cached_property
    def writes(self) -> set[Memory]:
        return set(self._memory("out", "inout", "temp"))

    def _memory(self, *access: str) -> Iterator[Memory]:
        for memory, buffer in zip(self.built.memory, self.built.kernel.buffers, strict=True):
            if buffer.access in access:
                yield memory

    @cached_property
    def collapsed(self) -> Kernel:
        """The kernel as it is if it stays alone: loops that run on in memory are one."""
        return collapse_loops(self.built.kernel)

    @cached_property
    def has_tile(self) -> bool:
        return any(isinstance(s, Contract) for s in self.built.kernel.statements())

    def loses_in(self, extents: tuple[Dim, ...]) -> bool:
        """Whether it is better off outside of loops of these extents: a contraction whose tile takes in loops
        around it."""
        return self.has_tile and product(peel(self.collapsed).extents) != product(extents)

    @cached_property
    def can_join(self) -> bool:
        """Whether it is of a kind that panels are made of."""
        kernel = self.built.kernel
        sorts = any(isinstance(s, Sort) for s in kernel.statements())  # whose work is not in loops
        return not (
            sorts or self.built.checks or kernel.sizes or any(b.access == "inout" for b in kernel.buffers)
        )


@dataclass(eq=False)
class Panel:
    """Kernels, by their numbers in running order, that are to run in one nest of loops."""

    number: int
    extents: tuple[Dim, ...]
    tasks: dict[int, Task]
    members: dict[int, Member]

    @classmethod
    def of(cls, number: int, task: Task, depth: int | None = None) -> Panel:
        """One kernel, in `depth` of its loops, or all that are around its work."""
        member = Member(task.built, depth)
        return cls(number, member.peeled.extents, {number: task}, {number: member})

    def written(self) -> set[Memory]:
        return {m for task in self.tasks.values() for m in task.writes}

    def touched(self) -> set[Memory]:
        return self.written().union(*(task.reads for task in self.tasks.values()))

    def ordered(self) -> list[Member]:
        return [self.members[n] for n in sorted(self.members)]


def fuse_panels(tasks: Sequence[Task], fixed: set[Value]) -> list[Task]:
    """Join kernels where that pays. tasks: in an order in which they may run. fixed: values that have to be
    in memory afterwards."""
    panels = _Fuser().panels_of(tasks)
    recompute(panels, fixed)
    result: dict[int, Task] = dict(enumerate(tasks))
    result |= {n: task for panel in panels for n, task in panel.tasks.items()}
    readers: dict[Memory, list[int]] = {}
    for number, task in result.items():
        for memory in task.reads:
            readers.setdefault(memory, []).append(number)
    for panel in panels:
        made = _joined(panel, readers, fixed) if len(panel.tasks) > 1 else None
        if made is not None:
            last = max(panel.tasks)
            result = {n: task for n, task in result.items() if n not in panel.tasks or n == last}
            result[last] = Task(made, tasks[last].position)
    return list(result.values())


def recompute(panels: Sequence[Panel], fixed: set[Value]) -> None:
    """Let panels compute large results of earlier ones themselves (the weights of attention, backward), so
    that these need not lie in memory in between. fixed: values that do anyway."""
    for late in panels:
        for early in panels:
            if early is not late and early.extents == late.extents:
                common = early.written() & late.touched() - fixed
                wanted = {m for m in common if _size_bytes(m) >= RECOMPUTED}
                needed = _needed_for(wanted, early)
                reads = {m for task in needed.values() for m in task.reads}
                if wanted and sum(t.has_tile for t in needed.values()) == 1 and not reads & fixed:
                    _take_in(needed, late)


def _size_bytes(memory: Memory) -> int:
    size = size_of(memory)
    return size * dtype_of(memory).itemsize if isinstance(size, int) else 0


def _needed_for(wanted: set[Memory], panel: Panel) -> dict[int, Task]:
    """The kernels of a panel that what is wanted is computed by."""
    found: dict[int, Task] = {}
    wanted = set(wanted)
    for number in sorted(panel.tasks, reverse=True):
        task = panel.tasks[number]
        if not task.writes.isdisjoint(wanted):
            found[number] = task
            wanted |= task.reads
    return found


def _take_in(needed: dict[int, Task], panel: Panel) -> None:
    """Put copies of kernels, with memory of their own, before those of a panel, which then read theirs."""
    twins = {m: _twin(m) for task in needed.values() for m in task.writes}
    before = {number - BEFORE: task for number, task in needed.items()}
    for number, task in {**before, **panel.tasks}.items():
        memory = tuple(twins.get(m, m) for m in task.built.memory)
        new = panel.tasks[number] = Task(replace(task.built, memory=memory), task.position)
        panel.members[number] = Member(new.built, len(panel.extents))


def _twin(memory: Memory) -> Memory:
    return Scratch(memory.dtype, memory.size) if isinstance(memory, Scratch) else Value(memory.type)


def _joined(panel: Panel, readers: dict[Memory, list[int]], fixed: set[Value]) -> Built | None:
    """The kernels of a panel as one, or None if nothing is gained. Scratch memory that is too large for one
    turn is cut into blocks of rows; if it can't be, as much of it is kept as there is room for."""
    members, name = panel.ordered(), f"panel_{panel.tasks[min(panel.tasks)].built.kernel.name}"
    kept = _kept(panel, readers, fixed)
    turns = prod(e for e in panel.extents if isinstance(e, int))
    if turns * _nbytes(kept) < WORTH:
        return None
    made = as_one(members, kept, name)
    if _local_bytes(made.kernel) <= MOST_LOCAL:
        return made
    blocks = in_blocks(made.kernel, MOST_LOCAL)
    if blocks is not None:
        return replace(made, kernel=blocks)
    kept = _fitting(kept)
    return as_one(members, kept, name) if turns * _nbytes(kept) >= WORTH else None


def _nbytes(kept: Mapping[Memory, Share]) -> int:
    return sum(share.size * dtype_of(m).itemsize for m, share in kept.items())


def _fitting(kept: Mapping[Memory, Share]) -> dict[Memory, Share]:
    """As much, in order, as there is room for."""
    found: dict[Memory, Share] = {}
    for memory, share in kept.items():
        if _nbytes({**found, memory: share}) <= MOST_LOCAL:
            found[memory] = share
    return found


def _local_bytes(kernel: Kernel) -> int:
    return sum(s.size * s.dtype.itemsize for s in kernel.statements() if isinstance(s, Local))


class _Fuser:
    """Panels under construction."""

    def __init__(self) -> None:
        self._dependences = Dependences()
        self._writer: dict[Memory, int] = {}
        self._readers: dict[Memory, list[int]] = {}
        self._panel_of: dict[int, Panel] = {}

    def panels_of(self, tasks: Iterable[Task]) -> list[Panel]:
        """The panels that the kernels form, those of one kernel too."""
        for task in tasks:
            self._place(task)
        return list(self._panel_of.values())

    def _place(self, task: Task) -> None:
        """Put a kernel into a panel, or leave it alone, all before it having been placed."""
        number = self._dependences.new()
        producers = {self._dependences.find(self._writer[m]) for m in task.reads if m in self._writer}
        self._dependences.need(number, producers)
        if task.can_join:
            beside = (n for m in task.reads for n in reversed(self._readers.get(m, ())))
            self._join(task, number, [*sorted(producers, reverse=True), *beside])
        for memory in task.writes:
            self._writer[memory] = number

    def _join(self, task: Task, number: int, others: Iterable[int]) -> None:
        """Join the kernel to panels that it fits, which become one; else it may begin a panel."""
        own: Panel | None = None
        for panel in self._panels(others):
            new = own or Panel.of(number, task, len(panel.extents))
            if panel is not own and not task.loses_in(panel.extents) and self._fit(new, panel):
                own = self._merge(new, panel)
        if own is None and task.has_tile:
            alone = Panel.of(number, task)
            if _turns(alone) > 1 and not task.loses_in(alone.extents):
                own = self._panel_of[number] = alone
        if own is not None:
            for memory in task.reads:
                self._readers.setdefault(memory, []).append(number)

    def _panels(self, numbers: Iterable[int]) -> Iterator[Panel]:
        for number in dict.fromkeys(numbers):
            panel = self._panel_of.get(self._dependences.find(number))
            if panel is not None:
                yield panel

    def _fit(self, one: Panel, other: Panel) -> bool:
        """Whether two panels can be one."""
        if one.extents != other.extents or not self._dependences.can_merge(one.number, other.number):
            return False
        common = (one.touched() & other.written()) | (one.written() & other.touched())
        members = [*one.members.values(), *other.members.values()]
        return all(shared_stretch(members, memory) is not None for memory in common)

    def _merge(self, gone: Panel, into: Panel) -> Panel:
        self._dependences.merge(gone.number, into.number)
        self._panel_of.pop(gone.number, None)
        into.tasks |= gone.tasks
        into.members |= gone.members
        return into


def _turns(panel: Panel) -> int:
    """How often the loops run; 0 if that is not known."""
    return prod(e if isinstance(e, int) else 0 for e in panel.extents)


def _kept(panel: Panel, readers: dict[Memory, list[int]], fixed: set[Value]) -> dict[Memory, Share]:
    """What only the panel's kernels use, and how large it is for one turn of the loops."""
    written = panel.written()
    found: dict[Memory, Share] = {}
    for memory in dict.fromkeys(m for member in panel.ordered() for m in member.built.memory):
        if memory not in written or memory in fixed:
            continue
        share = shared_stretch(panel.members.values(), memory)
        if share is None or any(n not in panel.tasks for n in readers.get(memory, ())):
            continue
        found[memory] = share
    return found


def in_running_order(kernels: Sequence[Built], positions: Sequence[int]) -> list[Task]:
    """The kernels, each after those that write what it reads, else by their places in the program."""
    tasks = [Task(built, at) for built, at in zip(kernels, positions, strict=True)]
    writer = {memory: n for n, task in enumerate(tasks) for memory in task.writes}
    before = [{writer[m] for m in task.reads if m in writer} - {n} for n, task in enumerate(tasks)]
    after: list[list[int]] = [[] for _ in tasks]
    for n, needed in enumerate(before):
        for other in needed:
            after[other].append(n)
    waiting = [len(needed) for needed in before]
    ready = [(task.position, n) for n, task in enumerate(tasks) if not waiting[n]]
    heapify(ready)
    result: list[Task] = []
    while ready:
        _, n = heappop(ready)
        result.append(tasks[n])
        for other in after[n]:
            waiting[other] -= 1
            if not waiting[other]:
                heappush(ready, (tasks[other].position, other))
    return result
