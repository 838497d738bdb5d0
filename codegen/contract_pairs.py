"""Multiply-adds of pairs: of bfloat16 by the instruction `vdpbf16ps` where there is one, of int16 by
`vpdpwssd`, else their arithmetic spelled out.

A pair is the 32 bits of a float: the step of even number in the low half. The odd step is added first, each
with one rounding, and subnormal numbers count as zeros of their sign (`ir.ops.paired`).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.kernel import VECTOR
from .lanes import Lanes
from .target import PAIRS, Target
from .text import Function, Module

_SIGN, _EXPONENT = -(2**31), 0x7F800000
_LEAST, _UP = 2.0**-126, 2.0**64


def multiply_add_pairs(x: Lanes, a: str, b: str, c: str) -> str:
    """c + a[1] * b[1] + a[0] * b[0] for pairs held as floats (bfloat16) or i32 (int16)."""
    target = x.f.module.target
    if not x.is_float:
        return _integers(x, a, b, c, target is not None and target.has("avx512vnni"))
    if x.width == VECTOR and target is not None and target.has(PAIRS):
        twice = f"<{2 * VECTOR} x bfloat>"
        pairs = [(twice, x.f(f"bitcast {x.type} {v} to {twice}")) for v in (a, b)]
        return x.f.call(x.type, "llvm.x86.avx512bf16.dpbf16ps.512", (x.type, c), *pairs)
    name = f"pairs.{x.suffix}"
    if not x.f.module.defined(name):
        x.f.module.add(_spelled_out(x.f.module, name, x))
    return x.f(f"call {x.type} @{name}({x.type} {a}, {x.type} {b}, {x.type} {c})")


def _integers(x: Lanes, a: str, b: str, c: str, fused: bool) -> str:
    if fused and x.width == VECTOR:
        return x.f.call(x.type, "llvm.x86.avx512.vpdpwssd.512", *((x.type, v) for v in (c, a, b)))
    half = x.const(16)
    for low in (False, True):
        factors = (x("ashr", x("shl", v, half) if low else v, half) for v in (a, b))
        c = x("add", c, x("mul", *factors))
    return c


def _spelled_out(module: Module, name: str, like: Lanes) -> Function:
    f = Function(module, name, [(like.type, v) for v in "abc"], result=like.type, attributes="noinline")
    x = Lanes(f, like.element, like.width)
    total = "%c"
    for odd in (True, False):
        total = _added(x, _number(x, "%a", odd), _number(x, "%b", odd), total)
    f.do(f"ret {x.type} {total}")
    return f


def _number(x: Lanes, pair: str, odd: bool) -> str:
    """One of the two, as a float; zero if subnormal."""
    whole = x.integers
    bits = x.bitcast(pair, whole.element)
    bits = whole("and", bits, whole.const(-(2**16))) if odd else whole("shl", bits, whole.const(16))
    subnormal = whole.compare("eq", whole("and", bits, whole.const(_EXPONENT)), whole.const(0))
    return whole.bitcast(whole.select(subnormal, whole("and", bits, whole.const(_SIGN)), bits), x.element)


def _added(x: Lanes, a: str, b: str, c: str) -> str:
    """fma(a, b, c), zero if it is too small for a normal number even before rounding to subnormals.

    Whether a sum that was rounded to the least normal number is, its double on a larger scale shows; the
    factor that is smaller can be scaled without overflow where that matters, as c and a * b nearly cancel.
    """
    total = x.fma(a, b, c)
    size = x.intrinsic("fabs", total)
    up = x.const(_UP)
    a_smaller = x.compare("olt", x.intrinsic("fabs", a), x.intrinsic("fabs", b))
    small, large = x.select(a_smaller, a, b), x.select(a_smaller, b, a)
    scaled = x.intrinsic("fabs", x.fma(x("fmul", small, up), large, x("fmul", c, up)))
    at_border = x.compare("oeq", size, x.const(_LEAST))
    tiny = x.both(
        "or",
        x.compare("olt", size, x.const(_LEAST)),
        x.both("and", at_border, x.compare("olt", scaled, x.const(_LEAST * _UP))),
    )
    whole = x.integers
    sign = whole("and", x.bitcast(total, whole.element), whole.const(_SIGN))
    return x.select(tiny, whole.bitcast(sign, x.element), total)


def emit_pairs(target: Target) -> str:
    """A module with `pairs(ptr a, ptr b, ptr c, i64 count)`: c[i] + a[i][1] * b[i][1] + a[i][0] * b[i][0] in
    place of c[i], for a multiple of 16 pairs of bfloat16, as contractions compute it."""
    module = Module(target)
    parameters = [("ptr", "a"), ("ptr", "b"), ("ptr", "c"), ("i64", "count")]
    f = Function(module, "pairs", parameters, linkage="")
    x = Lanes(f, "float", VECTOR)

    def some(at: str, _: list[str]) -> Sequence[str]:
        places = [f(f"getelementptr float, ptr %{name}, i64 {at}") for name in "abc"]
        a, b, c = (f(f"load {x.type}, ptr {place}, align 4") for place in places)
        f.do(f"store {x.type} {multiply_add_pairs(x, a, b, c)}, ptr {places[2]}, align 4")
        return []

    f.loop(0, "%count", VECTOR, [], some)
    f.do("ret i64 0")
    module.add(f)
    return module.text()
