"""Loading LLVM IR: addresses, the object cache, errors, threads, fork."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

import pytest
from vitrify.codegen.target import LEVELS
from vitrify.runtime import host, jit
from vitrify.runtime.options import configure, options

ADD = "define i64 @f(i64 %x) {{\n  %y = add i64 %x, {}\n  ret i64 %y\n}}\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path):
    before = options.cache_dir
    configure(cache_dir=tmp_path / "cache")
    yield tmp_path / "cache"
    configure(cache_dir=before)


def call(address: int, argument: int) -> int:
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)(argument)


def test_code_runs_and_is_kept_on_disk(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = ADD.format(101)
    assert call(jit.load(text, ["f"])["f"], 1) == 102
    (path,) = own_cache.glob("*.o")

    def never(*_: object) -> None:
        raise AssertionError("compiled although it is in the cache")

    monkeypatch.setattr(jit, "_loaded", {})
    monkeypatch.setattr(jit, "_parsed", never)
    assert call(jit.load(text, ["f"])["f"], 1) == 102


def test_a_corrupted_entry_is_compiled_anew(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = ADD.format(102)
    jit.load(text, ["f"])
    (path,) = own_cache.glob("*.o")
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    monkeypatch.setattr(jit, "_loaded", {})
    assert call(jit.load(text, ["f"])["f"], 1) == 103
    assert path.read_bytes() == good


def test_an_unwritable_cache_directory_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    configure(cache_dir=tmp_path / "file" / "cache")
    with pytest.warns(RuntimeWarning, match="is not used"):
        assert call(jit.load(ADD.format(103), ["f"])["f"], 1) == 104


def test_code_for_another_target_is_another_entry(own_cache: Path) -> None:
    text = ADD.format(104)
    jit.load(text, ["f"])
    jit.load(text, ["f"], target=LEVELS["x86-64-v2"])
    assert len(list(own_cache.glob("*.o"))) == 2


def test_optimized_code_is_another_entry(own_cache: Path) -> None:
    text = ADD.format(106)
    assert call(jit.load(text, ["f"], optimized=True)["f"], 1) == call(jit.load(text, ["f"])["f"], 1) == 107
    assert len(list(own_cache.glob("*.o"))) == 2


def test_the_same_text_is_loaded_once() -> None:
    assert jit.load(ADD.format(105), ["f"]) == jit.load(ADD.format(105), ["f"])


def test_imports_are_given_by_address() -> None:
    callback = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(lambda x: 10 * x)
    text = (
        "declare i64 @other(i64)\ndefine i64 @f(i64 %x) {\n  %y = call i64 @other(i64 %x)\n  ret i64 %y\n}\n"
    )
    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert call(jit.load(text, ["f"], {"other": address})["f"], 4) == 40


@pytest.mark.parametrize(
    "text", ["this is not LLVM IR", "define i64 @g() {\n  ret i64 1\n}\n"], ids=["text", "no export"]
)
def test_bad_modules_raise(text: str) -> None:
    with pytest.raises(RuntimeError):
        jit.load(text, ["f"])


def test_verification_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "verify", True)
    bad = "define i64 @f(i64 %x) {\n  ret i64 %y\n  %y = add i64 %x, 1\n}\n"
    with pytest.raises(RuntimeError):
        jit.load(bad, ["f"])


def test_assembly_is_text() -> None:
    assert "ret" in jit.assembly(ADD.format(1))


def test_many_threads_load_at_once() -> None:
    results: dict[int, int] = {}

    def work(i: int) -> None:
        results[i] = call(jit.load(ADD.format(200 + i % 4), ["f"])["f"], 1)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: 201 + i % 4 for i in range(16)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_compiles() -> None:
    stop = threading.Event()

    def work() -> None:
        i = 0
        while not stop.is_set():
            jit.load(ADD.format(1000 + i), ["f"])
            i += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for i in range(5):
            child = os.fork()
            if child == 0:
                good = call(jit.load(ADD.format(-i), ["f"])["f"], 50) == 50 - i
                os._exit(0 if good else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()


def test_the_host_is_detected_and_may_be_overridden() -> None:
    detected = host.host_target()
    assert detected.vector_bytes in (16, 32, 64) and detected.cpu
    configure(target="x86-64-v3")
    try:
        assert host.host_target() is LEVELS["x86-64-v3"]
        configure(target="pdp-11")
        with pytest.raises(ValueError, match="x86-64-v2, x86-64-v3"):
            host.host_target()
    finally:
        configure(target="native")


def test_options_have_fixed_names() -> None:
    with pytest.raises(TypeError, match="no runtime option 'speed'"):
        configure(speed=11)
