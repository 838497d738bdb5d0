"""Meanings of the primitives that combine elements, in their canonical order of arithmetic (docs/numerics.md)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np

from ..contraction import ContractSpec
from ..expr import Dim, evaluate, symbols_of

LANES = 16
LANE_BLOCK = 4096
ROW_BLOCK = 128
CONTRACT_BLOCK = 4096

Combine = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _reduce(x: np.ndarray, axes: tuple[int, ...], order: str, combine: Combine, identity: object) -> np.ndarray:
    """Combine the elements along `axes`. The reduced axes are taken as one, row-major, put in front."""
    kept = [a for a in range(x.ndim) if a not in axes]
    rows = np.transpose(x, (*axes, *kept)).reshape(-1, *(x.shape[a] for a in kept))
    start = np.full(rows.shape[1:], identity, x.dtype)
    by_order = {"lanes": _lanes, "rows": _rows, "sequential": _sequential}
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
    return lanes[0]


def _rows(rows: np.ndarray, combine: Combine, start: np.ndarray) -> np.ndarray:
    """Pairwise over blocks: neighbours of equal size are joined as soon as both are complete; what is left
    at the end is joined from the last to the first."""
    done: list[np.ndarray] = []
    for number, at in enumerate(range(0, len(rows), ROW_BLOCK), start=1):
        total = _sequential(rows[at : at + ROW_BLOCK], combine, start)
        while number % 2 == 0:
            total, number = combine(done.pop(), total), number // 2
        done.append(total)
    total = done.pop() if done else start
    while done:
        total = combine(done.pop(), total)
    return total


def _least(dtype: np.dtype) -> object:
    return -np.inf if dtype.kind == "f" else False if dtype.kind == "b" else np.iinfo(dtype).min


def _greatest(dtype: np.dtype) -> object:
    return np.inf if dtype.kind == "f" else True if dtype.kind == "b" else np.iinfo(dtype).max


def sum_(x: np.ndarray, *, axes: tuple[int, ...], order: str) -> np.ndarray:
    return _reduce(x, axes, order, np.add, 0)


def prod(x: np.ndarray, *, axes: tuple[int, ...], order: str) -> np.ndarray:
    return _reduce(x, axes, order, np.multiply, 1)


def max_(x: np.ndarray, *, axes: tuple[int, ...], order: str) -> np.ndarray:
    return _reduce(x, axes, order, np.maximum, _least(x.dtype))


def min_(x: np.ndarray, *, axes: tuple[int, ...], order: str) -> np.ndarray:
    return _reduce(x, axes, order, np.minimum, _greatest(x.dtype))


def _flat_last(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    kept = [a for a in range(x.ndim) if a not in axes]
    count = int(np.prod([x.shape[a] for a in axes]))
    return np.transpose(x, (*kept, *axes)).reshape(*(x.shape[a] for a in kept), count)


def argmax(x: np.ndarray, *, axes: tuple[int, ...], order: str) -> np.ndarray:
    return np.argmax(_flat_last(x, axes), axis=-1)


def argmin(x: np.ndarray, *, axes: tuple[int, ...], order: str) -> np.ndarray:
    return np.argmin(_flat_last(x, axes), axis=-1)


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


def contract(lhs: np.ndarray, rhs: np.ndarray, *, spec: ContractSpec) -> np.ndarray:
    """The exact sum in float64, rounded once: within rounding of the canonical chain, not its bits."""
    sizes = {k: evaluate(v, {}) for k, v in spec.label_extents(lhs.shape, rhs.shape).items()}
    letters = {name: i for i, name in enumerate(sizes)}
    operands: list[object] = []
    for array, maps in ((lhs, spec.lhs), (rhs, spec.rhs)):
        names = sorted(set(itertools.chain.from_iterable(map(symbols_of, maps))))
        wide = array.astype(np.float64) if array.dtype.kind == "f" else array
        operands += [_indexed(wide, maps, names, sizes), [letters[n] for n in names]]
    result = np.einsum(*operands, [letters[n] for n in spec.out])
    return result.astype(lhs.dtype)


def _indexed(array: np.ndarray, maps: tuple[Dim, ...], names: list[str], sizes: Mapping[str, int]) -> np.ndarray:
    """array[maps] as a dense array over the labels `names`, zero where an index falls outside."""
    grid = {n: g for n, g in zip(names, np.ix_(*(np.arange(sizes[n]) for n in names)), strict=True)} if names else {}
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
