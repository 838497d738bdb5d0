"""`emit_plan`: a plan as one module of LLVM IR that exports

    i64 @run(ptr buffers, ptr sizes, ptr arena)

buffers: the addresses of the plan's external buffers, in their order; sizes: the run-time sizes (i64);
arena: scratch memory. The status is 0, or the code of the first check that failed; kernels after it have
not run then.
"""

from __future__ import annotations

from ..ir.expr import Dim
from ..ir.kernel import Check, Kernel
from ..ir.plan import Call, Plan, PlanBuffer
from .indices import Indices
from .kernels import emit_kernel
from .target import Target
from .text import Function, Module


def emit_plan(plan: Plan, target: Target) -> str:
    """The module's text. A pure function of its arguments."""
    module = Module(target)
    kernels = {kernel.name: kernel for kernel in plan.kernels}
    for kernel in plan.kernels:
        emit_kernel(module, kernel, target, _name(kernel.name))
    _emit_run(module, plan, kernels)
    return module.text()


def _name(kernel: str) -> str:
    return f'"k.{kernel}"'


def _emit_run(module: Module, plan: Plan, kernels: dict[str, Kernel]) -> None:
    f = Function(module, "run", [("ptr", "buffers"), ("ptr", "sizes"), ("ptr", "arena")], linkage="")
    indices = Indices(f)
    for number, name in enumerate(plan.sizes):
        pointer = f(f"getelementptr i64, ptr %sizes, i64 {number}")
        indices.bind(name, f(f"load i64, ptr {pointer}, align 8"))
    addresses = _addresses(f, indices, plan)
    for call in plan.calls:
        status = _emit_call(f, indices, call, addresses)
        if any(isinstance(s, Check) for s in kernels[call.kernel].statements()):
            _return_if_failed(f, status)
    f.do("ret i64 0")
    module.add(f)


def _addresses(f: Function, indices: Indices, plan: Plan) -> dict[str, str]:
    """Where each buffer is."""
    found: dict[str, str] = {}
    for number, buffer in enumerate(plan.external):
        pointer = f(f"getelementptr ptr, ptr %buffers, i64 {number}")
        found[buffer.name] = f(f"load ptr, ptr {pointer}, align 8")
    for buffer in plan.buffers:
        if buffer.kind == "arena":
            found[buffer.name] = _in_arena(f, indices, buffer)
    return found


def _in_arena(f: Function, indices: Indices, buffer: PlanBuffer) -> str:
    return f(f"getelementptr i8, ptr %arena, i64 {indices.text(buffer.offset)}")


def _emit_call(f: Function, indices: Indices, call: Call, addresses: dict[str, str]) -> str:
    arguments = [f"ptr {addresses[name]}" for name in call.buffers]
    arguments += [f"i64 {_size(indices, size)}" for size in call.sizes]
    return f(f"call i64 @{_name(call.kernel)}({', '.join(arguments)})")


def _size(indices: Indices, size: Dim) -> str:
    return indices.text(size)


def _return_if_failed(f: Function, status: str) -> None:
    failed, ok = f.label("failed"), f.label("ok")
    f.do(f"br i1 {f(f'icmp ne i64 {status}, 0')}, label %{failed}, label %{ok}")
    f.block(failed)
    f.do(f"ret i64 {status}")
    f.block(ok)
