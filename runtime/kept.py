"""Compiled graphs on disk: what a call needs to know of a plan, and which object code is its.

A graph that was compiled by an earlier process needs no passes, no lowering and no LLVM: an entry is found
by the graph's text, the target and a hash of our own source files, and holds the plan's outside (buffers
that the caller passes, checks, results) as text. A damaged entry, or one whose code is gone, is a miss.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path

from ..ir.errors import IRError
from ..ir.expr import Dim, parse_expr
from ..ir.plan import Plan
from ..ir.plan_text import parse_plan, print_plan
from .cache import content_key
from .jit import compiler_version

#: The rooms whose code decides what a graph becomes.
_ROOMS = ("ir", "passes", "codegen", "runtime")


@dataclass(frozen=True)
class Entry:
    """outside: of the plan, see `outside_of`. work: an estimate of its time, over its sizes. code: the key of
    its object code. imports: the symbols that this needs."""

    outside: Plan
    work: Dim
    code: str
    imports: tuple[str, ...]

    def to_bytes(self) -> bytes:
        """As text, one line per field, then the plan."""
        head = (self.code, " ".join(self.imports), str(self.work))
        return ("\n".join(head) + "\n" + print_plan(self.outside)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Entry | None:
        """What `to_bytes` gave; None for anything else."""
        try:
            code, imports, work, plan = data.decode().split("\n", 3)
            return cls(parse_plan(plan), parse_expr(work), code, tuple(imports.split()))
        except (ValueError, IRError):
            return None


def outside_of(plan: Plan) -> Plan:
    """The plan without what only its own code knows: kernels, calls, and where scratch buffers lie."""
    return replace(plan, kernels=(), calls=(), buffers=plan.external)


def entry_key(graph: str, how: str, target: str) -> str:
    """The name of the entry of a graph, given as text, compiled in some way (`compiler.Source.key`)."""
    return content_key("plan", graph, how, target, code_version())


@cache
def code_version() -> str:
    """A hash of LLVM's version and of the source files that decide what a graph becomes, so that no entry
    outlives them."""
    digest = hashlib.sha256(compiler_version().encode())
    for room in _ROOMS:
        (folder,) = map(Path, import_module(f"..{room}", __package__).__path__)
        files = sorted(folder.rglob("*.py"))
        if not files:  # installed without sources: what this process keeps is for itself alone
            digest.update(os.urandom(32))
        for path in files:
            data = path.read_bytes()
            digest.update(f"{room}/{path.relative_to(folder)} {len(data)}\n".encode() + data)
    return digest.hexdigest()
