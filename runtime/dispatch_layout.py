"""What native dispatch and those who fill its table agree on: the words of rows and records, and where the
slots of the frontend's classes are; with the pieces of LLVM IR that read and write them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .storage_ir import field, put

#: Words of a row of the table (which begins with its mask and shift, in the room of a row): what is called,
#: three words for the operands, the record, and its owner; two more words of the key of a learned call.
ROW = ("called", "key0", "key1", "key2", "record", "owner", "key3", "key4")
ROW_BYTES = 64
#: Operands that native dispatch takes; external buffers of a plan that it calls.
MOST_OPERANDS, MOST_EXTERNALS = 3, 8
#: Words of a record. in0 to in2: the slot of each operand, MOST_EXTERNALS where it is not read. number: how a
#: Python number is converted (NUMBERS). type0 to type2: the types that operands are read with, if not theirs.
#: for0 to for2: what the operands must be, and owner: who keeps the record, as in its row.
RECORD = (
    "run", "sizes", "template", "in0", "in1", "in2", "made_slot", "bytes", "arena_bytes", "flags", "result",
    "shift", "count", "bare", "number", "type0", "type1", "type2", "for0", "for1",
    "for2", "owner", "programs",
)  # fmt: skip
#: Flags. OVER: the result may be written over a tensor; ALIGNED: even over an operand of its type.
DROP_GIL, VIEW, TAPED, OVER, ALIGNED = 1, 2, 4, 8, 16
#: dtype name -> how a Python number becomes an element of it.
NUMBERS = {"float32": 1, "float64": 2, "int64": 3, "int32": 4}
#: Words per choice of operands with an edge: what its nodes have in common, and what they keep, as a mask.
PROGRAM = ("recorded", "kept")
RECORD_WORDS = len(RECORD) - 1 + len(PROGRAM) * 2**MOST_OPERANDS
#: What dispatch gives where there is no row.
MISSED = "inttoptr (i64 1 to ptr)"
NONE = "@_Py_NoneStruct"


@dataclass(frozen=True)
class Slots:
    """Byte offsets of the slots of the frontend's classes, and of types."""

    tensor: Mapping[str, int]
    node: Mapping[str, int]
    leaf: Mapping[str, int]
    recorded: Mapping[str, int]
    type: Mapping[str, int]


def at(kind: str, base: str, index: str | int, name: str) -> str:
    """%name = address of element `index` of an array."""
    return f"  {name} = getelementptr {kind}, ptr {base}, i64 {index}\n"


def entry(base: str, index: str | int, name: str, kind: str = "ptr") -> str:
    """%name = element `index` of an array of words."""
    return at("i64", base, index, f"{name}.in") + f"  {name} = load {kind}, ptr {name}.in\n"


def word_at(name: str, pointer: str, offset: str) -> str:
    """Load the word at a byte offset that is known at run time."""
    address = f"  {name}.at = getelementptr i8, ptr {pointer}, i64 {offset}\n"
    return address + f"  {name} = load ptr, ptr {name}.at\n"


def word(name: str, record: str = "%record", kind: str = "ptr") -> str:
    """Load a word of the record into %name."""
    return field(f"%{name}", record, 8 * RECORD.index(name), kind)


def keep(value: str, pointer: str, offset: int, label: str) -> str:
    """Store a new reference."""
    return f"  call void @Py_IncRef(ptr {value})\n" + put("ptr", value, pointer, offset, label)


def calls(name: str, *objects: str) -> str:
    """Call a function of one object, such as Py_IncRef, on each."""
    return "".join(f"  call void @{name}(ptr {x})\n" for x in objects)


def as_index(name: str, number: str) -> str:
    """%name = the value of a Python int, if %name.ok: it fits a word."""
    return f"""  {name}.both = call {{i64, i1}} @as_index(ptr {number})
  {name} = extractvalue {{i64, i1}} {name}.both, 0
  {name}.ok = extractvalue {{i64, i1}} {name}.both, 1
"""
