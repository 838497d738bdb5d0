"""The LLVM IR of eager dispatch: from an op and its operands to a new tensor, in one call.

`find` looks up a row by (what is called, types of the operands), all compared by identity; the row leads to a
*record* of words (`RECORD`) with everything that follows from these types. A hit (`dispatch` calls `go`)
allocates the result, calls the kernel and, if an operand has an edge and this thread records, makes the tape
node. With a tensor to write over, `into`, that is the result instead, and nothing may be recorded. Anything
else gives the marker MISSED, and the caller goes on in Python, where the rules and the errors are (the
frontend's `_dispatch` is the readable twin).

The result tensor is allocated before operands are read: allocation may run the collector, and with it any
Python; from then to the kernel nothing else can run. So the types are compared again, and the row's owner is
held all the time. Refcounts change by calls only.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import dispatch_backward_ir, replay_ir
from .dispatch_codes_ir import OBJECTS as SINGLES
from .dispatch_codes_ir import codes_ir
from .dispatch_find_ir import lookups
from .dispatch_layout import (
    DROP_GIL,
    MISSED,
    MOST_EXTERNALS,
    MOST_OPERANDS,
    NONE,
    OVER,
    PROGRAM,
    RECORD,
    ROW,
    TAPED,
    VIEW,
    Slots,
    at,
    calls,
    keep,
    word,
)
from .dispatch_methods_ir import methods
from .dispatch_program_ir import programs
from .dispatch_tape_ir import new_tensor, overwriting, tape, view
from .storage_ir import HEAD, READING, declarations, field, put

FUNCTIONS = {
    "Py_IncRef": "void (ptr)", "Py_DecRef": "void (ptr)", "PyType_GenericAlloc": "ptr (ptr, i64)",
    "PyType_IsSubtype": "i32 (ptr, ptr)", "PyCapsule_New": "ptr (ptr, ptr, ptr)",
    "PyCapsule_SetContext": "i32 (ptr, ptr)", "PyCapsule_SetDestructor": "i32 (ptr, ptr)",
    "PyErr_Clear": "void ()", "PyErr_NoMemory": "ptr ()", "PyErr_Occurred": "ptr ()",
    "PyErr_SetString": "void (ptr, ptr)", "PyEval_RestoreThread": "void (ptr)", "PyEval_SaveThread": "ptr ()",
    "PyLong_AsSsize_t": "i64 (ptr)", "PyLong_FromSsize_t": "ptr (i64)", "PyFloat_FromDouble": "ptr (double)",
    "PyList_Size": "i64 (ptr)", "PyList_GetItem": "ptr (ptr, i64)",
    "PyMem_RawMalloc": "ptr (i64)", "PyMem_RawFree": "void (ptr)", "PyMem_RawRealloc": "ptr (ptr, i64)",
    "PyObject_Call": "ptr (ptr, ptr, ptr)", "PyIter_Next": "ptr (ptr)", "PyTuple_New": "ptr (i64)",
    "PyTuple_SetItem": "i32 (ptr, i64, ptr)", "PyTuple_GetItem": "ptr (ptr, i64)",
    "PyTuple_Size": "i64 (ptr)",
    "PyDict_New": "ptr ()", "PyDict_SetItem": "i32 (ptr, ptr, ptr)", "PyObject_IsTrue": "i32 (ptr)",
    "PySlice_Unpack": "i32 (ptr, ptr, ptr, ptr)", "PySlice_AdjustIndices": "i64 (i64, ptr, ptr, i64)",
}  # fmt: skip
OBJECTS = (
    "PyCapsule_Type", "PyFloat_Type", "PyList_Type", "PyLong_Type", "PyTuple_Type", "PySlice_Type",
    "_Py_NoneStruct", *SINGLES,
)  # fmt: skip
#: What the module takes from that of storages, and from the frontend (`missed`: called with what missed).
NATIVE = {"new_storage": "ptr (i64)", "take": "ptr (i64)", "give": "void (ptr)", "release_view": "void (ptr)"}
GIVEN = ("name", "tensor", "node", "leaf", "missed", "numbers", "zeros", "assign", "copy", "add")


def module(slots: Slots, trampolines: Mapping[str, int], replay_slots: tuple[int, int, int]) -> str:
    """The whole module. trampolines: how many methods of each kind (`FLAGS`) it has room for. replay_slots:
    see `replay_ir.replays`."""
    return (
        declarations({**FUNCTIONS, **{k: v for k, v in replay_ir.FUNCTIONS.items() if k not in FUNCTIONS}})
        + declarations({**NATIVE, **replay_ir.NATIVE})
        + "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)\n"
        + "declare ptr @pthread_getspecific(i32)\ndeclare i32 @pthread_setspecific(i32, ptr)\n"
        + "declare i64 @llvm.ctpop.i64(i64)\ndeclare ptr @PyObject_CallFunctionObjArgs(ptr, ...)\n"
        + "".join(f"@{name} = external global i8\n" for name in (*OBJECTS, *GIVEN))
        + "@table = global ptr null\n@busy = global i64 0\n"
        + "@silent = global i32 0\n"
        + READING
        + lookups()
        + new_tensor(slots)
        + view(slots)
        + overwriting(slots)
        + tape(slots)
        + _keys(slots)
        + "".join(_dispatch(slots, n) + _go(slots, n) for n in range(1, MOST_OPERANDS + 1))
        + programs(slots)
        + codes_ir()
        + methods(slots, trampolines)
        + dispatch_backward_ir.backward(slots)
        + replay_ir.replays(slots, *replay_slots)
    )


def _dispatch(slots: Slots, n: int) -> str:
    """`dispatch{n}`: the op or method %called on n operands, as a new tensor or over %into, if that is not
    null. With one operand, two more words of the key are given: what the method's plain arguments are."""
    every = range(n)
    operands = ", ".join(f"ptr %x{i}" for i in every)
    given = ", i64 %given1, i64 %given2" if n == 1 else ""
    kind = "key_or_number" if n == 2 else "key_of"
    words = "".join(_peeked(i, kind, f"peek{i + 1}" if i + 1 < n else "look") for i in every)
    keys = ", ".join(f"i64 {_key(i, n)}" for i in range(3))
    return f"""
define internal ptr @dispatch{n}(ptr %called, {operands}{given}, ptr %into) {{
entry:
  %busy = load i64, ptr @busy
  %is.busy = icmp ne i64 %busy, 0
  br i1 %is.busy, label %missed, label %peek0
{words}look:
  %called.word = ptrtoint ptr %called to i64
  %row = call ptr @find(i64 %called.word, {keys})
  %no.row = icmp eq ptr %row, null
  br i1 %no.row, label %missed, label %hit
hit:
{field("%record", "%row", 8 * ROW.index("record"), "ptr")}\
  %r = call ptr @go{n}(ptr %record, {operands}, ptr %into)
  ret ptr %r
missed:
  ret ptr {MISSED}
}}
"""


def _peeked(i: int, kind: str, then: str) -> str:
    return f"""peek{i}:
  %key{i} = call ptr @{kind}(ptr %x{i})
  %word{i} = ptrtoint ptr %key{i} to i64
  %no.key{i} = icmp eq ptr %key{i}, null
  br i1 %no.key{i}, label %missed, label %{then}
"""


def _key(i: int, n: int) -> str:
    return f"%word{i}" if i < n else ("%given1" if i == 1 else "%given2") if n == 1 else "0"


def _keys(slots: Slots) -> str:
    """`key_of`: the type of a tensor, or null; `key_or_number`: or the class of a Python number."""
    return f"""
define internal ptr @key_of(ptr %x) {{
entry:
{field("%class", "%x", HEAD - 8, "ptr")}  %is.tensor = icmp eq ptr %class, @tensor
  br i1 %is.tensor, label %tensor, label %other
other:
  %derived = call i32 @PyType_IsSubtype(ptr %class, ptr @tensor)
  %is.derived = icmp ne i32 %derived, 0
  br i1 %is.derived, label %tensor, label %no
tensor:
{field("%type", "%x", slots.tensor["_type"], "ptr")}  ret ptr %type
no:
  ret ptr null
}}

define internal ptr @key_or_number(ptr %x) {{
entry:
{field("%class", "%x", HEAD - 8, "ptr")}  %float = icmp eq ptr %class, @PyFloat_Type
  %int = icmp eq ptr %class, @PyLong_Type
  %number = or i1 %float, %int
  br i1 %number, label %plain, label %tensor
plain:
  ret ptr %class
tensor:
  %key = call ptr @key_of(ptr %x)
  ret ptr %key
}}
"""


def _go(slots: Slots, n: int) -> str:
    """`go{n}`: what %record says of n operands, as a new tensor or over %into; MISSED if it is for others."""
    every = range(n)
    operands = ", ".join(f"ptr %x{i}" for i in every)
    read = "".join(_operand(slots, i, f"op{i + 1}" if i + 1 < n else "hit", number=n == 2) for i in every)
    return f"""
define internal ptr @go{n}(ptr %record, {operands}, ptr %into) {{
entry:
  %buffers = alloca [{MOST_EXTERNALS + 1} x ptr]
  %cells = alloca [{n} x i64]
  %objects = alloca [{n} x ptr]
  %edges = alloca [{n} x ptr]
{"".join(at("i64", "%cells", i, f"%cell{i}") for i in every)}\
{_BEGIN}{read}{_hit(n)}{_ask(n)}{_numbers(n) if n == 2 else "  br label %kind" + chr(10)}\
{_target(slots, n)}{_view(slots) if n == 1 else ""}{_storage(slots)}{_buffers(n)}{_run(n)}\
{_node(n)}{_END}}}
"""


_BEGIN = f"""{word("owner")}  call void @Py_IncRef(ptr %owner)
  %fresh = icmp eq ptr %into, null
  br i1 %fresh, label %allocate, label %over
allocate:
  %new = call ptr @PyType_GenericAlloc(ptr @tensor, i64 0)
  %no.out = icmp eq ptr %new, null
  br i1 %no.out, label %fail, label %start
over:
  call void @Py_IncRef(ptr %into)
  br label %start
start:
  %out = phi ptr [%new, %allocate], [%into, %over]
  br label %op0
"""


def _operand(slots: Slots, i: int, then: str, *, number: bool) -> str:
    """Of %x{i}: its key, data and edge, what keeps the data alive (%own{i}), and whether it is a number. The
    key must be what the record is for."""
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
{joined}{flags}{word(f"for{i}")}  %as.before{i} = icmp eq ptr %key{i}, %for{i}
  br i1 %as.before{i}, label %{then}, label %missed
"""


def _hit(n: int) -> str:
    return f"""hit:
{word("flags", kind="i64")}{word("result")}{_mask(n)}"""


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


def _ask(n: int) -> str:
    """%taping: which operands a node is to lead to; 0 for no node."""
    return f"""  %taped.flag = and i64 %flags, {TAPED}
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
{at("ptr", "%record", "%program.place", "%program.p")}  %recorded = load ptr, ptr %program.p
  %not.made = icmp eq ptr %recorded, null
  br i1 %not.made, label %missed, label %ready
ready:
  %taping = phi i64 [0, %hit], [0, %ask], [%mask, %program.ask]
"""


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


def _target(slots: Slots, n: int) -> str:
    """A new tensor's slots; or whether the result may be written over %into, whose storage is %old."""
    t = slots.tensor
    checks = "".join(
        f"  %clear{i} = call i1 @may_overwrite(ptr %old, ptr %own{i}, i64 %flags, ptr %result, ptr %key{i})\n"
        f"  br i1 %clear{i}, label %{f'over.{i + 1}' if i + 1 < n else 'over.hold'}, label %missed\n"
        + (f"over.{i + 1}:\n" if i + 1 < n else "")
        for i in range(n)
    )
    return f"""kind:
  br i1 %fresh, label %fill, label %over.ask
over.ask:
{field("%old", "%into", t["_storage"], "ptr")}{field("%its.type", "%into", t["_type"], "ptr")}\
  %fits.over = icmp eq ptr %its.type, %result
  %over.flag = and i64 %flags, {OVER}
  %can.over = icmp ne i64 %over.flag, 0
  %unrecorded = icmp eq i64 %taping, 0
  %over.0 = and i1 %fits.over, %can.over
  %may.over = and i1 %over.0, %unrecorded
  br i1 %may.over, label %over.clear, label %missed
over.clear:
{checks}over.hold:
  call void @Py_IncRef(ptr %old)
  br label %buffers.fill
fill:
{keep("%result", "%out", t["_type"], "rt")}{keep(NONE, "%out", t["_node"], "rn")}\
{keep(NONE, "%out", t["_grad"], "rg")}  br label %{"maybe.view" if n == 1 else "kernel"}
"""


def _view(slots: Slots) -> str:
    """What a view is: its storage and its history."""
    t = slots.tensor
    return f"""maybe.view:
  %view.flag = and i64 %flags, {VIEW}
  %is.copy = icmp eq i64 %view.flag, 0
  br i1 %is.copy, label %kernel, label %show
show:
{word("shift", kind="i64")}  %shown.storage = call ptr @view_storage(ptr %storage0, i64 %shift)
  %no.shown = icmp eq ptr %shown.storage, null
  br i1 %no.shown, label %drop, label %show.history
show.history:
{put("ptr", "%shown.storage", "%out", t["_storage"], "vs")}  call void @Py_IncRef(ptr %edge0)
  %past = call ptr @view_history(ptr %x0, ptr %history0, ptr %edge0, i64 %shift)
  call void @Py_DecRef(ptr %edge0)
  %no.past = icmp eq ptr %past, null
  br i1 %no.past, label %drop, label %shown
shown:
{put("ptr", "%past", "%out", t["_view"], "vh")}  br label %tape
"""


def _storage(slots: Slots) -> str:
    t = slots.tensor
    return f"""kernel:
{keep(NONE, "%out", t["_view"], "rv")}{word("bytes", kind="i64")}\
  %block = call ptr @new_storage(i64 %bytes)
  %no.block = icmp eq ptr %block, null
  br i1 %no.block, label %drop, label %kernel.storage
kernel.storage:
{put("ptr", "%block", "%out", t["_storage"], "rs")}  br label %buffers.fill
"""


def _buffers(n: int) -> str:
    """Where the kernel finds its operands and puts its result, %made; its scratch memory."""
    return f"""buffers.fill:
  %made = phi ptr [%block, %kernel.storage], [%old, %over.hold]
{word("run")}{word("sizes")}{word("template")}{word("arena_bytes", kind="i64")}\
{word("made_slot", kind="i64")}\
  %filled = load <{MOST_EXTERNALS} x ptr>, ptr %template, align 8
  store <{MOST_EXTERNALS} x ptr> %filled, ptr %buffers, align 8
{"".join(_fill(i) for i in range(n))}{field("%made.data", "%made", HEAD, "ptr")}\
{at("ptr", "%buffers", "%made_slot", "%out.place")}  store ptr %made.data, ptr %out.place
  %no.arena = icmp eq i64 %arena_bytes, 0
  br i1 %no.arena, label %go, label %arena
arena:
  %scratch = call ptr @take(i64 %arena_bytes)
  %no.scratch = icmp eq ptr %scratch, null
  br i1 %no.scratch, label %memory, label %go
"""


def _fill(i: int) -> str:
    """Put an operand's data into its buffer."""
    name = f"in{i}"
    return (
        word(name, kind="i64")
        + at("ptr", "%buffers", f"%{name}", f"%{name}.place")
        + f"  store ptr %data{i}, ptr %{name}.place\n"
    )


def _run(n: int) -> str:
    """Call the kernel; without the interpreter's lock, if that is worth it."""
    owned = [f"%own{i}" for i in range(n)]
    return f"""go:
  %scratch.used = phi ptr [null, %buffers.fill], [%scratch, %arena]
  %drop.flag = and i64 %flags, {DROP_GIL}
  %small = icmp eq i64 %drop.flag, 0
  br i1 %small, label %near, label %far
near:
  %near.status = call i64 %run(ptr %buffers, ptr %sizes, ptr %scratch.used)
  br label %ran
far:                                                     ; others may run: hold all that the kernel uses
{calls("Py_IncRef", *owned)}\
  %thread = call ptr @PyEval_SaveThread()
  %far.status = call i64 %run(ptr %buffers, ptr %sizes, ptr %scratch.used)
  call void @PyEval_RestoreThread(ptr %thread)
{calls("Py_DecRef", *owned)}  br label %ran
ran:
  %status = phi i64 [%near.status, %near], [%far.status, %far]
  %no.give = icmp eq ptr %scratch.used, null
  br i1 %no.give, label %checked, label %give.back
give.back:
  call void @give(ptr %scratch.used)
  br label %checked
checked:
  %good = icmp eq i64 %status, 0
  br i1 %fresh, label %checked.new, label %checked.over
checked.over:
  call void @bump(ptr %made)
  call void @Py_DecRef(ptr %made)
  br label %checked.new
checked.new:                                             ; a check failed: Python does it again, and raises
  br i1 %good, label %tape, label %missed
"""


def _node(n: int) -> str:
    objects = "".join(
        at("ptr", "%objects", i, f"%object{i}")
        + f"  store ptr %x{i}, ptr %object{i}\n"
        + at("ptr", "%edges", i, f"%edge.at{i}")
        + f"  store ptr %edge{i}, ptr %edge.at{i}\n"
        for i in range(n)
    )
    return f"""tape:
  %no.taping = icmp eq i64 %taping, 0
  br i1 %no.taping, label %end, label %tape.make
tape.make:
{objects}\
  %taped = call i1 @tape(ptr %record, i64 %taping, ptr %out, ptr %objects, ptr %edges)
  br label %end
"""


_END = f"""end:
  %fine = phi i1 [true, %tape], [%taped, %tape.make]
  br i1 %fine, label %done, label %drop
done:
  call void @Py_DecRef(ptr %owner)
  ret ptr %out
missed:
{calls("Py_DecRef", "%out", "%owner")}  ret ptr {MISSED}
memory:
  %null = call ptr @PyErr_NoMemory()
  br i1 %fresh, label %drop, label %drop.over
drop.over:
  call void @Py_DecRef(ptr %made)
  br label %drop
drop:
  call void @Py_DecRef(ptr %out)
  br label %fail
fail:
  call void @Py_DecRef(ptr %owner)
  ret ptr null
"""
