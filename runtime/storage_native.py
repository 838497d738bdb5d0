"""Storages as capsules, handled by builtins made of native code (`storage_ir`, `call_ir`).

Importing this module compiles the builtins (or finds them in the disk cache) and tests them; ImportError
says why they can't be used here, and `runtime.storage` then takes the Python twin, `storage_python`.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from . import call_ir, storage_ir
from .call import CallSpec
from .jit import load

#: A storage: opaque, made and read by the functions of this module.
Storage = object

#: Bytes of free blocks kept for reuse; more go back to the system.
POOL_LIMIT_BYTES = 1 << 30

_FASTCALL, _ONE_ARGUMENT = 0x80, 0x8
_BUILTINS = {
    "allocate": _ONE_ARGUMENT, "view": _FASTCALL, "foreign": _FASTCALL, "address": _ONE_ARGUMENT,
    "base": _ONE_ARGUMENT, "offset": _ONE_ARGUMENT, "nbytes": _ONE_ARGUMENT, "version": _ONE_ARGUMENT,
    "bump": _ONE_ARGUMENT, "is_storage": _ONE_ARGUMENT, "attach": _FASTCALL,
}  # fmt: skip


class _MethodDef(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


def api_addresses(functions: Iterable[str], objects: Iterable[str]) -> dict[str, int]:
    """Where CPython's functions and objects are, by name."""
    api = ctypes.pythonapi
    found = {name: ctypes.cast(getattr(api, name), ctypes.c_void_p).value or 0 for name in functions}
    return found | {name: ctypes.addressof(ctypes.c_char.in_dll(api, name)) for name in objects}


def _imports() -> dict[str, int]:
    return api_addresses(storage_ir.FUNCTIONS, (*storage_ir.OBJECTS, *storage_ir.EXCEPTIONS))


_new_builtin = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
    ("PyCFunction_NewEx", ctypes.pythonapi)
)
_new_function = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.py_object)(
    ("PyCFunction_NewEx", ctypes.pythonapi)
)
_new_descriptor = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.c_void_p)(
    ("PyDescr_NewMethod", ctypes.pythonapi)
)
_definitions: list[_MethodDef] = []  # CPython keeps pointers to these for ever


def _definition(name: str, address: int, flags: int, doc: str = "") -> int:
    _definitions.append(_MethodDef(name.encode(), address, flags, doc.encode() or None))
    return ctypes.addressof(_definitions[-1])


def new_builtin(name: str, address: int, flags: int) -> Callable[..., Any]:
    """A builtin function on native code. flags: CPython's calling convention."""
    made: Callable[..., Any] = _new_builtin(_definition(name, address, flags), None, None)
    return made


def new_function(name: str, address: int, flags: int, doc: str, module: str) -> Callable[..., Any]:
    """A builtin function of a module, with no `self`."""
    made: Callable[..., Any] = _new_function(_definition(name, address, flags, doc), None, module)
    return made


def new_method(cls: type, name: str, address: int, flags: int, doc: str = "") -> Any:
    """A method of a class on native code, to be set on it."""
    return _new_descriptor(cls, _definition(name, address, flags, doc))


def _builtin(name: str) -> Callable[..., Any]:
    return new_builtin(name, _code[name], _BUILTINS[name])


def _supported() -> str:
    """Why native builtins can't be made here; empty if they can."""
    if sys.implementation.name != "cpython" or sys.platform == "win32":
        return f"{sys.implementation.name} on {sys.platform}"
    return "" if getattr(sys, "_is_gil_enabled", lambda: True)() else "a build without the global lock"


if _unsupported := _supported():
    raise ImportError(f"native storages are not available on {_unsupported}")

#: Addresses of native code that other native code may call (`take`, `give`, `new_storage`).
_code = load(
    storage_ir.module(call_ir.CALL, POOL_LIMIT_BYTES),
    (*_BUILTINS, "call", "take", "give", "trim", "kept", "new_storage", "name", "release_view"),
    _imports(),
    optimized=True,
)
_call_definition = _definition("call", _code["call"], _FASTCALL)
_trim = ctypes.PYFUNCTYPE(None)(_code["trim"])

allocate: Callable[[int], Storage] = _builtin("allocate")
view: Callable[[Storage, int], Storage] = _builtin("view")
foreign: Callable[[int, int, object], Storage] = _builtin("foreign")
address: Callable[[Storage], int] = _builtin("address")
base: Callable[[Storage], Storage] = _builtin("base")
offset: Callable[[Storage], int] = _builtin("offset")
nbytes: Callable[[Storage], int] = _builtin("nbytes")
version: Callable[[Storage], int] = _builtin("version")
bump: Callable[[Storage], None] = _builtin("bump")
is_storage: Callable[[object], bool] = _builtin("is_storage")
attach: Callable[[Storage, object], object] = _builtin("attach")


def code_address(name: str) -> int:
    """Where the native `take`, `give` or `new_storage` is, for other native code that allocates."""
    return _code[name]


def pooled_bytes() -> int:
    """Bytes of free blocks that are kept for reuse."""
    return ctypes.c_int64.from_address(_code["kept"]).value


def release_pool() -> None:
    """Give all free blocks back to the system."""
    _trim()


def make_call(spec: CallSpec) -> Callable[..., Any]:
    """The call of a plan: storages in; the new storage out, or a tuple of the results if they are not just
    that."""
    tables = {
        "sizes": _table(spec.sizes),
        "template": _table(spec.template),
        "inputs": _table(spec.inputs),
        "outputs": _table([word for pair in spec.outputs for word in pair]),
        "results": _table(spec.results),
        "updates": _table(spec.updates),
    }
    words = {
        **{name: ctypes.addressof(table) for name, table in tables.items()},
        "run": spec.run,
        "fail": id(spec.fail),
        "externals": len(spec.template),
        "n_inputs": len(spec.inputs),
        "n_outputs": len(spec.outputs),
        "n_results": len(spec.results),
        "n_updates": len(spec.updates),
        "arena_bytes": spec.arena_bytes,
        "drop_gil": spec.drop_gil,
    }
    record = _table([words[name] for name in call_ir.RECORD])
    self = foreign(ctypes.addressof(record), ctypes.sizeof(record), (record, tables, spec))
    made: Callable[..., Any] = _new_builtin(_call_definition, self, None)
    return made


def _table(words: Sequence[int]) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * max(len(words), 1))(*words)


def _self_test() -> None:
    """Make and read one storage of each kind; ImportError if anything is not as expected."""
    block = allocate(100)
    part = view(view(block, 32), 32)
    memory = ctypes.create_string_buffer(8)
    outside = foreign(ctypes.addressof(memory), 8, memory)
    bump(part)
    good = (
        address(part) == address(block) + 64
        and address(block) % 64 == 0
        and base(part) is block
        and (version(block), offset(part), nbytes(part), nbytes(outside)) == (1, 64, 100, 8)
        and (address(outside), base(outside)) == (ctypes.addressof(memory), outside)
        and not is_storage(memory)
    )
    if not good:
        raise ImportError("native storages failed their self-test")


_self_test()
