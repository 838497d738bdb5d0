"""Rules for comparisons, choice, bits and casts. All exact."""

from __future__ import annotations

from ...ir import ops
from ...ir.builder import full
from ...ir.dtypes import DType, bool_
from ...ir.graph import Operation, Value
from .driver import Rewriter, rewrites
from .patterns import is_splat, operand_of, producer


@rewrites(ops.eq, ops.ne, ops.lt, ops.le, ops.gt, ops.ge)
def compared_with_itself(op: Operation, build: Rewriter) -> Value | None:
    """x < x -> false, x > x -> false; except for floats, whose NaN differs from itself, x == x -> true and so
    on."""
    x, y = op.operands
    always_false = op.opdef in (ops.lt, ops.gt)
    if x is not y or not (always_false or x.type.dtype.kind in "iub"):
        return None
    return full(build, op.opdef in (ops.eq, ops.le, ops.ge), op.result.type)


@rewrites(ops.eq, ops.ne)
def compared_with_bool(op: Operation, build: Rewriter) -> Value | None:
    """x == true -> x, x != false -> x, x == false -> not x, x != true -> not x, for bool x."""
    x, y = op.operands
    if x.type.dtype is not bool_:
        return None
    true, false = is_splat(y, True), is_splat(y, False)
    if not (true or false):
        return None
    return x if true == (op.opdef is ops.eq) else build(ops.bit_not, x)


@rewrites(ops.bit_not)
def not_of_not(op: Operation, build: Rewriter) -> Value | None:
    """~~x -> x."""
    return operand_of(op.operands[0], ops.bit_not)


@rewrites(ops.bit_not)
def not_of_comparison(op: Operation, build: Rewriter) -> Value | None:
    """not (x == y) -> x != y and back, NaN included; not (x < y) -> x >= y and so on, except for floats: with
    a NaN both x < y and x >= y are false."""
    inner = op.operands[0].operation
    if inner is None or inner.opdef not in _OPPOSITE:
        return None
    if inner.opdef not in (ops.eq, ops.ne) and inner.operands[0].type.dtype.kind not in "iub":
        return None
    return build(_OPPOSITE[inner.opdef], *inner.operands)


_OPPOSITE = {ops.eq: ops.ne, ops.ne: ops.eq, ops.lt: ops.ge, ops.ge: ops.lt, ops.le: ops.gt, ops.gt: ops.le}


@rewrites(ops.bit_and, ops.bit_or, ops.bit_xor)
def bits_with_constant(op: Operation, build: Rewriter) -> Value | None:
    """x & 0 -> 0, x & ~0 -> x, x | 0 -> x, x | ~0 -> ~0, x ^ 0 -> x, x ^ ~0 -> ~x."""
    x, y = op.operands
    zero, ones = is_splat(y, 0), is_splat(y, True if x.type.dtype is bool_ else -1)
    if not (zero or ones):
        return None
    if op.opdef is ops.bit_xor:
        return x if zero else build(ops.bit_not, x)
    return y if zero == (op.opdef is ops.bit_and) else x


@rewrites(ops.select)
def select_of_equal_arms(op: Operation, build: Rewriter) -> Value | None:
    """select(c, x, x) -> x."""
    _, x, y = op.operands
    return x if x is y else None


@rewrites(ops.select)
def select_by_constant(op: Operation, build: Rewriter) -> Value | None:
    """select(true, x, y) -> x, select(false, x, y) -> y."""
    condition, x, y = op.operands
    return x if is_splat(condition, True) else y if is_splat(condition, False) else None


@rewrites(ops.select)
def select_by_not(op: Operation, build: Rewriter) -> Value | None:
    """select(not c, x, y) -> select(c, y, x)."""
    condition, x, y = op.operands
    negated = operand_of(condition, ops.bit_not)
    return build(ops.select, negated, y, x) if negated is not None else None


@rewrites(ops.select)
def select_of_select(op: Operation, build: Rewriter) -> Value | None:
    """select(c, select(c, x, _), y) -> select(c, x, y), and so in the other arm."""
    condition, x, y = op.operands
    inner, other = producer(x, ops.select), producer(y, ops.select)
    if inner is not None and inner.operands[0] is condition:
        return build(ops.select, condition, inner.operands[1], y)
    if other is not None and other.operands[0] is condition:
        return build(ops.select, condition, x, other.operands[2])
    return None


@rewrites(ops.select)
def select_of_truths(op: Operation, build: Rewriter) -> Value | None:
    """select(c, true, false) -> c, select(c, false, true) -> not c."""
    condition, x, y = op.operands
    if x.type.dtype is not bool_:
        return None
    if is_splat(x, True) and is_splat(y, False):
        return condition
    return build(ops.bit_not, condition) if is_splat(x, False) and is_splat(y, True) else None


@rewrites(ops.cast)
def cast_to_same(op: Operation, build: Rewriter) -> Value | None:
    """cast(x) -> x where x has that dtype already."""
    (x,) = op.operands
    return x if op.attrs["dtype"] is x.type.dtype else None


@rewrites(ops.cast)
def cast_of_cast(op: Operation, build: Rewriter) -> Value | None:
    """cast(cast(x, wider), d) -> cast(x, d) where the first cast keeps every value; and where both end in
    integers and the second is not wider than the first: the low bits of the low bits are the low bits."""
    inner = producer(op.operands[0], ops.cast)
    if inner is None:
        return None
    (x,) = inner.operands
    between, last = op.operands[0].type.dtype, op.result.type.dtype
    if keeps_values(x.type.dtype, between) or _narrows(x.type.dtype, between, last):
        return build(ops.cast, x, dtype=last)
    return None


#: Bits of the significand, the leading one included.
_SIGNIFICAND = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}


def keeps_values(source: DType, target: DType) -> bool:
    """Whether a cast loses nothing: every value of `source` is one of `target`."""
    if source is target or source is bool_:
        return not target.is_complex
    if target is bool_ or source.is_complex or target.is_complex:
        return False
    if source.is_floating_point:
        return target.is_floating_point and source.itemsize < target.itemsize
    bits = 8 * source.itemsize - (source.kind == "i")
    if target.is_floating_point:
        return bits <= _SIGNIFICAND[target.name]
    return bits <= 8 * target.itemsize - (target.kind == "i") and not (
        source.kind == "i" and target.kind == "u"
    )


def _narrows(source: DType, between: DType, last: DType) -> bool:
    return all(d.is_integer for d in (source, between, last)) and last.itemsize <= between.itemsize
