"""The error of every type rule, and symbolic sizes through them."""

import pytest
from vitrify.ir import ops
from vitrify.ir.contraction import contract_spec
from vitrify.ir.dtypes import bool_, float32, float64, int32, int64
from vitrify.ir.errors import IRTypeError
from vitrify.ir.expr import symbol
from vitrify.ir.types import TensorType

F = TensorType(float32, (2, 3))
INDEX = TensorType(int64, (3,))
n = symbol("n")

BAD = [
    (ops.add, [F, INDEX], {}, "operands must have one type"),
    (ops.add, [TensorType(bool_)] * 2, {}, "needs numeric"),
    (ops.exp, [INDEX], {}, "needs floating point operands, got i64"),
    (ops.bit_and, [F, F], {}, "needs integer or bool operands"),
    (ops.shift_left, [TensorType(bool_)] * 2, {}, "needs integer operands"),
    (ops.select, [TensorType(bool_, (3,)), F, F], {}, r"the condition must be bool\[2, 3\], got bool\[3\]"),
    (ops.philox, [TensorType(int32)] * 3, {}, "philox needs i64 operands"),
    (ops.reduce_sum, [F], {"axes": (2,), "order": "lanes"}, r"axes \[2\] are out of range"),
    (ops.reduce_sum, [F], {"axes": (1, 0), "order": "lanes"}, "axes must ascend"),
    (ops.reduce_sum, [F], {"axes": (1,), "order": "odd"}, "order must be one of"),
    (ops.reduce_sum, [F], {"axes": (1,), "order": "rows"}, "order rows does not fit"),
    (
        ops.reduce_sum,
        [TensorType(float32, (2, 3, 4))],
        {"axes": (0, 2), "order": "rows"},
        "mix trailing and other",
    ),
    (
        ops.reduce_sum,
        [TensorType(bool_, (3,))],
        {"axes": (0,), "order": "lanes"},
        "need a cast to an integer",
    ),
    (ops.reduce_max, [TensorType(float32, (0,))], {"axes": (0,), "order": "lanes"}, "empty axis"),
    (ops.argmax, [TensorType(float32, (0,))], {"axes": (0,), "order": "lanes"}, "empty axis"),
    (ops.cumsum, [F], {"axis": 2}, "axis 2 is out of range"),
    (ops.reshape, [F], {"shape": (7,)}, r"can't reshape f32\[2, 3\] to \[7\]: 6 and 7 elements"),
    (ops.permute, [F], {"perm": (0, 0)}, "perm must hold each axis"),
    (ops.expand, [F], {"shape": (4, 3)}, r"can't expand f32\[2, 3\] to \[4, 3\]: 2 is neither 1 nor 4"),
    (ops.expand, [F], {"shape": (2,)}, "shape needs one entry per axis"),
    (
        ops.slice_,
        [F],
        {"starts": (0, 0), "stops": (3, 3), "steps": (1, 1)},
        "slice 0:3:1 does not lie within size 2",
    ),
    (ops.slice_, [F], {"starts": (0, 0), "stops": (2, 3), "steps": (1, 0)}, "slice 0:3:0 does not lie"),
    (ops.update_slice, [F, F], {"starts": (1, 0), "steps": (1, 1)}, "does not lie within"),
    (
        ops.update_slice,
        [F, TensorType(float64, (1, 1))],
        {"starts": (0, 0), "steps": (1, 1)},
        "the new values are f64",
    ),
    (
        ops.pad,
        [F, TensorType(float32)],
        {"lo": (0, -1), "hi": (0, 0), "interior": (0, 0)},
        "must not be negative",
    ),
    (ops.pad, [F, F], {"lo": (0, 0), "hi": (0, 0), "interior": (0, 0)}, r"the pad value must be f32\[\]"),
    (ops.flip, [F], {"axes": (2,)}, "out of range"),
    (ops.concat, [F, TensorType(float32, (2, 4))], {"axis": 0}, "does not fit"),
    (ops.concat, [], {"axis": 0}, "at least one operand"),
    (
        ops.window,
        [F],
        {"axes": (1,), "sizes": (4,), "strides": (1,), "dilations": (1,)},
        "a window of 4 .* does not fit",
    ),
    (
        ops.window,
        [F],
        {"axes": (2,), "sizes": (1,), "strides": (1,), "dilations": (1,)},
        "window axis 2 is out of range",
    ),
    (ops.window, [F], {"axes": (1,), "sizes": (0,), "strides": (1,), "dilations": (1,)}, "at least 1, got 0"),
    (
        ops.window,
        [F],
        {"axes": (1, 1), "sizes": (1, 1), "strides": (1, 1), "dilations": (1, 1)},
        "distinct axes",
    ),
    (ops.window, [F], {"axes": (1,), "sizes": (1,), "strides": (), "dilations": (1,)}, "distinct axes"),
    (
        ops.fold,
        [F],
        {"shape": (9,), "axes": (0,), "strides": (1,), "dilations": (1,)},
        "fold: windows of sizes",
    ),
    (ops.fold, [F], {"shape": (9,), "axes": (1,), "strides": (1,), "dilations": (1,)}, "fold over axes"),
    (ops.as_strided, [F], {"shape": (7,), "strides": (1,), "offset": 0}, "reach outside"),
    (ops.as_strided, [F], {"shape": (2,), "strides": (-1,), "offset": 0}, "reach outside"),
    (ops.as_strided, [F], {"shape": (2,), "strides": (), "offset": 0}, "a stride per axis"),
    (ops.as_strided_update, [F, INDEX], {"strides": (1,), "offset": 0}, "does not fit"),
    (
        ops.contract,
        [F, TensorType(float64, (3, 2))],
        {"spec": contract_spec("m k", "k n", "m n", "k")},
        "one numeric dtype",
    ),
    (ops.gather, [F, INDEX], {"axes": (0, 1)}, "needs one index per axis"),
    (ops.gather, [F, INDEX], {"axes": (2,)}, "out of range"),
    (ops.gather, [F, TensorType(int32, (3,))], {"axes": (0,)}, "indices must be i64"),
    (ops.scatter, [F, F, INDEX], {"axes": (0,)}, r"the values must be f32\[3, 3\], got f32\[2, 3\]"),
    (ops.iota, [], {"shape": (2,), "axis": 1, "dtype": int64}, "iota axis 1 is out of range"),
    (ops.call, [], {"name": "c"}, "has 0 regions, expected 1"),
]


@pytest.mark.parametrize(
    ("opdef", "types", "attrs", "message"), BAD, ids=[f"{b[0].name}{i}" for i, b in enumerate(BAD)]
)
def test_type_errors(opdef, types, attrs, message):
    with pytest.raises(IRTypeError, match=message):
        opdef.result_types(*types, **attrs)


def test_symbolic_types():
    x = TensorType(float32, (n, 4))
    assert ops.reshape.result_types(x, shape=(2, 2 * n))[0].shape == (2, 2 * n)
    assert ops.slice_.result_types(x, starts=(1, 0), stops=(n, 4), steps=(1, 2))[0].shape == (n - 1, 2)
    padded = ops.pad.result_types(x, TensorType(float32), lo=(1, 0), hi=(1, 0), interior=(0, 0))[0]
    assert padded.shape == (n + 2, 4)
    spec = contract_spec("m k", "k", "m", "k")
    assert ops.contract.result_types(x, TensorType(float32, (4,)), spec=spec)[0].shape == (n,)
    assert ops.concat.result_types(x, x, axis=0)[0].shape == (2 * n, 4)
    assert ops.window.result_types(x, axes=(0,), sizes=(3,), strides=(1,), dilations=(1,))[0].shape == (
        n - 2,
        4,
        3,
    )
