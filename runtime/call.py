"""What a call of compiled code needs to know: the same record for the native builtin and for its Python
twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn


@dataclass(frozen=True)
class CallSpec:
    """run: address of `i64 run(ptr buffers, ptr sizes, ptr arena)`; 0 is success. fail: raises what another
    status means.

    template: addresses of the external buffers in order, 0 for those that each call fills in. A *slot* is a
    place in it. inputs: the slot of each operand, -1 where it is not read. outputs: slot and bytes of each
    output to allocate. results: r >= 0 is the new output r, r < 0 the operand ~r. updates: the operands
    that are overwritten. drop_gil: the work is worth letting other threads run. keep: what the addresses
    need to stay valid.
    """

    run: int
    fail: Callable[[int], NoReturn]
    sizes: tuple[int, ...]
    template: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[tuple[int, int], ...]
    results: tuple[int, ...]
    updates: tuple[int, ...]
    arena_bytes: int
    drop_gil: bool
    keep: object
