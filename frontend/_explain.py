"""`explain`: what became of a compiled function, in words: tier, guards, reasons, kernels, time."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vitrify.runtime.executable import MemoryUse

from ._compile import CaptureWarning, CompiledFunction, Program


@dataclass(frozen=True)
class Explanation:
    """What `explain` found; printing it gives a report.

    tier: "replay" (one native call) or "segments". numerics: "exact" or "fast". segments: number of compiled
    graphs that one call runs.
    guards: what must hold for the replay. reasons: why it is not replayed, each with file and line. kernels:
    names, in order of first use. compile_seconds: spent on compiling it so far. captures: how often its
    Python was run for a replay. memory: bytes that it needs beside arguments and results.
    """

    name: str
    tier: str
    numerics: str
    segments: int
    specializations: int
    guards: tuple[str, ...]
    reasons: tuple[str, ...]
    kernels: tuple[str, ...]
    operations: int
    captures: int
    compile_seconds: float
    memory: MemoryUse

    def __str__(self) -> str:
        how = (
            "replayed as one native call"
            if self.tier == "replay"
            else f"run in {self.segments} compiled segment(s)"
        )
        lines = [f"{self.name}: {how}; {self.operations} operations in {len(self.kernels)} kernels"]
        lines.append(f"numerics: {self.numerics}")
        lines.append(f"captures: {self.captures}, specializations: {self.specializations}")
        lines.append(f"compile time: {self.compile_seconds:.3f} s")
        lines.append(f"memory: {_sizes(self.memory)}")
        for title, entries in (("reasons", self.reasons), ("guards", self.guards), ("kernels", self.kernels)):
            if entries:
                lines += [f"{title}:", *(f"  {entry}" for entry in entries)]
        return "\n".join(lines)

    __repr__ = __str__


def _sizes(memory: MemoryUse) -> str:
    parts = (("scratch", memory.arena), ("constants", memory.constants), ("weights kept turned", memory.kept))
    return ", ".join(f"{nbytes / 1e6:.1f} MB {what}" for what, nbytes in parts if nbytes) or "none"


def explain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation:
    """Call a function as `compile` would, and say what became of it. The call's effects happen.

    function: compiled or not; a module that was compiled in place counts too.

    >>> print(vitrify.explain(step, x, y))
    """
    program = _program_of(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaptureWarning)
        program(*args, **kwargs)
    return _explanation(program.program)


def _program_of(function: Callable[..., Any]) -> CompiledFunction:
    if isinstance(function, CompiledFunction):
        return function
    inside = getattr(function, "_compiled_call_impl", None)
    if isinstance(inside, CompiledFunction):
        return inside
    from .nn import Module

    return CompiledFunction(function._call_impl if isinstance(function, Module) else function)


def _explanation(program: Program) -> Explanation:
    replays = program.specializations
    graphs = program.graphs()
    names = dict.fromkeys(kernel.name for graph in graphs for kernel in graph.stages.plan.all_kernels())
    return Explanation(
        name=program.name,
        tier="replay" if replays else "segments",
        numerics=program.numerics,
        segments=1 if replays else len(program.last_segments),
        specializations=len(replays),
        guards=tuple(dict.fromkeys(g.what for g in replays[-1].guards)) if replays else (),
        reasons=() if replays else tuple(dict.fromkeys(map(str, program.reasons))),
        kernels=tuple(names),
        operations=sum(len(graph.captured.operations) for graph in graphs),
        captures=program.captures,
        compile_seconds=program.seconds,
        memory=sum((graph.memory for graph in graphs), MemoryUse(0, 0)),
    )
