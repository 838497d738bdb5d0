"""What rules look at: producers, and values that hold one number everywhere.

A *splat* is a tensor with one number in every place. Its canonical form is `expand(reshape(constant))`, as
`builder.full` makes it: it costs no memory however large the tensor is.
"""

from __future__ import annotations

from typing import Any

from ...ir import ops
from ...ir.dtypes import bfloat16
from ...ir.expr import Dim
from ...ir.graph import Operation, Value
from ...ir.opdef import OpDef
from ...ir.types import Literal

_SPREADING = (ops.expand, ops.reshape, ops.permute)


def producer(value: Value, opdef: OpDef) -> Operation | None:
    """The operation that makes this value, if it is of this kind."""
    op = value.operation
    return op if op is not None and op.opdef is opdef else None


def operand_of(value: Value, opdef: OpDef) -> Value | None:
    """x if the value is opdef(x)."""
    op = producer(value, opdef)
    return op.operands[0] if op is not None else None


def splat_of(value: Value) -> Literal | None:
    """The number, as a rank-0 literal, that stands everywhere in the value, as far as its producers tell."""
    op = value.operation
    while op is not None and op.opdef in _SPREADING:
        op = op.operands[0].operation
    if op is None or op.opdef is not ops.constant:
        return None
    literal = op.attrs["value"]
    assert isinstance(literal, Literal)
    return uniform(literal)


def uniform(literal: Literal) -> Literal | None:
    """The rank-0 literal of which this one holds copies (bit for bit), if it does."""
    size = literal.dtype.itemsize
    if not literal.shape:
        return literal
    if not literal.data or literal.data != literal.data[:size] * (len(literal.data) // size):
        return None
    return Literal(literal.dtype, (), literal.data[:size])


def is_splat(value: Value, number: object) -> bool:
    """Whether the value is this number everywhere; 0.0 and -0.0 are different numbers here."""
    literal = splat_of(value)
    if literal is None or literal.dtype is bfloat16:
        return False
    return Literal.of(number, literal.dtype) == literal


def number_of(value: Value) -> Any:
    """The number of a splat as a Python scalar (int, float or bool); None if it isn't one or has no such
    type."""
    literal = splat_of(value)
    if literal is None or literal.dtype is bfloat16:
        return None
    return literal.array().item()


def ints(attr: object) -> tuple[int, ...]:
    """An attribute that is a tuple of axes or of known sizes."""
    assert isinstance(attr, tuple)
    return attr


def dims(attr: object) -> tuple[Dim, ...]:
    """An attribute that is a tuple of sizes, known or symbolic."""
    assert isinstance(attr, tuple)
    return attr


def all_known(*lists: tuple[Dim, ...]) -> bool:
    """Whether every size is a plain int."""
    return all(isinstance(d, int) for values in lists for d in values)


def without_units(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """The sizes other than 1, in order."""
    return tuple(d for d in shape if d != 1)
