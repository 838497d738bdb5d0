"""Dtypes, types, literals, eager types, contraction specs and the registry of ops."""

import math
import pickle

import numpy as np
import pytest
from vitrify.ir import dtypes, ops
from vitrify.ir.contraction import contract_spec, parse_contract_spec
from vitrify.ir.dtypes import bool_, dtype_of, float32, float64, from_numpy, int64
from vitrify.ir.errors import IRTypeError, ParseError
from vitrify.ir.expr import symbol
from vitrify.ir.opdef import bind, define
from vitrify.ir.strided import strided_type
from vitrify.ir.types import Literal, TensorType, row_major_strides

s = symbol("s0")


def test_dtypes_are_found_by_name_and_numpy_type():
    for d in dtypes.ALL:
        assert dtype_of(d.name) is d and dtype_of(d.short) is d
        assert d.numpy.itemsize == d.itemsize
        assert pickle.loads(pickle.dumps(d)) is d
        if d is not dtypes.bfloat16:
            assert from_numpy(d.numpy) is d
    assert (float32.is_floating_point, float32.is_signed, float32.is_integer) == (True, True, False)
    assert (bool_.is_integer, dtypes.uint8.is_signed, dtypes.complex64.is_complex) == (False, False, True)
    with pytest.raises(TypeError, match="can't convert numpy dtype uint16; the supported ones are float32"):
        from_numpy(np.dtype("uint16"))


def test_tensor_type():
    t = TensorType(float32, (2, s))
    assert (str(t), t.rank, t.numel, t.is_static) == ("f32[2, s0]", 2, 2 * s, False)
    assert t == TensorType(float32, (2, symbol("s0"))) and hash(t) == hash(TensorType(float32, (2, s)))
    assert t.with_dtype(int64).with_shape(()) == TensorType(int64)
    assert row_major_strides((2, s, 3)) == (3 * s, 3, 1)
    with pytest.raises(IRTypeError, match=r"a size is negative in f32\[-1\]"):
        TensorType(float32, (-1,))


def test_literals_compare_by_bits():
    assert Literal.of(math.nan, float32) == Literal.of(math.nan, float32)
    assert Literal.of(0.0, float32) != Literal.of(-0.0, float32)
    assert Literal.of([1, 2], int64).array().tolist() == [1, 2]
    assert Literal.of([[1.5]], float64).type == TensorType(float64, (1, 1))
    with pytest.raises(ValueError, match="read-only"):
        Literal.of([1], int64).array()[0] = 2


@pytest.mark.parametrize(
    ("shape", "strides", "contiguous", "extent"),
    [
        ((2, 3), None, True, 6),
        ((2, 3), (1, 2), False, 6),
        ((2, 3), (0, 1), False, 3),
        ((1, 3), (77, 1), True, 3),
        ((), None, True, 1),
        ((0, 3), (5, 5), True, 0),
        ((2, 2), (4, 1), False, 6),
    ],
)
def test_strided_types_are_interned(shape, strides, contiguous, extent):
    t = strided_type(float32, shape, strides)
    assert t is strided_type(float32, shape, t.strides)
    assert (t.is_contiguous, t.extent, t.numel) == (contiguous, extent, math.prod(shape))
    assert t.ir == TensorType(float32, shape)
    assert t.nbytes == 4 * t.numel
    assert ("strides" in repr(t)) == (not contiguous)


SPECS = [
    (("m k", "k n", "m n", "k"), "[m, k] * [k, n] -> [m, n] over k"),
    (("", "", "", ""), "[] * [] -> [] over"),
    (("a", "b", "a b", ""), "[a] * [b] -> [a, b] over"),
    (
        ("n, oh + kh - 1, ci", "kh, ci, co", "n oh co", "kh ci", {"oh": 14}),
        "[n, kh + oh - 1, ci] * [kh, ci, co] -> [n, oh, co] over kh, ci where oh = 14",
    ),
    (("a", "a", "a x", "", {"x": s + 1}), "[a] * [a] -> [a, x] over where x = s0 + 1"),
]


@pytest.mark.parametrize(("parts", "text"), SPECS)
def test_contraction_specs_print_and_parse(parts, text):
    spec = contract_spec(*parts)
    assert str(spec) == text
    assert parse_contract_spec(text) == spec


def test_contraction_spec_errors():
    with pytest.raises(ParseError, match="not a contraction: 'nonsense'"):
        parse_contract_spec("nonsense")
    spec = contract_spec("m k", "k n", "m n", "k")
    with pytest.raises(IRTypeError, match="lhs has rank 3, its map has 2 axes"):
        spec.label_extents((1, 2, 3), (1, 2))
    with pytest.raises(IRTypeError, match="k has size 3 and, on rhs, 4"):
        spec.label_extents((2, 3), (4, 5))
    with pytest.raises(IRTypeError, match="no size is known for x"):
        contract_spec("m", "m", "m x", "").label_extents((2,), (2,))
    with pytest.raises(IRTypeError, match="a label stands twice"):
        contract_spec("m k", "k n", "m n", "m").label_extents((2, 3), (3, 4))
    assert spec.label_extents((s, 3), (3, 5)) == {"m": s, "k": 3, "n": 5}


def test_every_op_is_declared_once_and_exported():
    for name, opdef in ops.ALL.items():
        assert opdef.name == name
        assert opdef in vars(ops).values(), f"{name} can't be reached as an attribute of ir.ops"
        assert repr(opdef) == f"ops.{name}"
        assert opdef.meaning is not None or name == "call"
        assert not opdef.elementwise or not opdef.movement
    with pytest.raises(ValueError, match="op add is declared twice"):
        define("add", 2, lambda x, y: x, None)


def test_bound_ops_are_interned_by_bits():
    assert bind(ops.reduce_sum, axes=(0,), order="rows") is bind(ops.reduce_sum, order="rows", axes=(0,))
    assert bind(ops.iota, x=1) is not bind(ops.iota, x=1.0)
    assert bind(ops.iota, x=1) is not bind(ops.iota, x=True)
    assert bind(ops.iota, x=0.0) is not bind(ops.iota, x=-0.0)
    assert bind(ops.iota, x=math.nan) is bind(ops.iota, x=math.nan)
    assert bind(ops.iota, x=(1, (2.0,))) is not bind(ops.iota, x=(1, (2,)))
    op = bind(ops.cast, dtype=int64)
    assert op.result_types(TensorType(float32, (2,))) == (TensorType(int64, (2,)),)
    assert repr(op) == "cast(dtype=i64)"
    with pytest.raises(IRTypeError, match="cast takes 1 operands, got 2"):
        op.result_types(TensorType(float32), TensorType(float32))
