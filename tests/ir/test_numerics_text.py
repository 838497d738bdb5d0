"""The numerics of a graph and of kernels: printed, parsed, and kept by every pass and down to the plan."""

import numpy as np
import pytest
from vitrify.ir.errors import VerifyError
from vitrify.ir.kernel_text import parse_kernel, print_kernel
from vitrify.ir.parser import parse_graph
from vitrify.ir.plan_text import parse_plan, print_plan
from vitrify.ir.printer import print_graph
from vitrify.ir.verifier import verify_graph
from vitrify.passes.autodiff.joint import joint_graph
from vitrify.passes.cse import eliminate_common_subexpressions
from vitrify.passes.dce import eliminate_dead_code
from vitrify.passes.inline import inline_calls
from vitrify.passes.lower import lower
from vitrify.passes.packed import pack_weights
from vitrify.passes.pipeline import optimize
from vitrify.passes.simplify import simplify

TEXT = """\
fast graph step(%x: f32[2, 3]) {
  %0 = neg %x : f32[2, 3]
  %1 = neg %0 : f32[2, 3]
  %2 = exp %1 : f32[2, 3]
  %3 = exp %1 : f32[2, 3]
  %4 = add %2, %3 : f32[2, 3]
  %5 = call %4 {name="f"} : f32[2, 3] {
    graph body(%a: f32[2, 3]) {
      %0 = tanh %a : f32[2, 3]
      return %0
    }
  }
  return %5
}
"""

SCAN = """\
fast graph(%start: f32[2], %xs: f32[3, 2]) {
  %0 = scan %start, %xs {carries=1, length=3, previous=(), reverse=false, scanned=1} : f32[2] {
    graph step(%sum: f32[2], %x: f32[2]) {
      %0 = add %sum, %x : f32[2]
      return %0
    }
  }
  return %0
}
"""

CONVOLUTION = """\
fast graph(%x: f32[1, 64, 9, 9], %w: f32[64, 64, 2, 2]) {
  %0 = contract %x, %w {spec=<[n, ci, kh + oh, kw + ow] * [co, ci, kh, kw] -> [n, co, oh, ow] over kh, kw, ci where oh = 8, ow = 8>} : f32[1, 64, 8, 8]
  return %0
}
"""  # noqa: E501


def test_it_is_printed_before_the_graph() -> None:
    graph = parse_graph(TEXT)
    assert graph.numerics == "fast" and print_graph(graph) == TEXT
    assert parse_graph(TEXT.removeprefix("fast ")).numerics == "exact"


@pytest.mark.parametrize(
    "change", [simplify, inline_calls, eliminate_common_subexpressions, eliminate_dead_code, optimize]
)
def test_passes_keep_it(change) -> None:
    graph = parse_graph(TEXT)
    changed = change(graph)
    assert changed is not graph or change is eliminate_dead_code
    assert changed.numerics == "fast"


def test_the_parts_of_a_graph_have_it_too() -> None:
    packed = pack_weights(parse_graph(CONVOLUTION))
    assert packed is not None and packed.main.numerics == packed.packing.numerics == "fast"
    assert joint_graph(inline_calls(parse_graph(TEXT)), [0]).graph.numerics == "fast"


@pytest.mark.parametrize("text", [TEXT, SCAN])
def test_every_kernel_of_its_plan_has_it(text) -> None:
    plan = lower(optimize(parse_graph(text)))
    assert plan.kernels or plan.calls
    assert {kernel.numerics for kernel in plan.all_kernels()} == {"fast"}
    assert print_plan(parse_plan(print_plan(plan))) == print_plan(plan)
    exact = lower(optimize(parse_graph(text.removeprefix("fast "))))
    assert {kernel.numerics for kernel in exact.all_kernels()} == {"exact"}


def test_kernels_round_trip() -> None:
    text = "fast kernel f(%x: f32[4] out) {\n  %0 = const f32(1.0) : f32\n  store %x[0], %0\n}\n"
    assert print_kernel(parse_kernel(text)) == text


def test_a_region_has_none_of_its_own() -> None:
    with pytest.raises(VerifyError, match="numerics"):
        verify_graph(parse_graph(TEXT.replace("    graph body", "    fast graph body")))
    graph = parse_graph(TEXT)
    graph.numerics = "quick"
    with pytest.raises(VerifyError, match="quick"):
        verify_graph(graph)


def test_fast_means_what_exact_means() -> None:
    from vitrify.ir.interpreter import interpret

    x = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)
    fast, exact = (interpret(parse_graph(t), [x])[0][0] for t in (TEXT, TEXT.removeprefix("fast ")))
    assert np.array_equal(fast, exact)
