"""Eager dispatch by native code: the table of rows, and the builtins `apply`, `set_recording` and methods.

`NativeDispatch` is made by the frontend for its classes; it knows nothing of ops and tensors but the slots
that it reads and writes. Rows hold addresses of objects: a row's owner keeps all of them alive, and the
dispatcher holds the owner where other code may run. See `dispatch_layout` for what a row and a record are.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import mul
from types import MemberDescriptorType
from typing import Any

from . import dispatch_backward_ir as backward_ir
from . import dispatch_codes_ir as codes_ir
from . import dispatch_program_ir as program_ir
from . import replay_ir, storage_native
from .call import CallSpec
from .dispatch_find_ir import FACTORS, SCATTER
from .dispatch_index_ir import AXIS, LENGTH, packed
from .dispatch_ir import FUNCTIONS, NATIVE, OBJECTS, module
from .dispatch_layout import (
    ALIGNED,
    DROP_GIL,
    MOST_EXTERNALS,
    MOST_OPERANDS,
    NUMBERS,
    OVER,
    PROGRAM,
    RECORD,
    RECORD_WORDS,
    ROW_BYTES,
    TAPED,
    VIEW,
    Slots,
)
from .dispatch_methods_ir import FLAGS
from .jit import load
from .replay import Replay, Replayable

__all__ = [
    "ASSIGN", "AXIS", "COPY", "LENGTH", "MOST_OPERANDS", "NUMBERS", "NativeDispatch", "Record", "fits",
    "packed",
]  # fmt: skip

#: Methods of each kind that there is room for.
_TRAMPOLINES = {
    "nullary": 32, "number": 2, "binary": 28, "reflected": 8, "over_binary": 8, "ints": 8,
    "sizes": 8, "item": 1, "setting": 1, "call": 160, "function": 192, "one": 24, "pair": 16, "over_one": 24,
    "over_pair": 12,
}  # fmt: skip
#: Builtins, with CPython's flags.
_BUILTINS = {
    "apply": 0x80, "set_recording": 0x8, "queue_new": 0x4, "queue_run": 0x80, "queue_deliver": 0x80,
    "queue_at": 0x80,
}  # fmt: skip
#: What native code calls by where it means: write the second operand over the first; copy an operand.
ASSIGN, COPY = object(), object()
_FIRST_ROWS = 1024
_ROW_WORDS = ROW_BYTES // 8
#: A step of a learned call: how many operands its op has (or another kind), the op, registers, and the
#: register that is written over, or -1.
Step = tuple[int, object, tuple[int, ...], int]
#: A step of a derivative: how many operands its op has (0: a constant), op or constant, and registers.
BackwardStep = tuple[int, object, tuple[int, ...]]
#: The words by which a row is found.
_Key = tuple[int, ...]


def fits(spec: CallSpec) -> bool:
    """Whether native dispatch can make this call."""
    return len(spec.template) <= MOST_EXTERNALS and 1 <= len(spec.inputs) <= MOST_OPERANDS


@dataclass
class Record:
    """What follows from an op and its operands' types.

    result: the result's type. count: of operands. spec: the kernel's call, or None for a view, `shift` bytes
    further. bare: mask of operands that must have no edge where a node would be recorded. number: a key of
    NUMBERS, if an operand is a number. meant: the types that operands are read with, None for those that have
    it. taped: whether there is a derivative. over: whether the result may be written over a tensor; aligned:
    even over an operand of its type.
    """

    result: object
    count: int
    spec: CallSpec | None = None
    shift: int = 0
    bare: int = 0
    number: str = ""
    meant: tuple[object, ...] = ()
    taped: bool = False
    over: bool = False
    aligned: bool = False
    words: Any = field(init=False, repr=False)
    _kept: list[object] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        self.words = (ctypes.c_int64 * RECORD_WORDS)()
        flags = TAPED * self.taped + VIEW * (self.spec is None) + OVER * self.over + ALIGNED * self.aligned
        values: dict[str, int] = {
            "result": id(self.result), "count": self.count, "shift": self.shift,
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
        made, nbytes = spec.outputs[0] if spec.outputs else (MOST_EXTERNALS, 0)
        slots = [MOST_EXTERNALS if slot < 0 else slot for slot in spec.inputs]
        return {
            "run": spec.run, "sizes": ctypes.addressof(sizes), "template": ctypes.addressof(template),
            "made_slot": made, "bytes": nbytes, "arena_bytes": spec.arena_bytes,
            **{f"in{i}": slot for i, slot in enumerate(slots)},
        }  # fmt: skip

    def owned_with(self, objects: tuple[object, ...], keys: tuple[int, ...]) -> object:
        """What keeps this record and these objects. keys: what operands it is for."""
        owner = storage_native.foreign(ctypes.addressof(self.words), 8, (objects, self))
        first = RECORD.index("for0")
        self.words[first : first + len(keys)] = keys
        self.words[RECORD.index("owner")] = id(owner)
        return owner

    def add_program(self, mask: int, recorded: object, places: tuple[int, ...]) -> None:
        """What nodes have in common if the operands in `mask` have an edge. places: what they keep, `count`
        being the result."""
        at = len(RECORD) - 1 + len(PROGRAM) * mask
        self._kept.append(recorded)
        self.words[at + 1] = sum(1 << (MOST_OPERANDS if place == self.count else place) for place in places)
        self.words[at] = id(recorded)  # last: this is what native code looks at


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

    def __getitem__(self, key: _Key) -> tuple[int, object]:
        """Where the record of a row is, and its owner."""
        return self._rows[key]

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
        for key, (record, owner) in self._rows.copy().items():  # the collector may run what adds a row
            _write(memory, size, key, record, id(owner))
        self._size = size
        self._table.value = ctypes.addressof(memory)
        return memory


def _write(memory: Any, size: int, key: _Key, record: int, owner: int) -> None:
    called, a, b, c, d, e = key
    scattered = sum(map(mul, FACTORS.values(), key)) * SCATTER & (1 << 64) - 1
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

    Knows the classes by the slots that `Slots` names. missed: called with what `apply` was given where there
    is no row. numbers: an iterator of the numbers of nodes.
    """

    def __init__(
        self, classes: Mapping[str, type], missed: Callable[..., Any], numbers: object, add: object,
        lock: threading.RLock,
    ) -> None:  # fmt: skip
        """classes: tensor, node, leaf, recorded, type. add: the op that joins cotangents. lock: held where
        rows and names change."""
        self._lock = lock
        slots = Slots(**{name: _offsets(cls) for name, cls in classes.items()})
        zeros = tuple([(0,) * n for n in range(MOST_OPERANDS + 2)])
        given = {
            **{name: classes[name] for name in ("tensor", "node", "leaf")},
            "missed": missed, "numbers": numbers, "zeros": zeros, "assign": ASSIGN, "copy": COPY, "add": add,
        }  # fmt: skip
        self._given = given  # kept: native code has their addresses
        imports = {name: id(value) for name, value in given.items()}
        ours = (*NATIVE, *replay_ir.NATIVE, "name")
        imports.update({name: storage_native.code_address(name) for name in ours})
        imports.update(storage_native.api_addresses((*FUNCTIONS, *replay_ir.FUNCTIONS), OBJECTS))
        program = _offsets(Replay)
        replay_slots = _offsets(Replayable)["_replay"], program["program"], program["older"]
        names = [f"{kind}.{i}" for kind, count in _TRAMPOLINES.items() for i in range(count)]
        variables = ("table", "busy", "silent", "callables", "parameters", *replay_ir.VARIABLES)
        functions = (*_BUILTINS, "replay_call", *names)
        text = module(slots, _TRAMPOLINES, replay_slots)
        self.slots = slots
        self._code = load(text, (*functions, *variables), imports, optimized=True)
        self._rows = _Rows(self._code["table"])
        self._busy = ctypes.c_int64.from_address(self._code["busy"])
        self._free = {kind: [n for n in names if n.startswith(kind + ".")][::-1] for kind in _TRAMPOLINES}
        self._places = {name: 8 * i for i, name in enumerate(names)}
        self._callables: list[object] = []
        self._names: dict[codes_ir.Name, int] = {}
        self._slots: dict[type, Mapping[str, int]] = {}
        self._make_key()
        builtins = [storage_native.new_builtin(n, self._code[n], flags) for n, flags in _BUILTINS.items()]
        self.apply: Callable[..., Any]
        self.set_recording: Callable[[bool], None]
        self.apply, self.set_recording, *queue = builtins
        self.queue_new, self.queue_run, self.queue_deliver, self.queue_at = queue

    def _make_key(self) -> None:
        """The thread's own cell for its mode: empty while it records, as in every new thread."""
        create = ctypes.CDLL(None).pthread_key_create
        if create(ctypes.c_void_p(self._code["silent"]), None):
            raise ImportError("there is no room for a thread-local value")

    def slots_of(self, cls: type) -> Mapping[str, int]:
        """The byte offset of each slot of a class."""
        found = self._slots.get(cls)
        if found is None:
            found = self._slots[cls] = _offsets(cls)
        return found

    def pause(self, busy: bool) -> None:
        """Let every call miss, or no more: while ops are recorded."""
        self._busy.value = int(busy)

    def add(self, called: object, keys: Sequence[object | int], record: Record) -> None:
        """A row: what is called, and what its operands are, objects (by identity) or plain words."""
        key = _row_key(called, keys)
        with self._lock:
            self._rows.add(key, ctypes.addressof(record.words), record.owned_with((called, *keys), key[1:4]))

    def has(self, called: object, keys: Sequence[object | int]) -> bool:
        """Whether there is a row."""
        return _row_key(called, keys) in self._rows

    def learn(
        self, called: object, types: Sequence[object], codes: Sequence[codes_ir.Code], mask: int,
        steps: Sequence[Step], form: int, answers: Sequence[int],
    ) -> None:  # fmt: skip
        """A learned call. types: of registers, which are its tensors and what each step makes; codes: of its
        arguments; mask: which tensors have an edge; answers: the registers that are the result, in a form of
        `dispatch_program_ir`. Ops have their rows; if another thread has dropped them, nothing is learned."""
        with self._lock:
            if all(self._has_row(types, step) for step in steps):
                self._learn(called, types, codes, mask, steps, form, answers)

    def _has_row(self, types: Sequence[object], step: Step) -> bool:
        kind, what, places, _ = step
        return not 1 <= kind <= MOST_OPERANDS or self.has(what, [types[at] for at in places])

    def _learn(
        self, called: object, types: Sequence[object], codes: Sequence[codes_ir.Code], mask: int,
        steps: Sequence[Step], form: int, answers: Sequence[int],
    ) -> None:  # fmt: skip
        made = _words([len(steps), form, len(answers)], len(program_ir.HEADER), answers)
        kept: list[object] = [called, types]
        for kind, what, places, into in steps:
            if 1 <= kind <= MOST_OPERANDS:
                word, owner = self._rows[_row_key(what, [types[at] for at in places])]
                kept.append(owner)
            else:
                word = id(what)
                kept.append(what)
            made += [*_words([kind, word], len(program_ir.STEP) - 1, places), into]
        table = (ctypes.c_int64 * len(made))(*made)
        owner = storage_native.foreign(ctypes.addressof(table), 8, (kept, table))
        given = types[: len(types) - len(steps)]
        keys = [id(t) for t in given] + [0] * (3 - len(given))
        key = (id(called) + program_ir.TAG, *keys, *codes_ir.words(codes, mask, self._name))
        self._rows.add(key, ctypes.addressof(table), owner)

    def _name(self, name: codes_ir.Name) -> int:
        """The code of a name, which it is given when it is first asked for."""
        found = self._names.get(name)
        if found is None:
            found = self._names[name] = codes_ir.FIRST_NAME + len(self._names)
            kind, *what = name
            keys = [id(what[0]), 0] if kind == codes_ir.OBJECT else [*what, 0][:2]
            self._rows.add((kind, *keys, 0, 0, 0), found, name)
        return found

    def backward(
        self, count: int, kept: Sequence[int], types: Sequence[object], numbers: int,
        steps: Sequence[BackwardStep], passed: Sequence[int],
    ) -> object:  # fmt: skip
        """A derivative in native form; None if it is too long.

        count: of operands; kept: the registers of what nodes keep; types: of registers; numbers: mask of
        those that may be a number; passed: the register of each operand's cotangent, or -1.
        """
        first = 2 + count
        if first + len(steps) > backward_ir.MOST_REGISTERS or count > MOST_OPERANDS:
            return None
        constants = sum(1 << (first + i) for i, (kind, *_) in enumerate(steps) if kind == 0)
        values = {
            "steps": len(steps), "operands": count, "first": first, "kept": len(kept), "numbers": numbers,
            "constants": constants, **{f"kept{i}": at for i, at in enumerate(kept)},
            **{f"type{i}": id(t) for i, t in enumerate(types)},
            **{f"passed{i}": at for i, at in enumerate(passed)},
        }  # fmt: skip
        made = [values.get(name, 0) for name in backward_ir.DERIVATIVE]
        for kind, what, places in steps:
            made += _words([kind, id(what)], len(backward_ir.STEP), places)
        table = (ctypes.c_int64 * len(made))(*made)
        return storage_native.foreign(ctypes.addressof(table), 8, (tuple(types), tuple(steps), table))

    def clear(self) -> None:
        """Forget all rows."""
        with self._lock:
            self._rows.clear()
            self._names.clear()

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


def _words(first: list[int], count: int, rest: Sequence[int]) -> list[int]:
    """So many words: these, those, and zeros."""
    return [*first, *rest, *[0] * (count - len(first) - len(rest))]


def _offsets(cls: type) -> dict[str, int]:
    """The byte offset of each slot of a class, bases included: found with marks in an object of its."""
    slots = [n for c in cls.__mro__ for n in getattr(c, "__slots__", ()) if not n.startswith("__")]
    names = [n for n in slots if isinstance(getattr(cls, n), MemberDescriptorType)]  # the others are hidden
    made: Any = object.__new__(cls)
    marks = {name: object() for name in names}
    for name, mark in marks.items():
        setattr(made, name, mark)
    words = range(object.__basicsize__, cls.__basicsize__, 8)
    at = {ctypes.c_void_p.from_address(id(made) + k).value: k for k in words}
    for name in names:
        delattr(made, name)
    return {name: at[id(mark)] for name, mark in marks.items()}
