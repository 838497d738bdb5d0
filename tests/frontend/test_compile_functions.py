"""Compiled functions give what eager gives, in every bit, with the same aliasing, identity and structure of
results."""

from __future__ import annotations

import collections
import functools
import math
import warnings
from typing import Any

import numpy as np
import pytest
import vitrify as torch
from vitrify.nn import functional as F

Pair = collections.namedtuple("Pair", "left right")


def bits(x: Any) -> Any:
    """A result as something that compares by bits and structure."""
    if isinstance(x, torch.Tensor):
        array = x.detach().numpy()
        return ("tensor", str(x.dtype), tuple(x.shape), np.ascontiguousarray(array).tobytes(), x.stride())
    if isinstance(x, dict):
        return {k: bits(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x), [bits(v) for v in x]
    return type(x), x


def twin(x: torch.Tensor) -> torch.Tensor:
    """A copy that lies in memory as x does."""
    flat = torch.zeros(max(x._type.extent, 1), dtype=x.dtype)
    made = flat.as_strided(x.shape, x.stride())
    return made.copy_(x)


def check(function: Any, *args: Any, replayed: bool = True, calls: int = 3, **kwargs: Any) -> Any:
    """Run eagerly and compiled; compare results and what became of the arguments. Gives the compiled
    function."""
    torch.manual_seed(0)
    eager_args = [twin(a) if isinstance(a, torch.Tensor) else a for a in args]
    wants = [(bits(function(*eager_args, **kwargs)), bits(eager_args)) for _ in range(calls)]
    compiled = torch.compile(function, fullgraph=replayed)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for want in wants:
            assert (bits(compiled(*args, **kwargs)), bits(list(args))) == want
    if replayed:
        assert compiled.captures == 1 and compiled.specializations == 1
    return compiled


X = torch.tensor([[1.5, -2.0, 0.25], [float("nan"), float("inf"), -0.0]])


@pytest.mark.parametrize("function", [
    lambda x: x + 1,
    lambda x: (x * 2 - x / 3).exp().sum(1),
    lambda x: torch.softmax(x, 1).log(),
    lambda x: x.t() @ x,
    lambda x: [x.sum(i) for i in range(2)],
    lambda x: {"a": x.max(), "b": (x, x + 1)},
    lambda x: x[:, 1:].reshape(-1)[::2],
    lambda x: torch.cat([x, x * 2], 0) if x.shape[0] > 1 else x,
    lambda x: functools.reduce(lambda a, b: a * b, [x[i] for i in range(2)]),
    lambda x: sum(row.sum() for row in x),
    lambda x: torch.where(x > 0, x, x * 0.1).tanh() + math.sqrt(2.0),
    lambda x: (x, None, 3, "text", True, 2.5),
    lambda x: F.layer_norm(x, (3,)),
    lambda x: x.to(torch.float64).cumsum(0),
    lambda x: torch.arange(6).reshape(2, 3) + x.long().clamp(-5, 5) * 0,
    lambda x: torch.zeros(2, 0) * 1,
], ids=lambda f: str(f.__code__.co_firstlineno) + "." + str(len(f.__code__.co_code)))  # fmt: skip
def test_pure_functions(function: Any) -> None:
    check(function, X.clone())


@pytest.mark.parametrize("shape", [(), (1,), (0,), (0, 3), (17,), (3, 5, 7)])
def test_edge_shapes(shape: tuple[int, ...]) -> None:
    check(lambda x: (x * 2 + 1).sum() + x, torch.ones(shape))


def test_non_contiguous_arguments() -> None:
    base = torch.arange(24.0).reshape(4, 6)
    check(lambda x: x + 1, base.t())
    check(lambda x: x * 2, base[1:3, ::2])
    compiled = torch.compile(lambda x: x * 2, fullgraph=True)
    assert compiled(base[:1].expand(3, 6)).tolist() == (base[:1].expand(3, 6) * 2).tolist()


def test_the_same_tensor_twice() -> None:
    x = torch.ones(3)
    compiled = torch.compile(lambda a, b: a * 2 + b, fullgraph=True)
    assert compiled(x, x).tolist() == [3.0] * 3
    assert compiled(x, x + 1).tolist() == [4.0] * 3
    assert compiled(x, x).tolist() == [3.0] * 3


def test_returning_an_argument_gives_that_very_tensor() -> None:
    x, y = torch.ones(2), torch.zeros(2)
    compiled = torch.compile(lambda a, b: (b, a, a + b), fullgraph=True)
    for _ in range(2):
        got = compiled(x, y)
        assert got[0] is y and got[1] is x


def test_one_new_tensor_twice_in_the_result_is_one_tensor() -> None:
    def function(x):
        y = x + 1
        return y, [y]

    compiled = torch.compile(function, fullgraph=True)
    for _ in range(2):
        a, (b,) = compiled(torch.ones(2))
        assert a is b


def test_views_of_arguments_share_their_memory() -> None:
    compiled = torch.compile(lambda x: (x[1:], x.t(), x.detach()), fullgraph=True)
    for _ in range(2):
        x = torch.zeros(3, 3)
        part, turned, same = compiled(x)
        x += 5
        assert part.tolist() == [[5.0] * 3] * 2 and turned[0, 0] == 5 and same[2, 2] == 5


def test_views_of_results_share_their_memory() -> None:
    def function(x):
        y = x * 2
        return y, y[0], y.t()

    compiled = torch.compile(function, fullgraph=True)
    for _ in range(2):
        y, row, turned = compiled(torch.ones(2, 2))
        y.fill_(7)
        assert row.tolist() == [7, 7] and turned.tolist() == [[7, 7], [7, 7]]


def test_copies_do_not_share_memory() -> None:
    compiled = torch.compile(lambda x: (x.clone(), x.clone(), x + 0, x.contiguous().clone()), fullgraph=True)
    for _ in range(2):
        x = torch.ones(3)
        results = compiled(x)
        x.zero_()
        results[0].fill_(9)
        assert results[1].tolist() == [1, 1, 1] and results[2].tolist() == [1, 1, 1] and results[3][0] == 1


def test_writes_to_arguments() -> None:
    def function(x, y):
        x += y
        x[0] = 5
        y.mul_(x)
        return x.sum()

    check(function, torch.arange(3.0), torch.ones(3))


def test_writes_through_views() -> None:
    def function(x):
        x[1:].t()[0].add_(10)
        x.view(-1)[::2] = -1
        row = x[0]
        row *= 2
        return row, x

    check(function, torch.arange(6.0).reshape(3, 2))


def test_writes_to_non_contiguous_arguments() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    compiled = torch.compile(lambda x: x.add_(1), fullgraph=True)
    assert compiled(base.t()) is not None and compiled(base[:, ::2]) is not None
    want = torch.arange(12.0).reshape(3, 4) + 1
    want[:, ::2] += 1
    assert base.tolist() == want.tolist()


def test_an_updated_argument_that_aliases_another() -> None:
    """Aliasing is part of the guard: the same function, once with overlapping and once with separate
    arguments."""

    def function(x, y):
        x.mul_(2)
        return x + y

    compiled = torch.compile(function, fullgraph=True)
    for make in (lambda: torch.ones(4), lambda: torch.arange(4.0)):
        a, b = make(), make()
        assert compiled(a, b).tolist() == function(make(), make()).tolist()
        a = make()
        x = make()
        assert compiled(a, a).tolist() == function(x, x).tolist()
        a, x = make(), make()
        assert (
            compiled(a[1:], a[:-1]).tolist() == function(x[1:], x[:-1]).tolist() and a.tolist() == x.tolist()
        )
        assert compiled(a, make()).tolist() == function(x, make()).tolist()


def test_slices_of_a_batch_are_one_specialization() -> None:
    data = torch.arange(40.0).reshape(10, 4)
    compiled = torch.compile(lambda x: x.sum(0), fullgraph=True)
    for i in range(0, 10, 2):
        assert compiled(data[i : i + 2]).tolist() == data[i : i + 2].sum(0).tolist()
    assert compiled.captures == 1


def test_structures_of_arguments_and_keywords() -> None:
    def function(batch, *rest, scale=None, **more):
        total = batch["x"] * 2 + batch["pair"][1] + sum(rest)
        return Pair(total if scale is None else total * scale, more)

    x = torch.ones(2)
    check(function, {"x": x, "pair": (1, x)}, x, x * 2, scale=x, other=[x, 3])
    compiled = torch.compile(function, fullgraph=True)
    batch = {"x": x + 0, "pair": (1, x)}
    assert compiled(batch).left.tolist() == [3.0, 3.0]
    assert compiled({"x": x * 2, "pair": (1, x)}).left.tolist() == [5.0, 5.0]
    assert compiled({"x": x * 2, "pair": (1, x)}, x).left.tolist() == [6.0, 6.0]
    assert compiled.captures == 2


def test_integers_specialise_and_floats_do_not() -> None:
    compiled = torch.compile(lambda x, n, a: x * a + n, fullgraph=True)
    x = torch.ones(2)
    for a in (0.1, 0.25, -3.0, float("inf")):
        assert compiled(x, 1, a).tolist() == (x * a + 1).tolist()
    assert compiled.captures == 1
    assert compiled(x, 2, 0.5).tolist() == [2.5, 2.5]
    assert compiled.captures == 2


def test_float_arithmetic_is_done_again_by_each_replay() -> None:
    def function(x, a, b):
        c = math.exp(a) / (1 + b**2) - abs(-a)
        return x * c, c, [a + 1], x.double() * (a // b)

    compiled = torch.compile(function, fullgraph=True)
    x = torch.ones(3)
    for a, b in ((0.5, 2.0), (1.25, -3.0), (1e-8, 7.5)):
        assert bits(compiled(x, a, b)) == bits(function(x, a, b))
    assert compiled.captures == 1


def test_a_float_that_is_branched_on_is_guarded() -> None:
    def function(x, a):
        return x * a if a > 0 else x - a

    compiled = torch.compile(function, fullgraph=True)
    x = torch.ones(2)
    for a in (1.0, 2.0, -1.0, -2.0, 3.0):
        assert compiled(x, a).tolist() == function(x, a).tolist()
    assert compiled.captures == 2


def test_a_float_that_is_looked_at_is_pinned() -> None:
    def function(x, a):
        return x + int(a), f"{a:.1f}", isinstance(a, float), type(a).__name__, {a: 1}

    compiled = torch.compile(function, fullgraph=True)
    x = torch.ones(2)
    for a in (1.5, 1.5, 2.5):
        assert bits(compiled(x, a)) == bits(function(x, a))
    assert compiled.captures == 2


def test_float_errors_are_the_users() -> None:
    compiled = torch.compile(lambda x, a: x * (1 / a), fullgraph=True)
    assert compiled(torch.ones(1), 2.0).item() == 0.5
    with pytest.raises(ZeroDivisionError):
        compiled(torch.ones(1), 0.0)
    assert compiled(torch.ones(1), 4.0).item() == 0.25


def test_random_numbers_are_eagers() -> None:
    check(
        lambda x: (torch.rand(3) + x, torch.randn(2, 3), torch.nn.functional.dropout(x, 0.5)), torch.ones(3)
    )


def test_user_classes_made_in_the_call() -> None:
    class Point:
        scale = 2

        def __init__(self, x, y):
            self.x, self.y = x, y

        def __add__(self, other):
            return Point(self.x + other.x, self.y + other.y)

        @property
        def norm(self):
            return (self.x * self.x + self.y * self.y).sqrt()

        @staticmethod
        def unit(like):
            return Point(torch.ones_like(like), torch.zeros_like(like))

        @classmethod
        def twice(cls, p):
            return cls(p.x * cls.scale, p.y * cls.scale)

    def function(x):
        p = Point(x, x + 1) + Point.unit(x)
        return Point.twice(p).norm

    check(function, torch.ones(3))


def test_a_result_that_is_a_users_object_is_made_by_python() -> None:
    class Box:
        def __init__(self, x):
            self.x = x

    compiled = torch.compile(lambda x: Box(x + 1))
    with pytest.warns(torch.CaptureWarning, match="gives a Box"):
        assert compiled(torch.ones(1)).x.item() == 2
    assert compiled(torch.zeros(1)).x.item() == 1


def test_functions_made_by_the_call_are_made_by_each_call() -> None:
    def function(x):
        count = 0

        def step():
            nonlocal count
            count += 1
            return count

        return x + 1, step

    compiled = torch.compile(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            assert [compiled(torch.ones(1))[1]() for _ in range(2)] == [1, 1]


def test_results_that_were_there_before() -> None:
    class Thing:
        pass

    thing, items, linear = Thing(), [1], torch.nn.Linear(1, 1)

    def function(x, given):
        return x + 1, thing, items, linear, given, Thing, torch, x.dtype, x.shape, len, x.device

    compiled = torch.compile(function, fullgraph=True)
    for _ in range(2):
        x, given = torch.ones(2), {"a": [1, 2]}
        got = compiled(x, given)
        assert got[1] is thing and got[2] is items and got[3] is linear and got[4] is given
        assert got[5:9] == (Thing, torch, torch.float32, (2,)) and got[9] is len and got[10] == x.device
    assert compiled.captures == 1


def test_control_flow_on_python_values() -> None:
    def function(x, n):
        total = x
        i = 0
        while True:
            i += 1
            if i > n:
                break
            if i % 2 and 0 < i < 4 or i == 9:
                continue
            total = total + i
        else:
            total = -total
        try:
            raise KeyError("x")
        except KeyError as error:
            total = total * len(error.args)
        finally:
            total = total + 1
        assert isinstance(total, torch.Tensor), "a tensor"
        first, *middle, last = [total, 1, 2, total * 2]
        with torch.no_grad():
            last += sum(middle)
        del middle
        return {k: v for k, v in zip("ab", (first, last), strict=True)}, [j for j in range(n) if j and j != 2]

    check(function, torch.ones(2), 5)


def test_results_do_not_share_memory_between_calls() -> None:
    compiled = torch.compile(lambda x: x + 1, fullgraph=True)
    first = compiled(torch.zeros(2))
    compiled(torch.ones(2)).fill_(9)
    assert first.tolist() == [1.0, 1.0]


def test_decorators_methods_and_options() -> None:
    class Thing:
        def __init__(self):
            self.factor = 3

        @torch.compile
        def times(self, x):
            return x * self.factor

    thing, other = Thing(), Thing()
    assert thing.times(torch.ones(1)).item() == 3
    thing.factor = 4
    assert thing.times(torch.ones(1)).item() == 4 and other.times(torch.ones(1)).item() == 3

    @torch.compile(mode="max-autotune", dynamic=False)
    def function(x):
        """Its docstring."""
        return x

    assert function.__doc__ == "Its docstring." and function.__name__ == "function"
    assert torch.compile(len, disable=True) is len
    for bad in (dict(mode="fastest"), dict(backend="cudagraphs"), dict(options={"a": 1})):
        with pytest.raises(RuntimeError):
            torch.compile(function, **bad)
    with pytest.raises(ValueError):
        torch.compile(function, numerics="wrong")
    with pytest.raises(TypeError):
        torch.compile(3)


def test_compiled_functions_call_each_other() -> None:
    inner = torch.compile(lambda x: x * 2)
    outer = torch.compile(lambda x: inner(x) + inner(x + 1), fullgraph=True)
    assert outer(torch.ones(1)).item() == 6 and outer(torch.zeros(1)).item() == 2
    assert inner.captures == 0 and outer.captures == 1


def test_recursion() -> None:
    @torch.compile(fullgraph=True)
    def power(x, n):
        return x if n == 1 else x * power(x, n - 1)

    assert power(torch.full((1,), 2.0), 5).item() == 32


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_dtypes_without_kernels_run_as_they_do_eagerly(dtype: str) -> None:
    def mixed(x: Any, y: Any) -> Any:
        low = (x * 2).to(getattr(torch, dtype))
        y.add_(1)
        return low * 3, y * 2

    def results(run: Any) -> list[np.ndarray]:
        x, y = torch.arange(5.0), torch.ones(3)
        return [t for t in (*run(x, y), y)]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for got, want in zip(results(torch.compile(mixed)), results(mixed), strict=True):
            assert bits(got) == bits(want)
    with pytest.raises(torch.CaptureError, match=f"of {dtype}, which has no kernels yet"):
        results(torch.compile(mixed, fullgraph=True))
