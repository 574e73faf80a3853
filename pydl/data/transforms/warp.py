"""One affine warp of a batch of images: every output pixel looks up where it came from, between four pixels.

Geometry is about the image's centre, x to the right and y down, in pixels; a matrix maps the output to the input.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["FILL_MODES", "INTERPOLATIONS", "inverse_matrices", "warp"]

FILL_MODES = ("constant", "nearest", "reflect", "wrap")
INTERPOLATIONS = ("bilinear", "nearest")
_BLOCK = 1 << 14  # values worked on together, which stay in the cache

_Floats = npt.NDArray[np.floating[Any]]


def inverse_matrices(
    rotation: npt.ArrayLike, shift: npt.ArrayLike, zoom: npt.ArrayLike, shear: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """The way back of each sample: input = M · (output, 1), for output = shift + R(rotation) · S(shear) · zoom · input.

    Args:
        rotation: degrees, (N,), counter-clockwise as one looks at the picture.
        shift: pixels right and down, (N, 2).
        zoom: factors along x and y, (N, 2); above 1 enlarges.
        shear: degrees, (N,): rows move right by tan(shear) times their height above the centre.

    Returns:
        M of shape (N, 2, 3).
    """
    angle, slant = np.deg2rad(rotation), np.tan(np.deg2rad(shear))
    shift, zoom = np.asarray(shift, np.float64), np.asarray(zoom, np.float64)
    cos, sin = np.cos(angle), np.sin(angle)
    # y points down: counter-clockwise is x' = cos x + sin y, y' = -sin x + cos y, and a shear to the right is -slant y.
    inverse = np.empty((len(cos), 2, 3))
    inverse[:, 0, 0] = (cos + slant * sin) / zoom[:, 0]
    inverse[:, 0, 1] = (slant * cos - sin) / zoom[:, 0]
    inverse[:, 1, 0] = sin / zoom[:, 1]
    inverse[:, 1, 1] = cos / zoom[:, 1]
    inverse[:, :, 2] = -(inverse[:, :, :2] * shift[:, None, :]).sum(axis=2)
    return inverse


def warp(
    x: npt.NDArray[Any],
    inverse: npt.NDArray[np.float64],
    size: tuple[int, int] | None = None,
    fill_mode: str = "constant",
    fill: float = 0.0,
    interpolation: str = "bilinear",
) -> npt.NDArray[Any]:
    """Each image sampled at ``inverse`` · (output, 1), both measured from the images' centres.

    Args:
        x: (N, C, H, W) of uint8, float32 or float64.
        inverse: (N, 2, 3), as from :func:`inverse_matrices`.
        size: (height, width) of the output; default that of the input.
        fill_mode: what lies outside: "constant" ``fill``; "nearest" the border (a a | a b c | c c); "reflect" the
            image mirrored (b a | a b c | c b); "wrap" the image again (b c | a b c | a b).
        fill: the constant; default 0.
        interpolation: "bilinear" (default) or "nearest".

    Returns:
        (N, C, *size) of x's dtype; bytes are rounded.
    """
    n, channels, height, width = x.shape
    out_height, out_width = size or (height, width)
    exact = x.dtype == np.float64 or (height + 3) * (width + 3) >= 2**24  # places are counted in this type
    dtype = np.dtype(np.float64 if exact else np.float32)
    out = np.empty((n, channels, out_height, out_width), x.dtype)
    block = max(1, _BLOCK // max(out_height * out_width, height * width, 1))
    sampler = _Sampler(min(block, n), (height, width), (out_height, out_width), channels, dtype)
    for first in range(0, n, block):
        rows = slice(first, min(n, first + block))
        sampler.take_in(x[rows], fill_mode, fill)
        sampler.locate(inverse[rows].astype(dtype), fill_mode, interpolation)
        for channel in range(channels):
            out[rows, channel] = sampler.values_of(channel, rounded=x.dtype == np.uint8)
    return out


class _Sampler:
    """The buffers that all blocks of a batch share; new memory for each step would cost more than the arithmetic."""

    def __init__(
        self, count: int, size: tuple[int, int], out_size: tuple[int, int], channels: int, dtype: np.dtype[Any]
    ) -> None:
        self.size, self.out_size, self.count = size, out_size, 0
        # A border of one pixel on all sides, and one that only ever gets the weight 0 on the right and below.
        self.bordered = np.zeros((channels, count, size[0] + 3, size[1] + 3), dtype)
        self.coordinates = np.empty((4, count, *out_size), dtype)
        self.at = np.empty((count, *out_size), np.intp)
        self.values = np.empty((4, count, *out_size), dtype)
        self.first = np.arange(0, count * (size[0] + 3), size[0] + 3, dtype=np.intp)[:, None, None] * (size[1] + 3)

    def take_in(self, x: npt.NDArray[Any], fill_mode: str, fill: float) -> None:
        """The images with what surrounds them."""
        n, _, height, width = x.shape
        bordered = self.bordered[:, :n]
        bordered[:, :, 1 : height + 1, 1 : width + 1] = np.swapaxes(x, 0, 1)
        below, right = height + 1, width + 1
        if fill_mode == "constant":
            for edge in (bordered[:, :, 0], bordered[:, :, below], bordered[..., 0], bordered[..., right]):
                edge[...] = fill
            return
        wraps = fill_mode == "wrap"
        bordered[:, :, 0] = bordered[:, :, height if wraps else 1]
        bordered[:, :, below] = bordered[:, :, 1 if wraps else height]
        bordered[..., 0] = bordered[..., width if wraps else 1]
        bordered[..., right] = bordered[..., 1 if wraps else width]

    def locate(self, m: _Floats, fill_mode: str, interpolation: str) -> None:
        """The pixel left of and above each m · (output, 1), and how far the way to the next ones is gone."""
        n = len(m)
        x, y, left, top = self.coordinates[:, :n]
        self._sources(m, x, y)
        for coordinate, extent in ((x, self.size[1]), (y, self.size[0])):
            _bring_inside(coordinate, extent, fill_mode)
            if interpolation == "nearest":
                coordinate += coordinate.dtype.type(0.5)
                np.floor(coordinate, out=coordinate)
        np.floor(x, out=left)
        np.floor(y, out=top)
        x -= left
        y -= top
        top *= top.dtype.type(self.size[1] + 3)
        top += left
        at = self.at[:n]
        np.copyto(at, top, casting="unsafe")
        at += self.first[:n]
        self.count = n

    def values_of(self, channel: int, rounded: bool) -> _Floats:
        """What lies there, (n, H_out, W_out)."""
        at, (x, y) = self.at[: self.count], self.coordinates[:2, : self.count]
        upper, lower, *others = self.values[:, : self.count]
        pixels = self.bordered[channel].reshape(-1)
        for row, (a, b) in enumerate(((upper, others[0]), (lower, others[1]))):
            offset = row * (self.size[1] + 3)
            pixels[offset:].take(at, out=a, mode="clip")
            pixels[offset + 1 :].take(at, out=b, mode="clip")
            b -= a
            b *= x
            a += b
        lower -= upper
        lower *= y
        upper += lower
        return np.rint(upper, out=upper) if rounded else upper

    def _sources(self, m: _Floats, x: _Floats, y: _Floats) -> None:
        """Where the output pixels came from, in pixels of the bordered images."""
        along = [np.arange(n, dtype=m.dtype) - m.dtype.type((n - 1) / 2) for n in self.out_size]
        columns = m[:, :, :1] * along[1]  # (n, 2, W_out)
        rows = m[:, :, 1:2] * along[0] + m[:, :, 2:]  # (n, 2, H_out)
        for i, (source, extent) in enumerate(((x, self.size[1]), (y, self.size[0]))):
            rows[:, i] += m.dtype.type((extent - 1) / 2 + 1)
            np.add(rows[:, i, :, None], columns[:, i, None, :], out=source)


def _bring_inside(s: _Floats, size: int, fill_mode: str) -> None:
    """From 0 to size + 1, pixel 0 lying at 1: what is farther out moves to where it looks alike."""
    real = s.dtype.type
    if fill_mode == "wrap":
        s -= np.floor((s - real(0.5)) * real(1 / size)) * real(size)
    elif fill_mode == "reflect":
        s -= real(0.5)
        s -= np.floor(s * real(0.5 / size)) * real(2 * size)
        np.minimum(s, real(2 * size) - s, out=s)
        s += real(0.5)
    np.clip(s, real(0), real(size + 1), out=s)
