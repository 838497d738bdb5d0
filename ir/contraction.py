"""What a `contract` operation sums: two operands, each indexed by affine functions of named labels.

    [m, k] * [k, n] -> [m, n] over k
    [n, oh + kh - 1, ow + kw - 1, ci] * [kh, kw, ci, co] -> [n, oh, ow, co] over kh, kw, ci where oh = 14, ow
    = 14

The first is a matrix product, the second a 3x3 convolution with padding 1. A step whose index falls outside
its operand takes no part (of bfloat16, whose steps go in pairs, it reads an exact zero). The labels after
`over` are summed, in that order (the last runs fastest); the order is part of the meaning, see
docs/numerics.md.

    [t, s] * [s, e] -> [t, e] over s when 0 <= t - s

sums, for each t, the steps s <= t alone: the others take no part. A result without any step is zero. Once an
operand has been copied with room around it (lowering), its own index tells no more which steps these are:

    [n, oh + kh, ow + kw, ci] * [kh, kw, ci, co] -> [n, oh, ow, co] over kh, kw, ci inside 0 <= oh + kh - 1 <
    14, 0 <= ow + kw - 1 < 14 where oh = 14, ow = 14
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .errors import IRTypeError, ParseError
from .expr import Dim, Expr, coefficient, parse_expr, symbols_of


@dataclass(frozen=True)
class ContractSpec:
    """Index maps of a contraction.

    lhs, rhs: one affine expression over labels per axis of the operand.
    out: the labels of the result, in order. over: the summed labels, in canonical order, fastest last.
    extents: sizes of the labels that stand alone on no operand axis (`oh` of a convolution), sorted by name.
    within: an affine expression over labels, each counting by 1 or -1; the steps at which it is negative take
    no part. None if all do.
    inside: (expression over labels, size): the steps at which it is not among 0 .. size - 1 take no part.
    """

    lhs: tuple[Dim, ...]
    rhs: tuple[Dim, ...]
    out: tuple[str, ...]
    over: tuple[str, ...]
    extents: tuple[tuple[str, Dim], ...] = ()
    within: Dim | None = None
    inside: tuple[tuple[Dim, Dim], ...] = ()

    def label_extents(self, lhs_shape: tuple[Dim, ...], rhs_shape: tuple[Dim, ...]) -> dict[str, Dim]:
        """The size of every label, from the operands' shapes and `extents`.

        Raises IRTypeError if ranks or sizes disagree, or a label has no size.
        """
        sizes: dict[str, Dim] = dict(self.extents)
        for side, maps, shape in (("lhs", self.lhs, lhs_shape), ("rhs", self.rhs, rhs_shape)):
            if len(maps) != len(shape):
                raise IRTypeError(f"contract: {side} has rank {len(shape)}, its map has {len(maps)} axes")
            for index, size in zip(maps, shape, strict=True):
                label = str(index)
                if not isinstance(index, Expr) or symbols_of(index) != {label}:
                    continue
                if sizes.setdefault(label, size) != size:
                    raise IRTypeError(f"contract: {label} has size {sizes[label]} and, on {side}, {size}")
        labels = (*self.out, *self.over)
        if len(set(labels)) != len(labels):
            raise IRTypeError(f"contract: a label stands twice after -> in {self}")
        missing = [name for name in labels if name not in sizes]
        if missing:
            raise IRTypeError(f"contract: no size is known for {', '.join(missing)} in {self}")
        self._check_within(set(labels))
        return sizes

    def _check_within(self, labels: set[str]) -> None:
        """Raises IRTypeError if `within` is more than a sum of labels, each counting by 1 or -1."""
        names = () if self.within is None else symbols_of(self.within)
        if any(name in labels and coefficient(self.within or 0, name) not in (1, -1) for name in names):
            raise IRTypeError(f"contract: {self.within} is no sum of labels, each counting by 1 or -1")

    def __str__(self) -> str:
        def axes(items: tuple[object, ...]) -> str:
            return "[" + ", ".join(map(str, items)) + "]"

        text = f"{axes(self.lhs)} * {axes(self.rhs)} -> {axes(self.out)} over"
        if self.over:
            text += f" {', '.join(self.over)}"
        if self.within is not None:
            text += f" when 0 <= {self.within}"
        if self.inside:
            text += " inside " + ", ".join(f"0 <= {index} < {size}" for index, size in self.inside)
        if self.extents:
            text += " where " + ", ".join(f"{name} = {size}" for name, size in self.extents)
        return text


def contract_spec(
    lhs: str, rhs: str, out: str, over: str, extents: Mapping[str, Dim] | None = None,
    within: str | None = None,
) -> ContractSpec:  # fmt: skip
    """Write a spec compactly: contract_spec("m k", "k n", "m n", "k"); an affine index goes in
    parentheses-free comma form when any operand needs it: contract_spec("n, oh + kh, ci", "kh, ci, co", "n oh
    co", "kh ci", {"oh": 5}).
    """

    def maps(text: str) -> tuple[Dim, ...]:
        parts = text.split(",") if "," in text else text.split()
        return tuple(parse_expr(p) for p in parts)

    sizes = tuple(sorted((extents or {}).items()))
    border = None if within is None else parse_expr(within)
    return ContractSpec(maps(lhs), maps(rhs), tuple(out.split()), tuple(over.split()), sizes, border)


def parse_contract_spec(text: str) -> ContractSpec:
    """Read what `str` of a spec gives. Raises ParseError."""
    try:
        body, _, where = text.partition(" where ")
        body, _, inside = body.partition(" inside 0 <= ")
        body, _, within = body.partition(" when 0 <= ")
        operands, _, rest = body.partition(" -> ")
        out, _, over = rest.partition(" over")
        lhs, rhs = operands.split(" * [", 1)
        sizes = (entry.split("=") for entry in where.split(",") if entry.strip())
        return ContractSpec(
            _parse_axes(lhs), _parse_axes("[" + rhs), _names(out.strip()[1:-1]), _names(over),
            tuple((name.strip(), parse_expr(size)) for name, size in sizes),
            parse_expr(within) if within else None,
            tuple(_parse_inside(part) for part in inside.split(", 0 <= ") if part),
        )  # fmt: skip
    except ValueError as error:
        raise ParseError(f"not a contraction: {text!r}") from error


def _parse_inside(text: str) -> tuple[Dim, Dim]:
    index, size = text.split(" < ")
    return parse_expr(index), parse_expr(size)


def _parse_axes(text: str) -> tuple[Dim, ...]:
    return tuple(parse_expr(part) for part in text.strip()[1:-1].split(",") if part.strip())


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
