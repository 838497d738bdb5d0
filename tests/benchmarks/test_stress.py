"""A few seconds of `benchmarks/stress.py`, which is meant for minutes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")
def test_nothing_goes_wrong_under_stress() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "stress.py"
    command = [sys.executable, "-W", "ignore", str(script), "--seconds", "3", "--callers", "16"]
    done = subprocess.run(command, timeout=280, capture_output=True, text=True)
    assert done.returncode == 0 and "nothing went wrong" in done.stdout, done.stdout + done.stderr
