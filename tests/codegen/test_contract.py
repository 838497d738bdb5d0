"""Contractions as native code: the same bits as the interpreter's exact FMA chains, for every CPU level,
layout and size; and the same bits whatever the tiles."""

from __future__ import annotations

import re

import numpy as np
import pytest
from vitrify.codegen.contract_tile import Tile, choose_tile
from vitrify.codegen.target import LEVELS
from vitrify.ir import dtypes
from vitrify.ir.errors import IRError
from vitrify.ir.expr import parse_expr
from vitrify.ir.kernel_text import parse_kernel, print_kernel

from .harness import check_kernel, run_native, text_of

LAYOUTS = ["mk,kn", "mk,nk", "km,kn", "km,nk"]
SHAPES = [
    (1, 1, 1), (2, 3, 4), (5, 16, 7), (12, 32, 9), (13, 33, 10), (30, 70, 40), (7, 100, 33), (64, 10, 51),
    (3, 1, 70), (40, 1, 33), (1, 50, 33), (40, 3, 20), (25, 48, 17), (4, 0, 3), (0, 4, 4), (3, 20, 0),
]  # fmt: skip


def matmul(m: object, n: object, k: object, layout: str, dtype: str = "f32", sizes: str = "") -> str:
    """The text of a kernel for c = a * b; sizes: names of those of m, n, k that are known at run time."""
    left, right = layout.split(",")
    a = f"i*({k}) + p" if left == "mk" else f"i + p*({m})"
    b = f"p*({n}) + j" if right == "kn" else f"p + j*({k})"
    sizes = f"; {sizes}" if sizes else ""

    def e(text: str) -> str:
        return str(parse_expr(text))

    counts = {name: e(f"({x})*({y})") for name, x, y in (("a", m, k), ("b", k, n), ("c", m, n))}
    buffers = ", ".join(
        f"%{name}: {dtype}[{n}] {'out' if name == 'c' else 'in'}" for name, n in counts.items()
    )
    return f"""kernel matmul({buffers}{sizes}) {{
  %r = contract %a[{e(a)}] * %b[{e(b)}] over p < {k} for i < {m}, j < {n} : {dtype} {{
    store %c[{e(f"i*({n}) + j")}], %r
  }}
}}
"""


def data(*sizes: int, dtype: dtypes.DType = dtypes.float32, seed: int = 0) -> list[np.ndarray]:
    """Arrays of these sizes; the values reach over many magnitudes, so that the order of arithmetic shows."""
    rng = np.random.default_rng(seed)
    if dtype.is_floating_point:
        return [(rng.standard_normal(n) * 10.0 ** rng.integers(-3, 4, n)).astype(dtype.numpy) for n in sizes]
    low = -100 if dtype.is_signed else 0
    return [rng.integers(low, 100, n).astype(dtype.numpy) for n in sizes]


def check(m: int, n: int, k: int, layout: str, dtype: dtypes.DType = dtypes.float32) -> None:
    a, b = data(m * k, k * n, dtype=dtype)
    check_kernel(matmul(m, n, k, layout, dtype.short), {"a": a, "b": b, "c": np.zeros(m * n, dtype.numpy)})


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_static_sizes(shape: tuple[int, int, int], layout: str) -> None:
    check(*shape, layout)


@pytest.mark.parametrize("right", ["p*{n} + j", "p + j*{k}"])
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (5, 16, 3), (13, 17, 9), (30, 64, 9), (3, 100, 40), (2, 33, 4100), (0, 4, 3), (4, 5, 0)],
    ids=str,
)
def test_columns_with_a_left_operand_each(shape: tuple[int, int, int], right: str) -> None:
    m, n, k = shape
    rows, b = max(m + k - 1, 0), right.format(n=n, k=k)
    text = f"""kernel depthwise(%a: f32[{rows * n}] in, %b: f32[{k * n}] in, %c: f32[{m * n}] out) {{
  %r = contract %a[i*{n} + p*{n} + j] * %b[{b}] over p < {k} for i < {m}, j < {n} : f32 {{
    store %c[i*{n} + j], %r
  }}
}}
"""
    left, weights = data(rows * n, k * n)
    check_kernel(text, {"a": left, "b": weights, "c": np.zeros(m * n, np.float32)})


@pytest.mark.parametrize("layout", ["mk,kn", "mk,nk"])
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64], ids=str)
def test_dtypes(dtype: dtypes.DType, layout: str) -> None:
    check(13, 37, 21, layout, dtype)
    check(2, 3, 40, layout, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "shape", [(5, 20, 33), (1, 1, 1), (29, 64, 17), (0, 3, 3), (3, 0, 2), (4, 5, 0)], ids=str
)
def test_run_time_sizes(shape: tuple[int, int, int], layout: str) -> None:
    m, n, k = shape
    a, b = data(m * k, k * n)
    buffers = {"a": a, "b": b, "c": np.zeros(m * n, np.float32)}
    check_kernel(matmul("m", "n", "k", layout, sizes="m, n, k"), buffers, {"m": m, "n": n, "k": k})


@pytest.mark.parametrize("rows", [0, 1, 4, 5, 12, 13, 39])
def test_rows_known_at_run_time(rows: int) -> None:
    a, b = data(rows * 30, 30 * 40)
    buffers = {"a": a, "b": b, "c": np.zeros(rows * 40, np.float32)}
    check_kernel(matmul("m", 40, 30, "mk,kn", sizes="m"), buffers, {"m": rows})


@pytest.mark.parametrize("layout", ["mk,kn", "mk,nk", "km,kn"])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (13, 33, 10), (7, 100, 33), (2, 2000, 20), (40, 3, 20), (30, 20, 2500)], ids=str
)
@pytest.mark.parametrize("order", ["rows", "columns"])
def test_sums_that_go_on(shape: tuple[int, int, int], layout: str, order: str) -> None:
    m, n, k = shape
    text = matmul(m, n, k, layout).replace("%c: f32[" + str(m * n) + "] out", f"%c: f32[{m * n}] inout")
    place = "%c" + text.partition("store %c")[2].partition(",")[0]
    text = text.replace(" for i <", f" from {place} for i <")
    if order == "columns":
        text = text.replace(place, f"%c[i + {m}*j]")
    a, b, c = data(m * k, k * n, m * n)
    check_kernel(text, {"a": a, "b": b, "c": c})


BORDERS = ["i - p", "p - i", "j - p", "p - j - 3", "i - j", "j - i + 2", "40 - i - j - p", "p + i + j - 50"]


def within(text: str, border: str) -> str:
    return text.replace(" for ", f" when 0 <= {parse_expr(border)} for ")


@pytest.mark.parametrize("layout", ["mk,kn", "mk,nk", "km,kn"])
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (30, 70, 40), (40, 3, 51), (3, 40, 20), (25, 48, 17)], ids=str)
def test_steps_that_take_no_part(shape: tuple[int, int, int], border: str, layout: str) -> None:
    m, n, k = shape
    a, b = data(m * k, k * n)
    a[::7], b[::11] = np.inf, np.nan
    check_kernel(within(matmul(m, n, k, layout), border), {"a": a, "b": b, "c": np.zeros(m * n, np.float32)})


@pytest.mark.parametrize("border", ["i - p", "p - j", "i - j + 1"])
def test_steps_that_take_no_part_with_run_time_sizes_and_other_dtypes(border: str) -> None:
    m, n, k = 29, 50, 17
    sizes = {"m": m, "n": n, "k": k}
    for dtype in (dtypes.float64, dtypes.int32):
        a, b = data(m * k, k * n, dtype=dtype)
        buffers = {"a": a, "b": b, "c": np.zeros(m * n, dtype.numpy)}
        check_kernel(within(matmul("m", "n", "k", "mk,kn", dtype.short, "m, n, k"), border), buffers, sizes)


@pytest.mark.parametrize("border", ["i - p + 4090", "p - j - 4090", "4000 - i - p", "p - i - 4100"])
@pytest.mark.parametrize("layout", ["mk,kn", "mk,nk"])
def test_steps_that_take_no_part_in_long_sums(layout: str, border: str) -> None:
    m, n, k = 14, 35, 4500
    a, b = data(m * k, k * n)
    check_kernel(within(matmul(m, n, k, layout), border), {"a": a, "b": b, "c": np.zeros(m * n, np.float32)})


@pytest.mark.parametrize("border", ["i - p - 3", "2 - q + j", "i + q - p"])
def test_steps_that_take_no_part_of_several_axes(border: str) -> None:
    """The axes are walked one within the other: columns of 7 of the left operand are left out."""
    text = f"""kernel gaps(%a: f32[{20 * 35}] in, %b: f32[{20 * 40}] in, %c: f32[{20 * 40}] out) {{
  %r = contract %a[i*35 + p*7 + q] * %b[p*160 + q*40 + j] over p < 5, q < 4 for i < 20, j < 40 : f32 {{
    store %c[i*40 + j], %r
  }}
}}
""".replace("i*35", "35*i").replace("p*7", "7*p")
    text = str(print_kernel(parse_kernel(text)))
    a, b = data(20 * 35, 20 * 40)
    check_kernel(within(text, border), {"a": a, "b": b, "c": np.zeros(20 * 40, np.float32)})


@pytest.mark.parametrize("border", ["i - p", "p - j", "p - i"])
def test_sums_that_go_on_where_steps_take_no_part(border: str) -> None:
    m, n, k = 30, 70, 40
    text = within(matmul(m, n, k, "mk,kn"), border).replace("%c: f32[2100] out", "%c: f32[2100] inout")
    text = text.replace(" for ", f" from %c[{n}*i + j] for ")
    a, b, c = data(m * k, k * n, m * n)
    check_kernel(text, {"a": a, "b": b, "c": c})


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 20, 4097), (2, 5, 8192), (3, 40, 1500), (245, 9, 1030)], ids=str)
def test_long_sums(shape: tuple[int, int, int], layout: str) -> None:
    """Superblocks of 4096 steps; panels packed piece by piece; chains that go on from memory."""
    check(*shape, layout)


@pytest.mark.parametrize("layout", ["mk,kn", "mk,nk"])
def test_long_sums_known_at_run_time(layout: str) -> None:
    a, b = data(3 * 4500, 4500 * 20)
    buffers = {"a": a, "b": b, "c": np.zeros(60, np.float32)}
    check_kernel(matmul("m", "n", "k", layout, sizes="m, n, k"), buffers, {"m": 3, "n": 20, "k": 4500})


@pytest.mark.parametrize("layout", ["mk,kn", "mk,nk", "km,kn"])
@pytest.mark.parametrize(
    "shape", [(1, 70, 130), (3, 160, 131), (4, 300, 70), (1, 2100, 9), (2, 33, 4100), (8, 65, 90)], ids=str
)
def test_few_rows(shape: tuple[int, int, int], layout: str) -> None:
    """The right operand streamed, or packed in small pieces; columns and steps that fill no vector."""
    check(*shape, layout)


@pytest.mark.parametrize("dtype", [dtypes.float64, dtypes.int32], ids=str)
def test_few_rows_of_other_dtypes(dtype: dtypes.DType) -> None:
    for layout in ("mk,kn", "mk,nk"):
        check(2, 1100, 18, layout, dtype)
        check(1, 37, 4099, layout, dtype)


_CONVOLUTION = """kernel conv(%x: f32[{x}] in, %w: f32[{w}] in, %y: f32[{y}] out) {{
  parallel b < {n} {{
    parallel oh < {o} {{
      %r = contract %x[{place}] * %w[{weight}] over kh < 3, kw < 3, ci < {ci} for ow < {o}, co < {co} : f32 {{
        store %y[{out}], %r
      }}
    }}
  }}
}}
"""


@pytest.mark.parametrize("ci", [1, 3, 500])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("weights", ["last", "first"])
def test_convolutions(ci: int, stride: int, weights: str) -> None:
    """Channels last, sums over three axes of which two or three merge; output channels contiguous or not."""
    n, o, co, h = 2, 3, 20, 3 * stride + 2
    steps = f"(({h}*b + {stride}*oh + kh)*{h} + {stride}*ow + kw)*{ci} + ci"
    tap = "(kh*3 + kw)"
    weight = f"({tap}*{ci} + ci)*{co} + co" if weights == "last" else f"co*{9 * ci} + {tap}*{ci} + ci"
    text = _CONVOLUTION.format(
        x=n * h * h * ci, w=9 * ci * co, y=n * o * o * co, n=n, o=o, ci=ci, co=co, place=parse_expr(steps),
        weight=parse_expr(weight), out=parse_expr(f"((b*{o} + oh)*{o} + ow)*{co} + co"),
    )  # fmt: skip
    x, w = data(n * h * h * ci, 9 * ci * co)
    check_kernel(text, {"x": x, "w": w, "y": np.zeros(n * o * o * co, np.float32)})


@pytest.mark.parametrize(
    "extents", [(3, 40, 41), (5, 70, 70), (2, 3, 5000), (4500, 1, 2), (2, 0, 3)], ids=str
)
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("static", [True, False])
def test_superblocks_of_several_axes(extents: tuple[int, int, int], contiguous: bool, static: bool) -> None:
    """Cut where inner axes no longer fit in 4096 steps; the operands' layouts keep the axes from merging."""
    m, n = 3, 18
    p, q, r = extents
    names = [str(e) for e in extents] if static else ["p", "q", "r"]
    lhs = f"i + {m}*(k2 + ({names[2]} + 1)*(k1 + ({names[1]} + 1)*k0))"
    step = f"(k2 + ({names[2]} + 1)*(k1 + {names[1]}*k0))"
    rhs = f"{n}*{step} + j" if contiguous else f"{step} + j*5*{max(p * q * (r + 1), 1)}"
    a, b = data(m * p * (q + 1) * (r + 1), (n * 5 if not contiguous else n) * max(p * q * (r + 1), 1))
    tail = "" if static else "; p, q, r"
    over = ", ".join(f"k{i} < {name}" for i, name in enumerate(names))
    text = f"""kernel sums(%a: f32[{len(a)}] in, %b: f32[{len(b)}] in, %c: f32[{m * n}] out{tail}) {{
  %r = contract %a[{parse_expr(lhs)}] * %b[{parse_expr(rhs)}] over {over} for i < {m}, j < {n} : f32 {{
    store %c[18*i + j], %r
  }}
}}
"""
    sizes = None if static else {"p": p, "q": q, "r": r}
    check_kernel(text, {"a": a, "b": b, "c": np.zeros(m * n, np.float32)}, sizes)


def test_a_panel_neither_of_whose_axes_is_contiguous() -> None:
    text = """kernel gathered(%a: f32[60] in, %b: f32[1200] in, %c: f32[60] out) {
  %r = contract %a[12*i + k] * %b[2*k + 60*j] over k < 12 for i < 5, j < 12 : f32 {
    store %c[12*i + j], %r
  }
}
"""
    a, b = data(60, 1200)
    check_kernel(text, {"a": a, "b": b, "c": np.zeros(60, np.float32)})


def test_the_epilogue_sees_rows_columns_and_what_is_around() -> None:
    """A bias per column, a residual, a scale from outside, a store that leaves gaps, two buffers written."""
    text = """kernel fused(%a: f32[320] in, %b: f32[360] in, %bias: f32[20] in, %res: f32[1600] in,
             %y: f32[3000] inout, %z: f32[400] out) {
  parallel g < 2 {
    %s = load %bias[g] : f32
    %r = contract %a[160*g + 8*i + k] * %b[k + 18*j] over k < 8 for i < 20, j < 20 : f32 {
      %0 = load %bias[j] : f32
      %1 = add %r, %0 : f32
      %2 = load %res[i + 40*j + 20*g] : f32
      %3 = mul %1, %2 : f32
      %4 = mul %3, %s : f32
      store %y[1500*g + 75*i + 3*j], %4
      store %z[20*i + j], %1 when 1 <= g < 2
    }
  }
}
"""
    a, b, bias, res, y = data(320, 360, 20, 1600, 3000)
    check_kernel(text, {"a": a, "b": b, "bias": bias, "res": res, "y": y, "z": np.zeros(400, np.float32)})


_TURNED = """kernel turned(%a: f32[{a}] in, %b: f32[{b}] in, %bias: f32[{m}] in, %c: f32[{c}] inout{sizes}) {{
  %r = contract %a[{lhs}] * %b[{rhs}] over k < {k} for i < {m}, j < {n} : f32 {{
    %0 = load %bias[i] : f32
    %1 = add %r, %0 : f32
    store %c[{out}], %1
  }}
}}
"""


def turned(m: object, n: object, k: object, *, packed: bool, sizes: str = "") -> str:
    """The text of c = (a * b + bias)^T: stores are contiguous down the columns of the sums."""
    expressions = {
        "a": f"{m}*{k}", "b": f"{k}*{n}", "c": f"{m}*{n}", "lhs": f"i*{k} + k",
        "rhs": f"k + j*{k}" if packed else f"k*{n} + j", "out": f"i + j*{m}",
    }  # fmt: skip
    texts = {name: str(parse_expr(text)) for name, text in expressions.items()}
    return _TURNED.format(m=m, n=n, k=k, sizes=f"; {sizes}" if sizes else "", **texts)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "shape",
    [(8, 16, 5), (16, 3, 7), (100, 20, 9), (250, 33, 6), (97, 8, 4), (20, 10, 4100), (40, 70, 1500),
     (9, 20, 0)],
    ids=str,
)  # fmt: skip
def test_vectors_of_the_epilogue_may_run_down_the_columns(shape: tuple[int, int, int], packed: bool) -> None:
    m, n, k = shape
    a, b, bias, c = data(m * k, k * n, m, m * n)
    text = turned(m, n, k, packed=packed)
    check_kernel(text, {"a": a, "b": b, "bias": bias, "c": c})
    assert "scatter" not in text_of(parse_kernel(text)) or k == 0
    assert "gather" not in text_of(parse_kernel(text)) or k == 0


@pytest.mark.parametrize("shape", [(1, 5, 3), (16, 16, 4), (120, 35, 9), (250, 5, 1100), (0, 4, 4)], ids=str)
def test_the_same_with_run_time_sizes(shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    a, b, bias, c = data(m * k, k * n, m, m * n)
    text = turned("m", "n", "q", packed=True, sizes="m, n, q")
    check_kernel(text, {"a": a, "b": b, "bias": bias, "c": c}, {"m": m, "n": n, "q": k})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.0, 1e-42, 3e38])
def test_special_values(value: float) -> None:
    a, b = data(13 * 20, 20 * 33)
    a[5] = a[100] = b[7] = b[300] = value
    for layout in ("mk,kn", "mk,nk"):
        check_kernel(matmul(13, 33, 20, layout), {"a": a, "b": b, "c": np.zeros(13 * 33, np.float32)})


def test_an_operand_may_be_both_sides() -> None:
    text = """kernel gram(%a: f32[300] in, %c: f32[225] out) {
  %r = contract %a[20*i + k] * %a[20*j + k] over k < 20 for i < 15, j < 15 : f32 {
    store %c[15*i + j], %r
  }
}
"""
    (a,) = data(300)
    check_kernel(text, {"a": a, "c": np.zeros(225, np.float32)})


def test_a_row_alone_has_the_bits_it_has_in_a_batch() -> None:
    m, n, k = 37, 70, 300
    a, b = data(m * k, k * n)
    batch = np.zeros(m * n, np.float32)
    run_native(parse_kernel(matmul(m, n, k, "mk,nk")), {"a": a, "b": b, "c": batch})
    for row in (0, 11, 36):
        alone = np.zeros(n, np.float32)
        part = np.ascontiguousarray(a[row * k : (row + 1) * k])
        run_native(parse_kernel(matmul(1, n, k, "mk,nk")), {"a": part, "b": b, "c": alone})
        assert np.array_equal(alone, batch[row * n : (row + 1) * n])


def test_a_large_operand_is_packed_with_the_same_bits() -> None:
    m, n, k = 50, 1100, 2000
    a, b = data(m * k, k * n)
    packed, turned = np.zeros(m * n, np.float32), np.zeros(m * n, np.float32)
    kernel = parse_kernel(matmul(m, n, k, "mk,kn"))
    run_native(kernel, {"a": a, "b": b, "c": packed})
    across = np.ascontiguousarray(b.reshape(k, n).T).ravel()
    run_native(parse_kernel(matmul(m, n, k, "mk,nk")), {"a": a, "b": across, "c": turned})
    assert np.array_equal(packed, turned)
    rows = np.zeros(2 * n, np.float32)
    run_native(parse_kernel(matmul(2, n, k, "mk,kn")), {"a": a[: 2 * k], "b": b, "c": rows})
    assert np.array_equal(rows, packed[: 2 * n])


def test_an_operand_that_lies_as_if_packed_is_read_in_place() -> None:
    """Packing is seen by what it fetches; narrow tiles pack what lies in wider rows."""
    inside = (
        matmul(48, 16, 2048, "mk,kn").replace("%b[j + 16*p]", "%b[j + 32*p]").replace("[32768]", "[65536]")
    )
    for text, packed in ((matmul(48, 16, 2048, "mk,kn"), False), (inside, True)):
        assert ("llvm.prefetch" in text_of(parse_kernel(text), LEVELS["x86-64-v3"])) == packed
    check(48, 16, 2048, "mk,kn")


def test_an_index_that_is_not_linear_is_refused() -> None:
    text = """kernel odd(%a: f32[100] in, %b: f32[100] in, %c: f32[100] out) {
  %r = contract %a[(i // 2) + k] * %b[10*k + j] over k < 4 for i < 6, j < 6 : f32 {
    store %c[6*i + j], %r
  }
}
"""
    with pytest.raises(IRError, match="not linear in i"):
        text_of(parse_kernel(text))


@pytest.mark.parametrize(
    ("level", "dtype", "tile"),
    [("x86-64-v4", "f32", Tile(12, 2)), ("x86-64-v3", "f32", Tile(6, 1)), ("x86-64-v2", "f32", Tile(2, 1)),
     ("x86-64-v4", "f64", Tile(12, 1)), ("x86-64-v3", "f64", Tile(2, 1))],
)  # fmt: skip
def test_the_tile_for_large_products(level: str, dtype: str, tile: Tile) -> None:
    assert choose_tile(LEVELS[level], dtypes.dtype_of(dtype), 600, 960, 784) == tile


@pytest.mark.parametrize("m", [1, 3, 12, 64, 1000])
@pytest.mark.parametrize("n", [1, 10, 64, 500])
def test_tiles_fit_the_registers(m: int, n: int) -> None:
    for target in LEVELS.values():
        for dtype in (dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64, dtypes.uint8):
            tile = choose_tile(target, dtype, m, n, 512)
            width = max(1, 16 * dtype.itemsize // target.vector_bytes)
            registers = tile.rows * tile.vectors * width + tile.vectors * width + 1
            assert registers <= (32 if target.vector_bytes == 64 else 16) or tile == Tile(1, 1)


def test_emitted_code_is_exact_and_shares_micro_kernels() -> None:
    text = text_of(parse_kernel(matmul(24, 64, 30, "mk,kn")), LEVELS["x86-64-v4"])
    assert "fmuladd" not in text and not re.search(r"f(add|mul) (fast|reassoc|contract)", text)
    assert "call <16 x float> @llvm.fma.v16f32" in text
    assert len(re.findall(r"define internal void @tile_", text)) == 1


@pytest.mark.parametrize("m, n", [(80, 864), (89, 837)])
@pytest.mark.parametrize("lhs", ["k + 80*m", "m + {m}*k"])
def test_far_operands_are_fetched(m: int, n: int, lhs: str) -> None:
    """Panels beside this one, rows of the next tile, and what the body touches: no bit changes."""
    text = f"""
        kernel far(%x: f32[{m}*80] in, %w: f32[80*{n}] in, %e: f32[{m}*{n}] in, %y: f32[{m}*{n}] out) {{
          %c = contract %x[{lhs.format(m=m)}] * %w[{n}*k + n] over k < 80 for m < {m}, n < {n} : f32 {{
            %0 = load %e[{n}*m + n] : f32
            %1 = mul %c, %0 : f32
            store %y[{n}*m + n], %1
          }}
        }}"""
    near = """
        kernel near(%x: f32[12*80] in, %w: f32[80*64] in, %y: f32[12*64] out) {
          %c = contract %x[80*m + k] * %w[64*k + n] over k < 80 for m < 12, n < 64 : f32 {
            store %y[64*m + n], %c
          }
        }"""
    assert "llvm.prefetch" in text_of(parse_kernel(text))
    assert "llvm.prefetch" not in text_of(parse_kernel(near))
    rng = np.random.default_rng(0)
    x, w, e = (rng.standard_normal(size).astype(np.float32) for size in (m * 80, 80 * n, m * n))
    check_kernel(text, {"x": x, "w": w, "e": e, "y": np.zeros(m * n, np.float32)})


def test_a_large_block_is_followed_by_the_next() -> None:
    """A right operand in blocks, one after the other in memory: tiles fetch ahead, no bit changes."""
    text = """
        kernel blocks(%x: f32[2*6*2048] in, %w: f32[2*2048*48] in, %y: f32[2*2*6*48] out) {
          parallel b < 2 {
            parallel r < 2 {
              %c = contract %x[12288*r + 2048*m + k] * %w[98304*b + 48*k + n]
                over k < 2048 for m < 6, n < 48 : f32 {
                store %y[576*b + 288*r + 48*m + n], %c
              }
            }
          }
        }"""
    kernel = parse_kernel(text)
    assert "llvm.prefetch" in text_of(kernel)
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(n).astype(np.float32) for n in (2 * 6 * 2048, 2 * 2048 * 48))
    check_kernel(text, {"x": x, "w": w, "y": np.zeros(2 * 2 * 6 * 48, np.float32)})


def convolution(
    images: int, height: int, width: int, inputs: int, outputs: int, taps: tuple[int, int], step: int = 1,
    spread: int = 1, margin: int = 1, last: bool = True, sizes: str = "",
) -> tuple[str, dict[str, np.ndarray]]:  # fmt: skip
    """A padded convolution: the kernel over images that were copied with room around them (not zeros, which
    nobody is to read), and its buffers. last: channels lie last; else the pixels of a row are the columns."""
    tall, wide = height + 2 * margin, width + 2 * margin
    oh, ow = ((n - spread * (k - 1) - 1) // step + 1 for n, k in zip((tall, wide), taps, strict=True))
    kh, kw = taps
    y, x = f"{step}*oh + {spread}*kh", f"{step}*ow + {spread}*kw"
    if last:
        image = f"n*{tall * wide * inputs} + ({y})*{wide * inputs} + ({x})*{inputs} + ci"
        weight, axes = f"((kh*{kw} + kw)*{inputs} + ci)*{outputs} + co", f"ow < {ow}, co < {outputs}"
        operands, place = ("x", image, "w", weight), f"((n*{oh} + oh)*{ow} + ow)*{outputs} + co"
    else:
        image = f"((n*{inputs} + ci)*{tall} + {y})*{wide} + {x}"
        weight, axes = f"((co*{inputs} + ci)*{kh} + kh)*{kw} + kw", f"co < {outputs}, ow < {ow}"
        operands, place = ("w", weight, "x", image), f"((n*{outputs} + co)*{oh} + oh)*{ow} + ow"
    counts = (images * tall * wide * inputs, kh * kw * inputs * outputs, images * oh * ow * outputs)
    a, at, b, to = operands
    text = f"""kernel padded(%x: f32[{counts[0]}] in, %w: f32[{counts[1]}] in, %y: f32[{counts[2]}] out{sizes}) {{
  parallel n < {images} {{
    parallel oh < {oh} {{
      %r = contract %{a}[{parse_expr(at)}] * %{b}[{parse_expr(to)}] over kh < {kh}, kw < {kw}, ci < {inputs} inside 0 <= {parse_expr(f"{y} - {margin}")} < {height}, 0 <= {parse_expr(f"{x} - {margin}")} < {width} for {axes} : f32 {{
        store %y[{parse_expr(place)}], %r
      }}
    }}
  }}
}}
"""  # noqa: E501
    image_data, weights = data(*counts[:2])
    weights[::7], weights[3::11] = np.inf, np.nan
    image_data[::13] = -0.0
    return text, {"x": image_data, "w": weights, "y": np.zeros(counts[2], np.float32)}


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(
    "shape",
    [
        (2, 7, 7, 5, 20, (3, 3)), (1, 4, 28, 3, 40, (3, 3)), (1, 3, 30, 2, 33, (5, 5), 1, 1, 2),
        (1, 9, 9, 4, 16, (3, 3), 2), (1, 12, 15, 3, 16, (7, 7), 2, 1, 3), (1, 9, 14, 4, 16, (3, 3), 1, 2, 2),
        (1, 2, 40, 1, 70, (1, 19), 1, 1, 9), (1, 1, 1, 3, 4, (3, 3)), (1, 2, 3, 4, 5, (1, 1)),
        (1, 3, 4, 500, 16, (3, 3)), (1, 2, 4, 1500, 18, (3, 3)), (1, 2, 3, 2100, 5, (3, 3)),
        (1, 4, 4, 96, 64, (3, 3)), (1, 2, 2, 64, 40, (3, 3)),
    ],
    ids=str,
)  # fmt: skip
def test_padding_takes_no_part(shape: tuple, last: bool) -> None:
    check_kernel(*convolution(*shape, last=last))


def test_no_multiply_add_is_spent_on_the_padding_of_a_row() -> None:
    """Of 7 rows and 3 taps the first and the last have one row less: 19 of 21 multiply-adds."""
    text, _ = convolution(2, 7, 7, 5, 16, (3, 3))
    module = text_of(parse_kernel(text), LEVELS["x86-64-v4"])
    body = next(f for f in module.split("define ") if "@windows_" in f.partition("(")[0])
    assert body.count("call <16 x float> @llvm.fma") == 6 + 7 + 6


@pytest.mark.parametrize("last", [True, False])
def test_padding_known_at_run_time_only_takes_no_part(last: bool) -> None:
    text, buffers = convolution(1, 6, 9, 3, 20, (3, 3), last=last, sizes="; s")
    text = text.replace("< 9 for", "< s for")
    check_kernel(text, buffers, {"s": 9})


def test_many_taps_of_few_rows_are_no_function_each() -> None:
    """Each of 67 taps leaves other columns: all of them are one loop that compares."""
    text, buffers = convolution(1, 1, 67, 1, 3, (1, 67), 1, 1, 33, last=False)
    for target in LEVELS.values():
        assert text_of(parse_kernel(text), target).count("define ") < 16
    check_kernel(text, buffers)


def test_few_rows_may_be_none() -> None:
    check(0, 64, 512, "mk,kn")


def test_padding_of_what_is_summed_bounds_the_sum() -> None:
    """The gradient of the weights: the pixels that a tap reads are those of an image."""
    text = """kernel weights(%x: f32[810] in, %c: f32[560] in, %y: f32[720] out) {
  parallel kh < 3 {
    parallel kw < 3 {
      %r = contract %x[90*oh + 90*kh + 10*ow + 10*kw + ci] * %c[80*oh + 16*ow + co] over oh < 7, ow < 5 inside 0 <= oh + kh - 1 < 7, 0 <= 1 - kw - ow + 4 < 5 for ci < 5, co < 16 : f32 {
        store %y[240*kh + 80*kw + 16*ci + co], %r
      }
    }
  }
}
"""  # noqa: E501
    x, c = data(810, 560)
    c[::9] = np.nan
    check_kernel(text, {"x": x, "c": c, "y": np.zeros(720, np.float32)})
