"""The derivative of `split`: the cotangents of the parts side by side."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir import ops
from ...ir.builder import GraphBuilder
from ...ir.graph import Value
from ...ir.opdef import BoundOp
from ...ir.types import TensorType
from .many import MANY, Prepared
from .rules import like


def prepare(op: BoundOp, types: tuple[TensorType, ...], wanted: tuple[bool, ...]) -> Prepared:
    """The split itself: its derivative reads nothing."""
    return Prepared(op, tuple(range(len(op.result_types(*types)))))


def pull_back_split(
    build: GraphBuilder, op: BoundOp, cts: Sequence[Value | None], ys: Sequence[Value],
    operands: Sequence[Value], wanted: tuple[bool, ...],
) -> tuple[Value | None, ...]:  # fmt: skip
    """Zeros for a part that has no cotangent."""
    parts = [like(build, 0, y) if ct is None else ct for ct, y in zip(cts, ys, strict=True)]
    return (build(ops.concat, *parts, axis=op.attrs["axis"]),)


MANY[ops.split] = (prepare, pull_back_split)
