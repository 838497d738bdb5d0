"""Index expressions as i64 instructions, each computed once and as far out as its symbols allow.

A scope is the inside of a loop or branch. A sum over symbols of several scopes is built from the outside
in, so what does not change in a loop stands in the place before it. In a vector loop the axis has a value
per lane: an index is then a *base*, the same for all lanes (its value in lane 0), and a vector of
*offsets*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..ir.expr import Dim, Expr, Monomial, Quotient, floordiv, mod, substitute, symbol, symbols_of
from ..ir.kernel import VECTOR
from .text import Function, Place

Value = int | str
_LIMIT = 1 << 31


@dataclass
class Symbol:
    """What a name stands for. value: an int, or an i64 value of the function; of a lane axis, its value in
    lane 0 of part 0.

    depth: the scope that defines it. extent: it is below this and not negative, where known. steps: 0 if it
    is the same in all lanes, 1 for a lane axis. parts: where lanes differ arbitrarily, a <16 x i64> per
    part.
    """

    value: Value
    depth: int
    extent: int | None = None
    steps: int = 0
    parts: tuple[str, ...] = ()
    natural: bool = True

    @property
    def varies(self) -> bool:
        return self.steps != 0 or bool(self.parts)


@dataclass
class _Scope:
    before: Place
    memo: dict[object, Value] = field(default_factory=dict)
    shadowed: dict[str, Symbol | None] = field(default_factory=dict)


class Indices:
    """Emits index expressions into one function."""

    def __init__(self, f: Function) -> None:
        self._f = f
        self._symbols: dict[str, Symbol] = {}
        self._scopes = [_Scope(f.place())]

    @contextmanager
    def scope(self, before: Place) -> Iterator[None]:
        """The inside of a loop or branch; `before` is the place that precedes it. Bindings made inside end
        with it.
        """
        self._scopes.append(_Scope(before))
        yield
        for name, old in self._scopes.pop().shadowed.items():
            if old is None:
                del self._symbols[name]
            else:
                self._symbols[name] = old

    def bind(self, name: str, value: Value, extent: Dim | None = None, **kind: object) -> None:
        """Let a name stand for a value that is defined in the current scope (or, an int, anywhere)."""
        scope = self._scopes[-1]
        scope.shadowed.setdefault(name, self._symbols.get(name))
        depth = 0 if isinstance(value, int) and not kind else len(self._scopes) - 1
        known = extent if isinstance(extent, int) else None
        self._symbols[name] = Symbol(value, depth, known, **kind)  # type: ignore[arg-type]

    def symbol(self, name: str) -> Symbol:
        """What a name stands for. KeyError if nothing was bound."""
        return self._symbols[name]

    # The same in all lanes.

    def value(self, dim: Dim) -> Value:
        """The expression as an int or an i64 value; lane axes count with their value in lane 0."""
        if isinstance(dim, int):
            return dim
        by_depth: dict[int, list[tuple[Monomial, int]]] = {}
        for monomial, c in dim.terms.items():
            by_depth.setdefault(self._depth(monomial), []).append((monomial, c))
        total: Value = 0
        key: tuple[object, ...] = ()
        for depth in sorted(by_depth):
            terms, before = by_depth[depth], total
            key = (*key, *terms, *self._known_values(m for m, _ in terms))
            total = self._once(depth, key, lambda: self._sum(before, terms, depth))  # noqa: B023
        return total

    def text(self, dim: Dim) -> str:
        """The expression as text that an i64 operand may be."""
        return str(self.value(dim))

    def once(self, key: object, depth: int, make: Callable[[], str]) -> str:
        """make() emitted as far out as values of scope `depth` allow, and remembered under `key`."""
        return str(self._once(depth, key, make))

    def depth(self, dim: Dim) -> int:
        """The innermost scope whose symbols the expression has."""
        return max((self._symbols[s].depth for s in symbols_of(dim)), default=0)

    @property
    def level(self) -> int:
        """The number of the current scope."""
        return len(self._scopes) - 1

    def _once(self, depth: int, key: object, make: Callable[[], Value]) -> Value:
        if depth >= self.level:
            memo = self._scopes[-1].memo
            if key not in memo:
                memo[key] = make()
            return memo[key]
        scope = self._scopes[depth + 1]
        found = self._scopes[depth].memo.get(key, scope.memo.get(key))
        if found is None:
            with self._f.writing_to(scope.before):
                found = scope.memo[key] = make()
        return found

    def _known_values(self, monomials: Iterable[Monomial]) -> Iterator[tuple[str, int]]:
        """Symbols that stand for ints, with their values: these may change from one part of a scope to the
        next.
        """
        for monomial in monomials:
            for name in sorted(symbols_of(Expr({monomial: 1}) if monomial else 0)):
                if isinstance(value := self._symbols[name].value, int):
                    yield name, value

    def _depth(self, monomial: Monomial) -> int:
        return max((self.depth(Expr({(f,): 1})) for f in monomial), default=0)

    def _sum(self, total: Value, terms: list[tuple[Monomial, int]], depth: int) -> Value:
        for monomial, c in terms:
            term: Value = c
            for factor in monomial:
                term = self._binary("mul", self._factor(factor, depth), term)
            total = self._binary("add", total, term)
        return total

    def _factor(self, factor: str | Quotient, depth: int) -> Value:
        if isinstance(factor, str):
            return self._symbols[factor].value
        key = (str(factor), *self._known_values([(factor,)]))
        return self._once(depth, key, lambda: self._quotient(factor))

    def _binary(self, op: str, a: Value, b: Value) -> Value:
        if isinstance(a, int) and isinstance(b, int):
            return a + b if op == "add" else a * b
        neutral = 0 if op == "add" else 1
        if a == neutral or b == neutral:
            return b if a == neutral else a
        return self._f(f"{op} i64 {a}, {b}")

    def _quotient(self, q: Quotient) -> Value:
        """Floor division or its remainder. A divisor that isn't known may be 0 where no element is ever
        touched.
        """
        f, a, b = self._f, self.value(q.a), self.value(q.b)
        if isinstance(a, int) and isinstance(b, int):
            return a // b if q.op == "//" else a % b
        if isinstance(b, str):
            b = f(f"call i64 @llvm.umax.i64(i64 {b}, i64 1)")
            f.module.declare("llvm.umax.i64", "i64", ["i64", "i64"])
        if self._natural(q.a) and self._natural(q.b):
            return f(f"{'udiv' if q.op == '//' else 'urem'} i64 {a}, {b}")
        rest = f(f"srem i64 {a}, {b}")
        below = f(f"icmp slt i64 {rest}, 0")
        if q.op == "%":
            return f(f"add i64 {rest}, {f(f'select i1 {below}, i64 {b}, i64 0')}")
        whole = f(f"sdiv i64 {a}, {b}")
        return f(f"add i64 {whole}, {f(f'sext i1 {below} to i64')}")

    # What is known of values.

    def _natural(self, dim: Dim) -> bool:
        """Whether the value is never negative, as far as its form tells."""
        if isinstance(dim, int):
            return dim >= 0
        return all(c >= 0 and all(map(self._natural_factor, m)) for m, c in dim.terms.items())

    def _natural_factor(self, factor: str | Quotient) -> bool:
        if isinstance(factor, str):
            return self._symbols[factor].natural
        return self._natural(factor.b) and (factor.op == "%" or self._natural(factor.a))

    def _range(self, dim: Dim) -> tuple[int, int] | None:
        """The least and the greatest value, if both are known."""
        if isinstance(dim, int):
            return dim, dim
        low = high = 0
        for monomial, c in dim.terms.items():
            ends = [c]
            for factor in monomial:
                span = self._factor_range(factor)
                if span is None:
                    return None
                ends = [e * s for e in (min(ends), max(ends)) for s in span]
            low, high = low + min(ends), high + max(ends)
        return low, high

    def _factor_range(self, factor: str | Quotient) -> tuple[int, int] | None:
        if isinstance(factor, str):
            known = self._symbols[factor]
            if isinstance(known.value, int) and not known.varies:
                return known.value, known.value
            # lanes that are masked off run past the extent, by less than all parts of a vector loop
            return (0, known.extent + 16 * VECTOR) if known.extent is not None and known.natural else None
        if not isinstance(factor.b, int):
            return None
        if factor.op == "%":
            return 0, factor.b - 1
        span = self._range(factor.a)
        return (span[0] // factor.b, span[1] // factor.b) if span else None

    # Differing from lane to lane.

    def two_valued(self, dim: Dim, part: int) -> tuple[Dim, Dim, Dim] | None:
        """(first, last, boundary) of an expression with one quotient by so much that the 16 lanes of a part
        see at most two values: `first`, and from lane number `boundary` on (which may be past them all)
        `last`. None if it is not of that form.
        """
        if isinstance(dim, int):
            return None
        varying = [(m, c) for m, c in dim.terms.items() if m and self.varies(Expr({m: 1}))]
        if len(varying) != 1 or len(varying[0][0]) != 1:
            return None
        (((q,), c),) = varying
        over, by = _quotient_of(symbol(q) if isinstance(q, str) else Expr({(q,): 1}))
        if by < VECTOR or self.stride(over) != 1:
            return None
        rest, start = dim - Expr({(q,): c}), over + VECTOR * part
        first, last = (rest + c * floordiv(start + lane, by) for lane in (0, VECTOR - 1))
        return first, last, by - mod(start, by)

    def varies(self, dim: Dim) -> bool:
        """Whether lanes see different values."""
        return any(self._symbols[s].varies for s in symbols_of(dim))

    def stride(self, dim: Dim) -> Dim | None:
        """The difference between neighbouring lanes, if it is one number for all; give it what `settle`
        gave.
        """
        if isinstance(dim, int):
            return 0
        total: Dim = 0
        for monomial, c in dim.terms.items():
            varying = [x for x in monomial if self.varies(Expr({(x,): 1}))]
            if not varying:
                continue
            if len(varying) > 1 or not isinstance(varying[0], str) or not self._symbols[varying[0]].steps:
                return None
            rest = list(monomial)
            rest.remove(varying[0])
            total = total + (Expr({tuple(rest): c}) if rest else c)
        return total

    def pinned(self, dim: Dim) -> Dim | None:
        """The expression with known symbols as numbers, lane axes by their lane 0; None if a lane axis
        isn't known.
        """
        known: dict[str, Dim] = {}
        for name in symbols_of(dim):
            this = self._symbols[name]
            if isinstance(this.value, int):
                known[name] = this.value
            elif this.varies:
                return None
        return substitute(dim, known)

    def settle(self, dim: Dim, align: int) -> Dim:
        """The expression with quotients by a multiple of `align` made simple: where the lane axis starts at
        multiples of `align` and `align` lanes run together, `j // 768` is the same in all lanes and `j %
        768` is a lane axis.
        """
        if isinstance(dim, int) or not self.varies(dim):
            return dim
        total: Dim = 0
        for monomial, c in dim.terms.items():
            term: Dim = c
            for factor in monomial:
                steady = isinstance(factor, Quotient) and self._is_steady(factor, align)
                term = term * (self._settled(factor) if steady else Expr({(factor,): 1}))  # type: ignore[arg-type]
            total = total + term
        return total

    def _is_steady(self, q: Quotient, align: int) -> bool:
        if (
            not isinstance(q.b, int)
            or q.b <= 0
            or q.b % align
            or not isinstance(q.a, Expr)
            or not self.varies(q.a)
        ):
            return False
        lanes = [(m, c) for m, c in q.a.terms.items() if self.varies(Expr({m: 1}))]
        rest = [c for m, c in q.a.terms.items() if not self.varies(Expr({m: 1}) if m else 0)]
        if len(lanes) != 1 or any(c % align for c in rest):
            return False
        ((monomial, c),) = lanes
        return (
            c == 1
            and len(monomial) == 1
            and isinstance(monomial[0], str)
            and self._symbols[monomial[0]].steps == 1
        )

    def _settled(self, q: Quotient) -> Dim:
        name = str(q)
        if name not in self._symbols:
            value = self.value(Expr({(q,): 1}))
            extent = self._factor_range(q)
            self.bind(
                name,
                value,
                extent[1] + 1 if extent else None,
                steps=int(q.op == "%"),
                natural=self._natural_factor(q),
            )
        return symbol(name)

    def is_multiple(self, dim: Dim, of: int) -> bool:
        """Whether the value in lane 0 is surely a multiple of `of`, which divides the number of lanes."""
        return all(
            any(self._is_multiple(factor, of) for factor in (c, *monomial))
            for monomial, c in (dim.terms if isinstance(dim, Expr) else {(): dim}).items()
        )

    def _is_multiple(self, factor: int | str | Quotient, of: int) -> bool:
        if isinstance(factor, str):
            known = self._symbols[factor]
            return (
                known.steps == 1 if known.varies else isinstance(known.value, int) and known.value % of == 0
            )
        return isinstance(factor, int) and factor % of == 0

    def split(self, dim: Dim, part: int) -> tuple[Value, str]:
        """(base, offsets): the index is the i64 `base` plus, lane by lane, the <16 x i64> `offsets`."""
        base: Dim = 0
        offsets: list[str] = []
        for monomial, c in (dim.terms if isinstance(dim, Expr) else {(): dim}).items():
            term = Expr({monomial: c}) if monomial else c
            stride = self.stride(term)
            if stride is None:
                offsets.append(self._product(monomial, c, part, "i64"))
            else:
                base = base + term
                offsets += [self._ramp(stride, part, "i64")] if stride != 0 else []
        return self.value(base), self._added(offsets, "i64")

    def lanes(self, dim: Dim, part: int) -> str:
        """The index in every lane, as <16 x i64>."""
        base, offsets = self.split(dim, part)
        return self._added([self._splat(base, "i64"), offsets], "i64")

    def compare(self, predicate: str, a: Dim, b: Dim, part: int) -> str:
        """`icmp predicate a, b` as <16 x i1>, in 32 bits where both fit."""
        kind = "i32" if self._fits(a) and self._fits(b) else "i64"
        x, y = self._full(a, part, kind), self._full(b, part, kind)
        return self._f(f"icmp {predicate} <{VECTOR} x {kind}> {x}, {y}")

    def _fits(self, dim: Dim) -> bool:
        span = self._range(dim)
        return span is not None and -_LIMIT <= span[0] and span[1] < _LIMIT

    def _full(self, dim: Dim, part: int, kind: str) -> str:
        base: Dim = 0
        terms: list[str] = []
        for monomial, c in (dim.terms if isinstance(dim, Expr) else {(): dim}).items():
            term = Expr({monomial: c}) if monomial else c
            stride = self.stride(term)
            if stride is None:
                terms.append(self._product(monomial, c, part, kind))
                continue
            base = base + term
            terms += [self._ramp(stride, part, kind)] if stride != 0 else []
        return self._added([self._splat(self.value(base), kind), *terms], kind)

    def _ramp(self, stride: Dim, part: int, kind: str) -> str:
        """stride * (lane + 16 * part)."""
        if isinstance(stride, int):
            steps = ", ".join(f"{kind} {stride * (lane + VECTOR * part)}" for lane in range(VECTOR))
            return f"<{steps}>"
        return self._f(
            f"mul <{VECTOR} x {kind}> {self._splat(self.value(stride), kind)}, {self._ramp(1, part, kind)}"
        )

    def _product(self, monomial: Monomial, c: int, part: int, kind: str) -> str:
        vector = f"<{VECTOR} x {kind}>"
        total = ""
        for factor in monomial:
            x = self._lane_factor(factor, part, kind)
            total = self._f(f"mul {vector} {total}, {x}") if total else x
        return total if c == 1 else self._f(f"mul {vector} {total}, {self._splat(c, kind)}")

    def _lane_factor(self, factor: str | Quotient, part: int, kind: str) -> str:
        if isinstance(factor, str):
            known = self._symbols[factor]
            if known.parts:
                full = known.parts[part]
                return (
                    full if kind == "i64" else self._f(f"trunc <{VECTOR} x i64> {full} to <{VECTOR} x i32>")
                )
            return self._full(symbol(factor), part, kind)
        key = (str(factor), part, kind, *self._known_values([(factor,)]))
        return self._once(
            self.depth(Expr({(factor,): 1})), key, lambda: self._lane_quotient(factor, part, kind)
        )  # type: ignore[return-value]

    def _lane_quotient(self, q: Quotient, part: int, kind: str) -> str:
        f, narrow = self._f, self._fits(q.a) and self._fits(q.b)
        own = "i32" if narrow else "i64"
        vector = f"<{VECTOR} x {own}>"
        a, b = self._full(q.a, part, own), self._full(q.b, part, own)
        if not isinstance(q.b, int):
            one = self._splat(1, own)
            b = f.call(vector, f"llvm.umax.v{VECTOR}{own}", (vector, b), (vector, one))
        if self._natural(q.a) and self._natural(q.b):
            result = f(f"{'udiv' if q.op == '//' else 'urem'} {vector} {a}, {b}")
        else:
            rest = f(f"srem {vector} {a}, {b}")
            below = f(f"icmp slt {vector} {rest}, zeroinitializer")
            if q.op == "%":
                fixed = f(f"select <{VECTOR} x i1> {below}, {vector} {b}, {vector} zeroinitializer")
                result = f(f"add {vector} {rest}, {fixed}")
            else:
                whole = f(f"sdiv {vector} {a}, {b}")
                result = f(f"add {vector} {whole}, {f(f'sext <{VECTOR} x i1> {below} to {vector}')}")
        if own == kind:
            return result
        return f(f"{'sext' if kind == 'i64' else 'trunc'} {vector} {result} to <{VECTOR} x {kind}>")

    def _splat(self, value: Value, kind: str) -> str:
        if isinstance(value, int):
            return "zeroinitializer" if value == 0 else f"splat ({kind} {value})"
        narrow = value if kind == "i64" else self._f(f"trunc i64 {value} to i32")
        return splat(self._f, kind, narrow)

    def _added(self, terms: list[str], kind: str) -> str:
        total = "zeroinitializer"
        for term in terms:
            zero = "zeroinitializer"
            both = total != zero and term != zero
            total = (
                self._f(f"add <{VECTOR} x {kind}> {total}, {term}")
                if both
                else term
                if total == zero
                else total
            )
        return total


def _quotient_of(dim: Dim) -> tuple[Dim, int]:
    """(a, b) of a // b, or of the same as several quotients one after the other; b is 1 if it is none."""
    if isinstance(dim, Expr) and len(dim.terms) == 1:
        ((monomial, c),) = dim.terms.items()
        match (c, *monomial):
            case (1, Quotient(op="//", a=a, b=int(b))) if b > 0:
                inner, by = _quotient_of(a)
                return inner, by * b
    return dim, 1


def splat(f: Function, element: str, value: str, width: int = VECTOR) -> str:
    """A <16 x element>, or of another width, with the value in every lane."""
    kind = f"<{width} x {element}>"
    first = f(f"insertelement {kind} poison, {element} {value}, i64 0")
    return f(f"shufflevector {kind} {first}, {kind} poison, <{width} x i32> zeroinitializer")
