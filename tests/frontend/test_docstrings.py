"""The examples in the docstrings of the core say what really happens."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
import vitrify
from vitrify import _functions

MODULES = [
    "vitrify",
    "vitrify._tensor",
    "vitrify._tape",
    "vitrify._size",
    "vitrify._promotion",
    "vitrify._autograd",
]
MODULES += [
    "vitrify._function",
    *(f"vitrify._functions.{m.name}" for m in pkgutil.iter_modules(_functions.__path__)),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    found = doctest.testmod(module, extraglobs={"vitrify": vitrify}, report=False)
    assert found.failed == 0
