"""Products with a weight matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydl
from pydl import _C

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "bilinear",
    "linear",
]


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b: (..., D), (H, D), (H) -> (..., H); or (..., D), (D), () -> (...)."""
    if weight.ndim == 1:
        y = input @ weight
        return y if bias is None else y + bias
    return _C.linear(input, weight, bias)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x1ᵀ W_k x2 + b_k: (..., D1), (..., D2), (H, D1, D2), (H) -> (..., H)."""
    first, second, (out, d1, d2) = input1.shape, input2.shape, weight.shape
    if first[:-1] != second[:-1] or first[-1] != d1 or second[-1] != d2:
        expected = f"(..., {d1}) and (..., {d2}) with equal batch axes"
        raise ValueError(f"[bilinear] got inputs of shapes {tuple(first)} and {tuple(second)}, expected {expected}")
    left = input1.reshape((-1, d1)) @ pydl.permute_dims(weight, (1, 0, 2)).reshape((d1, out * d2))
    y = (left.reshape((-1, out, d2)) * input2.reshape((-1, 1, d2))).sum(axis=-1)
    y = y.reshape((*first[:-1], out))
    return y if bias is None else y + bias
