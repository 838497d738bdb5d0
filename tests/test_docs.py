"""Every Python snippet in the README and the docs runs, and prints what the text block after it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def snippets() -> list[tuple[str, str, str | None]]:
    """(page and number, program, expected output or None): a ```text block that follows is the output."""
    found = []
    for page in PAGES:
        blocks = FENCE.findall(page.read_text())
        for number, (language, body) in enumerate(blocks):
            if language == "python":
                after = blocks[number + 1] if number + 1 < len(blocks) else ("", "")
                found.append((f"{page.name}-{number}", body, after[1] if after[0] == "text" else None))
    return found


@pytest.mark.parametrize(
    ("where", "program", "expected"), snippets(), ids=lambda x: x if x and len(x) < 40 else ""
)
def test_snippet(where: str, program: str, expected: str | None, tmp_path: Path) -> None:
    file = tmp_path / "snippet.py"
    file.write_text(program)
    done = subprocess.run(
        [sys.executable, "snippet.py"], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, f"{where}:\n{done.stderr}"
    if expected is not None:
        printed = re.sub(r'"[^"]*/(snippet\.py)"', r'"\1"', done.stdout)
        assert printed.strip() == expected.strip(), f"{where} prints:\n{printed}"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        prose = re.sub(r"`[^`]*`", "", FENCE.sub("", page.read_text()))
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", prose):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
