"""The backward by native code: the same gradients, hooks, errors and memory as the Python twin gives."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from itertools import repeat
from typing import Any

import numpy as np
import pytest
import vitrify
import vitrify.nn.functional as F
from vitrify import Tensor, _autograd, _dispatch

pytestmark = pytest.mark.skipif(_dispatch.native is None, reason="there is no native dispatch")

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": lambda x, y: x.sum(),
    "product": lambda x, y: (x * y).sum(),
    "twice": lambda x, y: (x * x + x).sum(),
    "diamond": lambda x, y: ((x * y).exp() + (x * y).log() + x).sum(),
    "number": lambda x, y: (x * 2.5 + 1).sum(),
    "divided": lambda x, y: (1.5 / x - x / 3).sum(),
    "powers": lambda x, y: (x**2 + x**-1.5).sum(),
    "matrix": lambda x, y: (x @ y @ x.t()).sum(),
    "views": lambda x, y: (x[1] * y[:, 2] + x.t()[0:1]).sum(),
    "expanded": lambda x, y: (x[0].expand(4, 4) * y).sum(),
    "parts": lambda x, y: sum((p * p).sum() for p in x.chunk(2)) + y.sum(),
    "joined": lambda x, y: vitrify.cat([x, y]).tanh().sum(),
    "chosen": lambda x, y: vitrify.where(x > y, x, y * 2).sum(),
    "softmax": lambda x, y: F.softmax(x @ y, -1)[0].sum(),
    "normed": lambda x, y: (F.layer_norm(x, (4,), y[0], y[1]) ** 2).sum(),
    "gathered": lambda x, y: x[vitrify.tensor([2, 0, 2])].prod(),
    "unused": lambda x, y: (x * 1.0).sum(),
    "mean": lambda x, y: x.mean(0).max() + y.amax(1).mean(),
    "long": lambda x, y: _chain(x, y).sum(),
    "written": lambda x, y: _written(x, y).sum(),
}


def _chain(x: Tensor, y: Tensor) -> Tensor:
    for _ in range(200):
        x = (x * 0.99 + y * 0.01).sin() + x
        x = x / 2
    return x


def _written(x: Tensor, y: Tensor) -> Tensor:
    made = vitrify.zeros(4, 4)
    made[1] = x[0] * y[1]
    made.add_(x)
    return made * y


def _leaves() -> tuple[Tensor, Tensor]:
    made = np.random.default_rng(0).uniform(0.5, 1.5, (2, 4, 4)).astype(np.float32)
    return vitrify.tensor(made[0], requires_grad=True), vitrify.tensor(made[1], requires_grad=True)


def _gradients(name: str, times: int = 2, **options: Any) -> list[Any]:
    x, y = _leaves()
    for _ in range(times):  # the second time, what there is is added to
        LOSSES[name](x, y).backward(**options)
    return [None if v.grad is None else (v.grad.numpy().tobytes(), v.grad.stride()) for v in (x, y)]


def _by_python(monkeypatch: pytest.MonkeyPatch, function: Callable[[], Any]) -> Any:
    with monkeypatch.context() as patched:
        patched.setattr(_autograd, "NativeQueue", _autograd.Queue)
        return function()


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_twin(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    want = _by_python(monkeypatch, lambda: _gradients(name))
    for _ in range(3):
        assert _gradients(name) == want
    assert _gradients(name, retain_graph=True) == want


def test_hooks_and_retained_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> list[Any]:
        seen: list[Any] = []
        x, y = _leaves()
        z = x * y
        z.retain_grad()
        z.register_hook(lambda g: seen.append(g.tolist()))
        x.register_hook(lambda g: g * 2)
        y.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.sum().item()))
        (z.exp() + z).sum().backward()
        return [seen, z.grad.tolist(), x.grad.tolist(), y.grad.tolist()]

    want = _by_python(monkeypatch, run)
    for _ in range(3):
        assert run() == want


def test_a_second_backward_needs_the_graph() -> None:
    for _ in range(3):
        x, y = _leaves()
        loss = (x * y).exp().sum()
        loss.backward(retain_graph=True)
        loss.backward()
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()
        assert x.grad is not None


def test_what_was_written_over_is_told() -> None:
    for _ in range(3):
        x, y = _leaves()
        z = x * 2.0
        loss = (z * y).sum()
        z.add_(1.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_an_error_in_a_hook_leaves_nothing_behind() -> None:
    def bad(_: Tensor) -> None:
        raise ValueError("no")

    for _ in range(3):
        x, y = _leaves()
        z = x * y
        z.register_hook(bad)
        reference = weakref.ref(z)
        with pytest.raises(ValueError, match="no"):
            (z * 2.0 + x).sum().backward()
        del z
        gc.collect()
        assert reference() is None
        assert y.grad is None


def test_a_gradient_is_nobody_elses() -> None:
    for _ in range(3):
        x, y = _leaves()
        given = vitrify.ones(4, 4)
        (x + y).backward(given)
        x.grad.add_(1.0)
        assert given.sum().item() == 16.0 == y.grad.sum().item()
        z = vitrify.ones(3, requires_grad=True)
        z.sum().backward()
        z.grad.zero_()
        w = vitrify.ones(3, requires_grad=True)
        w.sum().backward()
        assert w.grad.tolist() == [1.0] * 3
        v = vitrify.ones(2, 3, requires_grad=True)
        u = vitrify.ones(3, 2, requires_grad=True)
        (v.t() + u).sum().backward()
        v.grad.zero_()
        assert u.grad.sum().item() == 6.0


def test_leaves_that_are_gone() -> None:
    for _ in range(3):
        x, y = _leaves()
        loss = (x * y).sum()
        del y
        loss.backward()
        assert x.grad is not None


def test_many_edges_and_their_order() -> None:
    """More than a queue begins with; the sum at the shared leaf is in descending order of recording."""
    shared = vitrify.tensor([1.0], requires_grad=True)
    weights = [vitrify.tensor([float(3**i % 1000) / 7], requires_grad=True) for i in range(300)]
    for _ in range(3):
        shared.grad = None
        total = shared * 0.0
        for w in weights:
            w.grad = None
            total = total + shared * w
        total.sum().backward()
        want = np.float32(0)
        for w in weights[::-1]:
            want = np.float32(want + np.float32(w.item())) if w is not weights[-1] else np.float32(w.item())
        assert shared.grad.item() == want
        assert all(w.grad.item() == 1.0 for w in weights)


def test_no_reference_is_lost_or_kept() -> None:
    x, y = _leaves()
    watched = (x, y, x._node, x._type, Tensor, type((x * y)._node), None, True, False)

    def work() -> None:
        x.grad = y.grad = None
        (x * y * 2.5 + x[1].exp()).sum().backward()
        (x @ y).mean().backward()

    for _ in range(4):
        work()
    gc.collect()
    before = [sys.getrefcount(v) for v in watched]
    for _ in repeat(None, 3000):
        work()
    gc.collect()
    drift = [sys.getrefcount(v) - n for v, n in zip(watched, before, strict=True)]
    assert max(map(abs, drift)) < 50, drift


def test_a_long_tape_is_walked_without_recursion() -> None:
    x = vitrify.ones(2, requires_grad=True)
    z = x
    for _ in repeat(None, 100_000):
        z = z * 1.0
    z.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_threads_share_leaves() -> None:
    x, y = _leaves()
    wrong: list[Any] = []

    def work() -> None:
        for _ in range(100):
            z = vitrify.ones(4, 4, requires_grad=True)
            (x * y * z).sum().backward()
            if z.grad.tolist() != (x * y).tolist():
                wrong.append(z.grad)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong and x.grad is not None


def test_lack_of_memory_leaves_nothing_half_done() -> None:
    testcapi = pytest.importorskip("_testcapi")
    x, y = _leaves()
    for _ in range(3):
        (x * y).exp().sum().backward()
    for start in range(60):
        x.grad = y.grad = None
        loss = (x * y).exp().sum()
        testcapi.set_nomemory(start, start + 1)
        try:
            loss.backward()
        except MemoryError:
            pass
        finally:
            testcapi.remove_mem_hooks()
            vitrify.set_grad_enabled(True)
    x.grad = y.grad = None
    (x * y).sum().backward()
    assert x.grad.tolist() == y.tolist()
