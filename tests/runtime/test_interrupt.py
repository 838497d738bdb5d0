"""Ctrl-C during a long call ends it between two kernels, before anything is updated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from vitrify.codegen.emit import emit_plan
from vitrify.codegen.target import LEVELS
from vitrify.ir.plan_text import parse_plan

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a POSIX system")

CALLS = """
import signal, sys, time
import vitrify
vitrify.set_num_threads(int(sys.argv[1]))
x = vitrify.ones(640, 640) / 640
total = vitrify.zeros(640, 640)

def function(x):
    y = x
    for _ in range(100):
        y = vitrify.tanh(y @ x)
    total.add_(y)
    return y

class Stop(Exception):
    pass

def handler(number, frame):
    raise Stop("by a handler")

compiled = vitrify.compile(function, fullgraph=True)
compiled(x)
before, version = total.numpy().copy(), total._version
signal.signal(signal.SIGALRM, handler)
took = []
for delay in (0.1, 0.04, 0.2):
    signal.setitimer(signal.ITIMER_REAL, delay)
    start = time.perf_counter()
    try:
        compiled(x)
    except Stop as error:
        took.append(time.perf_counter() - start)
        assert str(error) == "by a handler"
    assert (total.numpy() == before).all() and total._version == version
assert len(took) == 3, took
want = compiled(x).numpy()
vitrify.set_num_threads(1)
assert (compiled(x).numpy() == want).all()
print(*took)
"""


@pytest.mark.parametrize("threads, native", [("1", "0"), ("2", "1")])
def test_a_handler_ends_a_long_call(threads: str, native: str, tmp_path: Path) -> None:
    script = tmp_path / "calls.py"
    script.write_text(CALLS)
    environment = os.environ | {"VITRIFY_NATIVE": native, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(script), threads]
    done = subprocess.run(command, env=environment, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


PLAN = """
plan p() arena 0 {
  kernel slow(%x: f32[100000000] in, %y: f32[100000000] out) {
    vector i < 100000000 {
      %0 = load %x[i] : f32
      %1 = exp %0 : f32
      store %y[i], %1
    }
  }
  buffer %x: f32[100000000] input 0
  buffer %a: f32[100000000] output 0
  buffer %b: f32[100000000] output 1
  call slow(%x, %a)
  call slow(%a, TARGET)
  call slow(%a, %b)
  update UPDATED
  return %a: f32[100000000], %b: f32[100000000]
}"""


@pytest.mark.parametrize("target, looks", [("%b", 3), ("%x", 1)])
def test_only_what_comes_before_the_first_update_is_interrupted(target: str, looks: int) -> None:
    text = PLAN.replace("TARGET", target)
    text = text.replace("  update UPDATED\n", "" if target == "%b" else "  update 0\n")
    emitted = emit_plan(parse_plan(text), LEVELS["x86-64-v3"])
    assert emitted.count("call i64 @vitrify_interrupted()") == looks


def test_short_plans_do_not_ask() -> None:
    text = PLAN.replace("100000000", "1000").replace("TARGET", "%b").replace("  update UPDATED\n", "")
    assert "interrupted" not in emit_plan(parse_plan(text), LEVELS["x86-64-v3"])
