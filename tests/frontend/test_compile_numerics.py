"""compile(numerics="fast"): whose rule counts where, what is kept apart, and that results stay the same."""

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
import vitrify as torch


def _chain(x):
    return torch.tanh(x * 0.5) + x


def test_the_mode_is_that_of_the_outermost_compiled_function() -> None:
    x = torch.randn(4, 5)
    inner = torch.compile(_chain, numerics="fast")
    outer = torch.compile(lambda x: inner(x) * 2)
    assert torch.equal(outer(x), _chain(x) * 2)
    assert outer.ir().startswith("graph") and inner.captures == 0
    exact = torch.compile(_chain)
    around = torch.compile(lambda x: exact(x) * 2, numerics="fast")
    around(x)
    assert around.ir().startswith("fast graph") and exact.captures == 0


def test_modes_are_kept_apart() -> None:
    x = torch.randn(64)
    fast, exact = torch.compile(_chain, numerics="fast"), torch.compile(_chain)
    fast(x)
    assert torch.equal(exact(x), _chain(x))
    assert fast.program.graphs()[0] is not exact.program.graphs()[0]


def test_a_backward_called_outside_has_the_mode_of_its_forward() -> None:
    w = torch.randn(5, 5, requires_grad=True)
    fast = torch.compile(lambda x: torch.tanh(x @ w).sum(), numerics="fast")
    fast(torch.randn(3, 5)).backward()
    forward, backward = fast.program.graphs()
    assert forward.captured.numerics == backward.captured.numerics == "fast"


def test_segments_have_the_mode_too() -> None:
    def function(x):
        y = x * 2
        if y.sum().item() > 0:
            return y + 1
        return y - 1

    fast = torch.compile(function, numerics="fast")
    with pytest.warns(torch.CaptureWarning):
        assert fast(torch.ones(3)).tolist() == [3, 3, 3]
    assert all(graph.captured.numerics == "fast" for graph in fast.program.graphs())


def test_modules_copies_and_compiling_again() -> None:
    model = torch.compile(torch.nn.Linear(3, 3), numerics="fast")
    model(torch.ones(2, 3))
    assert model._compiled_call_impl.ir().startswith("fast graph")
    fast = torch.compile(_chain, numerics="fast")
    assert torch.compile(fast, numerics="fast") is fast
    assert torch.compile(fast).program.numerics == "exact"
    assert copy.deepcopy(fast).program.numerics == "fast"


def test_explain_says_the_mode() -> None:
    x = torch.ones(3)
    assert torch.explain(torch.compile(_chain, numerics="fast"), x).numerics == "fast"
    assert "numerics: exact" in str(torch.explain(_chain, x))


def test_the_same_bits_at_every_call() -> None:
    x = torch.randn(33, 17)
    fast = torch.compile(lambda x: torch.softmax(_chain(x), -1).sum(0), numerics="fast")
    first = fast(x).numpy().copy()
    again = torch.compile(lambda x: torch.softmax(_chain(x), -1).sum(0), numerics="fast")
    assert all(np.array_equal(first, fast(x).numpy()) for _ in range(5))
    assert np.array_equal(first, again(x).numpy())


PROCESS = """
import sys
import numpy as np
import vitrify as torch

torch.manual_seed(0)
x, w = torch.randn(4, 32, 16, 16), torch.randn(32, 32, 3, 3)

def function(x, w):
    return torch.nn.functional.conv2d(x, w, padding=1) / 3.0

eager = function(x, w).numpy()
results = {m: torch.compile(function, numerics=m)(x, w).numpy() for m in sys.argv[2].split(",")}
assert np.array_equal(results["exact"], eager) and not np.array_equal(results["fast"], eager)
np.save(sys.argv[1], results["fast"])
"""


def test_processes_that_share_a_disk_cache(tmp_path) -> None:
    """Each mode finds its own code there, whichever comes first; fast bits are the same in each process."""
    environment = {**os.environ, "VITRIFY_CACHE_DIR": str(tmp_path / "cache")}
    program = tmp_path / "program.py"
    program.write_text(PROCESS)
    for number, order in enumerate(("exact,fast", "fast,exact")):
        arguments = [sys.executable, str(program), str(tmp_path / f"{number}.npy"), order]
        subprocess.run(arguments, env=environment, check=True, timeout=120)
    assert np.array_equal(*(np.load(tmp_path / f"{number}.npy") for number in range(2)))
