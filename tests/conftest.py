"""For all tests: what is compiled is verified, and object code goes to a folder of the test run's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from vitrify.runtime.options import configure


@pytest.fixture(scope="session", autouse=True)
def _verified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder: Path = tmp_path_factory.mktemp("object-code")
    configure(verify=True, cache_dir=folder)
    yield
