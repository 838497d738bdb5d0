"""Sorts: for a line of elements, the places of those that come first.

Each element becomes an unsigned *key* of 32 or 64 bits whose order is that of the elements. A *pair* is
the key above the place, so that pairs are all different and their order is that of a stable sort. A short
line is ranked: a place's rank is the number of pairs below it. Of a longer one pairs are collected, at first
all, then those below the last one wanted; whenever there is no more room they are sorted and the first
`count` stay.
Pairs are sorted by their keys' bytes, the lowest first, leaving out bytes that are the same in all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..ir.dtypes import DType, bool_
from ..ir.kernel import VECTOR, Sort
from ..ir.ops.sorting import collected
from .context import Context
from .indices import splat
from .lanes import MEMORY, Lanes, type_text
from .text import Function, Module

#: Writes what collects the element at a place.
Offer = Callable[[str, list[str]], Sequence[str]]
#: Lines up to so many elements are ranked.
SHORT = 64
#: So many pairs or fewer are sorted by insertion.
FEW = 48
#: Values of a byte.
_BYTE = 256
_IOTA = "<" + ", ".join(f"i64 {lane}" for lane in range(VECTOR)) + ">"
#: The words of what is collected: where pairs lie, where they may be moved to, how many there are, the key
#: that another one has to be below, the place of that element, how many there is room for, how many are
#: wanted.
_PAIRS, _OTHER, _NUMBER, _BELOW, _LAST, _MOST, _COUNT, _WORDS = range(8)


def emit_sort(ctx: Context, s: Sort) -> None:
    """Write the sort of a line."""
    name = _places(ctx.f.module, _Keys(ctx.buffers[s.source].dtype, s.descending))
    source = ctx.address(s.source, s.source_index)
    target = ctx.address(s.target, s.target_index)
    scratch = ctx.address(s.scratch, s.scratch_index)
    length, count, most = map(ctx.index, (s.length, s.count, collected(s.length, s.count)))
    ctx.f.do(
        f"call void @{name}(ptr {source}, i64 {length}, ptr {target}, i64 {count}, ptr {scratch}, i64 {most})"
    )


@dataclass(frozen=True)
class _Keys:
    """How elements of a dtype become keys. Descending keys are the complements of ascending ones."""

    dtype: DType
    descending: bool

    @property
    def element(self) -> str:
        return MEMORY[self.dtype]

    @property
    def key(self) -> str:
        return "i64" if self.dtype.itemsize == 8 else "i32"

    @property
    def pair(self) -> str:
        return "i128" if self.dtype.itemsize == 8 else "i64"

    @property
    def bits(self) -> int:
        """Of a key; the place has as many."""
        return int(self.key[1:])

    @property
    def is_signed(self) -> bool:
        return self.dtype.is_signed and self.dtype is not bool_

    def name(self, what: str) -> str:
        return f'"sort.{what}.{self.dtype.short}{".down" if self.descending else ""}"'

    def of(self, x: Lanes, value: str) -> str:
        """Keys of elements. The zeros have one key, and all NaNs the greatest."""
        k = Lanes(x.f, self.key, x.width)
        if x.is_float:
            bits = x.bitcast(x("fadd", value, x.const(0.0)), self.key)
            flip = k("or", k("ashr", bits, k.const(self.bits - 1)), k.const(-(2 ** (self.bits - 1))))
            key = k.select(x.compare("uno", value, value), k.const(-1), k("xor", bits, flip))
        elif self.is_signed:
            wide = value if x.element == self.key else x.to("sext", value, self.key)
            key = k("xor", wide, k.const(-(2 ** (self.bits - 1))))
        else:
            key = x.to("zext", value, self.key)
        return k("xor", key, k.const(-1)) if self.descending else key

    def read(self, f: Function, source: str, at: str) -> str:
        """The key of one element."""
        place = f(f"getelementptr {self.element}, ptr {source}, i64 {at}")
        value = f(f"load {self.element}, ptr {place}, align {self.dtype.itemsize}")
        return self.of(Lanes(f, self.element, 1), value)

    def paired(self, f: Function, keys: str, places: str, width: int = 1) -> str:
        """Pairs of keys and places (i64)."""
        pair, key, place = (type_text(t, width) for t in (self.pair, self.key, "i64"))
        wide = f(f"zext {key} {keys} to {pair}")
        shift = f"splat ({self.pair} {self.bits})" if width > 1 else str(self.bits)
        low = places if pair == place else f(f"zext {place} {places} to {pair}")
        return f(f"or {pair} {f(f'shl {pair} {wide}, {shift}')}, {low}")

    def key_at(self, f: Function, pairs: str, at: str | int) -> str:
        """The key of a pair in memory: its upper half."""
        place = f(f"getelementptr {self.key}, ptr {self.at(f, pairs, at)}, i64 1")
        return f(f"load {self.key}, ptr {place}, align {self.bits // 8}")

    def place_at(self, f: Function, pairs: str, at: str) -> str:
        """The place of a pair in memory: its lower half."""
        low = f(f"load {self.key}, ptr {self.at(f, pairs, at)}, align {self.bits // 8}")
        return low if self.key == "i64" else f(f"zext {self.key} {low} to i64")

    def at(self, f: Function, pairs: str, at: str | int) -> str:
        """The address of a pair."""
        return f(f"getelementptr {self.pair}, ptr {pairs}, i64 {at}")

    def load(self, f: Function, pairs: str, at: str | int) -> str:
        return f(f"load {self.pair}, ptr {self.at(f, pairs, at)}, align 8")

    def store(self, f: Function, pair: str, pairs: str, at: str | int) -> None:
        f.do(f"store {self.pair} {pair}, ptr {self.at(f, pairs, at)}, align 8")


#: The parameters of a line to be sorted, and of the room for it.
_LINE = [("ptr", "source"), ("i64", "length"), ("ptr", "target"), ("i64", "count")]
_SCRATCH = [("ptr", "scratch"), ("i64", "most")]


def _places(module: Module, keys: _Keys) -> str:
    """The function (source, length, target, count, scratch, most) that sorts a line."""
    name = keys.name("line")
    if module.defined(name):
        return name
    ranked, collect = _ranked(module, keys), _collecting(module, keys)
    f = Function(module, name, [*_LINE, *_SCRATCH], result="void")
    some, short = f("icmp sgt i64 %count, 0"), f(f"icmp sle i64 %length, {SHORT}")
    long = f(f"xor i1 {short}, true")
    f.when(f(f"and i1 {some}, {short}"), lambda: _call(f, ranked, _LINE))
    f.when(f(f"and i1 {some}, {long}"), lambda: _call(f, collect, [*_LINE, *_SCRATCH]))
    f.do("ret void")
    module.add(f)
    return name


# Ranking.


def _ranked(module: Module, keys: _Keys) -> str:
    """The function (ptr source, i64 length, ptr target, i64 count) for short lines."""
    name = keys.name("short")
    f = Function(module, name, _LINE, result="void")
    known, ranks, order = (f.alloca("i64", SHORT) for _ in range(3))
    f.loop(0, "%length", VECTOR, [], lambda at, _: _know(f, keys, known, at))
    f.loop(0, "%length", VECTOR, [], lambda at, _: _rank(f, keys, known, ranks, at))
    whole = f("icmp eq i64 %count, %length")
    to = f(f"select i1 {whole}, ptr %target, ptr {order}")

    def put(at: str, _: list[str]) -> Sequence[str]:
        return _write(f, "i64", at, to, _word_at(f, ranks, at))

    def give(at: str, _: list[str]) -> Sequence[str]:
        return _write(f, "i64", _word_at(f, order, at), "%target", at)

    f.loop(0, "%length", 1, [], put)
    f.loop(0, f(f"select i1 {whole}, i64 0, i64 %count"), 1, [], give)
    f.do("ret void")
    module.add(f)
    return name


def _know(f: Function, keys: _Keys, known: str, at: str) -> Sequence[str]:
    """Keep what 16 elements are compared by."""
    x, word = Lanes(f, keys.element, VECTOR), Lanes(f, "i64", VECTOR)
    lanes = word("add", splat(f, "i64", at), _IOTA)
    mask = word.compare("slt", lanes, splat(f, "i64", "%length"))
    place = f(f"getelementptr {keys.element}, ptr %source, i64 {at}")
    size, nothing = ("i32", str(keys.dtype.itemsize)), (x.type, "zeroinitializer")
    given = (("ptr", place), size, (x.mask, mask), nothing)
    key = keys.of(x, f.call(x.type, f"llvm.masked.load.{x.suffix}.p0", *given))
    return _write(f, word.type, _comparable(f, keys, key, lanes), known, at)


def _rank(f: Function, keys: _Keys, known: str, ranks: str, at: str) -> Sequence[str]:
    """How many elements come before each of 16."""
    word = Lanes(f, "i64", VECTOR)
    mine = _word_at(f, known, at, word.type)
    lanes = word("add", splat(f, "i64", at), _IOTA)

    def count(other: str, found: list[str]) -> Sequence[str]:
        key = splat(f, "i64", _word_at(f, known, other))
        below = word.compare("ult", key, mine)
        if keys.key == "i64":
            before = word.compare("slt", splat(f, "i64", other), lanes)
            below = word.both("or", below, word.both("and", word.compare("eq", key, mine), before))
        return [word.select(below, word("add", found[0], word.const(1)), found[0])]

    (found,) = f.loop(0, "%length", 1, [(word.type, "zeroinitializer")], count)
    return _write(f, word.type, found, ranks, at)


def _comparable(f: Function, keys: _Keys, key: str, places: str) -> str:
    """Pairs where these are words; else the keys alone."""
    return keys.paired(f, key, places, VECTOR) if keys.pair == "i64" else key


# Collecting.


def _collecting(module: Module, keys: _Keys) -> str:
    """The function (source, length, target, count, scratch, most) for longer lines."""
    name, thinned, offered = keys.name("long"), _thinned(module, keys), _offered(module, keys)
    f = Function(module, name, [*_LINE, *_SCRATCH], result="void")
    state = f.alloca("i64", _WORDS)
    first = f.call("i64", "llvm.smin.i64", ("i64", "%length"), ("i64", "%most"))
    _fill(f, keys, first)
    other = keys.at(f, "%scratch", "%most")
    words = {_PAIRS: ("ptr", "%scratch"), _OTHER: ("ptr", other), _NUMBER: ("i64", first)}
    for word, (kind, value) in {**words, _MOST: ("i64", "%most"), _COUNT: ("i64", "%count")}.items():
        _write(f, kind, value, state, word)

    def offer(at: str, _: list[str]) -> Sequence[str]:
        return _call(f, offered, [("ptr", state), ("ptr", "%source"), ("i64", at)])

    def go_on() -> Sequence[str]:
        _call(f, thinned, [("ptr", state)])
        left = f(f"sub i64 %length, {first}")
        whole = f(f"add i64 {first}, {f(f'and i64 {left}, {-VECTOR}')}")
        f.loop(first, whole, VECTOR, [], lambda at, _: _look(f, keys, state, at, offer))
        f.loop(whole, "%length", 1, [], offer)
        return []

    f.when(f(f"icmp slt i64 {first}, %length"), go_on)
    _call(f, thinned, [("ptr", state)])
    pairs = _word_at(f, state, _PAIRS, "ptr")

    def give(at: str, _: list[str]) -> Sequence[str]:
        return _write(f, "i64", keys.place_at(f, pairs, at), "%target", at)

    f.loop(0, "%count", 1, [], give)
    f.do("ret void")
    module.add(f)
    return name


def _word(f: Function, words: str, number: int | str) -> str:
    """The address of a word."""
    return f(f"getelementptr i64, ptr {words}, i64 {number}")


def _word_at(f: Function, words: str, number: int | str, kind: str = "i64") -> str:
    """What is there."""
    return f(f"load {kind}, ptr {_word(f, words, number)}")


def _write(f: Function, kind: str, value: str, words: str, number: int | str) -> Sequence[str]:
    """Put a value there; as the body of a loop it carries nothing."""
    f.do(f"store {kind} {value}, ptr {_word(f, words, number)}")
    return []


def _call(f: Function, name: str, arguments: Sequence[tuple[str, str]]) -> Sequence[str]:
    """Call one of these functions, with parameters of `f` or values."""
    given = (f"{kind} {value if value[0] == '%' else '%' + value}" for kind, value in arguments)
    f.do(f"call void @{name}({', '.join(given)})")
    return []


def _fill(f: Function, keys: _Keys, count: str) -> None:
    """The pairs of the first `count` elements, in vectors where pairs are words."""
    done: int | str = 0
    if keys.pair == "i64":
        done = f(f"and i64 {count}, {-VECTOR}")
        x = Lanes(f, keys.element, VECTOR)

        def several(at: str, _: list[str]) -> Sequence[str]:
            place = f(f"getelementptr {keys.element}, ptr %source, i64 {at}")
            value = f(f"load {x.type}, ptr {place}, align {keys.dtype.itemsize}")
            lanes = f(f"add <16 x i64> {splat(f, 'i64', at)}, {_IOTA}")
            pairs = keys.paired(f, keys.of(x, value), lanes, VECTOR)
            f.do(f"store <16 x i64> {pairs}, ptr {keys.at(f, '%scratch', at)}, align 8")
            return []

        f.loop(0, done, VECTOR, [], several)

    def one(at: str, _: list[str]) -> Sequence[str]:
        keys.store(f, keys.paired(f, keys.read(f, "%source", at), at), "%scratch", at)
        return []

    f.loop(done, count, 1, [], one)


def _look(f: Function, keys: _Keys, state: str, at: str, offer: Offer) -> list[str]:
    """Offer those of 16 elements that come before the last one wanted so far, and what may do so: a NaN."""
    x = Lanes(f, keys.element, VECTOR)
    value = f(
        f"load {x.type}, ptr {f(f'getelementptr {keys.element}, ptr %source, i64 {at}')}, "
        f"align {keys.dtype.itemsize}"
    )
    last = _word_at(f, state, _LAST)
    there = f(f"getelementptr {keys.element}, ptr %source, i64 {last}")
    bound = splat(f, keys.element, f(f"load {keys.element}, ptr {there}, align {keys.dtype.itemsize}"))
    sign = "u" if x.is_float or not keys.is_signed else "s"
    before = x.compare(f"{sign}{'gt' if keys.descending else 'lt'}", value, bound)
    below = f(f"bitcast {x.mask} {before} to i16")

    def each(left: list[str]) -> tuple[str, list[str]]:
        lane = f.call("i16", "llvm.cttz.i16", ("i16", left[0]), ("i1", "true"))
        offer(f(f"add i64 {at}, {f(f'zext i16 {lane} to i64')}"), [])
        rest = f(f"and i16 {left[0]}, {f(f'sub i16 {left[0]}, 1')}")
        return f(f"icmp ne i16 {rest}, 0"), [rest]

    def some() -> Sequence[str]:
        f.repeat([("i16", below)], each)
        return []

    f.when(f(f"icmp ne i16 {below}, 0"), some)
    return []


def _offered(module: Module, keys: _Keys) -> str:
    """The function (ptr state, ptr source, i64 at) that collects an element, if it is below the bound."""
    name, thinned = keys.name("offer"), _thinned(module, keys)
    f = Function(module, name, [("ptr", "state"), ("ptr", "source"), ("i64", "at")], result="void")
    key = keys.read(f, "%source", "%at")

    def take() -> Sequence[str]:
        number = _word_at(f, "%state", _NUMBER)
        pairs = _word_at(f, "%state", _PAIRS, "ptr")
        keys.store(f, keys.paired(f, key, "%at"), pairs, number)
        more = f(f"add i64 {number}, 1")
        _write(f, "i64", more, "%state", _NUMBER)
        full = f(f"icmp eq i64 {more}, {_word_at(f, '%state', _MOST)}")
        f.when(full, lambda: _call(f, thinned, [("ptr", "state")]))
        return []

    bound = _word_at(f, "%state", _BELOW, keys.key)
    f.when(f(f"icmp ult {keys.key} {key}, {bound}"), take)
    f.do("ret void")
    module.add(f)
    return name


def _thinned(module: Module, keys: _Keys) -> str:
    """The function (ptr state) that sorts what was collected and keeps what is wanted of it."""
    name = keys.name("thin")
    if module.defined(name):
        return name
    ordered = _sorted_pairs(module, keys)
    f = Function(module, name, [("ptr", "state")], result="void")
    pairs, other = (_word_at(f, "%state", w, "ptr") for w in (_PAIRS, _OTHER))
    number, count = (_word_at(f, "%state", w) for w in (_NUMBER, _COUNT))
    found = f(f"call ptr @{ordered}(ptr {pairs}, ptr {other}, i64 {number})")
    stayed = f(f"icmp eq ptr {found}, {pairs}")
    free = f(f"select i1 {stayed}, ptr {other}, ptr {pairs}")
    last = f(f"sub i64 {count}, 1")
    bound, place = keys.key_at(f, found, last), keys.place_at(f, found, last)
    words = {_PAIRS: ("ptr", found), _OTHER: ("ptr", free), _NUMBER: ("i64", count)}
    for word, (kind, value) in {**words, _BELOW: (keys.key, bound), _LAST: ("i64", place)}.items():
        _write(f, kind, value, "%state", word)
    f.do("ret void")
    module.add(f)
    return name


# Sorting pairs.


def _sorted_pairs(module: Module, keys: _Keys) -> str:
    """The function (ptr pairs, ptr other, i64 count) that sorts pairs, and returns at which of the two places
    they are then."""
    name, insertion, by_bytes = f'"sort.{keys.pair}"', _insertion(module, keys), _by_bytes(module, keys)
    if module.defined(name):
        return name
    f = Function(module, name, [("ptr", "pairs"), ("ptr", "other"), ("i64", "count")], result="ptr")

    def many() -> Sequence[str]:
        return [f(f"call ptr @{by_bytes}(ptr %pairs, ptr %other, i64 %count)")]

    is_few = f(f"icmp sle i64 %count, {FEW}")
    f.when(is_few, lambda: _call(f, insertion, [("ptr", "pairs"), ("i64", "count")]))
    (found,) = f.when(f(f"xor i1 {is_few}, true"), many, [("ptr", "%pairs")])
    f.do(f"ret ptr {found}")
    module.add(f)
    return name


def _insertion(module: Module, keys: _Keys) -> str:
    """The function (ptr pairs, i64 count) that sorts in place."""
    name = f'"sort.{keys.pair}.few"'
    if module.defined(name):
        return name
    f = Function(module, name, [("ptr", "pairs"), ("i64", "count")], result="void")

    def insert(at: str, _: list[str]) -> Sequence[str]:
        pair = keys.load(f, "%pairs", at)

        def step(places: list[str]) -> tuple[str, list[str]]:
            before = f(f"sub i64 {places[0]}, 1")
            other = keys.load(f, "%pairs", before)
            greater = f(f"icmp ugt {keys.pair} {other}, {pair}")
            moved = f(f"select i1 {greater}, {keys.pair} {other}, {keys.pair} {pair}")
            keys.store(f, moved, "%pairs", places[0])
            place = f(f"select i1 {greater}, i64 {before}, i64 {places[0]}")
            return f(f"and i1 {greater}, {f(f'icmp ne i64 {place}, 0')}"), [place]

        (place,) = f.repeat([("i64", at)], step)
        keys.store(f, pair, "%pairs", place)
        return []

    f.loop(1, "%count", 1, [], insert)
    f.do("ret void")
    module.add(f)
    return name


def _by_bytes(module: Module, keys: _Keys) -> str:
    """The function (ptr pairs, ptr other, i64 count) that sorts by one byte of the keys after the other, from
    one place to the other and back; it returns where they are in the end. The order in which they are given,
    that of their places, stays among equal keys. Source: radix sort from the lowest digit up, Knuth 5.2.5."""
    name = f'"sort.{keys.pair}.bytes"'
    if module.defined(name):
        return name
    f = Function(module, name, [("ptr", "pairs"), ("ptr", "other"), ("i64", "count")], result="ptr")
    numbers = range(keys.bits // 8)
    table = f.alloca("i32", len(numbers) * _BYTE)
    size = len(numbers) * _BYTE * 4
    f.module.declare("llvm.memset.p0.i64", "void", ["ptr", "i8", "i64", "i1"])
    f.do(f"call void @llvm.memset.p0.i64(ptr {table}, i8 0, i64 {size}, i1 false)")

    def slot(pairs: str, at: str | int, number: int) -> str:
        """Where the count for a byte of a pair's key is."""
        key = keys.key_at(f, pairs, at)
        shifted = f(f"lshr {keys.key} {key}, {8 * number}") if number else key
        byte = f(f"and {keys.key} {shifted}, {_BYTE - 1}")
        wide = byte if keys.key == "i64" else f(f"zext {keys.key} {byte} to i64")
        return f(f"getelementptr i32, ptr {table}, i64 {f(f'add i64 {wide}, {number * _BYTE}')}")

    def tally(at: str, _: list[str]) -> Sequence[str]:
        for number in numbers:
            _counted(f, slot("%pairs", at, number))
        return []

    f.loop(0, "%count", 1, [], tally)
    here, there = "%pairs", "%other"
    total = f("trunc i64 %count to i32")
    for number in numbers:
        have = f(f"load i32, ptr {slot(here, 0, number)}")

        def move(number: int = number, here: str = here, there: str = there) -> Sequence[str]:
            _start_at_sums(f, table, number)

            def one(at: str, _: list[str]) -> Sequence[str]:
                to = _counted(f, slot(here, at, number))
                keys.store(f, keys.load(f, here, at), there, f(f"zext i32 {to} to i64"))
                return []

            f.loop(0, "%count", 1, [], one)
            return [there, here]

        differ = f(f"icmp ne i32 {have}, {total}")
        here, there = f.when(differ, move, [("ptr", here), ("ptr", there)])
    f.do(f"ret ptr {here}")
    module.add(f)
    return name


def _counted(f: Function, place: str) -> str:
    """Add 1 to a count; what it was."""
    have = f(f"load i32, ptr {place}")
    f.do(f"store i32 {f(f'add i32 {have}, 1')}, ptr {place}")
    return have


def _start_at_sums(f: Function, table: str, number: int) -> None:
    """Put in place of the counts of a byte's values the sums of those before."""

    def step(at: str, sums: list[str]) -> Sequence[str]:
        place = f(f"getelementptr i32, ptr {table}, i64 {f(f'add i64 {at}, {number * _BYTE}')}")
        have = f(f"load i32, ptr {place}")
        f.do(f"store i32 {sums[0]}, ptr {place}")
        return [f(f"add i32 {sums[0]}, {have}")]

    f.loop(0, _BYTE, 1, [("i32", "0")], step)
