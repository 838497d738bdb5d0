"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

#: Called with a stage, how much of it is done, and how much there is (0: not known). It may raise, to end the
#: work.
Report = Callable[[str, int, int], None]


def nobody(stage: str, done: int, total: int) -> None:
    """Told by work that nobody follows."""
