"""The tape: nodes that remember how tensors were computed, and the switch that turns recording on and off.

A node has one edge per operand (the operand's node, or None) and keeps those of the operands and the result
that its derivative reads, with the versions they had. Nodes are numbered in order of recording; `_autograd`
walks them in descending order. A node never refers to its own result, so a tape holds no cycle.
"""

from __future__ import annotations

import functools
import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from vitrify.tracer.calls import follow

if TYPE_CHECKING:
    from vitrify.ir.opdef import BoundOp
    from vitrify.ir.strided import StridedType
    from vitrify.passes.autodiff import Derivative

    from ._dispatch import Moves
    from ._tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])

#: Numbers of nodes, ascending in order of recording. Leaves count downwards, so that they come last in a
#: backward.
numbers = itertools.count(1)
next_number = numbers.__next__
_next_leaf = itertools.count(-1, -1).__next__


class Edge:
    """What a tensor that requires grad refers to: the place in the tape where its cotangent goes.

    hooks: called with the whole cotangent, in order; each may give another. retained: the tensor (weakly)
    whose `grad` is to be set although it is no leaf.
    """

    __slots__ = ("number", "hooks", "retained", "__weakref__")

    def __init__(self, number: int) -> None:
        self.number = number
        self.hooks: dict[int, Callable[[Tensor], Tensor | None]] | None = None
        self.retained: weakref.ref[Tensor] | None = None

    def name(self) -> str:
        """PyTorch's name of the derivative, such as `AddBackward0`."""
        return type(self).__name__

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self):#x}>"

    @property
    def next_functions(self) -> tuple[tuple[Edge | None, int], ...]:
        """The nodes that this one passes cotangents to, each with the number of its output."""
        edges: Sequence[Edge | None] = getattr(self, "edges", ())
        return tuple((e.source, e.index) if isinstance(e, OutputOf) else (e, 0) for e in edges)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call `hook` with the cotangent when it is complete; what it returns, if not None, takes
        its place."""
        if self.hooks is None:
            self.hooks = {}
        return RemovableHandle(self.hooks, hook)


class Leaf(Edge):
    """Adds the cotangent to the `grad` of a leaf tensor. accumulated: hooks called with the tensor
    afterwards.
    """

    __slots__ = ("tensor", "accumulated")

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(_next_leaf())
        self.tensor = weakref.ref(tensor)
        self.accumulated: dict[int, Callable[[Tensor], None]] | None = None

    @property
    def variable(self) -> Tensor | None:
        """The leaf, if it still exists."""
        return self.tensor()

    def name(self) -> str:
        """PyTorch's name of what a leaf does with its cotangent."""
        return "AccumulateGrad"


class Recorded:
    """What all nodes have in common that record an op on operands of the same types, of which the same have
    edges.

    program: its derivative for the operands that have edges. kept: places in (*operands, result) of what that
    reads. types: of all of these. native: the derivative as native code walks it, made when it is first met;
    False if there is none.
    """

    __slots__ = ("op", "program", "kept", "types", "native")

    def __init__(
        self, op: BoundOp | Moves, program: Derivative, kept: tuple[int, ...] = (),
        types: tuple[StridedType, ...] = (), native: object = None,
    ) -> None:  # fmt: skip
        self.op = op
        self.program = program
        self.kept = kept
        self.types = types
        self.native = native


class Node(Edge):
    """One op on the tape.

    saved: what its derivative reads, None once the backward has freed it: tensors, and where native code made
    the node also bare storages, read as the type that `recorded` has for them, and Python numbers. versions:
    theirs, when saved.
    """

    __slots__ = ("recorded", "edges", "saved", "versions")

    def __init__(
        self, recorded: Recorded, edges: tuple[Edge | None, ...], saved: tuple[Any, ...] | None = None,
        versions: tuple[int, ...] = (),
    ) -> None:  # fmt: skip
        self.number = next_number()
        self.hooks = self.retained = None
        self.recorded = recorded
        self.edges = edges
        self.saved = saved
        self.versions = versions

    def name(self) -> str:
        """PyTorch's name of the op's derivative."""
        name = self.recorded.op.opdef.name
        return _BACKWARD_NAMES.get(name) or _camel(name) + "Backward0"


class OutputOf(Edge):
    """Output `index` of a node with several outputs; hands its cotangent on to `source`."""

    __slots__ = ("source", "index")

    def __init__(self, source: MultiNode, index: int) -> None:
        self.number = next_number()
        self.hooks = self.retained = None
        self.source = source
        self.index = index

    def name(self) -> str:
        """The name of the node whose output this is."""
        return self.source.name()

    @property
    def next_functions(self) -> tuple[tuple[Edge | None, int], ...]:
        """The places that the node passes cotangents to."""
        return self.source.next_functions


class MultiNode(Edge):
    """A node with several outputs and a backward of its own: a `Function`, or a compiled region.

    cotangents: (one per output, None where undefined) -> one per edge. With takes_partials, `cotangents` is
    called as (cotangents, partials) with what each edge has received so far and gives the new totals: then
    contributions are added in the order in which the ops inside would have added them. context: of a
    `Function`, what it saved. saved: of a composite, what must not be changed before the backward, with the
    versions then; nothing saved is nothing to be freed.
    """

    __slots__ = ("edges", "cotangents", "outputs", "takes_partials", "label", "context", "saved", "versions")

    def __init__(
        self, edges: tuple[Edge | None, ...], outputs: int, cotangents: Callable[..., Any], label: str,
        takes_partials: bool = False, context: object = None,
    ) -> None:  # fmt: skip
        self.number = next_number()
        self.hooks = self.retained = None
        self.edges = edges
        self.outputs = outputs
        self.cotangents = cotangents
        self.label = label
        self.takes_partials = takes_partials
        self.context = context
        self.saved: tuple[Tensor, ...] | None = None
        self.versions: tuple[int, ...] = ()

    def name(self) -> str:
        """The name given to it, such as `SquareBackward`."""
        return self.label


def _successors(edge: Edge) -> Sequence[Edge | None]:
    return (edge.source,) if isinstance(edge, OutputOf) else getattr(edge, "edges", ())


def made_since(roots: Iterable[Edge], first: int) -> Iterator[Edge]:
    """The places in the tape with numbers above `first` that lead to the roots."""
    seen: set[Edge] = set()
    stack = list(roots)
    while stack:
        edge = stack.pop()
        if edge in seen or edge.number <= first:
            continue
        seen.add(edge)
        yield edge
        stack += [e for e in _successors(edge) if e is not None]


def ends_of(roots: Iterable[Edge], nodes: Iterable[Edge]) -> list[Edge]:
    """The places in the tape that these nodes, which lead to the roots, pass cotangents to."""
    inside = set(nodes)
    ends = [e for e in roots if e not in inside]
    ends += [e for node in nodes for e in _successors(node) if e is not None and e not in inside]
    return list(dict.fromkeys(ends))


class RemovableHandle:
    """What registering a hook gives; `remove()` takes the hook out again."""

    _next_id = itertools.count().__next__

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self._hooks = hooks
        self.id = self._next_id()
        hooks[self.id] = hook

    def remove(self) -> None:
        """Take the hook out; nothing happens where it is gone already."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


_BACKWARD_NAMES = {
    "reduce_sum": "SumBackward0", "reduce_max": "AmaxBackward0", "reduce_min": "AminBackward0",
    "reduce_prod": "ProdBackward0", "contract": "MmBackward0", "reshape": "ViewBackward0",
    "cast": "ToCopyBackward0", "select": "WhereBackward0", "concat": "CatBackward0",
    "gather": "IndexBackward0", "scatter": "IndexPutBackward0", "scatter_add": "IndexAddBackward0",
    "pad": "ConstantPadNdBackward0", "gelu_tanh": "GeluBackward0", "bit_and": "BitwiseAndBackward0",
}  # fmt: skip


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.rstrip("_").split("_"))


class _Mode(threading.local):
    grad = True
    inference = False


#: Per thread: whether ops are recorded. Changed by `set_recording` only.
mode = _Mode()
#: Told of each change in this thread; native dispatch keeps a mode of its own.
mode_listeners: list[Callable[[bool], None]] = []


def set_recording(on: bool) -> None:
    """Have this thread's ops recorded, or not."""
    mode.grad = on
    for tell in mode_listeners:
        tell(on)


def is_grad_enabled() -> bool:
    """Whether ops on tensors that require grad are recorded, in this thread."""
    return mode.grad


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside `inference_mode`."""
    return mode.inference


class _GradMode:
    """Sets the grad mode for a `with` block, or for the calls of a decorated function."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(mode.grad)
        set_recording(self._enabled)

    def __exit__(self, *_: object) -> None:
        set_recording(self._before.pop())

    def __call__(self, function: F) -> F:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            before = mode.grad
            set_recording(self._enabled)
            try:
                return follow(function)(*args, **kwargs)
            finally:
                set_recording(before)

        return wrapped  # type: ignore[return-value]


class no_grad(_GradMode):
    """Record nothing within: a context manager and a decorator.

    >>> x = vitrify.ones(2, requires_grad=True)
    >>> with vitrify.no_grad():
    ...     (x * 2).requires_grad
    False
    """

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self, function: Callable[..., Any] | None = None) -> None:
        super().__init__(False)


class enable_grad(_GradMode):
    """Record within, also inside `no_grad`: a context manager and a decorator."""

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self, function: Callable[..., Any] | None = None) -> None:
        super().__init__(True)


class set_grad_enabled(_GradMode):
    """Switch recording on or off: at once when called, and back again at the end of a `with` block."""

    def __init__(self, mode: bool) -> None:
        super().__init__(bool(mode))
        self._at_call = globals()["mode"].grad
        set_recording(self._enabled)

    def __enter__(self) -> None:
        self._before.append(self._at_call)

    def __call__(self, function: F) -> F:
        set_recording(self._at_call)
        return super().__call__(function)


class inference_mode(_GradMode):
    """Like `no_grad`; `inference_mode(False)` records."""

    def __new__(cls, mode: Any = True) -> Any:
        return super().__new__(cls) if isinstance(mode, bool) else cls()(mode)

    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode)
        self._inference: list[bool] = []

    def __enter__(self) -> None:
        self._inference.append(mode.inference)
        mode.inference = not self._enabled
        super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        mode.inference = self._inference.pop()
