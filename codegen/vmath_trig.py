"""Sine, cosine and tangent, for arguments of any size.

x = n pi/2 + r, |r| <= pi/4. Up to a limit n pi/2 is subtracted in two or three parts (Cody and Waite).
Where a lane is beyond it, a branch that is hardly ever taken reduces lane by lane with the bits of 2/pi
that matter for the exponent (Payne and Hanek 1983).
"""

from __future__ import annotations

from collections.abc import Sequence

from .lanes import Lanes
from .reals import Real, polynomial, rounded, widened
from .text import Function, Module
from .twofold import Twofold, fast_two_sum
from .vmath_exp import MAGIC

_TWO_OVER_PI = 0.6366197723675814
_HALF_PI = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
#: Beyond these the subtraction in parts loses digits.
_LIMIT_SHORT, _LIMIT_FULL = 2.0**28, 2.0**20
# (sin r - r) / r^3 and (cos r - 1 + r^2 / 2) / r^4 in r^2, to 2^-37 and 2^-43, and to 2^-58 and 2^-64.
_SIN_SHORT = (-0.1666666663957736, 0.008333329145201435, -0.00019839256843171994, 2.7175652745172407e-06)
_COS_SHORT = (0.041666666619203686, -0.0013888883438374772, 2.4799436394744554e-05, -2.7203302632352323e-07)
_SIN_FULL = (
    -0.16666666666666627, 0.0083333333333213, -0.00019841269828878852, 2.7557313358273238e-06,
    -2.505070429409015e-08, 1.589359407296141e-10,
)  # fmt: skip
_COS_FULL = (
    0.04166666666666659, -0.0013888888888872603, 2.480158728849419e-05, -2.7557314057015824e-07,
    2.087568192231824e-09, -1.1357450212714957e-11,
)  # fmt: skip
#: The bits of 2/pi after the point, 64 zeros first.
_BITS = (
    0x0, 0xA2F9836E4E441529, 0xFC2757D1F534DDC0, 0xDB6295993C439041, 0xFE5163ABDEBBC561, 0xB7246E3A424DD2E0,
    0x06492EEA09D1921C, 0xFE1DEB1CB129A73E, 0xE88235F52EBB4484, 0xE99C7026B45F7E41, 0x3991D639835339F4,
    0x9C845F8BBDF9283B, 0x1FF897FFDE05980F, 0xEF2F118B5A0A6D1F, 0x6D367ECF27CB09B7, 0x4F463F669E5FEA2D,
    0x7527BAC7EBE5F17B, 0x3D0739F78A5292EA, 0x6BFB5FB11F8D5D08, 0x56033046FC7B6BAB,
)  # fmt: skip
_REDUCE = "vitrify.reduce"


def sin(lanes: Lanes, x: str) -> str:
    """The sine; NaN at infinities."""
    return _trigonometric(lanes, x, cosine=False)


def cos(lanes: Lanes, x: str) -> str:
    """The cosine; NaN at infinities."""
    return _trigonometric(lanes, x, cosine=True)


def _trigonometric(lanes: Lanes, x: str, cosine: bool) -> str:
    if lanes.element == "float":
        r, quadrant = _reduced_short(widened(lanes, x))
        return rounded(_of_quadrant(_sin_short(r), _cos_short(r), quadrant, cosine))
    real = Real(lanes, x)
    r, rest, quadrant = _reduced_full(real)
    result = _of_quadrant(_sin_parts(r, rest).high, _cos_parts(r, rest).high, quadrant, cosine)
    return result.text if cosine else real.where(real.compare("oeq", 0.0), result).text


def tan(lanes: Lanes, x: str) -> str:
    """The tangent; NaN at infinities."""
    real = Real(lanes, x)
    if lanes.element == "float":
        r, quadrant = _reduced_short(widened(lanes, x))
        above, below = _swapped(_sin_short(r), _cos_short(r), quadrant)
        return Real(lanes, rounded(above / below)).unless(real.compare("oeq", 0.0), real).text
    r, rest, quadrant = _reduced_full(real)
    sine, cosine = _sin_parts(r, rest), _cos_parts(r, rest)
    high = _swapped(sine.high, cosine.high, quadrant)
    low = _swapped(sine.low, cosine.low, quadrant)
    quotient = Twofold(high[0], low[0]) / Twofold(high[1], low[1])
    return real.where(abs(real).compare("olt", 2.0**-30), quotient.value()).text


def _swapped(sine: Real, cosine: Real, quadrant: str) -> tuple[Real, Real]:
    """What the tangent is the quotient of: sin / cos, or -cos / sin in an odd quadrant."""
    integers = sine.lanes.integers
    odd = integers.compare("ne", integers("and", quadrant, integers.const(1)), integers.const(0))
    return (-cosine).where(odd, sine), sine.where(odd, cosine)


def _of_quadrant(sine: Real, cosine: Real, quadrant: str, shifted: bool) -> Real:
    """The value in a quadrant: sin, cos, -sin, -cos for the sine; the cosine is one quadrant ahead."""
    integers = sine.lanes.integers
    if shifted:
        quadrant = integers("add", quadrant, integers.const(1))
    odd = integers.compare("ne", integers("and", quadrant, integers.const(1)), integers.const(0))
    value = cosine.where(odd, sine)
    sign = integers("shl", integers("lshr", quadrant, integers.const(1)), integers.const(63))
    return value.from_bits(integers("xor", value.bits(), sign))


# On [-pi/4, pi/4].


def _sin_short(r: Real) -> Real:
    z = r * r
    return r * z.fma(polynomial(z, _SIN_SHORT), 1.0)


def _cos_short(r: Real) -> Real:
    z = r * r
    return (z * z).fma(polynomial(z, _COS_SHORT), z.fma(-0.5, 1.0))


def _sin_parts(r: Real, rest: Real) -> Twofold:
    """sin(r + rest)."""
    z = r * r
    return fast_two_sum(r, (z * r).fma(polynomial(z, _SIN_FULL), rest * z.fma(-0.5, 1.0)))


def _cos_parts(r: Real, rest: Real) -> Twofold:
    """cos(r + rest), with the rounding of 1 - r^2 / 2 made up for."""
    z = r * r
    half = z * 0.5
    near = 1.0 - half
    lost = (1.0 - near) - half
    return fast_two_sum(near, lost + (z * z).fma(polynomial(z, _COS_FULL), -(r * rest)))


# Reduction.


def _reduced_short(x: Real) -> tuple[Real, str]:
    """(r, quadrant), for doubles that were floats; r to about 2^-53."""
    z = x.fma(_TWO_OVER_PI, MAGIC["double"])
    n = z - MAGIC["double"]
    r = n.fma(-_HALF_PI[1], n.fma(-_HALF_PI[0], x))
    r, _, quadrant = _with_far_lanes(x, _LIMIT_SHORT, r, r, z.bits())
    return r, quadrant


def _reduced_full(x: Real) -> tuple[Real, Real, str]:
    """(r, rest, quadrant), r + rest to about 2^-100."""
    z = x.fma(_TWO_OVER_PI, MAGIC["double"])
    n = z - MAGIC["double"]
    near = n.fma(-_HALF_PI[0], x)
    part = n * _HALF_PI[1]
    part_rest = n.fma(_HALF_PI[1], -part)
    r = near - part
    from_part = r - near
    lost = (near - (r - from_part)) - (part + from_part)
    rest = n.fma(-_HALF_PI[2], lost - part_rest)
    return _with_far_lanes(x, _LIMIT_FULL, r, rest, z.bits())


def _with_far_lanes(x: Real, limit: float, r: Real, rest: Real, quadrant: str) -> tuple[Real, Real, str]:
    """The reduction with lanes beyond the limit replaced by their exact one."""
    lanes, integers = x.lanes, x.lanes.integers
    size = abs(x)
    far = lanes.both("and", size.compare("ogt", limit), size.compare("olt", float("inf")))

    def replaced() -> Sequence[str]:
        far_r, far_rest, far_quadrant = _reduced_far(x)
        return (
            lanes.select(far, far_r, r.text),
            lanes.select(far, far_rest, rest.text),
            integers.select(far, far_quadrant, quadrant),
        )

    kept = [(lanes.type, r.text), (lanes.type, rest.text), (integers.type, quadrant)]
    new_r, new_rest, new_quadrant = lanes.f.when(lanes.any(far), replaced, kept)
    return Real(lanes, new_r), Real(lanes, new_rest), new_quadrant


def _reduced_far(x: Real) -> tuple[str, str, str]:
    """(r, rest, quadrant) of every lane, one after the other; lanes of any size are safe."""
    lanes, f = x.lanes, x.lanes.f
    _define_reduce(f.module)
    count = lanes.width
    numbers, quadrants = f.alloca("double", 3 * count), f.alloca("i64", count)
    f.do(f"store {lanes.type} {x.text}, ptr {numbers}, align 8")

    def one(lane: str, _: list[str]) -> Sequence[str]:
        number = f(f"load double, ptr {f(f'getelementptr double, ptr {numbers}, i64 {lane}')}, align 8")
        r = f(f"getelementptr double, ptr {numbers}, i64 {f(f'add i64 {lane}, {count}')}")
        rest = f(f"getelementptr double, ptr {numbers}, i64 {f(f'add i64 {lane}, {2 * count}')}")
        quadrant = f(f"call i64 @{_REDUCE}(double {number}, ptr {r}, ptr {rest})")
        f.do(f"store i64 {quadrant}, ptr {f(f'getelementptr i64, ptr {quadrants}, i64 {lane}')}, align 8")
        return []

    f.loop(0, count, 1, [], one)
    loaded = []
    for at in (1, 2):
        pointer = f(f"getelementptr double, ptr {numbers}, i64 {at * count}")
        loaded.append(f(f"load {lanes.type}, ptr {pointer}, align 8"))
    return loaded[0], loaded[1], f(f"load {lanes.integers.type}, ptr {quadrants}, align 8")


def _define_reduce(module: Module) -> None:
    """i64 @vitrify.reduce(double x, ptr r, ptr rest): the quadrant of a finite x, |x| >= 1; any other x
    gives some number.
    """
    if module.defined(_REDUCE):
        return
    f = Function(module, _REDUCE, [("double", "x"), ("ptr", "r"), ("ptr", "rest")], attributes="noinline")
    product = _product_with_bits(f)
    fraction = f(f"shl i128 {product}, 2")
    below = f(f"icmp slt i128 {fraction}, 0")
    whole = f(f"trunc i128 {f(f'lshr i128 {product}, 126')} to i64")
    quadrant = f(f"add i64 {whole}, {f(f'zext i1 {below} to i64')}")
    high, low = _as_doubles(f, fraction, below)
    half_pi = Real(high.lanes, high.lanes.const(_HALF_PI[0]))
    r = high * half_pi
    rest = low.fma(half_pi, high.fma(_HALF_PI[1], high.fma(half_pi, -r)))
    negative = f("fcmp olt double %x, 0.0")
    for value, place in ((r, "%r"), (rest, "%rest")):
        f.do(f"store double {(-value).where(negative, value).text}, ptr {place}, align 8")
    opposite = f(f"sub i64 0, {quadrant}")
    f.do(f"ret i64 {f(f'select i1 {negative}, i64 {opposite}, i64 {quadrant}')}")
    module.add(f)


def _product_with_bits(f: Function) -> str:
    """x * 2/pi modulo 4 as a fixed-point number: i128 with 126 bits after the point."""
    table = f.module.table("vitrify.two_over_pi", _table_text())
    bits = f("bitcast double %x to i64")
    exponent = f(f"and i64 {f(f'lshr i64 {bits}, 52')}, 2047")
    mantissa = f(f"or i64 {f(f'and i64 {bits}, {(1 << 52) - 1}')}, {1 << 52}")
    # x = mantissa * 2^(exponent - 1075): bits of 2/pi above 2^-(exponent - 1077) give multiples of 4
    offset = f.call("i64", "llvm.smax.i64", ("i64", f(f"sub i64 {exponent}, {1077 - 64}")), ("i64", "0"))
    first = f.call("i64", "llvm.smin.i64", ("i64", f(f"lshr i64 {offset}, 6")), ("i64", str(len(_BITS) - 4)))
    shift = f(f"and i64 {offset}, 63")
    words = []
    for i in range(4):
        pointer = f(f"getelementptr i64, ptr {table}, i64 {f(f'add i64 {first}, {i}')}")
        words.append(f(f"load i64, ptr {pointer}, align 8"))
    window = [
        f.call("i64", "llvm.fshl.i64", ("i64", words[i]), ("i64", words[i + 1]), ("i64", shift))
        for i in range(3)
    ]
    wide = f(f"zext i64 {mantissa} to i128")
    top, middle, low = (f(f"mul i128 {wide}, {f(f'zext i64 {w} to i128')}") for w in window)
    total = f(f"add i128 {middle}, {f(f'lshr i128 {low}, 64')}")
    return f(f"add i128 {f(f'shl i128 {top}, 64')}, {total}")


def _table_text() -> str:
    return f"[{len(_BITS)} x i64] [{', '.join(f'i64 {word}' for word in _BITS)}]"


def _as_doubles(f: Function, fraction: str, below: str) -> tuple[Real, Real]:
    """A signed fixed-point number with 128 bits after the point as a sum of two doubles of 53 bits each."""
    double = Lanes(f, "double", 1)
    size = f(f"select i1 {below}, i128 {f(f'sub i128 0, {fraction}')}, i128 {fraction}")
    size = f(f"or i128 {size}, 1")
    zeros = f.call("i128", "llvm.ctlz.i128", ("i128", size), ("i1", "true"))
    normal = f(f"shl i128 {size}, {zeros}")
    parts = []
    for text, exponent in ((normal, -53), (f(f"shl i128 {normal}, 53"), -106)):
        whole = f(f"trunc i128 {f(f'lshr i128 {text}, 75')} to i64")
        parts.append(Real(double, f(f"uitofp i64 {whole} to double")) * 2.0**exponent)
    biased = f(f"sub i64 1023, {f(f'trunc i128 {zeros} to i64')}")
    scale = Real(double, f(f"bitcast i64 {f(f'shl i64 {biased}, 52')} to double"))
    scale = (-scale).where(below, scale)
    return parts[0] * scale, parts[1] * scale
