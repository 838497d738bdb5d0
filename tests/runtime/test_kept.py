"""Graphs that an earlier process compiled are found on disk: no pass, no lowering, no LLVM, and the same
results, errors and texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from vitrify.ir.dtypes import float32
from vitrify.ir.expr import evaluate
from vitrify.ir.interpreter import interpret
from vitrify.ir.parser import parse_graph
from vitrify.ir.printer import print_graph
from vitrify.ir.strided import strided_type
from vitrify.runtime import compiler, jit, kept, storage
from vitrify.runtime.compiler import STAGES, CompiledGraph, compile_graph
from vitrify.runtime.executable import CheckFailed
from vitrify.runtime.host import host_target, target_of
from vitrify.runtime.options import configure, options

from tests.support import assert_same_bits

Forget = Callable[[], list[str]]

LAYER = """graph layer(%x: f32[5, 7], %w: f32[3, 7]) {
  %0 = contract %x, %w {spec=<[m, k] * [n, k] -> [m, n] over k>} : f32[5, 3]
  %1 = constant {value=f32[5, 3](0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)} : f32[5, 3]
  %2 = add %0, %1 : f32[5, 3]
  %3 = tanh %2 : f32[5, 3]
  return %3
}
"""
ROWS = """graph rows(%x: f32[s0, s1]) {
  %0 = exp %x : f32[s0, s1]
  %1 = reduce_sum %0 {axes=(1,), order="lanes"} : f32[s0]
  return %1
}
"""
CHECKED = """graph checked(%x: f32[4], %ok: bool[]) {
  check %ok {error="ValueError", message="not \\"ok\\"\\nat all"} @ "somewhere.py":3
  %0 = add %x, %x : f32[4]
  update %x = %0
  return %0
}
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache directory of the test's own, and no verification, which does without what is kept."""
    before = options.cache_dir, options.verify
    configure(cache_dir=tmp_path / "cache", verify=False)
    monkeypatch.setattr(compiler, "_compiled", {})
    monkeypatch.setattr(jit, "_loaded", {})
    yield tmp_path / "cache"
    configure(cache_dir=before[0], verify=before[1])


@pytest.fixture
def another_process(monkeypatch: pytest.MonkeyPatch) -> Forget:
    """Forget what is compiled; gives a list to which each later step of compiling adds its name."""
    stages, code = compiler._stages, jit._object_code

    def forget() -> list[str]:
        monkeypatch.setattr(compiler, "_compiled", {})
        monkeypatch.setattr(jit, "_loaded", {})
        made: list[str] = []

        def noted(name: str, function: Any) -> Any:
            return lambda *a: made.append(name) or function(*a)

        monkeypatch.setattr(compiler, "_stages", noted("stages", stages))
        monkeypatch.setattr(jit, "_object_code", noted("code", code))
        return made

    return forget


def run(compiled: CompiledGraph, *arrays: np.ndarray, sizes: tuple[int, ...] = ()) -> list[np.ndarray]:
    """The outputs of a call."""
    blocks = compiled.run([storage.from_array(a) for a in arrays], sizes)
    names = dict(zip(compiled.plan.sizes, sizes, strict=True))
    types = (type_ for _, type_ in compiled.plan.outputs)
    shapes = [(t.dtype, tuple(evaluate(d, names) for d in t.shape)) for t in types]
    return [storage.to_array(b, strided_type(*t)) for b, t in zip(blocks, shapes, strict=True)]


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_a_graph_is_compiled_once_for_all_processes(another_process: Forget) -> None:
    inputs = normal(5, 7), normal(3, 7)
    first = compile_graph(parse_graph(LAYER))
    (want,) = run(first, *inputs)
    steps = another_process()
    second = compile_graph(parse_graph(LAYER))
    assert second is not first and not steps
    assert_same_bits(run(second, *inputs)[0], want)
    assert second.compile_seconds > 0


def test_its_texts_are_made_when_asked_for(another_process: Forget) -> None:
    first = compile_graph(parse_graph(LAYER))
    texts = [first.text(stage) for stage in STAGES]
    steps = another_process()
    second = compile_graph(parse_graph(LAYER))
    assert not steps
    assert [second.text(stage) for stage in STAGES] == texts
    assert steps == ["stages"]


def test_sizes_known_at_run_time(another_process: Forget) -> None:
    x = normal(3, 40)
    first = compile_graph(parse_graph(ROWS))
    (want,) = run(first, x, sizes=(3, 40))
    steps = another_process()
    second = compile_graph(parse_graph(ROWS))
    assert_same_bits(run(second, x, sizes=(3, 40))[0], want)
    for sizes in ((3, 40), (1, 1), (5000, 300)):
        assert second.call_spec(sizes).drop_gil == first.call_spec(sizes).drop_gil
    assert not steps


def test_checks_and_updates(another_process: Forget) -> None:
    compile_graph(parse_graph(CHECKED))
    steps = another_process()
    compiled = compile_graph(parse_graph(CHECKED))
    x = storage.from_array(np.array([1, 2, 3, 4], np.float32))
    bad, good = (storage.from_array(np.array(ok)) for ok in (False, True))
    kind = strided_type(float32, (4,))
    with pytest.raises(CheckFailed, match='not "ok"\nat all') as caught:
        compiled.run([x, bad])
    assert str(caught.value.checkpoint.location) == "somewhere.py:3" and not steps
    assert storage.to_array(x, kind).tolist() == [1, 2, 3, 4]
    compiled.run([x, good])
    assert storage.to_array(x, kind).tolist() == [2, 4, 6, 8]


def test_what_decides_is_in_the_key(another_process: Forget, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text with its places, whether passes run, the target, and the sources of vitrify."""
    compile_graph(parse_graph(CHECKED))
    for change in ("place", "optimized", "target", "sources"):
        steps = another_process()
        graph, optimized = CHECKED, False
        if change == "place":
            graph = CHECKED.replace(":3", ":4")
        elif change == "optimized":
            optimized = True
        elif change == "target":
            monkeypatch.setattr(compiler, "target_of", lambda graph: replace(host_target(), cpu="x86-64"))
        else:
            monkeypatch.setattr(kept, "code_version", lambda: "another")
        compile_graph(parse_graph(graph), optimized=optimized)
        assert steps[0] == "stages", change
        monkeypatch.setattr(compiler, "target_of", target_of)


def test_the_hash_of_the_sources_covers_the_rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is of their contents, names included."""
    for room in kept._ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "a.py").write_text("x = 1")
    monkeypatch.setattr(
        kept, "import_module", lambda name, _: SimpleNamespace(__path__=[str(tmp_path / name.strip("."))])
    )
    seen = {kept.code_version.__wrapped__()}
    (tmp_path / "passes" / "a.py").write_text("x = 2")
    seen.add(kept.code_version.__wrapped__())
    (tmp_path / "passes" / "a.py").rename(tmp_path / "passes" / "b.py")
    seen.add(kept.code_version.__wrapped__())
    (tmp_path / "passes" / "b.py").unlink()
    seen |= {kept.code_version.__wrapped__(), kept.code_version.__wrapped__()}
    assert len(seen) == 5  # without sources nothing is ever found again


@pytest.mark.parametrize(
    "damage",
    [lambda text: text[: len(text) // 2], lambda text: text.replace("plan", "plane", 1), lambda text: "x"],
    ids=["cut", "no plan", "something else"],
)
def test_a_damaged_entry_is_a_miss(damage: Callable[[str], str], another_process: Forget) -> None:
    graph = parse_graph(LAYER)
    inputs = normal(5, 7), normal(3, 7)
    (want,) = run(compile_graph(graph), *inputs)
    key = kept.entry_key(print_graph(graph), f"False {len(graph.inputs)}", host_target().key)
    data = jit.disk().get(key)
    assert data is not None
    jit.disk().put(key, damage(data.decode()).encode())
    steps = another_process()
    assert_same_bits(run(compile_graph(graph), *inputs)[0], want)
    assert steps[0] == "stages"


def test_an_entry_without_its_code_is_a_miss(own_cache: Path, another_process: Forget) -> None:
    graph = parse_graph(LAYER)
    entry = kept.entry_key(print_graph(graph), f"False {len(graph.inputs)}", host_target().key)
    compile_graph(graph)
    for path in own_cache.glob("*.o"):
        if path.stem != entry:
            path.unlink()
    steps = another_process()
    run(compile_graph(graph), normal(5, 7), normal(3, 7))
    assert steps == ["stages", "code"]


def test_with_verification_everything_is_made_anew(another_process: Forget) -> None:
    compile_graph(parse_graph(LAYER))
    steps = another_process()
    configure(verify=True)
    compile_graph(parse_graph(LAYER))
    assert steps == ["stages", "code"]


def test_nothing_is_kept_without_a_directory(another_process: Forget) -> None:
    configure(cache_dir=None)
    compile_graph(parse_graph(LAYER))
    steps = another_process()
    compile_graph(parse_graph(LAYER))
    assert steps == ["stages", "code"]


def test_an_interrupted_compilation_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = parse_graph(LAYER)
    with monkeypatch.context() as patch:

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(jit, "_object_code", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compile_graph(graph)
    inputs = normal(5, 7), normal(3, 7)
    (want,), _ = interpret(graph, inputs)
    np.testing.assert_allclose(run(compile_graph(graph), *inputs)[0], want, rtol=1e-6)
