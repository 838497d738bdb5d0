"""Loads and stores of every shape, guards, checks and loops: native code against the interpreter, to the
bit.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from vitrify.codegen.target import LEVELS
from vitrify.ir import ops
from vitrify.ir.dtypes import DType, bool_, float32, float64, int32, int64, uint8
from vitrify.ir.kernel_text import parse_kernel

from tests.codegen.harness import check_kernel, pointwise, run_native, text_of

LENGTHS = (0, 1, 15, 16, 17, 33, 100)
DTYPES = [float32, float64, int64, int32, uint8, bool_]


def values(dtype: DType, size: int) -> np.ndarray:
    rng = np.random.default_rng(size)
    if dtype.kind == "f":
        return rng.standard_normal(size).astype(dtype.numpy)
    return rng.integers(0, 2 if dtype.kind == "b" else 100, size).astype(dtype.numpy)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "read, write", [
        ("i", "i"), ("n - 1 - i", "i"), ("i", "n - 1 - i"), ("3*i + 1", "i"), ("i", "2*i + 1"), ("4", "i"),
        ("i // 3", "i"), ("i % 7", "i"), ("5*(i % 3) + i // 3", "i"), ("i // 16", "i"), ("i % 32", "i"),
        ("s*i", "i"),
        ("(i + 5) % 16", "i"), ("(i // 16) % 4 + i % 16", "i"), ("(i - 40) % 9", "i"),
        ("(i - 40) // 9 + 5", "i"),
        ("i*i % 11", "i"), ("i // s", "i"), ("i % s", "s*i"),
        ("i // 20", "i"), ("2*((i // 7) // 5) + 1", "i"), ("(i - 40) // 17 + 5", "n - 1 - i"),
        ("(n - i) // 19", "i"),
    ],
)  # fmt: skip
def test_indices(dtype: DType, read: str, write: str) -> None:
    text = f"""
        kernel copy(%x: {dtype}[s*n + 64] in, %y: {dtype}[s*n + 64] out; n, s) {{
          vector i < n {{
            %0 = load %x[{read}] : {dtype}
            store %y[{write}], %0
          }}
        }}"""
    for n in LENGTHS:
        size = 3 * n + 64
        check_kernel(text, {"x": values(dtype, size), "y": values(dtype, size)}, {"n": n, "s": 3})


@pytest.mark.parametrize("read, gathers", [("(i // 14) // 14 + s", False), ("i // 15", True)])
def test_what_changes_once_in_a_vector_is_read_twice(read: str, gathers: bool) -> None:
    text = f"""
        kernel copy(%x: f32[16 + s] in, %y: f32[160] out; s) {{
          vector i < 160 {{
            %0 = load %x[{read}] : f32
            store %y[i], %0
          }}
        }}"""
    check_kernel(text, {"x": values(float32, 19), "y": values(float32, 160)}, {"s": 3})
    assert ("llvm.masked.gather" in text_of(parse_kernel(text))) == gathers


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "guards", [
        "2 <= i < 9", "0 <= i - 3 < n - 5", "1 <= k < 2", "0 <= i + k - 1 < n, 0 <= k < 1", "0 <= i % 5 < 3",
        "0 <= i // 16 < 1", "0 <= 2*i < n", "5 <= i < 5",
    ],
)  # fmt: skip
@pytest.mark.parametrize("index", ["i", "n - 1 - i", "2*i - n", "0"])
def test_guards(dtype: DType, guards: str, index: str) -> None:
    """Loads and stores that a guard forbids lie outside the buffer in part; `otherwise` is not zero."""
    other = "true" if dtype is bool_ else "7.0" if dtype.kind == "f" else "7"
    safe = "0 <= 2*i - n < n" if index == "2*i - n" else "0 <= i < n"
    text = f"""
        kernel guarded(%x: {dtype}[n] in, %y: {dtype}[2*n] inout; n) {{
          parallel k < 2 {{
            vector i < n {{
              %0 = load %x[{index}] when {guards}, {safe} else {dtype}({other}) : {dtype}
              store %y[k*n + i], %0 when {guards}
            }}
          }}
        }}"""
    for n in LENGTHS[1:]:
        check_kernel(text, {"x": values(dtype, n), "y": values(dtype, 2 * n)}, {"n": n})


@pytest.mark.parametrize("integer", [int64, int32], ids=str)
def test_gather_by_value_and_check(integer: DType) -> None:
    text = f"""
        kernel gather(%x: f32[m] in, %at: {integer}[n] in, %y: f32[n] out; m, n) {{
          vector i < n {{
            %0 = load %at[i] : {integer}
            %1 = const {integer}(0) : {integer}
            %2 = const {integer}(20) : {integer}
            %3 = ge %0, %1 : bool
            %4 = lt %0, %2 : bool
            %5 = bit_and %3, %4 : bool
            check %5 code 3
            %6 = load %x[%0] when 0 <= %0 < m else f32(-1.0) : f32
            store %y[i], %6
          }}
        }}"""
    for n in LENGTHS:
        at = values(int64, n).astype(integer.numpy) % 20
        buffers = {"x": values(float32, 20), "at": at, "y": np.zeros(n, np.float32)}
        check_kernel(text, buffers, {"m": 20, "n": n})
        for bad in (-1, 20, np.iinfo(integer.numpy).min, np.iinfo(integer.numpy).max):
            if n:
                at[n // 2] = bad
                check_kernel(text, {**buffers, "at": at}, {"m": 20, "n": n})
                assert run_native(parse_kernel(text), {**buffers, "at": at}, {"m": 20, "n": n}) == 3


def test_scatter_by_value_in_order() -> None:
    """A serial loop adds to destinations that repeat."""
    text = """
        kernel scatter(%x: f32[n] in, %at: i64[n] in, %y: f32[4] inout; n) {
          serial i < n {
            %0 = load %at[i] : i64
            %1 = load %x[i] : f32
            %2 = load %y[%0] when 0 <= %0 < 4 else f32(0.0) : f32
            %3 = add %2, %1 : f32
            store %y[%0], %3 when 0 <= %0 < 4
          }
        }"""
    n = 50
    at = values(int64, n) % 6 - 1
    check_kernel(text, {"x": values(float32, n), "at": at, "y": values(float32, 4)}, {"n": n})


@pytest.mark.parametrize("outer", ["parallel j < n", "vector j < n"])
def test_serial_loops_carry_values(outer: str) -> None:
    """A cumulative sum and product down the columns."""
    text = f"""
        kernel cumulate(%x: f32[m*n] in, %y: f32[m*n] out, %z: f32[n] out; m, n) {{
          %zero = const f32(0.0) : f32
          %one = const f32(1.0) : f32
          {outer} {{
            %total, %product = serial i < m carry %t = %zero, %p = %one {{
              %0 = load %x[i*n + j] : f32
              %1 = add %t, %0 : f32
              %2 = mul %p, %0 : f32
              store %y[i*n + j], %1
              yield %1, %2
            }}
            %3 = add %total, %product : f32
            store %z[j], %3
          }}
        }}"""
    for m, n in ((0, 3), (1, 1), (5, 17), (3, 100)):
        buffers = {
            "x": values(float32, m * n),
            "y": np.zeros(m * n, np.float32),
            "z": np.zeros(n, np.float32),
        }
        check_kernel(text, buffers, {"m": m, "n": n})


def test_positions_as_values() -> None:
    text = """
        kernel iota(%y: i64[m*n] out, %z: f32[m*n] out; m, n) {
          parallel i < m {
            %0 = index 10*i : i64
            vector j < n {
              %1 = index i*n + j // 3 - 2*j : i64
              %2 = add %0, %1 : i64
              store %y[i*n + j], %2
              %3 = cast %2 {dtype=f32} : f32
              store %z[i*n + j], %3
            }
          }
        }"""
    for m, n in ((1, 1), (3, 16), (2, 50)):
        buffers = {"y": np.zeros(m * n, np.int64), "z": np.zeros(m * n, np.float32)}
        check_kernel(text, buffers, {"m": m, "n": n})


@pytest.mark.parametrize("dtype", [float32, float64, int64, int32, uint8], ids=str)
@pytest.mark.parametrize("rows, columns", [(16, 16), (33, 50), (100, 17), (1, 64), (40, 3), (0, 20)])
def test_transposing_copies(dtype: DType, rows: int, columns: int) -> None:
    for static in (True, False):
        r, c = (str(rows), str(columns)) if static else ("r", "c")
        text = f"""
            kernel transpose(%x: {dtype}[{r}*{c}] in, %y: {dtype}[{r}*{c}] out{"" if static else "; r, c"}) {{
              parallel i < {r} {{
                vector j < {c} {{
                  %0 = load %x[{r}*j + i] : {dtype}
                  store %y[{c}*i + j], %0
                }}
              }}
            }}"""
        size = rows * columns
        buffers = {"x": values(dtype, size), "y": np.zeros(size, dtype.numpy)}
        check_kernel(text, buffers, None if static else {"r": rows, "c": columns})


@pytest.mark.parametrize("dtype", [float32, float64, uint8], ids=str)
@pytest.mark.parametrize("runs, taps, columns", [(64, 9, 32), (5, 9, 16), (1, 3, 48), (7, 1, 16), (9, 4, 20)])
def test_copies_that_transpose_runs_of_two_loops(dtype: DType, runs: int, taps: int, columns: int) -> None:
    text = f"""
        kernel turn(%x: {dtype}[{2 * runs * taps * columns}] in, %y: {dtype}[{2 * runs * taps * columns}] out) {{
          parallel b < 2 {{
            parallel i < {runs} {{
              parallel t < {taps} {{
                vector j < {columns} {{
                  %0 = load %x[{runs * taps * columns}*b + {taps}*i + t + {runs * taps}*j] : {dtype}
                  store %y[{runs * taps * columns}*b + {runs * columns}*t + {columns}*i + j], %0
                }}
              }}
            }}
          }}
        }}"""  # noqa: E501
    size = 2 * runs * taps * columns
    check_kernel(text, {"x": values(dtype, size), "y": np.zeros(size, dtype.numpy)})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_tail_is_stored_in_pieces_without_mask_registers(dtype: DType) -> None:
    for n in range(17, 32):
        text = f"""
            kernel copy(%x: {dtype}[{n}] in, %y: {dtype}[{n}] out) {{
              vector i < {n} {{
                %0 = load %x[i] : {dtype}
                store %y[i], %0
              }}
            }}"""
        check_kernel(text, {"x": values(dtype, n), "y": values(dtype, n)})
        assert "masked.store" not in text_of(parse_kernel(text), LEVELS["x86-64-v3"])


def test_in_place_kernels_promise_nothing_about_aliasing() -> None:
    kernel = pointwise(ops.neg, [float32], float32)
    assert "noalias" not in text_of(kernel)


@pytest.mark.parametrize("seed", range(60))
def test_random_indices_and_guards(seed: int) -> None:
    """Random quotients, strides and guards over two axes; indices are brought into the buffer by a
    remainder.
    """
    rng = np.random.default_rng(seed)

    def expression(depth: int = 0) -> str:
        choice = int(rng.integers(0, 9 if depth < 3 else 5))
        if choice < 5:
            return ["i", "j", "j", str(rng.integers(0, 40)), "n"][choice]
        a, b = expression(depth + 1), str(rng.choice([2, 3, 5, 16, 48, 64]))
        return {
            5: f"({a} + {expression(depth + 1)})",
            6: f"({a})*{b}",
            7: f"(({a}) // {b})",
            8: f"(({a}) % {b})",
        }[choice]

    static = bool(rng.integers(0, 2))
    m, n = int(rng.integers(1, 4)), int(rng.integers(1, 150))
    guard = f"{rng.integers(-3, 5)} <= {expression()} < {expression()} + {rng.integers(0, 30)}"
    text = f"""
        kernel random(%x: f32[97] in, %y: f32[m*n] out, %z: i64[m*n] out; m, n) {{
          parallel i < m {{
            vector j < n {{
              %0 = load %x[({expression()} + {expression()}) % 97] when {guard} else f32(3.5) : f32
              store %y[i*n + j], %0
              %1 = index {expression()} - {expression()} : i64
              store %z[i*n + j], %1
            }}
          }}
        }}"""
    sizes: dict[str, int] | None = {"m": m, "n": n}
    if static:
        text = text.replace("; m, n", "").replace("< m", f"< {m}").replace("m*n", str(m * n))
        text = "".join(f" {n} " if part == "n" else part for part in _words(text))
        sizes = None
    buffers = {"x": values(float32, 97), "y": np.zeros(m * n, np.float32), "z": np.zeros(m * n, np.int64)}
    check_kernel(text, buffers, sizes)


def _words(text: str) -> list[str]:
    return re.split(r"(\b)", text)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("stride", [2, 3, 4, 5])
def test_combs(dtype: DType, stride: int) -> None:
    """Reads stay inside the buffer, which ends with the last element; writes fill the gaps in any order."""
    order = np.random.default_rng(stride).permutation(stride)
    lines = "".join(
        f"%{k} = load %x[{stride}*i + {k}] : {dtype}\n store %y[{stride}*i + {(k + 1) % stride}], %{k}\n"
        for k in order
    )
    head = f"kernel comb(%x: {dtype}[{stride}*n] in, %y: {dtype}[{stride}*n] out, %z: {dtype}[n] out; n)"
    last = f"%v = load %x[{stride}*i + {stride - 1}] : {dtype}\n store %z[i], %v\n"
    for n in (1, 16, 32, 37, 64):
        buffers = {"x": values(dtype, stride * n), "y": values(dtype, stride * n), "z": values(dtype, n)}
        check_kernel(f"{head} {{ vector i < n {{\n{lines}{last} }} }}", buffers, {"n": n})


def test_a_comb_waits_for_no_load_of_what_it_writes() -> None:
    text = """
        kernel swap(%y: f32[2*n] inout; n) {
          vector i < n {
            %0 = load %y[2*i] : f32
            %1 = neg %0 : f32
            store %y[2*i + 1], %1
            %2 = load %y[2*i + 1] : f32
            %3 = add %2, %2 : f32
            store %y[2*i], %3
          }
        }"""
    check_kernel(text, {"y": values(float32, 64)}, {"n": 32})


def test_the_first_failed_check_counts() -> None:
    text = """
        kernel checks(%x: f32[n] in; n) {
          %zero = const f32(0.0) : f32
          serial i < n {
            %0 = load %x[i] : f32
            %1 = ge %0, %zero : bool
            check %1 code 4
            %2 = le %0, %zero : bool
            check %2 code 9
          }
        }"""
    for x, code in (([0.0, 0.0], 0), ([0.0, 1.0, -1.0], 9), ([-1.0, 1.0], 4)):
        array = np.array(x, np.float32)
        check_kernel(text, {"x": array}, {"n": len(x)})
        assert run_native(parse_kernel(text), {"x": array}, {"n": len(x)}) == code
