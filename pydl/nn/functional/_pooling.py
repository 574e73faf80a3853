"""Pooling: the largest or the mean value of windows. Images are (N, C, *spatial), or (C, *spatial) of a single one."""

from __future__ import annotations

from math import copysign
from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydl import Tensor

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_with_indices",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_with_indices",
    "adaptive_max_pool3d",
    "adaptive_max_pool3d_with_indices",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool1d_with_indices",
    "max_pool2d",
    "max_pool2d_with_indices",
    "max_pool3d",
    "max_pool3d_with_indices",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]


def max_pool1d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of each window of (N, C, L); details at :func:`max_pool2d`."""
    return _C.max_pool(input, 1, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of each window of (N, C, H, W).

    Args:
        input: (N, C, H, W) or (C, H, W), floating.
        kernel_size: the window's size, one number or one for each axis; so are the next three.
        stride: the step from window to window; default the kernel's size.
        padding: how far windows may begin before the first element, at most half the kernel; never the largest.
        dilation: the step between the elements of a window.
        ceil_mode: windows may reach over the end, as long as they begin inside; default False.
        return_indices: also return where the values came from, as numbers within each H·W image (int64).

    Of equal values the first counts, and gets the gradient; NaN is larger than any number.

    Raises:
        ValueError: another shape, no window that fits, too much padding.

    >>> import pydl
    >>> max_pool2d(pydl.arange(16.0).reshape((1, 1, 4, 4)), 2).numpy().tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """
    return _C.max_pool(input, 2, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of each window of (N, C, D, H, W); details at :func:`max_pool2d`."""
    return _C.max_pool(input, 3, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool1d_with_indices(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> tuple[Tensor, Tensor]:
    """:func:`max_pool1d` with ``return_indices=True``."""
    return _C.max_pool(input, 1, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> tuple[Tensor, Tensor]:
    """:func:`max_pool2d` with ``return_indices=True``."""
    return _C.max_pool(input, 2, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool3d_with_indices(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> tuple[Tensor, Tensor]:
    """:func:`max_pool3d` with ``return_indices=True``."""
    return _C.max_pool(input, 3, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Undo :func:`max_pool1d`; details at :func:`max_unpool2d`."""
    return _max_unpool(input, indices, 1, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Put each value back to where :func:`max_pool2d` found it, zeros elsewhere. Zeiler and Fergus (2014).

    Args:
        input: (N, C, H, W) or (C, H, W).
        indices: of the same shape, from ``max_pool2d(..., return_indices=True)``.
        kernel_size, stride, padding: what the pooling had.
        output_size: the spatial sizes, or the whole shape, of the result; default (H - 1)·stride - 2·padding + kernel.

    Raises:
        ValueError: other shapes, an output size that is off by a stride or more.
        IndexError: an index outside the output.
    """
    return _max_unpool(input, indices, 2, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Undo :func:`max_pool3d`; details at :func:`max_unpool2d`."""
    return _max_unpool(input, indices, 3, kernel_size, stride, padding, output_size)


def _max_unpool(
    input: Tensor, indices: Tensor, rank: int, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> Tensor:
    op = f"[max_unpool{rank}d]"
    shape = tuple(input.shape)
    if tuple(indices.shape) != shape:
        raise ValueError(f"{op} got indices of shape {tuple(indices.shape)} for an input of shape {shape}")
    if len(shape) not in (rank + 1, rank + 2) or 0 in shape[len(shape) - rank - 1 :]:
        raise ValueError(f"{op} got an input of shape {shape}, expected (N, C, {rank} axes) or (C, {rank} axes)")
    kernel = _per_axis(op, "kernel_size", kernel_size, rank)
    step = kernel if stride is None else _per_axis(op, "stride", stride, rank)
    around = _per_axis(op, "padding", padding, rank)
    lead, spatial = shape[:-rank], shape[-rank:]
    default = [(n - 1) * s - 2 * p + k for n, s, p, k in zip(spatial, step, around, kernel, strict=True)]
    size = default
    if output_size is not None:
        size = list(output_size)
        if len(size) == len(shape):
            size = size[-rank:]
        if len(size) != rank or any(abs(n - d) >= s for n, d, s in zip(size, default, step, strict=True)):
            raise ValueError(
                f"{op} got output_size {tuple(output_size)}, expected {tuple(default)} give or take less than a stride"
            )
    places = 1
    for n in size:
        places *= n
    flat = indices.reshape((*lead, -1))
    if flat.size and not 0 <= int(flat.min().item()) <= int(flat.max().item()) < places:
        raise IndexError(f"{op} an index is outside the output of spatial shape {tuple(size)}")
    nothing = pydl.zeros((*lead, places), dtype=input.dtype, device=input.device)
    return _C.scatter(nothing, len(lead), flat, input.reshape((*lead, -1))).reshape((*lead, *size))


def _per_axis(op: str, what: str, value: Any, rank: int) -> list[int]:
    values = [value] * rank if isinstance(value, int) else list(value)
    if len(values) == 1:
        values *= rank
    if len(values) != rank:
        raise ValueError(f"{op} got {len(values)} numbers for {what}, expected 1 or {rank}")
    return values


def avg_pool1d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of (N, C, L); details at :func:`avg_pool2d`."""
    return _C.avg_pool(input, 1, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of (N, C, H, W).

    Args:
        input: (N, C, H, W) or (C, H, W), floating.
        kernel_size, stride, padding, ceil_mode: as of :func:`max_pool2d`; padding counts as zeros.
        count_include_pad: whether padded places count in the divisor; default True.
        divisor_override: divide the sums by this instead.

    Raises:
        ValueError: another shape, no window that fits, too much padding, a divisor of 0.

    >>> import pydl
    >>> avg_pool2d(pydl.arange(16.0).reshape((1, 1, 4, 4)), 2).numpy().tolist()
    [[[[2.5, 4.5], [10.5, 12.5]]]]
    """
    return _C.avg_pool(input, 2, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of (N, C, D, H, W); details at :func:`avg_pool2d`."""
    return _C.avg_pool(input, 3, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def wanted(op: str, output_size: Any) -> Any:
    """The output's size, or a ValueError where a number of it is negative."""
    sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,)
    if any(size is not None and size < 0 for size in sizes):
        raise ValueError(f"[{op}] got output_size {output_size}, expected numbers of 0 or more, or None")
    return output_size


def adaptive_avg_pool1d(input: Tensor, output_size: int | Sequence[int]) -> Tensor:
    """Means of (N, C, L) over windows that make ``output_size`` outputs; details at :func:`adaptive_avg_pool2d`."""
    return _C.adaptive_avg_pool(input, 1, wanted("adaptive_avg_pool1d", output_size))


def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Means of (N, C, H, W) over windows that make outputs of a given size, whatever the input's.

    Args:
        input: (N, C, H, W) or (C, H, W), floating.
        output_size: one number or one for each axis; None is the input's own. Output i of n along an axis of L places
            sees the places from ⌊i·L/n⌋ to ⌈(i+1)·L/n⌉ - 1.

    >>> import pydl
    >>> adaptive_avg_pool2d(pydl.arange(16.0).reshape((1, 1, 4, 4)), 1).item()
    7.5
    """
    return _C.adaptive_avg_pool(input, 2, wanted("adaptive_avg_pool2d", output_size))


def adaptive_avg_pool3d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """The same of (N, C, D, H, W); details at :func:`adaptive_avg_pool2d`."""
    return _C.adaptive_avg_pool(input, 3, wanted("adaptive_avg_pool3d", output_size))


def adaptive_max_pool1d(input: Tensor, output_size: int | Sequence[int], return_indices: bool = False) -> Any:
    """Largest values of (N, C, L) over the windows of :func:`adaptive_avg_pool2d`."""
    return _C.adaptive_max_pool(input, 1, wanted("adaptive_max_pool1d", output_size), return_indices)


def adaptive_max_pool2d(
    input: Tensor, output_size: int | Sequence[int | None] | None, return_indices: bool = False
) -> Any:
    """Largest values of (N, C, H, W) over the windows of :func:`adaptive_avg_pool2d`; indices as :func:`max_pool2d`."""
    return _C.adaptive_max_pool(input, 2, wanted("adaptive_max_pool2d", output_size), return_indices)


def adaptive_max_pool3d(
    input: Tensor, output_size: int | Sequence[int | None] | None, return_indices: bool = False
) -> Any:
    """Largest values of (N, C, D, H, W) over the windows of :func:`adaptive_avg_pool2d`."""
    return _C.adaptive_max_pool(input, 3, wanted("adaptive_max_pool3d", output_size), return_indices)


def adaptive_max_pool1d_with_indices(input: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
    """:func:`adaptive_max_pool1d` with ``return_indices=True``."""
    return _C.adaptive_max_pool(input, 1, wanted("adaptive_max_pool1d", output_size), True)


def adaptive_max_pool2d_with_indices(input: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
    """:func:`adaptive_max_pool2d` with ``return_indices=True``."""
    return _C.adaptive_max_pool(input, 2, wanted("adaptive_max_pool2d", output_size), True)


def adaptive_max_pool3d_with_indices(input: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
    """:func:`adaptive_max_pool3d` with ``return_indices=True``."""
    return _C.adaptive_max_pool(input, 3, wanted("adaptive_max_pool3d", output_size), True)


def lp_pool1d(
    input: Tensor,
    norm_type: float,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """(Σ x^p)^(1/p) over each window of (N, C, L); details at :func:`lp_pool2d`."""
    return _lp_pool(input, 1, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Tensor,
    norm_type: float,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """(Σ x^p)^(1/p) over each window of (N, C, H, W), and 0 where the sum is not positive, as in PyTorch.

    ``norm_type`` is p; p = 1 is the sum, p = ∞ the maximum. The other arguments are those of :func:`avg_pool2d`.
    """
    return _lp_pool(input, 2, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Tensor,
    norm_type: float,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """(Σ x^p)^(1/p) over each window of (N, C, D, H, W); details at :func:`lp_pool2d`."""
    return _lp_pool(input, 3, norm_type, kernel_size, stride, ceil_mode)


def _lp_pool(input: Tensor, rank: int, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Tensor:
    if norm_type == copysign(float("inf"), 1):
        return _C.max_pool(input, rank, kernel_size, stride, 0, 1, ceil_mode, False)
    mean = _C.avg_pool(input**norm_type, rank, kernel_size, stride, 0, ceil_mode, True, None)
    places = 1
    for k in _per_axis(f"[lp_pool{rank}d]", "kernel_size", kernel_size, rank):
        places *= k
    return (_C.threshold(mean, 0.0, 0.0) * places) ** (1.0 / norm_type)  # unlike relu's, its gradient keeps NaN
