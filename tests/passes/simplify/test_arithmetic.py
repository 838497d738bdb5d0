"""Rules of arithmetic by text, and their exactness on every combination of special values."""

# ruff: noqa: E501  (a line of IR text is not broken)

from __future__ import annotations

import itertools

import numpy as np
import pytest
from vitrify.ir import dtypes, ops
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dtypes import DType
from vitrify.ir.interpreter import interpret
from vitrify.ir.opdef import OpDef
from vitrify.ir.types import Literal, TensorType
from vitrify.passes.pipeline import optimize

from tests.passes.simplify.texts import Case, cases, check, fires, stays
from tests.support import assert_same_bits

F, I = "%x: f32[], %y: f32[]", "%x: i32[], %y: i32[]"


def _const(value: str, dtype: str = "f32") -> str:
    return f"%8 = constant {{value={dtype}({value})}} : {dtype}[]"


def _with(value: str, expression: str, dtype: str = "f32") -> str:
    return f"{_const(value, dtype)}\n%9 = {expression} : {dtype}[]\n%9"


TABLE = [
    fires("times_one", F, _with("1.0", "mul %x, %8"), "%x"),
    fires("times_one_left", F, _with("1.0", "mul %8, %x"), "%x"),
    fires("div_one", F, _with("1.0", "div %x, %8"), "%x"),
    stays("one_div", F, _with("1.0", "div %8, %x")),
    fires("times_minus_one", F, _with("-1.0", "mul %x, %8"), "%0 = neg %x : f32[]\n%0"),
    fires("plus_minus_zero", F, _with("-0.0", "add %x, %8"), "%x"),
    stays("plus_zero", F, _with("0.0", "add %x, %8")),
    fires("plus_zero_int", I, _with("0", "add %x, %8", "i32"), "%x"),
    fires("minus_zero", F, _with("0.0", "sub %x, %8"), "%x"),
    stays("minus_minus_zero", F, _with("-0.0", "sub %x, %8")),
    fires("from_minus_zero", F, _with("-0.0", "sub %8, %x"), "%0 = neg %x : f32[]\n%0"),
    stays("from_zero", F, _with("0.0", "sub %8, %x")),
    fires("constant_on_the_left", F, _with("2.0", "add %8, %x"), _with("2.0", "add %x, %8")),
    stays("sub_keeps_its_order", F, _with("2.0", "sub %8, %x")),
    fires("add_of_neg", F, "%0 = neg %y : f32[]\n%1 = add %x, %0 : f32[]\n%1", "%0 = sub %x, %y : f32[]\n%0"),
    fires("neg_added", F, "%0 = neg %y : f32[]\n%1 = add %0, %x : f32[]\n%1", "%0 = sub %x, %y : f32[]\n%0"),
    fires("sub_of_neg", F, "%0 = neg %y : f32[]\n%1 = sub %x, %0 : f32[]\n%1", "%0 = add %x, %y : f32[]\n%0"),
    stays("neg_of_sub", F, "%0 = sub %x, %y : f32[]\n%1 = neg %0 : f32[]\n%1"),
    fires("product_of_negs", F, "%0 = neg %x : f32[]\n%1 = neg %y : f32[]\n%2 = div %0, %1 : f32[]\n%2",
          "%0 = div %x, %y : f32[]\n%0"),
    stays("product_of_one_neg", F, "%0 = neg %x : f32[]\n%1 = mul %0, %y : f32[]\n%1"),
    fires("neg_times_constant", F, "%0 = neg %x : f32[]\n" + _with("3.0", "mul %0, %8"), _with("-3.0", "mul %x, %8")),
    fires("neg_of_neg", F, "%0 = neg %x : f32[]\n%1 = neg %0 : f32[]\n%1", "%x"),
    fires("abs_of_neg", F, "%0 = neg %x : f32[]\n%1 = abs %0 : f32[]\n%1", "%0 = abs %x : f32[]\n%0"),
    stays("abs_of_unsigned_neg", "%x: u8[]", "%0 = neg %x : u8[]\n%1 = abs %0 : u8[]\n%1"),
    fires("abs_of_abs", F, "%0 = abs %x : f32[]\n%1 = abs %0 : f32[]\n%1", "%0 = abs %x : f32[]\n%0"),
    fires("square_of_abs", F, "%0 = abs %x : f32[]\n%1 = mul %0, %0 : f32[]\n%1", "%0 = mul %x, %x : f32[]\n%0"),
    stays("product_of_abs", F, "%0 = abs %x : f32[]\n%1 = mul %0, %x : f32[]\n%1"),
    fires("div_by_power_of_two", F, _with("8.0", "div %x, %8"), _with("0.125", "mul %x, %8")),
    stays("div_by_three", F, _with("3.0", "div %x, %8")),
    stays("div_by_huge", F, _with("1.7014118346046923e+38", "div %x, %8")),
    stays("div_by_subnormal", F, _with("1e-45", "div %x, %8")),
    fires("rounding_twice", F, "%0 = floor %x : f32[]\n%1 = round %0 : f32[]\n%1", "%0 = floor %x : f32[]\n%0"),
    fires("idempotent", F, "%0 = maximum %x, %x : f32[]\n%0", "%x"),
    fires("bounded_by_infinity", F, _with("-inf", "maximum %x, %8"), "%x"),
    stays("bounded_by_the_other", F, _with("inf", "maximum %x, %8")),
    stays("float_times_zero", F, _with("0.0", "mul %x, %8")),
    fires("integer_times_zero", I, _with("0", "mul %x, %8", "i32"), _const("0", "i32") + "\n%8"),
    stays("float_minus_itself", F, "%0 = sub %x, %x : f32[]\n%0"),
    fires("integer_minus_itself", I, "%0 = sub %x, %x : i32[]\n%0", _const("0", "i32") + "\n%8"),
    fires("integer_constants_meet", I,
          "%7 = constant {value=i32(5)} : i32[]\n%0 = add %x, %7 : i32[]\n" + _with("7", "sub %0, %8", "i32"),
          _with("-2", "add %x, %8", "i32")),
    stays("float_constants_do_not_meet", F,
          "%7 = constant {value=f32(5.0)} : f32[]\n%0 = add %x, %7 : f32[]\n" + _with("7.0", "add %0, %8")),
    fires("integer_division_by_one", I, _with("1", "floor_div %x, %8", "i32"), "%x"),
    fires("integer_rest_by_one", I, _with("1", "rem %x, %8", "i32"), _const("0", "i32") + "\n%8"),
    stays("float_division_by_one", F, _with("1.0", "floor_div %x, %8")),
    fires("integer_power", I, _with("2", "pow %x, %8", "i32"), "%0 = mul %x, %x : i32[]\n%0"),
    stays("float_power", F, _with("2.0", "pow %x, %8")),
    fires("shift_by_zero", I, _with("0", "shift_left %x, %8", "i32"), "%x"),
]  # fmt: skip


@cases(TABLE)
def test_rule(case: Case) -> None:
    check(case)


def test_splats_count_as_constants() -> None:
    check(fires("splat", "%x: f32[2, 3]", """
        %8 = constant {value=f32(1.0)} : f32[]
        %0 = reshape %8 {shape=(1, 1)} : f32[1, 1]
        %1 = expand %0 {shape=(2, 3)} : f32[2, 3]
        %2 = mul %1, %x : f32[2, 3]
        %2""", "%x"))  # fmt: skip


FLOATS = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    2.0,
    0.5,
    3.0,
    -3.0,
    np.inf,
    -np.inf,
    np.nan,
    1e-45,
    1e-38,
    3e38,
    1 / 3,
    4096.0,
]
INTEGERS = [0, 1, -1, 2, 3, -3, 7, 127, -128, 2**31 - 1, -(2**31)]
BINARY = [ops.add, ops.sub, ops.mul, ops.div, ops.maximum, ops.minimum, ops.floor_div, ops.rem, ops.pow_,
          ops.eq, ops.ne, ops.lt, ops.le, ops.bit_and, ops.bit_or, ops.bit_xor, ops.shift_left, ops.shift_right]  # fmt: skip
UNARY = [ops.neg, ops.abs_, ops.bit_not, ops.sign, ops.floor, ops.round_]


def _fits(op: OpDef, dtype: DType) -> bool:
    try:
        op.result_types(*(TensorType(dtype),) * (op.arity or 1))
    except Exception:
        return False
    return True


def _programs(dtype: DType, values: list[float]) -> list[tuple[OpDef, float, bool, OpDef | None]]:
    """op(x, c) and op(c, x), with and without a unary op before."""
    binary = [op for op in BINARY if _fits(op, dtype)]
    unary = [None, *(op for op in UNARY if _fits(op, dtype))]
    return [(b, c, left, u) for b, c, left, u in itertools.product(binary, values, (False, True), unary)]


@pytest.mark.parametrize(
    "dtype", [dtypes.float32, dtypes.float64, dtypes.int32, dtypes.uint8, dtypes.bool_], ids=str
)
def test_special_values_keep_their_bits(dtype: DType) -> None:
    """Every op with every constant on either side, applied to every special value, alone and after a unary op."""
    values = FLOATS if dtype.kind == "f" else [False, True] if dtype.kind == "b" else INTEGERS
    x = np.array(values).astype(dtype.numpy)
    y = x[::-1].copy()
    for op, c, left, first in _programs(dtype, values):
        build = GraphBuilder()
        a, b = build.input(TensorType(dtype, x.shape)), build.input(TensorType(dtype, x.shape))
        inner = a if first is None else build(first, a)
        constant = build(ops.constant, value=Literal.of(np.full(x.shape, c), dtype))
        pair = (constant, inner) if left else (inner, constant)
        results = [build(op, *pair), build(op, inner, inner), build(op, build(op, inner, b), inner)] if (
            op.infer is not ops.lt.infer) else [build(op, *pair), build(op, inner, inner)]  # fmt: skip
        graph = build.finish(results)
        what = f"{op.name} {c} left={left} after {first and first.name}"
        try:
            want, _ = interpret(graph, [x, y])
        except RuntimeError:
            continue
        got, _ = interpret(optimize(graph, verify=True), [x, y])
        for g, w in zip(got, want, strict=True):
            assert_same_bits(g, w, what)
