"""Runs kernels as native code: kernel IR to LLVM IR to machine code, called through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import numpy as np

from vitrify.codegen.emit import emit_plan
from vitrify.codegen.target import LEVELS, Target
from vitrify.ir.kernel import Kernel
from vitrify.ir.kernel_interpreter import run_kernel
from vitrify.ir.kernel_text import parse_kernel
from vitrify.ir.kernel_verifier import verify_kernel
from vitrify.ir.expr import symbol
from vitrify.ir.plan import Call, Plan, PlanBuffer
from vitrify.runtime.host import host_target
from vitrify.runtime.jit import load


def plan_of(kernel: Kernel) -> Plan:
    """A plan that only calls the kernel, with every buffer handed in."""
    buffers = tuple(PlanBuffer(b.name, "input", b.dtype, b.size, index=i) for i, b in enumerate(kernel.buffers))
    call = Call(kernel.name, tuple(b.name for b in kernel.buffers), tuple(symbol(s) for s in kernel.sizes))
    return Plan("test", (kernel,), buffers, (call,), (), (), kernel.sizes, 0)


def text_of(kernel: Kernel, target: Target | None = None) -> str:
    """The kernel's LLVM IR."""
    return emit_plan(plan_of(kernel), target or host_target())


def run_native(
    kernel: Kernel, buffers: Mapping[str, np.ndarray], sizes: Mapping[str, int] | None = None, target: Target | None = None
) -> int:
    """Run the kernel on the arrays in place; gives its status."""
    function = prepared(kernel, target)
    pointers = (ctypes.c_void_p * len(kernel.buffers))(*(buffers[b.name].ctypes.data for b in kernel.buffers))
    values = (ctypes.c_int64 * max(1, len(kernel.sizes)))(*((sizes or {})[s] for s in kernel.sizes))
    return int(function(pointers, values, None))


def prepared(kernel: Kernel, target: Target | None = None) -> ctypes._CFuncPtr:
    """The native function run(buffers, sizes, arena)."""
    chosen = target or host_target()
    address = load(text_of(kernel, chosen), ["run"], target=chosen)["run"]
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(address)


def runnable_targets() -> list[Target]:
    """The levels that this CPU can run, least first."""
    width = host_target().vector_bytes
    return [t for t in LEVELS.values() if t.vector_bytes <= width]


def check_kernel(text: str, buffers: Mapping[str, np.ndarray], sizes: Mapping[str, int] | None = None, **kind: object) -> None:
    """Run the kernel natively, for every target that this CPU can run, and in the interpreter: the same bits and status."""
    kernel = parse_kernel(text)
    verify_kernel(kernel)
    expected = {name: array.copy() for name, array in buffers.items()}
    status = run_kernel(kernel, expected, sizes)
    for target in runnable_targets():
        found = {name: array.copy() for name, array in buffers.items()}
        assert run_native(kernel, found, sizes, target) == status, target.cpu
        for name, array in found.items():
            assert_same_bits(array, expected[name], f"{name} for {target.cpu}")


def assert_same_bits(found: np.ndarray, expected: np.ndarray, what: str = "") -> None:
    """Equal in every bit, all NaNs counting as equal."""
    if found.dtype.kind == "f":
        both_nan = np.isnan(found) & np.isnan(expected)
        bits = f"u{found.dtype.itemsize}"
        same = (found.view(bits) == expected.view(bits)) | both_nan
    else:
        same = found == expected
    bad = np.flatnonzero(~same)
    assert not len(bad), f"{what}: {len(bad)} differ, first at {bad[0]}: {found.flat[bad[0]]!r}, expected {expected.flat[bad[0]]!r}"
