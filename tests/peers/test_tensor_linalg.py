"""Matrix products, einsum, creation and random numbers against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from .tensor_twins import check, check_grad, check_message

RNG = np.random.default_rng(0)


def _random(*shape: int) -> np.ndarray:
    return np.array(RNG.standard_normal(shape))


MATMULS = [
    ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (5, 3, 4)), ((2, 3), (5, 3, 4)), ((5, 2, 3), (1, 3, 4)), ((1, 2, 3), (5, 3, 4)),
    ((6, 1, 2, 3), (5, 3, 4)), ((6, 5, 2, 3), (3,)), ((3,), (6, 5, 3, 4)), ((1, 1), (1, 1)),
    ((1, 1, 2, 3), (1, 1, 3, 4)), ((0, 3), (3, 4)), ((2, 0), (0, 4)), ((2, 3), (3, 0)), ((17, 33), (33, 19)),
]  # fmt: skip


@pytest.mark.parametrize("shapes", MATMULS, ids=str)
def test_matmul(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    x, y = _random(*shapes[0]), _random(*shapes[1])
    check_grad(lambda lib, x, y: x @ y, x, y)
    check(lambda lib, x, y: lib.matmul(x, y), x.astype(np.float32), y.astype(np.float32))
    check(lambda lib, x, y: lib.matmul(x, y), (x * 5).astype(np.int64), (y * 5).astype(np.int64))


@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt", "strided"])
def test_matmul_of_views(layout: str) -> None:
    a, b = _random(6, 8), _random(8, 6)
    calls: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "nn": (lambda lib, x, y: x @ y, (a, b)), "nt": (lambda lib, x, y: x @ y.t(), (a, b.T.copy())),
        "tn": (lambda lib, x, y: x.t() @ y, (a.T.copy(), b)),
        "tt": (lambda lib, x, y: x.t() @ y.t(), (a.T.copy(), b.T.copy())),
        "strided": (lambda lib, x, y: x[::2, 1:5] @ y[::2, ::3], (a, b)),
    }  # fmt: skip
    function, inputs = calls[layout]
    check_grad(function, *inputs)


PRODUCTS: list[tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = [
    (lambda lib, x, y: lib.mm(x, y), ((2, 3), (3, 4))),
    (lambda lib, x, y: lib.bmm(x, y), ((5, 2, 3), (5, 3, 4))),
    (lambda lib, x, y: lib.mv(x, y), ((2, 3), (3,))), (lambda lib, x, y: lib.dot(x, y), ((7,), (7,))),
    (lambda lib, x, y: lib.outer(x, y), ((3,), (4,))),
    (lambda lib, c, x, y: lib.addmm(c, x, y), ((4,), (2, 3), (3, 4))),
    (lambda lib, c, x, y: lib.addmm(c, x, y, beta=0.5, alpha=2), ((2, 4), (2, 3), (3, 4))),
    (lambda lib, c, x, y: lib.addmv(c, x, y), ((2,), (2, 3), (3,))),
    (lambda lib, c, x, y: lib.addr(c, x, y), ((3, 4), (3,), (4,))),
    (lambda lib, c, x, y: lib.baddbmm(c, x, y), ((5, 2, 4), (5, 2, 3), (5, 3, 4))),
    (lambda lib, c, x, y: lib.addbmm(c, x, y), ((2, 4), (5, 2, 3), (5, 3, 4))),
    (lambda lib, x, y: lib.tensordot(x, y), ((2, 3, 4), (3, 4, 5))),
    (lambda lib, x, y: lib.tensordot(x, y, 1), ((2, 3), (3, 4))),
    (lambda lib, x, y: lib.tensordot(x, y, ([0, 2], [1, 0])), ((2, 3, 4), (4, 2, 5))),
    (lambda lib, x: lib.trace(x), ((3, 4),)), (lambda lib, x, y: lib.kron(x, y), ((2, 3), (4, 2))),
    (lambda lib, x, w, b: lib.nn.functional.linear(x, w, b), ((5, 2, 3), (4, 3), (4,))),
    (lambda lib, x, w: lib.nn.functional.linear(x, w), ((3,), (4, 3))),
]  # fmt: skip


@pytest.mark.parametrize("i", range(len(PRODUCTS)))
def test_products(i: int) -> None:
    function, shapes = PRODUCTS[i]
    check_grad(function, *(_random(*s) for s in shapes))


EINSUMS = [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,kj->ik", (2, 3), (4, 3)), ("bij,bjk->bik", (5, 2, 3), (5, 3, 4)),
    ("ii->i", (3, 3)), ("ii", (3, 3)), ("ij->ji", (2, 3)), ("ij->", (2, 3)), ("ij->j", (2, 3)),
    ("i,j->ij", (2,), (3,)), ("i,i", (3,), (3,)), ("...ij,...jk->...ik", (5, 2, 3), (3, 4)),
    ("...,...", (2, 3), (2, 3)), ("ijk,jil->kl", (2, 3, 4), (3, 2, 5)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)), ("a,b,c->cab", (2,), (3,), (4,)), ("ij,ij->i", (2, 3), (1, 3)),
    ("bn,anm,bm->ba", (2, 3), (4, 3, 5), (2, 5)), ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("ij,jk,kl,lm->im", (9, 2), (2, 8), (8, 3), (3, 7)),
    ("...ij,jk,...k->...i", (5, 2, 3), (3, 4), (1, 4)), ("ij,ij,ij->", (2, 3), (2, 3), (2, 3)),
    ("aab,bc,c->a", (3, 3, 2), (2, 4), (4,)), ("i,j,k,i->kj", (2,), (3,), (4,), (2,)),
    ("ijk,ij->", (2, 3, 0), (2, 3)), ("iij->ij", (3, 3, 2)), ("ab,cd->bd", (2, 3), (4, 5)),
    ("i...->...", (2, 3, 4)),
]  # fmt: skip


@pytest.mark.parametrize("case", EINSUMS, ids=lambda c: c[0])
def test_einsum(case: Any) -> None:
    equation, *shapes = case
    check_grad(lambda lib, *xs: lib.einsum(equation, *xs), *(_random(*s) for s in shapes))


def test_einsum_with_lists_instead_of_letters() -> None:
    x, y = _random(2, 3, 4), _random(4, 3)
    check(lambda lib, x, y: lib.einsum(x, [0, 1, 2], y, [2, 1], [1, 0]), x, y)
    check(lambda lib, x, y: lib.einsum(x, [0, 1, 2], y, [2, 3]), x, y)
    check(lambda lib, x, y: lib.einsum(x, [..., 2], y, [2, 3], [3, ...]), x, y)


CHAINS = [
    ((2, 9), (9, 1), (1, 8)),
    ((3,), (3, 4), (4, 2)),
    ((3,), (3, 4), (4,)),
    ((5, 2), (2,)),
    ((2,), (2,)),
]


@pytest.mark.parametrize("shapes", CHAINS, ids=str)
def test_multi_dot(shapes: Any) -> None:
    check_grad(lambda lib, *xs: lib.linalg.multi_dot(xs), *(_random(*s) for s in shapes))


@pytest.mark.filterwarnings("ignore:torch.chain_matmul")
def test_inner_products_and_chains() -> None:
    check_grad(lambda lib, x, y: lib.inner(x, y), _random(2, 3, 4), _random(5, 4))
    check_grad(lambda lib, x, y: lib.inner(x, y), _random(4), _random(4))
    check_grad(lambda lib, x, y: lib.inner(x, y), _random(), _random(2, 3))
    check_grad(lambda lib, x, y: lib.vdot(x, y), _random(4), _random(4))
    check_grad(lambda lib, *xs: lib.chain_matmul(*xs), _random(2, 3), _random(3, 4), _random(4, 1))
    check_message(lambda lib, x, y: lib.inner(x, y), _random(2, 3), _random(2, 4))
    check_message(lambda lib, x: lib.linalg.multi_dot([x]), _random(2, 3))


def test_einsum_errors() -> None:
    for equation in ("ij,jk->ii", "ij,jk->iz", "ij", "ijk,jk", "i1,jk"):
        check(lambda lib, x, y: lib.einsum(equation, x, y), _random(2, 3), _random(3, 4))
    check_message(lambda lib, x, y: lib.einsum("ij,jk->ik", x, y), _random(2, 3), _random(4, 5))


CREATED: list[Callable[[Any], Any]] = [
    lambda t: t.tensor([1, 2, 3]), lambda t: t.tensor([1.5, 2]), lambda t: t.tensor([[True], [False]]),
    lambda t: t.tensor(3), lambda t: t.tensor([]), lambda t: t.tensor([1, 2], dtype=t.float64),
    lambda t: t.tensor([1.7, -2.7], dtype=t.int32), lambda t: t.tensor(np.arange(3)),
    lambda t: t.tensor([t.tensor(1.0), t.tensor(2.0)]), lambda t: t.tensor([[1, 2], [3.5, 4]]),
    lambda t: t.tensor(np.float64(2)), lambda t: t.tensor([0, 1.0, True]), lambda t: t.zeros(2, 3),
    lambda t: t.zeros((2, 3), dtype=t.int64), lambda t: t.ones(2), lambda t: t.zeros(()),
    lambda t: t.full((2, 2), 7), lambda t: t.full((2,), 1.5), lambda t: t.full((2,), True),
    lambda t: t.full((1,), 3, dtype=t.float64), lambda t: t.eye(3), lambda t: t.eye(2, 4, dtype=t.int64),
    lambda t: t.arange(5), lambda t: t.arange(1, 2.5, 0.5), lambda t: t.arange(5, 0, -2),
    lambda t: t.arange(0, 1, 0.1), lambda t: t.arange(3.0), lambda t: t.arange(0),
    lambda t: t.arange(10, dtype=t.float32), lambda t: t.linspace(0, 1, 5), lambda t: t.linspace(-3, 7, 11),
    lambda t: t.linspace(2, 2, 1), lambda t: t.linspace(0, 1, 0),
    lambda t: t.linspace(0, 10, 4, dtype=t.float64), lambda t: t.logspace(0, 2, 3),
    lambda t: t.zeros_like(t.ones(2, 3)), lambda t: t.ones_like(t.zeros(2), dtype=t.int32),
    lambda t: t.full_like(t.zeros(2), 5), lambda t: t.ones(2).new_zeros(3),
    lambda t: t.ones(2).new_full((2,), 4), lambda t: t.ones(2).new_tensor([1, 2]),
    lambda t: t.as_tensor([1, 2]), lambda t: t.as_tensor(np.ones(2)), lambda t: t.tril_indices(3, 4),
    lambda t: t.triu_indices(3, 3, 1), lambda t: t.tensor("a"), lambda t: t.tensor([1, "a"]),
    lambda t: t.tensor([None]), lambda t: t.tensor([[1], [1, 2]]), lambda t: t.tensor(2**70),
    lambda t: t.tensor(float("inf")), lambda t: t.tensor(3 + 0j).item(), lambda t: t.from_numpy([1]),
    lambda t: t.from_numpy(np.ones(3)[::-1]), lambda t: t.from_numpy(np.array(["a"])),
    lambda t: t.Tensor([1, 2]), lambda t: t.Tensor(2, 3).shape == (2, 3), lambda t: t.tensor([1.0]).item(),
    lambda t: t.tensor([[1, 2]]).tolist(), lambda t: t.tensor(True).item(), lambda t: t.zeros(2, 3).size(1),
    lambda t: t.zeros(2, 3).size(-3), lambda t: t.zeros(2, 3).numel(), lambda t: t.zeros(2, 3).stride(),
    lambda t: t.zeros(2, 3).t().stride(), lambda t: int(t.tensor(3.7)), lambda t: float(t.tensor(3)),
    lambda t: [1, 2, 3][t.tensor(1)], lambda t: 3 in t.tensor([1, 3]), lambda t: len(t.zeros(4, 2)),
    lambda t: [v.item() for v in t.arange(3)], lambda t: f"{t.tensor(1.5):.2f}",
    lambda t: t.zeros(2).element_size(), lambda t: bool(t.zeros(1)), lambda t: t.rand(2, 3).shape == (2, 3),
    lambda t: t.rand(2, dtype=t.int64), lambda t: t.zeros(3)[1:].storage_offset(),
    lambda t: t.zeros(2).is_contiguous(), lambda t: t.zeros(2, device="cpu"),
    lambda t: t.zeros(2, device="cuda"), lambda t: t.zeros(2).to("cpu"), lambda t: t.zeros(2).to("cuda"),
    lambda t: t.zeros(2).cpu(), lambda t: t.zeros(2).device.type, lambda t: str(t.device("cpu")),
    lambda t: repr(t.device("cuda", 1)), lambda t: t.device("nonsense"), lambda t: t.cuda.is_available(),
    lambda t: t.zeros(2, 3).shape + (1,), lambda t: t.zeros(2, 3).shape[1:],
    lambda t: t.Size([2, 3]).numel(), lambda t: t.promote_types(t.int32, t.float32).itemsize,
    lambda t: t.is_tensor(t.zeros(1)), lambda t: t.zeros(2).type(t.int64),
    lambda t: t.zeros(2).float().double().long().int().byte().bool(),
    lambda t: t.get_default_dtype().itemsize,
]  # fmt: skip


@pytest.mark.parametrize("i", range(len(CREATED)))
def test_creation(i: int) -> None:
    check(CREATED[i], what=str(i))


@pytest.mark.parametrize("name", ["float32", "float64", "float16", "int64", "int32", "uint8", "bool"])
def test_limits_of_dtypes(name: str) -> None:
    for field in ("max", "min", "eps", "tiny", "bits", "resolution"):
        check(lambda lib: getattr(lib.finfo(getattr(lib, name)), field))
    for field in ("max", "min", "bits"):
        check(lambda lib: getattr(lib.iinfo(getattr(lib, name)), field))
