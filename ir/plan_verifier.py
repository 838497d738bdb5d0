"""Checks that a plan is valid. The invariants:

* kernels have distinct names and are valid themselves
* buffers have distinct names; an input or output has an index, a constant its value, of the buffer's dtype
  and size
* sizes in buffers, calls and outputs use the plan's sizes only
* a call names a kernel of the plan and passes as many buffers and sizes as it takes, of its dtypes, and of
  its sizes wherever both are known; it writes no constant, and an input only if that is among `updated`
* every buffer of the arena lies within it, aligned to its elements; two that overlap in memory are not in use
  at the same time (the call that last reads one may first write the other if both start at one place)
* an arena or output buffer is written before it is read; each output is an input or a buffer of its dtype
* checks have distinct positive codes, and every code that a kernel can give has its check
* what is copied, and what is passed to a plan that is repeated, lies within its buffer in every turn and is
  of one dtype; such a plan is valid itself, has the sizes of the plan around it and no constants

A message is followed by the text of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator

from .errors import VerifyError
from .expr import Dim, evaluate, substitute, symbols_of
from .kernel import Check, Kernel
from .kernel_verifier import verify_kernel
from .ops.structure import CHECK_ERRORS
from .plan import Call, Copy, Passed, Plan, PlanBuffer, Repeat, Step
from .plan_text import print_plan

KINDS = ("input", "kept", "output", "constant", "arena")


def verify_plan(plan: Plan) -> None:
    """Raise VerifyError if the plan breaks an invariant of this module's list."""
    for kernel in plan.all_kernels():
        verify_kernel(kernel)
    problem = next(_problems(plan, {c.code for c in plan.checks}), None)
    if problem is not None:
        raise VerifyError(f"plan {plan.name}: {problem}\n{print_plan(plan)}")


def _problems(plan: Plan, codes: set[int]) -> Iterator[str]:
    yield from _repeated("kernel", [k.name for k in plan.kernels])
    yield from _repeated("buffer", [b.name for b in plan.buffers])
    yield from _repeated("check", [str(c.code) for c in plan.checks])
    for buffer in plan.buffers:
        yield from _buffer(buffer, plan)
    kernels = {k.name: k for k in plan.kernels}
    buffers = {b.name: b for b in plan.buffers}
    for step in plan.calls:
        if isinstance(step, Call) and step.kernel not in kernels:
            yield f"call of {step.kernel}, which is no kernel of the plan"
        elif missing := [b for b in _named(step) if b not in buffers]:
            yield f"{_described(step)} passes %{missing[0]}, which is no buffer of the plan"
        elif isinstance(step, Call):
            yield from _call(step, kernels[step.kernel], [buffers[b] for b in step.buffers], plan)
        elif isinstance(step, Copy):
            yield from _copy(step, buffers, plan)
        else:
            yield from _repeat(step, buffers, plan, codes)
    yield from _uses(plan, kernels, buffers)
    yield from _outputs(plan, buffers)
    yield from _codes(plan, codes)


def _repeated(what: str, names: list[str]) -> Iterator[str]:
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield f"{what} {name} is there twice"


def _loose(dim: Dim, plan: Plan) -> list[str]:
    return sorted(symbols_of(dim) - set(plan.sizes))


def _buffer(buffer: PlanBuffer, plan: Plan) -> Iterator[str]:
    name = f"buffer %{buffer.name}"
    if buffer.kind not in KINDS:
        yield f"{name} is of kind {buffer.kind}, expected one of {', '.join(KINDS)}"
    if buffer.kind in ("input", "kept", "output") and buffer.index < 0:
        yield f"{name} has the index {buffer.index}"
    if loose := _loose(buffer.size, plan) + _loose(buffer.offset, plan):
        yield f"{name} uses {loose[0]}, which is no size of the plan"
    if (buffer.value is None) == (buffer.kind == "constant"):
        yield f"{name}: a constant, and nothing else, has a value"
    if buffer.value is not None and (buffer.value.dtype, buffer.value.type.numel) != (
        buffer.dtype,
        buffer.size,
    ):
        yield f"{name} is {buffer.dtype}[{buffer.size}], its value {buffer.value.type}"
    if buffer.kind == "arena" and isinstance(buffer.offset, int):
        if buffer.offset < 0 or buffer.offset % buffer.dtype.itemsize:
            yield f"{name} starts at byte {buffer.offset}, not a place for {buffer.dtype}"
        end = buffer.offset + buffer.size * buffer.dtype.itemsize
        if isinstance(end, int) and isinstance(plan.arena_bytes, int) and end > plan.arena_bytes:
            yield f"{name} ends at byte {end}, beyond the arena of {plan.arena_bytes}"


def _call(call: Call, kernel: Kernel, buffers: list[PlanBuffer], plan: Plan) -> Iterator[str]:
    name = f"call of {call.kernel}"
    if len(buffers) != len(kernel.buffers) or len(call.sizes) != len(kernel.sizes):
        yield (
            f"{name} passes {len(buffers)} buffers and {len(call.sizes)} sizes, "
            f"expected {len(kernel.buffers)} and {len(kernel.sizes)}"
        )
        return
    for size in call.sizes:
        if loose := _loose(size, plan):
            yield f"{name} uses {loose[0]}, which is no size of the plan"
    sizes = dict(zip(kernel.sizes, call.sizes, strict=True))
    for have, want in zip(buffers, kernel.buffers, strict=True):
        size = substitute(want.size, sizes)
        known = isinstance(have.size, int) and isinstance(size, int)
        if have.dtype is not want.dtype or (known and have.size != size):
            passed = f"%{have.name}: {have.dtype}[{have.size}]"
            yield f"{name} passes {passed} as %{want.name}: {want.dtype}[{size}]"
        if want.access != "in" and not _writable(have, plan):
            yield f"{name} writes %{have.name}, the {have.kind} {have.index}, which is not updated"


def _named(step: Step) -> list[str]:
    """The buffers that a step uses."""
    match step:
        case Call():
            return list(step.buffers)
        case Copy():
            return [*step.source.buffers, *step.target.buffers]
    arena = [step.arena] if step.arena is not None else []
    return [*(b for passed in step.buffers for b in passed.buffers), *arena]


def _described(step: Step) -> str:
    match step:
        case Call():
            return f"call of {step.kernel}"
        case Copy():
            return "copy"
    return f"repeat of {step.body.name}"


def _accesses(step: Step, kernels: dict[str, Kernel]) -> list[tuple[str, str]]:
    """(buffer, how it is used). Of what is passed to a repeated plan, reading what an earlier turn has
    written counts as writing."""
    match step:
        case Call():
            kernel = kernels.get(step.kernel)
            if kernel is None or len(step.buffers) != len(kernel.buffers):
                return []
            return [(name, b.access) for name, b in zip(step.buffers, kernel.buffers, strict=True)]
        case Copy():
            return [(step.source.buffer, "in"), (step.target.buffer, "out")]
    pairs = list(zip(step.buffers, step.body.external, strict=False))
    written = {n for passed, b in pairs if b.kind == "output" for n in passed.buffers}
    found = [
        (n, "out" if n in written else "in")
        for passed, b in pairs
        if b.kind != "output"
        for n in passed.buffers
    ]
    return [*found, *((n, "out") for n in sorted(written)), *([(step.arena, "out")] if step.arena else [])]


def _copy(copy: Copy, buffers: dict[str, PlanBuffer], plan: Plan) -> Iterator[str]:
    source, target = buffers[copy.source.buffer], buffers[copy.target.buffer]
    if source.dtype is not target.dtype:
        yield f"copy of {source.dtype} to %{target.name}: {target.dtype}"
    if not _writable(target, plan):
        yield f"copy writes %{target.name}, the {target.kind} {target.index}, which is not updated"
    for passed in (copy.source, copy.target):
        yield from _within("copy", passed, buffers, copy.size, {}, plan)


def _repeat(step: Repeat, buffers: dict[str, PlanBuffer], plan: Plan, codes: set[int]) -> Iterator[str]:
    name, body = _described(step), step.body
    if step.axis in plan.sizes:
        yield f"{name}: its axis {step.axis} is also a size of the plan"
    if body.sizes != plan.sizes or body.checks or body.updated:
        yield f"{name}: its body needs the sizes of the plan, no checks and no updates"
    if len(step.buffers) != len(body.external):
        yield f"{name} passes {len(step.buffers)} buffers, expected {len(body.external)}"
        return
    if body.arena_bytes != 0:
        room = buffers[step.arena].size if step.arena is not None else 0
        if isinstance(room, int) and isinstance(body.arena_bytes, int) and room < body.arena_bytes:
            yield f"{name} has {room} bytes of arena, expected {body.arena_bytes}"
    for passed, want in zip(step.buffers, body.external, strict=True):
        if want.kind == "constant":
            yield f"{name}: its body has the constant %{want.name}"
        for have in (buffers[b] for b in passed.buffers):
            if have.dtype is not want.dtype:
                yield f"{name} passes %{have.name}: {have.dtype} as %{want.name}: {want.dtype}"
            if want.kind == "output" and not _writable(have, plan):
                yield f"{name} writes %{have.name}, the {have.kind} {have.index}, which is not updated"
        yield from _within(name, passed, buffers, want.size, {step.axis: step.extent}, plan)
    yield from (f"{name}: {problem}" for problem in _problems(body, codes))


def _within(
    name: str, passed: Passed, buffers: dict[str, PlanBuffer], size: Dim, axes: dict[str, Dim], plan: Plan
) -> Iterator[str]:
    """That `size` elements of what is passed lie within the buffer, as far as sizes are known."""
    buffer = buffers[passed.buffer]
    if loose := sorted(symbols_of(passed.offset) - {*plan.sizes, *axes}):
        yield f"{name} uses {loose[0]}, which is no size of the plan"
        return
    for edge in passed.buffers[1:]:
        have = buffers[edge].size
        if isinstance(have, int) and isinstance(size, int) and have < size:
            yield f"{name} passes %{edge}, {have} elements, where {size} are used"
    turns, room = next(iter(axes.values()), 1), buffer.size
    known = not symbols_of(passed.offset) - set(axes)
    if not (known and isinstance(size, int) and isinstance(room, int) and isinstance(turns, int)):
        return
    first = 0 if passed.first is None else 1
    last = turns if passed.last is None else turns - 1
    for turn in range(first, last):
        start = evaluate(passed.offset, dict.fromkeys(axes, turn))
        if start < 0 or start + size > room:
            yield f"{name} passes %{buffer.name} from {start} to {start + size}, beyond its {room}"
            return


def _writable(buffer: PlanBuffer, plan: Plan) -> bool:
    return buffer.kind in ("arena", "output") or (buffer.kind == "input" and buffer.index in plan.updated)


def _uses(plan: Plan, kernels: dict[str, Kernel], buffers: dict[str, PlanBuffer]) -> Iterator[str]:
    """Order of writes and reads, and overlap in the arena."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for at, step in enumerate(plan.calls):
        for name, access in _accesses(step, kernels):
            kind = buffers[name].kind if name in buffers else "input"
            if kind in ("arena", "output") and name not in first and access in ("in", "inout"):
                yield f"step {at}, {_described(step)}, reads %{name} before anything is written there"
            first.setdefault(name, at)
            last[name] = at
    for name, type_ in plan.outputs:
        last[name] = len(plan.calls)
        if (
            name in buffers
            and buffers[name].kind in ("arena", "output")
            and name not in first
            and type_.numel != 0
        ):
            yield f"the output %{name} is never written"
    used = [buffers[n] for n in first if n in buffers and buffers[n].kind == "arena"]
    for i, one in enumerate(used):
        for other in used[:i]:
            if _overlap(one, other) and not _apart(one, other, first, last):
                yield f"%{other.name} and %{one.name} overlap in the arena and are in use at the same time"


def _overlap(one: PlanBuffer, other: PlanBuffer) -> bool:
    if one.size == 0 or other.size == 0:
        return False
    starts = [b.offset for b in (one, other) if isinstance(b.offset, int)]
    ends = [e for b in (one, other) if isinstance(e := b.offset + b.size * b.dtype.itemsize, int)]
    if len(starts) < 2 or len(ends) < 2:
        return one.offset == other.offset
    return max(starts) < min(ends)


def _apart(one: PlanBuffer, other: PlanBuffer, first: dict[str, int], last: dict[str, int]) -> bool:
    """One is last used before the other is first, or at that very call if they start at one place."""
    shared = 0 if one.offset == other.offset else 1
    return last[one.name] + shared <= first[other.name] or last[other.name] + shared <= first[one.name]


def _outputs(plan: Plan, buffers: dict[str, PlanBuffer]) -> Iterator[str]:
    for name, type_ in plan.outputs:
        if name not in buffers:
            yield f"the output %{name} is no buffer of the plan"
        elif buffers[name].dtype is not type_.dtype:
            yield f"the output %{name} is {buffers[name].dtype}, its type {type_}"
        if loose := [s for d in type_.shape for s in _loose(d, plan)]:
            yield f"the output %{name}: {type_} uses {loose[0]}, which is no size of the plan"


def _codes(plan: Plan, known: set[int]) -> Iterator[str]:
    for check in plan.checks:
        if check.code <= 0:
            yield f"the check {check.code} needs a positive code"
        if check.error not in CHECK_ERRORS:
            yield f"the check {check.code} raises {check.error}, expected one of {', '.join(CHECK_ERRORS)}"
    for kernel in plan.kernels:
        for statement in kernel.statements():
            if isinstance(statement, Check) and statement.code not in known:
                yield f"kernel {kernel.name} can stop with the code {statement.code}, which has no check"
