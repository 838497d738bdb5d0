"""Graphs as text: exact round trips for every kind of attribute, and errors with line and column."""

import math
import textwrap
import time

import numpy as np
import pytest
from vitrify.ir import dtypes, ops
from vitrify.ir.attr_text import parse_attr, print_attr
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.contraction import contract_spec
from vitrify.ir.dtypes import bool_, complex64, float16, float32, float64, int8, int64, uint8
from vitrify.ir.errors import IRError, ParseError
from vitrify.ir.expr import symbol
from vitrify.ir.graph import Graph, Location, Value
from vitrify.ir.parser import parse_graph
from vitrify.ir.printer import print_graph
from vitrify.ir.scanner import Scanner
from vitrify.ir.types import Literal, TensorType

from tests.random_graphs import random_graph

MLP = """\
graph mlp(%x: f32[64, 784], %w: f32[10, 784], %b: f32[10] strides(2)) {
  %0 = contract %x, %w {spec=<[m, k] * [n, k] -> [m, n] over k>} : f32[64, 10] @ "train.py":12
  %1 = reshape %b {shape=(1, 10)} : f32[1, 10]
  %2 = expand %1 {shape=(64, 10)} : f32[64, 10]
  %3 = add %0, %2 : f32[64, 10] @ "dir with \\"quotes\\"/é.py":3
  %4, %sums = call %3 {name="pair"} : f32[64, 10], f32[64] @ "train.py":13 {
    graph body(%a: f32[64, 10]) {
      %0 = reduce_sum %a {axes=(1,), order="lanes"} : f32[64]
      return %a, %0
    }
  }
  %5 = constant {value=bool(true)} : bool[]
  check %5 {error="IndexError", message="a \\"b\\"\\n"}
  update %x = %x
  update %b = %b
  return %3, %4
}
"""

SYMBOLIC = """\
graph(%x: f32[s0, 2*s1] strides(2*s1 + 4, 1)) {
  %0 = expand %x {shape=(s0, 2*s1)} : f32[s0, 2*s1]
  %1 = reshape %0 {shape=(2, s0, s1)} : f32[2, s0, s1]
  %2 = slice %1 {starts=(0, 0, 0), steps=(1, 1, 2), stops=(2, s0, s1)} : f32[2, s0, ((s1 + 1) // 2)]
  return %2
}
"""

EMPTY = "graph() {\n  return\n}\n"


@pytest.mark.parametrize("text", [MLP, SYMBOLIC, EMPTY])
def test_graphs_round_trip(text):
    assert print_graph(parse_graph(text)) == text


def test_locations_can_be_left_out():
    graph = parse_graph(MLP)
    assert graph.operations[0].location == Location("train.py", 12)
    assert "train.py" not in print_graph(graph, locations=False)
    assert "@" not in print_graph(graph, locations=False)


def test_comments_and_layout_do_not_matter():
    text = textwrap.dedent("""
        # a comment
        graph ( %a :f32[4] ){ %b=exp %a:f32[4]  # of a
          return %b}
        """)
    assert print_graph(parse_graph(text)) == "graph(%a: f32[4]) {\n  %b = exp %a : f32[4]\n  return %b\n}\n"


def test_numbers_are_given_anew_and_names_kept():
    text = "graph(%7: f32[], %x.1: f32[]) {\n %9 = exp %7 : f32[]\n %y = exp %9 : f32[]\n return %y\n}"
    printed = print_graph(parse_graph(text))
    assert printed.splitlines()[0] == "graph(%0: f32[], %x.1: f32[]) {"
    assert printed.splitlines()[1:3] == ["  %1 = exp %0 : f32[]", "  %y = exp %1 : f32[]"]


def test_a_name_that_is_taken_or_no_word_becomes_a_number():
    a, b, c = (Value(TensorType(float32), name) for name in ("x", "x", "no word"))
    text = print_graph(Graph((a, b, c), (), (c, b, a), name="odd name"))
    assert text == 'graph "odd name"(%x: f32[], %0: f32[], %1: f32[]) {\n  return %1, %0, %x\n}\n'
    assert print_graph(parse_graph(text)) == text


ATTRS = [
    0,
    -3,
    1.5,
    -0.0,
    1e-45,
    1e300,
    math.inf,
    -math.inf,
    True,
    False,
    "",
    'a "b" \n é',
    float32,
    bool_,
    (),
    (1,),
    (1, 2.0, ("x", ())),
    symbol("s0"),
    symbol("s0") // 2,
    (symbol("s0") * 2 - 1, 3),
    symbol("f32"),
    symbol("nan") + 1,
    contract_spec("m k", "k n", "m n", "k"),
    Literal.of(1.5, float32),
    (Literal.of([1, 2], int64), float64),
]


@pytest.mark.parametrize("value", ATTRS, ids=map(str, range(len(ATTRS))))
def test_attributes_round_trip(value):
    text = print_attr(value)
    scanner = Scanner(text + ",")
    back = parse_attr(scanner)
    assert scanner.peek(","), f"{text!r} is not read to its end"
    assert (type(back), back, print_attr(back)) == (type(value), value, text)


def test_nan_round_trips():
    assert math.isnan(parse_attr(Scanner(print_attr(math.nan))))


@pytest.mark.parametrize("value", [np.int64(3), None, [1], b"x", np.ones(2)])
def test_other_things_are_no_attributes(value):
    with pytest.raises(IRError, match="can't be an attribute"):
        print_attr((value,))


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        (Literal.of(1.5, float32), "f32(1.5)"),
        (Literal.of(0.1, float32), "f32(0.1)"),
        (Literal.of(-0.0, float64), "f64(-0.0)"),
        (Literal.of(math.inf, float16), "f16(inf)"),
        (Literal.of(math.nan, float32), "f32(nan)"),
        (Literal.of([[1, -2]], int8), "i8[1, 2](1, -2)"),
        (Literal.of([True, False], bool_), "bool[2](true, false)"),
        (Literal.of(np.zeros((0, 3)), uint8), "u8[0, 3]()"),
        (Literal.of(1 + 2j, complex64), 'c64("AACAPwAAAEA=")'),
        (Literal(dtypes.bfloat16, (), b"\x80\x3f"), 'bf16("gD8=")'),
        (Literal(float32, (), b"\x01\x00\xc0\x7f"), 'f32("AQDAfw==")'),
    ],
)
def test_literals_print_readably_and_read_back_to_the_bit(literal, text):
    assert print_attr(literal) == text
    assert parse_attr(Scanner(text)) == literal


@pytest.mark.parametrize("dtype", [d for d in dtypes.ALL if d is not dtypes.bfloat16], ids=str)
def test_random_literals_round_trip(dtype):
    rng = np.random.default_rng(0)
    for shape in [(), (3,), (2, 4), (50,), (0,)]:
        data = rng.integers(0, 256, math.prod(shape) * dtype.itemsize, np.uint8)
        if dtype is bool_:
            data &= 1
        literal = Literal(dtype, shape, data.tobytes())
        assert parse_attr(Scanner(print_attr(literal))) == literal


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs_round_trip(seed):
    text = print_graph(random_graph(seed).graph)
    assert print_graph(parse_graph(text)) == text


def test_two_thousand_operations_are_read_in_well_under_a_second():
    build = GraphBuilder()
    value = build.input(TensorType(float32, (4, symbol("s0"))))
    for number in range(2000):
        build.location = Location("train.py", number)
        value = build(ops.reduce_sum, value, axes=(), order="lanes")
    text = print_graph(build.finish([value]))
    start = time.perf_counter()
    parse_graph(text)
    assert time.perf_counter() - start < 2  # 0.1 s on an idle core


ERRORS = [
    (
        "graph(%a: f32[4]) {\n  %0 = expp %a : f32[4]\n  return %0\n}",
        "line 2, column 8: there is no operation 'expp'",
    ),
    ("graph(%a: f32[4]) {\n  %0 = exp %b : f32[4]\n}", r"line 2, column 12: %b is not defined here"),
    ("graph(%a: f32[4]) {\n  %a = exp %a : f32[4]\n}", "line 2, column 3: %a is defined twice"),
    ("graph(%a: f32[4], %a: f32[4]) {}", "line 1, column 19: %a is defined twice"),
    ("graph(%a: f32[4]) {\n  %0, %1 = exp %a : f32[4]\n}", "line 2, column 3: 2 results, but 1 types"),
    ("graph(%a: f32[4]) {\n  %0 = exp %a\n}", "line 3, column 1: expected ':', found '}'"),
    ("graph(%a: g32[4]) {}", "column 11: 'g32\\[4\\]' is not a type: there is no dtype 'g32'"),
    ("graph(%a: f32[-4]) {}", r"'f32\[-4\]' is not a type: a size is negative"),
    ("graph(%a: f32[4 +]) {}", "is not a type: .*expected a number"),
    ("graph(%a: 32) {}", r"expected a type such as f32\[2, 3\], found '32\)'"),
    ("graph(a: f32[4]) {}", r"expected a value \(%name\), found 'a:'"),
    ("graph(%a: f32[4]) {\n  return %a", "line 2, column 12: expected '}', found the end of the text"),
    ("graph() {\n  return\n} x", "line 3, column 3: expected the end of the text, found 'x'"),
    ("graf() {}", "line 1, column 1: expected 'graph', found 'graf"),
    ("graph() {\n 3\n}", "expected an operation, update or return, found '3'"),
    (
        "graph() {\n  %0 = iota {axis=0, axis=1} : i64[1]\n}",
        "line 2, column 22: the attribute axis is given twice",
    ),
    ("graph() {\n  %0 = iota {axis} : i64[1]\n}", "expected '=', found '}'"),
    ("graph() {\n  %0 = iota {axis=-true} : i64[1]\n}", "'-true' is not a value"),
    ("graph() {\n  %0 = iota {shape=(1)} : i64[1]\n}", r"expected ',', found '\)}'"),
    ("graph() {\n  %0 = iota {axis=+} : i64[1]\n}", "column 19: expected a number, a name or a bracket"),
    ("graph() {\n  %0 = iota {spec=<m, k>} : i64[1]\n}", "expected an operator"),
    ("graph() {\n  %0 = iota {spec=<[m] nonsense>} : i64[1]\n}", "not a contraction"),
    ("graph() {\n  %0 = iota {spec=<[m} : i64[1]\n}", "expected an expression or a contraction in <...>"),
    ('graph() {\n  %0 = iota {a="\\x"} : i64[1]\n}', "column 16: this is not a valid string"),
    (
        "graph() {\n  %0 = constant {value=f32(a)} : f32[]\n}",
        r"column 24: this is not a f32\[\]: could not convert",
    ),
    ("graph() {\n  %0 = constant {value=u8(300)} : u8[]\n}", r"this is not a u8\[\]"),
    ("graph() {\n  %0 = constant {value=bool(1)} : bool[]\n}", "1 is not true or false"),
    ("graph() {\n  %0 = constant {value=f32[2](1)} : f32[2]\n}", r"this is not a f32\[2\]: cannot reshape"),
    ('graph() {\n  %0 = constant {value=f32[2]("AAAA")} : f32[2]\n}', "3 bytes, expected 8"),
    ('graph() {\n  %0 = constant {value=f32[2]("A")} : f32[2]\n}', "bad base64"),
    ("graph() {\n  %0 = constant {value=f32[2]} : f32[2]\n}", "expected a literal such as"),
    ('graph() {\n  %0 = iota {axis=0} : i64[1] @ "f.py"\n}', "expected ':', found '}'"),
    ("graph() {\n  %0 = iota {axis=0} : i64[1] @ f.py:1\n}", "expected a string, found 'f.py:1'"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS, ids=map(str, range(len(ERRORS))))
def test_parse_errors(text, message):
    with pytest.raises(ParseError, match=message):
        parse_graph(text)


def test_a_parse_error_shows_the_line_and_the_place():
    with pytest.raises(ParseError) as caught:
        parse_graph("graph(%a: f32[4]) {\n  %0 = expp %a : f32[4]\n  return %0\n}")
    assert str(caught.value).splitlines()[1:] == ["  %0 = expp %a : f32[4]", "       ^"]
