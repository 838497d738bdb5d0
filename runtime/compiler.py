"""From a graph to an executable: optimise, lower, emit, load; each stage timed, each stage's text to be had.

The same graph compiled twice gives the same executable. What was compiled in an earlier process comes from
the disk cache of object code, for which the graph is still lowered: the key is the emitted text.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..ir.builder import GraphBuilder
from ..ir.graph import Graph
from ..ir.opdef import BoundOp
from ..ir.printer import print_graph
from ..ir.strided import strided_type
from ..ir.types import TensorType
from . import storage
from .executable import CheckFailed, Executable
from .host import host_target
from .options import options

if TYPE_CHECKING:
    from ..ir.plan import Plan

#: Called with each executable that was compiled (not found in memory): dumps, progress.
observers: list[Callable[[CompiledGraph], None]] = []

STAGES = ("captured", "optimized", "kernels", "plan", "llvm", "asm")

_lock = threading.RLock()
_compiled: dict[tuple[str, bool, str], CompiledGraph] = {}


class CompiledGraph(Executable):
    """An executable that remembers where it comes from: `captured` is the graph that was compiled.

    seconds: time per step of the compilation, by name. compile_seconds: their sum.
    """

    def __init__(self, captured: Graph, optimized: Graph, plan: Plan, llvm: str, run: int) -> None:
        super().__init__(plan, run, len(captured.inputs))
        self.name = captured.name
        self.seconds: dict[str, float] = {}
        self.captured, self._optimized, self._llvm = captured, optimized, llvm
        self._target = host_target()

    @property
    def compile_seconds(self) -> float:
        return sum(self.seconds.values())

    def text(self, stage: str) -> str:
        """The program at one of STAGES. ValueError for another name."""
        if stage not in STAGES:
            raise ValueError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}")
        return str(getattr(self, "_text_" + stage)())

    def _text_captured(self) -> str:
        return print_graph(self.captured)

    def _text_optimized(self) -> str:
        return print_graph(self._optimized)

    def _text_kernels(self) -> str:
        from ..ir.kernel_text import print_kernel

        return "\n".join(map(print_kernel, self.plan.all_kernels()))

    def _text_plan(self) -> str:
        from ..ir.plan_text import print_plan

        return print_plan(self.plan)

    def _text_llvm(self) -> str:
        return self._llvm

    def _text_asm(self) -> str:
        from .jit import assembly

        return assembly(self._llvm, self._target)


def compile_graph(graph: Graph, *, optimized: bool = False, name: str | None = None) -> CompiledGraph:
    """Compile a graph, or find it compiled. optimized: it is not to be changed by passes. name: for dumps.

    With `options.verify` graph, plan and kernels are verified, and the graph again after each pass;
    VerifyError says what is wrong. Safe to call from any thread.
    """
    if name is not None and name != graph.name:
        graph = Graph(graph.inputs, graph.operations, graph.outputs, graph.updates, name)
    key = (print_graph(graph), optimized, host_target().key)
    with _lock:
        found = _compiled.get(key)
        if found is not None:
            return found
        found = _compiled[key] = _compile(graph, optimized)
    for observe in observers:
        observe(found)
    return found


def _compile(graph: Graph, optimized: bool) -> CompiledGraph:
    from ..codegen.emit import emit_plan
    from ..ir.plan_verifier import verify_plan
    from ..ir.verifier import verify_graph
    from ..passes.lower import lower
    from ..passes.pipeline import optimize
    from .jit import load

    clock = _Clock()
    if options.verify:
        verify_graph(graph)
    with clock("optimize"):
        ready = graph if optimized else optimize(graph, evaluate=evaluate_op, verify=options.verify)
    with clock("lower"):
        plan = lower(ready)
    if options.verify:
        verify_plan(plan)
    with clock("emit"):
        text = emit_plan(plan, host_target())
    with clock("load"):
        run = load(text, ["run"])["run"]
    made = CompiledGraph(graph, ready, plan, text, run)
    made.seconds = clock.seconds
    return made


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
    fails)."""
    from ..ir.dtypes import from_numpy

    builder = GraphBuilder("fold")
    values = [builder.input(TensorType(from_numpy(x.dtype), x.shape)) for x in operands]
    result = builder(op.opdef, *values, **op.attrs)
    graph = builder.finish([result])
    try:
        (made,) = compile_graph(graph, optimized=True).run(
            [storage.from_array(np.ascontiguousarray(x)) for x in operands]
        )
    except CheckFailed:
        return None
    return storage.to_array(made, strided_type(result.type.dtype, result.type.shape))  # type: ignore[arg-type]
