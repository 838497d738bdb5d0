"""Processes that share a folder of object code: at once, and with entries that were damaged in between."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import vitrify as torch

torch.manual_seed(0)
w = torch.randn(8, 20)


@torch.compile(fullgraph=True)
def layer(x):
    return torch.softmax(x @ w.t(), -1)


print(layer(torch.ones(4, 20)).numpy().tobytes().hex())
"""


def start(tmp_path: Path) -> subprocess.Popen[str]:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    environment = {**os.environ, "VITRIFY_CACHE_DIR": str(tmp_path / "cache")}
    return subprocess.Popen(
        [sys.executable, str(file)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def test_two_processes_compile_the_same_at_once(tmp_path: Path) -> None:
    processes = [start(tmp_path), start(tmp_path)]
    first, second = map(result, processes)
    assert first == second and first.strip()
    assert list((tmp_path / "cache").glob("*.o"))


def test_damaged_entries_are_compiled_again(tmp_path: Path) -> None:
    want = result(start(tmp_path))
    entries = list((tmp_path / "cache").glob("*.o"))
    assert entries
    for number, entry in enumerate(entries):
        data = entry.read_bytes()
        entry.write_bytes(data[: len(data) // 2] if number % 2 else data[:-8] + b"\0" * 8)
    assert result(start(tmp_path)) == want
    assert result(start(tmp_path)) == want
