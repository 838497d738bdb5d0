"""Symbolic integers: normal form, text, and agreement with Python's arithmetic on random expressions."""

import numpy as np
import pytest
from vitrify.ir.errors import ParseError
from vitrify.ir.expr import (
    Expr,
    coefficient,
    evaluate,
    floordiv,
    mod,
    parse_expr,
    product,
    substitute,
    symbol,
    symbols_of,
)

i, j, n = symbol("i"), symbol("j"), symbol("n")


def random_expr(rng, depth):
    """(expression, the same as a Python function of a dict)."""
    if depth == 0 or rng.random() < 0.2:
        if rng.random() < 0.4:
            value = int(rng.integers(-4, 5))
            return value, lambda env: value
        name = "ijn"[int(rng.integers(3))]
        return symbol(name), lambda env: env[name]
    (a, fa), (b, fb) = random_expr(rng, depth - 1), random_expr(rng, depth - 1)
    match int(rng.integers(5)):
        case 0:
            return a + b, lambda env: fa(env) + fb(env)
        case 1:
            return a - b, lambda env: fa(env) - fb(env)
        case 2:
            return a * b, lambda env: fa(env) * fb(env)
        case kind:
            d = int(rng.integers(1, 6)) if rng.random() < 0.7 else n
            fd = (lambda env: env["n"]) if isinstance(d, Expr) else (lambda env: d)
            if kind == 3:
                return floordiv(a, d), lambda env: fa(env) // fd(env)
            return mod(a, d), lambda env: fa(env) % fd(env)


@pytest.mark.parametrize("seed", range(40))
def test_random_expressions_agree_with_python(seed):
    rng = np.random.default_rng(seed)
    expr, python = random_expr(rng, 4)
    for _ in range(10):
        env = {"i": int(rng.integers(-9, 10)), "j": int(rng.integers(-9, 10)), "n": int(rng.integers(1, 7))}
        assert evaluate(expr, env) == python(env)
        assert evaluate(substitute(expr, {"i": 3 * j + 1}), env) == python({**env, "i": 3 * env["j"] + 1})
    assert parse_expr(str(expr)) == expr
    assert str(parse_expr(str(expr))) == str(expr)


def test_constants_are_plain_ints():
    assert type(i - i) is int
    assert type((i + 3) - i) is int
    assert type(0 * i) is int
    assert product([]) == 1
    assert product([2, i, 3]) == 6 * i


def test_equal_polynomials_are_one():
    assert (i + j) * (i - j) == i * i - j * j
    assert hash(i + j) == hash(j + i)
    assert i != "i"
    assert str(2 * i * j - 3 + i) == "2*i*j + i - 3"
    assert repr(i + 1) == "Expr(i + 1)"


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        ((6 * i + j) // 3, "(j // 3) + 2*i"),
        ((6 * i + j) % 3, "(j % 3)"),
        ((6 * i + 7) % 3, "1"),
        ((6 * i + 7) // 3, "2*i + 2"),
        ((i * n + j) // n, "(j // n) + i"),
        ((i * n) % n, "0"),
        ((i + j) // (i + j), "1"),
        (i // 1, "i"),
        (i % 1, "0"),
        (7 // n, "(7 // n)"),
        (7 % n, "(7 % n)"),
    ],
)
def test_quotients_take_out_what_divides(expr, text):
    assert str(expr) == text


def test_coefficient():
    assert coefficient(784 * i + j, "i") == 784
    assert coefficient(n * i + j, "i") == n
    assert coefficient(j, "i") == 0
    assert coefficient(5, "i") == 0
    assert coefficient(i * i, "i") is None
    assert coefficient(i // 2, "i") is None


def test_symbols_of_looks_into_quotients():
    assert symbols_of(i * 3 + (j + 1) // n) == {"i", "j", "n"}
    assert symbols_of(4) == set()


def test_evaluate_takes_arrays_and_names_a_missing_symbol():
    assert evaluate(2 * i + 1, {"i": np.arange(3)}).tolist() == [1, 3, 5]
    with pytest.raises(KeyError, match="j"):
        evaluate(i + j, {"i": 1})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-i // 2", (-1 * i) // 2),
        ("%3 + 1", symbol("%3") + 1),
        ("%a % %b", symbol("%a") % symbol("%b")),
        ("2*(i - 1)", 2 * i - 2),
        ("i%4", i % 4),
        (" 7 ", 7),
        ("-(i + 1)*2", -2 * i - 2),
        ("x.1*2", 2 * symbol("x.1")),
    ],
)
def test_parse(text, value):
    assert parse_expr(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a number, a name or a bracket at column 1"),
        ("i +", "expected a number, a name or a bracket at column 4"),
        ("(i", r"missing \) at column 3"),
        ("i j", "expected an operator at column 3"),
        ("i // 0", "division by zero at column 3"),
        ("i / 2", "expected an operator at column 3"),
    ],
)
def test_parse_errors_name_the_column(text, message):
    with pytest.raises(ParseError, match=message):
        parse_expr(text)
