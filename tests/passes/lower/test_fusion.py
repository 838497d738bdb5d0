"""How many kernels well-known graphs become, and that they compute the same."""

from __future__ import annotations

import numpy as np
import pytest
from vitrify.ir import ops
from vitrify.ir.builder import GraphBuilder, broadcast, full, reduce, scalar
from vitrify.ir.contraction import contract_spec
from vitrify.ir.dtypes import float32, int64
from vitrify.ir.graph import Value
from vitrify.ir.kernel import Contract, Loop, Reduce, Store
from vitrify.ir.parser import parse_graph
from vitrify.ir.types import TensorType
from vitrify.passes.lower import lower

from tests.passes.lower.lowering import check_lowered, kernel_names


def f32(*shape: int) -> TensorType:
    return TensorType(float32, shape)


def rows_of(build: GraphBuilder, x: Value, like: Value) -> Value:
    """A value per row, repeated along the last axis."""
    shape = like.type.shape
    return build(ops.expand, build(ops.reshape, x, shape=(*shape[:-1], 1)), shape=shape)


def softmax(build: GraphBuilder, x: Value) -> Value:
    last = (x.type.rank - 1,)
    e = build(ops.exp, build(ops.sub, x, rows_of(build, reduce(build, ops.reduce_max, x, last), x)))
    return build(ops.div, e, rows_of(build, reduce(build, ops.reduce_sum, e, last), x))


def log_softmax(build: GraphBuilder, x: Value) -> Value:
    last = (x.type.rank - 1,)
    shifted = build(ops.sub, x, rows_of(build, reduce(build, ops.reduce_max, x, last), x))
    total = reduce(build, ops.reduce_sum, build(ops.exp, shifted), last)
    return build(ops.sub, shifted, rows_of(build, build(ops.log, total), x))


def mean(build: GraphBuilder, x: Value) -> Value:
    total = reduce(build, ops.reduce_sum, x, (x.type.rank - 1,))
    return build(ops.div, total, full(build, x.type.shape[-1], total.type))


def normalized(build: GraphBuilder, x: Value) -> tuple[Value, Value]:
    """(x - mean) / sqrt(var + eps), and 1 / sqrt(var + eps) per row."""
    centred = build(ops.sub, x, rows_of(build, mean(build, x), x))
    variance = mean(build, build(ops.mul, centred, centred))
    scale = build(ops.rsqrt, build(ops.add, variance, full(build, 1e-5, variance.type)))
    return build(ops.mul, centred, rows_of(build, scale, x)), scale


@pytest.mark.parametrize("shape", [(64, 10), (3, 1), (1, 7), (2, 3, 33), (5,)])
def test_softmax_is_one_kernel(shape: tuple[int, ...]) -> None:
    build = GraphBuilder("softmax")
    x = build.input(f32(*shape), "x")
    check_lowered(build.finish([softmax(build, x)]), calls=1)


def test_softmax_keeps_its_exponentials_in_the_result() -> None:
    build = GraphBuilder("softmax")
    x = build.input(f32(4, 40), "x")
    plan = check_lowered(build.finish([softmax(build, x)]), calls=1)
    (kernel,) = plan.kernels
    assert sum(getattr(s, "opdef", None) is ops.exp for s in kernel.statements()) == 1
    assert [b.access for b in kernel.buffers] == ["in", "out"]


def test_a_result_made_of_one_element_is_stored_with_those_of_the_last_pass() -> None:
    build = GraphBuilder("softmax")
    x, ct = build.input(f32(4, 40), "x"), build.input(f32(4, 40), "ct")
    e = build(ops.exp, x)
    y = build(ops.mul, e, rows_of(build, build(ops.rsqrt, reduce(build, ops.reduce_sum, e, (1,))), x))
    along = reduce(build, ops.reduce_sum, build(ops.mul, ct, y), (1,))
    gradient = build(ops.mul, y, build(ops.sub, ct, rows_of(build, along, y)))
    (kernel,) = check_lowered(build.finish([y, gradient]), calls=1).kernels
    (row,) = (s for s in kernel.body if isinstance(s, Loop))
    passes = [s for s in row.body if isinstance(s, Loop | Reduce)]
    stores = [sum(isinstance(inner, Store) for inner in s.body) for s in passes]
    assert stores == [1, 0, 2]  # the exponentials, then both results


def test_log_softmax_is_one_kernel() -> None:
    build = GraphBuilder("log_softmax")
    x = build.input(f32(6, 10), "x")
    check_lowered(build.finish([log_softmax(build, x)]), calls=1)


def test_layer_norm_is_one_kernel() -> None:
    build = GraphBuilder("layer_norm")
    x, w, b = build.input(f32(2, 5, 24), "x"), build.input(f32(24), "w"), build.input(f32(24), "b")
    y, _ = normalized(build, x)
    y = build(
        ops.add, build(ops.mul, y, broadcast(build, w, y.type.shape)), broadcast(build, b, y.type.shape)
    )
    check_lowered(build.finish([y]), calls=1)


def test_layer_norm_backward_is_one_kernel_over_rows() -> None:
    """dx = scale * (g - mean(g) - y * mean(g * y)) with g = ct * w; the sums over rows for w and b are
    others."""
    build = GraphBuilder("layer_norm_backward")
    x, w, ct = build.input(f32(6, 24), "x"), build.input(f32(24), "w"), build.input(f32(6, 24), "ct")
    y, scale = normalized(build, x)
    g = build(ops.mul, ct, broadcast(build, w, ct.type.shape))
    along = rows_of(build, mean(build, build(ops.mul, g, y)), x)
    rest = build(ops.sub, build(ops.sub, g, rows_of(build, mean(build, g), x)), build(ops.mul, y, along))
    dx = build(ops.mul, rest, rows_of(build, scale, x))
    check_lowered(build.finish([dx]), calls=1)


def test_cross_entropy_with_gradient_is_one_kernel_and_a_mean() -> None:
    build = GraphBuilder("cross_entropy")
    x, target = build.input(f32(6, 10), "x"), build.input(TensorType(int64, (6,)), "target")
    logp = log_softmax(build, x)
    classes = build(ops.iota, shape=(6, 10), axis=1, dtype=int64)
    hot = build(ops.eq, classes, rows_of(build, target, x))
    picked = reduce(build, ops.reduce_sum, build(ops.select, hot, logp, full(build, 0, x.type)), (1,))
    loss = build(
        ops.neg, build(ops.div, reduce(build, ops.reduce_sum, picked, (0,)), scalar(build, 6, float32))
    )
    ct = build(ops.select, hot, full(build, -1 / 6, x.type), full(build, 0, x.type))
    back = build(ops.mul, build(ops.exp, logp), rows_of(build, reduce(build, ops.reduce_sum, ct, (1,)), x))
    graph = build.finish([loss, build(ops.sub, ct, back)])
    rng = np.random.default_rng(1)
    check_lowered(
        graph, calls=2, inputs=[rng.normal(size=(6, 10)).astype(np.float32), rng.integers(0, 10, 6)]
    )


@pytest.mark.parametrize("activation", [ops.gelu, ops.tanh, ops.silu])
def test_linear_with_bias_and_activation_is_one_kernel(activation: ops.OpDef) -> None:  # type: ignore[name-defined]
    build = GraphBuilder("linear")
    x, w, b = build.input(f32(5, 12), "x"), build.input(f32(12, 33), "w"), build.input(f32(33), "b")
    z = build(ops.contract, x, w, spec=contract_spec("m k", "k n", "m n", "k"))
    y = build(activation, build(ops.add, z, broadcast(build, b, z.type.shape)))
    check_lowered(build.finish([y]), calls=1)


def test_a_contraction_stores_what_backward_needs_too() -> None:
    build = GraphBuilder("linear")
    x, w = build.input(f32(5, 12), "x"), build.input(f32(12, 33), "w")
    z = build(ops.contract, x, w, spec=contract_spec("m k", "k n", "m n", "k"))
    check_lowered(build.finish([z, build(ops.maximum, z, full(build, 0, z.type))]), calls=1)


def test_a_residual_goes_into_the_contraction() -> None:
    build = GraphBuilder("residual")
    x, w = build.input(f32(5, 12), "x"), build.input(f32(12, 12), "w")
    z = build(ops.contract, x, w, spec=contract_spec("m k", "k n", "m n", "k"))
    check_lowered(build.finish([build(ops.add, x, build(ops.exp, z))]), calls=1)


def adam(build: GraphBuilder, p: Value, g: Value, m: Value, v: Value, lr: Value) -> list[tuple[Value, Value]]:
    def times(x: Value, factor: float) -> Value:
        return build(ops.mul, x, full(build, factor, x.type))

    new_m = build(ops.add, times(m, 0.9), times(g, 0.1))
    new_v = build(ops.add, times(v, 0.999), times(build(ops.mul, g, g), 0.001))
    step = build(ops.div, new_m, build(ops.add, build(ops.sqrt, new_v), full(build, 1e-8, p.type)))
    return [
        (p, build(ops.sub, p, build(ops.mul, broadcast(build, lr, p.type.shape), step))),
        (m, new_m),
        (v, new_v),
    ]


def test_the_updates_of_all_parameters_are_one_kernel_in_place() -> None:
    build = GraphBuilder("adam")
    lr = build.input(f32(), "lr")
    updates = []
    for n, shape in enumerate([(8, 5), (8,), (3, 8), (3,), (2, 3), ()]):
        p, g, m, v = (build.input(f32(*shape), f"{name}{n}") for name in "pgmv")
        updates += adam(build, p, g, m, v, lr)
    arrays = [
        np.abs(np.random.default_rng(n).normal(size=v.type.shape)).astype(np.float32)
        for n, v in enumerate(build.inputs)
    ]
    plan = check_lowered(build.finish([], updates), calls=1, inputs=arrays)
    assert plan.arena_bytes == 0


def test_many_updates_share_a_kernel_of_run_time_size() -> None:
    build = GraphBuilder("adam")
    lr = build.input(f32(), "lr")
    updates = []
    for n in range(12):
        p, g, m, v = (build.input(f32(3 + n % 5, 4), f"{name}{n}") for name in "pgmv")
        updates += adam(build, p, g, m, v, lr)
    rng = np.random.default_rng(0)
    arrays = [np.abs(rng.normal(size=v.type.shape)).astype(np.float32) for v in build.inputs]
    plan = check_lowered(build.finish([], updates), calls=12, inputs=arrays)
    assert [k.sizes for k in plan.kernels] == [("n",)]
    assert [c.sizes for c in plan.calls][:5] == [(12,), (16,), (20,), (24,), (28,)]


def test_an_update_stays_out_of_the_contraction_that_makes_its_gradient() -> None:
    build = GraphBuilder("sgd")
    x, ct, w, lr = (
        build.input(f32(*s), n) for s, n in [((4, 6), "x"), ((4, 20), "ct"), ((6, 20), "w"), ((), "lr")]
    )
    g = build(ops.contract, x, ct, spec=contract_spec("b m", "b n", "m n", "b"))
    new = build(ops.sub, w, build(ops.mul, broadcast(build, lr, w.type.shape), g))
    dx = build(ops.contract, ct, w, spec=contract_spec("b n", "m n", "b m", "n"))
    plan = check_lowered(build.finish([dx], [(w, new)]))
    assert kernel_names(plan)[-1].startswith("mul_sub")
    assert (
        sum(isinstance(s, Contract) and len(s.body) == 1 for k in plan.kernels for s in k.statements()) == 2
    )


def test_siblings_that_read_one_row_share_a_kernel() -> None:
    check_lowered(
        """
        graph g(%x: f32[5, 20]) {
          %0 = reduce_sum %x {axes=(1,), order="lanes"} : f32[5]
          %1 = reshape %0 {shape=(5, 1)} : f32[5, 1]
          %2 = expand %1 {shape=(5, 20)} : f32[5, 20]
          %3 = div %x, %2 : f32[5, 20]
          %4 = reduce_max %3 {axes=(1,), order="lanes"} : f32[5]
          %5 = exp %4 : f32[5]
          return %0, %3, %5
        }""",
        calls=1,
    )


def test_a_result_is_stored_by_the_reduction_that_computes_it() -> None:
    plan = check_lowered(
        """
        graph g(%x: f32[5, 20]) {
          %0 = exp %x : f32[5, 20]
          %1 = reduce_sum %0 {axes=(1,), order="lanes"} : f32[5]
          return %0, %1
        }""",
        calls=1,
    )
    (kernel,) = plan.kernels
    kinds = [type(s).__name__ for s in kernel.statements()]
    assert kinds == ["Loop", "Reduce", "Load", "Compute", "Store", "Store"]


def test_column_sums_take_their_prologue_and_epilogue() -> None:
    check_lowered(
        """
        graph g(%x: f32[60, 20], %y: f32[60, 20]) {
          %0 = mul %x, %y : f32[60, 20]
          %1 = exp %0 : f32[60, 20]
          %2 = reduce_sum %1 {axes=(0,), order="rows"} : f32[20]
          %3 = log %2 : f32[20]
          return %3
        }""",
        calls=1,
    )


def test_a_dear_value_with_two_readers_is_computed_once() -> None:
    plan = check_lowered(
        """
        graph g(%x: f32[30, 20]) {
          %0 = exp %x : f32[30, 20]
          %1 = reduce_sum %0 {axes=(0,), order="rows"} : f32[20]
          %2 = permute %0 {perm=(1, 0)} : f32[20, 30]
          return %1, %2
        }""",
        calls=3,
    )
    assert sum(getattr(s, "opdef", None) is ops.exp for k in plan.kernels for s in k.statements()) == 1


def test_a_cheap_value_with_two_readers_is_computed_by_both() -> None:
    check_lowered(
        """
        graph g(%x: f32[30, 20]) {
          %0 = neg %x : f32[30, 20]
          %1 = reduce_sum %0 {axes=(0,), order="rows"} : f32[20]
          %2 = permute %0 {perm=(1, 0)} : f32[20, 30]
          return %1, %2
        }""",
        calls=2,
    )


@pytest.mark.parametrize(("n", "stores"), [(512, 1), (64, 2)])
def test_few_stores_where_many_sums_are_read_in_several_forms(n: int, stores: int) -> None:
    """The gradient of attention's weights: two products of it are wanted, one of them in a sum of the row."""
    plan = lower(
        parse_graph(f"""
        graph g(%x: f32[2, {n}, 8], %y: f32[2, {n}, 8], %p: f32[2, {n}, {n}], %q: f32[2, {n}, {n}]) {{
          %0 = contract %x, %y {{spec=<[b, m, k] * [b, n, k] -> [b, m, n] over k>}} : f32[2, {n}, {n}]
          %1 = mul %0, %p : f32[2, {n}, {n}]
          %2 = reduce_sum %1 {{axes=(2,), order="lanes"}} : f32[2, {n}]
          %3 = reshape %2 {{shape=(2, {n}, 1)}} : f32[2, {n}, 1]
          %4 = expand %3 {{shape=(2, {n}, {n})}} : f32[2, {n}, {n}]
          %5 = mul %0, %q : f32[2, {n}, {n}]
          %6 = sub %5, %4 : f32[2, {n}, {n}]
          return %6
        }}""")
    )
    (tile,) = [s for kernel in plan.kernels for s in kernel.statements() if isinstance(s, Contract)]
    assert sum(isinstance(s, Store) for s in tile.body) == stores


def test_no_cycle_between_groups() -> None:
    """exp joins neither the contraction before nor the sum after: they depend on each other by another
    way."""
    check_lowered("""
        graph g(%x: f32[8, 8]) {
          %0 = exp %x : f32[8, 8]
          %1 = contract %0, %0 {spec=<[m, k] * [k, n] -> [m, n] over k>} : f32[8, 8]
          %2 = add %0, %1 : f32[8, 8]
          %3 = mul %2, %0 : f32[8, 8]
          return %3, %0
        }""")


@pytest.mark.parametrize("turned", [False, True])
def test_a_long_chain_becomes_kernels_of_bounded_size(turned: bool) -> None:
    build = GraphBuilder("chain")
    x = build.input(f32(3, 3), "x")
    y = x
    for n in range(700):
        y = build(ops.sin, y)
        if turned and n % 7 == 0:
            y = build(ops.permute, y, perm=(1, 0))
    plan = check_lowered(build.finish([y]))
    assert 4 <= len(plan.calls) <= 30
