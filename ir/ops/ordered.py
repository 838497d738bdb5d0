"""Meanings of the primitives that combine elements, in their canonical order of arithmetic
(docs/numerics.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Union

import numpy as np

from ..contraction import ContractSpec
from ..dtypes import DType, float32, int32
from ..expr import Dim, Expr, evaluate, symbols_of
from ..narrow import NARROW, widened
from . import paired
from .fma import fma
from .numeric import maximum, minimum

LANES = 16
LANE_BLOCK = 4096
ROW_BLOCK = 128
CONTRACT_BLOCK = 4096

Combine = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _reduce(
    x: np.ndarray, axes: tuple[int, ...], order: str, combine: Combine, identity: object
) -> np.ndarray:
    """Combine the elements along `axes`. The reduced axes are taken as one, row-major, put in front; of the
    sums of blocks there are several, along an axis in the place of the reduced ones."""
    kept = [a for a in range(x.ndim) if a not in axes]
    count = math.prod(x.shape[a] for a in axes)
    rows = np.transpose(x, (*axes, *kept)).reshape(count, *(x.shape[a] for a in kept))
    start = np.full(rows.shape[1:], identity, x.dtype)
    if order == "blocks":
        return np.moveaxis(_blocks(rows, combine, start), 0, axes[0])
    by_order = {"lanes": _lanes, "rows": _rows, "pairwise": _pairwise, "sequential": _sequential}
    return by_order[order](rows, combine, start)


def _sequential(rows: np.ndarray, combine: Combine, start: np.ndarray) -> np.ndarray:
    total = start
    for row in rows:
        total = combine(total, row)
    return total


def _lanes(rows: np.ndarray, combine: Combine, start: np.ndarray) -> np.ndarray:
    total = start
    for at in range(0, len(rows), LANE_BLOCK):
        total = combine(total, _lane_block(rows[at : at + LANE_BLOCK], combine, start))
    return total


def _lane_block(rows: np.ndarray, combine: Combine, start: np.ndarray) -> np.ndarray:
    lanes = np.stack([start] * LANES)
    for at in range(0, len(rows), LANES):
        part = rows[at : at + LANES]
        lanes[: len(part)] = combine(lanes[: len(part)], part)
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = combine(lanes[:half], lanes[half:])
    return np.asarray(lanes[0])


def _rows(rows: np.ndarray, combine: Combine, start: np.ndarray) -> np.ndarray:
    return _pairwise(_blocks(rows, combine, start), combine, start)


def _blocks(rows: np.ndarray, combine: Combine, start: np.ndarray) -> np.ndarray:
    """The sums of the blocks, along a new leading axis."""
    starts = range(0, len(rows), ROW_BLOCK)
    sums = [_sequential(rows[at : at + ROW_BLOCK], combine, start) for at in starts]
    return np.stack(sums) if sums else rows


def _pairwise(parts: np.ndarray, combine: Combine, start: np.ndarray) -> np.ndarray:
    """Neighbours of equal size are joined as soon as both are complete; what is left at the end is joined
    from the last to the first."""
    done: list[np.ndarray] = []
    for number, part in enumerate(parts, start=1):
        total = combine(start, part)
        while number % 2 == 0:
            total, number = combine(done.pop(), total), number // 2
        done.append(total)
    total = done.pop() if done else start
    while done:
        total = combine(done.pop(), total)
    return total


def least(dtype: np.dtype) -> object:
    """The least value of a dtype, minus infinity for floats."""
    return -np.inf if dtype.kind == "f" else False if dtype.kind == "b" else np.iinfo(dtype).min


def greatest(dtype: np.dtype) -> object:
    """The greatest value of a dtype, infinity for floats."""
    return np.inf if dtype.kind == "f" else True if dtype.kind == "b" else np.iinfo(dtype).max


def sum_(x: np.ndarray, *, axes: tuple[int, ...], order: str) -> np.ndarray:
    return _reduce(x, axes, order, np.add, 0)


def prod(x: np.ndarray, *, axes: tuple[int, ...], order: str) -> np.ndarray:
    return _reduce(x, axes, order, np.multiply, 1)


def max_(x: np.ndarray, *, axes: tuple[int, ...], order: str) -> np.ndarray:
    return _reduce(x, axes, order, maximum, least(x.dtype))


def min_(x: np.ndarray, *, axes: tuple[int, ...], order: str) -> np.ndarray:
    return _reduce(x, axes, order, minimum, greatest(x.dtype))


def _flat_last(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    kept = [a for a in range(x.ndim) if a not in axes]
    count = math.prod(x.shape[a] for a in axes)
    return np.transpose(x, (*kept, *axes)).reshape(*(x.shape[a] for a in kept), count)


def argmax(x: np.ndarray, *, axes: tuple[int, ...], order: str) -> np.ndarray:
    return np.asarray(np.argmax(_flat_last(x, axes), axis=-1))


def argmin(x: np.ndarray, *, axes: tuple[int, ...], order: str) -> np.ndarray:
    return np.asarray(np.argmin(_flat_last(x, axes), axis=-1))


def cumsum(x: np.ndarray, *, axis: int) -> np.ndarray:
    """Sequential, starting from 0."""
    out = np.empty_like(x)
    rows, sums = np.moveaxis(x, axis, 0), np.moveaxis(out, axis, 0)
    total = np.zeros(rows.shape[1:], x.dtype)
    for i, row in enumerate(rows):
        total = sums[i] = total + row
    return out


def superblocks(extents: tuple[int, ...]) -> int:
    """Number of steps of the fastest summed labels that make one superblock of a contraction: as many whole
    runs of inner labels as fit in 4096 steps, cut again wherever an outer label advances."""
    inner = 1
    for n in reversed(extents):
        if inner * n > CONTRACT_BLOCK:
            return inner * (CONTRACT_BLOCK // inner)
        inner *= n
    return inner


def superblock_ranges(extents: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """First and last-plus-one step of each superblock of a sum over labels of these sizes, in order."""
    block, period = superblocks(extents), 1
    for n in reversed(extents):
        period *= n
        if period > CONTRACT_BLOCK:
            break
    for outer in range(0, math.prod(extents), max(period, 1)):
        for at in range(outer, outer + period, block):
            yield at, min(at + block, outer + period)


def sum_dtype(dtype: DType) -> DType:
    """The dtype of a contraction's sums: float32 for bfloat16 and float16, int32 for narrow integers."""
    if dtype in NARROW:
        return float32
    return int32 if dtype.is_integer and dtype.itemsize < 4 else dtype


def chain(
    lhs: np.ndarray, rhs: np.ndarray, extents: tuple[int, ...], start: np.ndarray | None = None,
    within: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """The canonical sum of lhs[k] * rhs[k] over k, the summed labels (of these sizes) taken as one: an FMA
    chain from zero within each superblock, the superblocks' sums added in order. bfloat16: see `paired`.
    start: where the chain of the only superblock begins instead. within: for each step whether it takes
    part."""
    if lhs.dtype == np.uint16:
        return _chain_of_pairs(lhs, rhs, extents)
    lhs, rhs = _summands(lhs), _summands(rhs)

    def block(first: int, last: int, total: np.ndarray) -> np.ndarray:
        for k in range(first, last):
            following = fma(lhs[k], rhs[k], total)
            total = following if within is None else np.where(within[k], following, total)
        return total

    taking_part = () if within is None else (within.shape[1:],)
    zero = np.zeros(np.broadcast_shapes(lhs.shape[1:], rhs.shape[1:], *taking_part), lhs.dtype)
    return _sum_of_superblocks(extents, zero if start is None else start, block)


def _summands(x: np.ndarray) -> np.ndarray:
    """The numbers in the dtype of their sums."""
    return x.astype(np.int32) if x.dtype.kind in "iu" and x.itemsize < 4 else widened(x)


def _chain_of_pairs(lhs: np.ndarray, rhs: np.ndarray, extents: tuple[int, ...]) -> np.ndarray:
    (lhs, even), (rhs, _) = paired.padded(lhs, extents), paired.padded(rhs, extents)
    lhs, rhs = paired.numbers(lhs), paired.numbers(rhs)

    def block(first: int, last: int, total: np.ndarray) -> np.ndarray:
        for k in range(first, last, 2):
            total = paired.pair(lhs[k : k + 2], rhs[k : k + 2], total)
        return total

    zero = np.zeros(np.broadcast_shapes(lhs.shape[1:], rhs.shape[1:]), np.float32)
    return _sum_of_superblocks(even, zero, block)


def _sum_of_superblocks(
    extents: tuple[int, ...], zero: np.ndarray, block: Callable[[int, int, np.ndarray], np.ndarray]
) -> np.ndarray:
    """The sums of all superblocks, block(first step, last step + 1, zero), added in order."""
    total: np.ndarray | None = None
    for first, last in superblock_ranges(extents):
        part = block(first, last, zero)
        total = part if total is None else total + part
    return zero if total is None else total


def contract(lhs: np.ndarray, rhs: np.ndarray, *, spec: ContractSpec) -> np.ndarray:
    """The canonical chain over the labels that are summed, for each element of the result."""
    sizes = {k: evaluate(v, {}) for k, v in spec.label_extents(lhs.shape, rhs.shape).items()}
    labels = (*spec.over, *spec.out)
    sides = (_steps(lhs, spec.lhs, labels, sizes, spec.over), _steps(rhs, spec.rhs, labels, sizes, spec.over))
    within = _taking_part(_conditions(lhs, rhs, spec), labels, sizes, len(spec.over))
    result = chain(*sides, tuple(sizes[name] for name in spec.over), within=within)
    return np.array(np.broadcast_to(result, [sizes[name] for name in spec.out]))


#: That an expression over labels is at least 0 and, if a number is given, less than that.
_Condition = tuple[Dim, Union[int, None]]


def _conditions(lhs: np.ndarray, rhs: np.ndarray, spec: ContractSpec) -> list[_Condition]:
    """What holds for the steps that take part; what holds for all alike is left out."""
    found: list[_Condition] = [] if spec.within is None else [(spec.within, None)]
    found += [(index, evaluate(size, {})) for index, size in spec.inside]
    if lhs.dtype == np.uint16:  # bfloat16: pairs take part whole, what is outside is zero
        return found
    for array, maps in ((lhs, spec.lhs), (rhs, spec.rhs)):
        alone = [isinstance(index, Expr) and symbols_of(index) == {str(index)} for index in maps]
        found += [(i, size) for i, size, all_ in zip(maps, array.shape, alone, strict=True) if not all_]
    return found


def _taking_part(
    conditions: list[_Condition], labels: tuple[str, ...], sizes: Mapping[str, int], summed: int
) -> np.ndarray | None:
    """Whether each step takes part: one leading axis over all steps of the sum, then an axis per label of the
    result."""
    grid = dict(zip(labels, np.ix_(*(np.arange(sizes[n]) for n in labels)), strict=True))
    takes_part = np.asarray(True)
    for index, size in conditions:
        at = np.asarray(evaluate(index, grid))  # type: ignore[arg-type]
        takes_part = takes_part & (at >= 0) & (True if size is None else at < size)
    if takes_part.all():
        return None
    shape = tuple(sizes[n] for n in labels)
    takes_part = takes_part.reshape(takes_part.shape or (1,) * len(labels))
    whole = np.broadcast_to(takes_part, (*shape[:summed], *takes_part.shape[summed:]))
    return whole.reshape(math.prod(shape[:summed]), *whole.shape[summed:])


def _steps(
    array: np.ndarray,
    maps: tuple[Dim, ...],
    labels: tuple[str, ...],
    sizes: Mapping[str, int],
    over: tuple[str, ...],
) -> np.ndarray:
    """The operand's elements with one leading axis over all steps of the sum, then an axis per label of the
    result (of size 1 where the operand does not depend on it)."""
    names = [n for n in labels if any(n in symbols_of(m) for m in maps)]
    dense = _indexed(array, maps, names, sizes)
    wide = dense.reshape([sizes[n] if n in names else 1 for n in labels])
    summed = tuple(sizes[n] for n in over)
    rest = wide.shape[len(over) :]
    return np.broadcast_to(wide, summed + rest).reshape(math.prod(summed), *rest)


def _indexed(
    array: np.ndarray, maps: tuple[Dim, ...], names: list[str], sizes: Mapping[str, int]
) -> np.ndarray:
    """array[maps] as a dense array over the labels `names`, zero where an index falls outside."""
    grid = dict(zip(names, np.ix_(*(np.arange(sizes[n]) for n in names)), strict=True))
    inside: np.ndarray | bool = True
    places = []
    for index, size in zip(maps, array.shape, strict=True):
        at = np.asarray(evaluate(index, grid))  # type: ignore[arg-type]
        inside = inside & (at >= 0) & (at < size)
        places.append(np.clip(at, 0, max(size - 1, 0)))
    shape = tuple(sizes[n] for n in names)
    if 0 in array.shape:
        return np.zeros(shape, array.dtype)
    picked = array[tuple(places)] if places else array
    return np.broadcast_to(np.where(inside, picked, 0), shape)
