"""Checks of tensors' values: run-time errors that compiled code raises as eager code does."""

from __future__ import annotations

from collections.abc import Callable

from vitrify.ir import ops

from .._dispatch import build
from .._tensor import Tensor


def check_all(ok: Tensor, error: str, message: str, culprit: Callable[[], str] | None = None) -> None:
    """Raise `error` ("IndexError", "RuntimeError", "ValueError") unless all elements are true.

    culprit: makes the message when the check has failed and values can be looked at. Compiled code reports a
    failed check by running the call again eagerly, so the better message is what the user sees there too.
    """
    if ok.numel() == 0:
        return
    try:
        build(ops.check, ok.all(), error=error, message=message)
    except (IndexError, RuntimeError, ValueError) as raised:
        if culprit is None or type(raised).__name__ != error:
            raise
        raise type(raised)(culprit()) from None
