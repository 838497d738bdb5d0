"""Convolutions by tiles: which ones, as text, and that each form means what it meant."""

import numpy as np
import pytest
from vitrify.ir import ops
from vitrify.ir.attr_text import print_attr
from vitrify.ir.dtypes import float64
from vitrify.ir.interpreter import interpret
from vitrify.ir.parser import parse_graph
from vitrify.ir.printer import print_graph
from vitrify.ir.types import Literal
from vitrify.ir.verifier import verify_graph
from vitrify.passes.dce import eliminate_dead_code
from vitrify.passes.fast.winograd import F2, F4, use_winograd
from vitrify.passes.packed import pack_weights


def _matrix(array: np.ndarray) -> str:
    return print_attr(Literal.of(array, float64))


#: One line of 34 elements, of which 2 more than a whole number of tiles.
LINE = """\
fast graph(%x: f32[4, 256, 34], %w: f32[256, 256, 3]) {
  %0 = contract %x, %w {spec=<[n, ci, k + o - 1] * [co, ci, k] -> [n, co, o] over ci, k where o = 34>} : f32[4, 256, 34]
  return %0
}
"""  # noqa: E501

TILES = f"""\
fast graph(%x: f32[4, 256, 34], %w: f32[256, 256, 3]) {{
  %0 = into_tiles %x {{axes=(2,), channels=1, counts=(9,), matrix={_matrix(F4.image)}, starts=(-1,), step=4}} : f32[6, 4, 256, 9]
  %1 = permute %w {{perm=(1, 0, 2)}} : f32[256, 256, 3]
  %2 = into_tiles %1 {{axes=(2,), channels=-1, counts=(1,), matrix={_matrix(F4.taps)}, starts=(0,), step=1}} : f32[6, 256, 256, 1]
  %3 = reshape %2 {{shape=(6, 256, 256)}} : f32[6, 256, 256]
  %4 = contract %0, %3 {{spec=<[tile0, n, ci, o] * [tile0, ci, co] -> [tile0, n, co, o] over ci>}} : f32[6, 4, 256, 9]
  %5 = from_tiles %4 {{axes=(2,), channels=1, matrix={_matrix(F4.out.T)}, sizes=(34,)}} : f32[4, 256, 34]
  return %5
}}
"""  # noqa: E501


def test_a_convolution_along_a_line() -> None:
    changed = use_winograd(parse_graph(LINE))
    assert print_graph(changed) == TILES


@pytest.mark.parametrize("maps", [F2, F4], ids=lambda m: f"F({m.m},3)")
def test_the_maps_are_a_convolution(maps) -> None:
    """The trilinear form sum y_o w_k x_(o+k), exactly but for the rounding of sixths."""
    form = np.einsum("po,pk,pi->oki", maps.out, maps.taps, maps.image)
    want = np.zeros_like(form)
    for o in range(maps.m):
        for k in range(3):
            want[o, k, o + k] = 1
    np.testing.assert_allclose(form, want, atol=1e-14)


IMAGE = (
    "[n, ci, kh + oh - 1, kw + ow] * [co, ci, kh, kw] -> [n, co, oh, ow] over ci, kh, kw where oh = 9, ow = 8"
)
SPECS = {
    "forward": (IMAGE, (2, 16, 9, 10), (16, 16, 3, 3)),
    "kernel on the left": (
        "[co, ci, kh, kw] * [n, ci, kh + oh - 1, kw + ow] -> [n, co, oh, ow] "
        "over ci, kh, kw where oh = 9, ow = 8",
        (16, 16, 3, 3), (2, 16, 9, 10),
    ),
    "of an image": (
        "[n, co, 0 - kh + oh + 1, 0 - kw + ow] * [co, ci, kh, kw] -> [n, ci, oh, ow] "
        "over co, kh, kw where oh = 9, ow = 10",
        (2, 16, 9, 8), (16, 16, 3, 3),
    ),
    "of a kernel": (
        "[n, ci, kh + oh - 1, kw + ow] * [n, co, oh, ow] -> [co, ci, kh, kw] "
        "over n, oh, ow where kh = 3, kw = 3",
        (2, 16, 9, 10), (2, 16, 9, 8),
    ),
    "of a kernel, turned": (
        "[n, oh, ow, co] * [n, ci, kh + oh - 1, kw + ow] -> [kw, co, kh, ci] "
        "over oh, n, ow where kh = 3, kw = 3",
        (2, 9, 8, 16), (2, 16, 9, 10),
    ),
    "in groups": (
        "[n, g, ci, kh + oh, kw + ow] * [g, co, ci, kh, kw] -> [n, g, co, oh, ow] "
        "over kh, ci, kw where oh = 6, ow = 6",
        (1, 2, 16, 8, 8), (2, 16, 16, 3, 3),
    ),
    "axes swapped": (
        "[n, kw + ow, ci, kh + oh] * [kh, kw, co, ci] -> [n, oh, co, ow] "
        "over kh, kw, ci where oh = 8, ow = 6",
        (1, 8, 16, 10), (3, 3, 16, 16),
    ),
}  # fmt: skip


def _graph(spec: str, lhs: tuple[int, ...], rhs: tuple[int, ...], dtype: str = "f64") -> str:
    sizes = {"n": lhs[0], "ci": 16, "co": 16, "kh": 3, "kw": 3, "g": 2}
    sizes |= {
        name: int(size) for name, size in (e.split(" = ") for e in spec.partition(" where ")[2].split(", "))
    }
    for maps, shape in zip(spec.partition(" -> ")[0].split(" * "), (lhs, rhs), strict=True):
        sizes |= {i: d for i, d in zip(maps[1:-1].split(", "), shape, strict=True) if i.isidentifier()}
    out = spec.partition("-> [")[2].partition("]")[0].split(", ")
    shape = [sizes[name] for name in out]
    return (
        f"fast graph(%x: {dtype}{list(lhs)}, %w: {dtype}{list(rhs)}) {{\n"
        f"  %0 = contract %x, %w {{spec=<{spec}>}} : {dtype}{shape}\n  return %0\n}}\n"
    )


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("worth", [0.85, 1e9], ids=["as it pays", "always"])
def test_every_form_means_the_same(name: str, worth: float, monkeypatch) -> None:
    monkeypatch.setattr("vitrify.passes.fast.winograd.WORTH", worth)
    graph = parse_graph(_graph(*SPECS[name]))
    verify_graph(graph)
    changed = use_winograd(graph)
    verify_graph(changed)
    if worth > 1:
        assert any(op.opdef is ops.from_tiles for op in changed.operations)
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=v.type.shape) for v in graph.inputs]
    (want,), (got,) = (interpret(g, inputs)[0] for g in (graph, changed))
    np.testing.assert_allclose(got, want, atol=1e-12 * np.abs(want).max())


@pytest.mark.parametrize(
    ("why", "spec", "lhs", "rhs", "dtype"),
    [
        ("steps of 2", IMAGE.replace("kh + oh - 1", "kh + 2*oh - 1"), (2, 16, 18, 10), (16, 16, 3, 3), "f32"),
        ("dilated", IMAGE.replace("kh + oh - 1", "2*kh + oh - 1"), (2, 16, 12, 10), (16, 16, 3, 3), "f32"),
        ("5 taps", IMAGE, (2, 16, 9, 12), (16, 16, 3, 5), "f32"),
        ("few channels", IMAGE, (2, 3, 9, 10), (16, 3, 3, 3), "f32"),
        ("integers", IMAGE, (2, 16, 9, 10), (16, 16, 3, 3), "i32"),
        ("half precision", IMAGE, (2, 16, 9, 10), (16, 16, 3, 3), "f16"),
    ],
)
def test_others_stay(why: str, spec: str, lhs, rhs, dtype: str, monkeypatch) -> None:
    monkeypatch.setattr("vitrify.passes.fast.winograd.WORTH", 1e9)
    text = _graph(spec, lhs, rhs, dtype).replace(": f16[2, 16, 9, 8]", ": f32[2, 16, 9, 8]")
    graph = parse_graph(text)
    verify_graph(graph)
    assert use_winograd(graph) is graph, why


def test_depthwise_stays() -> None:
    graph = parse_graph(
        "fast graph(%x: f32[2, 32, 34, 34], %w: f32[32, 3, 3]) {\n  %0 = contract %x, %w {spec=<"
        "[n, c, kh + oh, kw + ow] * [c, kh, kw] -> [n, c, oh, ow] over kh, kw where oh = 32, ow = 32"
        ">} : f32[2, 32, 32, 32]\n  return %0\n}"
    )
    assert use_winograd(graph) is graph


def test_mapped_weights_are_computed_apart() -> None:
    """What follows from weights alone is computed once for as long as they are unchanged."""
    packed = pack_weights(parse_graph(TILES))
    assert packed is not None and packed.windowed and packed.weights == (1,)
    assert [op.opdef for op in packed.packing.operations] == [ops.permute, ops.into_tiles]
    assert [op.opdef for op in eliminate_dead_code(packed.main).operations] == [
        ops.into_tiles, ops.reshape, ops.contract, ops.from_tiles
    ]  # fmt: skip
    verify_graph(packed.main)
    updating = TILES.replace("  return %5", "  update %w = %w\n  return %5")
    assert pack_weights(parse_graph(updating)) is None


def test_weights_are_found_where_simplification_has_put_them() -> None:
    """On the left of their convolution, and without the taps of a 1x1 kernel."""
    text = """
    fast graph(%x: f32[1, 64, 9, 9], %w: f32[64, 64, 1, 1]) {
      %0 = contract %w, %x {spec=<[co, ci, 0, 0] * [n, ci, 2*oh, 2*ow] -> [n, co, oh, ow] over ci where oh = 5, ow = 5>} : f32[1, 64, 5, 5]
      return %0
    }"""  # noqa: E501
    packed = pack_weights(parse_graph(text))
    assert packed is not None and packed.weights == (1,)
    verify_graph(packed.main)
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=v.type.shape).astype(np.float32) for v in parse_graph(text).inputs)
    (turned,), _ = interpret(packed.packing, [w])
    (got,), _ = interpret(packed.main, [x, w, turned])
    (want,), _ = interpret(parse_graph(text), [x, w])
    assert np.array_equal(got, want)
