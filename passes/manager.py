"""Running passes: each one timed, on request verified, and shown to an observer.

A pass is a function `Graph -> Graph` that leaves its argument unchanged and returns that very object when it
has nothing to do, so "did it change anything" is an identity check and costs nothing.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..ir.graph import Graph
from ..ir.printer import print_graph
from ..ir.verifier import verify_graph

Pass = Callable[[Graph], Graph]
#: Called as observe(name, before, after) after each pass; `after is before` if the pass changed nothing.
Observer = Callable[[str, Graph, Graph], None]


@dataclass
class PassManager:
    """Runs a list of named passes in order.

    verify: check the graph after every pass that changed it. observe: see `Observer`.
    seconds: time spent in each pass so far, by name; passes that occur twice add up.
    """

    passes: Sequence[tuple[str, Pass]]
    verify: bool = False
    observe: Observer | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, graph: Graph) -> Graph:
        """The graph after all passes. Raises VerifyError, naming the pass, if one leaves an invalid graph."""
        for name, function in self.passes:
            graph = self._run_one(name, function, graph)
        return graph

    def run_until_stable(self, graph: Graph, *, rounds: int) -> Graph:
        """The list again and again until a whole round changes nothing, `rounds` times at most."""
        for _ in range(rounds):
            before, graph = graph, self.run(graph)
            if graph is before:
                break
        return graph

    def _run_one(self, name: str, function: Pass, before: Graph) -> Graph:
        start = time.perf_counter()
        after = function(before)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        if self.verify and after is not before:
            _verify_after(name, after)
        if self.observe is not None:
            self.observe(name, before, after)
        return after


def diff(before: Graph, after: Graph, name: str = "") -> str:
    """What a pass changed, as a unified diff of the two texts; empty if they are the same."""
    old, new = (print_graph(g, locations=False).splitlines() for g in (before, after))
    lines = difflib.unified_diff(
        old, new, f"before {name}".strip(), f"after {name}".strip(), lineterm="", n=2
    )
    return "\n".join(lines)


def _verify_after(name: str, graph: Graph) -> None:
    try:
        verify_graph(graph)
    except Exception as error:
        error.add_note(f"the graph is that after the pass {name!r}")
        raise
