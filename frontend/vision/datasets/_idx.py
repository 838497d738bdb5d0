"""The IDX format of the original MNIST files: a magic number, the sizes as big-endian u32, then the elements.

Source: http://yann.lecun.com/exdb/mnist, "The IDX file format".
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

#: Element type code (third byte of the magic number) -> numpy type.
_ELEMENTS = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP = b"\x1f\x8b"


def read_idx(path: Path, *, rank: int) -> np.ndarray:
    """The array in an IDX file, gzipped or not.

    Raises ValueError, naming the file, if it is no IDX file, holds another rank, or has not exactly the bytes
    that its header announces.
    """
    data = _contents(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _ELEMENTS:
        raise ValueError(f"{path} is not an IDX file: it begins with {data[:4].hex(' ') or 'nothing'}")
    if data[3] != rank:
        raise ValueError(f"{path}: expected an IDX file of rank {rank}, its header says {data[3]}")
    start = 4 + 4 * rank
    if len(data) < start:
        raise ValueError(f"{path} is truncated: its header ends after {len(data)} of {start} bytes")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", rank, 4))
    element = np.dtype(_ELEMENTS[data[2]])
    expected = start + int(np.prod(shape, dtype=object)) * element.itemsize
    if len(data) < expected:
        raise ValueError(
            f"{path} is truncated: it has {len(data)} of the {expected} bytes of its {shape} elements"
        )
    if len(data) > expected:
        raise ValueError(f"{path} has {len(data) - expected} bytes after its {shape} elements")
    return np.frombuffer(data, element, offset=start).reshape(shape).astype(element.newbyteorder("="))


def _contents(path: Path) -> bytes:
    data = path.read_bytes()
    if data[:2] != _GZIP:
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is truncated or damaged: {error}") from error
