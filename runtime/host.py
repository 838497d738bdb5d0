"""The machine we run on, as a `Target`. The questions asked are LLVM's name and feature flags of the CPU, and
whether an instruction for bfloat16 does what it should (`selftest`).
"""

from __future__ import annotations

from functools import cache

from ..codegen.target import PAIRS, Target, named_target
from ..ir import ops
from ..ir.dtypes import bfloat16
from ..ir.graph import Graph
from .options import options


def host_target() -> Target:
    """The target to compile for: the one that the options name, else this CPU. ValueError for an unknown
    name."""
    return _detected() if options.target == "native" else named_target(options.target)


def target_of(graph: Graph) -> Target:
    """The target to compile a graph for: where it contracts bfloat16, without the instruction for that if
    that is not to be relied on."""
    target = host_target()
    if target.has(PAIRS) and _contracts_pairs(graph):
        from .selftest import pairs_are_right

        return target if pairs_are_right(target) else target.without(PAIRS)
    return target


def _contracts_pairs(graph: Graph) -> bool:
    return any(
        op.opdef is ops.contract
        and op.operands[0].type.dtype is bfloat16
        or any(map(_contracts_pairs, op.regions))
        for op in graph.operations
    )


@cache
def _detected() -> Target:
    import llvmlite.binding as llvm  # 40 ms, so not before something is compiled

    flags = llvm.get_host_cpu_features()
    width = 64 if flags.get("avx512f") and flags.get("avx512vl") else 32 if flags.get("avx2") else 16
    return Target(llvm.get_host_cpu_name(), flags.flatten(), width, bool(flags.get("fma")) and width > 16)
