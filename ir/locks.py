"""Locks that a forked child finds free.

A child has the forking thread alone: a lock that another one held at that moment would be held for ever.
What these locks protect is changed in single steps (an entry of a dict, an item of a list), so the child may
go on from where it is. Python's own locks of modules are held while a module is imported: `imports` keeps
forks out of that time.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Final
from weakref import WeakSet

#: To be held where a function imports a module of ours: a child would wait for ever for one that another
#: thread was just importing.
imports: Final = threading.RLock()

_all: WeakSet[Any] = WeakSet()


def lock() -> threading.Lock:
    """A lock that is free in a forked child."""
    made = threading.Lock()
    _all.add(made)
    return made


def rlock() -> threading.RLock:
    """A reentrant lock that is free in a forked child, unless the forking thread holds it."""
    made = threading.RLock()
    _all.add(made)
    return made


def _in_child() -> None:
    for made in _all:
        if not (hasattr(made, "_is_owned") and made._is_owned()):
            made._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
    os.register_at_fork(
        before=imports.acquire, after_in_parent=imports.release, after_in_child=imports.release
    )
