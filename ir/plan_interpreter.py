"""Runs a plan with the kernel interpreter: what `codegen` makes of the plan has to do the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .errors import IRError
from .expr import evaluate
from .kernel_interpreter import run_kernel
from .plan import Call, Copy, Passed, Plan, PlanBuffer, Repeat


class PlanStopped(IRError):
    """A check failed; `code` is its status."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the plan stopped with the status {code}")
        self.code = code


def run_plan(
    plan: Plan, inputs: Sequence[np.ndarray], sizes: Mapping[str, int] | None = None
) -> list[np.ndarray]:
    """The outputs. `inputs` are the storages of the graph's inputs, flat or of any dense shape; those that
    the plan updates are written in place. The arena is one block of memory, filled with NaN patterns at the
    start.

    Raises PlanStopped if a check fails, and what `run_kernel` raises.
    """
    known = dict(sizes or {})
    arena = np.full(evaluate(plan.arena_bytes, known), 0xFF, np.uint8)
    arrays = {b.name: _array(b, inputs, arena, known) for b in plan.buffers}
    _run(plan, arrays, known)
    return [
        arrays[name].reshape([evaluate(d, known) for d in type_.shape]).copy() for name, type_ in plan.outputs
    ]


def _run(plan: Plan, arrays: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> None:
    for step in plan.calls:
        match step:
            case Call():
                _call(plan, step, arrays, sizes)
            case Copy():
                size = evaluate(step.size, sizes)
                _passed(step.target, arrays, sizes)[:size] = _passed(step.source, arrays, sizes)[:size]
            case Repeat():
                _repeat(step, arrays, sizes)


def _call(plan: Plan, call: Call, arrays: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> None:
    kernel = next(k for k in plan.kernels if k.name == call.kernel)
    passed = {p.name: arrays[name] for p, name in zip(kernel.buffers, call.buffers, strict=True)}
    values = {name: evaluate(size, sizes) for name, size in zip(kernel.sizes, call.sizes, strict=True)}
    if status := run_kernel(kernel, passed, values):
        raise PlanStopped(status)


def _repeat(step: Repeat, arrays: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> None:
    body = step.body
    extent, room = evaluate(step.extent, sizes), evaluate(body.arena_bytes, sizes)
    arena = np.empty(0, np.uint8) if step.arena is None else arrays[step.arena].view(np.uint8)[:room]
    for turn in range(extent):
        inside = {b.name: _array(b, (), arena, sizes) for b in body.buffers if b.kind == "arena"}
        for buffer, passed in zip(body.external, step.buffers, strict=True):
            edge = passed.first if turn == 0 and passed.first is not None else None
            edge = passed.last if turn == extent - 1 and passed.last is not None else edge
            place = passed if edge is None else Passed(edge)
            given = _passed(place, arrays, {**sizes, step.axis: turn})
            inside[buffer.name] = given[: evaluate(buffer.size, sizes)]
        _run(body, inside, sizes)


def _passed(passed: Passed, arrays: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> np.ndarray:
    return arrays[passed.buffer][evaluate(passed.offset, sizes) :]


def _array(
    buffer: PlanBuffer, inputs: Sequence[np.ndarray], arena: np.ndarray, sizes: Mapping[str, int]
) -> np.ndarray:
    """The buffer's memory, flat."""
    size = evaluate(buffer.size, sizes)
    match buffer.kind:
        case "input" | "kept":
            return inputs[buffer.index].reshape(-1)
        case "constant" if buffer.value is not None:
            return buffer.value.array().reshape(-1)
        case "arena":
            start = evaluate(buffer.offset, sizes)
            return arena[start : start + size * buffer.dtype.itemsize].view(buffer.dtype.numpy)
    return np.full(size * buffer.dtype.itemsize, 0xFF, np.uint8).view(buffer.dtype.numpy)
