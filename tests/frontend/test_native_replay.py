"""The native form of replays: that it serves the common calls, and means what the Python form means."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import pytest
import vitrify
from vitrify import _dispatch
from vitrify._tensor import Tensor

pytestmark = pytest.mark.skipif(_dispatch.native is None, reason="there is no native dispatch")


@pytest.fixture
def python_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], list[int]]]:
    """Counts the calls of a compiled function that its Python form answers."""

    def watch(compiled: Any) -> list[int]:
        count = [0]
        inner = compiled.program.fast

        def fast(args: Any, kwargs: Any) -> Any:
            count[0] += 1
            return inner(args, kwargs)

        compiled.program.fast = fast
        return count

    return watch


def test_plain_calls_do_without_python(python_calls: Any) -> None:
    scale = vitrify.full((3,), 2.0)
    f = vitrify.compile(lambda x, y: (x * scale + y, {"y": [y * 2, None, 3]}))
    x, y = vitrify.ones(3), vitrify.arange(3.0)
    f(x, y)
    count = python_calls(f)
    for _ in range(3):
        first, rest = f(x, y)
        assert first.tolist() == [2.0, 3.0, 4.0] and rest["y"][0].tolist() == [0.0, 2.0, 4.0]
        assert rest["y"][1:] == [None, 3]
    assert not count[0]


def test_views_as_arguments_do_without_python(python_calls: Any) -> None:
    f = vitrify.compile(lambda x: x + 1)
    data = vitrify.arange(12.0).reshape(4, 3)
    f(data[0])
    count = python_calls(f)
    assert [f(data[i]).tolist()[0] for i in range(4)] == [1.0, 4.0, 7.0, 10.0] and not count[0]


def _training(optimizer: str) -> tuple[Any, Any, Any]:
    vitrify.manual_seed(0)
    model = vitrify.nn.Sequential(vitrify.nn.Linear(3, 4), vitrify.nn.ReLU(), vitrify.nn.Linear(4, 1))
    opt = getattr(vitrify.optim, optimizer)(model.parameters(), lr=0.1)

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = ((model(x) - y) ** 2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    return step, model, opt


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_training_steps_do_without_python(optimizer: str, python_calls: Any) -> None:
    step, model, opt = _training(optimizer)
    plain, other, plain_opt = _training(optimizer)
    compiled = vitrify.compile(step)
    x, y = vitrify.randn(5, 3), vitrify.randn(5, 1)
    losses = [(compiled(x, y).item(), plain(x, y).item())]
    count = python_calls(compiled)
    for lr in (0.1, 0.1, 0.05, 0.01):  # a hyper-parameter is read anew by each call
        opt.param_groups[0]["lr"] = plain_opt.param_groups[0]["lr"] = lr
        losses.append((compiled(x, y).item(), plain(x, y).item()))
    assert all(a == b for a, b in losses) and not count[0]
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert p.tolist() == q.tolist() and p.grad.tolist() == q.grad.tolist()


def test_what_changed_is_seen(python_calls: Any) -> None:
    step, model, opt = _training("SGD")
    compiled = vitrify.compile(step)
    x, y = vitrify.randn(5, 3), vitrify.randn(5, 1)
    compiled(x, y)
    before = model[0].weight.tolist()
    model[0].weight.requires_grad_(False)
    compiled(x, y)
    assert model[0].weight.tolist() == before
    model[0].weight.requires_grad_(True)
    opt.param_groups[0]["weight_decay"] = 0.5
    plain, other, plain_opt = _training("SGD")
    other.load_state_dict(model.state_dict())
    plain_opt.param_groups[0]["weight_decay"] = 0.5
    assert compiled(x, y).item() == plain(x, y).item()
    assert model[0].weight.tolist() == other[0].weight.tolist()


def test_grad_mode_is_guarded() -> None:
    w = vitrify.ones(3, requires_grad=True)
    f = vitrify.compile(lambda x: x * w)
    x = vitrify.ones(3)
    for _ in range(2):
        assert f(x).requires_grad
        with vitrify.no_grad():
            assert not f(x).requires_grad
    f(x).sum().backward()
    assert w.grad.tolist() == [1.0] * 3


def test_many_kinds_of_calls_find_their_replay(python_calls: Any) -> None:
    f = vitrify.compile(lambda x, y=None: x + 1 if y is None else x + y)
    xs = [vitrify.ones(n) for n in range(1, 5)]
    for x in xs:
        f(x)
    f(xs[0], xs[0])
    count = python_calls(f)
    assert [f(x).tolist() for x in xs] == [[2.0] * n for n in range(1, 5)]
    assert f(xs[0], xs[0]).tolist() == [2.0] and not count[0]
    assert f(xs[0], y=xs[0]).tolist() == [2.0] and f(x=xs[1]).tolist() == [2.0, 2.0]


def test_a_failed_check_raises_what_eager_raises() -> None:
    table = vitrify.arange(4.0)
    f = vitrify.compile(lambda i: table[i])
    good, bad = vitrify.tensor([1, 2]), vitrify.tensor([1, 9])
    f(good)
    for _ in range(2):
        assert f(good).tolist() == [1.0, 2.0]
        with pytest.raises(IndexError):
            f(bad)


def test_wrong_calls_are_errors() -> None:
    f = vitrify.compile(lambda x: x + 1)
    f(vitrify.ones(2))
    for bad in (lambda: f(), lambda: f(1, 2), lambda: f(z=1), lambda: f("a")):
        with pytest.raises(TypeError):
            bad()


def test_a_compiled_function_and_its_constants_can_be_collected() -> None:
    def made() -> tuple[Any, weakref.ref[Tensor]]:
        w = vitrify.ones(3)
        return vitrify.compile(lambda x: x * w), weakref.ref(w)

    f, gone = made()
    f(vitrify.ones(3)), f(vitrify.ones(3))
    del f
    gc.collect()
    assert gone() is None


def test_results_of_freed_tapes_raise() -> None:
    step, _, _ = _training("SGD")
    compiled = vitrify.compile(step)
    x, y = vitrify.randn(5, 3), vitrify.randn(5, 1)
    for _ in range(3):
        loss = compiled(x, y)
        assert loss.requires_grad
        loss.register_hook(lambda g: g).remove()
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()


def test_no_reference_is_lost_or_kept() -> None:
    step, model, _ = _training("Adam")
    compiled = vitrify.compile(step)
    f = vitrify.compile(lambda x: (x + 1, [x]))
    x, y = vitrify.randn(5, 3), vitrify.randn(5, 1)
    for _ in range(3):
        compiled(x, y), f(x)
    watched = (x, y, x._type, model, model[0].weight, model[0].weight._node, compiled, f, None, Tensor)
    gc.collect()
    before = [sys.getrefcount(v) for v in watched]
    for _ in repeat(None, 5_000):
        compiled(x, y), f(x)
    gc.collect()
    drift = [sys.getrefcount(v) - n for v, n in zip(watched, before, strict=True)]
    assert max(map(abs, drift)) < 30, drift


def test_lack_of_memory_leaves_nothing_half_done() -> None:
    testcapi = pytest.importorskip("_testcapi")
    f = vitrify.compile(lambda x, y: (x + y, x * y))
    x = vitrify.ones(7)
    f(x, x), f(x, x.clone())
    y = x.clone()
    for start in range(16):
        testcapi.set_nomemory(start, start + 1)
        try:
            f(x, y)
        except MemoryError:
            pass
        finally:
            testcapi.remove_mem_hooks()
    gc.collect()
    assert f(x, y)[0].tolist() == [2.0] * 7


def _composite_with_tape() -> tuple[Callable[[], Tensor], tuple[Tensor, ...]]:
    x, wide = vitrify.randn(3, 4).requires_grad_(), vitrify.randn(2, 4).requires_grad_()
    weight = wide[1]  # a view, of which the node keeps an alias
    call = lambda: vitrify.nn.functional.layer_norm(x, (4,), weight)  # noqa: E731
    for _ in range(16):
        call().sum().backward(retain_graph=True)
    return call, (x, wide, weight)


def test_nodes_of_composites_keep_no_more_than_they_need() -> None:
    call, leaves = _composite_with_tape()
    result = call()
    region, prototype = result._node.source.region, result._node.source
    watched = (*leaves, *[x._node for x in leaves], leaves[0]._type, region, prototype, None, Tensor)
    gc.collect()
    before = [sys.getrefcount(v) for v in watched]
    for _ in repeat(None, 5_000):
        call()
    gc.collect()
    drift = [sys.getrefcount(v) - n for v, n in zip(watched, before, strict=True)]
    assert max(map(abs, drift)) < 30, drift


def test_lack_of_memory_leaves_no_half_made_node() -> None:
    testcapi = pytest.importorskip("_testcapi")
    call, leaves = _composite_with_tape()
    want = vitrify.autograd.grad(call().exp().sum(), leaves[:2], retain_graph=True)
    for start in range(40):
        testcapi.set_nomemory(start, start + 1)
        try:
            call()
        except MemoryError:
            pass
        finally:
            testcapi.remove_mem_hooks()
    gc.collect()
    got = vitrify.autograd.grad(call().exp().sum(), leaves[:2], retain_graph=True)
    assert [g.tolist() for g in got] == [g.tolist() for g in want]


def test_plans_that_are_called_by_way_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    from vitrify.runtime.compiler import CompiledGraph

    bind = CompiledGraph.bind
    monkeypatch.setattr(CompiledGraph, "bind", lambda *args: lambda *storages: bind(*args)(*storages))
    step, model, _ = _training("SGD")
    other_step, other, _ = _training("SGD")
    table = vitrify.arange(4.0)
    f, g = vitrify.compile(step), vitrify.compile(lambda i: table[i])
    x, y = vitrify.randn(5, 3), vitrify.randn(5, 1)
    assert [f(x, y).item() for _ in range(3)] == [other_step(x, y).item() for _ in range(3)]
    assert model[0].weight.tolist() == other[0].weight.tolist()
    for _ in range(2):
        assert g(vitrify.tensor([1, 2])).tolist() == [1.0, 2.0]
        with pytest.raises(IndexError):
            g(vitrify.tensor([1, 9]))
