"""The contract of `compile`: every effect of the Python happens exactly once per call, in order, whatever
forces."""

from __future__ import annotations

import warnings

import pytest
import vitrify as torch


def test_every_effect_happens_exactly_once_per_call(capsys: pytest.CaptureFixture[str]) -> None:
    """A counter, an append, a print and a random draw around `item`."""
    log: list[float] = []
    counter = {"calls": 0}

    def effects(x):
        counter["calls"] += 1
        y = x * 2
        log.append(len(log))
        noise = torch.rand(3)
        value = (y + noise).sum().item()
        print("value known")
        log.append(value)
        return y + torch.rand(3) + value

    def run(function):
        torch.manual_seed(7)
        log.clear()
        counter["calls"] = 0
        x = torch.tensor([1.0, 2.0, 3.0])
        results = [function(x + i).tolist() for i in range(4)]
        return results, list(log), counter["calls"], torch.get_rng_state().tolist(), capsys.readouterr().out

    eager = run(effects)
    compiled = torch.compile(effects)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert run(compiled) == eager
        assert run(compiled) == eager
    assert eager[2] == 4 and len(eager[1]) == 8 and eager[4].count("value known") == 4
    places = [(w.filename, w.lineno) for w in caught if issubclass(w.category, torch.CaptureWarning)]
    assert len(places) == len(set(places)) and all(name == __file__ for name, _ in places)


def test_a_blocked_function_says_where_and_why_once() -> None:
    seen = []

    def function(x):
        seen.append(1)
        return x + 1

    compiled = torch.compile(function)
    line = function.__code__.co_firstlineno + 1
    with pytest.warns(torch.CaptureWarning, match="append changes a list from outside") as caught:
        compiled(torch.ones(2))
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, line)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled(torch.ones(2))
        compiled(torch.ones(2))
    assert len(seen) == 3


def test_fullgraph_raises_and_names_file_line_and_reason() -> None:
    @torch.compile(fullgraph=True)
    def function(x):
        if x.sum() > 0:
            return x
        return -x

    line = function.__wrapped__.__code__.co_firstlineno + 2
    with pytest.raises(torch.CaptureError, match=rf"{__file__}:{line}: bool"):
        function(torch.ones(2))


def test_effects_stay_in_order_with_data_dependent_branches(capsys: pytest.CaptureFixture[str]) -> None:
    def function(x):
        print("start")
        total = x.sum()
        if total > 0:
            print("positive", total.item())
        else:
            print("not positive")
        x.mul_(2)
        print("end", x.tolist())
        return total

    outputs = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for f in (function, torch.compile(function)):
            for value in (1.0, -1.0, 2.0):
                f(torch.tensor([value, 0.5]))
            outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] and outputs[0].count("end") == 3


def test_reading_a_traced_tensor_in_any_way_gives_its_value() -> None:
    def function(x):
        y = x + 1
        return [
            float(y[0]),
            int(y[1]),
            y.tolist(),
            y.numpy().sum(),
            bool(y[0] > 0),
            repr(y),
            f"{y[0]:.2f}",
            y[0].item(),
            [1, 2, 3][(y[0] > 0).long()],
            len(y),
            list(map(float, y)),
            max(y[0], y[1]).item(),
            y[0] in (y[0].item(),),
        ]

    x = torch.tensor([1.0, 2.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.compile(function)(x) == function(x)


def test_generators_lambdas_and_decorators_keep_their_meaning() -> None:
    log = []

    def noted(f):
        def inner(*args):
            log.append("in")
            result = f(*args)
            log.append("out")
            return result

        return inner

    def function(x):
        def numbers():
            for i in range(3):
                log.append(i)
                yield x * i

        @noted
        def double(y):
            return y * 2

        return sum((double(y) for y in numbers()), start=(lambda z: z - z)(x))

    x = torch.ones(2)
    want, eager_log = function(x).tolist(), list(log)
    compiled = torch.compile(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            log.clear()
            assert compiled(x).tolist() == want
            assert log == eager_log


def test_a_function_kept_by_the_user_works_after_the_call() -> None:
    kept = []

    def function(x):
        scale = 3.0
        kept.append(lambda y: y * scale + x)
        return x + 1

    compiled = torch.compile(function)
    with pytest.warns(torch.CaptureWarning):
        compiled(torch.ones(2))
    assert kept[0](torch.ones(2)).tolist() == [4.0, 4.0]
