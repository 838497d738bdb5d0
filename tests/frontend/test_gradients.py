"""Every differentiable function against central differences, and a choice of them twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import vitrify
from vitrify.autograd import gradcheck, gradgradcheck

SMOOTH: list[Callable[[Any], Any]] = [
    vitrify.exp,
    vitrify.sin,
    vitrify.cos,
    vitrify.tanh,
    vitrify.erf,
    vitrify.sigmoid,
    vitrify.square,
    lambda x: (x * 0.5).log1p(),
    vitrify.expm1,
    vitrify.sinh,
    vitrify.cosh,
    vitrify.tan,
    vitrify.exp2,
    vitrify.neg,
    vitrify.abs,
    vitrify.relu,
    lambda x: x.clamp(-0.9, 0.9),
    lambda x: x**3,
    lambda x: x**2.5,
    lambda x: x.nan_to_num(),
    lambda x: x.frac(),
    lambda x: 2.0**x,
    lambda x: 1 / x,
    lambda x: x % 0.7,
]
POSITIVE: list[Callable[[Any], Any]] = [
    vitrify.log,
    vitrify.sqrt,
    vitrify.rsqrt,
    vitrify.reciprocal,
    vitrify.log2,
    vitrify.log10,
    vitrify.log1p,
    vitrify.lgamma,
    vitrify.digamma,
    lambda x: (x + 1).acosh(),
    lambda x: (x * 0.5).logit(),
    lambda x: vitrify.polygamma(2, x),
]
WHOLE: list[Callable[[Any], Any]] = [
    vitrify.sum,
    vitrify.prod,
    vitrify.mean,
    vitrify.amax,
    vitrify.amin,
    vitrify.max,
    vitrify.min,
    vitrify.var,
    vitrify.std,
    vitrify.norm,
    lambda x: x.norm(1),
    lambda x: x.norm(3.0),
    lambda x: x.sum(0),
    lambda x: x.sum(1, True),
    lambda x: x.mean((0, 1)),
    lambda x: x.prod(1),
    lambda x: x.max(0).values,
    lambda x: x.var(1),
    lambda x: x.cumsum(1),
    lambda x: x.logsumexp(1),
    lambda x: x.softmax(0),
    lambda x: x.log_softmax(1),
    lambda x: x.sort(1)[0],
    lambda x: x.topk(2, 1).values,
    lambda x: x.median(),
    lambda x: vitrify.var_mean(x, 0),
]
MOVED: list[Callable[[Any], Any]] = [
    lambda x: x.t(),
    lambda x: x.reshape(3, 2),
    lambda x: x.t().reshape(-1),
    lambda x: x[:, 1:],
    lambda x: x[1],
    lambda x: x[::1, ::2],
    lambda x: x[[1, 0, 1]],
    lambda x: x[:, [2, 0]],
    lambda x: x[x > 0],
    lambda x: x.flip(1),
    lambda x: x.roll(1, 1),
    lambda x: x.repeat(2, 2),
    lambda x: x.expand(2, 2, 3),
    lambda x: x.unfold(1, 2, 1),
    lambda x: x.tril(),
    lambda x: x.diagonal(),
    lambda x: vitrify.diag(x[0]),
    lambda x: vitrify.cat([x, 2 * x], 1),
    lambda x: vitrify.stack([x, x * x]),
    lambda x: x.unbind(1),
    lambda x: x.split(2, 1),
    lambda x: x.diff(),
    lambda x: x.gather(1, vitrify.tensor([[0, 2], [1, 1]])),
    lambda x: x.index_select(1, vitrify.tensor([0, 0])),
    lambda x: x.double(),
    lambda x: x.repeat_interleave(2, 0),
    lambda x: x.masked_fill(x > 0, 3.0),
    lambda x: x.contiguous().clone(),
    lambda x: x.as_strided((2, 2), (3, 1), 1),
]
PAIRS: list[Callable[[Any, Any], Any]] = [
    vitrify.add,
    vitrify.sub,
    vitrify.mul,
    vitrify.div,
    vitrify.maximum,
    vitrify.minimum,
    vitrify.hypot,
    vitrify.logaddexp,
    vitrify.logaddexp2,
    vitrify.atan2,
    lambda x, y: vitrify.xlogy(x, y.abs()),
    lambda x, y: (x.abs() + 0.1) ** y,
    lambda x, y: vitrify.where(x > y, x * x, y),
    lambda x, y: x.lerp(y, 0.3),
    lambda x, y: x.lerp(y, y),
    lambda x, y: x @ y.t(),
    lambda x, y: vitrify.einsum("ij,kj->ik", x, y),
    lambda x, y: vitrify.tensordot(x, y, ([1], [1])),
    lambda x, y: vitrify.linear(x, y, y[:, 0]),
    lambda x, y: vitrify.outer(x[0], y[1]),
    lambda x, y: x[0] @ y[1],
    lambda x, y: x + y[:1],
    lambda x, y: x.index_add(0, vitrify.tensor([1, 1]), y),
    lambda x, y: x.scatter_add(1, vitrify.tensor([[0, 0, 2], [1, 1, 1]]), y),
    lambda x, y: x.scatter(1, vitrify.tensor([[0, 1, 2], [1, 0, 2]]), y),
    lambda x, y: vitrify.addcmul(x, x, y, value=0.5),
    lambda x, y: vitrify.kron(x, y),
    lambda x, y: vitrify.addcdiv(x, x, y.abs() + 1),
    lambda x, y: x.index_copy(0, vitrify.tensor([1, 0]), y),
]


def leaf(seed: int, positive: bool = False) -> vitrify.Tensor:
    values = np.random.default_rng(seed).uniform(0.3, 1.4, (2, 3))
    signs = 1 if positive else np.random.default_rng(seed + 1).choice([-1.0, 1.0], (2, 3))
    return vitrify.tensor(values * signs, requires_grad=True)


@pytest.mark.parametrize("i", range(len(SMOOTH)))
def test_pointwise(i: int) -> None:
    assert gradcheck(SMOOTH[i], leaf(i, positive=i == 18))


@pytest.mark.parametrize("i", range(len(POSITIVE)))
def test_of_positive_numbers(i: int) -> None:
    assert gradcheck(POSITIVE[i], leaf(i, positive=True))


@pytest.mark.parametrize("i", range(len(WHOLE)))
def test_reductions(i: int) -> None:
    assert gradcheck(WHOLE[i], leaf(i))


@pytest.mark.parametrize("i", range(len(MOVED)))
def test_movement(i: int) -> None:
    assert gradcheck(MOVED[i], leaf(i))


@pytest.mark.parametrize("i", range(len(PAIRS)))
def test_pairs(i: int) -> None:
    assert gradcheck(PAIRS[i], (leaf(i), leaf(i + 50)))


TWICE: list[Callable[[Any], Any]] = [
    vitrify.exp,
    vitrify.sin,
    vitrify.tanh,
    vitrify.sigmoid,
    vitrify.erf,
    lambda x: x**3,
    lambda x: 1 / x,
    vitrify.mean,
    vitrify.var,
    lambda x: x.softmax(1),
    lambda x: x.prod(1),
    lambda x: x @ x.t(),
    lambda x: x[[0, 1, 1]] ** 2,
    lambda x: x.cumsum(1) ** 2,
    lambda x: x.logsumexp(0),
    lambda x: vitrify.cat([x, x * x]).flip(0),
    lambda x: (x[0] * x[1]).expand(2, 3) * x,
    lambda x: x.std(0),
    *(getattr(vitrify, name) for name in "exp2 expm1 tan atan sinh cosh asinh erfc".split()),
    lambda x: (x * 0.5).asin(),
    lambda x: (x * 0.5).acos(),
    lambda x: (x * 0.5).atanh(),
    lambda x: (x * 0.5).erfinv(),
    lambda x: (x * 0.5).log1p(),
    lambda x: (x.abs() + 1).acosh(),
    lambda x: x.abs().lgamma(),
    lambda x: x.abs().digamma(),
    lambda x: x.abs().log2() * x.abs().log10(),
    lambda x: vitrify.atan2(x, x * x),
    vitrify.nn.functional.gelu,
    lambda x: vitrify.nn.functional.gelu(x, approximate="tanh"),
    vitrify.nn.functional.silu,
    vitrify.nn.functional.softplus,
    vitrify.nn.functional.logsigmoid,
]


@pytest.mark.parametrize("i", range(len(TWICE)))
def test_second_derivatives(i: int) -> None:
    assert gradgradcheck(TWICE[i], leaf(i))


ROOTS: dict[str, Callable[[Any], Any]] = {
    "norm": lambda x: x.norm(),
    "norm of rows": lambda x: x.norm(dim=1).sum(),
    "norm of degree 3": lambda x: x.norm(3),
    "std": lambda x: x.std(),
    "std of columns": lambda x: x.std(0, unbiased=False).sum(),
    "std_mean": lambda x: vitrify.std_mean(x)[0],
}


@pytest.mark.parametrize("name", ROOTS)
def test_norms_and_deviations_of_nothing_have_slope_0(name: str) -> None:
    for function in (ROOTS[name], vitrify.compile(ROOTS[name])):
        x = vitrify.zeros(3, 2, requires_grad=True)
        function(x).backward()
        assert x.grad is not None and x.grad.tolist() == [[0.0, 0.0]] * 3
    x = vitrify.zeros(3, 2, requires_grad=True)
    vitrify.nn.functional.normalize(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
