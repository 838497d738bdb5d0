"""Reads the textual form of a graph, as `ir.printer` writes it. The syntax is described in docs/ir.md.

The parser is generic over the declared ops and checks names and syntax only; whether types fit is for
`ir.verifier` to say.
"""

from __future__ import annotations

from . import opdef
from . import ops as ops  # declares the primitives
from .attr_text import parse_attrs, parse_type
from .graph import Graph, Location, Operation, Value
from .opdef import OpDef
from .scanner import Scanner
from .types import TensorType


def parse_graph(text: str) -> Graph:
    """The graph that the text describes. Raises ParseError with line, column and the offending line."""
    scanner = Scanner(text)
    graph = _graph(scanner)
    if scanner.at != len(text):
        scanner.fail(f"expected the end of the text, found {scanner.found()}")
    return graph


def parse_location(scanner: Scanner) -> Location | None:
    """Take `@ "file":line` if it comes next."""
    if not scanner.accept("@"):
        return None
    file = scanner.string()
    scanner.expect(":")
    return Location(file, scanner.integer())


def parse_numerics(scanner: Scanner) -> str:
    """Take the word before a graph or a kernel that is not exact, if there is one."""
    return "fast" if scanner.accept("fast") else "exact"


class _Scope:
    """The values of one graph by name."""

    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        self.values: dict[str, Value] = {}

    def define(self, value: Value, name: str, at: int) -> Value:
        if name in self.values:
            self.scanner.fail(f"%{name} is defined twice", at)
        value.name = "" if name.isdigit() else name
        self.values[name] = value
        return value

    def use(self) -> Value:
        at = self.scanner.at
        name = self.scanner.value()
        if name not in self.values:
            self.scanner.fail(f"%{name} is not defined here", at)
        return self.values[name]

    def uses(self) -> tuple[Value, ...]:
        """Take values separated by commas, maybe none."""
        if not self.scanner.peek("%"):
            return ()
        found = [self.use()]
        while self.scanner.accept(","):
            found.append(self.use())
        return tuple(found)


def _graph(scanner: Scanner) -> Graph:
    numerics = parse_numerics(scanner)
    scanner.expect("graph")
    name = "graph" if scanner.peek("(") else scanner.name()
    scope = _Scope(scanner)
    inputs = _inputs(scanner, scope)
    scanner.expect("{")
    operations: list[Operation] = []
    updates: list[tuple[Value, Value]] = []
    while not scanner.accept("return"):
        if scanner.accept("update"):
            target = scope.use()
            scanner.expect("=")
            updates.append((target, scope.use()))
        else:
            operations.append(_operation(scanner, scope))
    outputs = scope.uses()
    scanner.expect("}")
    return Graph(inputs, tuple(operations), outputs, tuple(updates), name, numerics)


def _inputs(scanner: Scanner, scope: _Scope) -> tuple[Value, ...]:
    scanner.expect("(")
    inputs: list[Value] = []
    while not scanner.accept(")"):
        if inputs:
            scanner.expect(",")
        at = scanner.at
        name = scanner.value()
        scanner.expect(":")
        value = Value(parse_type(scanner))
        if scanner.accept("strides"):
            scanner.expect("(")
            value.strides = scanner.expressions(")")
        inputs.append(scope.define(value, name, at))
    return tuple(inputs)


def _operation(scanner: Scanner, scope: _Scope) -> Operation:
    start = scanner.at
    targets = _targets(scanner)
    opdef_ = _opdef(scanner)
    operands = scope.uses()
    attrs = parse_attrs(scanner)
    types = _types(scanner) if targets else ()
    if len(types) != len(targets):
        scanner.fail(f"{len(targets)} results, but {len(types)} types", start)
    location = parse_location(scanner)
    regions = _regions(scanner)
    results = tuple(scope.define(Value(t), name, at) for t, (name, at) in zip(types, targets, strict=True))
    return Operation(opdef_, operands, attrs, results, regions, location)


def _targets(scanner: Scanner) -> list[tuple[str, int]]:
    """The names of the results, with their places."""
    targets: list[tuple[str, int]] = []
    while scanner.peek("%"):
        at = scanner.at
        targets.append((scanner.value(), at))
        if not scanner.accept(","):
            scanner.expect("=")
            break
    return targets


def _opdef(scanner: Scanner) -> OpDef:
    at = scanner.at
    name = scanner.word("an operation, update or return")
    if name not in opdef.ALL:
        scanner.fail(f"there is no operation {name!r}", at)
    return opdef.ALL[name]


def _types(scanner: Scanner) -> tuple[TensorType, ...]:
    scanner.expect(":")
    types = [parse_type(scanner)]
    while scanner.accept(","):
        types.append(parse_type(scanner))
    return tuple(types)


def _regions(scanner: Scanner) -> tuple[Graph, ...]:
    if not scanner.accept("{"):
        return ()
    regions: list[Graph] = []
    while not scanner.accept("}"):
        regions.append(_graph(scanner))
    return tuple(regions)
