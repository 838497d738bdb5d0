"""The LLVM IR of the queue of a backward: cotangents that wait at places in the tape.

A queue has a slot per edge with the sum of what it has received, a heap of those that still have to be passed
on (the greatest number first), and a hash table from edges to slots. It is a capsule, and used by one thread.
"""

from __future__ import annotations

from .dispatch_find_ir import NEXT_PLACE, SCATTER
from .dispatch_layout import NONE, Slots, as_index, at, calls, entry
from .storage_ir import HEAD, field, put

#: Bytes of a slot: edge, cotangent, whether it is owned, number. Slots that a queue begins with.
_SLOT, _FIRST = 32, 64
#: Words of a queue: slots in use, length of the heap, room for slots, and the block with all of it.
_USED, _HEAP, _ROOM, _BLOCK = range(0, 32, 8)
_QUEUE_BYTES = 32


def queues(slots: Slots) -> str:
    """All of this file."""
    return "".join((
        "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)\n",
        '@queue_name = constant [17 x i8] c"vitrify.backward\\00"\n',
        _BLOCKS, _LOOKUP, _GROW, _slot_of(slots), _HEAP_UP, _HEAP_DOWN, _FREE, _NEW, _PUT, _ADD,
        _BUILTINS,
    ))  # fmt: skip


def place(name: str, base: str, index: str, size: int = 8) -> str:
    """%name = the address of an element of so many bytes."""
    offset = f"  {name}.offset = mul i64 {index}, {size}\n"
    return offset + f"  {name} = getelementptr i8, ptr {base}, i64 {name}.offset\n"


_ARRAYS = f"""{field("%room", "%queue", _ROOM)}{field("%slots", "%queue", _BLOCK, "ptr")}\
{place("%heap", "%slots", "%room", _SLOT)}{place("%map", "%heap", "%room")}"""

# A block has room for slots, their heap, and a hash table of twice as many words (a slot's number plus one).
_BLOCKS = f"""
define internal ptr @queue_block(i64 %room) {{
entry:
  %bytes = mul i64 %room, {_SLOT + 8 + 16}
  %block = call ptr @PyMem_RawMalloc(i64 %bytes)
  %failed = icmp eq ptr %block, null
  br i1 %failed, label %out, label %clear
clear:
{place("%map", "%block", "%room", _SLOT + 8)}  %map.bytes = mul i64 %room, 16
  call void @llvm.memset.p0.i64(ptr %map, i8 0, i64 %map.bytes, i1 false)
  br label %out
out:
  ret ptr %block
}}
"""

# Where the hash table has the edge, or could take it in.
_LOOKUP = f"""
define internal ptr @queue_place(ptr %slots, ptr %map, i64 %room, ptr %edge) {{
entry:
  %twice = shl i64 %room, 1
  %mask = sub i64 %twice, 1
  %address = ptrtoint ptr %edge to i64
  %scattered = mul i64 %address, {SCATTER - (1 << 64)}
  %high = lshr i64 %scattered, 32
  %first = and i64 %high, %mask
  br label %look
look:
  %i = phi i64 [%first, %entry], [%next, %other]
{at("i64", "%map", "%i", "%here")}  %number = load i64, ptr %here
  %free = icmp eq i64 %number, 0
  br i1 %free, label %out, label %compare
compare:
  %index = sub i64 %number, 1
{place("%slot", "%slots", "%index", _SLOT)}  %its = load ptr, ptr %slot
  %same = icmp eq ptr %its, %edge
  br i1 %same, label %out, label %other
{NEXT_PLACE}out:
  ret ptr %here
}}
"""


_GROW = f"""
define internal i1 @queue_grow(ptr %queue) {{                ; room for twice as many slots
entry:
{_ARRAYS}{field("%used", "%queue", _USED)}{field("%length", "%queue", _HEAP)}\
  %more = shl i64 %room, 1
  %block = call ptr @queue_block(i64 %more)
  %failed = icmp eq ptr %block, null
  br i1 %failed, label %no, label %copy
copy:
  %slots.bytes = mul i64 %used, {_SLOT}
  call void @llvm.memcpy.p0.p0.i64(ptr %block, ptr %slots, i64 %slots.bytes, i1 false)
{place("%heap.new", "%block", "%more", _SLOT)}{place("%map.new", "%heap.new", "%more")}\
  %heap.bytes = mul i64 %length, 8
  call void @llvm.memcpy.p0.p0.i64(ptr %heap.new, ptr %heap, i64 %heap.bytes, i1 false)
  br label %loop
loop:
  %i = phi i64 [0, %copy], [%i.next, %one]
  %again = icmp slt i64 %i, %used
  br i1 %again, label %one, label %done
one:
{place("%slot", "%block", "%i", _SLOT)}  %edge = load ptr, ptr %slot
  %place = call ptr @queue_place(ptr %block, ptr %map.new, i64 %more, ptr %edge)
  %i.next = add i64 %i, 1
  store i64 %i.next, ptr %place
  br label %loop
done:
  call void @PyMem_RawFree(ptr %slots)
{put("i64", "%more", "%queue", _ROOM, "room.new")}\
{put("ptr", "%block", "%queue", _BLOCK, "block.new")}  ret i1 true
no:
  %null = call ptr @PyErr_NoMemory()
  ret i1 false
}}
"""


def _slot_of(slots: Slots) -> str:
    """`queue_slot`: the slot of an edge, made if there is none; null if there is no memory."""
    return f"""
define internal ptr @queue_slot(ptr %queue, ptr %edge) {{
entry:
{field("%used", "%queue", _USED)}{field("%room.now", "%queue", _ROOM)}\
  %full = icmp eq i64 %used, %room.now
  br i1 %full, label %grow, label %look
grow:
  %grown = call i1 @queue_grow(ptr %queue)
  br i1 %grown, label %look, label %no
look:
{_ARRAYS}  %place = call ptr @queue_place(ptr %slots, ptr %map, i64 %room, ptr %edge)
  %number = load i64, ptr %place
  %absent = icmp eq i64 %number, 0
  br i1 %absent, label %make, label %found
found:
  %index = sub i64 %number, 1
{place("%old", "%slots", "%index", _SLOT)}  ret ptr %old
make:
{field("%order", "%edge", slots.node["number"], "ptr")}{as_index("%value", "%order")}\
  %after = add i64 %used, 1
  store i64 %after, ptr %place
{put("i64", "%after", "%queue", _USED, "used.new")}{place("%new", "%slots", "%used", _SLOT)}\
  call void @Py_IncRef(ptr %edge)
  store ptr %edge, ptr %new
{put("ptr", "null", "%new", 8, "ct")}{put("i64", "0", "%new", 16, "owned")}\
{put("i64", "%value", "%new", 24, "number")}  ret ptr %new
no:
  ret ptr null
}}
"""


def _number_of(name: str, index: str) -> str:
    return place(f"{name}.slot", "%slots", index, _SLOT) + field(name, f"{name}.slot", 24)


# Put a slot into the heap: it rises while its number is above its parent's.
_HEAP_UP = f"""
define internal void @queue_push(ptr %queue, ptr %slot) {{
entry:
{_ARRAYS}{field("%length", "%queue", _HEAP)}  %from = ptrtoint ptr %slots to i64
  %to = ptrtoint ptr %slot to i64
  %distance = sub i64 %to, %from
  %index = udiv i64 %distance, {_SLOT}
{field("%number", "%slot", 24)}  %longer = add i64 %length, 1
{put("i64", "%longer", "%queue", _HEAP, "length.new")}  br label %rise
rise:
  %i = phi i64 [%length, %entry], [%parent, %move]
  %top = icmp eq i64 %i, 0
  br i1 %top, label %settle, label %compare
compare:
  %less = sub i64 %i, 1
  %parent = lshr i64 %less, 1
{entry("%heap", "%parent", "%its.index", "i64")}{_number_of("%its", "%its.index")}\
  %above = icmp sgt i64 %number, %its
  br i1 %above, label %move, label %settle
move:
{at("i64", "%heap", "%i", "%i.at")}  store i64 %its.index, ptr %i.at
  br label %rise
settle:
{at("i64", "%heap", "%i", "%last.at")}  store i64 %index, ptr %last.at
  ret void
}}
"""

# Take the slot with the greatest number out of the heap; null if that is empty.
_HEAP_DOWN = f"""
define internal ptr @queue_pop(ptr %queue) {{
entry:
{_ARRAYS}{field("%length", "%queue", _HEAP)}  %empty = icmp eq i64 %length, 0
  br i1 %empty, label %none, label %take
take:
  %first.index = load i64, ptr %heap
{place("%first", "%slots", "%first.index", _SLOT)}  %left = sub i64 %length, 1
{put("i64", "%left", "%queue", _HEAP, "length.new")}{entry("%heap", "%left", "%last.index", "i64")}\
{_number_of("%last", "%last.index")}  br label %sink
sink:
  %i = phi i64 [0, %take], [%child, %move]
  %twice = shl i64 %i, 1
  %a = add i64 %twice, 1
  %b = add i64 %twice, 2
  %has.a = icmp slt i64 %a, %left
  br i1 %has.a, label %first.child, label %settle
first.child:
{entry("%heap", "%a", "%a.index", "i64")}{_number_of("%a.number", "%a.index")}\
  %has.b = icmp slt i64 %b, %left
  br i1 %has.b, label %second.child, label %which
second.child:
{entry("%heap", "%b", "%b.index", "i64")}{_number_of("%b.number", "%b.index")}\
  %b.greater = icmp sgt i64 %b.number, %a.number
  br label %which
which:
  %take.b = phi i1 [false, %first.child], [%b.greater, %second.child]
  %b.index.or = phi i64 [0, %first.child], [%b.index, %second.child]
  %b.number.or = phi i64 [0, %first.child], [%b.number, %second.child]
  %child = select i1 %take.b, i64 %b, i64 %a
  %child.index = select i1 %take.b, i64 %b.index.or, i64 %a.index
  %child.number = select i1 %take.b, i64 %b.number.or, i64 %a.number
  %above = icmp sgt i64 %child.number, %last
  br i1 %above, label %move, label %settle
move:
{at("i64", "%heap", "%i", "%i.at")}  store i64 %child.index, ptr %i.at
  br label %sink
settle:
{at("i64", "%heap", "%i", "%end.at")}  store i64 %last.index, ptr %end.at
  ret ptr %first
none:
  ret ptr null
}}
"""

# What a queue holds goes with its capsule.
_FREE = f"""
define internal void @queue_free(ptr %capsule) {{
entry:
{field("%queue", "%capsule", HEAD, "ptr")}{field("%used", "%queue", _USED)}\
{field("%slots", "%queue", _BLOCK, "ptr")}\
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%i.next, %one]
  %more = icmp slt i64 %i, %used
  br i1 %more, label %one, label %done
one:
{place("%slot", "%slots", "%i", _SLOT)}  %edge = load ptr, ptr %slot
{field("%ct", "%slot", 8, "ptr")}{calls("Py_DecRef", "%edge", "%ct")}  %i.next = add i64 %i, 1
  br label %loop
done:
  call void @PyMem_RawFree(ptr %slots)
  call void @PyMem_RawFree(ptr %queue)
  ret void
}}
"""

# METH_NOARGS: a queue without anything.
_NEW = f"""
define ptr @queue_new(ptr %self, ptr %nothing) {{
entry:
  %queue = call ptr @PyMem_RawMalloc(i64 {_QUEUE_BYTES})
  %no.queue = icmp eq ptr %queue, null
  br i1 %no.queue, label %memory, label %block
block:
  %slots = call ptr @queue_block(i64 {_FIRST})
  %no.slots = icmp eq ptr %slots, null
  br i1 %no.slots, label %drop, label %fill
fill:
{put("i64", "0", "%queue", _USED, "used")}{put("i64", "0", "%queue", _HEAP, "heap")}\
{put("i64", str(_FIRST), "%queue", _ROOM, "room")}{put("ptr", "%slots", "%queue", _BLOCK, "block")}\
  %capsule = call ptr @PyCapsule_New(ptr %queue, ptr @queue_name, ptr @queue_free)
  %no.capsule = icmp eq ptr %capsule, null
  br i1 %no.capsule, label %drop.both, label %done
done:
  ret ptr %capsule
drop.both:
  call void @PyMem_RawFree(ptr %slots)
  call void @PyMem_RawFree(ptr %queue)
  ret ptr null
drop:
  call void @PyMem_RawFree(ptr %queue)
  br label %memory
memory:
  %null = call ptr @PyErr_NoMemory()
  ret ptr null
}}
"""


def _own_slot(then: str) -> str:
    """%slot: of the edge, made if there is none; go on at a label if there was memory for that."""
    return f"""  %slot = call ptr @queue_slot(ptr %queue, ptr %edge)
  %none = icmp eq ptr %slot, null
  br i1 %none, label %no, label %{then}
{then}:
"""


# Let a cotangent wait at an edge, in place of what did.
_PUT = f"""
define internal i1 @queue_put(ptr %queue, ptr %edge, ptr %ct, i64 %owned) {{
entry:
{_own_slot("set")}  call void @Py_IncRef(ptr %ct)
{field("%before", "%slot", 8, "ptr")}{put("ptr", "%ct", "%slot", 8, "ct")}\
{put("i64", "%owned", "%slot", 16, "own")}\
  %first = icmp eq ptr %before, null
  br i1 %first, label %push, label %drop
push:
  call void @queue_push(ptr %queue, ptr %slot)
  ret i1 true
drop:
  call void @Py_DecRef(ptr %before)
  ret i1 true
no:
  ret i1 false
}}
"""

# Add a cotangent to what waits at an edge.
_ADD = f"""
define internal i1 @queue_add(ptr %queue, ptr %edge, ptr %ct, i64 %owned) {{
entry:
{_own_slot("ask")}{field("%before", "%slot", 8, "ptr")}  %first = icmp eq ptr %before, null
  br i1 %first, label %put, label %add
put:
  %ok = call i1 @queue_put(ptr %queue, ptr %edge, ptr %ct, i64 %owned)
  ret i1 %ok
add:
  %sum = call ptr @apply2(ptr @add, ptr %before, ptr %ct)
  %failed = icmp eq ptr %sum, null
  br i1 %failed, label %no, label %set
set:
  %set.ok = call i1 @queue_put(ptr %queue, ptr %edge, ptr %sum, i64 1)
  call void @Py_DecRef(ptr %sum)
  ret i1 %set.ok
no:
  ret i1 false
}}
"""

# METH_FASTCALL: deliver(queue, edge, cotangent, owned, add), and at(queue, edge): what waits there, or None.
_BUILTINS = f"""
define ptr @queue_deliver(ptr %self, ptr %args, i64 %n) {{
entry:
  %capsule = load ptr, ptr %args
{entry("%args", 1, "%edge")}{entry("%args", 2, "%ct")}{entry("%args", 3, "%owned.object")}\
{entry("%args", 4, "%add.object")}{field("%queue", "%capsule", HEAD, "ptr")}\
  %is.owned = icmp eq ptr %owned.object, @_Py_TrueStruct
  %owned = zext i1 %is.owned to i64
  %adds = icmp eq ptr %add.object, @_Py_TrueStruct
  br i1 %adds, label %add, label %put
add:
  %added = call i1 @queue_add(ptr %queue, ptr %edge, ptr %ct, i64 %owned)
  br label %did
put:
  %set = call i1 @queue_put(ptr %queue, ptr %edge, ptr %ct, i64 %owned)
  br label %did
did:
  %ok = phi i1 [%added, %add], [%set, %put]
  br i1 %ok, label %good, label %error
good:
  call void @Py_IncRef(ptr {NONE})
  ret ptr {NONE}
error:
  ret ptr null
}}

define ptr @queue_at(ptr %self, ptr %args, i64 %n) {{
entry:
  %capsule = load ptr, ptr %args
{entry("%args", 1, "%edge")}{field("%queue", "%capsule", HEAD, "ptr")}{_ARRAYS}\
  %place = call ptr @queue_place(ptr %slots, ptr %map, i64 %room, ptr %edge)
  %number = load i64, ptr %place
  %absent = icmp eq i64 %number, 0
  br i1 %absent, label %none, label %found
found:
  %index = sub i64 %number, 1
{place("%slot", "%slots", "%index", _SLOT)}{field("%ct", "%slot", 8, "ptr")}  %taken = icmp eq ptr %ct, null
  br i1 %taken, label %none, label %give
give:
  call void @Py_IncRef(ptr %ct)
  ret ptr %ct
none:
  call void @Py_IncRef(ptr {NONE})
  ret ptr {NONE}
}}
"""
