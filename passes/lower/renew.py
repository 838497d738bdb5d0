"""Copies of statements with other names: axes, scalars and buffers of several kernels brought into one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ...ir.expr import Dim, substitute, symbol
from ...ir.kernel import (
    Axis,
    Check,
    Compute,
    Const,
    Contract,
    Guard,
    Index,
    Load,
    Local,
    Loop,
    Reduce,
    Scalar,
    Sort,
    Statement,
    Store,
)  # fmt: skip

#: Gives the (buffer, index) that stands for an access.
Place = Callable[[str, Dim], tuple[str, Dim]]


class Names:
    """Fresh names for the axes and scalars of one kernel under construction."""

    def __init__(self) -> None:
        self._axes = 0
        self._scalars = 0

    def axis(self, extent: Dim) -> Axis:
        self._axes += 1
        return Axis(f"i{self._axes - 1}", extent)

    def scalar(self, like: Scalar) -> Scalar:
        self._scalars += 1
        return Scalar(str(self._scalars - 1), like.dtype)


class Renewal:
    """One copying of statements. dims: what axes and integer scalars (`%3`) stand for in index expressions;
    axes that statements bring along, and scalars, get fresh names."""

    def __init__(self, names: Names, place: Place, dims: Mapping[str, Dim] | None = None) -> None:
        self._names, self._place = names, place
        self._dims = dict(dims or {})
        self._scalars: dict[Scalar, Scalar] = {}
        self._memo: dict[Dim, Dim] = {}

    def let(self, name: str, dim: Dim) -> None:
        """From here on this name stands for `dim`."""
        self._dims[name] = dim
        self._memo = {}

    def body(self, statements: Iterable[Statement]) -> tuple[Statement, ...]:
        """The statements anew, in order."""
        return tuple(map(self.statement, statements))

    def axis(self, axis: Axis) -> Axis:
        """A fresh axis of the same extent."""
        new = self._names.axis(axis.extent)
        self.let(axis.name, symbol(new.name))
        return new

    def dim(self, dim: Dim) -> Dim:
        """An index expression in the new names."""
        if isinstance(dim, int):
            return dim
        found = self._memo.get(dim)
        if found is None:
            found = self._memo[dim] = substitute(dim, self._dims)
        return found

    def statement(self, s: Statement) -> Statement:
        """One statement, with all that stands in it."""
        match s:
            case Compute():
                return Compute(self._defined(s.result), s.opdef, self._used(s.operands), s.attrs)
            case Const():
                return Const(self._defined(s.result), s.value)
            case Index():
                return Index(self._defined(s.result), self.dim(s.expr))
            case Load():
                place, guards = self._at(s.buffer, s.index), self._guards(s.guards)
                return Load(self._defined(s.result), *place, guards, s.otherwise)
            case Store():
                return Store(*self._at(s.buffer, s.index), self._scalars[s.value], self._guards(s.guards))
            case Check():
                return Check(self._scalars[s.ok], s.code)
            case Local():
                return s
            case Loop():
                return self._loop(s)
            case Reduce():
                axes = tuple(map(self.axis, s.axes))
                body = self.body(s.body)
                value = self._scalars[s.value]
                return Reduce(self._defined(s.result), s.opdef, s.order, axes, body, value)
            case Contract():
                return self._contract(s)
            case Sort():
                places = (self._at(s.source, s.source_index), self._at(s.target, s.target_index))
                scratch = self._at(s.scratch, s.scratch_index)
                sizes = (self.dim(s.length), self.dim(s.count))
                return Sort(*places[0], *places[1], *scratch, *sizes, s.descending)

    def _loop(self, s: Loop) -> Loop:
        starts = self._used(start for _, start in s.carries)
        axis = self.axis(s.axis)
        parameters = [self._defined(parameter) for parameter, _ in s.carries]
        body = self.body(s.body)
        yields = self._used(s.yields)
        carries = tuple(zip(parameters, starts, strict=True))
        return Loop(axis, s.kind, body, carries, yields, tuple(map(self._defined, s.finals)))

    def _contract(self, s: Contract) -> Contract:
        m, n, *over = map(self.axis, (s.m, s.n, *s.over))
        lhs, rhs = self._at(s.lhs, s.lhs_index), self._at(s.rhs, s.rhs_index)
        start = None if s.start is None else self._at(*s.start)
        result = self._defined(s.result)
        return replace(
            s, result=result, m=m, n=n, over=tuple(over), lhs=lhs[0], lhs_index=lhs[1], rhs=rhs[0],
            rhs_index=rhs[1], body=self.body(s.body), start=start,
            within=None if s.within is None else self.dim(s.within), inside=self._guards(s.inside),
        )  # fmt: skip

    def _at(self, buffer: str, index: Dim) -> tuple[str, Dim]:
        return self._place(buffer, self.dim(index))

    def _defined(self, scalar: Scalar) -> Scalar:
        new = self._scalars[scalar] = self._names.scalar(scalar)
        if scalar.dtype.is_integer:
            self.let(f"%{scalar.name}", symbol(f"%{new.name}"))
        return new

    def _used(self, scalars: Iterable[Scalar]) -> tuple[Scalar, ...]:
        return tuple(self._scalars[s] for s in scalars)

    def _guards(self, guards: Sequence[Guard]) -> tuple[Guard, ...]:
        return tuple(Guard(self.dim(g.expr), self.dim(g.low), self.dim(g.high)) for g in guards)


def touched(statements: Iterable[Statement], axes: tuple[Axis, ...] = ()) -> Iterator[Touch]:
    """Every access of statements to memory: (buffer, index, guarded, axes that run around it)."""
    for s in statements:
        match s:
            case Load() | Store():
                yield s.buffer, s.index, bool(s.guards), axes
            case Contract():
                yield s.lhs, s.lhs_index, False, (*axes, s.m, s.n, *s.over)
                yield s.rhs, s.rhs_index, False, (*axes, s.n, *s.over)
                if s.start is not None:
                    yield *s.start, False, (*axes, s.m, s.n)
                yield from touched(s.body, (*axes, s.m, s.n))
            case Loop():
                yield from touched(s.body, (*axes, s.axis))
            case Reduce():
                yield from touched(s.body, (*axes, *s.axes))


Touch = tuple[str, Dim, bool, tuple[Axis, ...]]
