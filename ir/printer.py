"""Textual form of a graph; `ir.parser` reads it back. The syntax is described in docs/ir.md.

Printing is deterministic and depends on the structure alone: values without a name of their own are numbered
in order of definition, attributes are sorted by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from .attr_text import print_attrs
from .graph import Graph, Location, Operation, Value
from .scanner import print_name

_NAME = re.compile(r"(?!\d+$)[\w.]+")


def print_graph(graph: Graph, locations: bool = True) -> str:
    """The text of a graph, ending in a newline; `parse_graph` gives an equal one back.

    locations: whether the user's lines are printed (`@ "train.py":12`).
    """
    return "\n".join(_lines(graph, "", locations)) + "\n"


def print_location(location: Location | None) -> str:
    """` @ "file":line`, or nothing."""
    return f" @ {json.dumps(location.file, ensure_ascii=False)}:{location.line}" if location else ""


def value_names(graph: Graph) -> dict[Value, str]:
    """The names that values have in the text, without `%`: their own if it is set and not taken, else a
    number."""
    names: dict[Value, str] = {}
    taken: set[str] = set()
    count = 0
    for value in dict.fromkeys(_definitions(graph)):
        if _NAME.fullmatch(value.name) and value.name not in taken:
            names[value] = value.name
            taken.add(value.name)
        else:
            names[value] = str(count)
            count += 1
    return names


def _definitions(graph: Graph) -> Iterator[Value]:
    yield from graph.inputs
    for op in graph.operations:
        yield from op.results


def _lines(graph: Graph, indent: str, locations: bool) -> Iterator[str]:
    names = value_names(graph)
    title = "graph" if graph.name == "graph" else f"graph {print_name(graph.name)}"
    title = title if graph.numerics == "exact" else f"{graph.numerics} {title}"
    yield f"{indent}{title}({', '.join(_input(v, names[v]) for v in graph.inputs)}) {{"
    inner = indent + "  "
    for op in graph.operations:
        head = inner + _operation(op, names) + (print_location(op.location) if locations else "")
        if not op.regions:
            yield head
            continue
        yield f"{head} {{"
        for region in op.regions:
            yield from _lines(region, inner + "  ", locations)
        yield f"{inner}}}"
    for target, new in graph.updates:
        yield f"{inner}update {_used(target, names)} = {_used(new, names)}"
    yield f"{inner}return {_list(graph.outputs, names)}".rstrip()
    yield f"{indent}}}"


def _input(value: Value, name: str) -> str:
    strides = "" if value.strides is None else f" strides({', '.join(map(str, value.strides))})"
    return f"%{name}: {value.type}{strides}"


def _operation(op: Operation, names: dict[Value, str]) -> str:
    results = f"{_list(op.results, names)} = " if op.results else ""
    operands = f" {_list(op.operands, names)}" if op.operands else ""
    types = f" : {', '.join(str(v.type) for v in op.results)}" if op.results else ""
    return f"{results}{op.opdef.name}{operands}{print_attrs(op.attrs)}{types}"


def _list(values: Iterable[Value], names: dict[Value, str]) -> str:
    return ", ".join(_used(v, names) for v in values)


def _used(value: Value, names: dict[Value, str]) -> str:
    """A value's name; `%?` for one that is not defined in this graph, so that a broken graph prints too."""
    return f"%{names[value]}" if value in names else f"%?{value.name}"
