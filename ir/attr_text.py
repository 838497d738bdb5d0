"""The textual form of types, literals and attributes: what graphs, kernels and plans have in common.

    3  1.5  inf  true  "text"  f32  (1, s0 + 1)  <[m, k] * [k, n] -> [m, n] over k>  f32(0.5)  i64[2](4, 5)

An expression stands bare where nothing else can be meant, else in `<...>`. A literal lists its elements in
row-major order, or holds its bytes in base64 if they are many or would not come back bit for bit.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from . import dtypes
from .contraction import ContractSpec, parse_contract_spec
from .dtypes import DType
from .errors import IRError
from .expr import Expr, parse_expr, symbols_of
from .opdef import Attr
from .scanner import Scanner
from .types import Literal, TensorType

#: A literal with more elements is written in base64.
LISTED = 16

_CONSTANTS: dict[str, Attr] = {"true": True, "false": False, "inf": math.inf, "nan": math.nan}
_KEYWORDS = {**_CONSTANTS, **{d.short: d for d in dtypes.ALL}}
_KEYWORD = re.compile(rf"-?(?:{'|'.join(_KEYWORDS)})(?![\w.])")
_FLOAT = re.compile(r"-?(?:\d+\.\d*(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+)")
_BRACKETED = re.compile(r"<((?:->|<=| < |[^<>\"\n])*)>")


def print_attr(value: Attr) -> str:
    """The text of an attribute. Raises IRError for something that is none."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | DType():
            return f"{value}"
        case float():
            return float.__repr__(value)
        case str():
            return json.dumps(value, ensure_ascii=False)
        case tuple():
            return f"({', '.join(map(print_attr, value))}{',' if len(value) == 1 else ''})"
        case Expr():
            text = str(value)
            return f"<{text}>" if text.startswith("(") or symbols_of(value) & _KEYWORDS.keys() else text
        case ContractSpec():
            return f"<{value}>"
        case Literal():
            return print_literal(value)
    raise IRError(f"{value!r} of type {type(value).__name__} can't be an attribute")


def parse_attr(scanner: Scanner) -> Attr:
    """Take an attribute. Raises ParseError."""
    if scanner.peek("("):
        return _tuple(scanner)
    if scanner.peek('"'):
        return scanner.string()
    if scanner.peek("<"):
        return _bracketed(scanner)
    if (found := scanner.match(_FLOAT)) is not None:
        return float(found[0])
    at = scanner.at
    if (found := scanner.match(_KEYWORD)) is None:
        return scanner.expression()
    value = _KEYWORDS[found[0].lstrip("-")]
    if isinstance(value, DType) and (scanner.peek("[") or scanner.peek("(")):
        scanner.at = at
        return parse_literal(scanner)
    if not found[0].startswith("-"):
        return value
    if not isinstance(value, float):
        scanner.fail(f"{found[0]!r} is not a value", at)
    return -value


def _tuple(scanner: Scanner) -> tuple[Attr, ...]:
    scanner.expect("(")
    items: list[Attr] = []
    while not scanner.accept(")"):
        items.append(parse_attr(scanner))
        if len(items) > 1 and scanner.accept(")"):
            break
        scanner.expect(",")
    return tuple(items)


def _bracketed(scanner: Scanner) -> Attr:
    at = scanner.at
    found = scanner.match(_BRACKETED)
    if found is None:
        scanner.fail("expected an expression or a contraction in <...>")
    try:
        if found[1].startswith("["):
            return parse_contract_spec(found[1])
        return parse_expr(found[1])
    except IRError as error:
        scanner.fail(str(error), at)


def print_literal(value: Literal) -> str:
    """`f32(1.5)`, `i64[2, 2](1, 2, 3, 4)` or `f32[100]("base64")`."""
    shape = f"[{', '.join(map(str, value.shape))}]" if value.shape else ""
    head = f"{value.dtype}{shape}"
    if math.prod(value.shape) <= LISTED and value.dtype is not dtypes.bfloat16 and not value.dtype.is_complex:
        items = ", ".join(_element(v) for v in value.array().reshape(-1))
        if _listed(value.dtype, value.shape, items) == value:
            return f"{head}({items})"
    return f'{head}("{base64.b64encode(value.data).decode()}")'


def _element(value: np.generic) -> str:
    if isinstance(value, np.bool_):
        return "true" if value else "false"
    return str(value)


def _listed(dtype: DType, shape: tuple[int, ...], items: str) -> Literal:
    """The literal with these elements. Raises ValueError or OverflowError if they don't fit."""
    words = [w.strip() for w in items.split(",") if w.strip()]
    if dtype is dtypes.bool_:
        if bad := [w for w in words if w not in ("true", "false")]:
            raise ValueError(f"{bad[0]} is not true or false")
        return Literal.of(np.array([w == "true" for w in words], bool).reshape(shape), dtype)
    read = float if dtype.is_floating_point else int
    return Literal.of(np.array([dtype.numpy.type(read(w)) for w in words], dtype.numpy).reshape(shape), dtype)


_LITERAL = re.compile(r"(\w+)(?:\[([\d, ]*)\])?\(([^()\"\n]*|\"[^\"\n]*\")\)")


def parse_literal(scanner: Scanner) -> Literal:
    """Take a literal. Raises ParseError if its elements don't fit its type."""
    at = scanner.at
    found = scanner.match(_LITERAL)
    if found is None or not isinstance(_KEYWORDS.get(found[1]), DType):
        scanner.fail("expected a literal such as f32(1.5) or i64[2](4, 5)", at)
    dtype = dtypes.dtype_of(found[1])
    shape = tuple(int(d) for d in (found[2] or "").split(",") if d.strip())
    try:
        if found[3].startswith('"'):
            return _encoded(dtype, shape, found[3][1:-1])
        return _listed(dtype, shape, found[3])
    except (ValueError, OverflowError) as error:
        scanner.fail(f"this is not a {TensorType(dtype, shape)}: {error}", at)


def _encoded(dtype: DType, shape: tuple[int, ...], text: str) -> Literal:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"bad base64 ({error})") from error
    want = math.prod(shape) * dtype.itemsize
    if len(data) != want:
        raise ValueError(f"{len(data)} bytes, expected {want}")
    return Literal(dtype, shape, data)


_TYPE = re.compile(r"(\w+)\[([^\[\]\n]*)\]")


def parse_type(scanner: Scanner) -> TensorType:
    """Take a type such as `f32[s0, 4]`. Raises ParseError."""
    at = scanner.at
    found = scanner.match(_TYPE)
    if found is None:
        scanner.fail(f"expected a type such as f32[2, 3], found {scanner.found()}", at)
    try:
        return _type_of(found[1], found[2])
    except (IRError, KeyError) as error:
        why = f"there is no dtype {found[1]!r}" if isinstance(error, KeyError) else str(error)
        scanner.fail(f"{found[0]!r} is not a type: {why}", at)


@lru_cache(maxsize=4096)
def _type_of(dtype: str, shape: str) -> TensorType:
    scanner = Scanner(shape + "]")
    return TensorType(dtypes.dtype_of(dtype), scanner.expressions("]"))


def parse_dtype(scanner: Scanner) -> DType:
    """Take the short name of a dtype."""
    at = scanner.at
    value = _KEYWORDS.get(scanner.word("a dtype"))
    if not isinstance(value, DType):
        scanner.fail("expected a dtype such as f32", at)
    return value


def print_attrs(attrs: Mapping[str, Attr]) -> str:
    """` {axes=(0,), order="rows"}`, names ascending; nothing if there are none."""
    if not attrs:
        return ""
    return f" {{{', '.join(f'{name}={print_attr(attrs[name])}' for name in sorted(attrs))}}}"


def parse_attrs(scanner: Scanner) -> dict[str, Attr]:
    """Take what `print_attrs` gives. Raises ParseError for a name given twice."""
    attrs: dict[str, Attr] = {}
    if not scanner.accept("{"):
        return attrs
    while not scanner.accept("}"):
        if attrs:
            scanner.expect(",")
        at = scanner.at
        name = scanner.word("an attribute")
        if name in attrs:
            scanner.fail(f"the attribute {name} is given twice", at)
        scanner.expect("=")
        attrs[name] = parse_attr(scanner)
    return attrs
