"""Gradients compared with central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import _autograd
from ._functions.creation import tensor
from ._functions.random import randn_like
from ._tape import enable_grad, no_grad
from ._tensor import Tensor


class GradcheckError(RuntimeError):
    """A gradient differs from the numerical one."""


def gradcheck(
    func: Callable[..., Any], inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
    raise_exception: bool = True, nondet_tol: float = 0.0, check_undefined_grad: bool = True,
    check_batched_grad: bool = False, fast_mode: bool = False,
) -> bool:  # fmt: skip
    """Whether the gradients of `func` agree with central differences, element by element.

    inputs: float64 tensors; those that require grad are checked. Raises GradcheckError (or, with
    raise_exception=False, gives False) where one differs by more than atol + rtol * |numerical|.
    """
    args = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    try:
        for at, x in enumerate(args):
            if isinstance(x, Tensor) and x.requires_grad:
                _check_input(func, args, at, eps, atol, rtol)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(func: Callable[..., Any], inputs: Any, grad_outputs: Any = None, **options: Any) -> bool:
    """As `gradcheck`, of the gradients themselves."""
    args = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    outputs = _outputs(func, args)
    cotangents = grad_outputs or tuple(randn_like(y.detach()).requires_grad_() for y in outputs)
    count = len(args)

    def gradients(*values: Any) -> tuple[Tensor, ...]:
        xs, cts = values[:count], values[count:]
        wanted = [x for x in xs if isinstance(x, Tensor) and x.requires_grad]
        with enable_grad():
            found = _autograd.grad(_outputs(func, xs), wanted, cts, create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None and g.requires_grad)

    return gradcheck(gradients, (*args, *cotangents), **options)


def _outputs(func: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    result = func(*args)
    items = result if isinstance(result, (tuple, list)) else (result,)
    return tuple(y for y in items if isinstance(y, Tensor) and y.requires_grad)


def _check_input(
    func: Callable[..., Any], args: tuple[Any, ...], at: int, eps: float, atol: float, rtol: float
) -> None:
    outputs = _outputs(func, args)
    for i, y in enumerate(outputs):
        analytical = _by_backward(y, args[at])
        numerical = _by_differences(lambda *a, i=i: _outputs(func, a)[i], args, at, eps)
        if not np.allclose(analytical, numerical, rtol, atol, equal_nan=True):
            raise GradcheckError(
                f"Jacobian mismatch for output {i} with respect to input {at},\nnumerical:{numerical}\n"
                f"analytical:{analytical}\n"
            )


def _by_backward(y: Tensor, x: Tensor) -> np.ndarray:
    """The Jacobian [x elements, y elements], a column for each element of the output."""
    columns = []
    for j in range(y.numel()):
        unit = np.zeros(y.numel())
        unit[j] = 1.0
        ct = tensor(unit.reshape(tuple(y.shape)), dtype=y.dtype)
        (g,) = _autograd.grad(y, x, ct, retain_graph=True, allow_unused=True)
        columns.append(np.zeros(x.numel()) if g is None else g.detach().numpy().reshape(-1).copy())
    return np.stack(columns, 1) if columns else np.zeros((x.numel(), 0))


def _by_differences(func: Callable[..., Tensor], args: tuple[Any, ...], at: int, eps: float) -> np.ndarray:
    x = args[at].detach().numpy().copy()
    rows = []
    for k in range(x.size):
        sides = []
        for shift in (-eps, eps):
            moved = x.copy()
            moved.reshape(-1)[k] += shift
            values = (*args[:at], tensor(moved).requires_grad_(), *args[at + 1 :])
            sides.append(func(*values).detach().numpy().reshape(-1).copy())
        rows.append((sides[1] - sides[0]) / (2 * eps))
    with no_grad():
        return np.stack(rows) if rows else np.zeros((0, func(*args).numel()))
