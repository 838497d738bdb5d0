"""The LLVM IR of methods whose rows are found by plain arguments: `with_ints`, `at_index`; and of `only`, the
one element of a tensor as a Python number.
"""

from __future__ import annotations

from .dispatch_layout import MISSED, NONE, NUMBERS, RECORD, ROW, Slots, as_index, at, entry, keep, word
from .storage_ir import HEAD, field, put

#: Plain arguments of a method are ints of 31 bits, two to a word of the key; an absent one is this.
MOST_INTS, _BIAS, _ABSENT = 4, 1 << 30, 0x7FFFFFFF
#: Second word of the key of a row for an index: of the axis itself, and of slices of a length.
AXIS, LENGTH = 1, 2


def indices(slots: Slots) -> str:
    """All of this file."""
    return _INTS + _START_OF + _showing(slots) + _at_index(slots) + _only(slots)


def packed(numbers: tuple[int, ...]) -> tuple[int, int] | None:
    """The two words of the key that stand for these ints; None if they don't fit."""
    words = [n + _BIAS for n in numbers]
    if len(words) > MOST_INTS or any(not 0 <= w < _ABSENT for w in words):
        return None
    words += [_ABSENT] * (MOST_INTS - len(words))
    return words[0] | words[1] << 32, words[2] | words[3] << 32


_ALL_ABSENT = "".join(
    at("i64", "%words", i, f"%w{i}") + f"  store i64 {_ABSENT}, ptr %w{i}\n" for i in range(MOST_INTS)
)
# A method with ints as arguments (%sizes: or one tuple of them), else as a learned call.
_INTS = f"""
define internal ptr @with_ints(
    ptr %called, ptr %x, ptr %args, i64 %n, ptr %names, i1 %sizes, ptr %parameters) {{
entry:
  %words = alloca [{MOST_INTS} x i64]
{_ALL_ABSENT}  %named = icmp ne ptr %names, null
  br i1 %named, label %missed, label %one
one:
  %single = icmp eq i64 %n, 1
  %perhaps = and i1 %single, %sizes
  br i1 %perhaps, label %look, label %start
look:
  %only = load ptr, ptr %args
{field("%only.class", "%only", HEAD - 8, "ptr")}  %is.tuple = icmp eq ptr %only.class, @PyTuple_Type
  br i1 %is.tuple, label %unpack, label %start
unpack:
  %size = call i64 @PyTuple_Size(ptr %only)
  br label %start
start:
  %count = phi i64 [%n, %one], [%n, %look], [%size, %unpack]
  %packed = phi i1 [false, %one], [false, %look], [true, %unpack]
  %sequence = phi ptr [null, %one], [null, %look], [%only, %unpack]
  %many = icmp sgt i64 %count, {MOST_INTS}
  br i1 %many, label %missed, label %loop
loop:
  %i = phi i64 [0, %start], [%i.next, %store]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %get, label %find
get:
  br i1 %packed, label %of.tuple, label %of.args
of.tuple:
  %item = call ptr @PyTuple_GetItem(ptr %sequence, i64 %i)
  br label %read
of.args:
{entry("%args", "%i", "%arg")}  br label %read
read:
  %number = phi ptr [%item, %of.tuple], [%arg, %of.args]
{field("%class", "%number", HEAD - 8, "ptr")}  %is.int = icmp eq ptr %class, @PyLong_Type
  br i1 %is.int, label %convert, label %missed
convert:
{as_index("%value", "%number")}  %biased = add i64 %value, {_BIAS}
  %small = icmp ult i64 %biased, {_ABSENT}
  %fits = and i1 %small, %value.ok
  br i1 %fits, label %store, label %missed
store:
{at("i64", "%words", "%i", "%word.at")}  store i64 %biased, ptr %word.at
  %i.next = add i64 %i, 1
  br label %loop
find:
  %v0 = load i64, ptr %w0
  %v1 = load i64, ptr %w1
  %v2 = load i64, ptr %w2
  %v3 = load i64, ptr %w3
  %h1 = shl i64 %v1, 32
  %h3 = shl i64 %v3, 32
  %low = or i64 %v0, %h1
  %high = or i64 %v2, %h3
  %r = call ptr @dispatch1(ptr %called, ptr %x, i64 %low, i64 %high, ptr null)
  %is.missed = icmp eq ptr %r, {MISSED}
  br i1 %is.missed, label %missed, label %done
done:
  ret ptr %r
missed:
  %result = call ptr @with_values(ptr %called, ptr %x, ptr %args, i64 %n, ptr %names, ptr %parameters)
  ret ptr %result
}}
"""

# Which part of an axis of %count places an index takes, an int or a slice without a step: the first place,
# and how many (-1 for an int); 0 if it is another kind of index, or none of the axis.
_START_OF = f"""
define internal i64 @start_of(ptr %index, i64 %count, ptr %start) {{
entry:
  %stop = alloca i64
  %step = alloca i64
{field("%class", "%index", HEAD - 8, "ptr")}  %is.int = icmp eq ptr %class, @PyLong_Type
  br i1 %is.int, label %int, label %maybe.slice
int:
{as_index("%number", "%index")}  %negative = icmp slt i64 %number, 0
  %from.end = add i64 %number, %count
  %wrapped = select i1 %negative, i64 %from.end, i64 %number
  %inside = icmp ult i64 %wrapped, %count
  %fits = and i1 %inside, %number.ok
  store i64 %wrapped, ptr %start
  br i1 %fits, label %single, label %no
single:
  ret i64 -1
maybe.slice:
  %is.slice = icmp eq ptr %class, @PySlice_Type
  br i1 %is.slice, label %slice, label %no
slice:
  %unpacked = call i32 @PySlice_Unpack(ptr %index, ptr %start, ptr %stop, ptr %step)
  %bad = icmp slt i32 %unpacked, 0
  br i1 %bad, label %clear, label %adjust.ask
clear:
  call void @PyErr_Clear()
  br label %no
adjust.ask:
  %by = load i64, ptr %step
  %plain = icmp eq i64 %by, 1
  br i1 %plain, label %adjust, label %no
adjust:
  %length = call i64 @PySlice_AdjustIndices(i64 %count, ptr %start, ptr %stop, i64 1)
  ret i64 %length
no:
  ret i64 0
}}
"""


def _showing(slots: Slots) -> str:
    """`show`: a view of x, which had the type %had, as another type some bytes further; null for an error,
    MISSED where x has changed."""
    t = slots.tensor
    return f"""
define internal ptr @show(ptr %x, ptr %had, ptr %type, i64 %bytes) {{
entry:
  call void @Py_IncRef(ptr %type)                        ; allocation may run anything
  %out = call ptr @PyType_GenericAlloc(ptr @tensor, i64 0)
  %no.out = icmp eq ptr %out, null
  br i1 %no.out, label %disown, label %fill
disown:
  call void @Py_DecRef(ptr %type)
  ret ptr null
fill:
{put("ptr", "%type", "%out", t["_type"], "rt")}{keep(NONE, "%out", t["_node"], "rn")}\
{keep(NONE, "%out", t["_grad"], "rg")}{field("%has", "%x", t["_type"], "ptr")}\
  %same = icmp eq ptr %has, %had
  br i1 %same, label %memory, label %missed
memory:
{field("%storage", "%x", t["_storage"], "ptr")}{field("%history", "%x", t["_view"], "ptr")}\
{field("%edge", "%x", t["_node"], "ptr")}\
  %shown = call ptr @view_storage(ptr %storage, i64 %bytes)
  %no.shown = icmp eq ptr %shown, null
  br i1 %no.shown, label %drop, label %past
past:
{put("ptr", "%shown", "%out", t["_storage"], "rs")}\
  %story = call ptr @view_history(ptr %x, ptr %history, ptr %edge, i64 %bytes)
  %no.story = icmp eq ptr %story, null
  br i1 %no.story, label %drop, label %done
done:
{put("ptr", "%story", "%out", t["_view"], "rv")}  ret ptr %out
missed:
  call void @Py_DecRef(ptr %out)
  ret ptr {MISSED}
drop:
  call void @Py_DecRef(ptr %out)
  ret ptr null
}}
"""


def _at_index(slots: Slots) -> str:
    """x[int] and x[start:stop] of what needs no node: a view; an axis row has its size in `count` and its
    stride in bytes in `shift`. Any other index as a learned call."""
    t = slots.tensor
    return f"""
define internal ptr @at_index(ptr %called, ptr %x, ptr %index) {{
entry:
  %start = alloca i64
  %busy = load i64, ptr @busy
  %is.busy = icmp ne i64 %busy, 0
  br i1 %is.busy, label %learned, label %state
state:
{field("%type", "%x", t["_type"], "ptr")}{field("%storage", "%x", t["_storage"], "ptr")}\
{field("%edge", "%x", t["_node"], "ptr")}{field("%history", "%x", t["_view"], "ptr")}\
  %unset = icmp eq ptr %storage, null
  br i1 %unset, label %learned, label %set
set:
{field("%storage.class", "%storage", HEAD - 8, "ptr")}  %eager = icmp eq ptr %storage.class, @PyCapsule_Type
  br i1 %eager, label %current, label %learned
current:
  %now = call i1 @is_current(ptr %history)
  br i1 %now, label %mode, label %learned
mode:
  %no.edge = icmp eq ptr %edge, {NONE}
  br i1 %no.edge, label %look, label %ask
ask:
  %on = call i1 @records()
  br i1 %on, label %learned, label %look
look:
  %called.word = ptrtoint ptr %called to i64
  %type.word = ptrtoint ptr %type to i64
  %axis = call ptr @find(i64 %called.word, i64 %type.word, i64 0, i64 {AXIS})
  %no.axis = icmp eq ptr %axis, null
  br i1 %no.axis, label %learned, label %found
found:
{field("%record", "%axis", 8 * ROW.index("record"), "ptr")}{word("count", kind="i64")}\
{word("shift", kind="i64")}{word("result")}\
  %length = call i64 @start_of(ptr %index, i64 %count, ptr %start)
  %none = icmp eq i64 %length, 0
  br i1 %none, label %learned, label %some
some:
  %single = icmp eq i64 %length, -1
  br i1 %single, label %show, label %part
part:
  %row = call ptr @find(i64 %called.word, i64 %type.word, i64 %length, i64 {LENGTH})
  %no.row = icmp eq ptr %row, null
  br i1 %no.row, label %learned, label %part.found
part.found:
{field("%part.record", "%row", 8 * ROW.index("record"), "ptr")}\
{field("%part.result", "%part.record", 8 * RECORD.index("result"), "ptr")}  br label %show
show:
  %its.type = phi ptr [%result, %some], [%part.result, %part.found]
  %place = load i64, ptr %start
  %bytes = mul i64 %place, %shift
  %shown = call ptr @show(ptr %x, ptr %type, ptr %its.type, i64 %bytes)
  %missed = icmp eq ptr %shown, {MISSED}
  br i1 %missed, label %learned, label %give.shown
give.shown:
  ret ptr %shown
learned:
  %answer = call ptr @with_index(ptr %called, ptr %x, ptr %index)
  %is.learned = icmp ne ptr %answer, {MISSED}
  br i1 %is.learned, label %give, label %ask.python
give:
  ret ptr %answer
ask.python:
  %r = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %called, ptr %x, ptr %index, ptr null)
  ret ptr %r
}}
"""


def _only(slots: Slots) -> str:
    """`only`: the one element of x as a Python number, or MISSED; a row says how it is read."""
    t = slots.tensor
    kinds = " ".join(f"i64 {NUMBERS[k]}, label %{k}" for k in NUMBERS)
    return f"""
define internal ptr @only(ptr %called, ptr %x) {{
entry:
{field("%type", "%x", t["_type"], "ptr")}{field("%storage", "%x", t["_storage"], "ptr")}\
  %unset = icmp eq ptr %storage, null
  br i1 %unset, label %missed, label %set
set:
{field("%class", "%storage", HEAD - 8, "ptr")}  %eager = icmp eq ptr %class, @PyCapsule_Type
  br i1 %eager, label %look, label %missed
look:
  %called.word = ptrtoint ptr %called to i64
  %type.word = ptrtoint ptr %type to i64
  %row = call ptr @find(i64 %called.word, i64 %type.word, i64 0, i64 0)
  %no.row = icmp eq ptr %row, null
  br i1 %no.row, label %missed, label %found
found:
{field("%record", "%row", 8 * ROW.index("record"), "ptr")}{word("number", kind="i64")}\
{field("%data", "%storage", HEAD, "ptr")}  switch i64 %number, label %missed [ {kinds} ]
float32:
  %single = load float, ptr %data
  %widened = fpext float %single to double
  br label %real
float64:
  %double = load double, ptr %data
  br label %real
real:
  %value = phi double [%widened, %float32], [%double, %float64]
  %as.float = call ptr @PyFloat_FromDouble(double %value)
  ret ptr %as.float
int32:
  %narrow = load i32, ptr %data
  %sign.extended = sext i32 %narrow to i64
  br label %whole
int64:
  %wide = load i64, ptr %data
  br label %whole
whole:
  %integer = phi i64 [%sign.extended, %int32], [%wide, %int64]
  %as.int = call ptr @PyLong_FromSsize_t(i64 %integer)
  ret ptr %as.int
missed:
  ret ptr {MISSED}
}}
"""
