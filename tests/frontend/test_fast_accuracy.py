"""What numerics="fast" gives, beside float64: errors within the bounds of docs/numerics.md, NaN and infinity,
the same bits at every call and for every number of threads."""

import numpy as np
import pytest
import vitrify as torch
from vitrify.nn import functional

#: Of docs/numerics.md: the error of a convolution, relative to the largest number of the exact result.
CONVOLUTION = 5e-5


def _error(got, want) -> float:
    got, want = got.detach().numpy().astype(np.float64), want.detach().numpy()
    return float(np.abs(got - want).max() / np.abs(want).max())


def _convolve(rank: int, padding):
    function = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
    return lambda x, w, b: functional.relu(function(x, w, b, padding=padding))


CONVOLUTIONS = [
    ((4, 128, 37), (128, 128, 3), 1),
    ((2, 32, 14, 14), (64, 32, 3, 3), 1),
    ((1, 64, 28, 28), (48, 64, 3, 3), 1),
    ((3, 32, 9, 13), (32, 32, 3, 3), 0),
    ((1, 32, 11, 10), (33, 32, 3, 3), (2, 1)),
    ((1, 16, 8, 9, 10), (16, 16, 3, 3, 3), 1),
]


@pytest.mark.parametrize(("image", "kernel", "padding"), CONVOLUTIONS)
def test_convolutions_and_their_gradients(image, kernel, padding, monkeypatch) -> None:
    monkeypatch.setattr("vitrify.passes.fast.winograd.WORTH", 1e9)  # where it does not pay too
    torch.manual_seed(0)
    x, w, b = torch.randn(*image), torch.randn(*kernel), torch.randn(kernel[0])
    function = _convolve(len(image) - 2, padding)

    def step(x, w, b):
        y = function(x, w, b)
        return y, *torch.autograd.grad((y * y).sum(), (x, w, b))

    arguments = [t.requires_grad_() for t in (x, w, b)]
    fast = torch.compile(step, numerics="fast", fullgraph=True)
    got = fast(*arguments)
    assert "into_tiles" in fast.ir("optimized")
    for g, r in zip(got, step(*(t.double() for t in arguments)), strict=True):
        assert _error(g, r) < CONVOLUTION


def test_a_module_keeps_its_mapped_weights() -> None:
    """The second and later calls read the weights as they were mapped, until these change."""
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(32, 32, 3, padding=1)
    fast = torch.compile(conv.forward, numerics="fast")
    x = torch.randn(1, 32, 16, 16)
    with torch.no_grad():
        first = fast(x).numpy().copy()
        assert all(np.array_equal(first, fast(x).numpy()) for _ in range(5))
        conv.weight.mul_(2)
        bias = conv.bias.reshape(1, 32, 1, 1).numpy()
        assert np.abs(fast(x).numpy() - bias - 2 * (first - bias)).max() < 1e-4


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_never_becomes_a_number(bad: float) -> None:
    """It may reach more results than it should (those of its tile), never fewer."""
    torch.manual_seed(0)
    x, w = torch.randn(1, 32, 16, 16), torch.randn(32, 32, 3, 3)
    x[0, 3, 7, 8] = bad
    function = torch.compile(lambda x, w: functional.conv2d(x, w, padding=1), numerics="fast")
    got, want = function(x, w).numpy(), functional.conv2d(x, w, padding=1).numpy()
    assert "into_tiles" in function.ir("optimized")
    lost = ~np.isfinite(want) & np.isfinite(got)
    assert not lost.any() and np.isfinite(got).any()


def test_the_same_bits_for_every_number_of_threads() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(8, 32, 28, 28), torch.randn(64, 32, 3, 3)
    function = torch.compile(lambda x, w: functional.conv2d(x, w, padding=1).relu(), numerics="fast")
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(function(x, w).numpy().copy())
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_rows_and_products_keep_what_is_not_finite() -> None:
    """Division by a row is a product with its reciprocal; products and sums are rounded once."""
    x = torch.tensor([[0.0, 1.0, -2.0, float("inf"), float("nan"), 3e38] * 2])
    rows = torch.tensor([[0.0], [-0.0], [float("inf")], [float("nan")], [2.0], [1e30]])

    def function(x, rows):
        return x / rows, x * rows + 1.0

    for got, want in zip(torch.compile(function, numerics="fast")(x, rows), function(x, rows), strict=True):
        got, want = got.numpy(), want.numpy()
        assert np.array_equal(np.isnan(got), np.isnan(want))
        finite = np.isfinite(want)
        assert np.array_equal(got[~finite], want[~finite], equal_nan=True)
        np.testing.assert_allclose(got[finite], want[finite], rtol=3e-7)


def test_normalisation_is_close_to_float64() -> None:
    torch.manual_seed(0)
    x, w, b = torch.randn(64, 768), torch.randn(768), torch.randn(768)

    def normalise(x, w, b):
        d = x - x.mean(-1, keepdim=True)
        return d / ((d * d).mean(-1, keepdim=True) + 1e-5).sqrt() * w + b

    fast = torch.compile(normalise, numerics="fast")
    want = normalise(x.double(), w.double(), b.double())
    assert _error(fast(x, w, b), want) < 1e-6
    assert "fma" in fast.ir("optimized") and "div %" in fast.ir("optimized")


@pytest.mark.parametrize("count", [1, 63, 64, 100, 768, 4096, 4097, 70_000])
def test_sums_are_as_close_as_exact_ones(count: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, count)

    def function(x):
        return (x * x).sum(-1), x.sum()

    fast = torch.compile(function, numerics="fast")
    for got, exact, want in zip(fast(x), function(x), function(x.double()), strict=True):
        bound = 1e-6 * float(x.double().abs().sum())
        assert float((got - want).abs().max()) < bound and float((exact - want).abs().max()) < bound
    assert torch.equal(fast(x)[0], fast(x)[0])


@pytest.mark.parametrize("name", ["sigmoid", "silu", "gelu", "gelu tanh"])
def test_activations(name: str) -> None:
    """Bounds of docs/numerics.md, on all magnitudes of both signs; limits at the ends."""
    functions = {
        "sigmoid": torch.sigmoid,
        "silu": functional.silu,
        "gelu": functional.gelu,
        "gelu tanh": lambda x: functional.gelu(x, approximate="tanh"),
    }
    function = functions[name]
    sizes = np.concatenate([np.logspace(-44, 38, 20_000), np.linspace(0, 100, 20_000)])
    x = torch.from_numpy(np.concatenate([sizes, -sizes]).astype(np.float32))
    fast = torch.compile(lambda x: function(x), numerics="fast")
    got, want = fast(x).numpy().astype(np.float64), function(x.double()).numpy()
    assert np.isfinite(got).all()
    if name in ("sigmoid", "silu"):
        near = x.numpy() > -87
        np.testing.assert_allclose(got[near], want[near], rtol=4e-7, atol=1e-44)
    assert (np.abs(got - want) <= 5e-7 * np.abs(x.numpy() if name != "sigmoid" else 1) + 1e-38).all()
    inf, ninf, nan = fast(torch.tensor([float("inf"), -float("inf"), float("nan")])).tolist()
    assert inf == (1 if name == "sigmoid" else float("inf")) and np.isnan(nan)
    assert ninf == 0 or np.isnan(ninf)
