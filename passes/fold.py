"""Constant folding: operations on constants are computed while compiling.

What kernels compute must come out in the very same bits, so numpy computes only where the op's numpy meaning
is declared `exact`; everything else goes through the evaluator, which runs our own kernels, or stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..ir import ops
from ..ir.builder import broadcast
from ..ir.dtypes import DType, bfloat16
from ..ir.graph import Graph, Operation, Value
from ..ir.opdef import ALL, BoundOp, bind
from ..ir.types import Literal, TensorType
from .simplify.driver import Rewriter, rewrite
from .simplify.patterns import producer, splat_of, uniform

#: Computes one operation with the kernels that would run it; None if it can't.
Evaluator = Callable[[BoundOp, Sequence[np.ndarray]], "np.ndarray | None"]

#: Results with more elements than this are left to be computed (16 KiB of float32: no larger in memory
#: than the code that makes them would be in the cache).
MOST_ELEMENTS = 4096

#: These make large tensors out of small ones, or are constants already.
_KEPT = (ops.iota, ops.constant, ops.expand)


def fold_constants(graph: Graph, *, evaluate: Evaluator | None = None) -> Graph:
    """Replace operations on constants by their results, elementwise ones on splats by splats.

    evaluate: computes what numpy need not give the exact bits of; None leaves such operations alone.
    """

    def fold_splats(op: Operation, build: Rewriter) -> Value | None:
        """f(splat, splat) -> splat."""
        numbers = [splat_of(v) for v in op.operands]
        if not op.opdef.elementwise or not numbers:
            return None
        return _constant(build, _value(op, numbers, evaluate), op.result.type)

    def fold_literals(op: Operation, build: Rewriter) -> Value | None:
        """f(constant, constant) -> constant."""
        size = op.result.type.numel if len(op.results) == 1 else None
        if not isinstance(size, int) or size > MOST_ELEMENTS or not op.operands:
            return None
        if op.opdef.movement and splat_of(op.operands[0]) is not None:
            return None  # in the form that simplify gives it: no memory, whatever its size
        return _constant(build, _value(op, [_literal(v) for v in op.operands], evaluate), op.result.type)

    rules = [fold_splats, fold_literals]
    return rewrite(graph, {d: rules for d in ALL.values() if d.pure and not d.regions and d not in _KEPT})


def _constant(build: Rewriter, literal: Literal | None, type_: TensorType) -> Value | None:
    """The constant, or the splat if it is one number throughout."""
    if literal is None:
        return None
    number = uniform(literal)
    if number is None:
        return build(ops.constant, value=literal)
    return broadcast(build, build(ops.constant, value=number), type_.shape)


def _literal(value: Value) -> Literal | None:
    op = producer(value, ops.constant)
    if op is None:
        return None
    literal = op.attrs["value"]
    assert isinstance(literal, Literal)
    return literal


def _value(op: Operation, literals: Sequence[Literal | None], evaluate: Evaluator | None) -> Literal | None:
    """The op on these literals; None if one is missing, it raises, or nobody can compute its exact bits."""
    arrays = [literal.array() for literal in literals if literal is not None]
    if len(arrays) != len(literals):
        return None
    found: np.ndarray | None = None
    dtypes = [*(literal.dtype for literal in literals if literal is not None), op.result.type.dtype]
    if op.opdef.movement or (op.opdef.exact and all(map(_numpy_is_exact, dtypes))):
        found = _by_numpy(op, arrays)
    elif evaluate is not None and not op.opdef.may_raise:
        found = evaluate(bind(op.opdef, **op.attrs), arrays)
    return Literal.of(found, op.result.type.dtype) if found is not None else None


def _numpy_is_exact(dtype: DType) -> bool:
    """bfloat16 arrays hold bits, not numbers; numpy's complex product may be fused."""
    return dtype is not bfloat16 and not dtype.is_complex


def _by_numpy(op: Operation, arrays: Sequence[np.ndarray]) -> np.ndarray | None:
    assert op.opdef.meaning is not None
    try:
        with np.errstate(all="ignore"):
            return np.asarray(op.opdef.meaning(*arrays, **op.attrs))
    except (ArithmeticError, IndexError, RuntimeError):
        return None  # it raises when the graph runs, as it must
