"""Reductions over many rows: blocks of rows in one pass, with whatever else runs through the rows."""

from __future__ import annotations

import pytest
from vitrify.ir.kernel import Reduce
from vitrify.ir.kernel_text import print_kernel

from tests.passes.lower.lowering import check_lowered


@pytest.mark.parametrize("op", ["reduce_sum", "reduce_prod", "reduce_max", "reduce_min"])
@pytest.mark.parametrize("rows", [64, 127, 128, 129, 300])
def test_column_reductions_of_many_rows(op: str, rows: int) -> None:
    check_lowered(
        f"""
        graph g(%x: f32[{rows}, 7]) {{
          %0 = {op} %x {{axes=(0,), order="rows"}} : f32[7]
          return %0
        }}""",
        calls=1 if rows <= 128 else 2,
    )


@pytest.mark.parametrize("dtype", ["f64", "i64", "u8"])
def test_column_maxima_of_other_dtypes(dtype: str) -> None:
    check_lowered(f"""
        graph g(%x: {dtype}[200, 20]) {{
          %0 = reduce_max %x {{axes=(0,), order="rows"}} : {dtype}[20]
          return %0
        }}""")


@pytest.mark.parametrize(
    ("shape", "axes", "result"),
    [
        ("3, 140, 5", "(1,)", "3, 5"),
        ("7, 20, 6", "(0, 1)", "6"),
        ("16, 8, 6", "(0, 1)", "6"),
        ("130, 3, 4", "(0,)", "3, 4"),
        ("1, 200, 4", "(1,)", "1, 4"),
        ("2, 9, 16, 3", "(1, 2)", "2, 3"),
        ("70, 0", "(0,)", "0"),
        ("0, 70, 3", "(1,)", "0, 3"),
        ("200, 1", "(0,)", "1"),
        ("65, 3, 4", "(0, 1)", "4"),
    ],
)
def test_any_adjacent_axes(shape: str, axes: str, result: str) -> None:
    check_lowered(f"""
        graph g(%x: f32[{shape}]) {{
          %0 = exp %x : f32[{shape}]
          %1 = reduce_sum %0 {{axes={axes}, order="rows"}} : f32[{result}]
          return %1
        }}""")


@pytest.mark.parametrize("rows", [0, 1, 5, 128, 130, 300])
def test_rows_known_at_run_time(rows: int) -> None:
    check_lowered(
        """
        graph g(%x: f32[s0, s1]) {
          %0 = reduce_sum %x {axes=(0,), order="rows"} : f32[s1]
          return %0
        }""",
        sizes={"s0": rows, "s1": 19},
    )


def test_sums_of_the_same_rows_are_taken_together() -> None:
    plan = check_lowered(
        """
        graph g(%x: f32[256, 20], %y: f32[256, 20]) {
          %0 = reduce_sum %x {axes=(0,), order="rows"} : f32[20]
          %1 = mul %x, %y : f32[256, 20]
          %2 = reduce_sum %1 {axes=(0,), order="rows"} : f32[20]
          return %0, %2
        }""",
        calls=3,
    )
    (shared,) = (k for k in plan.kernels if len(k.buffers) == 4)
    assert print_kernel(shared).count("load %x0") == 8  # rows at a time


def test_sums_that_depend_on_each_other_stay_apart() -> None:
    check_lowered(
        """
        graph g(%x: f32[256, 20]) {
          %0 = reduce_sum %x {axes=(0,), order="rows"} : f32[20]
          %1 = reshape %0 {shape=(1, 20)} : f32[1, 20]
          %2 = expand %1 {shape=(256, 20)} : f32[256, 20]
          %3 = sub %x, %2 : f32[256, 20]
          %4 = mul %3, %3 : f32[256, 20]
          %5 = reduce_sum %4 {axes=(0,), order="rows"} : f32[20]
          return %5, %3
        }""",
        calls=4,
    )


@pytest.mark.parametrize("rows", ["160", "12, 11", "8, 32", "4, 32, 2"])
def test_row_and_column_reductions_in_one_pass(rows: str) -> None:
    """A row's sum, what is computed from it, and the sums of that over all rows."""
    axes = tuple(range(rows.count(",") + 1))
    plan = check_lowered(f"""
        graph g(%x: f32[{rows}, 20], %y: f32[{rows}, 20]) {{
          %0 = reduce_sum %x {{axes=({len(axes)},), order="lanes"}} : f32[{rows}]
          %1 = reshape %0 {{shape=({rows}, 1)}} : f32[{rows}, 1]
          %2 = expand %1 {{shape=({rows}, 20)}} : f32[{rows}, 20]
          %3 = sub %x, %2 : f32[{rows}, 20]
          %4 = mul %3, %y : f32[{rows}, 20]
          %5 = reduce_sum %4 {{axes={axes}, order="rows"}} : f32[20]
          %6 = reduce_sum %y {{axes={axes}, order="rows"}} : f32[20]
          return %3, %0, %5, %6
        }}""")
    assert sum(isinstance(s, Reduce) and s.order == "lanes" for k in plan.kernels for s in k.statements()) > 0
    assert len(plan.calls) == 3


def test_a_kept_value_beside_a_column_sum() -> None:
    """What the first phase of a row stores is not taken for stored when the shorter block is written."""
    check_lowered("""
        graph g(%x: f32[150, 20]) {
          %0 = exp %x : f32[150, 20]
          %1 = reduce_sum %0 {axes=(1,), order="lanes"} : f32[150]
          %2 = reshape %1 {shape=(150, 1)} : f32[150, 1]
          %3 = expand %2 {shape=(150, 20)} : f32[150, 20]
          %4 = div %0, %3 : f32[150, 20]
          %5 = reduce_sum %4 {axes=(0,), order="rows"} : f32[20]
          return %4, %5
        }""")


def test_a_cotangent_with_gaps_is_summed_by_itself() -> None:
    check_lowered("""
        graph g(%x: f32[80, 10]) {
          %z = constant {value=f32(0)} : f32[]
          %0 = pad %x, %z {hi=(0, 1), interior=(0, 1), lo=(0, 0)} : f32[80, 20]
          %1 = neg %0 : f32[80, 20]
          %2 = reduce_sum %1 {axes=(0,), order="rows"} : f32[20]
          return %1, %2
        }""")


def test_the_sums_of_a_contractions_rows_are_taken_apart() -> None:
    plan = check_lowered("""
        graph g(%x: f32[70, 8], %w: f32[8, 20]) {
          %0 = contract %x, %w {spec=<[m, k] * [k, n] -> [m, n] over k>} : f32[70, 20]
          %1 = neg %0 : f32[70, 20]
          %2 = reduce_sum %1 {axes=(0,), order="rows"} : f32[20]
          return %1, %2
        }""")
    assert len(plan.calls) == 2
