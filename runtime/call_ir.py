"""The LLVM IR of `call(*storages)`: one builtin that runs any compiled plan.

What differs between plans is in a record of words that the builtin finds through its `self` (a storage on
the record): so a call costs some tens of nanoseconds and no executable needs call code of its own. The pool
and the builtins' conventions are those of `storage_ir`. The order of events: check the operands, take the
outputs' and the arena's blocks, wait until nobody else updates what this call updates, run, bump the
versions of what was updated, hand out the results.
"""

from __future__ import annotations

from .storage_ir import BUSY, HEAD, VERSION, field, put

#: The words of the record. Tables are addresses of i64 arrays; a *slot* is a place in the plan's external
#: buffers.
RECORD = (
    "run",  # address of the native code
    "fail",  # a Python function (status) -> never returns normally
    "sizes",  # table of run-time sizes
    "template",  # table of external buffers, with constants' addresses filled in
    "externals",  # its length
    "inputs",  # table: the slot of each operand, or -1 where the plan does not read it
    "n_inputs",
    "outputs",  # table of pairs: slot and bytes of each output to be allocated
    "n_outputs",
    "results",  # table: r >= 0 is the new output r, r < 0 the operand ~r
    "n_results",
    "updates",  # table: operands that the plan overwrites
    "n_updates",
    "arena_bytes",
    "drop_gil",  # 1 if the work is worth letting other threads run
)
#: Microseconds between two looks at storages that another thread updates.
_WAIT_US = 20


def _word(name: str) -> str:
    return field(
        f"%{name}", "%record", 8 * RECORD.index(name), "i64" if name[:2] == "n_" else _KINDS.get(name, "ptr")
    )


_KINDS = {"externals": "i64", "arena_bytes": "i64", "drop_gil": "i64"}


def _at(name: str, table: str, index: str, kind: str = "i64") -> str:
    """Load entry `index` of a table of words."""
    return f"  {name}.p = getelementptr i64, ptr {table}, i64 {index}\n  {name} = load {kind}, ptr {name}.p\n"


def _loop(name: str, count: str, before: str, body: str, after: str, last: str = "") -> str:
    """for %name = 0 .. count - 1: body; entered from the block `before`, goes on in `after`. last: body's
    last block."""
    return f"""  br label %{name}.head
{name}.head:
  %{name} = phi i64 [0, %{before}], [%{name}.next, %{last or name + ".body"}]
  %{name}.more = icmp slt i64 %{name}, {count}
  br i1 %{name}.more, label %{name}.body, label %{after}
{name}.body:
{body}  %{name}.next = add i64 %{name}, 1
  br label %{name}.head
{after}:
"""


_OPERANDS = _loop(
    "i",
    "%n",
    "setup",
    _at("%operand", "%args", "%i", "ptr")
    + """  %ours = call i1 @is_ours(ptr %operand)
  br i1 %ours, label %operand.ok, label %type
operand.ok:
"""
    + field("%data", "%operand", HEAD, "ptr")
    + _at("%slot", "%inputs", "%i")
    + """  %unread = icmp slt i64 %slot, 0
  br i1 %unread, label %operand.done, label %operand.set
operand.set:
  %place = getelementptr ptr, ptr %buffers, i64 %slot
  store ptr %data, ptr %place
  br label %operand.done
operand.done:
""",
    "allocate.outputs",
    "operand.done",
)

_OUTPUTS = _loop(
    "j",
    "%n_outputs",
    "allocate.outputs",
    """  %j.pair = shl i64 %j, 1
  %j.second = or disjoint i64 %j.pair, 1
"""
    + _at("%out.slot", "%outputs", "%j.pair")
    + _at("%out.bytes", "%outputs", "%j.second")
    + """  %capsule = call ptr @new_storage(i64 %out.bytes)
  %refused = icmp eq ptr %capsule, null
  br i1 %refused, label %drop.made, label %made
made:
"""
    + field("%out.data", "%capsule", HEAD, "ptr")
    + """  %out.place = getelementptr ptr, ptr %buffers, i64 %out.slot
  store ptr %out.data, ptr %out.place
  %keep = getelementptr ptr, ptr %new, i64 %j
  store ptr %capsule, ptr %keep
""",
    "allocate.arena",
    "made",
)


def _headers(name: str, before: str, body: str, after: str, last: str = "") -> str:
    """For each operand that is updated, with its header in %{name}.header."""
    find = (
        _at(f"%{name}.which", "%updates", f"%{name}")
        + _at(f"%{name}.storage", "%args", f"%{name}.which", "ptr")
        + f"  %{name}.header = call ptr @header_of(ptr %{name}.storage)\n"
    )
    return _loop(name, "%n_updates", before, find + body, after, last)


_LOOK = _headers(
    "w",
    "wait",
    field("%busy", "%w.header", BUSY)
    + """  %is.busy = icmp ne i64 %busy, 0
  br i1 %is.busy, label %pause, label %w.free
w.free:
""",
    "go",
    "w.free",
)
_HOLD = _headers("h", "hold", put("i64", "1", "%h.header", BUSY, "held"), "free.run")
_RELEASE = _headers("r", "free.run", put("i64", "0", "%r.header", BUSY, "released"), "free.done")
_BUMP = _headers(
    "b",
    "bump",
    field("%old", "%b.header", VERSION)
    + "  %newer = add i64 %old, 1\n"
    + put("i64", "%newer", "%b.header", VERSION, "bumped"),
    "finish",
)
_FILL = _loop(
    "k",
    "%n_results",
    "fill",
    _at("%result", "%results", "%k")
    + """  %is.output = icmp sge i64 %result, 0
  %operand.number = xor i64 %result, -1
  %from = select i1 %is.output, ptr %new, ptr %args
  %number = select i1 %is.output, i64 %result, i64 %operand.number
  %object.at = getelementptr ptr, ptr %from, i64 %number
  %object = load ptr, ptr %object.at
  call void @Py_IncRef(ptr %object)
  %set = call i32 @PyTuple_SetItem(ptr %tuple, i64 %k, ptr %object)
""",
    "filled",
)
_DROP = _loop(
    "d",
    "%count",
    "drop",
    _at("%dropped", "%new", "%d", "ptr") + "  call void @Py_DecRef(ptr %dropped)\n",
    "out",
)

CALL = f"""
define ptr @call(ptr %self, ptr %args, i64 %n) {{
entry:
{field("%record", "%self", HEAD, "ptr")}{"".join(map(_word, RECORD))}  %arity.ok = icmp eq i64 %n, %n_inputs
  br i1 %arity.ok, label %setup, label %arity
setup:
  %buffers = alloca ptr, i64 %externals
  %new = alloca ptr, i64 %n_outputs
  %bytes = shl i64 %externals, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %buffers, ptr %template, i64 %bytes, i1 false)
{_OPERANDS}{_OUTPUTS}  %arena = call ptr @take(i64 %arena_bytes)
  %no.arena = icmp eq ptr %arena, null
  br i1 %no.arena, label %memory, label %wait
wait:
{_LOOK}  %big = icmp ne i64 %drop_gil, 0
  br i1 %big, label %hold, label %small
pause:
  %paused = call ptr @PyEval_SaveThread()
  %slept = call i32 @usleep(i32 {_WAIT_US})
  call void @PyEval_RestoreThread(ptr %paused)
  br label %wait
small:
  %small.status = call i64 %run(ptr %buffers, ptr %sizes, ptr %arena)
  br label %ran
hold:
{_HOLD}  %thread = call ptr @PyEval_SaveThread()
  %big.status = call i64 %run(ptr %buffers, ptr %sizes, ptr %arena)
  call void @PyEval_RestoreThread(ptr %thread)
{_RELEASE}  br label %ran
ran:
  %status = phi i64 [%small.status, %small], [%big.status, %free.done]
  call void @give(ptr %arena)
  %good = icmp eq i64 %status, 0
  br i1 %good, label %bump, label %failed
bump:
{_BUMP}  %one.result = icmp eq i64 %n_results, 1
  %one.output = icmp eq i64 %n_outputs, 1
  %plain = and i1 %one.result, %one.output
  br i1 %plain, label %single, label %many
single:                                                    ; nearly every call: one result, and it is new
  %first = load i64, ptr %results
  %is.new = icmp eq i64 %first, 0
  br i1 %is.new, label %hand, label %many
hand:
  %only = load ptr, ptr %new
  ret ptr %only
many:
  %tuple = call ptr @PyTuple_New(i64 %n_results)
  %no.tuple = icmp eq ptr %tuple, null
  br i1 %no.tuple, label %drop.all, label %fill
fill:
{_FILL}  br label %drop.all
failed:
  %code = call ptr @PyLong_FromSsize_t(i64 %status)
  %no.code = icmp eq ptr %code, null
  br i1 %no.code, label %drop.all, label %raise
raise:
  %raised = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %fail, ptr %code, ptr null)
  call void @Py_DecRef(ptr %code)
  br label %drop.all
memory:
  %null = call ptr @PyErr_NoMemory()
  br label %drop.all
drop.all:
  %answer = phi ptr [%tuple, %filled], [null, %many], [null, %failed], [null, %raise], [null, %memory]
  br label %drop
drop.made:
  br label %drop
drop:                                                      ; our own references to the new outputs
  %final = phi ptr [%answer, %drop.all], [null, %drop.made]
  %count = phi i64 [%n_outputs, %drop.all], [%j, %drop.made]
{_DROP}  ret ptr %final
arity:
  %r0 = call ptr @refuse(ptr @PyExc_TypeError, ptr @call_arity)
  ret ptr null
type:
  %r1 = call ptr @refuse(ptr @PyExc_TypeError, ptr @not_storage)
  ret ptr null
}}
"""
