"""Whether `vdpbf16ps` gives the bits that docs/numerics.md promises, asked when bfloat16 is first contracted.

Manuals of CPUs differ in what they say of it, and emulators in what they do. Where it is not as documented,
the same arithmetic is spelled out in other instructions (`codegen.contract_pairs`).
"""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np

from ..codegen.contract_pairs import emit_pairs
from ..codegen.target import Target
from ..ir.ops import paired

#: Pairs of each kind that are tried.
_PAIRS = 512


@cache
def pairs_are_right(target: Target) -> bool:
    """Whether code for this target, which this CPU must run, contracts pairs as documented."""
    from .jit import load

    a, b, c = operands()
    got, words = c.copy(), (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    address = load(emit_pairs(target), ["pairs"], target=target)["pairs"]
    ctypes.CFUNCTYPE(ctypes.c_int64, *words)(address)(a.ctypes.data, b.ctypes.data, got.ctypes.data, len(c))
    want = paired.pair(_numbers(a), _numbers(b), c)
    return bool(np.all((got.view(np.int32) == want.view(np.int32)) | (np.isnan(got) & np.isnan(want))))


#: Of each kind, what of random bits is kept and what is set, in a, b and the sums: any bits; numbers near 1;
#: products and sums about the least normal numbers; subnormal numbers times large ones.
_KINDS = (
    ((0xFFFFFFFF, 0), (0xFFFFFFFF, 0), (0xFFFFFFFF, 0)),
    ((0x83FF83FF, 0x3F003F00), (0x83FF83FF, 0x3F003F00), (0x83FFFFFF, 0x3F000000)),
    ((0x837F837F, 0x20002000), (0x837F837F, 0x20002000), (0x80FFFFFF, 0)),
    ((0x807F807F, 0), (0x83FF83FF, 0x70007000), (0x83FFFFFF, 0x30000000)),
)


def operands() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs as uint32, twice, and the float32 that they are added to: never subnormal, as no sum is."""
    columns: list[list[np.ndarray]] = [[], [], []]
    for kind in _KINDS:
        for column, (mask, high) in zip(columns, kind, strict=True):
            column.append(_bits(sum(map(len, columns))) & mask | high)
    a, b, c = (np.concatenate(column).astype(np.uint32) for column in columns)
    sums = c.view(np.float32)
    return a, b, np.where(np.abs(sums) < np.float32(2.0**-126), np.float32(0), sums)


def _bits(number: int) -> np.ndarray:
    """Some of 32 bits that look random. Source: the finalizer of MurmurHash3, Appleby 2011."""
    x = (np.arange(_PAIRS, dtype=np.uint64) + np.uint64(_PAIRS * number + 1)) * np.uint64(0x9E3779B9)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x &= np.uint64(0xFFFFFFFF)
        x = (x ^ x >> np.uint64(shift)) * np.uint64(factor)
    x &= np.uint64(0xFFFFFFFF)
    return x ^ x >> np.uint64(16)


def _numbers(pairs: np.ndarray) -> np.ndarray:
    """The two numbers of each pair, in rows."""
    return paired.numbers(pairs.view(np.uint16).reshape(-1, 2).T)
