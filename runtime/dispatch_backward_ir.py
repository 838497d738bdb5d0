"""The LLVM IR of the backward: the walk through the plain nodes of a tape.

`queue_run` takes what waits (`dispatch_queue_ir`) one after the other and does all that a node or leaf
without hooks needs; anything else it hands out. It is called only where nothing is recorded. The frontend's
`_autograd` is the readable twin.
"""

from __future__ import annotations

from .dispatch_layout import MISSED, NONE, Slots, as_index, at, calls, entry
from .dispatch_queue_ir import place, queues
from .storage_ir import HEAD, field, put

#: Words of a derivative in native form, before its steps. operands: of the op; first: the register of the
#: first step's result (0 is the cotangent, 1 the result, then come the operands). kept: how many, and the
#: register of each; types of the registers that a node may keep as bare storages; numbers: a bit per register
#: that may be a Python number; constants: a bit per register that is one; passed: per operand the register of
#: its cotangent, or -1.
_OPERANDS = 3
DERIVATIVE = (
    "steps", "operands", "first", "kept",
    *(f"kept{i}" for i in range(_OPERANDS + 1)), *(f"type{i}" for i in range(_OPERANDS + 2)),
    "numbers", "constants", *(f"passed{i}" for i in range(_OPERANDS)),
)  # fmt: skip
#: Words of a step: how many operands (0: a constant), the op or the constant, registers.
STEP = ("kind", "what", "a", "b", "c")
MOST_REGISTERS = 32


def backward(slots: Slots) -> str:
    """All of this file."""
    return "".join((
        queues(slots), *(_apply(n) for n in (1, 2, 3)), _item(slots), _unpacked(slots), _RUN_STEPS,
        _roots(slots), _PASS, _node(slots), _leaf(slots), _walk(slots),
    ))  # fmt: skip


def _apply(n: int) -> str:
    """`apply{n}`: an op on n operands by dispatch, or by Python where there is no row."""
    operands = "".join(f", ptr %x{i}" for i in range(n))
    words = ", i64 0, i64 0" * (n == 1)
    return f"""
define internal ptr @apply{n}(ptr %op{operands}) {{
entry:
  %r = call ptr @dispatch{n}(ptr %op{operands}{words}, ptr null)
  %none = icmp eq ptr %r, {MISSED}
  br i1 %none, label %python, label %done
done:
  ret ptr %r
python:
  %p = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr @missed, ptr %op{operands}, ptr null)
  ret ptr %p
}}
"""


def _word(name: str, index: str = "") -> str:
    """Load a word of the derivative; with an index, of a row of them that begins with this one."""
    offset = 8 * DERIVATIVE.index(name)
    if not index:
        return field(f"%{name}", "%derivative", offset)
    return f"  %{name}s = getelementptr i8, ptr %derivative, i64 {offset}\n" + entry(
        f"%{name}s", index, f"%{name}", "i64"
    )


def _item(slots: Slots) -> str:
    """`saved_value`: what a node kept, as an operand for the register %at; MISSED if it was written to since
    (it had the version %then), or is something that Python has to look at; null for an error."""
    t = slots.tensor
    return f"""
define internal ptr @saved_value(ptr %derivative, i64 %at, ptr %item, i64 %then) {{
entry:
{field("%class", "%item", HEAD - 8, "ptr")}  %is.storage = icmp eq ptr %class, @PyCapsule_Type
  br i1 %is.storage, label %storage, label %ask.number
storage:
  %written = call i64 @version_of(ptr %item)
  %same = icmp eq i64 %written, %then
  br i1 %same, label %retype, label %missed
retype:
{_word("type0", "%at")}  %type = inttoptr i64 %type0 to ptr
  %alias = call ptr @alias(ptr %item, ptr %type, ptr {NONE})
  ret ptr %alias
ask.number:
  %is.float = icmp eq ptr %class, @PyFloat_Type
  %is.int = icmp eq ptr %class, @PyLong_Type
  %is.number = or i1 %is.float, %is.int
  br i1 %is.number, label %number, label %tensor
number:
{_word("numbers")}  %bit = shl i64 1, %at
  %may.be = and i64 %numbers, %bit
  %refused = icmp eq i64 %may.be, 0
  br i1 %refused, label %missed, label %give
tensor:
{field("%its", "%item", t["_storage"], "ptr")}{field("%its.class", "%its", HEAD - 8, "ptr")}\
  %eager = icmp eq ptr %its.class, @PyCapsule_Type
  br i1 %eager, label %compare, label %missed
compare:
  %version = call i64 @version_of(ptr %its)
  %unchanged = icmp eq i64 %version, %then
  br i1 %unchanged, label %give, label %missed
give:
  call void @Py_IncRef(ptr %item)
  ret ptr %item
missed:
  ret ptr {MISSED}
}}
"""


def _unpacked(slots: Slots) -> str:
    """`unpack`: what the derivative reads into its registers: 1, or 0 where Python has to, -1 for an
    error."""
    n = slots.node
    return f"""
define internal i64 @unpack(ptr %derivative, ptr %node, ptr %regs) {{
entry:
{_word("kept")}{field("%saved", "%node", n["saved"], "ptr")}\
{field("%versions", "%node", n["versions"], "ptr")}\
  %nothing = icmp eq i64 %kept, 0
  br i1 %nothing, label %good, label %ask
ask:
  %freed = icmp eq ptr %saved, {NONE}
  br i1 %freed, label %python, label %loop
loop:
  %i = phi i64 [0, %ask], [%i.next, %set]
  %item = call ptr @PyTuple_GetItem(ptr %saved, i64 %i)
  %version = call ptr @PyTuple_GetItem(ptr %versions, i64 %i)
{as_index("%then", "%version")}{_word("kept0", "%i")}\
  %value = call ptr @saved_value(ptr %derivative, i64 %kept0, ptr %item, i64 %then)
  %missed = icmp eq ptr %value, {MISSED}
  br i1 %missed, label %python, label %got
got:
  %failed = icmp eq ptr %value, null
  br i1 %failed, label %error, label %set
set:
{at("ptr", "%regs", "%kept0", "%reg")}  store ptr %value, ptr %reg
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i.next, %kept
  br i1 %more, label %loop, label %good
good:
  ret i64 1
python:
  ret i64 0
error:
  ret i64 -1
}}
"""


def _op_step(n: int) -> str:
    loads = "".join(
        field(f"%{r}{n}", "%step", 8 * STEP.index(r)) + entry("%regs", f"%{r}{n}", f"%v{r}{n}")
        for r in STEP[2 : 2 + n]
    )
    operands = ", ".join(["ptr %what", *(f"ptr %v{r}{n}" for r in STEP[2 : 2 + n])])
    return f"op{n}:\n{loads}  %r{n} = call ptr @apply{n}({operands})\n  br label %made\n"


_RUN_STEPS = f"""
define internal i1 @run_steps(ptr %derivative, ptr %regs) {{
entry:
{_word("steps")}{_word("first")}  %code = getelementptr i8, ptr %derivative, i64 {8 * len(DERIVATIVE)}
  br label %loop
loop:
  %s = phi i64 [0, %entry], [%s.next, %keep]
  %more = icmp slt i64 %s, %steps
  br i1 %more, label %one, label %good
one:
{place("%step", "%code", "%s", 8 * len(STEP))}{field("%kind", "%step", 0)}{field("%what", "%step", 8, "ptr")}\
  switch i64 %kind, label %constant [ i64 1, label %op1 i64 2, label %op2 i64 3, label %op3 ]
constant:
  call void @Py_IncRef(ptr %what)
  br label %made
{"".join(_op_step(n) for n in (1, 2, 3))}made:
  %r = phi ptr [%what, %constant], [%r1, %op1], [%r2, %op2], [%r3, %op3]
  %failed = icmp eq ptr %r, null
  br i1 %failed, label %bad, label %keep
keep:
  %to = add i64 %first, %s
{at("ptr", "%regs", "%to", "%to.at")}  store ptr %r, ptr %to.at
  %s.next = add i64 %s, 1
  br label %loop
good:
  ret i1 true
bad:
  ret i1 false
}}
"""


def _roots(slots: Slots) -> str:
    """`root_of`: what a tensor is a view of, or itself. `owns`: whether nobody but this step of the backward
    holds what operand %i is to get."""
    t = slots.tensor
    return f"""
define internal ptr @root_of(ptr %x) {{
entry:
{field("%history", "%x", t["_view"], "ptr")}  %is.base = icmp eq ptr %history, {NONE}
  br i1 %is.base, label %itself, label %view
itself:
  ret ptr %x
view:
  %base = call ptr @PyTuple_GetItem(ptr %history, i64 0)
  ret ptr %base
}}

define internal i1 @owns(ptr %derivative, ptr %regs, i64 %i, i64 %owned) {{
entry:
{_word("passed0", "%i")}{entry("%regs", "%passed0", "%x")}{_word("operands")}{_word("first")}{_word("steps")}\
{_word("constants")}  %root = call ptr @root_of(ptr %x)
  br label %others
others:                                                  ; does another operand get a part of the same?
  %o = phi i64 [0, %entry], [%o.next, %others.next]
  %o.more = icmp slt i64 %o, %operands
  br i1 %o.more, label %other, label %given
other:
  %o.same = icmp eq i64 %o, %i
  br i1 %o.same, label %others.next, label %other.place
other.place:
{entry("%passed0s", "%o", "%o.place", "i64")}  %o.none = icmp slt i64 %o.place, 0
  br i1 %o.none, label %others.next, label %other.root
other.root:
{entry("%regs", "%o.place", "%o.x")}  %o.root = call ptr @root_of(ptr %o.x)
  %shared = icmp eq ptr %o.root, %root
  br i1 %shared, label %no, label %others.next
others.next:
  %o.next = add i64 %o, 1
  br label %others
given:                                                   ; the cotangent itself, if that was ours
  %ct = load ptr, ptr %regs
  %ct.root = call ptr @root_of(ptr %ct)
  %is.ct = icmp eq ptr %root, %ct.root
  br i1 %is.ct, label %as.ct, label %made
as.ct:
  %was = icmp ne i64 %owned, 0
  ret i1 %was
made:                                                    ; or made here, and no constant
  %end = add i64 %first, %steps
  br label %loop
loop:
  %j = phi i64 [%first, %made], [%j.next, %differs]
  %j.more = icmp slt i64 %j, %end
  br i1 %j.more, label %compare, label %no
compare:
{entry("%regs", "%j", "%result")}  %is.it = icmp eq ptr %result, %root
  br i1 %is.it, label %it, label %differs
differs:
  %j.next = add i64 %j, 1
  br label %loop
it:
  %bit = shl i64 1, %j
  %constant = and i64 %constants, %bit
  %fresh = icmp eq i64 %constant, 0
  ret i1 %fresh
no:
  ret i1 false
}}
"""


# Hand the cotangents of the operands on to the edges.
_PASS = f"""
define internal i1 @pass_on(ptr %queue, ptr %derivative, ptr %edges, ptr %regs, i64 %owned) {{
entry:
{_word("operands")}  br label %loop
loop:
  %i = phi i64 [0, %entry], [%i.next, %next]
  %more = icmp slt i64 %i, %operands
  br i1 %more, label %one, label %good
one:
{_word("passed0", "%i")}  %none = icmp slt i64 %passed0, 0
  br i1 %none, label %next, label %some
some:
  %edge = call ptr @PyTuple_GetItem(ptr %edges, i64 %i)
  %no.edge = icmp eq ptr %edge, {NONE}
  br i1 %no.edge, label %next, label %deliver
deliver:
{entry("%regs", "%passed0", "%value")}  %owns = call i1 @owns(ptr %derivative, ptr %regs, i64 %i, i64 %owned)
  %own = zext i1 %owns to i64
  %ok = call i1 @queue_add(ptr %queue, ptr %edge, ptr %value, i64 %own)
  br i1 %ok, label %next, label %bad
next:
  %i.next = add i64 %i, 1
  br label %loop
good:
  ret i1 true
bad:
  ret i1 false
}}
"""


def _node(slots: Slots) -> str:
    """`through_node`: pass a cotangent through a node: 1, or 0 where Python has to, -1 for an error."""
    n = slots.node
    return f"""
define internal i64 @through_node(ptr %queue, ptr %node, ptr %ct, i64 %owned, i1 %keep) {{
entry:
  %regs = alloca [{MOST_REGISTERS} x ptr]
{field("%recorded", "%node", n["recorded"], "ptr")}\
{field("%form", "%recorded", slots.recorded["native"], "ptr")}\
{field("%form.class", "%form", HEAD - 8, "ptr")}  %is.native = icmp eq ptr %form.class, @PyCapsule_Type
  br i1 %is.native, label %begin, label %python
begin:
{field("%derivative", "%form", HEAD, "ptr")}  store [{MOST_REGISTERS} x ptr] zeroinitializer, ptr %regs
{calls("Py_IncRef", "%ct", "%form")}  store ptr %ct, ptr %regs
  %unpacked = call i64 @unpack(ptr %derivative, ptr %node, ptr %regs)
  %ready = icmp eq i64 %unpacked, 1
  br i1 %ready, label %run, label %drop
run:
  %ran = call i1 @run_steps(ptr %derivative, ptr %regs)
  br i1 %ran, label %ran.ok, label %drop
ran.ok:
  br i1 %keep, label %pass, label %free
free:
{field("%saved", "%node", n["saved"], "ptr")}  call void @Py_IncRef(ptr {NONE})
{put("ptr", NONE, "%node", n["saved"], "freed")}  call void @Py_DecRef(ptr %saved)
  br label %pass
pass:
{field("%edges", "%node", n["edges"], "ptr")}  call void @Py_IncRef(ptr %edges)
  %passed = call i1 @pass_on(ptr %queue, ptr %derivative, ptr %edges, ptr %regs, i64 %owned)
  call void @Py_DecRef(ptr %edges)
  %done = select i1 %passed, i64 1, i64 -1
  br label %drop
drop:
  %status = phi i64 [%unpacked, %begin], [-1, %run], [%done, %pass]
{_word("first")}{_word("steps")}  %all = add i64 %first, %steps
  call void @let_go(ptr %regs, i64 %all)
  call void @Py_DecRef(ptr %form)
  ret i64 %status
python:
  ret i64 0
}}
"""


def _leaf(slots: Slots) -> str:
    """`into_leaf`: add a cotangent to the `grad` of a leaf: 1, or 0 where Python has to, -1 for an error."""
    t = slots.tensor
    return f"""
define internal i64 @into_leaf(ptr %leaf, ptr %ct, i64 %owned) {{
entry:
{field("%hooks", "%leaf", slots.leaf["accumulated"], "ptr")}  %plain = icmp eq ptr %hooks, {NONE}
  br i1 %plain, label %find, label %python
find:
{field("%reference", "%leaf", slots.leaf["tensor"], "ptr")}\
  %x = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %reference, ptr null)
  %failed = icmp eq ptr %x, null
  br i1 %failed, label %error, label %ask
ask:
  %gone = icmp eq ptr %x, {NONE}
  br i1 %gone, label %done, label %read
read:
{field("%before", "%x", t["_grad"], "ptr")}  %first = icmp eq ptr %before, {NONE}
  br i1 %first, label %own.ask, label %sum
own.ask:
{field("%type", "%ct", t["_type"], "ptr")}{field("%dense", "%type", slots.type["is_contiguous"], "ptr")}\
  %is.dense = icmp eq ptr %dense, @_Py_TrueStruct
  %is.owned = icmp ne i64 %owned, 0
  %keep = and i1 %is.dense, %is.owned
  br i1 %keep, label %alias, label %copy
alias:
{field("%storage", "%ct", t["_storage"], "ptr")}\
  %aliased = call ptr @alias(ptr %storage, ptr %type, ptr {NONE})
  br label %made
copy:
  %copied = call ptr @apply1(ptr @copy, ptr %ct)
  br label %made
made:
  %grad = phi ptr [%aliased, %alias], [%copied, %copy]
  %no.grad = icmp eq ptr %grad, null
  br i1 %no.grad, label %drop.error, label %set
set:
{field("%old", "%x", t["_grad"], "ptr")}{put("ptr", "%grad", "%x", t["_grad"], "grad")}\
  call void @Py_DecRef(ptr %old)
  br label %done
sum:                                                     ; it is held by the tensor, which we hold
  call void @Py_IncRef(ptr %before)
  %r = call ptr @dispatch2(ptr @add, ptr %before, ptr %ct, ptr %before)
  call void @Py_DecRef(ptr %before)
  %missed = icmp eq ptr %r, {MISSED}
  br i1 %missed, label %drop.python, label %summed
summed:
  %no.sum = icmp eq ptr %r, null
  br i1 %no.sum, label %drop.error, label %sum.done
sum.done:
  call void @Py_DecRef(ptr %r)
  br label %done
done:
  call void @Py_DecRef(ptr %x)
  ret i64 1
drop.python:
  call void @Py_DecRef(ptr %x)
  br label %python
python:
  ret i64 0
drop.error:
  call void @Py_DecRef(ptr %x)
  br label %error
error:
  ret i64 -1
}}
"""


def _walk(slots: Slots) -> str:
    """`queue_run(queue, keep)`: pass on what waits, the greatest number first, until the queue is empty
    (None) or something is met that Python has to see: (edge, cotangent, whether it is owned)."""
    n = slots.node
    return f"""
define ptr @queue_run(ptr %self, ptr %args, i64 %n) {{         ; METH_FASTCALL
entry:
  %capsule = load ptr, ptr %args
{entry("%args", 1, "%keep.object")}  %keep = icmp eq ptr %keep.object, @_Py_TrueStruct
{field("%queue", "%capsule", HEAD, "ptr")}  br label %loop
loop:
  %slot = call ptr @queue_pop(ptr %queue)
  %empty = icmp eq ptr %slot, null
  br i1 %empty, label %finished, label %take
take:
  %edge = load ptr, ptr %slot
{field("%ct", "%slot", 8, "ptr")}{field("%owned", "%slot", 16)}{put("ptr", "null", "%slot", 8, "taken")}\
{field("%hooks", "%edge", n["hooks"], "ptr")}{field("%retained", "%edge", n["retained"], "ptr")}\
  %no.hooks = icmp eq ptr %hooks, {NONE}
  %not.retained = icmp eq ptr %retained, {NONE}
  %plain = and i1 %no.hooks, %not.retained
  br i1 %plain, label %kind, label %hand.out
kind:
{field("%class", "%edge", HEAD - 8, "ptr")}  %is.node = icmp eq ptr %class, @node
  br i1 %is.node, label %node, label %maybe.leaf
node:
  %through = call i64 @through_node(ptr %queue, ptr %edge, ptr %ct, i64 %owned, i1 %keep)
  br label %did
maybe.leaf:
  %is.leaf = icmp eq ptr %class, @leaf
  br i1 %is.leaf, label %leaf, label %hand.out
leaf:
  %added = call i64 @into_leaf(ptr %edge, ptr %ct, i64 %owned)
  br label %did
did:
  %status = phi i64 [%through, %node], [%added, %leaf]
  %for.python = icmp eq i64 %status, 0
  br i1 %for.python, label %hand.out, label %drop
drop:
  call void @Py_DecRef(ptr %ct)
  %good = icmp eq i64 %status, 1
  br i1 %good, label %loop, label %error
hand.out:
  %is.owned = icmp ne i64 %owned, 0
  %owned.object = select i1 %is.owned, ptr @_Py_TrueStruct, ptr @_Py_FalseStruct
{calls("Py_IncRef", "%edge", "%owned.object")}  %found = call ptr @PyTuple_New(i64 3)
  %no.tuple = icmp eq ptr %found, null
  br i1 %no.tuple, label %drop.all, label %fill
fill:
  %s0 = call i32 @PyTuple_SetItem(ptr %found, i64 0, ptr %edge)
  %s1 = call i32 @PyTuple_SetItem(ptr %found, i64 1, ptr %ct)
  %s2 = call i32 @PyTuple_SetItem(ptr %found, i64 2, ptr %owned.object)
  ret ptr %found
drop.all:
{calls("Py_DecRef", "%edge", "%owned.object", "%ct")}  br label %error
finished:
  call void @Py_IncRef(ptr {NONE})
  ret ptr {NONE}
error:
  ret ptr null
}}
"""
