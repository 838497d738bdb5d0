"""Panel fusion: which kernels become one nest, that what they hand on stays in scratch memory, and that every
bit is as before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from vitrify.ir.kernel import Contract, Local
from vitrify.ir.kernel_text import parse_kernel, print_kernel
from vitrify.ir.plan import Plan
from vitrify.ir.plan_text import parse_plan, print_plan
from vitrify.passes.lower import blocks, panels

from tests.passes.lower.lowering import check_lowered

SCORES = """
  %s = contract %q, %k {spec=<[b, h, i, d] * [b, h, j, d] -> [b, h, i, j] over d>} : f32[2, 3, 20, 20]
"""
SOFTMAX = """
  %most = reduce_max %s {axes=(3,), order="lanes"} : f32[2, 3, 20]
  %most1 = reshape %most {shape=(2, 3, 20, 1)} : f32[2, 3, 20, 1]
  %most2 = expand %most1 {shape=(2, 3, 20, 20)} : f32[2, 3, 20, 20]
  %less = sub %s, %most2 : f32[2, 3, 20, 20]
  %e = exp %less : f32[2, 3, 20, 20]
  %total = reduce_sum %e {axes=(3,), order="lanes"} : f32[2, 3, 20]
  %total1 = reshape %total {shape=(2, 3, 20, 1)} : f32[2, 3, 20, 1]
  %total2 = expand %total1 {shape=(2, 3, 20, 20)} : f32[2, 3, 20, 20]
  %p = div %e, %total2 : f32[2, 3, 20, 20]
"""
OUTPUT = """
  %o = contract %p, %v {spec=<[b, h, i, j] * [b, h, j, d] -> [b, h, i, d] over j>} : f32[2, 3, 20, 5]
"""
BACKWARD = """
  %dv = contract %p, %do {spec=<[b, h, i, j] * [b, h, i, d] -> [b, h, j, d] over i>} : f32[2, 3, 20, 5]
  %dp = contract %do, %v {spec=<[b, h, i, d] * [b, h, j, d] -> [b, h, i, j] over d>} : f32[2, 3, 20, 20]
  %pdp = mul %p, %dp : f32[2, 3, 20, 20]
  %sum = reduce_sum %pdp {axes=(3,), order="lanes"} : f32[2, 3, 20]
  %sum1 = reshape %sum {shape=(2, 3, 20, 1)} : f32[2, 3, 20, 1]
  %sum2 = expand %sum1 {shape=(2, 3, 20, 20)} : f32[2, 3, 20, 20]
  %apart = sub %dp, %sum2 : f32[2, 3, 20, 20]
  %ds = mul %apart, %p : f32[2, 3, 20, 20]
  %dq = contract %ds, %k {spec=<[b, h, i, j] * [b, h, j, d] -> [b, h, i, d] over j>} : f32[2, 3, 20, 5]
  %dk = contract %ds, %q {spec=<[b, h, i, j] * [b, h, i, d] -> [b, h, j, d] over i>} : f32[2, 3, 20, 5]
"""
QKV = "%q: f32[2, 3, 20, 5], %k: f32[2, 3, 20, 5], %v: f32[2, 3, 20, 5]"


@pytest.fixture(autouse=True)
def even_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels pay for large intermediate results only; here they are small."""
    monkeypatch.setattr(panels, "WORTH", 0)


def lowered(body: str, inputs: str = QKV) -> Plan:
    return check_lowered(f"graph({inputs}) {{\n{body}\n}}")


def locals_of(plan: Plan) -> list[int]:
    """The sizes of the scratch memories of all kernels."""
    return [s.size for kernel in plan.kernels for s in kernel.statements() if isinstance(s, Local)]


def test_attention_is_one_kernel_without_the_scores_in_memory() -> None:
    plan = lowered(f"{SCORES}\n{SOFTMAX}\n{OUTPUT}\nreturn %o")
    assert len(plan.calls) == 1 and plan.arena_bytes == 0
    assert locals_of(plan) == [400]  # exp and division take the place of the scores
    (kernel,) = plan.kernels
    assert sum(isinstance(s, Contract) for s in kernel.statements()) == 2
    assert print_kernel(parse_kernel(print_kernel(kernel))) == print_kernel(kernel)


def test_its_text() -> None:
    plan = lowered(f"{SCORES}\n{SOFTMAX}\n{OUTPUT}\nreturn %o")
    want = """
        parallel i1 < 6 {
          local %t0: f32[400]
          %0 = contract %x0[100*i1 + 5*i2 + i4] * %x1[100*i1 + 5*i3 + i4] over i4 < 5 for i2 < 20, i3 < 20
            store %t0[20*i2 + i3], %0
          }
          parallel i5 < 20 {
            %2 = reduce_max lanes i6 < 20 : f32 {
              %1 = load %t0[20*i5 + i6] : f32
              yield %1
            }
            %6 = reduce_sum lanes i7 < 20 : f32 {
              %3 = load %t0[20*i5 + i7] : f32
              %4 = sub %3, %2 : f32
              %5 = exp %4 : f32
              store %t0[20*i5 + i7], %5
              yield %5
            }
            vector i8 < 20 {
              %7 = load %t0[20*i5 + i8] : f32
              %8 = div %7, %6 : f32
              store %t0[20*i5 + i8], %8
            }
          }
    """
    lines = [line.strip().removesuffix(" : f32 {") for line in print_kernel(plan.kernels[0]).splitlines()]
    expected = [line.strip().removesuffix(" : f32 {") for line in want.strip().splitlines()]
    assert lines[1 : 1 + len(expected)] == expected


def test_what_is_an_output_stays_in_memory() -> None:
    plan = lowered(f"{SCORES}\n{SOFTMAX}\n{OUTPUT}\nreturn %o, %p")
    assert len(plan.calls) == 1
    assert locals_of(plan) == [400]  # the scores; the weights are read where they were just written


def test_forward_and_backward_are_one_kernel() -> None:
    plan = lowered(
        f"{SCORES}\n{SOFTMAX}\n{OUTPUT}\n{BACKWARD}\nreturn %o, %dq, %dk, %dv",
        f"{QKV}, %do: f32[2, 3, 20, 5]",
    )
    assert len(plan.calls) == 1 and plan.arena_bytes == 0


def part(number: int) -> str:
    """Queries, keys or values."""
    bounds = f"starts=({number}, 0, 0, 0, 0), steps=(1, 1, 1, 1, 1), stops=({number + 1}, 2, 3, 20, 5)"
    return f"%part{number} = slice %x2 {{{bounds}}} : f32[1, 2, 3, 20, 5]"


def test_heads_side_by_side_in_memory() -> None:
    """Queries, keys and values as a linear layer gives them, the output as the next one takes it."""
    plan = lowered(
        f"""
        %x1 = reshape %x {{shape=(2, 20, 3, 3, 5)}} : f32[2, 20, 3, 3, 5]
        %x2 = permute %x1 {{perm=(2, 0, 3, 1, 4)}} : f32[3, 2, 3, 20, 5]
        {part(0)}
        {part(1)}
        {part(2)}
        %q = reshape %part0 {{shape=(2, 3, 20, 5)}} : f32[2, 3, 20, 5]
        %k = reshape %part1 {{shape=(2, 3, 20, 5)}} : f32[2, 3, 20, 5]
        %v = reshape %part2 {{shape=(2, 3, 20, 5)}} : f32[2, 3, 20, 5]
        {SCORES}
        {SOFTMAX}
        %o = contract %p, %v {{spec=<[b, h, i, j] * [b, h, j, d] -> [b, i, h, d] over j>}} : f32[2, 20, 3, 5]
        return %o
        """,
        "%x: f32[2, 20, 45]",
    )
    assert len(plan.calls) == 1 and plan.arena_bytes == 0


def test_a_step_that_mixes_the_heads_is_no_panel() -> None:
    plan = lowered(
        f"""
        {SCORES}
        %mixed = permute %s {{perm=(0, 2, 1, 3)}} : f32[2, 20, 3, 20]
        %sum = reduce_sum %mixed {{axes=(2, 3), order="lanes"}} : f32[2, 20]
        return %sum
        """,
        "%q: f32[2, 3, 20, 5], %k: f32[2, 3, 20, 5]",
    )
    assert not locals_of(plan) and len(plan.calls) == 2


def test_a_kernel_that_has_to_run_in_between_keeps_them_apart() -> None:
    """The maximum over everything needs all scores before the weights."""
    plan = lowered(
        f"""
        {SCORES}
        %most = reduce_max %s {{axes=(0, 1, 2, 3), order="lanes"}} : f32[]
        %most1 = reshape %most {{shape=(1, 1, 1, 1)}} : f32[1, 1, 1, 1]
        %most2 = expand %most1 {{shape=(2, 3, 20, 20)}} : f32[2, 3, 20, 20]
        %less = sub %s, %most2 : f32[2, 3, 20, 20]
        %p = exp %less : f32[2, 3, 20, 20]
        {OUTPUT}
        return %o
        """
    )
    assert len(plan.calls) >= 3


def test_a_contraction_whose_rows_run_on_over_the_loops_stays_alone() -> None:
    """[b, i, d] * [d, e]: one matrix product of b * i rows, not b of them."""
    plan = lowered(
        """
        %y = contract %x, %w {spec=<[b, i, d] * [d, e] -> [b, i, e] over d>} : f32[4, 20, 8]
        %sum = reduce_sum %y {axes=(2,), order="lanes"} : f32[4, 20]
        return %sum
        """,
        "%x: f32[4, 20, 5], %w: f32[5, 8]",
    )
    assert not locals_of(plan)


def test_small_results_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "WORTH", 1 << 20)
    plan = lowered(f"{SCORES}\n{SOFTMAX}\n{OUTPUT}\nreturn %o")
    assert len(plan.calls) == 3 and not locals_of(plan)


def test_scratch_memory_that_does_not_fit_stays_in_the_arena(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "MOST_LOCAL", 0)
    plan = lowered(f"{SCORES}\n{SOFTMAX}\n{OUTPUT}\nreturn %o")
    assert not locals_of(plan) and plan.arena_bytes > 0


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Blocks of so many bytes, however few rows that is, the rows a multiple of a unit."""

    def cut(room: int, unit: int = 1) -> None:
        monkeypatch.setattr(blocks, "LEAST", 1)
        monkeypatch.setattr(blocks, "UNIT", unit)
        monkeypatch.setattr(panels, "MOST_LOCAL", room)

    return cut


@pytest.mark.parametrize("room, unit, rows", [(4, 1, 4), (5, 1, 5), (12, 1, 10), (13, 4, 12), (9, 4, 8)])
def test_rows_are_taken_in_blocks(room: int, unit: int, rows: int, small_blocks: Callable[..., None]) -> None:
    """Blocks that divide the rows, where there are any, and ones that leave some over."""
    small_blocks(room * 80, unit)
    plan = lowered(f"{SCORES}\n{SOFTMAX}\n{OUTPUT}\nreturn %o")
    assert len(plan.calls) == 1 and plan.arena_bytes == 0 and locals_of(plan) == [20 * rows]
    assert print_plan(parse_plan(print_plan(plan))) == print_plan(plan)


@pytest.mark.parametrize("rows, unit", [(4, 1), (12, 4)])
def test_backward_in_blocks_adds_to_what_it_has(
    rows: int, unit: int, small_blocks: Callable[..., None]
) -> None:
    small_blocks(rows * 160, unit)
    plan = lowered(
        f"{SCORES}\n{SOFTMAX}\n{OUTPUT}\n{BACKWARD}\nreturn %o, %dq, %dk, %dv",
        f"{QKV}, %do: f32[2, 3, 20, 5]",
    )
    assert len(plan.calls) == 1 and plan.arena_bytes == 0 and locals_of(plan) == [rows * 20] * 2
    sums = [s for s in plan.kernels[0].statements() if isinstance(s, Contract)]
    assert sum(s.start is not None for s in sums) == (2 if 20 % rows == 0 else 4)


def test_the_causal_mask_in_blocks(small_blocks: Callable[..., None]) -> None:
    """A mask computed from the index knows in which row a block begins."""
    small_blocks(6 * 80)
    masked = SOFTMAX.replace("%s", "%ms")
    plan = lowered(
        f"""
        {SCORES}
        %i = iota {{axis=2, dtype=i64, shape=(2, 3, 20, 20)}} : i64[2, 3, 20, 20]
        %j = iota {{axis=3, dtype=i64, shape=(2, 3, 20, 20)}} : i64[2, 3, 20, 20]
        %below = ge %i, %j : bool[2, 3, 20, 20]
        %none = constant {{value=f32(-inf)}} : f32[]
        %none1 = reshape %none {{shape=(1, 1, 1, 1)}} : f32[1, 1, 1, 1]
        %none2 = expand %none1 {{shape=(2, 3, 20, 20)}} : f32[2, 3, 20, 20]
        %ms = select %below, %s, %none2 : f32[2, 3, 20, 20]
        {masked}
        {OUTPUT}
        return %o
        """
    )
    assert len(plan.calls) == 1 and locals_of(plan) == [100]


def test_what_needs_all_rows_at_once_is_not_cut(small_blocks: Callable[..., None]) -> None:
    """The sums of the scores' columns, which the weights are divided by."""
    small_blocks(4 * 80)
    plan = lowered(
        f"""
        {SCORES}
        %e = exp %s : f32[2, 3, 20, 20]
        %sum = reduce_sum %e {{axes=(2,), order="rows"}} : f32[2, 3, 20]
        %sum1 = reshape %sum {{shape=(2, 3, 1, 20)}} : f32[2, 3, 1, 20]
        %sum2 = expand %sum1 {{shape=(2, 3, 20, 20)}} : f32[2, 3, 20, 20]
        %p = div %e, %sum2 : f32[2, 3, 20, 20]
        {OUTPUT}
        return %o
        """
    )
    assert 400 not in locals_of(plan)


BETWEEN = """
%y = mul %o, %o : f32[2, 3, 20, 5]
%all = reduce_sum %y {axes=(0, 1, 2, 3), order="lanes"} : f32[]
%all1 = reshape %all {shape=(1, 1, 1, 1)} : f32[1, 1, 1, 1]
%all2 = expand %all1 {shape=(2, 3, 20, 5)} : f32[2, 3, 20, 5]
%do = mul %o, %all2 : f32[2, 3, 20, 5]
"""


@pytest.mark.parametrize("limit, contractions, arena", [(2400 * 4, 7, 2432), (2400 * 4 + 1, 6, 12032)])
def test_large_weights_are_computed_again_backward(
    limit: int, contractions: int, arena: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than kept in memory between the two panels, if they are large enough."""
    monkeypatch.setattr(panels, "RECOMPUTED", limit)
    plan = lowered(f"{SCORES}\n{SOFTMAX}\n{OUTPUT}\n{BETWEEN}\n{BACKWARD}\nreturn %o, %dq, %dk, %dv")
    found = [s for kernel in plan.kernels for s in kernel.statements() if isinstance(s, Contract)]
    assert len(plan.calls) == 3 and len(found) == contractions and plan.arena_bytes == arena


def test_weights_that_are_an_output_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "RECOMPUTED", 0)
    plan = lowered(f"{SCORES}\n{SOFTMAX}\n{OUTPUT}\n{BETWEEN}\n{BACKWARD}\nreturn %p, %dq, %dk, %dv")
    found = [s for kernel in plan.kernels for s in kernel.statements() if isinstance(s, Contract)]
    assert len(found) == 6
