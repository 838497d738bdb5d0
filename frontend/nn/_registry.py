"""The dictionaries of a `Module`: every change bumps the module's version.

A compiled function that read a module's attributes guards on `module._version` instead of on each of them, so
a change that could alter behaviour must never go unnoticed, not even one made past the public methods.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def bump_version(module: Any) -> None:
    """Note a change of a module that could alter what it computes."""
    state = module.__dict__
    state["_version"] = state.get("_version", 0) + 1


class Registry(OrderedDict[Any, Any]):
    """An ordered dict that bumps `owner`'s version with each change; storing the same object is none."""

    owner: Any = None

    @staticmethod
    def of(owner: Any) -> Registry:
        """An empty registry of this module."""
        made = Registry()
        made.owner = owner
        return made

    def __reduce__(self) -> Any:
        return (Registry, (), {"owner": self.owner}, None, iter(list(self.items())))

    def __setitem__(self, key: Any, value: Any) -> None:
        if key not in self or self[key] is not value:
            super().__setitem__(key, value)
            self._changed()

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(key)
        self._changed()

    def _changed(self) -> None:
        if self.owner is not None:
            bump_version(self.owner)

    def _noted(name: str) -> Callable[..., Any]:  # type: ignore[misc]
        plain = getattr(OrderedDict, name)

        def method(self: Registry, *args: Any, **kwargs: Any) -> Any:
            self._changed()
            return plain(self, *args, **kwargs)

        method.__name__ = name
        return method

    pop = _noted("pop")
    popitem = _noted("popitem")
    clear = _noted("clear")
    update = _noted("update")
    move_to_end = _noted("move_to_end")
    setdefault = _noted("setdefault")
