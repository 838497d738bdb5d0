"""Rules for slice, pad and update_slice. All exact. Those that compare positions need plain ints as sizes."""

from __future__ import annotations

from ...ir import ops
from ...ir.graph import Operation, Value
from .driver import Rewriter, rewrites
from .patterns import all_known, dims, ints, operand_of, producer, splat_of


@rewrites(ops.slice_)
def slice_of_everything(op: Operation, build: Rewriter) -> Value | None:
    """x[0:n, ...] -> x."""
    (x,) = op.operands
    whole = op.attrs["stops"] == x.type.shape and all(s == 0 for s in dims(op.attrs["starts"]))
    return x if whole and all(s == 1 for s in dims(op.attrs["steps"])) else None


@rewrites(ops.slice_)
def slice_of_slice(op: Operation, build: Rewriter) -> Value | None:
    """x[a:b:s][c:d:t] -> x[a + c*s : ... : s*t]."""
    inner = producer(op.operands[0], ops.slice_)
    if inner is None:
        return None
    starts, steps, stops = [], [], []
    outer = zip(dims(op.attrs["starts"]), dims(op.attrs["steps"]), op.result.type.shape, strict=True)
    first = zip(dims(inner.attrs["starts"]), dims(inner.attrs["steps"]), strict=True)
    for (lo, step, size), (base, stride) in zip(outer, first, strict=True):
        starts.append(base + lo * stride)
        steps.append(step * stride)
        stops.append(starts[-1] + ((size - 1) * steps[-1] + 1 if size != 0 else 0))
    if any(lo == hi for lo, hi in zip(starts, stops, strict=True)):
        return None  # an empty slice: where it starts may lie outside, and there is nothing to gain
    return build(ops.slice_, inner.operands[0], starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))


@rewrites(ops.slice_)
def slice_of_expand(op: Operation, build: Rewriter) -> Value | None:
    """expand(x)[a:b] -> expand(x[a:b]), the repeated axes not sliced but repeated less often."""
    inner = producer(op.operands[0], ops.expand)
    if inner is None:
        return None
    (x,) = inner.operands
    repeated = [n == 1 for n in x.type.shape]
    starts = tuple(0 if r else v for r, v in zip(repeated, dims(op.attrs["starts"]), strict=True))
    stops = tuple(1 if r else v for r, v in zip(repeated, dims(op.attrs["stops"]), strict=True))
    steps = tuple(1 if r else v for r, v in zip(repeated, dims(op.attrs["steps"]), strict=True))
    piece = build(ops.slice_, x, starts=starts, stops=stops, steps=steps)
    return build(ops.expand, piece, shape=op.result.type.shape)


@rewrites(ops.slice_)
def slice_of_concat(op: Operation, build: Rewriter) -> Value | None:
    """concat(x, y)[within y] -> y[...]."""
    inner = producer(op.operands[0], ops.concat)
    if inner is None:
        return None
    axis = inner.attrs["axis"]
    assert isinstance(axis, int)
    starts, stops = dims(op.attrs["starts"]), dims(op.attrs["stops"])
    sizes = tuple(v.type.shape[axis] for v in inner.operands)
    if not all_known(sizes, (starts[axis], stops[axis])):
        return None
    at = 0
    for part, size in zip(inner.operands, ints(sizes), strict=True):
        if at <= starts[axis] and stops[axis] <= at + size and size > 0:  # type: ignore[operator]
            return build(
                ops.slice_, part, steps=op.attrs["steps"],
                starts=(*starts[:axis], starts[axis] - at, *starts[axis + 1 :]),
                stops=(*stops[:axis], stops[axis] - at, *stops[axis + 1 :]),
            )  # fmt: skip
        at += size
    return None


@rewrites(ops.slice_)
def slice_of_pad(op: Operation, build: Rewriter) -> Value | None:
    """pad(x)[within x] -> x[...], for a pad with nothing between neighbours."""
    inner = producer(op.operands[0], ops.pad)
    if inner is None or any(i != 0 for i in dims(inner.attrs["interior"])):
        return None
    x = inner.operands[0]
    lo, starts, stops = dims(inner.attrs["lo"]), dims(op.attrs["starts"]), dims(op.attrs["stops"])
    if not all_known(lo, starts, stops, x.type.shape):
        return None
    starts = tuple(a - p for a, p in zip(starts, lo, strict=True))
    stops = tuple(b - p for b, p in zip(stops, lo, strict=True))
    if min(ints(starts), default=0) < 0 or any(
        b > n for b, n in zip(ints(stops), ints(x.type.shape), strict=True)
    ):
        return None
    return build(ops.slice_, x, starts=starts, stops=stops, steps=op.attrs["steps"])


@rewrites(ops.slice_)
def slice_of_update(op: Operation, build: Rewriter) -> Value | None:
    """Reading what was just written: update_slice(x, v)[the same place] -> v, [a disjoint place] ->
    x[...]."""
    inner = producer(op.operands[0], ops.update_slice)
    if inner is None:
        return None
    x, v = inner.operands
    place = ("starts", "steps")
    if op.result.type == v.type and all(op.attrs[k] == inner.attrs[k] for k in place):
        return v
    if not _disjoint(op, inner):
        return None
    return build(ops.slice_, x, **{k: op.attrs[k] for k in ("starts", "stops", "steps")})


def _disjoint(read: Operation, write: Operation) -> bool:
    """Whether along some axis the slice ends before the update begins, or the other way round."""
    starts, stops = dims(read.attrs["starts"]), dims(read.attrs["stops"])
    first, steps, sizes = (
        dims(write.attrs["starts"]),
        dims(write.attrs["steps"]),
        write.operands[1].type.shape,
    )
    if not all_known(starts, stops, first, steps, sizes):
        return False
    ends = [
        lo + (n - 1) * step + 1 for lo, n, step in zip(ints(first), ints(sizes), ints(steps), strict=True)
    ]
    spans = zip(ints(starts), ints(stops), ints(first), ends, strict=True)
    return any(stop <= low or start >= high for start, stop, low, high in spans)


@rewrites(ops.update_slice)
def update_of_everything(op: Operation, build: Rewriter) -> Value | None:
    """update_slice(x, v) -> v where v covers x, -> x where v is empty."""
    x, v = op.operands
    if any(n == 0 for n in v.type.shape):
        return x
    return v if v.type == x.type else None


@rewrites(ops.update_slice)
def update_of_update(op: Operation, build: Rewriter) -> Value | None:
    """update_slice(update_slice(x, v), w) -> update_slice(x, w) at the same place."""
    inner = producer(op.operands[0], ops.update_slice)
    w = op.operands[1]
    if inner is None or inner.operands[1].type != w.type or dict(inner.attrs) != dict(op.attrs):
        return None
    return build(ops.update_slice, inner.operands[0], w, **op.attrs)


@rewrites(ops.update_slice)
def update_with_own_slice(op: Operation, build: Rewriter) -> Value | None:
    """update_slice(x, x[the same place]) -> x."""
    x, v = op.operands
    read = producer(v, ops.slice_)
    if read is None or read.operands[0] is not x:
        return None
    return x if all(read.attrs[k] == op.attrs[k] for k in ("starts", "steps")) else None


@rewrites(ops.pad)
def pad_with_nothing(op: Operation, build: Rewriter) -> Value | None:
    """pad(x) -> x where nothing is added."""
    x = op.operands[0]
    return x if x.type == op.result.type else None


@rewrites(ops.pad)
def pad_of_pad(op: Operation, build: Rewriter) -> Value | None:
    """pad(pad(x, v), v) -> pad(x, v), for pads with the same number and nothing between neighbours."""
    inner = producer(op.operands[0], ops.pad)
    if inner is None or any(i != 0 for made in (op, inner) for i in dims(made.attrs["interior"])):
        return None
    number = splat_of(op.operands[1])
    if op.operands[1] is not inner.operands[1] and (number is None or number != splat_of(inner.operands[1])):
        return None
    lo, hi = (
        tuple(a + b for a, b in zip(dims(inner.attrs[k]), dims(op.attrs[k]), strict=True))
        for k in ("lo", "hi")
    )
    return build(ops.pad, *inner.operands, lo=lo, hi=hi, interior=op.attrs["interior"])


@rewrites(ops.pad)
def pad_of_empty(op: Operation, build: Rewriter) -> Value | None:
    """pad(empty, v) -> expand(v)."""
    x, value = op.operands
    if all(n != 0 for n in x.type.shape):
        return None
    spread = build(ops.reshape, value, shape=(1,) * x.type.rank)
    return build(ops.expand, spread, shape=op.result.type.shape)


@rewrites(ops.slice_)
def slice_of_reshape(op: Operation, build: Rewriter) -> Value | None:
    """reshape(x)[...] -> reshape(x[...]) where the reshape only adds axes of size 1, none of them sliced
    away."""
    x = operand_of(op.operands[0], ops.reshape)
    if x is None or any(n == 0 for n in op.result.type.shape):
        return None
    axes = [a for a, n in enumerate(op.operands[0].type.shape) if n != 1]
    if tuple(op.operands[0].type.shape[a] for a in axes) != x.type.shape:
        return None
    starts, stops, steps = (tuple(dims(op.attrs[k])[a] for a in axes) for k in ("starts", "stops", "steps"))
    return build(
        ops.reshape, build(ops.slice_, x, starts=starts, stops=stops, steps=steps), shape=op.result.type.shape
    )
