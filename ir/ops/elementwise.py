"""Elementwise primitives: operands of one shape, result of that shape. Broadcasting is `expand`,
explicitly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..dtypes import DType, bool_, int32, int64
from ..errors import IRTypeError
from ..opdef import OpDef, define
from ..types import TensorType
from . import gamma, numeric
from .fma import fma


def same_type(*types: TensorType) -> TensorType:
    """The one type of all operands: add(f32[4], f32[4]) -> f32[4]."""
    for t in types[1:]:
        if t != types[0]:
            raise IRTypeError(f"operands must have one type, got {', '.join(map(str, types))}")
    return types[0]


def _of_kinds(kinds: str, what: str) -> Callable[..., TensorType]:
    def rule(*types: TensorType) -> TensorType:
        result = same_type(*types)
        if result.dtype.kind not in kinds:
            raise IRTypeError(f"needs {what} operands, got {result}")
        return result

    return rule


floating = _of_kinds("fc", "floating point")
numbers = _of_kinds("fciu", "numeric (not bool)")
real = _of_kinds("fiu", "real numbers")
integral = _of_kinds("iub", "integer or bool")


def compared(x: TensorType, y: TensorType) -> TensorType:
    """Type of a comparison: lt(f32[4], f32[4]) -> bool[4]."""
    return same_type(x, y).with_dtype(bool_)


def selected(condition: TensorType, x: TensorType, y: TensorType) -> TensorType:
    """Type of select(bool[4], f32[4], f32[4]) -> f32[4]."""
    if condition.dtype is not bool_ or condition.shape != x.shape:
        raise IRTypeError(f"the condition must be bool{list(x.shape)}, got {condition}")
    return same_type(x, y)


def converted(x: TensorType, *, dtype: DType) -> TensorType:
    """Type of cast(f32[4], dtype=i64) -> i64[4]."""
    return x.with_dtype(dtype)


def derivative_order(x: TensorType, *, order: int) -> TensorType:
    """Type of polygamma(f32[4], order=1) -> f32[4]."""
    if order < 1:
        raise IRTypeError(f"polygamma needs an order of 1 or more, got {order}")
    return floating(x)


def _random(seed: TensorType, counter: TensorType, index: TensorType) -> TensorType:
    if same_type(seed, counter, index).dtype is not int64:
        raise IRTypeError(f"philox needs i64 operands, got {seed}")
    return seed.with_dtype(int32)


def _unary(
    name: str, meaning: Callable[..., np.ndarray], rule: object = floating, exact: bool = False
) -> OpDef:
    return define(name, 1, rule, meaning, elementwise=True, wide=True, exact=exact)  # type: ignore[arg-type]


def _binary(name: str, meaning: Callable[..., np.ndarray], rule: object = numbers, **traits: bool) -> OpDef:
    return define(name, 2, rule, meaning, elementwise=True, wide=True, **traits)  # type: ignore[arg-type]


# Arithmetic.
add = _binary("add", np.add, commutative=True)
sub = _binary("sub", np.subtract)
mul = _binary("mul", np.multiply, commutative=True)
div = _binary("div", np.divide, floating)
floor_div = _binary("floor_div", numeric.floor_div, may_raise=True)
rem = _binary("rem", numeric.remainder, may_raise=True)
#: x * y + z, rounded once.
fma_ = define("fma", 3, _of_kinds("f", "floating point"), fma, elementwise=True, wide=True)
pow_ = _binary("pow", numeric.power, exact=False)
maximum = _binary("maximum", numeric.maximum, same_type, commutative=True)
minimum = _binary("minimum", numeric.minimum, same_type, commutative=True)
#: `maximum` and `minimum` with derivatives of their own, and the operand's zero and nan.
relu = _unary("relu", numeric.relu, real, exact=True)
clamp_min = _binary("clamp_min", numeric.clamp_min, real)
clamp_max = _binary("clamp_max", numeric.clamp_max, real)
neg = _unary("neg", np.negative, numbers, exact=True)
abs_ = _unary("abs", np.abs, numbers, exact=True)
sign = _unary("sign", np.sign, numbers, exact=True)

# Rounding. `round` is to even.
floor = _unary("floor", np.floor, exact=True)
ceil = _unary("ceil", np.ceil, exact=True)
trunc = _unary("trunc", np.trunc, exact=True)
round_ = _unary("round", np.round, exact=True)

# Elementary functions, each with one kernel of at most 1 ULP in float32.
exp = _unary("exp", numeric.in_wider(np.exp))
exp2 = _unary("exp2", numeric.in_wider(np.exp2))
expm1 = _unary("expm1", numeric.in_wider(np.expm1))
log = _unary("log", numeric.in_wider(np.log))
log2 = _unary("log2", numeric.in_wider(np.log2))
log10 = _unary("log10", numeric.in_wider(np.log10))
log1p = _unary("log1p", numeric.in_wider(np.log1p))
sin = _unary("sin", numeric.in_wider(np.sin))
cos = _unary("cos", numeric.in_wider(np.cos))
tan = _unary("tan", numeric.in_wider(np.tan))
asin = _unary("asin", numeric.in_wider(np.arcsin))
acos = _unary("acos", numeric.in_wider(np.arccos))
atan = _unary("atan", numeric.in_wider(np.arctan))
atan2 = _binary("atan2", numeric.atan2, floating, exact=False)
sinh = _unary("sinh", numeric.in_wider(np.sinh))
cosh = _unary("cosh", numeric.in_wider(np.cosh))
tanh = _unary("tanh", numeric.in_wider(np.tanh))
asinh = _unary("asinh", numeric.in_wider(np.arcsinh))
acosh = _unary("acosh", numeric.in_wider(np.arccosh))
atanh = _unary("atanh", numeric.in_wider(np.arctanh))
erf = _unary("erf", numeric.in_wider(numeric.erf))
erfc = _unary("erfc", numeric.in_wider(numeric.erfc))
erfinv = _unary("erfinv", numeric.in_wider(numeric.erfinv))
lgamma = _unary("lgamma", numeric.in_wider(gamma.lgamma))
digamma = _unary("digamma", numeric.in_wider(gamma.digamma))
polygamma = _unary("polygamma", gamma.polygamma, derivative_order)
sqrt = _unary("sqrt", np.sqrt, exact=True)
rsqrt = _unary("rsqrt", numeric.in_wider(numeric.rsqrt))
sigmoid = _unary("sigmoid", numeric.in_wider(numeric.sigmoid))
softplus = _unary("softplus", numeric.in_wider(numeric.softplus))
silu = _unary("silu", numeric.in_wider(numeric.silu))
gelu = _unary("gelu", numeric.in_wider(numeric.gelu))
gelu_slope = _unary("gelu_slope", numeric.in_wider(numeric.gelu_slope))
gelu_tanh = _unary("gelu_tanh", numeric.in_wider(numeric.gelu_tanh))

# Comparison and choice.
eq = _binary("eq", np.equal, compared, commutative=True)
ne = _binary("ne", np.not_equal, compared, commutative=True)
lt = _binary("lt", np.less, compared)
le = _binary("le", np.less_equal, compared)
gt = _binary("gt", np.greater, compared)
ge = _binary("ge", np.greater_equal, compared)
select = define("select", 3, selected, np.where, elementwise=True)
cast = define("cast", 1, converted, numeric.cast, elementwise=True)

# Bits. On bool these are the logical operators.
bit_and = _binary("bit_and", np.bitwise_and, integral, commutative=True)
bit_or = _binary("bit_or", np.bitwise_or, integral, commutative=True)
bit_xor = _binary("bit_xor", np.bitwise_xor, integral, commutative=True)
bit_not = _unary("bit_not", np.invert, integral, exact=True)
shift_left = _binary("shift_left", numeric.shift_left, _of_kinds("iu", "integer"))
shift_right = _binary("shift_right", numeric.shift_right, _of_kinds("iu", "integer"))

# Counter-based random bits: word `index % 4` of Philox-4x32-10 at counter `counter + index // 4`, key `seed`.
philox = define("philox", 3, _random, numeric.philox, elementwise=True)
