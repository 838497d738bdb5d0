"""Differentiation: `grad`, `backward`, `Function`, `gradcheck`, and the grad mode."""

from __future__ import annotations

from . import _function as function
from ._autograd import backward, grad
from ._function import Function
from ._gradcheck import GradcheckError, gradcheck, gradgradcheck
from ._tape import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled

__all__ = [
    "Function", "GradcheckError", "backward", "enable_grad", "function", "grad", "gradcheck", "gradgradcheck",
    "inference_mode", "is_grad_enabled", "no_grad", "set_grad_enabled",
]  # fmt: skip
