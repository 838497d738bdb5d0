"""Symbolic integers: sizes of tensors, and index expressions of kernels.

An `Expr` is a polynomial with integer coefficients over symbols (`s0`, an axis `i`, an integer value of a
kernel) and the two opaque forms `a // b` and `a % b` (floor division and its remainder, as in Python).
It is kept in one normal form, so equal polynomials compare equal and print alike. A constant is never an
`Expr`: every operation gives a plain int where it can, so code for static sizes sees ints only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Union

from .errors import ParseError

#: A size or an index: an int where it is known, else a symbolic expression.
Dim = Union[int, "Expr"]
Factor = Union[str, "Quotient"]
Monomial = tuple[Factor, ...]


class Quotient:
    """An opaque factor `(a // b)` or `(a % b)`; `op` is one of the two."""

    __slots__ = ("op", "a", "b", "_text")

    def __init__(self, op: str, a: Dim, b: Dim) -> None:
        self.op, self.a, self.b = op, a, b
        self._text = f"({_wrapped(a)} {op} {_wrapped(b)})"

    def __str__(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quotient) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


class Expr:
    """A non-constant polynomial. Build with `symbol`, the operators, or `parse_expr`."""

    __slots__ = ("terms", "_text")

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        """terms: monomial (factors sorted by text, `()` for the constant) to non-zero coefficient."""
        self.terms = dict(sorted(terms.items(), key=_place_in_text)) if len(terms) > 1 else terms
        self._text = _text_of(self.terms)

    def __add__(self, other: Dim) -> Dim:
        sums = dict(self.terms)
        for monomial, c in _terms(other).items():
            sums[monomial] = sums.get(monomial, 0) + c
        return _normal(sums)

    def __mul__(self, other: Dim) -> Dim:
        if isinstance(other, int):
            return _normal({monomial: c * other for monomial, c in self.terms.items()})
        products: dict[Monomial, int] = {}
        for m0, c0 in self.terms.items():
            for m1, c1 in _terms(other).items():
                monomial = tuple(sorted(m0 + m1, key=str))
                products[monomial] = products.get(monomial, 0) + c0 * c1
        return _normal(products)

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + other * -1

    def __rsub__(self, other: Dim) -> Dim:
        return self * -1 + other

    __radd__, __rmul__ = __add__, __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        return floordiv(self, other)

    def __rfloordiv__(self, other: int) -> Dim:
        return floordiv(other, self)

    def __mod__(self, other: Dim) -> Dim:
        return mod(self, other)

    def __rmod__(self, other: int) -> Dim:
        return mod(other, self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expr) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Expr({self._text})"


@lru_cache(maxsize=4096)
def symbol(name: str) -> Expr:
    """The expression that is just this symbol."""
    return Expr({(name,): 1})


def floordiv(a: Dim, b: Dim) -> Dim:
    """a // b, with every multiple of b taken out of a exactly: (6*i + j) // 3 -> 2*i + j // 3."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if b == 1:
        return a
    whole, rest = divide(a, b)
    if isinstance(rest, int) and (rest == 0 or isinstance(b, int)):
        return whole if rest == 0 else whole + rest // b
    return whole + Expr({(Quotient("//", rest, b),): 1})


def mod(a: Dim, b: Dim) -> Dim:
    """a % b, without the terms of a that b divides: (6*i + j) % 3 -> j % 3."""
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    if b == 1:
        return 0
    _, rest = divide(a, b)
    if isinstance(rest, int) and (rest == 0 or isinstance(b, int)):
        return rest and rest % b
    return Expr({(Quotient("%", rest, b),): 1})


_QUOTIENTS: dict[str, Callable[[Dim, Dim], Dim]] = {"//": floordiv, "%": mod}


def symbols_of(dim: Dim) -> set[str]:
    """The names in an expression; empty for an int."""
    if isinstance(dim, int):
        return set()
    names: set[str] = set()
    for monomial in dim.terms:
        for factor in monomial:
            names |= {factor} if isinstance(factor, str) else symbols_of(factor.a) | symbols_of(factor.b)
    return names


def substitute(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """The expression with each named symbol replaced (all at once)."""
    if isinstance(dim, int):
        return dim
    total: dict[Monomial, int] = {}
    for monomial, c in dim.terms.items():
        kept: list[Factor] = []
        others: list[Expr] = []
        for factor in monomial:
            new = _substituted(factor, values)
            if isinstance(new, int):
                c *= new
            elif new is factor:
                kept.append(factor)
            else:
                others.append(new)  # type: ignore[arg-type]
        term: Mapping[Monomial, int] = {tuple(kept): c}
        if others and c:
            term = _terms(product([_normal(term), *others]))
        for m, k in term.items():
            total[m] = total.get(m, 0) + k
    return _normal(total)


def evaluate(dim: Dim, values: Mapping[str, int]) -> int:
    """The value with every symbol given (ints, or numpy integer arrays). KeyError names a missing symbol."""
    if isinstance(dim, int):
        return dim
    total = 0
    for monomial, c in dim.terms.items():
        term = c
        for f in monomial:
            if isinstance(f, str):
                term = term * values[f]
            else:
                a, b = evaluate(f.a, values), evaluate(f.b, values)
                term = term * (a // b if f.op == "//" else a % b)
        total = total + term
    return total


def divided(dim: Dim, by: int) -> Dim | None:
    """dim / by, if every coefficient is a multiple of it; else None.

    >>> divided(symbol("i") * 4 + 2, 2) == symbol("i") * 2 + 1
    True
    """
    terms = {(): dim} if isinstance(dim, int) else dim.terms
    if any(c % by for c in terms.values()):
        return None
    return _normal({monomial: c // by for monomial, c in terms.items()})


def coefficient(dim: Dim, name: str) -> Dim | None:
    """The factor of `name` in an expression linear in it (0 if absent); None if it isn't linear in it.

    >>> coefficient(symbol("i") * 784 + symbol("j"), "i")
    784
    """
    if isinstance(dim, int):
        return 0
    total: Dim = 0
    for monomial, c in dim.terms.items():
        if any(isinstance(f, Quotient) and name in symbols_of(Expr({(f,): 1})) for f in monomial):
            return None
        count = monomial.count(name)
        if count > 1:
            return None
        if count == 1:
            rest = tuple(f for f in monomial if f != name)
            total = total + _normal({rest: c})
    return total


def product(dims: Iterable[Dim]) -> Dim:
    """The product of sizes; 1 for none."""
    total: Dim = 1
    for d in dims:
        total = total * d
    return total


def dot(xs: Iterable[Dim], ys: Iterable[Dim]) -> Dim:
    """The sum of the products: the place of an index by its strides."""
    total: dict[Monomial, int] = {}
    for x, y in zip(xs, ys, strict=True):
        factor = y if isinstance(y, int) else 1
        for monomial, c in _terms(x if isinstance(y, int) else x * y).items():
            total[monomial] = total.get(monomial, 0) + c * factor
    return _normal(total)


def _terms(dim: Dim) -> Mapping[Monomial, int]:
    return dim.terms if isinstance(dim, Expr) else {(): dim}


def _normal(terms: Mapping[Monomial, int]) -> Dim:
    kept = {m: c for m, c in terms.items() if c != 0}
    if not kept:
        return 0
    return kept[()] if kept.keys() == {()} else Expr(kept)


def divide(a: Dim, b: Dim) -> tuple[Dim, Dim]:
    """Split a into (quotient, rest) with a == quotient * b + rest, taking out what divides exactly.

    The rest need not be below b: (6*i + j, 3) -> (2*i, j).
    """
    divisor = _terms(b)
    if len(divisor) != 1:
        return (1, 0) if a == b else (0, a)
    ((dm, dc),) = divisor.items()
    quotient: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for monomial, c in _terms(a).items():
        left = _without(monomial, dm)
        if left is None:
            rest[monomial] = rest.get(monomial, 0) + c
            continue
        q, r = divmod(c, dc)
        if q:
            quotient[left] = quotient.get(left, 0) + q
        if r:
            rest[monomial] = rest.get(monomial, 0) + r
    return _normal(quotient), _normal(rest)


def _without(monomial: Monomial, factors: Monomial) -> Monomial | None:
    """The monomial divided by these factors; None if it does not have them all."""
    left = list(monomial)
    for factor in factors:
        if factor not in left:
            return None
        left.remove(factor)
    return tuple(left)


def _substituted(factor: Factor, values: Mapping[str, Dim]) -> Dim | Factor:
    """The factor's new value; the factor itself if it stays."""
    if isinstance(factor, str):
        return values.get(factor, factor)
    a, b = substitute(factor.a, values), substitute(factor.b, values)
    if a == factor.a and b == factor.b:
        return factor
    return _QUOTIENTS[factor.op](a, b)


def _place_in_text(term: tuple[Monomial, int]) -> tuple[int, tuple[str, ...]]:
    """Products of more factors come first, then in the order of the factors' text."""
    monomial = term[0]
    return -len(monomial), tuple(f if isinstance(f, str) else str(f) for f in monomial)


def _text_of(terms: Mapping[Monomial, int]) -> str:
    text = ""
    for monomial, c in terms.items():
        body = "*".join(f if isinstance(f, str) else str(f) for f in monomial)
        if not body:
            body = str(abs(c))
        elif c != 1 and c != -1:
            body = f"{abs(c)}*{body}"
        text += (" - " if c < 0 else " + ") + body if text else ("-" if c < 0 else "") + body
    return text


def _wrapped(dim: Dim) -> str:
    text = str(dim)
    simple = isinstance(dim, int) and dim >= 0 or (isinstance(dim, Expr) and re.fullmatch(r"%?[\w.]+", text))
    return text if simple else f"({text})"


_BLANKS = re.compile(r"[ \t]*")
_OPERAND = re.compile(r"\d+|%?[A-Za-z_][\w.]*|%\d[\w.]*")
_OPERATOR = re.compile(r"//|[-+*%]")


def parse_expr(text: str) -> Dim:
    """Read what `str` of an expression gives. Raises ParseError with the text and the place."""
    value, at = read_expr(text, 0)
    if at != len(text):
        raise ExprError("expected an operator", text, at)
    return value


def read_expr(text: str, at: int) -> tuple[Dim, int]:
    """Read the longest expression that starts at this place; gives it and the place after it and its blanks.

    Raises ExprError. A `%` where an operand belongs begins the name of a value, elsewhere it is the
    remainder.
    """
    left, at = _read_product(text, at)
    while at < len(text) and text[at] in "+-":
        right, after = _read_product(text, at + 1)
        left = left + right if text[at] == "+" else left - right
        at = after
    return left, at


class ExprError(ParseError):
    """An expression that can't be read; `at` is the place in the text."""

    def __init__(self, message: str, text: str, at: int) -> None:
        super().__init__(f"{message} at column {at + 1} of the expression {text!r}")
        self.message, self.at = message, at


def _read_product(text: str, at: int) -> tuple[Dim, int]:
    left, at = _read_factor(text, at)
    while (found := _OPERATOR.match(text, at)) and found[0] in ("*", "//", "%"):
        right, at = _read_factor(text, found.end())
        if found[0] != "*" and right == 0:
            raise ExprError("division by zero", text, found.start())
        left = left * right if found[0] == "*" else _QUOTIENTS[found[0]](left, right)
    return left, at


def _read_factor(text: str, at: int) -> tuple[Dim, int]:
    at = _after_blanks(text, at)
    if text.startswith("-", at):
        value, at = _read_factor(text, at + 1)
        return value * -1, at
    if text.startswith("(", at):
        value, at = read_expr(text, at + 1)
        if not text.startswith(")", at):
            raise ExprError("missing )", text, at)
        return value, _after_blanks(text, at + 1)
    found = _OPERAND.match(text, at)
    if found is None:
        raise ExprError("expected a number, a name or a bracket", text, at)
    value = int(found[0]) if found[0].isdigit() else symbol(found[0])
    return value, _after_blanks(text, found.end())


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at
