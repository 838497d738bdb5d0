"""Calls of compiled plans, on hand-written native code: operands, results, updates, checks, sizes,
threads."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
import weakref
from types import ModuleType

import numpy as np
import pytest
from vitrify.ir import dtypes
from vitrify.ir.expr import evaluate, symbol
from vitrify.ir.kernel import Axis, Buffer, Kernel, Load, Loop, Scalar, Store
from vitrify.ir.plan import Call, CheckPoint, Plan, PlanBuffer
from vitrify.ir.strided import strided_type
from vitrify.ir.types import Literal, TensorType
from vitrify.runtime import executable as executable_module
from vitrify.runtime import storage_native, storage_python
from vitrify.runtime.executable import CheckFailed, Executable
from vitrify.runtime.jit import load
from vitrify.runtime.work import estimated_ns

F32 = dtypes.float32


@pytest.fixture(params=[storage_native, storage_python], ids=["native", "python"])
def s(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Executables use this implementation of storages."""
    monkeypatch.setattr(executable_module, "storage", request.param)
    return request.param


def code(body: str) -> int:
    """The address of a `run` with this body."""
    return load("define i64 @run(ptr %b, ptr %s, ptr %a) {\n" + body + "}\n", ["run"])["run"]


def buffer_address(slot: int, name: str) -> str:
    return f"  %{name}.at = getelementptr ptr, ptr %b, i64 {slot}\n  %{name} = load ptr, ptr %{name}.at\n"


def of(s: ModuleType, *values: float) -> object:
    block = s.allocate(4 * len(values))
    array(s, block, len(values))[:] = values
    return block


def array(s: ModuleType, block: object, n: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_float * n).from_address(s.address(block)))


def plan(buffers: tuple[PlanBuffer, ...], outputs: tuple[str, ...], **more: object) -> Plan:
    settings: dict[str, object] = {"kernels": (), "calls": (), "updated": (), "sizes": (), "arena_bytes": 0}
    settings.update(more)
    typed = tuple((name, TensorType(F32, (1,))) for name in outputs)
    return Plan("plan", buffers=buffers, outputs=typed, **settings)  # type: ignore[arg-type]


# y = x + c; the first element of x above 1000 fails check 7
_ADD = (
    buffer_address(0, "x") + buffer_address(1, "c") + buffer_address(2, "y")
    + """  %xv = load float, ptr %x
  %cv = load float, ptr %c
  %yv = fadd float %xv, %cv
  store float %yv, ptr %y
  %bad = fcmp ogt float %xv, 1.000000e+03
  %status = select i1 %bad, i64 7, i64 0
  ret i64 %status
"""
)  # fmt: skip
_ADD_PLAN = plan(
    (
        PlanBuffer("x", "input", F32, 1, 0),
        PlanBuffer("c", "constant", F32, 1, value=Literal.of(0.5, F32)),
        PlanBuffer("t", "arena", F32, 1),
        PlanBuffer("y", "output", F32, 1, 0),
    ),
    ("y",),
    checks=(CheckPoint(7, "ValueError", "x is too large"),),
)


def test_an_output_is_new_and_a_constant_is_read(s: ModuleType) -> None:
    run = Executable(_ADD_PLAN, code(_ADD))
    x = of(s, 2)
    (y,) = run.run([x])
    assert array(s, y, 1).tolist() == [2.5]
    assert s.address(run.bind()(x)) % 64 == 0


def test_a_failed_check_raises_and_leaves_nothing_behind(s: ModuleType) -> None:
    run = Executable(_ADD_PLAN, code(_ADD))
    x = of(s, 2000)
    before = sys.getrefcount(x)
    for _ in range(50):
        with pytest.raises(CheckFailed, match="too large") as caught:
            run.run([x])
    assert caught.value.checkpoint.code == 7
    del caught
    assert sys.getrefcount(x) == before


def test_wrong_operands_are_refused(s: ModuleType) -> None:
    call = Executable(_ADD_PLAN, code(_ADD)).bind()
    with pytest.raises(TypeError, match="wrong number"):
        call()
    with pytest.raises(TypeError, match="wrong number"):
        call(of(s, 1), of(s, 1))
    with pytest.raises(TypeError, match="expected a storage"):
        call("text")


def test_operands_that_the_plan_does_not_read(s: ModuleType) -> None:
    run = Executable(_ADD_PLAN, code(_ADD), n_inputs=3)
    (y,) = run.run([of(s, 1), of(s, 2), of(s, 3)])
    assert array(s, y, 1).tolist() == [1.5]


# x += 1 in place; outputs: x, a new y = 2 * x, x again
_UPDATE = (
    buffer_address(0, "y") + buffer_address(1, "x")
    + """  %old = load float, ptr %x
  %new = fadd float %old, 1.0
  store float %new, ptr %x
  %twice = fadd float %new, %new
  store float %twice, ptr %y
  ret i64 0
"""
)  # fmt: skip
_UPDATE_PLAN = plan(
    (PlanBuffer("y", "output", F32, 1, 1), PlanBuffer("x", "input", F32, 1, 0)), ("x", "y", "x"), updated=(0,)
)


def test_updates_bump_the_version_and_outputs_may_be_operands(s: ModuleType) -> None:
    run = Executable(_UPDATE_PLAN, code(_UPDATE))
    block = of(s, 7, 1)
    x = s.view(block, 4)
    first, y, again = run.run([x])
    assert first is x and again is x
    assert array(s, block, 2).tolist() == [7, 2]
    assert array(s, y, 1).tolist() == [4]
    assert (s.version(x), s.version(block), s.version(y)) == (1, 1, 0)


def test_references_do_not_drift(s: ModuleType) -> None:
    run = Executable(_UPDATE_PLAN, code(_UPDATE))
    x = of(s, 1)
    run.run([x])
    before = sys.getrefcount(x)
    for _ in range(100):
        run.run([x])
    assert sys.getrefcount(x) == before
    address = s.address(run.run([x])[1])
    assert all(s.address(run.run([x])[1]) == address for _ in range(10))  # the same block each time


def test_a_plan_without_outputs(s: ModuleType) -> None:
    run = Executable(plan((PlanBuffer("x", "input", F32, 1, 0),), ()), code("  ret i64 0\n"))
    assert run.run([of(s, 1)]) == []


def test_an_operand_handed_through(s: ModuleType) -> None:
    run = Executable(plan((PlanBuffer("x", "input", F32, 1, 0),), ("x",)), code("  ret i64 0\n"))
    x = of(s, 1)
    (y,) = run.run([x])
    assert y is x


# y[i] = i for i < n, through the arena
_SIZES = (
    buffer_address(0, "y")
    + """  %n = load i64, ptr %s
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %loop, label %done
loop:
  %i = phi i64 [0, %0], [%next, %loop]
  %t = getelementptr float, ptr %a, i64 %i
  %v = sitofp i64 %i to float
  store float %v, ptr %t
  %w = load float, ptr %t
  %p = getelementptr float, ptr %y, i64 %i
  store float %w, ptr %p
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret i64 0
"""
)  # fmt: skip


@pytest.mark.parametrize("n", [0, 1, 17, 100_000])
def test_run_time_sizes(s: ModuleType, n: int) -> None:
    size = symbol("s0")
    sized = plan((PlanBuffer("y", "output", F32, size, 0),), ("y",), sizes=("s0",), arena_bytes=size * 4)
    run = Executable(sized, code(_SIZES))
    (y,) = run.run([], [n])
    assert s.nbytes(y) == 4 * n
    assert array(s, y, n).tolist() == list(range(n))
    with pytest.raises(TypeError, match="run-time sizes"):
        run.run([])


def _long_plan(n: int) -> Plan:
    """The update of _SLOW; a kernel of n steps makes the executable drop the interpreter's lock."""
    i = symbol("i")
    v = Scalar("v", F32)
    body = (Load(v, "x", i), Store("x", i, v))
    kernel = Kernel("k", (Buffer("x", F32, n, "inout"),), (), (Loop(Axis("i", n), "serial", body),))
    return plan(
        (PlanBuffer("x", "input", F32, 1, 0),),
        (),
        kernels=(kernel,),
        calls=(Call("k", ("x",)),),
        updated=(0,),
    )


# reads x, waits, writes x + 1: two at once would lose an addition
_SLOW = (
    buffer_address(0, "x")
    + """  %old = load volatile float, ptr %x
  br label %loop
loop:
  %i = phi i64 [0, %0], [%next, %loop]
  %next = add i64 %i, 1
  store volatile i64 %i, ptr %a
  %more = icmp slt i64 %next, 3000000
  br i1 %more, label %loop, label %done
done:
  %new = fadd float %old, 1.0
  store float %new, ptr %x
  ret i64 0
"""
)  # fmt: skip


def test_calls_that_update_the_same_storage_wait_for_each_other(s: ModuleType) -> None:
    run = Executable(_long_plan(1_000_000), code(_SLOW))
    x = of(s, 0, 0)
    both = [x, s.view(x, 0)]
    threads = [
        threading.Thread(target=lambda i=i: [run.run([both[i % 2]]) for _ in range(5)]) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert array(s, x, 2).tolist() == [20, 0]
    assert s.version(x) == 20


def test_python_goes_on_while_native_code_runs(s: ModuleType) -> None:
    run = Executable(_long_plan(1_000_000), code(_SLOW.replace("3000000", "300000000")))
    x = of(s, 0)
    thread = threading.Thread(target=run.run, args=([x],))
    thread.start()
    time.sleep(0.02)
    assert thread.is_alive()  # and this thread got to ask
    thread.join()


def test_many_threads_share_an_executable(s: ModuleType) -> None:
    run = Executable(_ADD_PLAN, code(_ADD))
    wrong = []

    def work(number: int) -> None:
        x = of(s, number)
        for _ in range(2000):
            (y,) = run.run([x])
            if array(s, y, 1)[0] != number + 0.5:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_call_outlives_its_executable(s: ModuleType) -> None:
    run = Executable(_ADD_PLAN, code(_ADD))
    call, alive = run.bind(), weakref.ref(run)
    del run
    gc.collect()
    assert alive() is None
    assert array(s, call(of(s, 1)), 1).tolist() == [1.5]
    with pytest.raises(CheckFailed):
        call(of(s, 5000))


def test_work_decides_about_the_lock() -> None:
    assert evaluate(estimated_ns(_long_plan(1_000_000)), {}) > executable_module._BIG
    assert evaluate(estimated_ns(_long_plan(10)), {}) < executable_module._BIG
    assert strided_type(F32, (1,)).nbytes == 4
