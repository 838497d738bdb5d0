"""Datasets, samplers, the DataLoader, collation."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import vitrify
from vitrify.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
    random_split,
)  # fmt: skip


def rows(n: int) -> TensorDataset:
    """Sample i is ([i, i], i)."""
    numbers = vitrify.arange(n)
    return TensorDataset(vitrify.stack([numbers, numbers], 1).float(), numbers)


class Squares(Dataset[Any]):
    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"value": float(index * index), "name": f"n{index}", "pair": (index, vitrify.tensor([index]))}

    def __len__(self) -> int:
        return 5


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(7))


@pytest.mark.parametrize("size", [0, 1, 7, 10, 12])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_in_order(size: int, drop_last: bool) -> None:
    loader = DataLoader(rows(size), batch_size=5, drop_last=drop_last)
    batches = list(loader)
    assert len(batches) == len(loader) == (size // 5 if drop_last else -(-size // 5))
    seen = [label for _, labels in batches for label in labels.tolist()]
    assert seen == list(range(size - size % 5 if drop_last else size))
    for images, labels in batches:
        assert images.tolist() == [[i, i] for i in labels.tolist()]


def test_shuffling_is_a_new_order_each_time_and_repeats_with_the_seed() -> None:
    loader = DataLoader(rows(50), batch_size=8, shuffle=True)
    vitrify.manual_seed(1)
    first, second = ([i for _, labels in loader for i in labels.tolist()] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert first != list(range(50))
    vitrify.manual_seed(1)
    assert [i for _, labels in loader for i in labels.tolist()] == first
    own = DataLoader(rows(50), batch_size=50, shuffle=True, generator=vitrify.Generator().manual_seed(5))
    again = DataLoader(rows(50), batch_size=50, shuffle=True, generator=vitrify.Generator().manual_seed(5))
    assert next(iter(own))[1].tolist() == next(iter(again))[1].tolist()


def test_a_batch_is_a_list_as_from_single_samples() -> None:
    fast = next(iter(DataLoader(rows(4), batch_size=3)))
    slow = next(iter(DataLoader(Subset(rows(4), [0, 1, 2]), batch_size=3)))
    assert type(fast) is type(slow) is list
    for x, y in zip(fast, slow, strict=True):
        assert x.dtype is y.dtype
        assert x.tolist() == y.tolist()


def test_samples_of_any_kind_are_collated() -> None:
    (batch,) = DataLoader(Squares(), batch_size=5)
    assert batch["value"].dtype is vitrify.float64
    assert batch["value"].tolist() == [0, 1, 4, 9, 16]
    assert batch["name"] == ["n0", "n1", "n2", "n3", "n4"]
    assert batch["pair"][0].tolist() == [0, 1, 2, 3, 4]
    assert batch["pair"][1].tolist() == [[0], [1], [2], [3], [4]]


def test_collation() -> None:
    Point = collections.namedtuple("Point", "x y")
    point = default_collate([Point(1, 2.0), Point(3, 4.0)])
    assert isinstance(point, Point)
    assert point.x.tolist() == [1, 3]
    assert default_collate([np.ones(2), np.zeros(2)]).tolist() == [[1, 1], [0, 0]]
    assert default_collate([True, False]).dtype is vitrify.bool
    assert default_collate([np.int64(3)]).tolist() == [3]
    with pytest.raises(RuntimeError, match="equal size"):
        default_collate([[1, 2], [3]])
    with pytest.raises(TypeError, match="must contain tensors"):
        default_collate([object()])


def test_own_sampler_collation_and_single_samples() -> None:
    data = rows(6)
    assert [y.tolist() for _, y in DataLoader(data, batch_size=2, sampler=[5, 3, 1])] == [[5, 3], [1]]
    assert [y.tolist() for _, y in DataLoader(data, batch_sampler=[[0], [4, 2]])] == [[0], [4, 2]]
    assert [len(b) for b in DataLoader(data, batch_size=4, collate_fn=list)] == [4, 2]
    assert [int(y) for _, y in DataLoader(data, batch_size=None)] == list(range(6))
    assert [b.tolist() for b in DataLoader(Stream(), batch_size=3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [b.tolist() for b in DataLoader(Stream(), batch_size=3, drop_last=True)] == [[0, 1, 2], [3, 4, 5]]
    assert list(DataLoader(Stream(), batch_size=None)) == list(range(7))


def test_workers_are_not_started_and_that_is_said() -> None:
    with pytest.warns(UserWarning, match="num_workers=2"):
        loader = DataLoader(rows(3), num_workers=2)
    assert len(list(loader)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": [0], "shuffle": True}, "sampler option is mutually exclusive with shuffle"),
        ({"batch_sampler": [[0]], "batch_size": 2}, "batch_sampler option is mutually exclusive"),
        ({"batch_size": None, "drop_last": True}, "batch_size=None"),
        ({"batch_size": 0}, "batch_size should be a positive integer value, but got batch_size=0"),
        ({"batch_size": 2.0}, "batch_size should be a positive integer"),
    ],
)
def test_options_that_exclude_each_other(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataLoader(rows(3), **options)


def test_streams_have_no_order() -> None:
    with pytest.raises(ValueError, match="unspecified shuffle"):
        DataLoader(Stream(), shuffle=True)
    with pytest.raises(ValueError, match="unspecified sampler"):
        DataLoader(Stream(), sampler=[0])
    with pytest.raises(TypeError, match="unexpected keyword argument 'workers'"):
        DataLoader(rows(3), workers=1)


def test_samplers() -> None:
    assert list(SequentialSampler(range(3))) == [0, 1, 2]
    assert sorted(RandomSampler(range(9))) == list(range(9))
    assert len(list(RandomSampler(range(4), num_samples=10))) == 10
    drawn = list(RandomSampler(range(3), replacement=True, num_samples=200))
    assert set(drawn) == {0, 1, 2}
    assert len(drawn) == 200
    assert sorted(SubsetRandomSampler([4, 8, 6])) == [4, 6, 8]
    assert list(BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="num_samples"):
        RandomSampler(range(3), num_samples=0)


def test_splits_and_joins() -> None:
    parts = random_split(rows(10), [7, 3], generator=vitrify.Generator().manual_seed(0))
    assert [len(p) for p in parts] == [7, 3]
    assert sorted(int(y) for p in parts for _, y in p) == list(range(10))
    assert [len(p) for p in random_split(rows(10), [0.55, 0.25, 0.2])] == [6, 2, 2]
    with pytest.raises(ValueError, match="Sum of input lengths"):
        random_split(rows(10), [7, 4])
    joined = rows(2) + rows(3)
    assert isinstance(joined, ConcatDataset)
    assert [int(joined[i][1]) for i in (0, 1, 2, 4, -1)] == [0, 1, 0, 2, 2]
    with pytest.raises(ValueError, match="should not exceed"):
        joined[5]


def test_wrong_sizes() -> None:
    with pytest.raises(ValueError, match="Size mismatch"):
        TensorDataset(vitrify.zeros(3), vitrify.zeros(4))
    with pytest.raises(ValueError, match="at least one"):
        TensorDataset()
