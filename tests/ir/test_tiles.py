"""The type rules and the meaning of maps of tiles; kernels compute what the interpreter does."""

from itertools import product

import numpy as np
import pytest
from vitrify.ir import ops
from vitrify.ir.dtypes import float32, float64, int64
from vitrify.ir.errors import IRTypeError
from vitrify.ir.interpreter import interpret
from vitrify.ir.parser import parse_graph
from vitrify.ir.strided import strided_type
from vitrify.ir.types import Literal, TensorType
from vitrify.runtime import storage
from vitrify.runtime.compiler import compile_graph

RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(4, 3))


def _literal(matrix: np.ndarray) -> Literal:
    return Literal.of(matrix, float64)


def _into(x: np.ndarray, axes, counts, starts, step: int, matrix: np.ndarray) -> np.ndarray:
    """Element by element, from the definition."""
    rows, taps = matrix.shape
    inner = [dict(zip(axes, counts)).get(a, d) for a, d in enumerate(x.shape)]
    result = np.zeros((*[rows] * len(axes), *inner))
    for place in product(*map(range, result.shape)):
        at = place[len(axes) :]
        for tap in product(range(taps), repeat=len(axes)):
            where = list(at)
            factor = 1.0
            for axis, start, i, p in zip(axes, starts, tap, place):
                where[axis] = start + step * at[axis] + i
                factor *= matrix[p, i]
            if all(0 <= i < d for i, d in zip(where, x.shape)):
                result[place] += factor * x[tuple(where)]
    return result


@pytest.mark.parametrize(
    ("shape", "axes", "counts", "starts", "step"),
    [
        ((5,), (0,), (3,), (-1,), 2),
        ((2, 5, 3), (1,), (2,), (0,), 3),
        ((2, 5, 6), (1, 2), (3, 2), (-1, 1), 2),
        ((4, 3, 2), (0, 2), (1, 1), (0, -1), 1),
        ((2, 0, 3), (2,), (2,), (0,), 2),
    ],
)
def test_into_tiles(shape, axes, counts, starts, step: int) -> None:
    x = RNG.normal(size=shape)
    assert ops.into_tiles.meaning is not None
    attrs = dict(axes=axes, channels=-1, counts=counts, starts=starts, step=step, matrix=_literal(MATRIX))
    got = ops.into_tiles.meaning(x, **attrs)
    np.testing.assert_allclose(got, _into(x, axes, counts, starts, step, MATRIX), atol=1e-14)
    (type_,) = ops.into_tiles.result_types(TensorType(float64, shape), **attrs)
    assert type_.shape == got.shape


@pytest.mark.parametrize(("counts", "sizes"), [((2, 2), (6, 6)), ((2, 3), (4, 8)), ((1, 1), (3, 2))])
def test_from_tiles_puts_tiles_side_by_side(counts, sizes) -> None:
    x = RNG.normal(size=(4, 4, 2, *counts))
    assert ops.from_tiles.meaning is not None
    got = ops.from_tiles.meaning(x, axes=(1, 2), channels=-1, matrix=_literal(MATRIX.T), sizes=sizes)
    tiles = np.einsum("pi,qj,pqbtu->btiuj", MATRIX, MATRIX, x)
    want = tiles.reshape(2, counts[0] * 3, counts[1] * 3)[:, : sizes[0], : sizes[1]]
    np.testing.assert_allclose(got, want, atol=1e-14)


def test_types_are_checked() -> None:
    into = dict(axes=(0,), channels=-1, counts=(2,), starts=(0,), step=2, matrix=_literal(MATRIX))
    with pytest.raises(IRTypeError, match="floats"):
        ops.into_tiles.result_types(TensorType(int64, (4,)), **into)
    with pytest.raises(IRTypeError, match="ascending"):
        ops.into_tiles.result_types(TensorType(float32, (4,)), **{**into, "axes": (1,)})
    with pytest.raises(IRTypeError, match="one number per axis"):
        ops.into_tiles.result_types(TensorType(float32, (4,)), **{**into, "counts": (1, 2)})
    back = dict(axes=(0,), channels=-1, matrix=_literal(MATRIX.T), sizes=(7,))
    with pytest.raises(IRTypeError, match="do not make 7"):
        ops.from_tiles.result_types(TensorType(float32, (4, 2)), **back)
    with pytest.raises(IRTypeError, match="a tile of 4"):
        ops.from_tiles.result_types(TensorType(float32, (3, 2)), **{**back, "sizes": (6,)})


INTO = """graph(%x: f32[2, 5, 20, 9]) {{
  %0 = into_tiles %x {{axes=(1, 3), channels={channels}, counts=(2, 3), matrix=f64[2, 3](1.0, 0.0, -2.0, 0.5, 1.0, 3.0), starts=(-1, 0), step=3}} : f32[2, 2, 2, 2, 20, 3]
  return %0
}}"""  # noqa: E501
FROM = """graph(%x: f32[3, 3, 2, 20, 2, 3], %bias: f32[2, 20, 4, 5]) {{
  %0 = from_tiles %x {{axes=(2, 3), channels={channels}, matrix=f64[2, 3](1.0, 1.0, 0.0, 0.25, -1.0, 1.0), sizes=(4, 5)}} : f32[2, 20, 4, 5]
  %1 = add %0, %bias : f32[2, 20, 4, 5]
  %2 = neg %1 : f32[2, 20, 4, 5]
  return %2, %1
}}"""  # noqa: E501


@pytest.mark.parametrize("text", [INTO, FROM])
@pytest.mark.parametrize("channels", [-1, 1])
def test_kernels_compute_tiles(text: str, channels: int) -> None:
    """Odd sizes, edges, tiles cut off, and what follows in the same kernel."""
    graph = parse_graph(text.format(channels=channels))
    inputs = [RNG.normal(size=v.type.shape).astype(np.float32) for v in graph.inputs]
    outputs = compile_graph(graph).run([storage.from_array(x) for x in inputs])
    wanted, _ = interpret(graph, inputs)
    for output, value, want in zip(outputs, graph.outputs, wanted, strict=True):
        got = storage.to_array(output, strided_type(value.type.dtype, value.type.shape))
        np.testing.assert_allclose(got, want, atol=1e-5)
