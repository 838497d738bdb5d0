"""A line on the terminal while something compiles for long: stage, and how much of it is done.

It is shown after a second, if stderr is a terminal or `options.progress` asks for it, and goes away with the
end of the compilation. Whatever compiles calls `step` now and then.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from .options import options

#: Seconds before the line is shown, and between two changes of it.
PATIENCE_S, PAUSE_S = 1.0, 0.1


class _Line(Protocol):
    """Where progress is shown."""

    def show(self, stage: str, done: int, total: int) -> None: ...

    def close(self) -> None: ...


class _Plain:
    """One line of text, written over itself where stderr is a terminal."""

    def __init__(self, name: str, start: float) -> None:
        self._name, self._start = name, start
        self._over = "\r\x1b[K" if sys.stderr.isatty() else ""

    def show(self, stage: str, done: int, total: int) -> None:
        seconds = time.perf_counter() - self._start
        number = f" {done}/{total}" if total else ""
        text = f"compiling {self._name}: {stage}{number}, {seconds:.1f} s"
        self._write(self._over + text if self._over else text + "\n")

    def close(self) -> None:
        self._write(self._over)

    def _write(self, text: str) -> None:
        if text:
            sys.stderr.write(text)
            sys.stderr.flush()


class _Bar:
    """A bar of tqdm's, which begins anew with each stage."""

    def __init__(self, tqdm: Any, name: str) -> None:
        self._make, self._name = tqdm, name
        self._bar: Any = None

    def show(self, stage: str, done: int, total: int) -> None:
        desc = f"compiling {self._name}: {stage}"
        if self._bar is None or self._bar.desc.removesuffix(": ") != desc:
            self.close()
            self._bar = self._make(desc=desc, total=total or None, initial=done, file=sys.stderr, leave=False)
        self._bar.n = done
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _Compilation:
    """One compilation, with those that it needs in between."""

    def __init__(self, name: str) -> None:
        self.name, self.start = name, time.perf_counter()
        self.line: _Line | None = None
        self._next = self.start + PATIENCE_S

    def step(self, stage: str, done: int, total: int) -> None:
        now = time.perf_counter()
        if now < self._next or not _wanted():
            return
        self._next = now + PAUSE_S
        if self.line is None:
            self.line = _line(self.name, self.start)
        self.line.show(stage, done, total)


class _Current(threading.local):
    compilation: _Compilation | None = None


_current = _Current()


@contextmanager
def compiling(name: str) -> Iterator[None]:
    """What compiles in the block counts as one compilation, shown under this name."""
    if _current.compilation is not None:
        yield
        return
    made = _current.compilation = _Compilation(name)
    try:
        yield
    finally:
        _current.compilation = None
        if made.line is not None:
            made.line.close()


def step(stage: str, done: int, total: int) -> None:
    """So much of a stage of this thread's compilation is done."""
    if _current.compilation is not None:
        _current.compilation.step(stage, done, total)


def _wanted() -> bool:
    if options.progress is not None:
        return options.progress
    return sys.stderr is not None and sys.stderr.isatty()


def _line(name: str, start: float) -> _Line:
    try:
        from tqdm import tqdm
    except ImportError:
        return _Plain(name, start)
    return _Bar(tqdm, name)
