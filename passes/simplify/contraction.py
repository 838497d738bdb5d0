"""Rules that let a contraction read its operands where they lie, through their index maps.

All exact: which products are summed, and in which order, stays the same for every element of the result.
"""

from __future__ import annotations

from dataclasses import replace

from ...ir import ops
from ...ir.builder import full
from ...ir.contraction import ContractSpec
from ...ir.dtypes import bfloat16
from ...ir.expr import Dim, Expr, substitute, symbols_of
from ...ir.graph import Operation, Value
from .driver import Rewriter, rewrites
from .patterns import ints, producer, without_units

Maps = tuple[Dim, ...]


def spec_of(op: Operation) -> ContractSpec:
    """The spec of a contraction."""
    spec = op.attrs["spec"]
    assert isinstance(spec, ContractSpec)
    return spec


def label_sizes(op: Operation) -> dict[str, Dim]:
    """The size of every label of a contraction."""
    return spec_of(op).label_extents(op.operands[0].type.shape, op.operands[1].type.shape)


def respecified(
    build: Rewriter, op: Operation, operands: tuple[Value, Value], lhs: Maps, rhs: Maps, over: tuple[str, ...]
) -> Value:
    """The contraction with other operands and maps; labels left without an axis of their own keep their
    size."""
    sizes = label_sizes(op)
    alone = {str(i) for i in (*lhs, *rhs) if isinstance(i, Expr) and symbols_of(i) == {str(i)}}
    extents = tuple(sorted((name, sizes[name]) for name in _labels(lhs, rhs) - alone))
    within = spec_of(op).within
    if within is not None:
        gone = set(spec_of(op).over) - set(over)
        within = substitute(within, dict.fromkeys(gone, 0))
    spec = ContractSpec(lhs, rhs, spec_of(op).out, over, extents, within)
    return build(ops.contract, *operands, spec=spec)


@rewrites(ops.contract)
def contract_of_moved(op: Operation, build: Rewriter) -> Value | None:
    """contract(permute(x), y) -> contract(x, y) with x's labels permuted; likewise through an `expand`, whose
    repeated axes are always read at 0, and a `reshape` that adds or drops axes of size 1."""
    spec = spec_of(op)
    maps, operands = [spec.lhs, spec.rhs], list(op.operands)
    for side in (0, 1):
        while (seen := _seen_through(operands[side], maps[side])) is not None:
            if not _labels(spec.lhs, spec.rhs) <= _labels(seen[1], maps[1 - side]):
                break  # a label that is repeated on both sides must stay on one of them
            operands[side], maps[side] = seen
    if operands == list(op.operands):
        return None
    return respecified(build, op, (operands[0], operands[1]), maps[0], maps[1], spec.over)


def _labels(*maps: Maps) -> set[str]:
    return {name for indices in maps for index in indices for name in symbols_of(index)}


def _seen_through(value: Value, maps: Maps) -> tuple[Value, Maps] | None:
    """What moved x to make the value, undone: x and the maps that read x as `maps` read the value."""
    op = value.operation
    if op is None or not op.opdef.movement or any(n == 0 for n in value.type.shape):
        return None
    if op.opdef is ops.permute:
        places = ints(op.attrs["perm"])
        return op.operands[0], tuple(maps[places.index(a)] for a in range(len(places)))
    if op.opdef is ops.expand:
        return _through_expand(op.operands[0], value, maps)
    return _through_reshape(op.operands[0], value, maps) if op.opdef is ops.reshape else None


def _through_expand(x: Value, value: Value, maps: Maps) -> tuple[Value, Maps] | None:
    repeated = [a != b for a, b in zip(x.type.shape, value.type.shape, strict=True)]
    if not all(_stays_inside(i) for r, i in zip(repeated, maps, strict=True) if r):
        return None
    return x, tuple(0 if r else i for r, i in zip(repeated, maps, strict=True))


def _through_reshape(x: Value, value: Value, maps: Maps) -> tuple[Value, Maps] | None:
    sizes = value.type.shape
    if without_units(x.type.shape) != without_units(sizes):
        return None
    if not all(_stays_inside(i) for n, i in zip(sizes, maps, strict=True) if n == 1):
        return None
    kept = iter([i for n, i in zip(sizes, maps, strict=True) if n != 1])
    return x, tuple(0 if n == 1 else next(kept) for n in x.type.shape)


def _stays_inside(index: Dim) -> bool:
    """Whether an index map reads no place outside its axis: a label alone, or the constant 0."""
    return index == 0 or (isinstance(index, Expr) and symbols_of(index) == {str(index)})


@rewrites(ops.permute)
def permute_of_contract(op: Operation, build: Rewriter) -> Value | None:
    """permute(contract(x, y)) -> contract(x, y) that writes in that order, if nothing else reads the
    contraction."""
    inner = producer(op.operands[0], ops.contract)
    if inner is None or not build.has_one_use(op.operands[0]):
        return None
    spec = spec_of(inner)
    out = tuple(spec.out[p] for p in ints(op.attrs["perm"]))
    moved = replace(spec, out=out)
    return build(ops.contract, *inner.operands, spec=moved)


@rewrites(ops.contract)
def contract_over_single_steps(op: Operation, build: Rewriter) -> Value | None:
    """A summed label of size 1 -> the index 0, while another summed label is left. So a 1x1 convolution is a
    matrix product. Exact: the chain of sums has the same steps (of bfloat16 the last label stays, along which
    steps go in pairs)."""
    spec, sizes = spec_of(op), label_sizes(op)
    single = [name for name in spec.over if sizes[name] == 1]
    if len(single) == len(spec.over):
        single = single[:-1]
    pairs_change = op.operands[0].type.dtype is bfloat16 and spec.over[-1] in single
    if not single or pairs_change:
        return None
    zero: dict[str, Dim] = dict.fromkeys(single, 0)
    lhs, rhs = (tuple(substitute(i, zero) for i in maps) for maps in (spec.lhs, spec.rhs))
    for x, maps in zip(op.operands, (lhs, rhs), strict=True):
        for index, size in zip(maps, x.type.shape, strict=True):
            if sizes.get(str(index), size) != size:  # it reads zeros beyond the end; alone it would not
                return None
    over = tuple(name for name in spec.over if name not in zero)
    return respecified(build, op, (op.operands[0], op.operands[1]), lhs, rhs, over)


@rewrites(ops.contract)
def contract_over_nothing(op: Operation, build: Rewriter) -> Value | None:
    """A contraction over an empty label -> 0."""
    sizes = label_sizes(op)
    empty = any(sizes[name] == 0 for name in spec_of(op).over)
    return full(build, 0, op.result.type) if empty else None


@rewrites(ops.contract)
def contract_with_columns_on_the_left(op: Operation, build: Rewriter) -> Value | None:
    """[n, k] * [m, k] -> [m, n] becomes [m, k] * [n, k] -> [m, n]: the fastest label of the result on the
    right, if the left has it alone and the right has one to offer. Exact: x * y = y * x."""
    spec = spec_of(op)
    lhs, rhs = _labels(spec.lhs), _labels(spec.rhs)
    if not spec.out or spec.out[-1] not in lhs - rhs or not (rhs - lhs) & set(spec.out):
        return None
    x, y = op.operands
    swapped = replace(spec, lhs=spec.rhs, rhs=spec.lhs)
    return build(ops.contract, y, x, spec=swapped)
