"""Transforms of samples: callables for the `transform` argument of a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._functions import as_tensor, from_numpy
from .._tensor import Tensor


class Compose:
    """Apply transforms one after the other."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image

    def __repr__(self) -> str:
        return "Compose(\n    " + "\n    ".join(map(repr, self.transforms)) + "\n)"


class ToTensor:
    """An image as a tensor [channels, height, width]; uint8 in 0..255 becomes float32 in 0..1.

    Takes a numpy array [height, width] or [height, width, channels], or a tensor [height, width].
    Raises TypeError for anything else, ValueError for another rank.
    """

    def __call__(self, image: Any) -> Tensor:
        if not isinstance(image, (np.ndarray, Tensor)):
            raise TypeError(f"pic should be a tensor or ndarray. Got {type(image)}")
        if image.ndim not in (2, 3):
            raise ValueError(f"pic should be 2/3 dimensional. Got {image.ndim} dimensions.")
        pixels = image if isinstance(image, Tensor) else from_numpy(np.ascontiguousarray(image))
        pixels = pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()
        return pixels.float() / 255 if not pixels.is_floating_point() else pixels

    def __repr__(self) -> str:
        return "ToTensor()"


class Normalize:
    """(image - mean) / std per channel of a float tensor [..., channels, height, width].

    Raises TypeError for an integer image, ValueError for a std of 0 or too low a rank.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        if any(s == 0 for s in std):
            raise ValueError("std evaluated to zero, leading to division by zero.")
        self.mean = mean
        self.std = std

    def __call__(self, image: Tensor) -> Tensor:
        if not image.is_floating_point():
            raise TypeError(f"Input tensor should be a float tensor. Got {image.dtype}.")
        if image.ndim < 3:
            raise ValueError(
                f"Expected tensor to be a tensor image of size (..., C, H, W). Got {image.shape}"
            )
        mean = as_tensor(self.mean, dtype=image.dtype).reshape(-1, 1, 1)
        std = as_tensor(self.std, dtype=image.dtype).reshape(-1, 1, 1)
        return (image - mean) / std

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std})"
