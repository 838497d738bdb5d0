"""Eager ops: views without copies, one kernel for every size of a layout class, the same bits as the
reference."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from vitrify.ir import dtypes, ops
from vitrify.ir.opdef import BoundOp, bind
from vitrify.ir.strided import StridedType, strided_type
from vitrify.runtime import compiler, eager, storage
from vitrify.runtime.layout import space
from vitrify.runtime.views import reshaped_strides, view_of

from tests.support import assert_same_bits


def strided(rng: np.random.Generator, shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    """An array of this shape whose elements lie in one of many ways: permuted, sliced, repeated."""
    order = rng.permutation(len(shape))
    steps = rng.integers(1, 3, len(shape))
    repeated = rng.random(len(shape)) < 0.2
    base_shape = [1 if repeated[a] else shape[a] * steps[a] for a in order]
    base = (rng.standard_normal(base_shape) * 5).astype(dtype)
    moved = base.transpose(np.argsort(order))
    sliced = moved[tuple(slice(None, None, 1 if repeated[a] else steps[a]) for a in range(len(shape)))]
    return np.broadcast_to(sliced, shape)


def operand(array: np.ndarray) -> tuple[StridedType, Any]:
    strides = tuple(s // array.itemsize for s in array.strides)
    return strided_type(dtypes.from_numpy(array.dtype), array.shape, strides), storage.from_array(array)


def run(op: BoundOp, *arrays: np.ndarray) -> np.ndarray:
    types, storages = zip(*map(operand, arrays), strict=True)
    result = eager.signature(op, types).result
    return storage.to_array(eager.execute(op, types, storages), result)


SHAPES = [
    (),
    (1,),
    (7,),
    (33,),
    (2, 3),
    (5, 1, 17),
    (3, 4, 5),
    (2, 1, 3, 4),
    (1, 1),
    (4, 16),
    (0,),
    (3, 0, 2),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pointwise_ops_of_any_layout(shape: tuple[int, ...]) -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, y = strided(rng, shape), strided(rng, shape)
        condition = strided(rng, shape) > 0
        assert_same_bits(run(bind(ops.add), x, y), x + y, f"add {seed}")
        assert_same_bits(run(bind(ops.select), condition, x, y), np.where(condition, x, y), f"select {seed}")
        assert_same_bits(run(bind(ops.cast, dtype=dtypes.float64), x), x.astype(np.float64), f"cast {seed}")
        assert_same_bits(run(bind(ops.mul), x, x), x * x, f"the same operand twice {seed}")


@pytest.mark.parametrize(
    "axes, order",
    [
        ((0,), "rows"),
        ((1,), "rows"),
        ((2,), "lanes"),
        ((0, 1), "rows"),
        ((1, 2), "lanes"),
        ((0, 1, 2), "lanes"),
    ],
)
@pytest.mark.parametrize("opdef", [ops.reduce_sum, ops.reduce_max, ops.argmin], ids=lambda o: o.name)
def test_reductions_of_any_layout(opdef: Any, axes: tuple[int, ...], order: str) -> None:
    for seed, shape in enumerate(
        [(3, 4, 5), (1, 1, 1), (2, 1, 40), (5, 1, 1), (1, 6, 1), (1, 3, 33), (150, 2, 3)]
    ):
        x = strided(np.random.default_rng(seed), shape)
        op = bind(opdef, axes=axes, order=order)
        assert_same_bits(run(op, x), opdef.meaning(x, axes=axes, order=order), f"{shape}")


def test_a_reduction_over_nothing() -> None:
    op = bind(ops.reduce_sum, axes=(1,), order="lanes")
    assert_same_bits(run(op, np.zeros((3, 0), np.float32)), np.zeros(3, np.float32))
    assert run(op, np.zeros((0, 3), np.float32)).shape == (0,)


def test_one_kernel_serves_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    made = compiler.compile_graph
    monkeypatch.setattr(
        compiler, "compile_graph", lambda graph, **k: compiled.append(graph.name) or made(graph, **k)
    )
    monkeypatch.setattr(eager, "_executables", {})
    rng = np.random.default_rng(0)
    for n in (1, 5, 16, 100):
        x = rng.standard_normal((n, 3)).astype(np.float32)
        run(bind(ops.sub), x, x)
        run(bind(ops.sub), x[:, 0].copy(), x[:, 0].copy())
    assert compiled == ["sub"]
    for n in (2, 5, 16):
        run(bind(ops.sub), x[:n, :2], x[:n, 1:])
    assert compiled == ["sub", "sub"]


def test_axes_are_dropped_and_joined() -> None:
    dense = strided_type(dtypes.float32, (2, 1, 3, 4))
    assert space([dense, dense]).sizes == {"s0": 24}
    turned = strided_type(dtypes.float32, (3, 4), (1, 3))
    assert space([turned]).sizes == {"s0": 3, "s1": 4, "t0": 1, "t1": 3}
    repeated = strided_type(dtypes.float32, (3, 4), (0, 1))
    assert space([strided_type(dtypes.float32, (3, 4)), repeated]).sizes == {"s0": 3, "s1": 4, "t0": 0}
    assert space([repeated]).layout.strides == ((None, 1),)
    assert space([strided_type(dtypes.float32, ())]).sizes == {"s0": 1}
    scalar = strided_type(dtypes.float32, (5,), (0,))
    assert space([scalar]).layout.strides == ((0,),)


def test_reduced_axes_stay_apart_from_kept_ones() -> None:
    dense = strided_type(dtypes.float32, (2, 3, 4))
    assert space([dense], (1, 2)).layout.reduced == (False, True)
    assert space([dense], (0,), keep_last=True).layout.reduced == (True, False)
    column = strided_type(dtypes.float32, (5, 1))
    assert space([column], (0,), keep_last=True).layout.reduced == (True, False)
    one = strided_type(dtypes.float32, (1, 1))
    assert space([one], (1,)).layout.reduced == (True,)
    assert space([one], (0,), keep_last=True).layout.reduced == (True, False)


@pytest.mark.parametrize(
    "shape, strides, new, expected",
    [
        ((2, 3), (3, 1), (6,), (1,)), ((2, 3), (1, 2), (6,), None), ((2, 3), (3, 1), (3, 2), (2, 1)),
        ((4, 1, 3), (3, 9, 1), (12,), (1,)), ((2, 3, 4), (12, 4, 1), (6, 4), (4, 1)),
        ((3, 2, 4), (4, 12, 1), (3, 8), None), ((3, 4), (8, 1), (3, 2, 2), (8, 2, 1)),
        ((), (), (1, 1), (1, 1)), ((1,), (5,), (), ()), ((5,), (0,), (5, 1), (0, 1)),
        ((0, 3), (3, 1), (3, 0), (0, 1)), ((6,), (2,), (2, 3), (6, 2)),
    ],
)  # fmt: skip
def test_strides_of_a_reshaped_view(shape: Any, strides: Any, new: Any, expected: Any) -> None:
    assert reshaped_strides(shape, strides, new) == expected


def test_views_are_what_numpy_shows() -> None:
    array = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    cases: list[tuple[BoundOp, np.ndarray]] = [
        (bind(ops.permute, perm=(2, 0, 1)), array.transpose(2, 0, 1)),
        (bind(ops.slice_, starts=(1, 0, 1), stops=(3, 4, 5), steps=(1, 2, 3)), array[1:3, 0:4:2, 1:5:3]),
        (bind(ops.slice_, starts=(3, 0, 0), stops=(3, 4, 5), steps=(1, 1, 1)), array[3:3]),
        (bind(ops.reshape, shape=(12, 5)), array.reshape(12, 5)),
        (
            bind(ops.window, axes=(1,), sizes=(2,), strides=(2,), dilations=(1,)),
            array.reshape(3, 2, 2, 5).transpose(0, 1, 3, 2),
        ),
        (bind(ops.as_strided, shape=(2, 2), strides=(7, 2), offset=3), array.reshape(-1)[[[3, 5], [10, 12]]]),
    ]  # fmt: skip
    type_, memory = operand(array)
    for op, expected in cases:
        shown = view_of(op, type_)
        assert shown is not None
        assert_same_bits(
            storage.to_array(storage.view(memory, shown[1]), shown[0]), np.ascontiguousarray(expected)
        )
    assert (
        view_of(bind(ops.reshape, shape=(60,)), strided_type(dtypes.float32, (3, 4, 5), (1, 15, 3))) is None
    )
    assert view_of(bind(ops.flip, axes=(0,)), type_) is None


def test_reshape_copies_where_it_must() -> None:
    array = np.arange(12, dtype=np.int64).reshape(3, 4).T
    assert_same_bits(run(bind(ops.reshape, shape=(12,)), array), array.reshape(12))


def test_errors_in_the_data_are_pythons() -> None:
    x, i = np.zeros((3, 2), np.float32), np.array([0, 5])
    with pytest.raises(IndexError, match="index 5 is out of bounds for dimension 0 with size 3"):
        run(bind(ops.gather, axes=(0,)), x, i)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        run(bind(ops.floor_div), np.array([1]), np.array([0]))
    op = bind(ops.check, error="ValueError", message="no")
    types, storages = zip(*map(operand, [np.array(False)]), strict=True)
    with pytest.raises(ValueError, match="no"):
        eager.execute(op, types, storages)


def test_dtypes_without_kernels_run_in_numpy_and_say_so() -> None:
    x = np.array([1, 4], np.complex64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert_same_bits(run(bind(ops.exp), x), np.exp(x))
        assert_same_bits(run(bind(ops.add), x, x), x + x)
    assert len(caught) == 1 and "exp of c64[2] has no kernel yet" in str(caught[0].message)


def test_layouts_of_matrix_products() -> None:
    rng = np.random.default_rng(0)
    from vitrify.ir.contraction import contract_spec

    op = bind(ops.contract, spec=contract_spec("m k", "k n", "m n", "k"))
    for seed in range(6):
        x, y = strided(rng, (4, 7)), strided(rng, (7, 5))
        dense = run(op, np.ascontiguousarray(x), np.ascontiguousarray(y))
        assert_same_bits(run(op, x, y), dense, f"{seed}")
        np.testing.assert_allclose(dense, x @ y, rtol=1e-5, atol=1e-5)
