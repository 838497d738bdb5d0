"""The LLVM IR that makes what dispatch gives back: tensors, views with their history, and tape nodes.

Every failure drops what it made. Whatever allocates may run the collector, and with it any Python: what is
still needed after that is owned before.
"""

from __future__ import annotations

from .dispatch_layout import MOST_OPERANDS, NONE, PROGRAM, RECORD, Slots, at, keep, word
from .storage_ir import HEAD, VERSION, field, put


def new_tensor(slots: Slots) -> str:
    """A tensor on a storage and a type, with an edge; null with an exception set if there is no memory."""
    t = slots.tensor
    return f"""
define internal ptr @alias(ptr %storage, ptr %type, ptr %edge) {{
  call void @Py_IncRef(ptr %storage)                     ; before anything can run: it may be the last holder
  call void @Py_IncRef(ptr %type)
  call void @Py_IncRef(ptr %edge)
  %made = call ptr @PyType_GenericAlloc(ptr @tensor, i64 0)
  %failed = icmp eq ptr %made, null
  br i1 %failed, label %drop, label %fill
fill:
{put("ptr", "%storage", "%made", t["_storage"], "s")}{put("ptr", "%type", "%made", t["_type"], "t")}\
{put("ptr", "%edge", "%made", t["_node"], "n")}{keep(NONE, "%made", t["_grad"], "g")}\
{keep(NONE, "%made", t["_view"], "v")}  ret ptr %made
drop:
  call void @Py_DecRef(ptr %storage)
  call void @Py_DecRef(ptr %type)
  call void @Py_DecRef(ptr %edge)
  ret ptr null
}}
"""


def view(slots: Slots) -> str:
    """`view_storage`: a capsule some bytes further. `view_history`: what `_view` of a view of %x holds."""
    t = slots.tensor
    return f"""
define internal ptr @view_storage(ptr %storage, i64 %bytes) {{
{field("%here", "%storage", HEAD, "ptr")}  %there = getelementptr i8, ptr %here, i64 %bytes
  %base = call ptr @base_of(ptr %storage)
  %capsule = call ptr @PyCapsule_New(ptr %there, ptr @name, ptr null)
  %failed = icmp eq ptr %capsule, null
  br i1 %failed, label %out, label %hold
hold:
  call void @Py_IncRef(ptr %base)
  %set = call i32 @PyCapsule_SetContext(ptr %capsule, ptr %base)
  %own = call i32 @PyCapsule_SetDestructor(ptr %capsule, ptr @release_view)
  ret ptr %capsule
out:
  ret ptr null
}}

define internal ptr @view_history(ptr %x, ptr %history, ptr %edge, i64 %bytes) {{
entry:
  %is.base = icmp eq ptr %history, {NONE}
  br i1 %is.base, label %first, label %further
first:
  call void @Py_IncRef(ptr %x)
  call void @Py_IncRef(ptr %edge)
  %offset = call ptr @PyLong_FromSsize_t(i64 %bytes)
  br label %make
further:
  %none = icmp eq i64 %bytes, 0
  br i1 %none, label %same, label %moved
same:
  call void @Py_IncRef(ptr %history)
  ret ptr %history
moved:
  %base = call ptr @PyTuple_GetItem(ptr %history, i64 0)
  %start = call ptr @PyTuple_GetItem(ptr %history, i64 1)
  %then = call ptr @PyTuple_GetItem(ptr %history, i64 2)
  call void @Py_IncRef(ptr %base)
  call void @Py_IncRef(ptr %then)
  %start.bytes = call i64 @PyLong_AsSsize_t(ptr %start)
  %sum = add i64 %start.bytes, %bytes
  %total = call ptr @PyLong_FromSsize_t(i64 %sum)
  br label %make
make:
  %m.base = phi ptr [%x, %first], [%base, %moved]
  %m.offset = phi ptr [%offset, %first], [%total, %moved]
  %m.edge = phi ptr [%edge, %first], [%then, %moved]
  %no.offset = icmp eq ptr %m.offset, null
  br i1 %no.offset, label %drop, label %tuple
tuple:
  %made = call ptr @PyTuple_New(i64 3)
  %failed = icmp eq ptr %made, null
  br i1 %failed, label %drop.offset, label %fill
fill:
  %s0 = call i32 @PyTuple_SetItem(ptr %made, i64 0, ptr %m.base)
  %s1 = call i32 @PyTuple_SetItem(ptr %made, i64 1, ptr %m.offset)
  %s2 = call i32 @PyTuple_SetItem(ptr %made, i64 2, ptr %m.edge)
  ret ptr %made
drop.offset:
  call void @Py_DecRef(ptr %m.offset)
  br label %drop
drop:
  call void @Py_DecRef(ptr %m.base)
  call void @Py_DecRef(ptr %m.edge)
  ret ptr null
}}

define internal i1 @is_current(ptr %history) {{          ; does the base still have the edge the view knew?
  %is.base = icmp eq ptr %history, {NONE}
  br i1 %is.base, label %yes, label %compare
compare:
  %base = call ptr @PyTuple_GetItem(ptr %history, i64 0)
  %then = call ptr @PyTuple_GetItem(ptr %history, i64 2)
{field("%now", "%base", t["_node"], "ptr")}  %same = icmp eq ptr %now, %then
  ret i1 %same
yes:
  ret i1 true
}}

define internal i1 @records() {{                          ; does this thread record?
  %key = load i32, ptr @silent
  %off = call ptr @pthread_getspecific(i32 %key)
  %on = icmp eq ptr %off, null
  ret i1 %on
}}
"""


def tape(slots: Slots) -> str:
    """`tape`: give the result %out its node. Gives false with an exception set if there is no memory.

    objects, edges, cells: of the operands; a cell holds a converted number. mask: which have an edge.
    """
    t, n = slots.tensor, slots.node
    program = 8 * (len(RECORD) - 1)
    return f"""
define internal i1 @tape(
    ptr %record, ptr %owner, i64 %mask, ptr %out, ptr %objects, ptr %edges, ptr %cells) {{
entry:
  call void @Py_IncRef(ptr %owner)                       ; below, the collector may run, and forget all rows
{word("count", kind="i64")}{word("op")}\
  %program.number = mul i64 %mask, {8 * len(PROGRAM)}
  %program.at = add i64 %program.number, {program}
  %program = getelementptr i8, ptr %record, i64 %program.at
{field("%derivative", "%program", 0, "ptr")}{field("%places", "%program", 8, "ptr")}\
{field("%kept", "%program", 16)}  br label %own
own:
  %o = phi i64 [0, %entry], [%o.next, %own]
{at("ptr", "%edges", "%o", "%o.at")}  %o.edge = load ptr, ptr %o.at
  call void @Py_IncRef(ptr %o.edge)
  %o.next = add i64 %o, 1
  %o.more = icmp slt i64 %o.next, %count
  br i1 %o.more, label %own, label %owned
owned:
  %edge.tuple = call ptr @PyTuple_New(i64 %count)
  %no.edges = icmp eq ptr %edge.tuple, null
  br i1 %no.edges, label %disown, label %give.edges
disown:
  %d = phi i64 [0, %owned], [%d.next, %disown]
{at("ptr", "%edges", "%d", "%d.at")}  %d.edge = load ptr, ptr %d.at
  call void @Py_DecRef(ptr %d.edge)
  %d.next = add i64 %d, 1
  %d.more = icmp slt i64 %d.next, %count
  br i1 %d.more, label %disown, label %fail
give.edges:
  %g = phi i64 [0, %owned], [%g.next, %give.edges]
{at("ptr", "%edges", "%g", "%g.at")}  %g.edge = load ptr, ptr %g.at
  %g.set = call i32 @PyTuple_SetItem(ptr %edge.tuple, i64 %g, ptr %g.edge)
  %g.next = add i64 %g, 1
  %g.more = icmp slt i64 %g.next, %count
  br i1 %g.more, label %give.edges, label %what
what:
  %number = call i64 @llvm.ctpop.i64(i64 %kept)
  %nothing = icmp eq i64 %kept, 0
  br i1 %nothing, label %nothing.kept, label %tuples
nothing.kept:
  call void @Py_IncRef(ptr {NONE})
  call void @Py_IncRef(ptr @no_places)
  br label %node
tuples:
  %saved = call ptr @PyTuple_New(i64 %number)
  %no.saved = icmp eq ptr %saved, null
  br i1 %no.saved, label %drop.edges, label %tuple.two
tuple.two:
  %versions = call ptr @PyTuple_New(i64 %number)
  %no.versions = icmp eq ptr %versions, null
  br i1 %no.versions, label %drop.saved, label %places.loop
places.loop:
  %p = phi i64 [0, %tuple.two], [%p.next, %place.done]
  %slot = phi i64 [0, %tuple.two], [%slot.next, %place.done]
  %p.bit = shl i64 1, %p
  %p.in = and i64 %kept, %p.bit
  %p.skip = icmp eq i64 %p.in, 0
  br i1 %p.skip, label %place.done, label %place
place:
  %of.result = icmp eq i64 %p, {MOST_OPERANDS}
  br i1 %of.result, label %result, label %operand
result:
{field("%r.storage", "%out", t["_storage"], "ptr")}{field("%r.type", "%out", t["_type"], "ptr")}\
  %r.alias = call ptr @alias(ptr %r.storage, ptr %r.type, ptr {NONE})
  br label %item
operand:
{at("ptr", "%objects", "%p", "%x.at")}  %x = load ptr, ptr %x.at
  %meant.number = add i64 %p, {RECORD.index("type0")}
{at("ptr", "%record", "%meant.number", "%meant.at")}  %meant = load ptr, ptr %meant.at
  %as.is = icmp eq ptr %meant, null
  br i1 %as.is, label %tensor.item, label %other.item
other.item:
{field("%x.class", "%x", HEAD - 8, "ptr")}  %is.float = icmp eq ptr %x.class, @PyFloat_Type
  %is.int = icmp eq ptr %x.class, @PyLong_Type
  %is.number = or i1 %is.float, %is.int
  br i1 %is.number, label %number.item, label %spread.item
spread.item:                                             ; a tensor with no edge, of the type it is read with
{field("%b.storage", "%x", t["_storage"], "ptr")}\
  %b.alias = call ptr @alias(ptr %b.storage, ptr %meant, ptr {NONE})
  br label %item
number.item:                                             ; a tensor of the one element that the kernel read
  %n.storage = call ptr @new_storage(i64 8)
  %n.none = icmp eq ptr %n.storage, null
  br i1 %n.none, label %drop.versions, label %number.fill
number.fill:
{field("%n.data", "%n.storage", HEAD, "ptr")}{at("i64", "%cells", "%p", "%n.cell")}\
  %n.value = load i64, ptr %n.cell
  store i64 %n.value, ptr %n.data
  %n.alias = call ptr @alias(ptr %n.storage, ptr %meant, ptr {NONE})
  call void @Py_DecRef(ptr %n.storage)
  br label %item
tensor.item:
{field("%x.view", "%x", t["_view"], "ptr")}  %x.base = icmp eq ptr %x.view, {NONE}
  br i1 %x.base, label %itself, label %showing
itself:
  call void @Py_IncRef(ptr %x)
  br label %item
showing:                                                 ; a view knows its base, which may get a later node
{field("%v.storage", "%x", t["_storage"], "ptr")}{field("%v.type", "%x", t["_type"], "ptr")}\
{field("%v.edge", "%x", t["_node"], "ptr")}\
  %v.alias = call ptr @alias(ptr %v.storage, ptr %v.type, ptr %v.edge)
  br label %item
item:
  %kept.one = phi ptr [%r.alias, %result], [%n.alias, %number.fill], [%x, %itself], \
[%v.alias, %showing], [%b.alias, %spread.item]
  %no.item = icmp eq ptr %kept.one, null
  br i1 %no.item, label %drop.versions, label %version
version:
  %item.set = call i32 @PyTuple_SetItem(ptr %saved, i64 %slot, ptr %kept.one)
{field("%item.storage", "%kept.one", t["_storage"], "ptr")}\
  %header = call ptr @header_of(ptr %item.storage)
{field("%version.now", "%header", VERSION)}  %version.object = call ptr @PyLong_FromSsize_t(i64 %version.now)
  %no.version = icmp eq ptr %version.object, null
  br i1 %no.version, label %drop.versions, label %version.ok
version.ok:
  %version.set = call i32 @PyTuple_SetItem(ptr %versions, i64 %slot, ptr %version.object)
  %slot.up = add i64 %slot, 1
  br label %place.done
place.done:
  %slot.next = phi i64 [%slot, %places.loop], [%slot.up, %version.ok]
  %p.next = add i64 %p, 1
  %p.more = icmp sle i64 %p.next, {MOST_OPERANDS}
  br i1 %p.more, label %places.loop, label %node
node:
  %its.saved = phi ptr [{NONE}, %nothing.kept], [%saved, %place.done]
  %its.versions = phi ptr [@no_places, %nothing.kept], [%versions, %place.done]
  %order = call ptr @PyIter_Next(ptr @numbers)
  %no.order = icmp eq ptr %order, null
  br i1 %no.order, label %drop.both, label %node.new
node.new:
  %node.made = call ptr @PyType_GenericAlloc(ptr @node, i64 0)
  %no.node = icmp eq ptr %node.made, null
  br i1 %no.node, label %drop.order, label %node.fill
node.fill:
{put("ptr", "%order", "%node.made", n["number"], "f0")}{keep(NONE, "%node.made", n["hooks"], "f1")}\
{keep(NONE, "%node.made", n["retained"], "f2")}{keep("%op", "%node.made", n["op"], "f3")}\
{keep("%derivative", "%node.made", n["program"], "f4")}\
{put("ptr", "%edge.tuple", "%node.made", n["edges"], "f5")}\
{keep("%places", "%node.made", n["kept"], "f6")}{put("ptr", "%its.saved", "%node.made", n["saved"], "f7")}\
{put("ptr", "%its.versions", "%node.made", n["versions"], "f8")}\
{put("ptr", "%node.made", "%out", t["_node"], "f9")}  call void @Py_DecRef(ptr {NONE})
  call void @Py_DecRef(ptr %owner)
  ret i1 true
drop.order:
  call void @Py_DecRef(ptr %order)
  br label %drop.both
drop.both:
  call void @Py_DecRef(ptr %its.saved)
  call void @Py_DecRef(ptr %its.versions)
  br label %drop.edges
drop.versions:
  call void @Py_DecRef(ptr %versions)
  br label %drop.saved
drop.saved:
  call void @Py_DecRef(ptr %saved)
  br label %drop.edges
drop.edges:
  call void @Py_DecRef(ptr %edge.tuple)
  br label %fail
fail:
  call void @Py_DecRef(ptr %owner)
  ret i1 false
}}
"""
