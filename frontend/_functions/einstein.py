"""Einstein summation, two operands at a time, each step one contraction."""

from __future__ import annotations

import math
import string
from itertools import combinations
from typing import Any

from .._tensor import Tensor
from .linalg import contract
from .movement import diagonal, movedim, permute, reshape
from .reductions import sum as sum_

_Term = tuple[Tensor, list[str]]


def einsum(equation: Any, *operands: Any) -> Tensor:
    """The sum of products that the equation describes; of more than two operands the two whose product takes
    least work come first. Instead of an equation: operands, each followed by a list of numbers for its
    dimensions, and at the end such a list for the result.

    >>> vitrify.einsum("ij,jk->ik", vitrify.ones(2, 3), vitrify.ones(3, 4)).shape
    vitrify.Size([2, 4])
    """
    if isinstance(equation, Tensor):
        equation, operands = _equation((equation, *operands))
    items = (
        list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else list(operands)
    )
    inputs, output = _parse(equation.replace(" ", ""), items)
    terms = [_once_each(x, labels) for x, labels in zip(items, inputs, strict=True)]
    while len(terms) > 1:
        i, j = _cheapest(terms)
        others = [term for at, term in enumerate(terms) if at not in (i, j)]
        later = set(output).union(*(names for _, names in others))
        terms = [*others[:i], _pair(*terms[i], *terms[j], later), *others[i:]]
    x, have = terms[0]
    lost = [a for a, label in enumerate(have) if label not in output]
    if lost:
        x, have = sum_(x, lost), [v for v in have if v in output]
    return permute(x, *(have.index(v) for v in output))


def _cheapest(terms: list[_Term]) -> tuple[int, int]:
    """The two terms whose product takes least work, counted in multiplications; the first ones if equal."""

    def work(pair: tuple[int, int]) -> int:
        sizes: dict[str, int] = {}
        for x, labels in (terms[at] for at in pair):
            for label, n in zip(labels, x._type.shape, strict=True):
                sizes[label] = max(n, sizes.get(label, 1)) if n else 0
        return math.prod(sizes.values())

    return min(combinations(range(len(terms)), 2), key=work)


def _equation(given: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """The equation of operands that are followed by lists of numbers 0 .. 51 (and Ellipsis)."""
    operands = given[: len(given) // 2 * 2 : 2]
    lists = [*given[1::2], *given[len(operands) * 2 :]]
    parts = ["".join("..." if v is Ellipsis else string.ascii_letters[v] for v in labels) for labels in lists]
    left = ",".join(parts[: len(operands)])
    return (f"{left}->{parts[-1]}" if len(given) % 2 else left), operands


def _parse(equation: str, operands: list[Tensor]) -> tuple[list[list[str]], list[str]]:
    """The labels of each operand and of the result; `...` stands for labels e0, e1, ..., aligned at
    the last."""
    left, arrow, right = equation.partition("->")
    parts = left.split(",")
    if len(parts) != len(operands):
        fewer = "fewer" if len(parts) > len(operands) else "more"
        raise RuntimeError(f"einsum(): {fewer} operands were provided than specified in the equation")
    inputs = [_labels(part, x.ndim, i) for i, (part, x) in enumerate(zip(parts, operands, strict=True))]
    extra = max((sum(len(v) > 1 for v in labels) for labels in inputs), default=0)
    inputs = [_renumbered(labels, extra) for labels in inputs]
    dots = [f"e{i}" for i in range(extra)]
    if arrow:
        output = [v for c in right.replace("...", ".") for v in (dots if c == "." else [c])]
    else:
        seen = "".join(p.replace("...", "") for p in parts)
        output = dots + sorted(c for c in set(seen) if seen.count(c) == 1)
    _check_output(output, inputs)
    _check_sizes(inputs, operands)
    return inputs, output


def _labels(part: str, rank: int, position: int) -> list[str]:
    text = part.replace("...", ".")
    for c in text:
        if c != "." and c not in string.ascii_letters:
            raise RuntimeError(
                f"einsum(): invalid subscript given at index {part.find(c)} in the equation string"
            )
    extra = rank - len(text.replace(".", ""))
    if extra < 0 or extra and "." not in text:
        raise RuntimeError(
            f"einsum(): the number of subscripts in the equation ({len(text)}) does not match the number "
            "of dimensions "
            f"({rank}) for operand {position} and no ellipsis was given"
        )
    return [v for c in text for v in ([f"e{i}" for i in range(extra)] if c == "." else [c])]


def _renumbered(labels: list[str], extra: int) -> list[str]:
    shift = extra - sum(len(v) > 1 for v in labels)
    return [f"e{int(v[1:]) + shift}" if len(v) > 1 else v for v in labels]


def _check_output(output: list[str], inputs: list[list[str]]) -> None:
    for label in output:
        if output.count(label) > 1:
            raise RuntimeError(f"einsum(): output subscript {label} appears more than once in the output")
        if not any(label in labels for labels in inputs):
            raise RuntimeError(
                f"einsum(): output subscript {label} does not appear in the equation for any input operand"
            )


def _check_sizes(inputs: list[list[str]], operands: list[Tensor]) -> None:
    sizes: dict[str, int] = {}
    for i, (labels, x) in enumerate(zip(inputs, operands, strict=True)):
        for label, n in zip(labels, x._type.shape, strict=True):
            known = sizes.get(label, 1)
            if known != 1 and n not in (1, known):
                raise RuntimeError(
                    f"einsum(): subscript {label} has size {n} for operand {i} which does not broadcast "
                    "with previously "
                    f"seen size {known}"
                )
            sizes[label] = max(known, n) if n else 0


def _once_each(x: Tensor, labels: list[str]) -> tuple[Tensor, list[str]]:
    """The operand with repeated labels replaced by the diagonal."""
    labels = list(labels)
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            a = labels.index(label)
            b = labels.index(label, a + 1)
            x = movedim(diagonal(x, 0, a, b), -1, a)
            del labels[b]
    return x, labels


def _pair(x: Tensor, lhs: list[str], y: Tensor, rhs: list[str], later: set[str]) -> tuple[Tensor, list[str]]:
    """One contraction: labels needed later stay, the others are summed."""
    sizes = {
        v: n
        for z, labels in ((x, lhs), (y, rhs))
        for v, n in zip(labels, z._type.shape, strict=True)
        if n != 1
    }
    x, lhs = _without_ones(x, lhs, rhs, sizes)
    y, rhs = _without_ones(y, rhs, lhs, sizes)
    x, lhs = _summed_alone(x, lhs, rhs, later)
    y, rhs = _summed_alone(y, rhs, lhs, later)
    every = list(dict.fromkeys(lhs + rhs))
    out = [v for v in every if v in later]
    return contract(x, y, lhs, rhs, out, [v for v in every if v not in later]), out


def _without_ones(
    x: Tensor, labels: list[str], others: list[str], sizes: dict[str, int]
) -> tuple[Tensor, list[str]]:
    """Without the dimensions of size 1 that broadcast against the other operand."""
    dropped = [a for a, v in enumerate(labels) if x._type.shape[a] == 1 and v in others and v in sizes]
    kept = [a for a in range(len(labels)) if a not in dropped]
    if dropped:
        x = reshape(x, *(x._type.shape[a] for a in kept))
    return x, [labels[a] for a in kept]


def _summed_alone(
    x: Tensor, labels: list[str], others: list[str], later: set[str]
) -> tuple[Tensor, list[str]]:
    lost = [a for a, v in enumerate(labels) if v not in others and v not in later]
    if lost:
        x = sum_(x, lost)
    return x, [v for a, v in enumerate(labels) if a not in lost]
