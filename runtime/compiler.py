"""From a graph to an executable: optimise, lower, emit, load; each stage timed, each stage's text to be had.

The same graph compiled twice gives the same executable. What was compiled in an earlier process comes from
the disk cache (`kept`), with no pass run; a stage's text is then made when it is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ir import locks
from ..ir.builder import GraphBuilder
from ..ir.graph import Graph
from ..ir.opdef import BoundOp
from ..ir.printer import print_graph
from ..ir.strided import strided_type
from ..ir.types import TensorType
from ..passes.packed import Packed, pack_weights
from . import storage
from .executable import CheckFailed, Executable, MemoryUse
from .host import target_of
from .options import options
from .progress import compiling, step
from .weights import Settling, Weights

if TYPE_CHECKING:
    from ..codegen.target import Target
    from ..ir.expr import Dim
    from ..ir.plan import Plan

#: Called with each executable that was compiled (not found in memory): dumps, progress.
observers: list[Callable[[CompiledGraph], None]] = []

STAGES = ("captured", "optimized", "kernels", "plan", "llvm", "asm")

_lock = locks.rlock()
_compiled: dict[tuple[str, str, str], CompiledGraph] = {}


@dataclass(frozen=True)
class Stages:
    """What a graph becomes on its way."""

    optimized: Graph
    plan: Plan
    llvm: str


class CompiledGraph(Executable):
    """An executable that remembers where it comes from: `captured` is the graph that was compiled.

    plan: its outside is certain to be there. seconds: time per step of the compilation, by name; of what came
    from the disk cache, of finding it. compile_seconds: their sum.
    """

    def __init__(self, source: Source, plan: Plan, run: int, work: Dim | None = None) -> None:
        super().__init__(plan, run, len(source.graph.inputs), work)
        self.source = source
        self.name, self.captured = source.graph.name, source.graph
        self.seconds: dict[str, float] = {}
        #: What gives the operands beyond those of the graph that was asked for; None if there are none.
        self.weights: Weights | None = None
        #: The graph taken apart, if it is worth reading turned weights once these no longer change.
        self.apart: Packed | None = None
        self._settled: Weights | None = None

    def bind(self, sizes: Sequence[int] = ()) -> Callable[..., Any]:
        """As Executable's; turned weights are found by the call itself."""
        call = super().bind(sizes)
        if self.weights is not None:
            return self.weights.given_to(call)
        apart = self.apart
        if apart is None:
            return call

        def make() -> tuple[Weights, Callable[..., Any]]:
            packing = compile_graph(apart.packing, optimized=True)
            self._settled = Weights(packing, apart.weights)
            return self._settled, compile_graph(apart.main, given=apart.given).bind(sizes)

        return Settling(apart.weights, make).given_to(call)

    @property
    def memory(self) -> MemoryUse:
        """As Executable's, with the weights that are kept in another form at present."""
        kept = sum(w.kept_bytes for w in (self.weights, self._settled) if w is not None)
        return replace(super().memory, kept=kept)

    @property
    def compile_seconds(self) -> float:
        return sum(self.seconds.values())

    @cached_property
    def stages(self) -> Stages:
        """What the graph became, whole."""
        return _stages(self.source, _Clock())

    def text(self, stage: str) -> str:
        """The program at one of STAGES. ValueError for another name."""
        if stage not in STAGES:
            raise ValueError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}")
        return str(getattr(self, "_text_" + stage)())

    def _text_captured(self) -> str:
        return print_graph(self.captured)

    def _text_optimized(self) -> str:
        return print_graph(self.stages.optimized)

    def _text_kernels(self) -> str:
        from ..ir.kernel_text import print_kernel

        return "\n".join(map(print_kernel, self.stages.plan.all_kernels()))

    def _text_plan(self) -> str:
        from ..ir.plan_text import print_plan

        return print_plan(self.stages.plan)

    def _text_llvm(self) -> str:
        return self.stages.llvm

    def _text_asm(self) -> str:
        from .jit import assembly

        return assembly(self.stages.llvm, self.source.target)


@dataclass(frozen=True)
class Source:
    """What is compiled, and for what. optimized: no pass is to change the graph. given: the number of its
    first input that the executable gives itself."""

    graph: Graph
    optimized: bool
    given: int
    target: Target

    @cached_property
    def text(self) -> str:
        return print_graph(self.graph)

    @property
    def key(self) -> tuple[str, str, str]:
        """Different for sources that may become different code."""
        return (self.text, f"{self.optimized} {self.given}", self.target.key)


def compile_graph(
    graph: Graph, *, optimized: bool = False, name: str | None = None, given: int | None = None
) -> CompiledGraph:
    """Compile a graph, or find it compiled. optimized: it is not to be changed by passes. name: for dumps.
    given: the number of the first input that the executable gives itself, None if there are none.

    With `options.verify` graph, plan and kernels are verified, and the graph again after each pass;
    VerifyError says what is wrong. Safe to call from any thread. What ends it (Ctrl-C) leaves nothing behind:
    the next call compiles anew.
    """
    if name is not None and name != graph.name:
        graph = replace(graph, name=name)
    given = len(graph.inputs) if given is None else given
    asked = Source(graph, optimized, given, target_of(graph))
    with _lock, compiling(graph.name):
        found = _compiled.get(asked.key)
        if found is not None:
            return found
        source = asked
        if graph.numerics == "fast" and not optimized:
            with locks.imports:
                from ..passes.fast import loosen

            source = replace(asked, graph=loosen(graph, evaluate=evaluate_op, verify=options.verify))
        apart = None if optimized else pack_weights(source.graph, asked.target.tile_columns)
        split = apart if apart is not None and apart.windowed else None
        if split is not None:
            packing = compile_graph(split.packing, optimized=True)
            source = replace(source, graph=split.main, given=split.given)
        found = _found(source) or _compile(source)
        if split is not None:
            found.weights = Weights(packing, split.weights)
        elif apart is not None:
            found.apart = apart
        _compiled[asked.key] = found
    for observe in observers:
        observe(found)
    return found


def _found(source: Source) -> CompiledGraph | None:
    """The graph as an earlier process compiled it, if the disk cache has it. With `options.verify` everything
    is made anew."""
    with locks.imports:
        from .jit import disk, load_kept
        from .kept import Entry, entry_key

    if options.verify or disk().directory is None:
        return None
    clock = _Clock()
    with clock("find"):
        data = disk().get(entry_key(*source.key))
        entry = Entry.from_bytes(data) if data is not None else None
        loaded = load_kept(entry.code, ["run"], entry.imports) if entry is not None else None
    if entry is None or loaded is None:
        return None
    made = CompiledGraph(source, entry.outside, loaded["run"], entry.work)
    made.seconds = clock.seconds
    return made


def _compile(source: Source) -> CompiledGraph:
    with locks.imports:
        from .jit import code_key, disk, imports_of, load
        from .kept import Entry, entry_key, outside_of
        from .work import estimated_ns

    clock = _Clock()
    stages = _stages(source, clock)
    with clock("load"):
        run = load(stages.llvm, ["run"], target=source.target)["run"]
    work = estimated_ns(stages.plan)
    made = CompiledGraph(source, stages.plan, run, work)
    made.stages = stages
    if disk().directory is not None:
        code = code_key(stages.llvm, source.target)
        entry = Entry(outside_of(stages.plan), work, code, imports_of(stages.llvm))
        disk().put(entry_key(*source.key), entry.to_bytes())
    made.seconds = clock.seconds
    return made


def _stages(source: Source, clock: _Clock) -> Stages:
    """Run the passes, lower and emit."""
    with locks.imports:
        from ..codegen.emit import emit_plan
        from ..ir.plan_verifier import verify_plan
        from ..ir.verifier import verify_graph
        from ..passes.lower import lower
        from ..passes.pipeline import optimize

    graph = source.graph
    if options.verify:
        verify_graph(graph)

    def observe(name: str, before: Graph, after: Graph) -> None:
        step(f"pass {name}", 0, 0)

    with clock("optimize"):
        if not source.optimized:
            graph = optimize(graph, evaluate=evaluate_op, observe=observe, verify=options.verify)
    with clock("lower"):
        plan = _with_kept(lower(graph, step, source.target.tile_columns), source.given)
    if options.verify:
        verify_plan(plan)
    with clock("emit"):
        return Stages(graph, plan, emit_plan(plan, source.target, step))


def _with_kept(plan: Plan, given: int) -> Plan:
    """The plan with the inputs from number `given` on as what they are: kept by the executable."""
    buffers = tuple(
        replace(b, kind="kept") if b.kind == "input" and b.index >= given else b for b in plan.buffers
    )
    return replace(plan, buffers=buffers)


class _Clock:
    """`with clock("name"):` adds the time spent to `seconds[name]`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._name, self._start = "", 0.0

    def __call__(self, name: str) -> _Clock:
        self._name = name
        return self

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        self.seconds[self._name] = time.perf_counter() - self._start


def evaluate_op(op: BoundOp, operands: Sequence[np.ndarray]) -> np.ndarray | None:
    """The op's value as our own kernels compute it, for constant folding; None if it has none (a check
    fails). Arrays of uint16 hold the bits of bfloat16."""
    from ..ir.dtypes import bfloat16, from_numpy

    dtypes = [bfloat16 if x.dtype == bfloat16.numpy else from_numpy(x.dtype) for x in operands]
    builder = GraphBuilder("fold")
    values = [builder.input(TensorType(d, x.shape)) for d, x in zip(dtypes, operands, strict=True)]
    result = builder(op.opdef, *values, **op.attrs)
    graph = builder.finish([result])
    try:
        (made,) = compile_graph(graph, optimized=True).run(
            [storage.from_array(np.ascontiguousarray(x)) for x in operands]
        )
    except CheckFailed:
        return None
    return storage.to_array(made, strided_type(result.type.dtype, result.type.shape))  # type: ignore[arg-type]
