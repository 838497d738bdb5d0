"""The LLVM IR of the builtins in front of dispatch: `apply`, and methods of tensors.

A method is one of a fixed number of trampolines of its kind; what it stands for is a Python callable in the
table `@callables`, by whose identity rows are found and which is called where there is no row. Kinds:

    nullary    x.exp()                  binary, reflected   x + y, and y's side of x + y
    ints       x.transpose(0, 1)        sizes               the same, or one tuple: x.reshape((2, 3))
    item       x[2], x[2:5]             setting             x[2] = y
    number     x.item()                 call, function      any method or function
    one, pair  a function of that many operands, which has rows as the methods above have, numbers included
    over_one, over_pair, over_binary    x.exp_(), x.add_(y), x += y: rows whose result is written over x
"""

from __future__ import annotations

from collections.abc import Mapping

from .dispatch_index_ir import indices
from .dispatch_layout import MISSED, MOST_OPERANDS, NONE, Slots, at, entry
from .storage_ir import HEAD, field


def methods(slots: Slots, trampolines: Mapping[str, int]) -> str:
    """All of this file. trampolines: how many of each kind."""
    total = sum(trampolines.values())
    tables = ("callables", "parameters")
    parts = [f"@{name} = global [{total} x ptr] zeroinitializer\n" for name in tables]
    parts += [_PYTHON, _APPLY, _MODE, indices(slots), _of_operands("of_one", 1), _of_operands("of_two", 2)]
    parts += [_of_tensors()]
    parts += [_over(1), _over(2), _over_operands("over_one", 1), _over_operands("over_two", 2)]
    kinds = [(kind, i) for kind, count in trampolines.items() for i in range(count)]
    for number, (kind, i) in enumerate(kinds):
        parts.append(_TRAMPOLINES[kind].format(name=f"{kind}.{i}", place=8 * number))
    return "".join(parts)


_PYTHON = f"""
define internal ptr @python(ptr %callable, ptr %self, ptr %args, i64 %n, ptr %names) {{
entry:                                     ; callable(self, *args, names=...); self and names may be null
  %bound = icmp ne ptr %self, null
  %lead = zext i1 %bound to i64
  %named = icmp ne ptr %names, null
  br i1 %named, label %count, label %tuple
count:
  %names.size = call i64 @PyTuple_Size(ptr %names)
  %dict.new = call ptr @PyDict_New()
  %no.dict = icmp eq ptr %dict.new, null
  br i1 %no.dict, label %fail, label %dict.fill
dict.fill:
  %d = phi i64 [0, %count], [%d.next, %dict.one]
  %d.more = icmp slt i64 %d, %names.size
  br i1 %d.more, label %dict.one, label %tuple
dict.one:
  %name = call ptr @PyTuple_GetItem(ptr %names, i64 %d)
  %place = add i64 %n, %d
{at("ptr", "%args", "%place", "%value.at")}  %value = load ptr, ptr %value.at
  %d.set = call i32 @PyDict_SetItem(ptr %dict.new, ptr %name, ptr %value)
  %d.next = add i64 %d, 1
  %d.failed = icmp slt i32 %d.set, 0
  br i1 %d.failed, label %drop.dict, label %dict.fill
drop.dict:
  call void @Py_DecRef(ptr %dict.new)
  br label %fail
tuple:
  %dict = phi ptr [null, %entry], [%dict.new, %dict.fill]
  %size = add i64 %n, %lead
  %tuple.new = call ptr @PyTuple_New(i64 %size)
  %no.tuple = icmp eq ptr %tuple.new, null
  br i1 %no.tuple, label %drop, label %self.set
self.set:
  br i1 %bound, label %self.put, label %fill
self.put:
  call void @Py_IncRef(ptr %self)
  %s.set = call i32 @PyTuple_SetItem(ptr %tuple.new, i64 0, ptr %self)
  br label %fill
fill:
  %i = phi i64 [0, %self.set], [0, %self.put], [%i.next, %one]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %one, label %call
one:
{at("ptr", "%args", "%i", "%arg.at")}  %arg = load ptr, ptr %arg.at
  call void @Py_IncRef(ptr %arg)
  %to = add i64 %i, %lead
  %set = call i32 @PyTuple_SetItem(ptr %tuple.new, i64 %to, ptr %arg)
  %i.next = add i64 %i, 1
  br label %fill
call:
  %result = call ptr @PyObject_Call(ptr %callable, ptr %tuple.new, ptr %dict)
  call void @Py_DecRef(ptr %tuple.new)
  br label %drop
drop:
  %answer = phi ptr [null, %tuple], [%result, %call]
  %has.dict = icmp ne ptr %dict, null
  br i1 %has.dict, label %dict.done, label %out
dict.done:
  call void @Py_DecRef(ptr %dict)
  br label %out
out:
  ret ptr %answer
fail:
  ret ptr null
}}
"""


def _apply_case(n: int) -> str:
    loads = "".join(
        at("ptr", "%args", i + 1, f"%x{n}{i}.at") + f"  %x{n}{i} = load ptr, ptr %x{n}{i}.at\n"
        for i in range(n)
    )
    operands = (
        ", ".join(["ptr %op", *(f"ptr %x{n}{i}" for i in range(n))])
        + (", i64 0, i64 0" * (n == 1))
        + ", ptr null"
    )
    return f"on{n}:\n{loads}  %r{n} = call ptr @dispatch{n}({operands})\n  br label %ask\n"


_CASES = " ".join(f"i64 {n + 1}, label %on{n}" for n in range(1, MOST_OPERANDS + 1))
_APPLY = f"""
define ptr @apply(ptr %self, ptr %args, i64 %n) {{         ; METH_FASTCALL apply(op, *operands)
entry:
  %empty = icmp eq i64 %n, 0
  br i1 %empty, label %python, label %which
which:
  %op = load ptr, ptr %args
  switch i64 %n, label %python [ {_CASES} ]
{"".join(_apply_case(n) for n in range(1, MOST_OPERANDS + 1))}ask:
  %r = phi ptr {", ".join(f"[%r{n}, %on{n}]" for n in range(1, MOST_OPERANDS + 1))}
  %missed = icmp eq ptr %r, {MISSED}
  br i1 %missed, label %python, label %done
done:
  ret ptr %r
python:
  %result = call ptr @python(ptr @missed, ptr null, ptr %args, i64 %n, ptr null)
  ret ptr %result
}}
"""

_MODE = f"""
define ptr @set_recording(ptr %self, ptr %on) {{           ; METH_O: whether this thread records
  %true = call i32 @PyObject_IsTrue(ptr %on)
  %failed = icmp slt i32 %true, 0
  br i1 %failed, label %error, label %set
set:
  %records = icmp ne i32 %true, 0
  %value = select i1 %records, ptr null, ptr {MISSED}
  %key = load i32, ptr @silent
  %r = call i32 @pthread_setspecific(i32 %key, ptr %value)
  call void @Py_IncRef(ptr {NONE})
  ret ptr {NONE}
error:
  ret ptr null
}}
"""


def _of_operands(name: str, n: int) -> str:
    """A function of n operands and nothing else by dispatch, any other call of it as a learned one."""
    loads = "".join(entry("%args", i, f"%x{i}") for i in range(n))
    operands = "".join(f", ptr %x{i}" for i in range(n)) + ", i64 0, i64 0" * (n == 1)
    return f"""
define internal ptr @{name}(ptr %called, ptr %self, ptr %args, i64 %n, ptr %names, ptr %parameters) {{
entry:
  %plain = icmp eq ptr %names, null
  %fits = icmp eq i64 %n, {n}
  %both = and i1 %plain, %fits
  br i1 %both, label %try, label %learned
try:
{loads}  %r = call ptr @dispatch{n}(ptr %called{operands}, ptr null)
{_OR_LEARNED}}}
"""


_OR_LEARNED = f"""  %missed = icmp eq ptr %r, {MISSED}
  br i1 %missed, label %learned, label %done
done:
  ret ptr %r
learned:
  %l = call ptr @with_values(ptr %called, ptr %self, ptr %args, i64 %n, ptr %names, ptr %parameters)
  ret ptr %l
"""


def _of_tensors() -> str:
    """`of_tensors`: any call, of up to three tensors by dispatch if there is a row, else as a learned one."""
    every = range(1, MOST_OPERANDS + 1)
    cases = ""
    for n in every:
        loads = "".join(entry("%rest", i, f"%x{n}.{i + 1}") for i in range(n - 1))
        others = "".join(f", ptr %x{n}.{i}" for i in range(1, n)) + ", i64 0, i64 0" * (n == 1)
        cases += f"on{n}:\n{loads}  %r{n} = call ptr @dispatch{n}(ptr %called, ptr %x0{others}, ptr null)\n"
        cases += "  br label %came\n"
    return f"""
define internal ptr @of_tensors(ptr %called, ptr %self, ptr %args, i64 %n, ptr %names, ptr %parameters) {{
entry:
  %bound = icmp ne ptr %self, null
  %lead = zext i1 %bound to i64
  %count = add i64 %n, %lead
  %plain = icmp eq ptr %names, null
  %some = icmp ne i64 %count, 0
  %both = and i1 %plain, %some
  br i1 %both, label %first.ask, label %learned
first.ask:
  br i1 %bound, label %which, label %first
first:
{entry("%args", 0, "%given")}  br label %which
which:
  %x0 = phi ptr [%self, %first.ask], [%given, %first]
  %skip = sub i64 1, %lead
{at("ptr", "%args", "%skip", "%rest")}  %alone = icmp eq i64 %count, 1
  br i1 %alone, label %on1, label %last
last:                                                    ; mostly it tells whether all are tensors
  %last.place = sub i64 %n, 1
{entry("%args", "%last.place", "%y")}{field("%class", "%y", HEAD - 8, "ptr")}\
  %is.int = icmp eq ptr %class, @PyLong_Type
  %is.none = icmp eq ptr %y, {NONE}
  %no.tensor = or i1 %is.int, %is.none
  br i1 %no.tensor, label %learned, label %try
try:
  switch i64 %count, label %learned [ {" ".join(f"i64 {n}, label %on{n}" for n in every[1:])} ]
{cases}came:
  %r = phi ptr {", ".join(f"[%r{n}, %on{n}]" for n in every)}
{_OR_LEARNED}}}
"""


def _over(n: int) -> str:
    """`over{n}`: the row of %called on n operands, the result written over the first; or MISSED."""
    others = "".join(f", ptr %x{i}" for i in range(1, n))
    words = ", i64 0, i64 0" * (n == 1)
    return f"""
define internal ptr @over{n}(ptr %called, ptr %x0{others}) {{
entry:
  %may = call i1 @may_write(ptr %x0)
  br i1 %may, label %try, label %no
try:
  %r = call ptr @dispatch{n}(ptr %called, ptr %x0{others}{words}, ptr %x0)
  ret ptr %r
no:
  ret ptr {MISSED}
}}
"""


def _over_operands(name: str, n: int) -> str:
    """A method that writes over its tensor, of n - 1 more operands and nothing else; any other call of it as
    a learned one."""
    loads = "".join(entry("%args", i, f"%x{i + 1}") for i in range(n - 1))
    others = "".join(f", ptr %x{i}" for i in range(1, n))
    return f"""
define internal ptr @{name}(ptr %called, ptr %self, ptr %args, i64 %n, ptr %names, ptr %parameters) {{
entry:
  %plain = icmp eq ptr %names, null
  %fits = icmp eq i64 %n, {n - 1}
  %both = and i1 %plain, %fits
  br i1 %both, label %try, label %learned
try:
{loads}  %r = call ptr @over{n}(ptr %called, ptr %self{others})
{_OR_LEARNED}}}
"""


def _simple(signature: str, dispatch: str, again: str, learned: str = "") -> str:
    or_else = f"""  %l = call ptr {learned}
  %unknown = icmp eq ptr %l, {MISSED}
  br i1 %unknown, label %python, label %give
give:
  ret ptr %l
"""
    return f"""
define ptr @{{name}}({signature}) {{{{
  %callable.at = getelementptr i8, ptr @callables, i64 {{place}}
  %called = load ptr, ptr %callable.at
  %r = call ptr {dispatch}
  %missed = icmp eq ptr %r, {MISSED}
  br i1 %missed, label %{"learned" if learned else "python"}, label %done
done:
  ret ptr %r
{"learned:" + chr(10) + or_else if learned else ""}python:
  %result = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %called, {again}, ptr null)
  ret ptr %result
}}}}
"""


def _direct(signature: str, call: str) -> str:
    return f"""
define ptr @{{name}}({signature}) {{{{
  %callable.at = getelementptr i8, ptr @callables, i64 {{place}}
  %called = load ptr, ptr %callable.at
  %parameters.at = getelementptr i8, ptr @parameters, i64 {{place}}
  %parameters = load ptr, ptr %parameters.at
  %r = tail call ptr {call}
  ret ptr %r
}}}}
"""


_PAIR = "ptr %x, ptr %y"
_VECTOR = "ptr %x, ptr %args, i64 %n, ptr %names"
_WITH_PAIR = "@with_pair(ptr %called, ptr %x, ptr %y)"
_TRAMPOLINES = {
    "nullary": _simple(_PAIR, "@dispatch1(ptr %called, ptr %x, i64 0, i64 0, ptr null)", "ptr %x"),
    "number": _simple(_PAIR, "@only(ptr %called, ptr %x)", "ptr %x"),
    "binary": _simple(_PAIR, "@dispatch2(ptr %called, ptr %x, ptr %y, ptr null)", _PAIR, _WITH_PAIR),
    "reflected": _simple(_PAIR, "@dispatch2(ptr %called, ptr %y, ptr %x, ptr null)", _PAIR),
    "over_binary": _simple(_PAIR, "@over2(ptr %called, ptr %x, ptr %y)", _PAIR, _WITH_PAIR),
    "ints": _direct(_VECTOR, f"@with_ints(ptr %called, {_VECTOR}, i1 false, ptr %parameters)"),
    "sizes": _direct(_VECTOR, f"@with_ints(ptr %called, {_VECTOR}, i1 true, ptr %parameters)"),
    "item": _direct("ptr %x, ptr %index", "@at_index(ptr %called, ptr %x, ptr %index)"),
    "setting": _direct(_VECTOR, f"@with_setting(ptr %called, {_VECTOR})"),
    "call": _direct(_VECTOR, f"@of_tensors(ptr %called, {_VECTOR}, ptr %parameters)"),
    "function": _direct(_VECTOR, f"@of_tensors(ptr %called, {_VECTOR}, ptr %parameters)"),
    "pair": _direct(_VECTOR, f"@of_two(ptr %called, {_VECTOR}, ptr %parameters)"),
    "one": _direct(_VECTOR, f"@of_one(ptr %called, {_VECTOR}, ptr %parameters)"),
    "over_one": _direct(_VECTOR, f"@over_one(ptr %called, {_VECTOR}, ptr %parameters)"),
    "over_pair": _direct(_VECTOR, f"@over_two(ptr %called, {_VECTOR}, ptr %parameters)"),
}
#: Calling convention of each kind, as CPython's flags: METH_NOARGS, METH_O, or METH_FASTCALL with keywords.
FLAGS = {
    **dict.fromkeys(_TRAMPOLINES, 0x82), "nullary": 0x4, "number": 0x4,
    **dict.fromkeys(("binary", "reflected", "over_binary", "item"), 0x8),
}  # fmt: skip
