"""bfloat16, float16 and narrow integers in compiled graphs: the interpreter's bits, for every CPU level."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from vitrify.ir.interpreter import interpret
from vitrify.ir.narrow import narrowed
from vitrify.ir.parser import parse_graph
from vitrify.ir.strided import strided_type
from vitrify.runtime import compiler, storage
from vitrify.runtime.options import options

from tests.codegen.harness import runnable_targets
from tests.support import assert_same_bits

NUMPY = {"bf16": np.uint16, "f16": np.float16, "i8": np.int8, "i16": np.int16, "u8": np.uint8}


@pytest.fixture(params=["native", *(t.cpu for t in runnable_targets()[:-1])])
def _target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(options, "target", request.param)
    yield


def numbers(dtype: str, *shape: int, seed: int = 0) -> np.ndarray:
    """Ordinary values; of floats every eighth is any pattern of bits."""
    rng = np.random.default_rng(seed)
    if dtype not in ("bf16", "f16"):
        return rng.integers(np.iinfo(NUMPY[dtype]).min, np.iinfo(NUMPY[dtype]).max, shape).astype(
            NUMPY[dtype]
        )
    made = narrowed(rng.standard_normal(shape).astype(np.float32), np.dtype(NUMPY[dtype]))
    any_bits = rng.integers(0, 1 << 16, shape).astype(np.uint16).view(NUMPY[dtype])
    return np.where(rng.integers(0, 8, shape) == 0, any_bits, made)


def check(text: str, *arrays: np.ndarray) -> None:
    graph = parse_graph(text)
    wanted, _ = interpret(graph, arrays)
    made = compiler.compile_graph(graph).run([storage.from_array(np.ascontiguousarray(a)) for a in arrays])
    for got, want, value in zip(made, wanted, graph.outputs, strict=True):
        type_ = strided_type(value.type.dtype, value.type.shape)  # type: ignore[arg-type]
        assert_same_bits(storage.to_array(got, type_), want)


@pytest.mark.usefixtures("_target")
@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_every_op_rounds_once(dtype: str) -> None:
    x, y = numbers(dtype, 5, 37), numbers(dtype, 5, 37, seed=1)
    check(
        f"""graph g(%x: {dtype}[5, 37], %y: {dtype}[5, 37]) {{
          %0 = add %x, %y : {dtype}[5, 37]
          %1 = mul %0, %y : {dtype}[5, 37]
          %2 = reduce_sum %1 {{axes=(1,), order="lanes"}} : {dtype}[5]
          %3 = reduce_max %x {{axes=(0,), order="rows"}} : {dtype}[37]
          %4 = lt %x, %y : bool[5, 37]
          %5 = select %4, %x, %0 : {dtype}[5, 37]
          %6 = cumsum %5 {{axis=1}} : {dtype}[5, 37]
          %7 = permute %6 {{perm=(1, 0)}} : {dtype}[37, 5]
          return %1, %2, %3, %6, %7
        }}""",
        x, y,
    )  # fmt: skip


def contraction(dtype: str, m: int, n: int, k: int, left: str, right: str) -> None:
    sizes = {"m": m, "n": n, "k": k}
    a, b = (numbers(dtype, *(sizes[c] for c in side), seed=i) for i, side in enumerate((left, right)))
    result = "f32" if dtype in ("bf16", "f16") else "i32"
    spec = f"<[{', '.join(left)}] * [{', '.join(right)}] -> [m, n] over k>"
    check(
        f"""graph g(%x: {dtype}{list(a.shape)}, %y: {dtype}{list(b.shape)}) {{
          %0 = contract %x, %y {{spec={spec}}} : {result}[{m}, {n}]
          return %0
        }}""",
        a, b,
    )  # fmt: skip


SHAPES = [(5, 7, 33), (1, 40, 64), (13, 70, 51), (3, 16, 1), (2, 3, 4099), (4, 0, 3), (3, 4, 0)]


@pytest.mark.parametrize("layout", ["mk,nk", "mk,kn", "km,kn", "km,nk"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_contractions_of_bfloat16(shape: tuple[int, int, int], layout: str) -> None:
    contraction("bf16", *shape, *layout.split(","))


@pytest.mark.usefixtures("_target")
@pytest.mark.parametrize("dtype", ["bf16", "f16", "i8", "i16", "u8"])
def test_contractions_of_narrow_types(dtype: str) -> None:
    contraction(dtype, 13, 37, 21, "mk", "nk")
    contraction(dtype, 2, 20, 40, "mk", "kn")


@pytest.mark.usefixtures("_target")
def test_sums_near_the_least_normal_number_are_flushed() -> None:
    """Products of about 2^-126 and cancellation to that: where flushing before and after rounding differ."""
    rng = np.random.default_rng(0)
    magnitudes = 2.0 ** rng.integers(-66, -60, (40, 6))
    a, b = (
        narrowed((rng.standard_normal((40, 6)) * magnitudes).astype(np.float32), np.dtype(np.uint16))
        for _ in range(2)
    )
    check(
        """graph g(%x: bf16[40, 6], %y: bf16[40, 6]) {
          %0 = contract %x, %y {spec=<[m, k] * [n, k] -> [m, n] over k>} : f32[40, 40]
          return %0
        }""",
        a, b,
    )  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_convolutions_of_bfloat16(channels: int) -> None:
    """Forward, where channels come in pairs, and the weight's gradient, where columns of the result do."""
    x, w, g = (
        numbers("bf16", 2, channels, 7, 7),
        numbers("bf16", 5, channels, 3, 3),
        numbers("bf16", 2, 5, 7, 7),
    )
    image = f"bf16[2, {channels}, 7, 7]"
    check(
        f"""graph g(%x: {image}, %w: bf16[5, {channels}, 3, 3], %g: bf16[2, 5, 7, 7]) {{
          %0 = contract %x, %w {{spec=<[n, ci, oh + kh - 1, ow + kw - 1] * [co, ci, kh, kw] \
-> [n, co, oh, ow] \
over kh, kw, ci where oh = 7, ow = 7>}} : f32[2, 5, 7, 7]
          %1 = contract %x, %g {{spec=<[n, ci, oh + kh - 1, ow + kw - 1] * [n, co, oh, ow] \
-> [co, ci, kh, kw] \
over n, oh, ow where kh = 3, kw = 3>}} : f32[5, {channels}, 3, 3]
          return %0, %1
        }}""",
        x, w, g,
    )  # fmt: skip
