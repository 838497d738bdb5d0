"""The kernels that small graphs become, by text, and that they compute the same."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest
from vitrify.ir.kernel_text import print_kernel

from tests.passes.lower.lowering import check_lowered


def check_kernel(graph: str, kernel: str, **options: object) -> None:
    """The graph becomes this one kernel."""
    plan = check_lowered(graph, calls=1, **options)  # type: ignore[arg-type]
    (made,) = plan.kernels
    assert print_kernel(made).strip() == textwrap.dedent(kernel).strip()


def test_pointwise_over_dense_operands_is_one_flat_loop() -> None:
    check_kernel(
        """
        graph g(%x: f32[4, 6], %y: f32[4, 6], %s: f32[]) {
          %0 = reshape %s {shape=(1, 1)} : f32[1, 1]
          %1 = expand %0 {shape=(4, 6)} : f32[4, 6]
          %2 = mul %x, %1 : f32[4, 6]
          %3 = add %2, %y : f32[4, 6]
          return %3
        }""",
        """
        kernel mul_add_4x6(%x0: f32[24] in, %x1: f32[1] in, %x2: f32[24] in, %y0: f32[24] out) {
          %1 = load %x1[0] : f32
          vector i1 < 24 {
            %0 = load %x0[i1] : f32
            %2 = mul %0, %1 : f32
            %3 = load %x2[i1] : f32
            %4 = add %2, %3 : f32
            store %y0[i1], %4
          }
        }""",
    )


def test_a_broadcast_along_rows_is_loaded_once_per_row() -> None:
    check_kernel(
        """
        graph g(%x: f32[4, 6], %b: f32[4, 1]) {
          %0 = expand %b {shape=(4, 6)} : f32[4, 6]
          %1 = add %x, %0 : f32[4, 6]
          return %1
        }""",
        """
        kernel add_4x6(%x0: f32[24] in, %x1: f32[4] in, %y0: f32[24] out) {
          parallel i0 < 4 {
            %1 = load %x1[i0] : f32
            vector i1 < 6 {
              %0 = load %x0[6*i0 + i1] : f32
              %2 = add %0, %1 : f32
              store %y0[6*i0 + i1], %2
            }
          }
        }""",
    )


def test_symbolic_sizes_and_strides() -> None:
    check_kernel(
        """
        graph g(%x: f32[s0, s1] strides(s2, 1), %y: f32[s0, s1]) {
          %0 = add %x, %y : f32[s0, s1]
          return %0
        }""",
        """
        kernel add_s0xs1(%x0: f32[s0*s2 + s1 - s2] in, %x1: f32[s0*s1] in, %y0: f32[s0*s1] out; s0, s1, s2) {
          parallel i0 < s0 {
            vector i1 < s1 {
              %0 = load %x0[i0*s2 + i1] : f32
              %1 = load %x1[i0*s1 + i1] : f32
              %2 = add %0, %1 : f32
              store %y0[i0*s1 + i1], %2
            }
          }
        }""",
        sizes={"s0": 3, "s1": 20, "s2": 23},
    )


def test_dense_operands_of_run_time_size_are_one_flat_loop() -> None:
    plan = check_lowered(
        """
        graph g(%x: f32[s0, s1], %y: f32[s0, s1]) {
          %0 = add %x, %y : f32[s0, s1]
          return %0
        }""",
        calls=1,
        sizes={"s0": 3, "s1": 20},
    )
    assert "vector i1 < s0*s1 {" in print_kernel(plan.kernels[0])


def test_a_transpose_loads_along_the_parallel_axis() -> None:
    check_kernel(
        """
        graph g(%x: f32[40, 30]) {
          %0 = permute %x {perm=(1, 0)} : f32[30, 40]
          return %0
        }""",
        """
        kernel permute_30x40(%x0: f32[1200] in, %y0: f32[1200] out) {
          parallel i0 < 30 {
            vector i1 < 40 {
              %0 = load %x0[i0 + 30*i1] : f32
              store %y0[40*i0 + i1], %0
            }
          }
        }""",
    )


def test_loops_around_a_gathering_copy_stand_as_what_it_reads() -> None:
    """The taps of a kernel, neighbours in memory, are the inner loop."""
    check_kernel(
        """
        graph g(%w: f32[16, 5, 3]) {
          %0 = permute %w {perm=(2, 1, 0)} : f32[3, 5, 16]
          return %0
        }""",
        """
        kernel permute_3x5x16(%x0: f32[240] in, %y0: f32[240] out) {
          parallel i1 < 5 {
            parallel i0 < 3 {
              vector i2 < 16 {
                %0 = load %x0[i0 + 3*i1 + 15*i2] : f32
                store %y0[80*i0 + 16*i1 + i2], %0
              }
            }
          }
        }""",
    )


def test_column_sums_run_over_the_kept_axes() -> None:
    check_kernel(
        """
        graph g(%x: f32[50, 4, 8]) {
          %0 = reduce_sum %x {axes=(0,), order="rows"} : f32[4, 8]
          return %0
        }""",
        """
        kernel sum_4x8(%x0: f32[1600] in, %y0: f32[32] out) {
          vector i1 < 32 {
            %1 = reduce_sum rows i2 < 50 : f32 {
              %0 = load %x0[i1 + 32*i2] : f32
              yield %0
            }
            store %y0[i1], %1
          }
        }""",
    )


def test_a_contraction_with_its_epilogue_and_joined_rows() -> None:
    check_kernel(
        """
        graph g(%x: f32[2, 3, 5], %w: f32[5, 7], %b: f32[7]) {
          %0 = contract %x, %w {spec=<[a, m, k] * [k, n] -> [a, m, n] over k>} : f32[2, 3, 7]
          %1 = reshape %b {shape=(1, 1, 7)} : f32[1, 1, 7]
          %2 = expand %1 {shape=(2, 3, 7)} : f32[2, 3, 7]
          %3 = add %0, %2 : f32[2, 3, 7]
          return %3
        }""",
        """
        kernel contract_add_2x3x7(%x0: f32[7] in, %x1: f32[30] in, %x2: f32[35] in, %y0: f32[42] out) {
          %0 = contract %x1[5*i1 + i3] * %x2[i2 + 7*i3] over i3 < 5 for i1 < 6, i2 < 7 : f32 {
            %1 = load %x0[i2] : f32
            %2 = add %0, %1 : f32
            store %y0[7*i1 + i2], %2
          }
        }""",
    )


def test_padding_is_a_guarded_load() -> None:
    check_kernel(
        """
        graph g(%x: f32[5]) {
          %0 = constant {value=f32(2.5)} : f32[]
          %1 = pad %x, %0 {hi=(2,), interior=(0,), lo=(1,)} : f32[8]
          return %1
        }""",
        """
        kernel pad_8(%x0: f32[5] in, %y0: f32[8] out) {
          vector i0 < 8 {
            %0 = load %x0[i0 - 1] when 0 <= i0 - 1 < 5 else f32(2.5) : f32
            store %y0[i0], %0
          }
        }""",
    )


def test_cumulative_sums_carry_along_the_axis() -> None:
    check_kernel(
        """
        graph g(%x: f32[5, 4]) {
          %0 = cumsum %x {axis=0} : f32[5, 4]
          return %0
        }""",
        """
        kernel cumsum_5x4(%x0: f32[20] in, %y0: f32[20] out) {
          %0 = const f32(0.0) : f32
          vector i0 < 4 {
            %4 = serial i1 < 5 carry %1 = %0 {
              %2 = load %x0[i0 + 4*i1] : f32
              %3 = add %1, %2 : f32
              store %y0[i0 + 4*i1], %3
              yield %3
            }
          }
        }""",
    )


@pytest.mark.parametrize(
    "graph",
    [
        # a reduction of a reduction's epilogue over other rows
        """graph g(%x: f32[4, 6, 5]) {
          %0 = reduce_max %x {axes=(2,), order="lanes"} : f32[4, 6]
          %1 = exp %0 : f32[4, 6]
          %2 = reduce_sum %1 {axes=(1,), order="lanes"} : f32[4]
          return %2, %1
        }""",
        # a value read straight and mirrored
        """graph g(%x: f32[6]) {
          %0 = exp %x : f32[6]
          %1 = flip %0 {axes=(0,)} : f32[6]
          %2 = add %0, %1 : f32[6]
          return %2
        }""",
        # a row reduction read along the columns of its own group
        """graph g(%x: f32[5, 5]) {
          %0 = reduce_sum %x {axes=(1,), order="lanes"} : f32[5]
          %1 = reshape %0 {shape=(1, 5)} : f32[1, 5]
          %2 = expand %1 {shape=(5, 5)} : f32[5, 5]
          %3 = sub %x, %2 : f32[5, 5]
          return %3
        }""",
        # heads split off and merged around a softmax
        """graph g(%x: f32[4, 12]) {
          %0 = reshape %x {shape=(4, 3, 4)} : f32[4, 3, 4]
          %1 = exp %0 : f32[4, 3, 4]
          %2 = reduce_sum %1 {axes=(2,), order="lanes"} : f32[4, 3]
          %3 = reshape %2 {shape=(4, 3, 1)} : f32[4, 3, 1]
          %4 = expand %3 {shape=(4, 3, 4)} : f32[4, 3, 4]
          %5 = div %1, %4 : f32[4, 3, 4]
          %6 = reshape %5 {shape=(4, 12)} : f32[4, 12]
          %7 = mul %6, %x : f32[4, 12]
          return %7, %6
        }""",
        # transposed operands, heads, and a transposed result of a batched contraction
        """graph g(%q: f32[2, 5, 3, 4], %k: f32[2, 5, 3, 4]) {
          %0 = permute %q {perm=(0, 2, 1, 3)} : f32[2, 3, 5, 4]
          %1 = permute %k {perm=(0, 2, 3, 1)} : f32[2, 3, 4, 5]
          %2 = contract %0, %1 {spec=<[a, b, m, k] * [a, b, k, n] -> [a, b, m, n] over k>} : f32[2, 3, 5, 5]
          %3 = permute %2 {perm=(0, 2, 1, 3)} : f32[2, 5, 3, 5]
          %4 = reshape %3 {shape=(2, 5, 15)} : f32[2, 5, 15]
          return %4
        }""",
        # a convolution with padding, stride and dilation, and its input's gradient by interior padding
        """graph g(%x: f32[2, 3, 9, 9], %w: f32[4, 3, 3, 3], %ct: f32[2, 4, 4, 4]) {
          %0 = contract %x, %w {spec=<[n, c, 2*h + 2*i - 1, 2*v + j - 1] * [o, c, i, j] -> [n, o, h, v] over i, j, c where h = 4, v = 5>} : f32[2, 4, 4, 5]
          %1 = constant {value=f32(0.0)} : f32[]
          %2 = pad %ct, %1 {hi=(0, 0, 1, 1), interior=(0, 0, 1, 1), lo=(0, 0, 1, 1)} : f32[2, 4, 9, 9]
          %3 = flip %w {axes=(2, 3)} : f32[4, 3, 3, 3]
          %4 = contract %2, %3 {spec=<[n, o, h + i - 1, v + j - 1] * [o, c, i, j] -> [n, c, h, v] over i, j, o where h = 9, v = 9>} : f32[2, 3, 9, 9]
          return %0, %4
        }""",  # noqa: E501
        # pooling and its gradient, windows that meet and windows that overlap
        """graph g(%x: f32[2, 7, 9]) {
          %0 = window %x {axes=(1, 2), dilations=(1, 1), sizes=(2, 3), strides=(2, 3)} : f32[2, 3, 3, 2, 3]
          %1 = reduce_max %0 {axes=(3, 4), order="sequential"} : f32[2, 3, 3]
          %2 = exp %0 : f32[2, 3, 3, 2, 3]
          %3 = fold %2 {axes=(1, 2), dilations=(1, 1), shape=(7, 9), strides=(2, 3)} : f32[2, 7, 9]
          %4 = window %x {axes=(1, 2), dilations=(2, 1), sizes=(3, 2), strides=(1, 2)} : f32[2, 3, 4, 3, 2]
          %5 = neg %4 : f32[2, 3, 4, 3, 2]
          %6 = fold %5 {axes=(1, 2), dilations=(2, 1), shape=(7, 9), strides=(1, 2)} : f32[2, 7, 9]
          return %1, %3, %6
        }""",
        # concatenation computed from, and stored
        """graph g(%x: f32[3, 4], %y: f32[3, 2]) {
          %0 = exp %y : f32[3, 2]
          %1 = concat %x, %0, %x {axis=1} : f32[3, 10]
          %2 = reduce_sum %1 {axes=(1,), order="lanes"} : f32[3]
          %3 = concat %x, %0 {axis=1} : f32[3, 6]
          return %2, %3
        }""",
        # long runs from memory
        """graph g(%x: f32[3, 70], %y: f32[3, 64]) {
          %0 = concat %x, %y, %x {axis=1} : f32[3, 204]
          %1 = concat %x, %x {axis=0} : f32[6, 70]
          return %0, %1
        }""",
        # the same tensor twice, outputs that are inputs, reshapes of outputs, twice the same output
        """graph g(%x: f32[3, 4], %y: f32[12]) {
          %0 = mul %x, %x : f32[3, 4]
          %1 = reshape %0 {shape=(12,)} : f32[12]
          %2 = reshape %y {shape=(3, 4)} : f32[3, 4]
          return %x, %0, %1, %0, %2, %y
        }""",
        # overwriting parts: of an input that lives on, of a computed value, twice
        """graph g(%x: f32[4, 6], %v: f32[2, 3], %w: f32[2, 2]) {
          %0 = update_slice %x, %v {starts=(1, 0), steps=(2, 2)} : f32[4, 6]
          %1 = exp %x : f32[4, 6]
          %2 = update_slice %1, %v {starts=(0, 0), steps=(1, 1)} : f32[4, 6]
          %3 = as_strided_update %2, %w {offset=3, strides=(7, 1)} : f32[4, 6]
          %4 = as_strided_update %3, %w {offset=3, strides=(1, 1)} : f32[4, 6]
          return %0, %4, %2
        }""",
    ],
)  # fmt: skip
def test_computes_the_same(graph: str) -> None:
    check_lowered(graph)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_gather_and_scatter(rank: int) -> None:
    shape = {0: "", 1: "5", 2: "2, 3"}[rank]
    plan = f"""
        graph g(%x: f32[6, 4], %i: i64[{shape}], %j: i64[{shape}]) {{
          %0 = gather %x, %i {{axes=(0,)}} : f32[{shape + ", " if shape else ""}4]
          %1 = exp %0 : f32[{shape + ", " if shape else ""}4]
          %2 = scatter_add %x, %1, %i {{axes=(0,)}} : f32[6, 4]
          %3 = gather %x, %i, %j {{axes=(0, 1)}} : f32[{shape}]
          %4 = scatter %x, %3, %i, %j {{axes=(0, 1)}} : f32[6, 4]
          return %1, %2, %3, %4
        }}"""
    rng = np.random.default_rng(rank)
    dims = tuple(map(int, shape.split(","))) if shape else ()
    x = rng.normal(size=(6, 4)).astype(np.float32)
    check_lowered(plan, inputs=[x, rng.integers(-6, 6, dims), rng.integers(-4, 4, dims)])


@pytest.mark.parametrize("graph", [
    """graph g(%x: f32[s0, 5, s1] strides(1, s0, 5*s0)) {
      %0 = reduce_sum %x {axes=(2,), order="lanes"} : f32[s0, 5]
      return %0
    }""",
    """graph g(%x: f32[s0, s1]) {
      %0 = reduce_sum %x {axes=(0,), order="rows"} : f32[s1]
      %1 = permute %x {perm=(1, 0)} : f32[s1, s0]
      %2 = reshape %x {shape=(s0*s1,)} : f32[s0*s1]
      return %0, %1, %2
    }""",
    """graph g(%x: f32[s0, s1], %y: f32[s1, 3]) {
      %0 = contract %x, %y {spec=<[m, k] * [k, n] -> [m, n] over k>} : f32[s0, 3]
      %1 = exp %0 : f32[s0, 3]
      return %1
    }""",
])  # fmt: skip
@pytest.mark.parametrize("sizes", [(3, 20), (1, 1), (0, 4), (4, 0)])
def test_run_time_sizes(graph: str, sizes: tuple[int, int]) -> None:
    check_lowered(graph, sizes=dict(zip(("s0", "s1"), sizes, strict=True)))
