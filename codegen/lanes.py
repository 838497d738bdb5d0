"""`Lanes`: arithmetic on values of one LLVM type, a scalar or 16 lanes, for the tables and functions that
compute elements.

The same code serves both widths, so a scalar tail and a vector body have the same bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from ..ir.dtypes import DType, bfloat16, bool_, float16, float32, float64, int32, int64, uint8
from ..ir.dtypes import int8 as int8_
from ..ir.dtypes import int16 as int16_
from ..ir.kernel import VECTOR
from ..ir.narrow import NARROW
from ..ir.types import Literal
from .text import Function, float_text

#: How an element is held in registers, and in memory.
REGISTER: dict[DType, str] = {
    float32: "float", float64: "double", int64: "i64", int32: "i32", int16_: "i16", int8_: "i8",
    uint8: "i8", bool_: "i1", bfloat16: "i16", float16: "i16",
}  # fmt: skip
MEMORY: dict[DType, str] = {**REGISTER, bool_: "i8"}
_SUFFIX = {"float": "f32", "double": "f64"}


def type_text(element: str, width: int) -> str:
    """`float` or `<16 x float>`."""
    return element if width == 1 else f"<{width} x {element}>"


def type_suffix(element: str, width: int) -> str:
    """How an intrinsic's name ends: `f32` or `v16f32`."""
    short = _SUFFIX.get(element, element)
    return short if width == 1 else f"v{width}{short}"


def scalar_text(value: object, element: str) -> str:
    """A number as an LLVM constant of the element type."""
    if element == "float":
        return float_text(float(np.float32(value)))  # type: ignore[arg-type]
    if element == "double":
        return float_text(float(value))  # type: ignore[arg-type]
    if element == "i1":
        return "true" if value else "false"
    return str(int(value))  # type: ignore[call-overload]


def constant_text(text: str, element: str, width: int) -> str:
    """A scalar constant in every lane."""
    return text if width == 1 else f"splat ({element} {text})"


def literal_text(value: Literal, element: str) -> str:
    """A literal of rank 0 as a scalar constant of the element type; of a 16-bit float, its bits."""
    if value.dtype in NARROW:
        return scalar_text(value.array().view(np.int16).item(), element)
    return scalar_text(value.array().item(), element)


class Lanes:
    """One type and the function that its arithmetic is written into.

    element: `float`, `double`, `i32`, ...; width: 1 or 16 (less within a reduction's tree). unsigned: how
    integers are read. Values are LLVM texts, masks are i1 or <16 x i1>.
    """

    __slots__ = ("f", "element", "width", "unsigned", "type", "suffix", "mask")

    def __init__(self, f: Function, element: str, width: int, unsigned: bool = False) -> None:
        self.f, self.element, self.width, self.unsigned = f, element, width, unsigned
        self.type = type_text(element, width)
        self.suffix = type_suffix(element, width)
        self.mask = type_text("i1", width)

    def of(self, element: str) -> Lanes:
        """The same width with another element type (signed, for integers)."""
        return Lanes(self.f, element, self.width)

    def narrowed(self, width: int) -> Lanes:
        """The same element type with another width."""
        return Lanes(self.f, self.element, width, self.unsigned)

    @property
    def is_float(self) -> bool:
        return self.element in _SUFFIX

    @property
    def scales(self) -> bool:
        """Whether these lanes have instructions for x * 2^floor(n), and for the smaller of two sizes."""
        target = self.f.module.target
        return self.type == "<16 x float>" and target is not None and target.vector_bytes == 64

    @property
    def bits(self) -> int:
        """Width of an element."""
        return {"float": 32, "double": 64}.get(self.element) or int(self.element[1:])

    @property
    def integers(self) -> Lanes:
        """Integers of the same size."""
        return self.of(f"i{self.bits}")

    def __call__(self, op: str, *operands: str) -> str:
        """An instruction of this type: x("fadd", a, b)."""
        return self.f(f"{op} {self.type} {', '.join(operands)}")

    def const(self, value: object) -> str:
        """A number in every lane."""
        return constant_text(scalar_text(value, self.element), self.element, self.width)

    def quotient(self, op: str, a: str, b: str) -> str:
        """`fdiv` or `frem`. LLVM 22 takes the vector instructions to give zero where both operands are known
        to be zero, and drops a select that puts zeros there, though 0/0 is NaN. Where no operand is a
        constant, the constrained form stands for the instruction: nothing is assumed of it."""
        if self.width == 1 or any(o.startswith("splat") and o != self.const(0) for o in (a, b)):
            return self(op, a, b)
        rounding, exceptions = '!"round.tonearest"', '!"fpexcept.ignore"'
        return self.f.call(
            self.type, f"llvm.experimental.constrained.{op}.{self.suffix}",
            (self.type, a), (self.type, b), ("metadata", rounding), ("metadata", exceptions),
        )  # fmt: skip

    def intrinsic(self, name: str, *operands: str) -> str:
        """llvm.<name> with every operand and the result of this type."""
        return self.f.call(self.type, f"llvm.{name}.{self.suffix}", *((self.type, o) for o in operands))

    def fma(self, a: str, b: str, c: str) -> str:
        """a * b + c, rounded once."""
        return self.intrinsic("fma", a, b, c)

    def compare(self, predicate: str, a: str, b: str) -> str:
        """A mask: fcmp or icmp by the type."""
        return self.f(f"{'fcmp' if self.is_float else 'icmp'} {predicate} {self.type} {a}, {b}")

    def select(self, mask: str, a: str, b: str) -> str:
        """a where the mask holds, else b."""
        return self.f(f"select {self.mask} {mask}, {self.type} {a}, {self.type} {b}")

    def both(self, op: str, a: str, b: str) -> str:
        """`and`, `or` or `xor` of two masks."""
        return self.f(f"{op} {self.mask} {a}, {b}")

    def to(self, instruction: str, value: str, element: str) -> str:
        """A conversion: x.to("fptosi", v, "i32")."""
        return self.f(f"{instruction} {self.type} {value} to {type_text(element, self.width)}")

    def bitcast(self, value: str, element: str) -> str:
        """The same bits as another type of equal size."""
        return self.to("bitcast", value, element)

    def lookup(self, values: Sequence[float], index: str) -> str:
        """values[index % n], for n = 16 or 32 floats and an index per lane (i32): data are moved, nothing is
        computed. In registers where the target permutes vectors, else from memory."""
        width = self.f.module.target.vector_bytes if self.f.module.target is not None else 0
        if self.width == VECTOR and width == 64:
            low, high = self._vector(values[:16]), self._vector(values[-16:])
            if len(values) == 16:
                arguments = ((self.type, low), (self.integers.type, index))
                return self.f.call(self.type, "llvm.x86.avx512.permvar.sf.512", *arguments)
            kinds = (self.type, self.integers.type, self.type)
            name = "llvm.x86.avx512.vpermi2var.ps.512"
            return self.f.call(self.type, name, *zip(kinds, (low, index, high), strict=True))
        if self.width == VECTOR and width == 32:
            return self._lookup_in_eights(values, index)
        return self._lookup_in_memory(values, index)

    def _vector(self, values: Sequence[float]) -> str:
        """A constant with a value per lane."""
        return "<" + ", ".join(f"{self.element} {scalar_text(v, self.element)}" for v in values) + ">"

    def _lookup_in_eights(self, values: Sequence[float], index: str) -> str:
        """With permutations of 8 lanes: of all eights, then a choice by bit 3, and 4, of the index."""
        f, eight, whole = self.f, self.narrowed(8), self.integers
        found = []
        for half in (0, 8):
            places = ", ".join(f"i32 {half + lane}" for lane in range(8))
            part = f(f"shufflevector {whole.type} {index}, {whole.type} poison, <8 x i32> <{places}>")
            level = []
            for at in range(0, len(values), 8):
                table = eight._vector(values[at : at + 8])
                arguments = ((eight.type, table), (eight.integers.type, part))
                level.append(f.call(eight.type, "llvm.x86.avx2.permps", *arguments))
            for bit in range(3, len(values).bit_length() - 1):
                shifted = eight.integers("shl", part, eight.integers.const(31 - bit))
                upper = eight.integers.compare("slt", shifted, eight.integers.const(0))
                level = [eight.select(upper, b, a) for a, b in zip(level[::2], level[1::2], strict=True)]
            found.append(level[0])
        places = ", ".join(f"i32 {lane}" for lane in range(VECTOR))
        return f(f"shufflevector {eight.type} {found[0]}, {eight.type} {found[1]}, <16 x i32> <{places}>")

    def _lookup_in_memory(self, values: Sequence[float], index: str) -> str:
        """One load per lane."""
        text = f"[{len(values)} x {self.element}] [{self._vector(values)[1:-1]}]"
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        table = self.f.module.table(f"vitrify.table.{digest}", text)
        whole = self.integers
        inside = whole("and", index, whole.const(len(values) - 1))
        pointers = type_text("ptr", self.width)
        address = self.f(f"getelementptr {self.element}, ptr {table}, {whole.type} {inside}")
        if self.width == 1:
            return self.f(f"load {self.element}, ptr {address}, align 4")
        name = f"llvm.masked.gather.{self.suffix}.v{self.width}p0"
        arguments = (
            (pointers, address), ("i32", "4"), (self.mask, constant_text("true", "i1", self.width)),
            (self.type, "poison"),
        )  # fmt: skip
        return self.f.call(self.type, name, *arguments)

    def any(self, mask: str) -> str:
        """An i1: whether any lane of a mask is set."""
        if self.width == 1:
            return mask
        whole = self.f(f"bitcast {self.mask} {mask} to i{self.width}")
        return self.f(f"icmp ne i{self.width} {whole}, 0")


def lane_mask(count: int) -> str:
    """A constant mask of the first `count` of 16 lanes."""
    return "<" + ", ".join(f"i1 {'true' if lane < count else 'false'}" for lane in range(VECTOR)) + ">"
