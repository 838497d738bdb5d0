"""Regions of convolutions lie channels-last, and no bit depends on it."""

from __future__ import annotations

import re
import textwrap

import pytest
from vitrify.codegen.walk import nested
from vitrify.ir.expr import Dim, symbols_of
from vitrify.ir.graph import Graph
from vitrify.ir.kernel import Contract
from vitrify.ir.parser import parse_graph
from vitrify.passes.lower.layout import channels_of, choose_layouts, strides_of

from .lowering import check_lowered

#: Two 3x3 convolutions with a bias and relu in between.
TWO = """
    graph g(%x: f32[2, 3, 6, 5], %w: f32[8, 3, 3, 3], %b: f32[8], %v: f32[4, 8, 3, 3]) {
      %0 = contract %x, %w {spec=CONV(6, 5)} : f32[2, 8, 6, 5]
      %1 = reshape %b {shape=(1, 8, 1, 1)} : f32[1, 8, 1, 1]
      %2 = expand %1 {shape=(2, 8, 6, 5)} : f32[2, 8, 6, 5]
      %3 = add %0, %2 : f32[2, 8, 6, 5]
      %4 = contract %3, %v {spec=CONV(6, 5)} : f32[2, 4, 6, 5]
      return %4
    }"""


#: Specs by name, of h x w pixels: a 3 x 3 convolution, one in groups along the rows only, one of a single row
#: of channels, the gradients for image and weight.
SPECS = {
    "CONV": "[n, ci, h + p - 1, w + q - 1] * [co, ci, p, q] -> [n, co, h, w] over p, q, ci"
    " where h = H, w = W",
    "GROUPS": "[n, g, ci, h, w + q - 1] * [g, co, ci, q] -> [n, g, co, h, w] over q, ci where w = W",
    "ROWS": "[n, ci, h, w + q - 1] * [co, ci, q] -> [n, co, h, w] over q, ci where w = W",
    "IMAGE": "[n, co, h - p + 1, w - q + 1] * [co, ci, p, q] -> [n, ci, h, w] over p, q, co"
    " where h = H, w = W",
    "WEIGHT": "[n, co, h, w] * [n, ci, h + p - 1, w + q - 1] -> [co, ci, p, q] over n, h, w"
    " where p = H, q = W",
}


def written(text: str) -> str:
    """The text with NAME(h, w) replaced by that one of SPECS."""

    def spec(match: re.Match[str]) -> str:
        name, height, width = match.groups()
        return "<" + SPECS[name].replace("H", height).replace("W", width) + ">"

    return textwrap.dedent(re.sub(r"\b([A-Z]+)\((\d+), (\d+)\)", spec, text))


def graph_of(text: str) -> Graph:
    return parse_graph(written(text))


def laid_out(text: str) -> dict[str, tuple[int, ...]]:
    """The last axes of each value that is not row-major, by the name of the op that makes it."""
    found = choose_layouts(graph_of(text))
    return {value.operation.opdef.name: axes for value, axes in found.items() if value.operation}


def test_what_lies_between_convolutions_is_channels_last() -> None:
    layouts = choose_layouts(graph_of(TWO))
    by_name = {v.operation.opdef.name: axes for v, axes in layouts.items() if v.operation}
    assert by_name["add"] == (1,)
    check_lowered(written(TWO))


def test_a_convolution_alone_writes_its_result_as_it_is_wanted() -> None:
    text = """
        graph g(%x: f32[2, 8, 6, 5], %w: f32[8, 8, 3, 3]) {
          %0 = contract %x, %w {spec=CONV(6, 5)} : f32[2, 8, 6, 5]
          return %0
        }"""
    assert laid_out(text) == {}
    check_lowered(written(text))


def test_a_product_of_matrices_has_no_images() -> None:
    graph = graph_of("""
        graph g(%x: f32[4, 8], %w: f32[6, 8]) {
          %0 = contract %x, %w {spec=<[m, k] * [n, k] -> [m, n] over k>} : f32[4, 6]
          return %0
        }""")
    assert channels_of(graph.operations[0]) == {}


def test_groups_keep_their_channels_together() -> None:
    text = """
        graph g(%x: f32[2, 32, 1, 1], %w: f32[2, 16, 16, 3], %v: f32[4, 32, 3]) {
          %6 = expand %x {shape=(2, 32, 6, 5)} : f32[2, 32, 6, 5]
          %0 = exp %6 : f32[2, 32, 6, 5]
          %1 = reshape %0 {shape=(2, 2, 16, 6, 5)} : f32[2, 2, 16, 6, 5]
          %2 = contract %1, %w {spec=GROUPS(6, 5)} : f32[2, 2, 16, 6, 5]
          %3 = reshape %2 {shape=(2, 32, 6, 5)} : f32[2, 32, 6, 5]
          %4 = neg %3 : f32[2, 32, 6, 5]
          %5 = contract %4, %v {spec=ROWS(6, 5)} : f32[2, 4, 6, 5]
          return %5
        }"""
    layouts = choose_layouts(graph_of(text))
    shapes = {value.type.shape: axes for value, axes in layouts.items()}
    assert shapes[(2, 2, 16, 6, 5)] == (1, 2)
    assert shapes[(2, 32, 6, 5)] == (1,)
    check_lowered(written(text))


def test_small_groups_run_along_the_pixels() -> None:
    """Channels of a group that do not fill a vector; what lies channels-last around them is converted."""
    text = """
        graph g(%x: f32[2, 3, 18, 17], %w: f32[64, 3, 3, 3], %v: f32[16, 4, 4, 3], %u: f32[8, 64, 3, 3]) {
          %0 = contract %x, %w {spec=CONV(18, 17)} : f32[2, 64, 18, 17]
          %1 = reshape %0 {shape=(2, 16, 4, 18, 17)} : f32[2, 16, 4, 18, 17]
          %2 = contract %1, %v {spec=GROUPS(18, 17)} : f32[2, 16, 4, 18, 17]
          %3 = reshape %2 {shape=(2, 64, 18, 17)} : f32[2, 64, 18, 17]
          %4 = contract %3, %u {spec=CONV(18, 17)} : f32[2, 8, 18, 17]
          return %4
        }"""
    assert channels_of(graph_of(text).operations[2]) == {}
    plan = check_lowered(written(text))
    sums = [s for k in plan.kernels for s in nested(k.body) if isinstance(s, Contract)]
    assert [s.n.extent for s in sums if s.m.extent == 4] == [17]


def test_axes_of_one_element_do_not_part_a_region() -> None:
    """The axes that a depthwise convolution's groups of one channel bring along."""
    text = """
        graph g(%x: f32[2, 6, 5, 8], %w: f32[8, 1, 1, 3]) {
          %0 = permute %x {perm=(0, 3, 1, 2)} : f32[2, 8, 6, 5]
          %1 = reshape %0 {shape=(2, 8, 1, 6, 5)} : f32[2, 8, 1, 6, 5]
          %2 = contract %1, %w {spec=GROUPS(6, 5)} : f32[2, 8, 1, 6, 5]
          %3 = reshape %2 {shape=(2, 8, 6, 5)} : f32[2, 8, 6, 5]
          %4 = permute %3 {perm=(0, 2, 3, 1)} : f32[2, 6, 5, 8]
          return %4
        }"""
    assert laid_out(text)["contract"] == (1, 2)
    check_lowered(written(text))


def test_vectors_run_along_the_channels_of_a_depthwise_convolution() -> None:
    """In both gradients too: for the weight's, images that lie otherwise are copied."""
    specs = {
        "DEPTH": "[n, g, h + p, w + q] * [g, p, q] -> [n, g, h, w] over p, q where h = 8, w = 5",
        "BACK": "[n, g, h - p + 2, w - q + 2] * [g, p, q] -> [n, g, h, w] over p, q where h = 8, w = 5",
        "TAPS": "[n, g, h, w] * [n, g, h + p, w + q] -> [g, p, q] over n, h, w where p = 3, q = 3",
    }
    for last in (True, False):
        large, small = ("strides(1330, 1, 133, 19)", "strides(760, 1, 95, 19)") if last else ("", "")
        text = f"""
        graph g(%x: f32[2, 19, 10, 7] {large}, %w: f32[19, 3, 3], %y: f32[2, 19, 8, 5] {small}) {{
          %0 = contract %x, %w {{spec=<{specs["DEPTH"]}>}} : f32[2, 19, 8, 5]
          %1 = contract %x, %w {{spec=<{specs["BACK"]}>}} : f32[2, 19, 8, 5]
          %2 = contract %y, %x {{spec=<{specs["TAPS"]}>}} : f32[19, 3, 3]
          return %0, %1, %2
        }}"""
        plan = check_lowered(textwrap.dedent(text))
        sums = [s for k in plan.kernels for s in nested(k.body) if isinstance(s, Contract)]
        shared = [s for s in sums if s.n.name in symbols_of(s.lhs_index)]
        assert [s.n.extent for s in shared] == [19] * 3


def test_long_rows_of_one_channel_stay_as_they_are() -> None:
    """Converting an image and its result takes longer than what its rows gain by it, if they are long."""
    maps = "[n, g, h + p - 1, w + q - 1] * [g, p, q] -> [n, g, h, w] over p, q where h = 10"
    for width, converted in ((16, True), (160, False)):
        text = f"""
        graph g(%x: f32[2, 19, 10, {width}], %w: f32[19, 3, 3]) {{
          %0 = contract %x, %w {{spec=<{maps}, w = {width}>}} : f32[2, 19, 10, {width}]
          %1 = neg %0 : f32[2, 19, 10, {width}]
          return %1
        }}"""
        assert bool(choose_layouts(graph_of(text))) is converted


def test_sums_over_the_pixels_of_each_channel() -> None:
    """The canonical order `lanes` of a sum whose elements are not neighbours in memory; and a value of the
    region that leaves it flattened, one that is returned, one that is read twice."""
    check_lowered(
        written("""
        graph g(%x: f32[2, 3, 9, 7], %w: f32[19, 3, 3, 3], %v: f32[4, 19, 3, 3]) {
          %0 = contract %x, %w {spec=CONV(9, 7)} : f32[2, 19, 9, 7]
          %1 = exp %0 : f32[2, 19, 9, 7]
          %2 = contract %1, %v {spec=CONV(9, 7)} : f32[2, 4, 9, 7]
          %3 = reduce_sum %1 {axes=(2, 3), order="lanes"} : f32[2, 19]
          %4 = reduce_sum %3 {axes=(0,), order="rows"} : f32[19]
          %5 = reshape %3 {shape=(2, 19, 1, 1)} : f32[2, 19, 1, 1]
          %6 = expand %5 {shape=(2, 19, 9, 7)} : f32[2, 19, 9, 7]
          %7 = div %1, %6 : f32[2, 19, 9, 7]
          %8 = reshape %7 {shape=(2, 1197)} : f32[2, 1197]
          %9 = reduce_max %7 {axes=(1, 2, 3), order="lanes"} : f32[2]
          return %2, %4, %8, %9
        }""")
    )


def test_pooling_and_its_gradient() -> None:
    check_lowered(
        written("""
        graph g(%x: f32[2, 3, 8, 6], %w: f32[8, 3, 3, 3], %v: f32[4, 8, 1, 1], %z: f32[]) {
          %0 = contract %x, %w {spec=CONV(8, 6)} : f32[2, 8, 8, 6]
          %1 = slice %0 {starts=(0, 0, 0, 1), steps=(1, 1, 1, 2), stops=(2, 8, 8, 6)} : f32[2, 8, 8, 3]
          %2 = slice %0 {starts=(0, 0, 0, 0), steps=(1, 1, 1, 2), stops=(2, 8, 8, 5)} : f32[2, 8, 8, 3]
          %3 = maximum %1, %2 : f32[2, 8, 8, 3]
          %4 = window %3 {axes=(2,), dilations=(1,), sizes=(2,), strides=(2,)} : f32[2, 8, 4, 3, 2]
          %5 = reduce_sum %4 {axes=(4,), order="sequential"} : f32[2, 8, 4, 3]
          %6 = contract %5, %v {spec=<[n, ci, h, w] * [co, ci, 0, 0] -> [n, co, h, w] over ci>}
            : f32[2, 4, 4, 3]
          %7 = pad %3, %z {hi=(0, 0, 0, 1), interior=(0, 0, 0, 1), lo=(0, 0, 0, 0)} : f32[2, 8, 8, 6]
          %8 = add %7, %0 : f32[2, 8, 8, 6]
          %9 = contract %8, %x {spec=WEIGHT(3, 3)} : f32[8, 3, 3, 3]
          return %6, %9
        }""")
    )


def test_a_batch_known_at_run_time() -> None:
    text = TWO.replace("[2, ", "[s0, ").replace("(2, 8", "(s0, 8")
    assert laid_out(text)["add"] == (1,)
    check_lowered(written(text), sizes={"s0": 2})


def test_updates_and_outputs_are_row_major() -> None:
    check_lowered(
        written("""
        graph g(%x: f32[2, 8, 6, 5], %w: f32[8, 8, 3, 3], %s: f32[2, 8, 6, 5]) {
          %0 = contract %x, %w {spec=CONV(6, 5)} : f32[2, 8, 6, 5]
          %1 = contract %0, %w {spec=CONV(6, 5)} : f32[2, 8, 6, 5]
          %2 = contract %1, %w {spec=CONV(6, 5)} : f32[2, 8, 6, 5]
          %3 = add %s, %1 : f32[2, 8, 6, 5]
          update %s = %3
          return %1, %2
        }""")
    )


def test_strides() -> None:
    shape: tuple[Dim, ...] = (2, 8, 4, 3)
    assert strides_of(shape, (1,)) == (96, 1, 24, 8)
    assert strides_of((2, 1, 4, 3), (1,)) is None
    assert strides_of((2, 8, 1, 1), (1,)) is None
    assert strides_of((2, 8, 4), (2,)) is None


def test_large_weights_are_copied_in_blocks_of_channels() -> None:
    """A weight that exceeds the second-level cache, in a region and alone, forward and backward."""
    plan = check_lowered(
        written("""
        graph g(%x: f32[2, 64, 3, 4], %w: f32[192, 64, 4, 4]) {
          %0 = contract %x, %w {spec=CONV(2, 3)} : f32[2, 192, 2, 3]
          %1 = exp %0 : f32[2, 192, 2, 3]
          %2 = contract %1, %w {spec=IMAGE(3, 4)} : f32[2, 64, 3, 4]
          %3 = neg %0 : f32[2, 192, 2, 3]
          %4 = reshape %3 {shape=(2, 1152)} : f32[2, 1152]
          return %2, %4
        }""")
    )
    assert any("6x32x2x3" in kernel.name for kernel in plan.kernels)


@pytest.mark.parametrize(("columns", "name"), [(32, "contract_2x64x8x8"), (16, "contract_2x4x16x8x8")])
def test_narrow_tiles_take_any_weights_in_blocks(columns: int, name: str) -> None:
    text = """
        graph g(%x: f32[2, 3, 8, 8], %w: f32[64, 3, 3, 3]) {
          %0 = contract %x, %w {spec=CONV(8, 8)} : f32[2, 64, 8, 8]
          return %0
        }"""
    plan = check_lowered(written(text), columns=columns)
    assert [kernel.name for kernel in plan.kernels if "contract" in kernel.name] == [name]


@pytest.mark.parametrize("columns", [32, 16])
def test_weights_with_the_right_channels_last_are_copied_for_many_pixels_only(columns: int) -> None:
    """The gradient of images reads weights along the channels of the images."""
    text = """
        graph g(%y: f32[2, 8, N, N], %w: f32[8, 3, 3, 160]) {
          %0 = permute %w {perm=(0, 3, 1, 2)} : f32[8, 160, 3, 3]
          %1 = contract %y, %0 {spec=IMAGE(N, N)} : f32[2, 160, N, N]
          return %1
        }"""
    for size, copied in ((4, False), (8, columns == 16)):
        plan = check_lowered(written(text.replace("N", str(size))), columns=columns)
        assert any(kernel.name == "permute_10x3x3x8x16" for kernel in plan.kernels) == copied


@pytest.mark.parametrize(("columns", "blocks"), [(32, "2x16x2x32"), (16, "2x16x4x16")])
def test_the_gradient_of_weights_sums_over_blocks_of_channels(columns: int, blocks: str) -> None:
    """Of both images, with padding around one of them, or none. Fewer channels are summed as they lie."""
    text = """
        graph g(%y: f32[1, 32, 5, 6], %x: f32[1, 64, 5, 6]) {
          %0 = contract %y, %x {spec=WEIGHT(3, 3)} : f32[32, 64, 3, 3]
          %1 = neg %0 : f32[32, 64, 3, 3]
          return %1
        }"""
    spec = "<[n, co, h, w] * [n, ci, h + p, w + q] -> [co, ci, p, q] over n, h, w where p = 3, q = 3>"
    inside = (
        text.replace("32, 5, 6", "32, 6, 10").replace("64, 5, 6", "64, 8, 12").replace("WEIGHT(3, 3)", spec)
    )
    for made in (text, inside):
        plan = check_lowered(written(made), columns=columns)
        (name,) = (kernel.name for kernel in plan.kernels if "contract" in kernel.name)
        assert name == f"contract_neg_{blocks}x3x3"
    fewer = check_lowered(written(text.replace("32,", "16,").replace("64,", "8,")), columns=columns)
    assert any(kernel.name == "contract_neg_16x8x3x3" for kernel in fewer.kernels)
