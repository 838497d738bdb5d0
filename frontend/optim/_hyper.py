"""The one place where optimizers read their hyper-parameters.

A float that is read here is a run-time scalar of a compiled step: changing it, as learning rate schedules do,
never recompiles. The numbers given here take part in arithmetic only (`+ - * / **`, with tensors and with
each other).
"""

from __future__ import annotations

from typing import Any

from vitrify.tracer import recorder

from .._capture import hyper_parameter


def hyper(group: dict[str, Any], name: str) -> Any:
    """The hyper-parameter `name` of a parameter group: a number, a tensor, or a tuple of numbers."""
    return hyper_parameter(group, name) if recorder.count else group[name]
