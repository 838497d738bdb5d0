"""A long module of LLVM IR as several: LLVM takes one whole, seconds for a large graph, and between two of
them signals are looked at and progress is shown.

A part has some of the functions, declares those of other parts that it names, and repeats the constants that
it uses. Modules with memory of their own (`global`) are left whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

#: Characters of a part: some 0.1 s of LLVM's time.
LONG = 192 << 10

_DEFINED = re.compile(r'define (?:internal )?(?P<result>.+?) @(?P<name>"[^"]+"|[\w.$-]+)\((?P<given>.*?)\)')
_NAMED = re.compile(r'@("[^"]+"|[\w.$-]+)')
_MAGIC = b"vitrify-objects\n"


def parts_of(text: str, long: int = LONG) -> list[str]:
    """The module as one or more, each at least `long` if there are several, but for the last."""
    if len(text) < 2 * long or " global " in text:
        return [text]
    module = _taken_apart(text)
    groups: list[list[_Function]] = [[]]
    size = 0
    for function in module.functions:
        if size >= long:
            groups.append([])
            size = 0
        groups[-1].append(function)
        size += len(function.text)
    return [module.part(group) for group in groups]


@dataclass(frozen=True)
class _Function:
    name: str
    declaration: str
    text: str


@dataclass(frozen=True)
class _Module:
    """functions: in order. constants: lines by name. rest: everything else."""

    functions: tuple[_Function, ...]
    constants: dict[str, str]
    rest: tuple[str, ...]

    def part(self, functions: Sequence[_Function]) -> str:
        """A module of these functions, which other parts may call."""
        named = {name for f in functions for name in _NAMED.findall(f.text)}
        own = {f.name for f in functions}
        constants = [line for name, line in self.constants.items() if name in named]
        others = [f.declaration for f in self.functions if f.name in named and f.name not in own]
        texts = [f.text.replace("define internal ", "define ", 1) for f in functions]
        return "\n".join((*constants, *self.rest, *others, *texts)) + "\n"


def _taken_apart(text: str) -> _Module:
    functions: list[_Function] = []
    constants: dict[str, str] = {}
    rest: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("define "):
            body = [line]
            while body[-1] != "}":
                body.append(next(lines))
            functions.append(_function(line, "\n".join(body)))
        elif line.startswith("@"):
            constants[line[1 : line.index(" = ")]] = line
        else:
            rest.append(line)
    return _Module(tuple(functions), constants, tuple(rest))


def _function(head: str, text: str) -> _Function:
    found = _DEFINED.match(head)
    assert found is not None, head
    kinds = (given.rpartition(" ")[0] for given in found["given"].split(", ") if given)
    return _Function(found["name"], f"declare {found['result']} @{found['name']}({', '.join(kinds)})", text)


def packed(objects: Sequence[bytes]) -> bytes:
    """Object files as one entry of the disk cache."""
    if len(objects) == 1:
        return objects[0]
    sizes = " ".join(str(len(o)) for o in objects).encode()
    return b"".join((_MAGIC, sizes, b"\n", *objects))


def unpacked(data: bytes) -> list[bytes]:
    """What `packed` was given."""
    if not data.startswith(_MAGIC):
        return [data]
    sizes, _, rest = data[len(_MAGIC) :].partition(b"\n")
    objects = []
    for size in map(int, sizes.split()):
        objects.append(rest[:size])
        rest = rest[size:]
    return objects
