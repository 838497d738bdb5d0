"""Converted functions mean what the originals mean, keep their place in the source, and share their cells."""

from __future__ import annotations

import contextlib
import inspect
import traceback
from types import FunctionType
from typing import Any

import pytest
from vitrify.tracer.convert import convert, is_converted
from vitrify.tracer.hooks import Hooks
from vitrify.tracer.rewrite import Unconvertible


def twin(function: Any) -> FunctionType:
    return convert(function, Hooks)


GLOBAL = 10


def everything(x, *rest, key=2, **more):
    """A bit of each construct."""
    total = x + GLOBAL * key - sum(rest)
    box = {"a": [1, 2, 3], **more}
    box["a"][1] += 5
    box["b"], (first, *others) = total, box["a"]
    del box["a"][0]
    text = f"{total:>5} {first!r:3} {others}"
    chained = 0 < first < 3 <= len(others) + 1 != 9
    either = None or [] or "x" and (total and 7)
    squares = [i * j for i in range(4) if i % 2 for j in (i, i + 1) if not j == 2]
    table = {k: v for k, v in zip("ab", squares)}
    unique = {n // 2 for n in squares}
    lazy = tuple(n for n in squares if n > 1)
    numbers = []
    for i, (a, b) in enumerate([(1, 2), (3, 4)]):
        if i == 5:
            break
        numbers.append(a * b if i else -a)
    else:
        numbers.append("done")
    while True:
        total -= 1
        if total % 7 == 0:
            break
        continue
    try:
        {}["missing"]
    except (KeyError, IndexError) as error:
        caught = type(error).__name__, error.args
    finally:
        numbers += ["finally"]
    with contextlib.suppress(ZeroDivisionError) as nothing:
        1 / 0  # noqa: B018
    doubled = (lambda n, m=first: n * 2 + m)(4)

    def inner(n: int = key, *, deep: int = 1) -> int:
        nonlocal total
        total += n
        return deep * total

    if (walrus := inner()) > 3 and walrus is not None and "a" in box and 99 not in squares:
        numbers.append(walrus)
    assert numbers, "message"
    match numbers[0]:
        case -1:
            matched = "minus"
        case _:
            matched = "other"
    return (
        text,
        chained,
        either,
        squares,
        table,
        unique,
        lazy,
        numbers,
        caught,
        nothing,
        doubled,
        inner(deep=3),
        matched,
        total,
        x if x else None,
        not x,
        -x,
        ~x,
        squares[1:],
        squares[::-1],
        box,
    )


def test_every_construct() -> None:
    for args, kwargs in (((1,), {}), ((3, 4, 5), {"key": 6, "extra": 7}), ((0,), {"key": -1})):
        assert twin(everything)(*args, **kwargs) == everything(*args, **kwargs)


def test_the_twin_looks_like_the_original() -> None:
    made = twin(everything)
    assert made.__name__ == "everything" and made.__qualname__ == everything.__qualname__
    assert made.__doc__ == everything.__doc__ and made.__kwdefaults__ == {"key": 2}
    assert (
        made.__code__.co_filename == __file__
        and made.__code__.co_firstlineno == everything.__code__.co_firstlineno
    )
    assert inspect.signature(made) == inspect.signature(everything)
    assert made is twin(everything) and is_converted(made) and not is_converted(everything)
    assert twin(made) is made


def test_tracebacks_have_the_users_lines() -> None:
    def fails(x):
        y = x + 1
        return y / 0

    def outer(x):
        return [fails(n) for n in [x]]

    lines = []
    for function in (outer, twin(outer)):
        try:
            function(1)
        except ZeroDivisionError as error:
            frames = traceback.extract_tb(error.__traceback__)
            lines.append(
                [
                    (f.lineno, f.name)
                    for f in frames
                    if f.filename == __file__ and f.name in ("fails", "outer")
                ]
            )
    assert lines[0] == lines[1]


def test_cells_are_shared_with_the_original() -> None:
    count = 0

    def step(n=1):
        nonlocal count
        count += n
        return count

    made = twin(step)
    assert (made(), step(), made(5), count) == (1, 2, 7, 7)
    assert [c.cell_contents for c in step.__closure__] == [7]


def test_globals_are_the_users_own() -> None:
    def read():
        return GLOBAL

    made = twin(read)
    assert made.__globals__ is globals() and made() == 10
    globals()["GLOBAL"] = 11
    try:
        assert made() == 11
    finally:
        globals()["GLOBAL"] = 10

    def store():
        global STORED
        STORED = 3
        del STORED

    twin(store)()
    assert "STORED" not in globals()

    def missing():
        return not_defined  # noqa: F821

    with pytest.raises(NameError, match="name 'not_defined' is not defined"):
        twin(missing)()


class Base:
    def __init__(self, n):
        self.n = n

    def grown(self, by):
        return self.n + by

    @property
    def size(self):
        return self.n * 2


class Derived(Base):
    def __init__(self, n):
        super().__init__(n)
        self.__private = n * 3

    def grown(self, by):
        return super().grown(by) + self.__private + super().size + __class__.__name__.count("r")

    def set(self, value):
        self.__private, self.n = value, value
        self.__private += 1
        del self.n
        return self.__private


def test_methods_super_and_private_names() -> None:
    thing = Derived(2)
    assert twin(Derived.grown)(thing, 5) == thing.grown(5)
    made = object.__new__(Derived)
    twin(Derived.__init__)(made, 2)
    assert vars(made) == vars(thing)
    assert twin(Derived.set)(made, 8) == 9 and vars(made) == {"_Derived__private": 9}


def test_lambdas_on_one_line_are_told_apart() -> None:
    first, second, third = lambda x: x + 1, lambda x: x * 2, lambda y: y - 3
    nested = lambda f: lambda x: f(x) + 100  # noqa: E731
    for f in (first, second, third, nested(first)):
        assert twin(f)(5) == f(5)
    assert [twin(f)(4) for f in [lambda v, k=k: v * k for k in range(3)]] == [0, 4, 8]


def test_generators_and_closures_within() -> None:
    def numbers(n):
        received = []
        for i in range(n):
            received.append((yield i))
        yield from received
        return "end"

    def drive(make):
        g = make(2)
        return [next(g), g.send("a"), g.send("b"), *g]

    assert drive(twin(numbers)) == drive(numbers)

    def layers():
        level = 1

        def a():
            level2 = level + 1

            def b():
                nonlocal level
                level += 10
                return level + level2

            return b

        return a()(), level

    assert twin(layers)() == layers() == (13, 11)


def test_decorators_default_arguments_and_star_calls() -> None:
    log = []

    def noting(label):
        log.append(label)

        def decorate(f):
            log.append(f.__name__)
            return lambda *a, **k: ("wrapped", f(*a, **k))

        return decorate

    def function(values, options):
        @noting("outer")
        @noting("inner")
        def target(a, b=len(values), *rest, c, **more):
            return a, b, rest, c, more

        return target(*values, **options), target(1, c=2), max(*values, key=lambda v: -v), [*values, *[9]]

    arguments = [1, 2, 3], {"c": 4, "self": 5, "function": 6}
    want, eager_log = function(*arguments), list(log)
    log.clear()
    assert twin(function)(*arguments) == want and log == eager_log


def test_evaluation_order_is_kept() -> None:
    log: list[str] = []

    def note(name, value=None):
        log.append(name)
        return value

    class Thing:
        pass

    def function():
        thing, items = Thing(), [0, 0, 0]
        note("obj", thing).field = note("value", 1)
        note("items", items)[note("index", 1)] = note("item", 2)
        note("items2", items)[note("index2", 1)] += note("more", 3)
        note("obj2", thing).field -= note("less", 4)
        note("f", max)(note("a", 1), *note("rest", [2]), key=note("key", abs))
        _ = note("l", 1) < note("m", 2) < note("r", 0) < note("never")
        _ = {note("k", 1): note("v", 2)}
        _ = note("yes", 1) if note("test", 0) else note("no", 2)
        a, thing.x = note("left", 1), note("right", 2)
        return items, vars(thing), a

    want = function()
    eager_log = list(log)
    log.clear()
    assert twin(function)() == want and log == eager_log


async def asynchronous():
    return 1


def awaits_inside():
    async def f():
        return 1

    return f


@pytest.mark.parametrize(
    "function,why",
    [
        (asynchronous, "asynchronous"),
        (awaits_inside, "async function"),
        (eval("lambda x: x + 1"), "can't be found"),
    ],
)
def test_what_cannot_be_converted_says_why(function: Any, why: str) -> None:
    for _ in range(2):
        with pytest.raises(Unconvertible, match=why):
            twin(function)


def test_a_file_that_changed_on_disk(tmp_path: Any) -> None:
    path = tmp_path / "module.py"
    path.write_text("def f(x):\n    return x + 1\n")
    space: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), space)
    path.write_text("# moved\ndef f(x, y):\n    return x + y\n")
    with pytest.raises(Unconvertible):
        twin(space["f"])


def test_a_body_that_changed_on_disk_is_noticed(tmp_path: Any) -> None:
    path = tmp_path / "module2.py"
    path.write_text("def f(x):\n    return x + 1\n")
    space: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), space)
    path.write_text("def f(x):\n    return x + 2\n")
    with pytest.raises(Unconvertible, match="changed"):
        twin(space["f"])


def test_future_annotations_and_type_comments_do_not_matter() -> None:
    def function(x: Undefined, *, y: "also undefined" = 1) -> nowhere:  # noqa: F821, F722
        z: Unknown = x  # noqa: F821
        w: int
        return z + y

    assert twin(function)(2) == 3
