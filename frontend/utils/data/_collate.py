"""Making a batch out of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..._tensor import Tensor


def default_collate(batch: Sequence[Any]) -> Any:
    """Stack samples: tensors and arrays along a new axis, numbers into a tensor, containers by entry.

    Strings and bytes stay a list. Raises TypeError for anything else, RuntimeError if sequences differ in
    length.

    >>> default_collate([(torch.zeros(3), 1), (torch.ones(3), 2)])
    [tensor([[0., 0., 0.], [1., 1., 1.]]), tensor([1, 2])]
    """
    from ..._functions import from_numpy, stack, tensor

    sample = batch[0]
    if isinstance(sample, Tensor):
        return stack(list(batch))
    if isinstance(sample, (np.ndarray, np.generic)):
        return from_numpy(np.stack(batch))
    if isinstance(sample, float):
        return tensor(batch, dtype=_float64())
    if isinstance(sample, int):
        return tensor(list(batch))
    if isinstance(sample, (str, bytes)):
        return batch
    if isinstance(sample, Mapping):
        return {key: default_collate([d[key] for d in batch]) for key in sample}
    if isinstance(sample, Sequence):
        return _collate_sequences(sample, batch)
    raise TypeError(
        "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found "
        f"{type(sample)}"
    )


def _collate_sequences(sample: Sequence[Any], batch: Sequence[Any]) -> Any:
    if any(len(entry) != len(sample) for entry in batch):
        raise RuntimeError("each element in list of batch should be of equal size")
    columns = [default_collate(column) for column in zip(*batch, strict=True)]
    if isinstance(sample, tuple) and hasattr(sample, "_fields"):
        return type(sample)(*columns)
    return columns


def _float64() -> Any:
    from vitrify.ir.dtypes import float64

    return float64
