"""Every derivative against central differences in float64, first and second order, by the reference
interpreter.

For y = f(x), a random cotangent ct and a random direction d: <ct, (f(x + h d) - f(x - h d)) / 2 h> must equal
<vjp(ct), d>. With h = 1e-5 the difference quotient is off by h**2 f''' / 6 ~ 1e-10 and by rounding 1e-16 / h
~ 1e-11, times a condition number; 1e-6 leaves room for both.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from vitrify.ir import dtypes, ops
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.contraction import contract_spec
from vitrify.ir.dtypes import from_numpy
from vitrify.ir.graph import Graph
from vitrify.ir.interpreter import interpret
from vitrify.ir.opdef import OpDef
from vitrify.ir.types import TensorType
from vitrify.ir.verifier import verify_graph
from vitrify.passes.autodiff import MANY, NO_GRADIENT, VJP, joint_graph

STEP = 1e-5
TOLERANCE = 1e-6


@dataclass
class Case:
    """An op on operands; `range` of the floats, away from where the op has no derivative."""

    opdef: OpDef
    shapes: Sequence[tuple[int, ...] | np.ndarray]
    attrs: dict[str, Any] = field(default_factory=dict)
    low: float = -2.0
    high: float = 2.0
    second: bool = True

    def __str__(self) -> str:
        shapes = "_".join(
            "x".join(map(str, s if isinstance(s, tuple) else s.shape)) or "scalar" for s in self.shapes
        )
        spec = self.attrs.get("spec")
        return f"{self.opdef.name}-{shapes}" + (f"-{spec}" if spec else "")

    def operands(self, rng: np.random.Generator) -> list[np.ndarray]:
        return [s if isinstance(s, np.ndarray) else rng.uniform(self.low, self.high, s) for s in self.shapes]


def graph_of(case: Case, operands: Sequence[np.ndarray]) -> Graph:
    build = GraphBuilder("f")
    inputs = [build.input(TensorType(from_numpy(x.dtype), x.shape), f"x{i}") for i, x in enumerate(operands)]
    return build.finish([build(case.opdef, *inputs, **case.attrs)])


def run(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    return interpret(graph, inputs)[0]


def check_gradient(forward: Graph, inputs: list[np.ndarray], rng: np.random.Generator) -> Graph:
    """Compare the joint graph's gradients with central differences. Gives the graph of the gradients
    alone."""
    wrt = [i for i, x in enumerate(inputs) if x.dtype.kind == "f"]
    joint = joint_graph(forward, wrt)
    verify_graph(joint.graph)
    outputs = run(forward, inputs)
    cts = [rng.normal(size=y.shape) for y in outputs]
    results = run(joint.graph, [*inputs, *cts])
    want = got = 0.0
    up, down = list(inputs), list(inputs)
    for i, at in zip(wrt, joint.gradients, strict=True):
        d = np.asarray(rng.normal(size=inputs[i].shape))
        up[i], down[i] = inputs[i] + STEP * d, inputs[i] - STEP * d
        if at is not None:
            assert results[at].shape == inputs[i].shape
            got += float(np.sum(results[at] * d))
    for ct, high, low in zip(cts, run(forward, up), run(forward, down), strict=True):
        want += float(np.sum(ct * (high - low))) / (2 * STEP)
    assert got == pytest.approx(want, rel=TOLERANCE, abs=TOLERANCE)
    graph = joint.graph
    gradients = graph.outputs[joint.outputs :]
    return Graph(graph.inputs, graph.operations, gradients, (), "gradients")


def check(case: Case, name: str) -> None:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    operands = case.operands(rng)
    gradients = check_gradient(graph_of(case, operands), operands, rng)
    if case.second and gradients.outputs:
        cts = [rng.normal(size=v.type.shape) for v in gradients.inputs[len(operands) :]]
        check_gradient(gradients, [*operands, *cts], rng)


SHAPES = [(), (1,), (3,), (2, 3), (0, 3)]
UNARY = [
    (ops.relu, 0.1, 2), (ops.relu, -2, -0.1), (ops.neg, -2, 2), (ops.abs_, 0.1, 2), (ops.abs_, -2, -0.1),
    (ops.sign, 0.1, 2), (ops.floor, 0.1, 0.9),
    (ops.ceil, 0.1, 0.9), (ops.trunc, 0.1, 0.9), (ops.round_, 0.1, 0.4), (ops.exp, -2, 2), (ops.log, 0.2, 3),
    (ops.sin, -4, 4), (ops.cos, -4, 4), (ops.tanh, -2, 2), (ops.erf, -2, 2), (ops.sqrt, 0.2, 3),
    (ops.rsqrt, 0.2, 3), (ops.sigmoid, -4, 4), (ops.softplus, -4, 4), (ops.silu, -4, 4), (ops.gelu, -4, 4),
    (ops.gelu_slope, -4, 4),
    (ops.gelu_tanh, -4, 4), (ops.exp2, -2, 2), (ops.expm1, -2, 2), (ops.log2, 0.2, 3), (ops.log10, 0.2, 3),
    (ops.log1p, -0.5, 3), (ops.tan, -1, 1), (ops.asin, -0.8, 0.8), (ops.acos, -0.8, 0.8), (ops.atan, -3, 3),
    (ops.sinh, -2, 2), (ops.cosh, -2, 2), (ops.asinh, -3, 3), (ops.acosh, 1.3, 4), (ops.atanh, -0.8, 0.8),
    (ops.erfc, -2, 2), (ops.erfinv, -0.8, 0.8), (ops.lgamma, 0.5, 4), (ops.digamma, 0.8, 4),
]  # fmt: skip
BINARY = [
    (ops.add, -2, 2), (ops.sub, -2, 2), (ops.mul, -2, 2), (ops.div, 0.5, 2), (ops.pow_, 0.3, 2),
    (ops.maximum, -2, 2), (ops.minimum, -2, 2), (ops.clamp_min, -2, 2), (ops.clamp_max, -2, 2),
    (ops.atan2, 0.3, 2), (ops.atan2, -2, -0.3),
]  # fmt: skip
ELEMENTWISE = [
    *(Case(op, [s], {}, lo, hi) for op, lo, hi in UNARY for s in SHAPES),
    *(Case(op, [s, s], {}, lo, hi) for op, lo, hi in BINARY for s in SHAPES),
    Case(ops.floor_div, [np.array([3.3, -3.3]), np.array([2.0, 2.0])]),
    Case(ops.rem, [np.array([3.3, -3.3]), np.array([2.0, 2.0])]),
    Case(ops.fma_, [(2, 3), (2, 3), (2, 3)]),
    Case(ops.select, [np.array([True, False, True]), (3,), (3,)]),
    Case(ops.cast, [(3,)], {"dtype": dtypes.float64}),
    Case(ops.polygamma, [np.array([0.9, 1.7, 3.2, -0.4])], {"order": 1}),
]


def full_reductions() -> list[Case]:
    rng = np.random.default_rng(1)
    zeros = rng.uniform(1, 2, (3, 4))
    zeros[0, 1] = zeros[2, 0] = 0.0
    shapes: list[tuple[tuple[int, ...], tuple[int, ...], str]] = [
        ((5,), (0,), "lanes"), ((2, 3), (1,), "lanes"), ((2, 3), (0,), "rows"), ((2, 3), (), "lanes"),
        ((2, 3, 4), (1, 2), "lanes"), ((2, 3, 4), (0, 1), "rows"), ((3, 1), (1,), "sequential"),
    ]  # fmt: skip
    named = [ops.reduce_sum, ops.reduce_prod, ops.reduce_max, ops.reduce_min]
    cases = [Case(op, [s], {"axes": a, "order": o}) for op in named for s, a, o in shapes]
    cases.append(Case(ops.reduce_sum, [(0, 3)], {"axes": (0,), "order": "rows"}))
    cases.append(Case(ops.reduce_prod, [zeros], {"axes": (1,), "order": "lanes"}))
    cases.append(Case(ops.reduce_prod, [zeros], {"axes": (0,), "order": "rows"}))
    cases += [
        Case(ops.cumsum, [s], {"axis": a}) for s, a in [((4,), 0), ((2, 3), 0), ((2, 3), 1), ((0, 2), 0)]
    ]
    return cases


MOVEMENT = [
    Case(ops.reshape, [(2, 6)], {"shape": (3, 4)}),
    Case(ops.reshape, [()], {"shape": (1, 1)}),
    Case(ops.permute, [(2, 3, 4)], {"perm": (2, 0, 1)}),
    Case(ops.expand, [(1, 3)], {"shape": (4, 3)}),
    Case(ops.expand, [(2, 1)], {"shape": (2, 4)}),
    Case(ops.expand, [(1, 1)], {"shape": (0, 4)}),
    Case(ops.expand, [(1, 3, 1)], {"shape": (2, 3, 4)}),
    Case(ops.slice_, [(7, 4)], {"starts": (1, 0), "stops": (7, 3), "steps": (3, 1)}),
    Case(ops.slice_, [(7,)], {"starts": (3,), "stops": (3,), "steps": (2,)}),
    Case(ops.update_slice, [(7, 4), (2, 3)], {"starts": (1, 0), "steps": (3, 1)}),
    Case(ops.update_slice, [(4,), (0,)], {"starts": (1,), "steps": (1,)}),
    Case(ops.pad, [(3, 2), ()], {"lo": (1, 0), "hi": (2, 1), "interior": (2, 0)}),
    Case(ops.pad, [(0,), ()], {"lo": (1,), "hi": (2,), "interior": (1,)}),
    Case(ops.flip, [(3, 2)], {"axes": (0, 1)}),
    Case(ops.concat, [(2, 3), (1, 3), (0, 3)], {"axis": 0}),
    Case(ops.concat, [(2, 3), (2, 1)], {"axis": 1}),
    Case(ops.window, [(2, 9)], {"axes": (1,), "sizes": (3,), "strides": (2,), "dilations": (2,)}),
    Case(ops.window, [(5, 6)], {"axes": (0, 1), "sizes": (2, 3), "strides": (1, 1), "dilations": (1, 1)}),
    Case(ops.fold, [(2, 3, 3)], {"shape": (7,), "axes": (1,), "strides": (2,), "dilations": (1,)}),
    Case(ops.as_strided, [(24,)], {"shape": (3, 4), "strides": (1, 6), "offset": 2}),
    Case(ops.as_strided, [(4, 6)], {"shape": (3, 4), "strides": (1, 1), "offset": 2}),
    Case(ops.as_strided, [(24,)], {"shape": (3, 2, 4), "strides": (5, 0, 1), "offset": 0}),
    Case(ops.as_strided, [(24,)], {"shape": (3, 2, 0), "strides": (5, 0, 1), "offset": 0}),
    Case(ops.as_strided, [(24,)], {"shape": (4,), "strides": (-5,), "offset": 20}),
    Case(ops.as_strided_update, [(24,), (3, 4)], {"strides": (1, 6), "offset": 2}),
]

INDEX = np.array([2, 0, 2, -1, 0])
INDEXING = [
    Case(ops.gather, [(4, 3), INDEX], {"axes": (0,)}),
    Case(ops.gather, [(3, 4), INDEX], {"axes": (1,)}),
    Case(ops.gather, [(4, 3, 5), INDEX, INDEX[::-1].copy()], {"axes": (0, 2)}),
    Case(ops.gather, [(4, 3), np.array(1)], {"axes": (0,)}),
    Case(ops.gather, [(4, 3), np.zeros(0, np.int64)], {"axes": (0,)}),
    Case(ops.scatter, [(4, 3), (5, 3), INDEX], {"axes": (0,)}),
    Case(ops.scatter, [(3, 4), (5, 3), INDEX], {"axes": (1,)}),
    Case(ops.scatter_add, [(4, 3), (5, 3), INDEX], {"axes": (0,)}),
    Case(ops.scatter_add, [(4, 2), (2, 3, 2), np.array([[1, 1, 0], [3, 1, 0]])], {"axes": (0,)}),
]


def contracts() -> list[Case]:
    spec = contract_spec
    table = [
        ([(3, 4), (4, 5)], spec("m k", "k n", "m n", "k")),
        ([(3, 4), (5, 4)], spec("m k", "n k", "m n", "k")),
        ([(4, 3), (4, 5)], spec("k m", "k n", "n m", "k")),
        ([(2, 3, 4), (2, 4, 5)], spec("b m k", "b k n", "b m n", "k")),
        ([(2, 3, 4), (4, 5)], spec("b m k", "k n", "b m n", "k")),
        ([(2, 3, 4), (5, 3, 4)], spec("a b c", "d b c", "a d", "b c")),
        ([(3, 4), (4,)], spec("m k", "k", "m", "k")),
        ([(4,), (4,)], spec("k", "k", "", "k")),
        ([(3,), (4,)], spec("m", "n", "m n", "")),
        ([(0, 4), (4, 5)], spec("m k", "k n", "m n", "k")),
        ([(3, 0), (0, 5)], spec("m k", "k n", "m n", "k")),
        ([(3, 4), (4, 5)], spec("m k", "k n", "m", "k n")),
        # Some steps take no part.
        ([(3, 4), (4, 5)], spec("m k", "k n", "m n", "k", within="m - k")),
        ([(2, 3, 4), (2, 5, 4)], spec("b m k", "b n k", "b m n", "k", within="m - n + 1")),
        ([(3,), (4,)], spec("m", "n", "m n", "", within="m - n")),
        ([(3, 4), (4, 5)], spec("m k", "k n", "n", "m k", within="k - m")),
        ([(3, 4), (5,)], spec("m k", "n", "m n", "k", within="n - k")),
        ([(2, 9, 3), (3, 3, 4)], spec("n, o + k, c", "k, c, d", "n o d", "k c", {"o": 7}, "5 - o")),
        # Convolutions: plain, padded, strided, dilated, 2-d, grouped, depthwise.
        ([(2, 9, 3), (3, 3, 4)], spec("n, o + k, c", "k, c, d", "n o d", "k c", {"o": 7})),
        ([(2, 9, 3), (3, 3, 4)], spec("n, o + k - 1, c", "k, c, d", "n o d", "k c", {"o": 9})),
        ([(2, 9, 3), (3, 3, 4)], spec("n, 2*o + k - 1, c", "k, c, d", "n o d", "k c", {"o": 5})),
        ([(2, 9, 3), (3, 3, 4)], spec("n, 3*o + 2*k - 2, c", "k, c, d", "n o d", "k c", {"o": 3})),
        # Phases: without a tap, of a negative step, with a common factor, read beyond the ends, none at all.
        ([(2, 9, 3), (1, 3, 4)], spec("n, 3*o + k + 1, c", "k, c, d", "n o d", "k c", {"o": 3})),
        ([(2, 9, 3), (3, 3, 4)], spec("n, -2*o + k + 6, c", "k, c, d", "n o d", "k c", {"o": 4})),
        ([(2, 12, 3), (4, 3, 4)], spec("n, 4*o - 2*k + 5, c", "k, c, d", "n o d", "k c", {"o": 3})),
        ([(2, 3, 3), (5, 3, 4)], spec("n, 4*o + k - 3, c", "k, c, d", "n o d", "k c", {"o": 2})),
        ([(2, 1, 3), (2, 3, 4)], spec("n, 4*o + 2*k - 3, c", "k, c, d", "n o d", "k c", {"o": 2})),
        ([(2, 9, 3), (3, 4)], spec("n, 2*o + 1, c", "c, d", "n o d", "c", {"o": 4})),
        ([(7, 3), (3, 7, 4)], spec("2*o + k, c", "c, 2*o + k, d", "o d", "k c", {"o": 3, "k": 2})),
        ([(2, 5, 6, 2), (3, 2, 2, 3)],
         spec("n, 2*i + k - 1, j + 2*l - 1, c", "k, l, c, d", "n i j d", "k l c", {"i": 3, "j": 6})),
        ([(2, 7, 2, 3), (2, 3, 3, 4)], spec("n, o + k - 1, g, c", "g, k, c, d", "n o g d", "k c", {"o": 7})),
        ([(2, 7, 3), (3, 3)], spec("n, o + k - 1, c", "k, c", "n o c", "k", {"o": 7})),
        ([(1, 1, 2), (3, 2, 2)], spec("n, o + k - 1, c", "k, c, d", "n o d", "k c", {"o": 1})),
        # Transposed: the index falls, and a dilated operand on the right.
        ([(2, 5, 3), (3, 3, 2)], spec("n, o - k + 2, c", "k, c, d", "n o d", "k c", {"o": 4})),
        ([(4, 6), (9, 6)], spec("i, c", "i + k, c", "k", "i c", {"k": 5})),
        # Not solvable for one label: a diagonal; a sum that nothing else bounds; and reads at one place.
        ([(4, 4), (4, 3)], spec("k k", "k n", "n", "k")),
        ([(9, 2), (2, 3)], spec("2*o + k, c", "c, d", "o d", "k c", {"o": 4, "k": 2})),
        ([(3, 4), (4, 5)], spec("1, k", "k, n", "n", "k")),
        ([(3, 4), (2, 4)], spec("m, k", "0, k", "m", "k")),
    ]  # fmt: skip
    return [Case(ops.contract, shapes, {"spec": s}) for shapes, s in table]


ALL_CASES = [*ELEMENTWISE, *full_reductions(), *MOVEMENT, *INDEXING, *contracts()]


@pytest.mark.parametrize("case", ALL_CASES, ids=str)
def test_derivative_is_that_of_central_differences(case: Case) -> None:
    check(case, str(case))


def test_every_op_has_a_derivative_or_a_reason() -> None:
    missing = [n for n, d in ops.ALL.items() if d not in VJP and d not in NO_GRADIENT and d not in MANY]
    assert not missing
    assert not set(VJP) & set(NO_GRADIENT)


def test_every_derivative_is_tested() -> None:
    assert {case.opdef for case in ALL_CASES} == set(VJP)
