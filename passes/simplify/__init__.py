"""Exact rewrite rules: smaller or cheaper graphs with the same bits (all NaNs counting as equal).

The rules are named functions, by subject; importing a module registers its rules with the driver.
"""

from __future__ import annotations

from ...ir.graph import Graph
from . import arithmetic, contraction, indexing, logic, movement, reduction, slices, strided
from .driver import RULES, rewrite

__all__ = [
    "arithmetic", "contraction", "indexing", "logic", "movement", "reduction", "simplify", "slices",
    "strided",
]  # fmt: skip


def simplify(graph: Graph) -> Graph:
    """Apply every rule wherever it fits; the same object if none does."""
    return rewrite(graph, RULES)
