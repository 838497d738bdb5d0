"""How much work a plan is: enough to tell a call that is worth dropping the interpreter's lock from
one that isn't."""

from __future__ import annotations

from collections.abc import Iterable

from ..ir.expr import evaluate
from ..ir.kernel import VECTOR, Contract, Loop, Reduce, Statement
from ..ir.plan import Call, Plan, Repeat


def estimated_ns(plan: Plan, sizes: dict[str, int]) -> int:
    """Roughly how many nanoseconds a run takes: statements executed, a vector of elements counting as two."""
    kernels = {kernel.name: kernel for kernel in plan.kernels}
    total = 0
    for step in plan.calls:
        if isinstance(step, Call):
            kernel = kernels[step.kernel]
            given = (evaluate(size, sizes) for size in step.sizes)
            total += _steps(kernel.body, dict(zip(kernel.sizes, given, strict=True)))
        elif isinstance(step, Repeat):
            total += evaluate(step.extent, sizes) * estimated_ns(step.body, sizes)
    return total


def _steps(body: Iterable[Statement], sizes: dict[str, int]) -> int:
    total = 0
    for statement in body:
        if isinstance(statement, Loop):
            count, inside = _extent(statement.axis.extent, sizes), _steps(statement.body, sizes)
            total += -(-count // VECTOR) * 2 * inside if statement.kind == "vector" else count * inside
        elif isinstance(statement, Reduce):
            count = 1
            for axis in statement.axes:
                count *= _extent(axis.extent, sizes)
            steps = -(-count // VECTOR) * 2 if statement.order == "lanes" else count
            total += steps * (1 + _steps(statement.body, sizes))
        elif isinstance(statement, Contract):
            rows = _extent(statement.m.extent, sizes) * -(-_extent(statement.n.extent, sizes) // VECTOR)
            depth = 1
            for axis in statement.over:
                depth *= _extent(axis.extent, sizes)
            total += rows * (depth + 2 * _steps(statement.body, sizes))
        else:
            total += 1
    return total


def _extent(extent: object, sizes: dict[str, int]) -> int:
    """The size of an axis; where it depends on an outer axis, a middling guess is enough."""
    try:
        return evaluate(extent, sizes)  # type: ignore[arg-type]
    except KeyError:
        return VECTOR
