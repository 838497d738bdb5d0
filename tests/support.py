"""Checks shared by the tests: arrays to the bit or within units in the last place, and passes by text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from vitrify.ir.dtypes import DType
from vitrify.ir.expr import evaluate
from vitrify.ir.graph import Graph
from vitrify.ir.interpreter import interpret
from vitrify.ir.narrow import widened
from vitrify.ir.parser import parse_graph
from vitrify.ir.printer import print_graph
from vitrify.ir.types import TensorType
from vitrify.ir.verifier import verify_graph


def assert_same_bits(got: np.ndarray, want: np.ndarray, what: str = "") -> None:
    """Same dtype, shape and bits, all NaNs counting as equal. Fails naming the first element that differs."""
    got, want = np.asarray(got), np.asarray(want)
    have, need = f"{got.dtype}{list(got.shape)}", f"{want.dtype}{list(want.shape)}"
    assert have == need, f"{what}: {have}, expected {need}"
    differ = bits(got) != bits(want)
    if got.dtype.kind in "fc" or got.dtype == np.uint16:  # which holds the bits of a bfloat16
        differ &= ~(np.isnan(widened(got)) & np.isnan(widened(want)))
    if differ.any():
        at = tuple(np.argwhere(differ)[0].tolist())
        count = f"{int(differ.sum())} of {got.size} elements differ"
        raise AssertionError(f"{what}: {count}, first at {at}: got {got[at]!r}, expected {want[at]!r}")


def bits(x: np.ndarray) -> np.ndarray:
    """The array's elements as unsigned integers (a complex element as its bytes)."""
    x = np.ascontiguousarray(x).reshape(x.shape)
    return x.view(f"u{x.itemsize}") if x.itemsize <= 8 else x.view("V16")


def ulp_distance(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """How many representable numbers lie between, elementwise (uint64). 0 for two NaNs, the greatest number
    for one."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype and got.dtype.kind == "f", f"{got.dtype} and {want.dtype}"
    a, b = _ordinal(got), _ordinal(want)
    distance = np.where(a > b, a - b, b - a).astype(
        np.uint64
    )  # wraps to the right value if int64 is too narrow
    one_nan = np.isnan(got) != np.isnan(want)
    both_nan = np.isnan(got) & np.isnan(want)
    return np.where(both_nan, 0, np.where(one_nan, np.iinfo(np.uint64).max, distance))


def _ordinal(x: np.ndarray) -> np.ndarray:
    """Integers that ascend with the floats, neighbours differing by 1; both zeros are 0."""
    signed = np.ascontiguousarray(x).reshape(x.shape).view(f"i{x.itemsize}").astype(np.int64)
    least = np.int64(-(2 ** (8 * x.itemsize - 1)))
    return np.where(signed < 0, least - signed, signed)


def assert_within_ulp(got: np.ndarray, want: np.ndarray, ulp: int, what: str = "") -> None:
    """No element is further than `ulp` representable numbers away."""
    distance = ulp_distance(got, want)
    if distance.size and distance.max() > ulp:
        at = np.unravel_index(int(np.argmax(distance)), distance.shape)
        raise AssertionError(f"{what}: {distance[at]} ulp at {at}: got {got[at]!r}, expected {want[at]!r}")


def random_array(
    type_: TensorType, rng: np.random.Generator, sizes: Mapping[str, int] | None = None
) -> np.ndarray:
    """Values of moderate size: floats around 0, small integers, both bools."""
    return random_values(type_.dtype, tuple(evaluate(d, sizes or {}) for d in type_.shape), rng)


def random_values(dtype: DType, shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Floats are normal, integers lie within -5 .. 5 (0 .. 10 if unsigned), bools are even."""
    if dtype.kind in "fc":
        return np.asarray(rng.normal(size=shape)).astype(dtype.numpy)
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    low = 0 if dtype.kind == "u" else -5
    return np.asarray(rng.integers(low, low + 11, shape)).astype(dtype.numpy)


def check_pass(
    pass_: Callable[[Graph], Graph], before: str, after: str, *, sizes: Mapping[str, int] | None = None,
    locations: bool = False, ulp: int = 0,
) -> None:  # fmt: skip
    """The pass turns `before` into `after`, and both compute the same.

    Parses and verifies `before`, runs the pass, checks that it left its argument alone, verifies the result,
    compares its text with `after` (layout and numbering of values don't matter), and interprets both graphs
    on seeded random inputs. sizes: values of symbolic sizes. ulp: how far outputs may differ.
    """
    graph = parse_graph(textwrap.dedent(before))
    verify_graph(graph)
    untouched = print_graph(graph)
    result = pass_(graph)
    assert print_graph(graph) == untouched, "the pass changed its argument"
    verify_graph(result)
    assert print_graph(result, locations) == print_graph(parse_graph(textwrap.dedent(after)), locations)
    assert_same_meaning(graph, result, sizes=sizes, ulp=ulp)


def assert_same_meaning(
    graph: Graph, other: Graph, *, sizes: Mapping[str, int] | None = None, ulp: int = 0, seed: int = 0
) -> None:
    """Both graphs give the same outputs and updates in the interpreter on random inputs (by input's name, so
    that one may have fewer inputs), or raise the same error."""
    rng = np.random.default_rng(seed)
    named = {v.name or i: random_array(v.type, rng, sizes) for i, v in enumerate(graph.inputs)}
    want = _interpreted(graph, list(named.values()), sizes)
    got = _interpreted(other, [named[v.name or i] for i, v in enumerate(other.inputs)], sizes)
    if isinstance(want, Exception) or isinstance(got, Exception):
        assert repr(got) == repr(want)
        return
    assert len(got) == len(want)
    for number, (g, w) in enumerate(zip(got, want, strict=True)):
        if ulp and w.dtype.kind == "f":
            assert_within_ulp(g, w, ulp, f"result {number}")
        else:
            assert_same_bits(g, w, f"result {number}")


def _interpreted(
    graph: Graph, inputs: Sequence[np.ndarray], sizes: Mapping[str, int] | None
) -> list[np.ndarray] | Exception:
    try:
        outputs, updates = interpret(graph, inputs, sizes or {})
    except (IndexError, RuntimeError, ValueError) as error:
        return error
    return [*outputs, *updates]
