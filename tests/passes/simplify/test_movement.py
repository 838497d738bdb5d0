"""Rules for reshape, permute, expand, flip, concat, slices and pads by text."""

# ruff: noqa: E501  (a line of IR text is not broken)

from __future__ import annotations

from tests.passes.simplify.texts import Case, cases, check, fires, stays

X = "%x: f32[4, 6]"
ROW = "%x: f32[1, 6]"

TABLE = [
    fires("reshape_to_same", X, "%0 = reshape %x {shape=(4, 6)} : f32[4, 6]\n%0", "%x"),
    fires("reshape_of_reshape", X, "%0 = reshape %x {shape=(24,)} : f32[24]\n%1 = reshape %0 {shape=(8, 3)} : f32[8, 3]\n%1",
          "%0 = reshape %x {shape=(8, 3)} : f32[8, 3]\n%0"),
    fires("symbolic_reshape_back", "%x: f32[s0, 6]",
          "%0 = reshape %x {shape=(6*s0,)} : f32[6*s0]\n%1 = reshape %0 {shape=(s0, 6)} : f32[s0, 6]\n%1", "%x"),
    fires("permute_of_nothing", X, "%0 = permute %x {perm=(0, 1)} : f32[4, 6]\n%0", "%x"),
    fires("permute_of_unit_axes", ROW, "%0 = permute %x {perm=(1, 0)} : f32[6, 1]\n%0",
          "%0 = reshape %x {shape=(6, 1)} : f32[6, 1]\n%0"),
    stays("permute", X, "%0 = permute %x {perm=(1, 0)} : f32[6, 4]\n%0"),
    fires("permute_of_permute", "%x: f32[2, 3, 4]",
          "%0 = permute %x {perm=(2, 0, 1)} : f32[4, 2, 3]\n%1 = permute %0 {perm=(1, 0, 2)} : f32[2, 4, 3]\n%1",
          "%0 = permute %x {perm=(0, 2, 1)} : f32[2, 4, 3]\n%0"),
    fires("permute_of_expand", "%x: f32[4, 1, 6]",
          "%0 = expand %x {shape=(4, 2, 6)} : f32[4, 2, 6]\n%1 = permute %0 {perm=(2, 1, 0)} : f32[6, 2, 4]\n%1",
          "%0 = permute %x {perm=(2, 1, 0)} : f32[6, 1, 4]\n%1 = expand %0 {shape=(6, 2, 4)} : f32[6, 2, 4]\n%1"),
    fires("expand_to_same", X, "%0 = expand %x {shape=(4, 6)} : f32[4, 6]\n%0", "%x"),
    fires("expand_of_expand", "%x: f32[1, 1]",
          "%0 = expand %x {shape=(4, 1)} : f32[4, 1]\n%1 = expand %0 {shape=(4, 6)} : f32[4, 6]\n%1",
          "%0 = expand %x {shape=(4, 6)} : f32[4, 6]\n%0"),
    fires("reshape_of_expand", ROW,
          "%0 = expand %x {shape=(4, 6)} : f32[4, 6]\n%1 = reshape %0 {shape=(4, 1, 6)} : f32[4, 1, 6]\n%1",
          "%0 = reshape %x {shape=(1, 1, 6)} : f32[1, 1, 6]\n%1 = expand %0 {shape=(4, 1, 6)} : f32[4, 1, 6]\n%1"),
    stays("reshape_that_merges_repeats", ROW,
          "%0 = expand %x {shape=(4, 6)} : f32[4, 6]\n%1 = reshape %0 {shape=(24,)} : f32[24]\n%1"),
    fires("elementwise_of_expand", ROW, "%0 = expand %x {shape=(4, 6)} : f32[4, 6]\n%1 = exp %0 : f32[4, 6]\n%1",
          "%0 = exp %x : f32[1, 6]\n%1 = expand %0 {shape=(4, 6)} : f32[4, 6]\n%1"),
    fires("elementwise_of_two_expands", ROW + ", %y: f32[1, 1]",
          """%0 = expand %x {shape=(4, 6)} : f32[4, 6]
             %1 = expand %y {shape=(4, 6)} : f32[4, 6]
             %2 = mul %0, %1 : f32[4, 6]
             %2""",
          """%0 = expand %y {shape=(1, 6)} : f32[1, 6]
             %1 = mul %x, %0 : f32[1, 6]
             %2 = expand %1 {shape=(4, 6)} : f32[4, 6]
             %2"""),
    stays("elementwise_of_crossed_expands", ROW + ", %y: f32[4, 1]",
          """%0 = expand %x {shape=(4, 6)} : f32[4, 6]
             %1 = expand %y {shape=(4, 6)} : f32[4, 6]
             %2 = mul %0, %1 : f32[4, 6]
             %2"""),
    stays("division_that_may_raise", "%x: i32[1]",
          """%0 = constant {value=i32(0)} : i32[]
             %1 = reshape %0 {shape=(1,)} : i32[1]
             %2 = expand %1 {shape=(0,)} : i32[0]
             %3 = expand %x {shape=(0,)} : i32[0]
             %4 = floor_div %3, %2 : i32[0]
             %4"""),
    fires("flip_of_flip", X, "%0 = flip %x {axes=(0, 1)} : f32[4, 6]\n%1 = flip %0 {axes=(1,)} : f32[4, 6]\n%1",
          "%0 = flip %x {axes=(0,)} : f32[4, 6]\n%0"),
    fires("flip_back", X, "%0 = flip %x {axes=(1,)} : f32[4, 6]\n%1 = flip %0 {axes=(1,)} : f32[4, 6]\n%1", "%x"),
    fires("flip_of_short_axes", ROW, "%0 = flip %x {axes=(0, 1)} : f32[1, 6]\n%0", "%0 = flip %x {axes=(1,)} : f32[1, 6]\n%0"),
    fires("concat_of_one", X, "%0 = concat %x {axis=0} : f32[4, 6]\n%0", "%x"),
    fires("concat_of_empty", X + ", %y: f32[0, 6]", "%0 = concat %x, %y, %x {axis=0} : f32[8, 6]\n%0",
          "%0 = concat %x, %x {axis=0} : f32[8, 6]\n%0"),
    fires("concat_of_concat", X, "%0 = concat %x, %x {axis=1} : f32[4, 12]\n%1 = concat %0, %x {axis=1} : f32[4, 18]\n%1",
          "%0 = concat %x, %x, %x {axis=1} : f32[4, 18]\n%0"),
    stays("concat_of_shared_concat", X, """
        %0 = concat %x, %x {axis=1} : f32[4, 12]
        %1 = concat %0, %0 {axis=1} : f32[4, 24]
        %1"""),
    fires("iota_of_many_axes", X, "%0 = iota {axis=1, dtype=i64, shape=(4, 6)} : i64[4, 6]\n%0",
          """%0 = iota {axis=0, dtype=i64, shape=(6,)} : i64[6]
             %1 = reshape %0 {shape=(1, 6)} : i64[1, 6]
             %2 = expand %1 {shape=(4, 6)} : i64[4, 6]
             %2"""),
    fires("constant_of_copies", X, "%0 = constant {value=f32[2, 2](2.5, 2.5, 2.5, 2.5)} : f32[2, 2]\n%0",
          """%0 = constant {value=f32(2.5)} : f32[]
             %1 = reshape %0 {shape=(1, 1)} : f32[1, 1]
             %2 = expand %1 {shape=(2, 2)} : f32[2, 2]
             %2"""),
    stays("constant_of_both_zeros", X, "%0 = constant {value=f32[2](0.0, -0.0)} : f32[2]\n%0"),
    fires("movement_of_splat", X, """
        %0 = constant {value=f32(2.5)} : f32[]
        %1 = reshape %0 {shape=(1, 1)} : f32[1, 1]
        %2 = expand %1 {shape=(2, 6)} : f32[2, 6]
        %3 = reshape %2 {shape=(12,)} : f32[12]
        %4 = slice %3 {starts=(2,), steps=(3,), stops=(9,)} : f32[3]
        %4""", """
        %0 = constant {value=f32(2.5)} : f32[]
        %1 = reshape %0 {shape=(1,)} : f32[1]
        %2 = expand %1 {shape=(3,)} : f32[3]
        %2"""),
    fires("slice_of_everything", X, "%0 = slice %x {starts=(0, 0), steps=(1, 1), stops=(4, 6)} : f32[4, 6]\n%0", "%x"),
    fires("slice_of_slice", X, """
        %0 = slice %x {starts=(1, 0), steps=(1, 2), stops=(4, 6)} : f32[3, 3]
        %1 = slice %0 {starts=(1, 1), steps=(1, 1), stops=(3, 3)} : f32[2, 2]
        %1""", """
        %0 = slice %x {starts=(2, 2), steps=(1, 2), stops=(4, 5)} : f32[2, 2]
        %0"""),
    fires("slice_of_expand", ROW, """
        %0 = expand %x {shape=(4, 6)} : f32[4, 6]
        %1 = slice %0 {starts=(1, 2), steps=(2, 1), stops=(4, 5)} : f32[2, 3]
        %1""", """
        %0 = slice %x {starts=(0, 2), steps=(1, 1), stops=(1, 5)} : f32[1, 3]
        %1 = expand %0 {shape=(2, 3)} : f32[2, 3]
        %1"""),
    fires("slice_of_concat", X + ", %y: f32[4, 2]", """
        %0 = concat %x, %y {axis=1} : f32[4, 8]
        %1 = slice %0 {starts=(0, 6), steps=(1, 1), stops=(4, 8)} : f32[4, 2]
        %1""", "%y"),
    stays("slice_across_concat", X + ", %y: f32[4, 2]", """
        %0 = concat %x, %y {axis=1} : f32[4, 8]
        %1 = slice %0 {starts=(0, 5), steps=(1, 1), stops=(4, 8)} : f32[4, 3]
        %1"""),
    fires("slice_of_pad", X + ", %v: f32[]", """
        %0 = pad %x, %v {hi=(2, 0), interior=(0, 0), lo=(1, 3)} : f32[7, 9]
        %1 = slice %0 {starts=(1, 3), steps=(1, 1), stops=(5, 9)} : f32[4, 6]
        %1""", "%x"),
    stays("slice_of_padding", X + ", %v: f32[]", """
        %0 = pad %x, %v {hi=(2, 0), interior=(0, 0), lo=(1, 3)} : f32[7, 9]
        %1 = slice %0 {starts=(0, 3), steps=(1, 1), stops=(5, 9)} : f32[5, 6]
        %1"""),
    fires("slice_of_update", X + ", %v: f32[2, 6]", """
        %0 = update_slice %x, %v {starts=(1, 0), steps=(2, 1)} : f32[4, 6]
        %1 = slice %0 {starts=(1, 0), steps=(2, 1), stops=(4, 6)} : f32[2, 6]
        %1""", "%v"),
    fires("slice_beside_update", X + ", %v: f32[2, 6]", """
        %0 = update_slice %x, %v {starts=(0, 0), steps=(1, 1)} : f32[4, 6]
        %1 = slice %0 {starts=(2, 0), steps=(1, 1), stops=(4, 6)} : f32[2, 6]
        %1""", "%0 = slice %x {starts=(2, 0), steps=(1, 1), stops=(4, 6)} : f32[2, 6]\n%0"),
    stays("slice_over_update", X + ", %v: f32[2, 6]", """
        %0 = update_slice %x, %v {starts=(0, 0), steps=(1, 1)} : f32[4, 6]
        %1 = slice %0 {starts=(1, 0), steps=(1, 1), stops=(4, 6)} : f32[3, 6]
        %1"""),
    fires("slice_of_reshape", "%x: f32[6]", """
        %0 = reshape %x {shape=(1, 6)} : f32[1, 6]
        %1 = slice %0 {starts=(0, 2), steps=(1, 1), stops=(1, 5)} : f32[1, 3]
        %1""", "%0 = slice %x {starts=(2,), steps=(1,), stops=(5,)} : f32[3]\n%1 = reshape %0 {shape=(1, 3)} : f32[1, 3]\n%1"),
    fires("update_of_everything", X + ", %v: f32[4, 6]",
          "%0 = update_slice %x, %v {starts=(0, 0), steps=(1, 1)} : f32[4, 6]\n%0", "%v"),
    fires("update_with_nothing", X + ", %v: f32[0, 6]",
          "%0 = update_slice %x, %v {starts=(0, 0), steps=(1, 1)} : f32[4, 6]\n%0", "%x"),
    fires("update_of_update", X + ", %v: f32[1, 6], %w: f32[1, 6]", """
        %0 = update_slice %x, %v {starts=(1, 0), steps=(1, 1)} : f32[4, 6]
        %1 = update_slice %0, %w {starts=(1, 0), steps=(1, 1)} : f32[4, 6]
        %1""", "%0 = update_slice %x, %w {starts=(1, 0), steps=(1, 1)} : f32[4, 6]\n%0"),
    fires("update_with_own_slice", X, """
        %0 = slice %x {starts=(1, 0), steps=(2, 1), stops=(4, 6)} : f32[2, 6]
        %1 = update_slice %x, %0 {starts=(1, 0), steps=(2, 1)} : f32[4, 6]
        %1""", "%x"),
    fires("pad_with_nothing", X + ", %v: f32[]", "%0 = pad %x, %v {hi=(0, 0), interior=(0, 0), lo=(0, 0)} : f32[4, 6]\n%0", "%x"),
    fires("pad_of_pad", X + ", %v: f32[]", """
        %0 = pad %x, %v {hi=(2, 0), interior=(0, 0), lo=(1, 3)} : f32[7, 9]
        %1 = pad %0, %v {hi=(0, 1), interior=(0, 0), lo=(1, 0)} : f32[8, 10]
        %1""", "%0 = pad %x, %v {hi=(2, 1), interior=(0, 0), lo=(2, 3)} : f32[8, 10]\n%0"),
    stays("pad_of_pad_with_another", X + ", %v: f32[], %w: f32[]", """
        %0 = pad %x, %v {hi=(2, 0), interior=(0, 0), lo=(1, 3)} : f32[7, 9]
        %1 = pad %0, %w {hi=(0, 1), interior=(0, 0), lo=(1, 0)} : f32[8, 10]
        %1"""),
    fires("pad_of_empty", "%x: f32[0], %v: f32[]", "%0 = pad %x, %v {hi=(2,), interior=(1,), lo=(1,)} : f32[3]\n%0",
          "%0 = reshape %v {shape=(1,)} : f32[1]\n%1 = expand %0 {shape=(3,)} : f32[3]\n%1"),
]  # fmt: skip


@cases(TABLE)
def test_rule(case: Case) -> None:
    check(case)
