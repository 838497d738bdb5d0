"""Integer arithmetic that LLVM leaves undefined somewhere, by Python's rules; integer powers; Philox.
Nothing here can trap.
"""

from __future__ import annotations

from .lanes import Lanes


def floor_div(x: Lanes, a: str, b: str) -> str:
    """a // b towards minus infinity; b == 0 gives some number (a Check has noted the error), least // -1
    wraps round.
    """
    if x.unsigned:
        return x("udiv", a, _nonzero(x, b))
    quotient = _truncated(x, a, b)
    rest = x("sub", a, x("mul", quotient, b))
    fixed = x("sub", quotient, x.const(1))
    return x.select(_has_wrong_sign(x, rest, b), fixed, quotient)


def remainder(x: Lanes, a: str, b: str) -> str:
    """a % b with the sign of b; b == 0 gives some number."""
    if x.unsigned:
        return x("urem", a, _nonzero(x, b))
    rest = x("sub", a, x("mul", _truncated(x, a, b), b))
    return x.select(_has_wrong_sign(x, rest, b), x("add", rest, b), rest)


def _nonzero(x: Lanes, b: str) -> str:
    return x.select(x.compare("eq", b, x.const(0)), x.const(1), b)


def _truncated(x: Lanes, a: str, b: str) -> str:
    """a / b towards zero, with 1 for a divisor of 0, and -a for one of -1."""
    minus_one = x.compare("eq", b, x.const(-1))
    safe = x.select(minus_one, x.const(1), _nonzero(x, b))
    if x.bits == 64:
        quotient = x("sdiv", a, safe)
    else:  # exact in doubles, which CPUs divide sixteen at a time
        double = x.of("double")
        whole = double("fdiv", x.to("sitofp", a, "double"), x.to("sitofp", safe, "double"))
        quotient = double.to("fptosi", whole, x.element)
    return x.select(minus_one, x("sub", x.const(0), a), quotient)


def _has_wrong_sign(x: Lanes, rest: str, b: str) -> str:
    opposite = x.compare("slt", x("xor", rest, b), x.const(0))
    return x.both("and", opposite, x.compare("ne", rest, x.const(0)))


def power(x: Lanes, a: str, b: str) -> str:
    """a ** b by repeated multiplication with wrap-around; a negative exponent gives the integer part of 1 /
    a.
    """
    zero, one = x.const(0), x.const(1)
    negative = x.compare("slt", b, zero) if not x.unsigned else None
    left = x.select(negative, zero, b) if negative else b

    def step(values: list[str]) -> tuple[str, list[str]]:
        result, base, exponent = values
        odd = x.compare("ne", x("and", exponent, one), zero)
        result = x.select(odd, x("mul", result, base), result)
        halved = x("lshr", exponent, one)
        return x.any(x.compare("ne", halved, zero)), [result, x("mul", base, base), halved]

    carried = [(x.type, one), (x.type, a), (x.type, left)]
    result = x.f.repeat(carried, step)[0]
    if negative is None:
        return result
    odd = x.compare("ne", x("and", b, one), zero)
    of_minus_one = x.select(odd, x.const(-1), one)
    inverse = x.select(x.compare("eq", a, x.const(-1)), of_minus_one, zero)
    inverse = x.select(x.compare("eq", a, one), one, inverse)
    return x.select(negative, inverse, result)


def shift_left(x: Lanes, a: str, b: str) -> str:
    """a << b; 0 for a shift out of range."""
    inside = x.compare("ult", b, x.const(x.bits))
    return x.select(inside, x("shl", a, x.select(inside, b, x.const(0))), x.const(0))


def shift_right(x: Lanes, a: str, b: str) -> str:
    """a >> b, arithmetic for signed types; a shift out of range leaves the sign."""
    if x.unsigned:
        inside = x.compare("ult", b, x.const(x.bits))
        return x.select(inside, x("lshr", a, x.select(inside, b, x.const(0))), x.const(0))
    return x("ashr", a, x.intrinsic("umin", b, x.const(x.bits - 1)))


def philox(x: Lanes, seed: str, counter: str, index: str) -> str:
    """Word index % 4 of Philox-4x32-10 at counter + index // 4, key seed: i64 operands, i32 result.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    mask, shift = x.const(0xFFFFFFFF), x.const(32)
    at = x("add", counter, x("ashr", index, x.const(2)))
    words = [x("and", at, mask), x("lshr", at, shift), x.const(0), x.const(0)]
    low_key, high_key = x("and", seed, mask), x("lshr", seed, shift)
    for _ in range(10):
        even, odd = x("mul", words[0], x.const(0xD2511F53)), x("mul", words[2], x.const(0xCD9E8D57))
        words = [
            x("xor", x("xor", x("lshr", odd, shift), words[1]), low_key), x("and", odd, mask),
            x("xor", x("xor", x("lshr", even, shift), words[3]), high_key), x("and", even, mask),
        ]  # fmt: skip
        low_key = x("and", x("add", low_key, x.const(0x9E3779B9)), mask)
        high_key = x("and", x("add", high_key, x.const(0xBB67AE85)), mask)
    place = x("and", index, x.const(3))
    word = words[0]
    for number in (1, 2, 3):
        word = x.select(x.compare("eq", place, x.const(number)), words[number], word)
    return x.to("trunc", word, "i32")
