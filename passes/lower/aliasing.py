"""Whether a kernel may write a result over one of its inputs: two of its buffers being one block of memory.

It may if each element of the input is read before that same element of the result is written, by the same
iteration of all parallel loops. Then no iteration reads what another one has written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...ir.expr import Dim, substitute, symbol
from ...ir.kernel import Axis, Contract, Kernel, Load, Loop, Reduce, Sort, Statement, Store


@dataclass(frozen=True)
class Access:
    """A load or store: its place with inner (not parallel) axes called a, b, ... in order, their extents,
    and the parallel loops around."""

    buffer: str
    writes: bool
    place: Dim
    inner: tuple[Dim, ...]
    parallel: tuple[int, ...]


def accesses(kernel: Kernel) -> list[Access]:
    """All accesses of a kernel, in the order in which they happen; those of a contraction's operands and
    of a sort have no place that anything else could have."""
    return list(_accesses(kernel.body, {}, (), ()))


def may_share(found: Sequence[Access], read: str, written: str) -> bool:
    """Whether the buffer `written` may be the memory of the buffer `read`. found: the accesses of the
    kernel."""
    loads = [(at, a) for at, a in enumerate(found) if a.buffer == read]
    stores = [(at, a) for at, a in enumerate(found) if a.buffer == written]
    if not stores or any(a.writes for _, a in loads):
        return False
    first, pattern = stores[0]
    return all(at < first and _same(load, pattern) for at, load in loads) and all(
        _same(store, pattern) for _, store in stores
    )


def is_copy(kernel: Kernel) -> bool:
    """Whether a kernel only copies elements to the same place of another buffer."""
    body = kernel.body
    while len(body) == 1 and isinstance(body[0], Loop):
        body = body[0].body
    match body:
        case (Load() as load, Store() as store):
            return not load.guards and store.value is load.result and load.index == store.index
    return False


def _same(one: Access, other: Access) -> bool:
    return (one.place, one.inner, one.parallel) == (other.place, other.inner, other.parallel)


def _accesses(
    body: Sequence[Statement], names: dict[str, Dim], inner: tuple[Dim, ...], parallel: tuple[int, ...]
) -> Iterator[Access]:
    for s in body:
        match s:
            case Load() | Store():
                place = substitute(s.index, names)
                yield Access(s.buffer, isinstance(s, Store), place, inner, parallel)
            case Loop(kind="parallel"):
                yield from _accesses(s.body, names, inner, (*parallel, id(s)))
            case Loop() | Reduce():
                axes = (s.axis,) if isinstance(s, Loop) else s.axes
                yield from _accesses(s.body, *_within(names, inner, axes), parallel)
            case Contract():
                for buffer in (s.lhs, s.rhs, *(s.start or ())[:1]):
                    yield Access(buffer, False, symbol("operand"), inner, parallel)
                yield from _accesses(s.body, *_within(names, inner, (s.m, s.n)), parallel)
            case Sort():
                yield Access(s.source, False, symbol("line"), inner, parallel)
                for buffer in (s.target, s.scratch):
                    yield Access(buffer, True, symbol("sorted"), inner, parallel)


def _within(
    names: dict[str, Dim], inner: tuple[Dim, ...], axes: Sequence[Axis]
) -> tuple[dict[str, Dim], tuple[Dim, ...]]:
    """(names of inner axes, extents) with these axes added."""
    added = {axis.name: symbol(f"inner{len(inner) + a}") for a, axis in enumerate(axes)}
    return {**names, **added}, (*inner, *(axis.extent for axis in axes))
