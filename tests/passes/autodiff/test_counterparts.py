"""Values of two graphs that are the same computation on the same inputs."""

from __future__ import annotations

from vitrify.ir import ops
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dtypes import float32
from vitrify.ir.graph import Value
from vitrify.ir.types import TensorType
from vitrify.passes.autodiff.partition import counterparts

F4 = TensorType(float32, (4,))


def test_counterparts_are_equal_computations_on_shared_inputs() -> None:
    build = GraphBuilder()
    x, y = build.input(F4), build.input(F4)
    tanh = build(ops.tanh, x)
    first = build.finish([build(ops.mul, tanh, x), build(ops.exp, y)])
    other = GraphBuilder()
    other.inputs = [x, Value(F4, "another")]
    again = other(ops.tanh, x)
    second = other.finish([other(ops.mul, again, x), other(ops.exp, other.inputs[1])])
    product, exp = first.outputs
    assert counterparts([tanh, product, exp], first, second) == [again, second.outputs[0], exp]
