"""IDX: the file format of MNIST and its family (Fashion-MNIST, KMNIST, EMNIST), plain or gzipped.

A file is two zero bytes, a code for the type, the number of axes, the sizes as big-endian uint32, then the elements in
row-major order, big-endian (LeCun, Cortes and Burges, "The MNIST database of handwritten digits").
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pydl._atomic import atomic_write
from pydl.data.dataset import ArrayDataset

__all__ = ["IDXDataset", "mnist", "read", "write"]

PathLike = str | os.PathLike[str]
Array = npt.NDArray[Any]

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CODES = {np.dtype(name).newbyteorder("="): code for code, name in _TYPES.items()}


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except EOFError:
        raise ValueError(
            f"[idx.read] {path}: the gzip file is truncated ({len(data)} bytes); get the file again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"[idx.read] {path}: the gzip file is damaged ({error}); get the file again") from None


def read(path: PathLike) -> Array:
    """The array of an IDX file, plain or gzipped (seen from the content, not from the name), in native byte order.

    Raises:
        OSError: the file is missing or not readable.
        ValueError: the file is truncated, longer than its header says, or no IDX file. The message names it.

    >>> import pydl.data, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pydl.data.idx.write(folder + "/a-idx2-ubyte.gz", np.arange(6, dtype=np.uint8).reshape(2, 3))
    ...     pydl.data.idx.read(folder + "/a-idx2-ubyte.gz").tolist()
    [[0, 1, 2], [3, 4, 5]]
    """
    path = Path(path)
    data = _content(path)
    if len(data) < 4:
        raise ValueError(f"[idx.read] {path}: the file is truncated: {len(data)} bytes, an IDX header has at least 4")
    code, ndim = data[2], data[3]
    if data[:2] != b"\0\0" or code not in _TYPES or ndim == 0:
        raise ValueError(
            f"[idx.read] {path}: no IDX file: it begins with {data[:4].hex(' ')}, expected 00 00, a type"
            f" ({', '.join(f'{c:02x}' for c in _TYPES)}) and the number of axes"
        )
    start = 4 + 4 * ndim
    if len(data) < start:
        raise ValueError(
            f"[idx.read] {path}: the file is truncated: {len(data)} bytes, its header of {ndim} axes has {start}"
        )
    shape = struct.unpack(f">{ndim}I", data[4:start])
    dtype = np.dtype(_TYPES[code])
    expected = start + dtype.itemsize
    for size in shape:
        expected = start + (expected - start) * size
    if len(data) != expected:
        what = "truncated" if len(data) < expected else "longer than its header says"
        raise ValueError(
            f"[idx.read] {path}: the file is {what}: {len(data)} bytes, expected {expected} for"
            f" {dtype.newbyteorder('=').name} of shape {shape}; get the file again"
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def write(path: PathLike, array: Any) -> None:
    """Writes an array as an IDX file; gzipped where the path ends in ``.gz``.

    Raises:
        TypeError: a dtype that IDX lacks: it has uint8, int8, int16, int32, float32 and float64.
        ValueError: no axes, more than 255, or one that is too long.
    """
    array = np.asarray(array)
    if array.dtype.newbyteorder("=") not in _CODES:
        names = ", ".join(d.name for d in _CODES)
        raise TypeError(f"[idx.write] got {array.dtype}, expected one of {names}; convert with astype")
    if not 1 <= array.ndim <= 255 or max(array.shape) >= 1 << 32:
        raise ValueError(f"[idx.write] got the shape {array.shape}, expected 1 to 255 axes below 2**32")
    code = _CODES[array.dtype.newbyteorder("=")]
    data = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    data += array.astype(_TYPES[code]).tobytes()
    with atomic_write(path) as file:
        file.write(gzip.compress(data, mtime=0) if str(path).endswith(".gz") else data)


def _find(folder: Path, part: str, kind: str, axes: int) -> Path:
    for prefix in (part, f"emnist-*-{part.replace('t10k', 'test')}", part.replace("t10k", "test")):
        for dot in "-.":
            for suffix in ("", ".gz"):
                found = sorted(folder.glob(f"{prefix}-{kind}{dot}idx{axes}-ubyte{suffix}"))
                if found:
                    return found[0]
    raise FileNotFoundError(
        2, f"[mnist] no file {part}-{kind}-idx{axes}-ubyte or {part}-{kind}-idx{axes}-ubyte.gz in this folder",
        str(folder),
    )  # fmt: skip


def _pair(folder: Path, part: str) -> tuple[Array, Array]:
    x_path, y_path = _find(folder, part, "images", 3), _find(folder, part, "labels", 1)
    x, y = read(x_path), read(y_path)
    for path, array, axes in ((x_path, x, 3), (y_path, y, 1)):
        if array.ndim != axes or array.dtype != np.uint8:
            raise ValueError(f"[mnist] {path}: got {array.dtype} of shape {array.shape}, expected uint8 of {axes} axes")
    if len(x) != len(y):
        raise ValueError(f"[mnist] {x_path} has {len(x)} images, {y_path} has {len(y)} labels; expected as many")
    return x, y


def mnist(folder: PathLike) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """MNIST or one of its family from a folder of IDX files, plain or gzipped.

    Debian's package dataset-fashion-mnist puts Fashion-MNIST into ``/usr/share/datasets/fashion-mnist``.

    Args:
        folder: with ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
            ``t10k-labels-idx1-ubyte``, each with or without ``.gz``.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``: images uint8 of shape (N, 28, 28), labels uint8 of shape (N,).

    Raises:
        FileNotFoundError: a file is missing; the message names it and the folder.
        ValueError: a file is damaged, or images and labels differ in number.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is no folder, expected the one that the four files are in" if folder.exists() else "no such folder"
        raise FileNotFoundError(2, f"[mnist] {what}", str(folder))
    return _pair(folder, "train"), _pair(folder, "t10k")


class IDXDataset(ArrayDataset):
    """A dataset of IDX files with as many rows each: ``IDXDataset(images, labels)[i]`` is ``(image, label)``.

    Raises:
        OSError, ValueError: as ``idx.read``; files with different numbers of rows.
    """

    def __init__(self, *paths: PathLike) -> None:
        arrays = [read(path) for path in paths]
        for path, array in zip(paths, arrays):
            if len(array) != len(arrays[0]):
                raise ValueError(
                    f"[IDXDataset] {path} has {len(array)} rows, {paths[0]} has {len(arrays[0])}; expected as many"
                )
        super().__init__(*arrays)
