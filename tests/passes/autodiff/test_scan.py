"""The derivative of `scan` against central differences, and against the loop written out, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from vitrify.ir import ops
from vitrify.ir.graph import Graph, Operation, Value
from vitrify.ir.interpreter import interpret
from vitrify.ir.parser import parse_graph
from vitrify.ir.verifier import verify_graph
from vitrify.passes.autodiff import joint_graph
from vitrify.passes.pipeline import optimize
from vitrify.passes.regions import renamed
from vitrify.passes.scans import Parts

from tests.passes.autodiff.test_vjp import check_gradient
from tests.support import assert_same_bits, random_array

#: A recurrent step with every kind of operand: w by a contraction, b by a sum over rows, s elementwise.
CELL = """
graph(%h: f64[2, 3], %n: i64[], %xs: f64[4, 2, 3], %ks: i64[4], %w: f64[3, 3], %b: f64[3], %s: f64[2, 3]) {
  %0, %1, %2, %3, %4 = scan %h, %n, %xs, %ks, %w, %b, %s
      {carries=2, length=4, previous=(0,), reverse=false, scanned=2}
      : f64[2, 3], i64[], f64[4, 2, 3], f64[4, 2], f64[4, 2, 3] {
    graph step(%h: f64[2, 3], %n: i64[], %x: f64[2, 3], %k: i64[], %w: f64[3, 3], %b: f64[3], %s: f64[2, 3]) {
      %0 = contract %h, %w {spec=<[m, k] * [n, k] -> [m, n] over k>} : f64[2, 3]
      %1 = reshape %b {shape=(1, 3)} : f64[1, 3]
      %2 = expand %1 {shape=(2, 3)} : f64[2, 3]
      %3 = add %0, %2 : f64[2, 3]
      %4 = add %3, %x : f64[2, 3]
      %5 = tanh %4 : f64[2, 3]
      %6 = mul %5, %s : f64[2, 3]
      %7 = add %n, %k : i64[]
      %8 = exp %6 : f64[2, 3]
      %9 = reduce_sum %8 {axes=(1,), order="lanes"} : f64[2]
      return %6, %7, %8, %9
    }
  }
  return %0, %2, %3, %4
}
"""

#: One that adds up: the cotangent of %w is carried from step to step.
SUMS = """
graph(%h: f64[3], %xs: f64[4, 3], %w: f64[3]) {
  %0, %1 = scan %h, %xs, %w {carries=1, length=4, previous=(), reverse=true, scanned=1} : f64[3], f64[4, 3] {
    graph step(%h: f64[3], %x: f64[3], %w: f64[3]) {
      %0 = mul %h, %w : f64[3]
      %1 = add %0, %x : f64[3]
      %2 = sin %1 : f64[3]
      return %1, %2
    }
  }
  return %0, %1
}
"""

NESTED = """
graph(%h: f64[3], %xs: f64[2, 3, 3], %w: f64[3]) {
  %0, %1 = scan %h, %xs, %w {carries=1, length=2, previous=(), reverse=false, scanned=1} : f64[3], f64[2] {
    graph outer(%h: f64[3], %x: f64[3, 3], %w: f64[3]) {
      %0, %1 = scan %h, %x, %w {carries=1, length=3, previous=(), reverse=true, scanned=1} : f64[3], f64[3] {
        graph inner(%h: f64[3], %x: f64[3], %w: f64[3]) {
          %0 = mul %h, %w : f64[3]
          %1 = add %0, %x : f64[3]
          %2 = reduce_sum %1 {axes=(0,), order="lanes"} : f64[]
          return %1, %2
        }
      }
      %2 = tanh %0 : f64[3]
      %3 = reduce_prod %1 {axes=(0,), order="lanes"} : f64[]
      return %2, %3
    }
  }
  return %0, %1
}
"""

#: A carry that passes nothing on, and one that is only handed on.
ODD = """
graph(%a: f64[2], %b: f64[2], %xs: f64[3, 2]) {
  %0, %1, %2 = scan %a, %b, %xs
      {carries=2, length=3, previous=(1,), reverse=false, scanned=1} : f64[2], f64[2], f64[3, 2] {
    graph step(%a: f64[2], %b: f64[2], %x: f64[2]) {
      %0 = mul %x, %x : f64[2]
      return %0, %b
    }
  }
  return %0, %1, %2
}
"""


def inputs_of(graph: Graph) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [random_array(v.type, rng) for v in graph.inputs]


@pytest.mark.parametrize("text", [CELL, SUMS, NESTED, ODD], ids=["cell", "sums", "nested", "odd"])
def test_first_and_second_derivative(text):
    rng = np.random.default_rng(2)
    graph = parse_graph(text)
    inputs = inputs_of(graph)
    gradients = check_gradient(graph, inputs, rng)
    cts = [rng.normal(size=v.type.shape) for v in gradients.inputs[len(inputs) :]]
    check_gradient(gradients, [*inputs, *cts], rng)


@pytest.mark.parametrize("text", [CELL, SUMS, NESTED, ODD], ids=["cell", "sums", "nested", "odd"])
@pytest.mark.parametrize("which", [0, 1])
def test_one_output_alone_and_optimized(text, which):
    graph = parse_graph(text)
    graph = Graph(graph.inputs, graph.operations, (graph.outputs[which],))
    inputs = inputs_of(graph)
    gradients = check_gradient(graph, inputs, np.random.default_rng(3))
    rng = np.random.default_rng(4)
    given = [*inputs, *(rng.normal(size=v.type.shape) for v in gradients.inputs[len(inputs) :])]
    better = optimize(gradients, verify=True)
    for got, want in zip(interpret(better, given)[0], interpret(gradients, given)[0], strict=True):
        assert_same_bits(got, want)


def test_a_weight_of_a_contraction_gets_one_contraction_over_all_steps():
    graph = optimize(joint_graph(parse_graph(CELL), [4, 5]).graph)
    specs = [str(op.attrs["spec"]) for op in graph.operations if op.opdef is ops.contract]
    assert specs == ["[t0, k, n] * [t0, k, m] -> [n, m] over t0, k"] or len(specs) == 1
    outer = [op for op in graph.operations if op.opdef is ops.scan][-1]
    assert outer.attrs["reverse"] is True
    assert outer.attrs["carries"] == 1


def written_out(graph: Graph) -> Graph:
    """The graph with its one scan as operations for each step."""
    (scan,) = graph.operations
    parts = Parts.of(scan)
    operations: list[Operation] = []
    carries = list(scan.operands[: parts.carries])
    last: list[Value] = []
    for t in range(parts.length)[::-1] if parts.reverse else range(parts.length):
        slices = []
        for x in scan.operands[parts.carries : parts.carries + parts.scanned]:
            rest = x.type.shape[1:]
            cut = Value(x.type.with_shape((1, *rest)))
            zeros, ones = (0,) * len(rest), (1,) * len(rest)
            attrs = {"starts": (t, *zeros), "stops": (t + 1, *rest), "steps": (1, *ones)}
            operations.append(Operation(ops.slice_, (x,), attrs, (cut,)))
            slices.append(Value(x.type.with_shape(rest)))
            operations.append(Operation(ops.reshape, (cut,), {"shape": rest}, (slices[-1],)))
        given = (*carries, *slices, *scan.operands[parts.carries + parts.scanned :])
        mapped = dict(zip(parts.body.inputs, given, strict=True))
        operations += renamed(parts.body.operations, mapped)
        carries = [mapped[v] for v in parts.next]
        last = carries
    return Graph(graph.inputs, tuple(operations), (last[0],))


def test_what_is_added_up_is_as_in_the_loop_written_out():
    graph = parse_graph(SUMS)
    graph = Graph(graph.inputs, graph.operations, (graph.outputs[0],))
    loop = written_out(graph)
    verify_graph(loop)
    inputs = [*inputs_of(graph), np.random.default_rng(5).normal(size=3)]
    want = interpret(joint_graph(loop, [0, 1, 2]).graph, inputs)[0]
    got = interpret(joint_graph(graph, [0, 1, 2]).graph, inputs)[0]
    for g, w in zip(got, want, strict=True):
        assert_same_bits(g, w)


def test_parts_are_put_together_again():
    graph = parse_graph("""
        graph(%x: f64[2, 6]) {
          %0, %1, %2 = split %x {axis=1, sizes=(1, 3, 2)} : f64[2, 1], f64[2, 3], f64[2, 2]
          %3 = mul %1, %1 : f64[2, 3]
          return %0, %3
        }""")
    verify_graph(graph)
    inputs = inputs_of(graph)
    gradients = check_gradient(graph, inputs, np.random.default_rng(6))
    assert gradients.operations[-1].opdef is ops.concat
    made = optimize(graph, verify=True)
    assert ops.split not in {op.opdef for op in made.operations}
    for got, want in zip(interpret(made, inputs)[0], interpret(graph, inputs)[0], strict=True):
        assert_same_bits(got, want)
