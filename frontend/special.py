"""PyTorch's `torch.special`: other names for functions of `vitrify`, and a few of its own."""

from __future__ import annotations

from ._functions.elementary import (
    digamma,
    entr,
    erfc,
    erfinv,
    exp2,
    expm1,
    log1p,
    logit,
    ndtr,
    polygamma,
    sinc,
    xlog1py,
    xlogy,
)
from ._functions.elementary import digamma as psi
from ._functions.elementary import lgamma as gammaln
from ._functions.elementary import mvlgamma as multigammaln
from ._functions.pointwise import erf, round
from ._functions.pointwise import sigmoid as expit
from ._functions.reductions import logsumexp
from ._functions.softmaxes import log_softmax, softmax

__all__ = [
    "digamma", "entr", "erf", "erfc", "erfinv", "exp2", "expit", "expm1", "gammaln", "log1p", "log_softmax",
    "logit", "logsumexp", "multigammaln", "ndtr", "polygamma", "psi", "round", "sinc", "softmax", "xlog1py",
    "xlogy",
]  # fmt: skip
