"""Kernels divided into units: the same bits and status as the interpreter, in whatever order units run."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from vitrify.codegen import division, parallel
from vitrify.ir.kernel_text import parse_kernel
from vitrify.runtime import pool
from vitrify.runtime.jit import load

from .harness import check_kernel, run_native, text_of

#: A stand-in for the pool: one unit after the other, the last one first.
BACKWARDS = """
@calls = global i64 0
define i64 @parallel(ptr %fn, ptr %context, i64 %units, i64 %work, i64 %pieces) {
entry:
  %old = load i64, ptr @calls
  %new = add i64 %old, %units
  store i64 %new, ptr @calls
  br label %head
head:
  %u = phi i64 [%units, %entry], [%begin, %body]
  %status = phi i64 [0, %entry], [%next, %body]
  %more = icmp ugt i64 %u, 0
  br i1 %more, label %body, label %done
body:
  %begin = sub i64 %u, 1
  %s = call i64 %fn(ptr %context, i64 %begin, i64 %u)
  %failed = icmp ne i64 %s, 0
  %next = select i1 %failed, i64 %s, i64 %status
  br label %head
done:
  ret i64 %status
}
"""


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch) -> ctypes.c_int64:
    """Everything that can be is divided into small units, which run backwards; counts them."""
    code = load(BACKWARDS, ["parallel", "calls"])
    monkeypatch.setattr(pool, "parallel_address", lambda: code["parallel"])
    for module in (division, parallel):
        monkeypatch.setattr(module, "WORTH", 0)
    small = {"_BLOCK": 64, "_PIECE": 1, "_ENOUGH": 8, "_ROWS_PACKED": 48}
    for name, value in small.items():
        monkeypatch.setattr(division, name, value)
    count = ctypes.c_int64.from_address(code["calls"])
    count.value = 0
    return count


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32).reshape(-1)


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 128, 200])
@pytest.mark.parametrize("static", [True, False])
def test_blocks_of_a_vector_loop(units: ctypes.c_int64, n: int, static: bool) -> None:
    size, sizes = (str(n), "") if static else ("n", "; n")
    text = f"""
    kernel k(%x: f32[{size}] in, %y: f32[{size}] out{sizes}) {{
      vector i < {size} {{
        %0 = load %x[i] : f32
        %1 = add %0, %0 : f32
        store %y[i], %1
      }}
    }}"""
    check_kernel(text, {"x": random(n), "y": np.zeros(n, np.float32)}, None if static else {"n": n})
    assert units.value % -(-n // 64) == 0 if n > 64 else True


def test_values_computed_before_reach_the_part(units: ctypes.c_int64) -> None:
    text = """
    kernel k(%x: f32[200] in, %at: i64[1] in, %y: f32[100] out, %flag: bool[1] in) {
      %k = load %at[0] : i64
      %on = load %flag[0] : bool
      %c = const f32(2.5) : f32
      %s = load %x[%k] when 0 <= %k < 200 else f32(0.0) : f32
      %t = mul %s, %c : f32
      vector i < 100 {
        %0 = load %x[%k + i] when 0 <= %k + i < 200 else f32(-1.0) : f32
        %1 = add %0, %t : f32
        %2 = mul %1, %c : f32
        %3 = select %on, %2, %0 : f32
        store %y[i], %3
      }
    }"""
    y, at, flag = np.zeros(100, np.float32), np.array([150]), np.array([True])
    check_kernel(text, {"x": random(200), "at": at, "y": y, "flag": flag})
    assert units.value > 0


@pytest.mark.parametrize("shape", [(3, 5, 70), (1, 1, 64), (2, 3, 1), (20, 1, 7)])
def test_nested_parallel_loops(units: ctypes.c_int64, shape: tuple[int, int, int]) -> None:
    a, b, c = shape
    text = f"""
    kernel k(%x: f32[{a * b * c}] in, %w: f32[{a * c}] in, %y: f32[{a * b * c}] out) {{
      parallel i < {a} {{
        parallel j < {b} {{
          vector k < {c} {{
            %0 = load %x[{c}*(i + {a}*j) + k] : f32
            %1 = load %w[{c}*i + k] : f32
            %2 = sub %0, %1 : f32
            store %y[{b * c}*i + {c}*j + k], %2
          }}
        }}
      }}
    }}""".replace(f"{c}*(i + {a}*j)", f"{c}*i + {a * c}*j")
    check_kernel(text, {"x": random(a, b, c), "w": random(a, c), "y": np.zeros(a * b * c, np.float32)})


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_rows_with_reductions_and_scratch(units: ctypes.c_int64, rows: int) -> None:
    text = f"""
    kernel softmax(%x: f32[{rows * 37}] in, %y: f32[{rows * 37}] out, %m: f32[{rows}] out) {{
      parallel i < {rows} {{
        %m = reduce_max lanes j < 37 : f32 {{
          %0 = load %x[37*i + j] : f32
          yield %0
        }}
        vector j < 37 {{
          %2 = load %x[37*i + j] : f32
          %3 = sub %2, %m : f32
          store %y[37*i + j], %3
        }}
        store %m[i], %m
      }}
    }}"""
    buffers = {"x": random(rows, 37), "y": np.zeros(rows * 37, np.float32), "m": np.zeros(rows, np.float32)}
    check_kernel(text, buffers)
    assert rows == 1 or units.value % rows == 0 and units.value


@pytest.mark.parametrize("n", [1, 4096, 4097, 20_000])
@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("opdef", ["reduce_sum", "reduce_max", "argmax"])
def test_blocks_of_a_long_reduction(units: ctypes.c_int64, n: int, static: bool, opdef: str) -> None:
    size, sizes = (str(n), "") if static else ("n", "; n")
    dtype = "i64" if opdef == "argmax" else "f32"
    text = f"""
    kernel k(%x: f32[{size}] in, %y: {dtype}[1] out{sizes}) {{
      %r = {opdef} lanes i < {size} : {dtype} {{
        %0 = load %x[i] : f32
        yield %0
      }}
      store %y[0], %r
    }}"""
    y = np.zeros(1, np.int64 if opdef == "argmax" else np.float32)
    check_kernel(text, {"x": random(n), "y": y}, None if static else {"n": n})


def test_more_blocks_than_the_table_has_room_for(
    units: ctypes.c_int64, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_TABLE", 2)
    text = """
    kernel k(%x: f32[20000] in, %y: f32[1] out) {
      %r = reduce_sum lanes i < 20000 : f32 {
        %0 = load %x[i] : f32
        yield %0
      }
      store %y[0], %r
    }"""
    check_kernel(text, {"x": random(20_000), "y": np.zeros(1, np.float32)})
    assert units.value % 5 == 0 and units.value


@pytest.mark.parametrize("m, n, k", [(100, 70, 9), (96, 64, 5), (3, 600, 7), (200, 3, 4), (50, 130, 20)])
@pytest.mark.parametrize(
    "batch, right", [(1, "{n}*l + j"), (3, "{n}*l + j"), (1, "{k}*j + l"), (3, "{k}*j + l")]
)
def test_blocks_of_a_contraction(
    units: ctypes.c_int64, m: int, n: int, k: int, batch: int, right: str
) -> None:
    text = f"""
    kernel k(%a: f32[{batch * m * k}] in, %b: f32[{batch * n * k}] in, %y: f32[{batch * m * n}] out) {{
      parallel h < {batch} {{
        %c = contract %a[{m * k}*h + {k}*i + l] * %b[{n * k}*h + {right.format(n=n, k=k)}]
            over l < {k} for i < {m}, j < {n} : f32 {{
          %0 = add %c, %c : f32
          store %y[{m * n}*h + {n}*i + j], %0
        }}
      }}
    }}"""
    y = np.zeros(batch * m * n, np.float32)
    check_kernel(text, {"a": random(batch, m, k), "b": random(batch, k, n), "y": y})
    assert units.value > 0 or right == "{k}*j + l"


@pytest.mark.parametrize("m, n", [(0, 40), (1, 40), (100, 0), (500, 70)])
def test_a_contraction_of_run_time_size(units: ctypes.c_int64, m: int, n: int) -> None:
    text = """
    kernel k(%a: f32[5*m] in, %b: f32[5*n] in, %y: f32[m*n] out; m, n) {
      %c = contract %a[5*i + l] * %b[n*l + j] over l < 5 for i < m, j < n : f32 {
        store %y[n*i + j], %c
      }
    }"""
    buffers = {"a": random(m, 5), "b": random(5, n), "y": np.zeros(m * n, np.float32)}
    check_kernel(text, buffers, {"m": m, "n": n})


@pytest.mark.parametrize("rows, columns", [(100, 40), (64, 64), (65, 129)])
def test_a_copy_that_transposes(units: ctypes.c_int64, rows: int, columns: int) -> None:
    text = f"""
    kernel k(%x: f32[{rows * columns}] in, %y: f32[{rows * columns}] out) {{
      parallel i < {rows} {{
        vector j < {columns} {{
          %0 = load %x[{rows}*j + i] : f32
          store %y[{columns}*i + j], %0
        }}
      }}
    }}"""
    check_kernel(text, {"x": random(rows, columns), "y": np.zeros(rows * columns, np.float32)})


@pytest.mark.parametrize("runs, taps", [(400, 9), (50, 3)])
def test_a_copy_that_transposes_runs_of_two_loops(units: ctypes.c_int64, runs: int, taps: int) -> None:
    text = f"""
    kernel k(%x: f32[{runs * taps * 32}] in, %y: f32[{runs * taps * 32}] out) {{
      parallel i < {runs} {{
        parallel t < {taps} {{
          vector j < 32 {{
            %0 = load %x[{taps}*i + t + {runs * taps}*j] : f32
            store %y[{runs * 32}*t + 32*i + j], %0
          }}
        }}
      }}
    }}"""
    check_kernel(text, {"x": random(runs * taps, 32), "y": np.zeros(runs * taps * 32, np.float32)})


SCATTER = """
kernel k(%at: i64[9] in, %x: f32[1800] in, %y: f32[1000] inout) {
  serial i < 9 {
    %k = load %at[i] : i64
    %low = const i64(0) : i64
    %high = const i64(5) : i64
    %above = ge %k, %low : bool
    %below = lt %k, %high : bool
    %ok = bit_and %above, %below : bool
    check %ok code 3
    vector j < 200 {
      %0 = load %y[200*%k + j] when 0 <= %k < 5 else f32(0.0) : f32
      %1 = load %x[200*i + j] : f32
      %2 = add %0, %1 : f32
      store %y[200*%k + j], %2 when 0 <= %k < 5
    }
  }
}"""


@pytest.mark.parametrize("bad", [False, True])
def test_destinations_of_a_scatter(units: ctypes.c_int64, bad: bool) -> None:
    at = np.array([0, 3, 3, 1, 0, 4, 7 if bad else 2, 3, 3])
    check_kernel(SCATTER, {"at": at, "x": random(9, 200), "y": random(5, 200)})
    assert units.value > 0


def test_a_scatter_of_single_elements_through_nested_loops(units: ctypes.c_int64) -> None:
    text = """
    kernel k(%at: i64[60] in, %x: f32[60] in, %y: f32[11] inout) {
      serial i < 6 {
        %c = index i : i64
        serial j < 10 {
          %k = load %at[10*i + j] : i64
          %0 = load %x[10*i + j] : f32
          %1 = load %y[%k] when 0 <= %k < 11 else f32(0.0) : f32
          %2 = add %0, %1 : f32
          store %y[%k], %2 when 0 <= %k < 11
        }
      }
    }"""
    at = np.random.default_rng(0).integers(0, 11, 60)
    check_kernel(text, {"at": at, "x": random(60), "y": random(11)})
    assert units.value > 0
    carried = text.replace("%1 = load %y[%k]", "%1 = load %y[%k - 1]")
    assert not divided(carried) and not divided(text.replace("%y: f32[11]", "%y: f32[22]"))


def test_the_first_failed_check_counts(units: ctypes.c_int64) -> None:
    text = """
    kernel k(%x: f32[300] in) {
      vector i < 300 {
        %0 = load %x[i] : f32
        %one = const f32(1.0) : f32
        %two = const f32(2.0) : f32
        %a = ne %0, %one : bool
        %b = ne %0, %two : bool
        check %a code 1
        check %b code 2
      }
    }"""
    x = np.zeros(300, np.float32)
    x[[100, 270]] = 2, 1
    assert run_native(parse_kernel(text), {"x": x}) == 2
    x[40] = 1
    assert run_native(parse_kernel(text), {"x": x}) == 1
    assert units.value > 0


def divided(text: str) -> bool:
    return "@vitrify_parallel" in text_of(parse_kernel(text))


def test_turns_that_write_to_one_place_are_not_divided(units: ctypes.c_int64) -> None:
    body = "%0 = load %x[100*i + j] : f32\n store %t[j], %0\n"
    shared = f"""
    kernel k(%x: f32[10000] in, %y: f32[10000] out, %t: f32[100] temp) {{
      parallel i < 100 {{
        vector j < 100 {{ {body} }}
        vector j2 < 100 {{
          %1 = load %t[j2] : f32
          store %y[100*i + j2], %1
        }}
      }}
    }}"""
    assert not divided(shared)
    own = shared.replace("%t: f32[100]", "%t: f32[10000]").replace("%t[j", "%t[100*i + j")
    assert divided(own)
    local = shared.replace(", %t: f32[100] temp", "").replace(
        "parallel i < 100 {", "parallel i < 100 {\n local %t: f32[100]"
    )
    assert divided(local)


def test_small_kernels_are_left_alone() -> None:
    text = "kernel k(%y: f32[{n}] out) {{ vector i < {n} {{ %0 = const f32(0.0) : f32\n store %y[i], %0 }} }}"
    assert not divided(text.format(n=4000))
    assert divided(text.format(n=4_000_000))


def test_the_number_of_threads_is_no_part_of_the_code() -> None:
    text = "kernel k(%y: f32[n] out; n) { vector i < n { %0 = const f32(0.0) : f32\n store %y[i], %0 } }"
    before, seen = pool.threads(), set()
    for threads in (1, 2, 8):
        pool.set_threads(threads)
        seen.add(text_of(parse_kernel(text)))
    pool.set_threads(before)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("m", "n", "cuts"), [(32, 512, [16, 128]), (33, 500, [32, 128]), (15, 512, [15, 64])]
)
def test_rows_of_a_short_contraction_stay_with_a_thread(m: int, n: int, cuts: list[int]) -> None:
    """Half of them each, with which it goes on in the next kernel; too few rows are not divided."""
    kernel = parse_kernel(f"""
        kernel k(%x: f32[{m * 200}] in, %w: f32[{200 * n}] in, %y: f32[{m * n}] out) {{
          %c = contract %x[i*200 + k] * %w[k*{n} + j] over k < 200 for i < {m}, j < {n} : f32 {{
            store %y[i*{n} + j], %c
          }}
        }}""")
    found = division.divide(kernel.body[0], kernel)
    assert found is not None
    assert [min(cut.step, int(cut.axis.extent)) for cut in found.cuts] == cuts


def test_short_vector_loops_are_cut_into_some_units() -> None:
    for n, step in ((4096, 512), (4000, 512), (100, 64), (1 << 20, 4096)):
        kernel = parse_kernel(f"""
            kernel k(%x: f32[{n}] in, %y: f32[{n}] out) {{
              vector i < {n} {{
                %0 = load %x[i] : f32
                %1 = exp %0 : f32
                store %y[i], %1
              }}
            }}""")
        (loop,) = kernel.body
        assert [c.step for c in division._cuts((), loop, kernel)] == [step]  # type: ignore[arg-type]
