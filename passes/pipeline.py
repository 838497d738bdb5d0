"""The default list of graph passes, between capture (or autodiff) and lowering."""

from __future__ import annotations

from functools import partial

from ..ir.graph import Graph
from .cse import eliminate_common_subexpressions
from .dce import eliminate_dead_code
from .fold import Evaluator, fold_constants
from .inline import inline_calls
from .manager import Observer, Pass, PassManager
from .regions import within_regions
from .scans import tidy_scans
from .simplify import simplify

#: Rounds of the list after which to stop even if it still changes something. Two do nearly always: each rule
#: leaves its result in final form, so a further round serves only what folding, CSE and DCE have uncovered.
MOST_ROUNDS = 8


def optimize(
    graph: Graph, *, evaluate: Evaluator | None = None, observe: Observer | None = None, verify: bool = False
) -> Graph:
    """The same outputs and updates, bit for bit, from fewer and cheaper operations.

    evaluate: computes constants with our own kernels, see `fold_constants`. observe: called after each pass.
    verify: check the graph after each pass. Cost: about linear in the number of operations.
    """
    first: list[tuple[str, Pass]] = [
        ("inline", inline_calls),
        # A region is a graph of its own. Before the rest, which moves operations out of it.
        ("regions", partial(within_regions, change=partial(optimize, evaluate=evaluate, verify=verify))),
        # Early, so that "used once" in the rules below is not spoilt by uses that nobody needs.
        ("dce", eliminate_dead_code),
    ]
    repeated: list[tuple[str, Pass]] = [
        ("simplify", simplify),
        # After simplify, which brings constants together; its splats are the ones that fold without memory.
        ("fold", partial(fold_constants, evaluate=evaluate)),
        # After both: equal constants and equal canonical forms are found only once they exist.
        ("cse", eliminate_common_subexpressions),
        ("scans", tidy_scans),
        # Last: the others leave the operations that they replaced behind.
        ("dce", eliminate_dead_code),
    ]
    graph = PassManager(first, verify, observe).run(graph)
    return PassManager(repeated, verify, observe).run_until_stable(graph, rounds=MOST_ROUNDS)
