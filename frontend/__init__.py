"""vitrify: a static-graph compiler with a dynamic-graph frontend.

    import vitrify as torch

Eager, PyTorch-style Python, and `@vitrify.compile` for the same Python as one compiled program.
"""

# ruff: noqa: I001, E402 - the order matters: the environment first, compositions after what they are made of
from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING

from . import _config
from ._config import get_num_threads, set_num_threads
from ._size import (
    Size, channels_last, contiguous_format, device, finfo, iinfo, layout, memory_format, preserve_format,
    strided,
)  # fmt: skip
from ._tensor import Tensor, is_tensor
from ._tape import (
    enable_grad, inference_mode, is_grad_enabled, is_inference_mode_enabled, no_grad, set_grad_enabled,
)  # fmt: skip
from ._promotion import (
    broadcast_shapes, can_cast, get_default_dtype, promote_types, result_type, set_default_dtype,
)  # fmt: skip
from ._functions import (
    Generator, abs, absolute, acos, acosh, add, addbmm, addcdiv, addcmul, addmm, addmv, addr, all,
    allclose, amax, amin, aminmax, any, arange, arccos, arccosh, arcsin, arcsinh, arctan, arctan2,
    arctanh, argmax, argmin, argsort, argwhere, as_strided, as_tensor, asarray, asin, asinh, atan, atan2,
    atanh, baddbmm, bernoulli, bincount, bitwise_and, bitwise_left_shift, bitwise_not, bitwise_or,
    bitwise_right_shift, bitwise_xor, bmm, broadcast_tensors, broadcast_to, cat, ceil, chain_matmul,
    chunk, clamp, clamp_max, clamp_min, clip, clone, concat, concatenate, cos, cosh, count_nonzero,
    cumsum, deg2rad, diag, diagonal, diff, digamma, div, divide, dot, einsum, empty, empty_like, eq,
    equal, erf, erfc, erfinv, exp, exp2, expm1, eye, fix, flatten, flip, fliplr, flipud, float_power,
    floor, floor_divide, fmod, frac, from_numpy, full, full_like, gather, ge, get_rng_state, greater,
    greater_equal, gt, hstack, hypot, index_add, index_copy, index_fill, index_put, index_select,
    initial_seed, inner, isclose, isfinite, isinf, isnan, isneginf, isposinf, kron, kthvalue, le, lerp, less,
    less_equal, lgamma, linear, linspace, log, log10, log1p, log2, log_softmax, logaddexp, logaddexp2,
    logical_and, logical_not, logical_or, logical_xor, logit, logspace, logsumexp, lt, manual_seed,
    masked_fill, masked_select, matmul, max, maximum, mean, median, meshgrid, min, minimum, mm, moveaxis,
    movedim, msort, mul, multinomial, multiply, mv, mvlgamma, nan_to_num, nanmean, nansum, narrow, ne, neg,
    negative, nonzero, norm, normal, not_equal, ones, ones_like, outer, permute, polygamma, positive,
    pow, prod, rad2deg, rand, rand_like, randint, randint_like, randn, randn_like, randperm, ravel,
    reciprocal, relu, remainder, repeat_interleave, reshape, roll, rot90, round, rsqrt, rsub, scatter,
    scatter_add, seed, select, set_rng_state, sgn, sigmoid, sign, signbit, sin, sinc, sinh, softmax,
    sort, split, sqrt, square, squeeze, stack, std, std_mean, sub, subtract, sum, swapaxes, swapdims, t,
    take, take_along_dim, tan, tanh, tensor, tensor_split, tensordot, tile, topk, trace, transpose, tril,
    tril_indices, triu, triu_indices, true_divide, trunc, unbind, unflatten, unique, unsqueeze, var,
    var_mean, vdot, vstack, where, xlogy, zeros, zeros_like,
)  # fmt: skip
from . import _arguments, _functions, _methods, _promotion, autograd, cuda
from ._print import set_printoptions
from vitrify.ir.dtypes import DType as dtype
from vitrify.ir.dtypes import bool_ as bool
from vitrify.ir.dtypes import (
    bfloat16, complex64, complex128, float16, float32, float64, int8, int16, int32, int64, uint8,
)  # fmt: skip

float, double, half = float32, float64, float16
int, long, short = int32, int64, int16

_arguments.parse_all(globals(), _functions, _promotion)
if _methods.native is not None:
    from ._native_methods import functions as _native_functions

    globals().update(_native_functions())

from ._compile import CaptureWarning, compile
from ._explain import explain

from vitrify.tracer.errors import CaptureError
from math import e, inf, nan, pi

__version__ = "0.1.0"

# The libraries are loaded when they are first used: an import of vitrify alone is that much faster.
if _TYPE_CHECKING:
    from . import linalg, nn, optim, special, utils, vision
    from ._save import load, save


def __getattr__(name: str) -> object:
    if name in ("linalg", "nn", "optim", "special", "utils", "vision"):
        return _importlib.import_module("." + name, __name__)
    if name in ("load", "save"):
        return getattr(_importlib.import_module("._save", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "linalg", "nn", "optim", "special", "utils", "vision", "load", "save"})
