"""What the values become: scale, noise, brightness, contrast, saturation, and squares cut out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pydl.data.transforms.base import Transform, check_images, check_values, value_range
from pydl.data.transforms.geometry import pair

if TYPE_CHECKING:
    import numpy.typing as npt

    from pydl.data.keys import SampleKeys

__all__ = ["ColorJitter", "Cutout", "RandomBrightness", "RandomContrast", "RandomNoise", "Rescale"]

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


class Rescale(Transform):
    """scale · x + offset in float32 (float64 stays); by default bytes become numbers from 0 to 1.

    Args:
        scale: default 1/255.
        offset: default 0.

    >>> import numpy as np
    >>> Rescale()(np.array([[0, 51, 255]], np.uint8)).round(4).tolist()
    [[0.0, 0.20000000298023224, 1.0]]
    """

    def __init__(self, scale: float = 1 / 255, offset: float = 0.0) -> None:
        self.scale, self.offset = float(scale), float(offset)

    def transform(self, x: npt.NDArray[Any], keys: SampleKeys) -> npt.NDArray[Any]:
        dtype = np.float64 if x.dtype == np.float64 else np.float32
        result = np.multiply(x, dtype(self.scale), dtype=dtype)
        if self.offset:
            result += dtype(self.offset)
        return result


class RandomNoise(Transform):
    """Gaussian noise added to every element, of images, sequences or features. Bytes are rounded and kept in 0..255.

    Args:
        std: standard deviation, in the unit of the values: for images from 0 to 1 some 0.05, for bytes some 12.
        mean: default 0.
    """

    def __init__(self, std: float, mean: float = 0.0) -> None:
        if not std >= 0:
            raise ValueError(f"[RandomNoise] got std {std!r}, expected 0 or more")
        self.std, self.mean = float(std), float(mean)

    def transform(self, x: npt.NDArray[Any], keys: SampleKeys) -> npt.NDArray[Any]:
        check_values(x, "RandomNoise")
        noise = keys.normal("noise", *x.shape[1:], dtype=np.float64 if x.dtype == np.float64 else np.float32)
        noise *= self.std
        if self.mean:
            noise += self.mean
        noise += x
        return _as_was(noise, x)


class ColorJitter(Transform):
    """Brightness, contrast and saturation changed by a random factor for each image.

    A number r stands for factors from 1 - r to 1 + r (0 at least), a pair for (low, high).

    Args:
        brightness: the values are multiplied by it; default 0, which is a factor of 1.
        contrast: the distance to the image's mean grey is multiplied by it; default 0.
        saturation: the distance to each pixel's grey is multiplied by it; only for three channels. Default 0.
        clip: (low, high) to keep floating values in, such as (0, 1); default None, nothing. Bytes stay in 0..255.
    """

    def __init__(
        self,
        brightness: float | tuple[float, float] = 0.0,
        contrast: float | tuple[float, float] = 0.0,
        saturation: float | tuple[float, float] = 0.0,
        *,
        clip: tuple[float, float] | None = None,
    ) -> None:
        self.brightness = _factors(brightness, "brightness")
        self.contrast = _factors(contrast, "contrast")
        self.saturation = _factors(saturation, "saturation")
        self.clip = clip if clip is None else value_range(clip, 0.0, "ColorJitter", "clip")

    def transform(self, x: npt.NDArray[Any], keys: SampleKeys) -> npt.NDArray[Any]:
        name = type(self).__name__
        check_images(x, name)
        values = x.astype(np.float64 if x.dtype == np.float64 else np.float32)
        if self.brightness != (1.0, 1.0):
            values *= self._factor("brightness", keys, values)
        if self.contrast != (1.0, 1.0):
            grey = _grey(values).mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64).astype(values.dtype)
            _stretch(values, grey, self._factor("contrast", keys, values))
        if self.saturation != (1.0, 1.0):
            if x.shape[1] != 3:
                raise ValueError(f"[{name}] got {x.shape[1]} channels, but saturation needs red, green and blue")
            _stretch(values, _grey(values), self._factor("saturation", keys, values))
        return _as_was(values, x, self.clip)

    def _factor(self, name: str, keys: SampleKeys, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        low, high = getattr(self, name)
        return keys.uniform(name, 1, 1, 1, low=low, high=high).astype(x.dtype)


class RandomBrightness(ColorJitter):
    """All values of an image times a random factor from 1 - r to 1 + r, or from low to high."""

    def __init__(self, brightness: float | tuple[float, float], *, clip: tuple[float, float] | None = None) -> None:
        super().__init__(brightness=brightness, clip=clip)


class RandomContrast(ColorJitter):
    """An image's distance to its mean grey times a random factor from 1 - r to 1 + r, or from low to high."""

    def __init__(self, contrast: float | tuple[float, float], *, clip: tuple[float, float] | None = None) -> None:
        super().__init__(contrast=contrast, clip=clip)


class Cutout(Transform):
    """Rectangles of each image set to one value: DeVries and Taylor, arXiv:1708.04552.

    The centre may be any pixel, so a rectangle may hang over the border.

    Args:
        size: (height, width) of the rectangles in pixels, or one number for both.
        count: rectangles an image; default 1.
        fill: the value; default 0.
    """

    def __init__(self, size: int | tuple[int, int], count: int = 1, fill: float = 0.0) -> None:
        self.size = pair(size, "Cutout")
        if count < 1:
            raise ValueError(f"[Cutout] got count {count!r}, expected 1 or more")
        self.count, self.fill = count, fill

    def transform(self, x: npt.NDArray[Any], keys: SampleKeys) -> npt.NDArray[Any]:
        check_images(x, "Cutout")
        inside = []
        for size, extent, name in zip(self.size, x.shape[2:], "yx", strict=True):
            first = np.floor(keys.uniform(name, self.count) * extent).astype(np.int64) - size // 2  # (N, count)
            places = np.arange(extent) - first[:, :, None]  # (N, count, extent)
            inside.append((places >= 0) & (places < size))
        hole = (inside[0][:, :, :, None] & inside[1][:, :, None, :]).any(axis=1)  # (N, H, W)
        return np.where(hole[:, None], x.dtype.type(self.fill), x)


def _grey(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(N, 1, H, W)."""
    if x.shape[1] != 3:
        return x.mean(axis=1, keepdims=True)
    red, green, blue = (x[:, i : i + 1] * x.dtype.type(share) for i, share in enumerate(_LUMA))
    return red + green + blue


def _stretch(x: npt.NDArray[Any], middle: npt.NDArray[Any], factor: npt.NDArray[Any]) -> None:
    x -= middle
    x *= factor
    x += middle


def _factors(value: float | tuple[float, float], what: str) -> tuple[float, float]:
    low, high = value_range(value, 1.0, "ColorJitter", what)
    return max(low, 0.0), high


def _as_was(values: npt.NDArray[Any], x: npt.NDArray[Any], clip: tuple[float, float] | None = None) -> npt.NDArray[Any]:
    """In x's dtype; bytes rounded and saturated."""
    if x.dtype == np.uint8:
        return np.clip(np.rint(values, out=values), 0, 255, out=values).astype(np.uint8)
    return values if clip is None else np.clip(values, *clip, out=values)
