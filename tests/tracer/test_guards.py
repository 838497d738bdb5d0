"""Guards and run-time scalars on their own."""

from __future__ import annotations

import math
import operator
from typing import Any

import pytest
from vitrify.tracer.guards import (
    Expression,
    Guard,
    Namespace,
    condition,
    contents,
    failing,
    item_of,
    same,
    unchanged,
    value_guard,
)  # fmt: skip
from vitrify.tracer.scalars import TracedScalar, compute


@pytest.mark.parametrize("now,then,equal", [
    (1, 1, True), (1, True, False), (1, 1.0, False), (0.0, -0.0, False), (float("nan"), float("nan"), True),
    ("a" * 100, "".join(["a"] * 100), True), ((1, (2, "x")), (1, (2, "x")), True), ((1,), (1.0,), False),
    ([1], [1], False), (slice(1, 2), slice(1, 2), True), (slice(1, 2), slice(1, 3), False), (None, 0, False),
    (10**20, 10**20 + 0, True), (range(3), range(3), True), (b"a", b"a", True),
])  # fmt: skip
def test_same(now: Any, then: Any, equal: bool) -> None:
    assert same(now, then) is equal


def test_contents_of_containers() -> None:
    items = [1, "a", None]
    table = {"x": items, "y": 2}
    names = {"p", "q"}
    for container in (items, table, names):
        then = contents(container)
        assert unchanged(container, then)
    then = contents(table)
    table["y"] = 3
    assert not unchanged(table, then)
    then = contents(table)
    table["x"] = list(items)
    assert not unchanged(table, then)


@pytest.mark.parametrize(
    "value", [1, 2**70, "text", 1.5, float("nan"), None, True, (1, 2.0, "x"), len, print]
)
def test_a_value_guard_holds_until_the_value_changes(value: Any) -> None:
    box = {"k": value}
    guard = value_guard(item_of(box, "k"), value, "box")
    assert failing([guard], {}) is None
    box["k"] = object()
    assert failing([guard], {}) is guard
    del box["k"]
    assert failing([guard], {}) is guard


def test_keys_with_braces_and_quotes() -> None:
    box = {"{0}'\"": 5, 3: 6, (1, 2): 7}
    guards = [value_guard(item_of(box, key), value, "box") for key, value in box.items()]
    assert failing(guards, {}) is None


def test_one_condition_has_each_constant_and_guard_once() -> None:
    thing = object()
    guard = Guard(Expression("{0} is {1}", (thing, thing)), "same")
    names = Namespace()
    assert condition([guard, guard], names) == "c0 is c0"
    assert condition([], names) == "True"


class Watcher:
    """Notes what is guarded."""

    def __init__(self) -> None:
        self.proving = True
        self.seen: list[Any] = []

    def guard_scalar(self, scalar: Any, function: Any, operands: Any, result: Any) -> None:
        self.seen.append((function, result))

    def derived(self, function: Any, operands: Any, value: float) -> TracedScalar:
        return TracedScalar(self, value, function, operands)


def scalar(value: float) -> tuple[TracedScalar, Watcher]:
    watcher = Watcher()
    return TracedScalar(watcher, value, source="x"), watcher


def test_arithmetic_is_recorded_in_double() -> None:
    x, watcher = scalar(0.1)
    for function in (operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.mod,
                     operator.floordiv):  # fmt: skip
        for left, right, want in (
            (x, 3, function(0.1, 3)),
            (2.5, x, function(2.5, 0.1)),
            (x, x, function(0.1, 0.1)),
        ):
            result = function(left, right)
            assert type(result) is TracedScalar and result.value == want
    assert (-x).value == -0.1 and abs(-x).value == 0.1 and (+x) is x
    assert compute(math.sqrt, x).value == math.sqrt(0.1)
    assert not watcher.seen and not isinstance(x, float)


def test_looking_at_a_scalar_adds_a_guard() -> None:
    x, watcher = scalar(1.5)
    assert x > 1 and not x == 2 and bool(x) and int(x) == 1 and math.floor(x) == 1 and math.ceil(x) == 2
    assert [result for _, result in watcher.seen] == [True, False, True, 1, 1, 2]
    for look in (float, repr, hash, lambda v: f"{v:.1f}", round, lambda v: v.is_integer(), lambda v: v.hex()):
        before = len(watcher.seen)
        assert look(x) == look(1.5)
        assert watcher.seen[before][1] == (1.5).hex()


def test_errors_and_odd_results() -> None:
    x, watcher = scalar(0.0)
    with pytest.raises(ZeroDivisionError):
        1 / x
    with pytest.raises(TypeError):
        x + "text"
    negative, watcher = scalar(-1.0)
    assert negative**0.5 == (-1.0) ** 0.5 and len(watcher.seen) == 1


def test_after_the_proof_scalars_are_plain() -> None:
    x, watcher = scalar(2.0)
    watcher.proving = False
    assert type(x + 1) is float and x > 1 and float(x) == 2.0 and not watcher.seen
