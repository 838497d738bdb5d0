"""Rules for arithmetic. Every one gives the same bits as what it replaces (all NaNs counting as equal).

What is missing is missing on purpose: x + 0 -> x loses the sign of -0 + 0 = 0, x * 0 -> 0 loses NaN and inf,
x - x -> 0 too, (x + a) + b -> x + (a + b) rounds elsewhere. On integers these hold and stand here.
"""

from __future__ import annotations

import math

from ...ir import ops
from ...ir.builder import full
from ...ir.graph import Operation, Value
from ...ir.opdef import ALL
from .driver import Rewriter, rewrites
from .patterns import is_splat, number_of, operand_of, producer, splat_of


@rewrites(*(d for d in ALL.values() if d.commutative))
def constant_on_the_left(op: Operation, build: Rewriter) -> Value | None:
    """c + x -> x + c.  Exact. The rules below look for constants on the right only."""
    x, y = op.operands
    if splat_of(x) is None or splat_of(y) is not None:
        return None
    return build(op.opdef, y, x)


@rewrites(ops.mul, ops.div)
def times_one(op: Operation, build: Rewriter) -> Value | None:
    """x * 1 -> x, x / 1 -> x.  Exact."""
    x, y = op.operands
    return x if is_splat(y, 1) else None


@rewrites(ops.mul, ops.div)
def times_minus_one(op: Operation, build: Rewriter) -> Value | None:
    """x * -1 -> neg(x), x / -1 -> neg(x).  Exact."""
    x, y = op.operands
    return build(ops.neg, x) if x.type.dtype.is_signed and is_splat(y, -1) else None


@rewrites(ops.add)
def plus_zero(op: Operation, build: Rewriter) -> Value | None:
    """x + -0.0 -> x; for integers x + 0 -> x.  Exact: 0 + -0 = 0 and -0 + -0 = -0."""
    x, y = op.operands
    return x if x.type.dtype.kind in "fiu" and is_splat(y, -0.0) else None


@rewrites(ops.sub)
def minus_zero(op: Operation, build: Rewriter) -> Value | None:
    """x - 0 -> x.  Exact: 0 - 0 = 0 and -0 - 0 = -0."""
    x, y = op.operands
    return x if x.type.dtype.kind in "fiu" and is_splat(y, 0) else None


@rewrites(ops.sub)
def from_minus_zero(op: Operation, build: Rewriter) -> Value | None:
    """-0.0 - x -> neg(x); for integers 0 - x -> neg(x).  Exact: -0 - 0 = -0 and -0 - -0 = 0."""
    x, y = op.operands
    return build(ops.neg, y) if x.type.dtype.kind in "fi" and is_splat(x, -0.0) else None


@rewrites(ops.add)
def add_of_neg(op: Operation, build: Rewriter) -> Value | None:
    """x + neg(y) -> x - y, neg(x) + y -> y - x.  Exact: IEEE 754 defines the difference so."""
    x, y = op.operands
    if (negated := operand_of(y, ops.neg)) is not None:
        return build(ops.sub, x, negated)
    negated = operand_of(x, ops.neg)
    return build(ops.sub, y, negated) if negated is not None else None


@rewrites(ops.sub)
def sub_of_neg(op: Operation, build: Rewriter) -> Value | None:
    """x - neg(y) -> x + y.  Exact."""
    x, y = op.operands
    negated = operand_of(y, ops.neg)
    return build(ops.add, x, negated) if negated is not None else None


@rewrites(ops.mul, ops.div)
def product_of_negs(op: Operation, build: Rewriter) -> Value | None:
    """neg(x) * neg(y) -> x * y, neg(x) / neg(y) -> x / y.  Exact."""
    x, y = (operand_of(v, ops.neg) for v in op.operands)
    return build(op.opdef, x, y) if x is not None and y is not None else None


@rewrites(ops.mul, ops.div)
def neg_times_constant(op: Operation, build: Rewriter) -> Value | None:
    """neg(x) * c -> x * -c, neg(x) / c -> x / -c.  Exact; floats only: -c of the least integer is itself."""
    x, y = op.operands
    negated, c = operand_of(x, ops.neg), number_of(y)
    if negated is None or not isinstance(c, float):
        return None
    return build(op.opdef, negated, full(build, -c, y.type))


@rewrites(ops.neg)
def neg_of_neg(op: Operation, build: Rewriter) -> Value | None:
    """neg(neg(x)) -> x.  Exact."""
    return operand_of(op.operands[0], ops.neg)


@rewrites(ops.abs_)
def abs_of_neg_or_abs(op: Operation, build: Rewriter) -> Value | None:
    """abs(neg(x)) -> abs(x) for signed types, abs(abs(x)) -> abs(x).  Exact."""
    (x,) = op.operands
    if producer(x, ops.abs_) is not None:
        return x
    negated = operand_of(x, ops.neg)
    return build(ops.abs_, negated) if negated is not None and x.type.dtype.is_signed else None


@rewrites(ops.mul)
def square_of_neg_or_abs(op: Operation, build: Rewriter) -> Value | None:
    """abs(x) * abs(x) -> x * x.  Exact for real numbers; NaN stays NaN."""
    x, y = op.operands
    inner = operand_of(x, ops.abs_)
    if x is not y or inner is None or x.type.dtype.is_complex:
        return None
    return build(ops.mul, inner, inner)


@rewrites(ops.div)
def div_by_power_of_two(op: Operation, build: Rewriter) -> Value | None:
    """x / 2**k -> x * 2**-k.  Exact, subnormals included, while 2**-k is a normal number: both sides are the
    one rounding of the same real number."""
    x, y = op.operands
    c = number_of(y)
    if not isinstance(c, float) or c == 0 or not math.isfinite(c):
        return None
    fraction, exponent = math.frexp(c)
    lowest = -126 if x.type.dtype.itemsize == 4 else -1022 if x.type.dtype.itemsize == 8 else -14
    if abs(fraction) != 0.5 or not lowest <= 1 - exponent <= -lowest:
        return None
    return build(ops.mul, x, full(build, 1.0 / c, y.type))


@rewrites(ops.floor, ops.ceil, ops.trunc, ops.round_)
def rounding_twice(op: Operation, build: Rewriter) -> Value | None:
    """floor(floor(x)) -> floor(x), ceil(round(x)) -> round(x), ...  Exact: a whole number stays as it is."""
    (x,) = op.operands
    inner = x.operation
    return x if inner is not None and inner.opdef in (ops.floor, ops.ceil, ops.trunc, ops.round_) else None


@rewrites(ops.maximum, ops.minimum, ops.bit_and, ops.bit_or)
def idempotent(op: Operation, build: Rewriter) -> Value | None:
    """maximum(x, x) -> x, x & x -> x.  Exact."""
    x, y = op.operands
    return x if x is y else None


@rewrites(ops.maximum, ops.minimum)
def bounded_by_infinity(op: Operation, build: Rewriter) -> Value | None:
    """maximum(x, -inf) -> x, minimum(x, inf) -> x.  Exact: NaN wins on both sides."""
    x, y = op.operands
    neutral = -math.inf if op.opdef is ops.maximum else math.inf
    return x if x.type.dtype.kind == "f" and is_splat(y, neutral) else None


@rewrites(ops.mul)
def integer_times_zero(op: Operation, build: Rewriter) -> Value | None:
    """x * 0 -> 0.  Integers only: for floats NaN, inf and the sign would be lost."""
    x, y = op.operands
    return y if x.type.dtype.is_integer and is_splat(y, 0) else None


@rewrites(ops.sub, ops.bit_xor)
def integer_minus_itself(op: Operation, build: Rewriter) -> Value | None:
    """x - x -> 0, x ^ x -> 0.  Integers only (and bool for ^): inf - inf is NaN."""
    x, y = op.operands
    return full(build, 0, x.type) if x is y and x.type.dtype.kind in "iub" else None


@rewrites(ops.add, ops.mul, ops.bit_and, ops.bit_or, ops.bit_xor)
def integer_constants_meet(op: Operation, build: Rewriter) -> Value | None:
    """(x + a) + b -> x + (a + b), and so for *, &, |, ^.  Exact for integers, which wrap around; floats would
    round elsewhere."""
    x, b = op.operands
    inner = producer(x, op.opdef)
    if inner is None or x.type.dtype.kind not in "iub":
        return None
    y, a = inner.operands
    outer, within = splat_of(b), splat_of(a)
    if outer is None or within is None or op.opdef.meaning is None:
        return None
    both = op.opdef.meaning(within.array(), outer.array())
    return build(op.opdef, y, full(build, both, x.type))


@rewrites(ops.sub)
def integer_minus_constant(op: Operation, build: Rewriter) -> Value | None:
    """x - c -> x + -c.  Exact for integers, which wrap around; brings constants together."""
    x, y = op.operands
    c = splat_of(y)
    if c is None or not x.type.dtype.is_integer:
        return None
    return build(ops.add, x, full(build, -c.array(), x.type))


@rewrites(ops.floor_div, ops.rem)
def integer_division_by_one(op: Operation, build: Rewriter) -> Value | None:
    """x // 1 -> x, x % 1 -> 0.  Integers only: a float x // 1 is floor(x)."""
    x, y = op.operands
    if not x.type.dtype.is_integer or not is_splat(y, 1):
        return None
    return x if op.opdef is ops.floor_div else full(build, 0, x.type)


@rewrites(ops.pow_)
def integer_power(op: Operation, build: Rewriter) -> Value | None:
    """x ** 0 -> 1, x ** 1 -> x, x ** 2 -> x * x.  Exact for integers; a float pow is within 1 ULP of the
    power, which need not be the bits of the product."""
    x, y = op.operands
    exponent = number_of(y)
    if not x.type.dtype.is_integer or exponent not in (0, 1, 2):
        return None
    if exponent == 0:
        return full(build, 1, x.type)
    return x if exponent == 1 else build(ops.mul, x, x)


@rewrites(ops.shift_left, ops.shift_right)
def shift_by_zero(op: Operation, build: Rewriter) -> Value | None:
    """x << 0 -> x, x >> 0 -> x.  Exact."""
    x, y = op.operands
    return x if is_splat(y, 0) else None
