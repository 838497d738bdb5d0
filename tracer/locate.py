"""The line of the user's Python that is running: the nearest frame that is not vitrify's own."""

from __future__ import annotations

import sys
from types import CodeType, FrameType

from ..ir.graph import Location

_PACKAGE = __name__.split(".")[0]
#: By identity of a code object (kept alive here; hashing one takes long): whether it is ours.
_codes: dict[int, tuple[CodeType, bool]] = {}
#: By code object and instruction.
_places: dict[tuple[int, int], Location] = {}


def is_ours(module: str) -> bool:
    """True for the name of a module of vitrify itself."""
    return module == _PACKAGE or module.startswith(_PACKAGE + ".")


def user_frame() -> FrameType | None:
    """The nearest frame on the stack outside vitrify; None if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        known = _codes.get(id(code))
        if known is None:
            known = _codes[id(code)] = code, is_ours(frame.f_globals.get("__name__") or "")
        if not known[1]:
            return frame
        frame = frame.f_back
    return None


def user_location() -> Location | None:
    """File and line of `user_frame`, the same object for the same place."""
    frame = user_frame()
    if frame is None:
        return None
    key = (id(frame.f_code), frame.f_lasti)
    found = _places.get(key)
    if found is None:
        found = _places[key] = Location(frame.f_code.co_filename, frame.f_lineno)
    return found
