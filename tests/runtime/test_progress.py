"""The line that long compilations show."""

from __future__ import annotations

import io
import sys

import pytest
from vitrify.codegen.emit import emit_plan
from vitrify.ir.parser import parse_graph
from vitrify.passes.lower import lower
from vitrify.runtime import progress
from vitrify.runtime.host import host_target
from vitrify.runtime.options import configure, options

GRAPH = """
graph g(%x: f32[5, 6], %y: f32[3]) {
  %0 = exp %x : f32[5, 6]
  %1 = neg %y : f32[3]
  return %0, %1
}"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """Sets the time; tqdm is not there."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    monkeypatch.setitem(sys.modules, "tqdm", None)
    before = options.progress
    yield lambda seconds: now.__setitem__(0, 100.0 + seconds)
    configure(progress=before)


def shown(stream: io.StringIO, clock, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.compiling("model"):
        progress.step("lowering", 1, 5)
        clock(1.2)
        progress.step("lowering", 3, 5)
        clock(1.25)
        progress.step("lowering", 4, 5)
        with progress.compiling("constant"):
            clock(1.5)
            progress.step("pass dce", 0, 0)
    progress.step("lowering", 5, 5)
    return stream.getvalue()


def test_a_line_is_shown_after_a_second_and_goes_away(clock, monkeypatch: pytest.MonkeyPatch) -> None:
    over = "\r\x1b[K"
    assert shown(Terminal(), clock, monkeypatch) == (
        f"{over}compiling model: lowering 3/5, 1.2 s{over}compiling model: pass dce, 1.5 s{over}"
    )


def test_elsewhere_it_has_to_be_asked_for(clock, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(io.StringIO(), clock, monkeypatch) == ""
    clock(0)
    configure(progress=True)
    lines = shown(io.StringIO(), clock, monkeypatch).splitlines()
    assert lines == ["compiling model: lowering 3/5, 1.2 s", "compiling model: pass dce, 1.5 s"]
    clock(0)
    configure(progress=False)
    assert shown(Terminal(), clock, monkeypatch) == ""


def test_tqdm_draws_it_if_it_is_there(clock, monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Bar] = []

    class Bar:
        def __init__(self, desc: str, total: int | None, initial: int, **_: object) -> None:
            self.desc, self.total, self.n, self.closed = desc + ": ", total, initial, False
            bars.append(self)

        def refresh(self) -> None:
            pass

        def close(self) -> None:
            self.closed = True

    module = type(sys)("tqdm")
    module.tqdm = Bar  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm", module)
    shown(Terminal(), clock, monkeypatch)
    assert [(b.desc, b.total, b.n, b.closed) for b in bars] == [
        ("compiling model: lowering: ", 5, 3, True),
        ("compiling model: pass dce: ", None, 0, True),
    ]


def test_lowering_and_emission_tell_of_each_kernel() -> None:
    told: list[tuple[str, int, int]] = []
    plan = lower(parse_graph(GRAPH), lambda *what: told.append(what))
    count = len(plan.kernels)
    assert [t for t in told if t[0] == "lowering kernels"] == [("lowering kernels", 0, 1)]
    emit_plan(plan, host_target(), lambda *what: told.append(what))
    assert told[1:] == [("emitting kernels", number, count) for number in range(count)]
