"""The benchmark harness: sampling, the table, the JSON, and one real workload from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.measure import Timing, calls_per_sample, race
from benchmarks.report import Result, save, seconds, table
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).parents[2]


def test_contestants_take_turns() -> None:
    turns: list[str] = []
    timings = race(
        {"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, rounds=4, sample_s=0.0, warm_up=2
    )
    assert turns[:4] == ["a", "a", "b", "b"]  # warming up
    assert "".join(turns[-8:]) == "abababab"
    assert {name: len(t.samples) for name, t in timings.items()} == {"a": 4, "b": 4}


def test_samples_are_long_enough_to_measure() -> None:
    assert calls_per_sample(lambda: time.sleep(0.002), 0.02) in range(1, 12)
    assert calls_per_sample(lambda: time.sleep(0.01), 0.001) == 1


def test_median_and_spread() -> None:
    timing = Timing([1.0, 2.0, 3.0, 4.0, 100.0])
    assert timing.median == 3.0
    assert timing.spread > 0
    assert timing.as_json()["min_s"] == 1.0


@pytest.mark.parametrize(
    ("value", "text"), [(1.5, "1.5 s"), (0.00123, "1.23 ms"), (4.56e-6, "4.56 us"), (7.8e-8, "78 ns")]
)
def test_durations(value: float, text: str) -> None:
    assert seconds(value) == text


def test_table_and_json(tmp_path: Path) -> None:
    result = Result(
        "work", {"other": Timing([0.4, 0.4]), "vitrify": Timing([0.2, 0.2])}, {"third": "not installed"}, 2e9
    )
    lines = table([result], peak=40e9).splitlines()
    assert lines[0] == "work"
    assert lines[1].split()[:4] == ["vitrify", "200", "ms", "+-"]
    assert "1.00x" in lines[1]
    assert "10.0 GFLOP/s  25% of the limit" in lines[1]
    assert "2.00x" in lines[2]
    assert lines[3].split() == ["third", "not", "installed"]
    save(tmp_path / "deep" / "results.json", [result], threads=1, peaks={8: 40e9})
    saved = json.loads((tmp_path / "deep" / "results.json").read_text())
    assert saved["threads"] == 1
    assert saved["fma_peak_flops"] == {"8": 40e9}
    assert saved["workloads"]["work"]["timings"]["vitrify"]["median_s"] == 0.2


def test_the_limit_is_measured() -> None:
    from benchmarks.limits import fma_peak

    assert fma_peak(8) > 1e9  # no machine that runs this is slower


def test_workloads_have_names_of_their_own() -> None:
    names = [w.name for w in WORKLOADS]
    assert len(set(names)) == len(names)
    for needed in ("batch 64", "batch 512", "CNN", "x + 1", "eager add", "first call", "import"):
        assert any(needed in name for name in names), needed


def test_a_workload_from_the_command_line(tmp_path: Path) -> None:
    """Only ours: the peers' start-up is too long for a test."""
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "run.py"),
        "--only",
        "compiled x + 1",
        "--rounds",
        "3",
    ]
    done = subprocess.run(
        [*command, "--peers", "nobody", "--json", str(tmp_path / "results.json")],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (workload,) = json.loads((tmp_path / "results.json").read_text())["workloads"].values()
    assert list(workload["timings"]) == ["vitrify"]
    assert 0 < workload["timings"]["vitrify"]["median_s"] < 1
