"""Matrix products: every one is a single contraction, whatever the ranks and transpositions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vitrify.ir import dtypes, ops
from vitrify.ir.contraction import ContractSpec
from vitrify.ir.expr import Dim, symbol
from vitrify.ir.opdef import BoundOp, bind
from vitrify.ir.strided import StridedType

from .._composite import composite
from .._dispatch import apply1, apply2, remembered
from .._promotion import Number, broadcast_shapes
from .._tensor import Tensor, wrap_dim
from .movement import reshape
from .pointwise import TYPE_NAMES, add, check_tensor, mul, not_implemented

Labels = Sequence[str]


def contract(x: Tensor, y: Tensor, lhs: Labels, rhs: Labels, out: Labels, over: Labels) -> Tensor:
    """sum over `over` of x[lhs] * y[rhs]: one label per dimension."""
    _check_dtypes(x._type, y._type)
    return in_dtype_of(x, apply2(contraction(lhs, rhs, out, over), x, y))


def in_dtype_of(x: Tensor, sums: Tensor) -> Tensor:
    """The sums of a contraction in its operands' dtype: those of narrow types come in a wider one."""
    dtype = x._type.dtype
    return sums if sums._type.dtype is dtype else apply1(bind(ops.cast, dtype=dtype), sums)


def contraction(lhs: Labels, rhs: Labels, out: Labels, over: Labels, within: Dim | None = None) -> BoundOp:
    """The op of `contract`; within: of the steps at which this is not negative."""
    maps = tuple(map(symbol, lhs)), tuple(map(symbol, rhs))
    spec = ContractSpec(*maps, tuple(out), tuple(over), within=within)
    return bind(ops.contract, spec=spec)


def _check_dtypes(x: StridedType, y: StridedType) -> None:
    if x.dtype is dtypes.bool_ is y.dtype:
        raise not_implemented("addmm_impl_cpu_", dtypes.bool_)
    if x.dtype is not y.dtype:
        names = [_C_NAMES.get(v.dtype.name, TYPE_NAMES[v.dtype]) for v in (x, y)]
        raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {names[0]} != {names[1]}")


_C_NAMES = {
    "float32": "float",
    "float64": "double",
    "int64": "long",
    "int32": "int",
    "uint8": "unsigned char",
}


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product: of vectors the dot product, of more dimensions matrix by matrix, broadcasting the
    rest.

    >>> vitrify.matmul(vitrify.ones(5, 2, 3), vitrify.ones(3, 4)).shape
    vitrify.Size([5, 2, 4])
    """
    check_tensor(input, "matmul")
    check_tensor(other, "matmul")
    x, y = input, other
    if x.ndim == 0 or y.ndim == 0:
        raise RuntimeError(
            f"both arguments to matmul need to be at least 1D, but they are {x.ndim}D and {y.ndim}D"
        )
    return _multiplied(x, y, None)


def matmul_within(x: Tensor, y: Tensor, within: Dim) -> Tensor:
    """`matmul` of two or more dimensions, summing only the steps at which `within`, an expression over the
    row m, the column n and the step k, is not negative."""
    return _multiplied(x, y, within)


def _multiplied(x: Tensor, y: Tensor, within: Dim | None) -> Tensor:
    of_x, of_y, op = _product(x._type, y._type, within)
    result = apply2(op, x if of_x is None else apply1(of_x, x), y if of_y is None else apply1(of_y, y))
    return in_dtype_of(x, result)


@remembered
def _product(
    x: StridedType, y: StridedType, within: Dim | None
) -> tuple[BoundOp | None, BoundOp | None, BoundOp]:
    """A matrix product: for each operand how to leave out batch dimensions that broadcast, and the
    contraction.
    """
    _check_dtypes(x, y)
    _check_inner(x.shape, y.shape)
    m = ["m"] if len(x.shape) > 1 else []
    n = ["n"] if len(y.shape) > 1 else []
    lead = broadcast_shapes(x.shape[:-2], y.shape[:-2])
    labels = [f"b{i}" for i in range(len(lead))]
    of_x, lead_x = _without_ones(x.shape, lead, labels)
    of_y, lead_y = _without_ones(y.shape, lead, labels)
    op = contraction([*lead_x, *m, "k"], [*lead_y, "k", *n], [*labels, *m, *n], ["k"], within)
    return of_x, of_y, op


def _check_inner(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    k = b[-2] if len(b) > 1 else b[0]
    if a[-1] == k:
        return
    if len(a) == len(b) == 1:
        raise RuntimeError(
            f"inconsistent tensor size, expected tensor [{a[0]}] and src [{b[0]}] to have the same number "
            "of elements, "
            f"but got {a[0]} and {b[0]} elements respectively"
        )
    if len(b) == 1:
        rows = math.prod(a[:-1])
        raise RuntimeError(f"size mismatch, got input ({rows}), mat ({rows}x{a[-1]}), vec ({b[0]})")
    if len(a) > 2 and len(b) > 2 or len(a) <= 2 < len(b):
        batch = math.prod(broadcast_shapes(a[:-2], b[:-2]))
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{batch}, {a[-1]}] but got: "
            f"[{batch}, {k}]."
        )
    rows = math.prod(a[:-1])
    raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({rows}x{a[-1]} and {b[-2]}x{b[-1]})")


def _without_ones(
    shape: tuple[int, ...], lead: tuple[int, ...], labels: list[str]
) -> tuple[BoundOp | None, list[str]]:
    """Labels of an operand's batch dimensions; those of size 1 that broadcast are left out."""
    have = shape[:-2]
    shift = len(lead) - len(have)
    kept = [i for i, n in enumerate(have) if n == lead[i + shift]]
    names = [labels[i + shift] for i in kept]
    if len(kept) == len(have):
        return None, names
    return bind(ops.reshape, shape=(*(have[i] for i in kept), *shape[len(have) :])), names


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices. Raises RuntimeError for other ranks."""
    for name, x in (("self", input), ("mat2", mat2)):
        if x.ndim != 2:
            raise RuntimeError(f"{name} must be a matrix")
    return matmul(input, mat2)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices of equal length."""
    for name, x in (("batch1", input), ("batch2", mat2)):
        if x.ndim != 3:
            raise RuntimeError(f"{name} must be a 3D tensor")
    _check_dtypes(input._type, mat2._type)
    a, b = input._type.shape, mat2._type.shape
    if b[:2] != (a[0], a[2]):
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{a[0]}, {a[2]}] but got: "
            f"[{b[0]}, {b[1]}]."
        )
    return contract(input, mat2, "bmk", "bkn", "bmn", "k")


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix and a vector."""
    if input.ndim != 2 or vec.ndim != 1:
        raise RuntimeError(f"vector + matrix @ vector expected, got 1, {input.ndim}, {vec.ndim}")
    return matmul(input, vec)


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The sum of the products of two vectors' elements."""
    if input.ndim != 1 or tensor.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {input.ndim}D and {tensor.ndim}D tensors")
    if input._type.dtype is not tensor._type.dtype:
        raise RuntimeError(
            "dot : expected both vectors to have same dtype, but found "
            f"{TYPE_NAMES[input.dtype]} and {TYPE_NAMES[tensor.dtype]}"
        )
    return matmul(input, tensor)


def vdot(input: Tensor, other: Tensor) -> Tensor:
    """The sum of the products of two vectors' elements, the first ones conjugated. Raises RuntimeError for
    complex ones, which have no conjugate yet."""
    if input._type.dtype.is_complex:
        raise not_implemented("vdot", input._type.dtype)
    return dot(input, other)


def inner(input: Tensor, other: Tensor) -> Tensor:
    """The sums of products along the last dimension of both; of a scalar its multiples.

    >>> vitrify.inner(vitrify.ones(2, 3), vitrify.ones(4, 3)).shape
    vitrify.Size([2, 4])
    """
    if input.ndim == 0 or other.ndim == 0:
        return mul(input, other)
    a, b = input._type.shape, other._type.shape
    if a[-1] != b[-1]:
        raise RuntimeError(
            "inner() the last dimension must match on both input tensors but got shapes "
            f"{list(a)} and {list(b)}"
        )
    return tensordot(input, other, ([-1], [-1]))


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """Every product of an element of one vector and one of another."""
    if input.ndim != 1 or vec2.ndim != 1:
        which, x = ("self", input) if input.ndim != 1 else ("vec2", vec2)
        raise RuntimeError(f"outer: Expected 1-D argument {which}, but got {x.ndim}-D")
    return mul(reshape(input, -1, 1), vec2)


@composite("mat1/mat2 mat2/mat1", small=False)
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """beta * input + alpha * (mat1 @ mat2)."""
    return _scaled_sum(input, mm(mat1, mat2), beta, alpha)


@composite("mat/vec vec/mat", small=False)
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """beta * input + alpha * (mat @ vec)."""
    return _scaled_sum(input, mv(mat, vec), beta, alpha)


@composite("batch1/batch2 batch2/batch1", small=False)
def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """beta * input + alpha * (the sum of the products of two batches of matrices)."""
    return _scaled_sum(input, contract(batch1, batch2, "bmk", "bkn", "mn", "bk"), beta, alpha)


@composite("batch1/batch2 batch2/batch1", small=False)
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """beta * input + alpha * the products of two batches of matrices."""
    return _scaled_sum(input, bmm(batch1, batch2), beta, alpha)


@composite("vec1/vec2 vec2/vec1")
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """beta * input + alpha * outer(vec1, vec2)."""
    return _scaled_sum(input, outer(vec1, vec2), beta, alpha)


def _scaled_sum(x: Tensor, product: Tensor, beta: Number, alpha: Number) -> Tensor:
    return add(x if beta == 1 else mul(x, beta), product if alpha == 1 else mul(product, alpha))


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias, for weight [out, in] (or [in]) and input [..., in]."""
    product = in_dtype_of(input, apply2(_layer(input._type, weight._type), input, weight))
    return product if bias is None else add(product, bias)


@remembered
def _layer(x: StridedType, weight: StridedType) -> BoundOp:
    _check_dtypes(x, weight)
    if not x.shape or x.shape[-1] != weight.shape[-1]:
        rows = math.prod(x.shape[:-1])
        columns = "x".join(map(str, reversed(weight.shape)))
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({rows}x{(x.shape or (1,))[-1]} and {columns})"
        )
    lead = [f"b{i}" for i in range(len(x.shape) - 1)]
    n = ["n"] if len(weight.shape) > 1 else []
    return contraction([*lead, "k"], [*n, "k"], [*lead, *n], ["k"])


def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """The sum of products over pairs of dimensions: the last `dims` of a with the first of b, or two
    lists."""
    if isinstance(dims, int):
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        of_a, of_b = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        of_a, of_b = ([d] if isinstance(d, int) else list(d) for d in dims)
    of_a, of_b = [wrap_dim(d, a.ndim) for d in of_a], [wrap_dim(d, b.ndim) for d in of_b]
    if len(of_a) != len(of_b):
        raise RuntimeError("both dimension lists should have same length")
    for i, j in zip(of_a, of_b, strict=True):
        if a._type.shape[i] != b._type.shape[j]:
            raise RuntimeError(
                f"contracted dimensions need to match, but first has size {a._type.shape[i]} in dim {i} "
                "and second has "
                f"size {b._type.shape[j]} in dim {j}"
            )
    lhs = [f"a{i}" for i in range(a.ndim)]
    pairs = dict(zip(of_b, of_a, strict=True))
    rhs = [f"a{pairs[j]}" if j in pairs else f"b{j}" for j in range(b.ndim)]
    over = [lhs[i] for i in of_a]
    return contract(a, b, lhs, rhs, [v for v in lhs + rhs if v not in over], over)


@composite()
def trace(input: Tensor) -> Tensor:
    """The sum of a matrix's diagonal."""
    from .movement import diagonal

    if input.ndim != 2:
        raise RuntimeError("trace: expected a matrix")
    return diagonal(input).sum()


def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of matrices, in the order that takes least work."""
    if not matrices:
        raise RuntimeError("chain_matmul(): Expected one or more matrices")
    for matrix in matrices:
        if matrix.ndim != 2:
            raise RuntimeError(f"Tensor dimension is {matrix.ndim}, expected 2 instead.")
    return _chained(matrices)


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of two or more matrices in the order that takes least work; the first and the last may be
    vectors."""
    if len(tensors) < 2:
        raise RuntimeError("multi_dot(): expected at least 2 tensors but got " + str(len(tensors)))
    first, *between, last = tensors
    for at, x in enumerate(between, start=1):
        if x.ndim != 2:
            raise RuntimeError(f"multi_dot(): tensor {at} must be 2D but got {x.ndim}D")
    for name, x in (("first", first), ("last", last)):
        if x.ndim not in (1, 2):
            raise RuntimeError(f"multi_dot(): the {name} tensor must be 1D or 2D but got {x.ndim}D")
    a = reshape(first, 1, -1) if first.ndim == 1 else first
    b = reshape(last, -1, 1) if last.ndim == 1 else last
    shape = (*first._type.shape[:-1], *last._type.shape[1:])
    return reshape(_chained([a, *between, b]), *shape)


def _chained(matrices: Sequence[Tensor]) -> Tensor:
    """Source: Cormen et al., "Introduction to Algorithms", matrix-chain multiplication."""
    sizes = [*(m._type.shape[0] for m in matrices), matrices[-1]._type.shape[1]]
    best: dict[tuple[int, int], tuple[int, int]] = {(i, i): (0, i) for i in range(len(matrices))}
    for length in range(1, len(matrices)):
        for i in range(len(matrices) - length):
            j = i + length
            best[i, j] = min(
                (best[i, s][0] + best[s + 1, j][0] + sizes[i] * sizes[s + 1] * sizes[j + 1], s)
                for s in range(i, j)
            )

    def product(i: int, j: int) -> Tensor:
        if i == j:
            return matrices[i]
        at = best[i, j][1]
        return mm(product(i, at), product(at + 1, j))

    return product(0, len(matrices) - 1)


@composite("input/other other/input")
def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product of two tensors; one of lower rank is taken to begin with dimensions of size 1."""
    rank = max(input.ndim, other.ndim)
    a, b = ((1,) * (rank - x.ndim) + x._type.shape for x in (input, other))
    product = mul(
        reshape(input, *(v for n in a for v in (n, 1))), reshape(other, *(v for n in b for v in (1, n)))
    )
    return reshape(product, *(n * m for n, m in zip(a, b, strict=True)))
