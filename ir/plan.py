"""A plan: the whole compiled graph as a list of kernel calls over planned buffers.

It is what `passes.lower` makes of a graph and what `codegen` turns into one native function
`run(buffers, sizes, arena) -> status`: `buffers` points to the addresses of the plan's external buffers (in
the order of `Plan.external`), `sizes` to the run-time sizes (in the order of `Plan.sizes`), `arena` to
`arena_bytes` of scratch memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Union

from .dtypes import DType
from .expr import Dim
from .graph import Location
from .kernel import Kernel
from .types import Literal, TensorType


@dataclass(frozen=True)
class PlanBuffer:
    """kind: input (contents of graph input `index`), kept (the same, of an input that the executable gives
    itself: a weight in the form that kernels want), output (`index` of the graph's outputs), constant, or
    arena.

    size: elements. offset: bytes into the arena, for arena buffers. value: of a constant.
    """

    name: str
    kind: str
    dtype: DType
    size: Dim
    index: int = -1
    offset: Dim = 0
    value: Literal | None = None


@dataclass(frozen=True)
class Call:
    """kernel(buffers by name, then the kernel's sizes as expressions over the plan's sizes)."""

    kernel: str
    buffers: tuple[str, ...]
    sizes: tuple[Dim, ...] = ()
    location: Location | None = None


@dataclass(frozen=True)
class Passed:
    """A buffer from the element `offset` on, which may name the axis of the loop around. first, last: another
    buffer that is passed in the first and the last turn of the loop, from its start."""

    buffer: str
    offset: Dim = 0
    first: str | None = None
    last: str | None = None

    @property
    def buffers(self) -> tuple[str, ...]:
        """All that it may be."""
        return tuple(b for b in (self.buffer, self.first, self.last) if b is not None)


@dataclass(frozen=True)
class Copy:
    """`size` elements from one place to another, which do not overlap."""

    source: Passed
    target: Passed
    size: Dim
    location: Location | None = None


@dataclass(frozen=True)
class Repeat:
    """A plan of its own run for axis = 0, 1, ..., extent - 1.

    buffers: what is passed as each external buffer of the body, in order: its inputs, which it reads, and
    its outputs, which it writes. arena: the bytes that are the body's arena, if it has one. The body has the
    sizes of the plan around it, no constants, and no check points of its own: the status codes are those of
    the whole plan.
    """

    axis: str
    extent: Dim
    body: Plan
    buffers: tuple[Passed, ...]
    arena: str | None = None
    location: Location | None = None


#: What a plan does, one after the other.
Step = Union[Call, Copy, Repeat]


@dataclass(frozen=True)
class CheckPoint:
    """What a status code stands for: the Python error, its message, and the user's line."""

    code: int
    error: str
    message: str
    location: Location | None = None


@dataclass(frozen=True)
class Plan:
    """kernels: distinct ones, by name. outputs: for each graph output the buffer that holds it and its type,
    in row-major order. A plan may name an input there whose updated or unchanged contents the output is; what
    `passes.lower` makes never does: each output has memory of its own, so that no two tensors share it
    unasked.

    updated: indices of the graph inputs whose contents the run replaces in place.
    """

    name: str
    kernels: tuple[Kernel, ...]
    buffers: tuple[PlanBuffer, ...]
    calls: tuple[Step, ...]
    outputs: tuple[tuple[str, TensorType], ...]
    updated: tuple[int, ...]
    sizes: tuple[str, ...]
    arena_bytes: Dim
    checks: tuple[CheckPoint, ...] = ()

    @property
    def external(self) -> tuple[PlanBuffer, ...]:
        """The buffers whose addresses the caller passes: inputs, kept ones, outputs, constants, in the order
        of `buffers`."""
        return tuple(b for b in self.buffers if b.kind != "arena")

    def all_kernels(self) -> Iterator[Kernel]:
        """The kernels, and those of the plans that it repeats."""
        yield from self.kernels
        for step in self.calls:
            if isinstance(step, Repeat):
                yield from step.body.all_kernels()
