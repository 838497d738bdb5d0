"""Recurrent layers as scans: one layer in one direction is one contraction of the whole input, then a scan.

A step of the scan gets its share of the input's gates, biases added, multiplies its state by `weight_hh` and
computes the new state. The bodies are built once per sizes and dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vitrify.ir import ops
from vitrify.ir.builder import GraphBuilder, broadcast, full
from vitrify.ir.contraction import contract_spec
from vitrify.ir.dtypes import DType, bool_
from vitrify.ir.graph import Graph, Value
from vitrify.ir.opdef import BoundOp, bind
from vitrify.ir.types import TensorType

from .._dispatch import remembered
from .._many import apply_many
from .._tensor import Tensor
from ._functional_linear import linear

#: Rows of the weights per unit of the hidden state.
GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 4, "GRU": 3}

_ROWS = contract_spec("m k", "n k", "m n", "k")


def recurrent_layer(
    mode: str, input: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], bias: bool, reverse: bool,
    valid: Tensor | None = None,
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """One layer in one direction. input: [t, b, i]; states: (h [b, p],) or (h, c [b, h]); weights: weight_ih,
    weight_hh, with bias bias_ih, bias_hh, and for a projected LSTM weight_hr.

    valid: bool [t, b]: steps for which a sequence has an element; in others its state stays. Gives what each
    step gives out, [t, b, p], and the last states.
    """
    weight_ih, weight_hh, *more = weights
    shared = [weight_hh]
    if not bias:
        gates = linear(input, weight_ih)
    elif mode == "GRU":  # the new gate's part of bias_hh is multiplied by the reset gate
        gates = linear(input, weight_ih, more[0])
        shared.append(more[1])
    else:
        gates = linear(input, weight_ih, more[0] + more[1])
    projected = len(more) > 2 * bias
    if projected:
        shared.append(more[-1])
    xs = [gates] if valid is None else [gates, valid.unsqueeze(-1)]
    length, batch, _ = input.shape
    hidden = weight_hh.shape[0] // GATES[mode]
    op = _scan(
        mode, gates.dtype, length, batch, hidden, weight_hh.shape[1], bias, projected, reverse, len(xs)
    )
    *last, steps = apply_many(op, *states, *xs, *shared)
    return steps, last


@remembered
def _scan(
    mode: str, dtype: DType, length: int, batch: int, hidden: int, state: int, bias: bool, projected: bool,
    reverse: bool, scanned: int,
) -> BoundOp:  # fmt: skip
    build = GraphBuilder(mode.lower())
    carries = [build.input(TensorType(dtype, (batch, state)), "h")]
    if mode == "LSTM":
        carries.append(build.input(TensorType(dtype, (batch, hidden)), "c"))
    gates = build.input(TensorType(dtype, (batch, GATES[mode] * hidden)), "gates")
    masks = [build.input(TensorType(bool_, (batch, 1)), "valid") for _ in range(scanned - 1)]
    shared = [build.input(TensorType(dtype, (GATES[mode] * hidden, state)), "w")]
    if mode == "GRU" and bias:
        shared.append(build.input(TensorType(dtype, (GATES[mode] * hidden,)), "b"))
    if projected:
        shared.append(build.input(TensorType(dtype, (state, hidden)), "p"))
    new = _STEPS[mode](build, carries, gates, shared)
    for mask in masks:
        new = [_kept(build, mask, n, c) for n, c in zip(new, carries, strict=True)]
    body = _body(build, new, masks)
    return bind(
        ops.scan, (body,), carries=len(carries), scanned=scanned, length=length, reverse=reverse, previous=()
    )


def _body(build: GraphBuilder, new: list[Value], masks: list[Value]) -> Graph:
    """What is given out is the new h; zero, as in a padded batch, where a sequence has ended."""
    given = new[0]
    for mask in masks:
        nothing = full(build, 0, given.type)
        given = build(ops.select, broadcast(build, mask, given.type.shape), given, nothing)
    return build.finish([*new, given])


def _kept(build: GraphBuilder, mask: Value, new: Value, old: Value) -> Value:
    return build(ops.select, broadcast(build, mask, new.type.shape), new, old)


Step = Callable[[GraphBuilder, list[Value], Value, list[Value]], list[Value]]


def _tanh(build: GraphBuilder, carries: list[Value], gates: Value, shared: list[Value]) -> list[Value]:
    """h' = tanh(gates + w h)."""
    return [build(ops.tanh, _sum(build, carries[0], gates, shared[0]))]


def _relu(build: GraphBuilder, carries: list[Value], gates: Value, shared: list[Value]) -> list[Value]:
    """h' = relu(gates + w h)."""
    x = _sum(build, carries[0], gates, shared[0])
    zero = full(build, 0, x.type)
    return [build(ops.select, build(ops.le, x, zero), zero, x)]


def _lstm(build: GraphBuilder, carries: list[Value], gates: Value, shared: list[Value]) -> list[Value]:
    """c' = f c + i g, h' = o tanh(c')."""
    h, c = carries
    i, f, g, o = _parts(build, _sum(build, h, gates, shared[0]), 4)
    i, f, o = (build(ops.sigmoid, x) for x in (i, f, o))
    kept, new = build(ops.mul, f, c), build(ops.mul, i, build(ops.tanh, g))
    c = build(ops.add, kept, new)
    h = build(ops.mul, o, build(ops.tanh, c))
    return [h if len(shared) == 1 else _product(build, h, shared[1]), c]


def _gru(build: GraphBuilder, carries: list[Value], gates: Value, shared: list[Value]) -> list[Value]:
    """n = tanh(x_n + r h_n), h' = n + z (h - n)."""
    (h,) = carries
    own = _product(build, h, shared[0])
    if len(shared) > 1:
        own = build(ops.add, own, broadcast(build, shared[1], own.type.shape))
    (x_r, x_z, x_n), (h_r, h_z, h_n) = (_parts(build, x, 3) for x in (gates, own))
    r, z = (build(ops.sigmoid, build(ops.add, x, y)) for x, y in ((x_r, h_r), (x_z, h_z)))
    n = build(ops.tanh, build(ops.add, x_n, build(ops.mul, r, h_n)))
    return [build(ops.add, n, build(ops.mul, z, build(ops.sub, h, n)))]


_STEPS: dict[str, Step] = {"RNN_TANH": _tanh, "RNN_RELU": _relu, "LSTM": _lstm, "GRU": _gru}


def _sum(build: GraphBuilder, h: Value, gates: Value, w: Value) -> Value:
    """The input's share of the gates and the state's."""
    return build(ops.add, gates, _product(build, h, w))


def _product(build: GraphBuilder, h: Value, w: Value) -> Value:
    """h @ w.T in the dtype of h: that of a contraction may be wider."""
    made = build(ops.contract, h, w, spec=_ROWS)
    return made if made.type.dtype is h.type.dtype else build(ops.cast, made, dtype=h.type.dtype)


def _parts(build: GraphBuilder, gates: Value, count: int) -> tuple[Value, ...]:
    """One part per gate."""
    rows, size = gates.type.shape
    return build.emit(ops.split, [gates], {"axis": 1, "sizes": (size // count,) * count})


def step_of(mode: str, input: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """The new states of one step alone. input: [b, i]; states: [b, h] each; weights: weight_ih, weight_hh and
    maybe bias_ih, bias_hh."""
    _, last = recurrent_layer(mode, input.unsqueeze(0), states, weights, len(weights) > 2, False)
    return last
