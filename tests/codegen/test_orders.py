"""Reductions keep their canonical order to the bit, on every target, scalar or in a vector loop."""

from __future__ import annotations

import numpy as np
import pytest
from vitrify.ir import ops
from vitrify.ir.dtypes import DType, bool_, float32, float64, from_numpy, int32, int64, uint8

from tests.codegen.harness import check_kernel
from tests.support import assert_same_bits

REDUCTIONS = ["reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "argmax", "argmin"]
LENGTHS = [1, 2, 15, 16, 17, 64, 100, 257, 4095, 4096, 4097, 9000]


def values(dtype: DType, size: int, seed: int = 0) -> np.ndarray:
    """Values whose sums depend on the order; repeated ones, so that the first of equals matters."""
    rng = np.random.default_rng(seed)
    if dtype.kind == "f":
        numbers = rng.standard_normal(size) * 10.0 ** rng.integers(-3, 4, size)
        return np.where(rng.random(size) < 0.2, np.round(numbers), numbers).astype(dtype.numpy)
    if dtype.kind == "b":
        return rng.random(size) < 0.1
    return rng.integers(0, 50, size).astype(dtype.numpy)


def result_of(name: str, dtype: DType) -> DType:
    return int64 if name.startswith("arg") else dtype


def row_kernel(name: str, dtype: DType, order: str, length: str | int, sizes: str = "") -> str:
    """y[i] = the reduction of x[i, :] for 2 rows."""
    out = result_of(name, dtype)
    return f"""
        kernel rows(%x: {dtype}[2*{length}] in, %y: {out}[2] out{sizes}) {{
          parallel i < 2 {{
            %r = {name} {order} j < {length} : {out} {{
              %v = load %x[i*{length} + j] : {dtype}
              yield %v
            }}
            store %y[i], %r
          }}
        }}"""


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("dtype", [float32, float64, int64, int32, uint8, bool_], ids=str)
def test_lanes_with_run_time_sizes(name: str, dtype: DType) -> None:
    if dtype is bool_ and name in ("reduce_sum", "reduce_prod"):
        pytest.skip("bool has no sums")
    text = row_kernel(name, dtype, "lanes", "n", "; n")
    for n in LENGTHS:
        y = np.zeros(2, result_of(name, dtype).numpy)
        check_kernel(text, {"x": values(dtype, 2 * n, n), "y": y}, {"n": n})


@pytest.mark.parametrize("order", ["lanes", "rows", "pairwise", "sequential"])
@pytest.mark.parametrize("length", [0, 1, 15, 17, 100, 128, 129, 385, 4096, 8200])
def test_static_sizes(order: str, length: int) -> None:
    text = row_kernel("reduce_sum", float32, order, length)
    check_kernel(text, {"x": values(float32, 2 * length), "y": np.zeros(2, np.float32)})


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("dtype", [float32, float64, int64, uint8], ids=str)
@pytest.mark.parametrize("order", ["rows", "pairwise", "lanes"])
def test_rows_in_a_vector_loop(name: str, dtype: DType, order: str) -> None:
    out = result_of(name, dtype)
    text = f"""
        kernel columns(%x: {dtype}[m*n] in, %y: {out}[n] out; m, n) {{
          vector j < n {{
            %r = {name} {order} i < m : {out} {{
              %v = load %x[i*n + j] : {dtype}
              yield %v
            }}
            store %y[j], %r
          }}
        }}"""
    for m, n in ((1, 1), (3, 17), (128, 64), (129, 70), (300, 130), (1000, 5)):
        x = values(dtype, m * n, m)
        check_kernel(text, {"x": x, "y": np.zeros(n, out.numpy)}, {"m": m, "n": n})


@pytest.mark.parametrize("order", ["lanes", "rows", "pairwise"])
@pytest.mark.parametrize("shape", [(3, 5), (4, 16), (7, 48), (2, 300), (40, 33)])
def test_several_axes_count_as_one(order: str, shape: tuple[int, int]) -> None:
    """The middle axis of the memory stands outside, so the two reduced axes can't be collapsed."""
    a, b = shape
    text = f"""
        kernel axes(%x: f32[{a * 2 * b}] in, %y: f32[2] out, %z: i64[2] out) {{
          parallel k < 2 {{
            %r = reduce_sum {order} i < {a}, j < {b} : f32 {{
              %v = load %x[{2 * b}*i + {b}*k + j] : f32
              yield %v
            }}
            store %y[k], %r
            %p = argmax {order} i < {a}, j < {b} : i64 {{
              %w = load %x[{2 * b}*i + {b}*k + j] : f32
              yield %w
            }}
            store %z[k], %p
          }}
        }}"""
    x = values(float32, a * 2 * b)
    check_kernel(text, {"x": x, "y": np.zeros(2, np.float32), "z": np.zeros(2, np.int64)})


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize("name", ["argmax", "argmin", "reduce_max", "reduce_min"])
def test_extrema_of_nan_infinities_and_zeros(name: str, dtype: DType) -> None:
    inf, nan = np.inf, np.nan
    rows = [
        [-inf] * 37, [inf] * 37, [-0.0] * 20 + [0.0] + [-0.0] * 16, [0.0] * 20 + [-0.0] * 17,
        [1.0] * 30 + [nan] + [2.0] * 5 + [nan], [nan] * 37, [-inf] * 36 + [nan], [3.0, 5.0] * 18 + [5.0],
        [-3.0] * 9 + [-nan] + [-2.0] * 27, [-3.0] * 9 + [nan] + [-2.0] * 27, [inf] * 36 + [-nan],
        [-2.0, -3.0] * 18 + [-2.0], [-0.0] + [-5.0] * 36, [0.0] + [5.0] * 36, [-0.0, 7.0] + [5.0] * 35,
        [0.0, -7.0] + [-5.0] * 35, [1e-45] + [-1e-45] * 36, [2e-45, 1e-45] * 18 + [inf],
        [-2e-45] * 36 + [-inf],
    ]  # fmt: skip
    out = result_of(name, dtype)
    columns = f"""
        kernel columns(%x: {dtype}[37*{len(rows)}] in, %y: {out}[{len(rows)}] out) {{
          vector j < {len(rows)} {{
            %r = {name} lanes i < 37 : {out} {{
              %v = load %x[i*{len(rows)} + j] : {dtype}
              yield %v
            }}
            store %y[j], %r
          }}
        }}"""
    x = np.array(rows).T.astype(dtype.numpy).reshape(-1)
    check_kernel(columns, {"x": x, "y": np.zeros(len(rows), out.numpy)})
    for row in rows:
        x = np.array(row * 2).astype(dtype.numpy)
        for order in ("lanes", "sequential"):
            text = row_kernel(name, dtype, order, 37)
            check_kernel(text, {"x": x, "y": np.zeros(2, out.numpy)})


@pytest.mark.parametrize("count", [1, 2, 3, 7, 32, 33])
def test_few_values_are_joined_pairwise_in_registers(count: int) -> None:
    text = f"""
        kernel columns(%x: f32[{count}*70] in, %y: f32[70] out) {{
          vector j < 70 {{
            %r = reduce_sum pairwise i < {count} : f32 {{
              %v = load %x[70*i + j] : f32
              yield %v
            }}
            store %y[j], %r
          }}
        }}"""
    check_kernel(text, {"x": values(float32, count * 70), "y": np.zeros(70, np.float32)})


def test_softmax_keeps_its_row_and_stores_inside_a_reduction() -> None:
    text = """
        kernel softmax(%x: f32[m*n] in, %y: f32[m*n] out; m, n) {
          parallel i < m {
            %m = reduce_max lanes j < n : f32 {
              %0 = load %x[i*n + j] : f32
              yield %0
            }
            %d = reduce_sum lanes j < n : f32 {
              %1 = load %x[i*n + j] : f32
              %2 = sub %1, %m : f32
              %3 = abs %2 : f32
              store %y[i*n + j], %3
              yield %3
            }
            vector j < n {
              %4 = load %y[i*n + j] : f32
              %5 = div %4, %d : f32
              store %y[i*n + j], %5
            }
          }
        }"""
    for m, n in ((0, 5), (3, 0), (3, 1), (3, 16), (2, 77), (1, 5000)):
        x = values(float32, m * n)
        check_kernel(text, {"x": x, "y": np.full_like(x, 7)}, {"m": m, "n": n})


def test_the_order_of_a_row_does_not_depend_on_the_batch() -> None:
    x = values(float32, 2 * 777)
    buffers = {"x": x, "y": np.zeros(2, np.float32)}
    whole = check_kernel(row_kernel("reduce_sum", float32, "lanes", 777), buffers)["y"]
    expected = ops.reduce_sum.meaning(x.reshape(2, 777), axes=(1,), order="lanes")  # type: ignore[misc]
    assert from_numpy(whole.dtype) is float32
    assert_same_bits(whole, expected)
