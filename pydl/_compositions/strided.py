"""Reading by strides in memory, and changing the size of a tensor in place, as PyTorch's programs do at times."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydl import _C
from pydl import _functions as ops
from pydl._tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["as_strided", "resize_", "resize_as_"]


def as_strided(x: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int = 0) -> Tensor:
    """The elements at storage_offset + Σ iₖ·strideₖ of x's elements, in the order in which they lie in memory.

    A copy, unlike PyTorch's view; its gradient adds up where elements are read more than once.

    Args:
        x: a tensor whose elements fill their memory, in any order of the axes.
        size, stride: of each axis of the result, in elements.
        storage_offset: where it begins; default 0, x's first element.

    Raises:
        ValueError: elements outside of x's, or x is a part of a larger tensor.

    >>> import pydl
    >>> as_strided(pydl.arange(6), (3, 2), (2, 1)).tolist()
    [[0, 1], [2, 3], [4, 5]]
    """
    if len(size) != len(stride):
        raise ValueError(f"[as_strided] got size {tuple(size)} and stride {tuple(stride)}, expected one stride an axis")
    if any(n < 0 for n in (*size, *stride, storage_offset)):
        got = f"size {tuple(size)}, stride {tuple(stride)}, offset {storage_offset}"
        raise ValueError(f"[as_strided] got {got}; expected numbers of 0 or more")
    order = sorted(range(x.ndim), key=lambda a: (-x.strides[a], a))
    ordered = _C.permute_dims(x, order)
    if not ordered.is_contiguous():
        raise ValueError(f"[as_strided] got a part of a larger tensor, of strides {tuple(x.strides)}; use contiguous()")
    last = storage_offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) and last >= x.numel():
        raise ValueError(f"[as_strided] place {last} lies outside of the {x.numel()} elements of shape {x.shape}")
    places = _C.full((), storage_offset, _C.int64, x.device)
    for n, step in zip(size, stride, strict=True):
        places = _C.expand_dims(places, -1) + ops.arange(n, device=x.device) * step
    flat = _C.reshape(ordered, (x.numel(),))
    return _C.reshape(_C.take(flat, _C.reshape(places, -1), 0), tuple(size))


def resize_(x: Tensor, *size: Any) -> Tensor:
    """Another size for x, in place: its elements in row-major order as far as they go, what is new is not set."""
    shape = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size
    if x.requires_grad:
        raise _C.AutogradError("[resize_] can't resize a tensor with a gradient; use reshape, or pad")
    flat, count = _C.reshape(x, (x.numel(),)), math.prod(shape)
    if count > x.numel():
        flat = _C.concat([flat, _C.empty((count - x.numel(),), x.dtype, x.device)], 0)
    _C.set_data(x, _C.reshape(_C.slice(flat, 0, 0, count), shape))
    return x


def resize_as_(x: Tensor, other: Tensor) -> Tensor:
    """:func:`resize_` to the size of another tensor."""
    return resize_(x, other.shape)
