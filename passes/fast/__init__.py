"""Rewrites that change results in their last digits: what `numerics="fast"` opts into (docs/numerics.md)."""

from __future__ import annotations

from functools import partial

from ...ir.graph import Graph
from ..fold import Evaluator
from ..manager import Pass, PassManager
from ..pipeline import optimize
from .algebra import contract_products, simplify_freely
from .winograd import use_winograd

__all__ = ["loosen"]

#: Rounds after which to stop even if something still changes.
MOST_ROUNDS = 4


def loosen(graph: Graph, *, evaluate: Evaluator | None = None, verify: bool = False) -> Graph:
    """A graph that computes nearly the same in less time. evaluate, verify: see `optimize`."""
    exact: Pass = partial(optimize, evaluate=evaluate, verify=verify)
    repeated: list[tuple[str, Pass]] = [("exact", exact), ("algebra", simplify_freely)]
    last: list[tuple[str, Pass]] = [
        ("winograd", use_winograd),
        # Last: the rules before look for products and sums.
        ("products", contract_products),
    ]
    graph = PassManager(repeated, verify).run_until_stable(graph, rounds=MOST_ROUNDS)
    return PassManager(last, verify).run(graph)
