"""IDX files: what they hold, and what is said of damaged ones."""

from __future__ import annotations

import gzip
import pathlib
import struct

import numpy as np
import pytest

import pydl
from pydl.data import idx

FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")


def header(code: int, *shape: int) -> bytes:
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(0x08, "u1"), (0x09, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_reads_what_the_format_says(tmp_path: pathlib.Path, code: int, dtype: str, zipped: bool) -> None:
    values = np.array([[1, 2, 3], [4, 5, 100]], dtype)
    data = header(code, 2, 3) + values.tobytes()
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(data, mtime=0) if zipped else data)
    got = idx.read(path)
    assert got.dtype == values.dtype.newbyteorder("=")
    assert got.dtype.isnative
    assert got.flags.writeable
    assert (got == values).all()
    idx.write(tmp_path / ("again.gz" if zipped else "again"), got)
    assert (idx.read(tmp_path / ("again.gz" if zipped else "again")) == values).all()


GOOD = header(0x08, 2, 3) + bytes(range(6))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated: 0 bytes"),
        (GOOD[:3], "truncated: 3 bytes"),
        (GOOD[:9], "truncated: 9 bytes, its header of 2 axes has 12"),
        (GOOD[:-1], r"truncated: 17 bytes, expected 18 for uint8 of shape \(2, 3\)"),
        (GOOD + b"x", "longer than its header says: 19 bytes, expected 18"),
        (b"\x89PNG" + GOOD, "no IDX file: it begins with 89 50 4e 47"),
        (b"\0\0\x07\x01" + GOOD, "no IDX file"),
        (b"\0\0\x08\x00", "no IDX file"),
        (gzip.compress(GOOD * 50, mtime=0)[:-12], "gzip file is truncated"),
        (
            gzip.compress(GOOD, mtime=0)[:12] + b"\xff\xff\xff" + gzip.compress(GOOD, mtime=0)[15:],
            "gzip file is damaged",
        ),
        (
            header(0x08, 1 << 31, 1 << 31, 1 << 31) + b"abc",
            "truncated: 19 bytes, expected 9903520314283042199192993808",
        ),
    ],
)
def test_damaged_files_are_named_with_what_is_wrong(tmp_path: pathlib.Path, data: bytes, message: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as raised:
        idx.read(path)
    assert str(path) in str(raised.value)


def make_folder(folder: pathlib.Path, zipped: bool = False) -> None:
    for part, n in (("train", 5), ("t10k", 3)):
        suffix = ".gz" if zipped else ""
        idx.write(folder / f"{part}-images-idx3-ubyte{suffix}", np.full((n, 4, 4), n, np.uint8))
        idx.write(folder / f"{part}-labels-idx1-ubyte{suffix}", np.arange(n, dtype=np.uint8))


@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder_of_the_mnist_family(tmp_path: pathlib.Path, zipped: bool) -> None:
    make_folder(tmp_path, zipped)
    (x_train, y_train), (x_test, y_test) = pydl.data.mnist(tmp_path)
    assert (x_train.shape, x_test.shape) == ((5, 4, 4), (3, 4, 4))
    assert x_train.dtype == y_train.dtype == np.uint8
    assert y_train.tolist() == [0, 1, 2, 3, 4]
    assert y_test.tolist() == [0, 1, 2]


def test_a_folder_with_something_wrong(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        pydl.data.mnist(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte"):
        pydl.data.mnist(tmp_path)
    make_folder(tmp_path)
    idx.write(tmp_path / "t10k-labels-idx1-ubyte", np.arange(2, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"has 3 images, .*t10k-labels-idx1-ubyte has 2 labels"):
        pydl.data.mnist(tmp_path)
    idx.write(tmp_path / "t10k-labels-idx1-ubyte", np.zeros((3, 2), np.uint8))
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte: got uint8 of shape \(3, 2\), expected uint8 of 1"):
        pydl.data.mnist(tmp_path)


def test_dataset_of_files(tmp_path: pathlib.Path) -> None:
    make_folder(tmp_path)
    data = pydl.data.IDXDataset(tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte")
    assert len(data) == 5
    assert data[3][1].item() == 3
    with pytest.raises(ValueError, match=r"has 3 rows, .* has 5"):
        pydl.data.IDXDataset(tmp_path / "train-images-idx3-ubyte", tmp_path / "t10k-labels-idx1-ubyte")


def test_what_idx_cannot_hold(tmp_path: pathlib.Path) -> None:
    with pytest.raises(TypeError, match="got int64"):
        idx.write(tmp_path / "x", np.arange(3))
    with pytest.raises(ValueError, match="1 to 255 axes"):
        idx.write(tmp_path / "x", np.uint8(3))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not FASHION.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_fashion_mnist() -> None:
    (x_train, y_train), (x_test, y_test) = pydl.data.mnist(FASHION)
    assert x_train.shape == (60000, 28, 28)
    assert x_test.shape == (10000, 28, 28)
    assert np.bincount(y_train).tolist() == [6000] * 10
    assert np.bincount(y_test).tolist() == [1000] * 10
    assert abs(x_train.mean() / 255 - 0.2860) < 1e-4  # the mean that is published with the set
