"""Native dispatch against its Python twin: the same results, tapes and errors; no leaks; no recursion."""

from __future__ import annotations

import gc
import operator
import sys
import threading
from collections.abc import Callable
from itertools import repeat
from typing import Any

import numpy as np
import pytest
import vitrify
from vitrify import _dispatch
from vitrify._tensor import Tensor

pytestmark = pytest.mark.skipif(_dispatch.native is None, reason="there is no native dispatch")


def _python_only(function: Callable[[], Any]) -> Any:
    """What the Python twin gives: native dispatch misses every call."""
    _dispatch.native.pause(True)
    try:
        return function()
    finally:
        _dispatch.native.pause(False)


def _leaf(*shape: int, seed: int = 0) -> Tensor:
    x = np.random.default_rng(seed).uniform(0.5, 2, shape).astype(np.float32)
    return vitrify.tensor(x, requires_grad=True)


_BINARY = [operator.add, operator.sub, operator.mul, operator.truediv]
_OTHERS: dict[str, Callable[[Tensor], Any]] = {
    "matrix": lambda x: _leaf(3, 5, seed=1), "row": lambda x: _leaf(5, seed=2).detach(),
    "row with grad": lambda x: _leaf(5, seed=2), "column": lambda x: _leaf(3, 1, seed=3).detach(),
    "scalar tensor": lambda x: vitrify.tensor(3.0), "float": lambda x: 2.5, "int": lambda x: 3,
    "zero": lambda x: -0.0, "inf": lambda x: float("inf"), "nan": lambda x: float("nan"),
    "huge": lambda x: 1e300, "big int": lambda x: 2**70, "odd int": lambda x: 2**53 + 1,
    "bool": lambda x: True, "itself": lambda x: x, "transposed": lambda x: _leaf(5, 3, seed=4).t(),
    "double": lambda x: _leaf(3, 5).double(), "ints": lambda x: vitrify.arange(5),
}  # fmt: skip


def _with_gradients(op: Callable[..., Any], other: str, swapped: bool) -> list[Any]:
    x = _leaf(3, 5)
    y = _OTHERS[other](x)
    try:
        out = op(y, x) if swapped else op(x, y)
    except RuntimeError as error:  # - of a bool
        return [str(error)]
    out.sum().backward()
    names = [n.name() if n else None for n, _ in out.grad_fn.next_functions]
    grads = [v.grad for v in (x, y) if isinstance(v, Tensor) and v.requires_grad and v.is_leaf]
    return [out.dtype, out.grad_fn.name(), names, *(v.detach().numpy().tobytes() for v in (out, *grads))]


@pytest.mark.parametrize("other", _OTHERS)
@pytest.mark.parametrize("op", _BINARY)
def test_operators_are_what_the_twin_gives(op: Callable[..., Any], other: str) -> None:
    for swapped in (False, True):
        if swapped and other == "itself":
            continue
        want = _python_only(lambda swapped=swapped: _with_gradients(op, other, swapped))
        for _ in range(3):  # a miss that writes the row, one that adds the tape's program, a hit
            assert _with_gradients(op, other, swapped) == want


_MOVES: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.t(), lambda x: x[2], lambda x: x[-1], lambda x: x[1:3], lambda x: x[:], lambda x: x[1:1],
    lambda x: x[-2:], lambda x: x[::2], lambda x: x[5:2], lambda x: x[1][2], lambda x: x[1:3][1:],
    lambda x: x.reshape(2, -1), lambda x: x.reshape((2, 6)), lambda x: x.view(12), lambda x: x.unsqueeze(-1),
    lambda x: x.unsqueeze(dim=0), lambda x: x.transpose(0, 1), lambda x: x.permute(1, 0).reshape(12),
    lambda x: x.squeeze(), lambda x: x[2:3].squeeze(0), lambda x: x.t()[1:], lambda x: x.t().t()[1:].t(),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(_MOVES)))
@pytest.mark.parametrize("requires_grad", [False, True])
def test_views_are_what_the_twin_gives(number: int, requires_grad: bool) -> None:
    move = _MOVES[number]

    def run() -> list[Any]:
        x = _leaf(4, 3).requires_grad_(requires_grad)
        y = move(x)
        grad = None
        if requires_grad:
            (y * y).sum().backward()
            grad = x.grad.numpy().tobytes()
        alone = vitrify.zeros(4, 3)
        move(alone).fill_(1.0)
        base = y._base is not None and (y._base is x)
        return [y.shape, y.stride(), y.storage_offset(), base, y.tolist(), grad, alone.tolist()]

    want = _python_only(run)
    for _ in range(3):
        assert run() == want


def test_errors_are_those_of_the_twin() -> None:
    x = vitrify.ones(4, 3)
    x[0], x[1:2], x.view(12), x.transpose(0, 1)
    for bad in (
        lambda: x + "a", lambda: x + None, lambda: x[4], lambda: x[-5], lambda: x[2**70], lambda: x[1.5],
        lambda: x[slice("a", 2)], lambda: x.t().view(12), lambda: x.reshape(5, 5), lambda: x.unsqueeze(7),
        lambda: x.transpose((0, 1)), lambda: x + vitrify.ones(5), lambda: x.reshape(shape=3, size=4),
        lambda: x.exp(1), lambda: x.unsqueeze(),
    ):  # fmt: skip
        with pytest.raises(Exception) as native:
            bad()
        with pytest.raises(Exception) as python:
            _python_only(bad)
        assert type(native.value) is type(python.value)


def test_a_view_whose_base_was_written_to_follows_its_history() -> None:
    w = _leaf(3)
    base = vitrify.zeros(4, 3)
    row = base[1]
    base[1] = w * 2
    for _ in range(3):
        assert (row * 3).requires_grad and row[0:2].requires_grad
    (row * 3).sum().backward()
    assert w.grad.tolist() == [6.0, 6.0, 6.0]


def test_versions_are_captured() -> None:
    x, y = _leaf(3), vitrify.ones(3)
    for _ in range(3):
        product = x * y
        y.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            product.sum().backward()
        (x * y).sum().backward()


def test_grad_mode_is_of_the_thread() -> None:
    x = _leaf(3)
    x + x
    inside, seen = threading.Event(), threading.Event()
    found: list[bool] = []

    def other() -> None:
        with vitrify.no_grad():
            inside.set()
            seen.wait(10)
            found.append((x + x).requires_grad)
        found.append((x + x).requires_grad)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(10)
    assert (x + x).requires_grad
    seen.set()
    thread.join()
    assert found == [False, True]


def test_subclasses_and_parameters() -> None:
    class Mine(Tensor):
        pass

    x = vitrify.ones(3)
    mine = Mine(x._storage, x._type)
    p = vitrify.nn.Parameter(vitrify.ones(3))
    for _ in range(3):
        assert type(mine + x) is Tensor and (p * x).requires_grad and type(x + p) is Tensor
    (p * x).sum().backward()
    assert p.grad.tolist() == [1.0, 1.0, 1.0]


def test_no_reference_is_lost_or_kept() -> None:
    a, g, m = vitrify.ones(16), _leaf(16), vitrify.ones(16, 16)
    watched = (a, g, a._type, m._type, g._node, Tensor, type((g * g)._node), None)

    def work() -> None:
        a + a, g * a, a * 2.5, g * 3, g.exp(), m.t(), m[3], m[2:5], m.reshape(8, 32), m.t() + m, m + a

    for _ in range(3):
        work()
    gc.collect()
    before = [sys.getrefcount(x) for x in watched]
    for _ in repeat(None, 20_000):
        work()
    gc.collect()
    drift = [sys.getrefcount(x) - n for x, n in zip(watched, before, strict=True)]
    assert max(map(abs, drift)) < 50, drift


def test_a_tape_of_a_million_ops_is_freed_without_recursion() -> None:
    g, a = _leaf(2), vitrify.ones(2)
    z = g
    for _ in repeat(None, 1_000_000):
        z = z * a
    del z


def test_rows_are_bounded_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dispatch, "MOST_ENTRIES", 20)
    for n in range(1, 100):
        x = vitrify.ones(n)
        assert (x + x).sum().item() == 2 * n and (x * 2).sum().item() == 2 * n
    assert len(_dispatch.native) <= 3 * 20


def test_many_rows_are_all_found() -> None:
    xs = [vitrify.ones(n, 1) for n in range(1, 1500)]
    for _ in range(2):
        assert all((x + x).shape == x.shape for x in xs)


def test_threads_at_once() -> None:
    a, g, m = vitrify.ones(16), _leaf(16), vitrify.ones(1000, 300)
    wrong: list[Any] = []

    def work() -> None:
        for _ in range(300):
            if (a + a).tolist() != [2.0] * 16 or not (g * a).requires_grad or (m + m)[5, 5].item() != 2.0:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong


def test_lack_of_memory_leaves_nothing_half_done() -> None:
    testcapi = pytest.importorskip("_testcapi")
    a, g, m = vitrify.ones(16), _leaf(16), vitrify.ones(16, 16)
    ops = [
        lambda: a + a, lambda: g * a, lambda: g * 2.5, lambda: g.exp(), lambda: m.t(), lambda: m[3],
        lambda: m[2:5], lambda: m[2:5][1:], lambda: m.reshape(8, 32),
    ]  # fmt: skip
    for op in ops:
        op(), op()
        for start in range(12):
            result = None
            testcapi.set_nomemory(start, start + 1)
            try:
                result = op()
            except MemoryError:
                pass
            finally:
                testcapi.remove_mem_hooks()
            if result is not None:
                result.sum()
    gc.collect()
    assert (a + a).tolist() == [2.0] * 16 and (g * a).requires_grad
