"""Rules that round elsewhere, as text; each beside one where it must not fire."""

import pytest
from vitrify.passes.fast.algebra import contract_products, simplify_freely
from vitrify.passes.pipeline import optimize

from tests.support import check_pass


def _check(pass_, inputs: str, before: str, after: str, ulp: int) -> None:
    check_pass(
        pass_, f"fast graph({inputs}) {{\n{before}\n}}", f"fast graph({inputs}) {{\n{after}\n}}", ulp=ulp
    )


def _stays(pass_, inputs: str, text: str) -> None:
    _check(pass_, inputs, text, text, 0)


def _cleaned(graph):
    return optimize(simplify_freely(graph))


ROW = "%x: f32[8, 6], %row: f32[8, 1]"


def test_a_row_is_divided_by_once() -> None:
    _check(
        _cleaned, ROW,
        "%0 = expand %row {shape=(8, 6)} : f32[8, 6]\n%1 = div %x, %0 : f32[8, 6]\nreturn %1",
        """%0 = constant {value=f32(1.0)} : f32[]
        %1 = reshape %0 {shape=(1, 1)} : f32[1, 1]
        %2 = expand %1 {shape=(8, 1)} : f32[8, 1]
        %3 = div %2, %row : f32[8, 1]
        %4 = expand %3 {shape=(8, 6)} : f32[8, 6]
        %5 = mul %x, %4 : f32[8, 6]
        return %5""",
        ulp=2,
    )  # fmt: skip


CONSTANT = """%0 = constant {{value=f32({})}} : f32[]
%1 = reshape %0 {{shape=(1,)}} : f32[1]
%2 = expand %1 {{shape=(8,)}} : f32[8]
"""


def test_division_by_a_constant() -> None:
    before = CONSTANT.format("3.0") + "%3 = div %x, %2 : f32[8]\nreturn %3"
    after = CONSTANT.format("0.33333334") + "%3 = mul %x, %2 : f32[8]\nreturn %3"
    _check(_cleaned, "%x: f32[8]", before, after, ulp=1)


@pytest.mark.parametrize("number", ["0.0", "1e-38", "1e+38", "inf", "nan"])
def test_a_constant_without_a_good_reciprocal_stays(number: str) -> None:
    _stays(simplify_freely, "%x: f32[8]", CONSTANT.format(number) + "%3 = div %x, %2 : f32[8]\nreturn %3")


@pytest.mark.parametrize(
    "inputs",
    ["%x: f32[8, 2], %row: f32[8, 1]", "%x: i32[8, 6], %row: i32[8, 1]", "%x: f16[8, 6], %row: f16[8, 1]"],
    ids=["hardly a row", "integers", "half precision"],
)
def test_other_divisions_stay(inputs: str) -> None:
    dtype, width = inputs.split()[1][:3], inputs.partition(", ")[2][0]
    if dtype == "i32":
        text = "%0 = expand %row {shape=(8, W)} : T[8, W]\n%1 = floor_div %x, %0 : T[8, W]\nreturn %1"
    else:
        text = "%0 = expand %row {shape=(8, W)} : T[8, W]\n%1 = div %x, %0 : T[8, W]\nreturn %1"
    _stays(simplify_freely, inputs, text.replace("T", dtype).replace("W", width))


@pytest.mark.parametrize(
    ("exponent", "after"),
    [
        ("2.0", "%3 = mul %x, %x : f32[8]\nreturn %3"),
        ("3.0", "%3 = mul %x, %x : f32[8]\n%4 = mul %3, %x : f32[8]\nreturn %4"),
        ("4.0", "%3 = mul %x, %x : f32[8]\n%4 = mul %3, %3 : f32[8]\nreturn %4"),
        ("0.5", "%3 = sqrt %x : f32[8]\nreturn %3"),
        ("-0.5", "%3 = rsqrt %x : f32[8]\nreturn %3"),
    ],
)
def test_small_powers(exponent: str, after: str) -> None:
    constant = CONSTANT.format(exponent)
    _check(
        simplify_freely,
        "%x: f32[8]",
        constant + "%3 = pow %x, %2 : f32[8]\nreturn %3",
        constant + after,
        ulp=3,
    )


@pytest.mark.parametrize("exponent", ["5.0", "1.5", "-3.0", "nan"])
def test_other_powers_stay(exponent: str) -> None:
    _stays(simplify_freely, "%x: f32[8]", CONSTANT.format(exponent) + "%3 = pow %x, %2 : f32[8]\nreturn %3")


THREE = "%x: f32[8], %y: f32[8], %z: f32[8]"
PRODUCT = "%0 = mul %x, %y : f32[8]\n"


@pytest.mark.parametrize(
    ("sum_", "after"),
    [
        ("add %0, %z", "%1 = fma %x, %y, %z : f32[8]\nreturn %1"),
        ("add %z, %0", "%1 = fma %x, %y, %z : f32[8]\nreturn %1"),
        ("sub %z, %0", "%1 = neg %x : f32[8]\n%2 = fma %1, %y, %z : f32[8]\nreturn %2"),
        ("sub %0, %z", "%1 = neg %z : f32[8]\n%2 = fma %x, %y, %1 : f32[8]\nreturn %2"),
    ],
)
def test_products_and_sums_become_one(sum_: str, after: str) -> None:
    before = PRODUCT + f"%1 = {sum_} : f32[8]\nreturn %1"
    _check(contract_products, THREE, before, PRODUCT + after, ulp=1 << 20)  # where the sum cancels


def test_a_product_that_is_used_twice_stays() -> None:
    _stays(contract_products, THREE, PRODUCT + "%1 = add %0, %z : f32[8]\nreturn %1, %0")


def test_activations_by_exponentials() -> None:
    _check(
        simplify_freely, "%x: f32[8]", "%0 = silu %x : f32[8]\nreturn %0",
        """%0 = neg %x : f32[8]
        %1 = exp %0 : f32[8]
        %2 = constant {value=f32(1.0)} : f32[]
        %3 = reshape %2 {shape=(1,)} : f32[1]
        %4 = expand %3 {shape=(8,)} : f32[8]
        %5 = add %1, %4 : f32[8]
        %6 = div %x, %5 : f32[8]
        return %6""",
        ulp=4,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["sigmoid", "silu", "gelu", "gelu_tanh"])
def test_activations_in_double_precision_stay(name: str) -> None:
    _stays(simplify_freely, "%x: f64[8]", f"%0 = {name} %x : f64[8]\nreturn %0")
