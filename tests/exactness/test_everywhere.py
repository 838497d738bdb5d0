"""The same bits for all targets that this CPU can run, and for any number of threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import vitrify

from ..support import assert_same_bits
from .cases import Case
from .digest import digest, gradients, results
from .large import LARGE
from .steps import STEPS, after

ROOT = Path(__file__).parents[2]


@cache
def _elsewhere(target: str) -> dict[str, str]:
    """The digests of a process that compiles for this target."""
    environment = os.environ | {"VITRIFY_TARGET": target, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.exactness.digest"],
        capture_output=True, text=True, timeout=600, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_avx2_code_gives_the_same_bits() -> None:
    here, there = _elsewhere("native"), _elsewhere("x86-64-v3")
    assert len(here) > 500
    differing = [name for name, value in here.items() if there[name] != value]
    assert not differing


@pytest.fixture
def _threads():
    before = vitrify.get_num_threads()
    yield
    vitrify.set_num_threads(before)


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_any_number_of_threads_gives_the_same_bits(case: Case, _threads: None) -> None:
    seen = {}
    for threads in (1, 2, 3, 8):
        vitrify.set_num_threads(threads)
        seen[threads] = digest([*results(case, special=False), *gradients(case)])
    assert len(set(seen.values())) == 1, seen


@pytest.mark.parametrize("name", STEPS)
def test_training_with_any_number_of_threads(name: str, _threads: None) -> None:
    want = after(STEPS[name], 2, compiled=False)
    for threads in (1, 2, 3, 8):
        vitrify.set_num_threads(threads)
        for compiled in (False, True):
            for got, expected in zip(after(STEPS[name], 2, compiled=compiled), want, strict=True):
                assert_same_bits(got, expected, f"{name}, {threads} threads")


@pytest.mark.parametrize("name", STEPS)
def test_200_steps_end_with_identical_weights(name: str) -> None:
    eager, compiled = (after(STEPS[name], 200, compiled=c) for c in (False, True))
    for got, want in zip(compiled, eager, strict=True):
        assert_same_bits(got, want, name)
    losses = eager[0]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
