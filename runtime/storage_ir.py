"""The LLVM IR of storages: a pool of aligned blocks, capsules on them, and the builtins that make and read
capsules.

A storage is a PyCapsule whose pointer is the first byte of data. Its context tells the kinds apart:

    0                 it owns a pooled block, whose header is the 64 bytes before the data
    a header, plus 1  it owns foreign memory: a header of its own, with the object that keeps the memory alive
    a capsule         it is a view into the block of that capsule (never of another view), which it holds

The free lists need no lock: they are touched with the GIL held only. Refcounts change by calls, never
inline. Of CPython's layouts this relies on the object header and the first three words of a capsule;
`storage_native` tests them before use. `call_ir` has the builtin that calls a compiled plan. Sizes have one
class per octave up to 4 KB and four above, so at most a fifth is wasted there.
"""

from __future__ import annotations

HEAD = object.__basicsize__
NAME = b"vitrify.storage"

# Words of a block's header, as byte offsets.
LINK, VERSION, NBYTES, CLASS, RAW, BUSY, OWNER, CAPACITY = range(0, 64, 8)
_CLASSES = 216
#: Blocks of at least so many bytes ask for huge pages: kernels that run through tens of megabytes,
#: the weights of ResNet-18 say, are 2 % faster for it.
_HUGE, _MADV_HUGEPAGE = 2 << 20, 14
#: Blocks of at least so many bytes begin with a page, as NumPy's and PyTorch's nearly do: if a store has the
#: low 12 bits of an address that is read soon after, the CPU takes it for the same place and waits. Outputs
#: 112 bytes past their inputs made a layer norm with gradients take 4.0 ms instead of 2.4.
LARGE, PAGE = 64 << 10, 4096

_FUNCTIONS = {
    "Py_IncRef": "void (ptr)",
    "Py_DecRef": "void (ptr)",
    "PyCapsule_New": "ptr (ptr, ptr, ptr)",
    "PyCapsule_SetContext": "i32 (ptr, ptr)",
    "PyCapsule_SetDestructor": "i32 (ptr, ptr)",
    "PyErr_NoMemory": "ptr ()",
    "PyErr_Occurred": "ptr ()",
    "PyErr_SetString": "void (ptr, ptr)",
    "PyEval_RestoreThread": "void (ptr)",
    "PyEval_SaveThread": "ptr ()",
    "PyLong_AsSsize_t": "i64 (ptr)",
    "PyLong_FromSsize_t": "ptr (i64)",
    "PyBool_FromLong": "ptr (i64)",
    "PyMem_RawFree": "void (ptr)",
    "PyMem_RawMalloc": "ptr (i64)",
    "PyObject_CallFunctionObjArgs": "ptr (ptr, ...)",
    "PyTuple_New": "ptr (i64)",
    "PyTuple_SetItem": "i32 (ptr, i64, ptr)",
}
#: Symbols that the module takes from CPython: functions, then objects and pointers to objects.
FUNCTIONS = tuple(_FUNCTIONS)
OBJECTS = ("PyCapsule_Type", "_Py_NoneStruct")
EXCEPTIONS = ("PyExc_TypeError", "PyExc_ValueError")


def declarations(functions: dict[str, str]) -> str:
    """`declare` lines for functions given as name -> "result (arguments)"."""
    return "".join(
        f"declare {result} @{name}({arguments}\n"
        for name, signature in functions.items()
        for result, arguments in [signature.split(" (", 1)]
    )


def field(name: str, pointer: str, offset: int, kind: str = "i64") -> str:
    """Load the word at a byte offset from a pointer."""
    address = f"  {name}.at = getelementptr i8, ptr {pointer}, i64 {offset}\n"
    return address + f"  {name} = load {kind}, ptr {name}.at\n"


def put(kind: str, value: str, pointer: str, offset: int, label: str) -> str:
    """Store a word at a byte offset from a pointer; `label` makes the address's name unique."""
    address = f"  %{label}.at = getelementptr i8, ptr {pointer}, i64 {offset}\n"
    return address + f"  store {kind} {value}, ptr %{label}.at\n"


_POOL = f"""
define internal {{i64, i64}} @size_class(i64 %nbytes) {{   ; class number and its capacity in bytes
  %n = call i64 @llvm.umax.i64(i64 %nbytes, i64 1)
  %m = sub i64 %n, 1
  %zeros = call i64 @llvm.ctlz.i64(i64 %m, i1 false)
  %log = sub i64 63, %zeros
  %small.log = sub i64 %log, 5
  %small = call i64 @llvm.smax.i64(i64 %small.log, i64 0)
  %small.bytes = shl i64 64, %small
  %shift = sub i64 %log, 2
  %top = lshr i64 %m, %shift
  %quarter = and i64 %top, 3
  %octave = mul i64 %log, 4
  %octave.class = sub i64 %octave, 41                      ; 4 KB: log 12 follows the 7 small classes
  %large = add i64 %octave.class, %quarter
  %fifths = add i64 %quarter, 5
  %large.bytes = shl i64 %fifths, %shift
  %is.small = icmp ult i64 %m, 4096
  %class = select i1 %is.small, i64 %small, i64 %large
  %bytes = select i1 %is.small, i64 %small.bytes, i64 %large.bytes
  %r0 = insertvalue {{i64, i64}} poison, i64 %class, 0
  %r1 = insertvalue {{i64, i64}} %r0, i64 %bytes, 1
  ret {{i64, i64}} %r1
}}

define ptr @take(i64 %nbytes) {{                             ; a block's data, or null; contents are arbitrary
entry:
  %sc = call {{i64, i64}} @size_class(i64 %nbytes)
  %class = extractvalue {{i64, i64}} %sc, 0
  %capacity = extractvalue {{i64, i64}} %sc, 1
  %list = getelementptr ptr, ptr @pool, i64 %class
  %free = load ptr, ptr %list
  %none = icmp eq ptr %free, null
  br i1 %none, label %grow, label %pop
pop:
{field("%next", "%free", LINK, "ptr")}  store ptr %next, ptr %list
  %kept = load i64, ptr @kept
  %kept.less = sub i64 %kept, %capacity
  store i64 %kept.less, ptr @kept
  br label %ready
grow:
  %fits = icmp ult i64 %nbytes, {1 << 48}
  br i1 %fits, label %ask, label %fail
ask:
  %is.large = icmp uge i64 %capacity, {LARGE}
  %alignment = select i1 %is.large, i64 {PAGE}, i64 64
  %past = add i64 %alignment, 63                           ; 64 for the header, and what aligns the data
  %room = add i64 %past, 1
  %with.header = add i64 %capacity, %room
  %first = call ptr @PyMem_RawMalloc(i64 %with.header)
  %refused = icmp eq ptr %first, null
  br i1 %refused, label %retry, label %got
retry:
  call void @trim()
  %second = call ptr @PyMem_RawMalloc(i64 %with.header)
  %failed = icmp eq ptr %second, null
  br i1 %failed, label %fail, label %got
got:
  %raw = phi ptr [%first, %ask], [%second, %retry]
  %address = ptrtoint ptr %raw to i64
  %beyond = add i64 %address, %past
  %mask = sub i64 0, %alignment
  %aligned = and i64 %beyond, %mask
  %header.address = sub i64 %aligned, 64
  %made = inttoptr i64 %header.address to ptr
  %is.huge = icmp uge i64 %capacity, {_HUGE}
  br i1 %is.huge, label %advise, label %fill
advise:                                                    ; pages of 2 MB, where the system has them to give
  %page.past = add i64 %address, 4095
  %page.address = and i64 %page.past, -4096
  %page = inttoptr i64 %page.address to ptr
  %end = add i64 %address, %with.header
  %pages = sub i64 %end, %page.address
  %advised = call i32 @madvise(ptr %page, i64 %pages, i32 {_MADV_HUGEPAGE})
  br label %fill
fill:
{put("i64", "%class", "%made", CLASS, "class")}{put("ptr", "%raw", "%made", RAW, "raw")}\
{put("ptr", "null", "%made", OWNER, "owner")}\
{put("i64", "%capacity", "%made", CAPACITY, "capacity")}  br label %ready
ready:
  %header = phi ptr [%free, %pop], [%made, %fill]
{put("i64", "0", "%header", VERSION, "version")}{put("i64", "%nbytes", "%header", NBYTES, "nbytes")}\
{put("i64", "0", "%header", BUSY, "busy")}  %data = getelementptr i8, ptr %header, i64 64
  ret ptr %data
fail:
  ret ptr null
}}

define void @give(ptr %data) {{        ; back to the free list, or to the system beyond the limit
  %header = getelementptr i8, ptr %data, i64 -64
{field("%capacity", "%header", CAPACITY)}  %kept = load i64, ptr @kept
  %more = add i64 %kept, %capacity
  %limit = load i64, ptr @limit
  %over = icmp ugt i64 %more, %limit
  br i1 %over, label %free, label %push
push:
{field("%class", "%header", CLASS)}  %list = getelementptr ptr, ptr @pool, i64 %class
  %next = load ptr, ptr %list
{put("ptr", "%next", "%header", LINK, "link")}  store ptr %header, ptr %list
  store i64 %more, ptr @kept
  ret void
free:
{field("%raw", "%header", RAW, "ptr")}  call void @PyMem_RawFree(ptr %raw)
  ret void
}}

define void @trim() {{                                       ; give every free block back to the system
entry:
  store i64 0, ptr @kept
  br label %lists
lists:
  %i = phi i64 [0, %entry], [%i.next, %done]
  %list = getelementptr ptr, ptr @pool, i64 %i
  %head = load ptr, ptr %list
  store ptr null, ptr %list
  br label %blocks
blocks:
  %block = phi ptr [%head, %lists], [%next, %block.free]
  %end = icmp eq ptr %block, null
  br i1 %end, label %done, label %block.free
block.free:
{field("%next", "%block", LINK, "ptr")}{field("%raw", "%block", RAW, "ptr")}\
  call void @PyMem_RawFree(ptr %raw)
  br label %blocks
done:
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, {_CLASSES}
  br i1 %more, label %lists, label %out
out:
  ret void
}}
"""

_CAPSULES = f"""
define void @release_block(ptr %capsule) {{
{field("%data", "%capsule", HEAD, "ptr")}{field("%attached", "%data", OWNER - 64, "ptr")}\
  %none = icmp eq ptr %attached, null
  br i1 %none, label %give, label %detach
detach:
{put("ptr", "null", "%data", OWNER - 64, "detached")}  call void @Py_DecRef(ptr %attached)
  br label %give
give:
  call void @give(ptr %data)
  ret void
}}

define void @release_view(ptr %capsule) {{
{field("%base", "%capsule", HEAD + 16, "ptr")}  call void @Py_DecRef(ptr %base)
  ret void
}}

define void @release_foreign(ptr %capsule) {{
{field("%tagged", "%capsule", HEAD + 16, "ptr")}  %header = getelementptr i8, ptr %tagged, i64 -1
{field("%owner", "%header", OWNER, "ptr")}  call void @PyMem_RawFree(ptr %header)
  call void @Py_DecRef(ptr %owner)
  ret void
}}

define ptr @new_storage(i64 %nbytes) {{                      ; a new reference, or null with an exception set
  %data = call ptr @take(i64 %nbytes)
  %none = icmp eq ptr %data, null
  br i1 %none, label %memory, label %wrap
memory:
  %null = call ptr @PyErr_NoMemory()
  ret ptr null
wrap:
  %capsule = call ptr @PyCapsule_New(ptr %data, ptr @name, ptr @release_block)
  %failed = icmp eq ptr %capsule, null
  br i1 %failed, label %drop, label %done
drop:
  call void @give(ptr %data)
  ret ptr null
done:
  ret ptr %capsule
}}
"""

#: What any module that is linked with this one may include: reads storages, given `@name`.
READING = f"""
define internal i1 @is_ours(ptr %object) {{
{field("%type", "%object", HEAD - 8, "ptr")}  %is.capsule = icmp eq ptr %type, @PyCapsule_Type
  br i1 %is.capsule, label %capsule, label %no
capsule:
{field("%name", "%object", HEAD + 8, "ptr")}  %ours = icmp eq ptr %name, @name
  ret i1 %ours
no:
  ret i1 false
}}

define internal ptr @base_of(ptr %capsule) {{                ; a borrowed reference
{field("%context", "%capsule", HEAD + 16, "ptr")}  %bits = ptrtoint ptr %context to i64
  %tag = and i64 %bits, 1
  %foreign = icmp ne i64 %tag, 0
  %own = icmp eq ptr %context, null
  %is.base = or i1 %foreign, %own
  %base = select i1 %is.base, ptr %capsule, ptr %context
  ret ptr %base
}}

define internal ptr @header_of(ptr %capsule) {{
  %base = call ptr @base_of(ptr %capsule)
{field("%context", "%base", HEAD + 16, "ptr")}{field("%data", "%base", HEAD, "ptr")}\
  %own = icmp eq ptr %context, null
  %pooled = getelementptr i8, ptr %data, i64 -64
  %foreign = getelementptr i8, ptr %context, i64 -1
  %header = select i1 %own, ptr %pooled, ptr %foreign
  ret ptr %header
}}
"""


def _reader(name: str, body: str) -> str:
    """A METH_O builtin: checks that its argument is a storage, then `body` computes %result."""
    return f"""
define ptr @{name}(ptr %self, ptr %storage) {{
  %ok = call i1 @is_ours(ptr %storage)
  br i1 %ok, label %run, label %refuse
refuse:
  %error = load ptr, ptr @PyExc_TypeError
  call void @PyErr_SetString(ptr %error, ptr @not_storage)
  ret ptr null
run:
{body}  ret ptr %result
}}
"""


_HEADER = "  %header = call ptr @header_of(ptr %storage)\n"
_AS_INT = "  %result = call ptr @PyLong_FromSsize_t(i64 %value)\n"
_READERS = (
    _reader("address", field("%value", "%storage", HEAD) + _AS_INT)
    + _reader("nbytes", _HEADER + field("%value", "%header", NBYTES) + _AS_INT)
    + _reader("version", _HEADER + field("%value", "%header", VERSION) + _AS_INT)
    + _reader("base", "  %result = call ptr @base_of(ptr %storage)\n  call void @Py_IncRef(ptr %result)\n")
    + _reader(
        "offset",
        "  %base = call ptr @base_of(ptr %storage)\n"
        + field("%start", "%base", HEAD)
        + field("%here", "%storage", HEAD)
        + "  %value = sub i64 %here, %start\n"
        + _AS_INT,
    )
    + _reader(
        "bump",
        _HEADER
        + field("%old", "%header", VERSION)
        + "  %new = add i64 %old, 1\n"
        + put("i64", "%new", "%header", VERSION, "bumped")
        + "  call void @Py_IncRef(ptr @_Py_NoneStruct)\n  %result = bitcast ptr @_Py_NoneStruct to ptr\n",
    )
)


def _refused(label: str, error: str, message: str, number: int) -> str:
    """Raise an error at a label."""
    return f"""{label}:
  %r{number} = call ptr @refuse(ptr @{error}, ptr @{message})
  ret ptr null
"""


_MAKERS = f"""
define internal i1 @bad_int(i64 %value) {{                   ; did PyLong_AsSsize_t fail?
  %minus.one = icmp eq i64 %value, -1
  br i1 %minus.one, label %ask, label %good
ask:
  %error = call ptr @PyErr_Occurred()
  %bad = icmp ne ptr %error, null
  ret i1 %bad
good:
  ret i1 false
}}

define internal ptr @refuse(ptr %kind, ptr %message) {{
  %error = load ptr, ptr %kind
  call void @PyErr_SetString(ptr %error, ptr %message)
  ret ptr null
}}

define ptr @is_storage(ptr %self, ptr %object) {{
  %ours = call i1 @is_ours(ptr %object)
  %value = zext i1 %ours to i64
  %result = call ptr @PyBool_FromLong(i64 %value)
  ret ptr %result
}}

define ptr @allocate(ptr %self, ptr %size) {{                ; METH_O allocate(nbytes)
  %nbytes = call i64 @PyLong_AsSsize_t(ptr %size)
  %bad = call i1 @bad_int(i64 %nbytes)
  br i1 %bad, label %error, label %check
check:
  %negative = icmp slt i64 %nbytes, 0
  br i1 %negative, label %refuse, label %make
make:
  %capsule = call ptr @new_storage(i64 %nbytes)
  ret ptr %capsule
refuse:
  %r = call ptr @refuse(ptr @PyExc_ValueError, ptr @negative_size)
  ret ptr null
error:
  ret ptr null
}}

define ptr @view(ptr %self, ptr %args, i64 %n) {{            ; METH_FASTCALL view(storage, byte offset)
  %two = icmp eq i64 %n, 2
  br i1 %two, label %types, label %arity
types:
  %storage = load ptr, ptr %args
{field("%offset", "%args", 8, "ptr")}  %ok = call i1 @is_ours(ptr %storage)
  br i1 %ok, label %convert, label %type
convert:
  %bytes = call i64 @PyLong_AsSsize_t(ptr %offset)
  %bad = call i1 @bad_int(i64 %bytes)
  br i1 %bad, label %error, label %bounds
bounds:
  %base = call ptr @base_of(ptr %storage)
  %header = call ptr @header_of(ptr %storage)
{field("%start", "%base", HEAD)}{field("%here", "%storage", HEAD)}{field("%size", "%header", NBYTES)}\
  %there = add i64 %here, %bytes
  %distance = sub i64 %there, %start
  %outside = icmp ugt i64 %distance, %size
  br i1 %outside, label %range, label %make
make:
  %pointer = inttoptr i64 %there to ptr
  %capsule = call ptr @PyCapsule_New(ptr %pointer, ptr @name, ptr null)
  %failed = icmp eq ptr %capsule, null
  br i1 %failed, label %error, label %hold
hold:
  call void @Py_IncRef(ptr %base)
  %set = call i32 @PyCapsule_SetContext(ptr %capsule, ptr %base)
  %own = call i32 @PyCapsule_SetDestructor(ptr %capsule, ptr @release_view)
  ret ptr %capsule
{_refused("arity", "PyExc_TypeError", "view_arity", 0)}\
{_refused("type", "PyExc_TypeError", "not_storage", 1)}\
{_refused("range", "PyExc_ValueError", "view_range", 2)}\
error:
  ret ptr null
}}

define ptr @foreign(ptr %self, ptr %args, i64 %n) {{         ; METH_FASTCALL foreign(address, nbytes, owner)
  %three = icmp eq i64 %n, 3
  br i1 %three, label %convert, label %arity
convert:
  %a = load ptr, ptr %args
{field("%b", "%args", 8, "ptr")}{field("%owner", "%args", 16, "ptr")}\
  %address = call i64 @PyLong_AsSsize_t(ptr %a)
  %bad.address = call i1 @bad_int(i64 %address)
  br i1 %bad.address, label %error, label %convert.size
convert.size:
  %nbytes = call i64 @PyLong_AsSsize_t(ptr %b)
  %bad.size = call i1 @bad_int(i64 %nbytes)
  br i1 %bad.size, label %error, label %make
make:
  %header = call ptr @PyMem_RawMalloc(i64 64)
  %none = icmp eq ptr %header, null
  br i1 %none, label %memory, label %wrap
wrap:
{put("i64", "0", "%header", VERSION, "version")}{put("i64", "%nbytes", "%header", NBYTES, "nbytes")}\
{put("i64", "0", "%header", BUSY, "busy")}{put("ptr", "%owner", "%header", OWNER, "kept")}\
  %given = inttoptr i64 %address to ptr
  %is.null = icmp eq ptr %given, null              ; a capsule needs a pointer even if there is no memory
  %pointer = select i1 %is.null, ptr %header, ptr %given
  %capsule = call ptr @PyCapsule_New(ptr %pointer, ptr @name, ptr null)
  %failed = icmp eq ptr %capsule, null
  br i1 %failed, label %drop, label %hold
hold:
  call void @Py_IncRef(ptr %owner)
  %tagged = getelementptr i8, ptr %header, i64 1
  %set = call i32 @PyCapsule_SetContext(ptr %capsule, ptr %tagged)
  %own = call i32 @PyCapsule_SetDestructor(ptr %capsule, ptr @release_foreign)
  ret ptr %capsule
drop:
  call void @PyMem_RawFree(ptr %header)
  ret ptr null
memory:
  %r0 = call ptr @PyErr_NoMemory()
  ret ptr null
{_refused("arity", "PyExc_TypeError", "foreign_arity", 1)}error:
  ret ptr null
}}
"""

_ATTACH = f"""
define ptr @attach(ptr %self, ptr %args, i64 %n) {{          ; METH_FASTCALL attach(storage, object)
  %two = icmp eq i64 %n, 2
  br i1 %two, label %types, label %arity
types:
  %storage = load ptr, ptr %args
{field("%object", "%args", 8, "ptr")}  %ok = call i1 @is_ours(ptr %storage)
  br i1 %ok, label %look, label %type
look:
  %base = call ptr @base_of(ptr %storage)
{field("%context", "%base", HEAD + 16, "ptr")}  %pooled = icmp eq ptr %context, null
  br i1 %pooled, label %own, label %give                     ; foreign memory has an owner already
own:
  %header = call ptr @header_of(ptr %storage)
{field("%there", "%header", OWNER, "ptr")}  %free = icmp eq ptr %there, null
  br i1 %free, label %hold, label %give
hold:
{put("ptr", "%object", "%header", OWNER, "held")}  call void @Py_IncRef(ptr %object)
  br label %give
give:
  %result = phi ptr [@_Py_NoneStruct, %look], [%there, %own], [%object, %hold]
  call void @Py_IncRef(ptr %result)
  ret ptr %result
{_refused("arity", "PyExc_TypeError", "attach_arity", 0)}\
{_refused("type", "PyExc_TypeError", "not_storage", 1)}}}
"""

_MESSAGES = {
    "not_storage": "expected a storage",
    "negative_size": "the size of a storage can't be negative",
    "view_arity": "view takes a storage and an offset in bytes",
    "view_range": "a view begins outside its storage",
    "attach_arity": "attach takes a storage and an object",
    "foreign_arity": "foreign takes an address, a size and an owner",
    "call_arity": "a compiled call got the wrong number of storages",
}


def _text(name: str, value: bytes, linkage: str = "internal ") -> str:
    return f'@{name} = {linkage}constant [{len(value) + 1} x i8] c"{value.decode()}\\00"\n'


def module(call: str, limit_bytes: int) -> str:
    """The whole module: declarations, pool, builtins and, as `call`, the function of `call_ir`."""
    return (
        declarations(_FUNCTIONS)
        + "declare i64 @llvm.umax.i64(i64, i64)\ndeclare i64 @llvm.smax.i64(i64, i64)\n"
        + "declare i64 @llvm.ctlz.i64(i64, i1)\ndeclare i32 @usleep(i32)\n"
        + "declare i32 @madvise(ptr, i64, i32)\n"
        + "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)\n"
        + "".join(f"@{name} = external global i8\n" for name in OBJECTS)
        + "".join(f"@{name} = external global ptr\n" for name in EXCEPTIONS)
        + _text("name", NAME, "")  # exported: other modules tell our capsules by its address
        + "".join(_text(name, message.encode()) for name, message in _MESSAGES.items())
        + f"@pool = internal global [{_CLASSES} x ptr] zeroinitializer\n@kept = global i64 0\n"
        + f"@limit = internal global i64 {limit_bytes}\n"
        + _POOL + _CAPSULES + READING + _READERS + _MAKERS + _ATTACH + call
    )  # fmt: skip
