"""Textual form of plans, both ways. The syntax is described in docs/ir.md."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .attr_text import parse_dtype, parse_literal, parse_type, print_literal
from .expr import Dim
from .kernel import Kernel
from .kernel_text import print_kernel, scan_kernel
from .parser import parse_location
from .plan import Call, CheckPoint, Copy, Passed, Plan, PlanBuffer, Repeat, Step
from .printer import print_location
from .scanner import Scanner, print_name
from .types import TensorType


def print_plan(plan: Plan) -> str:
    """The text of a plan, ending in a newline."""
    return _text(plan, "")


def _text(plan: Plan, indent: str) -> str:
    head = f"{indent}plan {print_name(plan.name)}({', '.join(plan.sizes)}) arena {plan.arena_bytes} {{\n"
    kernels = "".join(print_kernel(k, indent + "  ") for k in plan.kernels)
    lines = "".join(f"{indent}  {line}\n" for line in _lines(plan, indent + "  "))
    return f"{head}{kernels}{lines}{indent}}}\n"


def _lines(plan: Plan, indent: str) -> Iterator[str]:
    for buffer in plan.buffers:
        yield f"buffer %{buffer.name}: {buffer.dtype}[{buffer.size}] {_place(buffer)}"
    for check in plan.checks:
        message = json.dumps(check.message, ensure_ascii=False)
        yield f"check {check.code} {check.error} {message}{print_location(check.location)}"
    for step in plan.calls:
        yield f"{_step(step, indent)}{print_location(step.location)}"
    if plan.updated:
        yield f"update {', '.join(map(str, plan.updated))}"
    yield f"return {', '.join(f'%{name}: {type_}' for name, type_ in plan.outputs)}".rstrip()


def _step(step: Step, indent: str) -> str:
    match step:
        case Call():
            names = ", ".join(f"%{b}" for b in step.buffers)
            sizes = f"; {', '.join(map(str, step.sizes))}" if step.sizes else ""
            return f"call {print_name(step.kernel)}({names}{sizes})"
        case Copy():
            return f"copy {step.size} from {_passed(step.source)} to {_passed(step.target)}"
        case Repeat():
            arena = f" arena %{step.arena}" if step.arena is not None else ""
            passed = ", ".join(map(_passed, step.buffers))
            body = _text(step.body, indent + "  ")
            return f"repeat {step.axis} < {step.extent} ({passed}){arena} {{\n{body}{indent}}}"


def _passed(passed: Passed) -> str:
    at = f" at {passed.offset}" if passed.offset != 0 else ""
    first = f" first %{passed.first}" if passed.first is not None else ""
    last = f" last %{passed.last}" if passed.last is not None else ""
    return f"%{passed.buffer}{at}{first}{last}"


def _place(buffer: PlanBuffer) -> str:
    match buffer.kind:
        case "arena":
            return f"arena at {buffer.offset}"
        case "constant" if buffer.value is not None:
            return f"constant {print_literal(buffer.value)}"
    return f"{buffer.kind} {buffer.index}"


def parse_plan(text: str) -> Plan:
    """The plan that the text describes. Raises ParseError with line, column and the offending line."""
    scanner = Scanner(text)
    plan = _Reader(scanner).plan()
    if scanner.at != len(text):
        scanner.fail(f"expected the end of the text, found {scanner.found()}")
    return plan


class _Reader:
    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        self.kernels: list[Kernel] = []
        self.buffers: list[PlanBuffer] = []
        self.checks: list[CheckPoint] = []
        self.calls: list[Step] = []
        self.updated: list[int] = []

    def plan(self) -> Plan:
        self.scanner.expect("plan")
        name = self.scanner.name()
        self.scanner.expect("(")
        sizes = tuple(map(str, self.scanner.expressions(")")))
        self.scanner.expect("arena")
        arena_bytes = self.scanner.expression()
        self.scanner.expect("{")
        while not self.scanner.accept("return"):
            self.entry()
        outputs = self.outputs()
        self.scanner.expect("}")
        return Plan(
            name, tuple(self.kernels), tuple(self.buffers), tuple(self.calls), outputs, tuple(self.updated),
            sizes, arena_bytes, tuple(self.checks),
        )  # fmt: skip

    def entry(self) -> None:
        if self.scanner.peek("kernel") or self.scanner.peek("fast"):
            self.kernels.append(scan_kernel(self.scanner))
        elif self.scanner.accept("buffer"):
            self.buffers.append(self.buffer())
        elif self.scanner.accept("check"):
            self.checks.append(self.check())
        elif self.scanner.accept("call"):
            self.calls.append(self.call())
        elif self.scanner.accept("copy"):
            self.calls.append(self.copy())
        elif self.scanner.accept("repeat"):
            self.calls.append(self.repeat())
        elif self.scanner.accept("update"):
            self.updated.append(self.scanner.integer())
            while self.scanner.accept(","):
                self.updated.append(self.scanner.integer())
        else:
            found = self.scanner.found()
            self.scanner.fail(
                f"expected kernel, buffer, check, call, copy, repeat, update or return, found {found}"
            )

    def buffer(self) -> PlanBuffer:
        name = self.scanner.value()
        self.scanner.expect(":")
        dtype = parse_dtype(self.scanner)
        self.scanner.expect("[")
        size = self.scanner.expression()
        self.scanner.expect("]")
        at = self.scanner.at
        kind = self.scanner.word("input, kept, output, constant or arena")
        if kind == "arena":
            self.scanner.expect("at")
            return PlanBuffer(name, kind, dtype, size, offset=self.scanner.expression())
        if kind == "constant":
            return PlanBuffer(name, kind, dtype, size, value=parse_literal(self.scanner))
        if kind not in ("input", "kept", "output"):
            self.scanner.fail(f"expected input, kept, output, constant or arena, found {kind!r}", at)
        return PlanBuffer(name, kind, dtype, size, index=self.scanner.integer())

    def check(self) -> CheckPoint:
        code, error = self.scanner.integer(), self.scanner.word("an error")
        message = self.scanner.string()
        return CheckPoint(code, error, message, parse_location(self.scanner))

    def call(self) -> Call:
        kernel = self.scanner.name()
        self.scanner.expect("(")
        buffers: list[str] = []
        while self.scanner.peek("%"):
            buffers.append(self.scanner.value())
            if not self.scanner.accept(","):
                break
        sizes: tuple[Dim, ...] = ()
        if self.scanner.accept(";"):
            sizes = self.scanner.expressions(")")
        else:
            self.scanner.expect(")")
        return Call(kernel, tuple(buffers), sizes, parse_location(self.scanner))

    def copy(self) -> Copy:
        size = self.scanner.expression()
        self.scanner.expect("from")
        source = self.passed()
        self.scanner.expect("to")
        return Copy(source, self.passed(), size, parse_location(self.scanner))

    def repeat(self) -> Repeat:
        axis = self.scanner.name()
        self.scanner.expect("<")
        extent = self.scanner.expression()
        self.scanner.expect("(")
        passed: list[Passed] = []
        while self.scanner.peek("%"):
            passed.append(self.passed())
            if not self.scanner.accept(","):
                break
        self.scanner.expect(")")
        arena = self.scanner.value() if self.scanner.accept("arena") else None
        self.scanner.expect("{")
        body = _Reader(self.scanner).plan()
        self.scanner.expect("}")
        return Repeat(axis, extent, body, tuple(passed), arena, parse_location(self.scanner))

    def passed(self) -> Passed:
        buffer = self.scanner.value()
        offset = self.scanner.expression() if self.scanner.accept("at") else 0
        first = self.scanner.value() if self.scanner.accept("first") else None
        last = self.scanner.value() if self.scanner.accept("last") else None
        return Passed(buffer, offset, first, last)

    def outputs(self) -> tuple[tuple[str, TensorType], ...]:
        outputs: list[tuple[str, TensorType]] = []
        while self.scanner.peek("%"):
            name = self.scanner.value()
            self.scanner.expect(":")
            outputs.append((name, parse_type(self.scanner)))
            if not self.scanner.accept(","):
                break
        return tuple(outputs)
