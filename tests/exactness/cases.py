"""Functions whose eager and compiled results must agree in every bit, with the shapes they are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import vitrify
import vitrify.nn.functional as F

#: Sizes with odd tails, beside full vectors of 16; rank 0, size 0 and size 1 among them.
SHAPES: tuple[tuple[int, ...], ...] = (
    (),
    (0,),
    (1,),
    (7,),
    (16,),
    (3, 17),
    (2, 0, 3),
    (33, 5),
    (2, 3, 4, 5),
    (1000,),
)
ROWS: tuple[tuple[int, ...], ...] = ((1, 1), (3, 10), (4, 17), (2, 3, 64), (2, 5000), (130, 6))


@dataclass(frozen=True)
class Case:
    """function(*tensors) with float32 tensors of these shapes; positive: values above 0 only."""

    name: str
    function: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    positive: bool = False
    dtype: str = "float32"

    def arguments(self, seed: int = 0, special: bool = False) -> list[np.ndarray]:
        """Seeded values; with `special`, NaN, infinities, zeros of both signs and subnormals are mixed in."""
        rng = np.random.default_rng([seed, *map(len, self.shapes)])
        arrays = []
        for shape in self.shapes:
            values = np.asarray(rng.standard_normal(shape) * 3).astype(self.dtype)
            if self.positive:
                values = np.asarray(np.abs(values) + 0.1, self.dtype)
            if special and values.size:
                odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-40, 3e38], self.dtype)
                places = rng.integers(0, values.size, max(1, values.size // 5))
                values.reshape(-1)[places] = rng.choice(odd, places.size)
            arrays.append(values)
        return arrays

    def __str__(self) -> str:
        return f"{self.name}-{'x'.join(map(str, self.shapes))}".replace(" ", "")


UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": lambda x: -x,
    "abs": vitrify.abs,
    "sign": vitrify.sign,
    "floor": vitrify.floor,
    "ceil": vitrify.ceil,
    "round": vitrify.round,
    "trunc": vitrify.trunc,
    "exp": vitrify.exp,
    "log": vitrify.log,
    "sin": vitrify.sin,
    "cos": vitrify.cos,
    "tanh": vitrify.tanh,
    "erf": vitrify.erf,
    "sqrt": vitrify.sqrt,
    "rsqrt": vitrify.rsqrt,
    "sigmoid": vitrify.sigmoid,
    "relu": vitrify.relu,
    "softplus": F.softplus,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    **{
        name: getattr(vitrify, name)
        for name in """exp2 expm1 log2 log10 log1p tan asin acos atan sinh cosh asinh acosh atanh erfc erfinv
        lgamma digamma sinc logit""".split()
    },
    "polygamma": lambda x: vitrify.polygamma(2, x),
    "logsigmoid": F.logsigmoid,
    "square": lambda x: x * x,
    "scaled": lambda x: x * 2.5 + 0.1,
    "reciprocal": lambda x: 1 / x,
    "cubed": lambda x: x**3,
    "clamp": lambda x: x.clamp(-1.0, 1.5),
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "maximum": vitrify.maximum,
    "minimum": vitrify.minimum,
    "pow": lambda x, y: vitrify.abs(x) ** y,
    "atan2": vitrify.atan2,
    "xlogy": vitrify.xlogy,
    "where": lambda x, y: vitrify.where(x > y, x, y * 2),
}
REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "sum": lambda x: x.sum(),
    "sum_last": lambda x: x.sum(-1),
    "sum_first": lambda x: x.sum(0),
    "mean_keep": lambda x: x.mean(-1, keepdim=True),
    "prod": lambda x: x.prod(-1),
    "amax": lambda x: x.amax(-1),
    "amin_first": lambda x: x.amin(0),
    "max": lambda x: x.max(-1).values,
    "var": lambda x: x.var(-1, correction=0),
    "cumsum": lambda x: x.cumsum(-1),
    "cumsum_first": lambda x: x.cumsum(0),
    "sort": lambda x: x.sort(-1).values,
    "sort_first": lambda x: x.sort(0, descending=True).values,
    "topk": lambda x: x.topk(min(3, x.shape[-1])).values,
    "median": lambda x: x.median(-1).values,
    "softmax": lambda x: F.softmax(x, -1),
    "softmax_first": lambda x: F.softmax(x, 0),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "logsumexp": lambda x: vitrify.logsumexp(x, -1),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[-1:]),
    "norm": lambda x: (x * x).sum(-1).sqrt(),
}
MOVEMENT: dict[str, Callable[[Any], Any]] = {
    "transpose": lambda x: x.transpose(0, -1) * 2,
    "reshape": lambda x: x.reshape(-1) + 1,
    "flip": lambda x: x.flip(0),
    "slice": lambda x: x[..., ::2] - x[..., :1],
    "pad": lambda x: F.pad(x, (1, 2), value=3.0),
    "cat": lambda x: vitrify.cat([x, x * 2, x[:1]]),
    "stack": lambda x: vitrify.stack([x, -x], -1),
    "expand": lambda x: x.unsqueeze(1).expand(-1, 4, *x.shape[1:]) * x.unsqueeze(1),
    "roll": lambda x: x.roll(1, 0),
    "permute_sum": lambda x: x.movedim(0, -1).sum(-1),
    "index": lambda x: x[[0, -1, 0]],
    "strided_sum": lambda x: x[::2].transpose(0, -1).sum(0),
}
CONTRACTIONS: tuple[tuple[str, Callable[..., Any], tuple[tuple[int, ...], ...]], ...] = (
    ("matmul", lambda x, y: x @ y, ((1, 1), (1, 1))),
    ("matmul", lambda x, y: x @ y, ((5, 7), (7, 3))),
    ("matmul", lambda x, y: x @ y, ((64, 100), (100, 33))),
    ("matmul_k0", lambda x, y: x @ y, ((4, 0), (0, 3))),
    ("matmul_long", lambda x, y: x @ y, ((3, 9001), (9001, 2))),
    ("matmul_nt", lambda x, y: x @ y.t(), ((64, 50), (40, 50))),
    ("matmul_tn", lambda x, y: x.t() @ y, ((50, 64), (50, 40))),
    ("matmul_tt", lambda x, y: x.t() @ y.t(), ((50, 64), (40, 50))),
    ("matvec", lambda x, y: x @ y, ((30, 17), (17,))),
    ("vecmat", lambda x, y: x @ y, ((17,), (17, 30))),
    ("dot", lambda x, y: x @ y, ((100,), (100,))),
    ("batched", lambda x, y: x @ y, ((2, 3, 8, 20), (2, 3, 20, 9))),
    ("broadcast", lambda x, y: x @ y, ((2, 3, 8, 20), (20, 9))),
    ("einsum", lambda x, y: vitrify.einsum("bhqd,bhkd->bhqk", x, y), ((2, 2, 6, 16), (2, 2, 7, 16))),
    ("linear_gelu", lambda x, w, b: F.gelu(F.linear(x, w, b)), ((8, 20), (12, 20), (12,))),
    ("conv1d", lambda x, w: F.conv1d(x, w, padding=1), ((2, 3, 20), (5, 3, 3))),
    ("conv2d", lambda x, w, b: F.conv2d(x, w, b, padding=1), ((2, 3, 9, 10), (4, 3, 3, 3), (4,))),
    (
        "conv2d_stride",
        lambda x, w: F.conv2d(x, w, stride=2, padding=2, dilation=2),
        ((2, 3, 11, 12), (4, 3, 3, 3)),
    ),
    ("conv2d_groups", lambda x, w: F.conv2d(x, w, groups=2), ((2, 4, 6, 6), (6, 2, 3, 3))),
    ("max_pool", lambda x: F.max_pool2d(x, 2), ((2, 3, 8, 10),)),
    ("max_pool_overlap", lambda x: F.max_pool2d(x, 3, stride=2, padding=1), ((2, 3, 9, 10),)),
    ("avg_pool", lambda x: F.avg_pool2d(x, 2), ((2, 3, 8, 10),)),
)


def _mlp(x: Any, w0: Any, b0: Any, w1: Any) -> Any:
    return F.cross_entropy(F.relu(x @ w0.t() + b0) @ w1.t(), vitrify.arange(x.shape[0]) % w1.shape[0])


def _attention(q: Any, k: Any, v: Any) -> Any:
    return F.softmax(q @ k.transpose(-1, -2) / 4.0, -1) @ v


COMPOSED: tuple[Case, ...] = (
    Case("chain", lambda x, y: F.gelu(x * y + 0.5).sigmoid() - vitrify.tanh(x), ((37, 5), (5,))),
    Case(
        "normalised",
        lambda x: (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-5).sqrt(),
        ((9, 33),),
    ),
    Case("mlp", _mlp, ((10, 20), (16, 20), (16,), (5, 16))),
    Case("attention", _attention, ((2, 3, 8, 16), (2, 3, 8, 16), (2, 3, 8, 16))),
    Case("residual", lambda x, w: F.layer_norm(x + F.relu(x @ w), (24,)).mean(0), ((12, 24), (24, 24))),
    Case(
        "conv_pool",
        lambda x, w: F.max_pool2d(F.relu(F.conv2d(x, w, padding=1)), 2).flatten(1),
        ((2, 1, 8, 8), (4, 1, 3, 3)),
    ),
    Case("embedding", lambda w: F.embedding(vitrify.tensor([[1, 0], [3, 1]]), w).sum(1), ((5, 6),)),
    Case("picked", lambda x: x[vitrify.arange(4), vitrify.tensor([1, 0, 2, 2])] * x[:, 0], ((4, 3),)),
    Case("masked", lambda x: x.masked_fill(x > 0, -1.0).cumsum(0), ((6, 7),)),
)
ALONE: tuple[Case, ...] = (
    *(Case(n, f, (s,), positive=n in ("log", "sqrt", "rsqrt")) for n, f in UNARY.items() for s in SHAPES),
    *(Case(n, f, (s, s)) for n, f in BINARY.items() for s in SHAPES),
    *(Case(n, f, ((3, 1, 5), (4, 1))) for n, f in BINARY.items()),
    *(Case(n, f, (s,)) for n, f in REDUCTIONS.items() for s in ROWS),
    *(Case(n, f, (s,)) for n, f in MOVEMENT.items() for s in ROWS[:4]),
    *(Case(n, f, s) for n, f, s in CONTRACTIONS),
)
