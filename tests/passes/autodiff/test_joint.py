"""Joint graphs by text, their order of accumulation, what rules save, and the split by minimum cut."""

from __future__ import annotations

import dataclasses
import textwrap
from importlib import import_module

import numpy as np
import pytest
from vitrify.ir import ops
from vitrify.ir.contraction import contract_spec
from vitrify.ir.dtypes import float32, int64
from vitrify.ir.errors import IRError
from vitrify.ir.graph import Graph
from vitrify.ir.interpreter import evaluate, interpret
from vitrify.ir.opdef import BoundOp, OpDef, bind
from vitrify.ir.parser import parse_graph
from vitrify.ir.printer import print_graph
from vitrify.ir.types import TensorType
from vitrify.ir.verifier import verify_graph
from vitrify.passes.autodiff import JointGraph, derivative, joint_graph, partition, pull_back, saves
from vitrify.passes.pipeline import optimize

from tests.support import assert_same_bits, random_array

F = TensorType(float32, (4,))


def parsed(text: str) -> Graph:
    graph = parse_graph(textwrap.dedent(text))
    verify_graph(graph)
    return graph


def joint_of(text: str, *wrt: int, **options: list[int]) -> JointGraph:
    joint = joint_graph(parsed(text), wrt, **options)
    verify_graph(joint.graph)
    return joint


def check_text(graph: Graph, text: str) -> None:
    verify_graph(graph)
    assert print_graph(graph, locations=False) == print_graph(parsed(text), locations=False)


CHAIN = """
    graph f(%x: f32[4], %y: f32[4]) {
      %0 = mul %x, %y : f32[4]
      %1 = tanh %0 : f32[4]
      return %1
    }"""


def test_joint_graph_holds_forward_and_backward() -> None:
    joint = joint_of(CHAIN, 0)
    check_text(joint.graph, """
        graph f(%x: f32[4], %y: f32[4], %ct0: f32[4]) {
          %0 = mul %x, %y : f32[4]
          %1 = tanh %0 : f32[4]
          %2 = constant {value=f32(1.0)} : f32[]
          %3 = reshape %2 {shape=(1,)} : f32[1]
          %4 = expand %3 {shape=(4,)} : f32[4]
          %5 = mul %1, %1 : f32[4]
          %6 = sub %4, %5 : f32[4]
          %7 = mul %ct0, %6 : f32[4]
          %8 = mul %7, %y : f32[4]
          return %1, %8
        }""")  # fmt: skip
    assert (joint.inputs, joint.outputs, joint.gradients) == (2, 1, (1,))


def test_contributions_are_added_in_descending_order_of_recording() -> None:
    """x is read by three operations; its cotangent is ((partial + c2) + c1) + c0."""
    joint = joint_of("""
        graph f(%x: f32[4]) {
          %0 = exp %x : f32[4]
          %1 = neg %x : f32[4]
          %2 = neg %x : f32[4]
          return %0, %1, %2
        }""", 0, partials=[0])  # fmt: skip
    check_text(joint.graph, """
        graph f(%x: f32[4], %ct0: f32[4], %ct1: f32[4], %ct2: f32[4], %partial0: f32[4]) {
          %0 = exp %x : f32[4]
          %1 = neg %x : f32[4]
          %2 = neg %x : f32[4]
          %3 = neg %ct2 : f32[4]
          %4 = add %partial0, %3 : f32[4]
          %5 = neg %ct1 : f32[4]
          %6 = add %4, %5 : f32[4]
          %7 = mul %ct0, %0 : f32[4]
          %8 = add %6, %7 : f32[4]
          return %0, %1, %2, %8
        }""")  # fmt: skip


def test_the_same_tensor_twice_contributes_twice() -> None:
    joint = joint_of("graph f(%x: f32[]) {\n  %0 = mul %x, %x : f32[]\n  return %0\n}", 0)
    got = interpret(joint.graph, [np.float32(3), np.float32(2)])[0][1]
    assert got == 12


def test_what_is_not_reached_has_no_cotangent() -> None:
    joint = joint_of("""
        graph f(%x: f32[4], %y: f32[4], %z: f32[4]) {
          %0 = exp %x : f32[4]
          %1 = gt %y, %x : bool[4]
          return %0, %1, %z
        }""", 0, 1, 2, cotangents=[0])  # fmt: skip
    assert joint.gradients == (3, None, None)


def test_an_output_that_is_an_input_passes_its_cotangent_on() -> None:
    joint = joint_of("graph f(%x: f32[4]) {\n  return %x\n}", 0)
    assert joint.graph.outputs[1] is joint.graph.inputs[1]


def test_only_floats_have_a_cotangent() -> None:
    with pytest.raises(IRError, match="only floating point"):
        joint_of("graph f(%i: i64[4]) {\n  return %i\n}", 0)


def test_updates_stay_in_the_joint_graph() -> None:
    joint = joint_of("""
        graph f(%x: f32[4], %m: f32[4]) {
          %0 = mul %x, %m : f32[4]
          update %m = %0
          return %0
        }""", 0)  # fmt: skip
    assert len(joint.graph.updates) == 1


def test_calls_are_differentiated_through() -> None:
    joint = joint_of("""
        graph f(%x: f32[4]) {
          %0 = call %x {name="g"} : f32[4] {
            graph g(%a: f32[4]) {
              %1 = exp %a : f32[4]
              return %1
            }
          }
          return %0
        }""", 0)  # fmt: skip
    assert [op.opdef for op in joint.graph.operations] == [ops.exp, ops.mul]


@pytest.mark.parametrize(
    ("op", "types", "operands", "result"),
    [
        (bind(ops.add), (F, F), [], False),
        (bind(ops.mul), (F, F), [0, 1], False),
        (bind(ops.exp), (F,), [], True),
        (bind(ops.tanh), (F,), [], True),
        (bind(ops.log), (F,), [0], False),
        (bind(ops.reduce_sum, axes=(0,), order="lanes"), (F,), [], False),
        (bind(ops.reduce_max, axes=(0,), order="lanes"), (F,), [0], True),
        (bind(ops.gather, axes=(0,)), (F, TensorType(int64, (3,))), [1], False),
        (bind(ops.eq), (F, F), [], False),
    ],
    ids=lambda v: repr(v) if isinstance(v, BoundOp) else "",
)
def test_saves(op: BoundOp, types: tuple[TensorType, ...], operands: list[int], result: bool) -> None:
    found = saves(op, types)
    assert (sorted(found.operands), found.result) == (operands, result)


def test_an_unwanted_cotangent_costs_nothing() -> None:
    op = bind(ops.contract, spec=contract_spec("m k", "k n", "m n", "k"))
    types = TensorType(float32, (3, 4)), TensorType(float32, (4, 5))
    program = derivative(op, types, (False, True))
    assert [step.op.opdef for step in program.steps] == [ops.contract]
    assert program.saves.operands == {0}
    assert program.cotangents[0] is None
    assert derivative(op, types, (False, True)) is program


def test_pull_back_runs_a_derivative_on_any_values() -> None:
    rng = np.random.default_rng(0)
    ct, x, y = (random_array(F, rng) for _ in range(3))
    program = derivative(bind(ops.mul), (F, F), (True, True))

    def apply(op: BoundOp, *operands: np.ndarray) -> np.ndarray:
        return evaluate(op, operands)

    dx, dy = pull_back(apply, program, ct, None, [x, y])
    assert dx is not None and dy is not None
    assert_same_bits(dx, ct * y)
    assert_same_bits(dy, ct * x)


TIES = [
    (ops.maximum, [[1.0, 2.0], [1.0, 3.0]], [[0.5, 0.0], [0.5, 1.0]]),
    (ops.minimum, [[1.0, 2.0], [1.0, 3.0]], [[0.5, 1.0], [0.5, 0.0]]),
    (ops.abs_, [[0.0, -0.0]], [[0.0, 0.0]]),
    (ops.sqrt, [[0.0, 4.0]], [[np.inf, 0.25]]),
    (ops.pow_, [[0.0, 2.0, 0.0], [0.0, 0.0, 2.0]], [[0.0, 0.0, 0.0], [0.0, np.log(2.0), 0.0]]),
    (ops.sign, [[0.0, 3.0]], [[0.0, 0.0]]),
]


@pytest.mark.parametrize(("opdef", "operands", "want"), TIES, ids=lambda v: getattr(v, "name", ""))
def test_subgradients_are_those_of_pytorch(opdef: OpDef, operands: list[list[float]], want: object) -> None:
    arrays = [np.array(x) for x in operands]
    types = tuple(TensorType(float32, x.shape) for x in arrays)
    program = derivative(bind(opdef), types, (True,) * len(types))
    with np.errstate(all="ignore"):
        y = evaluate(bind(opdef), arrays)
        got = pull_back(lambda op, *xs: evaluate(op, xs), program, np.ones_like(y), y, arrays)
    np.testing.assert_allclose(np.array(got), np.array(want), rtol=1e-7)


@pytest.mark.parametrize("opdef", [ops.reduce_max, ops.reduce_min])
def test_an_extremum_is_shared_evenly_among_ties(opdef: OpDef) -> None:
    op = bind(opdef, axes=(1,), order="lanes")
    sign = 1 if opdef is ops.reduce_max else -1
    x = sign * np.array([[1.0, 3.0, 3.0], [np.nan, 1.0, 2.0]])
    program = derivative(op, (TensorType(float32, x.shape),), (True,))
    y = evaluate(op, [x])
    (got,) = pull_back(lambda op, *xs: evaluate(op, xs), program, np.ones(2), y, [x])
    np.testing.assert_array_equal(got, [[0, 0.5, 0.5], [1, 0, 0]])


MLP = """
    graph mlp(%x: f32[8, 7], %w: f32[5, 7], %b: f32[5], %v: f32[3, 5], %seed: i64[8, 5], %steps: f32[]) {
      %0 = contract %x, %w {spec=<[m, k] * [n, k] -> [m, n] over k>} : f32[8, 5]
      %1 = reshape %b {shape=(1, 5)} : f32[1, 5]
      %2 = expand %1 {shape=(8, 5)} : f32[8, 5]
      %3 = add %0, %2 : f32[8, 5]
      %4 = gelu %3 : f32[8, 5]
      %5 = philox %seed, %seed, %seed : i32[8, 5]
      %6 = constant {value=i32(0)} : i32[]
      %7 = reshape %6 {shape=(1, 1)} : i32[1, 1]
      %8 = expand %7 {shape=(8, 5)} : i32[8, 5]
      %9 = gt %5, %8 : bool[8, 5]
      %10 = cast %9 {dtype=f32} : f32[8, 5]
      %11 = mul %4, %10 : f32[8, 5]
      %12 = contract %11, %v {spec=<[m, k] * [n, k] -> [m, n] over k>} : f32[8, 3]
      %13 = mul %12, %12 : f32[8, 3]
      %14 = reduce_sum %13 {axes=(0, 1), order="lanes"} : f32[]
      %15 = add %steps, %14 : f32[]
      update %steps = %15
      return %14, %12
    }"""


def check_partition(joint: JointGraph, seed: int = 0) -> tuple[Graph, Graph]:
    """Forward and backward together give the bits of the joint graph."""
    split = partition(joint)
    verify_graph(split.forward)
    verify_graph(split.backward)
    rng = np.random.default_rng(seed)
    inputs = [random_array(v.type, rng) for v in joint.graph.inputs]
    own = inputs[: joint.inputs]
    want, want_updates = interpret(joint.graph, inputs)
    outputs, updates = interpret(split.forward, own)
    saved = outputs[joint.outputs :]
    assert len(saved) == split.saved
    backward = [*(own[i] for i in split.kept_inputs), *saved, *inputs[joint.inputs :]]
    gradients, _ = interpret(split.backward, backward)
    got = [*outputs[: joint.outputs], *gradients, *updates]
    for number, (g, w) in enumerate(zip(got, [*want, *want_updates], strict=True)):
        assert_same_bits(g, w, f"result {number}")
    return split.forward, split.backward


@pytest.mark.parametrize("simplified", [False, True])
def test_partition_computes_what_the_joint_graph_does(simplified: bool) -> None:
    joint = joint_of(MLP, 1, 2, 3)
    if simplified:
        joint = dataclasses.replace(joint, graph=optimize(joint.graph, verify=True))
    _, backward = check_partition(joint)
    kinds = [op.opdef for op in backward.operations]
    assert kinds.count(ops.contract) == 3, "no product of matrices is repeated"
    assert ops.philox not in kinds


def test_partition_saves_the_mask_rather_than_its_cast() -> None:
    joint = joint_of(MLP, 1, 2, 3)
    split = partition(joint)
    saved = [str(v.type) for v in split.forward.outputs[joint.outputs :]]
    assert "bool[8, 5]" in saved
    assert split.kept_inputs == (0, 3)


ATTENTION = """
    graph attention(%q: f32[2, 64, 4], %k: f32[2, 64, 4], %v: f32[2, 64, 4]) {
      %s = contract %q, %k {spec=<[h, i, d] * [h, j, d] -> [h, i, j] over d>} : f32[2, 64, 64]
      %e = exp %s : f32[2, 64, 64]
      %t = reduce_sum %e {axes=(2,), order="lanes"} : f32[2, 64]
      %1 = reshape %t {shape=(2, 64, 1)} : f32[2, 64, 1]
      %2 = expand %1 {shape=(2, 64, 64)} : f32[2, 64, 64]
      %p = div %e, %2 : f32[2, 64, 64]
      %o = contract %p, %v {spec=<[h, i, j] * [h, j, d] -> [h, i, d] over j>} : f32[2, 64, 4]
      return %o
    }"""


@pytest.mark.parametrize("large, saved", [(1 << 14, 2 * 64), (1 << 24, 2 * 64 * 64)])
def test_large_products_of_small_factors_are_repeated(
    large: int, saved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention keeps the sum of each row, not the weights."""
    monkeypatch.setattr(import_module("vitrify.passes.autodiff.partition"), "LARGE", large)
    joint = joint_of(ATTENTION, 0, 1, 2)
    split = partition(dataclasses.replace(joint, graph=optimize(joint.graph)))
    kept = split.forward.outputs[1:]
    assert max(v.type.numel for v in kept) == saved
    check_partition(joint)


def test_partition_of_a_graph_that_saves_nothing() -> None:
    joint = joint_of("graph f(%x: f32[4]) {\n  %0 = neg %x : f32[4]\n  return %0\n}", 0)
    _, backward = check_partition(joint)
    assert len(backward.inputs) == 1


def test_partition_saves_an_input_before_it_is_updated() -> None:
    joint = joint_of("""
        graph f(%x: f32[4], %m: f32[4]) {
          %0 = mul %x, %m : f32[4]
          update %m = %0
          return %0
        }""", 0)  # fmt: skip
    forward, _ = check_partition(joint)
    assert forward.outputs[1] is joint.graph.inputs[1]
    assert partition(joint).kept_inputs == ()


def test_partition_leaves_errors_to_the_forward_part() -> None:
    joint = joint_of("""
        graph f(%x: f32[4, 2], %i: i64[3], %p: bool[]) {
          check %p {error="ValueError", message="no"}
          %0 = gather %x, %i {axes=(0,)} : f32[3, 2]
          return %0
        }""", 0)  # fmt: skip
    split = partition(joint)
    verify_graph(split.backward)
    assert [op.opdef for op in split.forward.operations] == [ops.check, ops.gather]
    assert ops.gather not in [op.opdef for op in split.backward.operations]


SYMBOLIC = """
    graph f(%x: f32[s0, 7], %w: f32[5, 7], %b: f32[5], %i: i64[s1]) {
      %0 = contract %x, %w {spec=<[m, k] * [n, k] -> [m, n] over k>} : f32[s0, 5]
      %1 = reshape %b {shape=(1, 5)} : f32[1, 5]
      %2 = expand %1 {shape=(s0, 5)} : f32[s0, 5]
      %3 = add %0, %2 : f32[s0, 5]
      %4 = reduce_max %3 {axes=(1,), order="lanes"} : f32[s0]
      %5 = reshape %4 {shape=(s0, 1)} : f32[s0, 1]
      %6 = expand %5 {shape=(s0, 5)} : f32[s0, 5]
      %7 = sub %3, %6 : f32[s0, 5]
      %8 = exp %7 : f32[s0, 5]
      %9 = gather %8, %i {axes=(0,)} : f32[s1, 5]
      %10 = concat %9, %8 {axis=0} : f32[s0 + s1, 5]
      %11 = slice %10 {starts=(1, 0), steps=(1, 2), stops=(s0 + s1, 5)} : f32[s0 + s1 - 1, 3]
      %12 = reduce_sum %11 {axes=(0,), order="rows"} : f32[3]
      return %12
    }"""


@pytest.mark.parametrize("rows", [1, 3])
def test_symbolic_sizes_give_the_bits_of_known_ones(rows: int) -> None:
    known = SYMBOLIC.replace("s0 + s1 - 1", str(rows + 3)).replace("s0 + s1", str(rows + 4))
    known = known.replace("s0", str(rows)).replace("s1", "4")
    joints = [joint_of(text, 0, 1, 2) for text in (SYMBOLIC, known)]
    rng = np.random.default_rng(3)
    inputs = [random_array(v.type, rng) for v in joints[1].graph.inputs]
    inputs[3] = np.array([0, rows - 1, -1, 0])
    want, _ = interpret(joints[1].graph, inputs)
    for graph in (joints[0].graph, optimize(joints[0].graph, verify=True)):
        got, _ = interpret(graph, inputs)
        for number, (g, w) in enumerate(zip(got, want, strict=True)):
            assert_same_bits(g, w, f"result {number}")
