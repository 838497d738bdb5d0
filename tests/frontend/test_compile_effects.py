"""Programs with state of every kind, called again and again: compiled, they do what they do eagerly."""

from __future__ import annotations

import collections
import enum
import functools
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import vitrify as torch
from vitrify import nn, optim
from vitrify.utils.data import DataLoader, TensorDataset

Case = tuple[Callable[..., Any], Callable[[], Any]]
CASES: dict[str, Callable[[], Case]] = {}
#: Those that are replayed from the first call on.
REPLAYED = {"shared array", "own generator", "grad mode switched back", "returned state", "view of state"}


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    CASES[make.__name__.replace("_", " ")] = make
    return make


def nothing() -> None:
    return None


@case
def data_loader() -> Case:
    loader = DataLoader(TensorDataset(torch.arange(12.0).reshape(6, 2)), batch_size=2, shuffle=True)

    def epoch(x):
        total = x.sum()
        for (batch,) in loader:
            total = total + batch.sum() * len(loader)
        return total

    return epoch, nothing


@case
def shared_array() -> Case:
    array = np.ones(4, np.float32)
    return lambda x: x + torch.from_numpy(array), lambda: array.__iadd__(1).tolist()


@case
def copied_array() -> Case:
    array = np.ones(4, np.float32)
    return lambda x: x + torch.tensor(array), lambda: array.__iadd__(1).tolist()


@case
def array_elements() -> Case:
    array = np.ones(4, np.float32)
    return lambda x: x * float(array[0]) + float(array.sum()), lambda: array.__iadd__(1).tolist()


@case
def scheduler_inside() -> Case:
    weight = torch.ones(2, requires_grad=True)
    optimizer = optim.SGD([weight], lr=0.5)
    schedule = optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

    def step(x):
        optimizer.zero_grad()
        (weight * x[:2]).sum().backward()
        optimizer.step()
        schedule.step()
        return weight.detach() * 1

    return step, lambda: (weight.tolist(), optimizer.param_groups[0]["lr"])


@case
def train_and_eval_inside() -> Case:
    drop = nn.Dropout(0.5)

    def function(x):
        drop.train()
        noisy = drop(x)
        drop.eval()
        return noisy + drop(x)

    return function, lambda: drop.training


@case
def module_attribute() -> Case:
    linear = nn.Linear(2, 2)

    def function(x):
        linear.last = x * 2
        return linear(x[:2]).detach()

    return function, lambda: linear.last.tolist()


@case
def module_made_inside() -> Case:
    def function(x):
        linear = nn.Linear(4, 2)
        with torch.no_grad():
            linear.weight.fill_(1)
            linear.bias.zero_()
        return linear(x).detach()

    return function, nothing


@case
def rebound_data() -> Case:
    weight = torch.ones(4)

    def function(x):
        weight.data = weight.data * 2 + x
        return weight.sum()

    return function, lambda: weight.tolist()


@case
def leaf_made_inside() -> Case:
    def function(x):
        weight = torch.zeros(4, requires_grad=True)
        ((weight + x) ** 2).sum().backward()
        return weight.grad, weight.detach()

    return function, nothing


@case
def grad_mode_switched_back() -> Case:
    def function(x):
        torch.set_grad_enabled(False)
        y = x * 2
        torch.set_grad_enabled(True)
        return y

    return function, torch.is_grad_enabled


@case
def grad_mode_toggled() -> Case:
    def function(x):
        torch.set_grad_enabled(not torch.is_grad_enabled())
        return x * 2

    return function, torch.is_grad_enabled


@case
def own_generator() -> Case:
    generator = torch.Generator().manual_seed(3)
    return lambda x: x + torch.rand(4, generator=generator), lambda: generator.get_state().tolist()


@case
def endless_iterator() -> Case:
    numbers = itertools.count()
    return lambda x: x + next(numbers), nothing


@case
def rotating_deque() -> Case:
    items = collections.deque([1, 2], maxlen=3)
    return lambda x: x * items[0] + len(items), lambda: items.append(items[0] + 1)


@case
def enum_members() -> Case:
    class Color(enum.Enum):
        RED = 1
        GREEN = 2

    box = [Color.RED]

    def function(x):
        return x * box[0].value if box[0] is Color.RED else x + len(Color.GREEN.name)

    return function, lambda: box.__setitem__(0, Color.GREEN)


@case
def dict_subclass() -> Case:
    class Counting(dict):
        reads = 0

        def __getitem__(self, key):
            self.reads += 1
            return super().__getitem__(key) + self.reads

    table = Counting(a=1)
    return lambda x: x * table["a"], lambda: table.reads


@case
def every_protocol() -> Case:
    class Odd:
        def __init__(self):
            self.n = 0

        def __iter__(self):
            self.n += 1
            return iter([self.n, self.n])

        def __len__(self):
            return self.n

        def __bool__(self):
            return self.n % 2 == 0

        def __contains__(self, value):
            self.n += 1
            return value == self.n

        def __eq__(self, other):
            self.n += 1
            return self.n > 3

        def __hash__(self):
            return 1

        def __str__(self):
            self.n += 1
            return "x" * self.n

        def __enter__(self):
            self.n += 1
            return self

        def __exit__(self, *exc):
            self.n += 1

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return self.__dict__["n"]

    odd = Odd()

    def function(x):
        for k in odd:
            x = x + k
        x = (
            x
            + len(odd)
            + (1 if odd else 2)
            + (3 in odd)
            + (odd == 5)
            + len(str(odd))
            + len(f"{odd}")
            + odd.foo
        )
        with odd as entered:
            x = x + entered.n
        a, b = odd
        return x + a + b + len([*odd]) + max(odd)

    return function, lambda: odd.__dict__["n"]


@case
def descriptors() -> Case:
    class Counted:
        n = 0

        def __get__(self, obj, kind):
            self.n += 1
            return self.n

    class Holder:
        value = Counted()

    holder = Holder()
    return lambda x: x + holder.value + Holder.value, nothing


@case
def metaclasses() -> Case:
    class Meta(type):
        n = 0

        def __getattr__(cls, name):
            Meta.n += 1
            return Meta.n

        def __call__(cls, *args):
            Meta.n += 1
            return super().__call__(*args)

    class Thing(metaclass=Meta):
        def __init__(self, k=1):
            self.k = k + Meta.n

    return lambda x: x + Thing.anything + Thing(2).k, lambda: Meta.n


@case
def instances_counted_by_new() -> Case:
    class Thing:
        made = 0

        def __new__(cls, *args):
            Thing.made += 1
            return super().__new__(cls)

        def __init__(self, k):
            self.k = k + Thing.made

    return lambda x: x + Thing(2).k, lambda: Thing.made


@case
def keys_with_effects() -> Case:
    calls = [0]

    def key(v):
        calls[0] += 1
        return -v

    def function(x):
        return x + sorted([1, 2, 3], key=key)[0] + max([1, 2], key=key) + sum(map(key, [1, 2]))

    return function, lambda: calls[0]


@case
def partials_and_caches() -> Case:
    log = []
    doubled = functools.partial(lambda a, x: (log.append(a), x * a)[1], 3)

    @functools.lru_cache
    def slow(v):
        log.append("slow")
        return v * 2

    return lambda x: doubled(x) * slow(3), lambda: list(log)


@case
def replaced_functions() -> Case:
    functions = [lambda x: x * 2]
    return lambda x: functions[0](x), lambda: functions.__setitem__(0, lambda x: x * 3)


@case
def returned_state() -> Case:
    buffer = torch.zeros(4)
    return lambda x: buffer.add_(x), lambda: buffer.tolist()


@case
def view_of_state() -> Case:
    buffer = torch.zeros(2, 4)

    def function(x):
        buffer[0].add_(x)
        return buffer[0], buffer

    return function, lambda: buffer.tolist()


@case
def generator_that_is_left() -> Case:
    log = []

    def values(x):
        try:
            yield x
            yield x * 2
        finally:
            log.append("closed")

    def function(x):
        for y in values(x):
            return y + 1
        raise AssertionError

    return function, lambda: list(log)


def shown(x: Any) -> Any:
    if isinstance(x, torch.Tensor):
        return x.tolist()
    return [shown(v) for v in x] if isinstance(x, (list, tuple)) else x


@pytest.mark.parametrize("name", CASES)
def test_state_of_every_kind(name: str) -> None:
    records = []
    for compiled in (False, True):
        torch.manual_seed(0)
        function, state = CASES[name]()
        run = torch.compile(function) if compiled else function
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.CaptureWarning)
            try:
                records.append([(shown(run(torch.ones(4))), shown(state())) for _ in range(4)])
            finally:
                torch.set_grad_enabled(True)
    assert records[0] == records[1]
    assert (name in REPLAYED) <= (run.specializations == 1 and run.captures == 1)


def test_a_backward_through_what_was_computed_before_is_not_replayed() -> None:
    results = []
    for compiled in (False, True):
        weight = torch.ones(3, requires_grad=True)

        def finish(h):
            h.sum().backward()
            return h.detach() * 1

        run = torch.compile(finish) if compiled else finish
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.CaptureWarning)
            record = [run(weight * k).tolist() for k in (2, 3, 4)]
        results.append((record, weight.grad.tolist()))
    assert results[0] == results[1]


def test_decorated_with_our_own_context_managers() -> None:
    log = []

    @torch.no_grad()
    def helper(x):
        log.append(1)
        return x * 2

    @torch.no_grad()
    def pure(x):
        return x * 3

    weight = torch.ones(2, requires_grad=True)
    compiled = torch.compile(lambda x: pure(weight * x), fullgraph=True)
    for _ in range(2):
        assert compiled(torch.ones(2)).tolist() == [3, 3] and not compiled(torch.ones(2)).requires_grad
    compiled = torch.compile(lambda x: helper(weight * x))
    with pytest.warns(torch.CaptureWarning, match="append"):
        for _ in range(3):
            assert compiled(torch.ones(2)).tolist() == [2, 2]
    assert len(log) == 3
    wrapped = torch.compile(torch.no_grad()(lambda x: weight * x), fullgraph=True)
    assert wrapped(torch.ones(2)).tolist() == [1, 1] and wrapped.captures == 1
