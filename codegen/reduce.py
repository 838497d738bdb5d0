"""Reductions in their canonical orders (docs/numerics.md; `ir.ops.ordered` is the meaning).

lanes: 16 running values over blocks of 4096, each block's joined in a fixed tree, block results in order.
The reduction is the vector loop, or, inside another one, done for each lane (`reduce_each`). rows: runs of
128 in order, run results pairwise. pairwise: the same with runs of 1. sequential: in order. These run element
after element; inside a vector loop every lane for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..ir.expr import Dim, floordiv, product, symbol
from ..ir.kernel import VECTOR, Axis, Reduce
from ..ir.ops.ordered import LANE_BLOCK, ROW_BLOCK
from .context import Context, Group, tail_mask
from .indices import Value, splat
from .lanes import REGISTER, Lanes
from .reduce_each import reduce_each
from .reducers import Reducer, State, reducer
from .walk import is_light

#: So many whole vectors are written out, without a loop: short rows stay in registers.
STRAIGHT = 4

#: So many values are joined pairwise in registers, without a loop.
STRAIGHT_PAIRS = 32


#: (number of a block, values so far, the block's state) -> the next values.
_Use = Callable[[Value, State, State], State]


def emit_reduce(ctx: Context, s: Reduce) -> None:
    """Set the result of a reduction."""
    vector = ctx.group is not None
    if s.order == "lanes" and not vector:
        emit_result(ctx, s, _lanes(ctx, s, _of_blocks(s)))
        return
    lanes = ctx.lanes(s.value.dtype, vector)
    # The state of a group of vectors of 32 bytes would not fit into registers.
    of_bits = vector and ctx.target.vector_bytes == 64
    how = reducer(s.opdef, s.value.dtype, lanes.element, of_bits)
    if s.order == "lanes" and not how.exact:
        states = _lanes_of_each(ctx, s, how, lanes)
    elif not _needs_runs(s, how):
        states = _sequential(ctx, s, how, lanes)
    elif s.order == "pairwise" and 0 < _known_extent(s) <= STRAIGHT_PAIRS:
        states = _tree(ctx, s, how, lanes, 0, _known_extent(s))
    else:
        states = _rows(ctx, s, how, lanes, ROW_BLOCK if s.order == "rows" else 1)
    ctx.set(s.result, [how.result(lanes, state) for state in states], vector)


# Order `lanes`.


def _lanes(ctx: Context, s: Reduce, how: Reducer) -> State:
    """Block after block of 4096, starting from the identity."""
    extent = _extent(s)
    if isinstance(extent, int) and 0 < extent <= LANE_BLOCK:
        return _block(ctx, s, how, 0, extent)  # the identity changes nothing: lanes start from it
    scalar = ctx.lanes(s.value.dtype, False)
    blocks = ctx.indices.value(blocks_of(s))
    return _blocks(ctx, s, how, 0, blocks, how.first(scalar), lambda _, a, b: how.join(scalar, a, b))


def _of_blocks(s: Reduce) -> Reducer:
    """How a reduction that is the vector loop joins values, and blocks."""
    return reducer(s.opdef, s.value.dtype, REGISTER[s.value.dtype], of_bits=True)


def blocks_of(s: Reduce) -> Dim:
    """The number of blocks of a reduction of order `lanes`."""
    return floordiv(_extent(s) + (LANE_BLOCK - 1), LANE_BLOCK)


def emit_blocks(ctx: Context, s: Reduce, start: Value, stop: Value, table: str, base: Value) -> None:
    """Put the states of the blocks start .. stop - 1 into a table that begins with block `base`."""
    how, scalar = _of_blocks(s), ctx.lanes(s.value.dtype, False)

    def put(number: Value, _: State, state: State) -> State:
        for kind, value, at in _entry(ctx, how, scalar, table, ctx.f(f"sub i64 {number}, {base}"), state):
            ctx.f.do(f"store {kind} {value}, ptr {at}, align 8")
        return ()

    _blocks(ctx, s, how, start, stop, (), put)


def start_of(ctx: Context, s: Reduce) -> list[tuple[str, str]]:
    """(type, value) of each part of the state of no values."""
    how, scalar = _of_blocks(s), ctx.lanes(s.value.dtype, False)
    return _carried(how, scalar, [how.first(scalar)])


def emit_join(ctx: Context, s: Reduce, state: Sequence[str], table: str, count: Value) -> list[str]:
    """The state joined with `count` blocks of a table, in order."""
    how, scalar = _of_blocks(s), ctx.lanes(s.value.dtype, False)

    def join(number: Value, values: list[str]) -> Sequence[str]:
        entry = _entry(ctx, how, scalar, table, number, how.types(scalar))
        return how.join(
            scalar, tuple(values), tuple(ctx.f(f"load {kind}, ptr {at}, align 8") for kind, _, at in entry)
        )

    return ctx.loop(None, 0, count, 1, _carried(how, scalar, [tuple(state)]), join)


def emit_result(ctx: Context, s: Reduce, states: Sequence[str]) -> None:
    """Let this state be the reduction's result."""
    result = _of_blocks(s).result(ctx.lanes(s.value.dtype, False), tuple(states))
    ctx.set(s.result, [result], vector=False)


def state_words(s: Reduce) -> int:
    """Words of 8 bytes in an entry of a table."""
    return len(_of_blocks(s).elements)


def _entry(
    ctx: Context, how: Reducer, scalar: Lanes, table: str, number: Value, values: Sequence[str]
) -> list[tuple[str, str, str]]:
    """(type, value, address) of each part of a table's entry."""
    words = len(how.elements)
    first = ctx.f(f"mul i64 {number}, {words}")
    at = [ctx.f(f"getelementptr i64, ptr {table}, i64 {first}")]
    at += [ctx.f(f"getelementptr i64, ptr {at[0]}, i64 {word}") for word in range(1, words)]
    return list(zip(how.types(scalar), values, at, strict=True))


def _blocks(
    ctx: Context, s: Reduce, how: Reducer, start: Value, stop: Value, first: State, use: _Use
) -> State:
    """use(number, values, state) for each block, in order; it gives the next values."""
    scalar, extent = ctx.lanes(s.value.dtype, False), _extent(s)
    whole = extent // LANE_BLOCK if isinstance(extent, int) else None

    def block(number: Value, values: list[str]) -> Sequence[str]:
        at = number * LANE_BLOCK if isinstance(number, int) else ctx.f(f"mul i64 {number}, {LANE_BLOCK}")
        length: Value = LANE_BLOCK
        if whole is None:
            left = ctx.f(f"sub i64 {ctx.index(extent)}, {at}")
            length = ctx.f.call("i64", "llvm.smin.i64", ("i64", left), ("i64", str(LANE_BLOCK)))
        return use(number, tuple(values), _block(ctx, s, how, at, length))

    carried = _carried(how, scalar, [first] if first else [])
    if whole is None or not isinstance(extent, int) or extent % LANE_BLOCK == 0:
        return tuple(ctx.loop(None, start, stop, 1, carried, block))
    before = min(stop, whole) if isinstance(stop, int) else _least(ctx, stop, whole)
    values = ctx.loop(None, start, before, 1, carried, block)

    def last() -> Sequence[str]:
        at = whole * LANE_BLOCK
        return use(whole, tuple(values), _block(ctx, s, how, at, extent - at))

    if isinstance(stop, int):
        return tuple(last()) if stop > whole else tuple(values)
    kinds = [kind for kind, _ in carried]
    reached = ctx.f(f"icmp sgt i64 {stop}, {whole}")
    return tuple(ctx.when(reached, last, list(zip(kinds, values, strict=True))))


def _least(ctx: Context, a: Value, b: Value) -> str:
    return ctx.f.call("i64", "llvm.smin.i64", ("i64", str(a)), ("i64", str(b)))


def _block(ctx: Context, s: Reduce, how: Reducer, at: Value, length: Value) -> State:
    """The block of `length` elements from `at`."""
    lanes = ctx.lanes(s.value.dtype, True)
    whole = length // VECTOR if isinstance(length, int) else STRAIGHT + 1
    state = _start(how, lanes)
    # In any order, so that joins needn't wait for each other; or so few instructions that rows overlap.
    if whole > STRAIGHT and (how.exact or is_light(s.body)):
        at, length, state = _whole(ctx, s, how, lanes, state, at, length, STRAIGHT)
    parts = whole if 0 < whole <= STRAIGHT else 1
    at, length, state = _whole(ctx, s, how, lanes, state, at, length, parts)
    state = _tail(ctx, s, how, lanes, state, at, length)
    return how.total(lanes, state)


def _joined(how: Reducer, lanes: Lanes, states: Sequence[State]) -> State:
    """The states joined in order."""
    result = states[0]
    for state in states[1:]:
        result = how.added(lanes, result, state)
    return result


def _start(how: Reducer, lanes: Lanes) -> State:
    """The state of no values; positions start at the lane's number, so that an untouched lane loses every
    tie.
    """
    first = how.first(lanes)
    if not how.indexed:
        return first
    steps = ", ".join(f"i64 {lane}" for lane in range(VECTOR))
    return (first[0], f"<{steps}>")


def _whole(
    ctx: Context, s: Reduce, how: Reducer, lanes: Lanes, state: State, start: Value, length: Value, parts: int
) -> tuple[Value, Value, State]:
    """The whole vectors, `parts` at a time; returns where and how long the rest is, and the state."""
    step = VECTOR * parts
    done = length // step * step if isinstance(length, int) else ctx.f(f"and i64 {length}, {-step}")
    end = _plus(ctx, start, done)

    def body(index: Value, values: list[str]) -> Sequence[str]:
        with ctx.vectors(Group(parts)):
            taken = _values(ctx, s, how, lanes, index)
        if how.exact or ctx.fast:
            taken = [_joined(how, lanes, taken)]
        return _joined(how, lanes, [tuple(values), *taken])

    carried = _carried(how, lanes, [state])
    last = ctx.loop(_linear(s), start, end, step, carried, body, extent=_extent(s), lanes=True)
    return end, _plus(ctx, length, done, -1), tuple(last)


def _tail(
    ctx: Context, s: Reduce, how: Reducer, lanes: Lanes, state: State, start: Value, length: Value
) -> State:
    """The last elements, less than a vector: lanes without one keep their state."""

    def masked() -> Sequence[str]:
        mask = tail_mask(ctx, length)
        with ctx.scope(), ctx.vectors(Group(1, (mask,))):
            ctx.bind(_linear(s), start, _extent(s), lanes=True)
            taken = _values(ctx, s, how, lanes, start)[0]
            return how.select(lanes, mask, how.added(lanes, state, taken), state)

    if isinstance(length, int):
        return tuple(masked()) if length else state
    some = ctx.f(f"icmp sgt i64 {length}, 0")
    return tuple(ctx.when(some, masked, list(zip(how.types(lanes), state, strict=True))))


def _values(ctx: Context, s: Reduce, how: Reducer, lanes: Lanes, index: Value) -> list[State]:
    """Run the body for a group of lanes from linear position `index` on; the state of each part's values
    alone.
    """
    assert ctx.group is not None
    _bind_axes(ctx, s)
    ctx.body(s.body)
    values = ctx.spread(ctx.get(s.value))
    if not how.indexed:
        return [how.taken(lanes, v) for v in values]
    return [(v, ctx.indices.lanes(symbol(_linear(s)), part)) for part, v in enumerate(values)]


def _plus(ctx: Context, a: Value, b: Value, sign: int = 1) -> Value:
    if isinstance(a, int) and isinstance(b, int):
        return a + sign * b
    return a if b == 0 else ctx.f(f"{'add' if sign == 1 else 'sub'} i64 {a}, {b}")


def _lanes_of_each(ctx: Context, s: Reduce, how: Reducer, lanes: Lanes) -> list[State]:
    """The order `lanes` within a vector loop."""

    def body() -> Sequence[str]:
        _bind_axes(ctx, s)
        ctx.body(s.body)
        return ctx.spread(ctx.get(s.value))

    return reduce_each(ctx, how, lanes, _linear(s), _extent(s), body)


# Element after element.


def _needs_runs(s: Reduce, how: Reducer) -> bool:
    """Whether the order `rows` or `pairwise` differs from sequential."""
    short = {"rows": ROW_BLOCK, "pairwise": 2}.get(s.order, 0)
    return short > 0 and not how.exact and not 0 <= _known_extent(s) <= short


def _known_extent(s: Reduce) -> int:
    """The number of values, -1 if it is known at run time only."""
    extent = _extent(s)
    return extent if isinstance(extent, int) else -1


def _tree(ctx: Context, s: Reduce, how: Reducer, lanes: Lanes, start: int, count: int) -> list[State]:
    """`count` values from `start` on, joined pairwise, in straight code: the largest power of two before the
    rest."""
    if count == 1:
        with ctx.scope():
            ctx.bind(_linear(s), start, _extent(s))
            _bind_axes(ctx, s)
            return _step(ctx, s, how, lanes, [how.first(lanes)] * (ctx.group.parts if ctx.group else 1), 0)
    half = 1 << (count - 1).bit_length() - 1
    low = _tree(ctx, s, how, lanes, start, half)
    high = _tree(ctx, s, how, lanes, start + half, count - half)
    return [how.join(lanes, a, b) for a, b in zip(low, high, strict=True)]


def _sequential(ctx: Context, s: Reduce, how: Reducer, lanes: Lanes) -> list[State]:
    """All axes as a nest of loops; a state per part."""
    states = [how.first(lanes)] * (ctx.group.parts if ctx.group else 1)
    position: Dim = 0
    for axis in s.axes:
        position = position * axis.extent + symbol(axis.name)
    return _nest(ctx, s, how, lanes, s.axes, states, position)


def _nest(
    ctx: Context,
    s: Reduce,
    how: Reducer,
    lanes: Lanes,
    axes: tuple[Axis, ...],
    states: list[State],
    position: Dim,
) -> list[State]:
    if not axes:
        return _step(ctx, s, how, lanes, states, position)

    def body(_: Value, values: list[str]) -> Sequence[str]:
        inner = _nest(ctx, s, how, lanes, axes[1:], _unflat(how, values), position)
        return [x for state in inner for x in state]

    axis = axes[0]
    stop = ctx.indices.value(axis.extent)
    return _unflat(
        how, ctx.loop(axis.name, 0, stop, 1, _carried(how, lanes, states), body, extent=axis.extent)
    )


def _step(
    ctx: Context, s: Reduce, how: Reducer, lanes: Lanes, states: list[State], position: Dim
) -> list[State]:
    """Each state joined with the value of the body at the current position."""
    ctx.body(s.body)
    value = ctx.get(s.value)
    values = ctx.spread(value) if ctx.group else value.parts
    if not how.indexed:
        return [how.join(lanes, a, how.taken(lanes, v)) for a, v in zip(states, values, strict=True)]
    index = ctx.index(position)
    at = (
        index
        if ctx.group is None
        else splat(ctx.f, "i64", index)
        if index.startswith("%")
        else f"splat (i64 {index})"
    )
    return [how.join(lanes, a, (v, at)) for a, v in zip(states, values, strict=True)]


def _rows(ctx: Context, s: Reduce, how: Reducer, lanes: Lanes, length: int) -> list[State]:
    """Runs of this length, a power of two; a stack holds the results of 1, 2, 4, ... runs like the digits of
    a binary counter.
    """
    parts = ctx.group.parts if ctx.group else 1
    stacks = [ctx.f.alloca(lanes.type, 64) for _ in range(parts)]
    size = ctx.indices.value(_extent(s))

    def run(at: Value, _: list[str]) -> Sequence[str]:
        before = ctx.f(f"lshr i64 {at}, {length.bit_length() - 1}") if isinstance(at, str) else "0"
        _push(ctx, how, lanes, stacks, _run(ctx, s, how, lanes, at, size, length), before)
        return []

    ctx.loop(None, 0, size, length, [], run)
    runs = _plus(ctx, size, length - 1)
    runs = runs // length if isinstance(runs, int) else ctx.f(f"lshr i64 {runs}, {length.bit_length() - 1}")
    return _unwound(ctx, how, lanes, stacks, runs)


def _run(
    ctx: Context, s: Reduce, how: Reducer, lanes: Lanes, at: Value, size: Value, length: int
) -> list[State]:
    """At most `length` elements from linear position `at` on, in order."""
    states = [how.first(lanes)] * (ctx.group.parts if ctx.group else 1)
    end = ctx.f.call("i64", "llvm.smin.i64", ("i64", str(_plus(ctx, at, length))), ("i64", str(size)))

    def body(_: Value, values: list[str]) -> Sequence[str]:
        _bind_axes(ctx, s)
        stepped = _step(ctx, s, how, lanes, _unflat(how, values), 0)
        return [x for state in stepped for x in state]

    carried = _carried(how, lanes, states)
    return _unflat(how, ctx.loop(_linear(s), at, end, 1, carried, body, extent=_extent(s)))


def _push(
    ctx: Context, how: Reducer, lanes: Lanes, stacks: list[str], states: list[State], before: str
) -> None:
    """Join the result of the run number `before` with those of equal length on the stack, then push it."""
    f = ctx.f
    number = f(f"add i64 {before}, 1")
    height = f.call("i64", "llvm.ctpop.i64", ("i64", before))
    joins = f.call("i64", "llvm.cttz.i64", ("i64", number), ("i1", "true"))
    states = _popped(ctx, how, lanes, stacks, states, height, joins)
    top = f(f"sub i64 {height}, {joins}")
    for stack, state in zip(stacks, states, strict=True):
        place = f(f"getelementptr {lanes.type}, ptr {stack}, i64 {top}")
        f.do(f"store {lanes.type} {state[0]}, ptr {place}, align 8")


def _popped(
    ctx: Context, how: Reducer, lanes: Lanes, stacks: list[str], states: list[State], height: str, count: str
) -> list[State]:
    """Each state joined with the `count` topmost of its stack, which come before it."""
    f = ctx.f

    def body(turn: str, values: list[str]) -> Sequence[str]:
        at = f(f"sub i64 {f(f'sub i64 {height}, 1')}, {turn}")
        joined: list[str] = []
        for stack, value in zip(stacks, values, strict=True):
            pointer = f(f"getelementptr {lanes.type}, ptr {stack}, i64 {at}")
            below = f(f"load {lanes.type}, ptr {pointer}, align 8")
            joined += how.join(lanes, (below,), (value,))
        return joined

    return _unflat(how, f.loop(0, count, 1, _carried(how, lanes, states), body))


def _unwound(ctx: Context, how: Reducer, lanes: Lanes, stacks: list[str], runs: Value) -> list[State]:
    """What is left on the stacks, joined from the last to the first; the identity if there is nothing."""
    f, first = ctx.f, how.first(lanes)[0]
    height = f.call("i64", "llvm.ctpop.i64", ("i64", str(runs)))

    def unwind() -> Sequence[str]:
        below = f(f"sub i64 {height}, 1")
        states: list[State] = []
        for stack in stacks:
            pointer = f(f"getelementptr {lanes.type}, ptr {stack}, i64 {below}")
            states.append((f(f"load {lanes.type}, ptr {pointer}, align 8"),))
        return [state[0] for state in _popped(ctx, how, lanes, stacks, states, below, below)]

    some = f(f"icmp sgt i64 {height}, 0")
    return [(v,) for v in ctx.when(some, unwind, [(lanes.type, first)] * len(stacks))]


def _carried(how: Reducer, lanes: Lanes, states: Sequence[State]) -> list[tuple[str, str]]:
    return [(kind, value) for state in states for kind, value in zip(how.types(lanes), state, strict=True)]


def _unflat(how: Reducer, values: Sequence[str]) -> list[State]:
    count = len(how.elements)
    return [tuple(values[i : i + count]) for i in range(0, len(values), count)]


# Several axes as one.


def _extent(s: Reduce) -> Dim:
    return product(axis.extent for axis in s.axes)


def _linear(s: Reduce) -> str:
    """The name of the row-major index over all axes."""
    return s.axes[0].name if len(s.axes) == 1 else "#" + ".".join(axis.name for axis in s.axes)


def _bind_axes(ctx: Context, s: Reduce) -> None:
    """Give every axis its value, taken from the linear index."""
    if len(s.axes) == 1:
        return
    left: Dim = symbol(_linear(s))
    for axis in reversed(s.axes[1:]):
        _bind_digit(ctx, axis.name, left % axis.extent, axis.extent)
        rest = f"{_linear(s)}/{axis.name}"
        _bind_digit(ctx, rest, left // axis.extent, None)
        left = symbol(rest)
    _bind_digit(ctx, s.axes[0].name, left, s.axes[0].extent)


def _bind_digit(ctx: Context, name: str, dim: Dim, extent: Dim | None) -> None:
    if ctx.group is not None:
        dim = ctx.indices.settle(dim, ctx.group.align)
    if ctx.group is None or not ctx.indices.varies(dim):
        ctx.indices.bind(name, ctx.indices.value(dim), extent)
    elif ctx.indices.stride(dim) == 1:
        ctx.indices.bind(name, ctx.indices.value(dim), extent, steps=1)
    else:
        parts = tuple(ctx.indices.lanes(dim, part) for part in range(ctx.group.parts))
        ctx.indices.bind(name, "", extent, parts=parts)
