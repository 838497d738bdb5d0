"""There is no GPU; programs that ask find out."""

from __future__ import annotations


def is_available() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def manual_seed(seed: int) -> None:
    """Does nothing: there is no GPU."""


def manual_seed_all(seed: int) -> None:
    """Does nothing: there is no GPU."""


def synchronize(device: object = None) -> None:
    """Raises AssertionError, as PyTorch without CUDA does."""
    raise AssertionError("Torch not compiled with CUDA enabled")
