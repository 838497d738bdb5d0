"""Kernel statements with symbols of their index expressions replaced, or with other extents of their axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from .expr import Dim, substitute
from .kernel import Axis, Contract, Guard, Index, Load, Loop, Reduce, Sort, Statement, Store

_Renew = Callable[[Dim], Dim]


def substituted(statements: tuple[Statement, ...], values: Mapping[str, Dim]) -> tuple[Statement, ...]:
    """The statements with these symbols replaced, in the extents of loops too."""
    if not values:
        return statements
    memo: dict[Dim, Dim] = {}

    def new(dim: Dim) -> Dim:
        if dim not in memo:
            memo[dim] = substitute(dim, values)
        return memo[dim]

    return tuple(_renewed(s, new) for s in statements)


def shortened(statements: tuple[Statement, ...], extents: Mapping[str, Dim]) -> tuple[Statement, ...]:
    """The statements with these extents of the axes named."""

    def axis(old: Axis) -> Axis:
        return Axis(old.name, extents.get(old.name, old.extent))

    def one(s: Statement) -> Statement:
        match s:
            case Contract():
                m, n, *over = map(axis, (s.m, s.n, *s.over))
                return replace(s, m=m, n=n, over=tuple(over))
            case Loop():
                return replace(s, axis=axis(s.axis), body=tuple(map(one, s.body)))
            case Reduce():
                return replace(s, axes=tuple(map(axis, s.axes)), body=tuple(map(one, s.body)))
        return s

    return tuple(map(one, statements))


def _renewed(s: Statement, new: _Renew) -> Statement:
    match s:
        case Index():
            return Index(s.result, new(s.expr))
        case Load():
            return Load(s.result, s.buffer, new(s.index), _guards(s.guards, new), s.otherwise)
        case Store():
            return Store(s.buffer, new(s.index), s.value, _guards(s.guards, new))
        case Contract():
            m, n, *over = (_axis(a, new) for a in (s.m, s.n, *s.over))
            lhs, rhs, body = new(s.lhs_index), new(s.rhs_index), _body(s.body, new)
            start = None if s.start is None else (s.start[0], new(s.start[1]))
            within = None if s.within is None else new(s.within)
            return replace(
                s, m=m, n=n, over=tuple(over), lhs_index=lhs, rhs_index=rhs, body=body, start=start,
                within=within, inside=_guards(s.inside, new),
            )  # fmt: skip
        case Loop():
            return replace(s, axis=_axis(s.axis, new), body=_body(s.body, new))
        case Reduce():
            return replace(s, axes=tuple(_axis(a, new) for a in s.axes), body=_body(s.body, new))
        case Sort():
            source, target, scratch, length, count = map(new, s.dims)
            return Sort(
                s.source, source, s.target, target, s.scratch, scratch, length, count, s.descending
            )  # fmt: skip
    return s


def _body(statements: tuple[Statement, ...], new: _Renew) -> tuple[Statement, ...]:
    return tuple(_renewed(s, new) for s in statements)


def _axis(axis: Axis, new: _Renew) -> Axis:
    return Axis(axis.name, new(axis.extent))


def _guards(guards: tuple[Guard, ...], new: _Renew) -> tuple[Guard, ...]:
    return tuple(Guard(new(g.expr), new(g.low), new(g.high)) for g in guards)
