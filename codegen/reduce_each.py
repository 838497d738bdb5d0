"""The order `lanes` for each lane of a vector loop: what runs along memory is not what is reduced (a sum over
the pixels of each channel, channels last).

The 16 running values of the order lie in scratch memory, a vector each, taken in turns; so consecutive
elements never wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..ir.expr import Dim
from ..ir.kernel import VECTOR
from ..ir.ops.ordered import LANE_BLOCK
from .context import Context
from .indices import Value
from .lanes import Lanes
from .reducers import Reducer, State

#: Gives the values, one per part of the group, at the current position of the reduced axes.
Body = Callable[[], Sequence[str]]


def reduce_each(ctx: Context, how: Reducer, lanes: Lanes, axis: str, extent: Dim, body: Body) -> list[State]:
    """A state per part of the current group: block after block of 4096 of the axis, in each 16 running values
    joined in a fixed tree. `how` has a state of one register."""
    assert ctx.group is not None
    first = how.first(lanes)[0]
    parts = ctx.group.parts
    running = ctx.f.alloca(lanes.type, VECTOR * parts)
    block = _Block(ctx, how, lanes, running, parts, axis, body)
    size = ctx.indices.value(extent)
    if isinstance(size, int) and 0 < size <= LANE_BLOCK:
        return [(total,) for total in block.total(0, size)]

    def turn(at: Value, totals: list[str]) -> Sequence[str]:
        ahead = at + LANE_BLOCK if isinstance(at, int) else ctx.f(f"add i64 {at}, {LANE_BLOCK}")
        stop = ctx.f.call("i64", "llvm.smin.i64", ("i64", str(ahead)), ("i64", str(size)))
        found = block.total(at, stop)
        return [how.join(lanes, (a,), (b,))[0] for a, b in zip(totals, found, strict=True)]

    carried = [(lanes.type, first)] * parts
    return [(total,) for total in ctx.loop(None, 0, size, LANE_BLOCK, carried, turn)]


class _Block:
    """One block of at most 4096 elements. running: room for 16 vectors of each part."""

    def __init__(
        self, ctx: Context, how: Reducer, lanes: Lanes, running: str, parts: int, axis: str, body: Body
    ) -> None:
        self.ctx, self.how, self.lanes = ctx, how, lanes
        self.running, self.parts, self.axis, self.body = running, parts, axis, body

    def total(self, start: Value, stop: Value) -> list[str]:
        """The result of the elements from start to stop, per part."""
        ctx, lanes = self.ctx, self.lanes
        first = self.how.first(lanes)[0]
        for slot in range(VECTOR * self.parts):
            ctx.f.do(f"store {lanes.type} {first}, ptr {self._place(slot)}, align 64")

        def turn(at: Value, _: list[str]) -> Sequence[str]:
            values = self.body()
            slot = ctx.f(f"mul i64 {ctx.f(f'and i64 {at}, {VECTOR - 1}')}, {self.parts}")
            for part, value in enumerate(values):
                place = self._place(ctx.f(f"add i64 {slot}, {part}"))
                before = ctx.f(f"load {lanes.type}, ptr {place}, align 64")
                (joined,) = self.how.join(lanes, (before,), (value,))
                ctx.f.do(f"store {lanes.type} {joined}, ptr {place}, align 64")
            return []

        ctx.loop(self.axis, start, stop, 1, [], turn)
        return [self._tree(part) for part in range(self.parts)]

    def _place(self, slot: Value) -> str:
        if slot == 0:
            return self.running
        return self.ctx.f(f"getelementptr {self.lanes.type}, ptr {self.running}, i64 {slot}")

    def _tree(self, part: int) -> str:
        """The 16 running values of a part: halves, quarters, ... joined."""
        kind = self.lanes.type
        values = [
            self.ctx.f(f"load {kind}, ptr {self._place(self.parts * lane + part)}, align 64")
            for lane in range(VECTOR)
        ]
        while len(values) > 1:
            half = len(values) // 2
            pairs = zip(values[:half], values[half:], strict=True)
            values = [self.how.join(self.lanes, (a,), (b,))[0] for a, b in pairs]
        return values[0]
