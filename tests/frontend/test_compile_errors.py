"""Errors of compiled functions: the exception, the message and the state are eager's; the traceback is the
user's."""

from __future__ import annotations

import traceback
import warnings
from typing import Any

import pytest
import vitrify as torch


def outcome(function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as error:
        return type(error), str(error)


def both(make: Any, *argument_lists: Any, replayed: bool = True) -> Any:
    """make() gives (function, state); run eager and compiled over the same calls and compare outcomes and
    state."""
    records = []
    for compiled in (False, True):
        function, state = make()
        if compiled:
            function = torch.compile(function)
        record = []
        with warnings.catch_warnings():
            warnings.simplefilter("error" if replayed else "ignore")
            for args in argument_lists:
                result = outcome(function, *(a.clone() if isinstance(a, torch.Tensor) else a for a in args))
                record.append(result.tolist() if isinstance(result, torch.Tensor) else result)
                record.append([s.tolist() if isinstance(s, torch.Tensor) else s for s in state])
        records.append(record)
    assert records[0] == records[1]
    return function


X = torch.tensor([1.0, 2.0, 3.0])
GOOD, BAD = torch.tensor([0, 2]), torch.tensor([0, 7])


def test_an_index_out_of_range_leaves_what_eager_leaves() -> None:
    def make():
        seen = torch.zeros(3)

        def function(x, i):
            seen.add_(1)
            y = x[i]
            seen.add_(10)
            return y * 2

        return function, [seen]

    compiled = both(make, (X, GOOD), (X, BAD), (X, GOOD), (X, BAD), (X, GOOD))
    assert compiled.captures == 1
    both(make, (X, BAD), (X, GOOD), (X, BAD))


def test_class_indices_out_of_range() -> None:
    def make():
        weight = torch.ones(3, 4, requires_grad=True)

        def function(x, y):
            loss = torch.nn.functional.cross_entropy(x @ weight, y)
            loss.backward()
            with torch.no_grad():
                weight.sub_(weight.grad)
            weight.grad = None
            return loss.detach()

        return function, [weight]

    x = torch.ones(2, 3)
    both(
        make,
        (x, torch.tensor([0, 3])),
        (x, torch.tensor([0, 4])),
        (x, torch.tensor([1, 2])),
        (x, torch.tensor([-1, 0])),
    )


def test_integer_division_by_zero() -> None:
    both(lambda: (lambda a, b: a // b, []), (GOOD, GOOD + 1), (GOOD, GOOD), (GOOD, GOOD + 2))
    both(lambda: (lambda a, b: a % b, []), (GOOD, GOOD), (GOOD, GOOD + 2))


def test_wrong_shapes_and_dtypes_raise_what_eager_raises() -> None:
    function = torch.compile(lambda x, y: x @ y)
    for args in ((torch.ones(2, 3), torch.ones(2, 3)), (torch.ones(2, 3), torch.ones(3).long()), (X, "text")):
        assert outcome(function, *args) == outcome(function.__wrapped__, *args)


def test_an_exception_of_the_users_code_comes_after_its_effects() -> None:
    def make():
        state, log = torch.zeros(2), []

        def function(x, fail):
            state.add_(x)
            log.append(1)
            if fail:
                raise ValueError(f"failed after {len(log)}")
            state.add_(x)
            return state.sum()

        return function, [state, log]

    both(make, *[(torch.ones(2), f) for f in (False, True, False, True)], replayed=False)


def test_a_pure_function_that_raises() -> None:
    def make():
        state = torch.zeros(2)

        def function(x, n):
            state.add_(x)
            if n > 2:
                raise IndexError("too many")
            return state * n

        return function, [state]

    both(make, *[(torch.ones(2), n) for n in (1, 3, 2, 3, 1)])


def test_errors_are_raised_inside_the_try_that_would_catch_them() -> None:
    def make():
        log = []

        def function(x, i):
            try:
                y = x[i] * 2
            except IndexError as error:
                log.append(str(error))
                y = x
            finally:
                log.append("finally")
            return y.sum()

        return function, [log]

    both(make, (X, GOOD), (X, BAD), (X, BAD), (X, GOOD), replayed=False)


def test_effects_after_a_pending_error_do_not_happen() -> None:
    def make():
        log = []

        def function(x, i):
            log.append("before")
            y = x[i]
            log.append("after")
            return y

        return function, [log]

    both(make, *[(X, i) for i in (GOOD, BAD, GOOD, BAD, BAD)], replayed=False)


def test_errors_in_code_that_cannot_be_converted() -> None:
    def make():
        log = []
        space: dict[str, Any] = {"log": log}
        exec("def inner(x, i):\n    y = x[i]\n    log.append('after')\n    return y * 2\n", space)
        inner = space["inner"]

        def function(x, i):
            return inner(x, i) + 1

        return function, [log]

    both(make, *[(X, i) for i in (GOOD, BAD, GOOD, BAD)], replayed=False)


def test_the_traceback_shows_the_users_lines() -> None:
    def inner(x):
        return x.reshape(7)

    def function(x):
        return inner(x) + 1

    try:
        torch.compile(function)(X)
    except RuntimeError as error:
        frames = traceback.extract_tb(error.__traceback__)
    lines = [(f.lineno, f.name) for f in frames if f.filename == __file__]
    assert [name for _, name in lines[-2:]] == ["function", "inner"]
    assert lines[-1][0] == inner.__code__.co_firstlineno + 1
    assert not any("tracer" in f.filename for f in frames)


def test_fullgraph_undoes_nothing_and_does_nothing() -> None:
    weight = torch.ones(2, requires_grad=True)
    weight.grad = torch.full((2,), 5.0)
    before = weight.grad

    @torch.compile(fullgraph=True)
    def function(x):
        weight.grad = None
        loss = (weight * x).sum()
        loss.backward()
        return loss.item()

    with pytest.raises(torch.CaptureError, match=r"test_compile_errors.py:\d+: item"):
        function(torch.ones(2))
    assert weight.grad is before and before.tolist() == [5, 5]


@pytest.mark.parametrize("body,match", [
    (lambda x: x.numpy(), "numpy"),
    (lambda x: print(x), "print"),
    (lambda x: x if x.any() else -x, "bool"),
    (lambda x: x.tolist(), "tolist"),
    (lambda x: float(x[0]), "item"),
    (lambda x: open(__file__), "open"),
], ids=["numpy", "print", "bool", "tolist", "float", "open"])  # fmt: skip
def test_fullgraph_messages(body: Any, match: str) -> None:
    line = body.__code__.co_firstlineno
    with pytest.raises(torch.CaptureError, match=rf"{__file__}:{line}: .*{match}"):
        torch.compile(body, fullgraph=True)(X)


def test_keyboard_interrupt_in_a_capture_leaves_eagers_state() -> None:
    state = torch.zeros(2)

    def function(x):
        state.add_(x)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        torch.compile(function)(torch.ones(2))
    assert state.tolist() == [1, 1]


def test_a_graph_that_the_compiler_fails_on_runs_op_by_op(monkeypatch: pytest.MonkeyPatch) -> None:
    from vitrify import _capture

    def broken(graph: Any, **options: Any) -> Any:
        raise KeyError("a bug of ours")

    state = torch.zeros(2)

    def function(x):
        state.add_(x)
        return (state * 2).sum()

    monkeypatch.setattr(_capture, "compile_graph", broken)
    compiled = torch.compile(function)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [compiled(torch.ones(2)).item() for _ in range(4)] == [4, 8, 12, 16]
    assert any("a bug of ours" in str(w.message) for w in caught)
    with pytest.raises(torch.CaptureError, match="can't be compiled"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.compile(function, fullgraph=True)(torch.ones(2))


def test_a_failed_check_in_a_region_with_gradients() -> None:
    weight = torch.ones(3, requires_grad=True)
    compiled = torch.compile(lambda i: weight[i] * 2)
    for index in (BAD, GOOD, BAD, GOOD):
        assert str(outcome(compiled, index)) == str(outcome(compiled.__wrapped__, index)).replace(
            "MulBackward0", "CompiledBackward"
        )
