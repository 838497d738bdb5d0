"""The machine we run on, as a `Target`. The only questions asked are LLVM's name and feature flags of the CPU."""

from __future__ import annotations

from functools import cache

from ..codegen.target import Target, named_target

_chosen: Target | None = None


def choose_target(name: str | None) -> None:
    """Generate code for a named level (`x86-64-v3`, ...) from now on; None or "native" goes back to this CPU.

    Raises ValueError for an unknown name.
    """
    global _chosen
    _chosen = None if name in (None, "native") else named_target(name)  # type: ignore[arg-type]


def host_target() -> Target:
    """The target to compile for: the chosen one, else this CPU."""
    return _chosen or _detected()


@cache
def _detected() -> Target:
    import llvmlite.binding as llvm  # 40 ms, so not before something is compiled

    flags = llvm.get_host_cpu_features()
    width = 64 if flags.get("avx512f") and flags.get("avx512vl") else 32 if flags.get("avx2") else 16
    return Target(llvm.get_host_cpu_name(), flags.flatten(), width, bool(flags.get("fma")) and width > 16)
