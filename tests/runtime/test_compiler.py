"""From graphs to executables: results, updates, checks, texts of all stages, caching, two processes at
once."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from vitrify.ir import dtypes, ops
from vitrify.ir.errors import VerifyError
from vitrify.ir.graph import Graph, Value
from vitrify.ir.interpreter import interpret
from vitrify.ir.kernel_text import parse_kernel
from vitrify.ir.opdef import bind
from vitrify.ir.parser import parse_graph
from vitrify.ir.plan_text import parse_plan
from vitrify.ir.printer import print_graph
from vitrify.ir.strided import strided_type
from vitrify.ir.types import TensorType
from vitrify.runtime import compiler, storage
from vitrify.runtime.compiler import STAGES, compile_graph, evaluate_op
from vitrify.runtime.executable import CheckFailed

LAYER = """graph layer(%x: f32[5, 7], %w: f32[3, 7], %b: f32[3]) {
  %0 = contract %x, %w {spec=<[m, k] * [n, k] -> [m, n] over k>} : f32[5, 3]
  %1 = reshape %b {shape=(1, 3)} : f32[1, 3]
  %2 = expand %1 {shape=(5, 3)} : f32[5, 3]
  %3 = add %0, %2 : f32[5, 3]
  %4 = tanh %3 : f32[5, 3]
  return %4
}
"""


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def outputs(
    run: compiler.CompiledGraph, inputs: list[np.ndarray], sizes: tuple[int, ...] = ()
) -> list[np.ndarray]:
    blocks = run.run([storage.from_array(x) for x in inputs], sizes)
    values = dict(zip(run.plan.sizes, sizes, strict=True))
    shapes = [
        tuple(d if isinstance(d, int) else values[str(d)] for d in t.shape) for _, t in run.plan.outputs
    ]
    kinds = [strided_type(t.dtype, shape) for (_, t), shape in zip(run.plan.outputs, shapes, strict=True)]
    return [storage.to_array(block, kind) for block, kind in zip(blocks, kinds, strict=True)]


def test_a_graph_runs() -> None:
    graph = parse_graph(LAYER)
    inputs = arrays((5, 7), (3, 7), (3,))
    (y,) = outputs(compile_graph(graph), inputs)
    (expected,), _ = interpret(graph, inputs)
    np.testing.assert_array_max_ulp(y, expected, 2)  # tanh: within an ULP of the exact value, on both sides


def test_run_time_sizes() -> None:
    graph = parse_graph("graph twice(%x: f32[s0, 3]) {\n  %0 = add %x, %x : f32[s0, 3]\n  return %0\n}\n")
    run = compile_graph(graph)
    for rows in (0, 1, 17):
        (x,) = arrays((rows, 3))
        (y,) = outputs(run, [x], (rows,))
        assert np.array_equal(y, 2 * x)


def test_updates_are_made_in_place() -> None:
    text = """graph step(%w: f32[4], %g: f32[4]) {
  %0 = sub %w, %g : f32[4]
  update %w = %0
  return %0
}
"""
    w, g = arrays((4,), (4,))
    expected = w - g
    block = storage.from_array(w)
    (y,) = compile_graph(parse_graph(text)).run([block, storage.from_array(g)])
    assert np.array_equal(w, expected)
    assert storage.version(block) == 1
    assert np.array_equal(storage.to_array(y, strided_type(dtypes.float32, (4,))), expected)


def test_the_text_of_every_stage() -> None:
    run = compile_graph(parse_graph(LAYER))
    texts = {stage: run.text(stage) for stage in STAGES}
    assert texts["captured"] == LAYER
    assert print_graph(parse_graph(texts["optimized"])) == texts["optimized"]
    assert parse_plan(texts["plan"]) is not None
    assert all(parse_kernel(k + "}\n") for k in texts["kernels"].split("\n}\n") if k.strip())
    assert "define" in texts["llvm"] and "ret" in texts["asm"]
    with pytest.raises(ValueError, match="captured, optimized, kernels, plan, llvm, asm"):
        run.text("tokens")
    assert run.compile_seconds == sum(run.seconds.values()) > 0


def test_the_same_graph_is_compiled_once() -> None:
    seen: list[str] = []
    compiler.observers.append(lambda run: seen.append(run.name))
    try:
        first = compile_graph(parse_graph(LAYER), name="observed")
        assert compile_graph(parse_graph(LAYER), name="observed") is first
        assert compile_graph(parse_graph(LAYER), name="other") is not first
    finally:
        compiler.observers.pop()
    assert seen == ["observed", "other"]


def test_threads_that_compile_the_same_graph_get_the_same_executable() -> None:
    graph = parse_graph(LAYER.replace("layer", "raced"))
    found = []
    threads = [threading.Thread(target=lambda: found.append(compile_graph(graph))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(map(id, found))) == 1


def test_a_failed_check_leaves_the_inputs_as_they_were() -> None:
    text = """graph pick(%w: f32[4], %i: i64[2]) {
  %0 = gather %w, %i {axes=(0,)} : f32[2]
  %1 = add %w, %w : f32[4]
  update %w = %1
  return %0
}
"""
    (w,) = arrays((4,))
    before = w.copy()
    run = compile_graph(parse_graph(text))
    with pytest.raises(CheckFailed):
        run.run([storage.from_array(w), storage.from_array(np.array([1, 4]))])
    assert np.array_equal(w, before)
    run.run([storage.from_array(w), storage.from_array(np.array([1, 3]))])
    assert np.array_equal(w, 2 * before)


def test_constants_are_evaluated_by_our_own_kernels() -> None:
    (x,) = arrays((40,))
    value = evaluate_op(bind(ops.tanh), [x])
    assert value is not None and value.dtype == np.float32
    graph = parse_graph("graph t(%x: f32[40]) {\n  %0 = tanh %x : f32[40]\n  return %0\n}\n")
    assert np.array_equal(value, outputs(compile_graph(graph), [x])[0])


def test_constants_of_bfloat16_are_evaluated_from_their_bits() -> None:
    text = """graph t() {
  %0 = constant {value=bf16(3.0)} : bf16[]
  %1 = exp %0 : bf16[]
  return %1
}
"""
    graph = parse_graph(text)
    (want,), _ = interpret(graph, [])
    assert outputs(compile_graph(graph), [])[0] == want


def test_processes_that_compile_the_same_graph_at_once(tmp_path: Path) -> None:
    program = f"""
import sys, numpy as np
from pathlib import Path
from vitrify.runtime.options import configure
configure(cache_dir=Path(sys.argv[1]))
from vitrify.ir.parser import parse_graph
from vitrify.runtime import storage
from vitrify.runtime.compiler import compile_graph
run = compile_graph(parse_graph('''{LAYER}'''))
one = [storage.from_array(np.ones(s, np.float32)) for s in ((5, 7), (3, 7), (3,))]
assert len(run.run(one)) == 1
"""
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path / "cache")]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    names = [path.name for path in (tmp_path / "cache").iterdir()]
    assert names and all(name.endswith(".o") for name in names)


def test_with_verification_a_bad_graph_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler.options, "verify", True)
    x = Value(TensorType(dtypes.float32, (3,)), "x")
    with pytest.raises(VerifyError):
        compile_graph(Graph((), (), (x,), name="undefined"))
    compile_graph(parse_graph(LAYER), name="verified")
