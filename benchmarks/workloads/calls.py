"""What a call costs when there is next to nothing to compute: 8 or 16 elements."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from ..contestants import COMPILED, EAGER, Maker, contestants, jitted, normal, ours, plain, torchs
from .workload import Workload

SIZE = 8


def _add_one(torch: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    return lambda x: x + 1, (torch.from_numpy(normal(SIZE)),)


CALL_OVERHEAD = Workload(
    "call: compiled x + 1, 8 elements",
    contestants(
        _add_one,
        {"torch eager": EAGER, "torch.compile": COMPILED},
        jax_jit=jitted(lambda x: x + 1, lambda: (normal(SIZE),)),
    ),
    sample_s=0.01,
)


def _scaled(x: Any) -> Any:
    return x * 2.5


def _relu(x: Any) -> Any:
    return x.relu()


def _softmax(x: Any) -> Any:
    return x.softmax(-1)


def _eager(
    name: str, function: Callable[..., Any], shape: tuple[int, ...], count: int, grad: bool = False
) -> Workload:
    """An op on `count` tensors, run eagerly; with grad, they require it and the tape is recorded."""

    def program(torch: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return function, tuple(
            torch.from_numpy(normal(*shape, seed=i)).requires_grad_(grad) for i in range(count)
        )

    made: dict[str, Maker] = {"vitrify": ours(program, compiled=False), "torch eager": torchs(program, EAGER)}
    if not grad:
        made["numpy"] = plain(function, lambda: tuple(normal(*shape, seed=i) for i in range(count)))
    return Workload(f"eager: {name}", made, sample_s=0.01)


EAGER_CALLS = (
    _eager("add, 16 elements", operator.add, (16,), 2),
    _eager("add, 16 elements, recorded", operator.add, (16,), 2, grad=True),
    _eager("x * 2.5, 16 elements", _scaled, (16,), 1),
    _eager("x.T, 16 x 16", operator.attrgetter("T"), (16, 16), 1),
    _eager("x[3], 16 x 16", operator.itemgetter(3), (16, 16), 1),
    _eager("x[2:5], 16 x 16", operator.itemgetter(slice(2, 5)), (16, 16), 1),
    _eager("reshape, 16 x 16", operator.methodcaller("reshape", 256), (16, 16), 1),
    _eager("x @ y, 4 x 4, recorded", operator.matmul, (4, 4), 2, grad=True),
    _eager("relu, 16 elements, recorded", _relu, (16,), 1, grad=True),
    _eager("x[3], 16 x 16, recorded", operator.itemgetter(3), (16, 16), 1, grad=True),
    _eager("softmax, 4 x 4, recorded", _softmax, (4, 4), 1, grad=True),
)
CALLS = (CALL_OVERHEAD, *EAGER_CALLS)
