"""Attributes of operations under the types that the ops declare for them."""

from __future__ import annotations

from typing import cast

from ...ir.contraction import ContractSpec
from ...ir.expr import Dim
from ...ir.graph import Operation
from ...ir.types import Literal


def ints(op: Operation, name: str) -> tuple[int, ...]:
    """A tuple of axes."""
    return cast("tuple[int, ...]", op.attrs[name])


def dims(op: Operation, name: str) -> tuple[Dim, ...]:
    """A tuple of sizes, known or symbolic."""
    return cast("tuple[Dim, ...]", op.attrs[name])


def axis_of(op: Operation) -> int:
    """The one axis of a concat, iota or cumsum."""
    return cast("int", op.attrs["axis"])


def spec_of(op: Operation) -> ContractSpec:
    """What a contraction sums."""
    return cast("ContractSpec", op.attrs["spec"])


def literal_of(op: Operation) -> Literal:
    """The value of a constant."""
    return cast("Literal", op.attrs["value"])
