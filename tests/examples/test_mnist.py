"""The digits example as a user runs it: both models, eager and compiled, with its dump, on some digits."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import vitrify
from vitrify.ir.kernel_text import parse_kernel, print_kernel
from vitrify.ir.parser import parse_graph
from vitrify.ir.plan_text import parse_plan
from vitrify.ir.printer import print_graph

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "data" / "mnist10k"


@pytest.fixture(scope="module")
def some_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 1,280 training and 500 test digits, in the format of all."""
    folder = tmp_path_factory.mktemp("digits")
    for part, count in (("train", 1280), ("t10k", 500)):
        for kind, head, size in (("images-idx3", 16, 784), ("labels-idx1", 8, 1)):
            name = f"{part}-{kind}-ubyte"
            data = gzip.decompress((DIGITS / f"{name}.gz").read_bytes())
            data = data[:4] + count.to_bytes(4, "big") + data[8 : head + count * size]
            (folder / name).write_bytes(data)
    return folder


def run(folder: Path, *options: object) -> str:
    """The example's output; it runs in `folder`."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "mnist.py"), *map(str, options)],
        capture_output=True, text=True, cwd=folder, timeout=300,
        env={**os.environ, "VITRIFY_CACHE_DIR": str(folder / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def accuracy(output: str) -> float:
    found = re.search(r"test accuracy: ([0-9.]+) %", output)
    assert found, output
    return float(found[1])


def losses(output: str) -> list[str]:
    return re.findall(r"epoch \d+/\d+: mean loss ([0-9.]+)", output)


@pytest.mark.parametrize(("model", "epochs", "least"), [("mlp", 3, 84), ("cnn", 1, 75)])
def test_compiled_and_eager_learn_the_same(
    some_digits: Path, tmp_path: Path, model: str, epochs: int, least: float
) -> None:
    options = ("--model", model, "--epochs", epochs, "--data", some_digits, "--seed", 1)
    compiled = run(tmp_path, *options)
    eager = run(tmp_path, *options, "--eager", "--save", tmp_path / "eager.safetensors")
    assert accuracy(compiled) >= least
    assert losses(compiled) == losses(eager)
    assert accuracy(compiled) == accuracy(eager)
    assert "confusion matrix" in compiled
    assert re.search(r"total [0-9.]+ s: compile .* [0-9.]+ s, run [0-9.]+ s", compiled)
    weights = vitrify.load(tmp_path / "out" / f"mnist-{model}.safetensors")
    others = vitrify.load(tmp_path / "eager.safetensors")
    assert weights.keys() == others.keys()
    assert all(weights[k].tolist() == others[k].tolist() for k in weights)


def test_the_dump_parses_back(some_digits: Path, tmp_path: Path) -> None:
    run(tmp_path, "--epochs", 1, "--data", some_digits, "--dump", tmp_path / "dump")
    texts = {p.name: p.read_text() for p in (tmp_path / "dump").iterdir()}
    stages = ("captured.txt", "optimized.txt", "kernels.txt", "plan.txt", "llvm.ll", "asm.s")
    assert set(texts) == {f"step-{stage}" for stage in stages}
    for stage in ("captured", "optimized"):
        text = texts[f"step-{stage}.txt"]
        assert print_graph(parse_graph(text)).strip() == text.strip()
    kernels = re.split(r"\n(?=kernel )", texts["step-kernels.txt"].strip())
    assert len(kernels) > 5
    for text in kernels:
        assert print_kernel(parse_kernel(text)).strip() == text.strip()
    assert len(parse_plan(texts["step-plan.txt"]).calls) > 5
    assert "define" in texts["step-llvm.ll"]


def test_missing_digits(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "mnist.py"), "--data", str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert "FileNotFoundError: train-images-idx3-ubyte" in done.stderr
