"""Max-pooling with windows that begin at random places: Graham, "Fractional max-pooling", arXiv:1412.6071."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

import pydl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydl import Tensor

__all__ = [
    "fractional_max_pool2d",
    "fractional_max_pool2d_with_indices",
    "fractional_max_pool3d",
    "fractional_max_pool3d_with_indices",
]


def fractional_max_pool2d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    output_size: int | Sequence[int] | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """The largest value of windows whose places are drawn so that the output has a given size.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: of the windows, one number or one for each axis.
        output_size: of the output. Either this or
        output_ratio: the output's size over the input's, between 0 and 1.
        return_indices: also return the places, counted in the flattened (H, W); default False.
        _random_samples: (N, C, 2) numbers in [0, 1) in place of those drawn.

    Returns:
        The output, or (output, indices). An image's channels have windows of their own.

    >>> import pydl
    >>> fractional_max_pool2d(pydl.ones((1, 3, 7, 7)), 2, output_ratio=0.5).shape
    (1, 3, 3, 3)
    """
    op = "fractional_max_pool2d"
    return _fractional(op, input, 2, kernel_size, output_size, output_ratio, return_indices, _random_samples)


def fractional_max_pool3d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    output_size: int | Sequence[int] | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """:func:`fractional_max_pool2d` for (N, C, D, H, W) or (C, D, H, W); samples are (N, C, 3)."""
    op = "fractional_max_pool3d"
    return _fractional(op, input, 3, kernel_size, output_size, output_ratio, return_indices, _random_samples)


def fractional_max_pool2d_with_indices(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """:func:`fractional_max_pool2d` with ``return_indices=True``."""
    return fractional_max_pool2d(*args, **{**kwargs, "return_indices": True})


def fractional_max_pool3d_with_indices(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """:func:`fractional_max_pool3d` with ``return_indices=True``."""
    return fractional_max_pool3d(*args, **{**kwargs, "return_indices": True})


def _fractional(
    op: str,
    input: Tensor,
    rank: int,
    kernel_size: Any,
    output_size: Any,
    output_ratio: Any,
    return_indices: bool,
    samples: Tensor | None,
) -> Any:
    shape = tuple(input.shape)
    if len(shape) not in (rank + 1, rank + 2):
        raise ValueError(f"[{op}] got input of shape {shape}, expected {rank + 2} axes, or {rank + 1} without a batch")
    if (output_size is None) == (output_ratio is None):
        raise ValueError(f"[{op}] got both or neither of output_size and output_ratio, expected one of them")
    spatial, lead = shape[-rank:], shape[:-rank]
    kernel = per_axis(op, "kernel_size", kernel_size, rank)
    if output_ratio is not None:
        ratios = per_axis(op, "output_ratio", output_ratio, rank)
        if not all(0 < ratio < 1 for ratio in ratios):
            raise ValueError(f"[{op}] got output_ratio {output_ratio}, expected numbers between 0 and 1")
        sizes = [int(n * ratio) for n, ratio in zip(spatial, ratios, strict=True)]
    else:
        sizes = per_axis(op, "output_size", output_size, rank)
    for n, k, size in zip(spatial, kernel, sizes, strict=True):
        if k < 1 or size < 1 or size + k - 1 > n:
            raise ValueError(
                f"[{op}] {size} windows of {k} do not fit a size of {n}, expected output + kernel - 1 of at most {n}"
            )
    images = (shape[0] if len(shape) == rank + 2 else 1, shape[-rank - 1])
    if samples is None:
        samples = pydl.rand(*images, rank, dtype=input.dtype)
    got = tuple(samples.shape)
    if len(got) != 3 or got[0] < images[0] or got[1:] != (images[1], rank):
        raise ValueError(f"[{op}] got random samples of shape {got}, expected {(*images, rank)}")
    if samples.dtype != input.dtype:
        raise TypeError(f"[{op}] got random samples of {samples.dtype} for input of {input.dtype}, expected the same")
    drawn = samples.detach().cpu().numpy()[: images[0]].reshape(-1, rank)
    if rank == 2:
        drawn = drawn[:, ::-1]  # the first of two numbers is for the width
    places = pydl.asarray(
        _places(drawn, spatial, kernel, sizes), device=input.device
    )  # (images, windows, places in one)
    count = places.shape[0]
    flat = input.reshape((count, prod(spatial)))
    windows = pydl.gather(flat, 1, places.reshape((count, prod(sizes) * prod(kernel)))).reshape(places.shape)
    values, which = pydl.max_with_index(windows, axis=-1)
    values = values.reshape((*lead, *sizes))
    if not return_indices:
        return values
    indices = pydl.take_along_axis(places, pydl.expand_dims(which, axis=-1), axis=-1)
    return values, indices.reshape((*lead, *sizes))


def _places(drawn: np.ndarray, spatial: Sequence[int], kernel: list[int], sizes: list[int]) -> np.ndarray:
    """Flat index of every element of every window: (images, windows, elements)."""
    count, rank = drawn.shape
    flat: Any = np.zeros((count, *[1] * (2 * rank)), np.int64)
    for axis, (n, k, size) in enumerate(zip(spatial, kernel, sizes, strict=True)):
        u = drawn[:, axis : axis + 1]
        starts = np.full((count, size), n - k, np.int64)
        if size > 1:
            step = drawn.dtype.type(n - k) / drawn.dtype.type(size - 1)
            steps = np.arange(size - 1, dtype=drawn.dtype)
            starts[:, :-1] = ((steps + u) * step).astype(np.int64) - (u * step).astype(np.int64)
        shape = [count] + [1] * (2 * rank)
        shape[1 + axis], shape[1 + rank + axis] = size, k
        flat = flat * n + (starts[:, :, None] + np.arange(k)).reshape(shape)
    return np.ascontiguousarray(
        np.broadcast_to(flat, (count, *sizes, *kernel)).reshape(count, prod(sizes), prod(kernel))
    )


def per_axis(op: str, what: str, value: Any, rank: int) -> list[Any]:
    """One entry for each axis, from one number or a sequence."""
    values = list(value) if isinstance(value, (tuple, list)) else [value] * rank
    if len(values) != rank:
        raise ValueError(f"[{op}] got {len(values)} numbers for {what}, expected 1 or {rank}")
    return values
