"""Transposed convolutions against PyTorch, and their gradients against differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import vitrify

from .nn_twins import arrays, assert_close, compare, copy_state, ours, theirs

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "stride": {"stride": 2},
    "padding": {"stride": 2, "padding": 1},
    "output_padding": {"stride": 3, "padding": 1, "output_padding": 2},
    "dilation": {"dilation": 2, "padding": 2},
    "dilated_output_padding": {"stride": 2, "dilation": 3, "output_padding": 2},
    "groups": {"groups": 2, "stride": 2, "padding": 1, "output_padding": 1},
    "depthwise": {"groups": 4},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_functions(rank: int, case: str) -> None:
    options = CASES[case]
    groups = options.get("groups", 1)
    sizes, kernel = (5, 4, 3)[:rank], (3, 2, 3)[:rank]
    x, w, b = arrays((2, 4, *sizes), (4, 3, *kernel), (3 * groups,))
    name = f"conv_transpose{rank}d"
    compare(lambda lib, x, w, b: getattr(lib.nn.functional, name)(x, w, b, **options), [x, w, b])
    compare(lambda lib, x, w: getattr(lib.nn.functional, name)(x[0], w, **options), [x, w])


def test_different_steps_along_the_axes() -> None:
    compare(
        lambda lib, x, w: lib.nn.functional.conv_transpose2d(x, w, None, (2, 3), (1, 0), (0, 2), 1, (2, 1)),
        arrays((2, 4, 5, 4), (4, 3, 3, 2)),
    )


def test_gradients_agree_with_differences() -> None:
    x, w = (ours(a).double().requires_grad_() for a in arrays((1, 2, 4, 3), (2, 2, 3, 3)))
    function = vitrify.nn.functional.conv_transpose2d
    assert vitrify.autograd.gradcheck(lambda x, w: function(x, w, None, 2, 1, 1), (x, w))


def test_taps_that_reach_no_element_take_no_part() -> None:
    x, w, ct = arrays((1, 1, 3), (1, 1, 3), (1, 1, 4))
    w[..., 1] = np.inf
    got = vitrify.nn.functional.conv_transpose1d(ours(x), ours(w), stride=2)
    want = torch.nn.functional.conv_transpose1d(theirs(x), theirs(w), stride=2)
    assert_close(got, want)
    assert np.isfinite(got.detach().numpy()[..., ::2]).all()
    image = ours(np.zeros((1, 1, 9), np.float32)).requires_grad_()
    vitrify.nn.functional.conv1d(image, ours(w), stride=2).backward(ours(ct))
    assert np.isfinite(image.grad.numpy()[..., ::2]).all()
    assert np.isinf(image.grad.numpy()[..., 1::2]).all()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_layers(rank: int) -> None:
    name = f"ConvTranspose{rank}d"
    (x,) = arrays((2, 4, 5, 4, 3)[: rank + 2])
    mine = getattr(vitrify.nn, name)(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2)
    twin = getattr(torch.nn, name)(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2)
    assert repr(mine) == repr(twin)
    assert {k: tuple(v.shape) for k, v in mine.state_dict().items()} == {
        k: tuple(v.shape) for k, v in twin.state_dict().items()
    }
    copy_state(mine, twin)
    assert_close(mine(ours(x)), twin(theirs(x)))
    sizes = [n + 1 for n in twin(theirs(x)).shape[2:]]
    with pytest.raises(ValueError, match="requested an output size"):
        mine(ours(x), output_size=sizes)
    smaller = [n - 1 for n in twin(theirs(x)).shape[2:]]
    assert_close(mine(ours(x), output_size=smaller), twin(theirs(x), output_size=smaller))
    assert tuple(mine(ours(x), output_size=[2, 6, *smaller]).shape) == (2, 6, *smaller)


def test_initial_values_are_within_pytorchs_bounds() -> None:
    layer = vitrify.nn.ConvTranspose2d(8, 4, 3)
    twin = torch.nn.ConvTranspose2d(8, 4, 3)
    assert float(layer.weight.detach().abs().max()) <= float(twin.weight.detach().abs().max()) * 1.5
    assert repr(vitrify.nn.ConvTranspose2d(8, 4, 3, bias=False, output_padding=0)) == repr(
        torch.nn.ConvTranspose2d(8, 4, 3, bias=False)
    )


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((2, 4, 5), (4, 3, 2)), {"stride": 0}, "non-positive stride"),
        (((2, 4, 5), (4, 3, 2)), {"output_padding": 1}, "output padding must be smaller"),
        (((2, 4, 5), (5, 3, 2)), {}, "to have 5 channels, but got 4"),
        (((2, 4, 5), (4, 3, 2)), {"padding": 3}, "Output size is too small"),
        (((2, 4, 5), (4, 3, 2, 2)), {}, "weight should have"),
        (((2, 4, 5, 6), (4, 3, 2)), {}, "Expected 2D"),
        (((2, 4, 5), (4, 3, 2)), {"groups": 3}, "channels"),
    ],
)
def test_errors(shapes: Any, options: dict[str, Any], message: str) -> None:
    x, w = map(ours, arrays(*shapes))
    with pytest.raises(RuntimeError, match=message):
        vitrify.nn.functional.conv_transpose1d(x, w, **options)


def test_compiled_agrees_with_eager_in_every_bit() -> None:
    vitrify.manual_seed(0)
    layer = vitrify.nn.Sequential(
        vitrify.nn.ConvTranspose2d(3, 8, 4, 2, 1),
        vitrify.nn.ReLU(),
        vitrify.nn.ConvTranspose2d(8, 3, 3, 1, 1),
    )
    x = vitrify.randn(2, 3, 5, 6)

    def step(x: Any) -> Any:
        loss = (layer(x) ** 2).mean()
        return loss, *vitrify.autograd.grad(loss, list(layer.parameters()))

    for got, want in zip(vitrify.compile(step)(x), step(x), strict=True):
        assert (got == want).all()


def test_a_result_that_no_tap_reaches_depends_on_both_operands() -> None:
    """The only place lies between those of two elements: zeros, and zeros for the gradients."""
    compare(
        lambda lib, x, w: lib.nn.functional.conv_transpose1d(x, w, stride=2, padding=1),
        arrays((1, 2, 2), (2, 3, 1)),
    )
