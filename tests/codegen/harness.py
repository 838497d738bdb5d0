"""Runs kernels as native code: kernel IR to LLVM IR to machine code, called through ctypes."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from vitrify.codegen.emit import emit_plan
from vitrify.codegen.target import LEVELS, Target
from vitrify.ir.dtypes import DType
from vitrify.ir.expr import symbol
from vitrify.ir.kernel import Axis, Buffer, Compute, Kernel, Load, Loop, Scalar, Store
from vitrify.ir.kernel_interpreter import run_kernel
from vitrify.ir.kernel_text import parse_kernel
from vitrify.ir.kernel_verifier import verify_kernel
from vitrify.ir.opdef import Attr, OpDef
from vitrify.ir.plan import Call, Plan, PlanBuffer
from vitrify.runtime.host import host_target
from vitrify.runtime.jit import load

from tests.support import assert_same_bits

Native = Callable[..., int]

_libc = ctypes.CDLL(None, use_errno=True)


def plan_of(kernel: Kernel) -> Plan:
    """A plan that only calls the kernel, with every buffer handed in."""
    buffers = tuple(
        PlanBuffer(b.name, "input", b.dtype, b.size, index=i) for i, b in enumerate(kernel.buffers)
    )
    call = Call(kernel.name, tuple(b.name for b in kernel.buffers), tuple(symbol(s) for s in kernel.sizes))
    return Plan("test", (kernel,), buffers, (call,), (), (), kernel.sizes, 0)


def text_of(kernel: Kernel, target: Target | None = None) -> str:
    """The kernel's LLVM IR."""
    return emit_plan(plan_of(kernel), target or host_target())


def native_plan(plan: Plan, target: Target | None = None) -> Native:
    """run(buffers, sizes, arena) -> status as a Python function of addresses."""
    chosen = target or host_target()
    address = load(emit_plan(plan, chosen), ["run"], target=chosen)["run"]
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(address)


def run_native(
    kernel: Kernel, buffers: Mapping[str, np.ndarray], sizes: Mapping[str, int] | None = None,
    target: Target | None = None,
) -> int:  # fmt: skip
    """Run the kernel on the arrays in place; gives its status."""
    function = native_plan(plan_of(kernel), target)
    pointers = (ctypes.c_void_p * len(kernel.buffers))(*(buffers[b.name].ctypes.data for b in kernel.buffers))
    values = (ctypes.c_int64 * max(1, len(kernel.sizes)))(*((sizes or {})[s] for s in kernel.sizes))
    return function(pointers, values, None)


def runnable_targets() -> list[Target]:
    """The levels that this CPU can run, least first."""
    width = host_target().vector_bytes
    return [t for t in LEVELS.values() if t.vector_bytes <= width]


def fenced(array: np.ndarray, at_end: bool) -> np.ndarray:
    """A copy that ends right before (or begins right after) a page that may not be touched: an access outside
    of the buffer on that side ends the process."""
    page = mmap.PAGESIZE
    pages = -(-array.nbytes // page)
    room = mmap.mmap(-1, (pages + 2) * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(room))
    for fence in (start, start + (pages + 1) * page):
        assert _libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(page), 0) == 0
    first = (pages + 1) * page - array.nbytes if at_end else page
    copy = np.frombuffer(room, array.dtype, array.size, first)
    copy[...] = array
    return copy


def check_kernel(
    text: str, buffers: Mapping[str, np.ndarray], sizes: Mapping[str, int] | None = None
) -> dict[str, np.ndarray]:
    """Run the kernel natively, for every level that this CPU can run, and in the interpreter: the same bits
    and status. Returns the buffers afterwards.
    """
    kernel = parse_kernel(text)
    verify_kernel(kernel)
    expected = {name: array.copy() for name, array in buffers.items()}
    status = run_kernel(kernel, expected, sizes)
    for number, target in enumerate(runnable_targets()):
        found = {name: fenced(array, at_end=number % 2 == 0) for name, array in buffers.items()}
        assert run_native(kernel, found, sizes, target) == status, target.cpu
        for name, array in found.items():
            assert_same_bits(array, expected[name], f"{name} for {target.cpu}")
    return expected


def pointwise(
    opdef: OpDef, dtypes: Sequence[DType], result: DType, kind: str = "vector", **attrs: Attr
) -> Kernel:
    """y[i] = opdef(x0[i], x1[i], ...) for i < n, in a loop of the given kind."""
    i, n = symbol("i"), symbol("n")
    operands = tuple(Scalar(str(k), dtype) for k, dtype in enumerate(dtypes))
    value = Scalar("r", result)
    loads = [Load(operand, f"x{k}", i) for k, operand in enumerate(operands)]
    compute = Compute(value, opdef, operands, tuple(attrs.items()))
    loop = Loop(Axis("i", n), kind, (*loads, compute, Store("y", i, value)))
    buffers = [Buffer(f"x{k}", dtype, n, "in") for k, dtype in enumerate(dtypes)]
    return Kernel(opdef.name, (*buffers, Buffer("y", result, n, "out")), ("n",), (loop,))


def apply_native(kernel: Kernel, *operands: np.ndarray, target: Target | None = None) -> np.ndarray:
    """The y of a `pointwise` kernel, in an array whose next elements must stay as they are."""
    n = len(operands[0])
    room = np.full(n + 32, 77, kernel.buffers[-1].dtype.numpy)
    buffers = {f"x{k}": np.ascontiguousarray(x) for k, x in enumerate(operands)}
    assert run_native(kernel, {**buffers, "y": room}, {"n": n}, target) == 0
    assert (room[n:] == np.full(32, 77).astype(room.dtype)).all()
    return room[:n]
