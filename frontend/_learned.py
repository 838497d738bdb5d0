"""Learned calls: functions of tensors that are answered by native code once a call of their kind was watched.

What a function here does follows from the types of its tensors, which of them require grad, and its plain
arguments; it has no effects. So when a call of one kind comes the second time, the ops that it applies are
written down, and native dispatch applies just these from then on (`runtime.dispatch_program_ir`). A call that
did more than apply ops, or gave something else than one tensor, is never learned.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final

from vitrify.ir import ops
from vitrify.ir.opdef import BoundOp
from vitrify.runtime import dispatch_codes_ir as codes_ir
from vitrify.runtime import dispatch_program_ir as programs
from vitrify.runtime import storage as memory

from . import _composite, _dispatch
from ._dispatch import Applied, Moves, add_assignment, is_shared, native
from ._tape import Leaf, mode
from ._tensor import Tensor, is_current

if native is not None:
    from vitrify.runtime.dispatch_native import ASSIGN, COPY

#: Kinds of call that are kept in mind, and calls that are learned.
MOST_SEEN: Final = 16384
MOST_LEARNED: Final = 4096
#: Elements of a tensor that is made of nothing (a range of numbers, say) and kept to be copied.
MOST_MADE: Final = 4096
#: The key of a kind of call -> how often it came before; -1 if it is not to be learned any more.
_seen: dict[Any, int] = {}
_learned = 0
#: The Python behind native functions, and behind native methods by name.
python_of: dict[Any, Callable[..., Any]] = {}
#: The types of a call's tensors, the codes of its arguments, and which tensors have an edge.
_Kind = tuple[Any, tuple[Any, ...], tuple[codes_ir.Code, ...], int]


def _forget() -> None:
    global _learned
    _seen.clear()
    _learned = 0


_dispatch.when_forgotten.append(_forget)


def parameters_of(function: Callable[..., Any]) -> tuple[str, ...] | None:
    """The names of all parameters; None where there may be any number of them."""
    code = inspect.unwrap(function).__code__
    if code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        return None
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def learner(
    function: Callable[..., Any], parameters: tuple[str, ...] | None, row: Callable[..., None] | None = None,
    composite: bool = False, in_rows: bool = False,
) -> Callable[..., Any]:  # fmt: skip
    """What native code calls where it knows no answer: the function, which may be watched. row: (called,
    operands, result) writes a row of dispatch, where the function is one op. composite: it calls one.
    in_rows: native code looks for rows of its tensors before it looks for learned calls."""

    made = getattr(function, "composite", None)
    always = composite or made is not None and made.small

    def called(*args: Any, **options: Any) -> Any:
        whole = always or made is not None and not _composite.is_small(function, args)
        floats = row is not None and float in [x.__class__ for x in args]  # which rows serve
        if _dispatch.captures or _learned >= MOST_LEARNED or floats:
            result = function(*args, **options)
        else:
            values = _in_order(args, options, parameters) if options else args
            key = None if values is None else key_of(called, values)
            if key is None or not due((key, bool(options)), _composite.calls_before + 1 if whole else 1):
                result = function(*args, **options)
            else:
                result = learn(key, values, function, args, options, in_rows)
        if row is not None and not options:
            row(called, args, result)
        return result

    called.__name__ = function.__name__
    return called


def _in_order(args: tuple[Any, ...], options: dict[str, Any], names: tuple[str, ...] | None) -> Any:
    """All arguments by position; None if that is not possible."""
    if names is None or any(name not in names for name in options):
        return None
    places = {names.index(name): value for name, value in options.items()}
    count = max(len(args), *(place + 1 for place in places))
    return tuple([args[i] if i < len(args) else places.get(i, codes_ir.MISSING) for i in range(count)])


def key_of(called: Any, values: Sequence[Any]) -> _Kind | None:
    """What a call is learned by; None if it can't be."""
    codes = codes_ir.codes(values, _is_tensor) if len(values) <= codes_ir.MOST_VALUES else None
    if codes is None:
        return None
    tensors = _tensors_in(values)
    if len(tensors) > programs.MOST_TENSORS:
        return None
    if not all(map(is_current, tensors)):
        return None
    mask = sum(1 << i for i, x in enumerate(tensors) if x._node is not None) if mode.grad else 0
    return called, tuple([x._type for x in tensors]), tuple(codes), mask


def _tensors_in(values: Sequence[Any]) -> list[Tensor]:
    """The tensors among these arguments, and in lists and tuples of theirs, each once."""
    found: list[Tensor] = []
    for v in values:
        found += [x for x in v if isinstance(x, Tensor)] if v.__class__ in (list, tuple) else ()
        found += [v] if isinstance(v, Tensor) else ()
    return list({id(x): x for x in found}.values())


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def due(key: Any, after: int = 1) -> bool:
    """Count a call: whether it is time to learn it, after so many of its kind."""
    if len(_seen) >= MOST_SEEN:
        _seen.clear()
    before = _seen.get(key, 0)
    if before >= 0:
        _seen[key] = before + 1
    return before >= after


def learn(
    key: _Kind, values: Sequence[Any], function: Any, args: Any, options: Any, in_rows: bool = False
) -> Any:
    """The result of the call, which is learned if it can be. in_rows: see `learner`."""
    global _learned
    seen = key, bool(options)
    _seen[seen] = -1
    tensors = _tensors_in(values)
    called, types, codes, mask = key
    result, log, early = _dispatch.watched(function, *args, **options)
    if early:
        _seen[seen] = 1
    if log is None or _dispatch.captures:
        return result
    program = _Program(tensors)
    found = program.follow(log, result)
    if found is not None:
        op = program.only_op(found) if in_rows and not options and len(codes) == len(types) else None
        if op is None:
            native.learn(called, program.types(), codes, mask, program.steps, *found)
            _learned += 1
        elif not native.has(called, types):
            _dispatch.entry_of(op, types).add_row(called, types)
    return result


#: What follows a program's steps: its form, and the registers of its answer.
_Answer = tuple[int, list[int]]


class _Program:
    """Steps over registers, from the ops that a call applied to its tensors."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.steps: list[tuple[int, Any, tuple[int, ...], int]] = []
        self._held = list(tensors)
        self._first = len(tensors)
        self._bases = {memory.base(x._storage) for x in tensors}

    def follow(self, log: list[Applied], result: Any) -> _Answer | None:
        """What the result is; None if native code can't do the same. What it writes it writes last: it may
        not fail after that."""
        for i, (op, operands, made) in enumerate(log):
            if op is None:
                good = i == len(log) - 1 and self._written(operands, log[i - 1] if i else None)
            elif isinstance(op, BoundOp | Moves):
                good = self._applied(op, operands, made)
            else:
                good = self._called(op, operands, made)
            if not good:
                return None
        answer = self._answer(result)
        if answer is None:
            return None
        form, places = answer
        places = self._without_unused(places)
        return (form, places) if self._first + len(self.steps) <= programs.MOST_REGISTERS else None

    def types(self) -> list[Any]:
        """Of all registers."""
        return [x._type for x in self._held]

    def only_op(self, answer: _Answer) -> BoundOp | Moves | None:
        """The op that is all of the program, applied to the tensors in order."""
        if len(self.steps) != 1 or answer != (programs.SINGLE, [self._first]):
            return None
        kind, op, places, into = self.steps[0]
        whole = (
            isinstance(op, BoundOp | Moves) and places == tuple(range(self._first)) and kind == len(places)
        )
        return op if whole and into < 0 else None

    def _without_unused(self, answers: list[int]) -> list[int]:
        """Drop the steps that nothing needs; the registers of the answer then."""
        used = set(answers)
        for at in reversed(range(self._first, self._first + len(self.steps))):
            kind, _, places, into = self.steps[at - self._first]
            if at in used or into >= 0 or kind == programs.CHECK:
                used |= {at, *_operands_of(kind, places), *((into,) if into >= 0 else ())}
        new = {at: at for at in range(self._first)}
        for at in sorted(used - new.keys()):
            new[at] = len(new)
        self._held = [x for at, x in enumerate(self._held) if at in new]
        kept = [step for at, step in enumerate(self.steps, self._first) if at in used]
        self.steps = [
            (
                k,
                what,
                tuple([new[i] for i in _operands_of(k, p)]) + p[len(_operands_of(k, p)) :],
                new.get(o, -1),
            )
            for k, what, p, o in kept
        ]
        return [new[at] for at in answers]

    def _applied(self, op: Any, operands: tuple[Tensor, ...], made: Tensor) -> bool:
        if op.opdef is ops.check:
            return self._checked(made)
        if all(self._is_constant(x) for x in (*operands, made)):
            return True
        if not operands:
            return self._made_of_nothing(made)
        places = [self._register(x) for x in operands]
        types = tuple([x._type for x in operands])
        if None in places or len(places) > programs.MOST_TENSORS or not native.has(op, types):
            return False
        if made._view is not None and made._node is None and self._shown(op, places[0], made):
            return True
        self._add(len(places), op, tuple(places), made)  # type: ignore[arg-type]
        return True

    def _called(self, function: Any, operands: tuple[Tensor, ...], made: Tensor) -> bool:
        places = [self._register(x) for x in operands]
        if None in places or not 0 < len(places) <= programs.MOST_TENSORS:
            return False
        self._add(programs.CALLED + len(places), function, tuple(places), made)  # type: ignore[arg-type]
        return True

    def _shown(self, op: Any, at: Any, made: Tensor) -> bool:
        """A view of an operand without history is one step, however many ops led to it."""
        offset = _dispatch.entry_of(op, (self._held[at]._type,)).offset
        if offset is None:
            return False
        before = self.steps[at - self._first] if at >= self._first else None
        if before is not None and before[0] == programs.SHOWN:
            at, offset = before[2][0], before[2][1] + offset
        self._add(programs.SHOWN, made._type, (at, offset), made)
        return True

    def _checked(self, ok: Tensor) -> bool:
        at = self._register(ok)
        if at is None:
            return False
        self.steps.append((programs.CHECK, None, (at,), -1))
        self._held.append(Tensor(None, ok._type))  # its register is nobody's operand
        return True

    def _made_of_nothing(self, made: Tensor) -> bool:
        """What an op without operands gave: kept, and copied for whoever gets it."""
        if made._type.numel > MOST_MADE:
            return False
        self._add(programs.CONSTANT, native.apply(COPY, made), (), made)
        return True

    def _written(self, operands: tuple[Tensor, ...], before: Applied | None) -> bool:
        target, value = operands
        to, what = self._register(target), self._register(value)
        if to is None or what is None:
            return False
        if self.steps and before is not None and before[2] is value and value._type is target._type:
            kind, op, places, _ = self.steps[-1]
            if what == len(self._held) - 1 and kind in (1, 2, 3) and _dispatch.can_overwrite(op):
                self.steps[-1] = kind, op, places, to
                self._held[-1] = target
                return True
        if not add_assignment(target._type, value._type):
            return False
        self.steps.append((2, ASSIGN, (to, what), to))
        self._held.append(target)
        return True

    def _answer(self, result: Any) -> _Answer | None:
        if result is None:
            return programs.NOTHING, []
        if result.__class__ is tuple and 0 < len(result) <= programs.MOST_ANSWERS:
            found = [self._answer_register(x) for x in result]
            return None if None in found else (programs.TUPLE, found)  # type: ignore[return-value]
        at = self._answer_register(result)
        return None if at is None else (programs.SINGLE, [at])

    def _answer_register(self, x: Any) -> int | None:
        """Of something that the caller gets: of a constant, to which he might write, a copy. None for what
        was made a leaf that requires grad: no op does that."""
        at = self._register(x) if isinstance(x, Tensor) else None
        if at is not None and at >= self._first and isinstance(x._node, Leaf):
            return None
        if at is None or at < self._first or self.steps[at - self._first][0] != programs.CONSTANT:
            return at
        if is_shared(x):
            return None
        return self._add(1, COPY, (at,), Tensor(None, x._type))

    def _is_constant(self, x: Tensor) -> bool:
        return x._node is None and is_shared(x) and memory.base(x._storage) not in self._bases

    def _register(self, x: Tensor) -> int | None:
        for i, known in enumerate(self._held):
            if known is x:
                return i
        if x._node is not None:
            return None
        if self._is_constant(x):
            return self._add(programs.CONSTANT, x, (), x)
        same = [i for i, known in enumerate(self._held) if known._storage is x._storage]
        if len(same) != 1 or x._view is not None:
            return None
        return self._add(programs.RETYPED, x._type, (same[0],), x)

    def _add(self, kind: int, what: object, places: tuple[int, ...], made: Tensor) -> int:
        self.steps.append((kind, what, places, -1))
        self._held.append(made)
        return len(self._held) - 1


def _operands_of(kind: int, places: tuple[int, ...]) -> tuple[int, ...]:
    """The registers among the words of a step: the offset of a view is none."""
    return places[:1] if kind == programs.SHOWN else places


def install_method(
    name: str, function: Callable[..., Any], kind: str = "call", row: Callable[..., None] | None = None
) -> None:
    """Set a method of `Tensor` with learned calls, and with rows that `row` writes."""
    names = parameters_of(function)
    python_of[name] = function
    called = learner(function, names, row, in_rows=kind == "call")
    setattr(Tensor, name, native.method(Tensor, kind, name, called, function.__doc__ or "", names))


def install_property(name: str, function: Callable[..., Any], doc: str) -> None:
    """Set a property of `Tensor` with learned calls."""
    learning = learner(function, ("self",), in_rows=True)
    called = native.function("function", name, learning, None, doc, Tensor.__module__)
    python_of[called] = function
    setattr(Tensor, name, property(called, doc=doc))


def in_front_of(
    function: Callable[..., Any], kind: str = "function", row: Callable[..., None] | None = None,
    composite: bool = False,
) -> Callable[..., Any]:  # fmt: skip
    """A builtin function with learned calls, and with rows that `row` writes. composite: it calls one."""
    names = parameters_of(function)
    called = learner(function, names, row, composite, in_rows=row is None)
    made = native.function(kind, function.__name__, called, names, _doc(function), function.__module__)
    python_of[made] = function
    return made


def _doc(function: Callable[..., Any]) -> str:
    """The docstring, with the signature as `inspect` reads it from builtins."""
    parameters = inspect.signature(function).parameters.values()
    plain = [p.replace(annotation=p.empty) for p in parameters]
    return f"{function.__name__}{inspect.Signature(plain)}\n--\n\n{function.__doc__ or ''}"
