"""`EMIT`: how each elementwise primitive becomes instructions; one rule per OpDef, for scalars and vectors
alike.

A rule is (lanes, *operands, **attributes) -> value; `lanes` is the type of the last operand. No instruction
has a fast-math flag, and no rule calls an elementary function of LLVM's: those would become calls into
libm.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ir import ops
from ..ir.dtypes import DType, bool_, float32
from ..ir.narrow import NARROW
from ..ir.opdef import OpDef
from . import (
    integers,
    narrow,
    vmath_area,
    vmath_atan,
    vmath_erf,
    vmath_erfinv,
    vmath_exp,
    vmath_gamma,
    vmath_log,
    vmath_logistic,
    vmath_trig,
)
from .lanes import REGISTER, Lanes
from .reals import Real
from .text import Function

Rule = Callable[..., str]


def _arithmetic(op: str) -> Rule:
    def rule(x: Lanes, a: str, b: str) -> str:
        return x(f"f{op}" if x.is_float else op, a, b)

    return rule


def _bitwise(op: str) -> Rule:
    return lambda x, a, b: x(op, a, b)


def _intrinsic(name: str) -> Rule:
    return lambda x, a: x.intrinsic(name, a)


def _comparison(ordered: str, order: str) -> Rule:
    """ordered: the predicate for floats; order: for integers, with s or u before it where that matters."""

    def rule(x: Lanes, a: str, b: str) -> str:
        if x.is_float:
            return x.compare(ordered, a, b)
        sign = "" if order in ("eq", "ne") else "u" if x.unsigned else "s"
        return x.compare(sign + order, a, b)

    return rule


def _extremum(name: str) -> Rule:
    """maximum or minimum: NaN if either operand is, and -0 below +0, so that the order of operands never
    matters."""

    def rule(x: Lanes, a: str, b: str) -> str:
        if x.is_float:
            return _float_extremum(x, a, b, name == "maximum")
        if x.element == "i1":
            return x("or" if name == "maximum" else "and", a, b)
        return x.intrinsic(("u" if x.unsigned else "s") + name[:3], a, b)

    return rule


def _relu(x: Lanes, a: str) -> str:
    zero = x.const(0)
    below = x.compare("ole", a, zero) if x.is_float else x.compare("ule" if x.unsigned else "sle", a, zero)
    return x.select(below, zero, a)


def _clamp(order: str) -> Rule:
    """order: how an operand that is beyond the limit compares with it."""

    def rule(x: Lanes, a: str, limit: str) -> str:
        if not x.is_float:
            return x.select(x.compare(("u" if x.unsigned else "s") + order, a, limit), limit, a)
        beyond = x.both("or", x.compare("o" + order, a, limit), x.compare("uno", limit, limit))
        return x.select(beyond, limit, a)

    return rule


def _float_extremum(x: Lanes, a: str, b: str, largest: bool) -> str:
    """Compared both ways: the two differ for NaN, where the bits of both make a NaN again, and for zeros,
    where the larger has the sign bit only if both have it. Half the latency of llvm.maximum.
    """
    predicate, bits = "ogt" if largest else "olt", x.integers
    one = x.bitcast(x.select(x.compare(predicate, a, b), a, b), bits.element)
    other = x.bitcast(x.select(x.compare(predicate, b, a), b, a), bits.element)
    either = bits("or", one, other)
    if largest:
        unsigned = bits("and", either, bits.const(2 ** (bits.bits - 1) - 1))
        either = bits("or", bits("and", one, other), unsigned)
    return bits.bitcast(either, x.element)


def _div(x: Lanes, a: str, b: str) -> str:
    return x.quotient("fdiv", a, b)


def _floor_div(x: Lanes, a: str, b: str) -> str:
    return x.intrinsic("floor", x.quotient("fdiv", a, b)) if x.is_float else integers.floor_div(x, a, b)


def _rem(x: Lanes, a: str, b: str) -> str:
    """frem is C's fmod, which is exact, so that it has the same bits wherever it comes from."""
    if not x.is_float:
        return integers.remainder(x, a, b)
    rest = Real(x, x.quotient("frem", a, b))
    divisor = Real(x, b)
    signs_differ = x.both("xor", rest.compare("olt", 0.0), divisor.compare("olt", 0.0))
    wrong = x.both("and", signs_differ, rest.compare("une", 0.0))
    return (rest + divisor).where(wrong, rest).text


def _elementary(name: str, rule: Rule) -> Rule:
    """The rule as it is for vectors; a function of its own, one per module, for scalars: their speed hardly
    matters, and 200 instructions each time would (an optimizer takes powers for every parameter)."""

    def called(x: Lanes, *operands: str, **attrs: int) -> str:
        if x.width > 1:
            return rule(x, *operands, **attrs)
        function = ".".join(["vitrify", name, *map(str, attrs.values()), x.suffix])
        if not x.f.module.defined(function):
            _define(x, function, lambda *args: rule(*args, **attrs), len(operands))
        return x.f(f"call {x.type} @{function}({', '.join(f'{x.type} {o}' for o in operands)})")

    return called


def _define(x: Lanes, name: str, rule: Rule, arity: int) -> None:
    parameters = [(x.type, f"x{k}") for k in range(arity)]
    f = Function(x.f.module, name, parameters, result=x.type, attributes="noinline")
    f.do(f"ret {x.type} {rule(Lanes(f, x.element, 1), *(f'%{p}' for _, p in parameters))}")
    x.f.module.add(f)


def _power(x: Lanes, a: str, b: str) -> str:
    return _elementary("pow", vmath_log.power)(x, a, b) if x.is_float else integers.power(x, a, b)


def _neg(x: Lanes, a: str) -> str:
    return x("fneg", a) if x.is_float else x("sub", x.const(0), a)


def _abs(x: Lanes, a: str) -> str:
    if x.is_float:
        return x.intrinsic("fabs", a)
    return a if x.unsigned else x.intrinsic("smax", a, x("sub", x.const(0), a))


def _sign(x: Lanes, a: str) -> str:
    """NaN stays; both zeros give +0."""
    zero, one = x.const(0), x.const(1)
    above = x.compare("ogt" if x.is_float else "ugt" if x.unsigned else "sgt", a, zero)
    if x.unsigned:
        return x.select(above, one, zero)
    below = x.compare("olt" if x.is_float else "slt", a, zero)
    other = x.select(x.compare("uno", a, a), a, zero) if x.is_float else zero
    return x.select(above, one, x.select(below, x.const(-1), other))


def _bit_not(x: Lanes, a: str) -> str:
    return x("xor", a, x.const(-1))


def _select(x: Lanes, condition: str, a: str, b: str) -> str:
    return x.select(condition, a, b)


def _cast(x: Lanes, a: str, dtype: DType, source: DType | None = None) -> str:
    """Value conversion by the rules of ir.ops.numeric.cast. source: needed if it is a 16-bit float."""
    if source is not None and source in NARROW:
        return _cast(x.of("float"), narrow.to_float(x, a, source), dtype)
    if dtype in NARROW:
        return narrow.from_float(x.of("float"), _cast(x, a, float32), dtype)
    to = REGISTER[dtype]
    target = x.of(to)
    if dtype is bool_:
        return x.compare("une" if x.is_float else "ne", a, x.const(0))
    if x.is_float:
        return _float_to_float(x, a, to) if target.is_float else _float_to_integer(x, a, target)
    if target.is_float:
        return x.to("uitofp" if x.unsigned else "sitofp", a, to)
    if target.bits == x.bits:
        return a
    return x.to("trunc" if target.bits < x.bits else "zext" if x.unsigned else "sext", a, to)


def _float_to_float(x: Lanes, a: str, to: str) -> str:
    if to == x.element:
        return a
    return x.to("fpext" if to == "double" else "fptrunc", a, to)


def _float_to_integer(x: Lanes, a: str, target: Lanes) -> str:
    """Truncated; what does not fit int32 (int64 for 8-byte targets) becomes its least value, NaN too."""
    wide = x.of("i64" if target.bits == 64 else "i32")
    real = Real(x, x.intrinsic("trunc", a))
    bound = 2.0 ** (wide.bits - 1)
    inside = x.both("and", real.compare("oge", -bound), real.compare("olt", bound))
    whole = x.to("fptosi", real.where(inside, 0.0).text, wide.element)
    result = wide.select(inside, whole, wide.const(-(2 ** (wide.bits - 1))))
    return result if target.bits == wide.bits else wide.to("trunc", result, target.element)


#: One kernel each. Source and error of each: the module that it is from, and docs/accuracy.md.
ELEMENTARY: dict[OpDef, Rule] = {
    ops.exp: vmath_exp.exp,
    ops.exp2: vmath_exp.exp2,
    ops.expm1: vmath_exp.expm1,
    ops.log: vmath_log.log,
    ops.log2: vmath_log.log2,
    ops.log10: vmath_log.log10,
    ops.log1p: vmath_log.log1p,
    ops.sin: vmath_trig.sin,
    ops.cos: vmath_trig.cos,
    ops.tan: vmath_trig.tan,
    ops.asin: vmath_atan.asin,
    ops.acos: vmath_atan.acos,
    ops.atan: vmath_atan.atan,
    ops.atan2: vmath_atan.atan2,
    ops.sinh: vmath_exp.sinh,
    ops.cosh: vmath_exp.cosh,
    ops.tanh: vmath_logistic.tanh,
    ops.asinh: vmath_area.asinh,
    ops.acosh: vmath_area.acosh,
    ops.atanh: vmath_area.atanh,
    ops.erf: vmath_erf.erf,
    ops.erfc: vmath_erf.erfc,
    ops.erfinv: vmath_erfinv.erfinv,
    ops.lgamma: vmath_gamma.lgamma,
    ops.digamma: vmath_gamma.digamma,
    ops.polygamma: vmath_gamma.polygamma,
    ops.rsqrt: vmath_log.rsqrt,
    ops.sigmoid: vmath_logistic.sigmoid,
    ops.softplus: vmath_logistic.softplus,
    ops.silu: vmath_logistic.silu,
    ops.gelu: vmath_erf.gelu,
    ops.gelu_slope: vmath_erf.gelu_slope,
    ops.gelu_tanh: vmath_logistic.gelu_tanh,
}

EMIT: dict[OpDef, Rule] = {
    ops.add: _arithmetic("add"),
    ops.sub: _arithmetic("sub"),
    ops.mul: _arithmetic("mul"),
    ops.div: _div,
    ops.floor_div: _floor_div,
    ops.rem: _rem,
    ops.pow_: _power,
    ops.maximum: _extremum("maximum"),
    ops.minimum: _extremum("minimum"),
    ops.relu: _relu,
    ops.clamp_min: _clamp("lt"),
    ops.clamp_max: _clamp("gt"),
    ops.neg: _neg,
    ops.abs_: _abs,
    ops.sign: _sign,
    ops.floor: _intrinsic("floor"),
    ops.ceil: _intrinsic("ceil"),
    ops.trunc: _intrinsic("trunc"),
    ops.round_: _intrinsic("roundeven"),
    ops.sqrt: _intrinsic("sqrt"),
    **{op: _elementary(op.name, rule) for op, rule in ELEMENTARY.items()},
    ops.eq: _comparison("oeq", "eq"),
    ops.ne: _comparison("une", "ne"),
    ops.lt: _comparison("olt", "lt"),
    ops.le: _comparison("ole", "le"),
    ops.gt: _comparison("ogt", "gt"),
    ops.ge: _comparison("oge", "ge"),
    ops.select: _select,
    ops.fma_: lambda x, a, b, c: x.fma(a, b, c),
    ops.cast: _cast,
    ops.bit_and: _bitwise("and"),
    ops.bit_or: _bitwise("or"),
    ops.bit_xor: _bitwise("xor"),
    ops.bit_not: _bit_not,
    ops.shift_left: integers.shift_left,
    ops.shift_right: integers.shift_right,
    ops.philox: integers.philox,
}
