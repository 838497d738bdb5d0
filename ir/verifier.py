"""Checks that a graph is valid. The invariants, in the order in which they are checked, for each graph and
region:

* the numerics are known ones; a region, which has those of the graph around it, says nothing (exact)
* an input or a result is defined once, and by this graph only; a result says which operation defines it
* each operand is an input or the result of an earlier operation of the same graph (regions capture nothing)
* the attributes have textual forms (`ir.opdef.Attr`) and are those that the op's type rule takes
* the number and the types of operands fit the op, and the results have the types that its rule gives
* an op has as many regions as its kind says, which update nothing and have row-major inputs; how their
  inputs and outputs are typed is the type rule's to say (those of a `call` as its operands and results)
* an input's strides, if it has any, are one per axis
* symbols in types and strides are bound by the graph's inputs: each occurs alone as a size of an input, or at
  least in some input's type or strides (then the caller gives its value)
* outputs and updates use values of this graph; an update targets an input, with a value of the input's type,
  and each input is updated once at most
* a location has a line that is not negative

A message names the operation, what it has and what was expected; the text of the graph follows.
"""

from __future__ import annotations

from .attr_text import print_attr
from .errors import IRError, VerifyError
from .expr import symbols_of
from .graph import NUMERICS, Graph, Operation, Value
from .printer import print_graph, value_names
from .types import TensorType


def verify_graph(graph: Graph) -> None:
    """Raise VerifyError if the graph breaks an invariant of this module's list."""
    try:
        _Verifier(graph, graph.symbols()).run()
    except _Broken as broken:
        raise VerifyError(f"{broken}\n{_text(graph)}") from None


class _Broken(Exception):
    """An invariant that does not hold."""


def _text(graph: Graph) -> str:
    try:
        return print_graph(graph)
    except Exception as error:
        return f"(the graph can't be printed: {error})"


class _Verifier:
    """One pass over one graph, in order of definition."""

    def __init__(self, graph: Graph, symbols: tuple[str, ...], where: str = "") -> None:
        self.graph, self.where = graph, where
        self.symbols = set(symbols)
        self.names = value_names(graph)
        self.defined: set[Value] = set()

    def run(self) -> None:
        numerics = self.graph.numerics
        if numerics not in (NUMERICS[:1] if self.where else NUMERICS):
            raise self.broken("graph", f"numerics {numerics!r} cannot be said here")
        for value in self.graph.inputs:
            self.input(value)
        for op in self.graph.operations:
            self.operation(op)
        for value in self.graph.outputs:
            self.use(value, "return")
        self.updates()

    def broken(self, what: str, message: str) -> _Broken:
        return _Broken(f"{what}{self.where}: {message}")

    def define(self, value: Value, what: str) -> None:
        if value in self.defined:
            raise self.broken(what, f"%{self.names[value]} is defined twice")
        if loose := {s for d in value.type.shape for s in symbols_of(d)} - self.symbols:
            raise self.broken(
                what, f"{value.type} has the size {min(loose)}, which no input of the graph has"
            )
        self.defined.add(value)

    def use(self, value: Value, what: str) -> None:
        if value not in self.defined:
            why = "is defined later" if value in self.names else "is not a value of this graph"
            raise self.broken(what, f"%{self.names.get(value, value.name or '?')} {why}")

    def input(self, value: Value) -> None:
        what = f"input %{self.names[value]}"
        self.define(value, what)
        if value.operation is not None:
            raise self.broken(what, f"is also the result of a {value.operation.opdef.name}")
        if value.strides is not None and len(value.strides) != value.type.rank:
            raise self.broken(
                what, f"has {len(value.strides)} strides, expected {value.type.rank} for {value.type}"
            )

    def operation(self, op: Operation) -> None:
        what = self.described(op)
        for operand in op.operands:
            self.use(operand, what)
        for name, attr in op.attrs.items():
            try:
                print_attr(attr)
            except IRError as error:
                raise self.broken(what, f"attribute {name}: {error}") from None
        want = self.inferred(op, what)
        for region in op.regions:
            self.region(region, what)
        have = tuple(v.type for v in op.results)
        if have != want:
            raise self.broken(what, f"has results ({_types(have)}), expected ({_types(want)})")
        for result in op.results:
            self.define(result, what)
            if result.operation is not op:
                raise self.broken(what, f"%{self.names[result]} does not name it as its operation")
        if op.location is not None and op.location.line < 0:
            raise self.broken(what, f"its line is {op.location.line}")

    def described(self, op: Operation) -> str:
        results = ", ".join(f"%{self.names[v]}" for v in op.results)
        return f"{results} = {op.opdef.name}" if results else op.opdef.name

    def inferred(self, op: Operation, what: str) -> tuple[TensorType, ...]:
        try:
            return op.opdef.result_types(*(v.type for v in op.operands), regions=op.regions, **op.attrs)
        except (IRError, TypeError, ValueError) as error:
            raise self.broken(what, str(error)) from None

    def region(self, region: Graph, what: str) -> None:
        if region.updates:
            raise self.broken(what, "its region updates an input; only the whole graph can")
        if any(v.strides is not None for v in region.inputs):
            raise self.broken(what, "its region's inputs have strides; only the whole graph's can")
        _Verifier(region, tuple(self.symbols), f" in the region of {what}{self.where}").run()

    def updates(self) -> None:
        targets: set[Value] = set()
        for target, new in self.graph.updates:
            what = f"update %{self.names.get(target, target.name or '?')}"
            if target not in self.graph.inputs:
                raise self.broken(what, "targets a value that is not an input")
            if target in targets:
                raise self.broken(what, "comes twice, expected one update per input")
            self.use(new, what)
            if new.type != target.type:
                raise self.broken(what, f"has type {new.type}, expected {target.type}")
            targets.add(target)


def _types(types: tuple[TensorType, ...]) -> str:
    return ", ".join(map(str, types))
