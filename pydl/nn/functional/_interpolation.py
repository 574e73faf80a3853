"""Changing the size of images, and moving channels into space and back."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING, Any

from pydl import _C

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydl import Tensor

__all__ = [
    "channel_shuffle",
    "interpolate",
    "pixel_shuffle",
    "pixel_unshuffle",
    "upsample",
    "upsample_bilinear",
    "upsample_nearest",
]

# mode -> the kernel's name for it, and the number of spatial axes (0: any)
_MODES = {
    "nearest": ("nearest", 0),
    "nearest-exact": ("nearest-exact", 0),
    "area": ("area", 0),
    "linear": ("linear", 1),
    "bilinear": ("linear", 2),
    "bicubic": ("cubic", 2),
    "trilinear": ("linear", 3),
}


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Change the spatial size of (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Args:
        input: floating.
        size: of the output, one number or one for each axis. Either this or
        scale_factor: the output's size over the input's, rounded down.
        mode: ``"nearest"`` (the place at or below), ``"nearest-exact"`` (the place whose centre is nearest),
            ``"linear"``, ``"bilinear"``, ``"trilinear"`` for 1, 2 and 3 axes, ``"bicubic"`` (Keys 1981, a = -0.75),
            ``"area"`` (:func:`adaptive_avg_pool2d`).
        align_corners: whether the corners' centres, instead of their outer edges, lie on each other; default False.
            Only for the linear and cubic modes.
        recompute_scale_factor: compute the scale anew from the rounded sizes; default: use the one that was given.
        antialias: not implemented.

    Raises:
        ValueError: another number of axes than the mode has, both or none of size and scale_factor, empty outputs.
        NotImplementedError: antialias.

    >>> import pydl
    >>> interpolate(pydl.asarray([[[1.0, 2.0]]]), scale_factor=2, mode="linear").numpy().tolist()
    [[[1.0, 1.25, 1.75, 2.0]]]
    """
    if mode not in _MODES:
        raise ValueError(f"[interpolate] got mode {mode!r}, expected one of {', '.join(map(repr, _MODES))}")
    if antialias:
        raise NotImplementedError("[interpolate] antialias is not implemented; blur with avg_pool2d first")
    kind, axes = _MODES[mode]
    shape = tuple(input.shape)
    rank = len(shape) - 2
    if rank < 1 or rank > 3 or (axes and rank != axes):
        wanted = f"{axes + 2} axes" if axes else "3, 4 or 5 axes"
        raise ValueError(f"[interpolate] mode {mode!r} got an input of shape {shape}, expected {wanted}")
    if align_corners is not None and kind not in ("linear", "cubic"):
        raise ValueError(f"[interpolate] mode {mode!r} has no align_corners; leave it out")
    if (size is None) == (scale_factor is None):
        raise ValueError("[interpolate] got both or neither of size and scale_factor, expected one of them")
    scales: list[float] = []
    if size is None:
        scales = [float(s) for s in _per_axis("scale_factor", scale_factor, rank)]
        if any(s <= 0 for s in scales):
            raise ValueError(f"[interpolate] got scale_factor {scale_factor}, expected numbers above 0")
        sizes = [floor(n * s) for n, s in zip(shape[2:], scales, strict=True)]
        if recompute_scale_factor:
            scales = []
    else:
        if recompute_scale_factor:
            raise ValueError("[interpolate] recompute_scale_factor has no meaning with size, only with scale_factor")
        sizes = [int(n) for n in _per_axis("size", size, rank)]
    if kind == "area":
        return _C.adaptive_avg_pool(input, rank, sizes)
    return _C.interpolate(input, sizes, scales, kind, bool(align_corners))


def _per_axis(what: str, value: Any, rank: int) -> list[Any]:
    values = list(value) if isinstance(value, (tuple, list)) else [value] * rank
    if len(values) != rank:
        raise ValueError(f"[interpolate] got {len(values)} numbers for {what}, expected 1 or {rank}")
    return values


def upsample(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """:func:`interpolate`, under its older name."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(
    input: Tensor, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None
) -> Tensor:
    """:func:`interpolate` with mode ``"nearest"``."""
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(
    input: Tensor, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None
) -> Tensor:
    """:func:`interpolate` with mode ``"bilinear"`` and aligned corners."""
    return interpolate(input, size, scale_factor, "bilinear", True)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(..., C·r², H, W) -> (..., C, H·r, W·r): channels become neighbouring pixels. Shi et al., arXiv:1609.05158."""
    shape, r = tuple(input.shape), upscale_factor
    if len(shape) < 3 or r < 1 or shape[-3] % (r * r):
        wanted = "expected (..., C·r², H, W)"
        raise ValueError(f"[pixel_shuffle] got an input of shape {shape} and upscale_factor {r}, {wanted}")
    lead, (c, h, w) = shape[:-3], shape[-3:]
    n = len(lead)
    split = input.reshape((*lead, c // (r * r), r, r, h, w))
    order = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return _C.permute_dims(split, order).reshape((*lead, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(..., C, H·r, W·r) -> (..., C·r², H, W): undoes :func:`pixel_shuffle`."""
    shape, r = tuple(input.shape), downscale_factor
    if len(shape) < 3 or r < 1 or shape[-2] % r or shape[-1] % r:
        wanted = "expected (..., C, H·r, W·r)"
        raise ValueError(f"[pixel_unshuffle] got an input of shape {shape} and downscale_factor {r}, {wanted}")
    lead, (c, h, w) = shape[:-3], shape[-3:]
    n = len(lead)
    split = input.reshape((*lead, c, h // r, r, w // r, r))
    order = (*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return _C.permute_dims(split, order).reshape((*lead, c * r * r, h // r, w // r))


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """(N, C, ...): the channels of ``groups`` groups are dealt out in turn. Zhang et al., arXiv:1707.01083."""
    shape = tuple(input.shape)
    if len(shape) < 3 or groups < 1 or shape[1] % groups:
        wanted = "expected (N, C, ...) with C a multiple of the groups"
        raise ValueError(f"[channel_shuffle] got an input of shape {shape} and {groups} groups, {wanted}")
    split = input.reshape((shape[0], groups, shape[1] // groups, *shape[2:]))
    return _C.permute_dims(split, (0, 2, 1, *range(3, len(shape) + 1))).reshape(shape)
