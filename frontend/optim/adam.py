"""Adam and AdamW.

Sources: Kingma and Ba 2015, arXiv:1412.6980; Reddi et al. 2018 (AMSGrad), arXiv:1904.09237; Loshchilov and
Hutter 2019 (decoupled weight decay), arXiv:1711.05101.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vitrify.ir.dtypes import float32, float64

from .._functions import maximum, zeros, zeros_like
from .._tensor import Tensor
from .optimizer import Group, Optimizer, State, check_options, hyper


class Adam(Optimizer):
    """Steps along the running mean of the gradient over the root of its mean square, bias-corrected.

    weight_decay: adds weight_decay * p to the gradient. amsgrad: divide by the root of the largest mean
    square so far. decoupled_weight_decay: shrink p by lr * weight_decay instead (AdamW). maximize: climb.
    foreach, fused, capturable and differentiable are accepted for compatibility: the compiler fuses all
    updates anyway.

    >>> optimizer = optim.Adam(model.parameters(), lr=1e-3)
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0, amsgrad: bool = False, *, foreach: bool | None = None,
        maximize: bool = False, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, decoupled_weight_decay: bool = False,
    ) -> None:  # fmt: skip
        check_options(
            lr=(lr, "learning rate", lr >= 0.0),
            eps=(eps, "epsilon value", eps >= 0.0),
            beta1=(betas[0], "beta parameter at index 0", 0.0 <= betas[0] < 1.0),
            beta2=(betas[1], "beta parameter at index 1", 0.0 <= betas[1] < 1.0),
            weight_decay=(weight_decay, "weight_decay value", weight_decay >= 0.0),
        )
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "foreach": foreach, "maximize": maximize, "capturable": capturable,
            "differentiable": differentiable, "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _init_state(self, param: Tensor, group: Group) -> State:
        state = {
            "step": zeros((), dtype=float32),
            "exp_avg": zeros_like(param),
            "exp_avg_sq": zeros_like(param),
        }
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = zeros_like(param)
        return state

    def _update(self, param: Tensor, grad: Tensor, state: State, group: Group) -> None:
        lr, weight_decay = hyper(group, "lr"), hyper(group, "weight_decay")
        beta1, beta2 = hyper(group, "betas")
        if group["maximize"]:
            grad = -grad
        if weight_decay != 0 and group["decoupled_weight_decay"]:
            param.mul_(1 - lr * weight_decay)
        elif weight_decay != 0:
            grad = grad + param * weight_decay
        state["step"].add_(1)
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.copy_(mean + (grad - mean) * (1 - beta1))
        square.copy_(square * beta2 + grad * (1 - beta2) * grad)
        if group["amsgrad"]:
            state["max_exp_avg_sq"].copy_(maximum(state["max_exp_avg_sq"], square))
            square = state["max_exp_avg_sq"]
        # In double and as tensors, so that no value has to be known while the step is being captured.
        step = state["step"].to(float64)
        step_size = lr / (1 - beta1**step)
        correction = 1 / (1 - beta2**step).sqrt()  # a product for each element costs less than a quotient
        denominator = square.sqrt() * correction + hyper(group, "eps")
        param.sub_(mean * step_size / denominator)


class AdamW(Adam):
    """Adam with decoupled weight decay: p shrinks by lr * weight_decay in each step.

    >>> optimizer = optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize,
            capturable=capturable, differentiable=differentiable, fused=fused, decoupled_weight_decay=True,
        )  # fmt: skip
