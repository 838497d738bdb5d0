"""Every invariant of a kernel and of a plan, broken once, with the message."""

import dataclasses

import pytest
from vitrify.ir import ops
from vitrify.ir.dtypes import float32, int32
from vitrify.ir.errors import VerifyError
from vitrify.ir.kernel import Axis, Buffer, Compute, Const, Kernel, Loop, Reduce, Scalar, Store
from vitrify.ir.kernel_text import parse_kernel
from vitrify.ir.kernel_verifier import verify_kernel
from vitrify.ir.plan_text import parse_plan
from vitrify.ir.plan_verifier import verify_plan
from vitrify.ir.types import Literal

from tests.ir.test_kernel_text import PLAN

HEAD = "kernel k(%x: f32[n] in, %i: i64[n] in, %y: f32[n] out; n) {\n"
ONE = "%one = const f32(1.0) : f32\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("%0 = load %z[0] : f32", r"%0 = load %z\[0\] : f32: there is no buffer %z"),
        ("%0 = load %x[j] : f32", r"j is no size, axis or integer value in scope"),
        ("%0 = load %x[%v] : f32", r"%v is no size, axis or integer value in scope"),
        (ONE + "%0 = load %x[%one] : f32", r"%one is no size, axis or integer value in scope"),
        ("%0 = load %x[0] : f64", "the result is f64, expected f32"),
        ("%0 = load %x[0] when 0 <= q < n else f32(0.0) : f32", "q is no size"),
        ("%0 = load %x[0] when 0 <= n < n : f32", "a guarded load needs to say what it reads else"),
        ("%0 = load %x[0] else f32(0.0) : f32", "a load without a guard has no else"),
        ("%0 = load %x[0] when 0 <= n < n else f64(0.0) : f32", r"else is f64\[\], expected f32\[\]"),
        (ONE + "store %x[0], %one", "%x is only read"),
        ("%0 = load %i[0] : i64\nstore %y[0], %0", "the value is i64, expected f32"),
        ("%0 = const f64(1.0) : f32", r"the literal is f64\[\], expected f32\[\]"),
        ("%0 = const f32[1](1.0) : f32", r"the literal is f32\[1\], expected f32\[\]"),
        ("%0 = index n : i32", "has dtype i32, expected i64"),
        ("%0 = index j : i64", "j is no size"),
        (ONE + "check %one code 1", "%one is f32, expected bool"),
        ("%0 = const bool(true) : bool\ncheck %0 code 0", "the code is 0, expected a positive one"),
        (ONE + "%0 = exp %one : f64", "the result is f64, expected f32"),
        (ONE + "%0 = add %one : f32", "add takes 2 operands, got 1"),
        (ONE + "%0 = exp %one {dtype=f32} : f32", "unexpected keyword argument"),
        (ONE + "%0 = reshape %one {shape=()} : f32", "reshape is not elementwise"),
        ("parallel i < n {\n" + ONE + "}\nstore %y[0], %one", "%one is not in scope"),
        ("parallel i < n {\n%a = load %i[i] : i64\n}\n%0 = load %x[%a] : f32", "%a is no size"),
        ("parallel n < 3 {\n}", "the name n is already in use"),
        ("parallel i < 3 {\nserial i < 3 {\n}\n}", "the name i is already in use"),
        ("parallel i < m {\n}", "the extent of i uses m, expected the kernel's sizes only"),
        (
            "parallel i < n {\nvector j < i {\n}\n}",
            "the extent of j uses i, expected the kernel's sizes only",
        ),
        (ONE + "%f = parallel i < 3 carry %c = %one {\nyield %c\n}", "only a serial loop carries values"),
        (
            ONE + "%f = serial i < 3 carry %c = %one {\n%d = index i : i64\nyield %d\n}",
            "%c has dtypes f32, f32, i64",
        ),
        ("vector i < 3 {\nvector j < 3 {\n}\n}", "vector j < 3: can't stand inside a vector body"),
        ("vector i < 3 {\nparallel j < 3 {\n}\n}", "parallel j < 3: can't stand inside a vector body"),
        (
            "%0 = reduce_sum lanes j < 3 : f32 {\nvector i < 3 {\n}\n" + ONE + "yield %one\n}",
            "vector i < 3: can't stand inside a vector body",
        ),
        (
            "%0 = reduce_sum lane j < 3 : f32 {\n" + ONE + "yield %one\n}",
            "the order is lane, expected one of lanes",
        ),
        ("%0 = reduce_sum lanes j < 3 : i64 {\n" + ONE + "yield %one\n}", "the result is i64, expected f32"),
        ("%0 = argmax rows j < 3 : f32 {\n" + ONE + "yield %one\n}", "the result is f32, expected i64"),
        ("%0 = reduce_sum rows j < 3 : bool {\n%b = const bool(true) : bool\nyield %b\n}", "need a cast"),
        (
            ONE + "%0 = reduce_sum rows j < 3 : f32 {\n%j = load %x[j] : f32\nyield %j\n}\nstore %y[j], %0",
            "j is no size",
        ),
        ("%0 = contract %x[m] * %i[n] for m < 3, n < 3 : f32 {\n}", "are f32, f32, i64, not one dtype"),
        ("%0 = contract %x[m + n] * %x[n] for m < 3, n < 3 : f32 {\n}", "the name n is already in use"),
        ("%0 = contract %x[p + 2*q] * %x[q] for p < 3, q < 3 : f32 {\n}", "at steps of 2 along n"),
        ("%0 = contract %x[p + q] * %x[q] for p < 3, q < n : f32 {\n}", "a number of columns"),
        ("%0 = contract %x[p + q] * %x[q] when 0 <= p for p < 3, q < 3 : f32 {\n}", "all steps"),
        ("%0 = contract %x[p] * %x[q] when 0 <= 2*p for p < 3, q < 3 : f32 {\n}", "other than 1 and -1"),
        ("%0 = contract %x[p] * %x[q] when 0 <= r for p < 3, q < 3 : f32 {\n}", "r is no size, axis"),
        (
            "%0 = contract %x[p] * %x[q] inside 0 <= p*q < 3 for p < 3, q < 3 : f32 {\n}",
            "that are not known",
        ),
        ("%0 = contract %x[p] * %x[q] inside p <= q < 3 for p < 3, q < 3 : f32 {\n}", "change along an axis"),
        (
            "%0 = contract %x[p] * %x[q] when 0 <= p inside 0 <= q < 3 for p < 3, q < 3 : f32 {\n}",
            "both `when` and `inside`",
        ),
        ("%0 = contract %x[p] * %x[q + p] for p < 3, q < 3 : f32 {\n}", "rhs depends on m"),
        (
            "%0 = contract %x[p] * %x[q] over k < 3 for p < 3, q < 3 : f32 {\nstore %y[k], %0\n}",
            "k is no size",
        ),
        ("local %x: f32[3]", "there is a buffer %x already"),
        ("vector i < 3 {\nlocal %t: f32[3]\n}", "can't stand inside a vector"),
        (
            "parallel i < 3 {\nlocal %t: f32[3]\n}\n%1 = load %t[0] : f32",
            "there is no buffer %t",
        ),
        (
            "%0 = contract %x[p] * %x[q] over k < 3 from %i[p] for p < 3, q < 3 : f32 {\n}",
            "the sums go on from i64",
        ),
        (
            "%0 = contract %x[p] * %x[q] over k < 5000 from %y[p] for p < 3, q < 3 : f32 {\n}",
            "only the sums of one superblock go on",
        ),
        (
            "%0 = contract %x[p] * %x[q] for p < 3, q < 3 : f32 {\nvector i < 3 {\n}\n}",
            "can't stand inside a vector",
        ),
        (
            "vector i < 3 {\n%0 = contract %x[p] * %x[q] for p < 3, q < 3 : f32 {\n}\n}",
            "a contraction can't stand inside",
        ),
    ],
)
def test_what_a_text_can_break(body, message):
    with pytest.raises(VerifyError, match=message):
        verify_kernel(parse_kernel(f"{HEAD}{body}\n}}"))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("kernel k(; n, n) {}", "sizes .n, n. repeat a name"),
        ("kernel k(%x: f32[4] in, %x: f32[4] in) {}", "two buffers are called %x"),
        ("kernel k(%x: f32[m] in; n) {}", "the size of %x uses m"),
    ],
)
def test_heads(head, message):
    with pytest.raises(VerifyError, match=message):
        verify_kernel(parse_kernel(head))


def _kernel(*body):
    return Kernel("k", (Buffer("y", float32, 4, "out"),), (), body)


def test_what_only_objects_can_break():
    a, twin = Scalar("a", float32), Scalar("a", float32)
    one = Const(a, Literal.of(1, float32))
    axis = Axis("i", 3)
    cases = [
        (_kernel(one, Const(twin, Literal.of(1, float32))), "%a is defined twice"),
        (_kernel(one, Store("y", 0, twin)), "%a is not defined before this"),
        (_kernel(Store("y", 0, a), one), "%a is not defined before this"),
        (_kernel(Loop(axis, "wide", ())), "the kind is wide"),
        (
            _kernel(one, Loop(axis, "serial", (), ((twin, a),))),
            r"carries, yields and has as results \(1, 0, 0\)",
        ),
        (_kernel(Reduce(a, ops.add, "rows", (axis,), (), a)), "add is not a reduction"),
        (_kernel(Reduce(a, ops.reduce_sum, "rows", (axis,), (), twin)), "yield: %a is not defined"),
        (Kernel("k", (Buffer("y", float32, 4, "write"),), (), ()), "access write"),
        (
            _kernel(one, Compute(Scalar("b", int32), ops.cast, (a,), (("dtype", float32),))),
            "the result is i32",
        ),
    ]
    for kernel, message in cases:
        with pytest.raises(VerifyError, match=message):
            verify_kernel(kernel)


def test_the_message_ends_with_the_kernel():
    with pytest.raises(VerifyError) as caught:
        verify_kernel(parse_kernel(f"{HEAD}{ONE}store %x[0], %one\n}}"))
    assert str(caught.value).startswith("kernel k: store %x[0], %one: %x is only read\nkernel k(")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kernel fail", "kernel copy", "kernel copy is there twice"),
        ("buffer %t", "buffer %c", "buffer c is there twice"),
        ("call fail(%c)", "call file(%c)", "call of file, which is no kernel of the plan"),
        ("call fail(%c)", "call fail(%d)", "call of fail passes %d, which is no buffer of the plan"),
        ("call fail(%c)", "call fail(%c, %c)", "call of fail passes 2 buffers and 0 sizes, expected 1 and 0"),
        ("call fail(%c)", "call fail(%t)", r"passes %t: f32\[s0\*s1\] as %y: bool\[1\]"),
        ("constant bool[1](true)", "constant bool[2](true, true)", r"%c is bool\[1\], its value bool\[2\]"),
        ("s0*s1] arena at 64", "s0*s2] arena at 64", "%t uses s2, which is no size of the plan"),
        ("%t, %out0; s0*s1", "%t, %out0; s0*q", "call of copy uses q, which is no size of the plan"),
        ("arena at 64", "arena at 66", "starts at byte 66, not a place for f32"),
        ("arena 64*s0 + 64", "arena 16", None),
        ("  update 0\n", "", "writes %in0, the input 0, which is not updated"),
        (
            "check 1 IndexError",
            "check 2 IndexError",
            "kernel fail can stop with the code 1, which has no check",
        ),
        ("check 1 IndexError", "check 1 OSError", "raises OSError, expected one of"),
        ('call copy(%in0, %t; s0*s1) @ "g.py":3\n', "\n", "reads %t before anything is written there"),
        ("call copy(%t, %out0; s0*s1)\n", "\n", "the output %out0 is never written"),
        ("return %out0: f32", "return %out0: f64", r"the output %out0 is f32, its type f64"),
        ("return %out0", "return %out1", "the output %out1 is no buffer of the plan"),
    ],
)
def test_plans(old, new, message):
    assert old in PLAN
    plan = parse_plan(PLAN.replace(old, new, 1))
    if message is None:
        verify_plan(plan)
        return
    with pytest.raises(VerifyError, match=message):
        verify_plan(plan)


CHAIN = """
plan p() arena 96 {
  kernel copy(%x: f32[4] in, %y: f32[4] out) {
    vector i < 4 {
      %0 = load %x[i] : f32
      store %y[i], %0
    }
  }
  buffer %x: f32[4] input 0
  buffer %a: f32[4] arena at AT
  buffer %b: f32[4] arena at 16
  buffer %y: f32[4] output 0
  call copy(%x, %a)
  call copy(%a, %b)
  call copy(MORE, %y)
  return %y: f32[4]
}
"""


def test_overlap_in_the_arena():
    def plan(at, more):
        return parse_plan(CHAIN.replace("AT", str(at)).replace("MORE", more))

    verify_plan(plan(0, "%b"))
    verify_plan(plan(0, "%a"))
    verify_plan(plan(16, "%b"))  # in place: %a is last read where %b is first written
    with pytest.raises(VerifyError, match="%a and %b overlap in the arena"):
        verify_plan(plan(16, "%a"))
    with pytest.raises(VerifyError, match="%a and %b overlap in the arena"):
        verify_plan(plan(8, "%b"))
    with pytest.raises(VerifyError, match="ends at byte 100, beyond the arena of 96"):
        verify_plan(plan(84, "%b"))


def test_kinds_and_values_of_buffers():
    plan = parse_plan(PLAN)
    for change, message in [
        ({"kind": "heap"}, "%in0 is of kind heap"),
        ({"index": -1}, "%in0 has the index -1"),
        ({"value": Literal.of(1, float32)}, "a constant, and nothing else, has a value"),
    ]:
        broken = dataclasses.replace(plan.buffers[0], **change)
        with pytest.raises(VerifyError, match=message):
            verify_plan(dataclasses.replace(plan, buffers=(broken, *plan.buffers[1:])))
