"""Ctrl-C while something compiles: it stops soon, nothing is left half done, and the next call is right."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest
import vitrify
from vitrify import nn
from vitrify.runtime import cache, compiler, executable, jit
from vitrify.runtime.options import configure, options
from vitrify.tracer import recorder as recorders

#: What is interrupted: a function that is called at that moment of a compilation, by module and name.
MOMENTS: dict[str, tuple[Any, str]] = {
    "tracing": (recorders.Recorder, "record"),
    "passes": (compiler, "_stages"),
    "packing": (compiler, "pack_weights"),
    "machine code": (jit, "_parsed"),
    "linking": (jit, "_link"),
    "the cache": (cache, "_write_whole"),
    "a progress line": (compiler, "step"),
    "the first call": (executable.Executable, "call_spec"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A disk cache of its own, and nothing compiled."""
    before = options.cache_dir
    configure(cache_dir=tmp_path / "cache")
    yield tmp_path / "cache"
    configure(cache_dir=before)


def interrupting(patch: pytest.MonkeyPatch, moment: str, after: int = 0) -> list[int]:
    """Have the function of this moment raise as Ctrl-C does, once it was called `after` times. Gives the list
    of the calls."""
    owner, name = MOMENTS[moment]
    there, calls = getattr(owner, name), list[int]()
    ours = FunctionType(_ended.__code__, vars(recorders))  # Ctrl-C comes while code of ours runs

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(0)
        if len(calls) == after + 1:
            ours()
        return there(*args, **kwargs)

    patch.setattr(owner, name, interrupted)
    return calls


def _ended() -> None:
    raise KeyboardInterrupt


class Model:
    """A training step, and everything that it changes."""

    def __init__(self, size: int) -> None:
        vitrify.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(size, 20), nn.Tanh(), nn.Linear(20, 4))
        self.optimizer = vitrify.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9)
        self.x, self.y = vitrify.randn(8, size), vitrify.randn(8, 4)

    def step(self) -> Any:
        self.optimizer.zero_grad()
        loss = ((self.net(self.x) - self.y) ** 2).mean()
        loss.backward()
        self.optimizer.step()
        return loss

    def state(self) -> list[np.ndarray | None]:
        parameters = list(self.net.parameters())
        found = [p.detach().numpy().copy() for p in parameters]
        return [*found, *(None if p.grad is None else p.grad.numpy().copy() for p in parameters)]


def same(one: list[np.ndarray | None], other: list[np.ndarray | None]) -> bool:
    return all(
        a is b if a is None or b is None else np.array_equal(a, b) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize(
    ("moment", "after"), [*((moment, 0) for moment in MOMENTS), ("tracing", 9), ("a progress line", 9)]
)
def test_a_training_step_that_is_interrupted(
    moment: str, after: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 11 + len(MOMENTS) * after + list(MOMENTS).index(moment)  # else it would be found compiled
    model, twin = Model(size), Model(size)
    step = vitrify.compile(model.step, fullgraph=True)
    before = model.state()
    with monkeypatch.context() as patch:
        calls = interrupting(patch, moment, after)
        with pytest.raises(KeyboardInterrupt):
            step()
        assert len(calls) == after + 1
        assert same(model.state(), before)
    assert not folder.exists() or all(path.suffix == ".o" for path in folder.iterdir())
    for _ in range(3):
        assert step().item() == twin.step().item()
        assert same(model.state(), twin.state())


def test_effects_that_have_happened_are_followed_by_their_tensors(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not replayed has run its Python: the state goes with it, without any graph being compiled."""
    seen: list[Any] = []

    def function(x: Any) -> Any:
        total.add_(x)
        seen.append(x * 3)
        print("", end="")
        return vitrify.exp(total)

    total, x = vitrify.zeros(13), vitrify.arange(13.0)
    compiled: Callable[..., Any] = vitrify.compile(function)
    with monkeypatch.context() as patch:
        interrupting(patch, "passes")
        with pytest.raises(KeyboardInterrupt):
            compiled(x)
    assert total.tolist() == x.tolist() and seen[-1].tolist() == (x * 3).tolist()
    with pytest.warns(UserWarning, match="segments"):
        assert np.array_equal(compiled(x).numpy(), vitrify.exp(x * 2).numpy())
    assert total.tolist() == (x * 2).tolist()


def test_a_backward_that_is_interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def function(x: Any) -> Any:
        return (vitrify.sin(x) * x).sum()

    x, twin = vitrify.linspace(0, 1, 19), vitrify.linspace(0, 1, 19)
    x.requires_grad_()
    twin.requires_grad_()
    compiled = vitrify.compile(function)
    y = compiled(x)
    with monkeypatch.context() as patch:
        calls = interrupting(patch, "passes")
        try:
            y.backward()
        except KeyboardInterrupt:
            assert calls
    x.grad = None
    compiled(x).backward()
    function(twin).backward()
    assert np.array_equal(x.grad.numpy(), twin.grad.numpy())


SCRIPT = """
import os, signal, sys, threading, time
import vitrify
from vitrify import nn

vitrify.manual_seed(0)
layers = [m for i in range(16) for m in (nn.Linear(64 + i, 65 + i), nn.LayerNorm(65 + i), nn.GELU())]
net = nn.Sequential(*layers)
optimizer = vitrify.optim.AdamW(net.parameters(), lr=1e-3)
x = vitrify.randn(8, 64)

def step():
    optimizer.zero_grad()
    loss = (net(x) ** 2).mean()
    loss.backward()
    optimizer.step()
    return loss

compiled = vitrify.compile(step, fullgraph=True)
late = []
for delay in (0.03, 0.3, 0.8):
    sent = []

    def send():
        time.sleep(delay)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=send)
    try:
        thread.start()
        compiled()
        sys.exit(f"it took less than {delay} s to compile")
    except KeyboardInterrupt:
        late.append(time.perf_counter() - sent[0])
    thread.join()
start = time.perf_counter()
losses = [compiled().item()]
whole = time.perf_counter() - start
losses += [compiled().item() for _ in range(2)]
assert losses[0] > losses[1] > losses[2]
print(max(late) / whole)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs a POSIX system")
def test_a_real_signal_at_several_moments(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"VITRIFY_CACHE_DIR": str(tmp_path / "cache"), "VITRIFY_PROGRESS": "1"}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=environment, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout) < 0.5, "of the time that compiling takes, from the signal to the exception"
    assert "compiling step" in done.stderr
