"""Puts a plan together: buffers, distinct kernels, calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...ir import ops
from ...ir.expr import Dim
from ...ir.graph import Graph, Value
from ...ir.kernel import Kernel
from ...ir.plan import Call, Plan, PlanBuffer, Step
from ...ir.types import Literal
from .aliasing import is_copy
from .attributes import literal_of
from .build_scan import renamed_step
from .collapse import collapse_loops
from .distinct import distinct_kernels
from .index import linear, reshaped
from .legalize import Legal
from .memory import live_intervals, place_blocks, reuse_inputs
from .order import Schedule
from .streams import mark_streams
from .writer import Built, Checks, KernelWriter, Memory, Scratch, dtype_of, size_of


def assemble(graph: Graph, legal: Legal, order: Schedule, checks: Checks) -> Plan:
    """The plan of these kernels. graph: as it was before it was legalized."""
    copied = [(x, new) for x, new in legal.graph.updates if order.in_place.get(x) is not new]
    kernels = [*order.kernels, *(final_copy(x, new, checks) for x, new in copied)]
    blocks = _Blocks(legal, order, kernels)
    own = [v for v in legal.graph.outputs if v not in order.in_place.values() and v not in legal.taken_over]
    calls, distinct = _calls(mark_streams(kernels, own), blocks)
    outputs = zip(legal.graph.outputs, graph.outputs, strict=True)
    own_kernels = tuple(replace(kernel, numerics=graph.numerics) for kernel in distinct)
    return Plan(
        graph.name, own_kernels, tuple(blocks.buffers.values()), tuple(calls),
        tuple((blocks.name(new), old.type) for new, old in outputs),
        tuple(sorted(graph.inputs.index(x) for x, _ in graph.updates)), graph.symbols(), blocks.arena_bytes,
        tuple(checks.points),
    )  # fmt: skip


def final_copy(x: Value, new: Value, checks: Checks) -> Built:
    """The kernel that overwrites an input with its new contents."""
    writer = KernelWriter(lambda value: True, checks)
    shape = new.type.shape
    with writer.loops(shape, "vector") as index:
        writer.store(
            x,
            linear(reshaped(index, shape, x.type.shape, writer.extents), x.physical_strides),
            writer.read(new, index),
        )
    built = writer.finish("update")
    return replace(built, kernel=collapse_loops(built.kernel))


class _Blocks:
    """The plan's buffers: for each block of memory (named by the value that is first written there) its
    PlanBuffer."""

    def __init__(self, legal: Legal, order: Schedule, kernels: Sequence[Built]) -> None:
        self.buffers: dict[Memory, PlanBuffer] = {}
        self._names: set[str] = set()
        self._taken_over = legal.taken_over
        self._shared = {self._base(new): x for x, new in order.in_place.items()}
        used = dict.fromkeys(self.block(m) for built in kernels for m in built.memory)
        for at, x in enumerate(legal.graph.inputs):
            if x in used:
                self._add(x, "input", x.name or f"in{at}", at)
        for at, value in enumerate(legal.graph.outputs):
            self._add(self.block(value), "output", f"out{at}", at)
        for block in used:
            op = block.operation if isinstance(block, Value) else None
            if op is not None and op.opdef is ops.constant and block not in self.buffers:
                self._add(block, "constant", f"const{len(self.buffers)}", value=literal_of(op))
        self.arena_bytes = self._place_in_arena(kernels, {b for b in used if b not in self.buffers})

    def block(self, memory: Memory) -> Memory:
        """The block that a value lies in."""
        if isinstance(memory, Scratch):
            return memory
        base = self._base(memory)
        return self._shared.get(base, base)

    def name(self, memory: Memory) -> str:
        return self.buffers[self.block(memory)].name

    def _base(self, value: Value) -> Value:
        while value in self._taken_over:
            value = self._taken_over[value]
        return value

    def _add(
        self,
        block: Memory,
        kind: str,
        name: str,
        index: int = -1,
        offset: Dim = 0,
        value: Literal | None = None,
    ) -> None:
        while name in self._names:
            name += "_"
        self._names.add(name)
        self.buffers[block] = PlanBuffer(name, kind, dtype_of(block), size_of(block), index, offset, value)

    def _place_in_arena(self, kernels: Sequence[Built], blocks: set[Memory]) -> Dim:
        block_of = {m: self.block(m) for built in kernels for m in built.memory}
        live = live_intervals(kernels, block_of, blocks)
        taken = reuse_inputs(kernels, block_of, live)
        offsets, total = place_blocks(list(live.values()))
        where = dict(zip(live, offsets, strict=True))
        for number, block in enumerate(b for b in block_of.values() if b in blocks):
            place = block
            while place in taken:
                place = taken[place]
            if block not in self.buffers:
                self._add(block, "arena", f"b{number}", offset=where[place])
        return total


def _calls(kernels: Sequence[Built], blocks: _Blocks) -> tuple[list[Step], list[Kernel]]:
    """The calls in order, and the distinct kernels. A copy of a block onto itself is left out."""
    made = [built for built in kernels if not _is_idle(built, blocks)]
    called = distinct_kernels([built.kernel for built in made if not built.steps])
    left = iter(called)
    calls: list[Step] = []
    for built in made:
        names = tuple(map(blocks.name, built.memory))
        if built.steps:
            named = {b.name: name for b, name in zip(built.kernel.buffers, names, strict=True)}
            calls += [renamed_step(step, named) for step in built.steps]
        else:
            kernel, sizes = next(left)
            calls.append(Call(kernel.name, names, sizes, built.location))
    return calls, list({kernel.name: kernel for kernel, _ in called}.values())


def _is_idle(built: Built, blocks: _Blocks) -> bool:
    names = set(map(blocks.name, built.memory))
    return len(built.memory) == 2 and len(names) == 1 and is_copy(built.kernel)
