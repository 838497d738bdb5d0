"""Writes a scan: its body becomes a plan of its own, and a loop runs that on other places of memory in every
turn.

A carry lies where the step that computes it puts it, and is read there by the next: in what the scan gives
out, if the step gives it out too; among the carries as they were before each step, if these are asked for;
else in one of two places in turn. The first turn reads the carry's start where that lies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ...ir import dtypes
from ...ir.expr import Dim, symbol
from ...ir.graph import Graph, Operation, Value
from ...ir.kernel import Buffer, Check, Kernel
from ...ir.plan import Copy, Passed, Plan, Repeat, Step
from ..scans import Parts
from .legalize import unreshaped
from .writer import Built, Memory, Scratch, dtype_of, size_of

#: The axis of the loop.
AXIS = "turn"


def build_scan(op: Operation, lower_body: Callable[[Graph], Plan]) -> Built:
    """The loop of a scan whose operands lie in memory. lower_body: gives the plan of its body."""
    return _Loop(op, lower_body).built()


@dataclass
class _Carry:
    """Where a carry is read and written, and what is to be copied before and after the loop."""

    read: Passed
    written: Passed | None
    before: list[Step] = field(default_factory=list)
    after: list[Step] = field(default_factory=list)


class _Loop:
    """One scan. Buffers are called by the places of their memory in `memory`, until the plan names them."""

    def __init__(self, op: Operation, lower_body: Callable[[Graph], Plan]) -> None:
        self.op = op
        self.parts = p = Parts.of(op)
        self.memory: dict[Memory, tuple[str, str]] = {}
        self.turn: Dim = symbol(AXIS)
        self.time = p.length - 1 - self.turn if p.reverse else self.turn
        self.earlier = self.time + 1 if p.reverse else self.time - 1
        self.later = self.time - 1 if p.reverse else self.time + 1
        count = len(p.given)
        self.finals = op.results[: p.carries]
        self.stacks = dict(zip(p.given, op.results[p.carries : p.carries + count], strict=True))
        self.previous = dict(zip(p.previous, op.results[p.carries + count :], strict=True))
        # What a step gives out is written there, and nowhere else.
        self.outputs = (*(v for v in p.next if v not in self.stacks), *self.stacks)
        body = Graph(p.body.inputs, p.body.operations, self.outputs, (), p.body.name)
        self.body = lower_body(body)

    def built(self) -> Built:
        p = self.parts
        carries = [self._carry(i) for i in range(p.carries)]
        passed = tuple(self._passed(b.kind, b.index, carries) for b in self.body.external)
        arena = None
        if self.body.arena_bytes != 0:
            arena = self._buffer(Scratch(dtypes.uint8, self.body.arena_bytes), "temp")
        repeat = Repeat(AXIS, p.length, self.body, passed, arena, self.op.location)
        steps = [s for c in carries for s in c.before] + [repeat] + [s for c in carries for s in c.after]
        buffers = tuple(
            Buffer(name, dtype_of(m), size_of(m), access) for m, (name, access) in self.memory.items()
        )
        checks = any(True for _ in _codes(self.body))
        kernel = Kernel(f"scan_{p.body.name}", buffers, (), ())
        return Built(kernel, tuple(self.memory), checks, self.op.location, tuple(steps))

    def _buffer(self, memory: Memory, access: str) -> str:
        if isinstance(memory, Value):
            memory = unreshaped(memory)
        if memory not in self.memory:
            self.memory[memory] = f"b{len(self.memory)}", access
        return self.memory[memory][0]

    def _passed(self, kind: str, index: int, carries: list[_Carry]) -> Passed:
        """What an external buffer of the body is in every turn."""
        p = self.parts
        if kind == "input":
            if index < p.carries:
                return carries[index].read
            operand = self._buffer(self.op.operands[index], "in")
            sliced = index < p.carries + p.scanned
            return Passed(operand, self.time * p.body.inputs[index].type.numel if sliced else 0)
        value = self.outputs[index]
        if value in self.stacks:
            return Passed(self._buffer(self.stacks[value], "out"), self.time * value.type.numel)
        written = carries[[i for i, v in enumerate(p.next) if v not in self.stacks][index]].written
        assert written is not None
        return written

    def _carry(self, i: int) -> _Carry:
        value = self.parts.next[i]
        start = self._buffer(self.op.operands[i], "in")
        if value in self.stacks:
            return self._in_stack(i, start, self.stacks[value])
        if i in self.previous:
            return self._in_previous(i, start, self.previous[i])
        size = value.type.numel
        pair = self._buffer(Scratch(value.type.dtype, 2 * size), "temp")
        final = self._buffer(self.finals[i], "out")
        read = Passed(pair, (self.turn + 1) % 2 * size, first=start)
        return _Carry(read, Passed(pair, self.turn % 2 * size, last=final))

    def _in_stack(self, i: int, start: str, stack: Value) -> _Carry:
        """Each step reads what the one before has given out."""
        p, size = self.parts, self.parts.next[i].type.numel
        steps = self._buffer(stack, "out")
        carry = _Carry(Passed(steps, self.earlier * size, first=start), None)
        first, last = (p.length - 1, 0) if p.reverse else (0, p.length - 1)
        final = self._buffer(self.finals[i], "out")
        carry.after.append(Copy(Passed(steps, last * size), Passed(final), size))
        if i in self.previous:
            before = self._buffer(self.previous[i], "out")
            carry.after.append(Copy(Passed(start), Passed(before, first * size), size))
            source, target = (size, 0) if p.reverse else (0, size)
            rest = (p.length - 1) * size
            if rest != 0:
                carry.after.append(Copy(Passed(steps, source), Passed(before, target), rest))
        return carry

    def _in_previous(self, i: int, start: str, stack: Value) -> _Carry:
        """Each step writes the carry to where the next one is to find it."""
        p, size = self.parts, self.parts.next[i].type.numel
        before = self._buffer(stack, "out")
        final = self._buffer(self.finals[i], "out")
        first = p.length - 1 if p.reverse else 0
        carry = _Carry(Passed(before, self.time * size), Passed(before, self.later * size, last=final))
        carry.before.append(Copy(Passed(start), Passed(before, first * size), size))
        return carry


def renamed_step(step: Step, names: dict[str, str]) -> Step:
    """The step with other names of buffers."""
    if isinstance(step, Copy):
        return replace(step, source=_renamed(step.source, names), target=_renamed(step.target, names))
    if isinstance(step, Repeat):
        arena = None if step.arena is None else names[step.arena]
        return replace(step, buffers=tuple(_renamed(b, names) for b in step.buffers), arena=arena)
    return replace(step, buffers=tuple(names[b] for b in step.buffers))


def _renamed(passed: Passed, names: dict[str, str]) -> Passed:
    first, last = (None if b is None else names[b] for b in (passed.first, passed.last))
    return Passed(names[passed.buffer], passed.offset, first, last)


def _codes(body: Plan) -> list[int]:
    """The status codes that the body can give."""
    return [s.code for k in body.all_kernels() for s in k.statements() if isinstance(s, Check)]
