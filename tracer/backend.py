"""What the tracer needs of memory and execution. The frontend registers one `Backend`; tests register their
own.

Storages are opaque handles: a block of memory, or a view into one at a byte offset.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

from ..ir.graph import Graph
from ..ir.opdef import BoundOp
from ..ir.strided import StridedType
from .traced import Storage


class Backend(Protocol):
    """Memory, and two ways to run: a whole graph, or one op."""

    def base(self, storage: Storage) -> Hashable:
        """The same key for all views of one block."""
        ...

    def offset(self, storage: Storage) -> int:
        """Bytes from the start of the block."""
        ...

    def view(self, storage: Storage, byte_offset: int) -> Storage:
        """A view `byte_offset` bytes (may be negative) after `storage`."""
        ...

    def version(self, storage: Storage) -> int:
        """Writes so far to the block."""
        ...

    def bump(self, storage: Storage, times: int) -> None:
        """Count more writes to the block."""
        ...

    def scalar(self, value: float) -> Storage:
        """A new storage that holds one float64."""
        ...

    def execute(self, graph: Graph, key: Hashable, inputs: Sequence[Storage]) -> list[Storage] | None:
        """Run a graph, its updates included (each counts one write): a storage of its own per output. `key`
        names the graph's structure. None if a check failed, or the graph can't be run; then no input has
        changed.
        """
        ...

    def is_compiled(self, key: Hashable) -> bool:
        """Whether a graph of this structure has been compiled, or it is known that it can't be."""
        ...

    def eager(
        self, op: BoundOp, types: tuple[StridedType, ...], storages: Sequence[Storage]
    ) -> Sequence[Storage]:
        """Run one op: the storages of its results. Raises what it raises to the user."""
        ...

    def assign(self, target: Storage, type: StridedType, source: Storage, source_type: StridedType) -> None:
        """Overwrite the elements of `target` by those of `source`, of the same shape; count one write."""
        ...
