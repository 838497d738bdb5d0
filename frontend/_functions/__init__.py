"""The public functions, by subject: every one is a composition of primitives."""

# ruff: noqa: F401
from __future__ import annotations

from .casting import clone
from .compare import (
    allclose, eq, equal, ge, greater, greater_equal, gt, isclose, isfinite, isinf, isnan, isneginf,
    isposinf, le, less, less_equal, logical_and, logical_not, logical_or, logical_xor, lt, masked_fill, ne,
    not_equal, signbit, where,
)  # fmt: skip
from .creation import (
    arange, as_tensor, asarray, empty, empty_like, eye, from_numpy, full, full_like, linspace, logspace,
    ones, ones_like, tensor, tril, tril_indices, triu, triu_indices, zeros, zeros_like,
)  # fmt: skip
from .einstein import einsum
from .gathering import (
    argsort, bincount, gather, index_add, index_copy, index_fill, index_select, kthvalue, median, scatter,
    scatter_add, sort, take, take_along_dim, topk, unique,
)  # fmt: skip
from .indexing import argwhere, index_put, masked_select, nonzero
from .joining import (
    cat, chunk, concat, concatenate, hstack, meshgrid, split, stack, tensor_split, unbind, vstack,
)  # fmt: skip
from .linalg import (
    addbmm, addmm, addmv, addr, baddbmm, bmm, chain_matmul, dot, kron, linear, matmul, mm, mv, outer,
    tensordot, trace,
)  # fmt: skip
from .movement import (
    as_strided, broadcast_tensors, broadcast_to, diagonal, flatten, flip, fliplr, flipud, moveaxis, movedim,
    narrow, permute, ravel, repeat_interleave, reshape, roll, rot90, select, squeeze, swapaxes, swapdims, t,
    tile, transpose, unflatten, unsqueeze,
)  # fmt: skip
from .pointwise import (
    abs, absolute, add, addcdiv, addcmul, bitwise_and, bitwise_left_shift, bitwise_not, bitwise_or,
    bitwise_right_shift, bitwise_xor, ceil, clamp, clamp_max, clamp_min, clip, cos, cosh, div, divide, erf,
    exp, exp2, expm1, fix, float_power, floor, floor_divide, fmod, frac, hypot, lerp, log, log10, log1p,
    log2, logaddexp, maximum, minimum, mul, multiply, nan_to_num, neg, negative, positive, pow, reciprocal,
    relu, remainder, round, rsqrt, rsub, sigmoid, sign, sin, sinh, sqrt, square, sub, subtract, tan, tanh,
    true_divide, trunc,
)  # fmt: skip
from .random import (
    Generator, bernoulli, default_generator, get_rng_state, initial_seed, manual_seed, multinomial, normal,
    rand, rand_like, randint, randint_like, randn, randn_like, randperm, seed, set_rng_state,
)  # fmt: skip
from .reductions import (
    all, amax, amin, aminmax, any, argmax, argmin, count_nonzero, cumsum, logsumexp, max, mean, min,
    nanmean, nansum, norm, prod, std, std_mean, sum, var, var_mean,
)  # fmt: skip
from .softmaxes import log_softmax, softmax
