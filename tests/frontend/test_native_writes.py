"""Writes in place by native code: the same elements, versions, tapes and errors as Python gives."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from itertools import repeat

import numpy as np
import pytest
import vitrify
from vitrify import Tensor, _dispatch

pytestmark = pytest.mark.skipif(_dispatch.native is None, reason="there is no native dispatch")

WRITES: dict[str, Callable[[Tensor, Tensor], object]] = {
    "add": lambda x, y: x.add_(y),
    "number": lambda x, y: x.mul_(0.3),
    "int": lambda x, y: x.sub_(3),
    "itself": lambda x, y: x.mul_(x),
    "alpha": lambda x, y: x.add_(y, alpha=0.1),
    "row": lambda x, y: x.add_(y[0]),
    "own row": lambda x, y: x.add_(x[0]),
    "own transpose": lambda x, y: x.add_(x.t()),
    "own part": lambda x, y: x[1:].add_(x[:-1]),
    "unary": lambda x, y: x.exp_(),
    "of a view": lambda x, y: x[1].sqrt_(),
    "of a column": lambda x, y: x[:, 1].sqrt_(),
    "operator": lambda x, y: x.__iadd__(y),
    "divided": lambda x, y: x.__itruediv__(2.0),
    "copy": lambda x, y: x.copy_(y),
    "copy of a transpose": lambda x, y: x.copy_(y.t()),
    "copy of its transpose": lambda x, y: x.copy_(x.t()),
    "copy of doubles": lambda x, y: x.copy_(y.double()),
    "shifted copy": lambda x, y: x[1:].copy_(x[:-1]),
    "zero": lambda x, y: x.zero_(),
    "fill": lambda x, y: x.t()[1:].fill_(2.5),
    "clamp": lambda x, y: x.clamp_(0.8, 1.2),
    "clamp from": lambda x, y: x.clamp_(min=0.9),
    "lerp": lambda x, y: x.lerp_(y, 0.5),
    "addcmul": lambda x, y: x.addcmul_(y, y, value=0.5),
    "addcdiv": lambda x, y: x.addcdiv_(y, y, value=-0.1),
    "mask": lambda x, y: x.masked_fill_(y > 1, -1.0),
    "matrix": lambda x, y: x.addmm_(x, y),
    "item": lambda x, y: x.__setitem__(1, 2.0),
    "items": lambda x, y: x.__setitem__((1, 2), 3.5),
    "row set": lambda x, y: x.__setitem__(2, y[0]),
    "column set": lambda x, y: x.__setitem__((slice(None), 1), y[0]),
    "every second": lambda x, y: x.__setitem__(slice(None, None, 2), 0.5),
    "part": lambda x, y: x.__setitem__((slice(1, 3), slice(None, -1)), y[1:3, 1:]),
    "overlapping part": lambda x, y: x.__setitem__(slice(1, None), x[:-1]),
    "masked": lambda x, y: x.__setitem__(y > 1, 0.0),
    "by numbers": lambda x, y: x.__setitem__(vitrify.tensor([2, 0]), y[:2]),
    "diagonal": lambda x, y: x.fill_diagonal_(7.0),
}


def _operands() -> tuple[Tensor, Tensor]:
    made = np.random.default_rng(0).uniform(0.5, 1.5, (2, 4, 4)).astype(np.float32)
    return vitrify.tensor(made[0]), vitrify.tensor(made[1])


def _python_only(function: Callable[[], object]) -> object:
    _dispatch.native.pause(True)
    try:
        return function()
    finally:
        _dispatch.native.pause(False)


@pytest.mark.parametrize("name", WRITES)
def test_every_call_writes_what_python_writes(name: str) -> None:
    def run() -> tuple[bytes, bytes, int, int]:
        x, y = _operands()
        watched = x[2], x._version
        result = WRITES[name](x, y)
        assert result is None or isinstance(result, Tensor)
        assert watched[0].tolist() == x[2].tolist()
        return x.numpy().tobytes(), y.numpy().tobytes(), x._version, y._version

    want = _python_only(run)
    for _ in range(4):
        assert run() == want


@pytest.mark.parametrize("size", [0, 1, 2, 3, 15, 16, 17, 31, 33, 63, 65, 100, 1000, 70001])
def test_all_sizes(size: int) -> None:
    array = np.random.default_rng(1).uniform(0.5, 2, size).astype(np.float32)
    for _ in range(3):
        x, y = vitrify.tensor(array), vitrify.tensor(array[::-1].copy())
        assert x.clone().exp_().tolist() == x.exp().tolist()
        assert x.clone().mul_(y).tolist() == (x * y).tolist()
        assert x.clone().add_(x).tolist() == (x + x).tolist()
        assert x.clone().copy_(y).tolist() == y.tolist()


def test_foreign_memory_that_overlaps() -> None:
    for _ in range(4):
        array = np.arange(8, dtype=np.float32)
        low, high = vitrify.from_numpy(array[:-1]), vitrify.from_numpy(array[1:])
        high.add_(low)
        assert array.tolist() == [0.0, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0]


@pytest.mark.parametrize("name", ["add", "number", "unary", "copy", "item", "mask", "clamp", "fill"])
def test_the_tape_of_what_is_written(name: str) -> None:
    def run() -> list[object]:
        x, y = _operands()
        y.requires_grad_()
        z = y * 1.5
        z2 = z * z
        WRITES[name](z, x)
        try:
            (z.sum() + z2.sum()).backward()
        except RuntimeError as error:
            return [str(error)]
        return [y.grad.tolist(), z._version, z.grad_fn.name()]

    want = _python_only(run)
    for _ in range(4):
        assert run() == want


def test_leaves_and_views_of_leaves_are_refused() -> None:
    for _ in range(4):
        x = vitrify.ones(3).add_(1.0)
        leaf = vitrify.ones(3, requires_grad=True)
        with vitrify.no_grad():
            leaf.add_(x)
            part = leaf[1:]
            part.mul_(2.0)
        for write in (
            lambda leaf=leaf, x=x: leaf.add_(x),
            lambda leaf=leaf: leaf.exp_(),
            lambda leaf=leaf: leaf.__setitem__(0, 1.0),
            lambda part=part: part.mul_(2.0),
            lambda part=part: part.zero_(),
        ):
            with pytest.raises(RuntimeError, match="leaf Variable"):
                write()
        assert leaf.tolist() == [3.0, 6.0, 6.0]


def test_a_result_that_does_not_fit_is_refused() -> None:
    for _ in range(4):
        with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
            vitrify.ones(3).add_(vitrify.ones(2, 3))
        with pytest.raises(RuntimeError, match="can't be cast"):
            vitrify.arange(3).mul_(1.5)
        with pytest.raises(RuntimeError, match="single memory location"):
            vitrify.ones(1).expand(3).add_(1.0)
        assert vitrify.ones(3, dtype=vitrify.float64).add_(vitrify.ones(3)).dtype is vitrify.float64


def test_floats_of_calls_are_told_apart() -> None:
    for bound in (0.5, 0.25, 0.5, -0.0, 0.0, 0.5, 0.25, 0.25):
        x = vitrify.tensor([-1.0, 0.3, 1.0])
        assert x.clamp(min=bound, max=0.9).tolist() == pytest.approx([bound, max(bound, 0.3), 0.9])
        x.clamp_(bound, 2.0)
        assert x[0].item() == bound and np.signbit(x[0].item()) == np.signbit(bound)


def test_no_reference_is_lost_or_kept() -> None:
    x, y = _operands()
    watched = (x, y, x._type, x._storage, Tensor, None, True)

    def work() -> None:
        x.mul_(0.5), x.add_(y), x.copy_(y), x.zero_(), x.add_(x.t()), x.clamp_(0.1, 0.9)
        x[1] = 2.0
        x[:, 1] = y[0]
        y[0, 0].item()

    for _ in range(4):
        work()
    gc.collect()
    before = [sys.getrefcount(v) for v in watched]
    for _ in repeat(None, 5000):
        work()
    gc.collect()
    drift = [sys.getrefcount(v) - n for v, n in zip(watched, before, strict=True)]
    assert max(map(abs, drift)) < 50, drift


def test_threads_write_at_once() -> None:
    total = vitrify.zeros(1000)
    own = [vitrify.zeros(100) for _ in range(4)]

    def work(mine: Tensor) -> None:
        for _ in range(300):
            mine.add_(1.0)
            mine[3:5] = 0.0
            total.copy_(total)

    threads = [threading.Thread(target=work, args=(x,)) for x in own]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all(x[0].item() == 300.0 and x[4].item() == 0.0 and x._version == 600 for x in own)
    assert total._version == 4 * 300


def test_lists_and_parts() -> None:
    for _ in range(4):
        a, b = _operands()
        assert vitrify.cat([a, b]).tolist() == a.tolist() + b.tolist()
        assert vitrify.cat((a, b), dim=1).shape == (4, 8)
        assert vitrify.stack([a, b], -1)[..., 1].tolist() == b.tolist()
        first, second = a.chunk(2)
        assert second.tolist() == a[2:].tolist() and first._base is a
        assert type(a.split(3)) is tuple and [len(p) for p in a.split(3)] == [3, 1]
        assert vitrify.zeros(2, 2).add_(1.0).tolist() == [[1.0, 1.0]] * 2
        assert vitrify.arange(3).add_(1).tolist() == [1, 2, 3]
        assert vitrify.full((2,), 0.5).mul_(2.0).tolist() == [1.0, 1.0]
    with pytest.raises(TypeError):
        vitrify.cat([a, 3])
    with pytest.raises(RuntimeError):
        vitrify.cat([a, b[:, :2]])


def test_new_tensors_are_each_their_own() -> None:
    made = [vitrify.zeros(3) for _ in range(5)] + [vitrify.arange(3.0) for _ in range(5)]
    for i, x in enumerate(made):
        x.add_(float(i))
    assert [x[0].item() for x in made] == [float(i) for i in range(10)]
    leaves = [vitrify.zeros(3, requires_grad=True) for _ in range(5)]
    assert all(x.requires_grad and x.is_leaf for x in leaves)
