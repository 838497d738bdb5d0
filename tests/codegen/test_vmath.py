"""How exact the elementary functions are: float32 against float64 over all exponents, float64 against a
table.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from vitrify.codegen import vmath_tables
from vitrify.codegen.elementwise import ELEMENTARY
from vitrify.ir import ops
from vitrify.ir.dtypes import DType, float32, float64
from vitrify.ir.ops import gamma, numeric

from tests.codegen.harness import apply_native, pointwise, runnable_targets, text_of
from tests.support import assert_same_bits, assert_within_ulp

#: The functions that numpy has under another name, or not in float64 alone.
_OTHERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "erf": np.vectorize(math.erf, otypes=[np.float64]), "erfc": numeric.erfc,
    "erfinv": numeric.erfinv, "lgamma": gamma.lgamma, "digamma": gamma.digamma, "rsqrt": numeric.rsqrt,
    "sigmoid": numeric.sigmoid, "softplus": numeric.softplus, "silu": numeric.silu, "gelu": numeric.gelu,
    "gelu_tanh": numeric.gelu_tanh, "gelu_slope": numeric.gelu_slope,
}  # fmt: skip
#: Every elementary function of one operand, in float64.
FLOAT32: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    op.name: _OTHERS.get(op.name) or getattr(np, op.name)
    for op in ELEMENTARY
    if op.arity == 1 and op is not ops.polygamma
}
OF_TWO = ("pow", "atan2")
STEP = 50_021  # a prime: 86,000 floats of all exponents and both signs
REFERENCES = Path(__file__).with_name("references.txt")


def sample() -> np.ndarray:
    """float32 values over all exponents, and those where something changes."""
    special = [
        0.0,
        1e-45,
        1e-40,
        1.17549435e-38,
        0.5,
        1.0,
        2.0,
        3.1415927,
        88.72283,
        88.72284,
        103.97,
        104.0,
        3.4e38,
        1.4616321,
        5.1,
        5.6,
        6.0,
        80.0,
    ]
    edges = np.array([*special, np.inf, np.nan], np.float32)
    spread = np.arange(0, 2**32, STEP, dtype=np.uint64).astype(np.uint32).view(np.float32)
    near = np.random.default_rng(0).normal(size=20_000).astype(np.float32) * 4
    return np.concatenate([edges, -edges, spread, near])


def errors_in_ulp(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|found - exact| in units in the last place of the rounded result; 0 where both are NaN or equal."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(np.float32)
        size = np.maximum(np.spacing(np.abs(rounded)), np.float32(2.0**-149)).astype(np.float64)
        distance = np.abs(found.astype(np.float64) - exact) / size
    return np.where((found == rounded) | (np.isnan(found) & np.isnan(rounded)), 0, distance)


@pytest.mark.parametrize("name", FLOAT32)
def test_float32_is_within_its_bound(name: str) -> None:
    x = sample()
    found = apply_native(pointwise(ops.ALL[name], [float32], float32), x)
    with np.errstate(all="ignore"):
        exact = FLOAT32[name](x.astype(np.float64))
    error = errors_in_ulp(found, exact)
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    assert error[worst] <= 1, f"{name}({x[worst]!r}) = {found[worst]!r}, not {exact[worst]!r}"
    zero = (found == 0) & (exact == 0)
    assert (np.signbit(found) == np.signbit(exact))[zero].all()


@pytest.mark.parametrize("name", [*FLOAT32, *OF_TWO])
def test_the_bits_are_the_same_on_every_target(name: str) -> None:
    x = sample()[::20]
    x = x[~np.isnan(x)]
    for dtype in (float32, float64):
        operands = [x.astype(dtype.numpy)] + [x[::-1].astype(dtype.numpy)] * (name in OF_TWO)
        kernel = pointwise(ops.ALL[name], [dtype] * len(operands), dtype)
        first, *others = (apply_native(kernel, *operands, target=t) for t in runnable_targets())
        for other in others:
            assert_same_bits(other, first, name)


@pytest.mark.parametrize("name", [*FLOAT32, *OF_TWO])
def test_float64_is_within_two_ulp(name: str) -> None:
    rows = [line.split()[1:] for line in REFERENCES.read_text().splitlines() if line.split()[0] == name]
    *arguments, wanted = np.array([[float.fromhex(word) for word in row] for row in rows]).T
    kernel = pointwise(ops.ALL[name], [float64] * len(arguments), float64)
    assert_within_ulp(apply_native(kernel, *arguments), wanted, 2, name)


@pytest.mark.parametrize("dtype", [float32, float64])
def test_pow_has_the_special_cases_of_c(dtype: DType) -> None:
    inf, nan = math.inf, math.nan
    cases = [
        (0.0, 0.0, 1.0), (nan, 0.0, 1.0), (1.0, nan, 1.0), (1.0, inf, 1.0), (-1.0, inf, 1.0),
        (-1.0, -inf, 1.0),
        (nan, 1.0, nan), (2.0, nan, nan), (-1.0, nan, nan), (-8.0, 1 / 3, nan), (-2.0, 3.0, -8.0),
        (-2.0, 2.0, 4.0),
        (-2.0, -1.0, -0.5), (0.0, -1.0, inf), (-0.0, -1.0, -inf), (-0.0, -2.0, inf), (0.0, 2.0, 0.0),
        (-0.0, 3.0, -0.0), (-0.0, 0.5, 0.0), (inf, 2.0, inf), (inf, -2.0, 0.0), (-inf, 3.0, -inf),
        (-inf, 2.0, inf),
        (-inf, -3.0, -0.0), (-inf, 0.5, inf), (0.5, inf, 0.0), (0.5, -inf, inf), (2.0, inf, inf),
        (2.0, -inf, 0.0),
        (2.0, 2000.0, inf), (2.0, -2000.0, 0.0), (-2.0, 1e30, inf), (0.0, inf, 0.0), (0.0, -inf, inf),
    ]  # fmt: skip
    x, y, wanted = (np.array(column).astype(dtype.numpy) for column in zip(*cases, strict=True))
    assert_same_bits(apply_native(pointwise(ops.pow_, [dtype] * 2, dtype), x, y), wanted)


@pytest.mark.parametrize("name", FLOAT32)
def test_no_elementary_function_of_llvm_is_called(name: str) -> None:
    text = text_of(pointwise(ops.ALL[name], [float32], float32))
    intrinsics = re.compile(r"llvm\.(exp(?!erimental)|log|a?sin|a?cos|a?tan|pow|fmuladd)")
    flags = ("fast", "nnan", "ninf", "nsz", "arcp", "contract", "afn", "reassoc")
    words = set(re.findall(r"[\w.]+", text))
    assert not words & set(flags)
    assert not any(map(intrinsics.match, words))


@pytest.mark.parametrize("dtype", [float32, float64])
@pytest.mark.parametrize("name", FLOAT32)
def test_vector_and_scalar_code_have_the_same_bits(name: str, dtype: DType) -> None:
    with np.errstate(invalid="ignore"):
        x = sample()[::10].astype(dtype.numpy)
    vector, scalar = (pointwise(ops.ALL[name], [dtype], dtype, kind) for kind in ("vector", "parallel"))
    assert_same_bits(apply_native(scalar, x), apply_native(vector, x), name)


def test_atan2_has_the_special_cases_of_c() -> None:
    inf, pi = math.inf, math.pi
    numbers = [0.0, -0.0, 1.0, -1.0, inf, -inf, 1e-45, -3e38]
    y, x = (np.array(column, np.float32) for column in zip(*itertools.product(numbers, repeat=2)))
    found = apply_native(pointwise(ops.atan2, [float32] * 2, float32), y, x)
    assert_within_ulp(found, np.arctan2(y.astype(np.float64), x).astype(np.float32), 1)
    assert (np.signbit(found) == np.signbit(y)).all()
    assert found[9] == np.float32(-pi)  # of (-0, -0)


@pytest.mark.parametrize("order", [1, 2, 3, 7])
@pytest.mark.parametrize("dtype", [float32, float64])
def test_polygamma(order: int, dtype: DType) -> None:
    """Against zeta(order + 1) at 1, the recurrence, and its own meaning."""
    x = np.concatenate([np.linspace(0.05, 40, 500), np.linspace(-4.9, -0.1, 97)]).astype(dtype.numpy)
    found = apply_native(pointwise(ops.polygamma, [dtype], dtype, order=order), x)
    wanted = gamma.polygamma(x.astype(np.float64), order=order)
    near = np.abs(found - wanted) <= 1e-12 * np.abs(wanted) + np.spacing(np.abs(wanted).astype(dtype.numpy))
    assert near[:500].all()
    one = np.ones(3, dtype.numpy)
    zeta = sum(1.0 / k ** (order + 1) for k in range(1, 10**5))
    first = apply_native(pointwise(ops.polygamma, [dtype], dtype, order=order), one)
    assert first[0] == pytest.approx((-1) ** (order + 1) * math.factorial(order) * zeta, rel=2e-5)


def test_the_piecewise_tables_are_the_ones_that_are_generated() -> None:
    """An interval of each, made anew (all take 10 s)."""
    pytest.importorskip("mpmath")
    from benchmarks import tables as piecewise

    for table in piecewise.TABLES:
        made = piecewise.interval(table, table.edges[5], table.edges[6])
        columns = getattr(vmath_tables, table.name)
        assert [c[table.slots[5]] for c in columns] == [float(str(np.float32(v))) for v in made]
