"""The sort: its meaning, its type rule, and its kernel statement as text, verified and interpreted."""

import numpy as np
import pytest
from vitrify.ir import ops
from vitrify.ir.dtypes import bfloat16, bool_, complex64, float16, float32, int64
from vitrify.ir.errors import IRTypeError, VerifyError
from vitrify.ir.expr import symbol
from vitrify.ir.kernel_interpreter import OutOfBounds, run_kernel
from vitrify.ir.kernel_substitute import substituted
from vitrify.ir.kernel_text import parse_kernel, print_kernel
from vitrify.ir.kernel_verifier import verify_kernel
from vitrify.ir.narrow import narrowed
from vitrify.ir.types import TensorType


def places(x: object, count: int | None = None, descending: bool = False) -> list:
    array = np.asarray(x)
    count = array.shape[-1] if count is None else count
    return ops.argsort.meaning(array, count=count, descending=descending).tolist()


def test_equal_elements_keep_their_order_both_ways() -> None:
    assert places([2.0, 1.0, 2.0, 1.0]) == [1, 3, 0, 2]
    assert places([2.0, 1.0, 2.0, 1.0], descending=True) == [0, 2, 1, 3]
    assert places([0.0, -0.0, 0.0], descending=True) == places([0.0, -0.0, 0.0]) == [0, 1, 2]
    assert places([True, False, True]) == [1, 0, 2]


def test_a_nan_is_greater_than_anything() -> None:
    x = [np.nan, np.inf, -np.nan, -np.inf]
    assert places(x) == [3, 1, 0, 2]
    assert places(x, descending=True) == [0, 2, 1, 3]


def test_the_first_few_of_each_line() -> None:
    assert places([[3, 1, 2], [1, 2, 3]], 2) == [[1, 2], [0, 1]]
    assert places([[3, 1, 2]], 0) == [[]]
    assert places(np.zeros((2, 0))) == [[], []]


def test_narrow_floats_are_sorted_as_numbers() -> None:
    x = np.array([1.5, -2.0, 0.25, np.nan], np.float32)
    for dtype in (bfloat16, float16):
        assert places(narrowed(x, dtype.numpy)) == [1, 2, 0, 3]


def test_types() -> None:
    n, k = symbol("n"), symbol("k")
    assert ops.argsort.result_types(TensorType(bool_, (4, 8)), count=3, descending=False) == (
        TensorType(int64, (4, 3)),
    )
    (symbolic,) = ops.argsort.result_types(TensorType(float32, (n,)), count=k, descending=True)
    assert symbolic == TensorType(int64, (k,))
    for operand, count, why in (
        (TensorType(float32), 0, "along an axis"),
        (TensorType(complex64, (3,)), 3, "needs numbers"),
        (TensorType(float32, (3,)), 4, "can't give 4 of 3"),
        (TensorType(float32, (3,)), -1, "can't give -1 of 3"),
        (TensorType(float32, (2**32,)), 1, "takes up to 4294967295"),
    ):
        with pytest.raises(IRTypeError, match=why):
            ops.argsort.result_types(operand, count=count, descending=False)


TEXT = """kernel lines(%x: f32[m*n] in, %y: i64[m*p] out, %t: i64[2*m*n] temp; m, n, p) {
  parallel i < m {
    sort %x[i*n] to %y[i*p] by %t[2*i*n] over n first p descending
  }
}
"""


def test_the_statement_is_read_as_printed_and_runs() -> None:
    kernel = parse_kernel(TEXT)
    assert print_kernel(kernel) == TEXT
    verify_kernel(kernel)
    x = np.array([3, 1, 2, 5, np.nan, 4], np.float32)
    y = np.zeros(4, np.int64)
    sizes = {"m": 2, "n": 3, "p": 2}
    run_kernel(kernel, {"x": x, "y": y, "t": np.zeros(12, np.int64)}, sizes)
    assert y.tolist() == [0, 2, 1, 0]
    less = parse_kernel(TEXT.replace("2*m*n", "2*m"))
    with pytest.raises(OutOfBounds, match="%t is used from 0 to 5, its size is 4"):
        run_kernel(less, {"x": x, "y": y, "t": np.zeros(4, np.int64)}, sizes)


def test_symbols_of_the_statement_are_replaced() -> None:
    kernel = parse_kernel(TEXT)
    (loop,) = substituted(kernel.body, {"n": 3, "p": 2})
    assert [str(d) for d in loop.body[0].dims] == ["3*i", "2*i", "6*i", "3", "2"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("%y: i64[m*p] out", "%y: f32[m*p] out", "%y is f32, expected i64"),
        ("%y: i64[m*p] out", "%y: i64[m*p] in", "%y is only read"),
        ("%t: i64", "%t: i32", "%t is i32, expected i64"),
        ("%x: f32", "%x: f16", "sorts f32, %x is f16"),
        ("over n", "over j", "j is no size"),
        ("by %t", "by %u", "there is no buffer %u"),
        ("parallel i < m", "vector i < m", "can't stand inside a vector body"),
    ],
)
def test_faults_are_found(old: str, new: str, message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        verify_kernel(parse_kernel(TEXT.replace(old, new, 1)))
