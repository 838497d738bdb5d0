"""Batches of sequences of different lengths: `PackedSequence`, packing and padding, with PyTorch's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from vitrify.ir.dtypes import int64

from .._functions import cat, full, stack, tensor, where
from .._tensor import Tensor


class PackedSequence(NamedTuple):
    """The elements of all sequences that have an element at step 0, then at step 1, and so on.

    data: [elements, *]; batch_sizes: how many sequences reach each step; sorted_indices: the order of the
    sequences by falling length, unsorted_indices the way back, both None if they came in that order.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    @property
    def is_cuda(self) -> bool:
        """Whether the elements lie on a GPU: never."""
        return False


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Pack sequences that are padded to one length. input: [t, b, *], or [b, t, *] with batch_first; lengths:
    of each sequence, falling unless enforce_sorted is False.

    Raises RuntimeError for lengths that don't fit.
    """
    sizes = [int(n) for n in (lengths.tolist() if isinstance(lengths, Tensor) else lengths)]
    steps = input.transpose(0, 1) if batch_first else input
    if len(sizes) != steps.shape[1]:
        raise RuntimeError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {len(sizes)} "
            f"(batch_size={steps.shape[1]})"
        )
    if any(n <= 0 for n in sizes):
        raise RuntimeError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0"
        )
    if max(sizes) > steps.shape[0]:
        raise RuntimeError(f"Expected lengths of at most {steps.shape[0]}, but got {max(sizes)}")
    order = None
    if not enforce_sorted:
        order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
        sizes = [sizes[i] for i in order]
        steps = steps.index_select(1, tensor(order))
    elif sizes != sorted(sizes, reverse=True):
        raise RuntimeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
            "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this "
            "requirement if you do not need ONNX exportability."
        )
    batch_sizes = [sum(n > t for n in sizes) for t in range(sizes[0])]
    data = _packed_rows(steps[: sizes[0]], batch_sizes)
    back = None if order is None else [order.index(i) for i in range(len(order))]
    return PackedSequence(
        data,
        tensor(batch_sizes),
        None if order is None else tensor(order),
        None if back is None else tensor(back),
    )


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The padded sequences, [t, b, *] in the order in which they came, and their lengths."""
    sizes = _sizes(sequence)
    if total_length is not None and total_length < len(sizes):
        raise ValueError(
            "Expected total_length to be at least the length of the longest sequence in input, but got "
            f"total_length={total_length} and max sequence length being {len(sizes)}"
        )
    steps = padded(sequence, padding_value, total_length)
    lengths = tensor([sum(n > b for n in sizes) for b in range(sizes[0])])
    if sequence.unsorted_indices is not None:
        steps = steps.index_select(1, sequence.unsorted_indices)
        lengths = lengths.index_select(0, sequence.unsorted_indices)
    return steps.transpose(0, 1) if batch_first else steps, lengths


def pad_sequence(
    sequences: Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:  # fmt: skip
    """Sequences [t_i, *] side by side, padded to the longest: [t, b, *]."""
    longest = max(x.shape[0] for x in sequences)
    made = []
    for x in sequences:
        fill = full((longest - x.shape[0], *x.shape[1:]), padding_value, dtype=x.dtype)
        made.append(cat([x, fill] if padding_side == "right" else [fill, x]))
    return stack(made, 0 if batch_first else 1)


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences [t_i, *]."""
    lengths = [x.shape[0] for x in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def padded(packed: PackedSequence, value: float = 0.0, length: int | None = None) -> Tensor:
    """[t, b, *] in the order of packing, `value` where a sequence has ended."""
    sizes = _sizes(packed)
    sizes += [0] * ((length or len(sizes)) - len(sizes))
    starts = [sum(sizes[:t]) for t in range(len(sizes))]
    places = [
        [start + b if b < n else 0 for b in range(sizes[0])] for start, n in zip(starts, sizes, strict=True)
    ]
    rows = packed.data.index_select(0, tensor(places, dtype=int64).reshape(-1))
    steps = rows.reshape(len(sizes), sizes[0], *packed.data.shape[1:])
    valid = _mask(sizes).reshape(len(sizes), sizes[0], *(1 for _ in packed.data.shape[1:]))
    return where(valid, steps, full((), value, dtype=steps.dtype))


def mask_of(packed: PackedSequence) -> Tensor:
    """bool [t, b]: whether a sequence has an element at a step."""
    return _mask(_sizes(packed))


def packed_as(steps: Tensor, packed: PackedSequence) -> PackedSequence:
    """Padded steps [t, b, *] packed as another batch is."""
    return packed._replace(data=_packed_rows(steps, _sizes(packed)))


def _sizes(packed: PackedSequence) -> list[int]:
    return [int(n) for n in packed.batch_sizes.tolist()]


def _mask(sizes: Sequence[int]) -> Tensor:
    return tensor([[b < n for b in range(sizes[0])] for n in sizes])


def _packed_rows(steps: Tensor, sizes: Sequence[int]) -> Tensor:
    batch = steps.shape[1]
    places = [t * batch + b for t, n in enumerate(sizes) for b in range(n)]
    rows = steps.reshape(steps.shape[0] * batch, *steps.shape[2:])
    return rows.index_select(0, tensor(places, dtype=int64))
