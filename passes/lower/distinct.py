"""Finds the distinct kernels among those of a plan, so that each is compiled once.

Kernels with the same text are one. Kernels that are one flat loop and differ only in its extent become one
kernel of run-time size: the updates of many parameters, above all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ...ir.expr import Dim, symbol
from ...ir.kernel import Axis, Kernel, Loop
from ...ir.kernel_text import print_kernel

#: The run-time size of a kernel made for several extents.
SIZE = "n"


def distinct_kernels(kernels: Sequence[Kernel]) -> list[tuple[Kernel, tuple[Dim, ...]]]:
    """For each kernel the one to call in its place, and the sizes to call it with. The kernels to be called
    have different names if they differ."""
    flat = [_of_any_extent(kernel) for kernel in kernels]
    texts = [_text(found[0] if found else kernel) for kernel, found in zip(kernels, flat, strict=True)]
    extents: dict[str, set[int]] = {}
    for text, found in zip(texts, flat, strict=True):
        if found is not None:
            extents.setdefault(text, set()).add(found[1])
    called: dict[str, Kernel] = {}
    names: set[str] = set()
    result: list[tuple[Kernel, tuple[Dim, ...]]] = []
    for kernel, text, found in zip(kernels, texts, flat, strict=True):
        sizes: tuple[Dim, ...] = tuple(map(symbol, kernel.sizes))
        if found is not None and len(extents[text]) > 1:
            kernel, sizes = found[0], (found[1],)
        if text not in called:
            called[text] = replace(kernel, name=_new_name(kernel.name, names))
        result.append((called[text], sizes))
    return result


def _text(kernel: Kernel) -> str:
    return print_kernel(replace(kernel, name="kernel"))


def _new_name(name: str, taken: set[str]) -> str:
    number, new = 1, name
    while new in taken:
        number += 1
        new = f"{name}_{number}"
    taken.add(new)
    return new


def _of_any_extent(kernel: Kernel) -> tuple[Kernel, int] | None:
    """(the kernel with a run-time size in place of the extent, the extent) if it is one flat loop."""
    loops = [s for s in kernel.body if isinstance(s, Loop)]
    if len(loops) != 1 or loops[0] is not kernel.body[-1] or loops[0].kind != "vector" or kernel.sizes:
        return None
    (loop,) = loops
    extent = loop.axis.extent
    if not isinstance(extent, int):
        return None
    size = symbol(SIZE)
    buffers = tuple(replace(b, size=size) if b.size == extent else b for b in kernel.buffers)
    body = (*kernel.body[:-1], replace(loop, axis=Axis(loop.axis.name, size)))
    name = re.sub(r"_[0-9x]+$", f"_{SIZE}", kernel.name)
    return Kernel(name, buffers, (SIZE,), body), extent
