"""The LLVM IR that encodes calls of functions of tensors, to find their programs by.

The key of a call is the types of its tensors and a row of *codes* of 31 bits for its arguments (`codes` gives
the same in Python): ints, None, bools and ... have codes of their own; tensors have one in common, but one
that came before tells which it is; floats and other plain objects have the number that they were given when a
call with them was learned, found in the same table as everything. More codes than a key has room for are
folded: four of them are a name, too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

from ..ir.dtypes import DType
from .dispatch_layout import MISSED, NONE, ROW, as_index, at, entry
from .dispatch_program_ir import MOST_REGISTERS, MOST_TENSORS
from .storage_ir import HEAD, field

#: Arguments of a call, codes of all of them together, and codes that a key holds.
MOST_VALUES, MOST_CODES, IN_KEY = 8, 16, 4
#: Codes: ints are biased, then come names, and what there is one of.
BIAS, FIRST_NAME, _LAST_NAME = 1 << 29, 1 << 30, 0x7FFFFF00
ABSENT, _NONE, _FALSE, _TRUE, _TENSOR, _ELLIPSIS, _SLICE, _SLICE_BY, _WHOLE = range(0x7FFFFF80, 0x7FFFFF89)
_SINGLES = {type(None): _NONE, bool: _FALSE, type(...): _ELLIPSIS}
#: Plus the place of the tensor among those that differ.
_SAME: Final = 0x7FFFFF90
#: Plus the number of elements.
_TUPLE, _LIST = 0x7FFFFFA0, 0x7FFFFFC0
OBJECTS = ("_Py_FalseStruct", "_Py_TrueStruct", "_Py_EllipsisObject", "PyExc_Exception")
#: What is named, as the first word of a row's key.
FLOAT, OBJECT, FOLDED = 2, 4, 6

#: Stands for an argument that is not given, before one that is.
MISSING: Final = object()
#: Something that has no code of its own: (FLOAT, bits), (OBJECT, it) or (FOLDED, two words).
Name = tuple[Any, ...]
Code = int | Name
#: The code of a tensor; None for anything else.
_TensorCode = Callable[[Any], int | None]


def codes(values: Iterable[Any], is_tensor: Callable[[Any], bool]) -> list[Code] | None:
    """The codes of arguments; None if there are too many, or one that has no code."""
    found: list[Code] = []
    tensors: list[Any] = []

    def tensor_code(value: Any) -> int | None:
        if not is_tensor(value):
            return None
        same = next((i for i, x in enumerate(tensors) if x is value), None)
        if same is None:
            tensors.append(value)
        return _TENSOR if same is None else _SAME + same

    for value in values:
        more = _codes_of(value, tensor_code)
        if more is None or len(found) + len(more) > MOST_CODES:
            return None
        found += more
    return found


def _codes_of(value: Any, tensor_code: _TensorCode) -> list[Code] | None:
    kind = value.__class__
    if kind is tuple or kind is list:
        return _codes_within((_TUPLE if kind is tuple else _LIST) + len(value), value, tensor_code)
    if kind is slice:
        if value.start is None and value.stop is None and value.step is None:
            return [_WHOLE]
        if value.step is None:
            return _codes_within(_SLICE, (value.start, value.stop), tensor_code)
        return _codes_within(_SLICE_BY, (value.start, value.stop, value.step), tensor_code)
    code = ABSENT if value is MISSING else _code_of(value, tensor_code)
    return None if code is None else [code]


def _code_of(value: Any, tensor_code: _TensorCode) -> Code | None:
    kind = value.__class__
    if kind is int:
        return value + BIAS if 0 <= value + BIAS < FIRST_NAME else None
    if kind in _SINGLES:
        return _SINGLES[kind] + (value is True)
    if kind is float:
        return FLOAT, struct.unpack("<q", struct.pack("<d", value))[0]
    if kind is str or kind is DType:
        return OBJECT, value
    return tensor_code(value)


def _codes_within(head: int, parts: Iterable[Any], tensor_code: _TensorCode) -> list[Code] | None:
    inner = [_code_of(v, tensor_code) for v in parts]
    return None if None in inner or len(inner) >= MOST_CODES else [head, *inner]  # type: ignore[list-item]


def words(found: Iterable[Code], mask: int, number: Callable[[Name], int]) -> tuple[int, int]:
    """Two words of the key: the codes, and which tensors have an edge. number: the code of a name."""
    c = [x if isinstance(x, int) else number(x) for x in found]
    while len(c) > IN_KEY:
        c = [number((FOLDED, c[0] | c[1] << 32, c[2] | c[3] << 32)), *c[IN_KEY:]]
    c += [ABSENT] * (IN_KEY - len(c))
    low = c[0] | (mask & 1) << 31 | c[1] << 32
    return low - ((mask & 2) << 62), c[2] | (mask & 4) << 29 | c[3] << 32


def codes_ir() -> str:
    """All of this file: `with_values`, `with_pair`, `with_index`, `with_setting` answer calls by programs."""
    return "".join((
        _CODE_ONE, _ENCODE_ATOM, _ENCODE_ALL, _ENCODE_SLICE, _ENCODE, _RUN_CODES, _PLACE_NAMED, _WITH_VALUES,
        _WITH_PAIR, _ENCODE_INDEX, _WITH_INDEX, _WITH_SETTING,
    ))  # fmt: skip


# One plain value -> its code, -1 if it has none.
_CODE_ONE = f"""
define internal i64 @code_one(ptr %value) {{
entry:
{field("%class", "%value", HEAD - 8, "ptr")}  %is.int = icmp eq ptr %class, @PyLong_Type
  br i1 %is.int, label %int, label %ask.float
int:
{as_index("%number", "%value")}  br i1 %number.ok, label %narrow, label %no
narrow:
  %biased = add i64 %number, {BIAS}
  %fits = icmp ult i64 %biased, {FIRST_NAME}
  %code = select i1 %fits, i64 %biased, i64 -1
  ret i64 %code
ask.float:
  %is.float = icmp eq ptr %class, @PyFloat_Type
  br i1 %is.float, label %float, label %single
float:
{field("%bits", "%value", HEAD)}  %float.row = call ptr @find(i64 {FLOAT}, i64 %bits, i64 0, i64 0)
  br label %named
single:
  %is.none = icmp eq ptr %value, {NONE}
  %is.false = icmp eq ptr %value, @_Py_FalseStruct
  %is.true = icmp eq ptr %value, @_Py_TrueStruct
  %is.dots = icmp eq ptr %value, @_Py_EllipsisObject
  %c0 = select i1 %is.none, i64 {_NONE}, i64 -1
  %c1 = select i1 %is.false, i64 {_FALSE}, i64 %c0
  %c2 = select i1 %is.true, i64 {_TRUE}, i64 %c1
  %c3 = select i1 %is.dots, i64 {_ELLIPSIS}, i64 %c2
  %is.single = icmp sge i64 %c3, 0
  br i1 %is.single, label %give.single, label %object
give.single:
  ret i64 %c3
object:
  %address = ptrtoint ptr %value to i64
  %object.row = call ptr @find(i64 {OBJECT}, i64 %address, i64 0, i64 0)
  br label %named
named:
  %row = phi ptr [%float.row, %float], [%object.row, %object]
  %unknown = icmp eq ptr %row, null
  br i1 %unknown, label %no, label %known
known:
{field("%name", "%row", 8 * ROW.index("record"))}  ret i64 %name
no:
  ret i64 -1
}}
"""

_ENCODER = "(ptr %value, ptr %codes, i64 %have, ptr %regs, ptr %tensors)"


def _room(then: str, codes: int = 1) -> str:
    """Go on at a label if there is room for so many more codes."""
    return f"""  %full = icmp sge i64 %have, {MOST_CODES + 1 - codes}
  br i1 %full, label %no, label %{then}
{then}:
"""


# Append the code of a tensor or a plain value at %codes[%have], a new tensor to %regs; gives how many codes
# there are then, or -1. %tensors points to the number of tensors so far.
_ENCODE_ATOM = f"""
define internal i64 @encode_atom{_ENCODER} {{
entry:
{_room("kind")}{at("i64", "%codes", "%have", "%here")}  %next = add i64 %have, 1
{field("%class", "%value", HEAD - 8, "ptr")}  %is.tensor = icmp eq ptr %class, @tensor
  br i1 %is.tensor, label %tensor, label %plain
plain:
  %code = call i64 @code_one(ptr %value)
  %coded = icmp sge i64 %code, 0
  br i1 %coded, label %put, label %derived
put:
  store i64 %code, ptr %here
  ret i64 %next
derived:
  %subtype = call i32 @PyType_IsSubtype(ptr %class, ptr @tensor)
  %is.derived = icmp ne i32 %subtype, 0
  br i1 %is.derived, label %tensor, label %no
tensor:
  %count = load i64, ptr %tensors
  br label %before
before:
  %b = phi i64 [0, %tensor], [%b.next, %differs]
  %b.more = icmp slt i64 %b, %count
  br i1 %b.more, label %compare, label %new
compare:
{entry("%regs", "%b", "%known")}  %same = icmp eq ptr %known, %value
  br i1 %same, label %again, label %differs
differs:
  %b.next = add i64 %b, 1
  br label %before
again:
  %same.code = add i64 %b, {_SAME}
  store i64 %same.code, ptr %here
  ret i64 %next
new:
  %room = icmp slt i64 %count, {MOST_TENSORS}
  br i1 %room, label %tensor.put, label %no
tensor.put:
{at("ptr", "%regs", "%count", "%reg")}  store ptr %value, ptr %reg
  %counted = add i64 %count, 1
  store i64 %counted, ptr %tensors
  store i64 {_TENSOR}, ptr %here
  ret i64 %next
no:
  ret i64 -1
}}
"""


def _encode_all(name: str, head: int, size: str, get: str) -> str:
    """Append the codes of a sequence of atoms: how many, and each."""
    return f"""
define internal i64 @{name}{_ENCODER} {{
entry:
{_room("begin")}  %size = call i64 @{size}(ptr %value)
  %few = icmp slt i64 %size, {MOST_CODES}
  br i1 %few, label %head, label %no
head:
  %code = add i64 %size, {head}
{at("i64", "%codes", "%have", "%here")}  store i64 %code, ptr %here
  %next = add i64 %have, 1
  br label %loop
loop:
  %i = phi i64 [0, %head], [%i.next, %atom.ok]
  %place = phi i64 [%next, %head], [%encoded, %atom.ok]
  %more = icmp slt i64 %i, %size
  br i1 %more, label %atom, label %done
atom:
  %item = call ptr @{get}(ptr %value, i64 %i)
  %encoded = call i64 @encode_atom(ptr %item, ptr %codes, i64 %place, ptr %regs, ptr %tensors)
  %i.next = add i64 %i, 1
  %bad = icmp slt i64 %encoded, 0
  br i1 %bad, label %no, label %atom.ok
atom.ok:
  br label %loop
done:
  ret i64 %place
no:
  ret i64 -1
}}
"""


_ENCODE_ALL = _encode_all("encode_tuple", _TUPLE, "PyTuple_Size", "PyTuple_GetItem")
_ENCODE_ALL += _encode_all("encode_list", _LIST, "PyList_Size", "PyList_GetItem")


def _slice_part(name: str, then: str) -> str:
    return f"""  %{name}.code = call i64 @code_one(ptr %{name})
  %{name}.bad = icmp slt i64 %{name}.code, 0
{at("i64", "%codes", f"%{name}.place", f"%{name}.to")}  store i64 %{name}.code, ptr %{name}.to
  br i1 %{name}.bad, label %no, label %{then}
"""


# There is room for three more codes than may be used.
_ENCODE_SLICE = f"""
define internal i64 @encode_slice(ptr %value, ptr %codes, i64 %have) {{
entry:
{at("i64", "%codes", "%have", "%here")}  %start.place = add i64 %have, 1
  %stop.place = add i64 %have, 2
  %step.place = add i64 %have, 3
{field("%start", "%value", HEAD, "ptr")}{field("%stop", "%value", HEAD + 8, "ptr")}\
{field("%step", "%value", HEAD + 16, "ptr")}  %from.first = icmp eq ptr %start, {NONE}
  %to.last = icmp eq ptr %stop, {NONE}
  %by.one = icmp eq ptr %step, {NONE}
  %ends = and i1 %from.first, %to.last
  %whole = and i1 %ends, %by.one
  br i1 %whole, label %all, label %part
all:
  store i64 {_WHOLE}, ptr %here
  ret i64 %start.place
part:
{_room("bounds", 4)}  %head = select i1 %by.one, i64 {_SLICE}, i64 {_SLICE_BY}
  store i64 %head, ptr %here
{_slice_part("start", "second")}second:
{_slice_part("stop", "third")}third:
  br i1 %by.one, label %done, label %steps
done:
  ret i64 %step.place
steps:
{_slice_part("step", "all.three")}all.three:
  %end = add i64 %have, 4
  ret i64 %end
no:
  ret i64 -1
}}
"""

# Append the codes of one argument; null for one that is absent.
_ENCODE = f"""
define internal i64 @encode{_ENCODER} {{
entry:
{_room("kind")}  %absent = icmp eq ptr %value, null
  br i1 %absent, label %skip, label %class.ask
skip:
{at("i64", "%codes", "%have", "%here")}  store i64 {ABSENT}, ptr %here
  %next = add i64 %have, 1
  ret i64 %next
class.ask:
{field("%class", "%value", HEAD - 8, "ptr")}  %is.tuple = icmp eq ptr %class, @PyTuple_Type
  br i1 %is.tuple, label %tuple, label %kind.list
tuple:
  %of.tuple = call i64 @encode_tuple(ptr %value, ptr %codes, i64 %have, ptr %regs, ptr %tensors)
  ret i64 %of.tuple
kind.list:
  %is.list = icmp eq ptr %class, @PyList_Type
  br i1 %is.list, label %list, label %kind.slice
list:
  %of.list = call i64 @encode_list(ptr %value, ptr %codes, i64 %have, ptr %regs, ptr %tensors)
  ret i64 %of.list
kind.slice:
  %is.slice = icmp eq ptr %class, @PySlice_Type
  br i1 %is.slice, label %slice, label %atom
slice:
  %of.slice = call i64 @encode_slice(ptr %value, ptr %codes, i64 %have)
  ret i64 %of.slice
atom:
  %of.atom = call i64 @encode_atom(ptr %value, ptr %codes, i64 %have, ptr %regs, ptr %tensors)
  ret i64 %of.atom
no:
  ret i64 -1
}}
"""

_LOADED = "".join(entry("%at", i, f"%c{i}", "i64") for i in range(IN_KEY))

# The answer of the program with these codes, or MISSED. Beyond the last code all are ABSENT.
_RUN_CODES = f"""
define internal ptr @run_codes(ptr %called, ptr %regs, i64 %n, ptr %codes, i64 %count) {{
entry:
  br label %pack
pack:
  %at = phi ptr [%codes, %entry], [%last, %named]
  %left = phi i64 [%count, %entry], [%fewer, %named]
{_LOADED}  %up1 = shl i64 %c1, 32
  %up3 = shl i64 %c3, 32
  %low = or i64 %c0, %up1
  %high = or i64 %c2, %up3
  %long = icmp sgt i64 %left, {IN_KEY}
  br i1 %long, label %fold, label %run
fold:                                                    ; these are one code, which stands where the last did
  %row = call ptr @find(i64 {FOLDED}, i64 %low, i64 %high, i64 0)
  %unknown = icmp eq ptr %row, null
  br i1 %unknown, label %no, label %named
named:
{field("%name", "%row", 8 * ROW.index("record"))}{at("i64", "%at", IN_KEY - 1, "%last")}\
  store i64 %name, ptr %last
  %fewer = sub i64 %left, {IN_KEY - 1}
  br label %pack
run:
  %r = call ptr @run_program(ptr %called, ptr %regs, i64 %n, i64 %low, i64 %high)
  ret ptr %r
no:
  ret ptr {MISSED}
}}
"""

_ROOM = MOST_CODES + IN_KEY
_ABSENTS = ", ".join([f"i64 {ABSENT}"] * _ROOM)
_FRAME = f"""  %regs = alloca [{MOST_REGISTERS} x ptr]
  %codes = alloca [{_ROOM} x i64], align 64
  %tensors = alloca i64
  store i64 0, ptr %tensors
  store <{_ROOM} x i64> <{_ABSENTS}>, ptr %codes, align 64
"""

# Put the values of named arguments, which follow the %n others in %args, into their places in %values. Gives
# how many values there are then, -1 if a name is none of %parameters.
_PLACE_NAMED = f"""
define internal i64 @place_named(
    ptr %names, ptr %parameters, ptr %args, i64 %n, ptr %values, i64 %positional) {{
entry:
  %unknown = icmp eq ptr %parameters, null
  br i1 %unknown, label %no, label %count
count:
  %size = call i64 @PyTuple_Size(ptr %names)
  %known = call i64 @PyTuple_Size(ptr %parameters)
  br label %loop
loop:
  %k = phi i64 [0, %count], [%k.next, %put]
  %last = phi i64 [%positional, %count], [%last.next, %put]
  %more = icmp slt i64 %k, %size
  br i1 %more, label %get, label %done
get:
  %name = call ptr @PyTuple_GetItem(ptr %names, i64 %k)
  br label %look
look:
  %p = phi i64 [%positional, %get], [%p.next, %differs]
  %p.more = icmp slt i64 %p, %known
  br i1 %p.more, label %compare, label %no
compare:
  %parameter = call ptr @PyTuple_GetItem(ptr %parameters, i64 %p)
  %same = icmp eq ptr %parameter, %name
  br i1 %same, label %fits, label %differs
differs:
  %p.next = add i64 %p, 1
  br label %look
fits:
  %room = icmp slt i64 %p, {MOST_VALUES}
  br i1 %room, label %put, label %no
put:
  %from = add i64 %n, %k
{entry("%args", "%from", "%value")}{at("ptr", "%values", "%p", "%to")}  store ptr %value, ptr %to
  %k.next = add i64 %k, 1
  %end = add i64 %p, 1
  %later = icmp sgt i64 %end, %last
  %last.next = select i1 %later, i64 %end, i64 %last
  br label %loop
done:
  ret i64 %last
no:
  ret i64 -1
}}
"""

# callable(self, *args, names=...) as a learned call; self may be null. parameters: their names, or null where
# the function takes any number and no names.
_WITH_VALUES = f"""
define internal ptr @with_values(ptr %called, ptr %self, ptr %args, i64 %n, ptr %names, ptr %parameters) {{
entry:
{_FRAME}  %values = alloca [{MOST_VALUES} x ptr]
  %bound = icmp ne ptr %self, null
  %lead = zext i1 %bound to i64
  %positional = add i64 %n, %lead
  %many = icmp ugt i64 %positional, {MOST_VALUES}
  br i1 %many, label %python, label %clear
clear:
  store [{MOST_VALUES} x ptr] zeroinitializer, ptr %values
  store ptr %self, ptr %values
  br label %copy
copy:
  %i = phi i64 [0, %clear], [%i.next, %copy.one]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %copy.one, label %named.ask
copy.one:
{entry("%args", "%i", "%arg")}  %i.to = add i64 %i, %lead
{at("ptr", "%values", "%i.to", "%value.at")}  store ptr %arg, ptr %value.at
  %i.next = add i64 %i, 1
  br label %copy
named.ask:
  %named = icmp ne ptr %names, null
  br i1 %named, label %place, label %all
place:
  %last = call i64 @place_named(
      ptr %names, ptr %parameters, ptr %args, i64 %n, ptr %values, i64 %positional)
  %unplaced = icmp slt i64 %last, 0
  br i1 %unplaced, label %python, label %all
all:
  %end = phi i64 [%positional, %named.ask], [%last, %place]
  br label %loop
loop:
  %v = phi i64 [0, %all], [%v.next, %encoded]
  %have = phi i64 [0, %all], [%had, %encoded]
  %v.more = icmp slt i64 %v, %end
  br i1 %v.more, label %one, label %run
one:
{entry("%values", "%v", "%value")}\
  %had = call i64 @encode(ptr %value, ptr %codes, i64 %have, ptr %regs, ptr %tensors)
  %bad = icmp slt i64 %had, 0
  br i1 %bad, label %python, label %encoded
encoded:
  %v.next = add i64 %v, 1
  br label %loop
run:
  %count = load i64, ptr %tensors
  %r = call ptr @run_codes(ptr %called, ptr %regs, i64 %count, ptr %codes, i64 %have)
  %missed = icmp eq ptr %r, {MISSED}
  br i1 %missed, label %python, label %done
done:
  ret ptr %r
python:
  %result = call ptr @python(ptr %called, ptr %self, ptr %args, i64 %n, ptr %names)
  ret ptr %result
}}
"""

# called(x, y) as a learned call, or MISSED.
_WITH_PAIR = f"""
define internal ptr @with_pair(ptr %called, ptr %x, ptr %y) {{
entry:
{_FRAME}  %first = call i64 @encode_atom(ptr %x, ptr %codes, i64 0, ptr %regs, ptr %tensors)
  %x.bad = icmp slt i64 %first, 0
  br i1 %x.bad, label %no, label %other
other:
  %second = call i64 @encode_atom(ptr %y, ptr %codes, i64 %first, ptr %regs, ptr %tensors)
  %y.bad = icmp slt i64 %second, 0
  br i1 %y.bad, label %no, label %run
run:
  %count = load i64, ptr %tensors
  %r = call ptr @run_codes(ptr %called, ptr %regs, i64 %count, ptr %codes, i64 %second)
  ret ptr %r
no:
  ret ptr {MISSED}
}}
"""

# Append the codes of x and of an index, the items of a tuple one by one; -1 if something has none.
_ENCODE_INDEX = f"""
define internal i64 @encode_index(ptr %x, ptr %index, ptr %codes, ptr %regs, ptr %tensors) {{
entry:
  %first = call i64 @encode_atom(ptr %x, ptr %codes, i64 0, ptr %regs, ptr %tensors)
  %bad = icmp slt i64 %first, 0
  br i1 %bad, label %no, label %kind
kind:
{field("%class", "%index", HEAD - 8, "ptr")}  %is.tuple = icmp eq ptr %class, @PyTuple_Type
  br i1 %is.tuple, label %several, label %single
single:
  %only = call i64 @encode(ptr %index, ptr %codes, i64 %first, ptr %regs, ptr %tensors)
  ret i64 %only
several:
  %size = call i64 @PyTuple_Size(ptr %index)
  br label %loop
loop:
  %i = phi i64 [0, %several], [%i.next, %encoded]
  %have = phi i64 [%first, %several], [%had, %encoded]
  %more = icmp slt i64 %i, %size
  br i1 %more, label %one, label %done
one:
  %item = call ptr @PyTuple_GetItem(ptr %index, i64 %i)
  %had = call i64 @encode(ptr %item, ptr %codes, i64 %have, ptr %regs, ptr %tensors)
  %item.bad = icmp slt i64 %had, 0
  br i1 %item.bad, label %no, label %encoded
encoded:
  %i.next = add i64 %i, 1
  br label %loop
done:
  ret i64 %have
no:
  ret i64 -1
}}
"""

# called(x, index) for an index of several items, or of a kind that has no row of its own, or MISSED.
_WITH_INDEX = f"""
define internal ptr @with_index(ptr %called, ptr %x, ptr %index) {{
entry:
{_FRAME}  %have = call i64 @encode_index(ptr %x, ptr %index, ptr %codes, ptr %regs, ptr %tensors)
  %bad = icmp slt i64 %have, 0
  br i1 %bad, label %no, label %run
run:
  %count = load i64, ptr %tensors
  %r = call ptr @run_codes(ptr %called, ptr %regs, i64 %count, ptr %codes, i64 %have)
  ret ptr %r
no:
  ret ptr {MISSED}
}}
"""

# called(x, index, value), which writes: METH_FASTCALL with as many arguments.
_WITH_SETTING = f"""
define internal ptr @with_setting(ptr %called, ptr %x, ptr %args, i64 %n, ptr %names) {{
entry:
{_FRAME}  %two = icmp eq i64 %n, 2
  %plain = icmp eq ptr %names, null
  %fits = and i1 %two, %plain
  br i1 %fits, label %index.get, label %python
index.get:
{entry("%args", 0, "%index")}{entry("%args", 1, "%value")}\
  %have = call i64 @encode_index(ptr %x, ptr %index, ptr %codes, ptr %regs, ptr %tensors)
  %bad = icmp slt i64 %have, 0
  br i1 %bad, label %python, label %value.get
value.get:
  %all = call i64 @encode(ptr %value, ptr %codes, i64 %have, ptr %regs, ptr %tensors)
  %value.bad = icmp slt i64 %all, 0
  br i1 %value.bad, label %python, label %run
run:
  %count = load i64, ptr %tensors
  %r = call ptr @run_codes(ptr %called, ptr %regs, i64 %count, ptr %codes, i64 %all)
  %missed = icmp eq ptr %r, {MISSED}
  br i1 %missed, label %python, label %done
done:
  ret ptr %r
python:
  %result = call ptr @python(ptr %called, ptr %x, ptr %args, i64 %n, ptr %names)
  ret ptr %result
}}
"""
