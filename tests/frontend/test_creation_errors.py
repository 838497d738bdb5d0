"""Numbers that a dtype can't hold are refused when a tensor is made of them, as PyTorch refuses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import vitrify


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        ([300], vitrify.uint8),
        ([2**40], vitrify.int32),
        (-(2**31) - 1, vitrify.int32),
        ([2**63], None),
    ],
)
def test_a_number_that_does_not_fit(data: Any, dtype: Any) -> None:
    with pytest.raises((RuntimeError, ValueError), match="verflow"):
        vitrify.tensor(data, dtype=dtype)


def test_full_and_fill() -> None:
    with pytest.raises(RuntimeError, match="without overflow"):
        vitrify.full((1,), 2**40, dtype=vitrify.int32)
    assert vitrify.full((1,), 2**31 - 1, dtype=vitrify.int32).tolist() == [2**31 - 1]


def test_negative_numbers_wrap_around_in_unsigned_tensors() -> None:
    assert vitrify.tensor([-1, -255], dtype=vitrify.uint8).tolist() == [255, 1]


def test_a_dtype_prints_as_it_is_written() -> None:
    assert str(vitrify.float32) == repr(vitrify.float32) == "vitrify.float32"


@pytest.mark.parametrize("sizes", [((),), "a", None, 1.5], ids=str)
def test_sizes_are_integers(sizes: object) -> None:
    with pytest.raises(TypeError):
        vitrify.ones(3).reshape((sizes,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda: vitrify.empty(2**62),
        lambda: vitrify.zeros(2**31, 2**30, 2),
        lambda: vitrify.ones(1).expand(2**62) + 1,
        lambda: vitrify.ones(1).expand(2**60, 4).contiguous(),
        lambda: vitrify.compile(vitrify.exp)(vitrify.ones(1).expand(2**62)),
    ],
)
def test_more_bytes_than_addresses(make: Callable[[], object]) -> None:
    with pytest.raises(RuntimeError, match="Storage size calculation overflowed with sizes="):
        make()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.expand(2**62, 4).sum(),
        lambda x: vitrify.as_strided(x, (2**62, 4), (0, 0)).sum(),
        lambda x: vitrify.broadcast_to(x, (2**40, 2**40)).amax(),
        lambda x: vitrify.zeros(2**31, 2**31, 2),
    ],
)
def test_more_elements_than_can_be_counted(view: Callable[..., object], compiled: bool) -> None:
    function = vitrify.compile(view) if compiled else view
    with pytest.raises(RuntimeError, match="numel: integer multiplication overflow"):
        function(vitrify.ones(1, 1))
