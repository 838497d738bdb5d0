"""Fold, CSE, DCE, inlining and the pass manager, by text before and after."""

from __future__ import annotations

import textwrap
from functools import partial

import numpy as np
import pytest
from vitrify.ir import ops
from vitrify.ir.builder import GraphBuilder, scalar
from vitrify.ir.dtypes import float32
from vitrify.ir.errors import VerifyError
from vitrify.ir.graph import Graph, Operation, Value
from vitrify.ir.interpreter import evaluate as interpreted
from vitrify.ir.opdef import BoundOp
from vitrify.ir.parser import parse_graph
from vitrify.ir.types import TensorType
from vitrify.passes.cse import eliminate_common_subexpressions
from vitrify.passes.dce import eliminate_dead_code
from vitrify.passes.fold import fold_constants
from vitrify.passes.inline import inline_calls
from vitrify.passes.manager import PassManager, diff
from vitrify.passes.pipeline import optimize
from vitrify.passes.simplify.driver import RULES, Rewriter, rewrite

from tests.support import check_pass


def cleaned(graph: Graph) -> Graph:
    return eliminate_dead_code(fold_constants(graph))


def check_stays(pass_: object, text: str) -> None:
    check_pass(pass_, text, text)  # type: ignore[arg-type]


def test_fold_computes_exact_operations() -> None:
    check_pass(cleaned, """
        graph f() {
          %0 = constant {value=f32[3](1.0, -0.0, 3.0)} : f32[3]
          %1 = constant {value=f32[3](10.0, 5.0, inf)} : f32[3]
          %2 = div %0, %1 : f32[3]
          %3 = flip %2 {axes=(0,)} : f32[3]
          return %3
        }""", """
        graph f() {
          %0 = constant {value=f32[3](0.0, -0.0, 0.1)} : f32[3]
          return %0
        }""")  # fmt: skip


def test_fold_keeps_splats_small() -> None:
    check_pass(cleaned, """
        graph f() {
          %0 = constant {value=f32(3.0)} : f32[]
          %1 = reshape %0 {shape=(1, 1)} : f32[1, 1]
          %2 = expand %1 {shape=(1000, 1000)} : f32[1000, 1000]
          %3 = add %2, %2 : f32[1000, 1000]
          return %3
        }""", """
        graph f() {
          %0 = constant {value=f32(6.0)} : f32[]
          %1 = reshape %0 {shape=(1, 1)} : f32[1, 1]
          %2 = expand %1 {shape=(1000, 1000)} : f32[1000, 1000]
          return %2
        }""")  # fmt: skip


def test_fold_leaves_elementary_functions_to_the_evaluator() -> None:
    text = """
        graph f() {
          %0 = constant {value=f32(0.5)} : f32[]
          %1 = exp %0 : f32[]
          return %1
        }"""
    check_stays(cleaned, text)
    asked: list[BoundOp] = []

    def evaluate(op: BoundOp, arrays: list[np.ndarray]) -> np.ndarray:
        asked.append(op)
        return interpreted(op, arrays)

    folded = eliminate_dead_code(fold_constants(parse_graph(text), evaluate=evaluate))
    assert [op.opdef for op in folded.operations] == [ops.constant]
    assert [op.opdef for op in asked] == [ops.exp]


def test_fold_keeps_what_raises() -> None:
    check_stays(cleaned, """
        graph f() {
          %0 = constant {value=i32(1)} : i32[]
          %1 = constant {value=i32(0)} : i32[]
          %2 = floor_div %0, %1 : i32[]
          return %2
        }""")  # fmt: skip


def test_fold_makes_no_large_literal() -> None:
    check_stays(cleaned, """
        graph f() {
          %0 = constant {value=f32[2](1.0, 2.0)} : f32[2]
          %1 = constant {value=f32(0.0)} : f32[]
          %2 = pad %0, %1 {hi=(5000,), interior=(0,), lo=(0,)} : f32[5002]
          return %2
        }""")  # fmt: skip


def test_cse_joins_equal_operations() -> None:
    check_pass(eliminate_common_subexpressions, """
        graph f(%x: f32[2], %y: f32[2]) {
          %0 = add %x, %y : f32[2]
          %1 = add %y, %x : f32[2]
          %2 = reshape %0 {shape=(2, 1)} : f32[2, 1]
          %3 = reshape %1 {shape=(2, 1)} : f32[2, 1]
          %4 = mul %2, %3 : f32[2, 1]
          return %4
        }""", """
        graph f(%x: f32[2], %y: f32[2]) {
          %0 = add %x, %y : f32[2]
          %1 = reshape %0 {shape=(2, 1)} : f32[2, 1]
          %2 = mul %1, %1 : f32[2, 1]
          return %2
        }""")  # fmt: skip


def test_cse_tells_apart_what_differs() -> None:
    check_stays(eliminate_common_subexpressions, """
        graph f(%x: f32[2, 2], %y: f32[2, 2], %p: bool[]) {
          %0 = sub %x, %y : f32[2, 2]
          %1 = sub %y, %x : f32[2, 2]
          %2 = rem %x, %y : f32[2, 2]
          %3 = rem %y, %x : f32[2, 2]
          %4 = constant {value=f32(0.0)} : f32[]
          %5 = constant {value=f32(-0.0)} : f32[]
          %6 = flip %x {axes=(0,)} : f32[2, 2]
          %7 = flip %x {axes=(1,)} : f32[2, 2]
          check %p {error="ValueError", message="no"}
          check %p {error="ValueError", message="no"}
          return %0, %1, %2, %3, %4, %5, %6, %7
        }""")  # fmt: skip


def test_dce_drops_what_nobody_reads() -> None:
    check_pass(eliminate_dead_code, """
        graph f(%x: f32[4], %p: bool[]) {
          %0 = exp %x : f32[4]
          %1 = neg %x : f32[4]
          %2 = log %0 : f32[4]
          check %p {error="ValueError", message="no"}
          %3 = sin %x : f32[4]
          update %x = %3
          return %1
        }""", """
        graph f(%x: f32[4], %p: bool[]) {
          %0 = neg %x : f32[4]
          check %p {error="ValueError", message="no"}
          %1 = sin %x : f32[4]
          update %x = %1
          return %0
        }""")  # fmt: skip


def test_dce_keeps_the_first_of_equal_errors() -> None:
    check_pass(eliminate_dead_code, """
        graph f(%x: f32[4], %y: f32[4, 2], %z: f32[5], %i: i64[3], %a: i32[], %b: i32[], %u: f32[]) {
          %0 = gather %x, %i {axes=(0,)} : f32[3]
          %1 = gather %y, %i {axes=(0,)} : f32[3, 2]
          %2 = scatter_add %x, %0, %i {axes=(0,)} : f32[4]
          %3 = gather %z, %i {axes=(0,)} : f32[3]
          %4 = rem %a, %b : i32[]
          %5 = rem %u, %u : f32[]
          return %x
        }""", """
        graph f(%x: f32[4], %y: f32[4, 2], %z: f32[5], %i: i64[3], %a: i32[], %b: i32[], %u: f32[]) {
          %0 = gather %x, %i {axes=(0,)} : f32[3]
          %1 = gather %z, %i {axes=(0,)} : f32[3]
          %2 = rem %a, %b : i32[]
          return %x
        }""")  # fmt: skip


def test_dce_drops_checks_that_can_not_fail() -> None:
    check_pass(eliminate_dead_code, """
        graph f(%x: f32[4], %a: i32[]) {
          %0 = constant {value=i64(-4)} : i64[]
          %1 = gather %x, %0 {axes=(0,)} : f32[]
          %2 = constant {value=i32(7)} : i32[]
          %3 = floor_div %a, %2 : i32[]
          return %x
        }""", """
        graph f(%x: f32[4], %a: i32[]) {
          return %x
        }""")  # fmt: skip


CALLS = """
    graph f(%x: f32[4]) {
      %0, %1 = call %x {name="outer"} : f32[4], f32[4] @ "train.py":7 {
        graph outer(%a: f32[4]) {
          %2 = exp %a : f32[4] @ "lib.py":3
          %3 = call %2 {name="inner"} : f32[4] {
            graph inner(%b: f32[4]) {
              %4 = neg %b : f32[4]
              return %4
            }
          }
          return %3, %a
        }
      }
      %5 = add %0, %1 : f32[4]
      return %5
    }"""


def test_inline_nested_calls() -> None:
    check_pass(inline_calls, CALLS, """
        graph f(%x: f32[4]) {
          %0 = exp %x : f32[4] @ "lib.py":3
          %1 = neg %0 : f32[4]
          %2 = add %1, %x : f32[4]
          return %2
        }""")  # fmt: skip


def test_inlined_operations_get_the_location_of_the_call() -> None:
    locations = [str(op.location) for op in inline_calls(parse_graph(textwrap.dedent(CALLS))).operations]
    assert locations == ["lib.py:3", "train.py:7", "None"]


def test_rules_reach_into_regions() -> None:
    text = CALLS.replace("neg %b : f32[4]", "abs %b : f32[4]")
    check_stays(eliminate_common_subexpressions, text)
    body = CALLS.replace("%4 = neg %b : f32[4]", "%9 = neg %b : f32[4]\n              %4 = neg %9 : f32[4]")
    check_pass(optimize, body, """
        graph f(%x: f32[4]) {
          %0 = exp %x : f32[4]
          %1 = add %0, %x : f32[4]
          return %1
        }""")  # fmt: skip


SMALL = """graph f(%x: f32[4]) {
  %0 = neg %x : f32[4]
  %1 = neg %0 : f32[4]
  %2 = exp %1 : f32[4]
  return %2
}"""


def test_manager_shows_each_pass_and_times_it() -> None:
    seen: list[tuple[str, bool]] = []
    graph = parse_graph(SMALL)
    manager = PassManager(
        [("cse", eliminate_common_subexpressions), ("optimize", partial(optimize, verify=True))],
        observe=lambda name, before, after: seen.append((name, after is before)),
    )
    manager.run(graph)
    assert seen == [("cse", True), ("optimize", False)]
    assert set(manager.seconds) == {"cse", "optimize"}
    assert all(s > 0 for s in manager.seconds.values())


def test_manager_names_the_pass_that_broke_the_graph() -> None:
    def break_it(graph: Graph) -> Graph:
        stray = Value(graph.inputs[0].type)
        return Graph(graph.inputs, graph.operations, (stray,), (), graph.name)

    with pytest.raises(VerifyError) as caught:
        PassManager([("break it", break_it)], verify=True).run(parse_graph(SMALL))
    assert any("break it" in note for note in caught.value.__notes__)


def test_manager_stops_when_nothing_changes() -> None:
    rounds: list[str] = []
    manager = PassManager(
        [("dce", eliminate_dead_code)], observe=lambda name, before, after: rounds.append(name)
    )
    graph = parse_graph(SMALL)
    assert manager.run_until_stable(graph, rounds=5) is graph
    assert len(rounds) == 1


def test_diff_shows_what_changed() -> None:
    graph = parse_graph(SMALL)
    text = diff(graph, optimize(graph), "optimize")
    assert "-  %0 = neg %x : f32[4]" in text
    assert "+  %0 = exp %x : f32[4]" in text
    assert diff(graph, graph) == ""


@pytest.mark.parametrize("length", [100, 200])
def test_the_driver_visits_each_operation_once(length: int) -> None:
    """Attempts are counted: one per operation, and one per operation that a rule has built."""
    build = GraphBuilder()
    value = build.input(TensorType(float32))
    for _ in range(length):
        value = build(ops.neg, build(ops.mul, scalar(build, -1.0, float32), value))
    visits: list[Operation] = []

    def visited(op: Operation, _: Rewriter) -> None:
        visits.append(op)

    rewrite(build.finish([value]), {op: [visited, *RULES.get(op, ())] for op in ops.ALL.values()})
    assert len(visits) <= 5 * length
