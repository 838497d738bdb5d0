"""The activations in float32: tanh, erf, both gelus and the slope of gelu by piecewise polynomials, sigmoid
and silu by an exponential and a division.

A piece takes a table look-up per coefficient and a chain of multiply-adds. In c0 + c1 t + t^2 q(t) the first
two coefficients are (almost) exact, and are added without loss where the second term is not small, so that
one rounding counts. What decays to the left is taken from |x|: with v = f(-|x|), gelu(x) = max(x, 0) - |x| v.
Its far tail, where the relative error of a polynomial would grow, is a branch that is hardly ever taken. The
tables are made by benchmarks/tables.py.

What counts is the number of multiply-adds, comparisons and permutations, which share a pipe (Zen 4), while
additions have others: gelu(x) * sigmoid(x) takes 43 cycles for 16 elements, and is made of 41 of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import vmath_tables as tables
from .lanes import Lanes
from .reals import Real, horner
from .text import Function
from .vmath_exp import MAGIC, exp_parts

Columns = Sequence[Sequence[float]]

#: Below the first the linear term stands alone; a number in the slot before it; saturation beyond the last.
_ODD_FIRST, _ODD_BEFORE = 0.125, 0.12
TANH_END, ERF_END = 9.1, 3.99
#: Where the tails leave the tables.
SIGMOID_END, GELU_END, GELU_SLOPE_END, GELU_TANH_END = 80.0, 5.6, 6.0, 5.1
#: The callee saves half of the vector registers: the caller's fast path keeps its values in them.
_CONVENTION = "intel_ocl_bicc"
#: The place in the table of gelu's slope is a (slope + bend a): 2 for its zero, the last for the end.
_LAST, _SLOPE = 31, 2.3013
#: In those of both gelus it is (a + moved)^2 / step, a power of two.
_SQUARES, _SQUARES_TANH = (2.75, 4.0), (0.4, 2.0)
#: More than what a rounded activation is off by.
_BEYOND_EXCESS = 2.0**100


def tanh(x: Real) -> Real:
    return _odd(x, tables.TANH, TANH_END)


def erf(x: Real) -> Real:
    return _odd(x, tables.ERF, ERF_END)


def _odd(x: Real, columns: Columns, end: float) -> Real:
    """An odd function that saturates at 1: four intervals to a power of two, x + x q(x) for the first."""
    size = abs(x).at_most(end)
    bits = size.at_least(_ODD_BEFORE).bits()
    index = x.lanes.integers("lshr", bits, x.lanes.integers.const(21))
    base, t, slopes = _piece(size, index, columns)
    small = size.compare("olt", _ODD_FIRST)
    return t.fma(horner(t, slopes), size.where(small, base)).with_sign_of(x)


def sigmoid(x: Real, far: Callable[[Real], Real]) -> Real:
    """far(x) gives the values below -SIGMOID_END."""
    v, more = _inverse_of_one_more_than_exp(-x.at_most(SIGMOID_END))
    return _with_far(x, v.fma(more, v), -SIGMOID_END, "sigmoid", far)


def silu(x: Real, far: Callable[[Real], Real]) -> Real:
    v, more = _inverse_of_one_more_than_exp(-x.at_most(SIGMOID_END))
    high = x * v
    excess = (-high).fma(more, (-x).fma(v, high))
    return _with_far(x, _less(high, excess), -SIGMOID_END, "silu", far)


def _inverse_of_one_more_than_exp(x: Real) -> tuple[Real, Real]:
    """(v, more): 1 / (1 + e^x) = v (1 + more); v is one division, more all that it lacks."""
    s, q = exp_parts(x)
    high = s + 1.0
    lost = s.at_most(1.0) - (high - s.at_least(1.0))
    v = 1.0 / s.fma(q, high)
    return v, (-v).fma(s.fma(q, lost), (-v).fma(high, 1.0))


def gelu(x: Real, far: Callable[[Real], Real]) -> Real:
    return _with_far(x, _ramp_less_pieces(x, tables.GELU, GELU_END, *_SQUARES), -GELU_END, "gelu", far)


def gelu_tanh(x: Real, far: Callable[[Real], Real]) -> Real:
    near = _ramp_less_pieces(x, tables.GELU_TANH, GELU_TANH_END, *_SQUARES_TANH)
    return _with_far(x, near, -GELU_TANH_END, "gelu_tanh", far)


def _ramp_less_pieces(x: Real, columns: Columns, end: float, moved: float, step: float) -> Real:
    """max(x, 0) - |x| v(|x|) with v from a table; the linear term of the pieces is added without loss."""
    size = abs(x).at_most(end)
    root = size + moved
    index = root.fma(root, MAGIC["float"] * step).bits()
    base, t, (slope, *bends) = _piece(size, index, columns)
    high = t.fma(slope, base)
    low = (t * horner(t, bends)).fma(t, t.fma(slope, base - high))
    return _ramp_less(x, size, high, low)


def _ramp_less(x: Real, size: Real, high: Real, low: Real) -> Real:
    """max(x, 0) - size (high + low), rounded once; 0 <= high <= 1/2, low is small. -0 gives -0."""
    ramp = x.at_least(0.0)
    near = (-size).fma(high, ramp)
    return _less(near, size.fma(low, size.fma(high, near - ramp)))


def _less(near: Real, excess: Real) -> Real:
    """near - excess, which keeps -0, and an infinity, for which the excess is no number."""
    return near - excess.where(excess.compare("olt", _BEYOND_EXCESS), _BEYOND_EXCESS)


def gelu_slope(x: Real, far: Callable[[Real], Real]) -> Real:
    """far(x) gives the values below -GELU_SLOPE_END; 1 beyond the other end. It has a zero."""
    size = abs(x).at_most(GELU_SLOPE_END)
    bend = (_LAST - _SLOPE * GELU_SLOPE_END) / GELU_SLOPE_END**2
    index = size.fma(size.fma(bend, _SLOPE), MAGIC["float"]).bits()
    near = _plus_or_minus(x, tables.GELU_SLOPE, (size, index), tables.GELU_SLOPE_ZERO)
    return _with_far(x, near, -GELU_SLOPE_END, "gelu_slope", far)


def _piece(size: Real, index: str, columns: Columns) -> tuple[Real, Real, list[Real]]:
    """(c0, t, [c1, c2, ...]) of each lane's interval."""
    lanes = size.lanes
    centre, base, *slopes = (Real(lanes, lanes.lookup(column, index)) for column in columns)
    return base, size - centre, slopes


def _plus_or_minus(
    x: Real, columns: Columns, place: tuple[Real, str], zero: tuple[int, float, float]
) -> Real:
    """v(|x|) for negative x, 1 - v(|x|) for the others. zero: the interval in which v has one, and what c0
    and c1 lack there, where all digits of their sum count."""
    size, index = place
    base, t, (slope, *bends) = _piece(size, index, columns)
    integers = x.lanes.integers
    bits = x.bits()
    negative = integers.compare("slt", bits, integers.const(0))
    opposite = integers("and", integers("xor", bits, integers.const(-1)), integers.const(-(2**31)))
    along = t.from_bits(integers("xor", t.bits(), opposite))
    above = 1.0 - base
    lost = ((1.0 - above) - base).unless(negative, 0.0)
    base = base.where(negative, above)
    high = along.fma(slope, base)
    low = along.fma(slope, (base - high) + lost)
    interval, *lacking = zero
    there = integers("add", Real(x.lanes, x.lanes.const(MAGIC["float"])).bits(), integers.const(interval))
    here = integers.compare("eq", index, there)
    value, more = (Real(x.lanes, x.lanes.const(number)).where(here, 0.0) for number in lacking)
    value = value.from_bits(integers("xor", value.bits(), opposite))
    return high + t.fma(horner(t, bends), more).fma(along, low + value)


def _with_far(x: Real, near: Real, below: float, name: str, far: Callable[[Real], Real]) -> Real:
    """The value with the lanes below a number replaced by far(x), a function of its own."""
    lanes = x.lanes
    beyond = x.compare("olt", below)

    def replaced() -> Sequence[str]:
        return [lanes.select(beyond, _call(lanes, f"vitrify.{name}.far.{lanes.suffix}", far, x), near.text)]

    (value,) = lanes.f.when(lanes.any(beyond), replaced, [(lanes.type, near.text)])
    return Real(lanes, value)


def _call(lanes: Lanes, name: str, rule: Callable[[Real], Real], x: Real) -> str:
    """A call to the rule as a function, defined once in a module."""
    module = lanes.f.module
    if not module.defined(name):
        f = Function(
            module, name, [(lanes.type, "x")], f"{_CONVENTION} {lanes.type}", attributes="noinline cold"
        )
        f.do(f"ret {lanes.type} {rule(Real(Lanes(f, lanes.element, lanes.width), '%x')).text}")
        module.add(f)
    return lanes.f(f"call {_CONVENTION} {lanes.type} @{name}({lanes.type} {x.text})")
