"""Every invariant of a graph, broken once, with the message."""

import pytest
from vitrify.ir import ops
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dtypes import float32, int64
from vitrify.ir.errors import VerifyError
from vitrify.ir.expr import symbol
from vitrify.ir.graph import Graph, Location, Operation, Value
from vitrify.ir.parser import parse_graph
from vitrify.ir.types import TensorType
from vitrify.ir.verifier import verify_graph

from tests.random_graphs import random_graph

F4 = TensorType(float32, (4,))


def call(region, attrs=' {name="c"}'):
    """A graph of one call with this region."""
    return f"graph(%a: f32[4]) {{ %0 = call %a{attrs} : f32[4] {{ {region} }} return %0 }}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "graph(%a: f32[4]) { %0 = exp %a : f32[5] return %0 }",
            r"%0 = exp: has results \(f32\[5\]\), expected \(f32\[4\]\)",
        ),
        ("graph(%a: f32[4]) { %0 = add %a : f32[4] return %0 }", "%0 = add: add takes 2 operands, got 1"),
        (
            "graph(%a: f32[4], %b: f32[5]) { %0 = add %a, %b : f32[4] return %0 }",
            r"operands must have one type, got f32\[4\], f32\[5\]",
        ),
        ("graph(%a: f32[4]) { %0 = exp %a {x=1} : f32[4] return %0 }", "unexpected keyword argument 'x'"),
        ("graph(%a: f32[4]) { %0 = reshape %a : f32[4] return %0 }", "missing .* argument: 'shape'"),
        (
            "graph(%a: f32[4]) { %0 = exp %a : f32[4] { graph() { return } } return %0 }",
            "%0 = exp: has 1 regions, expected none",
        ),
        (call("graph(%b: f32[4]) { return %b }", ""), r"has attributes \(\), expected a name"),
        (call("graph(%b: f32[5]) { return %b }"), r"its region takes \(f32\[5\]\), expected \(f32\[4\]\)"),
        (call("graph(%b: f32[4]) { return }"), r"has results \(f32\[4\]\), expected \(\)"),
        (call("graph(%b: f32[4]) { update %b = %b return %b }"), "its region updates an input"),
        (call("graph(%b: f32[4] strides(1)) { return %b }"), "its region's inputs have strides"),
        (
            call("graph(%b: f32[4]) { %1 = exp %b : f32[5] return %b }"),
            r"%0 = exp in the region of %0 = call: has results \(f32\[5\]\)",
        ),
        (
            "graph(%a: f32[4] strides(1, 2)) { return %a }",
            r"input %a: has 2 strides, expected 1 for f32\[4\]",
        ),
        (
            "graph(%a: f32[4]) { %0 = exp %a : f32[4] update %0 = %a return }",
            "update %0: targets a value that is not an input",
        ),
        ("graph(%a: f32[4]) { update %a = %a update %a = %a return }", "update %a: comes twice"),
        (
            "graph(%a: f32[4], %b: f32[5]) { update %a = %b return }",
            r"update %a: has type f32\[5\], expected f32\[4\]",
        ),
        (
            "graph() { %0 = iota {axis=0, dtype=i64, shape=(s0,)} : i64[s0] return %0 }",
            r"%0 = iota: i64\[s0\] has the size s0, which no input of the graph has",
        ),
        (
            'graph(%a: bool[2]) { check %a {error="IndexError", message=""} return }',
            r"check needs bool\[\], got",
        ),
        (
            'graph(%a: bool[]) { check %a {error="OSError", message=""} return }',
            "check can raise .*, not OSError",
        ),
    ],
)
def test_what_a_text_can_break(text, message):
    with pytest.raises(VerifyError, match=message):
        verify_graph(parse_graph(text))


def _exp(x: Value) -> Operation:
    return Operation(ops.exp, (x,), {}, (Value(x.type),))


def test_a_value_used_before_it_is_defined():
    a = Value(F4, "a")
    first, second = _exp(a), None
    second = _exp(first.result)
    with pytest.raises(VerifyError, match="%0 = exp: %1 is defined later"):
        verify_graph(Graph((a,), (second, first), (second.result,)))


def test_a_value_of_another_graph():
    a, stranger = Value(F4, "a"), Value(F4, "stranger")
    op = _exp(stranger)
    with pytest.raises(VerifyError, match="%0 = exp: %stranger is not a value of this graph"):
        verify_graph(Graph((a,), (op,), (op.result,)))
    with pytest.raises(VerifyError, match="return: %stranger is not a value of this graph"):
        verify_graph(Graph((a,), (), (stranger,)))


def test_a_region_that_captures():
    outer = Value(F4, "outer")
    op = _exp(outer)
    region = Graph((), (op,), (op.result,))
    call = Operation(ops.call, (), {"name": "c"}, (Value(F4),), (region,))
    with pytest.raises(
        VerifyError, match="%0 = exp in the region of %0 = call: %outer is not a value of this graph"
    ):
        verify_graph(Graph((outer,), (call,), (call.result,)))


def test_a_value_defined_twice():
    a = Value(F4, "a")
    op = _exp(a)
    with pytest.raises(VerifyError, match="%0 = exp: %0 is defined twice"):
        verify_graph(Graph((a,), (op, op), (op.result,)))
    with pytest.raises(VerifyError, match="input %a: %a is defined twice"):
        verify_graph(Graph((a, a), (), (a,)))


def test_results_and_operations_name_each_other():
    a = Value(F4, "a")
    op = _exp(a)
    with pytest.raises(VerifyError, match="input %0: is also the result of a exp"):
        verify_graph(Graph((op.result,), (), (op.result,)))
    op.result.operation = None
    with pytest.raises(VerifyError, match="%0 = exp: %0 does not name it as its operation"):
        verify_graph(Graph((a,), (op,), (op.result,)))


def test_attributes_that_have_no_text_and_lines_that_are_none():
    a = Value(F4, "a")
    op = Operation(ops.reshape, (a,), {"shape": [4]}, (Value(F4),))
    with pytest.raises(VerifyError, match="attribute shape: .* can't be an attribute\n.*can't be printed"):
        verify_graph(Graph((a,), (op,), (op.result,)))
    op = Operation(ops.exp, (a,), {}, (Value(F4),), (), Location("f.py", -1))
    with pytest.raises(VerifyError, match="its line is -1"):
        verify_graph(Graph((a,), (op,), (op.result,)))


def test_the_message_ends_with_the_graph():
    with pytest.raises(VerifyError) as caught:
        verify_graph(parse_graph("graph(%a: f32[4]) { %0 = exp %a : f32[5] return %0 }"))
    assert "graph(%a: f32[4]) {\n  %0 = exp %a : f32[5]\n" in str(caught.value)


def test_valid_graphs_pass():
    build = GraphBuilder()
    x = build.input(TensorType(float32, (symbol("s0"), 3)), strides=(symbol("s1"), 1))
    y = build(ops.iota, shape=(symbol("s1"),), axis=0, dtype=int64)
    verify_graph(build.finish([x, y, x], [(x, x)]))
    for seed in range(20):
        verify_graph(random_graph(seed).graph)
