"""Every primitive has a way into kernels."""

from __future__ import annotations

import pytest
from vitrify.ir import ops
from vitrify.ir.opdef import OpDef
from vitrify.passes.lower.build_parts import RULES as WRITTEN
from vitrify.passes.lower.index import MOVED
from vitrify.passes.lower.values import RULES as COMPUTED

#: `call` and `split` are inlined, `contract` and `scan` have modules of their own.
ELSEWHERE = (ops.call, ops.split, ops.contract, ops.scan, ops.from_tiles)


@pytest.mark.parametrize("opdef", ops.ALL.values(), ids=str)
def test_every_primitive_can_be_lowered(opdef: OpDef) -> None:
    rules = (opdef.elementwise, opdef in COMPUTED, opdef in MOVED, opdef in WRITTEN, opdef in ELSEWHERE)
    assert any(rules), f"no module of passes/lower handles {opdef.name}"


def test_a_movement_is_either_plain_or_has_a_rule() -> None:
    plain = {op for op in ops.ALL.values() if op.movement and op not in COMPUTED and op not in WRITTEN}
    assert plain <= MOVED.keys()
