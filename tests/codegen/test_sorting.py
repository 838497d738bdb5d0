"""Sorts as native code: every dtype, short and long lines, few and all places, on every level of CPU."""

import numpy as np
import pytest
from vitrify.codegen.sorting import FEW, SHORT
from vitrify.ir import dtypes, ops
from vitrify.ir.dtypes import DType
from vitrify.ir.kernel_text import parse_kernel
from vitrify.ir.ops.sorting import collected, scratch_words

from tests.codegen.harness import fenced, run_native, runnable_targets, text_of

SORTED = (
    dtypes.float32, dtypes.float64, dtypes.int64, dtypes.int32, dtypes.int16, dtypes.int8, dtypes.uint8,
    dtypes.bool_,
)  # fmt: skip
#: Around the borders between the ways of sorting, and odd tails.
LENGTHS = (0, 1, 2, 15, 16, 17, FEW, FEW + 1, SHORT, SHORT + 1, 300, 1000)


def elements(dtype: DType, length: int, rng: np.random.Generator) -> np.ndarray:
    """With many equal ones; of floats also both zeros, infinities, NaNs and subnormals."""
    if dtype is dtypes.bool_:
        return rng.random(length) < 0.5
    if dtype.is_integer:
        ends = np.iinfo(dtype.numpy)
        wide = rng.integers(ends.min, ends.max, length, dtype=dtype.numpy, endpoint=True)
        return np.where(rng.random(length) < 0.5, wide, rng.integers(0, 4, length)).astype(dtype.numpy)
    odd = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-40, -1e-40, 1.0, 2.0])
    values = np.where(rng.random(length) < 0.3, rng.choice(odd, length), rng.standard_normal(length))
    return values.astype(dtype.numpy)


def sorted_by_kernel(
    x: np.ndarray, dtype: DType, count: int, descending: bool, **target: object
) -> np.ndarray:
    """The places as a kernel of one line gives them, all memory fenced."""
    words = int(scratch_words(dtype, x.size, count))
    how = " descending" if descending else ""
    kernel = parse_kernel(f"""
        kernel k(%x: {dtype.short}[{x.size}] in, %y: i64[{count}] out, %t: i64[{words}] temp) {{
          sort %x[0] to %y[0] by %t[0] over {x.size} first {count}{how}
        }}""")
    buffers = {
        "x": fenced(x, at_end=True),
        "y": fenced(np.zeros(count, np.int64), at_end=True),
        "t": fenced(np.zeros(words, np.int64), at_end=True),
    }
    assert run_native(kernel, buffers, **target) == 0  # type: ignore[arg-type]
    return buffers["y"]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", SORTED, ids=str)
def test_places_are_those_of_a_stable_sort(dtype: DType, descending: bool) -> None:
    rng = np.random.default_rng(0)
    for length in LENGTHS:
        x = elements(dtype, length, rng)
        for count in {length, length // 2, min(length, 3), min(length, 1), 0}:
            want = ops.argsort.meaning(x, count=count, descending=descending)
            np.testing.assert_array_equal(sorted_by_kernel(x, dtype, count, descending), want)


@pytest.mark.parametrize("target", runnable_targets(), ids=lambda t: t.cpu)
def test_every_level_gives_the_same_places(target: object) -> None:
    rng = np.random.default_rng(1)
    for dtype in (dtypes.float32, dtypes.float64, dtypes.int8):
        for length, count in ((40, 40), (900, 900), (900, 7)):
            x = elements(dtype, length, rng)
            want = ops.argsort.meaning(x, count=count, descending=True)
            np.testing.assert_array_equal(sorted_by_kernel(x, dtype, count, True, target=target), want)


@pytest.mark.parametrize("order", ["ascending", "descending", "equal"])
def test_few_of_an_ordered_line(order: str) -> None:
    """Each element is one of the first so far: what is collected is thinned out again and again."""
    x = np.arange(5000, dtype=np.float32)
    x = {"ascending": x, "descending": x[::-1].copy(), "equal": np.zeros_like(x)}[order]
    for count in (1, 60, 200):
        assert collected(x.size, count) < x.size
        for descending in (False, True):
            want = ops.argsort.meaning(x, count=count, descending=descending)
            np.testing.assert_array_equal(sorted_by_kernel(x, dtypes.float32, count, descending), want)


def test_functions_are_shared_by_the_sorts_of_a_kernel() -> None:
    kernel = parse_kernel("""
        kernel k(%x: f32[200] in, %y: i64[200] out, %t: i64[200] temp) {
          sort %x[0] to %y[0] by %t[0] over 100 first 100
          sort %x[100] to %y[100] by %t[0] over 100 first 100
        }""")
    text = text_of(kernel)
    assert text.count('call void @"sort.line.f32"') == 2
    assert text.count('define internal void @"sort.line.f32"') == 1
