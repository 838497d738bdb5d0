"""The memory plan, in-place updates and the order of kernels."""

from __future__ import annotations

import itertools
import textwrap

import numpy as np
import pytest
from vitrify.ir.expr import evaluate, symbol
from vitrify.ir.kernel_text import parse_kernel
from vitrify.ir.parser import parse_graph
from vitrify.ir.plan_interpreter import PlanStopped, run_plan
from vitrify.passes.lower import lower
from vitrify.passes.lower.aliasing import accesses, may_share
from vitrify.passes.lower.memory import Interval, place_blocks

from tests.passes.lower.lowering import check_lowered, kernel_names


@pytest.mark.parametrize("seed", range(20))
def test_live_blocks_do_not_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 20, 30)
    intervals = [
        Interval(int(n), int(a), int(a + d))
        for n, a, d in zip(rng.integers(0, 5000, 30), starts, rng.integers(0, 6, 30))
    ]
    offsets, total = place_blocks(intervals)
    for (i, a), (j, b) in itertools.combinations(enumerate(intervals), 2):
        if a.first <= b.last and b.first <= a.last and a.nbytes and b.nbytes:
            assert offsets[i] + a.nbytes <= offsets[j] or offsets[j] + b.nbytes <= offsets[i]
    assert all(o % 64 == 0 and o + i.nbytes <= total for o, i in zip(offsets, intervals, strict=True))
    peak = max(sum(-(-i.nbytes // 64) * 64 for i in intervals if i.first <= t <= i.last) for t in range(26))
    assert peak <= total <= 1.5 * peak


def test_blocks_of_unknown_size_lie_one_after_the_other() -> None:
    n = symbol("n")
    offsets, total = place_blocks([Interval(4 * n, 0, 1), Interval(100, 2, 3), Interval(8 * n, 4, 5)])
    at = {"n": 5}
    assert [evaluate(o, at) for o in offsets] == [0, 64, 192]
    assert evaluate(total, at) == 256


KERNEL = """
    kernel k(%x: f32[60] in, %z: f32[60] in, %y: f32[60] out) {{
      parallel i < 6 {{
        {body}
      }}
    }}"""
ROW_SUM = """%m = reduce_sum lanes j < 10 : f32 {
          %0 = load %x[10*i + j] : f32
          yield %0
        }
        """


def _may_share(body: str) -> bool:
    kernel = parse_kernel(textwrap.dedent(KERNEL.format(body=body)))
    return may_share(accesses(kernel), "x", "y")


def test_a_result_may_overwrite_what_is_read_at_the_same_place() -> None:
    loop = "vector j < 10 {{\n %1 = load %x[{place}] : f32\n store %y[10*i + j], %1\n }}"
    assert _may_share(loop.format(place="10*i + j"))
    assert not _may_share(loop.format(place="i + 6*j"))
    assert not _may_share(loop.format(place="j"))


def test_a_row_may_be_overwritten_once_it_has_been_read() -> None:
    write = "vector k < 10 {\n store %y[10*i + k], %m\n }\n"
    assert _may_share(ROW_SUM + write)
    again = ROW_SUM.replace("%m", "%n").replace("%0", "%1").replace("j", "l")
    assert not _may_share(ROW_SUM + write + again)
    assert not _may_share(ROW_SUM + write.replace("10*i + k", "50 - 10*i + k"))


def test_a_loop_before_may_not_be_overwritten_by_another_loop_of_other_shape() -> None:
    assert not _may_share(ROW_SUM + "vector k < 9 {\n store %y[10*i + k], %m\n }\n")


def test_a_chain_of_kernels_shares_one_block() -> None:
    plan = check_lowered("""
        graph g(%x: f32[32, 32]) {
          %0 = reduce_sum %x {axes=(1,), order="lanes"} : f32[32]
          %1 = permute %x {perm=(1, 0)} : f32[32, 32]
          %2 = contract %x, %1 {spec=<[m, k] * [k, n] -> [m, n] over k>} : f32[32, 32]
          %3 = reduce_max %2 {axes=(1,), order="lanes"} : f32[32]
          %4 = reshape %3 {shape=(32, 1)} : f32[32, 1]
          %5 = expand %4 {shape=(32, 32)} : f32[32, 32]
          %6 = sub %2, %5 : f32[32, 32]
          %7 = contract %6, %x {spec=<[m, k] * [k, n] -> [m, n] over k>} : f32[32, 32]
          return %7, %0
        }""")
    assert isinstance(plan.arena_bytes, int) and plan.arena_bytes <= 4096


def test_an_update_waits_for_the_readers_of_the_old_contents() -> None:
    plan = check_lowered(
        """
        graph g(%w: f32[8, 8], %x: f32[8, 8]) {
          %0 = add %w, %x : f32[8, 8]
          %1 = contract %x, %w {spec=<[m, k] * [k, n] -> [m, n] over k>} : f32[8, 8]
          update %w = %0
          return %1
        }""",
        calls=2,
    )
    assert kernel_names(plan)[-1].startswith("add")
    assert plan.updated == (0,) and plan.arena_bytes == 0


def test_an_update_that_its_readers_need_is_copied_at_the_end() -> None:
    """The reader of the old contents needs the new ones too."""
    plan = check_lowered(
        """
        graph g(%w: f32[8, 8], %x: f32[8, 8]) {
          %0 = add %w, %x : f32[8, 8]
          %1 = contract %0, %w {spec=<[m, k] * [k, n] -> [m, n] over k>} : f32[8, 8]
          update %w = %0
          return %1
        }""",
        calls=3,
    )
    assert kernel_names(plan)[-1] == "update"


def test_inputs_that_change_places() -> None:
    check_lowered("""
        graph g(%a: f32[8], %b: f32[8]) {
          update %a = %b
          update %b = %a
          return %a
        }""")
    check_lowered("""
        graph g(%a: f32[8], %b: f32[8]) {
          %0 = exp %b : f32[8]
          %1 = neg %a : f32[8]
          update %a = %0
          update %b = %1
          return %0
        }""")


def test_a_part_of_an_input_is_overwritten_in_place() -> None:
    plan = check_lowered(
        """
        graph g(%x: f32[100, 6], %v: f32[2, 6]) {
          %0 = exp %v : f32[2, 6]
          %1 = update_slice %x, %0 {starts=(3, 0), steps=(1, 1)} : f32[100, 6]
          update %x = %1
          return
        }""",
        calls=1,
    )
    assert plan.arena_bytes == 0


def test_a_part_of_an_input_is_computed_from_itself_in_place() -> None:
    plan = check_lowered(
        """
        graph g(%x: f32[100, 6]) {
          %0 = slice %x {starts=(3, 0), steps=(2, 1), stops=(9, 6)} : f32[3, 6]
          %1 = exp %0 : f32[3, 6]
          %2 = update_slice %x, %1 {starts=(3, 0), steps=(2, 1)} : f32[100, 6]
          update %x = %2
          return
        }""",
        calls=1,
    )
    assert plan.arena_bytes == 0


def test_a_part_of_an_input_is_computed_from_other_parts() -> None:
    check_lowered("""
        graph g(%x: f32[10, 6]) {
          %0 = slice %x {starts=(3, 0), steps=(1, 1), stops=(9, 6)} : f32[6, 6]
          %1 = exp %0 : f32[6, 6]
          %2 = update_slice %x, %1 {starts=(2, 0), steps=(1, 1)} : f32[10, 6]
          %3 = slice %x {starts=(0, 0), steps=(1, 1), stops=(2, 6)} : f32[2, 6]
          %4 = update_slice %2, %3 {starts=(1, 0), steps=(1, 1)} : f32[10, 6]
          update %x = %4
          return
        }""")


def test_an_input_of_other_strides_is_updated_by_a_copy() -> None:
    check_lowered("""
        graph g(%x: f32[3, 4] strides(1, 5)) {
          %0 = exp %x : f32[3, 4]
          update %x = %0
          return %0
        }""")


def test_no_update_is_made_if_a_check_fails() -> None:
    text = """
        graph g(%x: f32[8], %w: f32[5], %i: i64[3]) {
          %0 = neg %x : f32[8]
          %1 = gather %w, %i {axes=(0,)} : f32[3]
          %2 = scatter_add %w, %1, %i {axes=(0,)} : f32[5]
          update %x = %0
          update %w = %2
          return %1
        }"""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=n).astype(np.float32) for n in (8, 5)]
    check_lowered(text, inputs=[*arrays, np.array([1, -5, 1])])
    for bad in (5, -6):
        plan = lower(parse_graph(textwrap.dedent(text)))
        storages = [*(a.copy() for a in arrays), np.array([1, bad, 2])]
        with pytest.raises(PlanStopped) as stopped:
            run_plan(plan, storages)
        assert {c.code: c.error for c in plan.checks}[stopped.value.code] == "IndexError"
        assert np.array_equal(storages[0], arrays[0]) and np.array_equal(storages[1], arrays[1])


def test_division_by_zero_stops_the_plan() -> None:
    text = """
        graph g(%x: i64[4], %y: i64[4]) {
          %0 = floor_div %x, %y : i64[4]
          %1 = slice %0 {starts=(0,), steps=(1,), stops=(2,)} : i64[2]
          return %1
        }"""
    check_lowered(text, inputs=[np.array([7, -7, 5, 1]), np.array([2, 2, -3, 1])])
    plan = lower(parse_graph(textwrap.dedent(text)))
    with pytest.raises(PlanStopped):
        run_plan(plan, [np.array([7, -7, 5, 1]), np.array([2, 2, 1, 0])])


def test_a_check_that_is_an_operation() -> None:
    text = """
        graph g(%x: f32[4]) {
          %0 = constant {value=f32(0.0)} : f32[]
          %1 = reduce_min %x {axes=(0,), order="lanes"} : f32[]
          %2 = ge %1, %0 : bool[]
          check %2 {error="ValueError", message="negative"}
          %3 = sqrt %x : f32[4]
          update %x = %3
          return
        }"""
    check_lowered(text, inputs=[np.array([1, 2, 3, 4], np.float32)])
    plan = lower(parse_graph(textwrap.dedent(text)))
    storages = [np.array([1, 2, -3, 4], np.float32)]
    with pytest.raises(PlanStopped):
        run_plan(plan, storages)
    assert storages[0].tolist() == [1, 2, -3, 4]
    assert [(c.error, c.message) for c in plan.checks] == [("ValueError", "negative")]


def test_equal_kernels_are_there_once() -> None:
    plan = check_lowered(
        """
        graph g(%x: f32[4, 8], %u: f32[8, 8], %v: f32[8, 8]) {
          %0 = contract %x, %u {spec=<[m, k] * [k, n] -> [m, n] over k>} : f32[4, 8]
          %1 = tanh %0 : f32[4, 8]
          %2 = contract %1, %v {spec=<[m, k] * [k, n] -> [m, n] over k>} : f32[4, 8]
          %3 = tanh %2 : f32[4, 8]
          return %3
        }""",
        calls=2,
    )
    assert len(plan.kernels) == 1
