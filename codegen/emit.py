"""`emit_plan`: a plan as one module of LLVM IR that exports

    i64 @run(ptr buffers, ptr sizes, ptr arena)

buffers: the addresses of the plan's external buffers, in their order; sizes: the run-time sizes (i64);
arena: scratch memory. The status is 0, or the code of the first check that failed; kernels after it have
not run then. It is -1 if the run was interrupted, which only happens before anything is updated. What a plan
repeats is a function of the same kind, called once in every turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

from ..ir.dtypes import DType
from ..ir.expr import Dim
from ..ir.kernel import Check, Kernel
from ..ir.plan import Call, Copy, Passed, Plan, PlanBuffer, Repeat, Step
from ..ir.report import Report, nobody
from .indices import Indices
from .kernels import emit_kernel
from .target import Target
from .text import Function, Module
from .threads import INTERRUPTED, LONG
from .work import plan_work


def emit_plan(plan: Plan, target: Target, report: Report = nobody) -> str:
    """The module's text, which depends on plan and target alone. report: told before each kernel."""
    module = Module(target)
    work = plan_work(plan)
    looks = not isinstance(work, int) or work >= LONG
    kernels = _Kernels(module, target, sum(1 for _ in plan.all_kernels()), report)
    _emit_run(kernels, plan, "run", "", looks and len(plan.calls) > 1)
    return module.text()


def _name(kernel: str, run: str) -> str:
    """The function of a kernel of the plan whose function is `run`."""
    return f'"k.{kernel}"' if run == "run" else f'"{run}.k.{kernel}"'


@dataclass
class _Kernels:
    """Takes in the kernels of a plan and of those that it repeats. total: of all."""

    module: Module
    target: Target
    total: int
    report: Report
    done: int = 0

    def emit(self, kernel: Kernel, name: str) -> None:
        self.report("emitting kernels", self.done, self.total)
        emit_kernel(self.module, kernel, self.target, name)
        self.done += 1


def _emit_run(emitted: _Kernels, plan: Plan, name: str, linkage: str, looks: bool) -> None:
    """looks: between kernels, as long as nothing is updated, it asks whether it is interrupted."""
    module, kernels = emitted.module, {kernel.name: kernel for kernel in plan.kernels}
    for kernel in plan.kernels:
        emitted.emit(kernel, _name(kernel.name, name))
    repeats = [step for step in plan.calls if isinstance(step, Repeat)]
    runs = {id(step): f"{name}.{number}" for number, step in enumerate(repeats)}
    asking = set(map(id, _before_updates(plan, kernels))) if looks else set()
    for repeat in repeats:
        _emit_run(emitted, repeat.body, runs[id(repeat)], "internal", id(repeat) in asking)
    f = Function(module, name, [("ptr", "buffers"), ("ptr", "sizes"), ("ptr", "arena")], linkage=linkage)
    indices = Indices(f)
    for number, size in enumerate(plan.sizes):
        pointer = f(f"getelementptr i64, ptr %sizes, i64 {number}")
        indices.bind(size, f(f"load i64, ptr {pointer}, align 8"))
    addresses = _addresses(f, indices, plan)
    dtypes = {b.name: b.dtype for b in plan.buffers}
    for step in plan.calls:
        if id(step) in asking:
            _return_if_failed(f, f.call("i64", INTERRUPTED))
        if isinstance(step, Call):
            status = _emit_call(f, indices, step, addresses, name)
            if _checks(kernels[step.kernel]):
                _return_if_failed(f, status)
        elif isinstance(step, Copy):
            _emit_copy(f, indices, step, addresses, dtypes)
        else:
            returns = id(step) in asking or any(map(_checks, step.body.all_kernels()))
            _emit_repeat(f, indices, step, addresses, dtypes, runs[id(step)], returns)
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


def _emit_call(f: Function, indices: Indices, call: Call, addresses: dict[str, str], run: str) -> str:
    arguments = [f"ptr {addresses[name]}" for name in call.buffers]
    arguments += [f"i64 {_size(indices, size)}" for size in call.sizes]
    return f(f"call i64 @{_name(call.kernel, run)}({', '.join(arguments)})")


def _checks(kernel: Kernel) -> bool:
    return any(isinstance(s, Check) for s in kernel.statements())


def _before_updates(plan: Plan, kernels: dict[str, Kernel]) -> Iterator[Step]:
    """The steps before the first one that overwrites an input of the plan."""
    inputs = {b.name for b in plan.buffers if b.kind == "input"}

    def writes(step: Step) -> Iterator[str]:
        match step:
            case Call():
                passed = zip(step.buffers, kernels[step.kernel].buffers, strict=True)
                yield from (name for name, buffer in passed if buffer.access != "in")
            case Copy():
                yield from step.target.buffers
            case Repeat():
                for given, buffer in zip(step.buffers, step.body.external, strict=True):
                    yield from given.buffers if buffer.kind == "output" else ()

    return takewhile(lambda step: inputs.isdisjoint(writes(step)), plan.calls)


def _address(
    f: Function, indices: Indices, passed: Passed, addresses: dict[str, str], dtypes: dict[str, DType]
) -> str:
    """Where what is passed begins, the first and last turn apart."""
    if passed.offset == 0:
        return addresses[passed.buffer]
    start = indices.text(passed.offset * dtypes[passed.buffer].itemsize)
    return f(f"getelementptr i8, ptr {addresses[passed.buffer]}, i64 {start}")


def _emit_copy(
    f: Function, indices: Indices, copy: Copy, addresses: dict[str, str], dtypes: dict[str, DType]
) -> None:
    source, target = (_address(f, indices, p, addresses, dtypes) for p in (copy.source, copy.target))
    count = indices.text(copy.size * dtypes[copy.source.buffer].itemsize)
    f.module.declare("llvm.memcpy.p0.p0.i64", "void", ["ptr", "ptr", "i64", "i1"])
    f.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {count}, i1 false)")


def _emit_repeat(
    f: Function, indices: Indices, step: Repeat, addresses: dict[str, str], dtypes: dict[str, DType],
    run: str, returns: bool,
) -> None:  # fmt: skip
    """A loop that sets the table of addresses for each turn and runs the body on it. returns: the body's
    status may be another than 0."""
    table = f.alloca("ptr", max(1, len(step.buffers)))
    arena = addresses[step.arena] if step.arena is not None else "null"
    last = f(f"sub i64 {indices.text(step.extent)}, 1")
    before = f.place()

    def turn(number: str, _: list[str]) -> list[str]:
        with indices.scope(before):
            indices.bind(step.axis, number, step.extent)
            for slot, passed in enumerate(step.buffers):
                address = _address(f, indices, passed, addresses, dtypes)
                for edge, at in ((passed.first, "0"), (passed.last, last)):
                    if edge is not None:
                        there = f(f"icmp eq i64 {number}, {at}")
                        address = f(f"select i1 {there}, ptr {addresses[edge]}, ptr {address}")
                place = f(f"getelementptr ptr, ptr {table}, i64 {slot}")
                f.do(f"store ptr {address}, ptr {place}, align 8")
        status = f(f"call i64 @{run}(ptr {table}, ptr %sizes, ptr {arena})")
        if returns:
            _return_if_failed(f, status)
        return []

    f.loop(0, indices.value(step.extent), 1, [], turn)


def _size(indices: Indices, size: Dim) -> str:
    return indices.text(size)


def _return_if_failed(f: Function, status: str) -> None:
    failed, ok = f.label("failed"), f.label("ok")
    f.do(f"br i1 {f(f'icmp ne i64 {status}, 0')}, label %{failed}, label %{ok}")
    f.block(failed)
    f.do(f"ret i64 {status}")
    f.block(ok)
