"""The same elements under another shape or order: views where strides allow it, copies elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vitrify.ir import dtypes, ops
from vitrify.ir.opdef import BoundOp, bind
from vitrify.ir.strided import StridedType
from vitrify.ir.types import row_major_strides
from vitrify.runtime.views import reshaped_strides

from .._composite import composite
from .._dispatch import apply, apply1, remembered
from .._promotion import as_operand, broadcast_shapes
from .._size import as_shape
from .._tensor import Tensor, wrap_dim

Dims = int | Sequence[int] | None


def _full_shape(x: Tensor, sizes: Sequence[Any]) -> tuple[int, ...]:
    """The shape meant, a -1 filled in. Raises RuntimeError if the number of elements differs."""
    return _filled_in(x._type.numel, as_shape(sizes))


@remembered
def _filled_in(count: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    asked = shape
    if -1 in shape:
        at = shape.index(-1)
        if -1 in shape[at + 1 :]:
            raise RuntimeError("only one dimension can be inferred")
        known = math.prod(n for i, n in enumerate(shape) if i != at)
        if known == 0 and count == 0:
            raise RuntimeError(
                f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified "
                "dimension size "
                "-1 can be any value and is ambiguous"
            )
        if known and count % known == 0:
            shape = (*shape[:at], count // known, *shape[at + 1 :])
    if any(n < -1 for n in shape):
        raise RuntimeError(f"invalid shape dimension {min(shape)}")
    if math.prod(shape) != count or -1 in shape:
        raise RuntimeError(f"shape '{list(asked)}' is invalid for input of size {count}")
    return shape


def reshape(input: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """The elements, in row-major order, under another shape; one size may be -1. A view if strides allow it.

    >>> vitrify.arange(6).reshape(2, -1)
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    return apply1(_reshaping(_full_shape(input, shape)), input)


@remembered
def _reshaping(shape: tuple[int, ...]) -> BoundOp:
    return bind(ops.reshape, shape=shape)


def view(input: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """As `reshape`, never copying. Raises RuntimeError where the strides don't allow a view."""
    full = _full_shape(input, shape)
    if reshaped_strides(input._type.shape, input._type.strides, full) is None:
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans "
            "across two "
            "contiguous subspaces). Use .reshape(...) instead."
        )
    return apply1(_reshaping(full), input)


def view_as(input: Tensor, other: Tensor) -> Tensor:
    """A view in other's shape."""
    return view(input, *other._type.shape)


def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """The elements in other's shape."""
    return reshape(input, *other._type.shape)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from start_dim to end_dim (both included) taken as one."""
    rank = input.ndim
    start, end = wrap_dim(start_dim, rank), wrap_dim(end_dim, rank)
    if start > end:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if rank == 0:
        return reshape(input, 1)
    if start == end:
        return input
    shape = input._type.shape
    middle = math.prod(shape[start : end + 1])
    return apply(bind(ops.reshape, shape=(*shape[:start], middle, *shape[end + 1 :])), input)


def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension."""
    return reshape(input, -1)


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One dimension split into several; one of the sizes may be -1."""
    dim = wrap_dim(dim, input.ndim)
    sizes, n = list(sizes), input._type.shape[dim]
    if -1 in sizes:
        known = math.prod(s for s in sizes if s != -1)
        sizes[sizes.index(-1)] = n // known if known else 0
    if math.prod(sizes) != n:
        raise RuntimeError(
            f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {dim} ({n}) in "
            "the input "
            "tensor"
        )
    shape = input._type.shape
    return view(input, *shape[:dim], *sizes, *shape[dim + 1 :])


def permute(input: Tensor, *dims: int | Sequence[int]) -> Tensor:
    """The dimensions in another order.

    >>> vitrify.zeros(2, 3, 5).permute(2, 0, 1).shape
    vitrify.Size([5, 2, 3])
    """
    return apply1(_permutation(input._type, as_shape(dims)), input)


@remembered
def _permutation(have: StridedType, order: tuple[int, ...]) -> BoundOp:
    rank = len(have.shape)
    if len(order) != rank:
        raise RuntimeError(
            f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of "
            "the desired "
            f"ordering of dimensions i.e. input.dim() = {rank} is not equal to len(dims) = {len(order)}"
        )
    perm = tuple(wrap_dim(d, rank) for d in order)
    if len(set(perm)) != rank:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return bind(ops.permute, perm=perm)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    return apply1(_transposition(input._type, dim0, dim1), input)


@remembered
def _transposition(have: StridedType, dim0: int, dim1: int) -> BoundOp:
    rank = len(have.shape)
    a, b = wrap_dim(dim0, rank), wrap_dim(dim1, rank)
    perm = list(range(rank))
    if rank:
        perm[a], perm[b] = perm[b], perm[a]
    return bind(ops.permute, perm=tuple(perm))


def t(input: Tensor) -> Tensor:
    """A matrix transposed; other tensors of rank 0 and 1 as they are. Raises RuntimeError above rank 2."""
    if input.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return transpose(input, 0, 1) if input.ndim == 2 else permute(input, *range(input.ndim))


def numpy_T(input: Tensor) -> Tensor:
    """The dimensions in reverse order."""
    return permute(input, *reversed(range(input.ndim)))


def mT(input: Tensor) -> Tensor:
    """The last two dimensions exchanged."""
    if input.ndim < 2:
        raise RuntimeError(
            f"tensor.mT is only supported on matrices or batches of matrices. Got {input.ndim}-D tensor."
        )
    return transpose(input, -2, -1)


def movedim(input: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Dimensions moved to other places, the rest keeping their order."""
    rank = input.ndim
    source, destination = (
        [wrap_dim(d, rank) for d in ([dims] if isinstance(dims, int) else dims)]
        for dims in (source, destination)
    )
    if len(source) != len(destination):
        raise RuntimeError(
            "movedim: Invalid source or destination dims: source "
            f"({source} dims) should contain the same number of dims as destination ({destination} dims)"
        )
    if len(set(source)) != len(source) or len(set(destination)) != len(destination):
        raise RuntimeError("movedim: repeated dim in `source` or `destination`")
    rest = iter([a for a in range(rank) if a not in source])
    placed = dict(zip(destination, source, strict=True))
    return permute(input, *(placed[a] if a in placed else next(rest) for a in range(rank)))


def squeeze(input: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """Without the dimensions of size 1, or without those among `dim`."""
    dims = tuple(dim) if isinstance(dim, (list, tuple)) else dim
    return apply1(_squeezing(input._type, dims), input)


@remembered
def _squeezing(have: StridedType, dim: Any) -> BoundOp:
    shape = have.shape
    if dim is None:
        dims: Any = range(len(shape))
    else:
        dims = {wrap_dim(d, len(shape)) for d in ([dim] if isinstance(dim, int) else dim)}
    kept = tuple(n for a, n in enumerate(shape) if n != 1 or a not in dims)
    return bind(ops.reshape, shape=kept)


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a new dimension of size 1 at `dim`."""
    return apply1(_unsqueezing(input._type, dim), input)


@remembered
def _unsqueezing(have: StridedType, dim: int) -> BoundOp:
    shape = have.shape
    dim = wrap_dim(dim, len(shape) + 1)
    return bind(ops.reshape, shape=(*shape[:dim], 1, *shape[dim:]))


def expand(input: Tensor, *sizes: int | Sequence[int]) -> Tensor:
    """Dimensions of size 1 repeated without copying; -1 keeps a size, new ones may come in front."""
    want, have = as_shape(sizes), input._type.shape
    lead = len(want) - len(have)
    if lead < 0:
        raise RuntimeError(
            f"expand({_type_text(input)}{{{list(have)}}}, size={list(want)}): the number of sizes provided "
            f"({len(want)}) "
            f"must be greater or equal to the number of dimensions in the tensor ({len(have)})"
        )
    shape = []
    for i, n in enumerate(want):
        m = have[i - lead] if i >= lead else 1
        if n == -1 and i < lead:
            raise RuntimeError(
                f"The expanded size of the tensor (-1) isn't allowed in a leading, non-existing dimension {i}"
            )
        n = m if n == -1 else n
        if m not in (1, n):
            raise RuntimeError(
                f"The expanded size of the tensor ({n}) must match the existing size ({m}) at "
                "non-singleton dimension "
                f"{i}.  Target sizes: {list(want)}.  Tensor sizes: {list(have)}"
            )
        shape.append(n)
    return as_operand(input, input._type.dtype, tuple(shape))


def _type_text(x: Tensor) -> str:
    return f"vitrify.{x.dtype.name}"


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """Expanded to other's shape."""
    return expand(input, *other._type.shape)


def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    """Expanded to a shape."""
    return expand(input, *size)


def broadcast_tensors(*tensors: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """All tensors expanded to their common shape."""
    items: Sequence[Any] = tensors
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        items = tensors[0]
    shape = broadcast_shapes(*(x._type.shape for x in items))
    return tuple(expand(x, *shape) for x in items)


def repeat(input: Tensor, *repeats: int | Sequence[int]) -> Tensor:
    """The whole tensor repeated along each dimension, new dimensions coming in front."""
    times = as_shape(repeats)
    lead = len(times) - input.ndim
    if lead < 0:
        raise RuntimeError(
            "Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor"
        )
    have = (1,) * lead + input._type.shape
    spread = reshape(input, *(m for n in have for m in (1, n)))
    wide = expand(spread, *(m for r, n in zip(times, have, strict=True) for m in (r, n)))
    copied = apply(bind(ops.cast, dtype=input._type.dtype), wide)
    return reshape(copied, *(r * n for r, n in zip(times, have, strict=True)))


def tile(input: Tensor, *dims: int | Sequence[int]) -> Tensor:
    """As `repeat`, with missing leading counts taken as 1."""
    times = as_shape(dims)
    return repeat(input, *((1,) * (input.ndim - len(times)) + times))


def repeat_interleave(input: Tensor, repeats: Tensor | int, dim: int | None = None) -> Tensor:
    """Each element repeated, `repeats` times or as often as a tensor says, next to itself."""
    if dim is None:
        input, dim = flatten(input), 0
    dim = wrap_dim(dim, input.ndim)
    if isinstance(repeats, Tensor):
        return _repeated_by(input, repeats, dim)
    wide = unsqueeze(input, dim + 1)
    shape = list(wide._type.shape)
    shape[dim + 1] = repeats
    return flatten(apply(bind(ops.cast, dtype=input._type.dtype), expand(wide, *shape)), dim, dim + 1)


def _repeated_by(x: Tensor, repeats: Tensor, dim: int) -> Tensor:
    import numpy as np

    from .creation import from_numpy
    from .gathering import index_select

    n = x._type.shape[dim]
    counts = np.broadcast_to(repeats._array("repeat_interleave"), (n,))
    return index_select(x, dim, from_numpy(np.repeat(np.arange(n), counts)))


def flip(input: Tensor, *dims: int | Sequence[int]) -> Tensor:
    """The elements along these dimensions in reverse order (a copy)."""
    axes = tuple(sorted(wrap_dim(d, input.ndim) for d in as_shape(dims)))
    return apply(bind(ops.flip, axes=axes if input.ndim else ()), input)


def fliplr(input: Tensor) -> Tensor:
    """Columns in reverse order."""
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """Rows in reverse order."""
    return flip(input, 0)


@composite()
def roll(input: Tensor, shifts: int | Sequence[int], dims: Dims = None) -> Tensor:
    """Elements moved along dimensions, those pushed out coming in at the other end."""
    from .joining import cat

    if dims is None:
        return reshape(roll(flatten(input), shifts, 0), *input._type.shape)
    shifts, dims = ([v] if isinstance(v, int) else list(v) for v in (shifts, dims))
    if len(shifts) != len(dims):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}")
    result = input
    for shift, dim in zip(shifts, dims, strict=True):
        n = input._type.shape[wrap_dim(dim, input.ndim)]
        if n and shift % n:
            cut = n - shift % n
            result = cat([narrow(result, dim, cut, n - cut), narrow(result, dim, 0, cut)], dim)
    return _never_itself(result, input)


def _never_itself(result: Tensor, input: Tensor) -> Tensor:
    """The result of a function that gives a copy: the input's elements anew, where nothing had to be done."""
    return apply(bind(ops.cast, dtype=input._type.dtype), input) if result is input else result


def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Turned by k quarters in the plane of two dimensions."""
    a, b = dims
    if k % 4 == 1:
        return flip(transpose(input, a, b), a)
    if k % 4 == 2:
        return flip(input, a, b)
    return (
        flip(transpose(input, a, b), b)
        if k % 4 == 3
        else apply(bind(ops.cast, dtype=input._type.dtype), input)
    )


def slice_dim(input: Tensor, dim: int, start: int, stop: int, step: int = 1) -> Tensor:
    """input[start:stop:step] along one dimension; the bounds lie within it."""
    shape = input._type.shape
    rank = len(shape)
    starts, stops, steps = [0] * rank, list(shape), [1] * rank
    starts[dim], stops[dim], steps[dim] = start, stop, step
    return apply(bind(ops.slice_, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps)), input)


def narrow(input: Tensor, dim: int, start: Tensor | int, length: int) -> Tensor:
    """`length` elements from `start` along a dimension (a view)."""
    if input.ndim == 0:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    dim = wrap_dim(dim, input.ndim)
    n, start = input._type.shape[dim], int(start)
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if not -n <= start <= n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n}], but got {start})")
    start = start + n if start < 0 else start
    if start + length > n:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return slice_dim(input, dim, start, start + length)


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The part at one place along a dimension, which goes away (a view)."""
    if input.ndim == 0:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    dim = wrap_dim(dim, input.ndim)
    n, index = input._type.shape[dim], int(index)
    if not -n <= index < n:
        raise IndexError(
            f"select(): index {index} out of range for tensor of size {list(input._type.shape)} at "
            f"dimension {dim}"
        )
    return squeeze(slice_dim(input, dim, index % n, index % n + 1), dim)


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The elements i, i + offset of two dimensions, as a new last dimension (a view)."""
    rank = input.ndim
    a, b = wrap_dim(dim1, rank), wrap_dim(dim2, rank)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    rest = [d for d in range(rank) if d not in (a, b)]
    x = permute(input, *rest, a, b)
    n, m = x._type.shape[-2:]
    row, column = max(-offset, 0), max(offset, 0)
    count = max(min(n - row, m - column), 0)
    lead = x._type.shape[:-2]
    if count == 0:
        return reshape(slice_dim(slice_dim(x, rank - 2, 0, 0), rank - 1, 0, 0), *lead, 0)
    strides = (*row_major_strides(x._type.shape)[:-2], m + 1)
    return apply(bind(ops.as_strided, shape=(*lead, count), strides=strides, offset=row * m + column), x)


@composite()
def diff(
    input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None
) -> Tensor:
    """The differences of neighbours along a dimension, taken n times, with something put before or after."""
    from .joining import cat

    if input.ndim == 0:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    dim = wrap_dim(dim, input.ndim)
    if prepend is not None or append is not None:
        input = cat([x for x in (prepend, input, append) if x is not None], dim)
    op = bind(ops.bit_xor if input._type.dtype is dtypes.bool_ else ops.sub)
    result = input
    for _ in range(n):
        left = max(result._type.shape[dim] - 1, 0)
        first = result._type.shape[dim] - left
        result = apply(op, narrow(result, dim, first, left), narrow(result, dim, 0, left))
    return _never_itself(result, input)


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """A vector as a diagonal of a matrix of zeros, or a diagonal of a matrix as a vector."""
    if input.ndim not in (1, 2):
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")
    return _on_diagonal(input, diagonal) if input.ndim == 1 else _diagonal_of(input, diagonal)


def _diagonal_of(x: Tensor, offset: int) -> Tensor:
    return apply(bind(ops.cast, dtype=x._type.dtype), diagonal(x, offset))


def _on_diagonal(x: Tensor, offset: int) -> Tensor:
    """Row-major, neighbours on a diagonal lie `size` zeros apart."""
    n = x._type.numel
    size = n + (offset if offset > 0 else -offset)
    start = offset if offset > 0 else -offset * size
    spread = n + max(n - 1, 0) * size
    op = bind(ops.pad, lo=(start,), hi=(size * size - start - spread,), interior=(size,))
    return reshape(apply(op, x, as_operand(0, x._type.dtype)), size, size)


def as_strided(
    input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """The elements at storage_offset + sum(index * stride) of the tensor's storage.

    storage_offset: where the tensor begins, by default. Raises RuntimeError where they reach outside of the
    storage, or if that was not made row-major and in this dtype.
    """
    base, begin, _ = input._view or (input, 0, None)
    offset = begin // input.itemsize if storage_offset is None else storage_offset
    if not base._type.is_contiguous or base.dtype is not input.dtype:
        raise RuntimeError("as_strided() needs a storage that was made row-major and in the tensor's dtype")
    if base.requires_grad != input.requires_grad:
        raise RuntimeError("as_strided() of a view that requires grad on its own is not supported")
    reach = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if 0 not in size and not 0 <= reach < base._type.numel:
        raise RuntimeError(
            f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and itemsize "
            f"{input.itemsize} requiring a storage size of {(reach + 1) * input.itemsize} are out of "
            "bounds for storage "
            f"of size {base.nbytes}"
        )
    return apply(bind(ops.as_strided, shape=tuple(size), strides=tuple(stride), offset=offset), base)


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """All windows of `size` elements, `step` apart, along a dimension; a window is a new last dimension."""
    dim = wrap_dim(dimension, input.ndim)
    n = input._type.shape[dim] if input.ndim else 1
    if size > n:
        raise RuntimeError(f"maximum size for tensor at dimension {dim} is {n} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    if input.ndim == 0:
        return slice_dim(reshape(input, 1), 0, 0, size)
    return apply(bind(ops.window, axes=(dim,), sizes=(size,), strides=(step,), dilations=(1,)), input)


moveaxis, swapaxes, swapdims = movedim, transpose, transpose
