"""Fused multiply-add in numpy against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from vitrify.ir.ops.fma import fma

from tests.support import assert_same_bits


def exact_fma(a, b, c):
    total = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    return total.numerator / total.denominator


@pytest.mark.parametrize("scale", [0, 30, 300, 480])
def test_fma_rounds_once_in_float64(scale):
    rng = np.random.default_rng(scale)
    a, b, c = (rng.normal(size=400) * 2.0 ** rng.integers(-scale, scale + 1, 400) for _ in range(3))
    c[:200] = -(a[:200] * b[:200]) * (1 + rng.integers(-2, 3, 200) * 2.0**-52)
    assert_same_bits(fma(a, b, c), np.array([exact_fma(*t) for t in zip(a, b, c, strict=True)]))


def test_fma_rounds_once_in_float32():
    """Sums halfway between two float32, which a sum in float64 would round twice."""
    a = np.float32(1 + 2**-12)
    b = np.array([1 + 2**-12, 1 - 2**-12, 3, -3], np.float32)
    for c in np.array([2.0**-48, -(2.0**-48), 2.0**30, 1.0, -1.0, 0.0], np.float32):
        got = fma(np.full(4, a), b, np.full(4, c))
        assert got.dtype == np.float32
        for x, r in zip(b, got, strict=True):
            near = [np.nextafter(r, np.float32(-np.inf)), r, np.nextafter(r, np.float32(np.inf))]
            exact = Fraction(float(a)) * Fraction(float(x)) + Fraction(float(c))
            error = abs(Fraction(float(r)) - exact)
            assert error == min(abs(Fraction(float(v)) - exact) for v in near)


def test_fma_of_infinities_zeros_and_overflow():
    big = np.array([1e300])
    assert fma(big, big, np.array([-np.inf]))[0] == -np.inf
    assert fma(big, big, -big)[0] == np.inf
    assert np.isnan(fma(np.array([np.inf]), np.array([0.0]), np.array([1.0]))[0])
    assert np.signbit(fma(np.array([-0.0]), np.array([1.0]), np.array([-0.0]))[0])
    assert fma(np.array([1e-200]), np.array([1e-200]), np.array([5e-324]))[0] == 5e-324
    assert fma(np.array([2], np.int32), np.array([2**31 - 1], np.int32), np.array([3], np.int32))[0] == 1
