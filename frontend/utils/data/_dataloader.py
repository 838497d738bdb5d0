"""`DataLoader`: batches of a dataset, in this process."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ._collate import default_collate
from ._dataset import Dataset, IterableDataset, TensorDataset
from ._sampler import BatchSampler, RandomSampler, SequentialSampler


class DataLoader:
    """Iterate over a dataset in batches.

    batch_size: samples in a batch; None gives single samples. shuffle: a new random order in each pass.
    sampler, batch_sampler: an own order instead. drop_last: leave out an incomplete last batch.
    collate_fn: list of samples -> batch. generator: random numbers of the shuffling.
    Raises ValueError for options that exclude each other. Samples are loaded in the calling process: other
    `num_workers` than 0 give a warning.

    >>> for images, labels in DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True): ...
    """

    def __init__(
        self, dataset: Dataset[Any], batch_size: int | None = 1, shuffle: bool | None = None,
        sampler: Iterable[int] | None = None, batch_sampler: Iterable[list[int]] | None = None,
        num_workers: int = 0, collate_fn: Callable[[list[Any]], Any] | None = None, pin_memory: bool = False,
        drop_last: bool = False, timeout: float = 0, worker_init_fn: object = None,
        multiprocessing_context: object = None, generator: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        if num_workers != 0:
            warnings.warn(
                f"num_workers={num_workers}: there are no worker processes, samples are loaded in this one",
                stacklevel=2,
            )
        if unknown := [
            k for k in kwargs if k not in ("prefetch_factor", "persistent_workers", "pin_memory_device")
        ]:
            raise TypeError(f"DataLoader.__init__() got an unexpected keyword argument '{unknown[0]}'")
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if isinstance(dataset, IterableDataset):
            _refuse_order(shuffle, sampler, batch_sampler)
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError(
                "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"
            )
        if batch_size is None and drop_last:
            raise ValueError(
                "batch_size=None option disables auto-batching and is mutually exclusive with drop_last"
            )
        self.dataset = dataset
        self.batch_size = None if batch_sampler is not None else batch_size
        self.drop_last = drop_last
        self.num_workers = num_workers
        self.generator = generator
        if sampler is None and not isinstance(dataset, IterableDataset):
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)  # type: ignore[arg-type]
        self.sampler = sampler
        if batch_sampler is None and batch_size is not None:
            batch_sampler = BatchSampler(sampler if sampler is not None else (), batch_size, drop_last)
        self.batch_sampler = batch_sampler
        if collate_fn is None:
            collate_fn = default_collate if batch_sampler is not None else (lambda sample: sample)
        self.collate_fn = collate_fn

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self.dataset, IterableDataset):
            return self._stream()
        if self.batch_sampler is None:
            return (self.collate_fn(self.dataset[i]) for i in self.sampler or ())
        if self.collate_fn is default_collate and type(self.dataset) is TensorDataset:
            return (list(self.dataset[indices]) for indices in self._batches())
        return (self.collate_fn([self.dataset[i] for i in indices]) for indices in self.batch_sampler)

    def _batches(self) -> Iterator[Any]:
        """The batches' indices as tensors, so that one gather fetches a batch."""
        from ..._functions import tensor

        for indices in self.batch_sampler or ():
            yield tensor(indices)

    def _stream(self) -> Iterator[Any]:
        samples = iter(self.dataset)
        if self.batch_size is None:
            yield from map(self.collate_fn, samples)
            return
        while batch := list(itertools.islice(samples, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield self.collate_fn(batch)

    def __len__(self) -> int:
        if isinstance(self.dataset, IterableDataset):
            size = len(self.dataset)  # type: ignore[arg-type]
            if self.batch_size is None:
                return size
            full, rest = divmod(size, self.batch_size)
            return full + (rest > 0 and not self.drop_last)
        return len(self.batch_sampler if self.batch_sampler is not None else self.sampler)  # type: ignore[arg-type]


def _refuse_order(shuffle: bool | None, sampler: object, batch_sampler: object) -> None:
    if shuffle:
        raise ValueError(
            f"DataLoader with IterableDataset: expected unspecified shuffle option, but got shuffle={shuffle}"
        )
    for name, value in (("sampler", sampler), ("batch_sampler", batch_sampler)):
        if value is not None:
            raise ValueError(
                f"DataLoader with IterableDataset: expected unspecified {name} option, but got {name}={value}"
            )
