"""What is compared with compiled code here runs op by op: composites and optimizers are left to their ops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from vitrify import _composite


@pytest.fixture(autouse=True)
def _ops_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_composite, "calls_before", 1 << 30)
    yield
