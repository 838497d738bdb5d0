"""The LLVM IR that runs the native form of a replay: a short program over registers that hold objects.

It checks guards, gathers storages, calls the compiled plan and wraps the results: what the replay's Python
does, without an interpreter. Registers are constants, arguments, borrowed and owned values. A guard that
fails, or an error before the plan has run, gives MISSED: then the Python form decides. After the plan, errors
are raised.
"""

from __future__ import annotations

from .dispatch_layout import MISSED, NONE, Slots, at, word_at
from .storage_ir import HEAD, field

#: Words of an instruction: t is the register of its result.
INSTRUCTION = ("operation", "t", "a", "b", "c", "d")
#: What an operation does; a, b and t stand for what is in these registers.
OPERATIONS = (
    "done",  # give a
    "slot",  # t = the word at byte c of object a
    "type",  # t = a's class
    "item",  # t = a[b] of a dict
    "attribute",  # t = attribute b of a; owned
    "part",  # t = what c of PARTS says of the function a, None if there is none
    "call",  # t = a(the c registers from b on); owned
    "base",  # t = the storage of a's whole block
    "move",  # t = a
    "is",  # guard: a is b
    "is_not",  # guard: a is not b
    "equal",  # guard: a == b
    "true",  # guard: a is true
    "recording",  # guard: this thread records, if c, or does not
    "current",  # guard: the history of a view is up to date
    "same_list",  # guard: the list a holds just what the tuple b does
    "same_dict",  # guard: the dict a holds the keys and values that the tuple b does in turn
    "scalar",  # t = a storage with the double of the float a; owned
    "run",  # the c registers from t on = what the plan of the storage a gives for the d from b on; owned
    "begin",  # from here on there are effects: errors are raised
    "tensor",  # t = a tensor on the storage a of type b; owned
    "set_slot",  # the word at byte c of object a = b
    "tuple",  # t = a tuple of the c registers from b on; owned
    "like",  # t = a new object of a's class with the same in its slots, the c words after its head; owned
    "number",  # t = the next number of a node; owned
    "kept",  # t = what a node keeps of the tensor a; owned
    "versions",  # t = a tuple of the versions of the c registers from b on, tensors or storages; owned
)
#: What a call takes from a function object, and how CPython gives it (borrowed).
PARTS = ("__code__", "__defaults__", "__kwdefaults__")
_PARTS = ("PyFunction_GetCode", "PyFunction_GetDefaults", "PyFunction_GetKwDefaults")
#: Words of a program. template: how its registers begin, constants filled in. owned: the first that is.
HEADER = ("arguments", "first_argument", "registers", "owned", "template", "code")

FUNCTIONS = {
    "PyDict_GetItemWithError": "ptr (ptr, ptr)", "PyDict_Next": "i32 (ptr, ptr, ptr, ptr)",
    "PyDict_Size": "i64 (ptr)", "PyErr_ExceptionMatches": "i32 (ptr)", "PyList_Size": "i64 (ptr)",
    "PyList_GetItem": "ptr (ptr, i64)", "PyObject_GetAttr": "ptr (ptr, ptr)",
    **dict.fromkeys(_PARTS, "ptr (ptr)"),
    "PyObject_RichCompareBool": "i32 (ptr, ptr, i32)", "PyObject_Vectorcall": "ptr (ptr, ptr, i64, ptr)",
}  # fmt: skip
NATIVE = {"call": "ptr (ptr, ptr, i64)"}
#: Set later: called as (self, *args) where no program fits, and where a check failed; that failure's class.
VARIABLES = ("call_missed", "call_failed", "check_failed")


def replays(slots: Slots, callable_at: int, program_at: int, next_at: int) -> str:
    """`replay_call`, the `__call__` of a compiled function. Byte offsets: of the newest replay in the
    function, of the program and of the next replay in a replay."""
    header = "".join(
        field(f"%{n}", "%program", 8 * i, "ptr" if n in ("template", "code") else "i64")
        for i, n in enumerate(HEADER)
    )
    cases = " ".join(f"i64 {i}, label %{name}" for i, name in enumerate(OPERATIONS))
    blocks = "".join(f"{name}:\n{_BLOCKS[name](slots)}" for name in OPERATIONS)
    variables = "".join(f"@{name} = global ptr null\n" for name in VARIABLES)
    return (
        variables
        + _SAME
        + f"""
define internal ptr @replay(ptr %program, ptr %args) {{
entry:
{header}  %regs = alloca ptr, i64 %registers
  %bytes = shl i64 %registers, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %regs, ptr %template, i64 %bytes, i1 false)
{at("ptr", "%regs", "%first_argument", "%args.at")}  %args.bytes = shl i64 %arguments, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %args.at, ptr %args, i64 %args.bytes, i1 false)
  %ran = alloca i1
  store i1 false, ptr %ran
  br label %loop
loop:
  %pc = phi ptr [%code, %entry], [%pc.next, %next]
{"".join(field(f"%{n}", "%pc", 8 * i) for i, n in enumerate(INSTRUCTION))}\
{at("ptr", "%regs", "%t", "%t.reg")}{at("ptr", "%regs", "%a", "%a.reg")}\
{at("ptr", "%regs", "%b", "%b.reg")}\
  switch i64 %operation, label %miss [ {cases} ]
next:
  %pc.next = getelementptr i8, ptr %pc, i64 {8 * len(INSTRUCTION)}
  br label %loop
{blocks}error:                                            ; an exception is set
  %committed = load i1, ptr %ran
  br i1 %committed, label %leave.error, label %forget
forget:
  call void @PyErr_Clear()
  br label %miss
leave.error:
  br label %leave
miss:
  br label %leave
leave:
  %answer = phi ptr [%given, %done], [null, %leave.error], [{MISSED}, %miss]
  br label %drop
drop:
  %k = phi i64 [%owned, %leave], [%k.next, %drop.one]
  %k.more = icmp slt i64 %k, %registers
  br i1 %k.more, label %drop.one, label %out
drop.one:
{at("ptr", "%regs", "%k", "%k.at")}  %dropped = load ptr, ptr %k.at
  call void @Py_DecRef(ptr %dropped)                     ; of null: nothing
  %k.next = add i64 %k, 1
  br label %drop
out:
  ret ptr %answer
}}
"""
        + _call(callable_at, program_at, next_at)
    )


def _guard(condition: str) -> str:
    return f"  br i1 {condition}, label %next, label %miss\n"


def _owned(value: str, label: str) -> str:
    """Put a new reference into the target; null is an error."""
    return f"""  store ptr {value}, ptr %t.reg
  %{label}.none = icmp eq ptr {value}, null
  br i1 %{label}.none, label %error, label %next
"""


def _operand(block: str, *names: str) -> str:
    return "".join(f"  %{block}.{n} = load ptr, ptr %{n}.reg\n" for n in names)


def _done(slots: Slots) -> str:
    return "  %given = load ptr, ptr %a.reg\n  call void @Py_IncRef(ptr %given)\n  br label %leave\n"


def _slot(slots: Slots) -> str:
    return (
        _operand("slot", "a")
        + word_at("%slot.value", "%slot.a", "%c")
        + """  store ptr %slot.value, ptr %t.reg
  %slot.none = icmp eq ptr %slot.value, null
  br i1 %slot.none, label %miss, label %next
"""
    )


def _type(slots: Slots) -> str:
    read = field("%type.value", "%type.a", HEAD - 8, "ptr")
    return _operand("type", "a") + read + "  store ptr %type.value, ptr %t.reg\n  br label %next\n"


def _item(slots: Slots) -> str:
    return (
        _operand("item", "a", "b")
        + """  %item.value = call ptr @PyDict_GetItemWithError(ptr %item.a, ptr %item.b)
  store ptr %item.value, ptr %t.reg
  %item.none = icmp eq ptr %item.value, null
  br i1 %item.none, label %forget, label %next
"""
    )


def _attribute(slots: Slots) -> str:
    found = "  %attribute.value = call ptr @PyObject_GetAttr(ptr %attribute.a, ptr %attribute.b)\n"
    return _operand("attribute", "a", "b") + found + _owned("%attribute.value", "attribute")


def _part(slots: Slots) -> str:
    cases = " ".join(f"i64 {i}, label %part.{i}" for i in range(len(_PARTS)))
    text = _operand("part", "a") + f"  switch i64 %c, label %miss [ {cases} ]\n"
    for i, name in enumerate(_PARTS):
        text += f"part.{i}:\n  %part.value{i} = call ptr @{name}(ptr %part.a)\n  br label %part.put\n"
    found = ", ".join(f"[%part.value{i}, %part.{i}]" for i in range(len(_PARTS)))
    return (
        text
        + f"""part.put:
  %part.found = phi ptr {found}
  %part.none = icmp eq ptr %part.found, null
  %part.value = select i1 %part.none, ptr {NONE}, ptr %part.found
  store ptr %part.value, ptr %t.reg
  br label %next
"""
    )


def _call_object(slots: Slots) -> str:
    called = "  %call.value = call ptr @PyObject_Vectorcall(ptr %call.a, ptr %b.reg, i64 %c, ptr null)\n"
    return _operand("call", "a") + called + _owned("%call.value", "call")


def _base(slots: Slots) -> str:
    return (
        _operand("base", "a")
        + """  %base.ours = call i1 @is_ours(ptr %base.a)
  br i1 %base.ours, label %base.read, label %miss
base.read:
  %base.value = call ptr @base_of(ptr %base.a)
  store ptr %base.value, ptr %t.reg
  br label %next
"""
    )


def _move(slots: Slots) -> str:
    return _operand("move", "a") + "  store ptr %move.a, ptr %t.reg\n  br label %next\n"


def _is(slots: Slots) -> str:
    return _operand("is", "a", "b") + "  %is.it = icmp eq ptr %is.a, %is.b\n" + _guard("%is.it")


def _is_not(slots: Slots) -> str:
    compare = "  %is_not.it = icmp ne ptr %is_not.a, %is_not.b\n"
    return _operand("is_not", "a", "b") + compare + _guard("%is_not.it")


def _equal(slots: Slots) -> str:
    return (
        _operand("equal", "a", "b")
        + """  %equal.same = icmp eq ptr %equal.a, %equal.b
  br i1 %equal.same, label %next, label %equal.ask
equal.ask:
  %equal.value = call i32 @PyObject_RichCompareBool(ptr %equal.a, ptr %equal.b, i32 2)
  %equal.failed = icmp slt i32 %equal.value, 0
  br i1 %equal.failed, label %error, label %equal.known
equal.known:
  %equal.it = icmp ne i32 %equal.value, 0
"""
        + _guard("%equal.it")
    )


def _true(slots: Slots) -> str:
    return (
        _operand("true", "a")
        + """  %true.value = call i32 @PyObject_IsTrue(ptr %true.a)
  %true.failed = icmp slt i32 %true.value, 0
  br i1 %true.failed, label %error, label %true.known
true.known:
  %true.it = icmp ne i32 %true.value, 0
"""
        + _guard("%true.it")
    )


def _recording(slots: Slots) -> str:
    return """  %recording.on = call i1 @records()
  %recording.want = icmp ne i64 %c, 0
  %recording.it = icmp eq i1 %recording.on, %recording.want
""" + _guard("%recording.it")


def _current(slots: Slots) -> str:
    ask = "  %current.it = call i1 @is_current(ptr %current.a)\n"
    return _operand("current", "a") + ask + _guard("%current.it")


def _same(kind: str) -> str:
    ask = f"  %{kind}.it = call i1 @{kind}(ptr %{kind}.a, ptr %{kind}.b)\n"
    return _operand(kind, "a", "b") + ask + _guard(f"%{kind}.it")


def _scalar(slots: Slots) -> str:
    return (
        _operand("scalar", "a")
        + field("%scalar.class", "%scalar.a", HEAD - 8, "ptr")
        + """  %scalar.float = icmp eq ptr %scalar.class, @PyFloat_Type
  br i1 %scalar.float, label %scalar.make, label %miss
scalar.make:
"""
        + field("%scalar.double", "%scalar.a", HEAD, "double")
        + """  %scalar.storage = call ptr @new_storage(i64 8)
  store ptr %scalar.storage, ptr %t.reg
  %scalar.none = icmp eq ptr %scalar.storage, null
  br i1 %scalar.none, label %error, label %scalar.fill
scalar.fill:
"""
        + field("%scalar.data", "%scalar.storage", HEAD, "ptr")
        + "  store double %scalar.double, ptr %scalar.data\n  br label %next\n"
    )


def _run(slots: Slots) -> str:
    return (
        _operand("run", "a")
        + """  %run.value = call ptr @call(ptr %run.a, ptr %b.reg, i64 %d)
  store i1 true, ptr %ran
  %run.none = icmp eq ptr %run.value, null
  br i1 %run.none, label %error, label %run.kind
run.kind:
  %run.one = icmp eq i64 %c, 1
  br i1 %run.one, label %run.single, label %run.unpack
run.single:
  store ptr %run.value, ptr %t.reg
  br label %run.done
run.unpack:
  %run.i = phi i64 [0, %run.kind], [%run.i.next, %run.each]
  %run.more = icmp slt i64 %run.i, %c
  br i1 %run.more, label %run.each, label %run.drop
run.each:
  %run.object = call ptr @PyTuple_GetItem(ptr %run.value, i64 %run.i)
  call void @Py_IncRef(ptr %run.object)
  %run.at = getelementptr ptr, ptr %t.reg, i64 %run.i
  store ptr %run.object, ptr %run.at
  %run.i.next = add i64 %run.i, 1
  br label %run.unpack
run.drop:
  call void @Py_DecRef(ptr %run.value)
  br label %run.done
run.done:
  br label %next
"""
    )


def _begin(slots: Slots) -> str:
    return "  store i1 true, ptr %ran\n  br label %next\n"


def _tensor(slots: Slots) -> str:
    made = "  %tensor.value = call ptr @alias(ptr %tensor.a, ptr %tensor.b, ptr @_Py_NoneStruct)\n"
    return _operand("tensor", "a", "b") + made + _owned("%tensor.value", "tensor")


def _set_slot(slots: Slots) -> str:
    return (
        _operand("set_slot", "a", "b")
        + word_at("%set_slot.old", "%set_slot.a", "%c")
        + """  call void @Py_IncRef(ptr %set_slot.b)
  store ptr %set_slot.b, ptr %set_slot.old.at
  call void @Py_DecRef(ptr %set_slot.old)
  br label %next
"""
    )


def _tuple(slots: Slots) -> str:
    return """  %tuple.made = call ptr @PyTuple_New(i64 %c)
  store ptr %tuple.made, ptr %t.reg
  %tuple.none = icmp eq ptr %tuple.made, null
  br i1 %tuple.none, label %error, label %tuple.loop
tuple.loop:
  %tuple.i = phi i64 [0, %tuple], [%tuple.i.next, %tuple.one]
  %tuple.more = icmp slt i64 %tuple.i, %c
  br i1 %tuple.more, label %tuple.one, label %next
tuple.one:
  %tuple.from = getelementptr ptr, ptr %b.reg, i64 %tuple.i
  %tuple.object = load ptr, ptr %tuple.from
  call void @Py_IncRef(ptr %tuple.object)
  %tuple.set = call i32 @PyTuple_SetItem(ptr %tuple.made, i64 %tuple.i, ptr %tuple.object)
  %tuple.i.next = add i64 %tuple.i, 1
  br label %tuple.loop
"""


def _like(slots: Slots) -> str:
    return (
        _operand("like", "a")
        + field("%like.class", "%like.a", HEAD - 8, "ptr")
        + """  %like.made = call ptr @PyType_GenericAlloc(ptr %like.class, i64 0)
  store ptr %like.made, ptr %t.reg
  %like.none = icmp eq ptr %like.made, null
  br i1 %like.none, label %error, label %like.loop
like.loop:
  %like.i = phi i64 [0, %like], [%like.i.next, %like.one]
  %like.more = icmp slt i64 %like.i, %c
  br i1 %like.more, label %like.one, label %next
like.one:
"""
        + f"  %like.offset = mul i64 %like.i, 8\n  %like.place = add i64 %like.offset, {HEAD}\n"
        + word_at("%like.object", "%like.a", "%like.place")
        + """  call void @Py_IncRef(ptr %like.object)                 ; of null: nothing
  %like.to = getelementptr i8, ptr %like.made, i64 %like.place
  store ptr %like.object, ptr %like.to
  %like.i.next = add i64 %like.i, 1
  br label %like.loop
"""
    )


def _number(slots: Slots) -> str:
    return "  %number.value = call ptr @PyIter_Next(ptr @numbers)\n" + _owned("%number.value", "number")


def _kept(slots: Slots) -> str:
    return (
        _operand("kept", "a")
        + "  %kept.value = call ptr @kept_tensor(ptr %kept.a)\n"
        + _owned("%kept.value", "kept")
    )


def _versions(slots: Slots) -> str:
    made = "  %versions.value = call ptr @versions_of(ptr %b.reg, i64 %c)\n"
    return made + _owned("%versions.value", "versions")


_BLOCKS = {
    "done": _done, "slot": _slot, "type": _type, "item": _item, "attribute": _attribute,
    "part": _part, "call": _call_object,
    "base": _base, "move": _move, "is": _is, "is_not": _is_not, "equal": _equal,
    "true": _true, "recording": _recording, "current": _current,
    "same_list": lambda slots: _same("same_list"), "same_dict": lambda slots: _same("same_dict"),
    "scalar": _scalar, "run": _run,
    "begin": _begin, "tensor": _tensor, "set_slot": _set_slot, "tuple": _tuple,
    "like": _like, "number": _number, "kept": _kept, "versions": _versions,
}  # fmt: skip

_SAME = """
define internal i1 @same_list(ptr %list, ptr %then) {
entry:
  %size = call i64 @PyList_Size(ptr %list)
  %before = call i64 @PyTuple_Size(ptr %then)
  %equal = icmp eq i64 %size, %before
  br i1 %equal, label %loop, label %no
loop:
  %i = phi i64 [0, %entry], [%i.next, %same]
  %more = icmp slt i64 %i, %size
  br i1 %more, label %one, label %yes
one:
  %now = call ptr @PyList_GetItem(ptr %list, i64 %i)
  %was = call ptr @PyTuple_GetItem(ptr %then, i64 %i)
  %is.same = icmp eq ptr %now, %was
  br i1 %is.same, label %same, label %no
same:
  %i.next = add i64 %i, 1
  br label %loop
yes:
  ret i1 true
no:
  ret i1 false
}

define internal i1 @same_dict(ptr %dict, ptr %then) {
entry:
  %position = alloca i64
  %key = alloca ptr
  %value = alloca ptr
  store i64 0, ptr %position
  %size = call i64 @PyDict_Size(ptr %dict)
  %twice = shl i64 %size, 1
  %before = call i64 @PyTuple_Size(ptr %then)
  %equal = icmp eq i64 %twice, %before
  br i1 %equal, label %loop, label %no
loop:
  %i = phi i64 [0, %entry], [%i.next, %same]
  %got = call i32 @PyDict_Next(ptr %dict, ptr %position, ptr %key, ptr %value)
  %end = icmp eq i32 %got, 0
  br i1 %end, label %yes, label %one
one:
  %key.now = load ptr, ptr %key
  %value.now = load ptr, ptr %value
  %key.was = call ptr @PyTuple_GetItem(ptr %then, i64 %i)
  %second = add i64 %i, 1
  %value.was = call ptr @PyTuple_GetItem(ptr %then, i64 %second)
  %key.same = icmp eq ptr %key.now, %key.was
  %value.same = icmp eq ptr %value.now, %value.was
  %both = and i1 %key.same, %value.same
  br i1 %both, label %same, label %no
same:
  %i.next = add i64 %i, 2
  br label %loop
yes:
  ret i1 true
no:
  ret i1 false
}
"""


def _call(callable_at: int, program_at: int, next_at: int) -> str:
    return f"""
define ptr @replay_call(ptr %self, ptr %args, i64 %n, ptr %names) {{   ; METH_FASTCALL with keywords
entry:
  %busy = load i64, ptr @busy
  %is.busy = icmp ne i64 %busy, 0
  %named = icmp ne ptr %names, null
  %other = or i1 %is.busy, %named
  br i1 %other, label %python, label %start
start:
{field("%newest", "%self", callable_at, "ptr")}  %unset = icmp eq ptr %newest, null
  br i1 %unset, label %python, label %begin
begin:
  call void @Py_IncRef(ptr %newest)                      ; a replay holds the constants of its program
  br label %each
each:
  %replay = phi ptr [%newest, %begin], [%older, %after]
  %none = icmp eq ptr %replay, @_Py_NoneStruct
  br i1 %none, label %end, label %try
end:
  call void @Py_DecRef(ptr %replay)
  br label %python
try:
{field("%capsule", "%replay", program_at, "ptr")}{field("%program", "%capsule", HEAD, "ptr")}\
{field("%arguments", "%program", 0)}  %fits = icmp eq i64 %arguments, %n
  br i1 %fits, label %run, label %after
after:
{field("%older", "%replay", next_at, "ptr")}  call void @Py_IncRef(ptr %older)
  call void @Py_DecRef(ptr %replay)
  br label %each
run:
  %result = call ptr @replay(ptr %program, ptr %args)
  %missed = icmp eq ptr %result, {MISSED}
  br i1 %missed, label %after, label %came
came:
  call void @Py_DecRef(ptr %replay)
  %failed = icmp eq ptr %result, null
  br i1 %failed, label %which, label %good
good:
  ret ptr %result
which:
  %check = load ptr, ptr @check_failed
  %of.check = call i32 @PyErr_ExceptionMatches(ptr %check)
  %is.check = icmp ne i32 %of.check, 0
  br i1 %is.check, label %eagerly, label %raise
eagerly:
  call void @PyErr_Clear()
  %failed.function = load ptr, ptr @call_failed
  %r1 = call ptr @python(ptr %failed.function, ptr %self, ptr %args, i64 %n, ptr null)
  ret ptr %r1
raise:
  ret ptr null
python:
  %function = load ptr, ptr @call_missed
  %r2 = call ptr @python(ptr %function, ptr %self, ptr %args, i64 %n, ptr %names)
  ret ptr %r2
}}
"""
