"""Functions without a layer of their own, helpers, and errors, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import vitrify

from .nn_twins import arrays, assert_close, compare, compare_modules, copy_state, ours, theirs

IMAGE, VECTOR = arrays((2, 4, 6, 5), (7,))


@pytest.mark.parametrize(
    "pad", [(1, 2), (0, 3, 1, 0), (-1, 2), (2, -1, -2, 1), (0, 0), (1, 1, 1, 1, 1, 1, 1, 1)]
)
def test_pad(pad: tuple[int, ...]) -> None:
    compare(lambda lib, x: lib.nn.functional.pad(x, pad, value=0.5), [IMAGE])


@pytest.mark.parametrize("masking", ["none", "causal", "bool", "float"])
def test_attention(masking: str) -> None:
    q, k, v = arrays((2, 3, 5, 8), (2, 3, 6, 8), (2, 3, 6, 4))
    (mask,) = arrays((5, 6))

    def attention(lib: Any, q: Any, k: Any, v: Any, mask: Any) -> Any:
        options = {"none": {}, "causal": {"is_causal": True}, "bool": {"attn_mask": mask > -1}}
        return lib.nn.functional.scaled_dot_product_attention(
            q, k, v, **options.get(masking, {"attn_mask": mask})
        )

    compare(attention, [q, k, v], [mask])


def test_one_hot() -> None:
    x = np.array([[0, 2], [1, 1]])
    for classes in (-1, 4):
        got = vitrify.nn.functional.one_hot(ours(x), classes)
        assert_close(got, torch.nn.functional.one_hot(theirs(x), classes))
    for bad in (np.array([-1, 0]), np.array([0, 5])):
        with pytest.raises(RuntimeError, match="Class values must be"):
            vitrify.nn.functional.one_hot(ours(bad), 3)


def test_bilinear_and_linear_of_a_vector_of_weights() -> None:
    compare(
        lambda lib, a, b, w, c: lib.nn.functional.bilinear(a, b, w, c),
        arrays((3, 4), (3, 5), (2, 4, 5), (2,)),
    )
    compare(lambda lib, x, w: lib.nn.functional.linear(x, w), arrays((3, 7), (7,)))


def test_normalize_and_instance_norm() -> None:
    compare(lambda lib, x: lib.nn.functional.normalize(x, dim=1), [IMAGE])
    compare(lambda lib, x: lib.nn.functional.normalize(x, p=1.0, dim=-1), [IMAGE])
    compare(lambda lib, x: lib.nn.functional.instance_norm(x), [IMAGE], rtol=1e-4, atol=1e-5)


def test_softmax_dtype_and_rank_0() -> None:
    for name in ("softmax", "log_softmax"):
        f = lambda lib, x, name=name: getattr(lib.nn.functional, name)(x, 0, dtype=lib.float64)  # noqa: E731
        compare(f, [VECTOR])
        assert_close(getattr(vitrify.nn.functional, name)(ours(np.float32(3)[None].reshape(())), 0),
                     getattr(torch.nn.functional, name)(torch.tensor(3.0), 0))  # fmt: skip


@pytest.mark.parametrize("norm_type", [1.0, 2.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clip_grad_norm(norm_type: float, max_norm: float) -> None:
    weights = arrays((3, 4), (5,))
    found = []
    for lib, make in ((vitrify, ours), (torch, theirs)):
        parameters = [lib.nn.Parameter(make(w)) for w in weights]
        sum((p * p * p).sum() for p in parameters).backward()
        total = lib.nn.utils.clip_grad_norm_(parameters, max_norm, norm_type)
        found.append((total, [p.grad for p in parameters]))
    assert_close(found[0][0], found[1][0])
    for got, want in zip(found[0][1], found[1][1], strict=True):
        assert_close(got, want)


def test_clip_grad_value_and_vectors() -> None:
    (w,) = arrays((3, 4))
    p = vitrify.nn.Parameter(ours(w))
    (p * p).sum().backward()
    vitrify.nn.utils.clip_grad_value_([p], 0.3)
    np.testing.assert_allclose(p.grad.numpy(), np.clip(2 * w, -0.3, 0.3))
    vector = vitrify.nn.utils.parameters_to_vector([p, p])
    np.testing.assert_array_equal(vector.detach().numpy(), np.concatenate([w.ravel()] * 2))
    vitrify.nn.utils.vector_to_parameters(vitrify.arange(12.0), [p])
    np.testing.assert_array_equal(p.detach().numpy(), np.arange(12.0).reshape(3, 4))
    with pytest.raises(RuntimeError, match="non-finite"):
        p.grad = vitrify.full((3, 4), float("nan"))
        vitrify.nn.utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)


@pytest.mark.parametrize(
    "name",
    [
        "xavier_uniform_",
        "xavier_normal_",
        "kaiming_uniform_",
        "kaiming_normal_",
        "trunc_normal_",
        "uniform_",
        "normal_",
    ],
)
def test_initial_distributions(name: str) -> None:
    """Mean, standard deviation and extremes of 30,000 values, against PyTorch's."""
    vitrify.manual_seed(1)
    torch.manual_seed(1)
    got, want = (getattr(lib.nn.init, name)(lib.empty(150, 200)).numpy() for lib in (vitrify, torch))
    assert got.std() == pytest.approx(want.std(), rel=0.03)
    assert got.mean() == pytest.approx(want.mean(), abs=5 * float(want.std()) / 170)
    if "normal" not in name or "trunc" in name:
        assert got.max() == pytest.approx(want.max(), rel=0.01)
        assert got.min() == pytest.approx(want.min(), rel=0.01, abs=1e-3)


def test_gains() -> None:
    for kind in ("linear", "conv2d", "tanh", "relu", "leaky_relu", "sigmoid", "selu"):
        assert vitrify.nn.init.calculate_gain(kind) == torch.nn.init.calculate_gain(kind)
    assert vitrify.nn.init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain(
        "leaky_relu", 0.3
    )
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        vitrify.nn.init.calculate_gain("relu7")


def test_a_network_by_name() -> None:
    """State dicts go from PyTorch to vitrify and back, by name, with equal results."""

    def make(nn: Any) -> Any:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.ModuleDict({"head": nn.Linear(64, 10)})["head"], nn.LogSoftmax(1),
        )  # fmt: skip

    compare_modules(make, *arrays((3, 1, 8, 8)))
    module, twin = make(vitrify.nn), make(torch.nn)
    back = {k: torch.from_numpy(v.numpy().copy()) for k, v in module.state_dict().items()}
    assert list(back) == list(twin.state_dict())
    twin.load_state_dict(back)
    (x,) = arrays((3, 1, 8, 8))
    assert_close(module.eval()(ours(x)), twin.eval()(theirs(x)))
    copy_state(module, twin)


BAD: dict[str, Any] = {
    "linear sizes": lambda lib, make: lib.nn.Linear(5, 3)(make(IMAGE[0, 0, :, :4])),
    "linear dtypes": lambda lib, make: lib.nn.Linear(5, 3)(make(IMAGE[0, 0].astype(np.float64))),
    "conv channels": lambda lib, make: lib.nn.Conv2d(3, 8, 3)(make(IMAGE)),
    "conv rank": lambda lib, make: lib.nn.Conv2d(4, 8, 3)(make(VECTOR)),
    "conv kernel": lambda lib, make: lib.nn.Conv2d(4, 8, 9)(make(IMAGE)),
    "conv dtype": lambda lib, make: lib.nn.Conv2d(4, 8, 3)(make(IMAGE.astype(np.float64))),
    "conv groups": lambda lib, make: lib.nn.Conv2d(4, 8, 3, groups=3),
    "conv same stride": lambda lib, make: lib.nn.Conv2d(4, 8, 3, stride=2, padding="same"),
    "conv padding word": lambda lib, make: lib.nn.Conv2d(4, 8, 3, padding="full"),
    "pool rank": lambda lib, make: lib.nn.MaxPool2d(2)(make(VECTOR)),
    "pool too large": lambda lib, make: lib.nn.MaxPool2d(9)(make(IMAGE)),
    "pool padding": lambda lib, make: lib.nn.MaxPool2d(2, padding=2)(make(IMAGE)),
    "avg pool padding": lambda lib, make: lib.nn.AvgPool2d(2, padding=2)(make(IMAGE)),
    "batch norm rank": lambda lib, make: lib.nn.BatchNorm2d(4)(make(VECTOR)),
    "batch norm one": lambda lib, make: lib.nn.BatchNorm1d(7)(make(VECTOR[None])),
    "layer norm shape": lambda lib, make: lib.nn.LayerNorm(7)(make(IMAGE)),
    "group norm": lambda lib, make: lib.nn.GroupNorm(3, 4),
    "dropout": lambda lib, make: lib.nn.Dropout(1.5),
    "embedding range": lambda lib, make: lib.nn.Embedding(3, 2)(make(np.array([0, 3]))),
    "embedding negative": lambda lib, make: lib.nn.Embedding(3, 2)(make(np.array([0, -1]))),
    "embedding dtype": lambda lib, make: lib.nn.Embedding(3, 2)(make(VECTOR)),
    "softmax of ints": lambda lib, make: lib.nn.functional.softmax(make(np.arange(3)), 0),
    "softmax dim": lambda lib, make: lib.nn.functional.softmax(make(VECTOR), 1),
    "gelu word": lambda lib, make: lib.nn.GELU("erf")(make(VECTOR)),
    "pad length": lambda lib, make: lib.nn.functional.pad(make(VECTOR), (1, 2, 3)),
}
SAME_TEXT = (
    "linear sizes", "conv channels", "conv rank", "conv kernel", "batch norm rank", "dropout",
    "layer norm shape", "embedding range", "softmax dim", "conv groups", "conv same stride",
)  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_raises_what_pytorch_raises(name: str) -> None:
    with pytest.raises(Exception) as want:
        BAD[name](torch, theirs)
    with pytest.raises(want.type) as got:
        BAD[name](vitrify, ours)
    if name in SAME_TEXT:
        assert str(got.value) == str(want.value)


INTEGER_ACTIVATIONS = (
    "relu", "relu6", "hardtanh", "leaky_relu", "elu", "gelu", "silu", "logsigmoid", "softplus",
)  # fmt: skip


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
@pytest.mark.parametrize("name", INTEGER_ACTIVATIONS)
def test_activations_of_integers(name: str, dtype: str) -> None:
    """The same integers as PyTorch, or the same class of error."""
    x = np.array([1, 0, 2, 1]).astype(dtype)
    try:
        want = getattr(torch.nn.functional, name)(theirs(x))
    except (RuntimeError, NotImplementedError) as error:
        with pytest.raises(type(error)) as got:
            getattr(vitrify.nn.functional, name)(ours(x))
        assert got.type is type(error)
    else:
        assert_close(getattr(vitrify.nn.functional, name)(ours(x)), want)
