"""A compiled plan that can be called: native code, its constants, and how its operands and results are laid
out.

An executable has no state of its own between calls (blocks for outputs and scratch memory come from the
pool), so any number of threads may call it. Calls that update the same storages wait for each other.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from ..ir import locks
from ..ir.expr import Dim, evaluate
from . import storage
from .call import CallSpec
from .interrupt import raise_interrupt

if TYPE_CHECKING:
    from ..ir.plan import CheckPoint, Plan, PlanBuffer

#: Kinds of buffers that come with a call.
_GIVEN = ("input", "kept")
_MAX_BOUND = 256  # calls remembered per executable, one for each combination of run-time sizes
_BIG = 5_000  # about so many nanoseconds of work pay for dropping the interpreter's lock


class CheckFailed(Exception):
    """A check in native code found bad data. No input has been changed. `checkpoint` says which check it
    was."""

    def __init__(self, checkpoint: CheckPoint) -> None:
        super().__init__(f"{checkpoint.error}: {checkpoint.message}")
        self.checkpoint = checkpoint


class Executable:
    """The native form of a plan."""

    def __init__(self, plan: Plan, run: int, n_inputs: int | None = None, work: Dim | None = None) -> None:
        """run: address of the code that `emit_plan` made of the plan, of which the outside is enough.
        n_inputs: operands of a call (the graph may have more inputs than the plan reads); if None, the plan's
        inputs up to the last one. work: nanoseconds that a run takes, over the plan's sizes."""
        self.plan = plan
        self._work = _work_of(plan) if work is None else work
        read = [b.index for b in plan.buffers if b.kind in _GIVEN]
        self.n_inputs = max(read, default=-1) + 1 if n_inputs is None else n_inputs
        self._run_address = run
        self._constants = {b.name: _constant(b) for b in plan.buffers if b.kind == "constant"}
        self._checks = {check.code: check for check in plan.checks}
        self._bound: dict[tuple[int, ...], Callable[..., Any]] = {}
        self._lock = locks.lock()

    @property
    def memory(self) -> MemoryUse:
        """What it needs."""
        arena = self.plan.arena_bytes if isinstance(self.plan.arena_bytes, int) else 0
        return MemoryUse(arena, sum(map(storage.nbytes, self._constants.values())))

    def run(self, inputs: Sequence[storage.Storage], sizes: Sequence[int] = ()) -> list[storage.Storage]:
        """Run on these storages, updating those that the plan updates; the storages of the outputs, in order.

        sizes: values of `plan.sizes`. Raises CheckFailed before any update was made.
        """
        results = self.bind(sizes)(*inputs)
        return list(results) if isinstance(results, tuple) else [results]

    def bind(self, sizes: Sequence[int] = ()) -> Callable[..., Any]:
        """The call for these run-time sizes: takes storages, gives the output's storage, or a tuple if not
        exactly one."""
        key = tuple(sizes)
        found = self._bound.get(key)
        if found is None:
            with self._lock:
                if len(self._bound) >= _MAX_BOUND:
                    self._bound.clear()
                found = self._bound[key] = storage.make_call(self.call_spec(key))
        return found

    def call_spec(self, sizes: Sequence[int] = ()) -> CallSpec:
        """What a call for these run-time sizes needs to know. Raises TypeError for a wrong number of them."""
        plan, external = self.plan, self.plan.external
        if len(sizes) != len(plan.sizes):
            raise TypeError(f"{plan.name} has run-time sizes {plan.sizes}, got {len(sizes)}")
        values = dict(zip(plan.sizes, sizes, strict=True))
        made = [b.name for b in external if b.kind == "output"]
        slots = {b.name: slot for slot, b in enumerate(external)}
        operands = {b.index: slots[b.name] for b in external if b.kind in _GIVEN}
        inputs_by_name = {b.name: b.index for b in external if b.kind == "input"}
        return CallSpec(
            run=self._run_address,
            fail=partial(_raise_check, self._checks),
            sizes=tuple(sizes),
            template=tuple(
                storage.address(self._constants[b.name]) if b.kind == "constant" else 0 for b in external
            ),
            inputs=tuple(operands.get(i, -1) for i in range(self.n_inputs)),
            outputs=tuple((slots[b.name], _nbytes(b, values)) for b in external if b.kind == "output"),
            results=tuple(
                ~inputs_by_name[name] if name in inputs_by_name else made.index(name)
                for name, _ in plan.outputs
            ),
            updates=plan.updated,
            arena_bytes=evaluate(plan.arena_bytes, values),
            drop_gil=evaluate(self._work, values) > _BIG,
            keep=self._constants,  # not the executable, which holds the call: such a cycle is not collected
        )


@dataclass(frozen=True)
class MemoryUse:
    """Bytes that an executable needs beside its operands and results. arena: of one call, borrowed from the
    pool (0 where it depends on run-time sizes); constants and kept weights: for as long as it lives."""

    arena: int
    constants: int
    kept: int = 0

    def __add__(self, other: MemoryUse) -> MemoryUse:
        """Of two that run one after the other."""
        constants, kept = self.constants + other.constants, self.kept + other.kept
        return MemoryUse(max(self.arena, other.arena), constants, kept)


def _work_of(plan: Plan) -> Dim:
    from .work import estimated_ns  # kernels: not needed while nothing is compiled

    return estimated_ns(plan)


def _raise_check(checks: Mapping[int, CheckPoint], status: int) -> NoReturn:
    if status < 0:
        raise_interrupt()
    raise CheckFailed(checks[status])


def _constant(buffer: PlanBuffer) -> storage.Storage:
    """A block with a constant's bytes."""
    assert buffer.value is not None
    block = storage.allocate(len(buffer.value.data))
    ctypes.memmove(storage.address(block), buffer.value.data, len(buffer.value.data))
    return block


def _nbytes(buffer: PlanBuffer, sizes: dict[str, int]) -> int:
    return evaluate(buffer.size, sizes) * buffer.dtype.itemsize
