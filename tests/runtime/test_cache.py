"""The disk cache of object code: whatever happens to an entry or its directory, the answer is right or a
miss."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from vitrify.runtime import cache as cache_module
from vitrify.runtime.cache import ObjectCache, content_key

KEY = content_key("text")


def entry(directory: Path) -> Path:
    (path,) = directory.glob("*.o")
    return path


def test_an_entry_is_found_again_and_only_under_its_key(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache")
    assert cache.get(KEY) is None
    cache.put(KEY, b"code")
    assert cache.get(KEY) == b"code"
    assert cache.get(content_key("other")) is None
    assert ObjectCache(tmp_path / "cache").get(KEY) == b"code"


def test_keys_tell_parts_apart() -> None:
    assert content_key("ab", "c") != content_key("a", "bc") != content_key("abc")


def test_the_directory_is_private(tmp_path: Path) -> None:
    ObjectCache(tmp_path / "a" / "b").put(KEY, b"code")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:20],
        lambda data: data[:-1] + b"x",
        lambda data: b"#!" + data,
    ],
    ids=["empty", "truncated", "header cut", "changed", "foreign"],
)
def test_a_damaged_entry_is_a_miss_and_is_replaced(tmp_path: Path, damage) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(KEY, b"some code")
    path = entry(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get(KEY) is None
    cache.put(KEY, b"some code")
    assert cache.get(KEY) == b"some code"


def test_a_directory_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    cache = ObjectCache(tmp_path)
    with pytest.warns(RuntimeWarning, match="other users may write"):
        cache.put(KEY, b"code")
    assert cache.get(KEY) is None
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module.os, "getuid", lambda: os.stat(tmp_path).st_uid + 1)
    with pytest.warns(RuntimeWarning, match="belongs to another user"):
        assert ObjectCache(tmp_path).get(KEY) is None


def test_a_directory_that_cannot_be_made_costs_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ObjectCache(tmp_path / "file" / "cache")
    with pytest.warns(RuntimeWarning, match="VITRIFY_CACHE_DIR") as caught:
        cache.put(KEY, b"code")
        cache.put(KEY, b"code")
    assert len(caught) == 1
    assert cache.get(KEY) is None


def test_a_failing_write_costs_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.os, "replace", full)
    cache = ObjectCache(tmp_path)
    with pytest.warns(RuntimeWarning, match="No space left"):
        cache.put(KEY, b"code")
    assert list(tmp_path.iterdir()) == []  # no temporary file is left
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put(KEY, b"code")


def test_no_directory_keeps_nothing() -> None:
    cache = ObjectCache(None)
    cache.put(KEY, b"code")
    assert cache.get(KEY) is None


def test_the_oldest_entries_go_when_the_limit_is_passed(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, limit_bytes=10_000)
    keys = [content_key(str(i)) for i in range(5)]
    for age, key in enumerate(keys):
        ObjectCache(tmp_path, limit_bytes=1 << 30).put(key, bytes(3000))
        os.utime(tmp_path / f"{key}.o", (1000 + age, 1000 + age))
    assert cache.get(keys[0]) is not None  # used just now: the youngest
    cache.put(content_key("new"), b"small")
    kept = {path.stem for path in tmp_path.glob("*.o")}
    assert keys[0] in kept and content_key("new") in kept
    assert keys[1] not in kept and keys[2] not in kept
    assert sum(path.stat().st_size for path in tmp_path.glob("*.o")) <= 10_000


def test_left_temporary_files_are_removed_when_old(tmp_path: Path) -> None:
    (tmp_path / ".left").write_bytes(b"x")
    (tmp_path / ".fresh").write_bytes(b"x")
    os.utime(tmp_path / ".left", (1000, 1000))
    ObjectCache(tmp_path).put(KEY, b"code")
    assert not (tmp_path / ".left").exists()
    assert (tmp_path / ".fresh").exists()


def test_processes_that_write_the_same_entry_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; from vitrify.runtime.cache import ObjectCache; from pathlib import Path\n"
        "cache = ObjectCache(Path(sys.argv[1]))\n"
        "for i in range(300):\n"
        "    cache.put('k', b'code' * 5000)\n"
        "    assert cache.get('k') == b'code' * 5000\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["k.o"]
