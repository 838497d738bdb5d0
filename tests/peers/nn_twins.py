"""Running the same thing in vitrify and in PyTorch, and comparing results and gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import vitrify

#: Sums of up to some hundred float32 products in different orders.
TOLERANCE = {"rtol": 2e-5, "atol": 2e-6}


def arrays(*shapes: Sequence[int], seed: int = 0) -> list[np.ndarray]:
    """Standard normal float32 arrays."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def ours(array: np.ndarray, requires_grad: bool = False) -> Any:
    return vitrify.from_numpy(array.copy()).requires_grad_(requires_grad)


def theirs(array: np.ndarray, requires_grad: bool = False) -> Any:
    return torch.from_numpy(array.copy()).requires_grad_(requires_grad)


def assert_close(got: Any, want: Any, what: str = "", **tolerance: float) -> None:
    """Same shape, same dtype, values within the tolerance, nan equal to nan."""
    got, want = got.detach(), want.detach()
    assert tuple(got.shape) == tuple(want.shape), what
    assert got.dtype.name == str(want.dtype).removeprefix("torch."), what
    np.testing.assert_allclose(got.numpy(), want.numpy(), err_msg=what, **{**TOLERANCE, **tolerance})


def compare(
    function: Callable[[Any, Any], Any],
    inputs: Sequence[np.ndarray],
    constants: Sequence[np.ndarray] = (),
    **tolerance: float,
) -> None:
    """function(torch or vitrify, *inputs, *constants) gives the same, with the same gradients."""
    results = []
    for library, make in ((vitrify, ours), (torch, theirs)):
        leaves = [make(a, True) for a in inputs]
        out = function(library, *leaves, *(make(c) for c in constants))
        weights = make(np.cos(np.arange(out.numel(), dtype=np.float32)).reshape(tuple(out.shape)))
        (out * weights.to(out.dtype)).sum().backward()
        results.append((out, leaves))
    (got, got_leaves), (want, want_leaves) = results
    assert_close(got, want, "result", **tolerance)
    for i, (x, y) in enumerate(zip(got_leaves, want_leaves, strict=True)):
        assert_close(x.grad, y.grad, f"gradient of input {i}", **tolerance)


def copy_state(module: Any, twin: Any) -> None:
    """Load the state of a PyTorch module into its vitrify twin, by name."""
    module.load_state_dict(
        {k: vitrify.from_numpy(v.detach().numpy().copy()) for k, v in twin.state_dict().items()}
    )


def compare_modules(
    make: Callable[[Any], Any], *inputs: np.ndarray, train: bool = True, **tolerance: float
) -> None:
    """make(nn) in both libraries, with the same state: same repr, results, gradients and state afterwards."""
    module, twin = make(vitrify.nn), make(torch.nn)
    copy_state(module, twin)
    assert repr(module) == repr(twin)
    module.train(train)
    twin.train(train)
    floats = [i for i, a in enumerate(inputs) if a.dtype == np.float32]
    xs = [ours(a, i in floats) for i, a in enumerate(inputs)]
    ys = [theirs(a, i in floats) for i, a in enumerate(inputs)]
    got, want = module(*xs), twin(*ys)
    assert_close(got, want, "result", **tolerance)
    seed = np.sin(np.arange(want.numel(), dtype=np.float32)).reshape(tuple(want.shape))
    got.backward(ours(seed))
    want.backward(theirs(seed))
    for i in floats:
        assert_close(xs[i].grad, ys[i].grad, f"gradient of input {i}", **tolerance)
    for (name, p), (other, q) in zip(module.named_parameters(), twin.named_parameters(), strict=True):
        assert name == other
        assert_close(p.grad, q.grad, f"gradient of {name}", **tolerance)
    for (name, p), (other, q) in zip(module.named_buffers(), twin.named_buffers(), strict=True):
        assert name == other
        assert_close(p, q, f"buffer {name}", **tolerance)
