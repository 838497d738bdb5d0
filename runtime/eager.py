"""Eager execution: every op is a one-op graph through the same pipeline as a whole program.

`signature` says what an op gives (type, view or copy) from its operands' eager types alone; `kernel` gives
the callable that runs it. Pointwise ops and reductions share one kernel per layout class, with sizes and
strides given at run time (`runtime.layout`); other ops have static shapes. The numpy meaning of an op serves
only where no kernel exists.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..ir import dtypes, locks, ops
from ..ir.builder import GraphBuilder
from ..ir.graph import Graph, Value
from ..ir.opdef import BoundOp, OpDef, bind
from ..ir.ops.structure import CHECK_ERRORS
from ..ir.strided import StridedType, strided_type
from . import storage
from .call import CallSpec
from .executable import CheckFailed, Executable
from .layout import Space, space
from .views import view_of

Types = tuple[StridedType, ...]
#: Runs an op on its operands' storages and gives the result's.
Kernel = Callable[..., Any]


class Signature(NamedTuple):
    """What an op gives: the result's type; the byte offset if it is a view of the first operand, else None;
    and whether it can stop with an error that depends on the data."""

    result: StridedType
    view_offset: int | None
    may_raise: bool


def signature(op: BoundOp, types: Types) -> Signature:
    """Type and layout of the result. Raises IRTypeError if the operands don't fit, RuntimeError if the result
    has more bytes than there are addresses, or a view more elements than can be counted."""
    (result,) = op.result_types(*[t.ir for t in types])
    shown = view_of(op, types[0]) if types else None
    if shown is not None:
        if shown[0].numel >= 1 << 63:
            raise RuntimeError(f"numel: integer multiplication overflow with sizes={list(shown[0].shape)}")
        return Signature(shown[0], shown[1], False)
    made = strided_type(result.dtype, result.shape)  # type: ignore[arg-type]
    if made.nbytes >= 1 << 63:
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(made.shape)}")
    return Signature(made, None, op.opdef.may_raise)


def execute(op: BoundOp, types: Types, storages: Sequence[Any]) -> Any:
    """Run an op that is no view; the storage of its result, if it has one. Raises what a check in it
    raises."""
    return kernel(op, types)(*storages)


def kernel(op: BoundOp, types: Types) -> Kernel:
    """The callable that runs this op, which is no view, on operands of these types; compiles it if
    need be."""
    if op.opdef is ops.check:  # its meaning is one look at a bool
        return lambda *storages: _meaning_of(op, types, storages)
    if not op.result_types(*[t.ir for t in types]):
        return _raising(op, types, _compiled(op, types)[0].bind())
    result = signature(op, types).result
    if result.numel == 0:
        return lambda *_: storage.allocate(0)
    if op.opdef is ops.iota:  # exact, and made once: not worth a kernel for every size
        return _reference(op, types, result)
    if any(t.dtype not in dtypes.WITH_KERNELS for t in (*types, result)):
        _warn_of_reference(op, types)
        return _reference(op, types, result)
    executable, sizes = _compiled(op, types)
    run = executable.bind(sizes)
    return _raising(op, types, run) if op.opdef.may_raise else run


def call_spec(op: BoundOp, types: Types) -> CallSpec | None:
    """How native code calls the kernel of an op that is no view: one new row-major result, no updates. None
    where `kernel` does not give such a call alone (no kernel, nothing to compute, no result)."""
    results = op.result_types(*[t.ir for t in types])
    if op.opdef is ops.check or op.opdef is ops.iota or len(results) != 1 or results[0].numel == 0:
        return None
    if any(d not in dtypes.WITH_KERNELS for d in (results[0].dtype, *(t.dtype for t in types))):
        return None
    executable, sizes = _compiled(op, types)
    spec = executable.call_spec(sizes)
    return spec if spec.results == (0,) and len(spec.outputs) == 1 and not spec.updates else None


def assignment_spec(target: StridedType, value: StridedType) -> CallSpec | None:
    """How native code calls the kernel that writes a value, its second operand, over a target of the same
    dtype and shape, its first; None if there is nothing to do, or no kernel."""
    if not target.numel or target.dtype not in dtypes.WITH_KERNELS:
        return None
    seen = space((target, value))
    executable = _executable(("assignment", seen.layout), lambda: _assignment(seen))
    spec = executable.call_spec([seen.sizes[name] for name in executable.plan.sizes])
    return spec if not spec.outputs else None


def _assignment(seen: Space) -> Graph:
    build = GraphBuilder("assignment")
    target, value = seen.inputs(build)
    return build.finish([], [(target, build(ops.cast, value, dtype=seen.layout.dtypes[0]))])


#: Executables are dropped together when there are more: ops with static shapes make one for every shape.
MOST_EXECUTABLES = 4096
_executables: dict[Hashable, Executable] = {}
_lock = locks.lock()


def _executable(key: Hashable, graph: Callable[[], Graph]) -> Executable:
    """The executable of a one-op graph, made once per key."""
    from .compiler import compile_graph  # passes and code generation, not needed while nothing is compiled

    found = _executables.get(key)
    if found is None:
        made = compile_graph(graph(), optimized=True)
        with _lock:
            if len(_executables) >= MOST_EXECUTABLES:
                _executables.clear()
            found = _executables.setdefault(key, made)
    return found


def _compiled(op: BoundOp, types: Types) -> tuple[Executable, list[int]]:
    """The executable of an op, and the run-time sizes to call it with."""
    if op.opdef is ops.reshape:  # a copy, as strides don't allow a view
        op = bind(ops.cast, dtype=types[0].dtype)
    if op.opdef.elementwise or op.opdef.reduction:
        return _run_time_sizes(op, types)
    return _executable((op, types), lambda: _graph_of(op, types)), []


def _run_time_sizes(op: BoundOp, types: Types) -> tuple[Executable, list[int]]:
    axes: tuple[int, ...] = op.attrs.get("axes", ())  # type: ignore[assignment]
    seen = space(types, axes, keep_last=op.attrs.get("order") == "rows")
    executable = _executable((op.opdef, _without_axes(op), seen.layout), lambda: _graph_over(op, seen))
    return executable, [seen.sizes[name] for name in executable.plan.sizes]


def _without_axes(op: BoundOp) -> Hashable:
    return tuple((name, value) for name, value in op.attrs.items() if name != "axes")


def _graph_over(op: BoundOp, seen: Space) -> Graph:
    build = GraphBuilder(op.opdef.name)
    values = seen.inputs(build)
    attrs = dict(op.attrs)
    if "axes" in attrs:
        attrs["axes"] = tuple(a for a, reduced in enumerate(seen.layout.reduced) if reduced)
    return build.finish([build(op.opdef, *values, **attrs)])


def _graph_of(op: BoundOp, types: Types) -> Graph:
    build = GraphBuilder(op.opdef.name)
    values: list[Value] = [build.input(t.ir, strides=None if t.is_contiguous else t.strides) for t in types]
    return build.finish(build.emit(op.opdef, values, op.attrs))


def _raising(op: BoundOp, types: Types, run: Kernel) -> Kernel:
    """A kernel whose failed check surfaces as the Python error that the op's meaning raises, with the values
    at fault.
    """

    def checked(*storages: Any) -> Any:
        try:
            return run(*storages)
        except CheckFailed as failed:
            error = failed
        _meaning_of(op, types, storages)
        raise _as_python(error)

    return checked


def _as_python(failed: CheckFailed) -> Exception:
    checkpoint = failed.checkpoint
    return CHECK_ERRORS[checkpoint.error](checkpoint.message)


def _meaning_of(op: BoundOp, types: Types, storages: Sequence[Any]) -> np.ndarray:
    meaning = op.opdef.meaning
    assert meaning is not None, f"{op} has no meaning in numpy"
    with np.errstate(all="ignore"):
        return np.asarray(meaning(*map(storage.to_array, storages, types), **op.attrs))


_warned: set[OpDef] = set()


def _warn_of_reference(op: BoundOp, types: Types) -> None:
    if op.opdef not in _warned and not op.opdef.exact:
        _warned.add(op.opdef)
        warnings.warn(
            f"{op.opdef.name} of {', '.join(str(t.ir) for t in types)} has no kernel yet and runs in "
            "numpy: compiled code "
            "may differ in the last bits",
            stacklevel=5,
        )


def _reference(op: BoundOp, types: Types, result: StridedType) -> Kernel:
    """The numpy meaning."""

    def run(*storages: Any) -> Any:
        value = _meaning_of(op, types, storages).astype(result.dtype.numpy, copy=False)
        return storage.from_array(np.array(value, order="C"))

    return run
