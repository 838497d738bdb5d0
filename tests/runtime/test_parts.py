"""Long modules are compiled in parts, which together are the module."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from vitrify.codegen.emit import emit_plan
from vitrify.ir.plan_text import parse_plan
from vitrify.runtime import jit, parts
from vitrify.runtime.host import host_target
from vitrify.runtime.options import configure, options

NAMES = [f"k{number}" for number in range(6)]
KERNEL = """
  kernel NAME(%x: f32[100] in, %y: f32[100] out) {
    vector i < 100 {
      %0 = load %x[i] : f32
      %1 = erf %0 : f32
      %2 = add %1, %0 : f32
      store %y[i], %2
    }
  }"""
TEXT = f"""
plan p() arena 0 {{
  {"".join(KERNEL.replace("NAME", name) for name in NAMES)}
  buffer %x: f32[100] input 0
  buffer %y: f32[100] output 0
  buffer %z: f32[100] output 1
  {" ".join(f"call {name}(%x, %y) call {name}(%y, %z)" for name in NAMES)}
  return %y: f32[100], %z: f32[100]
}}"""


@pytest.fixture(autouse=True)
def no_cache():
    before = options.cache_dir
    configure(cache_dir=None)
    yield
    configure(cache_dir=before)


def run(text: str) -> np.ndarray:
    x, y, z = np.linspace(-3, 3, 100, dtype=np.float32), *np.zeros((2, 100), np.float32)
    table = (ctypes.c_void_p * 3)(x.ctypes.data, y.ctypes.data, z.ctypes.data)
    pointers = (ctypes.c_void_p,) * 3
    address = jit.load(text, ["run"])["run"]
    assert ctypes.CFUNCTYPE(ctypes.c_int64, *pointers)(address)(table, None, None) == 0
    return np.concatenate([y, z])


def test_parts_have_each_function_once_and_declare_the_others() -> None:
    text = emit_plan(parse_plan(TEXT), host_target())
    made = parts.parts_of(text, 4000)
    assert 2 < len(made) < 9
    for name in NAMES:
        assert sum(f'define i64 @"k.{name}"' in part for part in made) == 1
    assert sum("define i64 @run" in part for part in made) == 1
    last = next(part for part in made if "define i64 @run" in part)
    assert 'declare i64 @"k.k0"(ptr, ptr)' in last
    assert parts.parts_of(text, len(text)) == [text]


def test_a_module_with_memory_of_its_own_stays_whole() -> None:
    text = "@x = internal global i64 0\n" + "define internal i64 @f() {\n  ret i64 0\n}\n" * 2
    assert parts.parts_of(text, 10) == [text]


def test_the_parts_together_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = emit_plan(parse_plan(TEXT), host_target())
    whole = run(text)
    monkeypatch.setattr(jit, "_loaded", {})
    monkeypatch.setattr(jit, "parts_of", lambda text: parts.parts_of(text, 4000))
    np.testing.assert_array_equal(run(text), whole)


def test_objects_are_kept_as_one_entry() -> None:
    objects = [b"first\n", b"", b"third\x00"]
    assert parts.unpacked(parts.packed(objects)) == objects
    assert parts.packed([b"one"]) == b"one"
    assert parts.unpacked(b"one") == [b"one"]
