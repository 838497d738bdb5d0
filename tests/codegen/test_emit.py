"""Whole plans, and lines of LLVM IR that carry a decision."""

from __future__ import annotations

import ctypes
import re

import numpy as np
import pytest
from vitrify.codegen.emit import emit_plan
from vitrify.codegen.target import LEVELS, named_target
from vitrify.codegen.text import Function, Module, float_text
from vitrify.ir import ops
from vitrify.ir.dtypes import float32
from vitrify.ir.expr import parse_expr
from vitrify.ir.kernel import Kernel
from vitrify.ir.kernel_text import parse_kernel
from vitrify.ir.plan import Call, Plan, PlanBuffer

from tests.codegen.harness import check_kernel, native_plan, pointwise, text_of

DOUBLE = parse_kernel("""
    kernel double(%x: f32[n] in, %y: f32[n] out; n) {
      vector i < n {
        %0 = load %x[i] : f32
        %1 = add %0, %0 : f32
        store %y[i], %1
      }
    }""")
POSITIVE = parse_kernel("""
    kernel positive(%x: f32[n] in; n) {
      vector i < n {
        %0 = load %x[i] : f32
        %1 = const f32(0.0) : f32
        %2 = gt %0, %1 : bool
        check %2 code 5
      }
    }""")


def chain(*calls: Call) -> Plan:
    """x -> a (arena) -> y with sizes m; a begins at byte 64 * m."""
    m = parse_expr("m")
    buffers = (
        PlanBuffer("x", "input", float32, parse_expr("2*m")),
        PlanBuffer("a", "arena", float32, parse_expr("2*m"), offset=parse_expr("64*m")),
        PlanBuffer("y", "output", float32, m),
    )
    return Plan("chain", (DOUBLE, POSITIVE), buffers, calls, (), (), ("m",), parse_expr("72*m"))


def run_chain(plan: Plan, x: np.ndarray) -> tuple[int, np.ndarray]:
    m = len(x) // 2
    y, arena = np.zeros(m, np.float32), np.zeros(80 * m, np.uint8)
    pointers = (ctypes.c_void_p * 2)(x.ctypes.data, y.ctypes.data)
    sizes = (ctypes.c_int64 * 1)(m)
    return native_plan(plan)(pointers, sizes, arena.ctypes.data), y


TWICE = (Call("double", ("x", "a"), (parse_expr("2*m"),)), Call("double", ("a", "y"), (parse_expr("m"),)))


def test_calls_run_in_order_through_the_arena() -> None:
    x = np.arange(1, 41, dtype=np.float32)
    status, y = run_chain(chain(*TWICE), x)
    assert status == 0
    assert y.tolist() == (4 * x[:20]).tolist()


def test_a_failed_check_stops_the_plan() -> None:
    calls = (TWICE[0], Call("positive", ("a",), (parse_expr("2*m"),)), TWICE[1])
    x = np.arange(1, 41, dtype=np.float32)
    assert run_chain(chain(*calls), x)[0] == 0
    x[39] = -1
    status, y = run_chain(chain(*calls), x)
    assert status == 5
    assert not y.any()


def test_emission_is_a_pure_function() -> None:
    target = LEVELS["x86-64-v3"]
    assert emit_plan(chain(*TWICE), target) == emit_plan(chain(*TWICE), target)


def static_copy(n: int) -> Kernel:
    return parse_kernel(f"""
        kernel copy(%x: f32[{n}] in, %y: f32[{n}] out) {{
          vector i < {n} {{
            %0 = load %x[i] : f32
            store %y[i], %0
          }}
        }}""")


def test_whole_vectors_need_no_mask() -> None:
    text = text_of(static_copy(48))
    assert "load <16 x float>" in text
    assert "masked" not in text


def test_a_short_loop_is_one_masked_vector_without_a_branch() -> None:
    text = text_of(static_copy(10))
    body = text.split("define")[1]
    assert body.count("@llvm.masked.load") == body.count("@llvm.masked.store") == 1
    assert "br " not in body


def test_invariant_index_arithmetic_stands_outside_the_loop() -> None:
    text = text_of(
        parse_kernel("""
        kernel k(%x: f32[m*n] in, %y: f32[m*n] out; m, n) {
          parallel i < m {
            vector j < n {
              %0 = load %x[i*n + j] : f32
              store %y[i*n + j], %0
            }
          }
        }""")
    )
    inner = re.search(
        r"\n(loop\d+):[^:]*?load <16 x float>.*?br i1[^\n]*", text.split("define")[1], re.DOTALL
    )
    assert inner is not None
    assert "mul" not in inner[0].rsplit("loop", 2)[-1]


@pytest.mark.parametrize("opdef", [ops.add, ops.mul, ops.sub, ops.div])
def test_arithmetic_has_no_flags(opdef: object) -> None:
    text = text_of(pointwise(opdef, [float32, float32], float32))  # type: ignore[arg-type]
    name = opdef.name  # type: ignore[attr-defined]
    wanted = (
        "call <16 x float> @llvm.experimental.constrained.fdiv" if name == "div" else f"f{name} <16 x float>"
    )
    assert f"= {wanted}" in text


def test_constants_are_the_bits_of_a_double() -> None:
    assert float_text(1.0) == "0x3FF0000000000000"
    assert float_text(-0.0) == "0x8000000000000000"


def test_declarations_are_collected_once() -> None:
    module = Module()
    f = Function(module, "f", [("i64", "x")])
    y = f.call("i64", "llvm.smax.i64", ("i64", "%x"), ("i64", "0"))
    z = f.call("i64", "llvm.smax.i64", ("i64", y), ("i64", "1"))
    f.do(f"ret i64 {z}")
    module.add(f)
    assert module.text().count("declare") == 1


def test_targets_by_name() -> None:
    assert named_target("x86-64-v4").vector_bytes == 64
    assert len({t.key for t in LEVELS.values()}) == len(LEVELS)
    with pytest.raises(ValueError, match="unknown target 'z80'"):
        named_target("z80")


@pytest.mark.parametrize("low", [0, 1])
@pytest.mark.parametrize("bound", [0, 1, 80])
@pytest.mark.parametrize("dtype", ["i64", "i32", "i8", "u8", "f32"])
@pytest.mark.parametrize("kind", ["vector", "parallel"])
def test_a_range_from_zero_on_is_one_unsigned_comparison(kind: str, dtype: str, bound: int, low: int) -> None:
    one = ".0" if dtype == "f32" else ""
    text = f"""
        kernel within(%x: {dtype}[40] in, %y: bool[40] out) {{
          %low = const {dtype}({low}{one}) : {dtype}
          %high = const {dtype}({bound}{one}) : {dtype}
          {kind} i < 40 {{
            %0 = load %x[i] : {dtype}
            %1 = ge %0, %low : bool
            %2 = lt %0, %high : bool
            %3 = bit_and %1, %2 : bool
            store %y[i], %3
          }}
        }}"""
    numpy = {"i64": np.int64, "i32": np.int32, "i8": np.int8, "u8": np.uint8, "f32": np.float32}[dtype]
    ends = np.finfo(numpy) if dtype == "f32" else np.iinfo(numpy)
    x = np.array([0, 1, 2, 79, 80, 81, 127, ends.min, ends.max], numpy)
    x = np.resize(np.concatenate([x, -x]), 40)
    check_kernel(text, {"x": x, "y": np.ones(40, bool)})
    native = text_of(parse_kernel(text))
    at_once = "icmp ult" in native and "icmp uge" not in native
    assert at_once == (low == 0 and dtype.startswith("i"))


@pytest.mark.parametrize(
    ("name", "rows", "fetches"),
    [("reduce_sum", 4096, True), ("reduce_sum", 1024, False), ("reduce_max", 4096, False)],
)
def test_sums_of_an_array_that_no_cache_holds_fetch_ahead(name: str, rows: int, fetches: bool) -> None:
    text = f"""
        kernel rows(%x: f32[{rows}*4096] in, %y: f32[{rows}] out) {{
          parallel i < {rows} {{
            %r = {name} lanes j < 4096 : f32 {{
              %v = load %x[4096*i + j] : f32
              yield %v
            }}
            store %y[i], %r
          }}
        }}"""
    assert ("llvm.prefetch" in text_of(parse_kernel(text))) == fetches
