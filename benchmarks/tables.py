"""Generates codegen/vmath_tables.py: the piecewise polynomials of the float32 activations.

    python benchmarks/tables.py > codegen/vmath_tables.py

Each function is cut into 16 or 32 intervals. In one of them f(c + t) = c0 + t (c1 + t c2 + ...), where the
centre c is a float for which f(c) and f'(c) are almost exactly floats (Gal 1986), so that c0 and c1 carry no
error (0, where an interval begins there, so that subnormals are rounded once; the float nearest to a zero,
where c0 is 0, and what c0 and c1 lack is given apart); the other coefficients are a weighted least-squares
fit. Needs mpmath.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mpmath
import numpy as np

mpmath.mp.dps = 40
#: Intervals: as many as one register, or two, hold coefficients.
FEW, MANY = 16, 32
#: Degree of the polynomial through which a function is evaluated in extended precision.
FINE = 22
#: Share of an interval in which its centre is looked for, and how many floats are tried.
PLAY, TRIED = 0.08, 60_000

Function = Callable[[mpmath.mpf], mpmath.mpf]


@dataclass(frozen=True)
class Piecewise:
    """edges: interval i is edges[i]..edges[i + 1]; slots: its place in the table, of `count`. linear: what is
    added to the first interval's polynomial, times x, in place of a centre; None if that is like the others.
    zero: where the function is 0, which is the centre of its interval, so that values near it have all
    digits. centre: where in the other intervals it lies, 0 to 1; right of the middle if it falls like
    e^(-a^2 / 2), so that the linear term neither halves it to the right nor outgrows it to the left, and its
    sum is exact."""

    name: str
    function: Function
    edges: list[float]
    slots: list[int]
    degree: int
    linear: float | None = None
    zero: float | None = None
    centre: float = 0.5

    @property
    def count(self) -> int:
        """Places in the table, some of which may be unused."""
        return FEW if len(self.slots) <= FEW else MANY


def _normal_tail(a: mpmath.mpf) -> mpmath.mpf:
    return mpmath.erfc(a / mpmath.sqrt(2)) / 2


def _gelu_slope_tail(a: mpmath.mpf) -> mpmath.mpf:
    return _normal_tail(a) - a * mpmath.npdf(a)


def _logistic_tail(a: mpmath.mpf) -> mpmath.mpf:
    return 1 / (1 + mpmath.exp(a))


def _tanh_tail(a: mpmath.mpf) -> mpmath.mpf:
    return _logistic_tail(2 * mpmath.sqrt(2 / mpmath.pi) * (a + mpmath.mpf("0.044715") * a**3))


def _quarters(low: int, high: float) -> tuple[list[float], list[int]]:
    """0..2^low, then four intervals to a power of two up to `high`; the slot is that of the bits, modulo
    32."""
    starts = [2.0**e * (1 + q / 4) for e in range(low, 10) for q in range(4)]
    starts = [s for s in starts if s < high]
    first = int(np.array([starts[0]], np.float32).view(np.int32)[0] >> 21)
    return [0.0, *starts, high], [(first - 1 + i) % MANY for i in range(len(starts) + 1)]


def _bent(high: float, slope: float) -> tuple[list[float], list[int]]:
    """Intervals around the multiples of 1 in a (slope + bend a), the last one at `high`: finer where the
    function falls faster."""
    bend = (MANY - 1 - slope * high) / high**2
    places = [i + 0.5 for i in range(MANY - 1)]
    roots = [((slope * slope + 4 * bend * p) ** 0.5 - slope) / (2 * bend) for p in places]
    return [0.0, *roots, high], list(range(MANY))


def _squares(high: float, moved: float, step: float) -> tuple[list[float], list[int]]:
    """The same in (a + moved)^2 / step, for 16 intervals: a place is taken modulo 16."""
    first, last = (round((a + moved) ** 2 / step) for a in (0.0, high))
    roots = [(step * (place + 0.5)) ** 0.5 - moved for place in range(first, last)]
    return [0.0, *roots, high], [place % FEW for place in range(first, last + 1)]


TABLES = [
    Piecewise("TANH", mpmath.tanh, *_quarters(-3, 9.1), degree=6, linear=1.0),
    Piecewise("ERF", mpmath.erf, *_quarters(-3, 4.0), degree=6, linear=1.0),
    Piecewise("GELU", _normal_tail, *_squares(5.6, 2.75, 4.0), degree=7, centre=0.64),
    Piecewise("GELU_SLOPE", _gelu_slope_tail, *_bent(6.0, 2.3013), degree=6, zero=0.7517915246935645),
    Piecewise("GELU_TANH", _tanh_tail, *_squares(5.1, 0.4, 2.0), degree=7, centre=0.62),
]


def _fine(function: Function, low: float, high: float) -> tuple[float, np.ndarray]:
    """(middle, coefficients) of an interpolating polynomial, in extended precision."""
    middle, half = (low + high) / 2, (high - low) / 2 * 1.02
    nodes = [mpmath.cos(mpmath.pi * (2 * k + 1) / (2 * FINE)) for k in range(FINE)]
    values = mpmath.matrix([function(middle + half * n) for n in nodes])
    powers = mpmath.matrix(FINE, FINE)
    for i, n in enumerate(nodes):
        for k in range(FINE):
            powers[i, k] = n**k
    solved = mpmath.lu_solve(powers, values)
    return middle, np.array([_extended(solved[k] / mpmath.mpf(half) ** k) for k in range(FINE)])


def _extended(x: mpmath.mpf) -> np.longdouble:
    high = float(x)
    return np.longdouble(high) + np.longdouble(float(x - high))


def _at(coefficients: np.ndarray, t: np.ndarray) -> np.ndarray:
    total = np.zeros_like(t) + coefficients[-1]
    for c in coefficients[-2::-1]:
        total = total * t + c
    return total


def _taylor(coefficients: np.ndarray, at: np.longdouble) -> np.ndarray:
    """The same polynomial about another point."""
    shifted = coefficients.copy()
    for k in range(len(shifted)):
        for j in range(len(shifted) - 2, k - 1, -1):
            shifted[j] += at * shifted[j + 1]
    return shifted


def _centre(middle: float, fine: np.ndarray, width: float, share: float) -> np.float32:
    """The float near a share of the interval at which value and slope are nearest to floats."""
    first, last = (np.float32(middle + (share - 0.5 + s * PLAY) * width) for s in (-0.5, 0.5))
    ends = np.array([first, last]).view(np.int32)
    bits = np.unique(np.linspace(ends[0], ends[1], TRIED).astype(np.int32))
    tried = bits.view(np.float32)
    t = tried.astype(np.longdouble) - middle
    value = _at(fine, t)
    slope = _at(fine[1:] * np.arange(1, len(fine)), t)
    share = width / 2 * np.abs(slope / value)
    cost = _off(value) + share * _off(slope)
    return np.float32(tried[np.argmin(cost)])


def _off(x: np.ndarray) -> np.ndarray:
    return np.abs((x - x.astype(np.float32)) / x)


def _fit(t: np.ndarray, wanted: np.ndarray, weight: np.ndarray, powers: list[int]) -> list[float]:
    """Coefficients of t^p, rounded to floats from the lowest on, each time fitting those that are left."""
    found: list[float] = []
    rest = wanted.astype(np.longdouble)
    for done in range(len(powers)):
        scale = float(np.abs(t).max())
        columns = [((t / scale) ** p * weight).astype(float) for p in powers[done:]]
        solved, *_ = np.linalg.lstsq(np.stack(columns, 1), (rest * weight).astype(float), rcond=None)
        found.append(float(np.float32(solved[0] / scale ** powers[done])))
        rest = rest - np.longdouble(found[-1]) * t ** powers[done]
    return found


def interval(table: Piecewise, low: float, high: float) -> list[float]:
    """Centre and coefficients c0, c1, ... of one interval."""
    middle, fine = _fine(table.function, low, high)
    angles = np.cos(np.pi * (np.arange(400) + 0.5) / 400).astype(np.longdouble)
    places = middle + (high - low) / 2 * angles
    values = _at(fine, places - middle)
    if low == 0 and table.linear is not None:
        wanted = values - table.linear * places
        slope, *others = _fit(places, wanted, 1 / np.abs(values), [1, *range(3, table.degree + 1)])
        return [0.0, 0.0, slope, 0.0, *others]
    if has_zero(table, low, high):
        assert table.zero is not None
        centre = np.float32(table.zero)
        about = _taylor(fine, np.longdouble(centre) - middle)
        c0, c1, known = np.float32(0), np.float32(about[1]), about[1]
    else:
        centre = np.float32(0) if low == 0 else _centre(middle, fine, high - low, table.centre)
        about = _taylor(fine, np.longdouble(centre) - middle)
        c0, c1 = np.float32(about[0]), np.float32(about[1])
        known = np.longdouble(c1)
    t = places - np.longdouble(centre)
    rest = _fit(t, values - about[0] - known * t, 1 / np.abs(values), list(range(2, table.degree + 1)))
    return [float(centre), float(c0), float(c1), *rest]


def has_zero(table: Piecewise, low: float, high: float) -> bool:
    """Whether the function is 0 inside of an interval."""
    return table.zero is not None and low < table.zero < high


def lacking(table: Piecewise) -> tuple[int, float, float]:
    """The slot of the interval with the zero, and what its c0 and c1 lack."""
    (at,) = [i for i in range(table.count) if has_zero(table, table.edges[i], table.edges[i + 1])]
    assert table.zero is not None
    with mpmath.workdps(60):
        centre = mpmath.mpf(float(np.float32(table.zero)))
        value, slope = table.function(centre), mpmath.diff(table.function, centre)
        return table.slots[at], float(value), float(slope - float(np.float32(float(slope))))


def main() -> None:
    print('"""Piecewise polynomials, written by benchmarks/tables.py: per function the centres and the')
    print('coefficients c0, c1, ... of its intervals, as floats."""')
    print("\n# fmt: off")
    print("# ruff: noqa: E501")
    for table in TABLES:
        columns = np.zeros((table.count, table.degree + 2))
        for i, slot in enumerate(table.slots):
            columns[slot] = interval(table, table.edges[i], table.edges[i + 1])
        print(f"\n{table.name} = (")
        for column in columns.T:
            print(f"    ({', '.join(str(np.float32(v)) for v in column)}),")
        print(")")
        if table.zero is not None:
            slot, *low = lacking(table)
            print(f"{table.name}_ZERO = ({slot}, {', '.join(str(np.float32(v)) for v in low)})")


if __name__ == "__main__":
    main()
