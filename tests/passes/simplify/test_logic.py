"""Rules for comparisons, choice, bits and casts by text; casts on every pair of dtypes by value."""

# ruff: noqa: E501  (a line of IR text is not broken)

from __future__ import annotations

import itertools

import numpy as np
import pytest
from vitrify.ir import dtypes, ops
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dtypes import DType
from vitrify.ir.interpreter import interpret
from vitrify.ir.types import TensorType
from vitrify.passes.simplify import simplify
from vitrify.passes.simplify.logic import keeps_values

from tests.passes.simplify.texts import Case, cases, check, fires, stays
from tests.support import assert_same_bits

F, B = "%x: f32[], %y: f32[]", "%x: bool[], %y: bool[]"
S = "%p: bool[], %x: f32[], %y: f32[], %z: f32[]"


def _bool(value: str, rest: str) -> str:
    return f"%8 = constant {{value=bool({value})}} : bool[]\n{rest}"


TABLE = [
    fires("less_than_itself", F, "%0 = lt %x, %x : bool[]\n%0", _bool("false", "%8")),
    stays("equal_to_itself", F, "%0 = eq %x, %x : bool[]\n%0"),
    fires("int_equal_to_itself", "%x: i32[]", "%0 = eq %x, %x : bool[]\n%0", _bool("true", "%8")),
    fires("equals_true", B, _bool("true", "%0 = eq %x, %8 : bool[]\n%0"), "%x"),
    fires("equals_false", B, _bool("false", "%0 = eq %x, %8 : bool[]\n%0"), "%0 = bit_not %x : bool[]\n%0"),
    fires("differs_from_true", B, _bool("true", "%0 = ne %x, %8 : bool[]\n%0"), "%0 = bit_not %x : bool[]\n%0"),
    fires("not_of_not", B, "%0 = bit_not %x : bool[]\n%1 = bit_not %0 : bool[]\n%1", "%x"),
    fires("not_of_equal", F, "%0 = eq %x, %y : bool[]\n%1 = bit_not %0 : bool[]\n%1", "%0 = ne %x, %y : bool[]\n%0"),
    stays("not_of_less", F, "%0 = lt %x, %y : bool[]\n%1 = bit_not %0 : bool[]\n%1"),
    fires("not_of_int_less", "%x: i8[], %y: i8[]", "%0 = lt %x, %y : bool[]\n%1 = bit_not %0 : bool[]\n%1",
          "%0 = ge %x, %y : bool[]\n%0"),
    fires("and_true", B, _bool("true", "%0 = bit_and %x, %8 : bool[]\n%0"), "%x"),
    fires("and_false", B, _bool("false", "%0 = bit_and %x, %8 : bool[]\n%0"), _bool("false", "%8")),
    fires("or_true", B, _bool("true", "%0 = bit_or %x, %8 : bool[]\n%0"), _bool("true", "%8")),
    fires("xor_ones", "%x: i32[]", "%8 = constant {value=i32(-1)} : i32[]\n%0 = bit_xor %x, %8 : i32[]\n%0",
          "%0 = bit_not %x : i32[]\n%0"),
    stays("and_one", "%x: i32[]", "%8 = constant {value=i32(1)} : i32[]\n%0 = bit_and %x, %8 : i32[]\n%0"),
    fires("select_of_equal_arms", S, "%0 = select %p, %x, %x : f32[]\n%0", "%x"),
    fires("select_by_true", S, _bool("true", "%0 = select %8, %x, %y : f32[]\n%0"), "%x"),
    fires("select_by_false", S, _bool("false", "%0 = select %8, %x, %y : f32[]\n%0"), "%y"),
    fires("select_by_not", S, "%0 = bit_not %p : bool[]\n%1 = select %0, %x, %y : f32[]\n%1",
          "%0 = select %p, %y, %x : f32[]\n%0"),
    fires("select_of_select", S, "%0 = select %p, %x, %y : f32[]\n%1 = select %p, %0, %z : f32[]\n%1",
          "%0 = select %p, %x, %z : f32[]\n%0"),
    fires("select_of_select_right", S, "%0 = select %p, %x, %y : f32[]\n%1 = select %p, %z, %0 : f32[]\n%1",
          "%0 = select %p, %z, %y : f32[]\n%0"),
    stays("select_by_another", S + ", %q: bool[]", "%0 = select %q, %x, %y : f32[]\n%1 = select %p, %0, %z : f32[]\n%1"),
    fires("select_of_truths", S, _bool("true", "%7 = constant {value=bool(false)} : bool[]\n%0 = select %p, %8, %7 : bool[]\n%0"),
          "%p"),
    fires("cast_to_same", F, "%0 = cast %x {dtype=f32} : f32[]\n%0", "%x"),
    fires("cast_of_wider", F, "%0 = cast %x {dtype=f64} : f64[]\n%1 = cast %0 {dtype=i32} : i32[]\n%1",
          "%0 = cast %x {dtype=i32} : i32[]\n%0"),
    stays("cast_of_narrower", F, "%0 = cast %x {dtype=i32} : i32[]\n%1 = cast %0 {dtype=f32} : f32[]\n%1"),
    stays("cast_loses_digits", "%x: i64[]", "%0 = cast %x {dtype=f64} : f64[]\n%1 = cast %0 {dtype=i64} : i64[]\n%1"),
    fires("low_bits_of_low_bits", "%x: i64[]", "%0 = cast %x {dtype=i32} : i32[]\n%1 = cast %0 {dtype=u8} : u8[]\n%1",
          "%0 = cast %x {dtype=u8} : u8[]\n%0"),
]  # fmt: skip


@cases(TABLE)
def test_rule(case: Case) -> None:
    check(case)


NUMERIC = [d for d in dtypes.ALL if d is not dtypes.bfloat16 and not d.is_complex]


def _values(dtype: DType) -> np.ndarray:
    if dtype.kind == "f":
        return np.array(
            [0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 65504, 300.7, -129, 2**31, -(2**31), 2**63]
        )
    info = np.iinfo(dtype.numpy) if dtype.is_integer else None
    return np.array([0, 1] if info is None else [0, 1, 2, info.max, info.min, info.max // 2 + 1], dtype.numpy)


@pytest.mark.parametrize("source", NUMERIC, ids=str)
def test_chains_of_casts_keep_their_bits(source: DType) -> None:
    with np.errstate(all="ignore"):
        x = _values(source).astype(source.numpy)
        for between, last in itertools.product(NUMERIC, NUMERIC):
            build = GraphBuilder()
            value = build(ops.cast, build.input(TensorType(source, x.shape)), dtype=between)
            graph = build.finish([build(ops.cast, value, dtype=last)])
            (want,), _ = interpret(graph, [x])
            (got,), _ = interpret(simplify(graph), [x])
            assert_same_bits(got, want, f"{source} -> {between} -> {last}")


def test_keeps_values_agrees_with_numpy() -> None:
    for source, target in itertools.product(NUMERIC, NUMERIC):
        assert keeps_values(source, target) == np.can_cast(source.numpy, target.numpy, "safe") or (
            # numpy calls int64 -> float64 safe, which it is not.
            source.itemsize == 8 and source.is_integer and target is dtypes.float64
        )
