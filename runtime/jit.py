"""LLVM IR text to native code in this process: object code from the disk cache or LLVM, linked by LLJIT.

Kernels have explicit vectors and phis, so no middle-end passes run on them and the code generator works at
level 1: the same speed as after O3 at a sixth of the compile time. What runs around them is many small
functions, which are worth LLVM's own passes (`optimized`). Code that was loaded stays for the life of the
process.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from ..codegen.target import Target
from ..codegen.threads import INTERRUPTED, PARALLEL
from .cache import ObjectCache, content_key
from .host import host_target
from .options import cache_directory, options
from .parts import packed, parts_of, unpacked
from .progress import step

_lock = threading.RLock()
_names = itertools.count()
_loaded: dict[tuple[object, ...], dict[str, int]] = {}

if hasattr(os, "register_at_fork"):  # a fork in the middle of a compilation would leave LLVM half changed
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def load(
    text: str, exports: Iterable[str], imports: Mapping[str, int] | None = None, target: Target | None = None,
    *, optimized: bool = False,
) -> dict[str, int]:  # fmt: skip
    """Compile a module, or find it compiled, and give the addresses of the `exports`.

    imports: addresses of symbols that the text declares; those of `codegen.threads` are ours, others come
    from the process (libc, CPython).
    target: what the text was emitted for; the host's if None. optimized: run LLVM's passes on it first.
    Raises RuntimeError if LLVM can't parse or link the text. Safe to call from any thread.
    """
    chosen = target or host_target()
    symbols = {**(imports or {}), **of_the_runtime(imports_of(text))}
    code = code_key(text, chosen, optimized)
    return _loaded_code(code, lambda: _object_code(text, chosen, optimized), exports, symbols)


def load_kept(code: str, exports: Iterable[str], imports: Collection[str]) -> dict[str, int] | None:
    """The same for object code that an earlier process compiled, given its key and the symbols of ours that
    it needs; None if it is not to be had."""
    data = disk().get(code)
    return None if data is None else _loaded_code(code, lambda: data, exports, of_the_runtime(imports))


def _loaded_code(
    code: str, make: Callable[[], bytes], exports: Iterable[str], imports: Mapping[str, int]
) -> dict[str, int]:
    names = tuple(exports)
    key = (code, names, *sorted(imports.items()))
    with _lock:
        if key not in _loaded:
            _loaded[key] = _link(make(), names, imports)
        return _loaded[key]


def imports_of(text: str) -> tuple[str, ...]:
    """The symbols of the run-time that a module calls."""
    return tuple(name for name in (PARALLEL, INTERRUPTED) if f"@{name}(" in text)


def of_the_runtime(names: Collection[str]) -> dict[str, int]:
    """Addresses of symbols of the run-time."""
    if not names:
        return {}
    from .interrupt import interrupted_address  # their code is loaded from here, too
    from .pool import parallel_address

    where = {PARALLEL: parallel_address, INTERRUPTED: interrupted_address}
    return {name: where[name]() for name in names}


def assembly(text: str, target: Target | None = None) -> str:
    """The machine code of a module, as text."""
    with _lock:
        return str(_machine(target or host_target()).emit_assembly(_parsed(text)))


def compiler_version() -> str:
    """What makes object code of text."""
    return f"llvmlite {llvmlite.__version__}, LLVM {'.'.join(map(str, llvm.llvm_version_info))}"


def code_key(text: str, target: Target, optimized: bool = False) -> str:
    """The name of a module's object code in the disk cache."""
    return content_key(text, compiler_version(), target.key, *["optimized"] * optimized)


def _object_code(text: str, target: Target, optimized: bool) -> bytes:
    key = code_key(text, target, optimized)
    found = disk().get(key)
    if found is None:
        found = packed(list(_objects(text, target, optimized)))
        disk().put(key, found)
    return found


def _objects(text: str, target: Target, optimized: bool) -> Iterator[bytes]:
    """The object code of a module's parts, one after the other: Ctrl-C ends it between two."""
    parts = parts_of(text)
    machine = _machine(target)
    for number, part in enumerate(parts):
        step("machine code", number, len(parts))
        module = _parsed(part)
        if optimized:
            _optimize(module, machine)
        yield bytes(machine.emit_object(module))


def _optimize(module: Any, machine: Any) -> None:
    """Run LLVM's passes of level 1: small functions are inlined, and what they test twice is tested once."""
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
    builder.getModulePassManager().run(module, builder)


def disk() -> ObjectCache:
    """The disk cache of the directory that the options name."""
    return _disk(cache_directory())


@cache
def _disk(directory: Path | None) -> ObjectCache:
    return ObjectCache(directory)


def _parsed(text: str) -> Any:
    _initialize()
    module = llvm.parse_assembly(text)
    if options.verify:
        module.verify()
    return module


def _link(code: bytes, exports: tuple[str, ...], imports: Mapping[str, int]) -> dict[str, int]:
    builder = llvm.JITLibraryBuilder().add_current_process()
    for image in unpacked(code):
        builder.add_object_img(image)
    for name, address in imports.items():
        builder.import_symbol(name, address)
    for name in exports:
        builder.export_symbol(name)
    library = builder.link(_engine(), f"vitrify{next(_names)}")
    _keep(library)
    return {name: library[name] for name in exports}


@cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()


@cache
def _machine(target: Target) -> Any:
    _initialize()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=target.cpu, features=target.features, opt=1, jit=True, reloc="pic", codemodel="small"
    )


@cache
def _engine() -> Any:
    # one engine whatever the target: it only links, and what it links may run after the last module is gone
    engine = llvm.create_lljit_compiler(_machine(host_target()))
    _keep(engine)
    return engine


def _keep(thing: object) -> None:
    """Never free: destructors of capsules in this code run until the very end of the process."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
