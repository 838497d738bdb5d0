"""Ctrl-C during a long call: between the kernels of a long plan, compiled code asks whether to go on.

Only the main thread runs signal handlers, and only with the interpreter's lock, so it is asked for a few
dozen times a second, by a clock in native code. What a handler raises is kept until the call has returned;
the asking is native, because Python code could be interrupted before it has a chance to catch anything.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import NoReturn

#: The status of a run that a signal handler ended.
STATUS = -1
_CYCLES = 50_000_000  # some 20 ms between two looks
_API = ("PyGILState_Ensure", "PyGILState_Release", "PyErr_CheckSignals", "PyErr_Fetch", "PyErr_Restore")

_MODULE = f"""
@looked = internal global i64 0
@raised = internal global [3 x ptr] zeroinitializer        ; of the main thread: no other runs handlers
declare i64 @llvm.readcyclecounter()
declare i32 @PyGILState_Ensure()
declare void @PyGILState_Release(i32)
declare i32 @PyErr_CheckSignals()
declare void @PyErr_Fetch(ptr, ptr, ptr)
declare void @PyErr_Restore(ptr, ptr, ptr)

define i64 @interrupted() {{
entry:
  %now = call i64 @llvm.readcyclecounter()
  %then = load atomic i64, ptr @looked monotonic, align 8
  %since = sub i64 %now, %then
  %recent = icmp ult i64 %since, {_CYCLES}
  br i1 %recent, label %no, label %look
no:
  ret i64 0
look:
  store atomic i64 %now, ptr @looked monotonic, align 8
  %state = call i32 @PyGILState_Ensure()
  %found = call i32 @PyErr_CheckSignals()
  %none = icmp eq i32 %found, 0
  br i1 %none, label %done, label %keep
keep:
  %value = getelementptr ptr, ptr @raised, i64 1
  %traceback = getelementptr ptr, ptr @raised, i64 2
  call void @PyErr_Fetch(ptr @raised, ptr %value, ptr %traceback)
  br label %done
done:
  %status = phi i64 [0, %look], [{STATUS}, %keep]
  call void @PyGILState_Release(i32 %state)
  ret i64 %status
}}

define ptr @raise() {{                                     ; a Python function: null with an exception set
  %value.at = getelementptr ptr, ptr @raised, i64 1
  %traceback.at = getelementptr ptr, ptr @raised, i64 2
  %type = load ptr, ptr @raised
  %value = load ptr, ptr %value.at
  %traceback = load ptr, ptr %traceback.at
  call void @PyErr_Restore(ptr %type, ptr %value, ptr %traceback)
  ret ptr null
}}
"""


@cache
def _code() -> dict[str, int]:
    from .jit import load

    api = {name: ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0 for name in _API}
    return load(_MODULE, ["interrupted", "raise"], api)


def interrupted_address() -> int:
    """The address of `vitrify_interrupted` (`codegen.threads`)."""
    return _code()["interrupted"]


def raise_interrupt() -> NoReturn:
    """Raise what the handler raised that ended a call."""
    ctypes.PYFUNCTYPE(ctypes.py_object)(_code()["raise"])()
    raise AssertionError("no handler has raised anything")
