"""Modules: registration, walking, state, mode, hooks, copying, printing, and the version counter."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import vitrify
from vitrify import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(3, 2))
        self.scale = nn.Parameter(vitrify.ones(2))
        self.register_buffer("steps", vitrify.zeros(1))
        self.register_buffer("cache", vitrify.zeros(1), persistent=False)
        self.factor = 1.0

    def forward(self, x: Any) -> Any:
        return self.rest(self.first(x)) * self.scale * self.factor


def test_names_in_order() -> None:
    net = Net()
    names = ["scale", "first.weight", "first.bias", "rest.1.weight", "rest.1.bias"]
    assert [n for n, _ in net.named_parameters()] == names
    assert [n for n, _ in net.named_parameters(recurse=False)] == ["scale"]
    assert [n for n, _ in net.named_buffers()] == ["steps", "cache"]
    assert [n for n, _ in net.named_modules()] == ["", "first", "rest", "rest.0", "rest.1"]
    assert [n for n, _ in net.named_children()] == ["first", "rest"]
    assert list(net.state_dict()) == ["scale", "steps", *names[1:]]
    assert net.get_submodule("rest.1") is net.rest[1]
    assert net.get_parameter("rest.1.bias") is net.rest[1].bias
    with pytest.raises(AttributeError, match="Net has no attribute `nope`"):
        net.get_submodule("nope.x")


def test_shared_members_count_once() -> None:
    linear = nn.Linear(2, 2)
    both = nn.Sequential(linear, linear)
    assert len(list(both.parameters())) == 2
    assert len(list(both.modules())) == 2
    assert list(both.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_attributes_go_to_their_registry() -> None:
    net = Net()
    assert "scale" in net._parameters
    assert "scale" not in net.__dict__
    net.scale = None
    assert net.scale is None
    assert "scale" not in dict(net.named_parameters())
    net.factor = nn.Linear(2, 2)  # a plain attribute gives way to a module
    assert "factor" in net._modules
    assert "factor" not in net.__dict__
    net.steps = vitrify.ones(1)
    assert net.steps.item() == 1
    del net.first
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'first'"):
        _ = net.first
    assert {"rest", "steps", "forward"} <= set(dir(net))


def test_wrong_assignments() -> None:
    net = Net()
    with pytest.raises(TypeError, match=r"cannot assign 'vitrify.float32Tensor' as parameter 'scale'"):
        net.scale = vitrify.ones(2)
    with pytest.raises(TypeError, match="as child module 'first'"):
        net.first = 3
    with pytest.raises(TypeError, match="cannot assign 'int' as buffer 'steps'"):
        net.steps = 3
    with pytest.raises(KeyError, match="attribute 'forward' already exists"):
        net.register_buffer("forward", None)
    with pytest.raises(KeyError, match="contain"):
        net.register_parameter("a.b", None)
    with pytest.raises(KeyError, match="empty string"):
        net.add_module("", None)
    with pytest.raises(TypeError, match="is not a Module subclass"):
        net.add_module("x", 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="non-leaf"):
        net.register_parameter("y", _non_leaf_parameter())

    class Early(nn.Module):
        def __init__(self) -> None:
            self.w = nn.Parameter(vitrify.ones(1))

    with pytest.raises(AttributeError, match="before Module.__init__"):
        Early()
    with pytest.raises(NotImplementedError, match='missing the required "forward"'):
        nn.Module()(1)


def _non_leaf_parameter() -> Any:
    made = nn.Parameter(vitrify.ones(2))
    made._node = (made * 2)._node
    return made


CHANGES: dict[str, Callable[[Net], Any]] = {
    "attribute": lambda net: setattr(net, "factor", 2.0),
    "new attribute": lambda net: setattr(net, "other", 2.0),
    "deleted attribute": lambda net: delattr(net, "factor"),
    "parameter": lambda net: setattr(net, "scale", nn.Parameter(vitrify.zeros(2))),
    "parameter to None": lambda net: setattr(net, "scale", None),
    "module": lambda net: setattr(net, "first", nn.Linear(4, 3)),
    "deleted module": lambda net: delattr(net, "rest"),
    "buffer": lambda net: setattr(net, "steps", vitrify.ones(1)),
    "mode": lambda net: net.eval(),
    "hook": lambda net: net.register_forward_hook(lambda *_: None),
    "pre-hook": lambda net: net.register_forward_pre_hook(lambda *_: None),
    "registry": lambda net: net._parameters.pop("scale"),
    "registry item": lambda net: net._modules.update(first=nn.Linear(4, 3)),
    "float64": lambda net: net.double(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_version_grows_with_every_change(name: str) -> None:
    net = Net()
    before = net._version
    CHANGES[name](net)
    assert net._version > before


def test_version_stays_when_nothing_changes() -> None:
    net = Net()
    before = [m._version for m in net.modules()]
    net.train()
    net.factor = net.factor
    net.scale = net.scale
    net.first = net.first
    net(vitrify.ones(1, 4)).sum().backward()
    net.zero_grad()
    net.load_state_dict(net.state_dict())
    net.requires_grad_(False)
    assert [m._version for m in net.modules()] == before


def test_mode_apply_and_grad_switches() -> None:
    net = Net()
    net.eval()
    assert not any(m.training for m in net.modules())
    seen: list[Any] = []
    assert net.train().apply(seen.append) is net
    assert seen == [net.first, net.rest[0], net.rest[1], net.rest, net]
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    with pytest.raises(ValueError, match="boolean"):
        net.train(1)  # type: ignore[arg-type]


def test_zero_grad() -> None:
    net = Net()
    net(vitrify.ones(1, 4)).sum().backward()
    net.zero_grad(set_to_none=False)
    assert all(float(p.grad.abs().sum()) == 0 for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_dtype_conversion_keeps_parameters() -> None:
    net = Net()
    parameter = net.scale
    parameter.sum().backward()
    assert net.double() is net
    assert net.scale is parameter
    assert {t.dtype for t in net.state_dict().values()} == {vitrify.float64}
    assert parameter.grad.dtype is vitrify.float64
    assert net.to(vitrify.float32).scale.dtype is vitrify.float32
    assert net.to("cpu").scale.dtype is vitrify.float32
    assert net.cpu() is net
    with pytest.raises(TypeError, match="only accepts floating point"):
        net.to(vitrify.int64)
    with pytest.raises(AssertionError, match="CUDA"):
        net.cuda()


def test_hooks() -> None:
    linear = nn.Linear(2, 2)
    x = vitrify.ones(1, 2)
    plain = linear(x).detach().numpy()
    calls: list[str] = []
    pre = linear.register_forward_pre_hook(lambda m, args: calls.append("pre") or (args[0] * 2,))
    post = linear.register_forward_hook(lambda m, args, out: calls.append("post") or out * 10)
    first = linear.register_forward_hook(
        lambda m, args, kw, out: calls.append("kw"), prepend=True, with_kwargs=True
    )
    doubled = linear(x).detach().numpy()
    np.testing.assert_allclose(doubled, (plain * 2 - linear.bias.detach().numpy()) * 10, rtol=1e-5)
    assert calls == ["pre", "kw", "post"]
    for handle in (pre, post, first):
        handle.remove()
    np.testing.assert_array_equal(linear(x).detach().numpy(), plain)
    bad = linear.register_forward_pre_hook(lambda m, args, kw: 3, with_kwargs=True)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        linear(x)
    bad.remove()


def test_state_dict_shares_memory_and_loads() -> None:
    net, other = Net(), Net()
    state = net.state_dict()
    with vitrify.no_grad():
        net.scale.fill_(7)
    assert state["scale"].tolist() == [7, 7]
    assert not state["scale"].requires_grad
    assert net.state_dict(keep_vars=True)["scale"] is net.scale
    assert str(other.load_state_dict(state)) == "<All keys matched successfully>"
    for name, tensor in other.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), state[name].numpy())
        assert tensor.data_ptr() != state[name].data_ptr()


def test_load_state_dict_errors() -> None:
    net = Net()
    state = dict(net.state_dict())
    del state["scale"]
    state["first.bias"] = vitrify.zeros(5)
    state["extra.weight"] = vitrify.zeros(1)
    state["steps"] = 3
    with pytest.raises(RuntimeError) as error:
        net.load_state_dict(state)
    text = str(error.value)
    assert text.startswith("Error(s) in loading state_dict for Net:\n\t")
    assert 'Unexpected key(s) in state_dict: "extra.weight". ' in text
    assert 'Missing key(s) in state_dict: "scale". ' in text
    assert "size mismatch for first.bias: copying a param with shape" in text
    assert 'While copying the parameter named "steps"' in text
    fitting = {k: v for k, v in state.items() if k.startswith("rest")}
    found = net.load_state_dict(fitting, strict=False)
    assert found.missing_keys == ["scale", "steps", "first.weight", "first.bias"]
    with pytest.raises(TypeError, match="dict-like"):
        net.load_state_dict([1])  # type: ignore[arg-type]


def test_load_with_assign_takes_the_tensors() -> None:
    net = Net()
    state = {k: v.clone().double() for k, v in net.state_dict().items()}
    net.load_state_dict(state, assign=True)
    assert net.scale.dtype is vitrify.float64
    assert isinstance(net.scale, nn.Parameter)
    assert net.scale.data_ptr() == state["scale"].data_ptr()


def test_copy_and_pickle() -> None:
    net = Net()
    net.register_forward_hook(print)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(Net()))):
        assert [n for n, _ in twin.named_parameters()] == [n for n, _ in net.named_parameters()]
        assert twin.scale is not net.scale
        with vitrify.no_grad():
            twin.scale.fill_(5)
        assert net.scale.tolist() == [1, 1]
        before = twin._version
        twin.first = nn.Linear(4, 3)
        assert twin._version > before
        assert twin._parameters.owner is twin
    assert copy.deepcopy(net)._forward_hooks.keys() == net._forward_hooks.keys()


def test_containers() -> None:
    modules = [nn.Linear(2, 2), nn.ReLU(), nn.Tanh()]
    chain = nn.Sequential(OrderedDict(a=modules[0], b=modules[1]))
    assert list(chain._modules) == ["a", "b"]
    assert chain[-1] is modules[1]
    assert len(nn.Sequential(*modules)[1:]) == 2
    items = nn.ModuleList(modules)
    items.insert(0, nn.Sigmoid())
    assert [type(m).__name__ for m in items] == ["Sigmoid", "Linear", "ReLU", "Tanh"]
    del items[0]
    assert list(items._modules) == ["0", "1", "2"]
    items[1] = nn.GELU()
    assert isinstance(items[1], nn.GELU)
    with pytest.raises(IndexError, match="out of range"):
        items[3]
    named = nn.ModuleDict({"x": modules[0]})
    named["y"] = modules[1]
    assert list(named) == ["x", "y"]
    assert named.pop("y") is modules[1]
    assert "y" not in named
    weights = nn.ParameterList([vitrify.ones(2), nn.Parameter(vitrify.zeros(3))])
    assert len(list(weights.parameters())) == 2
    weights[0] = vitrify.zeros(4)
    assert weights[0].shape == (4,)


def test_repr() -> None:
    assert repr(Net()) == (
        "Net(\n"
        "  (first): Linear(in_features=4, out_features=3, bias=True)\n"
        "  (rest): Sequential(\n"
        "    (0): ReLU()\n"
        "    (1): Linear(in_features=3, out_features=2, bias=True)\n"
        "  )\n"
        ")"
    )
    assert repr(nn.Parameter(vitrify.zeros(2))) == (
        "Parameter containing:\ntensor([0., 0.], requires_grad=True)"
    )


def test_parameter() -> None:
    data = vitrify.zeros(3)
    parameter = nn.Parameter(data)
    assert parameter.is_leaf
    assert parameter.requires_grad
    assert parameter.data_ptr() == data.data_ptr()
    assert not nn.Parameter(data, requires_grad=False).requires_grad
    assert isinstance(copy.deepcopy(parameter), nn.Parameter)
    assert isinstance(parameter, vitrify.Tensor)
    assert not isinstance(parameter * 2, nn.Parameter)
    with pytest.raises(RuntimeError, match="floating point"):
        nn.Parameter(vitrify.zeros(3, dtype=vitrify.int64))


def test_dropout_scales_and_repeats() -> None:
    layer = nn.Dropout(0.25)
    x = vitrify.ones(200, 100, requires_grad=True)
    vitrify.manual_seed(3)
    out = layer(x)
    values = out.detach().numpy()
    assert set(np.unique(values)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((values == 0).mean() - 0.25) < 0.01
    vitrify.manual_seed(3)
    np.testing.assert_array_equal(layer(x).detach().numpy(), values)
    out.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), values)
    assert layer.eval()(x) is x
    channels = nn.Dropout2d(0.5)(vitrify.ones(4, 8, 3, 3)).numpy()
    assert (channels == channels[:, :, :1, :1]).all()
    assert float(nn.Dropout(1.0)(x).abs().sum()) == 0


def test_nan_in_the_data_reaches_the_loss() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 3))
    x = vitrify.ones(2, 4)
    x[1, 2] = float("nan")
    losses = nn.functional.cross_entropy(net(x), vitrify.tensor([0, 1]), reduction="none").tolist()
    assert np.isfinite(losses[0])
    assert np.isnan(losses[1])


def test_unsupported_options_say_so() -> None:
    with pytest.raises(ValueError, match="padding_mode 'circular' is not supported"):
        nn.Conv2d(1, 1, 3, padding_mode="circular")
    with pytest.raises(NotImplementedError, match="max_norm"):
        nn.Embedding(3, 3, max_norm=1.0)
    with pytest.raises(NotImplementedError, match="return_indices"):
        nn.MaxPool2d(2, return_indices=True)(vitrify.ones(1, 4, 4))
    with pytest.raises(AssertionError, match="CUDA"):
        nn.Linear(2, 2, device="cuda")
