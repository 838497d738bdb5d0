"""What random graphs have found, each cut down to a few operations."""

from __future__ import annotations

import numpy as np
import pytest
from vitrify.ir.interpreter import interpret
from vitrify.ir.parser import parse_graph

from tests.differential.test_random_graphs import run_compiled
from tests.support import assert_same_bits, random_array

FOUND = {
    # The square root and the pad became one kernel; the maximum needs the one and is needed by the other.
    "a group whose unstored value is computed anew elsewhere": """
        graph(%a: f32[3], %b: f32[3]) {
          %0 = sqrt %a : f32[3]
          %1 = mul %0, %0 : f32[3]
          %2 = flip %1 {axes=(0,)} : f32[3]
          %3 = concat %1, %b {axis=0} : f32[6]
          %4 = reduce_max %3 {axes=(0,), order="lanes"} : f32[]
          %5 = floor %4 : f32[]
          %6 = mul %5, %5 : f32[]
          %7 = pad %2, %6 {hi=(1,), interior=(1,), lo=(2,)} : f32[8]
          return %0, %7
        }""",
    # The ninth column was written where the first one belongs.
    "a transposing copy with one column left over": """
        graph(%a: f64[4, 16, 17]) {
          %0 = window %a {axes=(1,), dilations=(1,), sizes=(9,), strides=(3,)} : f64[4, 3, 17, 9]
          %1 = permute %0 {perm=(0, 1, 2, 3)} : f64[4, 3, 17, 9]
          return %1
        }""",
    # An index that is only a label has to run along all of its axis.
    "a convolution that reads a part of an axis at one place": """
        graph(%x: f32[1, 4, 2], %w: f32[3, 2, 5]) {
          %0 = contract %x, %w {spec=<[n, k + o, c] * [k, c, d] -> [n, o, d] over k, c where o = 1>}
            : f32[1, 1, 5]
          %1 = reshape %0 {shape=(1, 1, 1, 5)} : f32[1, 1, 1, 5]
          return %1
        }""",
    # It was taken for something to be computed.
    "a constant that all steps of a scan share": """
        graph(%a: f32[2], %xs: f32[3, 2]) {
          %0 = scan %a, %xs {carries=1, length=3, previous=(), reverse=false, scanned=1} : f32[2] {
            graph step(%c: f32[2], %x: f32[2]) {
              %0 = constant {value=f32[2](1.0, 2.0)} : f32[2]
              %1 = mul %0, %0 : f32[2]
              %2 = mul %1, %x : f32[2]
              %3 = add %c, %2 : f32[2]
              return %3
            }
          }
          return %0
        }""",
}


@pytest.mark.parametrize("name", FOUND)
def test_found(name: str) -> None:
    graph = parse_graph(FOUND[name])
    rng = np.random.default_rng(0)
    inputs = [np.abs(random_array(v.type, rng)) for v in graph.inputs]
    outputs, _ = run_compiled(graph, inputs)
    for got, want in zip(outputs, interpret(graph, inputs)[0], strict=True):
        assert_same_bits(got, want, name)
