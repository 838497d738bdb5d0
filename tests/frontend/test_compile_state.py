"""State that functions, classes and containers hold, changed between calls: compiled, it is seen as in eager
mode."""

from __future__ import annotations

import collections
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import vitrify as torch
from vitrify import nn

Case = tuple[Callable[..., Any], Callable[[], Any]]
CASES: dict[str, Callable[[], Case]] = {}


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    CASES[make.__name__.replace("_", " ")] = make
    return make


@case
def function_attribute() -> Case:
    def scaled():
        return None

    scaled.scale = 2
    return lambda x: x * scaled.scale, lambda: setattr(scaled, "scale", 3)


@case
def attribute_of_a_list_subclass() -> Case:
    class Scaled(list):
        scale = 2

    scaled = Scaled()
    return lambda x: x * scaled.scale, lambda: setattr(scaled, "scale", 3)


@case
def field_of_a_named_tuple() -> Case:
    Pair = collections.namedtuple("Pair", "left right")
    pair = Pair(1, [2])

    def change():
        pair.right[0] = 5

    return lambda x: x * pair.right[0], change


@case
def defaults() -> Case:
    def helper(x, by=2.0):
        return x * by

    return lambda x: helper(x), lambda: setattr(helper, "__defaults__", (7.0,))


@case
def keyword_defaults_replaced() -> Case:
    def helper(x, *, by=2.0):
        return x * by

    return lambda x: helper(x), lambda: setattr(helper, "__kwdefaults__", {"by": 7.0})


@case
def keyword_defaults_changed() -> Case:
    def helper(x, *, by=2.0):
        return x * by

    return lambda x: helper(x), lambda: helper.__kwdefaults__.update(by=7.0)


@case
def code() -> Case:
    def helper(x):
        return x * 2

    def other(x):
        return x + 5

    return lambda x: helper(x), lambda: setattr(helper, "__code__", other.__code__)


def classes() -> tuple[Any, Any, Any]:
    class Base(nn.Module):
        gain = 2

        def forward(self, x):
            return x * 2

    class Middle(Base):
        pass

    class Last(Middle):
        def forward(self, x):
            return super().forward(x) * super().gain

    return Base, Middle, Last


@case
def method_of_super() -> Case:
    base, _, last = classes()
    return last(), lambda: setattr(base, "forward", lambda self, x: x + 5)


@case
def method_added_before_that_of_super() -> Case:
    _, middle, last = classes()
    return last(), lambda: setattr(middle, "forward", lambda self, x: x + 5)


@case
def attribute_of_super() -> Case:
    base, _, last = classes()
    return last(), lambda: setattr(base, "gain", 7)


@pytest.mark.parametrize("name", CASES)
def test_changed_state_is_seen(name: str) -> None:
    records = []
    for compiled in (False, True):
        function, change = CASES[name]()
        if compiled:
            function = torch.compile(function)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.CaptureWarning)
            record = [function(torch.tensor([1.0, 2.0])).tolist() for _ in range(3)]
            change()
            record += [function(torch.tensor([1.0, 2.0])).tolist() for _ in range(3)]
        records.append(record)
    assert records[0] == records[1]
    assert records[0][0] != records[0][-1]
