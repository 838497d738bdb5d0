"""The meanings of the primitives against PyTorch's functions of the same name."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from vitrify.ir import dtypes, ops
from vitrify.ir.contraction import contract_spec
from vitrify.ir.interpreter import evaluate
from vitrify.ir.opdef import bind

from tests.support import assert_same_bits

SPECIAL = np.array(
    [
        0,
        -0.0,
        1,
        -1,
        0.5,
        1.5,
        2.5,
        -2.5,
        np.inf,
        -np.inf,
        np.nan,
        1e-45,
        3e38,
        -3e38,
        88.8,
        -104,
        1e-40,
        20,
        0.3,
        7,
    ],
    np.float32,
)


def run(opdef, *arrays, **attrs):
    return evaluate(bind(opdef, **attrs), [np.asarray(a) for a in arrays])


def close(got, want, ulp):
    """Within so many units of the last place of the expected value; NaN where expected."""
    want = want.numpy()
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    eps = np.finfo(want.dtype).eps
    with np.errstate(all="ignore"):
        near = np.abs(got - want) <= ulp * eps * np.abs(want) + np.finfo(want.dtype).tiny
    assert np.all(near | (got == want) | (np.isnan(got) & np.isnan(want)))


def random(*shape, dtype=np.float32, scale=1.0):
    return (np.random.default_rng(sum(shape)).normal(size=shape) * scale).astype(dtype)


UNARY = {
    "exp": torch.exp,
    "log": torch.log,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "rsqrt": torch.rsqrt,
    "sigmoid": torch.sigmoid,
    "softplus": lambda x: F.softplus(x, threshold=1000),
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}
EXACT = {
    "sqrt": lambda x: torch.sqrt(x.double()).to(x.dtype),
    "abs": torch.abs,
    "neg": torch.neg,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "trunc": torch.trunc,
    "round": torch.round,
}


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_elementary_functions(name, dtype):
    """PyTorch's own error is a few ulp, and grows without bound in the negative tails of gelu."""
    x = random(3000, dtype=dtype, scale=8)
    if name.startswith("gelu"):
        x = np.clip(x, -2, 10)
    ulp = 64 if name.startswith("gelu") else 8
    close(run(ops.ALL[name], x), UNARY[name](torch.tensor(x)), ulp)


@pytest.mark.parametrize("name", EXACT)
def test_exact_functions(name):
    for x in (SPECIAL, SPECIAL.astype(np.float64)):
        assert_same_bits(run(ops.ALL[name], x), EXACT[name](torch.tensor(x)).numpy())


BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "rem": torch.remainder,
    "eq": torch.eq,
    "ne": torch.ne,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
}


@pytest.mark.parametrize("name", BINARY)
def test_exact_functions_of_two(name):
    x, y = (a.reshape(-1) for a in np.meshgrid(SPECIAL, SPECIAL))
    if name == "rem":
        # a zero divisor, an infinite one and subnormal quotients differ between PyTorch's own kernels
        fine = np.isfinite(x) & np.isfinite(y) & (np.abs(y) > 1e-3) & (np.abs(x) < 1e5)
        x, y = x[fine], y[fine]
    assert_same_bits(run(ops.ALL[name], x, y), BINARY[name](torch.tensor(x), torch.tensor(y)).numpy())


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_integer_functions_of_two(dtype):
    rng = np.random.default_rng(0)
    info = np.iinfo(dtype)
    x, y = (rng.integers(info.min, info.max, 500, dtype, endpoint=True) for _ in range(2))
    y[y == 0] = 3
    tx, ty = torch.tensor(x), torch.tensor(y)
    for name, function in {
        "add": torch.add,
        "sub": torch.sub,
        "mul": torch.mul,
        "floor_div": torch.floor_divide,
        "rem": torch.remainder,
        "bit_and": torch.bitwise_and,
        "bit_or": torch.bitwise_or,
        "bit_xor": torch.bitwise_xor,
        "maximum": torch.maximum,
        "minimum": torch.minimum,
    }.items():
        assert_same_bits(run(ops.ALL[name], x, y), function(tx, ty).numpy(), name)
    small = (y % 7 + 7) % 7
    for name, function in {
        "pow": torch.pow,
        "shift_left": torch.bitwise_left_shift,
        "shift_right": torch.bitwise_right_shift,
    }.items():
        small = small.astype(dtype)
        assert_same_bits(run(ops.ALL[name], x, small), function(tx, torch.tensor(small)).numpy(), name)


def test_power():
    x, y = (a.reshape(-1) for a in np.meshgrid(SPECIAL, SPECIAL))
    close(run(ops.pow_, x, y), torch.pow(torch.tensor(x), torch.tensor(y)), 4)


@pytest.mark.parametrize("target", ["int32", "int64", "uint8", "bool", "float64"])
def test_casts(target):
    x = np.array([0, -0.0, 1.9, -1.9, 100.5, 3e5, 0.2, 2**24 + 1], np.float32)
    x = x[(x >= 0) & (x < 256)] if target == "uint8" else x
    dtype = dtypes.dtype_of(target)
    assert_same_bits(run(ops.cast, x, dtype=dtype), torch.tensor(x).to(getattr(torch, target)).numpy())


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (1, 2)])
def test_reductions(axes):
    x = random(5, 17, 33, dtype=np.float64)
    order = "lanes" if 2 in axes else "rows"
    t = torch.tensor(x)
    close(run(ops.reduce_sum, x, axes=axes, order=order), t.sum(axes), 2**12)
    assert_same_bits(run(ops.reduce_max, x, axes=axes, order=order), t.amax(axes).numpy())
    assert_same_bits(run(ops.reduce_min, x, axes=axes, order=order), t.amin(axes).numpy())
    if len(axes) == 1:
        assert_same_bits(run(ops.argmax, x, axes=axes, order=order), t.argmax(axes[0]).numpy())
        assert_same_bits(run(ops.argmin, x, axes=axes, order=order), t.argmin(axes[0]).numpy())
        close(run(ops.reduce_prod, x, axes=axes, order=order), t.prod(axes[0]), 2**12)


def test_a_nan_is_the_largest_and_the_smallest():
    x = np.array([[1.0, np.nan, np.inf, np.nan], [3, 1, 3, 1]])
    t = torch.tensor(x)
    assert run(ops.argmax, x, axes=(1,), order="lanes").tolist() == t.argmax(1).tolist()
    assert run(ops.argmin, x, axes=(1,), order="lanes").tolist() == t.argmin(1).tolist()
    assert_same_bits(run(ops.reduce_max, x, axes=(1,), order="lanes"), t.amax(1).numpy())


def test_cumulative_sum():
    x = np.random.default_rng(0).integers(-9, 9, (4, 20)).astype(np.float32)
    assert_same_bits(run(ops.cumsum, x, axis=1), torch.tensor(x).cumsum(1).numpy())


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 1), (3, 1, 2, 1), (1, 1, 1, 4)],
)
def test_convolution(stride, padding, dilation, groups):
    """Channels last, with groups = channels depthwise. Small integers, so that every order gives the same."""
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, (2, 11, 9, 4)).astype(np.float32)
    w = rng.integers(-4, 5, (3, 2, 4 // groups, 4)).astype(np.float32)
    want = F.conv2d(
        torch.tensor(x).permute(0, 3, 1, 2),
        torch.tensor(w).permute(3, 2, 0, 1),
        None,
        stride,
        padding,
        dilation,
        groups,
    ).permute(0, 2, 3, 1)
    at = [f"{stride}*o{a} + {dilation}*k{a} - {padding}" for a in "hw"]
    sizes = {"oh": want.shape[1], "ow": want.shape[2]}
    if groups == 1:
        spec = contract_spec(f"n, {at[0]}, {at[1]}, i", "kh kw i c", "n oh ow c", "kh kw i", sizes)
        got = run(ops.contract, x, w, spec=spec)
    else:
        spec = contract_spec(f"n, {at[0]}, {at[1]}, c", "kh kw c", "n oh ow c", "kh kw", sizes)
        got = run(ops.contract, x, w[:, :, 0], spec=spec)
    assert_same_bits(got, want.contiguous().numpy())


@pytest.mark.parametrize(("size", "stride", "dilation"), [(2, 2, 1), (3, 1, 1), (3, 2, 2)])
def test_pooling_is_windows_reduced(size, stride, dilation):
    x = random(2, 3, 10, 11)
    windows = run(
        ops.window, x, axes=(2, 3), sizes=(size,) * 2, strides=(stride,) * 2, dilations=(dilation,) * 2
    )
    got = run(ops.reduce_max, windows, axes=(4, 5), order="sequential")
    assert_same_bits(got, F.max_pool2d(torch.tensor(x), size, stride, 0, dilation).numpy())
    if dilation == 1:
        mean = run(ops.reduce_sum, windows, axes=(4, 5), order="sequential") / np.float32(size * size)
        close(mean, F.avg_pool2d(torch.tensor(x), size, stride), 64)


@pytest.mark.parametrize(("size", "stride", "dilation"), [(2, 1, 1), (3, 2, 1), (2, 2, 2)])
def test_fold(size, stride, dilation):
    rng = np.random.default_rng(0)
    places = ((9 - dilation * (size - 1) - 1) // stride + 1, (8 - dilation * (size - 1) - 1) // stride + 1)
    ct = rng.integers(-9, 9, (2, 3, *places, size, size)).astype(np.float32)
    columns = torch.tensor(ct).permute(0, 1, 4, 5, 2, 3).reshape(2, 3 * size * size, -1)
    want = F.fold(columns, (9, 8), size, dilation, 0, stride)
    got = run(ops.fold, ct, shape=(9, 8), axes=(2, 3), strides=(stride,) * 2, dilations=(dilation,) * 2)
    assert_same_bits(got, want.numpy())


def test_gather_and_scatter():
    rng = np.random.default_rng(0)
    x, i, j = random(6, 7, 3), rng.integers(-6, 6, (4, 2)), rng.integers(-7, 7, (4, 2))
    t, ti, tj = torch.tensor(x), torch.tensor(i), torch.tensor(j)
    assert_same_bits(run(ops.gather, x, i, j, axes=(0, 1)), t[ti, tj].numpy())
    assert_same_bits(run(ops.gather, x, j, axes=(1,)), t[:, tj].permute(1, 2, 0, 3).numpy())
    values = rng.integers(-9, 9, (4, 2, 3)).astype(np.float32)
    base = rng.integers(-9, 9, (6, 7, 3)).astype(np.float32)
    want = torch.tensor(base).index_put((ti, tj), torch.tensor(values), accumulate=True)
    assert_same_bits(run(ops.scatter_add, base, values, i, j, axes=(0, 1)), want.numpy())


@pytest.mark.parametrize(
    ("lhs", "rhs", "spec", "einsum"),
    [
        ((4, 5), (5, 6), "m k|k n|m n|k", "mk,kn->mn"),
        ((3, 4, 5), (3, 6, 5), "b m k|b n k|b m n|k", "bmk,bnk->bmn"),
        ((3, 4, 5), (4, 3), "a b c|b a|c|a b", "abc,ba->c"),
    ],
)
def test_contractions(lhs, rhs, spec, einsum):
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-9, 9, shape).astype(np.float64) for shape in (lhs, rhs))
    got = run(ops.contract, x, y, spec=contract_spec(*spec.split("|")))
    assert_same_bits(got, torch.einsum(einsum, torch.tensor(x), torch.tensor(y)).contiguous().numpy())
