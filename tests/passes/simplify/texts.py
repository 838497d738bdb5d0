"""Rules tested by text: a table of cases, each with its name, the inputs, the operations before and those
after."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from vitrify.ir.graph import Graph
from vitrify.passes.dce import eliminate_dead_code
from vitrify.passes.simplify import simplify

from tests.support import check_pass


class Case(NamedTuple):
    """after: None where no rule may fire. The last line of both is what is returned."""

    name: str
    inputs: str
    before: str
    after: str | None


def fires(name: str, inputs: str, before: str, after: str) -> Case:
    """A graph that a rule changes."""
    return Case(name, inputs, before, after)


def stays(name: str, inputs: str, before: str) -> Case:
    """A graph that looks like one, and must stay as it is."""
    return Case(name, inputs, before, None)


def simplified(graph: Graph) -> Graph:
    """What the rules make of a graph, without the operations left over."""
    return eliminate_dead_code(simplify(graph))


def check(case: Case) -> None:
    """Compare texts, and run both graphs."""
    before = _graph(case.inputs, case.before)
    after = before if case.after is None else _graph(case.inputs, case.after)
    check_pass(simplified, before, after, sizes={"s0": 5})


def cases(table: list[Case]) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    """Run a test on each case, under its name."""
    marked = [pytest.param(c, id=c.name + ("" if c.after else "_not")) for c in table]
    return pytest.mark.parametrize("case", marked)


def _graph(inputs: str, lines: str) -> str:
    *operations, result = [line.strip() for line in lines.strip().splitlines()]
    body = "\n".join(f"  {line}" for line in (*operations, f"return {result}"))
    return f"graph f({inputs}) {{\n{body}\n}}"
