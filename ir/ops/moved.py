"""Meanings of the movement primitives that take more than one numpy call."""

from __future__ import annotations

import itertools

import numpy as np

Ints = tuple[int, ...]


def slice_(x: np.ndarray, *, starts: Ints, stops: Ints, steps: Ints) -> np.ndarray:
    return x[tuple(map(slice, starts, stops, steps))]


def update_slice(x: np.ndarray, v: np.ndarray, *, starts: Ints, steps: Ints) -> np.ndarray:
    out = x.copy()
    out[tuple(slice(lo, lo + n * step, step) for lo, n, step in zip(starts, v.shape, steps, strict=True))] = v
    return out


def pad(x: np.ndarray, value: np.ndarray, *, lo: Ints, hi: Ints, interior: Ints) -> np.ndarray:
    inner = [n + max(n - 1, 0) * i for n, i in zip(x.shape, interior, strict=True)]
    out = np.full([a + n + b for a, n, b in zip(lo, inner, hi, strict=True)], value, x.dtype)
    out[tuple(slice(a, a + n, i + 1) for a, n, i in zip(lo, inner, interior, strict=True))] = x
    return out


def window(x: np.ndarray, *, axes: Ints, sizes: Ints, strides: Ints, dilations: Ints) -> np.ndarray:
    reach = tuple(d * (k - 1) + 1 for k, d in zip(sizes, dilations, strict=True))
    views = np.lib.stride_tricks.sliding_window_view(x, reach, axes)
    places = [slice(None)] * views.ndim
    for i, (axis, stride, dilation) in enumerate(zip(axes, strides, dilations, strict=True)):
        places[axis] = slice(None, None, stride)
        places[x.ndim + i] = slice(None, None, dilation)
    return views[tuple(places)]


def fold(ct: np.ndarray, *, shape: Ints, axes: Ints, strides: Ints, dilations: Ints) -> np.ndarray:
    rank = ct.ndim - len(axes)
    sizes = list(ct.shape[:rank])
    for a, n in zip(axes, shape, strict=True):
        sizes[a] = n
    out = np.zeros(sizes, ct.dtype)
    for place in itertools.product(*map(range, ct.shape[rank:])):
        at = [slice(None)] * rank
        for a, k, stride, dilation in zip(axes, place, strides, dilations, strict=True):
            first = k * dilation
            last = first + (ct.shape[a] - 1) * stride
            at[a] = slice(first, last + 1, stride)
        out[tuple(at)] += ct[(slice(None),) * rank + place]
    return out


def _view(x: np.ndarray, shape: Ints, strides: Ints, offset: int) -> np.ndarray:
    if 0 in shape:
        return np.empty(shape, x.dtype)
    flat = x.reshape(-1)[offset:] if all(s >= 0 for s in strides) else None
    if flat is None:
        index = sum(np.arange(n).reshape([-1 if b == a else 1 for b in range(len(shape))]) * s
                    for a, (n, s) in enumerate(zip(shape, strides, strict=True)))  # fmt: skip
        return x.reshape(-1)[offset + index]
    return np.lib.stride_tricks.as_strided(flat, shape, [s * x.itemsize for s in strides])


def as_strided(x: np.ndarray, *, shape: Ints, strides: Ints, offset: int) -> np.ndarray:
    return _view(np.ascontiguousarray(x), shape, strides, offset).copy()


def as_strided_update(x: np.ndarray, v: np.ndarray, *, strides: Ints, offset: int) -> np.ndarray:
    out = np.ascontiguousarray(x).copy()
    places = _view(np.arange(x.size), v.shape, strides, offset)
    out.reshape(-1)[places] = v
    return out
