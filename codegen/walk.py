"""Questions about the statements of a kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..ir.expr import Dim, symbols_of
from ..ir.kernel import Axis, Compute, Contract, Index, Kernel, Load, Loop, Reduce, Sort, Statement, Store

#: Statements of a body that counts as light.
LIGHT = 16


def dims_of(statement: Statement) -> Iterator[Dim]:
    """The index expressions that a statement itself has, its loops' extents among them."""
    match statement:
        case Index():
            yield statement.expr
        case Load() | Store():
            yield statement.index
            for guard in statement.guards:
                yield from (guard.expr, guard.low, guard.high)
        case Loop():
            yield statement.axis.extent
        case Reduce():
            yield from (axis.extent for axis in statement.axes)
        case Contract():
            yield from (statement.lhs_index, statement.rhs_index)
            yield from (axis.extent for axis in axes_of(statement))
            yield from () if statement.start is None else (statement.start[1],)
            yield from () if statement.within is None else (statement.within,)
            for guard in statement.inside:
                yield from (guard.expr, guard.low, guard.high)
        case Sort():
            yield from statement.dims


def axes_of(statement: Contract) -> tuple[Axis, ...]:
    """All axes of a contraction."""
    return (statement.m, statement.n, *statement.over)


def index_symbols(kernel: Kernel) -> set[str]:
    """Every name in the kernel's index expressions."""
    return {name for s in kernel.statements() for dim in dims_of(s) for name in symbols_of(dim)}


def is_light(body: Sequence[Statement]) -> bool:
    """Whether a few vectors of everything in a body fit into registers, and take few instructions."""
    return len(body) <= LIGHT and all(s.opdef.exact for s in body if isinstance(s, Compute))


def nested(statements: Sequence[Statement]) -> Iterator[Statement]:
    """The statements and all that stand in them."""
    for statement in statements:
        yield statement
        if isinstance(statement, Loop | Reduce | Contract):
            yield from nested(statement.body)
