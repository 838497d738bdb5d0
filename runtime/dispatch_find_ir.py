"""The LLVM IR of what all of dispatch stands on: looking up rows, and reading Python numbers."""

from __future__ import annotations

from .dispatch_layout import ROW, ROW_BYTES, as_index
from .storage_ir import HEAD, field

#: What the words of a key are multiplied by before they are added up and scattered.
FACTORS = {"called": 13, "key0": 1, "key1": 3, "key2": 7, "key3": 5, "key4": 11}
SCATTER = 0x9E3779B97F4A7C15
#: Open addressing: what is not at place %i may be at the next of as many as %mask says.
NEXT_PLACE = """other:
  %after = add i64 %i, 1
  %next = and i64 %after, %mask
  br label %look
"""


def lookups() -> str:
    """`find`, `find_learned`: the row with these words, or null; `as_index`, `convert`: Python numbers."""
    words = tuple(FACTORS)
    return _probe("find", words[:4]) + _probe("find_learned", words) + _AS_INDEX + _CONVERT


def _sum(operation: str, names: list[str], label: str) -> str:
    """%label = all of these words, joined two by two by an operation."""
    lines, total = "", names[0]
    for i, name in enumerate(names[1:], start=1):
        result = f"%{label}" if i == len(names) - 1 else f"%{label}.{i}"
        lines += f"  {result} = {operation} i64 {total}, {name}\n"
        total = result
    return lines


def _probe(name: str, words: tuple[str, ...]) -> str:
    """A function that looks for the row whose key begins with these words: open addressing, one after the
    other from the place that the hash gives."""
    scaled = "".join(f"  %{w}.scaled = mul i64 %{w}, {FACTORS[w]}\n" for w in words)
    loads = "".join(field(f"%its.{w}", "%row", 8 * ROW.index(w)) for w in words)
    differences = "".join(f"  %{w}.differs = xor i64 %its.{w}, %{w}\n" for w in words)
    return f"""
define internal ptr @{name}({", ".join(f"i64 %{w}" for w in words)}) {{
entry:
{scaled}{_sum("add", [f"%{w}.scaled" for w in words], "summed")}\
  %scattered = mul i64 %summed, {SCATTER - (1 << 64)}
  %table = load ptr, ptr @table
  %mask = load i64, ptr %table
{field("%shift", "%table", 8)}  %rows = getelementptr i8, ptr %table, i64 {ROW_BYTES}
  %first = lshr i64 %scattered, %shift
  br label %look
look:
  %i = phi i64 [%first, %entry], [%next, %other]
  %place = mul i64 %i, {ROW_BYTES}
  %row = getelementptr i8, ptr %rows, i64 %place
{loads}{differences}{_sum("or", [f"%{w}.differs" for w in words], "difference")}\
  %same = icmp eq i64 %difference, 0
  br i1 %same, label %found, label %differs
differs:
  %free = icmp eq i64 %its.called, 0
  br i1 %free, label %absent, label %other
{NEXT_PLACE}found:
  ret ptr %row
absent:
  ret ptr null
}}
"""


_AS_INDEX = """
define internal {i64, i1} @as_index(ptr %number) {          ; the value of an int, and whether it fits
entry:
  %value = call i64 @PyLong_AsSsize_t(ptr %number)
  %minus.one = icmp eq i64 %value, -1
  br i1 %minus.one, label %check, label %good
check:
  %error = call ptr @PyErr_Occurred()
  %failed = icmp ne ptr %error, null
  br i1 %failed, label %bad, label %good
good:
  %with = insertvalue {i64, i1} poison, i64 %value, 0
  %result = insertvalue {i64, i1} %with, i1 true, 1
  ret {i64, i1} %result
bad:
  call void @PyErr_Clear()
  ret {i64, i1} zeroinitializer
}
"""

# A Python number as an element: rounded once, and only where it fits; the rest is Python's to decide.
_CONVERT = f"""
define internal i1 @convert(ptr %cell, ptr %number, i1 %is.float, i64 %kind) {{
entry:
  br i1 %is.float, label %float, label %int
float:
{field("%real", "%number", HEAD, "double")}  br label %as.real
int:
{as_index("%whole", "%number")}  br i1 %whole.ok, label %int.ok, label %no
int.ok:
  switch i64 %kind, label %int.real [ i64 3, label %as.i64 i64 4, label %as.i32 ]
as.i64:
  store i64 %whole, ptr %cell
  ret i1 true
as.i32:
  %narrow = trunc i64 %whole to i32
  %wide = sext i32 %narrow to i64
  %fits = icmp eq i64 %wide, %whole
  store i32 %narrow, ptr %cell
  ret i1 %fits
int.real:                                            ; up to 2^53 a double holds it: one rounding in all
  %shifted = add i64 %whole, {1 << 53}
  %exact = icmp ule i64 %shifted, {1 << 54}
  %converted = sitofp i64 %whole to double
  br i1 %exact, label %as.real, label %no
as.real:
  %value = phi double [%real, %float], [%converted, %int.real]
  switch i64 %kind, label %no [ i64 1, label %as.f32 i64 2, label %as.f64 ]
as.f64:
  store double %value, ptr %cell
  %is.number64 = fcmp ord double %value, %value
  ret i1 %is.number64
as.f32:
  %single = fptrunc double %value to float
  store float %single, ptr %cell
  %difference = fsub float %single, %single            ; nan for nan and the infinities
  %finite = fcmp ord float %difference, %difference
  ret i1 %finite
no:
  ret i1 false
}}
"""
