"""How a contraction is laid out: which operand is broadcast, which is read in vectors, and along which label.

The register tile of `ir.kernel.Contract` spans a label `m` that only the lhs has and a label `n` that only
the rhs has, or both if the lhs is contiguous along it, too (`lanes`: the channels of a depthwise
convolution); all other labels of the result are loops around it. Multiplication commutes, so the operands
may change roles. The choice goes by estimated cycles: full vectors, contiguous reads along n (else the
operand is copied first, `packed`), contiguous writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from ...ir.contraction import ContractSpec
from ...ir.errors import IRTypeError
from ...ir.expr import Dim, coefficient, dot, substitute, symbol, symbols_of
from ...ir.graph import Value
from ...ir.kernel import VECTOR
from ...ir.narrow import PAIRED
from ...ir.types import row_major_strides
from .index import Index, Shape, matched, place_of
from .pairs import place_in_pairs
from .stores import estimate

#: Operands of fewer elements are read with a stride rather than copied.
SMALL = 256
#: Cycles per element of a transposing copy, of a strided store, and of a strided load. The emitted code
#: packs a vector operand that is not contiguous along n itself, panel by panel, but again for each turn of
#: the loops around: in registers if the last summed label runs along memory, else by strided loads. Results
#: that lie in runs along m rather than n are transposed before they are stored.
COPY, SCATTER, GATHER, TURN, REGISTERS = 0.4, 1.5, 1.0, 0.5, 0.25
#: Multiply-adds per cycle in full vectors: two units.
PEAK = 2 * VECTOR
#: Vector operands in registers are used for about so many rows.
ROWS = 8


@dataclass(frozen=True)
class Layout:
    """swapped: the second operand is the broadcast one. m, n: labels of the tile, None where there is no
    such label. packed: the vector operand has to be copied first, with n as its last axis. lanes: both have
    n. turned: so has the broadcast operand, which has n and is read in vectors, too."""

    swapped: bool
    m: str | None
    n: str | None
    packed: bool
    cycles: float
    lanes: bool = False
    turned: bool = False


@dataclass(frozen=True)
class Side:
    """An operand: its labels, elements, and its stride along a label (None if it isn't one)."""

    maps: tuple[Dim, ...]
    numel: int
    place: Dim | None

    def labels(self) -> set[str]:
        return {name for index in self.maps for name in symbols_of(index)}

    def stride(self, label: str) -> Dim | None:
        return None if self.place is None else coefficient(self.place, label)


def side_of(value: Value, maps: Index, sizes: dict[str, Dim], in_memory: Callable[[Value], bool]) -> Side:
    """An operand, read at these index maps of the labels."""
    ones: dict[str, Dim] = {label: 0 for label, size in sizes.items() if size == 1}
    found = place_of(value, tuple(substitute(index, ones) for index in maps), sizes, in_memory)
    return Side(maps, estimate(value.type.numel), None if found is None else found[1])


def layout_of(
    spec: ContractSpec, operands: Sequence[Value], sizes: dict[str, Dim], in_memory: Callable[[Value], bool],
    strides: Shape | None, *, as_they_lie: bool = False,
) -> Layout:  # fmt: skip
    """The cheapest layout of a contraction of these operands; of what comes in pairs of steps, counted in
    pairs. as_they_lie: none that reads copies in vectors."""
    sides = [
        side_of(x, maps, sizes, in_memory) for x, maps in zip(operands, (spec.lhs, spec.rhs), strict=True)
    ]
    over, paired = spec.over, operands[0].type.dtype in PAIRED
    if paired:
        sides = [
            replace(s, place=None if s.place is None else place_in_pairs(s.place, over[-1])) for s in sides
        ]
        over = over[:-1]
    known = replace(spec, over=over, extents=tuple(sorted(sizes.items())))
    lanes = not paired and spec.within is None
    return choose_layout(known, (sides[0], sides[1]), strides, lanes, not as_they_lie)


@lru_cache(maxsize=1024)
def choose_layout(
    spec: ContractSpec, sides: tuple[Side, Side], strides: Shape | None = None, lanes: bool = True,
    turned: bool = True,
) -> Layout:  # fmt: skip
    """The cheapest layout. spec: with the extents of all labels. sides: lhs and rhs, with the places of their
    elements as expressions of the labels. strides: of the result, if it is not row-major. lanes: vectors may
    run along a label of both. turned: the broadcast operand may be copied for that."""
    found = _layouts(spec, dict(spec.extents), sides, strides)
    fitting = (x for x in found if (lanes or not x.lanes) and (turned or not x.turned))
    return min(fitting, key=lambda layout: layout.cycles)


def _layouts(
    spec: ContractSpec, sizes: dict[str, Dim], sides: tuple[Side, Side], strides: Shape | None
) -> Iterator[Layout]:
    out = [label for label in spec.out if sizes[label] != 1]
    strides = strides or row_major_strides(tuple(sizes[label] for label in spec.out))
    writes = dict(zip(spec.out, strides, strict=True))
    work = _product(sizes[label] for label in (*spec.out, *spec.over))
    results = _product(sizes[label] for label in out)
    for swapped in (False, True):
        lhs, rhs = sides[::-1] if swapped else sides
        rows = [label for label in out if label in lhs.labels() - rhs.labels()]
        m = rows[-1] if rows else None
        height = _run(rows, sizes, lhs, writes)
        columns = [label for label in out if label in rhs.labels() - lhs.labels()]
        for n in (label for label in out if label in rhs.labels()):
            lanes = n in lhs.labels()
            turned = lanes and lhs.stride(n) != 1
            if lanes and not isinstance(sizes[n], int) or turned and not can_pack(lhs.maps, n):
                continue
            width = _run(columns, sizes, rhs, writes) if [n] == columns[-1:] else estimate(sizes[n])
            vectors = -(-width // VECTOR) * VECTOR / max(width, 1)
            cycles = work * vectors / PEAK * (1 + lanes + 2 / max(min(height, ROWS), 1))
            cycles += lhs.numel * COPY if turned else 0
            if writes[n] != 1:
                cycles += results * (TURN if m is not None and writes[m] == 1 else SCATTER)
            packed = False
            if rhs.stride(n) != 1:
                along = [label for label in spec.over if sizes[label] != 1][-1:]
                runs = bool(along) and rhs.stride(along[0]) == 1
                strided = work / max(height, 1) * (REGISTERS if runs else GATHER)
                copied = rhs.numel * COPY
                packed = copied < strided and rhs.numel >= SMALL and can_pack(rhs.maps, n)
                cycles += copied if packed else strided
            yield Layout(swapped, m, n, packed, cycles, lanes, turned)
        # Chains of scalars: one multiply-add waits for the one before unless there are rows to alternate
        # between.
        yield Layout(swapped, m, None, False, work * (1 if m else 4))


def _run(labels: Sequence[str], sizes: dict[str, Dim], side: Side, writes: dict[str, Dim]) -> int:
    """Rows or columns of the tile: of the last of these labels, and of those before it that run on in both
    operand and result."""
    length: Dim = 1
    for label in reversed(labels):
        strides = [(side.stride(x), writes[x]) for x in (label, labels[-1])]
        if label != labels[-1] and any(
            a is None or b is None or a != b * length for a, b in zip(*strides, strict=True)
        ):
            break
        length = length * sizes[label]
    return estimate(length)


def _product(sizes: Iterable[Dim]) -> float:
    total = 1.0
    for size in sizes:
        total *= max(estimate(size), 1)
    return total


def cut(spec: ContractSpec, sizes: dict[str, Dim], shape: Shape) -> ContractSpec | None:
    """The contraction whose result is that of `spec` reshaped to `shape`, if that only cuts axes into
    several: a label m of the result becomes s*m_0 + m_1 wherever it stands."""
    have = tuple(sizes[label] for label in spec.out)
    if 0 in have or spec.within is not None:
        return None
    out: list[str] = []
    now: dict[str, Dim] = {}
    extents = dict(sizes)
    for (i, j), (k, m) in matched(have, shape):
        labels = [label for label in spec.out[i:j] if sizes[label] != 1]
        if len(labels) > 1:
            return None
        new = [f"{label}_{at}" for label in (*labels, "one")[:1] for at in range(len(out), len(out) + m - k)]
        extents |= zip(new, shape[k:m], strict=True)
        now |= dict.fromkeys(spec.out[i:j], 0)
        index = tuple(0 if d == 1 else symbol(label) for label, d in zip(new, shape[k:m], strict=True))
        now |= {label: dot(index, row_major_strides(shape[k:m])) for label in labels}
        out += new
    if len({*out, *spec.over}) < len(out) + len(spec.over):
        return None
    lhs, rhs = (tuple(substitute(index, now) for index in maps) for maps in (spec.lhs, spec.rhs))
    used = {*out, *spec.over}
    known = tuple(sorted((label, size) for label, size in extents.items() if label in used))
    return ContractSpec(lhs, rhs, tuple(out), spec.over, known)


def fits(spec: ContractSpec, *shapes: Shape) -> bool:
    """Whether operands of these shapes can be read by a spec: an index that is a label alone runs along all
    of its axis."""
    try:
        spec.label_extents(*shapes)
    except IRTypeError:
        return False
    return True


def can_pack(maps: Sequence[Dim], label: str) -> bool:
    """Whether some axis of an operand advances by one with the label, so that making it the last axis
    helps."""
    return packed_axis(maps, label) is not None


def packed_order(spec: ContractSpec, maps: Sequence[Dim], label: str) -> tuple[int, ...]:
    """The order of an operand's axes in a copy: as the contraction walks over them, the vector label last."""
    last = packed_axis(maps, label)

    def step(axis: int) -> tuple[bool, int]:
        walked = [at for at, summed in enumerate(spec.over) if summed in symbols_of(maps[axis])]
        return axis == last, max(walked, default=-1)

    return tuple(sorted(range(len(maps)), key=step))


def packed_axis(maps: Sequence[Dim], label: str) -> int | None:
    """The axis of an operand along which the label runs alone by steps of one."""
    found = [a for a, index in enumerate(maps) if coefficient(index, label) == 1]
    return found[0] if len(found) == 1 and not _elsewhere(maps, found[0], label) else None


def _elsewhere(maps: Sequence[Dim], axis: int, label: str) -> bool:
    return any(label in symbols_of(index) for a, index in enumerate(maps) if a != axis)
