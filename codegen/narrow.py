"""bfloat16 and float16 in registers: 16-bit integers, converted to float32 to be computed with.

Roundings are to nearest, ties to even, by integer arithmetic or by the instructions for float16, which give
the same bits; the hardware's conversion to bfloat16 is not used, as it flushes subnormals.
"""

from __future__ import annotations

from ..ir.dtypes import DType, bfloat16
from .lanes import Lanes

_QUIET = 0x40  # the highest bit of a bfloat16's significand: a NaN whose bits are cut off stays one


def to_float(x: Lanes, bits: str, dtype: DType) -> str:
    """The numbers that 16 bits stand for, as float. x: lanes of i16."""
    if dtype is bfloat16:
        wide = x.of("i32")
        return wide.bitcast(wide("shl", x.to("zext", bits, "i32"), wide.const(16)), "float")
    if _has_half(x):
        return x.of("half").to("fpext", x.to("bitcast", bits, "half"), "float")
    return _half_to_float(x, bits)


def from_float(x: Lanes, value: str, dtype: DType) -> str:
    """Floats rounded to 16 bits. x: lanes of float."""
    if dtype is bfloat16:
        return _float_to_bfloat(x, value)
    if _has_half(x):
        return x.of("half").to("bitcast", x.to("fptrunc", value, "half"), "i16")
    return _float_to_half(x, value)


def _has_half(x: Lanes) -> bool:
    """Whether there are instructions for float16: every x86-64-v3 has them."""
    target = x.f.module.target
    return target is not None and target.vector_bytes >= 32


def _float_to_bfloat(x: Lanes, value: str) -> str:
    wide = x.of("i32")
    bits = x.bitcast(value, "i32")
    high = wide("lshr", bits, wide.const(16))
    odd = wide("and", high, wide.const(1))
    rounded = wide("lshr", wide("add", bits, wide("add", odd, wide.const(0x7FFF))), wide.const(16))
    nan = wide("or", high, wide.const(_QUIET))
    return wide.to("trunc", wide.select(x.compare("uno", value, value), nan, rounded), "i16")


def _half_to_float(x: Lanes, bits: str) -> str:
    """The exponent is mended by a product with 2^112, which is exact for subnormals too."""
    wide, real = x.of("i32"), x.of("float")
    whole = x.to("zext", bits, "i32")
    magnitude = wide("shl", wide("and", whole, wide.const(0x7FFF)), wide.const(13))
    finite = real("fmul", wide.bitcast(magnitude, "float"), real.const(2.0**112))
    special = wide("or", magnitude, wide.const(0x7F800000))
    is_finite = wide.compare("ult", magnitude, wide.const(0x7C00 << 13))
    result = wide.select(is_finite, real.bitcast(finite, "i32"), special)
    sign = wide("shl", wide("and", whole, wide.const(0x8000)), wide.const(16))
    return wide.bitcast(wide("or", result, sign), "float")


def _float_to_half(x: Lanes, value: str) -> str:
    """Normal results are rounded as integers; subnormal ones by adding 1/2, whose last bit is worth 2^-24."""
    wide = x.of("i32")
    bits = x.bitcast(value, "i32")
    magnitude = wide("and", bits, wide.const(0x7FFFFFFF))
    odd = wide("and", wide("lshr", magnitude, wide.const(13)), wide.const(1))
    moved = wide("add", wide("sub", magnitude, wide.const((127 - 15) << 23)), wide.const(0xFFF))
    normal = wide("lshr", wide("add", moved, odd), wide.const(13))
    shifted = x("fadd", wide.bitcast(magnitude, "float"), x.const(0.5))
    subnormal = wide("sub", x.bitcast(shifted, "i32"), wide.const(0x3F000000))
    result = wide.select(wide.compare("ult", magnitude, wide.const(0x38800000)), subnormal, normal)
    too_large = wide.compare("uge", magnitude, wide.const(0x47800000))
    result = wide.select(too_large, wide.const(0x7C00), result)
    result = wide.select(x.compare("uno", value, value), wide.const(0x7E00), result)
    sign = wide("and", wide("lshr", bits, wide.const(16)), wide.const(0x8000))
    return wide.to("trunc", wide("or", result, sign), "i16")
