"""The kernel and plan interpreters against numpy and the graph primitives."""

import numpy as np
import pytest
from vitrify.ir import ops
from vitrify.ir.contraction import contract_spec
from vitrify.ir.errors import IRError
from vitrify.ir.kernel_interpreter import OutOfBounds, run_kernel
from vitrify.ir.kernel_text import parse_kernel
from vitrify.ir.kernel_verifier import verify_kernel
from vitrify.ir.plan_interpreter import PlanStopped, run_plan
from vitrify.ir.plan_text import parse_plan

from tests.ir.test_kernel_text import PLAN, documented_kernel
from tests.support import assert_same_bits


def run(text, sizes=None, **buffers):
    kernel = parse_kernel(text)
    verify_kernel(kernel)
    return run_kernel(kernel, buffers, sizes or {})


def random(*shape, dtype=np.float32):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("shape", [(3, 17), (2, 5000), (1, 1), (0, 4)])
def test_softmax_by_rows_has_the_bits_of_its_primitives(shape):
    x, y = random(*shape), np.zeros(shape, np.float32)
    assert run(documented_kernel(), {"s0": shape[0], "s1": shape[1]}, x=x, y=y) == 0
    shifted = x - ops.reduce_max.meaning(x, axes=(1,), order="lanes")[:, None]
    e = ops.exp.meaning(shifted)
    assert_same_bits(y, e / ops.reduce_sum.meaning(e, axes=(1,), order="lanes")[:, None])


def test_serial_loops_carry_values():
    text = """kernel k(%x: f32[n] in, %y: f32[2] out; n) {
      %zero = const f32(0.0) : f32
      %one = const f32(1.0) : f32
      %sum, %product = serial i < n carry %s = %zero, %p = %one {
        %v = load %x[i] : f32
        %t = add %s, %v : f32
        %q = mul %p, %v : f32
        yield %t, %q
      }
      store %y[0], %sum
      store %y[1], %product
    }"""
    x, y = np.array([2, 3, 4], np.float32), np.zeros(2, np.float32)
    run(text, {"n": 3}, x=x, y=y)
    assert y.tolist() == [9, 24]
    run(text, {"n": 0}, x=x[:0], y=y)
    assert y.tolist() == [0, 1]


def test_reductions_by_rows_inside_a_vector_loop():
    """Column sums: each lane reduces for itself, in the order of `rows`."""
    text = """kernel k(%x: f32[300*n] in, %y: f32[n] out, %i: i64[n] out; n) {
      vector j < n {
        %s = reduce_sum rows i < 100, k < 3 : f32 {
          %v = load %x[i*3*n + k*n + j] : f32
          yield %v
        }
        %m = argmax sequential i < 300 : i64 {
          %w = load %x[i*n + j] : f32
          yield %w
        }
        store %y[j], %s
        store %i[j], %m
      }
    }"""
    x, y, i = random(300, 5), np.zeros(5, np.float32), np.zeros(5, np.int64)
    run(text, {"n": 5}, x=x, y=y, i=i)
    assert_same_bits(y, ops.reduce_sum.meaning(x, axes=(0,), order="rows"))
    assert_same_bits(i, x.argmax(0))


def test_serial_loops_and_stores_inside_lanes():
    text = """kernel k(%x: f32[n*3] in, %y: f32[n] out, %t: f32[1] out; n) {
      %total = reduce_sum lanes i < n : f32 {
        %zero = const f32(0.0) : f32
        %s = serial k < 3 carry %a = %zero {
          %v = load %x[i*3 + k] : f32
          %b = add %a, %v : f32
          yield %b
        }
        store %y[i], %s
        yield %s
      }
      store %t[0], %total
    }"""
    x, y, t = random(20, 3), np.zeros(20, np.float32), np.zeros(1, np.float32)
    run(text, {"n": 20}, x=x, y=y, t=t)
    want = ops.reduce_sum.meaning(x, axes=(1,), order="sequential")
    assert_same_bits(y, want)
    assert_same_bits(t[0], ops.reduce_sum.meaning(want, axes=(0,), order="lanes"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_contractions_with_an_epilogue(dtype):
    short = {"float32": "f32", "float64": "f64", "int32": "i32"}[np.dtype(dtype).name]
    text = f"""kernel k(%a: {short}[3*10*7] in, %b: {short}[7*10*4] in, %y: {short}[3*4] out) {{
      %c = contract %a[m*70 + p*7 + q] * %b[q*40 + p*4 + n] over q < 7, p < 10 for m < 3, n < 4 : {short} {{
        %d = add %c, %c : {short}
        store %y[m*4 + n], %d
      }}
    }}"""
    a, b, y = random(3, 10, 7) * 5, random(7, 10, 4) * 5, np.zeros((3, 4), dtype)
    a, b = a.astype(dtype), b.astype(dtype)
    run(text, a=a, b=b, y=y)
    assert_same_bits(y, 2 * ops.contract.meaning(a, b, spec=contract_spec("m p q", "q p n", "m n", "q p")))


@pytest.mark.parametrize(("m", "n", "k"), [(0, 3, 2), (3, 0, 2), (3, 2, 0)])
def test_empty_contractions_read_nothing(m, n, k):
    text = """kernel k(%a: f32[m*k] in, %b: f32[k*n] in, %y: f32[m*n] out; m, n, k) {
      %c = contract %a[i*k + p] * %b[p*n + j] over p < k for i < m, j < n : f32 {
        store %y[i*n + j], %c
      }
    }"""
    y = np.ones((m, n), np.float32)
    run(text, {"m": m, "n": n, "k": k}, a=random(m, k), b=random(k, n), y=y)
    assert not y.any()


def test_gathers_go_through_integer_values():
    text = """kernel k(%x: f32[n] in, %i: i64[4] in, %y: f32[4] out; n) {
      vector j < 4 {
        %at = load %i[j] : i64
        %n = index n : i64
        %zero = const i64(0) : i64
        %low = ge %at, %zero : bool
        %high = lt %at, %n : bool
        %ok = bit_and %low, %high : bool
        check %ok code 7
        %v = load %x[%at] when 0 <= %at < n else f32(-1.0) : f32
        store %y[j], %v
      }
    }"""
    x, y = random(6), np.zeros(4, np.float32)
    assert run(text, {"n": 6}, x=x, i=np.array([5, 0, 2, 2]), y=y) == 0
    assert_same_bits(y, x[[5, 0, 2, 2]])
    assert run(text, {"n": 6}, x=x, i=np.array([5, 6, -1, 2]), y=y) == 7
    assert y[1] == y[2] == -1


def test_guarded_stores_leave_the_rest():
    text = """kernel k(%y: i64[5] inout) {
      vector j < 5 {
        %j = index j*j : i64
        store %y[j], %j when 1 <= j < 4, 0 <= (j % 2) < 1
      }
    }"""
    y = np.full(5, -1)
    run(text, y=y)
    assert y.tolist() == [-1, -1, 4, -1, -1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("vector j < 5 {\n%v = load %x[j] : f32\n}", r"load %x\[j\] : f32: index 4 of a buffer of 4"),
        ("%c = const f32(0.0) : f32\nstore %y[-1], %c", "index -1 of a buffer of 4"),
        ("%v = load %x[9] when 0 <= 1 < 2 else f32(0.0) : f32", "index 9"),
        ("%v = contract %x[m + k] * %x[n] over k < 2 for m < 4, n < 4 : f32 {\n}", "%x is read from 0 to 4"),
    ],
)
def test_accesses_out_of_bounds_are_caught(body, message):
    with pytest.raises(OutOfBounds, match=message):
        run(f"kernel k(%x: f32[4] in, %y: f32[4] out) {{\n{body}\n}}", x=random(4), y=random(4))


def test_a_guard_that_fails_touches_no_memory():
    text = """kernel k(%x: f32[0] in, %y: f32[1] out) {
      %v = load %x[9] when 0 <= 5 < 2 else f32(3.0) : f32
      store %y[0], %v
    }"""
    y = np.zeros(1, np.float32)
    run(text, x=np.zeros(0, np.float32), y=y)
    assert y[0] == 3


def test_a_race_in_a_vector_loop_is_caught():
    text = "kernel k(%y: i64[5] out) {\nvector j < 5 {\n%j = index j : i64\nstore %y[(j // 2)], %j\n}\n}"
    with pytest.raises(IRError, match="a vector loop stores two values at one place"):
        run(text, y=np.zeros(5, np.int64))


def test_wrong_buffers():
    text = "kernel k(%y: i64[5] out, %t: f32[n] temp; n) {\n}"
    with pytest.raises(IRError, match=r"%y is float64\[5\], expected i64\[5\], dense"):
        run(text, {"n": 1}, y=np.zeros(5))
    with pytest.raises(IRError, match=r"%y is int64\[4\], expected i64\[5\]"):
        run(text, {"n": 1}, y=np.zeros(4, np.int64))
    run(text, {"n": 3}, y=np.zeros(5, np.int64))


def test_plans_run_their_calls_in_order():
    plan = parse_plan(PLAN)
    x = random(2, 3)
    kept = x.copy()
    outputs = run_plan(plan, [x], {"s0": 2, "s1": 3})
    assert [o.shape for o in outputs] == [(2, 3), (2, 3)]
    for output in outputs:
        assert_same_bits(output, kept)


def test_a_failed_check_stops_the_plan_before_updates():
    plan = parse_plan(PLAN.replace("bool[1](true)", "bool[1](false)"))
    x = random(2, 3)
    kept = x.copy()
    with pytest.raises(PlanStopped, match="status 1") as caught:
        run_plan(plan, [x], {"s0": 2, "s1": 3})
    assert caught.value.code == 1
    assert_same_bits(x, kept)
