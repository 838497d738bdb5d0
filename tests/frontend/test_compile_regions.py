"""A compiled forward with its backward outside: one node of the tape, the same bits as eager."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref
from typing import Any

import numpy as np
import pytest
import vitrify as torch
from vitrify import nn
from vitrify.nn import functional as F


def equal(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return np.array_equal(a.detach().numpy(), b.detach().numpy(), equal_nan=True)


def leaf(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).requires_grad_()


def gradients(function: Any, use: Any, shapes: Any, calls: int = 2) -> list[Any]:
    """Gradients of use(function(*leaves)) with respect to fresh leaves, over a few calls."""
    found: list[Any] = []
    for call in range(calls):
        leaves = [leaf(*s, seed=i + 10 * call) for i, s in enumerate(shapes)]
        loss = use(function(*leaves), *leaves)
        loss.backward()
        found += [loss, *(x.grad for x in leaves)]
    return found


CASES: dict[str, Any] = {
    "one output": (lambda x, w: (x @ w).tanh(), lambda y, x, w: (y * y).sum(), [(3, 4), (4, 2)]),
    "two outputs": (
        lambda x, w: (x @ w, (x * 2).exp()),
        lambda y, x, w: y[0].sum() * y[1].sum(),
        [(3, 4), (4, 2)],
    ),
    "one of two used": (lambda x, w: (x @ w, (x * 2).exp()), lambda y, x, w: y[1].sum(), [(3, 4), (4, 2)]),
    "other of two used": (lambda x, w: (x.sum(), (w * 2).exp()), lambda y, x, w: y[0] * 2, [(3,), (4,)]),
    "an input used outside too": (lambda x: x * x * x, lambda y, x: (y * x + x.exp()).sum(), [(5,)]),
    "used outside before and after": (
        lambda x: x * x + x,
        lambda y, x: (x.sin() + y + x.cos()).sum(),
        [(5,)],
    ),
    "no dependence on one": (lambda x, w: x * 2, lambda y, x, w: (y + w).sum(), [(3,), (3,)]),
    "detached": (lambda x: x * x.detach(), lambda y, x: y.sum(), [(4,)]),
    "partly no_grad": (lambda x: no_grad_part(x) * x, lambda y, x: y.sum(), [(4,)]),
    "views out": (lambda x: (x * 2)[1:].t(), lambda y, x: (y * y).sum(), [(3, 4)]),
    "view of an input": (lambda x: x.t(), lambda y, x: (y * y).sum(), [(3, 4)]),
    "structure": (
        lambda x: {"a": [x + 1, x * 2], "b": 3},
        lambda y, x: (y["a"][0] * y["a"][1]).sum(),
        [(3,)],
    ),
    "the same output twice": (
        lambda x: (lambda y: (y, y))(x * x),
        lambda y, x: (y[0] + y[1] * 2).sum(),
        [(3,)],
    ),
    "in place": (lambda x: (x * 2).mul_(x).add_(1), lambda y, x: y.sum(), [(3,)]),
    "in place on a view": (lambda x: halved(x * 2), lambda y, x: (y * y).sum(), [(4,)]),
    "through backward inside": (lambda x: inner_gradient(x), lambda y, x: y.sum(), [(3,)]),
    "expanded cotangent": (lambda x: x * 3, lambda y, x: y.sum(), [(3, 4)]),
}


def no_grad_part(x):
    with torch.no_grad():
        return x * 2


def halved(y):
    y[:2].mul_(0.5)
    return y


def inner_gradient(x):
    (g,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    return g * x


@pytest.mark.parametrize("name", CASES)
def test_gradients_equal_eager(name: str) -> None:
    function, use, shapes = CASES[name]
    compiled = torch.compile(function, fullgraph=True)
    assert all(map(equal, gradients(function, use, shapes), gradients(compiled, use, shapes)))
    assert compiled.captures == 1


def test_non_leaf_arguments() -> None:
    def use(function: Any) -> list[Any]:
        x = leaf(4)
        h = x.exp()
        y = function(h, h * 2)
        (y * h).sum().backward()
        return [y, x.grad]

    compiled = torch.compile(lambda a, b: a * b + a, fullgraph=True)
    for _ in range(2):
        assert all(map(equal, use(compiled.__wrapped__), use(compiled)))
    assert compiled.captures == 1


def test_chained_regions_share_parameters_in_order() -> None:
    """Contributions to a shared weight are added in the order in which eager adds them."""
    layer = nn.Linear(4, 4)
    twin = copy.deepcopy(layer)
    torch.compile(twin, fullgraph=True)
    for model in (layer, twin):
        x = leaf(3, 4, seed=5)
        h = x
        for _ in range(3):
            h = model(h).tanh()
        h = h + model(x)
        (h.sum() + model.weight.sum()).backward()
        model.x = x.grad
    assert equal(layer.weight.grad, twin.weight.grad) and equal(layer.bias.grad, twin.bias.grad)
    assert equal(layer.x, twin.x)


def test_a_weight_used_several_times_within_a_region_and_outside() -> None:
    def function(x, w):
        return (x * w).exp() * w + (w * w).sum()

    def use(f: Any) -> Any:
        x, w = leaf(5, seed=1), leaf(5, seed=2)
        y = f(x, w)
        z = f(y, w) + w * 3
        (z * w).sum().backward()
        return [z, x.grad, w.grad]

    compiled = torch.compile(function, fullgraph=True)
    assert all(map(equal, use(function), use(compiled)))


def test_retain_graph_and_freeing() -> None:
    compiled = torch.compile(lambda x: (x * x).sum(), fullgraph=True)
    x = leaf(3)
    y = compiled(x)
    y.backward(retain_graph=True)
    y.backward()
    assert equal(x.grad, 4 * x)
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_changing_an_input_in_place_is_noticed() -> None:
    compiled = torch.compile(lambda x: x * x, fullgraph=True)
    x = torch.ones(3)
    w = leaf(3)
    y = (compiled(w * 1)).sum()
    h = w * 2
    z = compiled(h).sum()
    h.add_(1)
    y.backward()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()
    assert x.sum() == 3


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x - 1) * (x - 1),
        lambda x: F.relu(x - 1),
        lambda x: x.sqrt(),
        lambda x: torch.where(x > 2, x, x * 2),
        lambda x: F.leaky_relu(x.t()[1:] - 2),
    ],
    ids=["square", "relu", "sqrt", "where", "view"],
)
def test_an_input_that_eager_does_not_hold_may_be_changed(function: Any) -> None:
    def gradient(f: Any) -> torch.Tensor:
        x = torch.arange(1.0, 13).reshape(3, 4).requires_grad_()
        h = x * 1
        y = f(h)
        h.mul_(3)
        y.square().sum().backward()
        return x.grad

    compiled = torch.compile(function, fullgraph=True)
    for _ in range(2):
        assert equal(gradient(compiled), gradient(function))


def test_a_view_of_an_input_that_eager_holds_must_not_be_changed() -> None:
    for f in (compiled := torch.compile(lambda x: x.t()[1:] * x.t()[:-1], fullgraph=True), compiled):
        h = leaf(3, 4) * 1
        y = f(h)
        h.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_autograd_grad_and_hooks() -> None:
    compiled = torch.compile(lambda x, w: x * w, fullgraph=True)
    x, w = leaf(3, seed=1), leaf(3, seed=2)
    seen = []
    x.register_hook(lambda g: seen.append(g.clone()))
    y = compiled(x, w)
    y.register_hook(lambda g: g * 2)
    gx, gw = torch.autograd.grad(y.sum(), [x, w])
    assert equal(gx, w * 2) and equal(gw, x * 2) and x.grad is None
    compiled(x, w).sum().backward()
    assert equal(x.grad, w) and len(seen) >= 1


def test_custom_functions_inside() -> None:
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, scale):
            ctx.save_for_backward(x)
            ctx.scale = scale
            return x * x * scale

        @staticmethod
        def backward(ctx, ct):
            (x,) = ctx.saved_tensors
            return ct * x * 2 * ctx.scale, None

    def function(x):
        return Scaled.apply(x + 1, 3)

    compiled = torch.compile(function, fullgraph=True)
    use = lambda y, x: y.sum()  # noqa: E731
    assert all(map(equal, gradients(function, use, [(4,)]), gradients(compiled, use, [(4,)])))

    def step(x):
        Scaled.apply(x, 2).sum().backward()

    compiled_step = torch.compile(step, fullgraph=True)
    a, b = leaf(3), leaf(3)
    for _ in range(2):
        step(a)
        compiled_step(b)
    assert equal(a.grad, b.grad)


def test_a_result_that_a_custom_function_saved_has_no_backward_left() -> None:
    class Power(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = x.exp()
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, ct):
            (y,) = ctx.saved_tensors
            return ct * y

    def step(x):
        y = Power.apply(x)
        y.sum().backward()
        return y

    for call in (step, torch.compile(step, fullgraph=True)):
        x = torch.ones(3, requires_grad=True)
        y = call(x)
        assert equal(x.grad, y.detach())
        with pytest.raises(RuntimeError, match="a second time"):
            y.sum().backward()


def test_a_custom_function_that_saves_nothing_goes_back_twice() -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, ct):
            assert ctx.saved_tensors == ()
            return ct * 2

    x = torch.ones(3, requires_grad=True)
    y = Doubled.apply(x)
    y.sum().backward()
    y.sum().backward()
    assert x.grad.tolist() == [4.0] * 3


def test_double_backward() -> None:
    def use(f: Any) -> list[Any]:
        x, w = leaf(4, seed=1), leaf(4, seed=2)
        y = f(x, w)
        (g,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        (g * g).sum().backward()
        return [y, g, x.grad, w.grad]

    function = lambda x, w: (x * w).exp() * x  # noqa: E731
    compiled = torch.compile(function, fullgraph=True)
    for _ in range(2):
        assert all(map(equal, use(function), use(compiled)))


def test_segments_with_gradients() -> None:
    def function(x, w):
        y = x * w
        if y.sum() > 0:
            y = y.exp()
        return y * w

    compiled = torch.compile(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        use = lambda y, x, w: (y * x).sum()  # noqa: E731
        for _ in range(2):
            assert all(
                map(
                    equal,
                    gradients(function, use, [(3,), (3,)], 4),
                    gradients(compiled, use, [(3,), (3,)], 4),
                )
            )


def test_compiled_modules_stay_modules() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    names = list(model.state_dict())
    compiled = torch.compile(model)
    assert type(compiled) is nn.Sequential and list(compiled.state_dict()) == names
    assert isinstance(compiled[0], nn.Linear) and len(list(compiled.parameters())) == 4
    x = torch.ones(2, 3)
    want = compiled(x)
    clone = copy.deepcopy(compiled)
    with torch.no_grad():
        clone[0].weight.zero_()
    assert equal(compiled(x), want) and not equal(clone(x), want)
    model2 = nn.Linear(2, 2)
    model2.compile(fullgraph=True)
    assert model2(torch.ones(1, 2)).shape == (1, 2) and model2._compiled_call_impl.captures == 1


def test_compiled_module_follows_changes() -> None:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = 2.0
            self.blocks = [1, 2]
            self.linear = nn.Linear(2, 2)
            self.register_buffer("shift", torch.zeros(2))

        def forward(self, x, *, twice=False):
            y = self.linear(x) * self.scale + self.shift
            for b in self.blocks:
                y = y + b
            return y * 2 if twice else y

    net = Net()
    plain = copy.deepcopy(net)
    torch.compile(net, fullgraph=True)
    x = torch.ones(1, 2)
    changes = [
        lambda m: None,
        lambda m: setattr(m, "scale", 3.0),
        lambda m: m.blocks.append(3),
        lambda m: m.shift.add_(1),
        lambda m: setattr(m, "linear", nn.Identity()),
        lambda m: m.register_forward_hook(lambda module, args, y: y + 100),
        lambda m: setattr(m, "shift", torch.full((2,), 7.0)),
        lambda m: setattr(m, "forward", lambda x, twice=False: x * 5),
    ]
    for change in changes:
        change(net)
        change(plain)
        assert equal(net(x), plain(x)) and equal(net(x, twice=True), plain(x, twice=True))


def test_regions_do_not_keep_memory() -> None:
    compiled = torch.compile(lambda x: (x * x).sum(), fullgraph=True)
    x = leaf(3)
    y = compiled(x)
    node = weakref.ref(y.grad_fn)
    y.backward()
    del y
    gc.collect()
    assert node() is None


def test_state_dicts_of_compiled_modules_can_be_pickled() -> None:
    model = torch.compile(nn.Linear(2, 2))
    model(torch.ones(1, 2))
    restored = pickle.loads(pickle.dumps(model.state_dict()))
    assert equal(restored["weight"], model.weight)


@pytest.mark.parametrize("act", [F.gelu, F.silu, F.softmax, lambda x: F.gelu(F.gelu(x)) * F.gelu(x)])
@pytest.mark.parametrize("requires", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("used", [(0,), (1,), (0, 1), (0, 1, 2)])
def test_any_outputs_may_have_cotangents(
    act: Any, requires: tuple[bool, bool], used: tuple[int, ...]
) -> None:
    """What the forward part saves serves every backward part, also the local derivatives that it computes."""

    def several(x: Any, w: Any) -> Any:
        h = act(x @ w.t())
        return h, h.sum(), h * x.sum()

    def gradients(run: Any) -> list[Any]:
        torch.manual_seed(0)
        leaves = [
            torch.randn(4, 8).requires_grad_(requires[0]),
            torch.randn(5, 8).requires_grad_(requires[1]),
        ]
        out = run(*leaves)
        sum((out[i] * (i + 1.0)).sum() for i in used).backward()
        return [None if x.grad is None else x.grad.numpy().tobytes() for x in leaves]

    assert gradients(torch.compile(several)) == gradients(several)


def test_outputs_are_differentiated_one_after_the_other() -> None:
    w = torch.tensor([1.0, 2.0], requires_grad=True)

    def gradients(run: Any) -> list[float]:
        w.grad = None
        a, b = run(torch.ones(2))
        a.backward()
        b.backward()
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            a.backward()
        return w.grad.tolist()

    def two(x: Any) -> Any:
        return (x * w).exp().sum(), (x * w).sin().sum()

    assert gradients(torch.compile(two)) == gradients(two)


def test_a_result_whose_history_was_written_over() -> None:
    """Its own backward raises, as eager's would; the call and the other result are as ever."""

    def function(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        spoilt = x.tanh()
        spoilt[1:] += 1
        return spoilt, (y * 2).sum()

    compiled = torch.compile(function)
    for _ in range(3):
        x, y = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.CaptureWarning)
            spoilt, loss = compiled(x, y)
        loss.backward()
        assert y.grad is not None and y.grad.tolist() == [2.0, 2.0, 2.0]
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            spoilt.sum().backward()


def test_who_requires_grad_decides_what_a_forward_saves() -> None:
    def f(x: Any, w: Any, b: Any) -> Any:
        return ((x * w).exp() * (x * b).sin()).sum()

    compiled = torch.compile(f, fullgraph=True)
    for mask in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1)):
        found = []
        for function in (f, compiled):
            xs = [torch.full((5,), 0.1 * i + 0.3).requires_grad_(bool(m)) for i, m in enumerate(mask)]
            function(*xs).backward()
            found.append([None if x.grad is None else x.grad.tolist() for x in xs])
        assert found[0] == found[1]
