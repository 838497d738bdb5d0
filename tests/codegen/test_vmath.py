"""How exact the elementary functions are: float32 against float64 over all exponents, float64 against a
table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from vitrify.ir import ops
from vitrify.ir.dtypes import DType, float32, float64
from vitrify.ir.ops import numeric

from tests.codegen.harness import apply_native, pointwise, runnable_targets, text_of
from tests.support import assert_same_bits, assert_within_ulp

_erf = np.vectorize(math.erf, otypes=[np.float64])
FLOAT32: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp, "log": np.log, "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "erf": _erf,
    "rsqrt": numeric.rsqrt, "sigmoid": numeric.sigmoid, "softplus": numeric.softplus, "silu": numeric.silu,
    "gelu": numeric.gelu, "gelu_tanh": numeric.gelu_tanh,
}  # fmt: skip
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
def test_float32_is_within_one_ulp(name: str) -> None:
    x = sample()
    found = apply_native(pointwise(ops.ALL[name], [float32], float32), x)
    with np.errstate(all="ignore"):
        exact = FLOAT32[name](x.astype(np.float64))
    error = errors_in_ulp(found, exact)
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    assert error[worst] <= 1, f"{name}({x[worst]!r}) = {found[worst]!r}, not {exact[worst]!r}"
    zero = (found == 0) & (exact == 0)
    assert (np.signbit(found) == np.signbit(exact))[zero].all()


@pytest.mark.parametrize("name", [*FLOAT32, "pow"])
def test_the_bits_are_the_same_on_every_target(name: str) -> None:
    x = sample()[::20]
    x = x[~np.isnan(x)]
    for dtype in (float32, float64):
        operands = [x.astype(dtype.numpy)] + [x[::-1].astype(dtype.numpy)] * (name == "pow")
        kernel = pointwise(ops.ALL[name], [dtype] * len(operands), dtype)
        first, *others = (apply_native(kernel, *operands, target=t) for t in runnable_targets())
        for other in others:
            assert_same_bits(other, first, name)


@pytest.mark.parametrize("name", [*FLOAT32, "pow"])
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
    intrinsics = ("exp", "log", "sin", "cos", "tan", "pow", "fmuladd")
    flags = ("fast", "nnan", "ninf", "nsz", "arcp", "contract", "afn", "reassoc")
    words = set(re.findall(r"[\w.]+", text))
    assert not words & set(flags)
    assert not any(word.startswith(f"llvm.{name}") for word in words for name in intrinsics)


@pytest.mark.parametrize("dtype", [float32, float64])
@pytest.mark.parametrize("name", FLOAT32)
def test_vector_and_scalar_code_have_the_same_bits(name: str, dtype: DType) -> None:
    with np.errstate(invalid="ignore"):
        x = sample()[::10].astype(dtype.numpy)
    vector, scalar = (pointwise(ops.ALL[name], [dtype], dtype, kind) for kind in ("vector", "parallel"))
    assert_same_bits(apply_native(scalar, x), apply_native(vector, x), name)
