"""Copies that transpose: what one loop reads in runs the other writes in runs.

A `parallel i` directly around a `vector j` whose body is a load in runs along i and a store in runs along j
is copied in square tiles, transposed in registers: full vectors read and written, where a gather would
touch a cache line for each element. Measured: 60-75 GB/s in the caches. (`transpose_runs`: where two loops
together run through what is read.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..ir.dtypes import DType
from ..ir.expr import Dim, coefficient
from ..ir.kernel import VECTOR, Load, Loop, Statement, Store
from .context import Context
from .contract_pack import transposing_function
from .indices import Value
from .lanes import MEMORY

Body = Callable[[Sequence[Statement]], None]


def is_transposing_copy(loop: Loop) -> bool:
    """Whether the loop is such a copy, of elements of 4 or 8 bytes and without guards."""
    copy = copy_of(loop)
    if copy is None:
        return False
    inner, load, store = copy
    i, j = loop.axis.name, inner.axis.name
    runs = coefficient(load.index, i) == 1 and coefficient(store.index, j) == 1
    strided = coefficient(load.index, j) not in (None, 0, 1) and coefficient(store.index, i) not in (
        None,
        0,
        1,
    )
    large = all(
        not isinstance(a.extent, int) or a.extent >= side_of(load.result.dtype)
        for a in (loop.axis, inner.axis)
    )
    return runs and strided and large and load.result.dtype.itemsize in (4, 8)


def emit_transposing_copy(ctx: Context, loop: Loop, body: Body) -> None:
    """Square tiles, then what is left of each tile row, then of the rows, element by element."""
    copy = copy_of(loop)
    assert copy is not None
    inner, load, store = copy
    side = side_of(load.result.dtype)
    first, last = ctx.bounds(loop.axis)
    rows, columns = _whole(ctx, last, side), _whole(ctx, ctx.indices.value(inner.axis.extent), side)

    def tile_row(_: Value, __: list[str]) -> Sequence[str]:
        def tile(___: Value, ____: list[str]) -> Sequence[str]:
            _tile(ctx, load, store, loop.axis.name, inner.axis.name, side)
            return []

        ctx.loop(inner.axis.name, 0, columns, side, [], tile, extent=inner.axis.extent)
        return []

    end = ctx.indices.value(inner.axis.extent)
    ctx.loop(loop.axis.name, first, rows, side, [], tile_row, extent=loop.axis.extent)
    _plain(ctx, loop, inner, body, (first, rows), (columns, end))
    _plain(ctx, loop, inner, body, (rows, last), (0, end))


def copy_of(loop: Loop) -> tuple[Loop, Load, Store] | None:
    """(vector loop, load, store) if that is all there is."""
    match loop:
        case Loop(
            kind="parallel",
            carries=(),
            body=(Loop(kind="vector", body=(Load() as load, Store() as store)) as inner,),
        ):
            plain = not load.guards and not store.guards and store.value is load.result
            return (inner, load, store) if plain and load.buffer != store.buffer else None
    return None


def side_of(dtype: DType) -> int:
    """Tiles have the side of one 64-byte vector, but 16 even so for elements of 4 bytes or more on every
    target.
    """
    return VECTOR * 4 // dtype.itemsize


def _whole(ctx: Context, size: Value, side: int) -> Value:
    return size // side * side if isinstance(size, int) else ctx.f(f"and i64 {size}, {-side}")


def _plain(
    ctx: Context, loop: Loop, inner: Loop, body: Body, rows: tuple[Value, Value], columns: tuple[Value, Value]
) -> None:
    """The copy of a part, one element after the other."""

    def row(i: Value, _: list[str]) -> Sequence[str]:
        def element(j: Value, __: list[str]) -> Sequence[str]:
            body(inner.body)
            return []

        ctx.loop(inner.axis.name, *columns, 1, [], element, extent=inner.axis.extent)
        return []

    if rows[0] != rows[1] and columns[0] != columns[1]:
        ctx.loop(loop.axis.name, *rows, 1, [], row, extent=loop.axis.extent)


def _tile(ctx: Context, load: Load, store: Store, i: str, j: str, side: int) -> None:
    """side x side elements at the current i and j."""
    f, element, align = ctx.f, MEMORY[load.result.dtype], load.result.dtype.itemsize
    function = transposing_function(f.module, element, align, side)
    places = [ctx.address(s.buffer, s.index) for s in (load, store)]
    read, written = (ctx.indices.value(stride_along(*of)) for of in ((load.index, j), (store.index, i)))
    f.do(
        f"call void @{function}(ptr {places[0]}, ptr {places[1]}, i64 {read}, i64 {side}, i64 {side}, "
        f"i64 {written})"
    )


def stride_along(index: Dim, axis: str) -> Dim:
    stride = coefficient(index, axis)
    assert stride is not None
    return stride
