"""Helpers around parameters and their gradients."""

from __future__ import annotations

from collections.abc import Iterable

from ..._functions import cat, stack, tensor
from ..._tape import no_grad
from ..._tensor import Tensor
from . import rnn as rnn


@no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
    error_if_nonfinite: bool = False, foreach: bool | None = None,
) -> Tensor:  # fmt: skip
    """Scale the gradients in place so that their common norm is at most max_norm; gives the norm before.

    norm_type: 1, 2 or inf. Raises RuntimeError with error_if_nonfinite if the norm is nan or inf.
    """
    grads = _grads(parameters)
    total = _total_norm(grads, float(norm_type))
    if error_if_nonfinite and not bool(total.isfinite()):
        raise RuntimeError(
            f"The total norm of order {float(norm_type)} for gradients from `parameters` is "
            "non-finite, so it cannot "
            "be clipped. To disable this error and scale the gradients by the non-finite norm anyway, set "
            "`error_if_nonfinite=False`"
        )
    # PyTorch's rule: 1e-6 keeps the quotient finite.
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factor.to(grad.dtype))
    return total


@no_grad()
def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Limit each element of the gradients to -clip_value..clip_value, in place."""
    for grad in _grads(parameters):
        grad.copy_(grad.clamp(-clip_value, clip_value))


def _grads(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad for p in given if p.grad is not None]


def _total_norm(grads: list[Tensor], norm_type: float) -> Tensor:
    if not grads:
        return tensor(0.0)
    if norm_type == float("inf"):
        return stack([g.abs().max() for g in grads]).max()
    if norm_type == 1.0:
        return stack([g.abs().sum() for g in grads]).sum()
    if norm_type == 2.0:
        norms = stack([(g * g).sum().sqrt() for g in grads])
        return (norms * norms).sum().sqrt()
    raise NotImplementedError(f"clip_grad_norm_: norm_type={norm_type} is not supported, only 1, 2 and inf")


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters, one after the other, as one vector."""
    return cat([p.reshape(-1) for p in parameters])


@no_grad()
def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Write the parts of a vector into the parameters, in place."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected torch.Tensor, but got: {type(vec)}")
    start = 0
    for parameter in parameters:
        stop = start + parameter.numel()
        parameter.copy_(vec[start:stop].reshape(parameter.shape))
        start = stop
