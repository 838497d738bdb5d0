"""Running an expression in vitrify and in PyTorch: same values, dtypes, shapes, gradients, and errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import vitrify

#: A few units in the last place: the libraries sum in different orders and have different elementary
#: functions.
TOLERANCES = {"float32": (3e-6, 1e-6), "float64": (2e-13, 1e-13)}

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.7, 1e-3, 30.0, -30.0, np.inf, -np.inf, np.nan, 1e-40, 7.0, 2.0]


def ours(value: Any) -> Any:
    """An array as a vitrify tensor; other values as they are."""
    return vitrify.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value


def theirs(value: Any) -> Any:
    """An array as a PyTorch tensor; other values as they are."""
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value


def arrays_of(dtype: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays of one dtype, by what is special about them."""
    rng = np.random.default_rng(seed)
    flat = rng.standard_normal(60) * 3
    if dtype == "bool":
        made = {"matrix": (flat.reshape(5, 12) > 0), "vector": flat[:17] > 1, "scalar": np.array(True)}
    elif dtype.startswith("float"):
        made = {"matrix": flat.reshape(5, 12), "special": np.array(SPECIAL), "scalar": np.array(flat[0]),
                "cube": flat.reshape(3, 4, 5)}  # fmt: skip
    else:
        low = 0 if dtype.startswith("u") else -9
        made = {
            "matrix": rng.integers(low, 10, (5, 12)),
            "scalar": np.array(3),
            "cube": rng.integers(low, 10, (3, 4, 5)),
        }
    made["empty"] = np.zeros((3, 0))
    return {name: np.array(a, dtype) for name, a in made.items()}


def run(function: Callable[..., Any], library: Any, make: Callable[[Any], Any], inputs: Sequence[Any]) -> Any:
    """The result, or the exception."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(library, *map(make, inputs))
    except Exception as error:
        return error


def assert_alike(got: Any, want: Any, what: str = "") -> None:
    """Equal results: tensors by dtype, shape and value, sequences item by item, errors by class."""
    if isinstance(want, Exception) or isinstance(got, Exception):
        assert type(got) is type(want), f"{what}: {got!r} and {want!r}"
        return
    if isinstance(want, torch.Tensor):
        assert isinstance(got, vitrify.Tensor), f"{what}: got {got!r}"
        assert got.dtype.name == str(want.dtype).removeprefix("torch."), (
            f"{what}: {got.dtype} and {want.dtype}"
        )
        assert tuple(got.shape) == tuple(want.shape), f"{what}: {got.shape} and {want.shape}"
        rtol, atol = TOLERANCES.get(got.dtype.name, (0, 0))
        np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), rtol, atol, err_msg=what)
    elif isinstance(want, (tuple, list)) and not isinstance(want, torch.Size):
        assert len(got) == len(want), what
        for g, w in zip(got, want, strict=True):
            assert_alike(g, w, what)
    else:
        assert got == want or got != got and want != want, f"{what}: {got!r} and {want!r}"


def check(function: Callable[..., Any], *inputs: Any, what: str = "") -> None:
    """function(library, *inputs) is alike in both libraries, errors included."""
    assert_alike(run(function, vitrify, ours, inputs), run(function, torch, theirs, inputs), what)


def check_grad(function: Callable[..., Any], *inputs: Any, what: str = "") -> None:
    """function(library, *inputs) is alike, and so are the gradients by its floating point inputs."""
    both = []
    for library, make in ((vitrify, ours), (torch, theirs)):
        leaves = [make(a) for a in inputs]
        for x in leaves:
            if hasattr(x, "requires_grad_") and x.is_floating_point():
                x.requires_grad_()
        results = function(library, *leaves)
        results = results if isinstance(results, (tuple, list)) else (results,)
        for i, out in enumerate(r for r in results if r.requires_grad):
            weights = make(
                np.cos(np.arange(out.numel()) + i).astype(inputs[0].dtype).reshape(tuple(out.shape))
            )
            (out * weights).sum().backward(retain_graph=True)
        both.append((results, [x.grad for x in leaves if hasattr(x, "grad")]))
    assert_alike(both[0][0], both[1][0], what)
    for i, (g, w) in enumerate(zip(both[0][1], both[1][1], strict=True)):
        assert_alike(g, w, f"{what}: gradient of input {i}")


def check_message(function: Callable[..., Any], *inputs: Any) -> None:
    """function(library, *inputs) raises the same class with the same words."""
    got, want = (run(function, lib, make, inputs) for lib, make in ((vitrify, ours), (torch, theirs)))
    assert isinstance(want, Exception), f"PyTorch gives {want!r}"
    assert type(got) is type(want), f"{got!r} and {want!r}"
    ours_, theirs_ = (str(e).replace("vitrify", "torch").split("\n")[0] for e in (got, want))
    assert ours_ == theirs_
