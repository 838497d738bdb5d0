"""The benchmark harness: sampling, the table, the JSON, and one real workload from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import vitrify

from benchmarks import exchange
from benchmarks.limits import Limits, fma_peak, measure
from benchmarks.measure import Run, Timing, calls_per_sample, race
from benchmarks.plot import plot
from benchmarks.report import Result, save, seconds, table
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.inference import MLP_1
from benchmarks.workloads.pointwise import POINTWISE
from benchmarks.workloads.training import LINREG
from benchmarks.workloads.workload import Workload, disagreement, numbers

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
    assert timing.as_json()["min"] == 1.0


@pytest.mark.parametrize(
    ("value", "text"), [(1.5, "1.5 s"), (0.00123, "1.23 ms"), (4.56e-6, "4.56 us"), (7.8e-8, "78 ns")]
)
def test_durations(value: float, text: str) -> None:
    assert seconds(value) == text


LIMITS = Limits(flops=40e9, read=10e9, copy=20e9)


def test_table_and_json(tmp_path: Path) -> None:
    result = Result(
        "work", {"other": Timing([0.4, 0.4]), "vitrify": Timing([0.2, 0.2])}, {"third": "not installed"}, 2e9
    )
    lines = table([result], LIMITS).splitlines()
    assert lines[0] == "work   [2.00x the best peer]"
    assert lines[1].split()[:4] == ["vitrify", "200", "ms", "+-"]
    assert "1.00x" in lines[1]
    assert "10.0 GFLOP/s  25% of the limit" in lines[1]
    assert "2.00x" in lines[2]
    assert lines[3].split() == ["third", "not", "installed"]
    save(tmp_path / "deep" / "results.json", [result], threads=1, limits=LIMITS)
    saved = json.loads((tmp_path / "deep" / "results.json").read_text())
    assert saved["threads"] == 1
    assert saved["limits"]["flops_per_s"] == 40e9
    assert saved["workloads"]["work"]["timings"]["vitrify"]["median"] == 0.2
    assert saved["workloads"]["work"]["advantage"] == 2.0


def test_what_streams_is_compared_with_bandwidth() -> None:
    result = Result("work", {"vitrify": Timing([0.2, 0.2])}, {}, bytes=2e9)
    assert "10.0 GB/s  50% of the limit" in table([result], LIMITS)
    assert result.advantage is None


def test_memory_is_printed_in_bytes() -> None:
    result = Result("work", {"vitrify": Timing([2e6, 2e6]), "torch": Timing([3e6, 3e6])}, {}, unit="B")
    assert "2.0 MB" in table([result])


def test_limits_are_measured() -> None:
    assert fma_peak(8) > 1e9  # no machine that runs this is slower
    measured = measure(threads=2)
    assert measured.read > 1e8 and measured.copy > 1e8
    assert measured.seconds(measured.flops, 0.0) == pytest.approx(1.0)


def test_exchange_between_cores_is_measured() -> None:
    several = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1
    assert (exchange.measure() > 1e7) == several
    result = Result("steps", {"vitrify": Timing([1.0, 1.0])}, {}, exchange=(66.7e9, 23.1e9))
    assert "between cores: 67 then 23 GB/s" in table([result])
    assert "between cores" not in table([Result("steps", {}, {}, exchange=(0.0, 0.0))])


def test_results_are_compared() -> None:
    ours = [np.array([1.0, 2.0])]
    assert disagreement(ours, [np.array([1.0, 2.002])]) == pytest.approx(1e-3)
    assert disagreement(ours, [np.array([[1.0, 2.0]])]) == float("inf")
    x = vitrify.tensor([1.0], requires_grad=True)
    assert [a.tolist() for a in numbers((x, [np.float32(2), None]))] == [[1.0], 2.0]


def test_a_contestant_that_fails_or_disagrees_is_said_so() -> None:
    def broken(threads: int) -> Run:
        raise ValueError("no such thing")

    makers = {
        "vitrify": lambda _: lambda: np.ones(2),
        "wrong": lambda _: lambda: np.zeros(2),
        "broken": broken,
    }
    result = Workload("work", makers, sample_s=0.0).run(rounds=2, threads=1)
    assert list(result.timings) == ["vitrify"]
    assert result.missing == {
        "wrong": "another result: off by 1.0e+00", "broken": "failed: ValueError: no such thing"
    }  # fmt: skip


@pytest.mark.parametrize("workload", [LINREG, MLP_1, POINTWISE[0]], ids=lambda w: w.name)
def test_vitrify_alone(workload: Workload) -> None:
    result = workload.run(rounds=2, threads=1, peers=["vitrify eager"])
    assert not result.missing
    assert "vitrify" in result.timings


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = Result("work", {"vitrify": Timing([0.2, 0.2]), "torch": Timing([0.3, 0.3])}, {})
    plot(tmp_path / "plot.png", [result], "title")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_workloads_have_names_of_their_own() -> None:
    names = [w.name for w in WORKLOADS]
    assert len(set(names)) == len(names)
    for needed in ("batch 64", "batch 512", "CNN", "x + 1", "eager: add", "first call", "import"):
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
    assert 0 < workload["timings"]["vitrify"]["median"] < 1
