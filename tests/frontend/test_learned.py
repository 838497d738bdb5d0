"""Learned calls: the same as the Python they stand for, at every call, and never where they may not be."""

from __future__ import annotations

import inspect
import itertools
import sys
import threading

import numpy as np
import pytest
import vitrify
import vitrify.nn.functional as F
from vitrify import _dispatch, _learned, _native_methods

pytestmark = pytest.mark.skipif(_dispatch.native is None, reason="there is no native dispatch")

CASES = {
    "T": lambda x, y: x.T,
    "mT": lambda x, y: x.mT,
    "relu": lambda x, y: x.relu(),
    "function": lambda x, y: vitrify.relu(x),
    "activation": lambda x, y: F.relu(x),
    "matmul": lambda x, y: x @ y,
    "sum": lambda x, y: x.sum(),
    "axis": lambda x, y: x.sum(1),
    "axes": lambda x, y: x.sum((0, 1)),
    "named": lambda x, y: x.mean(dim=-1, keepdim=True),
    "gap": lambda x, y: x.sum(keepdim=True, dim=0),
    "clamp": lambda x, y: x.clamp(max=1),
    "where": lambda x, y: vitrify.where(x > y, x, y),
    "expand": lambda x, y: x.expand(2, 4, 4),
    "flatten": lambda x, y: x.flatten(),
    "pair": lambda x, y: x[1, 2],
    "column": lambda x, y: x[:, 1],
    "corner": lambda x, y: x[1:, :2],
    "newaxis": lambda x, y: x[..., None],
    "step": lambda x, y: x[::2],
    "bias": lambda x, y: x + y[0],
    "broadcast": lambda x, y: x[:, :1] * y,
    "cast": lambda x, y: x.double(),
    "itself": lambda x, y: x.float(),
    "loss": lambda x, y: F.mse_loss(x, y),
    "square": lambda x, y: x**2,
    "linear": lambda x, y: F.linear(x, y, y[0]),
    "twice": lambda x, y: vitrify.maximum(x, x),
    "gathered": lambda x, y: x[vitrify.tensor([2, 0, 2])],
}


def _leaves() -> list[vitrify.Tensor]:
    made = np.random.default_rng(0).standard_normal((2, 4, 4)).astype(np.float32)
    return [vitrify.tensor(part).requires_grad_() for part in made]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("grad", [False, True])
def test_every_call_gives_what_the_first_gave(name, grad):
    function = CASES[name]
    seen, bases = [], []
    for _ in range(5):
        x, y = _leaves()
        with vitrify.set_grad_enabled(grad):
            result = function(x, y)
        assert result.requires_grad is (grad or result is x)
        if grad:
            (result.double() * 3).sum().backward()
        seen.append([None if v is None else v.detach().numpy() for v in (result, x.grad, y.grad)])
        bases.append((result is x, result._base is x))
    assert len(set(bases)) == 1
    for later in seen[1:]:
        for a, b in zip(seen[0], later, strict=True):
            assert (a is None and b is None) or a.tobytes() == b.tobytes() and a.shape == b.shape


def test_a_view_follows_its_base():
    x = vitrify.zeros(2, 3)
    for i in range(4):
        x.T[0] = float(i)
        x[:, 1] += 1
    assert x.tolist() == [[3.0, 4.0, 0.0]] * 2


def test_errors_come_after_learning():
    x = vitrify.ones(3, 3)
    for i in [0, 1, 2, 0]:
        assert x[vitrify.tensor([i])].shape == (1, 3)
    with pytest.raises(IndexError):
        x[vitrify.tensor([3])]
    for _ in range(4):
        x.sum(1)
    with pytest.raises(IndexError):
        x.sum(2)
    with pytest.raises(TypeError):
        x.sum(1, dimension=2)
    with pytest.raises(RuntimeError):
        x @ vitrify.ones(2, 3)


def test_plain_arguments_are_told_apart():
    x = vitrify.arange(6.0).reshape(2, 3)
    for _ in range(4):
        assert x.sum(0).shape == (3,) and x.sum(1).shape == (2,)
        assert x.sum(0, True).shape == (1, 3) and x.sum(0, False).shape == (3,)
        assert x.sum((0, 1)).shape == () and x.sum(None, True).shape == (1, 1)
        assert x[0, 1].item() == 1 and x[0, 2].item() == 2 and x[None, 1].shape == (1, 3)
        assert x[:, 1:].shape == (2, 2) and x[:, :1].shape == (2, 1)


def test_the_default_dtype_is_part_of_what_was_learned():
    whole = vitrify.arange(4)
    for _ in range(4):
        assert vitrify.reciprocal(whole + 1).dtype is vitrify.float32
    vitrify.set_default_dtype(vitrify.float64)
    try:
        assert vitrify.reciprocal(whole + 1).dtype is vitrify.float64
    finally:
        vitrify.set_default_dtype(vitrify.float32)
    assert vitrify.reciprocal(whole + 1).dtype is vitrify.float32


def test_writing_is_never_learned():
    for _ in range(4):
        x = vitrify.tensor([-1.0, 1.0])
        assert F.relu(x, inplace=True) is x and x.tolist() == [0.0, 1.0]


def test_a_shared_gradient_is_no_constant():
    x = vitrify.ones(2, 3, requires_grad=True)
    for k in range(1, 5):
        (g,) = vitrify.autograd.grad((x * float(k)).sum(), x)
        assert g.T.tolist() == [[float(k)] * 2] * 3
        (g,) = vitrify.autograd.grad(x.sum(), x)
        assert g.T.tolist() == [[1.0] * 2] * 3


def test_functions_look_as_before():
    assert vitrify.sum.__name__ == "sum" and vitrify.sum.__doc__.startswith("The sum over")
    assert list(inspect.signature(vitrify.sum).parameters) == ["input", "dim", "keepdim", "dtype"]
    assert vitrify.Tensor.T.__doc__ == "The dimensions in reverse order."


def test_memory_is_given_back():
    import gc
    import sys

    x = vitrify.ones(4, 4)
    for _ in range(4):
        x.relu(), x.T, x.float()
    gc.collect()
    before = sys.getrefcount(x)
    for _ in range(100):
        x.relu(), x.T, x.float()
    assert sys.getrefcount(x) == before


def test_too_many_kinds_are_not_learned(monkeypatch):
    monkeypatch.setattr(_learned, "MOST_LEARNED", 0)
    x = vitrify.ones(5, 5)
    for _ in range(4):
        assert x.mean(1, True).shape == (5, 1)


@pytest.mark.parametrize(
    "name", "float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8 bool complex64".split()
)
def test_the_only_element_as_a_number(name):
    dtype = getattr(vitrify, name)
    for value in (0, 1, 3, 250):
        x = vitrify.tensor([[0, value]]).to(dtype)[:, 1:]
        assert x.item() == x.tolist()[0][0] and type(x.item()) is type(x.tolist()[0][0])
        assert bool(x) is bool(x.tolist()[0][0])
    assert np.isnan(vitrify.tensor(np.nan).item())


WHOLE = {
    "softmax": lambda x, y: F.softmax(x, dim=-1),
    "method": lambda x, y: x.log_softmax(0),
    "norm": lambda x, y: F.layer_norm(x, (4,), y[0], y[1], eps=1e-3),
    "loss": lambda x, y: F.cross_entropy(x, vitrify.tensor([1, 3, 0, 2])),
    "mean": lambda x, y: F.mse_loss(x, y, reduction="sum"),
    "variance": lambda x, y: x.var(dim=1, correction=0),
}


@pytest.mark.parametrize("name", WHOLE)
def test_functions_that_are_compiled_as_a_whole(name):
    function, seen = WHOLE[name], []
    for i in range(24):  # as ops, compiled, learned; then with and without a tape by turns
        x, y = _leaves()
        with vitrify.set_grad_enabled(i > 16 and i % 2 == 1):
            result = function(x, y)
        if result.requires_grad:
            result.sum().backward()
            assert x.grad is not None
        seen.append(result.detach().numpy().tobytes())
        result.detach().add_(1.0)  # it is the caller's
    assert len(set(seen)) == 1


def test_a_whole_function_that_fails():
    x = vitrify.randn(4, 4)
    for _ in range(14):
        F.cross_entropy(x, vitrify.tensor([1, 3, 0, 2]))
    for _ in range(3):
        with pytest.raises(IndexError, match="out of bounds"):
            F.cross_entropy(x, vitrify.tensor([1, 3, 0, 4]))


def test_lookups_are_checked():
    table = vitrify.arange(12.0).reshape(6, 2)
    for _ in range(4):
        assert F.embedding(vitrify.tensor([5, 0]), table).tolist() == [[10.0, 11.0], [0.0, 1.0]]
    for bad in ([6, 0], [-1, 0]):
        with pytest.raises(IndexError):
            F.embedding(vitrify.tensor(bad), table)


def test_random_numbers_are_drawn_anew():
    draws = []
    for _ in range(2):
        vitrify.manual_seed(7)
        draws.append([x for _ in range(6) for x in (vitrify.rand(3).tolist(), vitrify.randn(2).tolist())])
    assert draws[0] == draws[1] and len({str(x) for x in draws[0]}) == 12
    assert vitrify.rand(2, 2)._base is None


@pytest.mark.parametrize("function", [lambda x, w: F.softmax(x, -1), lambda x, w: F.layer_norm(x, (4,), w)])
@pytest.mark.parametrize("requires", [(True, True), (True, False)])
def test_one_node_per_call_with_a_tape(function, requires):
    seen = []
    for _ in range(14):
        x, w = (leaf.requires_grad_(r) for leaf, r in zip(_leaves(), requires, strict=True))
        given = x * 1
        result = function(given, w[0])
        (result * result).sum().backward(retain_graph=True)
        seen.append((result.grad_fn.name(), x.grad.numpy().tobytes()))
        with vitrify.no_grad():
            given.add_(1)
        if seen[-1][0] == "SoftmaxBackward0":  # reads its result alone
            result.sum().backward(retain_graph=True)
            with vitrify.no_grad():
                result.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace"):
            result.sum().backward()
    assert len(set(seen)) == 1


@pytest.mark.parametrize(
    "function", [vitrify.addcmul, lambda x, y, z: vitrify.stack([x, y, z]), lambda x, y, z: x.sub(y) @ z]
)
def test_which_tensors_are_the_same_is_part_of_what_was_learned(function, monkeypatch):
    x, y, z = vitrify.arange(48.0).reshape(3, 4, 4).unbind(0)
    alike = [(x, y, z), (x, y, y), (x, x, y), (y, x, y), (z, z, z)]
    first = [function(*given).tolist() for given in alike]
    for _ in range(12):
        assert [function(*given).tolist() for given in alike] == first

    def never(*_: object) -> None:
        raise AssertionError("Python was asked")

    monkeypatch.setattr(_learned, "key_of", never)
    monkeypatch.setattr(_native_methods, "key_of", never)
    assert [function(*given).tolist() for given in alike] == first


def test_ways_that_are_too_many_are_left_to_ops(recwarn):
    forms = [lambda x: x, lambda x: x[:], lambda x: x * 1, lambda x: x.detach()]
    first = {}
    for _ in range(12):
        for which in itertools.product(range(4), repeat=2):
            x, y = (forms[i](leaf) for i, leaf in zip(which, _leaves(), strict=True))
            got = F.mse_loss(x, y).item()
            assert first.setdefault(which, got) == got
    assert not recwarn.list


MAKERS = {
    "full": lambda x: vitrify.full((2,), 2.5, requires_grad=True),
    "eye": lambda x: vitrify.eye(2, requires_grad=True),
    "arange": lambda x: vitrify.arange(3.0, requires_grad=True),
    "linspace": lambda x: vitrify.linspace(0, 1, 3, requires_grad=True),
    "zeros_like": lambda x: vitrify.zeros_like(x, requires_grad=True),
    "ones_like": lambda x: vitrify.ones_like(x, requires_grad=True),
    "full_like": lambda x: vitrify.full_like(x, 2.0, requires_grad=True),
}


@pytest.mark.parametrize("name", MAKERS)
def test_new_leaves_require_grad_at_every_call(name: str) -> None:
    made = [MAKERS[name](vitrify.ones(2)) for _ in range(12)]
    for x in made:
        assert x.requires_grad and x.is_leaf
        (x * 2).sum().backward()
        assert x.grad is not None and x.grad.flatten().tolist() == [2.0] * x.numel()


def test_calls_with_numbers_are_learned_again_once_all_is_forgotten(monkeypatch) -> None:
    def calls() -> list[list[float]]:
        x = vitrify.tensor([-1.0, 0.5, 2.0])
        return [x.clamp(0, 1).tolist(), vitrify.where(x > 0, x, 0.0).tolist()]

    first = calls()
    _dispatch.forget()
    assert [calls() for _ in range(4)] == [first] * 4

    def never(*_: object) -> None:
        raise AssertionError("Python was asked")

    monkeypatch.setattr(_learned, "key_of", never)
    assert calls() == first


def test_threads_learn_at_the_same_time() -> None:
    """Rows, and the names of floats, were added by several threads at once."""
    wrong: list[object] = []

    def learns(seed: int) -> None:
        try:
            for i in range(150):
                limit = (i * 4 + seed) / 1024
                x = vitrify.full((1 + i % 20, 1 + seed), 2.0)
                for _ in range(3):
                    if x.clamp(0.0, limit).flatten()[0].item() != limit:
                        wrong.append(limit)
                if i % 50 == 25:
                    _dispatch.forget()
        except Exception as error:
            wrong.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=learns, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong
