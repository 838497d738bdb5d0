"""The micro-kernel for columns that each have a left operand of their own, beside each other: the channels of
a depthwise convolution. It loads vectors of both operands where others broadcast."""

from __future__ import annotations

from ..ir.dtypes import DType
from ..ir.kernel import VECTOR
from .contract_tile import Layout, Tile, TileWriter, kernel_name
from .indices import Value
from .lanes import lane_mask, type_suffix
from .text import Module


def lanes_kernel(module: Module, dtype: DType, tile: Tile, layout: Layout, valid: Value | None) -> str:
    """The name of the function, which has the parameters of `micro_kernel`. valid: how many columns exist,
    None for all; no element of others is read."""
    known = valid if isinstance(valid, int) else tile.columns
    name = kernel_name("lanes", dtype, tile, layout) + f"_{known}"
    if not module.defined(name):
        writer = LaneFactors(module, name, dtype, tile, layout)
        writer.valid = known
        module.add(writer.function())
    return name


class LaneFactors(TileWriter):
    """How a left operand along the columns is read. Set `valid`, the columns that exist, before `function`
    is called."""

    valid: int

    def factors(self, place: str) -> list[str]:
        """A vector for each 16 columns, zeros for columns that do not exist."""
        return [
            self._read(self.step(place, first), min(VECTOR, self.valid - first))
            for first in range(0, self.tile.columns, VECTOR)
        ]

    def _read(self, place: str, count: int) -> str:
        if count == VECTOR:
            return self.f(f"load {self.vector}, ptr {place}, align {self.align}")
        return self.f.call(
            self.vector, f"llvm.masked.load.{type_suffix(self.element, VECTOR)}.p0", ("ptr", place),
            ("i32", str(self.align)), (f"<{VECTOR} x i1>", lane_mask(count)),
            (self.vector, "zeroinitializer"),
        )  # fmt: skip
