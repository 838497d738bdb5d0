"""Settings of the runtime. They hold defaults; `configure` changes them before (or between) compilations.

The environment is read by the frontend alone, which passes what it found on to `configure`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

#: Stands for the cache directory of the user (the frontend passes another where XDG_CACHE_HOME says so).
USER_CACHE = "user"


@dataclass
class Options:
    """cache_dir: where object code is kept; USER_CACHE, a path, or None for nowhere. verify: let LLVM check
    every module. native: storages and calls as CPython builtins made of native code; False: the same in
    plain Python (read once, when a storage is first used). target: "native" or an x86-64 level to
    generate code for. progress: show a line while something compiles for long; None: on terminals."""

    cache_dir: str | os.PathLike[str] | None = USER_CACHE
    verify: bool = False
    native: bool = True
    target: str = "native"
    progress: bool | None = None


options = Options()


def configure(**settings: object) -> None:
    """Change settings by name. Raises TypeError for a name that `Options` does not have."""
    for name, value in settings.items():
        if name not in Options.__dataclass_fields__:
            raise TypeError(f"there is no runtime option {name!r}")
        setattr(options, name, value)


def cache_directory() -> Path | None:
    """The directory that the options stand for; None if nothing is to be kept."""
    if options.cache_dir is None:
        return None
    if options.cache_dir == USER_CACHE:
        return Path("~/.cache/vitrify").expanduser()
    return Path(options.cache_dir)
