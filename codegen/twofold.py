"""Unevaluated sums of two floating point numbers, the second at most half a unit in the last place of the
first.

They carry an intermediate result with about twice the precision to the one rounding at the end. Sources:
Dekker 1971 (fast two-sum), Knuth (two-sum), Joldes, Muller and Popescu 2017 (products and quotients).
"""

from __future__ import annotations

from dataclasses import dataclass

from .reals import Operand, Real


@dataclass(frozen=True)
class Twofold:
    """high + low."""

    high: Real
    low: Real

    def __add__(self, other: Twofold) -> Twofold:
        total = two_sum(self.high, other.high)
        return fast_two_sum(total.high, total.low + (self.low + other.low))

    def __mul__(self, other: Twofold) -> Twofold:
        product = two_product(self.high, other.high)
        low = self.low.fma(other.high, self.high.fma(other.low, product.low))
        return fast_two_sum(product.high, low)

    def __truediv__(self, other: Twofold) -> Twofold:
        quotient = self.high / other.high
        rest = (-quotient).fma(other.high, self.high) + (self.low - quotient * other.low)
        return fast_two_sum(quotient, rest / other.high)

    def __neg__(self) -> Twofold:
        return Twofold(-self.high, -self.low)

    def times(self, factor: Real) -> Twofold:
        """The product with a single number."""
        product = two_product(self.high, factor)
        return fast_two_sum(product.high, self.low.fma(factor, product.low))

    def scaled(self, power_of_two: Operand) -> Twofold:
        """The product with a power of two: exact."""
        return Twofold(self.high * power_of_two, self.low * power_of_two)

    def sqrt(self) -> Twofold:
        """The square root; 0 of 0."""
        root = self.high.sqrt()
        rest = ((-root).fma(root, self.high) + self.low) / (root + root)
        return fast_two_sum(root, rest.unless(root.compare("oeq", 0.0), 0.0))

    def where(self, mask: str, other: Twofold) -> Twofold:
        """self where the mask holds, else the other."""
        return Twofold(self.high.where(mask, other.high), self.low.where(mask, other.low))

    def value(self) -> Real:
        """The sum, rounded."""
        return self.high + self.low


def constant(like: Real, high: float, low: float = 0.0) -> Twofold:
    """A constant of the type of `like`."""
    return Twofold(Real(like.lanes, like.lanes.const(high)), Real(like.lanes, like.lanes.const(low)))


def single(x: Real) -> Twofold:
    """A number as a sum with nothing."""
    return Twofold(x, Real(x.lanes, x.lanes.const(0.0)))


def fast_two_sum(a: Real, b: Real) -> Twofold:
    """a + b exactly, if |a| >= |b| or a is 0."""
    total = a + b
    return Twofold(total, b - (total - a))


def two_sum(a: Real, b: Real) -> Twofold:
    """a + b exactly."""
    total = a + b
    from_b = total - a
    return Twofold(total, (a - (total - from_b)) + (b - from_b))


def two_product(a: Real, b: Real) -> Twofold:
    """a * b exactly."""
    product = a * b
    return Twofold(product, a.fma(b, -product))
