"""Composites: functions of tensors that are one node of the tape eagerly and, once called often, one kernel.

A function is written as a composition of ops, and that is what it means: in a trace its ops are recorded, and
the compiled graph gives their very bits, forward and backward, with contributions to gradients added in the
order in which the ops would have added them. So a call may be answered either way, and is answered by the ops
until its kind (types of tensors, plain arguments) has come often enough to be worth compiling. Either way its
derivative is one node, which reads (and so forbids to change) what PyTorch's derivative of the function does.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from vitrify.ir.dtypes import WITH_KERNELS
from vitrify.runtime import storage as memory
from vitrify.tracer.errors import CaptureError

from . import _dispatch
from ._autograd import FREED, Engine, hold
from ._dispatch import watch_later, watched_call
from ._tape import Edge, MultiNode, OutputOf, ends_of, made_since, mode, next_number
from ._tensor import Tensor, edge_of

F = TypeVar("F", bound=Callable[..., Any])

#: Calls of one kind that run as ops before it is compiled.
calls_before: int = 8
#: Elements of all operands from which on a function is worth compiling whose few ops native code applies.
LARGE: Final = 1 << 14
#: Kinds remembered per function; more are forgotten together.
MOST_KINDS: Final = 512


class _Running(threading.local):
    #: Whether this thread runs the ops of a composite: those that it calls are some of them.
    inside = False


_running = _Running()


def composite(reads: str = "", *, small: bool = True) -> Callable[[F], F]:
    """Let a function of tensors and plain values be one node of the tape, and be compiled as a whole.

    It must have no effects but those on tensors that it makes, and depend on nothing but its arguments.
    reads: what its derivative reads, names of arguments and "result"; "weight/input" is the weight if the
    input requires grad. Nobody may write to that before the backward; all else its backward keeps a copy of.
    small: as False, calls with few elements are left to their ops, and so are learned by native code.
    """

    return lambda function: _Composite(function, reads, small).wrapper()  # type: ignore[return-value]


def as_ops(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that may be a composite, as its ops: for what writes over its operand with the result."""
    if not hasattr(function, "composite"):
        return function

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        before, _running.inside = _running.inside, True
        try:
            return function(*args, **kwargs)
        finally:
            _running.inside = before

    return called


def is_small(function: Callable[..., Any], values: Iterable[Any]) -> bool:
    """Whether a call with these values is left to the ops of the function, which native code may learn."""
    made: _Composite | None = getattr(function, "composite", None)
    return made is None or not made.small and _numel(values) < LARGE


def _numel(values: Iterable[Any]) -> int:
    return sum([x._type.numel for x in values if isinstance(x, Tensor)])


class _Composite:
    """One composite. kinds: by key, how often a kind was called, its compiled form, or None for its ops."""

    def __init__(self, function: Callable[..., Any], reads: str, small: bool) -> None:
        self.function, self.small = function, small
        self.kinds: dict[Any, Any] = {}
        self.label = "".join(part.capitalize() for part in function.__name__.split("_")) + "Backward0"
        self._names = list(inspect.signature(function).parameters)
        words = [word.split("/") for word in reads.split()]
        self._reads = [word for word in words if word != ["result"]]
        self._reads_result = ["result"] in words

    def wrapper(self) -> Callable[..., Any]:
        """What stands for the function."""
        function, kinds, small = self.function, self.kinds, self.small

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            if _dispatch.captures or _running.inside:
                return function(*args, **kwargs)
            kind: list[Any] = []
            tensors: list[Tensor] = []
            for x in (*args, *kwargs.values()) if kwargs else args:
                if isinstance(x, Tensor):
                    kind.append(x._type)
                    tensors.append(x)
                elif x.__class__ is list:
                    kind += (list, tuple(x))
                elif x.__class__ is float:
                    kind += (float, x or repr(x))  # 0.0 and -0.0 are equal
                else:
                    kind += (x.__class__, x)
            if not small and _numel(tensors) < LARGE:
                return function(*args, **kwargs)
            key = (*kind, *kwargs) if kwargs else tuple(kind)
            try:
                known = kinds.get(key, 0)
            except TypeError:  # an argument is not hashable
                known = None
            if known.__class__ is int:
                known = self._another_call(key, known, tensors, args, kwargs)
            if known is None:
                if kinds.get(key) is not None:
                    watch_later()
                return self._run_ops(tensors, args, kwargs)
            try:
                return watched_call(known, tensors)
            except CaptureError:  # or its tensors differ in too many ways: who requires grad, who is a view
                kinds[key] = None
                return self._run_ops(tensors, args, kwargs)

        called.composite = self  # type: ignore[attr-defined]
        return called

    def _another_call(self, key: Any, count: int, tensors: list[Tensor], args: Any, kwargs: Any) -> Any:
        """Count a call of this kind; the compiled form, if it is time for it."""
        if len(self.kinds) >= MOST_KINDS:
            self.kinds.clear()
        self.kinds[key] = count + 1
        if count < calls_before:
            return None
        fit = all(x._type.dtype in WITH_KERNELS and x._type.numel for x in tensors)
        self.kinds[key] = self._compiled(args, kwargs) if fit and tensors else None
        return self.kinds[key]

    def _compiled(self, args: Any, kwargs: Any) -> Callable[..., Any]:
        """The function of the tensors alone, all else being as in these arguments."""
        from ._compile import CompiledFunction

        places = [i for i, x in enumerate(args) if isinstance(x, Tensor)]
        names = [name for name, x in kwargs.items() if isinstance(x, Tensor)]
        plain = [_plain(x) for x in args]
        named = {name: _plain(x) for name, x in kwargs.items()}
        reads = self._places_read(args, kwargs)

        def body(*tensors: Tensor) -> Any:
            values = iter(tensors)
            positional = [next(values) if i in places else x for i, x in enumerate(plain)]
            by_name = {name: next(values) if name in names else x for name, x in named.items()}
            return self.function(*positional, **by_name)

        body.__name__ = self.function.__name__
        made = CompiledFunction(body, fullgraph=True, label=self.label)
        made.program.reads = lambda tensors: [i for i, when in reads if _is_due(tensors, when)]
        made.program.reads_result = self._reads_result
        return made

    def _run_ops(self, tensors: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of the ops, as one node of the tape."""
        first = next_number()
        _running.inside = True
        try:
            result = self.function(*args, **kwargs)
        finally:
            _running.inside = False
        if mode.grad and self._join(result, first, tensors):
            self._hold(result, tensors, self._places_read(args, kwargs))
        return result

    def _join(self, result: Any, first: int, tensors: list[Tensor]) -> bool:
        """Put one node in the place of those that the ops recorded after `first`, if there are any."""
        results = _tensors(result)
        roots = [(x, edge) for x in results if (edge := edge_of(x)) is not None]
        if all(edge.number <= first for _, edge in roots):
            return False
        given = {memory.base(x._storage) for x in tensors}
        if any(x._view is not None and memory.base(x._storage) in given for x in results):
            return False  # a view of an operand
        edges = [edge for _, edge in roots]
        ends = ends_of(edges, list(made_since(edges, first)))
        node = MultiNode(tuple(ends), len(roots), _Together(edges, ends), self.label, takes_partials=True)
        for i, (x, _) in enumerate(roots):
            x._view, x._node = None, OutputOf(node, i)
        return True

    # What may not be written to.

    def _places_read(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[tuple[int, int], ...]:
        """The tensors that the derivative reads, by place among all, each with the place of the one that has
        to require grad for that, or -1."""
        given = {**dict(zip(self._names, args, strict=False)), **kwargs}
        places = {name: i for i, name in enumerate(n for n, x in given.items() if isinstance(x, Tensor))}
        return tuple(
            (places[name], places[when[0]] if when else -1)
            for name, *when in self._reads
            if name in places and (not when or when[0] in places)
        )

    def _hold(self, result: Any, tensors: list[Tensor], reads: tuple[tuple[int, int], ...]) -> None:
        """Have the result's new node, if there is one, keep what the derivative reads."""
        if result.__class__ is not Tensor:
            result = next((x for x in _tensors(result) if x._node is not None), None)
        edge = None if result is None else result._node
        if edge.__class__ is not OutputOf or edge.source.saved is not None:
            return
        held = [tensors[i] for i, when in reads if _is_due(tensors, when)]
        if self._reads_result:
            held.append(Tensor(result._storage, result._type))
        hold(edge.source, tuple(held))


def _is_due(tensors: Sequence[Tensor], when: int) -> bool:
    return when < 0 or edge_of(tensors[when]) is not None


class Stepper:
    """Calls a method without arguments or result that changes tensors in place: compiled, once it was called
    often and `_is_settled` of its owner says that it does no more than that."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls = 0
        self._compiled: Callable[[], None] | None = None

    def __call__(self, owner: Any) -> None:
        method = getattr(owner, self._name)
        if _dispatch.captures:
            method()
        elif self._compiled is None:
            method()
            self._calls += 1
            if self._calls == calls_before and owner._is_settled():
                from ._compile import CompiledFunction

                self._compiled = CompiledFunction(method, fullgraph=True)
        else:
            self._run(self._compiled, method)

    def _run(self, compiled: Callable[[], None], method: Callable[[], None]) -> None:
        try:
            compiled()
        except CaptureError:  # nothing has been changed
            self._compiled = None
            method()


def _tensors(result: Any) -> list[Tensor]:
    if result.__class__ is Tensor:
        return [result]
    return [x for x in result if isinstance(x, Tensor)] if isinstance(result, tuple) else []


class _Together:
    """The backward of one node that stands for all that the ops of a call recorded. ends: where it passes
    cotangents to."""

    def __init__(self, roots: list[Edge], ends: list[Edge]) -> None:
        self._roots: list[Edge] | None = roots
        self._ends = ends

    def __call__(
        self, cotangents: Sequence[Tensor | None], keep: bool, partials: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        """The cotangents of the ends, with what they had received before."""
        if self._roots is None:
            raise RuntimeError(FREED)
        given = [(e, ct) for e, ct in zip(self._roots, cotangents, strict=True) if ct is not None]
        engine = Engine(given, self._ends, keep=True, stop=True)
        for edge, partial in zip(self._ends, partials, strict=True):
            if partial is not None:
                engine.deliver(edge, partial)
        engine.run(accumulate=False)
        if not keep:
            self._roots = None
        return [engine.reached.get(edge) for edge in self._ends]


def _plain(x: Any) -> Any:
    """A plain argument, kept: nobody else may change it. None in the place of a tensor."""
    if isinstance(x, Tensor):
        return None
    return list(x) if x.__class__ is list else x
