"""How much work statements are: enough to tell what is worth dividing between threads, or worth dropping the
interpreter's lock for.

The unit is a quarter of a nanosecond, on a core of 3 to 4 GHz with 64-byte vectors: 16 lanes of arithmetic.
Estimates are index expressions over the kernel's sizes, numbers where sizes are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..ir import ops
from ..ir.expr import Dim, floordiv, product, substitute, symbols_of
from ..ir.kernel import VECTOR, Axis, Compute, Contract, Load, Loop, Reduce, Sort, Statement, Store
from ..ir.ops.sorting import collected
from ..ir.plan import Call, Plan, Repeat

_ACCESS, _SIMPLE, _DIVISION, _FUNCTION = 4, 1, 8, 20
#: What moves memory alone is worth as much as a contraction of so few rows.
_LEAST_ROWS = 4
#: Of a sort: to look at an element, and to bring it to its place.
_VISIT, _SORTED = 2, 40
_DIVISIONS = {ops.div, ops.sqrt, ops.floor_div, ops.rem}


def work(statements: Sequence[Statement], sizes: Collection[str], in_vector: bool = False) -> Dim:
    """The work of running these once. sizes: the kernel's. in_vector: in a vector loop, each for 16 lanes."""
    total: Dim = 0
    for statement in statements:
        total = total + _of(statement, sizes, in_vector)
    return total


def plan_work(plan: Plan) -> Dim:
    """The work of running a plan, over its sizes."""
    kernels = {kernel.name: work(kernel.body, kernel.sizes) for kernel in plan.kernels}
    sizes = {kernel.name: kernel.sizes for kernel in plan.kernels}
    total: Dim = 0
    for step in plan.calls:
        if isinstance(step, Call):
            given = dict(zip(sizes[step.kernel], step.sizes, strict=True))
            total = total + substitute(kernels[step.kernel], given)
        elif isinstance(step, Repeat):
            total = total + step.extent * plan_work(step.body)
    # Where something depends on an outer axis, a middling guess is enough.
    return substitute(total, dict.fromkeys(symbols_of(total) - set(plan.sizes), VECTOR))


def _of(s: Statement, sizes: Collection[str], in_vector: bool) -> Dim:
    match s:
        case Loop():
            vector = s.kind == "vector"
            return turns(s.axis, sizes, vector) * work(s.body, sizes, in_vector or vector)
        case Reduce():
            vector = s.order == "lanes" and not in_vector
            steps = product(_extent(a, sizes) for a in s.axes[:-1]) * turns(s.axes[-1], sizes, vector)
            return steps * (_SIMPLE + work(s.body, sizes, in_vector or vector))
        case Contract():
            columns, depth = turns(s.n, sizes, True), product(_extent(a, sizes) for a in s.over)
            rows = _extent(s.m, sizes)
            if isinstance(rows, int):
                rows = max(rows, _LEAST_ROWS)
            return rows * columns * (depth + work(s.body, sizes))
        case Sort():
            return _VISIT * _size(s.length, sizes) + _SORTED * _size(collected(s.length, s.count), sizes)
        case Load() | Store():
            return _ACCESS
        case Compute():
            if s.opdef in _DIVISIONS:
                return _DIVISION
            return _SIMPLE if s.opdef.exact else _FUNCTION
    return _SIMPLE


def turns(axis: Axis, sizes: Collection[str], vector: bool) -> Dim:
    """How often the body of a loop over the axis runs."""
    extent = _extent(axis, sizes)
    return floordiv(extent + (VECTOR - 1), VECTOR) if vector else extent


def _extent(axis: Axis, sizes: Collection[str]) -> Dim:
    """The size of an axis."""
    return _size(axis.extent, sizes)


def _size(dim: Dim, sizes: Collection[str]) -> Dim:
    """A size; where it depends on an outer axis, a middling guess is enough."""
    return dim if symbols_of(dim) <= set(sizes) else VECTOR
