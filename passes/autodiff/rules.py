"""The table of derivatives: for each primitive its vector-Jacobian product, or why it has none.

A rule is called as `rule(build, ct, y, *operands, **attrs)`: ct is the cotangent of the result y =
op(*operands). It gives the cotangent of each operand, None for one that has none (an index, a condition, an
integer). Rules are written against the `Builder` protocol, so the eager tape, a trace and the autodiff pass
use the same ones; being compositions of primitives they can be differentiated again. Where PyTorch picks one
of several subgradients, or one of several formulas, the rules pick the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ...ir.builder import Builder, full
from ...ir.opdef import OpDef

V = TypeVar("V")
Rule = Callable[..., tuple[Any, ...]]

VJP: dict[OpDef, Rule] = {}
#: Why an op has no derivative.
NO_GRADIENT: dict[OpDef, str] = {}


def vjp(opdef: OpDef) -> Callable[[Rule], Rule]:
    """Register the derivative of an op. Raises ValueError if it has one."""

    def register(rule: Rule) -> Rule:
        if opdef in VJP or opdef in NO_GRADIENT:
            raise ValueError(f"the derivative of {opdef.name} is given twice")
        VJP[opdef] = rule
        return rule

    return register


def no_gradient(opdef: OpDef, reason: str) -> None:
    """Declare that an op passes no cotangent on."""
    if opdef in VJP:
        raise ValueError(f"{opdef.name} has a derivative")
    NO_GRADIENT[opdef] = reason


def like(build: Builder[V], value: object, x: V) -> V:
    """A tensor of x's type with `value` everywhere."""
    return full(build, value, build.type_of(x))
