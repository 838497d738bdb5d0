"""Lowering: from an optimised graph to a plan.

legalize -> fuse -> choose what is stored -> write kernels -> join them in panels -> order them -> place their
buffers. Each step is a module of that name; `index`, `writer` and `values` are what kernels are written with.
"""

from __future__ import annotations

from dataclasses import replace

from ...ir.graph import Graph
from ...ir.plan import Plan
from ...ir.report import Report, nobody
from ..packed import COLUMNS
from .assemble import assemble
from .build import build_kernel
from .fuse import fuse
from .groups import Group
from .legalize import legalize
from .order import schedule
from .panels import fuse_panels, in_running_order
from .stores import choose_stored
from .together import together
from .writer import Checks


def lower(graph: Graph, report: Report = nobody, columns: int = COLUMNS) -> Plan:
    """The plan of a verified graph; the graph is left unchanged. report: told before each kernel. columns: of
    a register tile of the target.

    Every output has memory of its own, in row-major order. Inputs are updated after all checks have passed.
    """
    return _lowered(graph, graph.symbols(), Checks(), report, columns)


def _lowered(graph: Graph, sizes: tuple[str, ...], checks: Checks, report: Report, columns: int) -> Plan:
    """sizes: of the whole plan. checks: its check points, which are numbered through."""

    def lower_body(body: Graph) -> Plan:
        body = replace(body, numerics=graph.numerics)
        return replace(_lowered(body, sizes, checks, report, columns), sizes=sizes, checks=())

    legal = legalize(graph, columns)
    groups = fuse(legal.graph, legal.kept, legal.turned)
    stores = choose_stored(legal.graph, groups, legal.kept)
    bundles = together(groups, stores)
    at = {op: number for number, op in enumerate(legal.graph.operations)}
    built = []
    for number, bundle in enumerate(bundles):
        report("lowering kernels", number, len(bundles))
        built.append(build_kernel(bundle, stores, checks, lower_body))
    tasks = in_running_order(
        built,
        [max(at[op] for g in bundle for op in g.members) for bundle in bundles],
    )
    fixed = {*legal.graph.roots(), *legal.taken_over, *legal.taken_over.values()}
    tasks = fuse_panels(tasks, fixed)
    kernels = [replace(task.built, kernel=task.collapsed) for task in tasks]
    places = [task.position for task in tasks]
    order = schedule(kernels, legal.graph.updates, legal.taken_over, places)
    return assemble(graph, legal, order, checks)


__all__ = ["Group", "lower"]
