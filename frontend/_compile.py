"""`compile`: from a function, a module or a whole training step to native code, with the same meaning.

A call is answered by the first tier that can: a *replay* (guards, then one native call; see `_replay`); else
a *capture*, which runs the Python once and, if all that it saw can be guarded, leaves a new replay; else
*segments*: the Python runs at each call, and what it does with tensors runs compiled between the points where
it needs their values.
"""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import warnings
from collections.abc import Callable
from types import MethodType, TracebackType
from typing import Any

from vitrify.ir import locks
from vitrify.ir.graph import NUMERICS, Location
from vitrify.ir.printer import print_graph
from vitrify.runtime.compiler import STAGES, CompiledGraph
from vitrify.runtime.executable import CheckFailed
from vitrify.runtime.replay import Replayable
from vitrify.tracer import recorder as recorders
from vitrify.tracer.calls import call as call_captured
from vitrify.tracer.calls import follow
from vitrify.tracer.capture import Capture
from vitrify.tracer.errors import CaptureError
from vitrify.tracer.guards import failing
from vitrify.tracer.recorder import Reason, Recorder

from . import _dispatch
from ._capture import FrontendWorld, RuntimeBackend
from ._region import FREED_EDGE, Region, freed, storages_saved
from ._replay import MISS, NotReplayable, ReplayBuilder, Specialization
from ._signature import Signature, call_key
from ._tape import next_number
from ._tensor import Tensor, edge_of

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class CaptureWarning(UserWarning):
    """Part of a compiled function can't be replayed without running its Python; the message says where and
    why."""


class Program:
    """What is known about one compiled function.

    specializations: the replays, oldest first. captures: how often the Python was run to make one. reasons:
    why calls run in segments, if any do.
    """

    #: Replays kept; a function that needs more runs in segments.
    MOST_SPECIALIZATIONS = 8
    #: Captures of calls alike that may fail before such calls run in segments for good.
    MOST_ATTEMPTS = 2

    def __init__(
        self, function: Callable[..., Any], *, fullgraph: bool, name: str, label: str | None = None,
        numerics: str = "exact",
    ) -> None:  # fmt: skip
        """label: see `Region`. numerics: of its graphs, those of functions that it calls included. reads:
        of a composite, the arguments (by position) that its derivative reads; from all."""
        self.function = function
        self.label = label
        self.reads: Callable[[Args], list[int]] | None = None
        #: Whether the derivative of a composite reads the result.
        self.reads_result = False
        self.numerics = numerics
        self.fullgraph = fullgraph
        self.name = name
        self.specializations: list[Specialization] = []
        self.reasons: list[Reason] = []
        self.captures = 0
        self.compiled: list[CompiledGraph] = []
        self.fast: Callable[[Args, Kwargs], Any] = lambda args, kwargs: MISS
        self.last_segments: list[Any] = []
        #: Told of the newest native replay.
        self.on_newest: Callable[[Any], None] = lambda replay: None
        self._world = FrontendWorld()
        self._backend = RuntimeBackend(self._note_compiled)
        self._attempts: dict[object, int] = {}
        self._warned: set[object] = set()
        self._lock = locks.rlock()

    def call(self, args: Args, kwargs: Kwargs) -> Any:
        """The result of a call that no replay fits."""
        if recorders.count and recorders.active() is not None:
            return follow(self.function)(*args, **kwargs)
        try:
            result = self.fast(args, kwargs)  # not tried yet where another thread is capturing
        except CheckFailed:
            return self.function(*args, **kwargs)
        if result is not MISS:
            return result
        key = call_key(args, kwargs)
        if not self._may_capture(key):
            return self._segments(args, kwargs)
        if not self._lock.acquire(blocking=False):  # another thread captures; waiting for it could deadlock
            return self.function(*args, **kwargs)
        try:
            return self._capture(args, kwargs, key)
        finally:
            self._lock.release()

    def _may_capture(self, key: object) -> bool:
        attempts = self._attempts.get(key, 0)
        room = len(self.specializations) < self.MOST_SPECIALIZATIONS
        if self.reads is not None and not room:  # what is known stays; all else is left to the ops
            raise CaptureError(f"{self.name} was compiled for {len(self.specializations)} kinds of calls")
        if not room and not attempts:
            kinds = len(self.specializations)
            what = f"{self.name} was compiled for {kinds} kinds of calls; others run in segments"
            self._warn_once("limit", what, _place_of(self.function))
        return self.fullgraph or room and attempts < self.MOST_ATTEMPTS

    def graphs(self, specialization: int = -1) -> list[CompiledGraph]:
        """What is compiled of a replay, or, if there is none, what the last call ran in its segments."""
        if self.specializations:
            made = self.specializations[specialization]
            return [g for g in (made.executable, *made.more()) if g is not None]
        known = self._backend.executables
        return [g for s in self.last_segments if (g := known.get(s.key)) is not None]

    # Capture.

    def _capture(self, args: Args, kwargs: Kwargs, key: object) -> Any:
        self.captures += 1
        recorder = self._recorder(fullgraph=self.fullgraph)
        capture = Capture(self._world, recorder)
        signature = Signature(capture, args, kwargs)
        capture.note_argument_tensors(signature.tensors)
        try:
            with _dispatch.recording(recorder):
                result = call_captured(capture, self.function, signature.args, signature.kwargs)
        except CaptureError:
            _undo(recorder)
            raise
        except BaseException as error:
            self._finish_after(error, capture)
        if capture.proving:
            try:
                return self._promote(capture, signature, result, args, kwargs)
            except NotReplayable as why:
                if self.fullgraph:
                    _undo(recorder)
                    raise CaptureError(
                        f"{Reason(str(why), _place_of(self.function))} (fullgraph=True)"
                    ) from None
                recorder.blocked.append(Reason(str(why), _place_of(self.function)))
        self._attempts[key] = self._attempts.get(key, 0) + 1
        recorder.flush()
        self.last_segments = recorder.segments
        self.reasons = capture.reasons
        for reason in capture.reasons:
            self._warn(reason)
        return capture.escape(result)

    def _recorder(self, **options: bool) -> Recorder:
        recorder = Recorder(self._backend, name=self.name, numerics=self.numerics, **options)
        recorder.first_node = next_number()
        return recorder

    def _finish_after(self, error: BaseException, capture: Capture) -> None:
        """An error came out of the function: first bring the state to where eager would be, then let it go
        on. Where Ctrl-C came while we were recording, and all can still be undone, the call never began:
        that takes no time."""
        interrupted = isinstance(error, KeyboardInterrupt)
        if interrupted and capture.proving and _is_ours(error):
            _undo(capture.recorder)
        else:
            capture.recorder.flush(compiled=not interrupted)
        raise error.with_traceback(_users(error))

    def _promote(
        self, capture: Capture, signature: Signature, result: Any, args: Args, kwargs: Kwargs
    ) -> Any:
        """Make a replay of a proved capture, and run it: that is the first call."""
        recorder = capture.recorder
        try:
            made = self._replay_of(capture, signature, result)
        except KeyboardInterrupt:  # nothing has been run yet
            _undo(recorder)
            raise
        outcome = self._run_first(made, recorder, args, kwargs)
        made.settle()
        self.specializations = [*self.specializations, made][-self.MOST_SPECIALIZATIONS :]
        self._choose()
        return outcome

    def _replay_of(self, capture: Capture, signature: Signature, result: Any) -> Specialization:
        builder = ReplayBuilder(capture, signature)
        recorder = capture.recorder
        text = builder.result(result)
        builder.stores()
        capture.release()
        self._check_leaks(recorder, builder)
        if (guard := failing([*capture.guards.values()], signature.values)) is not None:
            raise NotReplayable(f"the call changed what it had read: it is no longer true that {guard.what}")
        return self._specialize(builder, recorder, text, builder.requiring_grad())

    def _specialize(
        self, builder: ReplayBuilder, recorder: Recorder, text: str, region_outputs: list[tuple[str, Tensor]]
    ) -> Specialization:
        segment = recorder.close(builder.results)
        live = []
        for name, x in region_outputs:
            if freed([edge_of(x)], recorder.first_node):  # type: ignore[list-item]
                builder.after.append(f"{name}._node = {builder.names.name(FREED_EDGE)}")
            else:
                live.append((name, x))
        if not live:
            needed = segment.graph.operations and (segment.results or segment.updated or recorder.may_raise)
            executable = self._backend.executable(segment.graph, segment.key) if needed else None
            if needed and executable is None:
                raise NotReplayable("its graph can't be compiled")
            return builder.build(segment, executable, text)
        arguments = builder.signature.args
        reads = None if self.reads is None else self.reads(arguments)
        lasting = None if reads is None else builder.inputs_of(reads, segment)
        try:
            region = Region(recorder, segment, [x for _, x in live], self.label, lasting)
        except RuntimeError as error:  # a result whose history was written over: its backward would say so
            raise NotReplayable(f"there is no backward: {error}") from None
        if recorder.blocked:
            raise NotReplayable(f"its backward can't be replayed: {recorder.blocked[0].what}")
        # What it saves follows from who requires grad, which is no part of the segment's key.
        executable = self._backend.executable(region.forward, print_graph(region.forward, locations=False))
        if executable is None:
            raise NotReplayable("its graph can't be compiled")
        held = None if reads is None else [f"a{i}" for i in reads]
        if held is not None and self.reads_result:
            held.append(builder.new_tensor(live[0][1]))
        return builder.build_region(segment, executable, text, region, [name for name, _ in live], held)

    def _run_first(self, made: Specialization, recorder: Recorder, args: Args, kwargs: Kwargs) -> Any:
        """The first call of a replay, on the state that the capture began with."""
        now = [(seen, getattr(seen.owner, seen.attribute)) for seen in recorder.observed.values()]
        _undo(recorder)
        try:
            result = made.replay(args, kwargs)
        except CheckFailed:
            for seen, value in now:
                setattr(seen.owner, seen.attribute, value)
            recorder.flush()  # repeats op by op, and so raises what eager raises
            raise NotReplayable("a check of its graph failed") from None
        if result is MISS:
            for seen, value in now:
                setattr(seen.owner, seen.attribute, value)
            raise NotReplayable("what was guarded does not hold for the very call that was captured")
        return result

    def _check_leaks(self, recorder: Recorder, builder: ReplayBuilder) -> None:
        if self._leaked(recorder, builder):
            import gc

            gc.collect()
            if self._leaked(recorder, builder):
                raise NotReplayable("a tensor that the call made is kept by something that outlives the call")

    @staticmethod
    def _leaked(recorder: Recorder, builder: ReplayBuilder) -> bool:
        """Whether anything but the results, and the tape that leads to them, holds what the call computed."""
        roots = [edge for _, x in builder.requiring_grad() if (edge := edge_of(x)) is not None]
        held = {*builder.results, *storages_saved(roots, recorder.first_node)}
        return any(s not in held for s in recorder.live())

    def _choose(self) -> None:
        """The function that tries all replays, the newest first."""
        self._choose_native([s.native for s in self.specializations if s.native is not None])
        replays = [s.replay for s in reversed(self.specializations)]
        if len(replays) == 1:
            self.fast = replays[0]
            return

        def first_fit(args: Args, kwargs: Kwargs) -> Any:
            for replay in replays:
                result = replay(args, kwargs)
                if result is not MISS:
                    return result
            return MISS

        self.fast = first_fit

    def _choose_native(self, replays: list[Any]) -> None:
        """Let native code try all that have a native form, the newest first."""
        if replays:
            for older, newer in itertools.pairwise(replays):
                newer.older = older
            replays[0].older = None
            self.on_newest(replays[-1])

    # Segments.

    def _segments(self, args: Args, kwargs: Kwargs) -> Any:
        recorder = self._recorder(hoist=True)
        capture = Capture(self._world, recorder, proving=False)
        capture.note_arguments((*args, *kwargs.values()))
        try:
            with _dispatch.recording(recorder):
                result = call_captured(capture, self.function, args, kwargs)
        except BaseException as error:
            self._finish_after(error, capture)
        recorder.flush()
        self.last_segments = recorder.segments
        return result

    # Reporting.

    @property
    def seconds(self) -> float:
        """Time spent compiling graphs so far, those of compiled backwards included."""
        more = [g for s in self.specializations for g in s.more()]
        return sum(graph.compile_seconds for graph in {*self.compiled, *more})

    def _note_compiled(self, graph: CompiledGraph) -> None:
        self.compiled.append(graph)

    def _warn(self, reason: Reason) -> None:
        place = reason.location or _place_of(self.function)
        self._warn_once(place, f"{reason.what}; {self.name} runs in segments from here on", place)

    def _warn_once(self, key: object, message: str, place: Location | None) -> None:
        if key not in self._warned:
            self._warned.add(key)
            file, line = (place.file, place.line) if place is not None else ("<unknown>", 0)
            warnings.warn_explicit(message, CaptureWarning, file, line)


def _undo(recorder: Recorder) -> None:
    """Put the observed attributes back to what they were before the capture."""
    for seen in recorder.observed.values():
        setattr(seen.owner, seen.attribute, seen.before)


def _place_of(function: Callable[..., Any]) -> Location | None:
    owner = getattr(function, "__self__", None)
    if isinstance(getattr(owner, "forward", None), MethodType):  # a module: the user's part of it
        function = owner.forward.__func__  # type: ignore[union-attr]
    code = getattr(inspect.unwrap(function), "__code__", None)
    return None if code is None else Location(code.co_filename, code.co_firstlineno)


def _is_ours(error: BaseException) -> bool:
    """Whether an error arose in our own code, not in the user's."""
    entry = error.__traceback__
    while entry is not None and entry.tb_next is not None:
        entry = entry.tb_next
    return entry is not None and entry.tb_frame.f_globals.get("__name__", "").startswith("vitrify.")


def _users(error: BaseException) -> TracebackType | None:
    """The error's traceback without the frames of the tracer."""
    frames = []
    entry = error.__traceback__
    while entry is not None:
        name = entry.tb_frame.f_globals.get("__name__", "")
        if not name.startswith("vitrify.tracer") and name != __name__:
            frames.append(entry)
        entry = entry.tb_next
    traceback = None
    for entry in reversed(frames):
        traceback = TracebackType(traceback, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return traceback


class CompiledFunction(Replayable):
    """What `compile` gives: called like the function; tells what was made of it."""

    def __init__(
        self, function: Callable[..., Any], *, fullgraph: bool = False, label: str | None = None,
        numerics: str = "exact",
    ) -> None:  # fmt: skip
        """label: see `Region`."""
        functools.update_wrapper(self, function)
        self._fullgraph = fullgraph
        self.program = Program(
            function, fullgraph=fullgraph, name=_graph_name(function), label=label, numerics=numerics
        )
        self.program.on_newest = self._take

    def _take(self, replay: Any) -> None:
        self._replay = replay

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        program = self.program
        if not recorders.count:
            try:
                result = program.fast(args, kwargs)
            except CheckFailed:
                return program.function(*args, **kwargs)
            if result is not MISS:
                return result
        return program.call(args, kwargs)

    def _eagerly(self, /, *args: Any, **kwargs: Any) -> Any:
        """After a failed check, which raises again."""
        return self.program.function(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledFunction:
        function = copy.deepcopy(self.program.function, memo)
        return CompiledFunction(function, fullgraph=self._fullgraph, numerics=self.program.numerics)

    def __repr__(self) -> str:
        return f"<compiled {self.program.function!r}>"

    def ir(self, stage: str = "captured", specialization: int = -1) -> str:
        """The program as text: captured, optimized, kernels, plan, llvm or asm.

        Raises ValueError for another stage, RuntimeError if there has been no call to compile for.
        """
        if stage not in STAGES:
            raise ValueError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}")
        if not self.program.captures:
            raise RuntimeError(f"{self.program.name} has not been called: a call is what it is compiled for")
        return "\n".join(graph.text(stage) for graph in self.program.graphs(specialization))

    @property
    def compile_seconds(self) -> float:
        """Time spent compiling graphs so far."""
        return self.program.seconds

    @property
    def captures(self) -> int:
        """How often the Python was run to make a replay of it."""
        return self.program.captures

    @property
    def specializations(self) -> int:
        """How many kinds of calls are replayed."""
        return len(self.program.specializations)


if _dispatch.native is not None:  # native code in front of `__call__`
    CompiledFunction.__call__ = _dispatch.native.caller(  # type: ignore[method-assign]
        CompiledFunction, CompiledFunction.__call__, CompiledFunction._eagerly, CheckFailed
    )


def _graph_name(function: Callable[..., Any]) -> str:
    owner = getattr(function, "__self__", None)
    name = type(owner).__name__ if owner is not None else getattr(function, "__name__", "function")
    return "".join(c if c.isalnum() or c == "_" else "_" for c in name).strip("_") or "function"


_MODES = (None, "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
_BACKENDS = ("vitrify", "inductor")


def compile(
    model: Any = None, *, fullgraph: bool = False, dynamic: bool | None = None, backend: str = "vitrify",
    mode: str | None = None, options: dict[str, Any] | None = None, disable: bool = False,
    numerics: str = "exact",
) -> Any:  # fmt: skip
    """Compile a function, a method or a module; also a decorator, bare or with arguments.

    The result means what the original means, in every bit. What can't be followed runs as Python, with one
    warning that names file, line and reason; with `fullgraph=True` that is a CaptureError. A module is
    compiled in place: it keeps its class, attributes and state_dict. dynamic: sizes are specialised, whatever
    it says. mode, backend: accepted as PyTorch's are; there is one backend. numerics: "exact" (the bits that
    eager gives), or "fast": results that may differ in their last digits, for speed (docs/numerics.md says in
    which ways). It counts for everything that the function calls, and for its backward; a compiled function
    that is called by another one is computed as that one says.

    >>> @vitrify.compile
    ... def step(x, y):
    ...     loss = loss_fn(model(x), y)
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    """
    _check_options(mode, backend, options, numerics)
    if model is None:
        return functools.partial(
            compile, fullgraph=fullgraph, dynamic=dynamic, backend=backend, mode=mode, options=options,
            disable=disable, numerics=numerics,
        )  # fmt: skip
    if not callable(model):
        raise TypeError(f"compile expects a callable, got {type(model).__name__}")
    if disable:
        return model
    with locks.imports:
        from .nn import Module

    if isinstance(model, Module):
        compiled = CompiledFunction(model._call_impl, fullgraph=fullgraph, numerics=numerics)
        model.__dict__["_compiled_call_impl"] = compiled
        return model
    if isinstance(model, CompiledFunction):
        if model.program.numerics == numerics:
            return model
        model = model.program.function
    return CompiledFunction(model, fullgraph=fullgraph, numerics=numerics)


def _check_options(mode: Any, backend: Any, options: Any, numerics: str) -> None:
    if mode is not None and options is not None:
        raise RuntimeError(
            "Either mode or options can be specified, but both can't be specified at the same time."
        )
    if mode not in _MODES:
        raise RuntimeError(f"Unrecognized mode={mode}, should be one of: {', '.join(map(str, _MODES[1:]))}")
    if backend not in _BACKENDS:
        raise RuntimeError(
            f"Invalid backend: {backend!r}, see `vitrify.compile`: there is one, {_BACKENDS[0]!r}"
        )
    for name in options or {}:
        raise RuntimeError(f"Unexpected optimization option {name}, known options are: none")
    if numerics not in NUMERICS:
        raise ValueError(f"numerics must be 'exact' or 'fast', got {numerics!r}")
