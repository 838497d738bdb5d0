"""Every loss against its PyTorch twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import vitrify

from .nn_twins import arrays, assert_close, compare, ours, theirs

REDUCTIONS = ["mean", "sum", "none"]
LOGITS, TARGET = arrays((6, 5), (6, 5))
CLASSES = np.array([0, 4, 2, 2, 1, 3])
WEIGHT = np.array([0.5, 1.0, 2.0, 0.0, 1.5], np.float32)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    "options",
    [{}, {"label_smoothing": 0.1}, {"ignore_index": 2}, {"ignore_index": 2, "label_smoothing": 0.3}],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(reduction: str, options: dict[str, Any], weighted: bool) -> None:
    def loss(library: Any, x: Any, y: Any, w: Any) -> Any:
        weight = w if weighted else None
        return library.nn.functional.cross_entropy(x, y, weight, reduction=reduction, **options)

    compare(loss, [LOGITS], [CLASSES, WEIGHT])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_with_probabilities(reduction: str, smoothing: float, weighted: bool) -> None:
    probabilities = np.exp(TARGET) / np.exp(TARGET).sum(1, keepdims=True)

    def loss(library: Any, x: Any, y: Any, w: Any) -> Any:
        layer = library.nn.CrossEntropyLoss(
            w if weighted else None, reduction=reduction, label_smoothing=smoothing
        )
        return layer(x, y)

    compare(loss, [LOGITS], [probabilities, WEIGHT])


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cross_entropy_of_images_and_of_one_sample(reduction: str) -> None:
    def loss(library: Any, x: Any, y: Any) -> Any:
        return library.nn.functional.cross_entropy(x, y, reduction=reduction)

    compare(loss, arrays((2, 5, 3, 2)), [np.arange(12).reshape(2, 3, 2) % 5])
    compare(loss, arrays((5,)), [np.array(3)])


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_nll_loss(reduction: str) -> None:
    def loss(library: Any, x: Any, y: Any, w: Any) -> Any:
        return library.nn.NLLLoss(w, ignore_index=1, reduction=reduction)(x, y)

    compare(loss, [LOGITS], [CLASSES, WEIGHT])


def test_losses_of_nothing() -> None:
    """An empty batch, and one in which every target is ignored: nan for the mean, 0 for the sum."""
    for x, y in (
        (np.zeros((0, 5), np.float32), np.zeros(0, np.int64)),
        (LOGITS[:2], np.full(2, -100)),
    ):
        for reduction in REDUCTIONS:
            got, want = (
                library.nn.functional.cross_entropy(make(x), make(y), reduction=reduction)
                for library, make in ((vitrify, ours), (torch, theirs))
            )
            assert_close(got, want, reduction)
    assert np.isnan(vitrify.nn.functional.mse_loss(ours(x[:0]), ours(x[:0])).item())


def test_cross_entropy_is_safe_for_large_logits_and_shows_nan() -> None:
    large = np.array([[1e4, -1e4, 0.0], [88.0, 89.0, 90.0], [-1e30, 0.0, 1e30]], np.float32)

    def loss(library: Any, x: Any, y: Any) -> Any:
        return library.nn.functional.cross_entropy(x, y, reduction="none")

    compare(loss, [large], [np.array([0, 1, 2])])
    bad = large.copy()
    bad[1, 1] = np.nan
    values = loss(vitrify, ours(bad), ours(np.array([0, 1, 2]))).numpy()
    assert np.isnan(values[1])
    assert np.isfinite(values[[0, 2]]).all()


ELEMENTWISE: dict[str, Any] = {
    "mse": lambda nn, r: nn.MSELoss(reduction=r),
    "l1": lambda nn, r: nn.L1Loss(reduction=r),
    "smooth": lambda nn, r: nn.SmoothL1Loss(reduction=r, beta=0.7),
    "smooth of beta 0": lambda nn, r: nn.SmoothL1Loss(reduction=r, beta=0.0),
    "huber": lambda nn, r: nn.HuberLoss(reduction=r, delta=0.8),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_distance(name: str, reduction: str) -> None:
    compare(lambda library, x, y: ELEMENTWISE[name](library.nn, reduction)(x, y), [LOGITS, TARGET])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy(reduction: str, weighted: bool) -> None:
    p, t = 1 / (1 + np.exp(-LOGITS)), (TARGET > 0).astype(np.float32)

    def on_probabilities(library: Any, x: Any, y: Any, w: Any) -> Any:
        return library.nn.BCELoss(w if weighted else None, reduction=reduction)(x, y)

    def on_logits(library: Any, x: Any, y: Any, w: Any) -> Any:
        weight = {"weight": w, "pos_weight": w + 1} if weighted else {}
        return library.nn.BCEWithLogitsLoss(**weight, reduction=reduction)(x, y)

    compare(on_probabilities, [p.astype(np.float32)], [t, WEIGHT], rtol=1e-4)
    compare(on_logits, [LOGITS * 20], [t, WEIGHT])


def test_binary_cross_entropy_at_0_and_1() -> None:
    x, y = np.array([0.0, 1.0, 0.0, 1.0], np.float32), np.array([0.0, 0.0, 1.0, 1.0], np.float32)
    got, want = (
        library.nn.functional.binary_cross_entropy(make(x), make(y), reduction="none")
        for library, make in ((vitrify, ours), (torch, theirs))
    )
    assert_close(got, want)


BAD: dict[str, Any] = {
    "class out of range": lambda lib, make: lib.nn.functional.cross_entropy(make(LOGITS), make(CLASSES + 6)),
    "negative class": lambda lib, make: lib.nn.functional.cross_entropy(make(LOGITS), make(CLASSES - 1)),
    "wrong batch": lambda lib, make: lib.nn.functional.cross_entropy(make(LOGITS), make(CLASSES[:3])),
    "int32 classes": lambda lib, make: lib.nn.functional.cross_entropy(
        make(LOGITS), make(CLASSES.astype(np.int32))
    ),
    "weight of wrong size": lambda lib, make: lib.nn.functional.nll_loss(
        make(LOGITS), make(CLASSES), make(WEIGHT[:2])
    ),
    "smoothing": lambda lib, make: lib.nn.functional.cross_entropy(
        make(LOGITS), make(CLASSES), label_smoothing=2.0
    ),
    "reduction": lambda lib, make: lib.nn.functional.mse_loss(
        make(LOGITS), make(TARGET), reduction="average"
    ),
    "probability above 1": lambda lib, make: lib.nn.functional.binary_cross_entropy(
        make(LOGITS), make(TARGET * 0)
    ),
    "bce shapes": lambda lib, make: lib.nn.functional.binary_cross_entropy_with_logits(
        make(LOGITS), make(TARGET[:2])
    ),
    "huber delta": lambda lib, make: lib.nn.functional.huber_loss(make(LOGITS), make(TARGET), delta=0),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_raises_what_pytorch_raises(name: str) -> None:
    with pytest.raises(Exception) as want:
        BAD[name](torch, theirs)
    with pytest.raises(want.type) as got:
        BAD[name](vitrify, ours)
    if name in ("class out of range", "negative class", "wrong batch", "probability above 1", "bce shapes"):
        assert (
            str(got.value).split(" but got")[0].replace("vitrify", "torch")
            == str(want.value).split(" but got")[0]
        )
