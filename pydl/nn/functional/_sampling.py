"""Images read at places given by a grid: what spatial transformers are made of (Jaderberg et al., arXiv:1506.02025)."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydl import Tensor

__all__ = ["affine_grid", "grid_sample"]


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The places of an output's pixels in an input, by an affine map; made for :func:`grid_sample`.

    Args:
        theta: (N, 2, 3) for images, (N, 3, 4) for volumes; rows give x, y(, z) from (x, y(, z), 1).
        size: the output's, (N, C, H, W) or (N, C, D, H, W).
        align_corners: whether -1 and 1 are the centres of the outermost pixels, or (default) their outer edges.

    Returns:
        (N, H, W, 2) or (N, D, H, W, 3), between -1 and 1 inside the input.

    >>> import pydl
    >>> affine_grid(pydl.asarray([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]), (1, 1, 1, 2)).numpy().tolist()
    [[[[-0.5, 0.0], [0.5, 0.0]]]]
    """
    size = tuple(size)
    rank = len(size) - 2
    if rank not in (2, 3) or theta.ndim != 3 or tuple(theta.shape) != (size[0], rank, rank + 1):
        expected = "(N, 2, 3) with 4 sizes or (N, 3, 4) with 5"
        raise ValueError(f"[affine_grid] got theta of shape {tuple(theta.shape)} and size {size}, expected {expected}")
    spatial = size[2:]
    lines = []
    for axis, n in enumerate(spatial):
        reach = (1.0 if align_corners else (n - 1) / n) if n > 1 else 0.0
        line = pydl.linspace(-reach, reach, n, dtype=theta.dtype, device=theta.device)
        shape = [1] * rank
        shape[axis] = n
        lines.append(pydl.broadcast_to(line.reshape(shape), spatial))
    base = pydl.stack([*lines[::-1], pydl.ones(spatial, dtype=theta.dtype, device=theta.device)], axis=-1)
    places = base.reshape((1, -1, rank + 1)) @ theta.mT
    return places.reshape((size[0], *spatial, rank))


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """The input's values at the places of a grid; differentiable in both.

    Args:
        input: (N, C, H, W) or (N, C, D, H, W), floating.
        grid: (N, H', W', 2) or (N, D', H', W', 3): x, y(, z), where -1 and 1 are the input's ends.
        mode: ``"bilinear"`` (default), ``"nearest"``, ``"bicubic"`` (images only; Keys 1981, a = -0.75).
        padding_mode: what lies outside: ``"zeros"`` (default), ``"border"`` the nearest pixel, ``"reflection"``.
        align_corners: as in :func:`affine_grid`; default False.

    Returns:
        (N, C, H', W') or (N, C, D', H', W').

    >>> import pydl
    >>> x = pydl.asarray([[[[1.0, 3.0]]]])
    >>> grid_sample(x, pydl.asarray([[[[0.0, 0.0]]]])).item()
    2.0
    """
    rank = input.ndim - 2
    for what, got, known in (
        ("mode", mode, ("bilinear", "nearest", "bicubic")),
        ("padding_mode", padding_mode, ("zeros", "border", "reflection")),
    ):
        if got not in known:
            raise ValueError(f"[grid_sample] got {what}={got!r}, expected one of {', '.join(map(repr, known))}")
    shape, places = tuple(input.shape), tuple(grid.shape)
    if rank not in (2, 3) or len(places) != rank + 2 or places[-1] != rank or places[0] != shape[0]:
        expected = "(N, C, H, W) and (N, H', W', 2), or (N, C, D, H, W) and (N, D', H', W', 3)"
        raise ValueError(f"[grid_sample] got input of shape {shape} and grid of shape {places}, expected {expected}")
    if mode == "bicubic" and rank == 3:
        raise ValueError(f"[grid_sample] mode='bicubic' is for images, got input of shape {shape}; use 'bilinear'")
    if input.dtype != grid.dtype:
        raise TypeError(f"[grid_sample] got input of {input.dtype} and grid of {grid.dtype}, expected the same")
    if 0 in shape[2:]:
        raise ValueError(f"[grid_sample] got input of shape {shape}, expected spatial sizes of 1 or more")
    n, channels, spatial = shape[0], shape[1], shape[2:]
    flat = input.reshape((n, channels, -1))
    taps = [
        _taps(grid[..., rank - 1 - axis].reshape((n, -1)), size, mode, padding_mode, bool(align_corners))
        for axis, size in enumerate(spatial)
    ]
    total: Any = None
    for chosen in product(*taps):
        place, share = chosen[0]
        for (index, weight), size in zip(chosen[1:], spatial[1:], strict=True):
            place, share = place * size + index, share * weight
        term = _C.take_along_axis(flat, pydl.expand_dims(place, axis=1), 2) * pydl.expand_dims(share, axis=1)
        total = term if total is None else total + term
    return total.reshape((n, channels, *places[1:-1]))


def _taps(x: Tensor, size: int, mode: str, padding: str, align: bool) -> list[tuple[Tensor, Tensor]]:
    """Along one axis: the pixels that count at each place, and their weights."""
    x = (x + 1.0) * ((size - 1) / 2) if align else ((x + 1.0) * size - 1.0) / 2
    x = pydl.where(pydl.isfinite(x), x, pydl.full_like(x, -100.0))
    if mode == "bicubic":
        left = pydl.floor(x.detach())
        t = x - left
        a = -0.75
        near = [((a + 2.0) * s - (a + 3.0)) * s * s + 1.0 for s in (t, 1.0 - t)]
        far = [((a * s - 5.0 * a) * s + 8.0 * a) * s - 4.0 * a for s in (t + 1.0, 2.0 - t)]
        weights = [far[0], near[0], near[1], far[1]]
        return [
            _inside(_padded(left + float(k - 1), size, padding, align), size, weight)
            for k, weight in enumerate(weights)
        ]
    x = _padded(x, size, padding, align)
    if mode == "nearest":
        nearest = pydl.round(x.detach())
        return [_inside(nearest, size, x * 0.0 + 1.0)]
    left = pydl.floor(x.detach())
    t = x - left
    return [_inside(left, size, 1.0 - t), _inside(left + 1.0, size, t)]


def _padded(x: Tensor, size: int, padding: str, align: bool) -> Tensor:
    if padding == "zeros":
        return x
    if padding == "reflection":
        low, span = (0.0, size - 1.0) if align else (-0.5, float(size))
        if span == 0.0:
            return x * 0.0
        away = pydl.abs(x - low)
        turns = pydl.floor(away.detach() / span)
        rest = away - turns * span
        x = pydl.where(pydl.remainder(turns, 2.0) == 0.0, rest + low, span - rest + low)
    return _C.hardtanh(x, 0.0, size - 1.0) if size > 1 else x * 0.0  # whose gradient is 0 at the ends too


def _inside(index: Tensor, size: int, weight: Tensor) -> tuple[Tensor, Tensor]:
    clipped = pydl.clip(index.detach(), 0.0, size - 1.0)
    return clipped.astype(pydl.int64), weight * (clipped == index).astype(weight.dtype)
