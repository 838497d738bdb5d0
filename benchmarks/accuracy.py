"""How far the elementary functions are off: every float32 value, and samples of float64.

    python -m benchmarks.accuracy                     all functions, all 2^32 values; hours on one core
    python -m benchmarks.accuracy --only exp,log --step 97
    python -m benchmarks.accuracy --table             docs/accuracy.md from what was measured

A result is measured in units in the last place of the exact value. What was measured is kept in
benchmarks/accuracy.json, function by function. Needs scipy and mpmath; with tqdm there is a progress bar.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import vitrify
from vitrify._dispatch import build
from vitrify.codegen.elementwise import ELEMENTARY
from vitrify.ir import ops

from benchmarks.references import EVEN, EXACT, ODD, POSITIVE, SPREADS, USUAL, WIDE

ROOT = Path(__file__).resolve().parent.parent
RESULTS, TABLE = ROOT / "benchmarks/accuracy.json", ROOT / "docs/accuracy.md"
UNARY = [op.name for op in ELEMENTARY if op.arity == 1 and op.name in WIDE]
OF_TWO = ["pow", "atan2"]
#: Arrays of so many float64 values stay in second-level cache.
CHUNK = 1 << 14
#: Pairs of float32 values for functions of two operands; values of each kind for float64.
PAIRS, SAMPLES = 10**9, 1500
#: What JAX's documentation states for float32 and float64 on x86-64 (docs.jax.dev, accuracy, 2026-09-18).
JAX = {
    "acos": ("1.5", "1.5"), "acosh": ("4.5", "3.5"), "asin": ("2.0", "1.5"), "asinh": ("3.5", "2.5"),
    "atan": ("4.0-5.5", "3.5"), "atan2": ("0.5", "0.5"), "atanh": ("3.0", "2.5"), "cos": ("0.5", "0.5"),
    "cosh": ("25.0", "496.0"), "erf": ("7.0", "2.5"), "erfinv": ("65.0", "500000.0"),
    "erfc": ("66.0", "350.0"), "exp": ("1.5", "2.0"), "exp2": ("68.5", "719.0"), "expm1": ("6.5", "4.5"),
    "log": ("1.5", "0.5"), "log1p": ("3.0", "2.0"), "log2": ("2.5", "1.5"), "log10": ("3.0", "2.0"),
    "sigmoid": ("2.5", "3.5"), "rsqrt": ("1.0-2.0", "1.5"), "sin": ("0.5", "0.5"),
    "sinh": ("25.0", "496.0"), "tan": ("0.5", "0.5"), "tanh": ("5.0", "7.0"),
}  # fmt: skip
#: mpmath looks again at what is worse than anything before; at no more than this many values of a chunk.
DOUBTFUL = 100
#: Every so many of the float32 values are looked at first.
COARSE = 997
_SPECIAL = [
    0.0,
    1.0,
    2.0,
    0.5,
    3.0,
    np.inf,
    np.nan,
    1e-45,
    1.1754944e-38,
    3.4028235e38,
    16777216.0,
    1.0000001,
]


@dataclass
class Worst:
    """The largest error: ulp, at x (or x and y), with the value found and the right one."""

    ulp: float = 0.0
    at: list[float] | None = None
    found: float = 0.0
    exact: float = 0.0
    count: int = 0
    seconds: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="functions, separated by commas")
    parser.add_argument("--step", type=int, default=1, help="take every so many float32 values")
    parser.add_argument("--dtype", choices=["float32", "float64"], help="one type only")
    parser.add_argument("--table", action="store_true", help="write docs/accuracy.md and stop")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else [*UNARY, *OF_TWO]
    if not arguments.table:
        for name in names:
            if arguments.dtype != "float64":
                report(name, "float32", check_float32(name, arguments.step), arguments.step)
            if arguments.dtype != "float32":
                report(name, "float64", check_float64(name), 1)
    write_table()


def report(name: str, dtype: str, worst: Worst, step: int) -> None:
    """Print a result; a complete one is kept."""
    print(
        f"{name:10s} {dtype} {worst.ulp:.4f} ULP at {worst.at}, {worst.count} values, {worst.seconds:.0f} s",
        flush=True,
    )
    if step == 1:
        results = measured()
        results.setdefault(name, {})[dtype] = asdict(worst)
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def measured() -> dict[str, Any]:
    """What was measured so far."""
    return dict(json.loads(RESULTS.read_text())) if RESULTS.exists() else {}


# float32.


def check_float32(name: str, step: int = 1) -> Worst:
    """Every step-th value of all 2^32, or pairs of random bits and all pairs of special values."""
    start = time.perf_counter()
    function = kernel(name)
    # A coarse look first: less is then worse than anything before.
    worst = replace(check_float32(name, COARSE), count=0) if step < COARSE else Worst()
    for operands, mirrored in chunks(name, step):
        found = function(*operands)
        worst.count += found.size
        if mirrored:
            other = function(*(-x for x in operands))
            wanted = found if name in EVEN else -found if name in ODD else np.full_like(found, np.nan)
            if name in POSITIVE:
                wanted = np.where(operands[0] == 0, other, wanted)
            same = (other.view(np.int32) == wanted.view(np.int32)) | (np.isnan(other) & np.isnan(wanted))
            assert same.all(), f"{name} of a negative number"
            worst.count += found.size
        take_worst(worst, name, operands, found)
    worst.seconds = time.perf_counter() - start
    return worst


def kernel(name: str) -> Callable[..., np.ndarray]:
    """The primitive on numpy arrays."""
    op = ops.ALL[name]

    def function(*operands: np.ndarray) -> np.ndarray:
        return np.asarray(build(op, *map(vitrify.from_numpy, operands)).numpy())

    return function


def chunks(name: str, step: int) -> Iterator[tuple[list[np.ndarray], bool]]:
    """(operands, whether their negatives are to be looked at too)."""
    if name in OF_TWO:
        yield from ((pair, False) for pair in pairs(PAIRS // step))
        return
    halves = name in EVEN | ODD | POSITIVE
    end = 1 << (31 if halves else 32)
    for first in progress(range(0, end, CHUNK * step), name):
        bits = np.arange(first, min(first + CHUNK * step, end), step, dtype=np.int64)
        yield [bits.astype(np.uint32).view(np.float32)], halves


def pairs(count: int) -> Iterator[list[np.ndarray]]:
    """Special values with each other; pairs of random bits, and of usual sizes."""
    special = np.array(_SPECIAL + [-v for v in _SPECIAL], np.float32)
    yield [a.reshape(-1).copy() for a in np.meshgrid(special, special)]
    rng = np.random.default_rng(0)
    for number in progress(range(0, count, CHUNK), "pairs"):
        x, y = rng.integers(0, 2**32, (2, CHUNK), dtype=np.uint32).view(np.float32)
        if (number // CHUNK) % 4:  # powers of usual numbers mostly overflow: keep |y log x| below 100
            x = np.exp2(rng.standard_normal(CHUNK, np.float32) * 4)
            y = (rng.uniform(-100, 100, CHUNK) / np.log(x.astype(np.float64))).astype(np.float32)
        yield [x, y]


def progress(items: range, what: str) -> Iterable[int]:
    """The items, with a bar if tqdm is there."""
    try:
        from tqdm import tqdm
    except ImportError:
        return items
    return tqdm(items, desc=what, leave=False, mininterval=1.0)  # type: ignore[no-any-return]


def take_worst(worst: Worst, name: str, operands: list[np.ndarray], found: np.ndarray) -> None:
    """Raise the worst error to that of these values."""
    with np.errstate(all="ignore"):
        exact = WIDE[name](*(x.astype(np.float64) for x in operands))
        if worst.ulp >= 0.5 and np.array_equal(exact.astype(np.float32).view(np.int32), found.view(np.int32)):
            return  # all correctly rounded
        error = errors(found, exact)
    at = int(error.argmax())
    for _ in range(DOUBTFUL):
        if error[at] <= worst.ulp:
            return
        sure = exact_error(name, [float(x[at]) for x in operands], float(found[at]), np.float32)
        error[at], before = sure, at
        at = int(error.argmax())
        if at == before:
            break
    if error[at] > worst.ulp:
        worst.ulp, worst.at = float(error[at]), [float(x[at]) for x in operands]
        worst.found, worst.exact = float(found[at]), float(exact[at])


def errors(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|found - exact| in units in the last place of float32; infinite where only one of them is a NaN, or
    infinite and the other would not round to that. Raises AssertionError if a zero has the wrong sign."""
    power = (exact.view(np.int64) & 0x7FF0000000000000).view(np.float64)
    distance = np.abs(found - exact)
    distance /= np.maximum(power * 2.0**-23, 2.0**-149)
    usual = distance < np.inf
    if usual.all() and exact.all():
        return distance
    if (np.signbit(found) != np.signbit(exact))[exact == 0].any():
        raise AssertionError("a zero has the wrong sign")
    rounded = exact.astype(np.float32)
    same = (found == rounded) | (np.isnan(found) & np.isnan(rounded))
    return np.where(usual, distance, np.where(same, 0.0, np.inf))


def exact_error(name: str, operands: list[float], found: float, dtype: type[np.floating]) -> float:
    """The error of one value, by mpmath."""
    info = np.finfo(dtype)
    with mpmath.workprec(1200 if max(map(abs, operands)) > 1e9 or min(map(abs, operands)) < 1e-9 else 240):
        try:
            exact = EXACT[name](*map(mpmath.mpf, operands))
        except (ValueError, ZeroDivisionError, OverflowError):
            return 0.0 if np.isnan(found) else np.inf
        if mpmath.im(exact) or mpmath.isnan(exact):
            return 0.0 if np.isnan(found) else np.inf
        limit = mpmath.mpf(float(info.max)) * (1 + mpmath.mpf(float(info.epsneg)) / 2)
        if abs(exact) >= limit:
            return 0.0 if np.isinf(found) and (found > 0) == (exact > 0) else np.inf
        if not np.isfinite(found):
            return np.inf
        place = mpmath.frexp(exact)[1] - info.nmant - 1 if exact else info.minexp - info.nmant
        unit = mpmath.mpf(2) ** max(place, info.minexp - info.nmant)
        return float(abs(mpmath.mpf(found) - exact) / unit)


# float64.


def check_float64(name: str) -> Worst:
    """Exponents up to 60, and intervals where it matters; against mpmath."""
    start = time.perf_counter()
    rng = np.random.default_rng(0)
    operands = [samples(name, rng) for _ in range(1 + (name in OF_TWO))]
    found = kernel(name)(*operands)
    worst = Worst(count=found.size)
    for *values, result in zip(*operands, found, strict=True):
        error = exact_error(name, [float(v) for v in values], float(result), np.float64)
        if error > worst.ulp:
            worst.ulp, worst.at, worst.found = error, [float(v) for v in values], float(result)
    worst.seconds = time.perf_counter() - start
    return worst


def samples(name: str, rng: np.random.Generator) -> np.ndarray:
    """Values of float64 in the function's domain, below 1e18 in size."""
    spreads = SPREADS.get(name, USUAL)
    exponents = rng.integers(-1070, 60, SAMPLES)
    parts = [np.ldexp(rng.uniform(-1, 1, SAMPLES), exponents)]
    parts += [rng.uniform(low, high, SAMPLES) for low, high in spreads]
    x = np.concatenate(parts)
    low, high = (
        (min(s[0] for s in spreads), max(s[1] for s in spreads)) if name in SPREADS else (-np.inf, np.inf)
    )
    if name in OF_TWO:
        x = rng.permutation(np.abs(x) if name == "pow" else x)
    return x[(x > low) & ((x < high) | (high > 1))]


# The table.


def write_table() -> None:
    """docs/accuracy.md from the results and its own head and foot, which are kept."""
    results = measured()
    rows = [
        "| function | float32: max ULP | at | JAX | float64: max ULP | at | JAX |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in sorted(results):
        stated = JAX.get(name, ("", ""))
        first, second = (cells_of(results[name].get(dtype)) for dtype in ("float32", "float64"))
        rows.append(f"| `{name}` | {' | '.join([*first, stated[0], *second, stated[1]])} |")
    head, _, rest = TABLE.read_text().partition("<!-- table -->\n")
    foot = rest.partition("<!-- end -->\n")[2]
    TABLE.write_text(f"{head}<!-- table -->\n" + "\n".join(rows) + f"\n<!-- end -->\n{foot}")


def cells_of(result: dict[str, Any] | None) -> list[str]:
    """Error and place, as the table has them."""
    if result is None:
        return ["", ""]
    return [f"{result['ulp']:.3f}", ", ".join(f"{v:.9g}" for v in result["at"] or [])]


if __name__ == "__main__":
    main()
