"""Every layer against its PyTorch twin: repr, result, gradients, buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import vitrify

from .nn_twins import arrays, assert_close, compare_modules, copy_state, ours, theirs

X = {
    "linear": arrays((5, 7))[0],
    "vector": arrays((7,))[0],
    "rank3": arrays((2, 3, 7))[0],
    "empty": np.zeros((0, 7), np.float32),
    "image": arrays((2, 4, 9, 7))[0],
    "line": arrays((2, 4, 11))[0],
    "volume": arrays((1, 2, 5, 4, 6))[0],
}

LAYERS: dict[str, tuple[Any, str]] = {
    "linear": (lambda nn: nn.Linear(7, 3), "linear"),
    "linear without bias": (lambda nn: nn.Linear(7, 3, bias=False), "linear"),
    "linear of a vector": (lambda nn: nn.Linear(7, 3), "vector"),
    "linear of rank 3": (lambda nn: nn.Linear(7, 3), "rank3"),
    "linear of nothing": (lambda nn: nn.Linear(7, 3), "empty"),
    "conv1d": (lambda nn: nn.Conv1d(4, 6, 3), "line"),
    "conv1d dilated": (lambda nn: nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2), "line"),
    "conv2d": (lambda nn: nn.Conv2d(4, 5, 3), "image"),
    "conv2d 1x1": (lambda nn: nn.Conv2d(4, 5, 1), "image"),
    "conv2d padded": (lambda nn: nn.Conv2d(4, 5, 3, padding=1), "image"),
    "conv2d uneven": (lambda nn: nn.Conv2d(4, 5, (3, 2), stride=(2, 1), padding=(1, 0)), "image"),
    "conv2d strided": (lambda nn: nn.Conv2d(4, 5, 3, stride=2, padding=1), "image"),
    "conv2d same": (lambda nn: nn.Conv2d(4, 5, (4, 3), padding="same"), "image"),
    "conv2d valid": (lambda nn: nn.Conv2d(4, 5, 2, padding="valid", bias=False), "image"),
    "conv2d dilated": (lambda nn: nn.Conv2d(4, 5, 3, dilation=(2, 1), padding=2), "image"),
    "conv2d grouped": (lambda nn: nn.Conv2d(4, 6, 3, groups=2, padding=1), "image"),
    "conv2d depthwise": (lambda nn: nn.Conv2d(4, 8, 3, groups=4), "image"),
    "conv3d": (lambda nn: nn.Conv3d(2, 3, (3, 2, 3), stride=(1, 2, 1), padding=1), "volume"),
    "max pool": (lambda nn: nn.MaxPool2d(2), "image"),
    "max pool overlapping": (lambda nn: nn.MaxPool2d(3, stride=2, padding=1), "image"),
    "max pool dilated": (lambda nn: nn.MaxPool2d((2, 3), stride=1, dilation=2), "image"),
    "max pool ceil": (lambda nn: nn.MaxPool2d(2, ceil_mode=True), "image"),
    "max pool 1d": (lambda nn: nn.MaxPool1d(3, stride=2), "line"),
    "avg pool": (lambda nn: nn.AvgPool2d(2), "image"),
    "avg pool padded": (lambda nn: nn.AvgPool2d(3, stride=2, padding=1), "image"),
    "avg pool uncounted": (lambda nn: nn.AvgPool2d(3, 2, 1, count_include_pad=False), "image"),
    "avg pool ceil": (lambda nn: nn.AvgPool2d(2, ceil_mode=True), "image"),
    "avg pool divisor": (lambda nn: nn.AvgPool2d((3, 2), divisor_override=5), "image"),
    "avg pool 1d": (lambda nn: nn.AvgPool1d(3), "line"),
    "adaptive to 1": (lambda nn: nn.AdaptiveAvgPool2d(1), "image"),
    "adaptive": (lambda nn: nn.AdaptiveAvgPool2d((3, None)), "image"),
    "adaptive uneven": (lambda nn: nn.AdaptiveAvgPool2d((4, 3)), "image"),
    "relu": (lambda nn: nn.ReLU(), "linear"),
    "relu6": (lambda nn: nn.ReLU6(), "linear"),
    "leaky": (lambda nn: nn.LeakyReLU(0.2), "linear"),
    "elu": (lambda nn: nn.ELU(1.5), "linear"),
    "hardtanh": (lambda nn: nn.Hardtanh(-0.5, 0.7), "linear"),
    "gelu": (lambda nn: nn.GELU(), "linear"),
    "gelu tanh": (lambda nn: nn.GELU("tanh"), "linear"),
    "tanh": (lambda nn: nn.Tanh(), "linear"),
    "sigmoid": (lambda nn: nn.Sigmoid(), "linear"),
    "logsigmoid": (lambda nn: nn.LogSigmoid(), "linear"),
    "silu": (lambda nn: nn.SiLU(), "linear"),
    "softplus": (lambda nn: nn.Softplus(2.0, 1.0), "linear"),
    "softmax": (lambda nn: nn.Softmax(dim=-1), "linear"),
    "softmax of axis 1": (lambda nn: nn.Softmax(dim=1), "image"),
    "softmin": (lambda nn: nn.Softmin(dim=0), "linear"),
    "log softmax": (lambda nn: nn.LogSoftmax(dim=1), "rank3"),
    "layer norm": (lambda nn: nn.LayerNorm(7), "rank3"),
    "layer norm of two": (lambda nn: nn.LayerNorm((9, 7), eps=1e-3), "image"),
    "layer norm plain": (lambda nn: nn.LayerNorm(7, elementwise_affine=False), "linear"),
    "layer norm no bias": (lambda nn: nn.LayerNorm(7, bias=False), "linear"),
    "rms norm": (lambda nn: nn.RMSNorm(7), "rank3"),
    "group norm": (lambda nn: nn.GroupNorm(2, 4), "image"),
    "batch norm": (lambda nn: nn.BatchNorm2d(4), "image"),
    "batch norm slow": (lambda nn: nn.BatchNorm2d(4, momentum=None), "image"),
    "batch norm plain": (lambda nn: nn.BatchNorm1d(7, affine=False, track_running_stats=False), "linear"),
    "batch norm of lines": (lambda nn: nn.BatchNorm1d(4), "line"),
    "flatten": (lambda nn: nn.Flatten(), "image"),
    "flatten some": (lambda nn: nn.Flatten(2, 3), "image"),
    "unflatten": (lambda nn: nn.Unflatten(1, (2, 2)), "image"),
    "identity": (lambda nn: nn.Identity(), "linear"),
    "dropout of nothing": (lambda nn: nn.Dropout(0.0), "linear"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str) -> None:
    make, data = LAYERS[name]
    compare_modules(make, X[data])


@pytest.mark.parametrize("name", ["batch norm", "batch norm plain", "layer norm"])
def test_layer_in_eval_mode(name: str) -> None:
    make, data = LAYERS[name]
    compare_modules(make, X[data], train=False)


def test_batch_norm_statistics_over_steps() -> None:
    module, twin = vitrify.nn.BatchNorm2d(4), torch.nn.BatchNorm2d(4)
    for seed in range(3):
        (x,) = arrays((3, 4, 5, 2), seed=seed)
        module(ours(x))
        twin(theirs(x))
    for name, buffer in module.named_buffers():
        assert_close(buffer, dict(twin.named_buffers())[name], name)
    module.eval()
    twin.eval()
    assert_close(module(ours(X["image"])), twin(theirs(X["image"])))


@pytest.mark.parametrize("name", ["conv2d", "max pool", "avg pool", "adaptive"])
def test_unbatched(name: str) -> None:
    make, data = LAYERS[name]
    compare_modules(make, X[data][0])


@pytest.mark.parametrize("padding_idx", [None, 2, -1])
def test_embedding(padding_idx: int | None) -> None:
    make = lambda nn: nn.Embedding(6, 3, padding_idx=padding_idx)  # noqa: E731
    module, twin = make(vitrify.nn), make(torch.nn)
    copy_state(module, twin)
    assert repr(module) == repr(twin)
    index = np.array([[1, 2, 2], [5, 0, 1]])
    got, want = module(ours(index)), twin(theirs(index))
    assert_close(got, want)
    (weights,) = arrays(tuple(want.shape))
    (got * ours(weights)).sum().backward()
    (want * theirs(weights)).sum().backward()
    assert_close(module.weight.grad, twin.weight.grad)


def test_max_pool_ties_and_nan_go_where_pytorch_sends_them() -> None:
    x = np.array(
        [[[1, 1, 0, 0], [1, 1, 0, np.nan], [-0.0, 0.0, 5, 5], [0.0, -0.0, np.nan, np.nan]]], np.float32
    )
    for kernel, stride in ((2, 2), (3, 1), (2, 1)):
        compare_modules(lambda nn, k=kernel, s=stride: nn.MaxPool2d(k, s), x)


@pytest.mark.parametrize(
    "name", ["relu", "relu6", "leaky", "elu", "hardtanh", "gelu", "softplus", "tanh", "sigmoid"]
)
def test_activations_at_the_edges(name: str) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 6.0, -0.5, 0.7, 100.0, -100.0], np.float32)
    if name == "gelu":
        x[2:4] = 50.0, -50.0  # PyTorch gives nan at both infinities
    module, twin = (LAYERS[name][0](nn) for nn in (vitrify.nn, torch.nn))
    a, b = ours(x, True), theirs(x, True)
    got, want = module(a), twin(b)
    assert_close(got, want, atol=1e-7)
    got.sum().backward()
    want.sum().backward()
    finite = np.isfinite(x)  # at infinity PyTorch's own formulas give nan in places
    assert_close(a.grad[ours(finite)], b.grad[theirs(finite)])


@pytest.mark.parametrize("inplace", [False, True])
def test_inplace_activations(inplace: bool) -> None:
    for cls in ("ReLU", "LeakyReLU", "SiLU", "ELU", "Hardtanh"):
        (x,) = arrays((3, 4))
        a = ours(x)
        got = getattr(vitrify.nn, cls)(inplace=inplace)(a)
        assert_close(got, getattr(torch.nn, cls)()(theirs(x)), cls)
        assert (got is a) == inplace


def test_default_initial_distributions() -> None:
    """Same bounds and variance as PyTorch's, over many values."""
    vitrify.manual_seed(0)
    torch.manual_seed(0)
    for make in (
        lambda nn: nn.Linear(200, 150), lambda nn: nn.Conv2d(16, 32, 3), lambda nn: nn.Embedding(300, 40),
        lambda nn: nn.Conv1d(16, 64, 5, groups=2),
    ):  # fmt: skip
        for (name, p), (_, q) in zip(
            make(vitrify.nn).named_parameters(), make(torch.nn).named_parameters(), strict=True
        ):
            assert tuple(p.shape) == tuple(q.shape)
            assert float(p.std()) == pytest.approx(float(q.std()), rel=0.25 if "bias" in name else 0.03)
            assert abs(float(p.mean())) < 5 * float(q.std()) / q.numel() ** 0.5
