"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._functions import zeros_like
from .._tensor import Tensor
from .optimizer import Group, Optimizer, State, check_options, hyper


class SGD(Optimizer):
    """p -= lr * v, where v = momentum * v + (1 - dampening) * g and g is the gradient plus weight_decay * p.

    nesterov: step along g + momentum * v instead. maximize: climb. foreach, fused, differentiable are
    accepted for compatibility: the compiler fuses all updates anyway.

    >>> optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0, dampening: float = 0,
        weight_decay: float = 0, nesterov: bool = False, *, maximize: bool = False,
        foreach: bool | None = None, differentiable: bool = False, fused: bool | None = None,
    ) -> None:  # fmt: skip
        check_options(
            lr=(lr, "learning rate", lr >= 0.0),
            momentum=(momentum, "momentum value", momentum >= 0.0),
            weight_decay=(weight_decay, "weight_decay value", weight_decay >= 0.0),
        )
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize, "foreach": foreach,
            "differentiable": differentiable, "fused": fused,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _init_state(self, param: Tensor, group: Group) -> State:
        """A buffer of zeros makes the first step v = g; with dampening v has to start as g itself."""
        if hyper(group, "momentum") != 0 and hyper(group, "dampening") == 0:
            return {"momentum_buffer": zeros_like(param)}
        return {}

    def _update(self, param: Tensor, grad: Tensor, state: State, group: Group) -> None:
        lr, weight_decay = hyper(group, "lr"), hyper(group, "weight_decay")
        if group["maximize"]:
            grad = -grad
        if weight_decay != 0:
            grad = grad + param * weight_decay
        if hyper(group, "momentum") != 0:
            grad = self._with_momentum(grad, state, group)
        param.sub_(grad * lr)

    @staticmethod
    def _with_momentum(grad: Tensor, state: State, group: Group) -> Tensor:
        momentum, dampening = hyper(group, "momentum"), hyper(group, "dampening")
        buffer = state.get("momentum_buffer")
        if buffer is None:
            buffer = state["momentum_buffer"] = grad.clone()
        elif dampening != 0:
            buffer.copy_(buffer * momentum + grad * (1 - dampening))
        else:
            buffer.copy_(buffer * momentum + grad)
        return grad + buffer * momentum if group["nesterov"] else buffer
