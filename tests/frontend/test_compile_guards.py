"""What a replay rests on: whatever the Python read and has changed since, the next call sees."""

from __future__ import annotations

import collections
import dataclasses
import math
import sys
import types
import warnings
from typing import Any

import numpy as np
import pytest
import vitrify as torch

SCALE = 2.0
COUNT = 3
TABLE = {"a": 1, "nested": [1, 2, {"deep": 5}]}
NAMES = ["a", "b"]


class Config:
    width = 4
    rate = 0.5


def helper(x):
    return x + COUNT


def fresh(function: Any) -> Any:
    return torch.compile(function, fullgraph=True)


ONE = torch.ones(2)


def test_globals(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[__name__]
    compiled = fresh(lambda x: helper(x) * SCALE)
    assert compiled(ONE)[0] == 8
    monkeypatch.setattr(module, "SCALE", 3.0)
    assert compiled(ONE)[0] == 12 and compiled.captures == 1
    monkeypatch.setattr(module, "COUNT", 4)
    assert compiled(ONE)[0] == 15 and compiled.captures == 2
    monkeypatch.setattr(module, "helper", lambda x: x)
    assert compiled(ONE)[0] == 3 and compiled.captures == 3


def test_a_global_that_hides_a_builtin(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = fresh(lambda x: x + len("abc"))
    assert compiled(ONE)[0] == 4
    monkeypatch.setattr(sys.modules[__name__], "len", lambda s: 10, raising=False)
    assert compiled(ONE)[0] == 11


def test_closures() -> None:
    factor, weight, shape = 2, 0.5, [2]

    def function(x):
        return (x * factor * weight).reshape(shape)

    compiled = fresh(function)
    assert compiled(ONE)[0] == 1
    weight = 0.25
    assert compiled(ONE)[0] == 0.5 and compiled.captures == 1
    factor = 4
    assert compiled(ONE)[0] == 1 and compiled.captures == 2
    shape.append(1)
    assert compiled(ONE).shape == (2, 1)


def test_items_of_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = fresh(lambda x: x * TABLE["a"] + TABLE["nested"][2]["deep"] + TABLE["nested"][0])
    assert compiled(ONE)[0] == 7
    monkeypatch.setitem(TABLE["nested"][2], "deep", 6)
    assert compiled(ONE)[0] == 8
    TABLE["nested"][0] = 10
    assert compiled(ONE)[0] == 17
    monkeypatch.setitem(TABLE, "unrelated", 1)
    assert compiled(ONE)[0] == 17 and compiled.captures == 3
    TABLE["nested"][0] = 1


@pytest.mark.parametrize("read", [
    lambda x: x + len(NAMES),
    lambda x: x + sum(1 for _ in NAMES),
    lambda x: x + [n for n in NAMES].count("c"),
    lambda x: x + ("c" in NAMES),
    lambda x: x + len(list(enumerate(NAMES))),
    lambda x: x + len([*NAMES]),
    lambda x: x + len(dict.fromkeys(zip(NAMES, NAMES), 1)),
    lambda x: x + len(sorted(NAMES, key=lambda n: n)),
    lambda x: x + (1 if NAMES[-1] == "c" else 0),
    lambda x: x + len(NAMES[1:]),
    lambda x: x + len(NAMES + ["z"]),
    lambda x: x + len(f"{NAMES}"),
    lambda x: x + len(",".join(NAMES)),
    lambda x: x + len(max(NAMES, ["b"])),
    lambda x: x + NAMES.count("c"),
    lambda x: x + (NAMES == ["a", "b", "c"]),
    lambda x: (lambda *names: x + len(names))(*NAMES),
    lambda x: x + len(NAMES.copy()),
    lambda x: x + len(tuple(reversed(NAMES))),
], ids=lambda f: str(f.__code__.co_firstlineno))  # fmt: skip
def test_contents_of_lists(monkeypatch: pytest.MonkeyPatch, read: Any) -> None:
    compiled = fresh(read)
    for names in (["a", "b"], ["a", "b", "c"], ["a", "b"]):
        NAMES[:] = names
        assert compiled(ONE).tolist() == read(ONE).tolist()
    assert compiled.captures == 2
    NAMES[:] = ["a", "b"]


def test_dicts_and_sets() -> None:
    options = {"x": 1, "y": 2}
    seen = {1, 2}
    ordered = collections.OrderedDict(options)

    def function(x):
        total = x
        for key, value in options.items():
            total = total + value * len(key)
        total = total + len(seen) + (3 in seen) + sum(ordered.values()) + options.get("z", 0)
        return total + len({**options}) + (lambda **k: len(k))(**options)

    compiled = fresh(function)
    for change in (lambda: None, lambda: options.update(z=3), lambda: seen.add(3), lambda: ordered.popitem()):
        change()
        assert compiled(ONE).tolist() == function(ONE).tolist()
    assert compiled.captures == 4


def test_attributes_of_objects_and_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    config = types.SimpleNamespace(depth=2, name="a")

    class Slotted:
        __slots__ = ("size",)

        def __init__(self):
            self.size = 1

        def grown(self, x):
            return x + self.size

    slotted = Slotted()

    def function(x):
        return slotted.grown(x) * config.depth * Config.width * Config.rate + (config.name == "b")

    compiled = fresh(function)
    want = []

    def check(captures: int) -> None:
        want.append(0)
        assert compiled(ONE).tolist() == function(ONE).tolist()
        assert compiled.captures == captures

    check(1)
    config.depth = 3
    check(2)
    config.name = "b"
    check(3)
    slotted.size = 5
    check(4)
    monkeypatch.setattr(Config, "rate", 0.75)
    check(4)
    monkeypatch.setattr(Config, "width", 5)
    check(5)
    monkeypatch.setattr(Slotted, "grown", lambda self, x: x)
    check(6)


def test_properties_and_getattr() -> None:
    class Base:
        extra = 1

        @property
        def size(self):
            return self._size * 2

        def __len__(self):
            return self._size

        def __getitem__(self, i):
            return self._size + i

        def __call__(self, x):
            return x * self._size

    thing = Base()
    thing._size = 2

    def function(x):
        missing = getattr(thing, "absent", 100) + hasattr(thing, "absent")
        return thing(x) + thing.size + len(thing) + thing[1] + getattr(thing, "extra") + missing  # noqa: B009

    compiled = fresh(function)
    assert compiled(ONE).tolist() == function(ONE).tolist()
    thing._size = 5
    assert compiled(ONE).tolist() == function(ONE).tolist()
    thing.absent = 7
    assert compiled(ONE).tolist() == function(ONE).tolist()
    thing.extra = 9
    assert compiled(ONE).tolist() == function(ONE).tolist()
    assert compiled.captures == 4


def test_dataclasses_and_tuples() -> None:
    @dataclasses.dataclass
    class Options:
        scale: float
        steps: int = 1

    options = Options(0.5)
    settings = ((1, 2), [3])

    def function(x):
        local = Options(options.scale * 2, steps=options.steps)
        return x * local.scale + local.steps + settings[0][1] + settings[1][0]

    compiled = fresh(function)
    assert compiled(ONE).tolist() == function(ONE).tolist()
    options.scale = 2.0
    assert compiled(ONE).tolist() == function(ONE).tolist() and compiled.captures == 1
    options.steps = 4
    assert compiled(ONE).tolist() == function(ONE).tolist()
    settings[1][0] = 8
    assert compiled(ONE).tolist() == function(ONE).tolist() and compiled.captures == 3


def test_mutable_defaults() -> None:
    cache = [1]

    def function(x, items=cache, *, options={"a": 1}):  # noqa: B006
        return x + len(items) + options["a"]

    compiled = fresh(function)
    assert compiled(ONE)[0] == 3
    cache.append(2)
    assert compiled(ONE)[0] == 4
    function.__kwdefaults__["options"]["a"] = 5
    assert compiled(ONE)[0] == 8


def test_tensors_from_outside() -> None:
    weight = torch.ones(2)
    state = {"w": torch.zeros(2)}

    def function(x):
        state["w"].add_(x)
        return x * weight + state["w"]

    compiled = fresh(function)
    assert compiled(ONE).tolist() == [2, 2] and compiled(ONE).tolist() == [3, 3]
    weight.fill_(10)
    assert compiled(ONE).tolist() == [13, 13] and compiled.captures == 1
    weight = torch.ones(2, dtype=torch.float64)
    assert compiled(ONE).dtype is torch.float64 and compiled.captures == 2
    state["w"] = torch.ones(2)
    assert compiled(ONE).tolist() == [3, 3]
    assert state["w"].tolist() == [2, 2]
    weight.data = torch.full((2,), 5.0)
    assert compiled(ONE).tolist() == [8, 8]


def test_argument_facts() -> None:
    compiled = fresh(lambda x: x * 2)
    results = [
        compiled(torch.ones(s, dtype=d)) for s in ((2,), (3,), (2, 1)) for d in (torch.float32, torch.int64)
    ]
    assert compiled.captures == 6
    assert [tuple(r.shape) for r in results][::2] == [(2,), (3,), (2, 1)]
    assert not compiled(torch.ones(2)).requires_grad
    assert compiled(torch.ones(2, requires_grad=True)).requires_grad
    with torch.no_grad():
        assert not compiled(torch.ones(2, requires_grad=True)).requires_grad
    assert compiled.captures == 8


def test_default_dtype() -> None:
    compiled = fresh(lambda x: torch.zeros(2) + x.long())
    assert compiled(ONE).dtype is torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert compiled(ONE).dtype is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_module_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = types.ModuleType("settings")
    fake.factor = 2
    monkeypatch.setitem(sys.modules, "settings", fake)

    def function(x):
        from settings import factor

        return x * fake.factor * factor + math.pi

    compiled = fresh(function)
    assert compiled(ONE)[0] == pytest.approx(4 + math.pi)
    fake.factor = 3
    assert compiled(ONE)[0] == pytest.approx(9 + math.pi)


def test_too_many_kinds_of_calls_run_in_segments() -> None:
    compiled = torch.compile(lambda x, n: x + n)
    with pytest.warns(torch.CaptureWarning, match="compiled for 8 kinds of calls"):
        for n in range(12):
            assert compiled(ONE, n)[0] == 1 + n
    assert compiled.captures == 8 and compiled.specializations == 8


@pytest.mark.parametrize("effect,what", [
    (lambda x, log: log.append(1), "append changes a list"),
    (lambda x, log: log.clear(), "clear changes a list"),
    (lambda x, log: log.__setitem__(slice(None), [3]), "list"),
    (lambda x, log: print(end=""), "print"),
    (lambda x, log: sys.stdout.flush(), "flush"),
    (lambda x, log: setattr(Config, "depth", 1), "the attribute depth"),
    (lambda x, log: next(ITERATOR), "next"),
    (lambda x, log: torch.manual_seed(1), "manual_seed"),
    (lambda x, log: id(x), "id"),
    (lambda x, log: exec("y = 1"), "exec"),
    (lambda x, log: open(__file__).close(), "open"),
    (lambda x, log: x.register_hook(print) if x.requires_grad else vars(Config), "vars"),
], ids=lambda v: v if isinstance(v, str) else "")  # fmt: skip
def test_effects_block_a_replay(effect: Any, what: str) -> None:
    log = [0]
    compiled = torch.compile(lambda x: (effect(x, log), x + 1)[1])
    with pytest.warns(torch.CaptureWarning, match=what.replace("[", "")) as caught:
        compiled(ONE)
    assert caught[0].filename == __file__
    assert compiled.specializations == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert compiled(ONE)[0] == 2


ITERATOR = iter(range(1000))
TOTAL = 0


def test_stores_to_globals_and_closures_block_and_happen() -> None:
    count = 0

    def function(x):
        global TOTAL
        nonlocal count
        TOTAL += 1
        count += 1
        return x + count

    compiled = torch.compile(function)
    with pytest.warns(torch.CaptureWarning, match="TOTAL is assigned"):
        assert compiled(ONE)[0] == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [compiled(ONE)[0].item() for _ in range(3)] == [3, 4, 5]
    assert TOTAL == 4 and count == 4


def test_stores_to_objects_happen_once_per_call() -> None:
    class Counter:
        def __init__(self):
            self.n, self.last, self.items = 0, None, {}

    counter = Counter()

    def function(x):
        counter.n += 1
        counter.items[counter.n] = x + counter.n
        counter.last = x * 2
        del counter.items[counter.n]
        return x + counter.n

    compiled = torch.compile(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [compiled(ONE)[0].item() for _ in range(4)] == [2, 3, 4, 5]
    assert counter.n == 4 and counter.items == {} and counter.last.tolist() == [2, 2]


def test_a_transient_effect_does_not_block_for_good() -> None:
    cache: dict[str, Any] = {}

    def function(x):
        if "mask" not in cache:
            cache["mask"] = torch.arange(2.0)
        return x * cache["mask"]

    compiled = torch.compile(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            assert compiled(ONE).tolist() == [0, 1]
    assert compiled.specializations == 1


def test_the_state_of_a_replay_does_not_outlive_what_it_guards() -> None:
    import gc
    import weakref

    compiled = fresh(lambda x: (x + 1, x[0]))
    x = torch.ones(2)
    kept = weakref.ref(x)
    result = compiled(x)
    del x, result
    gc.collect()
    assert kept() is None


def agree(function: Any, *calls: tuple[Any, ...]) -> Any:
    """Compiled and eager give the same over several calls."""
    compiled = torch.compile(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for args in calls:
            assert repr(compiled(*args)) == repr(function(*args))
    return compiled


def test_a_constant_that_is_a_result_is_made_anew() -> None:
    compiled = torch.compile(lambda: torch.tensor([1.0, 2.0]))
    for _ in range(3):
        result = compiled()
        assert result.tolist() == [1, 2]
        result.add_(10)

    def function(x):
        t = torch.tensor([1.0, 2.0])
        return t, t[1:], x + t

    compiled = torch.compile(function)
    for _ in range(3):
        whole, part, total = compiled(ONE)
        assert part.tolist() == [2] and total.tolist() == [2, 3]
        part.add_(5)
        assert whole.tolist() == [1, 7] and total.tolist() == [2, 3]


def test_a_result_shares_the_memory_of_an_array() -> None:
    array = np.ones(2, np.float32)
    compiled = torch.compile(lambda: torch.from_numpy(array))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(3):
            compiled().add_(1)
            assert array.tolist() == [i + 2] * 2


@pytest.mark.parametrize(
    "other", [3, True, torch.tensor([5.0, 6.0]), torch.tensor(2, dtype=torch.int64), 4.0]
)
def test_a_float_becomes_another_type(other: Any) -> None:
    config, items = types.SimpleNamespace(a=2.0), [2.0]
    by_attribute = torch.compile(lambda x: (x * config.a, config.a))
    by_item = torch.compile(lambda x: (x * items[0], items[0]))
    for value in (2.0, 2.5, other, 2.0, other):
        config.a = items[0] = value
        expected = repr((ONE * value, value))
        assert repr(by_attribute(ONE)) == expected and repr(by_item(ONE)) == expected


def test_a_float_becomes_none() -> None:
    config = types.SimpleNamespace(a=2.0)
    compiled = torch.compile(lambda x: x if config.a is None else x * config.a)
    for value in (2.0, None, 3.0):
        config.a = value
        assert compiled(ONE).tolist() == ([1, 1] if value is None else [value] * 2)


def test_grad_is_taken_and_cleared() -> None:
    w = torch.ones(2, requires_grad=True)

    def function(x):
        (w * x).sum().backward()
        grad = w.grad
        w.grad = None
        return grad

    compiled = torch.compile(function)
    for i in range(4):
        for call in (compiled, function):
            w.grad = before = torch.full((2,), float(i)) if i != 2 else None
            grad = call(ONE)
            assert w.grad is None and grad.tolist() == ([1, 1] if before is None else [i + 1] * 2)
            assert before is None or grad is before


def test_grads_are_swapped() -> None:
    v, w = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)

    def function():
        v.grad, w.grad = w.grad, v.grad

    compiled = torch.compile(function)
    one, two = torch.zeros(2), torch.ones(2)
    for _ in range(3):
        v.grad, w.grad = one, two
        compiled()
        assert v.grad is two and w.grad is one


def test_whether_an_argument_is_a_certain_tensor() -> None:
    w, x, y = torch.ones(2) * 5, torch.ones(2) * 3, torch.ones(2) * 4
    calls = ((w,), (x,), (y,), (w,))
    compiled = agree(lambda x: (x * 1, x is w), *calls)
    assert compiled.captures == 2
    agree(lambda x: (x * 1, x is not w), *calls[1:])
    agree(lambda x: x * w, *calls)
    agree(lambda x: (x * 1, w), *calls)


def test_whether_two_arguments_are_one_tensor() -> None:
    x, y = torch.ones(2), torch.ones(2) * 2
    calls = ((x, y), (x, x), (y, x), (y, y))
    agree(lambda x, y: (x * y, x is y), *calls)
    agree(lambda x, y: (x * y, x is not y), *calls[::-1])
    agree(lambda x, many: (x * 1, many[0] is x), (x, [y]), (x, [x]), (y, [x]))


def test_whether_a_grad_is_a_certain_tensor() -> None:
    w, other = torch.ones(2, requires_grad=True), torch.zeros(2)
    compiled = torch.compile(lambda: w.grad is other)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for grad in (other, torch.ones(2), None, other):
            w.grad = grad
            assert compiled() is (grad is other)


def test_the_version_of_a_tensor() -> None:
    x = torch.ones(2)
    compiled = torch.compile(lambda x: (x * 1, x._version))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(4):
            assert compiled(x)[1] == x._version
            x.add_(1)


def test_an_argument_that_is_a_parameter_of_another() -> None:
    module, other = torch.nn.Linear(2, 2).requires_grad_(False), torch.nn.Parameter(torch.ones(2, 2), False)
    agree(lambda m, x: x * m.weight, (module, module.weight), (module, other), (module, module.weight))
