"""The environment, and what an import costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import vitrify
from vitrify import _config
from vitrify.runtime.options import USER_CACHE


def test_settings() -> None:
    config, runtime = _config.read({})
    assert config == _config.Config() and runtime == {
        "verify": False,
        "cache_dir": USER_CACHE,
        "native": True,
    }
    config, runtime = _config.read(
        {"VITRIFY_DUMP": "out", "VITRIFY_VERIFY": "1", "VITRIFY_CACHE_DIR": "", "VITRIFY_TARGET": "x86-64-v3",
         "VITRIFY_NATIVE": "0", "VITRIFY_NUM_THREADS": "3"}
    )  # fmt: skip
    assert config == _config.Config(Path("out"), True, 3)
    assert runtime == {"verify": True, "cache_dir": None, "target": "x86-64-v3", "native": False}
    assert _config.read({"XDG_CACHE_HOME": "/c"})[1]["cache_dir"] == Path("/c/vitrify")
    with pytest.raises(ValueError, match="VITRIFY_NUM_THREADS must be a positive integer"):
        _config.read({"VITRIFY_NUM_THREADS": "many"})


def test_threads() -> None:
    before = vitrify.get_num_threads()
    vitrify.set_num_threads(2)
    assert vitrify.get_num_threads() == 2
    vitrify.set_num_threads(before)
    with pytest.raises(RuntimeError, match="positive integer"):
        vitrify.set_num_threads(0)
    with pytest.raises(RuntimeError, match="expects an int, but got float"):
        vitrify.set_num_threads(1.5)  # type: ignore[arg-type]


def python(code: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_an_import_loads_numpy_and_llvmlite_only() -> None:
    loaded = python(
        "import sys; before = set(sys.modules); import vitrify;"
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)))",
        VITRIFY_NATIVE="1",
    )
    assert [name for name in loaded.split() if not name.startswith("_")] == ["llvmlite", "numpy", "vitrify"]


def test_everything_works_without_native_builtins() -> None:
    code = (
        "import vitrify as v; from vitrify.runtime import storage; assert not storage.is_native;"
        "x = v.ones(3, requires_grad=True); y = (x * 2)[1:]; y.sum().backward();"
        "z = v.zeros(2); z[0] += 5; print(x.grad.tolist(), z.tolist(), z._version)"
    )
    assert python(code, VITRIFY_NATIVE="0") == "[0.0, 2.0, 2.0] [5.0, 0.0] 2"


def test_stages_are_dumped(tmp_path: Path) -> None:
    python("import vitrify as v; v.ones(3).exp()", VITRIFY_DUMP=str(tmp_path / "out"))
    names = {path.name.partition("-")[2] for path in (tmp_path / "out").iterdir()}
    assert {"exp.captured.txt", "exp.kernels.txt", "exp.llvm.txt"} <= names
