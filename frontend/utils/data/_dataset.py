"""Datasets: things with samples, by index or as a stream."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from ..._tensor import Tensor

T = TypeVar("T", covariant=True)


class Dataset(Generic[T]):
    """Samples by index: subclasses define `__getitem__`, and `__len__` where the number is known."""

    def __getitem__(self, index: Any) -> T:
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")

    def __add__(self, other: Dataset[Any]) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T]):
    """Samples as a stream: subclasses define `__iter__`."""

    def __iter__(self) -> Iterator[T]:
        raise NotImplementedError("Subclasses of IterableDataset should implement __iter__.")


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Sample i is the tuple of the i-th rows of the tensors.

    A DataLoader fetches a whole batch of it with one indexing operation per tensor.
    Raises ValueError if the first sizes differ.

    >>> len(TensorDataset(torch.zeros(10, 3), torch.zeros(10)))
    10
    """

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors:
            raise ValueError("TensorDataset needs at least one tensor")
        if any(len(t) != len(tensors[0]) for t in tensors):
            sizes = ", ".join(str(tuple(t.shape)) for t in tensors)
            raise ValueError(f"Size mismatch between tensors: the first sizes of {sizes} differ")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])


class Subset(Dataset[Any]):
    """The samples of a dataset at these indices."""

    def __init__(self, dataset: Dataset[Any], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> Any:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset[Any]):
    """The samples of several datasets, one dataset after the other."""

    def __init__(self, datasets: Iterable[Dataset[Any]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("datasets should not be an empty iterable")
        if any(isinstance(d, IterableDataset) for d in self.datasets):
            raise ValueError("ConcatDataset does not support IterableDataset")
        self.cumulative_sizes = list(itertools.accumulate(len(d) for d in self.datasets))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Any:
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise ValueError("absolute value of index should not exceed dataset length")
        number = bisect.bisect_right(self.cumulative_sizes, place)
        before = self.cumulative_sizes[number - 1] if number else 0
        return self.datasets[number][place - before]


def random_split(dataset: Dataset[Any], lengths: Sequence[float], generator: Any = None) -> list[Subset]:
    """Split a dataset at random into parts of these lengths, or of these fractions if they add up to 1.

    Fractions round down; what is left over goes one each to the first parts.
    Raises ValueError if the lengths do not add up to the dataset's.
    """
    from ..._functions import randperm

    size = len(dataset)  # type: ignore[arg-type]
    fractions = math.isclose(sum(lengths), 1) and sum(lengths) <= 1
    counts = _counts(size, lengths) if fractions else list(lengths)
    if sum(counts) != size:
        raise ValueError("Sum of input lengths does not equal the length of the input dataset!")
    order = randperm(size, generator=generator).tolist()
    stops = itertools.accumulate(int(c) for c in counts)
    return [Subset(dataset, order[stop - int(n) : stop]) for stop, n in zip(stops, counts, strict=True)]


def _counts(size: int, fractions: Sequence[float]) -> list[int]:
    if bad := [f for f in fractions if not 0 <= f <= 1]:
        raise ValueError(f"Fraction {bad[0]} is not between 0 and 1")
    counts = [int(size * f) for f in fractions]
    for i in range(size - sum(counts)):
        counts[i % len(counts)] += 1
    return counts
