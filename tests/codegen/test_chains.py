"""Rows that wait for themselves run several at a time, each as it runs alone."""

from __future__ import annotations

import numpy as np
import pytest
from vitrify.ir.dtypes import float32
from vitrify.ir.kernel_text import parse_kernel

from tests.codegen.harness import check_kernel, text_of
from tests.codegen.test_orders import values


def cumulative(index: str, rows: str, width: str, sizes: str = "") -> str:
    """y[i, j] = the sum, and z[i, j] the product, of x[i, 0 .. j], read at another index."""
    kind = f"f32[{rows}*{width}]"
    return f"""
        kernel sums(%x: {kind} in, %y: {kind} out, %z: {kind} out{sizes}) {{
          %zero = const f32(0.0) : f32
          %one = const f32(1.0) : f32
          parallel i < {rows} {{
            %s, %p = serial j < {width} carry %a = %zero, %b = %one {{
              %0 = load %x[{index}] : f32
              %1 = add %a, %0 : f32
              %2 = mul %b, %0 : f32
              store %y[{width}*i + j], %1
              store %z[{width}*i + j], %2
              yield %1, %2
            }}
          }}
        }}"""


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 5, 7, 8, 11])
@pytest.mark.parametrize("width", [0, 1, 37])
@pytest.mark.parametrize("turned", [False, True])
def test_rows_are_the_same_as_alone(rows: int, width: int, turned: bool) -> None:
    x = values(float32, rows * width, rows)
    for known in (True, False):
        m, n, sizes = (str(rows), str(width), "") if known else ("m", "n", "; m, n")
        index = f"{n}*i + {n} - 1 - j" if turned else f"{n}*i + j"
        buffers = {"x": x, "y": np.zeros_like(x), "z": np.zeros_like(x)}
        check_kernel(cumulative(index, m, n, sizes), buffers, {} if known else {"m": rows, "n": width})


def test_four_rows_run_together() -> None:
    text = text_of(parse_kernel(cumulative("37*i + j", "8", "37")))
    assert text.count("fadd float") == 4


def test_a_row_whose_indices_it_computes_runs_alone() -> None:
    text = """
        kernel chase(%x: i64[6*9] in, %y: i64[6*9] out) {
          %zero = const i64(0) : i64
          parallel i < 6 {
            %last = serial j < 9 carry %at = %zero {
              %0 = load %x[9*i + %at] when 0 <= %at < 9 else i64(0) : i64
              store %y[9*i + j], %0
              yield %0
            }
          }
        }"""
    x = np.random.default_rng(0).integers(0, 9, 54)
    check_kernel(text, {"x": x, "y": np.zeros_like(x)})
