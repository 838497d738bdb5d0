"""What joins tensors and the tracer: the backend that runs its graphs, and what it is told of our own
objects."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from vitrify.ir import locks
from vitrify.ir.dtypes import float64
from vitrify.ir.graph import Graph
from vitrify.ir.opdef import BoundOp
from vitrify.ir.strided import StridedType, strided_type
from vitrify.passes.autodiff import MANY
from vitrify.runtime import eager
from vitrify.runtime import storage as memory
from vitrify.runtime.compiler import CompiledGraph, compile_graph
from vitrify.runtime.eager_many import execute_many
from vitrify.runtime.executable import CheckFailed
from vitrify.tracer.capture import Capture
from vitrify.tracer.guards import Expression, Guard, contents, item_of, same, value_guard
from vitrify.tracer.recorder import activate, active
from vitrify.tracer.scalars import TracedScalar

from . import _promotion
from ._learned import python_of
from ._tensor import Tensor

_F64 = strided_type(float64, ())


def scalar_storage(value: float) -> Any:
    """A new storage that holds one float64."""
    made = memory.allocate(8)
    ctypes.c_double.from_address(memory.address(made)).value = value
    return made


class RuntimeBackend:
    """The tracer's backend on the runtime. Keeps what it compiled, by the structure of the graph.

    observe: called with each graph compiled for the first time.
    """

    #: Graphs kept per function; data-dependent programs may make a new one each time.
    MOST_GRAPHS = 256

    def __init__(self, observe: Callable[[CompiledGraph], None] | None = None) -> None:
        self.executables: dict[Hashable, CompiledGraph | None] = {}
        self._observe = observe

    base = staticmethod(memory.base)
    offset = staticmethod(memory.offset)
    view = staticmethod(memory.view)
    version = staticmethod(memory.version)
    scalar = staticmethod(scalar_storage)

    def bump(self, storage: Any, times: int) -> None:
        """Count so many writes to the storage's block."""
        for _ in range(times):
            memory.bump(storage)

    def executable(self, graph: Graph, key: Hashable) -> CompiledGraph | None:
        """The compiled form of a graph. None, with a warning, if the compiler fails on it: that is an error
        of ours, which must not keep the program from running op by op."""
        if key not in self.executables:
            if len(self.executables) >= self.MOST_GRAPHS:
                self.executables.clear()
            try:
                made = self.executables[key] = compile_graph(graph)
            except Exception as error:
                self.executables[key] = None
                what = f"{graph.name} can't be compiled and runs op by op: {type(error).__name__}: {error}"
                warnings.warn(what, RuntimeWarning, stacklevel=2)
            else:
                if self._observe is not None:
                    self._observe(made)
        return self.executables[key]

    def is_compiled(self, key: Hashable) -> bool:
        """Whether a graph with this key has been compiled."""
        return key in self.executables

    def execute(self, graph: Graph, key: Hashable, inputs: Sequence[Any]) -> list[Any] | None:
        """The outputs of a graph; None if it can't be compiled, or a check of it fails."""
        executable = self.executable(graph, key)
        if executable is None:
            return None
        try:
            outputs = executable.run(inputs)
        except CheckFailed:
            return None
        for i in shared_results(executable):
            outputs[i] = copied(outputs[i], strided_type(*_static(executable, i)))
        return outputs

    def eager(self, op: BoundOp, types: tuple[StridedType, ...], storages: Sequence[Any]) -> Sequence[Any]:
        """The result of one op, at once. Raises what a failed check says."""
        if op.opdef in MANY:
            return execute_many(op, types, storages)
        return (eager.execute(op, types, storages),)

    def assign(self, target: Any, type: StridedType, source: Any, source_type: StridedType) -> None:
        """Overwrite the elements at one storage with those at another, of the same type."""
        memory.to_array(target, type)[...] = memory.to_array(source, source_type).copy()
        memory.bump(target)


def _static(executable: CompiledGraph, output: int) -> Any:
    type = executable.plan.outputs[output][1]
    return type.dtype, type.shape


def shared_results(executable: CompiledGraph) -> list[int]:
    """The outputs that an executable gives in memory that is not their own: an input's, or an earlier
    output's."""
    inputs = {b.name for b in executable.plan.buffers if b.kind != "output"}
    names = [name for name, _ in executable.plan.outputs]
    return [i for i, name in enumerate(names) if name in inputs or name in names[:i]]


def copied(storage: Any, type: StridedType) -> Any:
    """A new storage with the same elements, row-major."""
    made = memory.allocate(type.nbytes)
    ctypes.memmove(memory.address(made), memory.address(storage), type.nbytes)
    return made


class ModuleState:
    """The state of a module when it was captured: unchanged while its version is, or if it compares equal."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.version = module._version
        self._state = _snapshot(module)

    def recheck(self) -> bool:
        """Compare everything; if nothing that counts has changed, the new version is as good."""
        if not _same_state(_snapshot(self.module), self._state):
            return False
        self.version = self.module._version
        return True


def _snapshot(module: Any) -> dict[str, Any]:
    state = dict(module.__dict__)
    state.pop("_version", None)
    return {k: contents(v) if isinstance(v, (dict, set)) else v for k, v in state.items()}


def _same_state(now: dict[str, Any], then: dict[str, Any]) -> bool:
    return now.keys() == then.keys() and all(same(now[k], then[k]) for k in now)


#: Functions of ours whose effects are not on tensors.
_EFFECTS = frozenset((
    "manual_seed", "seed", "initial_seed", "get_rng_state", "set_rng_state", "set_state", "get_state",
    "set_num_threads", "set_default_dtype", "set_printoptions", "register_hook", "register_forward_hook",
    "register_forward_pre_hook",
    "register_post_accumulate_grad_hook", "add_param_group", "load_state_dict", "share_memory_", "compile",
    "requires_grad_", "retain_grad", "apply_", "map_",
))  # fmt: skip
#: Modules of ours that deal in more than tensors: files, data sets, Python state.
_OUTSIDE = (
    "vitrify._save", "vitrify.utils", "vitrify.vision.datasets", "vitrify.vision.transforms",
    "vitrify.optim.lr_scheduler", "vitrify._config",
    "vitrify._print",
    "vitrify._explain",
)  # fmt: skip


class FrontendWorld:
    """What the tracer is told of our objects."""

    tensor: type = Tensor

    def stateful(self, obj: object) -> bool:
        """Whether calls may change the object's state: a module or an optimizer."""
        with locks.imports:
            from .nn import Module
            from .optim import Optimizer

        return isinstance(obj, (Module, Optimizer))

    def refuses(self, function: Callable[..., Any]) -> str | None:
        """Why a function of ours can't be part of a replay; None if it can."""
        name = getattr(function, "__name__", type(function).__name__)
        module = getattr(function, "__module__", None) or type(function).__module__
        if name in _EFFECTS or module.startswith(_OUTSIDE):
            return f"{name}() is called, which has effects besides those on tensors"
        return None

    def python_of(self, function: Any) -> Callable[..., Any] | None:
        """The Python behind a native function or method; None for any other."""
        owner = getattr(function, "__self__", None)
        return python_of.get(function.__name__ if isinstance(owner, Tensor) else function)

    def shares(self, function: Callable[..., Any], argument: object) -> bool:
        """Whether the function's result shares the memory of this argument, an array."""
        return isinstance(argument, np.ndarray) and getattr(function, "__name__", "") in (
            "from_numpy",
            "as_tensor",
        )

    def start(self, capture: Capture) -> None:
        """Guard the settings that our own functions read."""
        read = item_of(vars(_promotion), "_default")
        capture.guard(
            "default dtype",
            value_guard(read, _promotion.get_default_dtype(), "the default dtype is the same"),
        )

    def watch(self, capture: Capture, obj: Any) -> None:
        """Guard the state of a module or an optimizer that the capture uses."""
        from .nn import Module

        if isinstance(obj, Module):
            _watch_module(capture, obj)
        else:
            _watch_optimizer(capture, obj)


def _watch_module(capture: Capture, root: Any) -> None:
    for module in root.modules():
        state = ModuleState(module)
        holds = Expression("({0}._version == {1}.version or {1}.recheck())", (module, state))
        capture.guard(("module", id(module)), Guard(holds, f"the {type(module).__name__} is unchanged"))
        capture.covers(module)
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                capture.note(tensor)


def _watch_optimizer(capture: Capture, optimizer: Any) -> None:
    """Its state is made first, so that a compiled step finds at the first call what it finds at all later
    ones."""
    with activate(None):
        optimizer._materialize()
    kind = type(optimizer).__name__
    groups = optimizer.param_groups
    capture.note(groups)
    capture.read_all(groups, f"the {kind} has the same groups")
    for number, group in enumerate(groups):
        what = f"of group {number} of the {kind}"
        capture.note(group["params"])
        capture.read_all(group["params"], f"the parameters {what} are the same")
        for name, value in group.items():
            if name != "params" and not _is_hyper_parameter(value):
                read = item_of(group, name)
                capture.read(read, value, f"{name} {what} is unchanged", floats=False)
        for param in group["params"]:
            _watch_parameter_state(capture, optimizer, param)


def _is_hyper_parameter(value: Any) -> bool:
    """Whether an option is read by `hyper_parameter` alone, which guards it where it has to be."""
    return type(value) is float or isinstance(value, (tuple, list)) and all(type(x) is float for x in value)


def _watch_parameter_state(capture: Capture, optimizer: Any, param: Tensor) -> None:
    if param not in optimizer.state:
        return
    state = optimizer.state[param]
    read = Expression("{0}.state.get({1})", (optimizer, param))
    capture.read(read, state, f"the state of a parameter of the {type(optimizer).__name__} is the same")
    capture.read_all(
        state, f"the state of a parameter of the {type(optimizer).__name__} holds the same tensors"
    )


def hyper_parameter(group: dict[str, Any], name: str) -> Any:
    """A hyper-parameter, read by our own code: floats are run-time scalars while a capture is proving."""
    value = group[name]
    recorder = active()
    capture: Capture | None = None if recorder is None else recorder.capture
    if capture is None or not capture.proving:
        return value
    read, what = item_of(group, name), f"the hyper-parameter {name} is unchanged"
    if isinstance(value, (tuple, list)):
        parts = (Expression(f"{read.template}[{i}]", read.constants) for i in range(len(value)))
        return tuple(capture.read(part, x, what) for part, x in zip(parts, value, strict=True))
    return capture.read(read, value, what)


def _traced_number(value: Any) -> Tensor | None:
    """A tensor for a number that is an input of the running trace; None for one that is a constant of it."""
    recorder = active()
    if recorder is None:
        return None
    if type(value) is TracedScalar:
        if value.watcher.proving:
            return _tracked(recorder.scalar(value.value, value))
        value = value.value
    return _tracked(recorder.scalar(value)) if recorder.hoist and type(value) is float else None


def _tracked(value: Any) -> Tensor:
    made = Tensor(value, _F64)
    value.recorder.track(made)
    return made


_promotion.traced_number = _traced_number
