"""`Real`: a floating point value being computed, with Python's operators. Each operator is one rounded
instruction.

    r = n.fma(-LN2, x)          r = round(x - n * LN2)
    y = (r * r).fma(p, r)       numbers become constants in every lane

No operator ever contracts, reassociates or drops a sign: what is written is what is computed, on every
target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

from .lanes import Lanes

Operand = Union["Real", float]


class Real:
    """A value of a float type: `lanes` is the type, `text` the LLVM value."""

    __slots__ = ("lanes", "text")

    def __init__(self, lanes: Lanes, text: str) -> None:
        self.lanes, self.text = lanes, text

    def _lift(self, other: Operand) -> str:
        return other.text if isinstance(other, Real) else self.lanes.const(other)

    def _op(self, op: str, a: str, b: str) -> Real:
        return Real(self.lanes, self.lanes(op, a, b))

    def __add__(self, other: Operand) -> Real:
        return self._op("fadd", self.text, self._lift(other))

    def __radd__(self, other: float) -> Real:
        return self._op("fadd", self._lift(other), self.text)

    def __sub__(self, other: Operand) -> Real:
        return self._op("fsub", self.text, self._lift(other))

    def __rsub__(self, other: float) -> Real:
        return self._op("fsub", self._lift(other), self.text)

    def __mul__(self, other: Operand) -> Real:
        return self._op("fmul", self.text, self._lift(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Operand) -> Real:
        return Real(self.lanes, self.lanes.quotient("fdiv", self.text, self._lift(other)))

    def __rtruediv__(self, other: float) -> Real:
        return Real(self.lanes, self.lanes.quotient("fdiv", self._lift(other), self.text))

    def __neg__(self) -> Real:
        return Real(self.lanes, self.lanes("fneg", self.text))

    def __abs__(self) -> Real:
        return Real(self.lanes, self.lanes.intrinsic("fabs", self.text))

    def fma(self, factor: Operand, term: Operand) -> Real:
        """self * factor + term, rounded once."""
        return Real(self.lanes, self.lanes.fma(self.text, self._lift(factor), self._lift(term)))

    def sqrt(self) -> Real:
        return Real(self.lanes, self.lanes.intrinsic("sqrt", self.text))

    def trunc(self) -> Real:
        return Real(self.lanes, self.lanes.intrinsic("trunc", self.text))

    def with_sign_of(self, other: Real) -> Real:
        return Real(self.lanes, self.lanes.intrinsic("copysign", self.text, other.text))

    def compare(self, predicate: str, other: Operand) -> str:
        """A mask: `olt`, `oeq`, `uno`, ..."""
        return self.lanes.compare(predicate, self.text, self._lift(other))

    def where(self, mask: str, other: Operand) -> Real:
        """self where the mask holds, else the other."""
        return Real(self.lanes, self.lanes.select(mask, self.text, self._lift(other)))

    def unless(self, mask: str, other: Operand) -> Real:
        """self where the mask does not hold, else the other."""
        return Real(self.lanes, self.lanes.select(mask, self._lift(other), self.text))

    def at_most(self, bound: float) -> Real:
        """The smaller of self and a bound; NaN stays NaN."""
        return self.unless(self.compare("ogt", bound), bound)

    def at_least(self, bound: float) -> Real:
        """The larger of self and a bound; NaN stays NaN."""
        return self.unless(self.compare("olt", bound), bound)

    def bits(self) -> str:
        """The bits, as integers of the same size."""
        return self.lanes.bitcast(self.text, self.lanes.integers.element)

    def from_bits(self, bits: str) -> Real:
        """A value of this type from integers of the same size."""
        return Real(self.lanes, self.lanes.integers.bitcast(bits, self.lanes.element))


def widened(lanes: Lanes, x: str) -> Real:
    """A float as a double."""
    return Real(lanes.of("double"), lanes.to("fpext", x, "double"))


def rounded(x: Real) -> str:
    """A double rounded to a float."""
    return x.lanes.to("fptrunc", x.text, "float")


def polynomial(x: Real, coefficients: Sequence[float]) -> Real:
    """c[0] + c[1] x + c[2] x^2 + ..., by Horner's rule with fused steps."""
    *lower, top = coefficients
    result: Operand = top
    for c in reversed(lower):
        result = x.fma(result, c)
    assert isinstance(result, Real)
    return result


def horner(x: Real, coefficients: Sequence[Real]) -> Real:
    """c[0] + c[1] x + c[2] x^2 + ... with a coefficient per lane, by Horner's rule with fused steps."""
    *lower, result = coefficients
    for c in reversed(lower):
        result = result.fma(x, c)
    return result
