"""Kernels and plans as text: exact round trips, and errors with line and column."""

import inspect
import textwrap

import pytest
from vitrify.ir import kernel as kernel_module
from vitrify.ir.errors import ParseError
from vitrify.ir.kernel import Contract, Loop, Reduce
from vitrify.ir.kernel_text import parse_kernel, print_kernel
from vitrify.ir.kernel_verifier import verify_kernel
from vitrify.ir.plan_text import parse_plan, print_plan
from vitrify.ir.plan_verifier import verify_plan

ALL = """\
kernel "odd name"(%x: f32[s0*s1] in, %i: i64[4] in, %t: f32[3] temp, %y: f32[s0*s1] inout; s0, s1) {
  parallel i < s0 {
    %k = load %i[i] : i64
    %ok = ge %k, %k : bool
    check %ok code 3
    %c = const f32(-0.0) : f32
    %g = load %x[%k*s1 + 3] when 0 <= %k < s1, i <= i + 1 < 4*s0 else f32(0.0) : f32
    %last, %last2 = serial q < 4 carry %acc = %g, %acc2 = %c {
      %n = add %acc, %acc2 : f32
      yield %n, %acc
    }
    %ii = index (%k % 4) + 4*i : i64
    %fl = cast %ii {dtype=f32} : f32
    %cc = contract %x[m*s1 + k] * %x[4*k + n] over k < s1 for m < 4, n < 10 : f32 {
      %r = add %cc, %last : f32
      store %y[m*s1 + n], %r when 0 <= m < 3
    }
    local %room: f32[40]
    %pad = contract %x[m] * %x[n] over k < 3 inside 0 <= k + m - 1 < 4, 2 <= n < s1 for m < 4, n < 10 : f32 {
      store %y[m + 4*n], %pad
    }
    %dot = contract %x[m] * %x[n] over k < 3 when 0 <= m - n + 1 from %room[m + 4*n] for m < 4, n < 10 : f32 {
      store %y[m*s1 + n], %dot
    }
    vector j < s1 {
      store %y[i*s1 + j], %fl
    }
    %rr = reduce_sum rows a < 4, b < s1 : f32 {
      yield %c
    }
    %am = argmax lanes a < 4 : i64 {
      yield %rr
    }
  }
}
"""

PLAN = """\
plan step(s0, s1) arena 64*s0 + 64 {
  kernel copy(%x: f32[n] in, %y: f32[n] out; n) {
    vector i < n {
      %0 = load %x[i] : f32
      store %y[i], %0
    }
  }
  kernel fail(%y: bool[1] in) {
    %0 = load %y[0] : bool
    check %0 code 1
  }
  buffer %in0: f32[s0*s1] input 0
  buffer %out0: f32[s0*s1] output 0
  buffer %c: bool[1] constant bool[1](true)
  buffer %t: f32[s0*s1] arena at 64
  check 1 IndexError "index \\"i\\" is bad" @ "f.py":4
  call fail(%c)
  call copy(%in0, %t; s0*s1) @ "g.py":3
  call copy(%t, %out0; s0*s1)
  call copy(%t, %in0; s0*s1)
  update 0
  return %out0: f32[s0, s1], %in0: f32[s0, s1]
}
"""


def documented_kernel():
    """The example in the module's docstring."""
    doc = inspect.getdoc(kernel_module)
    start = doc.index("    kernel softmax")
    return textwrap.dedent(doc[start : doc.index("How statements")]).strip() + "\n"


@pytest.mark.parametrize(
    "text", [ALL, documented_kernel(), "kernel nothing() {\n}\n", "kernel k(; n) {\n}\n"]
)
def test_kernels_round_trip(text):
    kernel = parse_kernel(text)
    assert print_kernel(kernel) == text
    verify_kernel(kernel)


def test_a_kernel_walks_its_statements_outer_first():
    statements = list(parse_kernel(ALL).statements())
    assert len(statements) == 22
    assert [type(s) for s in statements if isinstance(s, Loop | Reduce | Contract)] == [
        Loop, Loop, Contract, Contract, Contract, Loop, Reduce, Reduce,
    ]  # fmt: skip


def test_plans_round_trip():
    plan = parse_plan(PLAN)
    assert print_plan(plan) == PLAN
    assert [b.name for b in plan.external] == ["in0", "out0", "c"]
    verify_plan(plan)


def test_an_empty_plan_round_trips():
    text = "plan graph() arena 0 {\n  return\n}\n"
    assert print_plan(parse_plan(text)) == text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("%0 = load %x[i : f32", "expected ']', found ':'"),
        ("%0 = lode %x[0] : f32", "there is no operation 'lode'"),
        ("%0 = exp %1 : f32", "line 2, column 10: %1 is not defined before this"),
        ("%0 = const f32(1.0) : f32\n%0 = const f32(1.0) : f32", "line 3, column 1: %0 is defined twice"),
        ("%0 = const 1.0 : f32", r"expected a literal such as f32\(1.5\)"),
        ("%0 = const f32(1.0) : g32", "expected a dtype such as f32"),
        ("%0, %1 = const f32(1.0) : f32", "const has one result, got 2"),
        ("load %x[0] : f32", "load has one result, got 0"),
        ("%0 = load %x[0] when 0 < 1 : f32", "expected '<='"),
        ("vector i < {}", "expected a number, a name or a bracket"),
        ("parallel i {}", "expected '<'"),
        ("%0 = reduce_sum lanes j < 3 : f32 {}", "a reduction yields one value, got 0"),
        ("%0 = serial j < 3 {}", "0 carried values, 0 yielded, 1 results"),
        ("%0 = contract %x[m] * %x[n] when 1 <= m for m < 3, n < 3 : f32 {}", "are given as 0 <= an"),
        ("%0 = contract %x[m] * %x[n] for m < 3 : f32 {}", "a contraction runs for two axes, m and n, got 1"),
        ("yield", "a kernel yields nothing"),
        ("check %x code 1", "%x is not defined before this"),
        ("+", "expected a statement, found '\\+'"),
    ],
)
def test_kernel_errors(body, message):
    if body == "yield":
        body = "%0 = const f32(1.0) : f32\nyield %0"
    with pytest.raises(ParseError, match=message):
        parse_kernel(f"kernel k(%x: f32[4] in) {{\n{body}\n}}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kernel k(%x: f32[4] on) {}", "expected inout, in, out, stream, temp, found 'on\\)'"),
        ("kernel k(%x: f32[4] in; ) {}", "expected a size"),
        ("kernel k() {} k", "expected the end of the text"),
        (
            "plan p() arena 0 { buffers }",
            "expected kernel, buffer, check, call, copy, repeat, update or return, found 'buffers'",
        ),
        (
            "plan p() arena 0 { buffer %x: f32[4] output2 0 return }",
            "expected input, kept, output, constant or arena",
        ),
        ("plan p() { return }", "expected 'arena'"),
        ("plan p() arena 0 { return } x", "expected the end of the text"),
        ("plan p() arena 0 { call k(x) return }", r"expected '\)', found 'x\)'"),
    ],
)
def test_errors_of_heads_and_plans(text, message):
    with pytest.raises(ParseError, match=message):
        parse_kernel(text) if text.startswith("kernel") else parse_plan(text)
