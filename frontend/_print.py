"""How tensors print: PyTorch's format, character by character.

Source: torch/_tensor_str.py. Numbers share one width; floats are printed as integers with a point if all are,
in scientific notation if they differ too much; long tensors are cut to the edges of each dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from vitrify.ir import dtypes

from ._promotion import get_default_dtype
from ._tape import Leaf
from ._tensor import Tensor, edge_of


@dataclass
class PrintOptions:
    """What `set_printoptions` sets. sci_mode: None lets the numbers decide."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


OPTIONS = PrintOptions()
_PROFILES = {
    "default": PrintOptions(), "short": PrintOptions(precision=2, edgeitems=2),
    "full": PrintOptions(threshold=math.inf),
}  # fmt: skip


def set_printoptions(
    precision: int | None = None, threshold: float | None = None, edgeitems: int | None = None,
    linewidth: int | None = None, profile: str | None = None, sci_mode: bool | None = None,
) -> None:  # fmt: skip
    """Set how tensors print: digits, the size from which they are cut, what is kept at the edges, characters
    per line.
    """
    chosen = vars(_PROFILES[profile]) if profile else {}
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    for name, value in (chosen | {k: v for k, v in given.items() if v is not None}).items():
        setattr(OPTIONS, name, value)
    OPTIONS.sci_mode = sci_mode


class _Formatter:
    """Formats the numbers of one tensor to a common width."""

    def __init__(self, values: np.ndarray) -> None:
        self.is_float = values.dtype.kind == "f"
        self.integral, self.scientific = True, False
        self.width = 1
        if not self.is_float:
            self.width = max((len(str(v)) for v in values.reshape(-1).tolist()), default=1)
            return
        shown = values[np.isfinite(values) & (values != 0)].astype(np.float64)
        if shown.size:
            self._choose(np.abs(shown))
            self.width = max(self.width, max(len(self._number(v)) for v in self._widest(shown)))
        if OPTIONS.sci_mode is not None:
            self.scientific = OPTIONS.sci_mode

    def _choose(self, magnitudes: np.ndarray) -> None:
        low, high = magnitudes.min(), magnitudes.max()
        self.integral = bool((magnitudes == np.ceil(magnitudes)).all())
        if self.integral:
            self.scientific = bool(high / low > 1000.0 or high > 1.0e8)
        else:
            self.scientific = bool(high / low > 1000.0 or high > 1.0e8 or low < 1.0e-4)

    def _widest(self, shown: np.ndarray) -> list[float]:
        return shown.reshape(-1).tolist()

    def _number(self, value: float) -> str:
        if self.scientific:
            return f"{value:.{OPTIONS.precision}e}"
        return f"{value:.0f}." if self.integral and math.isfinite(value) else f"{value:.{OPTIONS.precision}f}"

    def __call__(self, value: Any) -> str:
        if not self.is_float:
            return f"{value!s:>{self.width}}"
        if self.integral and not self.scientific and not math.isfinite(value):
            return f"{value:{self.width}.0f}"
        return f"{self._number(value):>{self.width}}"


def _vector(items: np.ndarray, indent: int, summarize: bool, form: _Formatter) -> str:
    per_line = max(1, math.floor((OPTIONS.linewidth - indent) / (form.width + 2)))
    edge = OPTIONS.edgeitems
    if summarize and not edge:
        texts = ["..."]
    elif summarize and len(items) > 2 * edge:
        texts = [*map(form, items[:edge].tolist()), " ...", *map(form, items[-edge:].tolist())]
    else:
        texts = list(map(form, items.tolist()))
    lines = [texts[i : i + per_line] for i in range(0, len(texts), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(", ".join(line) for line in lines) + "]"


def _nested(items: np.ndarray, indent: int, summarize: bool, form: _Formatter) -> str:
    if items.ndim == 0:
        return form(items.item())
    if items.ndim == 1:
        return _vector(items, indent, summarize, form)
    edge = OPTIONS.edgeitems
    if summarize and len(items) > 2 * edge:
        parts = [_nested(v, indent + 1, summarize, form) for v in items[:edge]]
        parts.append("...")
        parts += [_nested(v, indent + 1, summarize, form) for v in items[len(items) - edge :]]
    else:
        parts = [_nested(v, indent + 1, summarize, form) for v in items]
    return "[" + ("," + "\n" * (items.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def _edges(items: np.ndarray) -> np.ndarray:
    """The elements that a cut tensor shows."""
    edge = OPTIONS.edgeitems
    for axis, n in enumerate(items.shape):
        if n > 2 * edge:
            kept = [*range(edge), *range(n - edge, n)]
            items = np.take(items, kept, axis)
    return items


def tensor_text(x: Tensor) -> str:
    """`repr` of a tensor."""
    prefix = "tensor(" if type(x) is Tensor else f"{type(x).__name__}("
    array = x._array("print")
    suffixes = []
    default = (get_default_dtype(), dtypes.int64, dtypes.bool_)
    if array.size == 0:
        if array.ndim != 1:
            suffixes.append(f"size={tuple(array.shape)}")
        if x.dtype is not get_default_dtype():
            suffixes.append(f"dtype={x.dtype!r}")
        body = "[]"
    else:
        if x.dtype not in default:
            suffixes.append(f"dtype={x.dtype!r}")
        summarize = array.size > OPTIONS.threshold
        form = _Formatter(_edges(array) if summarize else array)
        body = _nested(array, len(prefix), summarize, form)
    suffixes += _history(x)
    return _joined(prefix + body, suffixes, len(prefix))


def _history(x: Tensor) -> list[str]:
    edge = edge_of(x)
    if edge is None:
        return []
    return ["requires_grad=True"] if isinstance(edge, Leaf) else [f"grad_fn=<{edge.name()}>"]


def _joined(text: str, suffixes: list[str], indent: int) -> str:
    """Append the suffixes, on a new line where the last one would get too long."""
    length = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if length + len(suffix) + 2 > OPTIONS.linewidth:
            text += ",\n" + " " * indent + suffix
            length = indent + len(suffix)
        else:
            text += ", " + suffix
            length += len(suffix) + 2
    return text + ")"
