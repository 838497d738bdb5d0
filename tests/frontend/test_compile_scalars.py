"""Python floats as run-time scalars, wherever the library takes a number: eager's bits for each value."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import vitrify as torch
from vitrify.nn import functional as F

X = torch.tensor([[0.5, -1.0, 2.0], [3.0, 0.1, -0.2]])


def filled(y, a):
    y[0, 1] = a
    y[:, 2] = a
    return y


def scaled(x, *, scale):
    return x * scale


#: Used as an operand only: one capture serves all values.
OPERANDS: dict[str, Callable[..., Any]] = {
    "clamp": lambda x, a: x.clamp(-a, a),
    "full": lambda x, a: torch.full((2, 3), a) + x,
    "full_like": lambda x, a: torch.full_like(x, a),
    "add alpha": lambda x, a: x.add(x, alpha=a),
    "sub alpha": lambda x, a: torch.sub(x, x, alpha=a),
    "pow": lambda x, a: x.abs() ** a,
    "rpow": lambda x, a: a**x,
    "where": lambda x, a: torch.where(x > 0, x, a),
    "masked_fill": lambda x, a: x.masked_fill(x > 0, a),
    "fill_": lambda x, a: (x * 0).fill_(a),
    "setitem": lambda x, a: filled(x * 1, a),
    "dropout": lambda x, a: F.dropout(x, a),
    "leaky_relu": lambda x, a: F.leaky_relu(x, a),
    "layer_norm": lambda x, a: F.layer_norm(x, (3,), eps=a),
    "elu": lambda x, a: F.elu(x, a),
    "normal": lambda x, a: torch.normal(0.0, a, (2, 3)),
    "addcmul": lambda x, a: torch.addcmul(x, x, x, value=a),
    "addcdiv": lambda x, a: torch.addcdiv(x, x, x, value=a),
    "comparison": lambda x, a: (x == a, x < a, a >= x),
    "rsub, rdiv": lambda x, a: (a - x, a / x),
    "floor_div, mod": lambda x, a: (x // a, x % a),
    "in place": lambda x, a: (x * 1).add_(a).mul_(a).sub_(a).div_(a),
    "sum of scalars": lambda x, a: x * sum([a, a, 1]),
    "math": lambda x, a: x * math.log1p(a) * math.pow(a, 2) * math.sqrt(a),
    "divmod": lambda x, a: x * divmod(a, 0.2)[1],
    "abs and neg": lambda x, a: x * abs(a - 1) * -a,
    "keyword": lambda x, a: scaled(x, scale=a),
    "in containers": lambda x, a: x[0] * a + x[1] * [a, 1][0] * {"k": (a,)}["k"][0],
    "losses": lambda x, a: (
        F.mse_loss(x, x * a),
        F.cross_entropy(x, torch.tensor([0, 1]), label_smoothing=a),
    ),
    "double": lambda x, a: x.double() * a,
    "integers": lambda x, a: x.long() * a,
    "result": lambda x, a: (a, [a * 2, {"k": a}], (a + 1,)),
}
#: Looked at by Python: captured again for another value, and right.
PINNED: dict[str, Callable[..., Any]] = {
    "tensor": lambda x, a: torch.tensor(a) + torch.tensor([a, 2 * a, 3.0]) + x,
    "linspace": lambda x, a: torch.linspace(0, a, 3) + x,
    "arange": lambda x, a: torch.arange(0, 3 * a, a)[:3] + x,
    "round": lambda x, a: x * round(a, 1),
    "min": lambda x, a: x * min(a, 0.3),
    "sorted": lambda x, a: x * sorted([a, 0.3])[0],
    "in": lambda x, a: x * (a in (0.25, 0.5)),
    "key": lambda x, a: {a: x}[a],
    "texts": lambda x, a: f"{a} {a:.2f} {a!r} " + "%s" % a + str(a),
    "truth": lambda x, a: x if a else -x,
    "chain": lambda x, a: x if 0 < a < 0.4 else -x,
    "floor": lambda x, a: x * math.floor(a * 10) + math.isnan(a),
    "pad": lambda x, a: F.pad(x, (1, 1), value=a),
    "softplus": lambda x, a: F.softplus(x, beta=a),
}


def bits(x: Any) -> Any:
    if isinstance(x, torch.Tensor):
        return str(x.dtype), tuple(x.shape), np.ascontiguousarray(x.detach().numpy()).tobytes()
    if isinstance(x, dict):
        return {k: bits(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x), [bits(v) for v in x]
    return type(x), x


def check(function: Callable[..., Any], values: tuple[float, ...]) -> Any:
    compiled = torch.compile(function, fullgraph=True)
    for a in values:
        torch.manual_seed(1)
        want = bits(function(X, a))
        torch.manual_seed(1)
        assert bits(compiled(X, a)) == want
    return compiled


@pytest.mark.parametrize("name", OPERANDS)
def test_operands_need_one_capture(name: str) -> None:
    assert check(OPERANDS[name], (0.25, 0.5, 0.375)).captures == 1


@pytest.mark.parametrize("name", PINNED)
def test_what_is_looked_at_is_captured_again(name: str) -> None:
    assert check(PINNED[name], (0.25, 0.5, 0.375)).captures <= 3


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), -0.0, 1e-320, 1e300, 0.1])
def test_extreme_values_are_converted_as_eager_converts_them(value: float) -> None:
    compiled = check(lambda x, a: (x * a, x + a, x.double() * a, torch.full((2,), a)), (1.0, value))
    assert compiled.captures == 1
