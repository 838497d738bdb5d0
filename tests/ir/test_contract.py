"""Contractions against their definition, element by element."""

from dataclasses import replace

import numpy as np
import pytest
from vitrify.ir import ops
from vitrify.ir.contraction import contract_spec, parse_contract_spec
from vitrify.ir.dtypes import bfloat16
from vitrify.ir.errors import IRTypeError
from vitrify.ir.expr import evaluate as evaluate_dim
from vitrify.ir.expr import parse_expr
from vitrify.ir.interpreter import evaluate
from vitrify.ir.opdef import bind
from vitrify.ir.ops import ordered
from vitrify.ir.ops.fma import fma
from vitrify.ir.types import TensorType

from tests.support import assert_same_bits


def run(opdef, *arrays, **attrs):
    return evaluate(bind(opdef, **attrs), [np.asarray(a) for a in arrays])


def naive_contract(lhs, rhs, spec):
    """Element by element, straight from the definition, the sum over k in one chain."""
    sizes = spec.label_extents(lhs.shape, rhs.shape)
    out = np.zeros([sizes[n] for n in spec.out], lhs.dtype)
    for at in np.ndindex(*out.shape):
        env = dict(zip(spec.out, at, strict=True))
        total = np.zeros(1, lhs.dtype)
        for k in np.ndindex(*(sizes[n] for n in spec.over)):
            env.update(zip(spec.over, k, strict=True))
            if spec.within is not None and evaluate_dim(spec.within, env) < 0:
                continue
            if not all(0 <= evaluate_dim(index, env) < size for index, size in spec.inside):
                continue
            if not (_is_inside(lhs, spec.lhs, env) and _is_inside(rhs, spec.rhs, env)):
                continue
            total = fma(_at(lhs, spec.lhs, env), _at(rhs, spec.rhs, env), total)
        out[at] = total[0]
    return out


def _at(array, maps, env):
    return np.array([array[tuple(evaluate_dim(m, env) for m in maps)]], array.dtype)


def _is_inside(array, maps, env):
    return all(0 <= evaluate_dim(m, env) < n for m, n in zip(maps, array.shape, strict=True))


@pytest.mark.parametrize(
    ("lhs", "rhs", "spec"),
    [
        ((3, 4), (4, 5), contract_spec("m k", "k n", "m n", "k")),
        ((4, 3), (5, 4), contract_spec("k m", "n k", "n m", "k")),
        ((2, 3, 4), (2, 4), contract_spec("b m k", "b k", "m b", "k")),
        ((3,), (4,), contract_spec("m", "n", "n m", "")),
        ((3,), (3,), contract_spec("k", "k", "", "k")),
        ((3, 4), (4, 3), contract_spec("a b", "b a", "", "b a")),
        ((0, 4), (4, 2), contract_spec("m k", "k n", "m n", "k")),
        ((2, 0), (0, 2), contract_spec("m k", "k n", "m n", "k")),
        ((), (), contract_spec("", "", "", "")),
        ((2, 5, 3), (3, 3, 2),
         contract_spec("n, 2*o + k - 1, c", "k, c, d", "n o d", "k c", {"o": 3})),
        ((1, 6, 7, 2), (3, 2, 2),
         contract_spec("n, i + 2*p - 1, j + q, c", "p, q, c", "n i j c", "p q", {"i": 4, "j": 6})),
        ((3, 4), (4, 5), contract_spec("m k", "k n", "m n", "k", within="m - k")),
        ((3, 4), (4, 5), contract_spec("m k", "k n", "m n", "k", within="k - n - 1")),
        ((3, 4), (4, 5), contract_spec("m k", "k n", "m n", "k", within="n - m")),
        ((3, 4), (4, 5), contract_spec("m k", "k n", "m n", "k", within="5 - m - n - k")),
        ((3, 4), (4, 5), contract_spec("m k", "k n", "m n", "k", within="-9")),
        ((2, 3, 4), (4, 2), contract_spec("a m k", "k b", "m b", "a k", within="a + m - k")),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_contractions_are_one_chain(lhs, rhs, spec, dtype):
    rng = np.random.default_rng(0)
    x, y = (np.asarray(rng.normal(size=s) * 10).astype(dtype) for s in (lhs, rhs))
    assert_same_bits(run(ops.contract, x, y, spec=spec), naive_contract(x, y, spec))


def test_what_takes_no_part_is_not_seen():
    x = np.array([[1, np.nan], [1, 2]], np.float32)
    y = np.array([[3], [np.inf]], np.float32)
    got = run(ops.contract, x, y, spec=contract_spec("m k", "k n", "m n", "k", within="m - k"))
    assert_same_bits(got, np.array([[3], [np.inf]], np.float32))
    assert_same_bits(
        run(ops.contract, x, y, spec=contract_spec("m k", "k n", "m n", "k", within="-1 - m - n")),
        np.zeros((2, 1), np.float32),
    )


@pytest.mark.parametrize("within", ["2*m - k", "m*k", "(m // 2) - k"])
def test_only_sums_of_labels_say_what_takes_part(within):
    spec = contract_spec("m k", "k n", "m n", "k", within=within)
    with pytest.raises(IRTypeError, match="no sum of labels"):
        run(ops.contract, np.ones((2, 2)), np.ones((2, 2)), spec=spec)


def test_pairs_of_steps_take_part_whole():
    x = TensorType(bfloat16, (2, 2))
    with pytest.raises(IRTypeError, match="all of which take part"):
        ops.contract.result_types(x, x, spec=contract_spec("m k", "k n", "m n", "k", within="m - k"))


def test_superblocks_are_cut_at_inner_axes():
    ranges = {
        (3, 3, 512): [(0, 3072), (3072, 4608)],
        (2, 3, 3, 512): [(0, 3072), (3072, 4608), (4608, 7680), (7680, 9216)],
        (10000,): [(0, 4096), (4096, 8192), (8192, 10000)],
        (2, 5000): [(0, 4096), (4096, 5000), (5000, 9096), (9096, 10000)],
        (4096,): [(0, 4096)],
        (): [(0, 1)],
        (3, 0): [],
    }
    for extents, want in ranges.items():
        assert list(ordered.superblock_ranges(extents)) == want


def test_long_contractions_add_their_superblocks_in_order():
    x = np.random.default_rng(0).normal(size=(2, 9000)).astype(np.float32)
    got = run(ops.contract, x[0], x[1], spec=contract_spec("k", "k", "", "k"))
    parts = []
    for at in range(0, 9000, 4096):
        total = np.zeros((), np.float32)
        for a, b in zip(x[0, at : at + 4096], x[1, at : at + 4096], strict=True):
            total = fma(np.asarray(a), np.asarray(b), total)
        parts.append(total)
    assert_same_bits(got, (parts[0] + parts[1]) + parts[2])


def padded(o, k):
    """The spec of a convolution of five pixels with a padding of one, and that of what it becomes."""
    spec = contract_spec("n, o + k - 1", "k", "n o", "k", {"o": o})
    moved = contract_spec("n, o + k", "k", "n o", "k", {"o": o})
    return spec, replace(moved, inside=((parse_expr("o + k - 1"), 5),))


def test_steps_outside_of_an_operand_take_no_part():
    """An infinite weight makes no NaN where it meets padding, and a sum stays -0."""
    x, w = np.full((1, 5), -1e-30, np.float32), np.array([np.inf, 1e-30, np.nan], np.float32)
    spec, moved = padded(5, 3)
    assert np.isnan(run(ops.contract, x, w, spec=spec)[0, :4]).all()
    assert run(ops.contract, x, w, spec=spec)[0, 4] == -np.inf
    assert_same_bits(
        run(ops.contract, x, np.array([np.inf, 1e-30], np.float32), spec=padded(1, 2)[0]),
        np.array([[-0.0]], np.float32),
    )
    room = np.pad(x, ((0, 0), (1, 1)), constant_values=7)
    assert_same_bits(run(ops.contract, room, w, spec=moved), run(ops.contract, x, w, spec=spec))


def test_conditions_are_printed_and_read():
    spec = padded(5, 3)[1]
    text = str(spec)
    assert text == "[n, k + o] * [k] -> [n, o] over k inside 0 <= k + o - 1 < 5 where o = 5"
    assert parse_contract_spec(text) == spec
    two = replace(spec, inside=(*spec.inside, (parse_expr("k - n"), parse_expr("s"))))
    assert parse_contract_spec(str(two)) == two


def test_pairs_of_bfloat16_read_zeros_outside():
    x, w = (np.array(v, np.float32).view(np.uint32) >> 16 for v in ([[1, 2, 3, 4, 5]], [np.inf, 1, 1]))
    result = run(ops.contract, x.astype(np.uint16), w.astype(np.uint16), spec=padded(5, 3)[0])
    assert np.isnan(result[0, 0])
