"""Eager dispatch by native code: the table of rows, and the builtins `apply`, `set_recording` and methods.

`NativeDispatch` is made by the frontend for its classes; it knows nothing of ops and tensors but the slots
that it reads and writes. Rows hold addresses of objects: a row's owner keeps all of them alive, and the
dispatcher holds the owner where other code may run. See `dispatch_layout` for what a row and a record are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import dispatch_program_ir, replay_ir, storage_native
from .call import CallSpec
from .dispatch_ir import FUNCTIONS, GIVEN, NATIVE, OBJECTS, module
from .dispatch_layout import (
    DROP_GIL,
    MOST_EXTERNALS,
    MOST_OPERANDS,
    NUMBERS,
    PROGRAM,
    RECORD,
    RECORD_WORDS,
    ROW_BYTES,
    TAPED,
    VIEW,
    Slots,
)
from .dispatch_methods_ir import AXIS, FLAGS, LENGTH, packed
from .jit import load
from .replay import Replay, Replayable

__all__ = ["AXIS", "LENGTH", "NUMBERS", "NativeDispatch", "Record", "fits", "packed"]

#: Methods of each kind that there is room for.
_TRAMPOLINES = {
    "nullary": 32, "binary": 16, "reflected": 8, "ints": 8, "sizes": 8, "item": 1, "call": 64,
    "function": 64, "one": 24, "pair": 16,
}  # fmt: skip
_FIRST_ROWS = 1024
_ROW_WORDS = ROW_BYTES // 8
#: A step of a learned call: how many operands its op has (or another kind), the op, and registers.
Step = tuple[int, object, tuple[int, ...]]
#: The words by which a row is found.
_Key = tuple[int, ...]


def fits(spec: CallSpec) -> bool:
    """Whether native dispatch can make this call."""
    return len(spec.template) <= MOST_EXTERNALS and 1 <= len(spec.inputs) <= MOST_OPERANDS


@dataclass
class Record:
    """What follows from an op and its operands' types.

    op: what a tape node names. result: the result's type. count: of operands. spec: the kernel's call, or
    None for a view, `shift` bytes further. bare: mask of operands that must have no edge where a node would
    be recorded. number: a key of NUMBERS, if an operand is a number. meant: the types that operands are read
    with, None for those that have it. taped: whether there is a derivative.
    """

    op: object
    result: object
    count: int
    spec: CallSpec | None = None
    shift: int = 0
    bare: int = 0
    number: str = ""
    meant: tuple[object, ...] = ()
    taped: bool = False
    words: Any = field(init=False, repr=False)
    _kept: list[object] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        self.words = (ctypes.c_int64 * RECORD_WORDS)()
        flags = TAPED * self.taped + VIEW * (self.spec is None)
        values: dict[str, int] = {
            "op": id(self.op), "result": id(self.result), "count": self.count, "shift": self.shift,
            "bare": self.bare, "number": NUMBERS.get(self.number, 0),
            **{f"type{i}": 0 if t is None else id(t) for i, t in enumerate(self.meant)},
        }  # fmt: skip
        if self.spec is not None:
            flags += DROP_GIL * self.spec.drop_gil
            values.update(self._call(self.spec))
        for name, value in (*values.items(), ("flags", flags)):
            self.words[RECORD.index(name)] = value

    def _call(self, spec: CallSpec) -> dict[str, int]:
        sizes = (ctypes.c_int64 * max(len(spec.sizes), 1))(*spec.sizes)
        template = (ctypes.c_int64 * MOST_EXTERNALS)(*spec.template)
        self._kept += [sizes, template]
        ((made, nbytes),) = spec.outputs
        slots = [MOST_EXTERNALS if slot < 0 else slot for slot in spec.inputs]
        return {
            "run": spec.run, "sizes": ctypes.addressof(sizes), "template": ctypes.addressof(template),
            "made_slot": made, "bytes": nbytes, "arena_bytes": spec.arena_bytes,
            **{f"in{i}": slot for i, slot in enumerate(slots)},
        }  # fmt: skip

    def add_program(self, mask: int, derivative: object, places: tuple[int, ...]) -> None:
        """What a node holds if the operands in `mask` have an edge. places: what its derivative reads,
        `count` being the result."""
        at = len(RECORD) - 1 + len(PROGRAM) * mask
        kept = sum(1 << (MOST_OPERANDS if place == self.count else place) for place in places)
        self._kept += [derivative, places]
        self.words[at + 1], self.words[at + 2] = id(places), kept
        self.words[at] = id(derivative)  # last: this is what native code looks at


class _Rows:
    """The hash table: open addressing, twice as large when half full. Other threads may look at it between
    any two statements: each change is one store."""

    def __init__(self, table: int) -> None:
        self._table = ctypes.c_int64.from_address(table)
        self._rows: dict[_Key, tuple[int, object]] = {}
        self._memory = self._publish(_FIRST_ROWS)

    def clear(self) -> None:
        before = self._rows, self._memory  # freed when nothing leads to them any more
        self._rows = {}
        self._memory = self._publish(_FIRST_ROWS)
        del before

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: _Key) -> bool:
        return key in self._rows

    def add(self, key: _Key, record: int, owner: object) -> None:
        before = self._rows.get(key)
        self._rows[key] = record, owner
        if 2 * len(self._rows) > self._size:
            self._memory = self._publish(2 * self._size)
        else:
            _write(self._memory, self._size, key, record, id(owner))
        del before

    def _publish(self, size: int) -> Any:
        """A table of this size, which native code uses from now on."""
        memory = (ctypes.c_int64 * ((size + 1) * _ROW_WORDS))()
        memory[0], memory[1] = size - 1, 65 - size.bit_length()
        for key, (record, owner) in self._rows.items():
            _write(memory, size, key, record, id(owner))
        self._size = size
        self._table.value = ctypes.addressof(memory)
        return memory


def _write(memory: Any, size: int, key: _Key, record: int, owner: int) -> None:
    called, a, b, c, d, e = key
    scattered = (a + 3 * b + 7 * c + 13 * called + 5 * d + 11 * e) * 0x9E3779B97F4A7C15 & (1 << 64) - 1
    place = scattered >> 65 - size.bit_length()
    while memory[(at := _ROW_WORDS * (place + 1))]:
        if (*memory[at : at + 4], *memory[at + 6 : at + 8]) == key:
            break
        place = place + 1 & size - 1
    memory[at + 1 : at + 8] = [a, b, c, record, owner, d, e]
    memory[at] = called


def _row_key(called: object, keys: Sequence[object | int]) -> _Key:
    words = [k if type(k) is int else id(k) for k in keys] + [0] * (3 - len(keys))
    return (id(called), *words, 0, 0)


class NativeDispatch:
    """apply(op, *operands), and what else runs in front of the table.

    tensor, node: the classes, with the slots that `Slots` names. missed: called with what `apply` was given
    where there is no row. numbers: an iterator of the numbers of nodes.
    """

    def __init__(
        self, tensor: type, node: type, missed: Callable[..., Any], numbers: object
    ) -> None:  # fmt: skip
        slots = Slots(_offsets(tensor), _offsets(node))
        no_places: tuple[int, ...] = ()
        given = dict(zip(GIVEN[1:], (tensor, node, missed, numbers, no_places), strict=True))
        self._given = given  # kept: native code has their addresses
        imports = {name: id(value) for name, value in given.items()}
        ours = (*NATIVE, *replay_ir.NATIVE, "name")
        imports.update({name: storage_native.code_address(name) for name in ours})
        imports.update(storage_native.api_addresses((*FUNCTIONS, *replay_ir.FUNCTIONS), OBJECTS))
        program = _offsets(Replay)
        replay_slots = _offsets(Replayable)["_replay"], program["program"], program["older"]
        names = [f"{kind}.{i}" for kind, count in _TRAMPOLINES.items() for i in range(count)]
        variables = ("table", "busy", "silent", "callables", "parameters", *replay_ir.VARIABLES)
        functions = ("apply", "set_recording", "replay_call", *names)
        text = module(slots, _TRAMPOLINES, replay_slots)
        self.slots = slots
        self._code = load(text, (*functions, *variables), imports)
        self._rows = _Rows(self._code["table"])
        self._busy = ctypes.c_int64.from_address(self._code["busy"])
        self._free = {kind: [n for n in names if n.startswith(kind + ".")][::-1] for kind in _TRAMPOLINES}
        self._places = {name: 8 * i for i, name in enumerate(names)}
        self._callables: list[object] = []
        self._make_key()
        self.apply: Callable[..., Any] = storage_native.new_builtin("apply", self._code["apply"], 0x80)
        self.set_recording: Callable[[bool], None] = storage_native.new_builtin(
            "set_recording", self._code["set_recording"], 0x8
        )

    def _make_key(self) -> None:
        """The thread's own cell for its mode: empty while it records, as in every new thread."""
        create = ctypes.CDLL(None).pthread_key_create
        if create(ctypes.c_void_p(self._code["silent"]), None):
            raise ImportError("there is no room for a thread-local value")

    def pause(self, busy: bool) -> None:
        """Let every call miss, or no more: while ops are recorded."""
        self._busy.value = int(busy)

    def add(self, called: object, keys: Sequence[object | int], record: Record) -> None:
        """A row: what is called, and what its operands are, objects (by identity) or plain words."""
        owner = storage_native.foreign(ctypes.addressof(record.words), 8, (called, *keys, record))
        self._rows.add(_row_key(called, keys), ctypes.addressof(record.words), owner)

    def has(self, called: object, keys: Sequence[object | int]) -> bool:
        """Whether there is a row."""
        return _row_key(called, keys) in self._rows

    def learn(
        self, called: object, types: Sequence[object], words: tuple[int, int], steps: Sequence[Step],
        answer: int,
    ) -> None:  # fmt: skip
        """A learned call. types: of its tensors; words: of `dispatch_program_ir.words`; answer: the register
        that is the result. Registers: the tensors, then what each step makes."""
        count = 2 + len(dispatch_program_ir.STEP) * len(steps)
        made: Any = (ctypes.c_int64 * count)(len(steps), answer)
        for i, (kind, what, places) in enumerate(steps):
            row = [kind, id(what), *places, *[0] * (3 - len(places))]
            made[2 + len(row) * i : 2 + len(row) * (i + 1)] = row
        held = (called, types, tuple(steps), made)
        owner = storage_native.foreign(ctypes.addressof(made), 8, held)
        keys = [id(t) for t in types] + [0] * (3 - len(types))
        key = (id(called) + dispatch_program_ir.TAG, *keys, *words)
        self._rows.add(key, ctypes.addressof(made), owner)

    def clear(self) -> None:
        """Forget all rows."""
        self._rows.clear()

    def __len__(self) -> int:
        return len(self._rows)

    def method(
        self, cls: type, kind: str, name: str, called: Callable[..., Any], doc: str = "",
        parameters: tuple[str, ...] | None = None,
    ) -> Any:  # fmt: skip
        """A method of `cls` that looks for a row of `called`, and calls it where there is none. parameters:
        all their names, for learned calls by name."""
        address = self._trampoline(kind, called, parameters)
        return storage_native.new_method(cls, name, address, FLAGS[kind], doc)

    def function(
        self, kind: str, name: str, called: Callable[..., Any], parameters: tuple[str, ...] | None, doc: str,
        module: str,
    ) -> Callable[..., Any]:  # fmt: skip
        """A builtin function, calls of which that have a row are answered without `called`."""
        address = self._trampoline(kind, called, parameters)
        return storage_native.new_function(name, address, FLAGS[kind], doc, module)

    def _trampoline(self, kind: str, called: object, parameters: tuple[str, ...] | None) -> int:
        trampoline = self._free[kind].pop()
        for table, value in (("callables", called), ("parameters", parameters)):
            if value is not None:
                self._callables.append(value)
                place = self._code[table] + self._places[trampoline]
                ctypes.c_int64.from_address(place).value = id(value)
        return self._code[trampoline]

    def caller(
        self, cls: type, missed: Callable[..., Any], failed: Callable[..., Any], check_failed: type
    ) -> Any:
        """The `__call__` of a subclass of `Replayable`. missed, failed: called with the arguments where no
        replay fits, and where one raised `check_failed`."""
        for name, value in zip(replay_ir.VARIABLES, (missed, failed, check_failed), strict=True):
            self._callables.append(value)
            ctypes.c_int64.from_address(self._code[name]).value = id(value)
        return storage_native.new_method(cls, "__call__", self._code["replay_call"], 0x82)


def _offsets(cls: type) -> dict[str, int]:
    """The byte offset of each slot of a class, bases included: found with marks in an object of its."""
    names = [n for c in cls.__mro__ for n in getattr(c, "__slots__", ()) if not n.startswith("__")]
    made: Any = object.__new__(cls)
    marks = {name: object() for name in names}
    for name, mark in marks.items():
        setattr(made, name, mark)
    words = range(object.__basicsize__, cls.__basicsize__, 8)
    at = {ctypes.c_void_p.from_address(id(made) + k).value: k for k in words}
    for name in names:
        delattr(made, name)
    return {name: at[id(mark)] for name, mark in marks.items()}
