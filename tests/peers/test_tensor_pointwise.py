"""Pointwise functions, comparisons and promotion against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .tensor_twins import arrays_of, check, check_grad

DTYPES = ["float32", "float64", "int64", "int32", "uint8", "bool"]
UNARY = """exp log sin cos tanh erf sqrt rsqrt sigmoid floor ceil trunc round neg abs sign square reciprocal
relu log2 log10
    log1p exp2 expm1 sinh cosh frac isnan isinf isfinite isposinf isneginf logical_not bitwise_not signbit
    nan_to_num positive clone tan asin acos atan asinh acosh atanh erfc erfinv sgn deg2rad rad2deg logit sinc
    arcsin arccos arctan arcsinh arccosh arctanh""".split()
BINARY = """add sub mul div floor_divide remainder fmod pow maximum minimum eq ne lt le gt ge logical_and
logical_or logical_xor
    bitwise_and bitwise_or bitwise_xor hypot logaddexp logaddexp2 atan2 arctan2 xlogy""".split()


def _call(name: str) -> Any:
    return lambda lib, *x: getattr(lib, name)(*x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str, dtype: str) -> None:
    for kind, x in arrays_of(dtype).items():
        check(_call(name), x, what=f"{name} of {dtype} {kind}")
    check(lambda lib, x: _call(name)(lib, x.t()[1:, ::2]), arrays_of(dtype)["matrix"], what=f"{name} strided")


PAIRS = [
    ("float32", "float32"), ("int64", "int64"), ("int32", "uint8"), ("float32", "float64"),
    ("int64", "float32"),
    ("bool", "bool"), ("bool", "uint8"), ("uint8", "uint8"),
]  # fmt: skip


@pytest.mark.parametrize("dtypes", PAIRS)
@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str, dtypes: tuple[str, str]) -> None:
    left, right = arrays_of(dtypes[0])["matrix"], arrays_of(dtypes[1], seed=1)["matrix"]
    if name in ("floor_divide", "remainder", "fmod") and dtypes[1] != "bool":
        right[right == 0] = 1
    if name == "pow":
        right = np.abs(right)
    check(_call(name), left, right, what=f"{name} {dtypes}")
    check(_call(name), left, right[2], what=f"{name} {dtypes} broadcast")
    check(_call(name), left[:, :1], right[:1], what=f"{name} {dtypes} outer")
    check(_call(name), np.array(left[0, 0]), right, what=f"{name} {dtypes} scalar tensor")
    check(lambda lib, x, y: _call(name)(lib, x.t(), y.t()), left, right, what=f"{name} transposed")


@pytest.mark.parametrize(
    "name", ["add", "sub", "mul", "div", "maximum", "minimum", "eq", "lt", "remainder", "floor_divide"]
)
def test_binary_special_values(name: str) -> None:
    x = arrays_of("float32")["special"]
    y = (
        x if name not in ("remainder", "floor_divide") else x[x != np.float32(1e-40)]
    )  # PyTorch flushes it to nan
    check(_call(name), x[:, None], y[None, :], what=name)


@pytest.mark.parametrize("scalar", [2, 2.5, True, -3, 0.5, 0, float("inf"), float("nan"), -0.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_python_scalars(dtype: str, scalar: Any) -> None:
    x = arrays_of(dtype)["matrix"]
    small = arrays_of(dtype)["scalar"]
    for f in (
        lambda lib, x: x + scalar, lambda lib, x: scalar - x, lambda lib, x: x * scalar, lambda lib,
        x: x / scalar, lambda lib, x: scalar / x, lambda lib, x: x == scalar, lambda lib, x: x < scalar,
    ):  # fmt: skip
        check(f, x, what=f"{dtype} and {scalar!r}")
        check(f, small, what=f"{dtype} rank 0 and {scalar!r}")


def test_numpy_scalars() -> None:
    x = arrays_of("float32")["matrix"]
    for number in (np.float64(1.5), np.float32(2.5), np.int64(3)):
        check(lambda lib, x: x * number, x)


@pytest.mark.parametrize("exponent", [2, 3, 0.5, -1, -2, 0, 1, 2.5, -0.5, 4])
def test_pow_of_numbers(exponent: float) -> None:
    for dtype in ("float32", "float64", "int64"):
        check(lambda lib, x: x**exponent, np.abs(arrays_of(dtype)["matrix"]), what=f"{dtype} ** {exponent}")
    check(lambda lib, x: 2.0**x, arrays_of("float32")["matrix"])


@pytest.mark.parametrize("number", [300, -1, -129, -300, 2**40, 1e10, float("nan"), float("-inf"), 3.0, -0.5])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64", "bool", "float32"])
def test_numbers_that_a_dtype_does_not_hold(dtype: str, number: float) -> None:
    def stored(lib: Any, x: Any, index: Any) -> Any:
        x[x != 0 if index is None else index] = number
        return x

    array = np.array([1, 0, 3], dtype)
    for index in (0, slice(1), [1, 2], None):
        check(lambda lib, x, i=index: stored(lib, x, i), array)
    check(lambda lib, x: x.fill_(number), array)
    if dtype != "bool":
        check(lambda lib, x: lib.clamp(x, min=number), array)
        check(lambda lib, x: x.clamp(-1, number), array)
        check(lambda lib, x: x.clamp_max(number), array)
    check(lambda lib, x: x.fill_(2j), array)
    check(lambda lib, x: lib.full((2,), number, dtype=x.dtype), array)
    check(lambda lib, x: x.index_fill(0, lib.tensor([1]), number), array)
    check(lambda lib, x: x.scatter(0, lib.tensor([1]), number), array)
    check(lambda lib, x: lib.nn.functional.pad(x, (1, 2), value=number), array)
    if isinstance(number, int):
        check(lambda lib, x: x.masked_fill(x != 0, number), array)
        check(lambda lib, x: lib.where(x != 0, x, number), array)
        check(lambda lib, x: lib.where(x != 0, number, x), array)


def test_clamp_where_lerp() -> None:
    x, y = arrays_of("float32")["matrix"], arrays_of("float32", 1)["matrix"]
    check_grad(lambda lib, x: x.clamp(-1, 2), x)
    check_grad(lambda lib, x: x.clamp(min=-1.5), x)
    check_grad(lambda lib, x, y: lib.clamp(x, max=y), x, y)
    limits = np.array([[-1.0, 2.0, 0.5, -3.0]])
    holes = np.array([[np.nan, 1.0, -2.0], [3.0, np.nan, np.nan]])
    check(lambda lib, x, y: (x.clamp(0, 1), x.clamp(y, y + 1), x.clamp(max=y)), holes, np.roll(holes, 1))
    check_grad(lambda lib, x: x.clamp(-1, 2), limits)
    check_grad(lambda lib, x: x.clamp(2, -1), limits)
    for bounds in ((0, 1), (None, 0.5), (-0.5, None)):
        check_grad(lambda lib, x, b=bounds: x.clamp(*b), holes)
    check_grad(lambda lib, x, y: x.clamp(y, y + 1), limits, limits[:, ::-1].copy())
    check_grad(lambda lib, x: lib.relu(x), np.array([0.0, -0.0, 1.0, -1.0]))
    check(lambda lib, x: x.clamp(-1.5, 2), arrays_of("int64")["matrix"])
    check_grad(lambda lib, x, y: lib.where(x > 0, x, y), x, y)
    check(lambda lib, x: lib.where(x > 0, x, 0), arrays_of("int64")["matrix"])
    check(lambda lib, x: lib.where(x > 0, 1.0, 0.0), x)
    check(lambda lib, x: lib.where(x > 0), x)
    check_grad(lambda lib, x, y: lib.lerp(x, y, 0.3), x, y)
    check_grad(lambda lib, x, y: lib.lerp(x, y, 0.7), x, y)
    check_grad(lambda lib, x, y: lib.addcmul(x, x, y, value=0.5), x, y)
    check_grad(lambda lib, x, y: lib.addcdiv(x, x, y, value=0.5), x, y)
    check_grad(lambda lib, x, y: lib.add(x, y, alpha=0.5), x, y)
    check_grad(lambda lib, x, y: lib.sub(x, y, alpha=2), x, y)
    check(lambda lib, x: x.masked_fill(x > 0, 7), x)
    check(lambda lib, x, y: lib.isclose(x, y, 0.5, 0.5), x, y)
    check(lambda lib, x: lib.allclose(x, x + 1e-9), x)
    check(lambda lib, x, y: (lib.equal(x, y), lib.equal(x, x)), x, y)


@pytest.mark.parametrize("mode", [None, "floor", "trunc"])
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_division_modes(dtype: str, mode: str | None) -> None:
    x, y = arrays_of(dtype)["matrix"], arrays_of(dtype, 1)["matrix"]
    y[y == 0] = 2
    check(lambda lib, x, y: lib.div(x, y, rounding_mode=mode), x, y)
    check(lambda lib, x: lib.div(x, -3, rounding_mode=mode), x)


SMOOTH = """exp sin cos tanh erf sigmoid square log1p expm1 sinh cosh tan exp2 atan asinh erfc sinc
deg2rad rad2deg""".split()
POSITIVE = """log sqrt rsqrt reciprocal log2 log10 lgamma""".split()


@pytest.mark.parametrize("name", SMOOTH + POSITIVE + ["abs", "relu", "neg", "sign", "floor"])
def test_unary_gradients(name: str) -> None:
    for kind in ("matrix", "scalar", "empty"):
        x = np.asarray(arrays_of("float64")[kind] / 3)
        check_grad(_call(name), np.asarray(np.abs(x) + 0.1) if name in POSITIVE else x, what=name)


TWO = "add sub mul div pow maximum minimum remainder fmod hypot logaddexp atan2 xlogy".split()


@pytest.mark.parametrize("name", TWO)
def test_binary_gradients(name: str) -> None:
    x, y = (np.abs(arrays_of("float64", seed)["matrix"]) + 0.1 for seed in (0, 1))
    check_grad(_call(name), x, y, what=name)
    check_grad(_call(name), x, y[2], what=name)
    check_grad(_call(name), x[:, :1], y[:1], what=name)
    check_grad(lambda lib, x: _call(name)(lib, x, x), x, what=name)


@pytest.mark.parametrize("kind", [(a, b) for a in DTYPES for b in DTYPES])
def test_promotion(kind: tuple[str, str]) -> None:
    a, b = kind
    shaped, small = np.ones((2, 2)), np.ones(())
    for x in (shaped, small):
        for y in (shaped, small):
            check(lambda lib, x, y: lib.result_type(x, y).itemsize, x.astype(a), y.astype(b), what=str(kind))
            check(lambda lib, x, y: x + y, x.astype(a), y.astype(b), what=str(kind))


@pytest.mark.parametrize("dtype", DTYPES)
def test_casts(dtype: str) -> None:
    for kind, x in arrays_of(dtype).items():
        if kind == "special":
            x = np.array([0.0, -1.7, 2.5, 200.2, -0.0, 1e-40]).astype(dtype)
        for target in DTYPES:
            if target == "uint8":
                x = np.abs(x) if x.dtype != bool else x
            check(lambda lib, x: x.to(getattr(lib, target)), x, what=f"{dtype} {kind} to {target}")


SPECIAL = "entr erf erfc exp2 expit expm1 gammaln log1p ndtr psi sinc".split()


@pytest.mark.parametrize("name", SPECIAL)
def test_special_functions(name: str) -> None:
    """lgamma and digamma of positive numbers: near their negative zeros PyTorch's are far off."""
    for dtype in ("float32", "float64"):
        x = arrays_of(dtype)["matrix"]
        x = np.abs(x) + np.asarray(0.25, dtype) if name in ("gammaln", "psi") else x
        check(lambda lib, x: getattr(lib.special, name)(x), x, what=name)


def test_gamma_functions() -> None:
    x = np.array([0.3, 0.5, 1.0, 1.5, 2.0, 2.5, 3.7, 10.0, 50.0])
    check(lambda lib, x: (lib.lgamma(x), lib.digamma(x), lib.lgamma(-x / 7 - 0.01)), x)
    check(lambda lib, x: [lib.polygamma(n, x) for n in (0, 2, 3)], x)  # PyTorch's trigamma has 9 digits
    check(lambda lib, x: (lib.mvlgamma(x + 2, 3), lib.special.multigammaln(x, 1)), x)
    check_grad(lambda lib, x: lib.polygamma(2, x), x)
    poles = np.array([0.0, -0.0, -1.0, -7.0, np.inf, np.nan], np.float32)
    check(lambda lib, x: lib.digamma(x), poles)


def test_functions_at_the_ends_of_their_domains() -> None:
    x = np.array([1.0, -1.0, 1.5, -1.5, 0.0, -0.0, np.inf, -np.inf, np.nan], np.float32)
    for name in "asin acos atan atanh erfinv erfc acosh asinh log1p expm1 exp2 tan logit".split():
        check(_call(name), x, what=name)
    check(lambda lib, x: lib.logit(x, 0.1), x[4:6] + np.float32(0.5))
    y, z = np.repeat(x, len(x)), np.tile(x, len(x))
    for name in ("atan2", "xlogy", "logaddexp2"):
        check(_call(name), y, z, what=name)
    check(lambda lib, y, z: lib.special.xlog1py(y, z), y, z)
    check_grad(lambda lib, x, y: lib.xlogy(x, y), np.array([0.0, 1.0]), np.array([3.0, 2.0]))
    check_grad(lambda lib, x: lib.sinc(x), np.array([0.0, 0.5]))
