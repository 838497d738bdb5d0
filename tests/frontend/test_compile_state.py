"""State that functions, classes and containers hold, changed between calls: compiled, it is seen as in eager
mode."""

from __future__ import annotations

import collections
import functools
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


def instance(**methods: Any) -> Any:
    return type("Thing", (), methods)()


@case
def call_method() -> Case:
    thing = instance(__call__=lambda self, x: x * 2)
    return lambda x: thing(x), lambda: setattr(type(thing), "__call__", lambda self, x: x + 5)


@case
def item_method() -> Case:
    thing = instance(__getitem__=lambda self, key: 2)
    return lambda x: x * thing[0], lambda: setattr(type(thing), "__getitem__", lambda self, key: 5)


@case
def length_method() -> Case:
    thing = instance(__len__=lambda self: 2)
    return lambda x: x * len(thing), lambda: setattr(type(thing), "__len__", lambda self: 5)


@case
def truth_method_added() -> Case:
    thing = instance(__len__=lambda self: 2)
    return lambda x: x * 2 if thing else x, lambda: setattr(type(thing), "__bool__", lambda self: False)


@case
def operator_method() -> Case:
    thing = instance(__add__=lambda self, other: other * 2)
    return lambda x: thing + x, lambda: setattr(type(thing), "__add__", lambda self, other: other * 5)


@case
def init_method() -> Case:
    class Scale:
        def __init__(self):
            self.by = 2

    def init(self):
        self.by = 5

    return lambda x: x * Scale().by, lambda: setattr(Scale, "__init__", init)


@case
def partial_keywords() -> Case:
    scaled = functools.partial(lambda x, by: x * by, by=2)
    return lambda x: scaled(x), lambda: scaled.keywords.update(by=5)


@case
def list_in_partial() -> Case:
    by = [2]
    scaled = functools.partial(lambda by, x: x * by[0], by)
    return lambda x: scaled(x), lambda: by.append(by.pop() + 3)


NESTED: dict[str, Callable[[Any], Any]] = {
    "str": lambda nested: len(str(nested)),
    "count": lambda nested: nested.count([2]),
    "max": lambda nested: max(nested)[0],
    "sum": lambda nested: len(sum(nested, [])),
    "map": lambda nested: len("".join(map(str, nested))),
    "equal": lambda nested: 2 if nested == [[2], [1]] else 3,
    "in": lambda nested: 2 if [2] in nested else 3,
    "percent": lambda nested: len("%s" % nested),
    "in a fresh list": lambda nested: len(repr([nested])),
}


@pytest.mark.parametrize("name", NESTED)
def test_change_in_a_nested_list_is_seen(name: str) -> None:
    look = NESTED[name]
    nested = [[2], [1]]
    function = torch.compile(lambda x: x * look(nested))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.CaptureWarning)
        for _ in range(3):
            assert function(torch.tensor([1.0])).tolist() == [look(nested)]
            nested[0].append(30)
            nested[0][0] += 1


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
