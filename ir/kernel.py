"""Kernel IR: the loop form of one fused group.

A kernel is a list of statements over buffers. Axes and run-time sizes are symbols of index expressions
(`ir.expr`); scalar SSA values (`%3`) hold elements. An integer SSA value may stand in an index expression by
its name (`%3`), which is how gather addresses memory. docs/ir.md shows every form; softmax over rows:

    kernel softmax(%x: f32[s0*s1] in, %y: f32[s0*s1] out; s0, s1) {
      parallel i < s0 {
        %m = reduce_max lanes j < s1 : f32 {
          %0 = load %x[i*s1 + j] : f32
          yield %0
        }
        %d = reduce_sum lanes j < s1 : f32 {
          %1 = load %x[i*s1 + j] : f32
          %2 = sub %1, %m : f32
          %3 = exp %2 : f32
          store %y[i*s1 + j], %3
          yield %3
        }
        vector j < s1 {
          %4 = load %y[i*s1 + j] : f32
          %5 = div %4, %d : f32
          store %y[i*s1 + j], %5
        }
      }
    }

How statements are read (`codegen` emits them so, `ir.kernel_verifier` checks the conditions):

* `parallel` loops are independent in any order; `serial` loops run in order and may carry values; a `vector`
  loop is a parallel innermost loop that runs 16 elements at a time with a masked tail. Only `Compute`,
  `Const`, `Index`, `Load`, `Store`, `Check` and, inside it, serial loops and reductions may stand in a
  `vector` loop.
* a `Reduce` with order `lanes` is itself the vector loop over its last axis (its axes taken as one index,
  row-major). With order `rows`, `pairwise` or `sequential` it runs element after element. Inside a `vector`
  loop, or another such reduction, each lane reduces for itself, whatever the order.
* values defined outside a vector loop are the same in all lanes.
* a `Local` makes scratch memory for one turn of the loops around it: parallel turns share none.
* a guarded load reads `otherwise` where the guard fails and never touches memory there; a guarded store does
  nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Union

from .dtypes import DType
from .expr import Dim
from .opdef import Attr, OpDef
from .types import Literal

#: Number of elements that a vector loop handles at a time, on every target.
VECTOR = 16


@dataclass(frozen=True)
class Buffer:
    """A block of memory handed to a kernel. size: elements. access: in, out, inout, temp (scratch), or
    stream: out, and best written past the caches, since nothing reads it soon."""

    name: str
    dtype: DType
    size: Dim
    access: str


@dataclass(frozen=True, eq=False)
class Scalar:
    """An SSA value of a kernel; `name` without %. Unique within the kernel. Compares by identity."""

    name: str
    dtype: DType


@dataclass(frozen=True)
class Axis:
    """A loop variable running over 0 .. extent - 1."""

    name: str
    extent: Dim


@dataclass(frozen=True)
class Guard:
    """True where low <= expr < high."""

    expr: Dim
    low: Dim
    high: Dim


@dataclass(frozen=True)
class Compute:
    """result = opdef(operands): an elementwise primitive on scalars (`cast` takes its attribute)."""

    result: Scalar
    opdef: OpDef
    operands: tuple[Scalar, ...]
    attrs: tuple[tuple[str, Attr], ...] = ()


@dataclass(frozen=True)
class Const:
    """result = a literal of rank 0."""

    result: Scalar
    value: Literal


@dataclass(frozen=True)
class Index:
    """result = an index expression, as int64 (iota)."""

    result: Scalar
    expr: Dim


@dataclass(frozen=True)
class Load:
    """result = buffer[index] where all guards hold, else the literal `otherwise`."""

    result: Scalar
    buffer: str
    index: Dim
    guards: tuple[Guard, ...] = ()
    otherwise: Literal | None = None


@dataclass(frozen=True)
class Store:
    """buffer[index] = value where all guards hold."""

    buffer: str
    index: Dim
    value: Scalar
    guards: tuple[Guard, ...] = ()


@dataclass(frozen=True)
class Check:
    """If `ok` is false (in a lane that is not masked off) the kernel's status becomes `code`, which is
    positive, and the plan stops after this kernel. The kernel itself runs on, so whatever a checked index
    addresses is guarded too."""

    ok: Scalar
    code: int


@dataclass(frozen=True)
class Loop:
    """`kind` is parallel, serial or vector. A serial loop may carry values: each of `carries` is (parameter,
    start value); `yields` are the next values, `finals` the scalars that hold the last ones after the
    loop."""

    axis: Axis
    kind: str
    body: tuple[Statement, ...]
    carries: tuple[tuple[Scalar, Scalar], ...] = ()
    yields: tuple[Scalar, ...] = ()
    finals: tuple[Scalar, ...] = ()


@dataclass(frozen=True)
class Reduce:
    """result = the reduction `opdef` (reduce_sum, ..., argmax) of the yielded scalar over the axes, in
    `order`.

    For argmax and argmin the result is the row-major index, int64. The body may store (a row kept for later).
    """

    result: Scalar
    opdef: OpDef
    order: str
    axes: tuple[Axis, ...]
    body: tuple[Statement, ...]
    value: Scalar


@dataclass(frozen=True)
class Contract:
    """result(m, n) = sum over `over` of lhs[lhs_index] * rhs[rhs_index], in the canonical order of
    `contract`.

    start: (buffer, index of m and n) from which the sums, of one superblock at most, go on; else they begin
    at zero.
    The register tile spans `m` (rows, lhs broadcast) and `n` (vector, rhs contiguous along n or loaded
    strided). rhs_index has no m. If lhs_index has n, of stride 1, the lhs is read in vectors too: each column
    is a sum of its own. `body` runs for each (m, n) with `result` known: the epilogue, which stores.
    within: the steps at which this is negative take no part; it goes by 1, -1 or 0 along each axis.
    inside: where one of these does not hold, the step takes no part; the operands can be read there all the
    same. Along each axis they go by a number known.
    """

    result: Scalar
    m: Axis
    n: Axis
    over: tuple[Axis, ...]
    lhs: str
    lhs_index: Dim
    rhs: str
    rhs_index: Dim
    body: tuple[Statement, ...]
    start: tuple[str, Dim] | None = None
    within: Dim | None = None
    inside: tuple[Guard, ...] = ()


@dataclass(frozen=True)
class Local:
    """Scratch memory of the body that it stands in, from here on: each turn of the loops around has its own,
    whose contents are undefined at first. size: elements, a constant."""

    name: str
    dtype: DType
    size: int


@dataclass(frozen=True)
class Sort:
    """target[target_index + t] = the place, counted from source_index on, of the element that is number t of
    the `length` ones from source[source_index] on, for t = 0 .. count - 1, in the order of `argsort`.

    scratch: memory of i64 that it may use from scratch_index on (`ops.sorting.scratch_words`).
    """

    source: str
    source_index: Dim
    target: str
    target_index: Dim
    scratch: str
    scratch_index: Dim
    length: Dim
    count: Dim
    descending: bool = False

    @property
    def dims(self) -> tuple[Dim, ...]:
        """Its index expressions."""
        return (self.source_index, self.target_index, self.scratch_index, self.length, self.count)


Statement = Union[Compute, Const, Index, Load, Store, Check, Local, Loop, Reduce, Contract, Sort]


@dataclass(frozen=True)
class Kernel:
    """buffers in call order, then run-time sizes by name. numerics: of the graph (`ir.graph.NUMERICS`)."""

    name: str
    buffers: tuple[Buffer, ...]
    sizes: tuple[str, ...]
    body: tuple[Statement, ...]
    numerics: str = "exact"

    def statements(self) -> Iterator[Statement]:
        """All statements, outer before inner."""
        pending = list(reversed(self.body))
        while pending:
            statement = pending.pop()
            yield statement
            if isinstance(statement, Loop | Reduce | Contract):
                pending.extend(reversed(statement.body))
