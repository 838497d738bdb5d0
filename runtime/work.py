"""How much work a plan is: enough to tell a call that is worth dropping the interpreter's lock from
one that isn't."""

from __future__ import annotations

from ..codegen.threads import UNITS_PER_NS
from ..codegen.work import plan_work
from ..ir.expr import Dim, floordiv
from ..ir.plan import Plan


def estimated_ns(plan: Plan) -> Dim:
    """Roughly how many nanoseconds a run takes on one thread, over the plan's sizes."""
    return floordiv(plan_work(plan), UNITS_PER_NS)
