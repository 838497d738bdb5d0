"""MNIST from the original files in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..._functions import from_numpy
from ..._tensor import Tensor
from ...utils.data import Dataset
from ._idx import read_idx

#: Where, below `root`, the files may lie: in it, or where torchvision puts them.
_FOLDERS = (".", "MNIST/raw", "raw")


class MNIST(Dataset[tuple[Any, Any]]):
    """Handwritten digits: 28 x 28 grey images (uint8) and their labels 0-9.

    root: the folder with `train-images-idx3-ubyte` and the other three files, gzipped (`.gz`) or not;
    torchvision's layout (`root/MNIST/raw`) is found as well. transform, target_transform: applied to the
    image (a uint8 tensor [28, 28]) and the label of each sample. `data` and `targets` hold everything as
    tensors. Raises FileNotFoundError if a file is missing, ValueError if one is damaged or foreign, or the
    counts differ.

    >>> train = MNIST("examples/data/mnist10k", train=True)
    >>> train.data.shape, train.targets.shape
    (torch.Size([10000, 28, 28]), torch.Size([10000]))
    """

    classes = [
        "0 - zero", "1 - one", "2 - two", "3 - three", "4 - four", "5 - five", "6 - six", "7 - "
        "seven", "8 - eight",
        "9 - nine",
    ]  # fmt: skip

    def __init__(
        self, root: str | Path, train: bool = True, transform: Callable[[Tensor], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None, download: bool = False,
    ) -> None:  # fmt: skip
        if download:
            raise ValueError(f"download=True is not supported: put the four original MNIST files into {root}")
        self.root = Path(root)
        self.train = train
        self.transform = transform
        self.target_transform = target_transform
        part = "train" if train else "t10k"
        self.data, self.targets = load_pair(self.root, part)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image: Any = self.data[index]
        target: Any = int(self.targets[index])
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def __repr__(self) -> str:
        split = "Train" if self.train else "Test"
        return (
            f"Dataset {type(self).__name__}\n    Number of datapoints: {len(self)}\n"
            f"    Root location: {self.root}\n    Split: {split}"
        )


def load_pair(root: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images (uint8 [n, h, w]) and labels (int64 [n]) of `part`, "train" or "t10k"."""
    images_path = _find(root, f"{part}-images-idx3-ubyte")
    labels_path = _find(root, f"{part}-labels-idx1-ubyte")
    images = read_idx(images_path, rank=3)
    labels = read_idx(labels_path, rank=1)
    if len(images) != len(labels):
        raise ValueError(
            f"{images_path} has {len(images)} images, but {labels_path} has {len(labels)} labels"
        )
    return from_numpy(images), from_numpy(labels.astype("int64"))


def _find(root: Path, name: str) -> Path:
    for folder in _FOLDERS:
        for path in (root / folder / name, root / folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise FileNotFoundError(f"{name} (or {name}.gz) not found in {root} or {root / 'MNIST' / 'raw'}")
