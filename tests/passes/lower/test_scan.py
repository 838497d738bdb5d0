"""Scans as loops in a plan: what the plan's interpreter and native code make of them."""

from __future__ import annotations

import numpy as np
import pytest
from vitrify.ir.errors import VerifyError
from vitrify.ir.graph import Graph
from vitrify.ir.interpreter import interpret
from vitrify.ir.parser import parse_graph
from vitrify.ir.plan import Plan, Repeat
from vitrify.ir.plan_text import parse_plan, print_plan
from vitrify.ir.plan_verifier import verify_plan
from vitrify.ir.strided import strided_type
from vitrify.passes.autodiff import joint_graph
from vitrify.passes.lower import lower
from vitrify.runtime import storage
from vitrify.runtime.compiler import compile_graph
from vitrify.runtime.executable import CheckFailed

from tests.passes.autodiff.test_scan import CELL, NESTED, ODD, SUMS
from tests.passes.lower.lowering import check_lowered
from tests.support import assert_same_bits, random_array

#: Carries that change places, a carry that is given out, and one that nobody reads.
CARRIES = """
graph(%a: f64[3], %b: f64[3], %c: f64[3], %xs: f64[4, 3]) {
  %0, %1, %2, %3, %4 = scan %a, %b, %c, %xs
    {carries=3, length=4, previous=(2,), reverse=false, scanned=1}
    : f64[3], f64[3], f64[3], f64[4, 3], f64[4, 3] {
    graph step(%a: f64[3], %b: f64[3], %c: f64[3], %x: f64[3]) {
      %0 = add %c, %x : f64[3]
      %1 = mul %a, %0 : f64[3]
      return %b, %1, %0, %0
    }
  }
  %5 = add %0, %1 : f64[3]
  return %5, %2, %3, %4
}
"""

#: One step alone; operands that do not lie in memory, or not in row-major order.
LAID_OUT = """
graph(%a: f64[2, 3] strides(1, 2), %xs: f64[3, 1, 2]) {
  %0 = neg %a : f64[2, 3]
  %1 = permute %0 {perm=(1, 0)} : f64[3, 2]
  %2 = permute %xs {perm=(1, 0, 2)} : f64[1, 3, 2]
  %3 = constant {value=f64[2](1.0, 2.0)} : f64[2]
  %4, %5, %6 = scan %1, %2, %3 {carries=1, length=1, previous=(0,), reverse=true, scanned=1}
    : f64[3, 2], f64[1, 3], f64[1, 3, 2] {
    graph step(%a: f64[3, 2], %x: f64[3, 2], %k: f64[2]) {
      %0 = add %a, %x : f64[3, 2]
      %1 = constant {value=f64[2](3.0, 5.0)} : f64[2]
      %2 = mul %1, %k : f64[2]
      %3 = reshape %2 {shape=(1, 2)} : f64[1, 2]
      %4 = expand %3 {shape=(3, 2)} : f64[3, 2]
      %5 = mul %0, %4 : f64[3, 2]
      %6 = reduce_sum %5 {axes=(1,), order="lanes"} : f64[3]
      return %5, %6
    }
  }
  return %4, %5, %6
}
"""

TEXTS = {"cell": CELL, "sums": SUMS, "nested": NESTED, "odd": ODD, "carries": CARRIES, "laid out": LAID_OUT}


def run_native(graph: Graph, arrays: list[np.ndarray]) -> list[np.ndarray]:
    executable = compile_graph(graph)
    outputs = executable.run([storage.from_array(a.copy()) for a in arrays])
    types = [strided_type(v.type.dtype, v.type.shape) for v in graph.outputs]
    return [storage.to_array(o, t) for o, t in zip(outputs, types, strict=True)]


def repeats(plan: Plan) -> list[Repeat]:
    return [step for step in plan.calls if isinstance(step, Repeat)]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("reverse", [False, True])
def test_plans_do_what_the_graph_says(text, reverse):
    if reverse:
        text = text.replace("reverse=false", "reverse=TRUE").replace("reverse=true", "reverse=false")
        text = text.replace("reverse=TRUE", "reverse=true")
    plan = check_lowered(text)
    assert len(repeats(plan)) == 1
    assert print_plan(parse_plan(print_plan(plan))) == print_plan(plan)


@pytest.mark.parametrize("text", [CELL, SUMS, NESTED, ODD, CARRIES])
def test_native_code_with_derivatives(text):
    """Within rounding where there are elementary functions, which numpy computes otherwise; else the same
    bits."""
    graph = parse_graph(text)
    wrt = [i for i, v in enumerate(graph.inputs) if v.type.dtype.kind == "f"]
    joint = joint_graph(graph, wrt).graph
    rng = np.random.default_rng(0)
    arrays = [random_array(v.type, rng) for v in joint.inputs]
    for got, want in zip(run_native(joint, arrays), interpret(joint, arrays)[0], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    plain = parse_graph(text.replace("tanh", "neg").replace("= exp ", "= neg ").replace("sin", "neg"))
    arrays = arrays[: len(plain.inputs)]
    for got, want in zip(run_native(plain, arrays), interpret(plain, arrays)[0], strict=True):
        assert_same_bits(got, want)


def test_the_code_does_not_grow_with_the_length():
    short, long = (
        lower(parse_graph(SUMS.replace("4, 3", f"{n}, 3").replace("length=4", f"length={n}")))
        for n in (4, 4000)
    )
    (one,), (other,) = repeats(short), repeats(long)
    assert print_plan(one.body) == print_plan(other.body)
    assert other.extent == 4000


def test_sizes_known_at_run_time():
    text = SUMS.replace("[4, 3]", "[s0, 3]").replace("length=4", "length=s0")
    check_lowered(text, sizes={"s0": 5})
    check_lowered(text, sizes={"s0": 1})


def test_a_check_in_a_body_stops_the_loop():
    graph = parse_graph("""
        graph(%a: f32[4], %at: i64[3]) {
          %0 = scan %a, %at {carries=1, length=3, previous=(), reverse=false, scanned=1} : f32[4] {
            graph step(%a: f32[4], %i: i64[]) {
              %0 = gather %a, %i {axes=(0,)} : f32[]
              %1 = reshape %0 {shape=(1,)} : f32[1]
              %2 = expand %1 {shape=(4,)} : f32[4]
              %3 = add %a, %2 : f32[4]
              return %3
            }
          }
          update %a = %0
          return
        }""")
    plan = lower(graph)
    verify_plan(plan)
    assert [c.error for c in plan.checks] == ["IndexError"]
    executable = compile_graph(graph)
    a = storage.from_array(np.arange(4, dtype=np.float32))
    with pytest.raises(CheckFailed):
        executable.run([a, storage.from_array(np.array([0, 4, 1]))])
    assert storage.to_array(a, strided_type(graph.inputs[0].type.dtype, (4,))).tolist() == [0, 1, 2, 3]
    executable.run([a, storage.from_array(np.array([0, -1, 1]))])
    want = interpret(graph, [np.arange(4, dtype=np.float32), np.array([0, -1, 1])])[1][0]
    assert_same_bits(storage.to_array(a, strided_type(graph.inputs[0].type.dtype, (4,))), want)


PLAN = print_plan(lower(parse_graph(SUMS)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("repeat turn < 4 (", "repeat turn < 5 (", "beyond its"),
        ("turn < 4 (%", "turn < 4 (%nothing", "passes %nothing.*, which is no buffer"),
        ("turn < 4 (", "turn < 4 (%w, ", "buffers, expected"),
        ("plan step()", "plan step(s7)", "needs the sizes of the plan"),
        ("  buffer %out1: f64[12]", "  buffer %out1: f32[12]", "passes %out1: f32 as %"),
    ],
)
def test_what_can_be_wrong_with_a_loop(old, new, message):
    assert PLAN.count(old) == 1, PLAN
    with pytest.raises(VerifyError, match=message):
        verify_plan(parse_plan(PLAN.replace(old, new)))
