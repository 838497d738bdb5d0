"""`save` and `load`: files in the safetensors layout, so that loading never executes code.

Layout: u64 little-endian length of the header, the header (JSON: tensor name -> dtype, shape, place), the
elements. A flat dict of tensors is a plain safetensors file, readable by others. Anything nested (an
optimizer's state) has its structure as JSON in the header's `__metadata__`. Source:
https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np
from vitrify.ir import dtypes
from vitrify.ir.dtypes import DType
from vitrify.ir.strided import strided_type
from vitrify.runtime import storage as memory

from ._tensor import Tensor

#: dtype -> its name in the format. complex128 has none.
_NAMES: dict[DType, str] = {
    dtypes.float64: "F64", dtypes.float32: "F32", dtypes.float16: "F16", dtypes.bfloat16: "BF16",
    dtypes.int64: "I64", dtypes.int32: "I32", dtypes.int16: "I16", dtypes.int8: "I8", dtypes.uint8: "U8",
    dtypes.bool_: "BOOL", dtypes.complex64: "C64",
}  # fmt: skip
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}
_METADATA = "__metadata__"
_STRUCTURE = "vitrify.structure"
#: A longer header is taken for damage, as the reference implementation does.
_LONGEST_HEADER = 100_000_000


def save(obj: Any, f: str | os.PathLike[str] | IO[bytes]) -> None:
    """Write tensors in dicts, lists and tuples, with plain numbers, strings and None between, to a file.

    Raises TypeError for anything else: objects of other classes are not data.

    >>> vitrify.save(model.state_dict(), "model.safetensors")
    """
    tensors: dict[str, Tensor] = {}
    structure = _encode(obj, tensors, "")
    metadata = {} if _is_flat(obj) else {_STRUCTURE: json.dumps(structure)}
    arrays = {name: _array(tensor) for name, tensor in tensors.items()}
    header = json.dumps({**({_METADATA: metadata} if metadata else {}), **_places(tensors, arrays)}).encode()
    header += b" " * (-len(header) % 8)
    parts = [len(header).to_bytes(8, "little"), header, *(a.tobytes() for a in arrays.values())]
    if hasattr(f, "write"):
        f.write(b"".join(parts))
        return
    with open(f, "wb") as file:
        file.writelines(parts)


def load(
    f: str | os.PathLike[str] | IO[bytes], map_location: object = None, weights_only: bool = True
) -> Any:
    """Read what `save` wrote, or any safetensors file (a dict of tensors).

    map_location: "cpu" or None. weights_only: accepted for compatibility; nothing is ever executed.
    Raises RuntimeError for a file that is damaged, truncated or of another kind.
    """
    if map_location is not None and not str(map_location).startswith("cpu"):
        raise RuntimeError(f"map_location {map_location!r}: the only device is the CPU")
    name = getattr(f, "name", "the file") if hasattr(f, "read") else os.fspath(f)
    data = f.read() if hasattr(f, "read") else _read(f)
    return _decoded(bytes(data), str(name))


def _read(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read()


# Writing.


def _is_flat(obj: Any) -> bool:
    return isinstance(obj, Mapping) and all(
        isinstance(k, str) and k not in ("", _METADATA) and isinstance(v, Tensor) for k, v in obj.items()
    )


def _encode(obj: Any, tensors: dict[str, Tensor], path: str) -> Any:
    """The structure of obj as JSON: `{"kind": content}` for all but strings, ints, bools and None."""
    if isinstance(obj, Tensor):
        name = path or "tensor"
        while name in tensors or name == _METADATA:  # {"a.b": x, "a": {"b": y}}
            name += "_"
        tensors[name] = obj
        return {"tensor": name}
    if obj is None or isinstance(obj, (str, bool)) or type(obj) is int:
        return obj
    if isinstance(obj, (float, np.floating)):
        return {"float": float(obj).hex()}
    if isinstance(obj, np.integer):
        return int(obj)
    if isinstance(obj, Mapping):
        return {
            "dict": [
                [_encode(k, tensors, path), _encode(v, tensors, _below(path, k))] for k, v in obj.items()
            ]
        }
    if isinstance(obj, (list, tuple)):
        kind = "list" if isinstance(obj, list) else "tuple"
        return {kind: [_encode(v, tensors, _below(path, i)) for i, v in enumerate(obj)]}
    raise TypeError(
        f"can't save {type(obj).__name__} (at {path or 'the top'}): only tensors, numbers, strings, "
        "None and dicts, "
        "lists and tuples of them are data"
    )


def _below(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _array(tensor: Tensor) -> np.ndarray:
    if tensor.dtype not in _NAMES:
        raise TypeError(f"can't save {tensor.dtype!r}: the safetensors format has no such type")
    return np.asarray(tensor.detach()._bits("save"), order="C")


def _places(tensors: dict[str, Tensor], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    entries, at = {}, 0
    for name, array in arrays.items():
        entries[name] = {
            "dtype": _NAMES[tensors[name].dtype],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    return entries


# Reading.


def _decoded(data: bytes, name: str) -> Any:
    header, body = _split(data, name)
    metadata = header.pop(_METADATA, {})
    tensors = dict(_tensors(header, body, name))
    if not isinstance(metadata, dict) or _STRUCTURE not in metadata:
        return tensors
    try:
        return _decode(json.loads(metadata[_STRUCTURE]), tensors)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RuntimeError(f"{name}: the structure in its header is damaged") from error


def _split(data: bytes, name: str) -> tuple[dict[str, Any], memoryview]:
    """The header and the bytes after it."""
    if data[:4] == b"PK\x03\x04" or data[:1] == b"\x80":
        raise RuntimeError(f"{name} is a pickle (as torch.save writes), which could execute code; not loaded")
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > _LONGEST_HEADER or data[8:9] != b"{":
        raise RuntimeError(f"{name} is not a safetensors file")
    if len(data) < 8 + size:
        raise RuntimeError(f"{name} is truncated: its header needs {size} bytes, {len(data) - 8} are there")
    try:
        header = json.loads(data[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise RuntimeError(f"{name}: its header is damaged: {error}") from error
    if not isinstance(header, dict):
        raise RuntimeError(f"{name}: its header is not an object")
    return header, memoryview(data)[8 + size :]


def _tensors(header: Mapping[str, Any], body: memoryview, name: str) -> Iterator[tuple[str, Tensor]]:
    end = 0
    for key, entry in header.items():
        try:
            dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
            begin, stop = entry["data_offsets"]
            if not all(type(n) is int and n >= 0 for n in (*shape, begin, stop)):
                raise ValueError("sizes and offsets must be numbers from 0 on")
            if stop > len(body):
                raise RuntimeError(f"{name} is truncated: tensor {key!r} ends at byte {stop} of {len(body)}")
            if (stop - begin) != int(np.prod(shape, dtype=object)) * dtype.itemsize:
                raise ValueError(f"{stop - begin} bytes are not a {dtype.name} tensor of shape {list(shape)}")
        except (KeyError, ValueError, TypeError) as error:
            raise RuntimeError(f"{name}: the entry of tensor {key!r} is damaged: {error}") from error
        end = max(end, stop)
        array = np.frombuffer(body[begin:stop], dtype.numpy).reshape(shape).copy()
        yield key, Tensor(memory.from_array(array), strided_type(dtype, shape))
    if end < len(body):
        raise RuntimeError(f"{name} has {len(body) - end} bytes after its last tensor")


def _decode(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "float":
        return float.fromhex(content)
    if kind == "dict":
        return {_decode(k, tensors): _decode(v, tensors) for k, v in content}
    if kind in ("list", "tuple"):
        items = [_decode(v, tensors) for v in content]
        return items if kind == "list" else tuple(items)
    raise KeyError(kind)
