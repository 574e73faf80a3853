"""Rows of a table picked by number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "embedding",
    "one_hot",
]


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of ``weight`` (V, E) at ``input`` (...) -> (..., E). Arguments as in :class:`pydl.nn.Embedding`."""
    if sparse:
        raise ValueError("[embedding] got sparse=True, expected False: gradients are dense here")
    if padding_idx is not None and padding_idx < 0:
        padding_idx += weight.shape[0]
    if max_norm is not None:
        _limit_rows(input, weight, max_norm, norm_type)
    rows = _C.embedding(input, weight, -1 if padding_idx is None else padding_idx)
    return _scale_by_frequency(rows, input, weight.shape[0]) if scale_grad_by_freq else rows


def _limit_rows(ids: Tensor, weight: Tensor, max_norm: float, norm_type: float) -> None:
    import numpy as np

    with pydl.no_grad():
        used = pydl.asarray(np.unique(ids.detach().numpy()).astype(np.int64))
        rows = weight.detach()[used]
        norm = (abs(rows) ** norm_type).sum(axis=-1, keepdims=True) ** (1.0 / norm_type)
        weight[used] = pydl.where(norm > max_norm, rows * (max_norm / (norm + 1e-7)), rows)


def _scale_by_frequency(rows: Tensor, ids: Tensor, count: int) -> Tensor:
    import numpy as np

    flat = ids.detach().numpy()
    share = 1.0 / np.bincount(flat.reshape(-1), minlength=count)[flat]
    scale = pydl.asarray(share, dtype=rows.dtype).reshape((*ids.shape, 1))

    class ScaleGradient(pydl.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.detach()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad * scale

    return ScaleGradient.apply(rows)


def one_hot(input: Tensor, num_classes: int = -1) -> Tensor:
    """Whole numbers (...) -> int64 vectors (..., C) with a one at that place; C is by default the largest plus one."""
    if num_classes == -1:
        num_classes = int(input.max().item()) + 1 if input.size else 0
    low, high = (int(input.min().item()), int(input.max().item())) if input.size else (0, -1)
    if low < 0 or high >= num_classes:
        raise ValueError(f"[one_hot] got numbers from {low} to {high}, expected 0 to {num_classes - 1}")
    return _C.equal(pydl.expand_dims(input, axis=-1), pydl.arange(num_classes)).astype(pydl.int64)
