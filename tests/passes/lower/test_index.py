"""Index arithmetic of reshapes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from vitrify.ir.expr import evaluate, parse_expr, symbol
from vitrify.ir.types import row_major_strides
from vitrify.passes.lower.index import bounds, divided, linear, recombined, refined, reshaped, within

SHAPES = [(24,), (2, 12), (4, 6), (6, 4), (2, 3, 4), (1, 24), (24, 1), (3, 1, 8), (2, 2, 2, 3), (12, 2)]


@pytest.mark.parametrize(("have", "want"), list(itertools.product(SHAPES, SHAPES)))
def test_reshaped_finds_the_same_element(have: tuple[int, ...], want: tuple[int, ...]) -> None:
    names = [f"i{a}" for a in range(len(have))]
    index = tuple(0 if d == 1 else symbol(n) for n, d in zip(names, have, strict=True))
    extents = dict(zip(names, have, strict=True))
    found = reshaped(index, have, want, extents)
    places = np.arange(24).reshape(want)
    for number, at in enumerate(np.ndindex(have)):
        values = dict(zip(names, at, strict=True))
        assert places[tuple(evaluate(d, values) for d in found)] == number
    assert linear(found, row_major_strides(want)) == linear(index, row_major_strides(have))


def test_axes_that_line_up_need_no_division() -> None:
    i, j, k = map(symbol, "ijk")
    extents = {"i": 64, "j": 8, "k": 64}
    assert reshaped((i, j, k), (64, 8, 64), (64, 512), extents) == (i, 64 * j + k)
    assert reshaped((i, 64 * j + k), (64, 512), (64, 8, 64), extents) == (i, j, k)


def test_symbolic_axes_are_joined_and_split() -> None:
    i, j, n, m = map(symbol, ("i", "j", "n", "m"))
    extents = {"i": n, "j": m}
    assert reshaped((i, j), (n, m), (n * m,), extents) == (i * m + j,)
    assert reshaped((i * m + j,), (n * m,), (n, m), extents) == (i, j)
    assert reshaped((i, j), (n, m), (n, 1, m), extents) == (i, 0, j)


def test_reshape_of_an_empty_shape() -> None:
    assert reshaped((symbol("i"), 0), (5, 0), (0, 7), {"i": 5}) == (0, 0)


def test_divided_uses_the_ranges_of_axes() -> None:
    i, j = symbol("i"), symbol("j")
    assert divided(3 * i + j, 3, {"i": 9, "j": 3}) == (i, j)
    assert divided(3 * i + j, 3, {"i": 9, "j": 4}) != (i, j)


def test_recombined_joins_quotient_and_remainder() -> None:
    assert recombined(parse_expr("6*(i // 3) + 2*(i % 3) + j")) == parse_expr("2*i + j")
    assert recombined(parse_expr("5*(i // 3) + 2*(i % 3)")) == parse_expr("5*(i // 3) + 2*(i % 3)")


def test_bounds() -> None:
    extents = {"i": 4, "j": symbol("n")}
    assert bounds(parse_expr("2*i - 3"), extents) == (-3, 3)
    assert bounds(parse_expr("j + n"), extents) == (symbol("n"), parse_expr("2*n - 1"))
    assert bounds(parse_expr("(i % 3) + (i // 2)"), extents) == (0, 3)
    assert bounds(symbol("%3"), extents) is None
    assert within(parse_expr("j"), 0, symbol("n"), extents)
    assert not within(parse_expr("j + 1"), 0, symbol("n"), extents)


def test_refined() -> None:
    assert refined((64, 512), (8, 8, 512)) == (8, 8, 512)
    assert refined((4, 1, 6), (24,)) == (4, 6)
    assert refined((6, 4), (8, 3)) is None
