"""Operation kinds: `OpDef` is a kind, declared once; `BoundOp` is a kind with its attributes, interned.

A declaration is the only place that knows an op's name, arity, type rule, meaning in numpy and traits.
Derivatives (`passes.autodiff`) and emission (`codegen`) are tables keyed by the `OpDef` object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Union

from .contraction import ContractSpec
from .dtypes import DType
from .errors import IRTypeError
from .expr import Expr
from .narrow import in_float32
from .types import Literal, TensorType

if TYPE_CHECKING:
    from .graph import Graph

#: What an attribute may be; all are hashable and have one textual form.
Attr = Union[int, float, bool, str, Expr, DType, Literal, ContractSpec, tuple["Attr", ...]]
Attrs = Mapping[str, Attr]
TypeRule = Callable[..., Union[TensorType, tuple[TensorType, ...]]]


@dataclass(frozen=True, eq=False)
class OpDef:
    """A kind of operation.

    arity: number of operands; None if it varies.
    infer: (*operand types, **attributes) -> result type, or a tuple of them; raises IRTypeError.
    meaning: (*numpy arrays, **attributes) -> numpy array; None for a call, which is what its region is.
    regions: how many regions it has, graphs of their own. Type rule and meaning of such an op take `regions`
      too: the graphs, and for the meaning functions from arrays to the list of a region's outputs.
    elementwise: result[i] depends on operands[i] only, all of one shape.
    movement: moves elements, computes nothing.
    reduction: combines elements along `axes`, in `order`.
    pure: has no effect besides its result.
    may_raise: can stop with an error depending on the data.
    exact: the numpy meaning has the very bits that every kernel gives.
    wide: on bfloat16 and float16 it computes in float32 and rounds its result once; `meaning` does so too.
    """

    name: str
    arity: int | None
    infer: TypeRule
    meaning: Callable[..., Any] | None
    regions: int = 0
    elementwise: bool = False
    commutative: bool = False
    movement: bool = False
    reduction: bool = False
    pure: bool = True
    may_raise: bool = False
    exact: bool = True
    wide: bool = False

    def __repr__(self) -> str:
        return f"ops.{self.name}"

    def result_types(self, *types: TensorType, regions: Any = (), **attrs: Attr) -> tuple[TensorType, ...]:
        """Types of the results. regions: graphs. Raises IRTypeError for wrong numbers of operands or regions,
        or a bad type."""
        if self.arity is not None and len(types) != self.arity:
            raise IRTypeError(f"{self.name} takes {self.arity} operands, got {len(types)}")
        if len(regions) != self.regions:
            raise IRTypeError(f"has {len(regions)} regions, expected {self.regions or 'none'}")
        given = {"regions": regions} if regions else {}
        result = self.infer(*types, **given, **attrs)
        return (result,) if isinstance(result, TensorType) else result


#: Every declared op, by name, in order of declaration.
ALL: dict[str, OpDef] = {}


def define(
    name: str,
    arity: int | None,
    infer: TypeRule,
    meaning: Callable[..., Any] | None,
    regions: int = 0,
    **traits: bool,
) -> OpDef:
    """Declare an op kind. Raises ValueError if the name is taken."""
    if name in ALL:
        raise ValueError(f"op {name} is declared twice")
    if traits.get("wide") and meaning is not None:
        meaning = in_float32(meaning)
    ALL[name] = OpDef(name, arity, infer, meaning, regions, **traits)
    return ALL[name]


@dataclass(frozen=True, eq=False)
class BoundOp:
    """An op kind with its attributes and regions. Interned by `bind`: identity is equality."""

    opdef: OpDef
    attrs: Mapping[str, Attr]
    regions: tuple[Graph, ...] = ()
    #: (operand types) -> result types, remembered.
    _types: dict[tuple[TensorType, ...], tuple[TensorType, ...]] = field(default_factory=dict)

    def result_types(self, *types: TensorType) -> tuple[TensorType, ...]:
        found = self._types.get(types)
        if found is None:
            found = self._types[types] = self.opdef.result_types(*types, regions=self.regions, **self.attrs)
        return found

    def __repr__(self) -> str:
        attrs = ", ".join(f"{k}={v}" for k, v in self.attrs.items())
        return f"{self.opdef.name}({attrs})"


_INTERNED: dict[tuple[object, ...], BoundOp] = {}


def bind(opdef: OpDef, regions: tuple[Graph, ...] = (), /, **attrs: Attr) -> BoundOp:
    """The one BoundOp of this kind, these attributes (floats told apart by bits, 1 from 1.0 and True) and
    these regions (told apart by their text)."""
    key: tuple[object, ...] = (opdef,)
    if attrs:
        key = (opdef, *((k, _identity(v)) for k, v in sorted(attrs.items())))
    if regions:
        key = (*key, *map(_text, regions))
    found = _INTERNED.get(key)
    if found is None:
        found = _INTERNED.setdefault(key, BoundOp(opdef, attrs, regions))
    return found


def _text(region: Graph) -> str:
    from .printer import print_graph  # which needs this module

    return print_graph(region, locations=False)


def _identity(value: Attr) -> object:
    if isinstance(value, tuple):
        return tuple(map(_identity, value))
    if isinstance(value, float):
        return (float, value.hex())
    return (type(value), value)
