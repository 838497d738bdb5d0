"""Convolutions of random geometry beside PyTorch's: forward, both gradients, and the same bits compiled."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
import vitrify

from tests.support import assert_same_bits

Geometry = tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]

#: Found by chance: a summed axis of one element leaves its operand padded beyond the taps.
ONE_PLACE: Geometry = (1, 6, 5, 12), (15, 2, 5, 3), {"stride": (3, 2), "padding": (1, 0), "groups": 3}


def geometry(seed: int) -> Geometry:
    """Shapes of the image and the weight, and the arguments, of a convolution that fits."""
    r = random.Random(seed)
    rank = r.choice((1, 2, 2, 3))
    groups = r.choice((1, 1, 2, 3))
    kernel, stride, dilation, padding = (
        tuple(r.choice(of) for _ in range(rank)) for of in ((1, 2, 3, 5), (1, 1, 2, 3), (1, 1, 2), (0, 1, 2))
    )
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    sizes = [n + r.choice((0, 1, 3, 6)) for n in reach]
    image = (r.choice((1, 2)), groups * r.choice((1, 2, 8)), *sizes)
    weight = (groups * r.choice((1, 4, 5)), image[1] // groups, *kernel)
    return image, weight, {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def computed(library: Any, case: Geometry, compiled: bool = False) -> list[np.ndarray]:
    image, weight, options = case
    rng = np.random.default_rng(7)
    x, w = (library.from_numpy(rng.normal(size=shape)).requires_grad_() for shape in (image, weight))
    convolve = getattr(library.nn.functional, f"conv{len(image) - 2}d")

    def step(x: Any, w: Any) -> Any:
        return convolve(x, w, None, **options)

    y = (library.compile(step) if compiled else step)(x, w)
    (y * y).sum().backward()
    return [y.detach().numpy(), x.grad.numpy(), w.grad.numpy()]


@pytest.mark.parametrize("case", [ONE_PLACE, *map(geometry, range(14))], ids=str)
def test_convolution_and_gradients(case: Geometry) -> None:
    want, eager, compiled = computed(torch, case), computed(vitrify, case), computed(vitrify, case, True)
    for what, a, b, c in zip(("result", "image", "weight"), want, eager, compiled, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-10, err_msg=what)
        assert_same_bits(c, b, what)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("end", [0, 2])
def test_an_infinite_weight_counts_only_where_its_tap_reaches(stride: int, end: int) -> None:
    """In the gradient of the image and in a transposed convolution no place is given 0 times infinity."""
    taps = np.array([[[1.0, 3.0, 1.0]]])
    taps[..., end] = np.inf

    def spread(library: Any, compiled: bool = False) -> list[np.ndarray]:
        w, ct = library.from_numpy(taps), library.from_numpy(np.ones((1, 1, 7 // stride)))
        functional = library.nn.functional
        x = library.from_numpy(np.ones((1, 1, stride * (ct.shape[-1] - 1) + 3))).requires_grad_()

        def transposed(ct: Any, w: Any) -> Any:
            return functional.conv_transpose1d(ct, w, stride=stride)

        def pulled_back(x: Any, w: Any) -> Any:
            return functional.conv1d(x, w, stride=stride)

        if compiled:
            transposed, pulled_back = map(library.compile, (transposed, pulled_back))
        pulled_back(x, w).backward(ct)
        return [transposed(ct, w).numpy(), x.grad.numpy()]

    want, eager, compiled = spread(torch), spread(vitrify), spread(vitrify, compiled=True)
    for what, a, b, c in zip(("transposed", "gradient"), want, eager, compiled, strict=True):
        assert_same_bits(b, a, what)
        assert_same_bits(c, b, what)
