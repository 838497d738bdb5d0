"""Meanings of the elementwise primitives against plain Python, at special values too."""

import itertools
import math

import numpy as np
import pytest
from vitrify.ir import ops
from vitrify.ir.dtypes import bfloat16, bool_, float16, float32, float64, int32, int64, uint8
from vitrify.ir.interpreter import evaluate
from vitrify.ir.opdef import bind

from tests.support import assert_same_bits, assert_within_ulp


def run(opdef, *arrays, **attrs):
    return evaluate(bind(opdef, **attrs), [np.asarray(a) for a in arrays])


SPECIAL = np.array([0.0, -0.0, 1, -1, 0.5, 2.5, -2.5, np.inf, -np.inf, np.nan, 1e-45, -3e38, 100], np.float32)


def test_maximum_and_minimum_do_not_depend_on_the_order_of_operands():
    x, y = (a.reshape(-1) for a in np.meshgrid(SPECIAL, SPECIAL))
    for op, python in ((ops.maximum, max), (ops.minimum, min)):
        assert_same_bits(run(op, x, y), run(op, y, x))
        for a, b, got in zip(x, y, run(op, x, y), strict=True):
            want = math.nan if np.isnan(a) or np.isnan(b) else python(a, b)
            assert got == want or (math.isnan(got) and math.isnan(want))
    zeros = np.array([0.0, -0.0], np.float32)
    assert_same_bits(run(ops.maximum, zeros, zeros[::-1]), np.zeros(2, np.float32))
    assert_same_bits(run(ops.minimum, zeros, zeros[::-1]), -np.zeros(2, np.float32))
    assert run(ops.maximum, np.array([True, False]), np.array([False, False])).tolist() == [True, False]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_integer_division_rounds_down_and_wraps(dtype):
    info = np.iinfo(dtype)
    values = sorted({info.min, info.max, *range(max(info.min, -4), 5)})
    for a, b in itertools.product(values, [v for v in values if v]):
        x, y = np.array([a], dtype), np.array([b], dtype)
        q, r = run(ops.floor_div, x, y)[0], run(ops.rem, x, y)[0]
        assert int(r) == (a % b)
        assert int(q) == (a // b if info.min <= a // b <= info.max else info.min)


def test_float_remainder_has_the_sign_of_the_divisor():
    got = run(ops.rem, np.array([5.5, -5.5, 5.5, -5.5, -4, 4]), np.array([2, 2, -2, -2, 2, -2.0]))
    assert_same_bits(got, np.array([1.5, 0.5, -0.5, -1.5, -0.0, 0.0]))
    assert run(ops.floor_div, np.array([-5.5]), np.array([2.0]))[0] == -3


def test_integer_power_wraps_and_inverts():
    bases = [2, -2, 3, 1, -1, 0, 5]
    x = np.array(bases, np.int32)
    wrapped = [(b**31 + 2**31) % 2**32 - 2**31 for b in bases]
    assert run(ops.pow_, x, np.full(7, 31, np.int32)).tolist() == wrapped
    assert run(ops.pow_, x, np.full(7, -1, np.int32)).tolist() == [0, 0, 0, 1, -1, 0, 0]


@pytest.mark.parametrize(("dtype", "width"), [(np.int32, 32), (np.int64, 64), (np.uint8, 8)])
def test_shifts_out_of_range_are_defined(dtype, width):
    x = np.array([1, 5, 200 if dtype == np.uint8 else -7], dtype)
    for by in (0, 1, width - 1, width, width + 1):
        left = [((int(v) << by) + 2 ** (width - 1)) % 2**width - 2 ** (width - 1) for v in x]
        want = np.array(left if by < width else [0] * 3).astype(dtype)
        assert_same_bits(run(ops.shift_left, x, np.full(3, by, dtype)), want)
        assert_same_bits(
            run(ops.shift_right, x, np.full(3, by, dtype)), np.array([int(v) >> by for v in x], dtype)
        )
    if dtype != np.uint8:
        assert run(ops.shift_left, x, np.full(3, -1, dtype)).tolist() == [0, 0, 0]
        assert run(ops.shift_right, x, np.full(3, -1, dtype)).tolist() == [0, 0, -1]


def test_casts():
    x = np.array([1.9, -1.9, 3e9, -3e9, np.nan, np.inf, 300, -1], np.float32)
    low = -(2**31)
    assert run(ops.cast, x, dtype=int32).tolist() == [1, -1, low, low, low, low, 300, -1]
    assert run(ops.cast, x, dtype=uint8).tolist() == [1, 255, 0, 0, 0, 0, 44, 255]
    assert run(ops.cast, x[:3], dtype=int64).tolist() == [1, -1, 3000000000]
    assert run(ops.cast, np.array([2.0**63, -(2.0**63), np.nan]), dtype=int64).tolist() == [-(2**63)] * 3
    assert run(ops.cast, SPECIAL, dtype=bool_).tolist() == [bool(v != 0) for v in SPECIAL]
    assert run(ops.cast, np.array([-1, 256, 2**40 + 3]), dtype=uint8).tolist() == [255, 0, 3]
    assert run(ops.cast, np.array([True, False]), dtype=float64).tolist() == [1.0, 0.0]
    assert run(ops.cast, np.array([2**24 + 1], np.int32), dtype=float32)[0] == 2**24
    halves = np.array([1.0, 65519.0, 65520.0, 2.0**-25, 2.0**-24, -0.0], np.float32)
    assert run(ops.cast, halves, dtype=float16).tolist() == [1.0, 65504.0, np.inf, 0.0, 2.0**-24, -0.0]
    x = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, -(2.0**-140)], np.float32)
    bits = run(ops.cast, x, dtype=bfloat16)
    assert bits.tolist() == [0x3F80, 0x3F80, 0x3F82, 0x7F80, 0x8000]
    assert run(ops.cast, bits, dtype=float64).tolist() == [1.0, 1.0, 1 + 2**-6, np.inf, -0.0]


@pytest.mark.parametrize(
    "name", ["exp", "log", "sin", "cos", "tanh", "erf", "rsqrt", "sigmoid", "softplus", "silu"]
)
def test_elementary_functions_are_rounded_once(name):
    """Against a second formula in extended precision. The meaning rounds from float64: 1 ulp near a tie."""
    x = np.random.default_rng(0).normal(size=2000).astype(np.float32) * 4
    x = np.abs(x) + 1e-3 if name in ("log", "rsqrt") else x
    wide = x.astype(np.longdouble)
    formulas = {
        "rsqrt": lambda v: 1 / np.sqrt(v),
        "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
        "softplus": lambda v: np.log1p(np.exp(-np.abs(v))) + np.maximum(v, 0),
        "silu": lambda v: v / (1 + np.exp(-v)),
        "erf": np.vectorize(math.erf),
    }
    want = formulas.get(name, getattr(np, name, None))(wide).astype(np.float32)
    assert_within_ulp(run(ops.ALL[name], x), want, 1, name)


def test_elementary_functions_at_special_values():
    inf, nan = np.inf, np.nan
    x = np.array([0.0, -0.0, inf, -inf, nan])
    table = {
        "exp": [1, 1, inf, 0, nan],
        "log": [-inf, -inf, inf, nan, nan],
        "sin": [0, -0.0, nan, nan, nan],
        "cos": [1, 1, nan, nan, nan],
        "tanh": [0, -0.0, 1, -1, nan],
        "erf": [0, -0.0, 1, -1, nan],
        "sqrt": [0, -0.0, inf, nan, nan],
        "rsqrt": [inf, -inf, 0, nan, nan],
        "sigmoid": [0.5, 0.5, 1, 0, nan],
        "softplus": [math.log(2), math.log(2), inf, 0, nan],
        "silu": [0, -0.0, inf, -0.0, nan],
        "gelu": [0, -0.0, inf, -0.0, nan],
        "gelu_tanh": [0, -0.0, inf, -0.0, nan],
        "gelu_slope": [0.5, 0.5, 1, -0.0, nan],
        "sign": [0, 0, 1, -1, nan],
    }
    for name, want in table.items():
        for dtype in (np.float32, np.float64):
            assert_same_bits(run(ops.ALL[name], x.astype(dtype)), np.array(want).astype(dtype), name)


def test_philox_is_the_published_generator():
    """Known answers of Random123: counter and key all zero, and all ones."""
    words = run(ops.philox, np.zeros(4, np.int64), np.zeros(4, np.int64), np.arange(4))
    assert [int(w) & 0xFFFFFFFF for w in words] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert words.dtype == np.int32
    later = run(ops.philox, np.zeros(4, np.int64), np.full(4, 5), np.arange(4))
    whole = run(ops.philox, np.zeros(24, np.int64), np.zeros(24, np.int64), np.arange(24))
    assert_same_bits(later, whole[20:])
    scalar = run(ops.philox, np.int64(3), np.int64(0), np.int64(1))
    assert scalar.shape == () and scalar != run(ops.philox, np.int64(4), np.int64(0), np.int64(1))
