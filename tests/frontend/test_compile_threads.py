"""Many threads call one compiled function at once; functions compile each other; forks; what is reported."""

from __future__ import annotations

import os
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import vitrify as torch
from vitrify.ir.parser import parse_graph
from vitrify.ir.printer import print_graph


def in_threads(count: int, work: Any) -> None:
    errors: list[BaseException] = []
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


def test_threads_that_all_make_the_first_call() -> None:
    compiled = torch.compile(lambda x, a: (x * a).exp().sum() + x.t() @ x)
    x = torch.arange(6.0).reshape(2, 3) / 7
    want = {a: compiled.__wrapped__(x, a).tolist() for a in (0.5, 1.5)}

    def work(number: int) -> None:
        for i in range(30):
            a = 0.5 + (number + i) % 2
            assert compiled(x, a).tolist() == want[a]

    in_threads(8, work)
    assert compiled.captures <= 2


def test_threads_with_their_own_tensors_and_gradients() -> None:
    compiled = torch.compile(lambda x, w: (x * w).tanh())

    def work(number: int) -> None:
        for i in range(10):
            x = torch.full((number + 2,), float(i), requires_grad=True)
            w = torch.ones(number + 2, requires_grad=True)
            compiled(x, w).sum().backward()
            y = torch.full((number + 2,), float(i), requires_grad=True)
            (y * torch.ones(number + 2)).tanh().sum().backward()
            assert x.grad.tolist() == y.grad.tolist()

    in_threads(6, work)


def test_a_capture_on_one_thread_does_not_record_another() -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(x):
        y = x + 1
        started.set()
        go_on.wait(30)
        return y * 2

    compiled = torch.compile(slow)
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        thread = threading.Thread(target=lambda: results.append(compiled(torch.ones(2)).tolist()))
        thread.start()
        assert started.wait(30)
        eager = torch.ones(2) * 3
        assert eager.tolist() == [3, 3] and type(eager._storage).__name__ != "TracedValue"
        go_on.set()
        thread.join(30)
    assert results == [[4, 4]]


def test_a_capture_that_waits_for_a_thread_which_calls_it_does_not_hang() -> None:
    results = []

    def function(x, depth):
        if depth:
            thread = threading.Thread(target=lambda: results.append(compiled(x, 0).tolist()))
            thread.start()
            thread.join(30)
        return x + 1

    compiled = torch.compile(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert compiled(torch.ones(1), 1).tolist() == [2]
    assert results == [[2]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork_the_child_goes_on() -> None:
    compiled = torch.compile(lambda x: x * 2 + 1)
    x = torch.ones(3)
    assert compiled(x).tolist() == [3, 3, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        good = compiled(x).tolist() == [3, 3, 3] and compiled(torch.ones(4)).tolist() == [3] * 4
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# What is reported.


def test_ir_gives_every_stage_and_the_graphs_parse_back() -> None:
    compiled = torch.compile(lambda x: (x * 2).sum())
    with pytest.raises(RuntimeError, match="has not been called"):
        compiled.ir("captured")
    compiled(torch.ones(3, 4))
    for stage in ("captured", "optimized"):
        text = compiled.ir(stage)
        assert print_graph(parse_graph(text)).strip() == text.strip()
    assert __file__ in compiled.ir("captured") and "reduce_sum" in compiled.ir("kernels")
    assert "define" in compiled.ir("llvm") and compiled.ir("asm") and compiled.ir("plan")
    with pytest.raises(ValueError, match="stage must be one of"):
        compiled.ir("binary")


def test_explain_a_replay() -> None:
    report = torch.explain(lambda x: (x * 2).sum(), torch.ones(3))
    assert report.tier == "replay" and report.segments == 1 and report.kernels and report.operations
    assert report.reasons == () and any("f32[3]" in g for g in report.guards)
    assert report.compile_seconds > 0 and report.captures == 1
    assert "one native call" in str(report) and "guards:" in repr(report)


def test_explain_segments_with_reasons() -> None:
    def function(x):
        y = x * 2
        if y.sum() > 0:
            y = y + 1
        return y.exp()

    report = torch.explain(function, torch.ones(3))
    assert report.tier == "segments" and report.segments == 2
    line = function.__code__.co_firstlineno + 2
    assert report.reasons == (f"{__file__}:{line}: bool needs the value of a tensor",)


def test_explain_a_compiled_module() -> None:
    model = torch.compile(torch.nn.Linear(3, 2))
    report = torch.explain(model, torch.ones(1, 3))
    assert report.name == "Linear" and report.tier == "replay"
    assert any("Linear is unchanged" in g for g in report.guards)


def test_dump_writes_every_stage(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = (
        "import vitrify as torch\n@torch.compile\ndef double(x):\n    return x * 2\ndouble(torch.ones(5))\n"
    )
    path = tmp_path / "script.py"
    path.write_text(script)
    environment = {**os.environ, "VITRIFY_DUMP": str(tmp_path / "dump")}
    subprocess.run([sys.executable, str(path)], check=True, env=environment, timeout=120)
    names = sorted(p.name for p in (tmp_path / "dump").iterdir() if "double" in p.name)
    assert [n.split(".", 1)[1] for n in names] == [
        "asm.txt", "captured.txt", "kernels.txt", "llvm.txt", "optimized.txt", "plan.txt",
    ]  # fmt: skip


def test_segments_compile_once_and_floats_do_not_recompile() -> None:
    def function(x, a):
        y = x * a
        print(end="")
        return y + a

    compiled = torch.compile(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for a in (0.5, 1.5, 2.5, 3.5, 4.5):
            assert compiled(torch.ones(2), a).tolist() == [2 * a, 2 * a]
    assert compiled.specializations == 0
    before = len(compiled.program.compiled)
    compiled(torch.ones(2), 9.5)
    assert len(compiled.program.compiled) == before
