"""Random programs of views, in-place writes, arithmetic and gradients: compiled and eager agree in every bit.

A program is a list of steps over a growing list of tensors, of which the first are arguments that may share
memory. It is run several times in a row, because the writes of one call are what the next one reads.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import vitrify as torch

Step = tuple[str, int, int]


def views(x: Any, k: int) -> Any:
    if x.ndim == 0 or x.numel() == 0:
        return x
    choice = k % 5
    if choice == 0:
        return x[k % x.shape[0] :]
    if choice == 1:
        return x.reshape(-1) if x.is_contiguous() else x.t()
    if choice == 2:
        return x[:: 1 + k % 2]
    return x.t() if x.ndim == 2 and choice == 3 else x.unsqueeze(k % (x.ndim + 1)).squeeze()


def fitted(x: Any, y: Any) -> Any:
    """Something of x's shape made from y."""
    return x * 0 + y.reshape(-1)[: 1 if y.numel() else 0].sum()


STEPS: dict[str, Callable[[list[Any], Any, Any, int], None]] = {
    "view": lambda pool, x, y, k: pool.append(views(x, k)),
    "add": lambda pool, x, y, k: pool.append(x + fitted(x, y)),
    "mul": lambda pool, x, y, k: pool.append(x * 0.5 - fitted(x, y)),
    "unary": lambda pool, x, y, k: pool.append((x.tanh, x.sin, x.abs, x.sigmoid, x.neg)[k % 5]()),
    "sum": lambda pool, x, y, k: pool.append(x.sum(k % x.ndim) if x.ndim else x * 2),
    "clone": lambda pool, x, y, k: pool.append(x.clone()),
    "cat": lambda pool, x, y, k: pool.append(torch.cat([x.reshape(-1), y.reshape(-1)])),
    "matmul": lambda pool, x, y, k: pool.append(x @ x.t() if x.ndim == 2 else x * x),
    "write add": lambda pool, x, y, k: x.add_(fitted(x, y)),
    "write mul": lambda pool, x, y, k: x.mul_(0.75),
    "write copy": lambda pool, x, y, k: x.copy_(fitted(x, y)),
    "write slice": lambda pool, x, y, k: (
        x.reshape(-1)[: k % 4].fill_(0.5) if x.is_contiguous() else x.add_(1)
    ),
    "write item": lambda pool, x, y, k: x.__setitem__(0, 1.5) if x.ndim and x.shape[0] else None,
    "random": lambda pool, x, y, k: pool.append(x + torch.rand(x.shape)),
}


def program(seed: int) -> list[Step]:
    source = random.Random(seed)
    names = list(STEPS)
    return [
        (source.choice(names), source.randrange(100), source.randrange(100))
        for _ in range(source.randrange(3, 11))
    ]


def arguments(seed: int) -> list[Any]:
    source = random.Random(-seed - 1)
    block = torch.linspace(-2, 2, 24)
    kinds = (
        lambda: torch.linspace(-1, 1, 6).reshape(2, 3),
        lambda: block[source.randrange(4) :][:12].reshape(3, 4),
        lambda: block[:16].reshape(4, 4).t(),
        lambda: torch.linspace(0, 1, source.randrange(5)),
        lambda: torch.tensor(0.25),
    )
    return [source.choice(kinds)() for _ in range(source.randrange(1, 4))]


def runner(steps: list[Step]) -> Callable[..., Any]:
    def function(*pool):
        pool = list(pool)
        for name, i, k in steps:
            STEPS[name](pool, pool[i % len(pool)], pool[(i + k) % len(pool)], k)
        return pool

    return function


def bits(x: Any) -> Any:
    return tuple(x.shape), x.stride(), np.ascontiguousarray(x.detach().numpy()).tobytes()


def outcome(function: Callable[..., Any], args: list[Any]) -> Any:
    try:
        return [bits(x) for x in function(*args)]
    except (RuntimeError, IndexError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("seed", range(60))
def test_state_and_results(seed: int) -> None:
    records = []
    for compiled in (False, True):
        function = runner(program(seed))
        run = torch.compile(function) if compiled else function
        torch.manual_seed(seed)
        args = arguments(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            records.append([(outcome(run, args), [bits(a) for a in args]) for _ in range(3)])
    assert records[0] == records[1], program(seed)
    if not any(isinstance(result, tuple) for result, _ in records[0]):
        assert run.specializations == 1, run.program.reasons


@pytest.mark.parametrize("seed", range(100, 140))
def test_gradients(seed: int) -> None:
    """The backward inside of the compiled function, and outside."""
    steps = program(seed)
    records = []
    for compiled in (False, True):
        function = runner(steps)

        def total(*leaves):
            pool = function(*(x * 1 for x in leaves))
            return sum((x * x).sum() for x in pool)

        def inside(*leaves):
            loss = total(*leaves)
            loss.backward()
            return loss.detach()

        runs = [torch.compile(f) if compiled else f for f in (total, inside)]
        record = []
        for run in runs:
            for call in range(2):
                torch.manual_seed(call)
                leaves = [a.detach().clone().requires_grad_() for a in arguments(seed)]
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    try:
                        loss = run(*leaves)
                        if run is runs[0]:
                            loss.backward()
                    except (RuntimeError, IndexError) as error:
                        record.append((type(error), str(error)))
                        continue
                record.append([bits(loss), *(None if x.grad is None else bits(x.grad) for x in leaves)])
        records.append(record)
    assert records[0] == records[1], steps
