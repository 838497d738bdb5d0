"""Large results that no kernel reads again are written past the caches."""

from __future__ import annotations

import numpy as np
import pytest
import vitrify
from vitrify.ir.kernel_text import print_kernel
from vitrify.ir.parser import parse_graph
from vitrify.passes.lower import lower


def accesses(text: str) -> list[list[str]]:
    return [[b.access for b in kernel.buffers] for kernel in lower(parse_graph(text)).kernels]


def test_a_large_result_is_streamed() -> None:
    assert accesses("""
        graph g(%x: f32[8388608]) {
          %0 = neg %x : f32[8388608]
          return %0
        }""") == [["in", "stream"]]


def test_sums_that_go_on_are_not() -> None:
    """The gradients of attention's keys and values, to which each block of rows adds its share."""
    t, d = 2048, 64
    found = accesses(f"""
        graph g(%x: f32[16, {t}, {d}], %y: f32[16, {t}, {d}]) {{
          %0 = contract %x, %y {{spec=<[b, t, d] * [b, s, d] -> [b, t, s] over d>}} : f32[16, {t}, {t}]
          %1 = exp %0 : f32[16, {t}, {t}]
          %2 = contract %1, %x {{spec=<[b, t, s] * [b, s, d] -> [b, t, d] over s>}} : f32[16, {t}, {d}]
          %3 = contract %1, %x {{spec=<[b, t, s] * [b, t, d] -> [b, s, d] over t>}} : f32[16, {t}, {d}]
          return %2, %3
        }}""")
    assert found == [["in", "in", "stream", "out"]]


def test_a_small_one_is_not() -> None:
    assert accesses("""
        graph g(%x: f32[1000]) {
          %0 = neg %x : f32[1000]
          return %0
        }""") == [["in", "out"]]


def test_nor_is_what_another_kernel_reads() -> None:
    found = accesses("""
        graph g(%x: f32[4096, 2048]) {
          %0 = neg %x : f32[4096, 2048]
          %1 = permute %0 {perm=(1, 0)} : f32[2048, 4096]
          return %0, %1
        }""")
    assert ["in", "out"] in found


def test_nor_the_new_contents_of_an_input() -> None:
    assert accesses("""
        graph g(%x: f32[8388608]) {
          %0 = neg %x : f32[8388608]
          update %x = %0
          return
        }""") == [["in", "out"]]


def test_a_streamed_kernel_reads_back_as_printed() -> None:
    (kernel,) = lower(
        parse_graph("""
        graph g(%x: f32[8388608]) {
          %0 = neg %x : f32[8388608]
          return %0
        }""")
    ).kernels
    assert "%y0: f32[8388608] stream" in print_kernel(kernel)


@pytest.mark.parametrize("size", [1 << 22, (1 << 22) + 13])
def test_streamed_results_are_complete(size: int) -> None:
    """With an odd tail, and rows that do not begin at multiples of a vector."""
    x = np.arange(size, dtype=np.float32)
    y = vitrify.compile(lambda x: (x * 2 + 1, x - 3, x * x))(vitrify.from_numpy(x))
    for got, want in zip(y, (x * 2 + 1, x - 3, x * x), strict=True):
        assert np.array_equal(got.numpy(), want)
    rows = vitrify.from_numpy(x[: size // 100 * 100].reshape(-1, 100))
    assert np.array_equal(
        vitrify.compile(lambda r: (r + 1, r * 3))(rows)[1].numpy(), rows.numpy() * np.float32(3)
    )
