"""Textual form of kernels, both ways. The syntax is described in docs/ir.md.

Scalars, buffers and axes keep their names, so `print_kernel(parse_kernel(text)) == text` for printed text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import opdef
from . import ops as ops  # declares the primitives
from .attr_text import parse_attrs, parse_dtype, parse_literal, print_attrs, print_literal
from .dtypes import DType
from .expr import Dim
from .kernel import (
    Axis,
    Buffer,
    Check,
    Compute,
    Const,
    Contract,
    Guard,
    Index,
    Kernel,
    Load,
    Local,
    Loop,
    Reduce,
    Scalar,
    Sort,
    Statement,
    Store,
)  # fmt: skip
from .opdef import OpDef
from .parser import parse_numerics
from .scanner import Scanner, print_name

LOOPS = ("parallel", "serial", "vector")
ACCESS = ("inout", "in", "out", "stream", "temp")


def print_kernel(kernel: Kernel, indent: str = "") -> str:
    """The text of a kernel, ending in a newline; every line starts with `indent`."""
    buffers = ", ".join(f"%{b.name}: {b.dtype}[{b.size}] {b.access}" for b in kernel.buffers)
    sizes = f"; {', '.join(kernel.sizes)}" if kernel.sizes else ""
    how = "" if kernel.numerics == "exact" else f"{kernel.numerics} "
    head = f"{indent}{how}kernel {print_name(kernel.name)}({buffers}{sizes}) {{"
    return "\n".join([head, *_body(kernel.body, indent + "  "), indent + "}"]) + "\n"


def print_statement(statement: Statement) -> str:
    """The text of one statement with its body, for messages."""
    return "\n".join(_statement(statement, ""))


def _body(body: Sequence[Statement], indent: str) -> Iterator[str]:
    for statement in body:
        yield from _statement(statement, indent)


def _statement(statement: Statement, indent: str) -> Iterator[str]:
    match statement:
        case Loop() | Reduce() | Contract():
            yield f"{indent}{_head(statement)} {{"
            yield from _body(statement.body, indent + "  ")
            if yielded := _yielded(statement):
                yield f"{indent}  yield {_scalars(yielded)}"
            yield f"{indent}}}"
        case _:
            yield indent + _line(statement)


def _line(statement: Statement) -> str:
    match statement:
        case Compute(result, op, operands, attrs):
            return (
                f"%{result.name} = {op.name} {_scalars(operands)}{print_attrs(dict(attrs))} : {result.dtype}"
            )
        case Const(result, value):
            return f"%{result.name} = const {print_literal(value)} : {result.dtype}"
        case Index(result, expr):
            return f"%{result.name} = index {expr} : {result.dtype}"
        case Load(result, buffer, index, guards, otherwise):
            other = f" else {print_literal(otherwise)}" if otherwise is not None else ""
            return f"%{result.name} = load %{buffer}[{index}]{_guards(guards)}{other} : {result.dtype}"
        case Store(buffer, index, value, guards):
            return f"store %{buffer}[{index}], %{value.name}{_guards(guards)}"
        case Check(ok, code):
            return f"check %{ok.name} code {code}"
        case Local(name, dtype, size):
            return f"local %{name}: {dtype}[{size}]"
        case Sort(source, at, target, to, scratch, by):
            places = f"%{source}[{at}] to %{target}[{to}] by %{scratch}[{by}]"
            how = " descending" if statement.descending else ""
            return f"sort {places} over {statement.length} first {statement.count}{how}"
    raise TypeError(f"{type(statement).__name__} is not a statement")


def _head(statement: Loop | Reduce | Contract) -> str:
    match statement:
        case Loop(axis, kind, _, carries, _, finals):
            results = f"{_scalars(finals)} = " if finals else ""
            carried = ", ".join(f"%{p.name} = %{s.name}" for p, s in carries)
            return f"{results}{kind} {_axes([axis])}{f' carry {carried}' if carried else ''}"
        case Reduce(result, op, order, axes):
            return f"%{result.name} = {op.name} {order}{' ' * bool(axes)}{_axes(axes)} : {result.dtype}"
        case Contract(result, m, n, over, lhs, lhs_index, rhs, rhs_index, _, start, within, inside):
            summed = f" over {_axes(over)}" if over else ""
            summed += f" when 0 <= {within}" if within is not None else ""
            summed += _guards(inside, "inside")
            summed += f" from %{start[0]}[{start[1]}]" if start is not None else ""
            product = f"%{lhs}[{lhs_index}] * %{rhs}[{rhs_index}]"
            return f"%{result.name} = contract {product}{summed} for {_axes([m, n])} : {result.dtype}"


def _yielded(statement: Loop | Reduce | Contract) -> Sequence[Scalar]:
    match statement:
        case Loop():
            return statement.yields
        case Reduce():
            return [statement.value]
        case Contract():
            return []


def _scalars(scalars: Sequence[Scalar]) -> str:
    return ", ".join(f"%{s.name}" for s in scalars)


def _axes(axes: Sequence[Axis]) -> str:
    return ", ".join(f"{a.name} < {a.extent}" for a in axes)


def _guards(guards: Sequence[Guard], word: str = "when") -> str:
    return f" {word} {', '.join(f'{g.low} <= {g.expr} < {g.high}' for g in guards)}" if guards else ""


def parse_kernel(text: str) -> Kernel:
    """The kernel that the text describes. Raises ParseError with line, column and the offending line."""
    scanner = Scanner(text)
    kernel = scan_kernel(scanner)
    if scanner.at != len(text):
        scanner.fail(f"expected the end of the text, found {scanner.found()}")
    return kernel


def scan_kernel(scanner: Scanner) -> Kernel:
    """Take one kernel. Raises ParseError."""
    numerics = parse_numerics(scanner)
    scanner.expect("kernel")
    name = scanner.name()
    scanner.expect("(")
    buffers: list[Buffer] = []
    while scanner.peek("%"):
        buffers.append(_buffer(scanner))
        if not scanner.accept(","):
            break
    sizes: list[str] = []
    if scanner.accept(";"):
        sizes.append(scanner.word("a size"))
        while scanner.accept(","):
            sizes.append(scanner.word("a size"))
    scanner.expect(")")
    reader = _Reader(scanner)
    body, yielded = reader.block()
    if yielded:
        scanner.fail("a kernel yields nothing")
    return Kernel(name, tuple(buffers), tuple(sizes), body, numerics)


def _buffer(scanner: Scanner) -> Buffer:
    name = scanner.value()
    scanner.expect(":")
    dtype = parse_dtype(scanner)
    scanner.expect("[")
    size = scanner.expression()
    scanner.expect("]")
    access = next((a for a in ACCESS if scanner.accept(a)), None)
    if access is None:
        scanner.fail(f"expected {', '.join(ACCESS)}, found {scanner.found()}")
    return Buffer(name, dtype, size, access)


class _Reader:
    """The statements of one kernel. Scalars are known by name from their definition to the end of the kernel;
    whether they are in scope where they are used is for the verifier to say."""

    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        self.scalars: dict[str, Scalar] = {}

    def define(self, name: str, at: int, dtype: DType) -> Scalar:
        if name in self.scalars:
            self.scanner.fail(f"%{name} is defined twice", at)
        self.scalars[name] = Scalar(name, dtype)
        return self.scalars[name]

    def use(self) -> Scalar:
        at = self.scanner.at
        name = self.scanner.value()
        if name not in self.scalars:
            self.scanner.fail(f"%{name} is not defined before this", at)
        return self.scalars[name]

    def uses(self) -> tuple[Scalar, ...]:
        found = [self.use()] if self.scanner.peek("%") else []
        while found and self.scanner.accept(","):
            found.append(self.use())
        return tuple(found)

    def block(self) -> tuple[tuple[Statement, ...], tuple[Scalar, ...]]:
        """The statements in braces, and what they yield."""
        self.scanner.expect("{")
        body: list[Statement] = []
        yielded: tuple[Scalar, ...] = ()
        while not self.scanner.accept("}"):
            if self.scanner.accept("yield"):
                yielded = self.uses()
                self.scanner.expect("}")
                break
            body.append(self.statement())
        return tuple(body), yielded

    def statement(self) -> Statement:
        scanner = self.scanner
        targets: list[tuple[str, int]] = []
        while scanner.peek("%"):
            at = scanner.at
            targets.append((scanner.value(), at))
            if not scanner.accept(","):
                scanner.expect("=")
        at = scanner.at
        kind = scanner.word("a statement")
        if kind in LOOPS:
            return self.loop(kind, targets)
        if kind == "store":
            return self.store()
        if kind == "check":
            return self.check()
        if kind == "local":
            return self.local()
        if kind == "sort":
            return self.sort()
        if len(targets) != 1:
            scanner.fail(f"{kind} has one result, got {len(targets)}", at)
        return self.with_result(kind, at, *targets[0])

    def with_result(self, kind: str, at: int, name: str, name_at: int) -> Statement:
        match kind:
            case "const":
                value = parse_literal(self.scanner)
                return Const(self.result(name, name_at), value)
            case "index":
                expr = self.scanner.expression()
                return Index(self.result(name, name_at), expr)
            case "load":
                return self.load(name, name_at)
            case "contract":
                return self.contract(name, name_at)
        if kind not in opdef.ALL:
            self.scanner.fail(f"there is no operation {kind!r}", at)
        found = opdef.ALL[kind]
        return self.reduce(found, name, name_at) if found.reduction else self.compute(found, name, name_at)

    def result(self, name: str, at: int) -> Scalar:
        """Take `: dtype` and define the result."""
        self.scanner.expect(":")
        return self.define(name, at, parse_dtype(self.scanner))

    def compute(self, found: OpDef, name: str, at: int) -> Compute:
        operands = self.uses()
        attrs = tuple(sorted(parse_attrs(self.scanner).items()))
        return Compute(self.result(name, at), found, operands, attrs)

    def place(self) -> tuple[str, Dim]:
        """Take `%buffer[index]`."""
        buffer = self.scanner.value()
        self.scanner.expect("[")
        index = self.scanner.expression()
        self.scanner.expect("]")
        return buffer, index

    def guards(self, word: str = "when") -> tuple[Guard, ...]:
        if not self.scanner.accept(word):
            return ()
        guards = [self.guard()]
        while self.scanner.accept(","):
            guards.append(self.guard())
        return tuple(guards)

    def guard(self) -> Guard:
        low = self.scanner.expression()
        self.scanner.expect("<=")
        expr = self.scanner.expression()
        self.scanner.expect("<")
        return Guard(expr, low, self.scanner.expression())

    def load(self, name: str, at: int) -> Load:
        buffer, index = self.place()
        guards = self.guards()
        otherwise = parse_literal(self.scanner) if self.scanner.accept("else") else None
        return Load(self.result(name, at), buffer, index, guards, otherwise)

    def store(self) -> Store:
        buffer, index = self.place()
        self.scanner.expect(",")
        value = self.use()
        return Store(buffer, index, value, self.guards())

    def check(self) -> Check:
        ok = self.use()
        self.scanner.expect("code")
        return Check(ok, self.scanner.integer())

    def local(self) -> Local:
        name = self.scanner.value()
        self.scanner.expect(":")
        dtype = parse_dtype(self.scanner)
        self.scanner.expect("[")
        size = self.scanner.integer()
        self.scanner.expect("]")
        return Local(name, dtype, size)

    def sort(self) -> Sort:
        source = self.place()
        self.scanner.expect("to")
        target = self.place()
        self.scanner.expect("by")
        scratch = self.place()
        self.scanner.expect("over")
        length = self.scanner.expression()
        self.scanner.expect("first")
        count = self.scanner.expression()
        return Sort(*source, *target, *scratch, length, count, self.scanner.accept("descending"))

    def axis(self) -> Axis:
        name = self.scanner.word("an axis")
        self.scanner.expect("<")
        return Axis(name, self.scanner.expression())

    def axes(self) -> tuple[Axis, ...]:
        axes = [self.axis()]
        while self.scanner.accept(","):
            axes.append(self.axis())
        return tuple(axes)

    def loop(self, kind: str, targets: list[tuple[str, int]]) -> Loop:
        axis = self.axis()
        carries: list[tuple[Scalar, Scalar]] = []
        if self.scanner.accept("carry"):
            carries.append(self.carry())
            while self.scanner.accept(","):
                carries.append(self.carry())
        body, yields = self.block()
        if not len(targets) == len(yields) == len(carries):
            self.scanner.fail(f"{len(carries)} carried values, {len(yields)} yielded, {len(targets)} results")
        finals = tuple(self.define(name, at, y.dtype) for (name, at), y in zip(targets, yields, strict=True))
        return Loop(axis, kind, body, tuple(carries), yields, finals)

    def carry(self) -> tuple[Scalar, Scalar]:
        at = self.scanner.at
        name = self.scanner.value()
        self.scanner.expect("=")
        start = self.use()
        return self.define(name, at, start.dtype), start

    def reduce(self, found: OpDef, name: str, at: int) -> Reduce:
        order = self.scanner.word("an order")
        axes = self.axes() if not self.scanner.peek(":") else ()
        result = self.result(name, at)
        body, yields = self.block()
        if len(yields) != 1:
            self.scanner.fail(f"a reduction yields one value, got {len(yields)}")
        return Reduce(result, found, order, axes, body, yields[0])

    def contract(self, name: str, at: int) -> Contract:
        lhs, lhs_index = self.place()
        self.scanner.expect("*")
        rhs, rhs_index = self.place()
        over = self.axes() if self.scanner.accept("over") else ()
        within = self.within() if self.scanner.accept("when") else None
        inside = self.guards("inside")
        start = self.place() if self.scanner.accept("from") else None
        self.scanner.expect("for")
        axes = self.axes()
        if len(axes) != 2:
            self.scanner.fail(f"a contraction runs for two axes, m and n, got {len(axes)}")
        result = self.result(name, at)
        body, _ = self.block()
        return Contract(
            result, axes[0], axes[1], over, lhs, lhs_index, rhs, rhs_index, body, start, within, inside
        )

    def within(self) -> Dim:
        at = self.scanner.at
        if self.scanner.expression() != 0:
            self.scanner.fail("the steps that take part are given as 0 <= an index expression", at)
        self.scanner.expect("<=")
        return self.scanner.expression()
