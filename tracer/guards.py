"""What a replay rests on: conditions on the state that the capture read.

A guard is a Python expression over constants (the objects it was read from), true while a replay holds. All
guards of a capture become one generated function, so that a check costs a few tens of nanoseconds. Containers
are compared element by element; plain values by type and value; everything else by identity.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

#: Types whose values can't change and are compared by value.
ATOMS: frozenset[type] = frozenset(
    (int, float, bool, str, bytes, complex, NoneType, type(...), type(NotImplemented), range, slice)
)


@dataclass(frozen=True)
class Expression:
    """Python source with places `{0}`, `{1}`, ... for constants."""

    template: str
    constants: tuple[object, ...] = ()


@dataclass(frozen=True)
class Guard:
    """holds: an expression that is true while a replay holds. what: the same, for people."""

    holds: Expression
    what: str


def item_of(container: object, key: object) -> Expression:
    """The expression container[key]."""
    if type(key) in (str, int):
        text = repr(key).replace("{", "{{").replace("}", "}}")
        return Expression("{0}[" + text + "]", (container,))
    return Expression("{0}[{1}]", (container, key))


def same(now: object, then: object) -> bool:
    """Whether two values can stand for each other: plain values by type and value, tuples by elements, else
    identity."""
    if now is then:
        return True
    kind = type(now)
    if kind is not type(then):
        return False
    if kind is float:
        return float.hex(now) == float.hex(then)  # type: ignore[arg-type]
    if kind is tuple:
        return len(now) == len(then) and all(map(same, now, then))  # type: ignore[arg-type, call-overload]
    if kind is slice:
        return all(same(getattr(now, part), getattr(then, part)) for part in ("start", "stop", "step"))
    return kind in ATOMS and now == then


def contents(container: object) -> tuple[object, ...]:
    """The elements of a container, shallow, in order: keys and values in turn for a mapping."""
    if isinstance(container, Mapping):
        return tuple(itertools.chain.from_iterable(container.items()))
    return tuple(container)  # type: ignore[arg-type]


def unchanged(container: object, then: tuple[object, ...]) -> bool:
    """Whether a container holds what `contents` gave."""
    now = contents(container)
    return len(now) == len(then) and all(map(same, now, then))


def value_guard(read: Expression, value: object, what: str) -> Guard:
    """The guard that an expression still gives `value`."""
    place = f"{{{len(read.constants)}}}"
    if type(value) is bool or value is None or type(value) not in ATOMS and type(value) is not tuple:
        return Guard(Expression(f"{read.template} is {place}", (*read.constants, value)), what)
    test = f"((_v := {read.template}) is {place} or same(_v, {place}))"
    return Guard(Expression(test, (*read.constants, value)), what)


def contents_guard(container: object, what: str) -> Guard:
    """The guard that a container still holds the same elements."""
    return Guard(Expression("unchanged({0}, {1})", (container, contents(container))), what)


class Namespace:
    """The constants of generated code, each under one name."""

    def __init__(self) -> None:
        self.names: dict[str, object] = {"same": same, "unchanged": unchanged}
        self._known: dict[int, str] = {}

    def name(self, constant: object) -> str:
        """Source that stands for a constant: itself if it is one of a kind, else a name."""
        if constant is None or type(constant) is bool:
            return repr(constant)
        found = self._known.get(id(constant))
        if found is None:
            found = self._known[id(constant)] = f"c{len(self._known)}"
            self.names[found] = constant
        return found

    def source(self, expression: Expression) -> str:
        """An expression with its places filled in."""
        return expression.template.format(*map(self.name, expression.constants))


def condition(guards: Iterable[Guard], names: Namespace) -> str:
    """All guards as one Python expression."""
    return " and ".join(dict.fromkeys(names.source(g.holds) for g in guards)) or "True"


def failing(guards: Sequence[Guard], arguments: Mapping[str, object]) -> Guard | None:
    """The first guard that does not hold now; a guard that raises does not hold. arguments: by name in
    expressions."""
    for guard in guards:
        names = Namespace()
        source = names.source(guard.holds)
        environment: dict[str, Any] = {**names.names, **arguments}
        try:
            if not eval(source, environment):
                return guard
        except Exception:
            return guard
    return None
