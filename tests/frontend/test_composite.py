"""Composites: compiled or as their ops, the same bits forward and backward, to any order."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import vitrify
import vitrify.nn.functional as F
from vitrify import _composite
from vitrify._tensor import Tensor


def _draw(*shape: int, seed: int = 0, grad: bool = True) -> Tensor:
    return vitrify.tensor(
        np.random.default_rng(seed).normal(size=shape).astype(np.float32), requires_grad=grad
    )


_TARGET = vitrify.tensor([1, 0, 3, 2, 2, 4])
_W, _B = _draw(5, seed=1), _draw(5, seed=2)
_Q, _K, _V = (_draw(2, 4, 3, seed=s) for s in (3, 4, 5))

_CASES: dict[str, tuple[Callable[..., Any], list[Tensor]]] = {
    "softmax": (lambda x: vitrify.softmax(x, -1), [_draw(6, 5)]),
    "softmax over columns": (lambda x: F.softmax(x.t(), dim=0), [_draw(6, 5)]),
    "log_softmax": (lambda x: F.log_softmax(x, 1), [_draw(6, 5)]),
    "cross_entropy": (lambda x: F.cross_entropy(x, _TARGET), [_draw(6, 5)]),
    "cross_entropy weighted": (
        lambda x, w: F.cross_entropy(x, _TARGET, w, label_smoothing=0.1, reduction="sum"),
        [_draw(6, 5), _draw(5, seed=8, grad=False).abs()],
    ),
    "nll_loss": (lambda x: F.nll_loss(x, _TARGET, ignore_index=2), [_draw(6, 5)]),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (5,), w, b), [_draw(6, 5), _W, _B]),
    "layer_norm of a list": (lambda x: F.layer_norm(x, [6, 5]), [_draw(2, 6, 5)]),
    "rms_norm": (lambda x, w: F.rms_norm(x, (5,), w), [_draw(6, 5), _W]),
    "group_norm": (lambda x: F.group_norm(x, 2), [_draw(3, 4, 5)]),
    "batch_norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, True), [_draw(6, 5), _W, _B]),
    "logsumexp": (lambda x: vitrify.logsumexp(x, 1), [_draw(6, 5)]),
    "std": (lambda x: x.std(0) + x.var(), [_draw(6, 5)]),
    "norm": (lambda x: x.norm() + x.norm(3, dim=0), [_draw(6, 5)]),
    "normalize": (lambda x: F.normalize(x), [_draw(6, 5)]),
    "logits": (
        lambda x, y: F.binary_cross_entropy_with_logits(x, y),
        [_draw(6, 5), _draw(6, 5, seed=7, grad=False).sigmoid()],
    ),
    "residual": (lambda x, w: x + F.softmax(x * w, -1) * F.layer_norm(x, (5,), w), [_draw(6, 5), _W]),
    "same twice": (lambda x: F.normalize(x) + F.normalize(x), [_draw(6, 5)]),
}  # fmt: skip


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def calls_before(number: int) -> None:
        monkeypatch.setattr(_composite, "calls_before", number)

    return calls_before


def _bits(x: Tensor | None) -> bytes | None:
    return None if x is None else x.detach().numpy().tobytes()


def _run(case: str, order: int) -> list[bytes | None]:
    function, given = _CASES[case]
    inputs = [x.detach().clone().requires_grad_(x.requires_grad) for x in given]
    wanted = [x for x in inputs if x.requires_grad]
    if case == "logits" or case.endswith("weighted"):
        wanted = inputs[:1]
    result = function(*inputs)
    found = [_bits(result)]
    for n in range(order):
        last = n + 1 == order
        scale = _draw(*result.shape, seed=9, grad=False) if result.ndim else 1.0
        grads = vitrify.autograd.grad(
            (result * scale).sum(), wanted, create_graph=not last, allow_unused=True
        )
        found += map(_bits, grads)
        result = sum((g * g).sum() for g in grads if g is not None)
    return found


@pytest.mark.parametrize("case", _CASES)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_same_bits_as_the_ops(case: str, order: int, switch: Callable[[int], None]) -> None:
    if case == "nll_loss" and order == 2:
        pytest.skip("it is linear")
    switch(1 << 30)
    want = _run(case, order)
    switch(0)
    for _ in range(2):
        assert _run(case, order) == want


def test_one_node_of_the_tape(switch: Callable[[int], None]) -> None:
    switch(0)
    x = _draw(4, 7)
    y = F.softmax(x, -1)
    assert y.grad_fn.name() == "SoftmaxBackward0" and y.grad_fn.next_functions[0][0] is x._node


def test_a_kind_is_compiled_once_it_has_come_often(switch: Callable[[int], None]) -> None:
    switch(3)
    x = _draw(3, 11)
    compiled = [hasattr(F.log_softmax(x, 1).grad_fn.cotangents, "__func__") for _ in range(5)]
    assert compiled == [False] * 3 + [True] * 2  # a method of a region's call, once there is one


def _raised(function: Callable[[], Any]) -> str:
    try:
        function()
    except RuntimeError as error:
        return str(error).split(":")[0]
    return ""


@pytest.mark.parametrize("calls", [0, 1 << 30], ids=["compiled", "ops"])
def test_what_the_derivative_reads_is_guarded(calls: int, switch: Callable[[int], None]) -> None:
    switch(calls)

    def changed(which: str, function: Callable[[Tensor], Tensor]) -> str:
        x = _draw(4, 13) * 1
        y = function(x)
        with vitrify.no_grad():
            (x if which == "operand" else y).add_(0)
        return _raised(lambda: y.sum().backward())

    for function in (vitrify.std, vitrify.logsumexp, vitrify.norm):
        args = (1,) if function is vitrify.logsumexp else ()
        for which in ("operand", "result"):
            assert "modified by an inplace operation" in changed(which, lambda x: function(x, *args))
    assert "modified" in changed("operand", vitrify.var) and not changed("result", vitrify.var)
    for function in (F.softmax, F.log_softmax):
        assert not changed("operand", lambda x: function(x, -1))
        assert "modified" in changed("result", lambda x: function(x, -1))
    for norm in (lambda x: F.batch_norm(x, None, None, training=True), lambda x: F.layer_norm(x, (13,))):
        assert "modified" in changed("operand", norm) and not changed("result", norm)


@pytest.mark.parametrize("calls", [0, 1 << 30], ids=["compiled", "ops"])
def test_a_second_backward_needs_what_was_freed(calls: int, switch: Callable[[int], None]) -> None:
    switch(calls)
    for function in (lambda x: F.softmax(x, -1), vitrify.var, lambda x: F.mse_loss(x, x.detach())):
        y = function(_draw(4, 17))
        y.backward(vitrify.ones_like(y), retain_graph=True)
        y.backward(vitrify.ones_like(y))
        assert "Trying to backward" in _raised(lambda: y.backward(vitrify.ones_like(y)))
    y = _draw(5, 5).trace()  # nothing saved, so nothing freed
    y.backward()
    y.backward()


def test_few_elements_are_left_to_the_ops(switch: Callable[[int], None]) -> None:
    switch(0)
    for n, one in ((4, False), (300, True)):
        x, w, b = _draw(n, 64), _draw(n, 64, seed=1), _draw(n, seed=2)
        y = F.linear(x, w, b)
        assert (y.grad_fn.name() == "LinearBackward0") is one
        want = vitrify.autograd.grad((x @ w.t() + b).sum(), (x, w, b))
        for g, h in zip(vitrify.autograd.grad(y.sum(), (x, w, b)), want, strict=True):
            assert _bits(g) == _bits(h)


def test_in_place_forms_keep_what_they_need(switch: Callable[[int], None]) -> None:
    switch(0)
    for function in (F.elu, F.leaky_relu, F.hardtanh, F.relu):
        x = _draw(300, 64)
        (want,) = vitrify.autograd.grad(function(x * 2).sum(), x)
        (found,) = vitrify.autograd.grad(function(x * 2, inplace=True).sum(), x)
        assert _bits(found) == _bits(want)


def test_signs_of_zeros_are_kinds_of_their_own(switch: Callable[[int], None]) -> None:
    switch(0)
    x = vitrify.full((7,), float("nan"))
    for zero in (0.0, -0.0, 0.0):
        assert _bits(vitrify.nan_to_num(x, zero)) == _bits(vitrify.full((7,), zero))


def test_in_a_trace_it_is_its_ops(switch: Callable[[int], None]) -> None:
    switch(0)
    f = vitrify.compile(lambda x: F.softmax(x, -1), fullgraph=True)
    x = _draw(4, 6, grad=False)
    assert _bits(f(x)) == _bits(F.softmax(x, -1)) and "reduce_max" in f.ir()


def test_errors_are_those_of_the_ops(switch: Callable[[int], None]) -> None:
    switch(0)
    x = _draw(3, 5)
    for _ in range(3):
        with pytest.raises(IndexError, match="Target 9 is out of bounds"):
            F.cross_entropy(x, vitrify.tensor([1, 9, 0]))
        with pytest.raises(IndexError):
            F.softmax(x, 7)
        with pytest.raises(NotImplementedError):
            F.softmax(vitrify.arange(3), 0)
        assert F.cross_entropy(x, vitrify.tensor([1, 4, 0])).ndim == 0
    for empty in (vitrify.zeros(0, 3), vitrify.zeros(3, 0)):
        assert F.softmax(empty, 1).shape == empty.shape


def test_running_statistics_move(switch: Callable[[int], None]) -> None:
    def run() -> list[bytes | None]:
        norm = vitrify.nn.BatchNorm1d(5)
        for seed in range(3):
            norm(_draw(6, 5, seed=seed)).sum().backward()
        norm.eval()
        out = norm(_draw(2, 5))
        return [_bits(x) for x in (norm.running_mean, norm.running_var, norm.weight.grad, out)]

    switch(1 << 30)
    want = run()
    switch(0)
    assert run() == want


def test_saved_inputs_are_guarded_against_writes(switch: Callable[[int], None]) -> None:
    switch(0)
    x = _draw(4, 5)
    y = x * 1
    z = F.normalize(y)
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def _trained(optimizer: str, options: dict[str, Any]) -> list[Any]:
    vitrify.manual_seed(3)
    model = vitrify.nn.Sequential(vitrify.nn.Linear(4, 3), vitrify.nn.Tanh(), vitrify.nn.Linear(3, 2))
    opt = getattr(vitrify.optim, optimizer)(model.parameters(), **options)
    schedule = vitrify.optim.lr_scheduler.StepLR(opt, 3, 0.5)
    x = _draw(5, 4)
    for step in range(9):
        opt.zero_grad()
        (model(x) ** 2).sum().backward()
        if step == 5:
            model[0].bias.grad = None
        if step == 6:
            opt.load_state_dict(opt.state_dict())
        opt.step()
        schedule.step()
    state = [v for s in opt.state_dict()["state"].values() for v in s.values()]
    return [_bits(x) if isinstance(x, Tensor) else x for x in (*model.parameters(), *state)]


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("SGD", {"lr": 0.1}), ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        ("Adam", {"lr": 0.01, "amsgrad": True}), ("AdamW", {"lr": 0.01}), ("RMSprop", {"lr": 0.01}),
    ],
)  # fmt: skip
def test_optimizers_take_the_same_steps(
    optimizer: str, options: dict[str, Any], switch: Callable[[int], None]
) -> None:
    switch(1 << 30)
    want = _trained(optimizer, options)
    switch(2)
    assert _trained(optimizer, options) == want


def test_an_optimizer_can_be_pickled_and_copied(switch: Callable[[int], None]) -> None:
    switch(1)
    w = vitrify.ones(3, requires_grad=True)
    opt = vitrify.optim.Adam([w], lr=0.1)
    for _ in range(3):
        w.grad = vitrify.ones(3)
        opt.step()
    for other in (pickle.loads(pickle.dumps(opt)), copy.deepcopy(opt)):
        (v,) = other.param_groups[0]["params"]
        v.grad = vitrify.ones(3)
        other.step()
        assert v.tolist() != w.tolist() and other.state[v]["step"].item() == 4.0


def test_a_user_s_optimizer_runs_as_it_is(switch: Callable[[int], None]) -> None:
    switch(1)
    seen = []

    class Mine(vitrify.optim.SGD):
        def _update(self, param: Tensor, *more: Any) -> None:
            seen.append(1)
            super()._update(param, *more)

    w = vitrify.ones(2, requires_grad=True)
    opt = Mine([w], lr=0.1)
    for _ in range(5):
        w.grad = vitrify.ones(2)
        opt.step()
    assert len(seen) == 5


def test_a_function_in_a_compiled_region_is_differentiated_twice() -> None:
    class Cube(vitrify.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            ctx.three = vitrify.full((), 3.0)
            return x * x * x

        @staticmethod
        def backward(ctx: Any, ct: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return ct * ctx.three * x * x

    def run(f: Callable[[Tensor], Tensor]) -> list[Any]:
        x = vitrify.tensor([1.0, 2.0], requires_grad=True)
        (g,) = vitrify.autograd.grad(f(x).sum(), x, create_graph=True)
        (h,) = vitrify.autograd.grad(g.sum(), x)
        return [g.tolist(), h.tolist()]

    compiled = vitrify.compile(lambda x: Cube.apply(x * 2))
    want = run(lambda x: Cube.apply(x * 2))
    assert [run(compiled) for _ in range(2)] == [want, want]
