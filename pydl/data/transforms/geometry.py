"""Where the pixels go: zoom, shift, rotation and shear as one warp; flips; crops."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

import pydl
from pydl.data.transforms.base import Transform, as_array, check_images, check_layout, probability, value_range
from pydl.data.transforms.warp import FILL_MODES, INTERPOLATIONS, inverse_matrices, warp

if TYPE_CHECKING:
    import numpy.typing as npt

    from pydl.data.keys import SampleKeys

__all__ = [
    "CenterCrop",
    "RandomAffine",
    "RandomCrop",
    "RandomFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomShear",
    "RandomShift",
    "RandomZoom",
    "affine",
]

Range = float | tuple[float, float]


def affine(
    x: Any,
    rotation: npt.ArrayLike = 0.0,
    shift: npt.ArrayLike = (0.0, 0.0),
    zoom: npt.ArrayLike = 1.0,
    shear: npt.ArrayLike = 0.0,
    *,
    fill_mode: str = "constant",
    fill: float = 0.0,
    interpolation: str = "bilinear",
) -> Any:
    """Images zoomed, sheared, rotated (in this order, about the centre) and shifted, in one warp.

    Args:
        x: (N, C, H, W), a Tensor or an array of uint8 or a floating dtype.
        rotation: degrees counter-clockwise as one looks at the picture; one number or (N,). Default 0.
        shift: (right, down) as fractions of the width and of the height; (2,) or (N, 2). Default (0, 0).
        zoom: factor, above 1 enlarges; one number or (N,). Default 1.
        shear: degrees; rows above the centre move right by tan(shear) times their height. One number or (N,).
        fill_mode: what comes in from outside: "constant" (default), "nearest", "reflect" or "wrap".
        fill: the constant; default 0.
        interpolation: "bilinear" (default) or "nearest".

    Returns:
        The same kind, shape and dtype as x.

    Raises:
        ValueError: x is no batch of images, a mode is unknown, or a zoom is not positive.

    >>> import numpy as np
    >>> affine(np.arange(4.0).reshape(1, 1, 1, 4), shift=(0.25, 0)).tolist()  # by one pixel to the right
    [[[[0.0, 0.0, 1.0, 2.0]]]]
    """
    images = as_array(x, "affine")
    check_images(images, "affine")
    _check_modes("affine", fill_mode, interpolation)
    n, _, height, width = images.shape
    factors = np.broadcast_to(np.asarray(zoom, np.float64), (n,))
    if not (factors > 0).all():
        raise ValueError(f"[affine] got zoom {zoom!r}, expected factors above 0")
    inverse = inverse_matrices(
        np.broadcast_to(np.asarray(rotation, np.float64), (n,)),
        np.broadcast_to(np.asarray(shift, np.float64), (n, 2)) * (width, height),
        np.stack([factors, factors], axis=1),
        np.broadcast_to(np.asarray(shear, np.float64), (n,)),
    )
    result = warp(images, inverse, None, fill_mode, fill, interpolation)
    return pydl.asarray(result) if isinstance(x, pydl.Tensor) else result


class RandomAffine(Transform):
    """Zoom, shear, rotation and shift of every image by random amounts, in one warp; see :func:`affine`.

    A number r stands for the range from -r to r (of zoom: 1 - r to 1 + r), a pair for (low, high).

    Args:
        rotation: degrees, counter-clockwise; default 0.
        shift: fractions of the width and the height; a pair is (r of x, r of y). Default 0.
        zoom: factor, above 1 enlarges; default 0, which is a factor of 1.
        shear: degrees; default 0.
        fill_mode: "constant" (default), "nearest", "reflect" or "wrap".
        fill: the constant; default 0.
        interpolation: "bilinear" (default) or "nearest".

    >>> import numpy as np
    >>> RandomAffine(rotation=10, shift=0.1, zoom=0.1, shear=5)(np.zeros((2, 1, 28, 28), np.float32)).shape
    (2, 1, 28, 28)
    """

    def __init__(
        self,
        rotation: Range = 0.0,
        shift: Range = 0.0,
        zoom: Range = 0.0,
        shear: Range = 0.0,
        *,
        fill_mode: str = "constant",
        fill: float = 0.0,
        interpolation: str = "bilinear",
    ) -> None:
        name = type(self).__name__
        self.rotation = value_range(rotation, 0.0, name, "rotation")
        both = tuple(shift) if isinstance(shift, (tuple, list)) else (shift, shift)
        if len(both) != 2:
            raise ValueError(f"[{name}] got shift {shift!r}, expected a number or one for x and one for y")
        self.shift = (value_range(both[0], 0.0, name, "shift")[1], value_range(both[1], 0.0, name, "shift")[1])
        self.zoom = value_range(zoom, 1.0, name, "zoom")
        self.shear = value_range(shear, 0.0, name, "shear")
        if self.zoom[0] <= 0:
            raise ValueError(f"[{name}] got zoom {zoom!r}, whose smallest factor is {self.zoom[0]}, expected above 0")
        if max(abs(self.shear[0]), abs(self.shear[1])) >= 90:
            raise ValueError(f"[{name}] got shear {shear!r}, expected less than 90 degrees")
        _check_modes(name, fill_mode, interpolation)
        self.fill_mode, self.fill, self.interpolation = fill_mode, float(fill), interpolation

    def transform(self, x: npt.NDArray[Any], keys: SampleKeys) -> npt.NDArray[Any]:
        check_images(x, type(self).__name__)

        def amount(name: str) -> npt.ArrayLike:
            low, high = getattr(self, name)
            return low if low == high else keys.uniform(name, low=low, high=high)

        shift = (2 * keys.uniform("shift", 2) - 1) * self.shift if any(self.shift) else (0.0, 0.0)
        return affine(
            x,
            amount("rotation"),
            shift,
            amount("zoom"),
            amount("shear"),
            fill_mode=self.fill_mode,
            fill=self.fill,
            interpolation=self.interpolation,
        )


class RandomRotation(RandomAffine):
    """Rotation by up to ``degrees`` either way, or from low to high; positive is counter-clockwise."""

    def __init__(self, degrees: Range, **options: Any) -> None:
        super().__init__(rotation=degrees, **options)


class RandomShift(RandomAffine):
    """Shift by up to this fraction of the width and the height, or by (x, y); of pixels in between too."""

    def __init__(self, shift: Range, **options: Any) -> None:
        super().__init__(shift=shift, **options)


class RandomZoom(RandomAffine):
    """Zoom by 1 - r to 1 + r, or by low to high; above 1 enlarges."""

    def __init__(self, zoom: Range, **options: Any) -> None:
        super().__init__(zoom=zoom, **options)


class RandomShear(RandomAffine):
    """Shear by up to ``degrees`` either way, or from low to high."""

    def __init__(self, degrees: Range, **options: Any) -> None:
        super().__init__(shear=degrees, **options)


class RandomFlip(Transform):
    """Each image mirrored or not.

    Args:
        axis: "horizontal" (default; left and right change places), "vertical", or "both", each by its own chance.
        p: how likely; default 0.5.
    """

    def __init__(self, axis: str = "horizontal", p: float = 0.5) -> None:
        if axis not in ("horizontal", "vertical", "both"):
            raise ValueError(f"[RandomFlip] got axis {axis!r}, expected 'horizontal', 'vertical' or 'both'")
        self.axis, self.p = axis, probability(p, "RandomFlip")

    def transform(self, x: npt.NDArray[Any], keys: SampleKeys) -> npt.NDArray[Any]:
        check_layout(x, "RandomFlip")
        result = x.copy()
        for name, place in (("vertical", 2), ("horizontal", 3)):
            if self.axis in (name, "both"):
                chosen = np.flatnonzero(keys.uniform(name) < self.p)
                result[chosen] = np.flip(result[chosen], place)
        return result


class RandomCrop(Transform):
    """A random window of each image, of whole pixels, after padding.

    Args:
        size: of the window: (height, width), or one number for both.
        padding: pixels added on all sides before; default 0.
        fill_mode: of the padding: "constant" (default), "nearest", "reflect" or "wrap", as in :func:`affine`.
        fill: the constant; default 0.

    >>> import numpy as np
    >>> RandomCrop(28, padding=2)(np.zeros((5, 1, 28, 28), np.float32)).shape
    (5, 1, 28, 28)
    """

    def __init__(
        self, size: int | tuple[int, int], padding: int = 0, *, fill_mode: str = "constant", fill: float = 0.0
    ) -> None:
        self.size = pair(size, "RandomCrop")
        if padding < 0:
            raise ValueError(f"[RandomCrop] got padding {padding}, expected 0 or more")
        _check_modes("RandomCrop", fill_mode, "nearest")
        self.padding, self.fill_mode, self.fill = padding, fill_mode, fill

    def transform(self, x: npt.NDArray[Any], keys: SampleKeys) -> npt.NDArray[Any]:
        check_images(x, "RandomCrop")
        if self.padding:
            mode = {"nearest": "edge", "reflect": "symmetric"}.get(self.fill_mode, self.fill_mode)
            sides = (self.padding, self.padding)
            constant = {"constant_values": self.fill} if mode == "constant" else {}
            x = np.pad(x, ((0, 0), (0, 0), sides, sides), mode, **constant)  # type: ignore[call-overload]
        room = _room(x, self.size, "RandomCrop")
        top, left = (np.floor(keys.uniform(name) * (room[i] + 1)).astype(np.intp) for i, name in enumerate("yx"))
        windows = np.lib.stride_tricks.sliding_window_view(x, self.size, axis=(2, 3))
        return windows[np.arange(len(x)), :, top, left]


class CenterCrop(Transform):
    """The window in the middle of each image, as evaluation wants it after training with random ones.

    Args:
        size: (height, width), or one number for both.
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        self.size = pair(size, "CenterCrop")

    def transform(self, x: npt.NDArray[Any], keys: SampleKeys) -> npt.NDArray[Any]:
        check_images(x, "CenterCrop")
        top, left = (room // 2 for room in _room(x, self.size, "CenterCrop"))
        return np.ascontiguousarray(x[:, :, top : top + self.size[0], left : left + self.size[1]])


class RandomResizedCrop(Transform):
    """A window of random area and shape of each image, stretched to one size: Szegedy et al., arXiv:1409.4842.

    Args:
        size: of the result: (height, width), or one number for both.
        scale: (low, high) of the window's share of the area; default (0.08, 1).
        ratio: (low, high) of its width over its height, uniform in the logarithm; default (3/4, 4/3).
        interpolation: "bilinear" (default) or "nearest".
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        *,
        interpolation: str = "bilinear",
    ) -> None:
        self.size = pair(size, "RandomResizedCrop")
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"[RandomResizedCrop] got scale {scale!r}, expected (low, high) above 0 and up to 1")
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"[RandomResizedCrop] got ratio {ratio!r}, expected (low, high) above 0")
        _check_modes("RandomResizedCrop", "nearest", interpolation)
        self.scale, self.ratio, self.interpolation = tuple(scale), tuple(ratio), interpolation

    def transform(self, x: npt.NDArray[Any], keys: SampleKeys) -> npt.NDArray[Any]:
        check_images(x, "RandomResizedCrop")
        _, _, height, width = x.shape
        area = keys.uniform("scale", low=self.scale[0], high=self.scale[1]) * height * width
        log_ratio = keys.uniform("ratio", low=math.log(self.ratio[0]), high=math.log(self.ratio[1]))
        window = np.stack([np.sqrt(area * np.exp(log_ratio)), np.sqrt(area * np.exp(-log_ratio))], axis=1)  # w, h
        np.minimum(window, (width, height), out=window)
        middle = (keys.uniform("place", 2) - 0.5) * ((width, height) - window)
        inverse = np.zeros((len(x), 2, 3))
        inverse[:, 0, 0] = window[:, 0] / self.size[1]
        inverse[:, 1, 1] = window[:, 1] / self.size[0]
        inverse[:, :, 2] = middle
        return warp(x, inverse, self.size, "nearest", 0.0, self.interpolation)


def pair(size: int | tuple[int, int], who: str) -> tuple[int, int]:
    """(height, width) of one number or two."""
    sizes = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(sizes) != 2 or not all(isinstance(n, (int, np.integer)) and n > 0 for n in sizes):
        raise ValueError(f"[{who}] got size {size!r}, expected a positive integer or (height, width)")
    return int(sizes[0]), int(sizes[1])


def _room(x: npt.NDArray[Any], size: tuple[int, int], who: str) -> tuple[int, int]:
    room = x.shape[2] - size[0], x.shape[3] - size[1]
    if min(room) < 0:
        raise ValueError(f"[{who}] got images of {x.shape[2:]} pixels, expected at least {size}; pad or choose smaller")
    return room


def _check_modes(who: str, fill_mode: str, interpolation: str) -> None:
    if fill_mode not in FILL_MODES:
        raise ValueError(f"[{who}] got fill_mode {fill_mode!r}, expected one of {', '.join(FILL_MODES)}")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"[{who}] got interpolation {interpolation!r}, expected one of {', '.join(INTERPOLATIONS)}")
