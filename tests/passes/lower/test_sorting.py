"""Sorts lowered: where the lines lie, and whose scratch memory they use."""

import numpy as np
import pytest
from vitrify.ir.kernel import Local, Loop, Sort
from vitrify.ir.plan import Plan

from tests.passes.lower.lowering import check_lowered


def sorts(plan: Plan) -> list[Sort]:
    return [s for k in plan.kernels for s in k.statements() if isinstance(s, Sort)]


def test_short_lines_use_memory_of_their_own_turn() -> None:
    plan = check_lowered(
        """
        graph g(%x: f32[3, 4, 20]) {
          %0 = argsort %x {count=20, descending=false} : i64[3, 4, 20]
          return %0
        }""",
        calls=1,
    )
    assert plan.arena_bytes == 0
    (loop,) = plan.kernels[0].body
    assert isinstance(loop, Loop) and isinstance(loop.body[0], Local)


def test_long_lines_take_turns_with_what_scratch_memory_there_is() -> None:
    plan = check_lowered(
        """
        graph g(%x: f64[10, 9000]) {
          %0 = argsort %x {count=9000, descending=true} : i64[10, 9000]
          return %0
        }""",
        calls=1,
    )
    assert plan.arena_bytes == 8 * 8 * 4 * 9000
    assert len(sorts(plan)) == 2  # eight at a time, and the two that are left


@pytest.mark.parametrize("sizes", [{"s": 1, "t": 70}, {"s": 9, "t": 5}, {"s": 17, "t": 1}])
def test_sizes_known_when_it_runs(sizes: dict[str, int]) -> None:
    check_lowered(
        """
        graph g(%x: f32[s, t]) {
          %0 = argsort %x {count=t, descending=false} : i64[s, t]
          %1 = argsort %x {count=1, descending=true} : i64[s, 1]
          return %0, %1
        }""",
        sizes=sizes,
    )


def test_an_operand_that_is_computed_or_moved_is_brought_into_memory() -> None:
    check_lowered(
        """
        graph g(%x: f32[5, 6]) {
          %0 = permute %x {perm=(1, 0)} : f32[6, 5]
          %1 = argsort %0 {count=5, descending=false} : i64[6, 5]
          %2 = neg %x : f32[5, 6]
          %3 = reshape %2 {shape=(30,)} : f32[30]
          %4 = argsort %3 {count=7, descending=false} : i64[7]
          %5 = gather %3, %4 {axes=(0,)} : f32[7]
          return %1, %4, %5
        }""",
        inputs=[np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)],
    )


def test_one_number_repeated_is_in_order() -> None:
    check_lowered(
        """
        graph g(%x: f32[3]) {
          %0 = constant {value=f32[1](1.0)} : f32[1]
          %1 = expand %0 {shape=(4,)} : f32[4]
          %2 = argsort %1 {count=4, descending=true} : i64[4]
          %3 = argsort %x {count=0, descending=true} : i64[0]
          return %2, %3
        }"""
    )
