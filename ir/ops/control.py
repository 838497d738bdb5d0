"""Operations with regions, `call`, a named composite, and `scan`, a loop of known length; and `split`, which
has several results too.

A region is a graph of its own that sees nothing but its inputs. Type rules get the regions themselves,
meanings get functions that run them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import IRTypeError
from ..expr import Dim
from ..opdef import Attr, define
from ..types import TensorType

if TYPE_CHECKING:
    from ..graph import Graph

#: Runs a region: its outputs for these inputs.
Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


def called(*types: TensorType, regions: tuple[Graph, ...], **attrs: Attr) -> tuple[TensorType, ...]:
    """The results of a call are those of its region, which takes the operands."""
    if list(attrs) != ["name"] or not isinstance(attrs["name"], str):
        raise IRTypeError(f"has attributes ({', '.join(attrs)}), expected a name")
    (body,) = regions
    _takes(body, types)
    return tuple(v.type for v in body.outputs)


def scanned_types(
    *types: TensorType, regions: tuple[Graph, ...], carries: int, scanned: int, length: Dim, reverse: bool,
    previous: tuple[int, ...],
) -> tuple[TensorType, ...]:  # fmt: skip
    """Types of a scan: the carries; what a step gives out, stacked along a new axis of size `length`; and the
    carries of the numbers `previous` as they were before each step, stacked likewise."""
    (body,) = regions
    if min(carries, scanned) < 0 or carries + scanned > len(types) or not isinstance(reverse, bool):
        raise IRTypeError(f"scan has {len(types)} operands, not {carries} carries and {scanned} scanned ones")
    if isinstance(length, int) and length < 1:
        raise IRTypeError(f"scan needs at least one step, not {length}")
    carried, xs = types[:carries], types[carries : carries + scanned]
    for x in xs:
        if x.rank == 0 or x.shape[0] != length:
            raise IRTypeError(f"scan of length {length} can't run along the first axis of {x}")
    _takes(body, (*carried, *(x.with_shape(x.shape[1:]) for x in xs), *types[carries + scanned :]))
    given = tuple(v.type for v in body.outputs)
    if given[:carries] != carried:
        raise IRTypeError(f"its region carries on ({_list(given[:carries])}), expected ({_list(carried)})")
    if list(previous) != sorted(set(previous)) or not set(previous) <= set(range(carries)):
        raise IRTypeError(f"previous must name carries, ascending, got {previous}")
    steps = (*given[carries:], *(carried[i] for i in previous))
    return (*carried, *(t.with_shape((length, *t.shape)) for t in steps))


def _takes(body: Graph, types: tuple[TensorType, ...]) -> None:
    have = tuple(v.type for v in body.inputs)
    if have != types:
        raise IRTypeError(f"its region takes ({_list(have)}), expected ({_list(types)})")


def _list(types: Sequence[TensorType]) -> str:
    return ", ".join(map(str, types))


def _scan(
    *operands: np.ndarray, regions: tuple[Run, ...], carries: int, scanned: int, length: int, reverse: bool,
    previous: tuple[int, ...],
) -> list[np.ndarray]:  # fmt: skip
    (body,) = regions
    carried = list(operands[:carries])
    xs, rest = operands[carries : carries + scanned], operands[carries + scanned :]
    steps: list[list[np.ndarray]] = []
    for t in range(length)[:: -1 if reverse else 1]:
        before = [carried[i] for i in previous]
        outputs = body([*carried, *(x[t] for x in xs), *rest])
        carried = outputs[:carries]
        steps.append([*outputs[carries:], *before])
    return [*carried, *map(np.stack, zip(*(steps[::-1] if reverse else steps), strict=True))]


def split_types(x: TensorType, *, axis: int, sizes: tuple[Dim, ...]) -> tuple[TensorType, ...]:
    """f32[2, 6] with axis=1, sizes=(4, 2) -> f32[2, 4], f32[2, 2]."""
    if not 0 <= axis < x.rank or sum(sizes[1:], sizes[0] if sizes else 0) != x.shape[axis]:
        raise IRTypeError(f"can't split {x} along axis {axis} into {list(sizes)}")
    return tuple(x.with_shape((*x.shape[:axis], size, *x.shape[axis + 1 :])) for size in sizes)


def _split(x: np.ndarray, *, axis: int, sizes: tuple[int, ...]) -> list[np.ndarray]:
    return np.split(x, np.cumsum(sizes)[:-1], axis)


# A named composite; its one region is the body. Passes treat it whole or inline it.
call = define("call", None, called, None, regions=1)
# The parts along an axis, of these sizes. One operation, so that its derivative puts the parts together again
# instead of adding them up; before lowering it becomes slices.
split = define("split", 1, split_types, _split)
# scan(carries..., scanned..., rest...): for t = 0, 1, ..., length - 1, or the other way round if `reverse`,
#   carries..., given[t]... = body(carries..., scanned[t]..., rest...)
# Its results are the last carries, the stacked `given`, and for each number in `previous` that carry as it
# was before step t, stacked.
scan = define("scan", None, scanned_types, _scan, regions=1, exact=False)
