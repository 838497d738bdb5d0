"""How much work a plan is: enough to tell a call that is worth dropping the interpreter's lock from
one that isn't."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..ir.expr import Dim, floordiv, product, substitute, symbols_of
from ..ir.kernel import VECTOR, Axis, Contract, Loop, Reduce, Statement
from ..ir.plan import Call, Plan, Repeat


def estimated_ns(plan: Plan) -> Dim:
    """Roughly how many nanoseconds a run takes, over the plan's sizes: statements executed, a vector of
    elements counting as two."""
    kernels = {kernel.name: _steps(kernel.body) for kernel in plan.kernels}
    sizes = {kernel.name: kernel.sizes for kernel in plan.kernels}
    total: Dim = 0
    for step in plan.calls:
        if isinstance(step, Call):
            given = dict(zip(sizes[step.kernel], step.sizes, strict=True))
            total = total + substitute(kernels[step.kernel], given)
        elif isinstance(step, Repeat):
            total = total + step.extent * estimated_ns(step.body)
    # Where something depends on an outer axis, a middling guess is enough.
    return substitute(total, dict.fromkeys(symbols_of(total) - set(plan.sizes), VECTOR))


def _steps(body: Iterable[Statement]) -> Dim:
    total: Dim = 0
    for statement in body:
        if isinstance(statement, Loop):
            count = statement.axis.extent
            total = total + (_vectors(count) if statement.kind == "vector" else count) * _steps(
                statement.body
            )
        elif isinstance(statement, Reduce):
            count = _extent(statement.axes)
            steps = _vectors(count) if statement.order == "lanes" else count
            total = total + steps * (1 + _steps(statement.body))
        elif isinstance(statement, Contract):
            rows = statement.m.extent * floordiv(statement.n.extent + (VECTOR - 1), VECTOR)
            total = total + rows * (_extent(statement.over) + 2 * _steps(statement.body))
        else:
            total = total + 1
    return total


def _vectors(count: Dim) -> Dim:
    return 2 * floordiv(count + (VECTOR - 1), VECTOR)


def _extent(axes: Sequence[Axis]) -> Dim:
    return product(axis.extent for axis in axes)
