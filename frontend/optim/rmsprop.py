"""RMSprop. Source: Hinton, Srivastava, Swersky 2012, lecture 6 of "Neural networks for machine learning"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vitrify.ir.dtypes import float32

from .._functions import zeros, zeros_like
from .._tensor import Tensor
from .optimizer import Group, Optimizer, State, check_options, hyper


class RMSprop(Optimizer):
    """Steps along the gradient over the root of its running mean square.

    centered: over the running standard deviation instead. momentum: accumulates the steps.

    >>> optimizer = optim.RMSprop(model.parameters(), lr=0.01)
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
        weight_decay: float = 0, momentum: float = 0, centered: bool = False, capturable: bool = False,
        foreach: bool | None = None, maximize: bool = False, differentiable: bool = False,
    ) -> None:  # fmt: skip
        check_options(
            lr=(lr, "learning rate", lr >= 0.0),
            eps=(eps, "epsilon value", eps >= 0.0),
            momentum=(momentum, "momentum value", momentum >= 0.0),
            weight_decay=(weight_decay, "weight_decay value", weight_decay >= 0.0),
            alpha=(alpha, "alpha value", alpha >= 0.0),
        )
        defaults = {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
            "weight_decay": weight_decay, "capturable": capturable, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _init_state(self, param: Tensor, group: Group) -> State:
        state = {"step": zeros((), dtype=float32), "square_avg": zeros_like(param)}
        if hyper(group, "momentum") > 0:
            state["momentum_buffer"] = zeros_like(param)
        if group["centered"]:
            state["grad_avg"] = zeros_like(param)
        return state

    def _update(self, param: Tensor, grad: Tensor, state: State, group: Group) -> None:
        lr, alpha, weight_decay = (hyper(group, n) for n in ("lr", "alpha", "weight_decay"))
        if group["maximize"]:
            grad = -grad
        if weight_decay != 0:
            grad = grad + param * weight_decay
        state["step"].add_(1)
        square = state["square_avg"]
        square.copy_(square * alpha + grad * (1 - alpha) * grad)
        variance: Tensor = square
        if group["centered"]:
            mean = state["grad_avg"]
            mean.copy_(mean + (grad - mean) * (1 - alpha))
            variance = square - mean * mean
        step = grad / (variance.sqrt() + hyper(group, "eps"))
        if hyper(group, "momentum") > 0:
            buffer = state["momentum_buffer"]
            buffer.copy_(buffer * hyper(group, "momentum") + step)
            step = buffer
        param.sub_(step * lr)
