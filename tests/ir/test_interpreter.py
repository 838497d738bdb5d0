"""The graph interpreter: inputs and sizes, regions, updates, errors."""

import numpy as np
import pytest
from vitrify.ir import ops
from vitrify.ir.contraction import contract_spec
from vitrify.ir.errors import IRError
from vitrify.ir.expr import symbol
from vitrify.ir.interpreter import evaluate, interpret, static_attr
from vitrify.ir.narrow import widened
from vitrify.ir.opdef import bind
from vitrify.ir.parser import parse_graph

from tests.random_graphs import random_graph
from tests.support import assert_same_bits


def run(text, *inputs, **sizes):
    return interpret(parse_graph(text), inputs, sizes)


def test_outputs_and_updates():
    x, y = np.arange(4.0), np.ones(4)
    kept = x.copy()
    outputs, updates = run(
        """graph(%x: f64[4], %y: f64[4]) {
          %0 = add %x, %y : f64[4]
          %1 = mul %0, %0 : f64[4]
          update %y = %x
          update %x = %1
          return %0, %x
        }""",
        x, y,
    )  # fmt: skip
    assert_same_bits(outputs[0], kept + 1)
    assert_same_bits(outputs[1], kept)
    assert_same_bits(updates[0], kept)
    assert_same_bits(updates[1], (kept + 1) ** 2)
    assert_same_bits(x, kept)


def test_a_call_runs_its_region():
    outputs, _ = run(
        """graph(%x: i64[2]) {
          %0, %1 = call %x {name="both"} : i64[2], i64[2] {
            graph(%a: i64[2]) {
              %0 = neg %a : i64[2]
              return %0, %a
            }
          }
          %2 = sub %0, %1 : i64[2]
          return %2
        }""",
        np.array([1, 2]),
    )
    assert outputs[0].tolist() == [-2, -4]


SYMBOLIC = """graph(%x: f32[s0, s1]) {
  %0 = reshape %x {shape=(s0*s1,)} : f32[s0*s1]
  %1 = iota {axis=0, dtype=i64, shape=(s0 + 1,)} : i64[s0 + 1]
  return %0, %1
}"""


def test_symbolic_sizes_come_from_the_inputs():
    outputs, _ = run(SYMBOLIC, np.zeros((2, 3), np.float32))
    assert [o.shape for o in outputs] == [(6,), (3,)]


def test_sizes_that_no_input_shows_are_given():
    text = "graph(%x: f32[2*s0]) {\n  %0 = reshape %x {shape=(2, s0)} : f32[2, s0]\n  return %0\n}"
    assert run(text, np.zeros(6, np.float32), s0=3)[0][0].shape == (2, 3)
    with pytest.raises(IRError, match=r"the size s0 in 2\*s0 has no value"):
        run(text, np.zeros(6, np.float32))
    with pytest.raises(IRError, match=r"input %x of graph is float32\[6\], expected f32\[2\*s0\]"):
        run(text, np.zeros(6, np.float32), s0=4)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "graph takes 1 inputs, got 0"),
        ([np.zeros((2, 2), np.float32)], r"expected f32\[s0\], got an array of shape \(2, 2\)"),
        ([np.zeros(3)], r"input %x of graph is float64\[3\], expected f32\[s0\]"),
    ],
)
def test_wrong_inputs(inputs, message):
    with pytest.raises(IRError, match=message):
        interpret(parse_graph("graph(%x: f32[s0]) { return %x }"), inputs)


def test_two_inputs_that_disagree_on_a_size():
    with pytest.raises(IRError, match=r"the size s0 is 2 and, in i64\[s0\], 3"):
        run("graph(%x: i64[s0], %y: i64[s0]) { return %x }", np.zeros(2, np.int64), np.zeros(3, np.int64))


def test_errors_of_operations_come_through():
    check = 'graph(%x: bool[]) { check %x {error="IndexError", message="too far"} return }'
    assert run(check, np.array(True)) == ([], [])
    with pytest.raises(IndexError, match="too far"):
        run(check, np.array(False))
    gather = "graph(%x: f32[3], %i: i64[1]) { %0 = gather %x, %i {axes=(0,)} : f32[1] return %0 }"
    with pytest.raises(IndexError, match="index 3 is out of bounds for dimension 0 with size 3"):
        run(gather, np.zeros(3, np.float32), np.array([3]))
    divide = "graph(%x: i32[1]) { %0 = floor_div %x, %x : i32[1] return %0 }"
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        run(divide, np.zeros(1, np.int32))


def test_bfloat16_is_computed_with_in_float32_and_rounded_once():
    """1 + 2^-8 is a tie, which goes to the even 1; its halves lie in float32, not in bfloat16."""
    x = np.array([0x3F80, 0x3B80, 0x7FC0], np.uint16)  # 1, 2^-8, NaN
    total = 'graph(%x: bf16[3]) { %0 = reduce_sum %x {axes=(0,), order="lanes"} : bf16[] return %0 }'
    (y,), _ = run(total, x)
    assert np.isnan(widened(y))
    (y,), _ = run("graph(%x: bf16[3]) { %0 = add %x, %x : bf16[3] return %0 }", x)
    assert widened(y)[:2].tolist() == [2.0, 2.0**-7]
    (y,), _ = run(
        'graph(%x: bf16[2]) { %0 = reduce_sum %x {axes=(0,), order="lanes"} : bf16[] return %0 }', x[:2]
    )
    assert widened(y) == 1.0


def test_evaluate_one_operation():
    assert evaluate(bind(ops.reshape, shape=(symbol("n"), 2)), [np.arange(6)], {"n": 3}).shape == (3, 2)
    with pytest.raises(IRError, match="call has no meaning apart from its region"):
        evaluate(bind(ops.call, name="c"), [])
    with pytest.raises(IRError, match="check has no result"):
        evaluate(bind(ops.check, error="IndexError", message=""), [np.array(True)])


def test_sizes_in_attributes():
    n = symbol("n")
    spec = contract_spec("m k", "k", "m", "k", {"m": 2 * n})
    assert static_attr((n + 1, (n, "x", 1.5)), {"n": 3}) == (4, (3, "x", 1.5))
    assert static_attr(spec, {"n": 3, "m": 100}) == contract_spec("m k", "k", "m", "k", {"m": 6})


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_interpret_as_when_they_were_made(seed):
    made = random_graph(seed)
    made.assert_agrees(*interpret(made.graph, made.inputs))


def test_a_wrong_result_of_a_random_graph_is_noticed():
    made = random_graph(1)
    number = next(i for i, o in enumerate(made.outputs) if o.size)
    wrong = [o.copy() for o in made.outputs]
    flat = wrong[number].reshape(-1)
    flat[-1] = not flat[-1] if flat.dtype == bool else flat[-1] + 1
    with pytest.raises(AssertionError, match=f"seed 1, result {number}(.|\n)*graph random1"):
        made.assert_agrees(wrong, made.updates)
