"""Rules for contractions, reductions, indexing and strided views by text."""

# ruff: noqa: E501  (a line of IR text is not broken)

from __future__ import annotations

from tests.passes.simplify.texts import Case, cases, check, fires, stays

CONTRACTIONS = [
    fires("permuted_operand", "%x: f32[3, 4], %w: f32[5, 4]", """
        %0 = permute %w {perm=(1, 0)} : f32[4, 5]
        %1 = contract %x, %0 {spec=<[m, k] * [k, n] -> [m, n] over k>} : f32[3, 5]
        %1""", """
        %0 = contract %x, %w {spec=<[m, k] * [n, k] -> [m, n] over k>} : f32[3, 5]
        %0"""),
    fires("expanded_operand", "%x: f32[2, 3, 4], %w: f32[1, 4, 5]", """
        %0 = expand %w {shape=(2, 4, 5)} : f32[2, 4, 5]
        %1 = contract %x, %0 {spec=<[b, m, k] * [b, k, n] -> [b, m, n] over k>} : f32[2, 3, 5]
        %1""", """
        %0 = contract %x, %w {spec=<[b, m, k] * [0, k, n] -> [b, m, n] over k>} : f32[2, 3, 5]
        %0"""),
    # The gradient of a strided 1x1 convolution: h alone would have the size of the shorter axis.
    stays("single_step_beyond_the_end", "%x: f32[1, 55], %w: f32[1, 1, 4]", """
        %0 = contract %x, %w {spec=<[n, h - k] * [k, j, c] -> [n, h, c] over k, j where h = 56>} : f32[1, 56, 4]
        %0"""),
    stays("both_operands_expanded", "%x: f32[1, 4], %w: f32[1, 4]", """
        %0 = expand %x {shape=(2, 4)} : f32[2, 4]
        %1 = contract %0, %w {spec=<[b, k] * [m, k] -> [b, m] over k>} : f32[2, 1]
        %1"""),
    fires("reshaped_and_permuted_operand", "%x: f32[1, 3, 4], %w: f32[5, 4]", """
        %0 = permute %w {perm=(1, 0)} : f32[4, 5]
        %1 = reshape %0 {shape=(1, 4, 5)} : f32[1, 4, 5]
        %2 = contract %x, %1 {spec=<[b, m, k] * [b, k, n] -> [b, m, n] over k>} : f32[1, 3, 5]
        %2""", """
        %0 = contract %x, %w {spec=<[b, m, k] * [n, k] -> [b, m, n] over k>} : f32[1, 3, 5]
        %0"""),
    stays("unit_axis_of_one_operand_only", "%x: f32[3, 4], %w: f32[4, 5]", """
        %0 = reshape %w {shape=(4, 1, 5)} : f32[4, 1, 5]
        %1 = contract %x, %0 {spec=<[m, k] * [k, b, n] -> [m, b, n] over k>} : f32[3, 1, 5]
        %1"""),
    stays("padded_unit_axis", "%x: f32[4], %w: f32[3, 4]", """
        %0 = reshape %x {shape=(1, 4)} : f32[1, 4]
        %1 = contract %0, %w {spec=<[o + k - 1, c] * [k, c] -> [o] over k, c where o = 1>} : f32[1]
        %1"""),
    fires("permuted_result", "%x: f32[3, 4], %w: f32[4, 5]", """
        %0 = contract %x, %w {spec=<[m, k] * [k, n] -> [m, n] over k>} : f32[3, 5]
        %1 = permute %0 {perm=(1, 0)} : f32[5, 3]
        %1""", """
        %0 = contract %w, %x {spec=<[k, n] * [m, k] -> [n, m] over k>} : f32[5, 3]
        %0"""),
    fires("unit_taps", "%x: f32[2, 5, 3], %w: f32[1, 3, 4]", """
        %0 = contract %x, %w {spec=<[n, o + k, c] * [k, c, d] -> [n, o, d] over k, c where o = 5>} : f32[2, 5, 4]
        %0""", """
        %0 = contract %x, %w {spec=<[n, o, c] * [0, c, d] -> [n, o, d] over c>} : f32[2, 5, 4]
        %0"""),
    stays("the_last_summed_label", "%x: f32[3, 1], %w: f32[1, 4]", """
        %0 = contract %x, %w {spec=<[m, k] * [k, n] -> [m, n] over k>} : f32[3, 4]
        %0"""),
    fires("over_nothing", "%x: f32[0], %w: f32[0]", """
        %0 = contract %x, %w {spec=<[k] * [k] -> [] over k>} : f32[]
        %0""", "%0 = constant {value=f32(0.0)} : f32[]\n%0"),
    fires("columns_on_the_left", "%x: f32[4, 5], %w: f32[3, 4]", """
        %0 = contract %x, %w {spec=<[k, n] * [m, k] -> [m, n] over k>} : f32[3, 5]
        %0""", """
        %0 = contract %w, %x {spec=<[m, k] * [k, n] -> [m, n] over k>} : f32[3, 5]
        %0"""),
    stays("matrix_times_vector", "%x: f32[3, 4], %w: f32[4]", """
        %0 = contract %x, %w {spec=<[m, k] * [k] -> [m] over k>} : f32[3]
        %0"""),
]  # fmt: skip

REDUCTIONS = [
    fires("maximum_of_single_elements", "%x: f32[3, 1]", """
        %0 = reduce_max %x {axes=(1,), order="lanes"} : f32[3]
        %0""", "%0 = reshape %x {shape=(3,)} : f32[3]\n%0"),
    fires("sum_of_single_integers", "%x: i32[3, 1]", """
        %0 = reduce_sum %x {axes=(1,), order="lanes"} : i32[3]
        %0""", "%0 = reshape %x {shape=(3,)} : i32[3]\n%0"),
    fires("sum_of_single_elements", "%x: f32[3, 1]", """
        %0 = reduce_sum %x {axes=(1,), order="lanes"} : f32[3]
        %0""", """
        %0 = reshape %x {shape=(3,)} : f32[3]
        %1 = constant {value=f32(0.0)} : f32[]
        %2 = reshape %1 {shape=(1,)} : f32[1]
        %3 = expand %2 {shape=(3,)} : f32[3]
        %4 = add %0, %3 : f32[3]
        %4"""),
    stays("sum", "%x: f32[3, 2]", "%0 = reduce_sum %x {axes=(1,), order=\"lanes\"} : f32[3]\n%0"),
    fires("argmax_of_single_elements", "%x: f32[3, 1]", """
        %0 = argmax %x {axes=(1,), order="lanes"} : i64[3]
        %0""", """
        %0 = constant {value=i64(0)} : i64[]
        %1 = reshape %0 {shape=(1,)} : i64[1]
        %2 = expand %1 {shape=(3,)} : i64[3]
        %2"""),
    fires("product_of_nothing", "%x: f32[0]", """
        %0 = reduce_prod %x {axes=(0,), order="lanes"} : f32[]
        %0""", "%0 = constant {value=f32(1.0)} : f32[]\n%0"),
    fires("maximum_of_expand", "%x: f32[3, 1]", """
        %0 = expand %x {shape=(3, 7)} : f32[3, 7]
        %1 = reduce_max %0 {axes=(1,), order="lanes"} : f32[3]
        %1""", "%0 = reshape %x {shape=(3,)} : f32[3]\n%0"),
    stays("sum_of_expand", "%x: f32[3, 1]", """
        %0 = expand %x {shape=(3, 7)} : f32[3, 7]
        %1 = reduce_sum %0 {axes=(1,), order="lanes"} : f32[3]
        %1"""),
]  # fmt: skip

INDEXING = [
    fires("gather_at_constant", "%x: f32[4, 3]", """
        %0 = constant {value=i64(-1)} : i64[]
        %1 = gather %x, %0 {axes=(0,)} : f32[3]
        %1""", """
        %0 = slice %x {starts=(3, 0), steps=(1, 1), stops=(4, 3)} : f32[1, 3]
        %1 = reshape %0 {shape=(3,)} : f32[3]
        %1"""),
    stays("gather_out_of_range", "%x: f32[4, 3]", """
        %0 = constant {value=i64(4)} : i64[]
        %1 = gather %x, %0 {axes=(0,)} : f32[3]
        %1"""),
    fires("gather_by_iota", "%x: f32[4, 3]", """
        %0 = iota {axis=0, dtype=i64, shape=(2,)} : i64[2]
        %1 = gather %x, %0 {axes=(1,)} : f32[2, 4]
        %1""", """
        %0 = slice %x {starts=(0, 0), steps=(1, 1), stops=(4, 2)} : f32[4, 2]
        %1 = permute %0 {perm=(1, 0)} : f32[2, 4]
        %1"""),
    stays("gather_by_long_iota", "%x: f32[4, 3]", """
        %0 = iota {axis=0, dtype=i64, shape=(5,)} : i64[5]
        %1 = gather %x, %0 {axes=(0,)} : f32[5, 3]
        %1"""),
    fires("scatter_of_nothing", "%x: f32[4], %v: f32[0], %i: i64[0]", """
        %0 = scatter_add %x, %v, %i {axes=(0,)} : f32[4]
        %0""", "%x"),
]  # fmt: skip

VIEWS = [
    fires("whole", "%x: f32[24]", "%0 = as_strided %x {offset=0, shape=(4, 6), strides=(6, 1)} : f32[4, 6]\n%0",
          "%0 = reshape %x {shape=(4, 6)} : f32[4, 6]\n%0"),
    fires("transposed", "%x: f32[24]", "%0 = as_strided %x {offset=0, shape=(6, 4), strides=(1, 6)} : f32[6, 4]\n%0",
          "%0 = reshape %x {shape=(4, 6)} : f32[4, 6]\n%1 = permute %0 {perm=(1, 0)} : f32[6, 4]\n%1"),
    fires("columns", "%x: f32[4, 6]", "%0 = as_strided %x {offset=8, shape=(3, 2), strides=(6, 1)} : f32[3, 2]\n%0",
          "%0 = slice %x {starts=(1, 2), steps=(1, 1), stops=(4, 4)} : f32[3, 2]\n%0"),
    fires("every_other", "%x: f32[4, 7]", "%0 = as_strided %x {offset=1, shape=(4, 3), strides=(7, 2)} : f32[4, 3]\n%0",
          "%0 = slice %x {starts=(0, 1), steps=(1, 2), stops=(4, 6)} : f32[4, 3]\n%0"),
    fires("diagonal", "%x: f32[4, 4]", "%0 = as_strided %x {offset=0, shape=(3,), strides=(5,)} : f32[3]\n%0",
          """%0 = reshape %x {shape=(16,)} : f32[16]
             %1 = slice %0 {starts=(0,), steps=(5,), stops=(11,)} : f32[3]
             %1"""),
    fires("repeated", "%x: f32[6]", "%0 = as_strided %x {offset=2, shape=(3, 4), strides=(1, 0)} : f32[3, 4]\n%0",
          """%0 = slice %x {starts=(2,), steps=(1,), stops=(5,)} : f32[3]
             %1 = reshape %0 {shape=(3, 1)} : f32[3, 1]
             %2 = expand %1 {shape=(3, 4)} : f32[3, 4]
             %2"""),
    stays("overlapping", "%x: f32[9]", "%0 = as_strided %x {offset=0, shape=(4, 3), strides=(2, 1)} : f32[4, 3]\n%0"),
    stays("backwards", "%x: f32[9]", "%0 = as_strided %x {offset=8, shape=(3,), strides=(-2,)} : f32[3]\n%0"),
    fires("update", "%x: f32[24], %v: f32[2, 3]", """
        %0 = as_strided_update %x, %v {offset=8, strides=(1, 6)} : f32[24]
        %0""", """
        %0 = permute %v {perm=(1, 0)} : f32[3, 2]
        %1 = reshape %x {shape=(4, 6)} : f32[4, 6]
        %2 = update_slice %1, %0 {starts=(1, 2), steps=(1, 1)} : f32[4, 6]
        %3 = reshape %2 {shape=(24,)} : f32[24]
        %3"""),
    fires("read_what_was_written", "%x: f32[24], %v: f32[2, 3]", """
        %0 = as_strided_update %x, %v {offset=8, strides=(1, 6)} : f32[24]
        %1 = as_strided %0 {offset=8, shape=(2, 3), strides=(1, 6)} : f32[2, 3]
        %1""", "%v"),
    stays("overlapping_update", "%x: f32[9], %v: f32[4, 3]", """
        %0 = as_strided_update %x, %v {offset=0, strides=(2, 1)} : f32[9]
        %0"""),
]  # fmt: skip


@cases([*CONTRACTIONS, *REDUCTIONS, *INDEXING, *VIEWS])
def test_rule(case: Case) -> None:
    check(case)
