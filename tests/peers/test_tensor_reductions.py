"""Reductions, cumulative sums and sorting against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .tensor_twins import arrays_of, check, check_grad

DTYPES = ["float32", "float64", "int64", "int32", "uint8", "bool"]
WHOLE = """sum prod mean amax amin max min any all argmax argmin count_nonzero var std norm nansum logsumexp0
    median""".split()


def _call(name: str, *args: Any, **kwargs: Any) -> Any:
    if name == "logsumexp0":
        return lambda lib, x: lib.logsumexp(x, tuple(range(x.ndim)))
    return lambda lib, x: getattr(lib, name)(x, *args, **kwargs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", WHOLE)
def test_whole(name: str, dtype: str) -> None:
    for kind, x in arrays_of(dtype).items():
        if name == "prod" and kind != "special":
            x = x[..., :3] if x.ndim else x
        if (
            name == "logsumexp0"
            and not dtype.startswith("f")
            or kind == "empty"
            and name in ("amax", "amin", "median")
        ):
            continue
        check(_call(name), x, what=f"{name} of {dtype} {kind}")
    check(
        lambda lib, x: _call(name)(lib, x.t()[1:, ::2][:3]),
        arrays_of(dtype)["matrix"],
        what=f"{name} strided",
    )


ALONG = "sum prod mean amax amin max min any all argmax argmin var std norm logsumexp".split()


@pytest.mark.parametrize("name", ALONG)
def test_along_a_dimension(name: str) -> None:
    cube = arrays_of("float32")["cube"]
    for dim in (0, 1, 2, -1):
        for keepdim in (False, True):
            check(_call(name, dim=dim, keepdim=keepdim), cube, what=f"{name} {dim} {keepdim}")
            check(
                lambda lib, x: getattr(lib, name)(x.permute(2, 0, 1), dim=dim),
                cube,
                what=f"{name} permuted {dim}",
            )
    for dim in (3, -4):
        check(_call(name, dim=dim), cube, what=f"{name} {dim}")
    check(_call(name, dim=0), np.array(1.5, np.float32), what=f"{name} of rank 0")
    check(_call(name, dim=0), np.zeros((0, 3), np.float32), what=f"{name} over nothing")
    check(_call(name, dim=1), np.zeros((0, 3), np.float32), what=f"{name} of nothing")


@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin", "var", "std", "logsumexp"])
def test_several_dimensions(name: str) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    for dims in ((0, 1), (0, 2), (1, 3), (0, 3), (-1, -2), (0, 1, 2, 3), (2,)):
        check(_call(name, dim=dims), x, what=f"{name} {dims}")
    check(_call(name, dim=(1, 1)), x)


@pytest.mark.parametrize(
    "name", ["sum", "prod", "mean", "amax", "amin", "max", "min", "var", "std", "norm", "logsumexp"]
)
def test_gradients(name: str) -> None:
    cube = arrays_of("float64")["cube"]
    for dim in (0, 1, -1):
        check_grad(_call(name, dim=dim), cube, what=f"{name} along {dim}")
    if name not in ("logsumexp",):
        check_grad(_call(name), cube, what=name)
    check_grad(lambda lib, x: getattr(lib, name)(x.transpose(0, 2), dim=1), cube, what=f"{name} transposed")


def test_gradient_of_ties() -> None:
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    check_grad(lambda lib, x: lib.amax(x, 1), x)
    check_grad(lambda lib, x: x.max(), x)
    check_grad(lambda lib, x: x.max(1).values, x)
    check_grad(lambda lib, x: lib.maximum(x[0], x[1]), x)


def test_options() -> None:
    x, k = arrays_of("float32")["matrix"], arrays_of("int64")["matrix"]
    check(lambda lib, x: x.sum(dtype=lib.float64), x)
    check(lambda lib, x: x.sum(0, dtype=lib.float32), k)
    check(lambda lib, x: x.mean(dtype=lib.float64), k)
    check(lambda lib, x: x.prod(1, dtype=lib.float64), k)
    check(lambda lib, x: x.var(unbiased=False), x)
    check(lambda lib, x: x.var(1, correction=2), x)
    check(lambda lib, x: x.std(0, False), x)
    check(lambda lib, x: lib.var_mean(x, 1), x)
    check(lambda lib, x: lib.std_mean(x, dim=0, keepdim=True), x)
    check(lambda lib, x: x.var(), x[:1, :1])
    check(lambda lib, x: lib.aminmax(x), x)
    for p in (1, 2, 3, 0, np.inf, -np.inf, "fro"):
        check(lambda lib, x: x.norm(p), x, what=str(p))
    check(lambda lib, x: x.norm(1, 0), x)
    check(lambda lib, x, y: lib.max(x, y), x, x[::-1])
    check(lambda lib, x: (x.max(1).values, x.max(1).indices), x)


def test_cumsum() -> None:
    for dtype in DTYPES:
        for dim in (0, 1, -1):
            check(lambda lib, x: x.cumsum(dim), arrays_of(dtype)["matrix"], what=f"{dtype} {dim}")
    check_grad(lambda lib, x: x.cumsum(1), arrays_of("float64")["cube"])
    check(lambda lib, x: x.cumsum(0), np.array(2.0))
    check(lambda lib, x: x.cumsum(0), np.zeros((0, 2)))


def test_softmax() -> None:
    x = arrays_of("float32")["cube"]
    for name in ("softmax", "log_softmax"):
        for dim in (0, 1, -1):
            check_grad(lambda lib, x: getattr(lib, name)(x, dim), x, what=f"{name} {dim}")
        check(lambda lib, x: getattr(lib, name)(x, 0), np.array([1e4, -1e4, 0], np.float32))
        check(lambda lib, x: getattr(lib, name)(x, 1), np.zeros((2, 0), np.float32))
        check(lambda lib, x: getattr(lib, name)(x, 0), np.array(3.0, np.float32))
        check(lambda lib, x: getattr(lib, name)(x, 0, dtype=lib.float64), x)
        check(lambda lib, x: getattr(lib, name)(x, 0), arrays_of("int64")["matrix"])


def test_sorting() -> None:
    x = arrays_of("float32")["cube"]
    for dim in (0, 1, -1):
        for descending in (False, True):
            check_grad(lambda lib, x: lib.sort(x, dim=dim, descending=descending)[0], x)
            check(lambda lib, x: lib.sort(x, dim=dim, descending=descending, stable=True)[1], x)
            check(lambda lib, x: lib.argsort(x, dim=dim, descending=descending, stable=True), x)
        check_grad(lambda lib, x: lib.topk(x, 2, dim).values, x)
        check(lambda lib, x: lib.topk(x, 2, dim, largest=False), x)
        check(lambda lib, x: x.kthvalue(2, dim), x)
        check(lambda lib, x: x.median(dim), x)
        check(lambda lib, x: x.median(dim, True)[0], x)
    for values in ([1, 3, 3, 5, 0, 3, -3], [0.0, -0.0, 1, -1, 0.0], [1, np.nan, np.nan, 2], [[2, 1], [2, 2]]):
        check_grad(lambda lib, x: x.median(), np.array(values, np.float32))
    for name in ("int64", "int8", "uint8", "bool"):
        x = arrays_of(name)["matrix"]
        check(lambda lib, x: lib.argsort(x, descending=True, stable=True), x)
        check(lambda lib, x: lib.msort(x), x)
    for wrong in (
        lambda lib, x: lib.topk(x, 99),
        lambda lib, x: lib.sort(x, 7),
        lambda lib, x: x.kthvalue(0),
    ):
        check(wrong, x)
    for empty in (np.zeros((3, 0)), np.zeros((0, 3))):
        check(lambda lib, x: lib.sort(x, 1), empty)
        check(lambda lib, x: x.median(1), empty)
        check(lambda lib, x: x.kthvalue(1, 1), empty)
    for name in ("sort", "argsort", "msort"):
        check(lambda lib, x: getattr(lib, name)(x), np.zeros(3, np.complex64))
    check(lambda lib, x: lib.topk(x, 1), np.zeros(3, np.complex64))
    check(lambda lib, x: lib.sort(x), np.array(2.0))
    check(lambda lib, x: lib.sort(x)[0], np.array([3.0, np.nan, -np.inf, 1.0]))
    k = np.array([3, 1, 2, 3, 1, 7])
    check(lambda lib, x: lib.unique(x), k)
    check(lambda lib, x: lib.unique(x, return_inverse=True, return_counts=True), k.reshape(2, 3))
    check(lambda lib, x: lib.bincount(x), k)
    check(lambda lib, x: lib.bincount(x, minlength=12), k)
    check(lambda lib, x, w: lib.bincount(x, w), k, np.arange(6.0))
