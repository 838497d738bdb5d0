"""The LLVM IR that makes what dispatch gives back: tensors, views with their history, and tape nodes.

Every failure drops what it made. Whatever allocates may run the collector, and with it any Python: what is
still needed after that is owned before.
"""

from __future__ import annotations

from .dispatch_layout import (
    ALIGNED,
    MOST_OPERANDS,
    NONE,
    PROGRAM,
    RECORD,
    Slots,
    at,
    calls,
    entry,
    keep,
    word,
)
from .storage_ir import HEAD, NBYTES, VERSION, field, put


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
    """`view_storage`: a capsule some bytes further. `view_history`: what `_view` of a view of %x holds.
    `is_current`, `records`: see there."""
    return _VIEW_STORAGE + _VIEW_HISTORY + _is_current(slots) + _RECORDS


_VIEW_STORAGE = f"""
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
"""

_VIEW_HISTORY = f"""
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
"""


def _is_current(slots: Slots) -> str:
    return f"""
define internal i1 @is_current(ptr %history) {{          ; does the base still have the edge the view knew?
  %is.base = icmp eq ptr %history, {NONE}
  br i1 %is.base, label %yes, label %compare
compare:
  %base = call ptr @PyTuple_GetItem(ptr %history, i64 0)
  %then = call ptr @PyTuple_GetItem(ptr %history, i64 2)
{field("%now", "%base", slots.tensor["_node"], "ptr")}  %same = icmp eq ptr %now, %then
  ret i1 %same
yes:
  ret i1 true
}}
"""


_RECORDS = """
define internal i1 @records() {                          ; does this thread record?
  %key = load i32, ptr @silent
  %off = call ptr @pthread_getspecific(i32 %key)
  %on = icmp eq ptr %off, null
  ret i1 %on
}
"""


def overwriting(slots: Slots) -> str:
    """`may_overwrite`: whether a result may be written over %target while %other is read. `may_write`:
    whether writing to %target needs nothing of the tape. `bump`: the next version of a storage."""
    t = slots.tensor
    return f"""
define internal i1 @may_overwrite(ptr %target, ptr %other, i64 %flags, ptr %type, ptr %other.type) {{
entry:
{field("%kind", "%target", HEAD - 8, "ptr")}  %eager = icmp eq ptr %kind, @PyCapsule_Type
  br i1 %eager, label %ask, label %no
ask:
{field("%other.kind", "%other", HEAD - 8, "ptr")}  %is.storage = icmp eq ptr %other.kind, @PyCapsule_Type
  br i1 %is.storage, label %aligned, label %yes
aligned:                                                 ; each element is read before it is written
{field("%here", "%target", HEAD)}{field("%there", "%other", HEAD)}  %same.place = icmp eq i64 %here, %there
  %same.type = icmp eq ptr %type, %other.type
  %aligned.flag = and i64 %flags, {ALIGNED}
  %is.aligned = icmp ne i64 %aligned.flag, 0
  %a.0 = and i1 %same.place, %same.type
  %a.1 = and i1 %a.0, %is.aligned
  br i1 %a.1, label %yes, label %apart
apart:                                                   ; or the blocks of memory have nothing in common
  %base = call ptr @base_of(ptr %target)
  %other.base = call ptr @base_of(ptr %other)
{field("%start", "%base", HEAD)}{field("%other.start", "%other.base", HEAD)}\
  %header = call ptr @header_of(ptr %target)
  %other.header = call ptr @header_of(ptr %other)
{field("%size", "%header", NBYTES)}{field("%other.size", "%other.header", NBYTES)}\
  %end = add i64 %start, %size
  %other.end = add i64 %other.start, %other.size
  %before = icmp ule i64 %end, %other.start
  %behind = icmp ule i64 %other.end, %start
  %separate = or i1 %before, %behind
  br i1 %separate, label %yes, label %no
yes:
  ret i1 true
no:
  ret i1 false
}}

define internal i1 @may_write(ptr %target) {{
entry:
  %on = call i1 @records()
  br i1 %on, label %ask, label %yes
ask:
{field("%edge", "%target", t["_node"], "ptr")}  %no.edge = icmp eq ptr %edge, {NONE}
  br i1 %no.edge, label %ask.base, label %no
ask.base:
{field("%history", "%target", t["_view"], "ptr")}  %is.base = icmp eq ptr %history, {NONE}
  br i1 %is.base, label %yes, label %look
look:
  %base = call ptr @PyTuple_GetItem(ptr %history, i64 0)
{field("%base.edge", "%base", t["_node"], "ptr")}  %no.base.edge = icmp eq ptr %base.edge, {NONE}
  ret i1 %no.base.edge
yes:
  ret i1 true
no:
  ret i1 false
}}

define internal void @bump(ptr %storage) {{
  %header = call ptr @header_of(ptr %storage)
{field("%old", "%header", VERSION)}  %new = add i64 %old, 1
{put("i64", "%new", "%header", VERSION, "bumped")}  ret void
}}
"""


def tape(slots: Slots) -> str:
    """`tape`: give the result %out its node. Gives false with an exception set if there is no memory. The
    collector may run, and forget all rows: the caller holds the record.

    objects, edges: of the operands. mask: which have an edge.
    """
    return _OWNED_TUPLE + _kept(slots) + _version(slots) + _VERSIONS + _KEEP_ALL + _tape(slots)


# A tuple of these objects, or null; either way new references to them are made, and used up.
_OWNED_TUPLE = f"""
define internal ptr @owned_tuple(ptr %objects, i64 %count) {{
entry:
  br label %own
own:
  %o = phi i64 [0, %entry], [%o.next, %own]
{entry("%objects", "%o", "%owned")}  call void @Py_IncRef(ptr %owned)
  %o.next = add i64 %o, 1
  %o.more = icmp slt i64 %o.next, %count
  br i1 %o.more, label %own, label %make
make:
  %made = call ptr @PyTuple_New(i64 %count)
  %failed = icmp eq ptr %made, null
  br label %use
use:
  %u = phi i64 [0, %make], [%u.next, %used]
{entry("%objects", "%u", "%object")}  br i1 %failed, label %drop, label %put
drop:
  call void @Py_DecRef(ptr %object)
  br label %used
put:
  %set = call i32 @PyTuple_SetItem(ptr %made, i64 %u, ptr %object)
  br label %used
used:
  %u.next = add i64 %u, 1
  %u.more = icmp slt i64 %u.next, %count
  br i1 %u.more, label %use, label %out
out:
  ret ptr %made
}}
"""


def _kept(slots: Slots) -> str:
    """`kept`: what a node keeps of operand %p, or of the result; `kept_tensor`: of a tensor. A new reference,
    or null."""
    t = slots.tensor
    return f"""
define internal ptr @kept_tensor(ptr %x) {{
entry:
{field("%history", "%x", t["_view"], "ptr")}  %is.base = icmp eq ptr %history, {NONE}
  br i1 %is.base, label %itself, label %shown
itself:
  call void @Py_IncRef(ptr %x)
  ret ptr %x
shown:                                                   ; a view knows its base, which may get a later node
{field("%storage", "%x", t["_storage"], "ptr")}{field("%type", "%x", t["_type"], "ptr")}\
{field("%edge", "%x", t["_node"], "ptr")}\
  %alias = call ptr @alias(ptr %storage, ptr %type, ptr %edge)
  ret ptr %alias
}}

define internal ptr @kept(ptr %record, i64 %p, ptr %objects, ptr %out) {{
entry:
  %of.result = icmp eq i64 %p, {MOST_OPERANDS}
  br i1 %of.result, label %result, label %operand
result:                                                  ; its storage: the tensor would lead back to the node
{field("%made", "%out", t["_storage"], "ptr")}  call void @Py_IncRef(ptr %made)
  ret ptr %made
operand:
{entry("%objects", "%p", "%x")}  %meant.number = add i64 %p, {RECORD.index("type0")}
{entry("%record", "%meant.number", "%meant")}  %as.is = icmp eq ptr %meant, null
  br i1 %as.is, label %tensor, label %other
other:
{field("%class", "%x", HEAD - 8, "ptr")}  %is.float = icmp eq ptr %class, @PyFloat_Type
  %is.int = icmp eq ptr %class, @PyLong_Type
  %is.number = or i1 %is.float, %is.int
  br i1 %is.number, label %itself, label %spread
itself:
  call void @Py_IncRef(ptr %x)
  ret ptr %x
spread:                                                  ; read as another type, and with no edge
{field("%elements", "%x", t["_storage"], "ptr")}  call void @Py_IncRef(ptr %elements)
  ret ptr %elements
tensor:
  %its = call ptr @kept_tensor(ptr %x)
  ret ptr %its
}}
"""


def _version(slots: Slots) -> str:
    """`version_of`: of what a node keeps, a tensor, a storage or a number, which has none."""
    return f"""
define internal i64 @version_of(ptr %item) {{
entry:
{field("%class", "%item", HEAD - 8, "ptr")}  %is.float = icmp eq ptr %class, @PyFloat_Type
  %is.int = icmp eq ptr %class, @PyLong_Type
  %is.number = or i1 %is.float, %is.int
  br i1 %is.number, label %number, label %memory
number:
  ret i64 0
memory:
  %is.storage = icmp eq ptr %class, @PyCapsule_Type
  br i1 %is.storage, label %read, label %tensor
tensor:
{field("%its", "%item", slots.tensor["_storage"], "ptr")}  br label %read
read:
  %storage = phi ptr [%item, %memory], [%its, %tensor]
  %header = call ptr @header_of(ptr %storage)
{field("%version", "%header", VERSION)}  ret i64 %version
}}
"""


# The versions of these as a new tuple, or null. Versions that are all zero, as they mostly are, of as few as
# a node of an op keeps, are one of the tuples in @zeros.
_VERSIONS = f"""
define internal ptr @versions_of(ptr %items, i64 %count) {{
entry:
  %few = icmp sle i64 %count, {MOST_OPERANDS + 1}
  br i1 %few, label %look, label %make
look:
  %i = phi i64 [0, %entry], [%i.next, %look.one]
  %i.more = icmp slt i64 %i, %count
  br i1 %i.more, label %look.one, label %zeros
look.one:
{entry("%items", "%i", "%first")}  %version = call i64 @version_of(ptr %first)
  %i.next = add i64 %i, 1
  %unwritten = icmp eq i64 %version, 0
  br i1 %unwritten, label %look, label %make
zeros:
  %zero.tuple = call ptr @PyTuple_GetItem(ptr @zeros, i64 %count)
  call void @Py_IncRef(ptr %zero.tuple)
  ret ptr %zero.tuple
make:
  %made = call ptr @PyTuple_New(i64 %count)
  %failed = icmp eq ptr %made, null
  br i1 %failed, label %none, label %each
each:
  %k = phi i64 [0, %make], [%k.next, %put]
  %k.more = icmp slt i64 %k, %count
  br i1 %k.more, label %one, label %done
one:
{entry("%items", "%k", "%item")}  %its.version = call i64 @version_of(ptr %item)
  %number = call ptr @PyLong_FromSsize_t(i64 %its.version)
  %no.number = icmp eq ptr %number, null
  br i1 %no.number, label %drop, label %put
put:
  %set = call i32 @PyTuple_SetItem(ptr %made, i64 %k, ptr %number)
  %k.next = add i64 %k, 1
  br label %each
done:
  ret ptr %made
drop:
  call void @Py_DecRef(ptr %made)
  br label %none
none:
  ret ptr null
}}
"""

# What a node keeps, and their versions, as two new tuples; false with an exception set if there is no memory.
_KEEP_ALL = f"""
define internal i1 @keep_all(ptr %record, i64 %places, ptr %objects, ptr %out, ptr %results) {{
entry:
  %items = alloca [{MOST_OPERANDS + 1} x ptr]
  %number = call i64 @llvm.ctpop.i64(i64 %places)
  %saved = call ptr @PyTuple_New(i64 %number)
  %no.saved = icmp eq ptr %saved, null
  br i1 %no.saved, label %fail, label %loop
loop:
  %p = phi i64 [0, %entry], [%p.next, %done]
  %slot = phi i64 [0, %entry], [%slot.next, %done]
  %p.bit = shl i64 1, %p
  %p.in = and i64 %places, %p.bit
  %p.skip = icmp eq i64 %p.in, 0
  br i1 %p.skip, label %done, label %place
place:
  %item = call ptr @kept(ptr %record, i64 %p, ptr %objects, ptr %out)
  %no.item = icmp eq ptr %item, null
  br i1 %no.item, label %drop, label %put
put:
  %set = call i32 @PyTuple_SetItem(ptr %saved, i64 %slot, ptr %item)
{at("ptr", "%items", "%slot", "%item.at")}  store ptr %item, ptr %item.at
  %slot.up = add i64 %slot, 1
  br label %done
done:
  %slot.next = phi i64 [%slot, %loop], [%slot.up, %put]
  %p.next = add i64 %p, 1
  %p.more = icmp sle i64 %p.next, {MOST_OPERANDS}
  br i1 %p.more, label %loop, label %all
all:
  %versions = call ptr @versions_of(ptr %items, i64 %number)
  %no.versions = icmp eq ptr %versions, null
  br i1 %no.versions, label %drop, label %give
give:
  store ptr %saved, ptr %results
  %second = getelementptr i8, ptr %results, i64 8
  store ptr %versions, ptr %second
  ret i1 true
drop:
  call void @Py_DecRef(ptr %saved)
  br label %fail
fail:
  ret i1 false
}}
"""


def _tape(slots: Slots) -> str:
    t, n = slots.tensor, slots.node
    program = 8 * (len(RECORD) - 1)
    return f"""
define internal i1 @tape(ptr %record, i64 %mask, ptr %out, ptr %objects, ptr %edges) {{
entry:
  %results = alloca [2 x ptr]
{word("count", kind="i64")}\
  %program.number = mul i64 %mask, {8 * len(PROGRAM)}
  %program.at = add i64 %program.number, {program}
  %program = getelementptr i8, ptr %record, i64 %program.at
{field("%recorded", "%program", 0, "ptr")}{field("%kept", "%program", 8)}\
  %edge.tuple = call ptr @owned_tuple(ptr %edges, i64 %count)
  %no.edges = icmp eq ptr %edge.tuple, null
  br i1 %no.edges, label %fail, label %what
what:
  %nothing = icmp eq i64 %kept, 0
  br i1 %nothing, label %none, label %some
none:
  %empty = call ptr @PyTuple_GetItem(ptr @zeros, i64 0)
{calls("Py_IncRef", NONE, "%empty")}  br label %node
some:
  %ok = call i1 @keep_all(ptr %record, i64 %kept, ptr %objects, ptr %out, ptr %results)
  br i1 %ok, label %some.kept, label %drop.edges
some.kept:
{entry("%results", 0, "%some.saved")}{entry("%results", 1, "%some.versions")}  br label %node
node:
  %its.saved = phi ptr [{NONE}, %none], [%some.saved, %some.kept]
  %its.versions = phi ptr [%empty, %none], [%some.versions, %some.kept]
  %order = call ptr @PyIter_Next(ptr @numbers)
  %no.order = icmp eq ptr %order, null
  br i1 %no.order, label %drop.both, label %node.new
node.new:
  %node.made = call ptr @PyType_GenericAlloc(ptr @node, i64 0)
  %no.node = icmp eq ptr %node.made, null
  br i1 %no.node, label %drop.order, label %node.fill
node.fill:
{put("ptr", "%order", "%node.made", n["number"], "f0")}{keep(NONE, "%node.made", n["hooks"], "f1")}\
{keep(NONE, "%node.made", n["retained"], "f2")}{keep("%recorded", "%node.made", n["recorded"], "f3")}\
{put("ptr", "%edge.tuple", "%node.made", n["edges"], "f5")}\
{put("ptr", "%its.saved", "%node.made", n["saved"], "f7")}\
{put("ptr", "%its.versions", "%node.made", n["versions"], "f8")}\
{put("ptr", "%node.made", "%out", t["_node"], "f9")}{calls("Py_DecRef", NONE)}\
  ret i1 true
drop.order:
  call void @Py_DecRef(ptr %order)
  br label %drop.both
drop.both:
{calls("Py_DecRef", "%its.saved", "%its.versions")}  br label %drop.edges
drop.edges:
  call void @Py_DecRef(ptr %edge.tuple)
  br label %fail
fail:
  ret i1 false
}}
"""
