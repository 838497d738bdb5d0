"""The machine we run on, as a `Target`. The only questions asked are LLVM's name and feature flags of the
CPU."""

from __future__ import annotations

from functools import cache

from ..codegen.target import Target, named_target
from .options import options


def host_target() -> Target:
    """The target to compile for: the one that the options name, else this CPU. ValueError for an unknown
    name."""
    return _detected() if options.target == "native" else named_target(options.target)


@cache
def _detected() -> Target:
    import llvmlite.binding as llvm  # 40 ms, so not before something is compiled

    flags = llvm.get_host_cpu_features()
    width = 64 if flags.get("avx512f") and flags.get("avx512vl") else 32 if flags.get("avx2") else 16
    return Target(llvm.get_host_cpu_name(), flags.flatten(), width, bool(flags.get("fma")) and width > 16)
