"""The house rules that a program can check: packages, import arrows, one copy of every module."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("ir", "tracer", "passes", "codegen", "runtime", "frontend")
MAY_IMPORT = {
    "ir": set(),
    "tracer": {"ir"},
    "passes": {"ir"},
    "codegen": {"ir"},
    "runtime": {"ir", "passes", "codegen"},
    "frontend": set(ROOMS),
}


def _sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def _package(path: Path) -> list[str]:
    """The dotted name of the package that the file is in: frontend/nn/x.py -> [vitrify, nn]."""
    parts = list(path.relative_to(ROOT).parent.parts)
    return ["vitrify", *parts[1:]] if parts[0] == "frontend" else ["vitrify", *parts]


def _imported(path: Path) -> set[str]:
    """Absolute names of all modules that the file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _package(path)[: len(_package(path)) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def _room(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] != "vitrify":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "frontend"


def test_every_package_is_listed() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        listed = set(tomllib.load(file)["tool"]["setuptools"]["packages"])
    found = {".".join(_package(init)) for room in ROOMS for init in (ROOT / room).rglob("__init__.py")}
    assert listed == found


def test_every_folder_with_code_is_a_package() -> None:
    for room in ROOMS:
        for path in _sources(room):
            assert (path.parent / "__init__.py").exists(), f"{path.parent} has no __init__.py"


def test_imports_follow_the_arrows() -> None:
    wrong = []
    for room in ROOMS:
        for path in _sources(room):
            for name in _imported(path):
                target = _room(name)
                if target not in (None, room) and target not in MAY_IMPORT[room]:
                    if name == "vitrify" and room == "frontend":
                        continue
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_rooms_import_each_other_only_as_vitrify() -> None:
    bare = [
        f"{path.relative_to(ROOT)} imports {name}"
        for room in ROOMS
        for path in _sources(room)
        for name in _imported(path)
        if name.split(".")[0] in ROOMS
    ]
    assert not bare, "\n".join(bare)


def test_only_the_runtime_uses_llvmlite() -> None:
    for room in ROOMS:
        if room != "runtime":
            for path in _sources(room):
                assert not any(name.split(".")[0] == "llvmlite" for name in _imported(path)), path


def test_only_one_file_reads_the_environment() -> None:
    for room in ROOMS:
        for path in _sources(room):
            if path != ROOT / "frontend" / "_config.py":
                text = path.read_text()
                assert "os.environ" not in text and "getenv" not in text, path


def test_nothing_is_importable_twice_and_import_is_lean() -> None:
    """In a fresh process: no module under a bare room name, and no library but numpy and llvmlite."""
    program = (
        "import sys; before = set(sys.modules)\n"
        "import vitrify\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "third = {n for n in new if n not in sys.stdlib_module_names and not n.startswith('_')}\n"
        "print(sorted(third))\n"
        f"print([r for r in {ROOMS} if r in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True
    )
    third, bare = map(ast.literal_eval, done.stdout.splitlines())
    assert set(third) <= {"vitrify", "numpy", "llvmlite", "zoneinfo"}, third
    assert bare == []


def test_no_module_bears_the_name_of_a_public_function() -> None:
    import vitrify

    for path in (ROOT / "frontend").glob("*.py"):
        name = path.stem
        public = getattr(vitrify, name, None)
        assert name.startswith("_") or public is None or type(public).__name__ == "module", name
