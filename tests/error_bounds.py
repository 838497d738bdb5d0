"""How far the interpreter and compiled code may lie apart, operation by operation.

Everything but the elementary functions is exact to the bit, so a value has an error only if an elementary
function is among its ancestors. A bound is one number per value: |compiled - interpreted| of any element is
at most that, 0 meaning the same bits. `error_bound` gives the bound of a result from its operands' bounds, or
None where none exists: an operation that jumps (floor, comparison, argmax, a cast to an integer) must not be
fed a value with an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from vitrify.ir import ops
from vitrify.ir.opdef import OpDef

Arrays = Sequence[np.ndarray]
Rule = Callable[..., float | None]

#: Greatest slope of an elementary function whose slope is bounded.
SLOPES = {
    ops.sin: 1.0,
    ops.cos: 1.0,
    ops.tanh: 1.0,
    ops.atan: 1.0,
    ops.asinh: 1.0,
    ops.erf: 1.13,
    ops.erfc: 1.13,
    ops.sigmoid: 0.25,
    ops.softplus: 1.0,
    ops.silu: 1.1,
    ops.gelu: 1.13,
    ops.gelu_tanh: 1.13,
}
#: Kernels are within 1 ULP in float32 and 2 in float64; the interpreter within half of one, and 3 for
#: compositions of numpy's float64 functions; one more for ulps measured at the interpreted value.
ELEMENTARY_ULP = {np.dtype(np.float32): 3, np.dtype(np.float64): 7}
#: No function with a pole is asked for a bound nearer to it than this.
FAR = 0.05


def error_bound(
    opdef: OpDef, operands: Arrays, errors: Sequence[float], result: np.ndarray, attrs: Mapping[str, Any]
) -> float | None:
    """The bound of the result's error, given the interpreted arrays and the bounds of the operands."""
    exact = opdef.exact or (opdef is ops.pow_ and result.dtype.kind in "iu")
    if not any(errors) and exact:
        return 0.0
    if opdef in SLOPES:
        return SLOPES[opdef] * errors[0] + _elementary(result, 0)
    if opdef.movement:
        return max(errors)
    rule = RULES.get(opdef)
    return rule(operands, errors, result, attrs) if rule else None


def _largest(x: np.ndarray) -> float:
    return float(np.abs(x).max()) if x.size else 0.0


def _smallest(x: np.ndarray) -> float:
    return float(x.min()) if x.size else 1.0


def _step(result: np.ndarray, error: float) -> float:
    """One rounding at the magnitude of the result."""
    info = np.finfo(result.dtype)
    return float(info.eps) * (_largest(result) + error) + float(info.tiny)


def _elementary(result: np.ndarray, error: float) -> float:
    return ELEMENTARY_ULP[result.dtype] * _step(result, error)


def _additive(x: Arrays, e: Sequence[float], y: np.ndarray, attrs: Any) -> float:
    return sum(e) + _step(y, sum(e))


def _product(x: Arrays, e: Sequence[float], y: np.ndarray, attrs: Any) -> float:
    error = _largest(x[0]) * e[1] + _largest(x[1]) * e[0] + e[0] * e[1]
    return error + _step(y, error)


def _quotient(x: Arrays, e: Sequence[float], y: np.ndarray, attrs: Any) -> float | None:
    low = _smallest(np.abs(x[1])) - e[1]
    if low < FAR:
        return None
    error = (e[0] + _largest(y) * e[1]) / low
    return error + _step(y, error)


def _greatest(x: Arrays, e: Sequence[float], y: np.ndarray, attrs: Any) -> float:
    return max(e)


def _chosen(x: Arrays, e: Sequence[float], y: np.ndarray, attrs: Any) -> float | None:
    return None if e[0] else max(e)


def _converted(x: Arrays, e: Sequence[float], y: np.ndarray, attrs: Any) -> float | None:
    return e[0] + _step(y, e[0]) if y.dtype.kind == "f" else None


def _exponential(x: Arrays, e: Sequence[float], y: np.ndarray, attrs: Any) -> float:
    error = _largest(y) * float(np.expm1(e[0]))
    return error + _elementary(y, error)


def _by_slope(slope: Callable[[float], float]) -> Rule:
    """A function with a pole at 0 whose slope's magnitude falls from there on."""

    def rule(x: Arrays, e: Sequence[float], y: np.ndarray, attrs: Any) -> float | None:
        low = _smallest(x[0]) - e[0]
        if low < FAR:
            return None
        error = slope(low) * e[0]
        return error + _elementary(y, error)

    return rule


def _power(x: Arrays, e: Sequence[float], y: np.ndarray, attrs: Any) -> float | None:
    return None if any(e) or _smallest(x[0]) < FAR else _elementary(y, 0)


def _total(count: float, largest: float, error: float, y: np.ndarray) -> float:
    """A sum of so many terms: their errors, and the roundings of two sums of terms of this size."""
    return count * error + 2 * count * float(np.finfo(y.dtype).eps) * count * (largest + error)


def _summed(x: Arrays, e: Sequence[float], y: np.ndarray, attrs: Any) -> float:
    count = x[0].size / max(y.size, 1)
    return _total(count, _largest(x[0]), e[0], y)


def _cumulative(x: Arrays, e: Sequence[float], y: np.ndarray, attrs: Any) -> float:
    return _total(x[0].shape[attrs["axis"]], _largest(x[0]), e[0], y)


def _folded(x: Arrays, e: Sequence[float], y: np.ndarray, attrs: Any) -> float:
    rank = x[0].ndim - len(attrs["axes"])
    return _total(float(np.prod(x[0].shape[rank:])), _largest(x[0]), e[0], y)


def _contracted(x: Arrays, e: Sequence[float], y: np.ndarray, attrs: Any) -> float:
    spec = attrs["spec"]
    sizes = spec.label_extents(x[0].shape, x[1].shape)
    count = float(np.prod([sizes[name] for name in spec.over]))
    term = _largest(x[0]) * e[1] + _largest(x[1]) * e[0] + e[0] * e[1]
    return _total(count, _largest(x[0]) * _largest(x[1]), term, y)


def _gathered(x: Arrays, e: Sequence[float], y: np.ndarray, attrs: Any) -> float | None:
    return None if any(e[len(e) - len(attrs["axes"]) :]) else max(e)


def _scattered_sum(x: Arrays, e: Sequence[float], y: np.ndarray, attrs: Any) -> float | None:
    count = 1.0 + x[2].size
    return _total(count, max(_largest(x[0]), _largest(x[1])), max(e[:2]), y)


RULES: dict[OpDef, Rule] = {
    ops.add: _additive,
    ops.sub: _additive,
    ops.mul: _product,
    ops.div: _quotient,
    ops.neg: _greatest,
    ops.abs_: _greatest,
    ops.maximum: _greatest,
    ops.minimum: _greatest,
    ops.select: _chosen,
    ops.cast: _converted,
    ops.exp: _exponential,
    ops.log: _by_slope(lambda low: 1 / low),
    ops.rsqrt: _by_slope(lambda low: 0.5 * low**-1.5),
    ops.sqrt: _by_slope(lambda low: 0.5 * low**-0.5),
    ops.pow_: _power,
    ops.reduce_sum: _summed,
    ops.reduce_max: _greatest,
    ops.reduce_min: _greatest,
    ops.cumsum: _cumulative,
    ops.fold: _folded,
    ops.contract: _contracted,
    ops.gather: _gathered,
    ops.scatter: _gathered,
    ops.scatter_add: _scattered_sum,
}
