"""The activations in float32, by piecewise polynomials: tanh, erf, sigmoid, silu, gelu, its slope, gelu_tanh.

A table look-up per coefficient and one chain of multiply-adds; no exponential, no division. In c0 + c1 t +
t^2 q(t) the first two coefficients are (almost) exact, and are added without loss where the second term is
not small, so that one rounding counts. What decays to the left is taken from |x|: f(-a) = v, f(a) = 1 - v.
Its far tail, where the relative error of a polynomial would grow, is a branch that is hardly ever taken. The
tables are made by benchmarks/tables.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import vmath_tables as tables
from .lanes import Lanes
from .reals import Real, horner
from .text import Function
from .vmath_exp import MAGIC

Columns = Sequence[Sequence[float]]

#: Below the first the linear term stands alone; a number in the slot before it; saturation beyond the last.
_ODD_FIRST, _ODD_BEFORE = 0.125, 0.12
TANH_END, ERF_END = 9.1, 3.99
#: Where the tails leave the tables.
SIGMOID_END, GELU_END, GELU_SLOPE_END, GELU_TANH_END = 17.4, 5.6, 6.0, 5.2
_INTERVALS = 31
#: The callee saves half of the vector registers: the caller's fast path keeps its values in them.
_CONVENTION = "intel_ocl_bicc"
#: Places in the tables are a (slope + bend a); the second has the zero of gelu's slope at place 2.
_SLOPE, _SLOPE_TO_ZERO = 2.5, 2.3013


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
    base, rest = _logistic(x, tables.SIGMOID, _evenly(x, SIGMOID_END))
    return _with_far(x, base + rest, -SIGMOID_END, "sigmoid", far)


def silu(x: Real, far: Callable[[Real], Real]) -> Real:
    base, rest = _logistic(x, tables.SIGMOID, _evenly(x, SIGMOID_END))
    return _times_itself(x, base, rest, SIGMOID_END, "silu", far)


def gelu(x: Real, far: Callable[[Real], Real]) -> Real:
    base, rest = _logistic(x, tables.GELU, _bent(x, GELU_END))
    return _times_itself(x, base, rest, GELU_END, "gelu", far)


def gelu_slope(x: Real, far: Callable[[Real], Real]) -> Real:
    """far(x) gives the values below -GELU_SLOPE_END; 1 beyond the other end. It has a zero."""
    place = _bent(x, GELU_SLOPE_END, _SLOPE_TO_ZERO)
    base, rest = _logistic(x, tables.GELU_SLOPE, place, tables.GELU_SLOPE_ZERO)
    return _with_far(x, base + rest, -GELU_SLOPE_END, "gelu_slope", far)


def gelu_tanh(x: Real, far: Callable[[Real], Real]) -> Real:
    base, rest = _logistic(x, tables.GELU_TANH, _bent(x, GELU_TANH_END))
    return _times_itself(x, base, rest, GELU_TANH_END, "gelu_tanh", far)


def _evenly(x: Real, end: float) -> tuple[Real, str]:
    size = abs(x).at_most(end)
    return size, size.fma(_INTERVALS / end, MAGIC["float"]).bits()


def _bent(x: Real, end: float, slope: float = _SLOPE) -> tuple[Real, str]:
    size = abs(x).at_most(end)
    bend = (_INTERVALS - slope * end) / end**2
    return size, size.fma(size.fma(bend, slope), MAGIC["float"]).bits()


def _piece(size: Real, index: str, columns: Columns) -> tuple[Real, Real, list[Real]]:
    """(c0, t, [c1, c2, ...]) of each lane's interval."""
    lanes = size.lanes
    centre, base, *slopes = (Real(lanes, lanes.lookup(column, index)) for column in columns)
    return base, size - centre, slopes


def _logistic(
    x: Real, columns: Columns, place: tuple[Real, str], zero: tuple[int, float, float] | None = None
) -> tuple[Real, Real]:
    """(high, rest), whose sum is v(|x|) for negative x, 1 - v(|x|) for the others; the rest has less than a
    tenth of it. zero: the interval in which v has one, and what c0 and c1 lack there, where all digits of the
    sum of the two count."""
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
    if zero is None:
        return high, (t * horner(t, bends)).fma(along, low)
    interval, *lacking = zero
    there = integers("add", Real(x.lanes, x.lanes.const(MAGIC["float"])).bits(), integers.const(interval))
    here = integers.compare("eq", index, there)
    value, more = (Real(x.lanes, x.lanes.const(number)).where(here, 0.0) for number in lacking)
    value = value.from_bits(integers("xor", value.bits(), opposite))
    return high, t.fma(horner(t, bends), more).fma(along, low + value)


def _times_itself(
    x: Real, base: Real, rest: Real, end: float, name: str, far: Callable[[Real], Real]
) -> Real:
    """x (base + rest), which is x beyond the end."""
    product = x.fma(base, x * rest)
    return _with_far(x, product.where(x.compare("olt", end), x), -end, name, far)


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
