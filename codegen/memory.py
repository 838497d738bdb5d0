"""Loads and stores. In a vector loop the stride of an index from lane to lane decides how memory is accessed:

0 a scalar for all lanes; 1 a run; -1 a reversed run; 2 to 4 a comb; anything else a gather or scatter, or two
scalars where what is read changes at most once within a vector (`x[j // 196]`).
Lanes that are masked off or guarded away never touch memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..ir.dtypes import DType, bool_
from ..ir.expr import Dim
from ..ir.kernel import VECTOR, Check, Guard, Load, Store
from .comb_access import is_comb, read_comb, write_comb
from .context import Context, Memory, Reg
from .indices import splat
from .known import Place, place_of
from .lanes import MEMORY, constant_text, lane_mask, literal_text, scalar_text, type_suffix, type_text
from .text import NON_TEMPORAL

ALL = lane_mask(VECTOR)

#: Blocks of memory lie at multiples of this: a cache line.
_LINE = 64
#: How many lanes a mask has that takes the first of them alone.
_FIRST_LANES = {lane_mask(count): count for count in range(1, VECTOR)}
_REVERSED = "<" + ", ".join(f"i32 {VECTOR - 1 - lane}" for lane in range(VECTOR)) + ">"


@dataclass(frozen=True)
class _Access:
    """Where a group accesses memory. stride: from lane to lane, None if it is not one number. masks: per
    part, or None for all. fixed: the index of lane 0, where it is a run at a place known while emitting.
    ahead: bytes from what is loaded to what is fetched besides (see `prefetch`).
    """

    memory: Memory
    buffer: str
    index: Dim
    stride: Dim | None
    masks: tuple[str, ...] | None
    fixed: Dim | None
    ahead: int = 0

    def place(self, part: int) -> Place | None:
        """Where a part of a run lies, if that is certain."""
        if self.fixed is None:
            return None
        return place_of(self.buffer, self.fixed, part, self.masks[part] if self.masks is not None else None)


def emit_load(ctx: Context, load: Load) -> None:
    """Set the result of a load; `otherwise` where a guard fails."""
    dtype = load.result.dtype
    element = MEMORY[dtype]
    otherwise = (
        literal_text(load.otherwise, element) if load.otherwise is not None else scalar_text(0, element)
    )
    whole, lanewise = _sorted_guards(ctx, load.guards)
    access = _access(ctx, load.buffer, load.index, lanewise, ctx.ahead.get(id(load), 0))
    vector = ctx.group is not None and (access.stride != 0 or bool(lanewise))

    def read() -> Sequence[str]:
        return _read(ctx, access, otherwise) if vector else [_read_scalar(ctx, load.buffer, load.index)]

    condition = _conjunction(ctx, whole)
    if condition is None:
        raw: Sequence[str] = read()
    else:
        width = VECTOR if vector else 1
        fallback = constant_text(otherwise, element, width)
        count = ctx.group.parts if vector and ctx.group else 1
        raw = ctx.when(condition, read, [(type_text(element, width), fallback)] * count)
    ctx.set(load.result, [_from_memory(ctx, r, dtype, vector) for r in raw], vector)


def emit_store(ctx: Context, store: Store) -> None:
    """buffer[index] = value where all guards hold."""
    if _is_written_with_others(ctx, store):
        return
    value = ctx.get(store.value)
    whole, lanewise = _sorted_guards(ctx, store.guards)
    access = _access(ctx, store.buffer, store.index, lanewise)
    plain = ctx.group is None or (access.stride == 0 and not value.vector and not lanewise)

    def write() -> Sequence[str]:
        if plain:
            _write_scalar(ctx, store.buffer, store.index, value)
        else:
            _write(ctx, access, [_to_memory(ctx, p, value.dtype, True) for p in ctx.spread(value)])
        return []

    condition = _conjunction(ctx, whole)
    if condition is None:
        write()
    else:
        ctx.when(condition, write)


def _is_written_with_others(ctx: Context, store: Store) -> bool:
    """Whether the store belongs to a comb that is written, once its last store is reached, as a whole."""
    comb = ctx.combs.get(id(store))
    if comb is None or ctx.group is None or ctx.group.masks is not None:
        return False
    index = ctx.indices.settle(comb.stores[0].index, ctx.group.align)
    if ctx.indices.stride(index) != len(comb.stores):
        return False
    if store is comb.last:
        ctx.known.forget(store.buffer, None)
        values = [ctx.get(s.value) for s in comb.stores]
        columns = [[_to_memory(ctx, p, v.dtype, True) for p in ctx.spread(v)] for v in values]
        write_comb(ctx, store.buffer, index, columns)
    return True


def emit_check(ctx: Context, check: Check) -> None:
    """Note the code in the kernel's status if `ok` fails in a lane that counts."""
    ok = ctx.get(check.ok)
    if not ok.vector:
        _note_failure(ctx, ctx.f(f"xor i1 {ok.parts[0]}, true"), check.code)
        return
    assert ctx.group is not None
    bits = ctx.lanes(bool_, vector=True)
    for part, good in enumerate(ok.parts):
        bad = bits("xor", good, bits.const(True))
        if ctx.group.masks is not None:
            bad = bits("and", bad, ctx.group.masks[part])
        _note_failure(ctx, bits.any(bad), check.code)


def _note_failure(ctx: Context, failed: str, code: int) -> None:
    """The first failure stays."""

    def note() -> Sequence[str]:
        before = ctx.f(f"load i64, ptr {ctx.status}, align 8")
        first = ctx.f(f"icmp eq i64 {before}, 0")
        ctx.f.do(
            f"store i64 {ctx.f(f'select i1 {first}, i64 {code}, i64 {before}')}, ptr {ctx.status}, align 8"
        )
        return []

    ctx.when(failed, note, rarely=True)


# Guards.


def _sorted_guards(ctx: Context, guards: Sequence[Guard]) -> tuple[list[Guard], list[Guard]]:
    """(guards that hold for all lanes or none, guards that differ from lane to lane), simplified."""
    whole: list[Guard] = []
    lanewise: list[Guard] = []
    for guard in guards:
        if ctx.group is not None:
            align = ctx.group.align
            settled = [ctx.indices.settle(d, align) for d in (guard.expr, guard.low, guard.high)]
            guard = Guard(*settled)
        differs = any(ctx.indices.varies(d) for d in (guard.expr, guard.low, guard.high))
        (lanewise if differs else whole).append(guard)
    return whole, lanewise


def _conjunction(ctx: Context, guards: Sequence[Guard]) -> str | None:
    """An i1, true where all guards hold; None for no guards."""
    result: str | None = None
    for guard in guards:
        for predicate, bound in _tests(guard):
            holds = ctx.f(f"icmp {predicate} i64 {ctx.index(guard.expr)}, {ctx.index(bound)}")
            result = holds if result is None else ctx.f(f"and i1 {result}, {holds}")
    return result


def _tests(guard: Guard) -> list[tuple[str, Dim]]:
    """(predicate, bound) of the comparisons. One from 0 on: nothing negative is below a number that isn't, if
    both are taken as unsigned."""
    if guard.low == 0 and isinstance(guard.high, int) and guard.high >= 0:
        return [("ult", guard.high)]
    return [("sge", guard.low), ("slt", guard.high)]


def _lane_masks(ctx: Context, guards: Sequence[Guard]) -> tuple[str, ...] | None:
    """Per part, the lanes that count and where all guards hold."""
    assert ctx.group is not None
    if not guards:
        return ctx.group.masks
    bits = ctx.lanes(bool_, vector=True)
    masks = []
    for part in range(ctx.group.parts):
        mask = ctx.group.masks[part] if ctx.group.masks is not None else None
        for guard in guards:
            for predicate, bound in _tests(guard):
                holds = ctx.indices.compare(predicate, guard.expr, bound, part)
                mask = holds if mask is None else bits("and", mask, holds)
        assert mask is not None
        masks.append(mask)
    return tuple(masks)


# Access.


def _access(ctx: Context, buffer: str, index: Dim, lanewise: Sequence[Guard], ahead: int = 0) -> _Access:
    memory = ctx.buffers[buffer]
    if ctx.group is None:
        return _Access(memory, buffer, index, 0, None, None)
    settled = ctx.indices.settle(index, ctx.group.align)
    stride = ctx.indices.stride(settled)
    fixed = ctx.indices.pinned(settled) if stride == 1 and not lanewise else None
    return _Access(memory, buffer, settled, stride, _lane_masks(ctx, lanewise), fixed, ahead)


def _read_scalar(ctx: Context, buffer: str, index: Dim) -> str:
    memory = ctx.buffers[buffer]
    return ctx.f(f"load {memory.element}, ptr {ctx.address(buffer, index)}, align {memory.align}")


def _write_scalar(ctx: Context, buffer: str, index: Dim, value: Reg) -> None:
    memory = ctx.buffers[buffer]
    ctx.known.forget(buffer, None)
    raw = _to_memory(ctx, value.parts[0], value.dtype, False)
    ctx.f.do(f"store {memory.element} {raw}, ptr {ctx.address(buffer, index)}, align {memory.align}")


def _read(ctx: Context, access: _Access, otherwise: str) -> list[str]:
    """A vector for each part of the group."""
    assert ctx.group is not None
    if access.stride in (1, -1):
        return [_recalled(ctx, access, part, otherwise) for part in range(ctx.group.parts)]
    if isinstance(access.stride, int) and is_comb(access.stride) and access.masks is None:
        comb = access.buffer, access.index, access.stride
        return [read_comb(ctx, *comb, part) for part in range(ctx.group.parts)]
    parts = range(ctx.group.parts)
    if access.masks is None and ctx.indices.two_valued(access.index, 0) is not None:
        return [_read_two(ctx, access, part) for part in parts]
    return [_gather(ctx, access, part, otherwise) for part in parts]


def _write(ctx: Context, access: _Access, values: Sequence[str]) -> None:
    for part, value in enumerate(values):
        place = access.place(part)
        ctx.known.forget(access.buffer, place)
        if place is not None:
            ctx.known.put(place, value)
        if access.stride in (1, -1):
            _write_run(ctx, access, part, value)
        else:
            _scatter(ctx, access, part, value)


def _recalled(ctx: Context, access: _Access, part: int, otherwise: str) -> str:
    """A part of a run: from registers if it is known, else from memory."""
    place = access.place(part)
    found = ctx.known.get(place) if place is not None else None
    if found is None:
        found = _read_run(ctx, access, part, otherwise)
        if place is not None:
            ctx.known.put(place, found)
    return found


def _run_address(ctx: Context, access: _Access, part: int) -> str:
    """Where the 16 elements of a part begin in memory."""
    first = VECTOR * part if access.stride == 1 else -(VECTOR * part + VECTOR - 1)
    return ctx.address(access.buffer, access.index, first)


def _read_run(ctx: Context, access: _Access, part: int, otherwise: str) -> str:
    f, element, align = ctx.f, access.memory.element, access.memory.align
    kind = type_text(element, VECTOR)
    pointer = _run_address(ctx, access, part)
    if access.masks is None:
        loaded = f(f"load {kind}, ptr {pointer}, align {align}")
        if access.ahead and access.stride == 1:
            later = f(f"getelementptr i8, ptr {pointer}, i64 {access.ahead}")
            f.call("void", "llvm.prefetch.p0", ("ptr", later), ("i32", "0"), ("i32", "0"), ("i32", "1"))
    else:
        mask = _mirrored(ctx, "i1", access.masks[part]) if access.stride == -1 else access.masks[part]
        loaded = f.call(
            kind, f"llvm.masked.load.{type_suffix(element, VECTOR)}.p0", ("ptr", pointer),
            ("i32", str(align)),
            (f"<{VECTOR} x i1>", mask), (kind, constant_text(otherwise, element, VECTOR)),
        )  # fmt: skip
    return _mirrored(ctx, element, loaded) if access.stride == -1 else loaded


def _write_run(ctx: Context, access: _Access, part: int, value: str) -> None:
    f, element, align = ctx.f, access.memory.element, access.memory.align
    kind = type_text(element, VECTOR)
    pointer = _run_address(ctx, access, part)
    if access.masks is not None and access.masks[part] == lane_mask(1):
        _write_first(ctx, access, pointer, value)
        return
    if access.masks is not None and access.stride == 1 and not ctx.target.has_lane_masks:
        count = _FIRST_LANES.get(access.masks[part])
        if count is not None:
            _write_pieces(ctx, access, pointer, value, count)
            return
    if access.stride == -1:
        value = _mirrored(ctx, element, value)
    if access.masks is None:
        if access.buffer in ctx.streams and ctx.indices.is_multiple(access.index, VECTOR):
            f.do(f"store {kind} {value}, ptr {pointer}, align {min(_LINE, VECTOR * align)}{NON_TEMPORAL}")
        else:
            f.do(f"store {kind} {value}, ptr {pointer}, align {align}")
        return
    mask = _mirrored(ctx, "i1", access.masks[part]) if access.stride == -1 else access.masks[part]
    f.call(
        "void", f"llvm.masked.store.{type_suffix(element, VECTOR)}.p0", (kind, value), ("ptr", pointer),
        ("i32", str(align)), (f"<{VECTOR} x i1>", mask),
    )  # fmt: skip


def _write_pieces(ctx: Context, access: _Access, pointer: str, value: str, count: int) -> None:
    """Store the first so many lanes by stores of 8, 4, 2 and 1 of them: without mask registers a masked store
    may take as long as ten others (Zen)."""
    f, element, at = ctx.f, access.memory.element, 0
    kind = type_text(element, VECTOR)
    for width in (VECTOR // 2, VECTOR // 4, VECTOR // 8, 1):
        if count & width:
            place = pointer if at == 0 else f(f"getelementptr {element}, ptr {pointer}, i64 {at}")
            lanes = ", ".join(f"i32 {at + lane}" for lane in range(width))
            piece = f(f"shufflevector {kind} {value}, {kind} poison, <{width} x i32> <{lanes}>")
            f.do(f"store <{width} x {element}> {piece}, ptr {place}, align {access.memory.align}")
            at += width


def _write_first(ctx: Context, access: _Access, pointer: str, value: str) -> None:
    """Store the first lane alone. LLVM 22 makes a masked store of one lane of 16 bits, truncated from 32,
    four bytes wide on AVX-512: it overwrites what comes next."""
    f, element = ctx.f, access.memory.element
    first = f(f"extractelement {type_text(element, VECTOR)} {value}, i64 0")
    if access.stride == -1:  # a run's address is that of its last lane
        pointer = f(f"getelementptr {element}, ptr {pointer}, i64 {VECTOR - 1}")
    f.do(f"store {element} {first}, ptr {pointer}, align {access.memory.align}")


def _mirrored(ctx: Context, element: str, value: str) -> str:
    kind = type_text(element, VECTOR)
    return ctx.f(f"shufflevector {kind} {value}, {kind} poison, <{VECTOR} x i32> {_REVERSED}")


def _lane_pointers(ctx: Context, access: _Access, part: int) -> str:
    base, offsets = ctx.indices.split(access.index, part)
    f, element = ctx.f, access.memory.element
    pointer = access.memory.pointer
    if base != 0:
        pointer = f(f"getelementptr {element}, ptr {pointer}, i64 {base}")
    return f(f"getelementptr {element}, ptr {pointer}, <{VECTOR} x i64> {offsets}")


def _gather(ctx: Context, access: _Access, part: int, otherwise: str) -> str:
    element = access.memory.element
    kind = type_text(element, VECTOR)
    pointers = _lane_pointers(ctx, access, part)
    mask = access.masks[part] if access.masks is not None else ALL
    return ctx.f.call(
        kind, f"llvm.masked.gather.{type_suffix(element, VECTOR)}.v{VECTOR}p0",
        (f"<{VECTOR} x ptr>", pointers),
        ("i32", str(access.memory.align)), (f"<{VECTOR} x i1>", mask),
        (kind, constant_text(otherwise, element, VECTOR)),
    )  # fmt: skip


def _read_two(ctx: Context, access: _Access, part: int) -> str:
    """A part whose lanes read at most two places, the later ones the second: each place is read once."""
    found = ctx.indices.two_valued(access.index, part)
    assert found is not None
    f, element = ctx.f, access.memory.element
    kind, bits = type_text(element, VECTOR), f"<{VECTOR} x i32>"
    first, last = (splat(f, element, _read_scalar(ctx, access.buffer, at)) for at in found[:2])
    boundary = splat(f, "i32", f(f"trunc i64 {ctx.index(found[2])} to i32"))
    lanes = ", ".join(f"i32 {lane}" for lane in range(VECTOR))
    before = f(f"icmp slt {bits} <{lanes}>, {boundary}")
    return f(f"select <{VECTOR} x i1> {before}, {kind} {first}, {kind} {last}")


def _scatter(ctx: Context, access: _Access, part: int, value: str) -> None:
    element = access.memory.element
    kind = type_text(element, VECTOR)
    pointers = _lane_pointers(ctx, access, part)
    mask = access.masks[part] if access.masks is not None else ALL
    ctx.f.call(
        "void", f"llvm.masked.scatter.{type_suffix(element, VECTOR)}.v{VECTOR}p0", (kind, value),
        (f"<{VECTOR} x ptr>", pointers), ("i32", str(access.memory.align)), (f"<{VECTOR} x i1>", mask),
    )  # fmt: skip


def _from_memory(ctx: Context, raw: str, dtype: DType, vector: bool) -> str:
    """bool is a byte in memory and a bit in registers."""
    if dtype is not bool_:
        return raw
    kind = type_text("i8", VECTOR if vector else 1)
    return ctx.f(f"icmp ne {kind} {raw}, {'zeroinitializer' if vector else '0'}")


def _to_memory(ctx: Context, value: str, dtype: DType, vector: bool) -> str:
    if dtype is not bool_:
        return value
    width = VECTOR if vector else 1
    return ctx.f(f"zext {type_text('i1', width)} {value} to {type_text('i8', width)}")
