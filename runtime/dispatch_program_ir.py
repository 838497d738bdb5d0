"""The LLVM IR of learned calls: functions of tensors whose ops follow from types and plain arguments.

A call is encoded (`dispatch_codes_ir`); its row leads to a program: a list of steps over registers, each an
op that dispatch runs, a function that is called, a constant, the elements of a register under another type,
or a bool that must be true. Whatever misses on the way drops what was made and leaves the call to Python:
such functions have no effects, except that the last step may write over a tensor.
"""

from __future__ import annotations

from .dispatch_layout import MISSED, NONE, ROW, Slots, at, entry
from .storage_ir import HEAD, field

#: Tensors among the arguments, registers of a program, and of its answer.
MOST_TENSORS, MOST_REGISTERS, MOST_ANSWERS = 3, 32, 8
#: Words of a program before its steps. form: of the answer, the first register, a tuple of all, or None.
HEADER = ("steps", "form", "answers", *(f"answer{i}" for i in range(MOST_ANSWERS)))
SINGLE, TUPLE, NOTHING = range(3)
#: Words of a step: what it is (or how many operands its op has); the op's record, or constant or type;
#: registers (of a view: its operand and an offset in bytes); and the register that is written over, or -1.
STEP = ("kind", "what", "a", "b", "c", "into")
CONSTANT, RETYPED, CHECK, SHOWN = 0, 4, 5, 6
#: Plus the number of operands: any function of tensors that has no effects.
CALLED = 6
#: What a learned call's first key word has added: it is no row of dispatch.
TAG = 1


def programs(slots: Slots) -> str:
    """All of this file: `run_program`."""
    return (
        _each("hold", "Py_IncRef")
        + _each("let_go", "Py_DecRef")
        + _key(slots)
        + _step(slots)
        + _ANSWER
        + _RUN
    )


def _each(name: str, function: str) -> str:
    """Call a function of one object on each of some registers."""
    return f"""
define internal void @{name}(ptr %regs, i64 %n) {{
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%i.next, %one]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %one, label %out
one:
{entry("%regs", "%i", "%x")}  call void @{function}(ptr %x)
  %i.next = add i64 %i, 1
  br label %loop
out:
  ret void
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
{entry("%regs", i, f"%x{i}")}{field(f"%type{i}", f"%x{i}", t["_type"])}\
{field(f"%edge{i}", f"%x{i}", t["_node"], "ptr")}{field(f"%history{i}", f"%x{i}", t["_view"], "ptr")}\
  %set{i} = icmp ne i64 %type{i}, 0
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


def _key(slots: Slots) -> str:
    """`program_of`: the row of a call, or null."""
    return f"""
define internal ptr @program_of(ptr %called, ptr %regs, i64 %n, i64 %low, i64 %high) {{
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
  %row = call ptr @find_learned(i64 %tagged, i64 %key0, i64 %key1, i64 %key2, i64 %low1, i64 %high2)
  ret ptr %row
none:
  ret ptr null
}}
"""


def _op_step(n: int) -> str:
    loads = "".join(
        field(f"%{r}{n}", "%step", 8 * STEP.index(r)) + entry("%regs", f"%{r}{n}", f"%v{r}{n}")
        for r in STEP[2 : 2 + n]
    )
    operands = ", ".join(["ptr %what", *(f"ptr %v{r}{n}" for r in STEP[2 : 2 + n])])
    return f"op{n}:\n{loads}  %r{n} = call ptr @go{n}({operands}, ptr %over)\n  ret ptr %r{n}\n"


def _call_step(n: int) -> str:
    loads = "".join(
        field(f"%call.{r}{n}", "%step", 8 * STEP.index(r)) + entry("%regs", f"%call.{r}{n}", f"%o{r}{n}")
        for r in STEP[2 : 2 + n]
    )
    operands = "".join(f"ptr %o{r}{n}, " for r in STEP[2 : 2 + n])
    call = f"call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %what, {operands}ptr null)"
    return f"call{n}:\n{loads}  %given{n} = {call}\n  br label %called\n"


def _step(slots: Slots) -> str:
    """`run_step`: what one step gives, a new reference; null for an error, or MISSED."""
    return f"""
define internal ptr @run_step(ptr %step, ptr %regs) {{
entry:
{field("%kind", "%step", 0)}{field("%what", "%step", 8, "ptr")}\
{field("%into", "%step", 8 * STEP.index("into"))}\
  %writes = icmp sge i64 %into, 0
  br i1 %writes, label %ask, label %which
ask:
{entry("%regs", "%into", "%target")}  %may = call i1 @may_write(ptr %target)
  br i1 %may, label %which, label %missed
which:
  %over = phi ptr [null, %entry], [%target, %ask]
  switch i64 %kind, label %op1 [ i64 {CONSTANT}, label %constant i64 2, label %op2 i64 3, label %op3 \
i64 {RETYPED}, label %retyped i64 {CHECK}, label %check i64 {SHOWN}, label %shown \
{" ".join(f"i64 {CALLED + n}, label %call{n}" for n in range(1, MOST_TENSORS + 1))} ]
constant:
  call void @Py_IncRef(ptr %what)
  ret ptr %what
retyped:
{field("%from", "%step", 16)}{entry("%regs", "%from", "%from.x")}\
{field("%from.storage", "%from.x", slots.tensor["_storage"], "ptr")}\
  %unset = icmp eq ptr %from.storage, null
  br i1 %unset, label %missed, label %retype
retype:
  %retyped.x = call ptr @alias(ptr %from.storage, ptr %what, ptr {NONE})
  ret ptr %retyped.x
shown:
{field("%of", "%step", 16)}{field("%bytes", "%step", 24)}{entry("%regs", "%of", "%of.x")}\
{field("%of.type", "%of.x", slots.tensor["_type"], "ptr")}\
{field("%of.storage", "%of.x", slots.tensor["_storage"], "ptr")}\
  %of.unset = icmp eq ptr %of.storage, null
  br i1 %of.unset, label %missed, label %show.eager
show.eager:
{field("%of.class", "%of.storage", HEAD - 8, "ptr")}  %of.eager = icmp eq ptr %of.class, @PyCapsule_Type
  br i1 %of.eager, label %show, label %missed
show:
  %view = call ptr @show(ptr %of.x, ptr %of.type, ptr %what, i64 %bytes)
  ret ptr %view
check:                                                   ; Python raises what there is to raise
{field("%bool", "%step", 16)}{entry("%regs", "%bool", "%bool.x")}\
{field("%bool.storage", "%bool.x", slots.tensor["_storage"], "ptr")}\
  %bool.unset = icmp eq ptr %bool.storage, null
  br i1 %bool.unset, label %missed, label %check.eager
check.eager:
{field("%bool.class", "%bool.storage", HEAD - 8, "ptr")}\
  %bool.eager = icmp eq ptr %bool.class, @PyCapsule_Type
  br i1 %bool.eager, label %check.read, label %missed
check.read:
{field("%bool.data", "%bool.storage", HEAD, "ptr")}  %bool.value = load i8, ptr %bool.data
  %holds = icmp ne i8 %bool.value, 0
  br i1 %holds, label %good, label %missed
good:
  call void @Py_IncRef(ptr {NONE})
  ret ptr {NONE}
{"".join(_op_step(n) + _call_step(n) for n in range(1, MOST_TENSORS + 1))}called:
  %called.r = phi ptr {", ".join(f"[%given{n}, %call{n}]" for n in range(1, MOST_TENSORS + 1))}
  %raised = icmp eq ptr %called.r, null
  br i1 %raised, label %error, label %give
give:
  ret ptr %called.r
error:                                                   ; Python raises it again; but an interrupt goes on
  %exception = load ptr, ptr @PyExc_Exception
  %is.error = call i32 @PyErr_ExceptionMatches(ptr %exception)
  %may.clear = icmp ne i32 %is.error, 0
  br i1 %may.clear, label %clear, label %give
clear:
  call void @PyErr_Clear()
  br label %missed
missed:
  ret ptr {MISSED}
}}
"""


# The answer of a program that has run: a new reference, or null.
_ANSWER = f"""
define internal ptr @answer(ptr %record, ptr %regs) {{
entry:
{field("%form", "%record", 8 * HEADER.index("form"))}\
{field("%count", "%record", 8 * HEADER.index("answers"))}\
  %places = getelementptr i8, ptr %record, i64 {8 * HEADER.index("answer0")}
  switch i64 %form, label %nothing [ i64 {SINGLE}, label %single i64 {TUPLE}, label %tuple ]
nothing:
  call void @Py_IncRef(ptr {NONE})
  ret ptr {NONE}
single:
{entry("%places", 0, "%only", "i64")}{entry("%regs", "%only", "%result")}  call void @Py_IncRef(ptr %result)
  ret ptr %result
tuple:
  %objects = alloca [{MOST_ANSWERS} x ptr]
  br label %loop
loop:
  %i = phi i64 [0, %tuple], [%i.next, %one]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %one, label %make
one:
{entry("%places", "%i", "%place", "i64")}{entry("%regs", "%place", "%item")}\
{at("ptr", "%objects", "%i", "%to")}  store ptr %item, ptr %to
  %i.next = add i64 %i, 1
  br label %loop
make:
  %made = call ptr @owned_tuple(ptr %objects, i64 %count)
  ret ptr %made
}}
"""

_RUN = f"""
define internal ptr @run_program(ptr %called, ptr %regs, i64 %n, i64 %low, i64 %high) {{
entry:
  %row = call ptr @program_of(ptr %called, ptr %regs, i64 %n, i64 %low, i64 %high)
  %no.row = icmp eq ptr %row, null
  br i1 %no.row, label %none, label %hit
hit:
{field("%record", "%row", 8 * ROW.index("record"), "ptr")}\
{field("%owner", "%row", 8 * ROW.index("owner"), "ptr")}\
  call void @Py_IncRef(ptr %owner)
  call void @hold(ptr %regs, i64 %n)                     ; they may be in a list, which others may change
{field("%count", "%record", 0)}  %steps = getelementptr i8, ptr %record, i64 {8 * len(HEADER)}
  br label %loop
loop:
  %s = phi i64 [0, %hit], [%s.next, %keep]
  %more = icmp slt i64 %s, %count
  br i1 %more, label %one, label %give
one:
  %step.at = mul i64 %s, {8 * len(STEP)}
  %step = getelementptr i8, ptr %steps, i64 %step.at
  %r = call ptr @run_step(ptr %step, ptr %regs)
  %r.word = ptrtoint ptr %r to i64
  %bad = icmp ule i64 %r.word, 1
  br i1 %bad, label %drop, label %keep
keep:
  %to = add i64 %n, %s
{at("ptr", "%regs", "%to", "%to.at")}  store ptr %r, ptr %to.at
  %s.next = add i64 %s, 1
  br label %loop
give:
  %result = call ptr @answer(ptr %record, ptr %regs)
  br label %drop
drop:
  %returned = phi ptr [%r, %one], [%result, %give]
  %held = add i64 %n, %s
  call void @let_go(ptr %regs, i64 %held)
  call void @Py_DecRef(ptr %owner)
  ret ptr %returned
none:
  ret ptr {MISSED}
}}
"""
