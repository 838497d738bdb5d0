"""save and load: round trips, the safetensors layout, and every way in which a file can be bad."""

from __future__ import annotations

import io
import json
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vitrify
from vitrify import nn

DTYPES = [
    vitrify.float32, vitrify.float64, vitrify.int64, vitrify.int32, vitrify.int16, vitrify.int8,
    vitrify.uint8, vitrify.bool, vitrify.float16, vitrify.complex64,
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(tmp_path: Path, dtype: Any) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype.numpy)
    vitrify.save({"x": vitrify.from_numpy(array)}, tmp_path / "file")
    (x,) = vitrify.load(tmp_path / "file").values()
    assert x.dtype is dtype
    np.testing.assert_array_equal(x.numpy(), array)


def test_shapes_and_values(tmp_path: Path) -> None:
    arrays = {
        "scalar": np.array(3, np.float32), "nothing": np.zeros((0, 4), np.float32),
        "special": np.array([np.nan, np.inf, -0.0, 1e-45], np.float32),
    }  # fmt: skip
    tensors = {k: vitrify.from_numpy(v) for k, v in arrays.items()}
    tensors["turned"] = vitrify.arange(6).reshape(2, 3).t()
    vitrify.save(tensors, str(tmp_path / "file"))
    loaded = vitrify.load(str(tmp_path / "file"))
    assert list(loaded) == list(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].shape == tensor.shape
        assert loaded[name].numpy().tobytes() == np.ascontiguousarray(tensor.numpy()).tobytes()


def test_nested_state(tmp_path: Path) -> None:
    state = OrderedDict(
        step=3, lr=0.1, name="run", none=None, flag=True, betas=(0.9, float("inf")), big=2**70,
        state={0: {"exp_avg": vitrify.ones(2)}, 1: {}}, list=[vitrify.zeros(1), [1, "two"]],
    )  # fmt: skip
    state["a.b"] = vitrify.ones(1)
    state["a"] = {"b": vitrify.zeros(1)}
    state["__metadata__"] = vitrify.ones(3)
    vitrify.save(state, tmp_path / "file")
    loaded = vitrify.load(tmp_path / "file")
    assert list(loaded) == list(state)
    for key in ("step", "lr", "name", "none", "flag", "betas", "big"):
        assert loaded[key] == state[key]
        assert type(loaded[key]) is type(state[key])
    assert loaded["state"][0]["exp_avg"].tolist() == [1, 1]
    assert loaded["state"][1] == {}
    assert loaded["list"][1] == [1, "two"]
    assert loaded["a.b"].tolist() == [1]
    assert loaded["a"]["b"].tolist() == [0]
    assert loaded["__metadata__"].tolist() == [1, 1, 1]


def test_a_model_and_its_optimizer_go_on(tmp_path: Path) -> None:
    def make() -> tuple[Any, Any]:
        model = nn.Linear(3, 2)
        return model, vitrify.optim.Adam(model.parameters(), lr=0.1)

    def step(model: Any, optimizer: Any) -> None:
        optimizer.zero_grad()
        (model(vitrify.ones(4, 3)) ** 2).sum().backward()
        optimizer.step()

    model, optimizer = make()
    step(model, optimizer)
    vitrify.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "file")
    other, its_optimizer = make()
    loaded = vitrify.load(tmp_path / "file")
    other.load_state_dict(loaded["model"])
    its_optimizer.load_state_dict(loaded["optimizer"])
    for m, o in ((model, optimizer), (other, its_optimizer)):
        step(m, o)
    np.testing.assert_array_equal(model.weight.detach().numpy(), other.weight.detach().numpy())


def test_one_tensor_and_streams() -> None:
    stream = io.BytesIO()
    vitrify.save(vitrify.arange(3), stream)
    stream.seek(0)
    assert vitrify.load(stream, map_location="cpu").tolist() == [0, 1, 2]


def test_a_flat_dict_is_a_plain_safetensors_file(tmp_path: Path) -> None:
    vitrify.save({"w": vitrify.ones(2, 2), "b": vitrify.zeros(1, dtype=vitrify.int64)}, tmp_path / "file")
    data = (tmp_path / "file").read_bytes()
    size = int.from_bytes(data[:8], "little")
    assert size % 8 == 0
    assert json.loads(data[8 : 8 + size]) == {
        "w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "I64", "shape": [1], "data_offsets": [16, 24]},
    }
    assert np.frombuffer(data, np.float32, 4, 8 + size).tolist() == [1, 1, 1, 1]


def test_reads_files_of_others(tmp_path: Path) -> None:
    """Free-form metadata, tensors in another order than their data."""
    header = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "U8", "shape": [2], "data_offsets": [4, 6]},
        "a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
    }
    path = write(tmp_path, json.dumps(header).encode(), np.float32(2.5).tobytes() + b"\x01\x02")
    loaded = vitrify.load(path)
    assert loaded["a"].item() == 2.5
    assert loaded["b"].tolist() == [1, 2]


def write(folder: Path, header: bytes, body: bytes, size: int | None = None) -> Path:
    path = folder / "file"
    path.write_bytes((len(header) if size is None else size).to_bytes(8, "little") + header + body)
    return path


def entry(**changes: Any) -> bytes:
    return json.dumps({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}).encode()


BAD: dict[str, tuple[bytes, bytes, str]] = {
    "truncated data": (entry(), b"1234567", "is truncated: tensor 'x' ends at byte 8 of 7"),
    "more data": (entry(), b"123456789", "has 1 bytes after its last tensor"),
    "wrong size": (entry(shape=[3]), b"12345678", "8 bytes are not a float32 tensor of shape"),
    "negative": (entry(data_offsets=[-8, 0]), b"", "is damaged"),
    "no pair": (entry(data_offsets=[0]), b"12345678", "is damaged"),
    "not numbers": (entry(shape=["2"]), b"12345678", "is damaged"),
    "unknown dtype": (entry(dtype="Q4"), b"12345678", "the entry of tensor 'x' is damaged: 'Q4'"),
    "no entry": (b'{"x": 3}', b"", "is damaged"),
    "no JSON": (b'{"x": ', b"", "its header is damaged"),
    "deep": (b'{"x":' + b"[" * 100_000, b"", "its header is damaged"),
    "structure": (
        json.dumps({"__metadata__": {"vitrify.structure": '{"tensor": "y"}'}}).encode(),
        b"",
        "structure",
    ),
    "structure kind": (
        json.dumps({"__metadata__": {"vitrify.structure": '{"eval": "1"}'}}).encode(),
        b"",
        "structure",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path: Path, name: str) -> None:
    header, body, message = BAD[name]
    with pytest.raises(RuntimeError, match=message):
        vitrify.load(write(tmp_path, header, body))


def test_cut_anywhere(tmp_path: Path) -> None:
    vitrify.save({"state": {0: vitrify.ones(3)}, "lr": 0.5}, tmp_path / "file")
    data = (tmp_path / "file").read_bytes()
    for stop in range(len(data)):
        with pytest.raises(RuntimeError, match="file"):
            vitrify.load(io.BytesIO(data[:stop]))


class Danger:
    def __reduce__(self) -> Any:
        raise AssertionError("executed")


def test_foreign_files_are_not_executed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data, message in (
        (pickle.dumps({"x": 1}), "is a pickle"),
        (b"PK\x03\x04" + b"\0" * 40, "is a pickle"),
        (b"hello, world, this is text", "not a safetensors file"),
        (b"", "not a safetensors file"),
        (b"\xff" * 16, "not a safetensors file"),
    ):
        path.write_bytes(data)
        with pytest.raises(RuntimeError, match=message):
            vitrify.load(path)
    with pytest.raises(FileNotFoundError):
        vitrify.load(tmp_path / "none")


def test_what_is_not_data_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"can't save Danger \(at a.0\)"):
        vitrify.save({"a": [Danger()]}, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    with pytest.raises(TypeError, match="complex128"):
        vitrify.save(vitrify.from_numpy(np.zeros(1, np.complex128)), tmp_path / "file")
