"""The instruction for bfloat16 is tried before it is relied on, and done without where it is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from vitrify.codegen import contract_pairs
from vitrify.codegen.target import LEVELS, PAIRS
from vitrify.ir import ops
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.contraction import contract_spec
from vitrify.ir.dtypes import DType, bfloat16, float32
from vitrify.ir.graph import Graph
from vitrify.ir.types import TensorType
from vitrify.runtime import host, selftest
from vitrify.runtime.compiler import compile_graph
from vitrify.runtime.host import host_target, target_of


def product_graph(dtype: DType, name: str) -> Graph:
    build = GraphBuilder(name)
    x, y = (build.input(TensorType(dtype, (32, 32))) for _ in range(2))
    return build.finish([build(ops.contract, x, y, spec=contract_spec("m, k", "k, n", "m n", "k"))])


def test_this_cpu_does_what_is_documented() -> None:
    assert selftest.pairs_are_right(host_target())
    assert selftest.pairs_are_right(LEVELS["x86-64-v2"])


def test_what_is_tried_tells_right_from_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arithmetic that is off in one way each: the even step first; subnormal operands; subnormal sums."""
    number, added = contract_pairs._number, contract_pairs._added
    plain = LEVELS["x86-64-v3"]

    def fused(x, a, b, c):  # type: ignore[no-untyped-def]
        return x.fma(a, b, c)

    def subnormal(x, pair, odd):  # type: ignore[no-untyped-def]
        whole = x.integers
        bits = x.bitcast(pair, whole.element)
        bits = whole("and", bits, whole.const(-(2**16))) if odd else whole("shl", bits, whole.const(16))
        return whole.bitcast(bits, x.element)

    wrong = {"_number": (lambda x, p, odd: number(x, p, not odd), subnormal), "_added": (fused,)}
    for name, functions in wrong.items():
        for function in functions:
            with monkeypatch.context() as patch:
                patch.setattr(contract_pairs, name, function)
                assert not selftest.pairs_are_right.__wrapped__(plain)
    assert added is contract_pairs._added and selftest.pairs_are_right.__wrapped__(plain)


def test_the_sums_that_are_tried_cover_what_is_special() -> None:
    a, b, c = selftest.operands()
    assert not np.any((np.abs(c) < 2.0**-126) & (c != 0))
    exponents = a >> 7 & 0xFF
    assert np.any(exponents == 0) and np.any(exponents == 255) and np.isinf(c).sum() + np.isnan(c).sum()


@pytest.mark.skipif(not host_target().has(PAIRS), reason="the CPU has no such instruction")
def test_a_wrong_instruction_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, other = product_graph(bfloat16, "pairs"), product_graph(float32, "floats")
    assert target_of(graph) is target_of(other) is host_target()
    asked = []
    monkeypatch.setattr(selftest, "pairs_are_right", lambda target: bool(asked.append(target)))
    assert target_of(other) is host_target() and not asked
    without = target_of(graph)
    assert not without.has(PAIRS) and without.key != host_target().key
    text = compile_graph(graph).text("llvm")
    assert "dpbf16ps" not in text and "@pairs." in text
    monkeypatch.undo()
    assert host.target_of(graph) is host_target()
    assert "dpbf16ps" in compile_graph(graph).text("llvm")
