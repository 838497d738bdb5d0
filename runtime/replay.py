"""The native form of a replay, as its maker sees it: registers and words; `replay_ir` runs it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from . import storage
from .replay_ir import HEADER


class Replay:
    """The native form of a replay: a program, and the constants that it needs. older: tried where this one
    does not fit."""

    __slots__ = ("program", "older", "constants")

    def __init__(
        self, constants: Sequence[object], arguments: int, borrowed: int, owned: int, code: Sequence[int]
    ) -> None:
        """Registers in order: constants, arguments, borrowed values, owned ones. code: words of
        instructions (`replay_ir`)."""
        self.constants = tuple(constants)
        self.older: Replay | None = None
        first_owned = len(constants) + arguments + borrowed
        template = _words([id(c) for c in constants] + [0] * (arguments + borrowed + owned))
        instructions = _words(code)
        values = {
            "arguments": arguments, "first_argument": len(constants), "registers": first_owned + owned,
            "owned": first_owned, "template": ctypes.addressof(template),
            "code": ctypes.addressof(instructions),
        }  # fmt: skip
        header = _words([values[name] for name in HEADER])
        keep = (header, template, instructions)
        self.program = storage.foreign(ctypes.addressof(header), 8 * len(header), keep)


def _words(values: Sequence[int]) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * max(len(values), 1))(*values)


class Replayable:
    """Base of what is called by way of its newest `Replay`."""

    __slots__ = ("_replay",)
    _replay: Replay | None
