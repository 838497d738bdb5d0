"""The LLVM IR of learned calls: functions of tensors whose ops follow from types and plain arguments.

A call is encoded as the types of its tensors, which of them have an edge while this thread records, and a
code of 31 bits for each plain argument (`codes`). Its row leads to a program: a list of steps over registers,
each an op that dispatch runs, a constant, or the elements of a register under another type. Whatever misses
on the way drops what was made and leaves the call to Python: such functions have no effects.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from .dispatch_layout import MISSED, NONE, ROW, Slots, at
from .storage_ir import HEAD, field

#: Tensors among the arguments, arguments, codes of those after the first, and registers of a program.
MOST_TENSORS, MOST_VALUES, MOST_CODES, MOST_REGISTERS = 3, 6, 4, 16
#: Words of a step: what it is (or how many operands its op has), op or constant or type, and registers.
STEP = ("kind", "what", "a", "b", "c")
CONSTANT, RETYPED = 0, 4
#: Codes: ints are biased; the others lie above the largest int.
BIAS, _MOST_INT = 1 << 30, 0x7FFFFFF0 - 8
ABSENT, _NONE, _FALSE, _TRUE, _TENSOR, _ELLIPSIS, _SLICE, _WHOLE = range(0x7FFFFFF0, 0x7FFFFFF8)
_SINGLES = {type(None): _NONE, bool: _FALSE, type(...): _ELLIPSIS}
_TUPLE = 0x7FFFFFF0 - 8  # plus the number of its elements
#: What a learned call's first key word has added: it is no row of dispatch.
TAG = 1
OBJECTS = ("_Py_FalseStruct", "_Py_TrueStruct", "_Py_EllipsisObject")


#: Stands for an argument that is not given, before one that is.
MISSING: Final = object()


def codes(values: Iterable[Any], is_tensor: Any) -> list[int] | None:
    """The codes of plain arguments; None if there are too many, or one that has no code."""
    found: list[int] = []
    for value in values:
        more = _codes_of(value, is_tensor)
        if more is None or len(found) + len(more) > MOST_CODES:
            return None
        found += more
    return found


def _codes_of(value: Any, is_tensor: Any) -> list[int] | None:
    kind = value.__class__
    if kind is int:
        return [value + BIAS] if 0 <= value + BIAS < _MOST_INT else None
    if kind in _SINGLES:
        return [_SINGLES[kind] + (value is True)]
    if kind is tuple:
        return _codes_within(_TUPLE + len(value), value) if len(value) < MOST_CODES else None
    if kind is slice:
        if value.step is not None:
            return None
        whole = value.start is None and value.stop is None
        return [_WHOLE] if whole else _codes_within(_SLICE, (value.start, value.stop))
    if is_tensor(value):
        return [_TENSOR]
    return [ABSENT] if value is MISSING else None


def _codes_within(head: int, parts: tuple[Any, ...]) -> list[int] | None:
    inner = [_codes_of(v, None) if v is None or v.__class__ is int else None for v in parts]
    return None if None in inner else [head, *[c[0] for c in inner if c]]


def words(found: list[int], mask: int) -> tuple[int, int]:
    """Two words of the key: the codes, and which tensors have an edge."""
    c = found + [ABSENT] * (MOST_CODES - len(found))
    low = c[0] | (mask & 1) << 31 | c[1] << 32
    return low - ((mask & 2) << 62), c[2] | (mask & 4) << 29 | c[3] << 32


def programs(slots: Slots) -> str:
    """All of this file: `run_program`, `with_values`, `with_pair`, `with_index`."""
    return _FIND_PROGRAM + _run(slots) + _ENCODE + _CODE_ONE + _WITH_VALUES + _WITH_PAIR + _WITH_INDEX


_FIND_PROGRAM = f"""
define internal ptr @find_program(i64 %called, i64 %a, i64 %b, i64 %c, i64 %d, i64 %e) {{
entry:
  %b3 = mul i64 %b, 3
  %c7 = mul i64 %c, 7
  %d5 = mul i64 %d, 5
  %e11 = mul i64 %e, 11
  %f13 = mul i64 %called, 13
  %s0 = add i64 %a, %b3
  %s1 = add i64 %s0, %c7
  %s2 = add i64 %s1, %d5
  %s3 = add i64 %s2, %e11
  %s4 = add i64 %s3, %f13
  %scattered = mul i64 %s4, {0x9E3779B97F4A7C15 - (1 << 64)}
  %table = load ptr, ptr @table
  %mask = load i64, ptr %table
{field("%shift", "%table", 8)}  %rows = getelementptr i8, ptr %table, i64 64
  %first = lshr i64 %scattered, %shift
  br label %look
look:
  %i = phi i64 [%first, %entry], [%next, %other]
  %place = mul i64 %i, 64
  %row = getelementptr i8, ptr %rows, i64 %place
{"".join(field(f"%k{i}", "%row", 8 * i) for i in (0, 1, 2, 3, 6, 7))}\
  %x0 = xor i64 %k0, %called
  %x1 = xor i64 %k1, %a
  %x2 = xor i64 %k2, %b
  %x3 = xor i64 %k3, %c
  %x4 = xor i64 %k6, %d
  %x5 = xor i64 %k7, %e
  %o0 = or i64 %x0, %x1
  %o1 = or i64 %x2, %x3
  %o2 = or i64 %x4, %x5
  %o3 = or i64 %o0, %o1
  %o4 = or i64 %o2, %o3
  %all = icmp eq i64 %o4, 0
  br i1 %all, label %found, label %differs
differs:
  %none = icmp eq i64 %k0, 0
  br i1 %none, label %absent, label %other
other:
  %after = add i64 %i, 1
  %next = and i64 %after, %mask
  br label %look
found:
  ret ptr %row
absent:
  ret ptr null
}}
"""


def _tensor_key(slots: Slots, i: int) -> str:
    """Of operand i, if there are that many: its type as a word of the key, and whether it has an edge."""
    t = slots.tensor
    after = f"have{i + 1}" if i + 1 < MOST_TENSORS else "keys"
    return f"""have{i}:
  %more{i} = icmp sgt i64 %n, {i}
  br i1 %more{i}, label %read{i}, label %joined{i}
read{i}:
{at("ptr", "%regs", i, f"%x.at{i}")}  %x{i} = load ptr, ptr %x.at{i}
{field(f"%type{i}", f"%x{i}", t["_type"])}{field(f"%edge{i}", f"%x{i}", t["_node"], "ptr")}\
{field(f"%history{i}", f"%x{i}", t["_view"], "ptr")}  %set{i} = icmp ne i64 %type{i}, 0
  br i1 %set{i}, label %now{i}, label %none
now{i}:
  %current{i} = call i1 @is_current(ptr %history{i})
  br i1 %current{i}, label %has{i}, label %none
has{i}:
  %is.edge{i} = icmp ne ptr %edge{i}, {NONE}
  %bit{i} = select i1 %is.edge{i}, i64 {1 << i}, i64 0
  br label %joined{i}
joined{i}:
  %key{i} = phi i64 [0, %have{i}], [%type{i}, %has{i}]
  %mask{i} = phi i64 [0, %have{i}], [%bit{i}, %has{i}]
  br label %{after}
"""


def _op_step(n: int) -> str:
    loads = "".join(
        field(f"%{r}{n}", "%step", 8 * STEP.index(r))
        + at("ptr", "%regs", f"%{r}{n}", f"%{r}{n}.reg")
        + f"  %v{r}{n} = load ptr, ptr %{r}{n}.reg\n"
        for r in STEP[2 : 2 + n]
    )
    operands = ", ".join(["ptr %what", *(f"ptr %v{r}{n}" for r in STEP[2 : 2 + n])])
    more = ", i64 0, i64 0" if n == 1 else ""
    return f"op{n}:\n{loads}  %r{n} = call ptr @dispatch{n}({operands}{more})\n  br label %made\n"


def _run(slots: Slots) -> str:
    t = slots.tensor
    return f"""
define internal ptr @run_program(ptr %called, ptr %regs, i64 %n, i64 %low, i64 %high) {{
entry:
  %busy = load i64, ptr @busy
  %is.busy = icmp ne i64 %busy, 0
  br i1 %is.busy, label %none, label %have0
{"".join(_tensor_key(slots, i) for i in range(MOST_TENSORS))}keys:
  %mask01 = or i64 %mask0, %mask1
  %edges = or i64 %mask01, %mask2
  %no.edge = icmp eq i64 %edges, 0
  br i1 %no.edge, label %look, label %ask
ask:
  %on = call i1 @records()
  %recorded = select i1 %on, i64 %edges, i64 0
  br label %look
look:
  %mask = phi i64 [0, %keys], [%recorded, %ask]
  %m0 = and i64 %mask, 1
  %m1 = and i64 %mask, 2
  %m2 = and i64 %mask, 4
  %w0 = shl i64 %m0, 31
  %w1 = shl i64 %m1, 62
  %w2 = shl i64 %m2, 29
  %low0 = or i64 %low, %w0
  %low1 = or i64 %low0, %w1
  %high2 = or i64 %high, %w2
  %called.word = ptrtoint ptr %called to i64
  %tagged = add i64 %called.word, {TAG}
  %row = call ptr @find_program(i64 %tagged, i64 %key0, i64 %key1, i64 %key2, i64 %low1, i64 %high2)
  %no.row = icmp eq ptr %row, null
  br i1 %no.row, label %none, label %hit
hit:
{field("%record", "%row", 8 * ROW.index("record"), "ptr")}\
{field("%owner", "%row", 8 * ROW.index("owner"), "ptr")}\
  call void @Py_IncRef(ptr %owner)
{field("%count", "%record", 0)}{field("%answer", "%record", 8)}\
  %steps = getelementptr i8, ptr %record, i64 16
  br label %loop
loop:
  %s = phi i64 [0, %hit], [%s.next, %keep]
  %more = icmp slt i64 %s, %count
  br i1 %more, label %one, label %give
one:
  %step.at = mul i64 %s, {8 * len(STEP)}
  %step = getelementptr i8, ptr %steps, i64 %step.at
{field("%kind", "%step", 0)}{field("%what", "%step", 8, "ptr")}\
  switch i64 %kind, label %op1 [ i64 {CONSTANT}, label %constant i64 2, label %op2 i64 3, label %op3 \
i64 {RETYPED}, label %retyped ]
constant:
  call void @Py_IncRef(ptr %what)
  br label %made
retyped:
{field("%from", "%step", 16)}{at("ptr", "%regs", "%from", "%from.reg")}  %from.x = load ptr, ptr %from.reg
{field("%from.storage", "%from.x", t["_storage"], "ptr")}  %unset = icmp eq ptr %from.storage, null
  br i1 %unset, label %made, label %retype
retype:
  %shown = call ptr @alias(ptr %from.storage, ptr %what, ptr {NONE})
  br label %made
{"".join(_op_step(n) for n in range(1, MOST_TENSORS + 1))}made:
  %r = phi ptr [%what, %constant], [%shown, %retype], [{MISSED}, %retyped], [%r1, %op1], [%r2, %op2], \
[%r3, %op3]
  %r.word = ptrtoint ptr %r to i64
  %bad = icmp ule i64 %r.word, 1
  br i1 %bad, label %drop, label %keep
keep:
  %to = add i64 %n, %s
{at("ptr", "%regs", "%to", "%to.at")}  store ptr %r, ptr %to.at
  %s.next = add i64 %s, 1
  br label %loop
give:
{at("ptr", "%regs", "%answer", "%answer.reg")}  %result = load ptr, ptr %answer.reg
  call void @Py_IncRef(ptr %result)
  br label %drop
drop:
  %returned = phi ptr [%r, %made], [%result, %give]
  br label %drop.loop
drop.loop:
  %d = phi i64 [0, %drop], [%d.next, %drop.one]
  %d.more = icmp slt i64 %d, %s
  br i1 %d.more, label %drop.one, label %out
drop.one:
  %d.place = add i64 %n, %d
{at("ptr", "%regs", "%d.place", "%d.at")}  %d.x = load ptr, ptr %d.at
  call void @Py_DecRef(ptr %d.x)
  %d.next = add i64 %d, 1
  br label %drop.loop
out:
  call void @Py_DecRef(ptr %owner)
  ret ptr %returned
none:
  ret ptr {MISSED}
}}
"""


# One plain value -> its code, -1 if it has none. Ints, None, bools and ... only.
_CODE_ONE = f"""
define internal i64 @code_one(ptr %value) {{
entry:
{field("%class", "%value", HEAD - 8, "ptr")}  %is.int = icmp eq ptr %class, @PyLong_Type
  br i1 %is.int, label %int, label %single
int:
  %number = call i64 @PyLong_AsSsize_t(ptr %value)
  %minus.one = icmp eq i64 %number, -1
  br i1 %minus.one, label %check, label %narrow
check:
  %error = call ptr @PyErr_Occurred()
  %failed = icmp ne ptr %error, null
  br i1 %failed, label %clear, label %narrow
clear:
  call void @PyErr_Clear()
  ret i64 -1
narrow:
  %biased = add i64 %number, {BIAS}
  %fits = icmp ult i64 %biased, {_MOST_INT}
  %code = select i1 %fits, i64 %biased, i64 -1
  ret i64 %code
single:
  %is.none = icmp eq ptr %value, {NONE}
  %is.false = icmp eq ptr %value, @_Py_FalseStruct
  %is.true = icmp eq ptr %value, @_Py_TrueStruct
  %is.dots = icmp eq ptr %value, @_Py_EllipsisObject
  %c0 = select i1 %is.none, i64 {_NONE}, i64 -1
  %c1 = select i1 %is.false, i64 {_FALSE}, i64 %c0
  %c2 = select i1 %is.true, i64 {_TRUE}, i64 %c1
  %c3 = select i1 %is.dots, i64 {_ELLIPSIS}, i64 %c2
  ret i64 %c3
}}
"""

_CODES = "".join(
    at("i64", "%codes", i, f"%c{i}.at") + f"  %c{i} = load i64, ptr %c{i}.at\n" for i in range(MOST_CODES)
)

# Append the codes of one value at %codes[%have], tensors to %regs; gives how many codes there are then, or
# -1. %tensors points to the number of tensors so far.
_ENCODE = f"""
define internal i64 @encode(ptr %value, ptr %codes, i64 %have, ptr %regs, ptr %tensors) {{
entry:
  %full = icmp sge i64 %have, {MOST_CODES}
  br i1 %full, label %no, label %kind
kind:
{at("i64", "%codes", "%have", "%here")}  %next = add i64 %have, 1
  %absent = icmp eq ptr %value, null
  br i1 %absent, label %skip, label %kind.tuple
skip:
  store i64 {ABSENT}, ptr %here
  ret i64 %next
kind.tuple:
{field("%class", "%value", HEAD - 8, "ptr")}  %is.tuple = icmp eq ptr %class, @PyTuple_Type
  br i1 %is.tuple, label %tuple, label %kind.slice
kind.slice:
  %is.slice = icmp eq ptr %class, @PySlice_Type
  br i1 %is.slice, label %slice, label %kind.plain
kind.plain:
  %code = call i64 @code_one(ptr %value)
  %coded = icmp sge i64 %code, 0
  br i1 %coded, label %plain, label %kind.tensor
plain:
  store i64 %code, ptr %here
  ret i64 %next
kind.tensor:
  %is.tensor = icmp eq ptr %class, @tensor
  br i1 %is.tensor, label %tensor, label %kind.derived
kind.derived:
  %derived = call i32 @PyType_IsSubtype(ptr %class, ptr @tensor)
  %is.derived = icmp ne i32 %derived, 0
  br i1 %is.derived, label %tensor, label %no
tensor:
  %count = load i64, ptr %tensors
  %room = icmp slt i64 %count, {MOST_TENSORS}
  br i1 %room, label %tensor.put, label %no
tensor.put:
{at("ptr", "%regs", "%count", "%reg")}  store ptr %value, ptr %reg
  %counted = add i64 %count, 1
  store i64 %counted, ptr %tensors
  store i64 {_TENSOR}, ptr %here
  ret i64 %next
tuple:
  %size = call i64 @PyTuple_Size(ptr %value)
  %end = add i64 %next, %size
  %long = icmp sgt i64 %end, {MOST_CODES}
  br i1 %long, label %no, label %tuple.put
tuple.put:
  %head = add i64 %size, {_TUPLE}
  store i64 %head, ptr %here
  br label %loop
loop:
  %i = phi i64 [0, %tuple.put], [%i.next, %store]
  %more = icmp slt i64 %i, %size
  br i1 %more, label %item, label %done
item:
  %x = call ptr @PyTuple_GetItem(ptr %value, i64 %i)
  %x.code = call i64 @code_one(ptr %x)
  %x.coded = icmp sge i64 %x.code, 0
  %x.single = icmp ugt i64 %x.code, {_NONE}
  %x.no = xor i1 %x.coded, true
  %x.bad = or i1 %x.no, %x.single
  br i1 %x.bad, label %no, label %store
store:
  %x.place = add i64 %next, %i
{at("i64", "%codes", "%x.place", "%x.at")}  store i64 %x.code, ptr %x.at
  %i.next = add i64 %i, 1
  br label %loop
done:
  ret i64 %end
slice:
{field("%start", "%value", HEAD, "ptr")}{field("%stop", "%value", HEAD + 8, "ptr")}\
{field("%step", "%value", HEAD + 16, "ptr")}  %by.one = icmp eq ptr %step, {NONE}
  br i1 %by.one, label %slice.whole, label %no
slice.whole:
  %from.first = icmp eq ptr %start, {NONE}
  %to.last = icmp eq ptr %stop, {NONE}
  %whole = and i1 %from.first, %to.last
  br i1 %whole, label %whole.put, label %slice.part
whole.put:
  store i64 {_WHOLE}, ptr %here
  ret i64 %next
slice.part:
  %s.end = add i64 %have, 3
  %s.long = icmp sgt i64 %s.end, {MOST_CODES}
  %start.code = call i64 @code_one(ptr %start)
  %stop.code = call i64 @code_one(ptr %stop)
  %too.1 = icmp ugt i64 %start.code, {_NONE}
  %too.2 = icmp ugt i64 %stop.code, {_NONE}
  %too.12 = or i1 %too.1, %too.2
  %too = or i1 %too.12, %s.long
  br i1 %too, label %no, label %slice.put
slice.put:
  store i64 {_SLICE}, ptr %here
  %p1 = add i64 %have, 1
  %p2 = add i64 %have, 2
{at("i64", "%codes", "%p1", "%at1")}{at("i64", "%codes", "%p2", "%at2")}\
  store i64 %start.code, ptr %at1
  store i64 %stop.code, ptr %at2
  ret i64 %s.end
no:
  ret i64 -1
}}

define internal ptr @run_codes(ptr %called, ptr %regs, i64 %n, ptr %codes) {{
{_CODES}\
  %up1 = shl i64 %c1, 32
  %up3 = shl i64 %c3, 32
  %low = or i64 %c0, %up1
  %high = or i64 %c2, %up3
  %r = call ptr @run_program(ptr %called, ptr %regs, i64 %n, i64 %low, i64 %high)
  ret ptr %r
}}
"""

_ALL_ABSENT = "".join(
    at("i64", "%codes", i, f"%code{i}") + f"  store i64 {ABSENT}, ptr %code{i}\n" for i in range(MOST_CODES)
)

# callable(self, *args, names=...) as a learned call; self may be null. parameters: their names, or null where
# the function takes any number and no names.
_WITH_VALUES = f"""
define internal ptr @with_values(ptr %called, ptr %self, ptr %args, i64 %n, ptr %names, ptr %parameters) {{
entry:
  %regs = alloca [{MOST_REGISTERS} x ptr]
  %codes = alloca [{MOST_CODES} x i64]
  %values = alloca [{MOST_VALUES} x ptr]
  %tensors = alloca i64
  store i64 0, ptr %tensors
{_ALL_ABSENT}  %bound = icmp ne ptr %self, null
  %lead = zext i1 %bound to i64
  %positional = add i64 %n, %lead
  %many = icmp ugt i64 %positional, {MOST_VALUES}
  %few = icmp ult i64 %positional, 1
  %out.of.range = or i1 %many, %few
  br i1 %out.of.range, label %python, label %clear
clear:
  store [{MOST_VALUES} x ptr] zeroinitializer, ptr %values
  store ptr %self, ptr %values
  br label %copy
copy:
  %i = phi i64 [0, %clear], [%i.next, %copy.one]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %copy.one, label %named.ask
copy.one:
{at("ptr", "%args", "%i", "%arg.at")}  %arg = load ptr, ptr %arg.at
  %i.to = add i64 %i, %lead
{at("ptr", "%values", "%i.to", "%value.at")}  store ptr %arg, ptr %value.at
  %i.next = add i64 %i, 1
  br label %copy
named.ask:
  %named = icmp ne ptr %names, null
  br i1 %named, label %named.size, label %first
named.size:
  %no.parameters = icmp eq ptr %parameters, null
  br i1 %no.parameters, label %python, label %named.count
named.count:
  %named.n = call i64 @PyTuple_Size(ptr %names)
  %parameters.n = call i64 @PyTuple_Size(ptr %parameters)
  br label %name
name:
  %k = phi i64 [0, %named.count], [%k.next, %name.put]
  %last = phi i64 [%positional, %named.count], [%last.next, %name.put]
  %k.more = icmp slt i64 %k, %named.n
  br i1 %k.more, label %name.get, label %first
name.get:
  %the.name = call ptr @PyTuple_GetItem(ptr %names, i64 %k)
  br label %name.look
name.look:
  %p = phi i64 [%positional, %name.get], [%p.next, %name.differs]
  %p.more = icmp slt i64 %p, %parameters.n
  br i1 %p.more, label %name.compare, label %python
name.compare:
  %p.name = call ptr @PyTuple_GetItem(ptr %parameters, i64 %p)
  %p.same = icmp eq ptr %p.name, %the.name
  br i1 %p.same, label %name.put, label %name.differs
name.differs:
  %p.next = add i64 %p, 1
  br label %name.look
name.put:
  %k.from = add i64 %n, %k
{at("ptr", "%args", "%k.from", "%k.at")}  %k.value = load ptr, ptr %k.at
{at("ptr", "%values", "%p", "%p.at")}  store ptr %k.value, ptr %p.at
  %k.next = add i64 %k, 1
  %p.end = add i64 %p, 1
  %later = icmp sgt i64 %p.end, %last
  %last.next = select i1 %later, i64 %p.end, i64 %last
  br label %name
first:
  %end = phi i64 [%positional, %named.ask], [%last, %name]
  %first.value = load ptr, ptr %values
  %first.code = call i64 @encode(ptr %first.value, ptr %codes, i64 0, ptr %regs, ptr %tensors)
  %first.tensors = load i64, ptr %tensors
  %first.bad = icmp ne i64 %first.tensors, 1
  store i64 {ABSENT}, ptr %codes
  br i1 %first.bad, label %python, label %rest
rest:
  %v = phi i64 [1, %first], [%v.next, %encoded]
  %have = phi i64 [0, %first], [%had, %encoded]
  %v.more = icmp slt i64 %v, %end
  br i1 %v.more, label %encode.one, label %run
encode.one:
{at("ptr", "%values", "%v", "%v.at")}  %v.value = load ptr, ptr %v.at
  %had = call i64 @encode(ptr %v.value, ptr %codes, i64 %have, ptr %regs, ptr %tensors)
  %v.bad = icmp slt i64 %had, 0
  br i1 %v.bad, label %python, label %encoded
encoded:
  %v.next = add i64 %v, 1
  br label %rest
run:
  %count = load i64, ptr %tensors
  %r = call ptr @run_codes(ptr %called, ptr %regs, i64 %count, ptr %codes)
  %missed = icmp eq ptr %r, {MISSED}
  br i1 %missed, label %python, label %done
done:
  ret ptr %r
python:
  %result = call ptr @python(ptr %called, ptr %self, ptr %args, i64 %n, ptr %names)
  ret ptr %result
}}
"""

# called(x, y) of two tensors as a learned call, or MISSED.
_WITH_PAIR = f"""
define internal ptr @with_pair(ptr %called, ptr %x, ptr %y) {{
entry:
  %regs = alloca [{MOST_REGISTERS} x ptr]
  %codes = alloca [{MOST_CODES} x i64]
  %tensors = alloca i64
  store i64 0, ptr %tensors
{_ALL_ABSENT}  %first = call i64 @encode(ptr %x, ptr %codes, i64 0, ptr %regs, ptr %tensors)
  %second = call i64 @encode(ptr %y, ptr %codes, i64 0, ptr %regs, ptr %tensors)
  %count = load i64, ptr %tensors
  %both = icmp eq i64 %count, 2
  br i1 %both, label %run, label %no
run:
  %r = call ptr @run_codes(ptr %called, ptr %regs, i64 2, ptr %codes)
  ret ptr %r
no:
  ret ptr {MISSED}
}}
"""

# called(x, index) for an index of several items, or of a kind that has no row of its own, or MISSED.
_WITH_INDEX = f"""
define internal ptr @with_index(ptr %called, ptr %x, ptr %index) {{
entry:
  %regs = alloca [{MOST_REGISTERS} x ptr]
  %codes = alloca [{MOST_CODES} x i64]
  %tensors = alloca i64
  store i64 1, ptr %tensors
  store ptr %x, ptr %regs
{_ALL_ABSENT}{field("%class", "%index", HEAD - 8, "ptr")}  %is.tuple = icmp eq ptr %class, @PyTuple_Type
  br i1 %is.tuple, label %several, label %single
several:
  %size = call i64 @PyTuple_Size(ptr %index)
  br label %loop
single:
  %only = call i64 @encode(ptr %index, ptr %codes, i64 0, ptr %regs, ptr %tensors)
  %only.bad = icmp slt i64 %only, 0
  br i1 %only.bad, label %no, label %run
loop:
  %i = phi i64 [0, %several], [%i.next, %encoded]
  %have = phi i64 [0, %several], [%had, %encoded]
  %more = icmp slt i64 %i, %size
  br i1 %more, label %one, label %run
one:
  %item = call ptr @PyTuple_GetItem(ptr %index, i64 %i)
  %had = call i64 @encode(ptr %item, ptr %codes, i64 %have, ptr %regs, ptr %tensors)
  %bad = icmp slt i64 %had, 0
  br i1 %bad, label %no, label %encoded
encoded:
  %i.next = add i64 %i, 1
  br label %loop
run:
  %count = load i64, ptr %tensors
  %r = call ptr @run_codes(ptr %called, ptr %regs, i64 %count, ptr %codes)
  ret ptr %r
no:
  ret ptr {MISSED}
}}
"""
