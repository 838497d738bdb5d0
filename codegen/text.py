"""LLVM IR as text: a `Module` of functions, a `Function` written one instruction at a time.

Values are named `%v1`, `%v2`, ... ; with a prefix, after the value of the IR they compute (`%v3.exp.17`). A
*place* is a hole left in the text and filled later: loop-invariant code goes to the place before a loop
while its body is being written.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .target import Target

#: Every function that we emit: no exceptions, whole registers, no traps on floating point.
ATTRIBUTES = 'attributes #0 = { nounwind "no-trapping-math"="true" "prefer-vector-width"="512" }'
NO_UNROLL = ", !llvm.loop !0"
NON_TEMPORAL = ", !nontemporal !2"
RARELY = ", !prof !3"
METADATA = (
    '!0 = distinct !{!0, !1}\n!1 = !{!"llvm.loop.unroll.disable"}\n!2 = !{i32 1}\n'
    '!3 = !{!"branch_weights", i32 1, i32 10000}'
)

#: A piece of a function's text: lines, and places that hold further pieces.
Place = list[Any]


class Module:
    """Functions, the declarations they need, and constant tables; each written once."""

    def __init__(self, target: Target | None = None) -> None:
        """target: what the functions may make use of; None promises nothing."""
        self.target = target
        self._declared: dict[str, str] = {}
        self._globals: dict[str, str] = {}
        self._functions: dict[str, str] = {}

    def declare(self, name: str, result: str, arguments: Sequence[str]) -> None:
        """Make an external function (an LLVM intrinsic) known."""
        if name not in self._declared:
            self._declared[name] = f"declare {result} @{name}({', '.join(arguments)})"

    def table(self, name: str, text: str) -> str:
        """A constant table; text: its type and value. Returns its address."""
        self._globals.setdefault(name, f"@{name} = private unnamed_addr constant {text}, align 64")
        return f"@{name}"

    def defined(self, name: str) -> bool:
        """Whether this module has a function of that name."""
        return name in self._functions

    def add(self, function: Function) -> None:
        """Take in a finished function."""
        self._functions[function.name] = function.text()

    def text(self) -> str:
        """The whole module."""
        parts = [
            *self._globals.values(),
            *self._declared.values(),
            *self._functions.values(),
            ATTRIBUTES,
            METADATA,
        ]
        return "\n".join(parts) + "\n"


class Function:
    """The text of one function. Call it with an instruction to append that and get the name of its value."""

    def __init__(
        self,
        module: Module,
        name: str,
        parameters: Sequence[tuple[str, str]],
        result: str = "i64",
        linkage: str = "internal",
        attributes: str = "",
    ) -> None:
        """parameters: (type, name without %)."""
        self.module = module
        self.name = name
        listed = ", ".join(f"{kind} %{p}" for kind, p in parameters)
        self._head = " ".join(f"define {linkage} {result} @{name}({listed}) {attributes} #0".split()) + " {"
        self._lines: Place = []
        self._out = self._lines
        self._count = 0
        self.prefix = "v"
        self.block("entry")
        self._entry = self.place()

    # Instructions.

    def __call__(self, instruction: str) -> str:
        """Append an instruction that has a value; returns the value's name."""
        self._count += 1
        name = f"%{self.prefix}{self._count}"
        self._out.append(f"  {name} = {instruction}")
        return name

    def do(self, instruction: str) -> None:
        """Append an instruction without a value."""
        self._out.append(f"  {instruction}")

    def call(self, result: str, name: str, *arguments: tuple[str, str]) -> str:
        """Call an external function, declaring it; arguments: (type, value). Returns "" if `result` is
        void.
        """
        self.module.declare(name, result, [kind for kind, _ in arguments])
        listed = ", ".join(f"{kind} {value}" for kind, value in arguments)
        if result == "void":
            self.do(f"call void @{name}({listed})")
            return ""
        return self(f"call {result} @{name}({listed})")

    def alloca(self, kind: str, count: int = 1, align: int = 64) -> str:
        """Room on the stack for `count` values, taken once, at the function's entry."""
        with self.writing_to(self._entry):
            return self(f"alloca {kind}, i64 {count}, align {align}")

    def at_entry(self, line: str) -> None:
        """Append a line to the function's entry."""
        with self.writing_to(self._entry):
            self.do(line)

    # Blocks.

    def label(self, hint: str = "b") -> str:
        """A fresh block name."""
        self._count += 1
        return f"{hint}{self._count}"

    def block(self, label: str) -> None:
        """Begin a block; the one before must have ended in a branch."""
        self._out.append(f"{label}:")
        self.current = label

    def place(self) -> Place:
        """Leave a hole here, to be filled with `writing_to`."""
        hole: Place = []
        self._out.append(hole)
        return hole

    @contextmanager
    def writing_to(self, place: Place) -> Iterator[None]:
        """Append to a place left earlier; no blocks may be begun there."""
        out, self._out = self._out, place
        yield
        self._out = out

    def text(self) -> str:
        """The function's definition."""
        return "\n".join([self._head, *_flat(self._lines), "}"])

    # Control flow.

    def when(
        self, condition: str, then: Callable[[], Sequence[str]], otherwise: Sequence[tuple[str, str]] = (),
        rarely: bool = False,
    ) -> list[str]:  # fmt: skip
        """if (condition) then(). otherwise: (type, value) of each result where the condition is false.
        rarely: the condition hardly ever holds, so what then happens lies out of the way.
        """
        yes, done, before = self.label("then"), self.label("done"), self.current
        self.do(f"br i1 {condition}, label %{yes}, label %{done}{RARELY if rarely else ''}")
        self.block(yes)
        values = then()
        last = self.current
        self.do(f"br label %{done}")
        self.block(done)
        pairs = zip(values, otherwise, strict=True)
        return [self(f"phi {kind} [{v}, %{last}], [{other}, %{before}]") for v, (kind, other) in pairs]

    def loop(
        self,
        start: int | str,
        stop: int | str,
        step: int | str,
        carried: Sequence[tuple[str, str]],
        body: Callable[[str, list[str]], Sequence[str]],
    ) -> list[str]:
        """for (i = start; i < stop; i += step), tested at the bottom; i: i64. carried: (type, first value)
        of each value that goes from one turn to the next; body(i, values) returns the next ones. Returns
        the last ones.
        """
        head, done, before = self.label("loop"), self.label("done"), self.current
        runs = isinstance(start, int) and isinstance(stop, int) and start < stop
        if runs:
            self.do(f"br label %{head}")
        else:
            enter = self(f"icmp slt i64 {start}, {stop}")
            self.do(f"br i1 {enter}, label %{head}, label %{done}")
        self.block(head)
        index, names = f"%{self.label('i')}", [f"%{self.label('p')}" for _ in carried]
        phis = self.place()
        values = list(body(index, names))
        following = self(f"add i64 {index}, {step}")
        again = self(f"icmp slt i64 {following}, {stop}")
        last = self.current
        self.do(f"br i1 {again}, label %{head}, label %{done}{NO_UNROLL}")
        phis.append(f"  {index} = phi i64 [{start}, %{before}], [{following}, %{last}]")
        for name, (kind, first), value in zip(names, carried, values, strict=True):
            phis.append(f"  {name} = phi {kind} [{first}, %{before}], [{value}, %{last}]")
        self.block(done)
        if runs:
            return values
        ends = zip(values, carried, strict=True)
        return [self(f"phi {kind} [{value}, %{last}], [{first}, %{before}]") for value, (kind, first) in ends]

    def repeat(
        self, carried: Sequence[tuple[str, str]], body: Callable[[list[str]], tuple[str, Sequence[str]]]
    ) -> list[str]:
        """do { } while: body(values) returns the condition (i1) to go on and the next values. Returns the
        last ones.
        """
        head, done, before = self.label("repeat"), self.label("done"), self.current
        self.do(f"br label %{head}")
        self.block(head)
        names = [f"%{self.label('p')}" for _ in carried]
        phis = self.place()
        again, values = body(names)
        last = self.current
        self.do(f"br i1 {again}, label %{head}, label %{done}{NO_UNROLL}")
        for name, (kind, first), value in zip(names, carried, values, strict=True):
            phis.append(f"  {name} = phi {kind} [{first}, %{before}], [{value}, %{last}]")
        self.block(done)
        return list(values)


def _flat(lines: Place) -> Iterator[str]:
    for line in lines:
        if isinstance(line, str):
            yield line
        else:
            yield from _flat(line)


def float_text(value: float) -> str:
    """A float or double constant: the bits of the double, which LLVM wants to be exactly a float for
    `float`.
    """
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
