"""Groups to kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ...ir import ops
from ...ir.expr import Dim
from ...ir.graph import Graph, Operation
from ...ir.plan import Plan
from .build_blocks import build_blocks
from .build_contract import build_contract
from .build_parts import build_parts
from .build_pointwise import build_pointwise, needed
from .build_rows import build_rows
from .build_scan import build_scan
from .build_tiles import build_from_tiles
from .groups import CONTRACT, PARTS, ROWS, TILES, Group, is_free
from .stores import Stores, cost
from .writer import Built, Checks, KernelWriter

#: Names of so many ops make the name of a kernel.
NAMED = 3


def build_kernel(
    groups: Sequence[Group], stores: Stores, checks: Checks, lower_body: Callable[[Graph], Plan]
) -> Built:
    """One kernel of these groups, one loop nest after the other. They must not depend on each other.

    lower_body: gives the plan of a region.
    """
    if groups[0].members[0].opdef is ops.scan:
        return build_scan(groups[0].members[0], lower_body)
    own = {v for g in groups for op in g.members for v in op.results}
    writer = KernelWriter(lambda v: v not in own and stores.in_memory(v), checks)
    for group in groups:
        if group.kind == CONTRACT:
            build_contract(writer, group, stores)
        elif group.kind == ROWS:
            build_rows(writer, group, stores)
        elif group.kind == TILES:
            build_from_tiles(writer, group, stores)
        elif group.kind == PARTS:
            build_parts(writer, group)
        elif group.axes.blocked is not None:
            build_blocks(writer, group, stores)
        else:
            build_pointwise(writer, group, stores)
    built = writer.finish(kernel_name(groups, stores))
    location = next((op.location for g in groups for op in g.members if op.location), None)
    return replace(built, location=location)


def kernel_name(groups: Sequence[Group], stores: Stores) -> str:
    """What the kernel computes, over which axes: `contract_add_gelu_64x512`."""
    group = groups[0]
    members = needed(group, stores, stores.of_group(group)) or group.members
    telling = sorted(range(len(members)), key=lambda at: -_weight(members[at]))[:NAMED]
    words = dict.fromkeys(_word(members[at]) for at in sorted(telling))
    sizes = "x".join(map(_size_word, group.axes.shape)) or "1"
    more = f"_and_{len(groups) - 1}_more" if len(groups) > 1 else ""
    return f"{'_'.join(words)}_{sizes}{more}"


def _weight(op: Operation) -> int:
    """How much an operation says about a kernel."""
    return 100 if op.opdef in (ops.contract, ops.gather) or op.opdef.reduction else cost(op)


def _word(op: Operation) -> str:
    """What an operation does; for a copy in memory, how the elements are moved."""
    if op.opdef is ops.permute and op.attrs["perm"] == tuple(range(op.result.type.rank)):
        source = op.operands[0].operation
        return source.opdef.name if source is not None and is_free(source) else "copy"
    return op.opdef.name.removeprefix("reduce_")


def _size_word(dim: Dim) -> str:
    return str(dim) if isinstance(dim, int) or str(dim).isidentifier() else "n"
