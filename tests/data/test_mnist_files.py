"""Reading MNIST's IDX files: good ones in every form, and every way in which they can be bad."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
import vitrify
from vitrify.vision import transforms
from vitrify.vision.datasets import MNIST

DIGITS = Path(__file__).parents[2] / "examples" / "data" / "mnist10k"


def idx(array: np.ndarray, code: int = 8) -> bytes:
    sizes = b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, code, array.ndim]) + sizes + array.tobytes()


IMAGES = np.arange(4 * 3 * 2, dtype=np.uint8).reshape(4, 3, 2)
LABELS = np.array([7, 0, 9, 3], np.uint8)


def write(folder: Path, images: bytes, labels: bytes, suffix: str = "", part: str = "train") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(images)
    (folder / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(labels)
    return folder


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("place", [".", "MNIST/raw", "raw"])
def test_reads_what_was_written(tmp_path: Path, zipped: bool, place: str) -> None:
    pack = gzip.compress if zipped else bytes
    write(tmp_path / place, pack(idx(IMAGES)), pack(idx(LABELS)), ".gz" if zipped else "", part="t10k")
    digits = MNIST(tmp_path, train=False)
    np.testing.assert_array_equal(digits.data.numpy(), IMAGES)
    assert digits.data.dtype is vitrify.uint8
    assert digits.targets.tolist() == [7, 0, 9, 3]
    assert digits.targets.dtype is vitrify.int64
    assert len(digits) == 4
    image, label = digits[2]
    assert image.tolist() == IMAGES[2].tolist()
    assert label == 9
    assert "Split: Test" in repr(digits)


def test_zipped_under_the_plain_name(tmp_path: Path) -> None:
    write(tmp_path, gzip.compress(idx(IMAGES)), idx(LABELS))
    assert len(MNIST(tmp_path)) == 4


def test_empty_files_of_no_digits(tmp_path: Path) -> None:
    write(tmp_path, idx(IMAGES[:0]), idx(LABELS[:0]))
    digits = MNIST(tmp_path)
    assert len(digits) == 0
    assert digits.data.shape == (0, 3, 2)


def test_transforms(tmp_path: Path) -> None:
    write(tmp_path, idx(IMAGES), idx(LABELS))
    prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5], [2.0])])
    digits = MNIST(tmp_path, transform=prepare, target_transform=lambda label: label % 2)
    image, label = digits[1]
    np.testing.assert_allclose(image.numpy(), (IMAGES[None, 1] / 255 - 0.5) / 2, rtol=1e-6)
    assert label == 0
    colour = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_allclose(
        transforms.ToTensor()(colour).numpy(), colour.transpose(2, 0, 1) / 255, rtol=1e-6
    )
    with pytest.raises(TypeError, match="should be a tensor or ndarray"):
        transforms.ToTensor()([1])
    with pytest.raises(ValueError, match="2/3 dimensional"):
        transforms.ToTensor()(np.zeros(3))
    with pytest.raises(TypeError, match="float tensor"):
        prepare.transforms[1](digits.data)
    with pytest.raises(ValueError, match="zero"):
        transforms.Normalize([0.5], [0.0])


GOOD_IMAGES, GOOD_LABELS = idx(IMAGES), idx(LABELS)
BAD = {
    "truncated": (GOOD_IMAGES[:-1], GOOD_LABELS, r"images.* is truncated: it has 39 of the 40 bytes"),
    "header only": (GOOD_IMAGES[:9], GOOD_LABELS, "its header ends after 9 of 16 bytes"),
    "empty": (b"", GOOD_LABELS, "is not an IDX file: it begins with nothing"),
    "foreign": (b"\x89PNG" + GOOD_IMAGES, GOOD_LABELS, "is not an IDX file: it begins with 89 50 4e 47"),
    "unknown type": (idx(IMAGES, 7), GOOD_LABELS, "is not an IDX file"),
    "longer": (GOOD_IMAGES + b"12", GOOD_LABELS, r"has 2 bytes after its \(4, 3, 2\) elements"),
    "rank": (GOOD_LABELS, GOOD_LABELS, "expected an IDX file of rank 3, its header says 1"),
    "counts": (GOOD_IMAGES, idx(LABELS[:3]), "has 4 images, but .* has 3 labels"),
    "cut zip": (gzip.compress(GOOD_IMAGES)[:-5], GOOD_LABELS, "is truncated or damaged"),
    "bad zip": (gzip.compress(GOOD_IMAGES)[:14] + b"x" * 30, GOOD_LABELS, "is truncated or damaged"),
    "huge": (bytes([0, 0, 8, 3]) + b"\xff" * 12, GOOD_LABELS, "is truncated"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path: Path, name: str) -> None:
    images, labels, message = BAD[name]
    write(tmp_path, images, labels)
    with pytest.raises(ValueError, match=message):
        MNIST(tmp_path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte \(or .*gz\) not found in"):
        MNIST(tmp_path)
    shutil.copy(DIGITS / "train-images-idx3-ubyte.gz", tmp_path)
    with pytest.raises(FileNotFoundError, match="train-labels"):
        MNIST(tmp_path)
    with pytest.raises(ValueError, match="download=True is not supported"):
        MNIST(tmp_path, download=True)


def test_the_real_digits() -> None:
    test = MNIST(DIGITS, train=False)
    assert test.data.shape == (10_000, 28, 28)
    assert test.targets[:5].tolist() == [7, 2, 1, 0, 4]  # of the original test set
    assert int(test.data.max()) == 255
