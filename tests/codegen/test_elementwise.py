"""Every elementwise primitive with every dtype it takes, against its meaning in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from vitrify.codegen.elementwise import ELEMENTARY, EMIT
from vitrify.ir import ops
from vitrify.ir.dtypes import WITH_KERNELS, DType, bfloat16, bool_, float32, float64, int32, int64, uint8
from vitrify.ir.errors import IRTypeError
from vitrify.ir.narrow import NARROW
from vitrify.ir.opdef import Attr, OpDef
from vitrify.ir.ops.numeric import cast
from vitrify.ir.types import TensorType

from tests.codegen.harness import apply_native, check_kernel, pointwise, runnable_targets
from tests.support import assert_same_bits, assert_within_ulp

SIZES = (0, 1, 15, 16, 17, 33, 1000)
ELEMENTWISE = [op for op in ops.ALL.values() if op.elementwise]
# The functions that round differently from numpy; test_vmath measures how far they are off.
INEXACT = {*ELEMENTARY, ops.pow_}

GAMMAS = (ops.lgamma, ops.digamma, ops.polygamma)

# numpy's meaning of gelu in float64 rounds the argument of erfc, which the far tail amplifies by x^2 <= 1500.
NUMPY_IN_DOUBLE = 2000


def special_values(dtype: DType) -> np.ndarray:
    """Values where an op may go wrong."""
    if dtype is bfloat16:
        return cast(special_values(float32), dtype=dtype)
    if dtype.kind == "f":
        info = np.finfo(dtype.numpy)
        tiny, huge = info.smallest_subnormal, info.max
        whole = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 2.0**31, 2.0**31 - 1, 2.0**63, 1e10, np.inf, np.nan]
        values = [*whole, float(tiny), float(info.tiny), float(huge)]
        return np.array(values + [-v for v in values], dtype.numpy)
    if dtype.kind == "b":
        return np.array([False, True])
    info = np.iinfo(dtype.numpy)
    values = [v for v in (0, 1, 2, 3, 5, 7, 31, 32, 63, 64, 100, -1, -2, -7) if info.min <= v <= info.max]
    return np.array([*values, info.min, info.min + 1, info.max, info.max - 1], dtype.numpy)


def operands(dtypes: list[DType], size: int, seed: int) -> list[np.ndarray]:
    """Random values mixed with special ones, so that all pairs of special values meet where there is room."""
    rng = np.random.default_rng(seed)
    arrays = []
    for number, dtype in enumerate(dtypes):
        special = special_values(dtype)
        pairs = np.repeat(special, len(special)) if number == 0 else np.tile(special, len(special))
        if dtype.kind == "f":
            ordinary = cast(rng.standard_normal(size) * 10, dtype=dtype)
        else:
            ordinary = rng.integers(0, 2 if dtype.kind == "b" else 100, size).astype(dtype.numpy)
        arrays.append(np.concatenate([pairs, ordinary])[-size:] if size else ordinary)
    return arrays


def signatures() -> list[tuple[OpDef, tuple[DType, ...], DType, dict[str, Attr]]]:
    """Every op with the operand dtypes that its type rule takes; what computes in float32 on 16-bit floats
    gets casts around it before it becomes a kernel."""
    found: list[tuple[OpDef, tuple[DType, ...], DType, dict[str, Attr]]] = []
    for opdef in ELEMENTWISE:
        for dtype in WITH_KERNELS:
            if opdef.wide and dtype in NARROW:
                continue
            if opdef is ops.cast:
                found += [(opdef, (dtype,), to, {"dtype": to}) for to in WITH_KERNELS]
                continue
            dtypes = (bool_, dtype, dtype) if opdef is ops.select else (dtype,) * (opdef.arity or 1)
            attrs: dict[str, Attr] = {"order": 2} if opdef is ops.polygamma else {}
            try:
                (result,) = opdef.result_types(*(TensorType(d, (4,)) for d in dtypes), **attrs)
            except IRTypeError:
                continue
            found.append((opdef, dtypes, result.dtype, attrs))
    return found


CASES = {
    f"{op.name}-{'-'.join(map(str, dtypes))}" + (f"-to-{result}" if op is ops.cast else ""): (
        op,
        dtypes,
        result,
        attrs,
    )
    for op, dtypes, result, attrs in signatures()
}


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_its_meaning(case: str) -> None:
    opdef, dtypes, result, attrs = CASES[case]
    kernel = pointwise(opdef, dtypes, result, **attrs)
    for size in SIZES:
        arrays = operands(list(dtypes), 3000 if size == 1000 else size, seed=size)
        if opdef in (ops.floor_div, ops.rem) and dtypes[0].kind != "f":
            arrays[1][arrays[1] == 0] = 1
        if opdef in GAMMAS and result is float64:
            arrays[0] = np.abs(arrays[0])  # near their negative zeros both have an absolute error
        with np.errstate(all="ignore"):
            expected = np.asarray(opdef.meaning(*arrays, **attrs))  # type: ignore[misc]
        found = [apply_native(kernel, *arrays, target=target) for target in runnable_targets()]
        for other in found[1:]:
            assert_same_bits(other, found[0], f"{case} of another target")
        if opdef in INEXACT and result is float32:
            assert_within_ulp(found[0], expected, 1, case)
        elif opdef in INEXACT and result.kind == "f":
            assert_within_ulp(found[0], expected, NUMPY_IN_DOUBLE, case)
        else:
            assert_same_bits(found[0], expected, case)


def test_every_elementwise_primitive_has_a_rule() -> None:
    assert set(EMIT) == set(ELEMENTWISE)


@pytest.mark.parametrize("dtype", [int64, int32, uint8])
@pytest.mark.parametrize("opdef", [ops.floor_div, ops.rem])
def test_integer_division_never_traps(opdef: OpDef, dtype: DType) -> None:
    least = np.iinfo(dtype.numpy).min
    x = np.array([1, 0, least, least, 5] * 10, dtype.numpy)
    y = np.array([0, 0, 0, -1 if least else 1, 3] * 10).astype(dtype.numpy)
    found = apply_native(pointwise(opdef, [dtype, dtype], dtype), x, y)
    wanted = {ops.floor_div: [least, 1], ops.rem: [0, 2]}[opdef]
    assert found[3:5].tolist() == wanted


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize("op", ["div", "floor_div", "rem"])
def test_a_quotient_of_zeros_is_not_taken_for_zero(op: str, dtype: DType) -> None:
    """Lanes beyond the columns are 0/0 = NaN here, and must not get into the sum."""
    text = f"""
        kernel rows(%x: {dtype}[18] in, %y: {dtype}[9] out) {{
          serial i < 9 {{
            %2 = reduce_sum lanes k < 2 : {dtype} {{
              %0 = load %x[i + 9*k] : {dtype}
              %1 = {op} %0, %0 : {dtype}
              yield %1
            }}
            store %y[i], %2
          }}
        }}"""
    x = np.arange(1, 19).astype(dtype.numpy)
    found = check_kernel(text, {"x": x, "y": np.zeros(9, dtype.numpy)})
    assert (found["y"] == (0 if op == "rem" else 2)).all()
