"""Object code on disk, so that what was compiled once is linked in a tenth of a millisecond the next time.

An entry is named by a hash of everything the code depends on and carries the hash of its own bytes: a
truncated or foreign file is a miss and is replaced. Native code is loaded from here, so the directory must
be private to the user: one that belongs to somebody else, or that others may write to, is not used.
Whatever goes wrong with the directory, compilation goes on without it, with at most one warning.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import time
import warnings
from pathlib import Path

_MAGIC = b"vitrify-object-1"
_HEADER = len(_MAGIC) + 32  # then sha256 of the payload
_SUFFIX = ".o"
_STALE_S = 3600.0  # a temporary file this old belongs to a process that died
_PUTS_PER_SWEEP = 64


def content_key(*parts: str) -> str:
    """A name for an entry: sha256 over all parts, told apart by their lengths."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


class ObjectCache:
    """Entries `key -> bytes` in one directory, made on first use. Any number of processes may share it."""

    def __init__(self, directory: Path | None, limit_bytes: int = 512 << 20) -> None:
        """directory: None keeps nothing. limit_bytes: beyond it the entries used longest ago are removed."""
        self.directory = directory
        self.limit_bytes = limit_bytes
        self._checked = False
        self._puts = 0

    def get(self, key: str) -> bytes | None:
        """The entry, or None if there is none that is whole."""
        directory = self._usable()
        if directory is None:
            return None
        path = directory / (key + _SUFFIX)
        try:
            data = _read_own(path)
        except OSError:
            return None
        payload = data[_HEADER:]
        if data[:_HEADER] != _MAGIC + hashlib.sha256(payload).digest():
            return None
        try:
            os.utime(path)  # the sweep removes what was used longest ago
        except OSError:
            pass
        return payload

    def put(self, key: str, payload: bytes) -> None:
        """Write the entry in one step: a reader sees all of it or nothing."""
        directory = self._usable()
        if directory is None:
            return
        try:
            _write_whole(directory / (key + _SUFFIX), _MAGIC + hashlib.sha256(payload).digest() + payload)
            if self._puts % _PUTS_PER_SWEEP == 0:
                self._sweep(directory)
            self._puts += 1
        except OSError as error:
            self._give_up(f"can't write to it: {error}")

    def _usable(self) -> Path | None:
        if not self._checked and self.directory is not None:
            self._checked = True
            try:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                if fault := _not_private(self.directory):
                    self._give_up(fault)
            except OSError as error:
                self._give_up(f"can't make it: {error}")
        return self.directory

    def _give_up(self, why: str) -> None:
        warnings.warn(
            f"the kernel cache {self.directory} is not used ({why}); kernels are compiled anew in each "
            "process. VITRIFY_CACHE_DIR chooses another directory",
            RuntimeWarning,
            stacklevel=2,
        )
        self.directory = None

    def _sweep(self, directory: Path) -> None:
        """Remove leftovers and, if the entries are too large together, the oldest quarter of the limit."""
        entries = []
        for item in os.scandir(directory):
            info = item.stat(follow_symlinks=False)
            if item.name.endswith(_SUFFIX):
                entries.append((info.st_mtime, info.st_size, item.path))
            elif info.st_mtime < time.time() - _STALE_S:
                _remove(item.path)
        excess = sum(size for _, size, _ in entries) - self.limit_bytes
        if excess > 0:
            excess += self.limit_bytes // 4
        for _, size, path in sorted(entries):
            if excess <= 0:
                break
            _remove(path)
            excess -= size


def _not_private(directory: Path) -> str:
    info = directory.stat()
    if not hasattr(os, "getuid"):  # access lists guard a user's folders there
        return ""
    if info.st_uid != os.getuid():
        return "it belongs to another user"
    return "other users may write to it" if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else ""


def _read_own(path: Path) -> bytes:
    with open(path, "rb") as file:
        if hasattr(os, "getuid") and os.fstat(file.fileno()).st_uid != os.getuid():
            raise PermissionError(f"{path} belongs to another user")
        return file.read()


def _write_whole(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        _remove(temporary)
        raise


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
