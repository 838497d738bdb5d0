"""The LLVM IR of the builtins in front of dispatch: `apply`, and methods of tensors.

A method is one of a fixed number of trampolines of its kind; what it stands for is a Python callable in the
table `@callables`, by whose identity rows are found and which is called where there is no row. Kinds:

    nullary    x.exp()                  binary, reflected   x + y, and y's side of x + y
    ints       x.transpose(0, 1)        sizes               the same, or one tuple: x.reshape((2, 3))
    item       x[2], x[2:5]
    call       any method             function            any function: learned calls only
    one, pair  a function of that many operands, which has rows as the methods above have
"""

from __future__ import annotations

from collections.abc import Mapping

from .dispatch_layout import MISSED, MOST_OPERANDS, NONE, RECORD, ROW, Slots, at, keep, word
from .storage_ir import HEAD, field, put

#: Plain arguments of a method are ints of 31 bits, two to a word of the key; an absent one is this.
MOST_INTS, _BIAS, _ABSENT = 4, 1 << 30, 0x7FFFFFFF
#: Second word of the key of a row for an index: of the axis itself, and of slices of a length.
AXIS, LENGTH = 1, 2


def methods(slots: Slots, trampolines: Mapping[str, int]) -> str:
    """All of this file. trampolines: how many of each kind."""
    total = sum(trampolines.values())
    tables = ("callables", "parameters")
    text = "".join(f"@{name} = global [{total} x ptr] zeroinitializer\n" for name in tables)
    text += _PYTHON + _APPLY + _MODE + _INTS
    text += _item(slots) + _of_operands("of_one", 1) + _of_operands("of_two", 2)
    number = 0
    for kind, count in trampolines.items():
        for i in range(count):
            text += _TRAMPOLINES[kind].format(name=f"{kind}.{i}", place=8 * number)
            number += 1
    return text


_PYTHON = f"""
define internal ptr @python(ptr %callable, ptr %self, ptr %args, i64 %n, ptr %names) {{
entry:                                     ; callable(self, *args, names=...); self and names may be null
  %bound = icmp ne ptr %self, null
  %lead = zext i1 %bound to i64
  %named = icmp ne ptr %names, null
  br i1 %named, label %count, label %tuple
count:
  %names.size = call i64 @PyTuple_Size(ptr %names)
  %dict.new = call ptr @PyDict_New()
  %no.dict = icmp eq ptr %dict.new, null
  br i1 %no.dict, label %fail, label %dict.fill
dict.fill:
  %d = phi i64 [0, %count], [%d.next, %dict.one]
  %d.more = icmp slt i64 %d, %names.size
  br i1 %d.more, label %dict.one, label %tuple
dict.one:
  %name = call ptr @PyTuple_GetItem(ptr %names, i64 %d)
  %place = add i64 %n, %d
{at("ptr", "%args", "%place", "%value.at")}  %value = load ptr, ptr %value.at
  %d.set = call i32 @PyDict_SetItem(ptr %dict.new, ptr %name, ptr %value)
  %d.next = add i64 %d, 1
  %d.failed = icmp slt i32 %d.set, 0
  br i1 %d.failed, label %drop.dict, label %dict.fill
drop.dict:
  call void @Py_DecRef(ptr %dict.new)
  br label %fail
tuple:
  %dict = phi ptr [null, %entry], [%dict.new, %dict.fill]
  %size = add i64 %n, %lead
  %tuple.new = call ptr @PyTuple_New(i64 %size)
  %no.tuple = icmp eq ptr %tuple.new, null
  br i1 %no.tuple, label %drop, label %self.set
self.set:
  br i1 %bound, label %self.put, label %fill
self.put:
  call void @Py_IncRef(ptr %self)
  %s.set = call i32 @PyTuple_SetItem(ptr %tuple.new, i64 0, ptr %self)
  br label %fill
fill:
  %i = phi i64 [0, %self.set], [0, %self.put], [%i.next, %one]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %one, label %call
one:
{at("ptr", "%args", "%i", "%arg.at")}  %arg = load ptr, ptr %arg.at
  call void @Py_IncRef(ptr %arg)
  %to = add i64 %i, %lead
  %set = call i32 @PyTuple_SetItem(ptr %tuple.new, i64 %to, ptr %arg)
  %i.next = add i64 %i, 1
  br label %fill
call:
  %result = call ptr @PyObject_Call(ptr %callable, ptr %tuple.new, ptr %dict)
  call void @Py_DecRef(ptr %tuple.new)
  br label %drop
drop:
  %answer = phi ptr [null, %tuple], [%result, %call]
  %has.dict = icmp ne ptr %dict, null
  br i1 %has.dict, label %dict.done, label %out
dict.done:
  call void @Py_DecRef(ptr %dict)
  br label %out
out:
  ret ptr %answer
fail:
  ret ptr null
}}
"""


def _apply_case(n: int) -> str:
    loads = "".join(
        at("ptr", "%args", i + 1, f"%x{n}{i}.at") + f"  %x{n}{i} = load ptr, ptr %x{n}{i}.at\n"
        for i in range(n)
    )
    operands = ", ".join(["ptr %op", *(f"ptr %x{n}{i}" for i in range(n))]) + (", i64 0, i64 0" * (n == 1))
    return f"on{n}:\n{loads}  %r{n} = call ptr @dispatch{n}({operands})\n  br label %ask\n"


_CASES = " ".join(f"i64 {n + 1}, label %on{n}" for n in range(1, MOST_OPERANDS + 1))
_APPLY = f"""
define ptr @apply(ptr %self, ptr %args, i64 %n) {{         ; METH_FASTCALL apply(op, *operands)
entry:
  %empty = icmp eq i64 %n, 0
  br i1 %empty, label %python, label %which
which:
  %op = load ptr, ptr %args
  switch i64 %n, label %python [ {_CASES} ]
{"".join(_apply_case(n) for n in range(1, MOST_OPERANDS + 1))}ask:
  %r = phi ptr {", ".join(f"[%r{n}, %on{n}]" for n in range(1, MOST_OPERANDS + 1))}
  %missed = icmp eq ptr %r, {MISSED}
  br i1 %missed, label %python, label %done
done:
  ret ptr %r
python:
  %result = call ptr @python(ptr @missed, ptr null, ptr %args, i64 %n, ptr null)
  ret ptr %result
}}
"""

_MODE = f"""
define ptr @set_recording(ptr %self, ptr %on) {{           ; METH_O: whether this thread records
  %true = call i32 @PyObject_IsTrue(ptr %on)
  %failed = icmp slt i32 %true, 0
  br i1 %failed, label %error, label %set
set:
  %records = icmp ne i32 %true, 0
  %value = select i1 %records, ptr null, ptr {MISSED}
  %key = load i32, ptr @silent
  %r = call i32 @pthread_setspecific(i32 %key, ptr %value)
  call void @Py_IncRef(ptr {NONE})
  ret ptr {NONE}
error:
  ret ptr null
}}
"""

_ALL_ABSENT = "".join(
    at("i64", "%words", i, f"%w{i}") + f"  store i64 {_ABSENT}, ptr %w{i}\n" for i in range(MOST_INTS)
)
_INTS = f"""
define internal ptr @with_ints(ptr %called, ptr %x, ptr %args, i64 %n, ptr %names, i1 %sizes) {{
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
{at("ptr", "%args", "%i", "%arg.at")}  %arg = load ptr, ptr %arg.at
  br label %read
read:
  %number = phi ptr [%item, %of.tuple], [%arg, %of.args]
{field("%class", "%number", HEAD - 8, "ptr")}  %is.int = icmp eq ptr %class, @PyLong_Type
  br i1 %is.int, label %convert, label %missed
convert:
  %value = call i64 @PyLong_AsSsize_t(ptr %number)
  %minus.one = icmp eq i64 %value, -1
  br i1 %minus.one, label %check, label %narrow
check:
  %error = call ptr @PyErr_Occurred()
  %failed = icmp ne ptr %error, null
  br i1 %failed, label %clear, label %narrow
clear:
  call void @PyErr_Clear()
  br label %missed
narrow:
  %biased = add i64 %value, {_BIAS}
  %small = icmp ult i64 %biased, {_ABSENT}
  br i1 %small, label %store, label %missed
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
  %r = call ptr @dispatch1(ptr %called, ptr %x, i64 %low, i64 %high)
  %is.missed = icmp eq ptr %r, {MISSED}
  br i1 %is.missed, label %missed, label %done
done:
  ret ptr %r
missed:
  %result = call ptr @python(ptr %called, ptr %x, ptr %args, i64 %n, ptr %names)
  ret ptr %result
}}
"""


def packed(numbers: tuple[int, ...]) -> tuple[int, int] | None:
    """The two words of the key that stand for these ints; None if they don't fit."""
    words = [n + _BIAS for n in numbers]
    if len(words) > MOST_INTS or any(not 0 <= w < _ABSENT for w in words):
        return None
    words += [_ABSENT] * (MOST_INTS - len(words))
    return words[0] | words[1] << 32, words[2] | words[3] << 32


def _item(slots: Slots) -> str:
    """x[int] and x[start:stop] of what needs no node: a view; an axis row has its size in `count` and its
    stride in bytes in `shift`."""
    t = slots.tensor
    return f"""
define internal ptr @at_index(ptr %called, ptr %x, ptr %index) {{
entry:
  %start = alloca i64
  %stop = alloca i64
  %step = alloca i64
  %busy = load i64, ptr @busy
  %is.busy = icmp ne i64 %busy, 0
  br i1 %is.busy, label %python, label %kind
kind:
{field("%class", "%index", HEAD - 8, "ptr")}  %is.int = icmp eq ptr %class, @PyLong_Type
  br i1 %is.int, label %int, label %maybe.slice
int:
  %number = call i64 @PyLong_AsSsize_t(ptr %index)
  %minus.one = icmp eq i64 %number, -1
  br i1 %minus.one, label %check, label %make
check:
  %error = call ptr @PyErr_Occurred()
  %failed = icmp ne ptr %error, null
  br i1 %failed, label %clear, label %make
maybe.slice:
  %is.slice = icmp eq ptr %class, @PySlice_Type
  br i1 %is.slice, label %slice, label %python
slice:
  %unpacked = call i32 @PySlice_Unpack(ptr %index, ptr %start, ptr %stop, ptr %step)
  %bad = icmp slt i32 %unpacked, 0
  br i1 %bad, label %clear, label %slice.step
slice.step:
  %by = load i64, ptr %step
  %plain = icmp eq i64 %by, 1
  br i1 %plain, label %make, label %python
clear:
  call void @PyErr_Clear()
  br label %python
make:
  %given = phi i64 [%number, %int], [%number, %check], [0, %slice.step]
  %out = call ptr @PyType_GenericAlloc(ptr @tensor, i64 0)
  %no.out = icmp eq ptr %out, null
  br i1 %no.out, label %fail, label %operand
operand:
{field("%type", "%x", t["_type"], "ptr")}{field("%storage", "%x", t["_storage"], "ptr")}\
{field("%edge", "%x", t["_node"], "ptr")}{field("%history", "%x", t["_view"], "ptr")}\
  %unset = icmp eq ptr %storage, null
  br i1 %unset, label %missed, label %set
set:
{field("%storage.class", "%storage", HEAD - 8, "ptr")}  %eager = icmp eq ptr %storage.class, @PyCapsule_Type
  br i1 %eager, label %current, label %missed
current:
  %now = call i1 @is_current(ptr %history)
  br i1 %now, label %mode, label %missed
mode:
  %no.edge = icmp eq ptr %edge, {NONE}
  br i1 %no.edge, label %look, label %ask
ask:
  %on = call i1 @records()
  br i1 %on, label %missed, label %look
look:
  %called.word = ptrtoint ptr %called to i64
  %type.word = ptrtoint ptr %type to i64
  %axis = call ptr @find(i64 %called.word, i64 %type.word, i64 0, i64 {AXIS})
  %no.axis = icmp eq ptr %axis, null
  br i1 %no.axis, label %missed, label %found
found:
{field("%record", "%axis", 8 * ROW.index("record"), "ptr")}{word("count", kind="i64")}\
{word("shift", kind="i64")}{word("result")}\
  br i1 %is.int, label %wrap, label %adjust
wrap:
  %negative = icmp slt i64 %given, 0
  %from.end = add i64 %given, %count
  %wrapped = select i1 %negative, i64 %from.end, i64 %given
  %inside = icmp ult i64 %wrapped, %count
  br i1 %inside, label %show, label %missed
adjust:
  %length = call i64 @PySlice_AdjustIndices(i64 %count, ptr %start, ptr %stop, i64 1)
  %first = load i64, ptr %start
  %part = call ptr @find(i64 %called.word, i64 %type.word, i64 %length, i64 {LENGTH})
  %no.part = icmp eq ptr %part, null
  br i1 %no.part, label %missed, label %part.found
part.found:
{field("%part.record", "%part", 8 * ROW.index("record"), "ptr")}\
{field("%part.result", "%part.record", 8 * RECORD.index("result"), "ptr")}  br label %show
show:
  %place = phi i64 [%wrapped, %wrap], [%first, %part.found]
  %its.type = phi ptr [%result, %wrap], [%part.result, %part.found]
  %bytes = mul i64 %place, %shift
{keep("%its.type", "%out", t["_type"], "rt")}{keep(NONE, "%out", t["_node"], "rn")}\
{keep(NONE, "%out", t["_grad"], "rg")}  %shown = call ptr @view_storage(ptr %storage, i64 %bytes)
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
  br label %python
python:
  %learned = call ptr @with_index(ptr %called, ptr %x, ptr %index)
  %is.learned = icmp ne ptr %learned, {MISSED}
  br i1 %is.learned, label %give, label %ask.python
give:
  ret ptr %learned
ask.python:
  %r = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %called, ptr %x, ptr %index, ptr null)
  ret ptr %r
drop:
  call void @Py_DecRef(ptr %out)
  br label %fail
fail:
  ret ptr null
}}
"""


def _of_operands(name: str, n: int) -> str:
    """A function of n operands and nothing else by dispatch, any other call of it as a learned one."""
    loads = "".join(
        at("ptr", "%args", i, f"%x{i}.at") + f"  %x{i} = load ptr, ptr %x{i}.at\n" for i in range(n)
    )
    operands = "".join(f", ptr %x{i}" for i in range(n)) + ", i64 0, i64 0" * (n == 1)
    return f"""
define internal ptr @{name}(ptr %called, ptr %self, ptr %args, i64 %n, ptr %names, ptr %parameters) {{
entry:
  %plain = icmp eq ptr %names, null
  %fits = icmp eq i64 %n, {n}
  %both = and i1 %plain, %fits
  br i1 %both, label %try, label %learned
try:
{loads}  %r = call ptr @dispatch{n}(ptr %called{operands})
  %missed = icmp eq ptr %r, {MISSED}
  br i1 %missed, label %learned, label %done
done:
  ret ptr %r
learned:
  %l = call ptr @with_values(ptr %called, ptr %self, ptr %args, i64 %n, ptr %names, ptr %parameters)
  ret ptr %l
}}
"""


def _simple(signature: str, dispatch: str, again: str, learned: str = "") -> str:
    or_else = f"""  %l = call ptr {learned}
  %unknown = icmp eq ptr %l, {MISSED}
  br i1 %unknown, label %python, label %give
give:
  ret ptr %l
"""
    return f"""
define ptr @{{name}}({signature}) {{{{
  %callable.at = getelementptr i8, ptr @callables, i64 {{place}}
  %called = load ptr, ptr %callable.at
  %r = call ptr {dispatch}
  %missed = icmp eq ptr %r, {MISSED}
  br i1 %missed, label %{"learned" if learned else "python"}, label %done
done:
  ret ptr %r
{"learned:" + chr(10) + or_else if learned else ""}python:
  %result = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %called, {again}, ptr null)
  ret ptr %result
}}}}
"""


def _direct(signature: str, call: str) -> str:
    return f"""
define ptr @{{name}}({signature}) {{{{
  %callable.at = getelementptr i8, ptr @callables, i64 {{place}}
  %called = load ptr, ptr %callable.at
  %parameters.at = getelementptr i8, ptr @parameters, i64 {{place}}
  %parameters = load ptr, ptr %parameters.at
  %r = tail call ptr {call}
  ret ptr %r
}}}}
"""


_VECTOR = "ptr %x, ptr %args, i64 %n, ptr %names"
_TRAMPOLINES = {
    "nullary": _simple("ptr %x, ptr %y", "@dispatch1(ptr %called, ptr %x, i64 0, i64 0)", "ptr %x"),
    "binary": _simple(
        "ptr %x, ptr %y",
        "@dispatch2(ptr %called, ptr %x, ptr %y)",
        "ptr %x, ptr %y",
        "@with_pair(ptr %called, ptr %x, ptr %y)",
    ),
    "reflected": _simple("ptr %x, ptr %y", "@dispatch2(ptr %called, ptr %y, ptr %x)", "ptr %x, ptr %y"),
    "ints": _direct(_VECTOR, f"@with_ints(ptr %called, {_VECTOR}, i1 false)"),
    "sizes": _direct(_VECTOR, f"@with_ints(ptr %called, {_VECTOR}, i1 true)"),
    "item": _direct("ptr %x, ptr %index", "@at_index(ptr %called, ptr %x, ptr %index)"),
    "call": _direct(_VECTOR, f"@with_values(ptr %called, {_VECTOR}, ptr %parameters)"),
    "function": _direct(_VECTOR, f"@with_values(ptr %called, {_VECTOR}, ptr %parameters)"),
    "pair": _direct(_VECTOR, f"@of_two(ptr %called, {_VECTOR}, ptr %parameters)"),
    "one": _direct(_VECTOR, f"@of_one(ptr %called, {_VECTOR}, ptr %parameters)"),
}
#: Calling convention of each kind, as CPython's flags.
FLAGS = {
    "nullary": 0x4, "binary": 0x8, "reflected": 0x8, "ints": 0x82, "sizes": 0x82, "item": 0x8,
    "call": 0x82, "function": 0x82, "pair": 0x82, "one": 0x82,
}  # fmt: skip
