"""Images from a folder with one subfolder a class, read with Pillow when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pydl.data.dataset import Dataset, check_index

__all__ = ["ImageFolder"]

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm")
_MODES = {"L": 1, "RGB": 3, "RGBA": 4}


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(
            "[ImageFolder] images are read with Pillow, which is not installed; pip install 'pydl[data]'"
        ) from None
    return Image


class ImageFolder(Dataset):
    """``root/class/image.png`` as ``(image, label)``; classes are numbered in the order of their names.

    Args:
        root: the folder; each subfolder is a class, whose images may lie in subfolders again. Hidden files and files
            with other endings are passed over.
        size: (H, W), or one number for both: images are scaled to it, bilinearly. Default None: as they are; they
            then must all have one size.
        mode: "RGB" (default), "L" (grey) or "RGBA".
        dtype: "float32" (default), in [0, 1], or "uint8", in [0, 255].
        check: look at each file's header and end first, so that a damaged or truncated one, or one of another size,
            is an error now and not in the middle of an epoch. Default True.

    Attributes:
        samples: the paths with their labels.
        targets: int64, (N,).
        classes: names in order; ``class_to_idx`` has their numbers.

    A sample's image has the shape (C, H, W).

    Raises:
        OSError: the folder is missing.
        ValueError: no subfolder, a class without an image, a file that is no image, is truncated or of another size.
        ImportError: Pillow is missing.

    >>> import os, tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for name in ("cat", "dog"):
    ...         os.mkdir(f"{root}/{name}")
    ...         Image.new("RGB", (6, 4), "white").save(f"{root}/{name}/1.png")
    ...     data = ImageFolder(root)
    ...     data.classes, data[1][0].shape, int(data[1][1])
    (['cat', 'dog'], (3, 4, 6), 1)
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        size: int | Sequence[int] | None = None,
        *,
        mode: str = "RGB",
        dtype: Any = "float32",
        check: bool = True,
    ) -> None:
        if mode not in _MODES:
            raise ValueError(f"[ImageFolder] got the mode {mode!r}, expected one of {', '.join(_MODES)}")
        name = getattr(dtype, "name", None) or str(dtype)
        if name not in ("float32", "uint8"):
            raise ValueError(f"[ImageFolder] got the dtype {dtype}, expected 'float32' or 'uint8'")
        self.size: tuple[int, int] | None = None
        if size is not None:
            height, width = (size, size) if isinstance(size, int) else tuple(size)
            if height < 1 or width < 1:
                raise ValueError(f"[ImageFolder] got the size {size}, expected (H, W) of at least 1")
            self.size = (int(height), int(width))
        _pillow()  # missing, it is missed now
        self.root = Path(root)
        self.mode = mode
        self.dtype = name
        folders = sorted(f for f in self.root.iterdir() if f.is_dir() and not f.name.startswith("."))
        if not folders:
            raise ValueError(f"[ImageFolder] {self.root}: no subfolder, expected one for each class with its images")
        self.classes = [folder.name for folder in folders]
        self.class_to_idx = {c: i for i, c in enumerate(self.classes)}
        self.samples: list[tuple[Path, int]] = []
        for label, folder in enumerate(folders):
            files = _images_below(folder)
            if not files:
                raise ValueError(
                    f"[ImageFolder] {folder}: the class has no image ({', '.join(_SUFFIXES)}); remove the folder or"
                    " fill it"
                )
            self.samples += [(file, label) for file in files]
        self.targets: npt.NDArray[np.int64] = np.array([label for _, label in self.samples], np.int64)
        if check:
            self._check()

    def _check(self) -> None:
        shape: tuple[int, int] | None = None
        for path, _ in self.samples:
            fault = _fault_at_the_end(path)
            if fault:
                raise ValueError(f"[ImageFolder] {path}: {fault}; get the file again or remove it")
            width, height = self._open(path).size
            if self.size is None and shape is not None and shape != (height, width):
                raise ValueError(
                    f"[ImageFolder] {path}: the image is {height} x {width}, expected {shape[0]} x {shape[1]} as"
                    f" {self.samples[0][0].name}; give a size to scale all of them to, for example size={shape}"
                )
            shape = (height, width)

    def _open(self, path: Path) -> Any:
        try:
            with _pillow().open(path) as image:
                return image
        except OSError as error:
            if isinstance(error, (FileNotFoundError, PermissionError)):
                raise
            raise ValueError(f"[ImageFolder] {path}: no image that Pillow can read ({error})") from None

    def read(self, path: str | os.PathLike[str]) -> npt.NDArray[Any]:
        """One image as this dataset gives it, (C, H, W).

        Raises:
            OSError: the file is missing.
            ValueError: it is no image, or truncated; the message names it.
        """
        module = _pillow()
        try:
            with module.open(path) as image:
                image = image.convert(self.mode)
        except (OSError, SyntaxError, ValueError) as error:
            if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)):
                raise
            raise ValueError(f"[ImageFolder] {path}: the image is damaged or truncated ({error})") from None
        if self.size is not None and image.size != self.size[::-1]:
            image = image.resize(self.size[::-1], module.Resampling.BILINEAR)
        pixels = np.asarray(image)
        pixels = pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return pixels.astype(np.float32) / np.float32(255) if self.dtype == "float32" else pixels

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[Any], np.int64]:
        i = check_index("ImageFolder", index, len(self.samples))
        return self.read(self.samples[i][0]), self.targets[i]


def _images_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in names if name.lower().endswith(_SUFFIXES) and not name.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _fault_at_the_end(path: Path) -> str | None:
    """What is wrong with a file that a crash or a broken download has cut off, seen without decoding it."""
    with open(path, "rb") as file:
        head = file.read(12)
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - 65536))
        tail = file.read()
    if not length:
        return "the file is empty"
    ends = {b"\x89PNG": (b"IEND\xaeB`\x82", "its end chunk"), b"\xff\xd8\xff": (b"\xff\xd9", "its end marker")}
    for magic, (end, what) in ends.items():
        if head.startswith(magic) and end not in tail:
            return f"the image is truncated ({length} bytes, {what} is missing)"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP" and int.from_bytes(head[4:8], "little") + 8 > length:
        return f"the image is truncated ({length} bytes of {int.from_bytes(head[4:8], 'little') + 8})"
    if head[:2] == b"BM" and int.from_bytes(head[2:6], "little") > length:
        return f"the image is truncated ({length} bytes of {int.from_bytes(head[2:6], 'little')})"
    return None
