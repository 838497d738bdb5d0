"""The LLVM IR of eager dispatch: from an op and its operands to a new tensor, in one call.

`find` looks up a row by (what is called, types of the operands), all compared by identity; the row leads to a
*record* of words (`RECORD`) with everything that follows from these types. A hit allocates the result, calls
the kernel and, if an operand has an edge and this thread records, makes the tape node. Anything else gives
the marker MISSED, and the caller goes on in Python, where the rules and the errors are (the frontend's
`_dispatch` is the readable twin).

The result tensor is allocated before operands are read: allocation may run the collector, and with it any
Python; from then to the kernel nothing else can run. Refcounts change by calls only.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import replay_ir
from .dispatch_layout import (
    DROP_GIL,
    MISSED,
    MOST_EXTERNALS,
    MOST_OPERANDS,
    NONE,
    PROGRAM,
    RECORD,
    ROW,
    ROW_BYTES,
    TAPED,
    VIEW,
    Slots,
    at,
    keep,
    word,
)
from .dispatch_methods_ir import methods
from .dispatch_program_ir import OBJECTS as SINGLES
from .dispatch_program_ir import programs
from .dispatch_tape_ir import new_tensor, tape, view
from .storage_ir import HEAD, READING, declarations, field, put

FUNCTIONS = {
    "Py_IncRef": "void (ptr)", "Py_DecRef": "void (ptr)", "PyType_GenericAlloc": "ptr (ptr, i64)",
    "PyType_IsSubtype": "i32 (ptr, ptr)", "PyCapsule_New": "ptr (ptr, ptr, ptr)",
    "PyCapsule_SetContext": "i32 (ptr, ptr)", "PyCapsule_SetDestructor": "i32 (ptr, ptr)",
    "PyErr_Clear": "void ()", "PyErr_NoMemory": "ptr ()", "PyErr_Occurred": "ptr ()",
    "PyErr_SetString": "void (ptr, ptr)", "PyEval_RestoreThread": "void (ptr)", "PyEval_SaveThread": "ptr ()",
    "PyLong_AsSsize_t": "i64 (ptr)", "PyLong_FromSsize_t": "ptr (i64)",
    "PyObject_Call": "ptr (ptr, ptr, ptr)", "PyIter_Next": "ptr (ptr)", "PyTuple_New": "ptr (i64)",
    "PyTuple_SetItem": "i32 (ptr, i64, ptr)", "PyTuple_GetItem": "ptr (ptr, i64)",
    "PyTuple_Size": "i64 (ptr)",
    "PyDict_New": "ptr ()", "PyDict_SetItem": "i32 (ptr, ptr, ptr)", "PyObject_IsTrue": "i32 (ptr)",
    "PySlice_Unpack": "i32 (ptr, ptr, ptr, ptr)", "PySlice_AdjustIndices": "i64 (i64, ptr, ptr, i64)",
}  # fmt: skip
OBJECTS = (
    "PyCapsule_Type", "PyFloat_Type", "PyLong_Type", "PyTuple_Type", "PySlice_Type", "_Py_NoneStruct",
    *SINGLES,
)  # fmt: skip
#: What the module takes from that of storages, and from the frontend (`missed`: called with what missed).
NATIVE = {"new_storage": "ptr (i64)", "take": "ptr (i64)", "give": "void (ptr)", "release_view": "void (ptr)"}
GIVEN = ("name", "tensor", "node", "missed", "numbers", "no_places")


def module(slots: Slots, trampolines: Mapping[str, int], replay_slots: tuple[int, int, int]) -> str:
    """The whole module. trampolines: how many methods of each kind (`FLAGS`) it has room for. replay_slots:
    see `replay_ir.replays`."""
    return (
        declarations({**FUNCTIONS, **NATIVE, **replay_ir.FUNCTIONS, **replay_ir.NATIVE})
        + "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)\n"
        + "declare ptr @pthread_getspecific(i32)\ndeclare i32 @pthread_setspecific(i32, ptr)\n"
        + "declare i64 @llvm.ctpop.i64(i64)\ndeclare ptr @PyObject_CallFunctionObjArgs(ptr, ...)\n"
        + "".join(f"@{name} = external global i8\n" for name in (*OBJECTS, *GIVEN))
        + "@table = global ptr null\n@busy = global i64 0\n"
        + "@silent = global i32 0\n"
        + READING
        + _FIND
        + _NUMBER
        + new_tensor(slots)
        + view(slots)
        + tape(slots)
        + "".join(_dispatch(slots, n) for n in range(1, MOST_OPERANDS + 1))
        + programs(slots)
        + methods(slots, trampolines)
        + replay_ir.replays(slots, *replay_slots)
    )


_FIND = f"""
define internal ptr @find(i64 %called, i64 %a, i64 %b, i64 %c) {{    ; the row with these keys, or null
entry:
  %b3 = mul i64 %b, 3
  %c7 = mul i64 %c, 7
  %d13 = mul i64 %called, 13
  %s0 = add i64 %a, %b3
  %s1 = add i64 %s0, %c7
  %s2 = add i64 %s1, %d13
  %scattered = mul i64 %s2, {0x9E3779B97F4A7C15 - (1 << 64)}
  %table = load ptr, ptr @table
  %mask = load i64, ptr %table
{field("%shift", "%table", 8)}  %rows = getelementptr i8, ptr %table, i64 {ROW_BYTES}
  %first = lshr i64 %scattered, %shift
  br label %look
look:
  %i = phi i64 [%first, %entry], [%next, %other]
  %place = mul i64 %i, {ROW_BYTES}
  %row = getelementptr i8, ptr %rows, i64 %place
{"".join(field(f"%{name}", "%row", 8 * i) for i, name in enumerate(("k", "k0", "k1", "k2")))}\
  %e0 = icmp eq i64 %k, %called
  %e1 = icmp eq i64 %k0, %a
  %e2 = icmp eq i64 %k1, %b
  %e3 = icmp eq i64 %k2, %c
  %e01 = and i1 %e0, %e1
  %e23 = and i1 %e2, %e3
  %all = and i1 %e01, %e23
  br i1 %all, label %found, label %differs
differs:
  %none = icmp eq i64 %k, 0
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

# A Python number as an element: rounded once, and only where it fits; the rest is Python's to decide.
_NUMBER = f"""
define internal i1 @convert(ptr %cell, ptr %number, i1 %is.float, i64 %kind) {{
entry:
  br i1 %is.float, label %float, label %int
float:
{field("%real", "%number", HEAD, "double")}  br label %as.real
int:
  %whole = call i64 @PyLong_AsSsize_t(ptr %number)
  %minus.one = icmp eq i64 %whole, -1
  br i1 %minus.one, label %check, label %int.ok
check:
  %error = call ptr @PyErr_Occurred()
  %failed = icmp ne ptr %error, null
  br i1 %failed, label %too.big, label %int.ok
too.big:
  call void @PyErr_Clear()
  ret i1 false
int.ok:
  switch i64 %kind, label %int.real [ i64 3, label %as.i64 i64 4, label %as.i32 ]
as.i64:
  store i64 %whole, ptr %cell
  ret i1 true
as.i32:
  %narrow = trunc i64 %whole to i32
  %wide = sext i32 %narrow to i64
  %fits = icmp eq i64 %wide, %whole
  store i32 %narrow, ptr %cell
  ret i1 %fits
int.real:                                            ; up to 2^53 a double holds it: one rounding in all
  %shifted = add i64 %whole, {1 << 53}
  %exact = icmp ule i64 %shifted, {1 << 54}
  %converted = sitofp i64 %whole to double
  br i1 %exact, label %as.real, label %no
as.real:
  %value = phi double [%real, %float], [%converted, %int.real]
  switch i64 %kind, label %no [ i64 1, label %as.f32 i64 2, label %as.f64 ]
as.f64:
  store double %value, ptr %cell
  %is.number64 = fcmp ord double %value, %value
  ret i1 %is.number64
as.f32:
  %single = fptrunc double %value to float
  store float %single, ptr %cell
  %difference = fsub float %single, %single            ; nan for nan and the infinities
  %finite = fcmp ord float %difference, %difference
  ret i1 %finite
no:
  ret i1 false
}}
"""


def _operand(slots: Slots, i: int, then: str, *, number: bool) -> str:
    """Of %x{i}: its key, data and edge, what keeps the data alive (%own{i}), and whether it is a number."""
    t = slots.tensor
    other = f"sub{i}"
    kinds = f"""  %float{i} = icmp eq ptr %class{i}, @PyFloat_Type
  %int{i} = icmp eq ptr %class{i}, @PyLong_Type
  %number{i} = or i1 %float{i}, %int{i}
  br i1 %number{i}, label %join{i}, label %{other}
"""
    phis = [
        ("key", "%type{i}", "%class{i}"), ("data", "%tensor.data{i}", "%cell{i}"),
        ("edge", "%tensor.edge{i}", NONE), ("own", "%storage{i}", "%x{i}"),
    ]  # fmt: skip
    joined = "".join(
        f"  %{name}{i} = phi ptr [{tensor.format(i=i)}, %current{i}]"
        + (f", [{plain.format(i=i)}, %other{i}]\n" if number else "\n")
        for name, tensor, plain in phis
    )
    flags = f"  %is.number{i} = phi i1 [false, %current{i}], [true, %other{i}]\n" if number else ""
    return f"""op{i}:
{field(f"%class{i}", f"%x{i}", HEAD - 8, "ptr")}  %is.tensor{i} = icmp eq ptr %class{i}, @tensor
  br i1 %is.tensor{i}, label %tensor{i}, label %other{i}
other{i}:
{kinds if number else f"  br label %{other}" + chr(10)}sub{i}:
  %derived{i} = call i32 @PyType_IsSubtype(ptr %class{i}, ptr @tensor)
  %is.derived{i} = icmp ne i32 %derived{i}, 0
  br i1 %is.derived{i}, label %tensor{i}, label %missed
tensor{i}:
{field(f"%type{i}", f"%x{i}", t["_type"], "ptr")}{field(f"%storage{i}", f"%x{i}", t["_storage"], "ptr")}\
{field(f"%tensor.edge{i}", f"%x{i}", t["_node"], "ptr")}{field(f"%history{i}", f"%x{i}", t["_view"], "ptr")}\
  %unset{i} = icmp eq ptr %storage{i}, null
  br i1 %unset{i}, label %missed, label %set{i}
set{i}:
{field(f"%storage.class{i}", f"%storage{i}", HEAD - 8, "ptr")}\
  %eager{i} = icmp eq ptr %storage.class{i}, @PyCapsule_Type
  br i1 %eager{i}, label %view{i}, label %missed
view{i}:
{field(f"%tensor.data{i}", f"%storage{i}", HEAD, "ptr")}  %now{i} = call i1 @is_current(ptr %history{i})
  br i1 %now{i}, label %current{i}, label %missed
current{i}:
  br label %join{i}
join{i}:
{joined}{flags}  br label %{then}
"""


def _key(i: int, n: int, prefix: str = "%key") -> str:
    return f"%word{i}" if i < n else ("%given1" if i == 1 else "%given2") if n == 1 else "0"


def _dispatch(slots: Slots, n: int) -> str:
    """`dispatch{n}`: the op or method %called on n operands. With one operand, two more words of the key are
    given: what the method's plain arguments are."""
    t = slots.tensor
    every = range(n)
    numbers = n == 2
    arguments = ", ".join(["ptr %called", *(f"ptr %x{i}" for i in every)])
    given = ", i64 %given1, i64 %given2" if n == 1 else ""
    operands = "".join(
        _operand(slots, i, f"op{i + 1}" if i + 1 < n else "look", number=numbers) for i in every
    )
    words = "".join(f"  %word{i} = ptrtoint ptr %key{i} to i64\n" for i in every)
    keys = ", ".join(f"i64 {_key(i, n)}" for i in range(3))
    return f"""
define internal ptr @dispatch{n}({arguments}{given}) {{
entry:
  %buffers = alloca [{MOST_EXTERNALS + 1} x ptr]
  %cells = alloca [{n} x i64]
  %objects = alloca [{n} x ptr]
  %edges = alloca [{n} x ptr]
{"".join(at("i64", "%cells", i, f"%cell{i}") for i in every)}  %busy = load i64, ptr @busy
  %is.busy = icmp ne i64 %busy, 0
  br i1 %is.busy, label %python, label %begin
python:
  ret ptr {MISSED}
begin:
  %out = call ptr @PyType_GenericAlloc(ptr @tensor, i64 0)
  %no.out = icmp eq ptr %out, null
  br i1 %no.out, label %fail, label %op0
{operands}look:
{words}  %called.word = ptrtoint ptr %called to i64
  %row = call ptr @find(i64 %called.word, {keys})
  %no.row = icmp eq ptr %row, null
  br i1 %no.row, label %missed, label %hit
hit:
{field("%record", "%row", 8 * ROW.index("record"), "ptr")}\
{field("%owner", "%row", 8 * ROW.index("owner"), "ptr")}\
{word("flags", kind="i64")}{word("result")}\
{_mask(n)}  %taped.flag = and i64 %flags, {TAPED}
  %no.tape = icmp eq i64 %taped.flag, 0
  %no.edge = icmp eq i64 %mask, 0
  %quiet = or i1 %no.tape, %no.edge
  br i1 %quiet, label %ready, label %ask
ask:
  %on = call i1 @records()
  br i1 %on, label %program, label %ready
program:
{word("bare", kind="i64")}  %bare.edges = and i64 %bare, %mask
  %unspelled = icmp ne i64 %bare.edges, 0
  br i1 %unspelled, label %missed, label %program.ask
program.ask:
  %program.word = mul i64 %mask, {len(PROGRAM)}
  %program.place = add i64 %program.word, {len(RECORD) - 1}
{at("ptr", "%record", "%program.place", "%program.p")}  %derivative = load ptr, ptr %program.p
  %not.made = icmp eq ptr %derivative, null
  br i1 %not.made, label %missed, label %ready
ready:
  %taping = phi i64 [0, %hit], [0, %ask], [%mask, %program.ask]
{_numbers(n) if numbers else "  br label %kind" + chr(10)}kind:
{keep("%result", "%out", t["_type"], "rt")}{keep(NONE, "%out", t["_node"], "rn")}\
{keep(NONE, "%out", t["_grad"], "rg")}\
{_view_branch(slots) if n == 1 else "  br label %kernel" + chr(10)}kernel:
{keep(NONE, "%out", t["_view"], "rv")}{word("bytes", kind="i64")}\
  %made = call ptr @new_storage(i64 %bytes)
  %no.made = icmp eq ptr %made, null
  br i1 %no.made, label %drop, label %buffers.fill
buffers.fill:
{put("ptr", "%made", "%out", t["_storage"], "rs")}{word("run")}{word("sizes")}{word("template")}\
{word("arena_bytes", kind="i64")}{word("made_slot", kind="i64")}\
  %filled = load <{MOST_EXTERNALS} x ptr>, ptr %template, align 8
  store <{MOST_EXTERNALS} x ptr> %filled, ptr %buffers, align 8
{"".join(_fill(i) for i in every)}{field("%made.data", "%made", HEAD, "ptr")}\
{at("ptr", "%buffers", "%made_slot", "%out.place")}  store ptr %made.data, ptr %out.place
  %no.arena = icmp eq i64 %arena_bytes, 0
  br i1 %no.arena, label %go, label %arena
arena:
  %scratch = call ptr @take(i64 %arena_bytes)
  %no.scratch = icmp eq ptr %scratch, null
  br i1 %no.scratch, label %memory, label %go
go:
  %scratch.used = phi ptr [null, %buffers.fill], [%scratch, %arena]
  %drop.flag = and i64 %flags, {DROP_GIL}
  %small = icmp eq i64 %drop.flag, 0
  br i1 %small, label %near, label %far
near:
  %near.status = call i64 %run(ptr %buffers, ptr %sizes, ptr %scratch.used)
  br label %ran
far:                                                     ; others may run: hold all that the kernel uses
  call void @Py_IncRef(ptr %owner)
{"".join(f"  call void @Py_IncRef(ptr %own{i}){chr(10)}" for i in every)}\
  %thread = call ptr @PyEval_SaveThread()
  %far.status = call i64 %run(ptr %buffers, ptr %sizes, ptr %scratch.used)
  call void @PyEval_RestoreThread(ptr %thread)
{"".join(f"  call void @Py_DecRef(ptr %own{i}){chr(10)}" for i in every)}  br label %ran
ran:
  %status = phi i64 [%near.status, %near], [%far.status, %far]
  %held = phi i1 [false, %near], [true, %far]
  %no.give = icmp eq ptr %scratch.used, null
  br i1 %no.give, label %checked, label %give.back
give.back:
  call void @give(ptr %scratch.used)
  br label %checked
checked:
  %good = icmp eq i64 %status, 0
  br i1 %good, label %tape, label %refused
refused:                                                 ; a check failed: Python does it again, and raises
  br i1 %held, label %refused.held, label %missed
refused.held:
  call void @Py_DecRef(ptr %owner)
  br label %missed
tape:
  %tape.held = phi i1 [%held, %checked]{", [true, %shown]" if n == 1 else ""}
  %no.taping = icmp eq i64 %taping, 0
  br i1 %no.taping, label %finish, label %tape.make
tape.make:
{"".join(_tape_operand(i) for i in every)}\
  %taped = call i1 @tape(ptr %record, ptr %owner, i64 %taping, ptr %out, ptr %objects, ptr %edges, ptr %cells)
  br label %finish
finish:
  %fine = phi i1 [true, %tape], [%taped, %tape.make]
  br i1 %tape.held, label %finish.held, label %end
finish.held:
  call void @Py_DecRef(ptr %owner)
  br label %end
end:
  br i1 %fine, label %done, label %drop
done:
  ret ptr %out
missed:
  call void @Py_DecRef(ptr %out)
  ret ptr {MISSED}
memory:
  %null = call ptr @PyErr_NoMemory()
  br label %drop
drop:
  call void @Py_DecRef(ptr %out)
  br label %fail
fail:
  ret ptr null
}}
"""


def _mask(n: int) -> str:
    """%mask: which operands have an edge."""
    lines = []
    for i in range(n):
        lines.append(f"  %has{i} = icmp ne ptr %edge{i}, {NONE}\n  %bit{i} = zext i1 %has{i} to i64\n")
        lines.append(f"  %moved{i} = shl i64 %bit{i}, {i}\n")
    total = "%moved0"
    for i in range(1, n):
        lines.append(f"  %mask.{i} = or i64 {total}, %moved{i}\n")
        total = f"%mask.{i}"
    return "".join(lines) + f"  %mask = or i64 {total}, 0\n"


def _numbers(n: int) -> str:
    """Convert the operands that are numbers, now that the row says to what."""
    text = word("number", kind="i64") + "  br label %number.0\n"
    for i in range(n):
        after = f"number.{i + 1}" if i + 1 < n else "kind"
        text += f"""number.{i}:
  br i1 %is.number{i}, label %convert{i}, label %{after}
convert{i}:
  %float.too{i} = icmp eq ptr %class{i}, @PyFloat_Type
  %fits{i} = call i1 @convert(ptr %cell{i}, ptr %x{i}, i1 %float.too{i}, i64 %number)
  br i1 %fits{i}, label %{after}, label %missed
"""
    return text


def _view_branch(slots: Slots) -> str:
    t = slots.tensor
    return f"""  %view.flag = and i64 %flags, {VIEW}
  %is.copy = icmp eq i64 %view.flag, 0
  br i1 %is.copy, label %kernel, label %show
show:
{word("shift", kind="i64")}  %shown.storage = call ptr @view_storage(ptr %storage0, i64 %shift)
  %no.shown = icmp eq ptr %shown.storage, null
  br i1 %no.shown, label %drop, label %show.history
show.history:
{put("ptr", "%shown.storage", "%out", t["_storage"], "vs")}  call void @Py_IncRef(ptr %owner)
  call void @Py_IncRef(ptr %edge0)
  %past = call ptr @view_history(ptr %x0, ptr %history0, ptr %edge0, i64 %shift)
  call void @Py_DecRef(ptr %edge0)
  %no.past = icmp eq ptr %past, null
  br i1 %no.past, label %unheld, label %shown
unheld:
  call void @Py_DecRef(ptr %owner)
  br label %drop
shown:
{put("ptr", "%past", "%out", t["_view"], "vh")}  br label %tape
"""


def _fill(i: int) -> str:
    """Put an operand's data into its buffer."""
    name = f"in{i}"
    return (
        word(name, kind="i64")
        + at("ptr", "%buffers", f"%{name}", f"%{name}.place")
        + f"  store ptr %data{i}, ptr %{name}.place\n"
    )


def _tape_operand(i: int) -> str:
    return (
        at("ptr", "%objects", i, f"%object{i}")
        + f"  store ptr %x{i}, ptr %object{i}\n"
        + at("ptr", "%edges", i, f"%edge.at{i}")
        + f"  store ptr %edge{i}, ptr %edge.at{i}\n"
    )
