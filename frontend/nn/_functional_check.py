"""Checks of tensors' values: run-time errors that compiled code raises as eager code does."""

from __future__ import annotations

from .._dispatch import check
from .._tensor import Tensor


def check_all(fine: Tensor, error: str, message: str, values: Tensor | None = None) -> None:
    """Raise `error` ("IndexError", "RuntimeError", "ValueError") unless all elements are true.

    values: shaped like `fine`; the first that is not fine takes the place of "{}" in the message.
    """
    if fine.numel() > 0:
        shown = () if values is None else (fine, values)
        check(fine.all(), *shown, error=error, message=message)
