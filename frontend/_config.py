"""The environment, read here and nowhere else, once, before anything else of vitrify is imported.

VITRIFY_DUMP=folder       write every stage of everything that is compiled to this folder
VITRIFY_VERIFY=1          verify graphs between passes, and let LLVM verify its input
VITRIFY_CACHE_DIR=folder  where object code is kept between processes; empty: nowhere
VITRIFY_TARGET=name       generate code for this x86-64 level instead of the host
VITRIFY_NATIVE=0          storages and calls in plain Python instead of native builtins
VITRIFY_PROGRESS=1        a line on stderr while something compiles for long, terminal or not; 0: never
VITRIFY_NUM_THREADS=n     how many threads native code may use at first, instead of one per CPU
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrify.runtime import pool
from vitrify.runtime.options import USER_CACHE, configure

if TYPE_CHECKING:
    from vitrify.runtime.compiler import CompiledGraph


@dataclass
class Config:
    """dump: folder for the stages of everything compiled. verify: between passes. num_threads: for native
    code; None for one per CPU that the process may use.
    """

    dump: Path | None = None
    verify: bool = False
    num_threads: int | None = None


def read(environment: Mapping[str, str]) -> tuple[Config, dict[str, Any]]:
    """The settings that these variables ask for: ours and the runtime's. Raises ValueError for a bad
    number."""
    config, runtime = Config(), dict[str, Any]()
    if folder := environment.get("VITRIFY_DUMP"):
        config.dump = Path(folder)
    config.verify = _truth(environment.get("VITRIFY_VERIFY", ""))
    runtime["verify"] = config.verify
    if "VITRIFY_CACHE_DIR" in environment:
        runtime["cache_dir"] = environment["VITRIFY_CACHE_DIR"] or None
    elif home := environment.get("XDG_CACHE_HOME"):
        runtime["cache_dir"] = Path(home) / "vitrify"
    else:
        runtime["cache_dir"] = USER_CACHE
    if target := environment.get("VITRIFY_TARGET"):
        runtime["target"] = target
    if progress := environment.get("VITRIFY_PROGRESS"):
        runtime["progress"] = _truth(progress)
    runtime["native"] = _truth(environment.get("VITRIFY_NATIVE", "1"))
    if threads := environment.get("VITRIFY_NUM_THREADS"):
        config.num_threads = _positive("VITRIFY_NUM_THREADS", threads)
    return config, runtime


def _truth(text: str) -> bool:
    return text.strip().lower() not in ("", "0", "false", "no", "off")


def _positive(name: str, text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise ValueError(f"{name} must be a positive integer, got {text!r}")
    return int(text)


def dump_to(folder: Path) -> None:
    """From now on write every stage of every compiled graph to files in this folder, numbered in order."""
    from vitrify.runtime.compiler import STAGES, observers

    folder.mkdir(parents=True, exist_ok=True)
    count = len({path.name.split(".")[0] for path in folder.iterdir()})

    def write(compiled: CompiledGraph) -> None:
        nonlocal count
        count += 1
        for stage in STAGES:
            path = folder / f"{count:03d}-{compiled.name}.{stage}.txt"
            path.write_text(compiled.text(stage))

    observers.append(write)


config, _runtime = read(os.environ)
configure(**_runtime)
if config.dump is not None:
    dump_to(config.dump)


if config.num_threads is not None:
    pool.set_threads(config.num_threads)


def get_num_threads() -> int:
    """Number of threads that native code may use. At first it is the number of CPUs that the process may use,
    or what VITRIFY_NUM_THREADS says.
    """
    return pool.threads()


def set_num_threads(num: int) -> None:
    """Set the number of threads that native code may use. The results are the same for any number.

    Raises RuntimeError unless it is a positive integer.

    >>> import vitrify
    >>> before = vitrify.get_num_threads()
    >>> vitrify.set_num_threads(2)
    >>> vitrify.get_num_threads()
    2
    >>> vitrify.set_num_threads(before)
    """
    if not isinstance(num, int):
        raise RuntimeError(f"set_num_threads expects an int, but got {type(num).__name__}")
    if num <= 0:
        raise RuntimeError("set_num_threads expects a positive integer")
    pool.set_threads(num)
